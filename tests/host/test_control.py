import asyncio
import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from floatip.host import control
from floatip.host.ask import ControlError, NotAllowed, Record, ask, encode
from floatip.host.control import Command, Control
from floatip.host.network import slices
from tests.host.reports import no_client, until
from tests.host.users import NOBODY, as_user

STATUS: Record = {"instances": [], "pid": 1}
HISTORY: list[Record] = [{"what": "role", "value": "backup"}, {"what": "role", "value": "master"}]


@pytest.fixture
def directory() -> Iterator[Path]:
    """One that other users can enter, unlike `tmp_path`."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


COMMANDS = {
    "status": Command(lambda request, pid: STATUS, "ask for the status"),
    "notify": Command(lambda request, pid: {"heard": request["state"], "pid": pid}, "notify", is_for_notifiers=True),
}


def control_at(path: Path) -> Control:
    return Control(path, COMMANDS, lambda: HISTORY, no_client)


@contextlib.asynccontextmanager
async def serving(path: Path) -> AsyncIterator[Control]:
    server = control_at(path)
    await server.start()
    yield server
    server.close()
    await until(lambda: not server.clients.total())


async def lines(path: Path, *requests: bytes, answers: int) -> list[dict[str, Any]]:
    reader, writer = await asyncio.open_unix_connection(str(path), limit=1 << 20)
    writer.write(b"".join(requests))
    async with asyncio.timeout(20):
        found = [json.loads(await reader.readline()) for _ in range(answers)]
    writer.close()
    await writer.wait_closed()
    return found


def test_the_status_is_answered(tmp_path: Path) -> None:
    path = tmp_path / "run" / "floatip.sock"

    async def story() -> None:
        async with serving(path):
            assert await asyncio.to_thread(ask, path, {"cmd": "status"}) == STATUS
        assert not path.exists()

    asyncio.run(story())


def test_the_socket_is_for_the_group_alone_unless_others_may_notify(tmp_path: Path) -> None:
    path = tmp_path / "run" / "floatip.sock"

    async def story() -> None:
        async with serving(path) as server:
            modes = []
            for notifiers in (set(), {0}, {NOBODY}, set()):
                server.allow(frozenset(notifiers))
                modes.append(stat.S_IMODE(path.stat().st_mode))
            assert modes == [0o660, 0o660, 0o666, 0o660]
            assert stat.S_IMODE(path.parent.stat().st_mode) & 0o005 == 0o005

    asyncio.run(story())


def asked(path: Path, *commands: str) -> str:
    told = []
    for command in commands:
        try:
            told.append(str(ask(path, {"cmd": command, "state": "MASTER"})))
        except ControlError as error:
            told.append(error.what)
    return "; ".join(told)


STRANGER, SCRIPT_USER = 4242, NOBODY
HEARD, FORBIDDEN = "{'heard': 'MASTER', 'pid'", "user 4242 may not use this socket"
WHO_MAY = {
    "root": (0, 0, (), (HEARD, str(STATUS))),
    "a member of the daemon's group": (STRANGER, STRANGER, (0,), ("user 4242 may not notify", str(STATUS))),
    "one whose own group it is": (STRANGER, 0, (), ("user 4242 may not notify", str(STATUS))),
    "the script user": (SCRIPT_USER, NOBODY, (), (HEARD, "user 65534 may not ask for the status")),
    "anybody else": (STRANGER, STRANGER, (STRANGER, SCRIPT_USER), (FORBIDDEN, FORBIDDEN)),
}


@pytest.mark.parametrize("who", WHO_MAY)
def test_who_asks_decides_what_is_answered(directory: Path, who: str) -> None:
    path = directory / "run" / "floatip.sock"
    uid, gid, groups, expected = WHO_MAY[who]

    async def story() -> None:
        async with serving(path) as server:
            server.allow(frozenset({SCRIPT_USER}))
            told = (await as_user(lambda: asked(path, "notify", "status"), uid, gid, groups)).split("; ")
            assert [one.startswith(text) for one, text in zip(told, expected, strict=True)] == [True, True], told
            assert server.rejected == 0

    asyncio.run(story())


def test_the_daemons_own_user_may_notify_and_root_too(directory: Path) -> None:
    """The daemon is the other user here."""
    path = directory / "floatip.sock"
    directory.chmod(0o777)

    def daemon() -> str:
        async def story() -> str:
            async with serving(path):
                return await asyncio.to_thread(asked, path, "notify", "status")

        return asyncio.run(story())

    told = asyncio.run(as_user(daemon))
    assert told.startswith(HEARD), told
    assert told.endswith(str(STATUS)), told


@pytest.mark.parametrize(("uid", "kept"), [(STRANGER, 0), (SCRIPT_USER, control.MOST_CLIENTS)])
def test_nobody_can_use_up_the_descriptors(directory: Path, uid: int, kept: int) -> None:
    path = directory / "run" / "floatip.sock"

    def hoard() -> str:
        sent_away = 0
        for _ in range(150):
            client = socket.socket(socket.AF_UNIX)
            client.connect(str(path))
            client.settimeout(20)
            clients.append(client)
        for client in clients[kept:]:
            while client.recv(4096):
                pass
            sent_away += 1
        return f"{sent_away} were sent away"

    clients: list[socket.socket] = []

    async def story() -> None:
        async with serving(path) as server:
            server.allow(frozenset({SCRIPT_USER}))
            before = len(os.listdir("/proc/self/fd"))
            assert await as_user(hoard, uid, uid) == f"{150 - kept} were sent away"
            assert await asyncio.to_thread(ask, path, {"cmd": "status"}) == STATUS
            await until(lambda: not server.clients.total())
            await until(lambda: len(os.listdir("/proc/self/fd")) <= before)

    asyncio.run(story())


def test_a_watcher_gets_the_history_and_then_each_change(tmp_path: Path) -> None:
    path = tmp_path / "floatip.sock"

    async def story() -> None:
        async with serving(path) as server:
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(b'{"cmd": "watch"}\n')
            async with asyncio.timeout(20):
                assert [json.loads(await reader.readline()) for _ in HISTORY] == HISTORY
                server.publish({"what": "rank"})
                assert json.loads(await reader.readline()) == {"what": "rank"}
            writer.close()
            await writer.wait_closed()
            await until(lambda: not server.watchers)

    asyncio.run(story())


def test_a_watcher_that_does_not_read_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "floatip.sock"

    async def story() -> None:
        async with serving(path) as server:
            with socket.socket(socket.AF_UNIX) as watcher:
                watcher.connect(str(path))
                watcher.sendall(b'{"cmd": "watch"}\n')
                await until(lambda: bool(server.watchers))
                for _ in range(100):
                    server.publish({"reason": "x" * 50_000})
                await until(lambda: not server.watchers)

    asyncio.run(story())


GARBAGE = [b"", b"\xff\xfe\x00", b"{", b"null", b"[]", b'{"cmd": 7}', b'{"cmd": "drop"}', b"[" * 60_000]


def test_garbage_is_counted_and_answered_and_ends_only_its_own_connection(tmp_path: Path) -> None:
    path = tmp_path / "floatip.sock"

    async def story() -> None:
        async with serving(path) as server:
            for garbage in GARBAGE:
                reader, writer = await asyncio.open_unix_connection(str(path))
                writer.write(garbage + b'\n{"cmd": "status"}\n')
                [answer] = (await asyncio.wait_for(reader.read(), 20)).splitlines()
                assert json.loads(answer).keys() == {"error", "hint"}
                writer.close()
            assert server.rejected == len(GARBAGE)
            now = asyncio.get_running_loop().time()
            assert [problem.code for problem in server.problems(now)] == ["control-misuse"]
            assert server.problems(now + 301) == []
            assert await lines(path, b'{"cmd": "status"}\n', answers=1) == [STATUS]


@pytest.mark.parametrize("request_", [b"\n", b'{"cmd": "status"}\n'])
def test_a_client_that_asks_and_never_reads_costs_neither_time_nor_memory(
    tmp_path: Path, request_: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "floatip.sock"
    asked = 0

    def answer(request: Record, pid: int) -> Record:
        nonlocal asked
        asked += 1
        return {"text": "x" * 10_000}

    monkeypatch.setitem(COMMANDS, "status", Command(answer, "ask for the status"))

    async def story() -> None:
        async with serving(path):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.setblocking(False)
                rest = request_ * (4_000_000 // len(request_))
                stuck = 0
                while rest and stuck < 100:  # until the daemon reads no more, or has hung up
                    try:
                        rest = rest[client.send(rest) :]
                        stuck = 0
                    except BlockingIOError:
                        stuck += 1
                    except OSError:
                        break
                    await asyncio.sleep(0)
                assert rest
                assert asked < 200

    asyncio.run(story())

    asyncio.run(story())


def held_back(answer: Callable[[], None], together: int = 30) -> None:
    """As many requests as the test has clients are prepared at the same moment."""
    BACK.append(answer)
    if len(BACK) == together:
        for one in BACK:
            asyncio.get_running_loop().call_soon(one)
        BACK.clear()


BACK: list[Callable[[], None]] = []


@pytest.mark.parametrize("prepare", [lambda answer: answer(), held_back], ids=["at once", "prepared together"])
def test_of_many_clients_that_ask_together_one_slice_is_answered_before_the_loop_has_its_turn(
    prepare: Callable[[Callable[[], None]], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, number = tmp_path / "floatip.sock", 30
    monkeypatch.setattr(slices, "LENGTH", 0.0)
    asked: list[str] = []
    command = Command(lambda request, pid: asked.append(str(request["who"])) or {}, "", prepare=prepare)
    monkeypatch.setitem(COMMANDS, "ask", command)

    async def story() -> None:
        async with serving(path) as server:
            with contextlib.ExitStack() as exits:
                for who in range(number):
                    client = exits.enter_context(socket.socket(socket.AF_UNIX))
                    client.connect(str(path))
                    client.sendall(encode({"cmd": "ask", "who": who}) * 3)
                most = before = 0
                async with asyncio.timeout(60):
                    while len(asked) < 3 * number:
                        await asyncio.sleep(0)
                        most, before = max(most, len(asked) - before), len(asked)
                assert most == 1
                await until(lambda: server.clients.total() == number)

    asyncio.run(story())


def test_a_client_that_asks_much_does_not_keep_others_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "floatip.sock"
    monkeypatch.setattr(slices, "LENGTH", 0.0)
    asked: list[str] = []
    monkeypatch.setitem(COMMANDS, "ask", Command(lambda request, pid: asked.append(str(request["who"])) or {}, ""))

    async def story() -> None:
        async with serving(path):
            with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as other:
                for client, count in ((busy, 100), (other, 1)):
                    client.connect(str(path))
                    client.sendall(encode({"cmd": "ask", "who": count}) * count)
                await until(lambda: "1" in asked)
                assert asked.index("1") <= 2

    asyncio.run(story())


def test_of_many_clients_that_connect_together_few_are_accepted_before_the_loop_has_its_turn(tmp_path: Path) -> None:
    path, number = tmp_path / "floatip.sock", 60

    async def story() -> None:
        async with serving(path) as server:
            with contextlib.ExitStack() as exits:
                for _ in range(number):
                    exits.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))
                most = before = 0
                async with asyncio.timeout(60):
                    while server.clients.total() < number:
                        await asyncio.sleep(0)
                        most, before = max(most, server.clients.total() - before), server.clients.total()
                assert most <= control.ACCEPTED_AT_ONCE

    asyncio.run(story())


def test_clients_get_a_share_of_the_loop_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the pause after each share is longer than the test."""
    path, asked = tmp_path / "floatip.sock", 0
    monkeypatch.setattr(slices, "LENGTH", 0.0)
    monkeypatch.setattr(control, "ACCEPT_PAUSE", 3600.0)
    monkeypatch.setattr(control, "REST", 1e12)

    def ask_it(request: Record, pid: int) -> Record:
        nonlocal asked
        asked += 1
        return {}

    monkeypatch.setitem(COMMANDS, "ask", Command(ask_it, ""))

    async def story() -> None:
        async with serving(path) as server:
            with contextlib.ExitStack() as exits:
                for _ in range(2 * control.ACCEPTED_AT_ONCE):
                    client = exits.enter_context(socket.socket(socket.AF_UNIX))
                    client.connect(str(path))
                    client.sendall(encode({"cmd": "ask"}))
                await until(lambda: asked > 0)
                for _ in range(100):
                    await asyncio.sleep(0)
                assert (server.clients.total(), asked) == (control.ACCEPTED_AT_ONCE, 1)
                for one in server._turns:
                    one._transport.abort()
            await until(lambda: not server.clients.total())

    asyncio.run(story())


def test_a_daemon_that_was_suspended_in_an_answer_answers_again_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "floatip.sock"
    monkeypatch.setattr(control, "REST", 1000)
    monkeypatch.setitem(COMMANDS, "hang", Command(lambda *_: time.sleep(0.1) or {}, ""))

    async def story() -> None:
        async with serving(path):
            assert await lines(path, b'{"cmd": "hang"}\n{"cmd": "status"}\n', answers=2) == [{}, STATUS]

    asyncio.run(story())


def test_who_asks_waits_until_the_kernel_has_room_for_him(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "floatip.sock"
    monkeypatch.setattr(control, "ACCEPTED_AT_ONCE", 1)
    monkeypatch.setattr(control, "BACKLOG", 1)

    async def story() -> None:
        async with serving(path):
            asking = [asyncio.to_thread(ask, path, {"cmd": "status"}, 60.0) for _ in range(6)]
            assert await asyncio.gather(*asking) == [STATUS] * 6

    asyncio.run(story())


def test_what_many_clients_send_without_an_end_takes_little_memory(tmp_path: Path) -> None:
    path, number = tmp_path / "floatip.sock", 50
    line = b"x" * 200_000

    async def story() -> int:
        async with serving(path) as server:
            with contextlib.ExitStack() as exits:
                for _ in range(number):
                    client = exits.enter_context(socket.socket(socket.AF_UNIX))
                    client.connect(str(path))
                    client.setblocking(False)
                    assert client.send(line) > 100_000
                tracemalloc.start()
                await until(lambda: server.rejected == number)
                return tracemalloc.get_traced_memory()[1]

    try:
        assert asyncio.run(story()) < number * 1.5 * control.LONGEST_LINE
    finally:
        tracemalloc.stop()


def test_a_request_that_must_be_prepared_is_answered_in_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "floatip.sock"
    prepared: list[Callable[[], None]] = []
    monkeypatch.setitem(COMMANDS, "slow", Command(lambda *_: {"slow": len(prepared)}, "", prepare=prepared.append))

    async def story() -> None:
        async with serving(path):
            requests = [b'{"cmd": "slow"}\n', b'{"cmd": "status"}\n'] * 5
            asking = asyncio.create_task(lines(path, *requests, answers=10))
            for number in range(1, 6):
                await until(lambda number=number: len(prepared) == number)  # type: ignore[misc]
                await asyncio.sleep(0.01)
                prepared[-1]()
            assert await asking == [answer for number in range(1, 6) for answer in ({"slow": number}, STATUS)]

    asyncio.run(story())


def test_a_line_without_end_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "floatip.sock"

    async def story() -> None:
        async with serving(path):
            reader, writer = await asyncio.open_unix_connection(str(path))
            with contextlib.suppress(ConnectionError):
                for _ in range(100):
                    writer.write(b"x" * 10_000)
                    await writer.drain()
            answer = b""
            with contextlib.suppress(ConnectionError):
                answer = await asyncio.wait_for(reader.read(), 20)
            assert answer.count(b"\n") <= 1
            assert writer.transport.is_closing() or reader.at_eof()
            writer.transport.abort()
            assert await asyncio.to_thread(ask, path, {"cmd": "status"}) == STATUS

    asyncio.run(story())


def test_a_client_that_says_nothing_is_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "IDLE_TIMEOUT", 0.2)
    path = tmp_path / "floatip.sock"

    async def story() -> None:
        async with serving(path) as server:
            watcher = socket.socket(socket.AF_UNIX)
            watcher.connect(str(path))
            watcher.sendall(b'{"cmd": "watch"}\n')  # before the server looks: it is never idle
            watching, watch_writer = await asyncio.open_unix_connection(sock=watcher)
            await until(lambda: bool(server.watchers))
            # The watcher came first: its patience would have ended before this one's.
            idle, idle_writer = await asyncio.open_unix_connection(str(path))
            assert await asyncio.wait_for(idle.read(), 60) == b""
            server.publish({"what": "still here"})
            async with asyncio.timeout(20):
                while json.loads(await watching.readline()) != {"what": "still here"}:
                    pass
            for writer in (idle_writer, watch_writer):
                writer.close()
                await writer.wait_closed()

    asyncio.run(story())


def test_the_socket_of_a_dead_daemon_is_replaced_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "floatip.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def story() -> None:
        async with serving(path):
            with pytest.raises(ControlError, match=rf"already runs .* \(pid {os.getpid()}\)"):
                await control_at(path).start()
            assert await asyncio.to_thread(ask, path, {"cmd": "status"}) == STATUS

    asyncio.run(story())


@pytest.mark.parametrize("it_runs", [True, False])
def test_where_the_socket_is_another_users_the_second_daemon_is_refused(directory: Path, it_runs: bool) -> None:
    """The unit after a `floatip run` by root, in a directory of the unit's user."""
    path = directory / "floatip.sock"
    os.chown(directory, NOBODY, NOBODY)

    def second() -> str:
        try:
            asyncio.run(control_at(path).start())
        except ControlError as error:
            return f"{error.what}; {error.hint}"
        return "it started"

    async def story() -> None:
        async with serving(path):
            if it_runs:
                told = await as_user(second)
            else:
                os.rename(path, left := directory / "left")
        if not it_runs:
            os.rename(left, path)
            told = await as_user(second)
        assert told.startswith("a floatip of user root already runs"), told
        assert told.endswith(f"sudo rm {path}"), told

    asyncio.run(story())


HUNG = """
import ctypes, socket, sys, threading, time
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
threading.Thread(target=time.sleep, args=(600,)).start()
print("listens", flush=True)
ctypes.CDLL(None).syscall(60, 0)  # exit(2) of the main thread alone
"""


def test_the_socket_of_a_daemon_that_ended_but_for_a_thread_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "floatip.sock"
    with subprocess.Popen([sys.executable, "-c", HUNG, path], stdout=subprocess.PIPE) as hung:
        assert hung.stdout
        assert hung.stdout.readline() == b"listens\n"

        async def story() -> None:
            async with asyncio.timeout(20):
                while b") Z " not in Path(f"/proc/{hung.pid}/stat").read_bytes():
                    await asyncio.sleep(0.01)
            async with serving(path):
                assert await asyncio.to_thread(ask, path, {"cmd": "status"}) == STATUS

        try:
            asyncio.run(story())
        finally:
            hung.kill()


def test_without_a_directory_that_it_can_enter_it_is_no_other_daemon_that_is_in_the_way(directory: Path) -> None:
    closed = directory / "closed"
    closed.mkdir(mode=0o700)

    def start() -> str:
        try:
            asyncio.run(control_at(closed / "floatip.sock").start())
        except OSError as error:
            return str(error.strerror)
        return "it started"

    assert asyncio.run(as_user(start)) == "Permission denied"


def test_who_may_not_ask_is_told_so_and_not_that_nobody_answers(directory: Path) -> None:
    path = directory / "floatip.sock"

    def told() -> str:
        try:
            ask(path, {"cmd": "status"})
        except NotAllowed as error:
            return error.what
        return "no such answer"

    async def story() -> None:
        async with serving(path) as server:
            assert await as_user(told, STRANGER, STRANGER) == f"not allowed to use {path}"
            server.allow(frozenset({SCRIPT_USER}))
            assert await as_user(told, STRANGER, STRANGER) == "user 4242 may not use this socket"

    asyncio.run(story())


def test_asking_when_nobody_answers_is_an_error_with_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "floatip.sock"
    with pytest.raises(ControlError, match="no floatip daemon answers at") as error:
        ask(path, {"cmd": "status"})
    assert error.value.hint == "systemctl status floatip"
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(path))
        hung.listen()
        with pytest.raises(ControlError, match="does not answer"):
            ask(path, {"cmd": "status"}, timeout=0.1)


def test_an_error_from_the_daemon_reaches_the_one_who_asked(tmp_path: Path) -> None:
    path = tmp_path / "floatip.sock"

    async def story() -> None:
        async with serving(path):
            with pytest.raises(ControlError, match="there is no such command"):
                await asyncio.to_thread(ask, path, {"cmd": "nonsense"})

    asyncio.run(story())


def test_the_end_of_a_daemon_leaves_the_socket_of_its_successor(directory: Path) -> None:
    path = directory / "floatip.sock"

    async def story() -> None:
        async with serving(path):
            path.unlink()  # as systemd does with the directory of a unit that ended
            successor = control_at(path)
            await successor.start()
        assert path.exists()
        successor.close()
        assert not path.exists()

    asyncio.run(story())
