"""The daemon's side of the helper of the checks, with other programs in its place, and with the real one that hangs."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from floatip.core.events import CheckDone, Failing, Probe
from floatip.host.checks import Probes, helper
from floatip.model import Dns, File, Haproxy, Http, Kind, Script, Systemd, Tcp
from tests.host.checking import Asked
from tests.host.reports import Reports, close, until

KINDS: dict[str, Kind] = {"web": Http("http://127.0.0.1:1/"), "unit": Systemd("nginx.service")}


def play(
    script: str, story: Callable[[Probes, Reports], Awaitable[None]], path: Path, patch: pytest.MonkeyPatch
) -> None:
    """With a program in Python as the process; `told()` reads a packet from the daemon, `say` sends one."""
    program = path / "program"
    program.write_text(
        f"#!{sys.executable}\nimport json, os, socket, sys, time\nd = socket.socket(fileno=0)\n"
        "def told(): return json.loads(d.recv(65536))\n"
        "def say(what): d.send(json.dumps(what).encode())\n"
        f"{script}\n"
    )
    program.chmod(0o755)
    patch.setattr(sys, "executable", str(program))
    patch.setattr(helper, "SOONEST", 0.05)

    async def run() -> None:
        reports = Reports()
        probes = Probes(reports)
        await story(probes, reports)
        await close(probes)

    asyncio.run(run())


def last(reports: Reports, name: str) -> CheckDone | None:
    found = [event for event in reports.of(CheckDone) if event.check == name]
    return found[-1] if found else None


def test_when_the_process_ends_all_of_its_checks_say_so_and_it_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = "the helper of the checks ended: exit status 3: out of memory"

    async def story(probes: Probes, reports: Reports) -> None:
        probes.configure(KINDS)
        probes.run(Probe("web", 1, 60))
        await until(lambda: CheckDone("unit", 0, True, "back") in reports.of(CheckDone))
        for lost in (CheckDone("web", 1, False, why), CheckDone("unit", 0, False, why)):
            assert lost in reports.of(CheckDone)
        [failure] = reports.of(Failing)[0].failures
        assert (failure.reason, failure.hint) == (why, helper.HINT)
        await until(lambda: not reports.failing(helper.PART))
        probes.run(Probe("web", 2, 60))
        await until(lambda: last(reports, "web") == CheckDone("web", 2, True, "back"))

    script = f"""
if not os.path.exists("{tmp_path}/first"):
    open("{tmp_path}/first", "w")
    while told()[0] != "run": pass
    print("out of memory"); sys.exit(3)
while True:
    what = told()
    if what[0] == "set" and what[2] == "systemd": say([what[1], 0, True, "back"])
    if what[0] == "run": say([what[1], what[2], True, "back"])
    if what[0] == "ping": say(["pong"])
"""
    play(script, story, tmp_path, monkeypatch)


def test_a_process_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper, "PING_INTERVAL", 0.02)

    async def story(probes: Probes, reports: Reports) -> None:
        probes.configure(KINDS)
        await until(lambda: last(reports, "unit") is not None)
        assert last(reports, "unit") == CheckDone("unit", 0, False, "the helper of the checks does not answer")

    play("told(); time.sleep(1000)", story, tmp_path, monkeypatch)


def test_a_process_that_does_not_read_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper, "PING_INTERVAL", 60.0)

    async def story(probes: Probes, reports: Reports) -> None:
        probes.configure(KINDS)
        await until((tmp_path / "ready").exists)
        number = 0
        while last(reports, "unit") is None:
            number += 1
            probes.run(Probe("web", number, 60))
            await asyncio.sleep(0)
        assert last(reports, "unit") == CheckDone(
            "unit", 0, False, "the helper of the checks does not read what it is told"
        )

    play(f"open('{tmp_path}/ready', 'w'); time.sleep(1000)", story, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "nonsense",
    [
        '"{"',
        '"null"',
        '"1"',
        '"[1]"',
        "'[1, 0, 1, \"x\"]'",
        '\'[1, "0", true, "x"]\'',
        '"[" * 5000',
        "b'\\xff'.decode('latin1')",
    ],
)
def test_nonsense_ends_the_process_and_nothing_else(
    nonsense: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(probes: Probes, reports: Reports) -> None:
        probes.configure(KINDS)
        await until(lambda: last(reports, "unit") is not None)
        why = "the helper of the checks says what nobody understands"
        assert last(reports, "unit") == CheckDone("unit", 0, False, why)

    play(f"told(); d.send(({nonsense}).encode()); time.sleep(1000)", story, tmp_path, monkeypatch)


def test_what_it_says_of_others_and_of_old_runs_counts_for_nothing_and_escapes_do_not_reach_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(probes: Probes, reports: Reports) -> None:
        probes.configure({"web": KINDS["web"]})
        probes.run(Probe("web", 7, 60))
        assert await reports.next(CheckDone) == CheckDone("web", 7, True, r"clear \x1b[2J it")
        assert len(reports.of(CheckDone)) == 1

    script = r"""
what = told()
while what[0] != "run": what = told()
say([99, 7, False, "no such check"]); say([what[1], 6, False, "old"]); say([what[1], 0, False, "unasked"])
say([what[1], 7, True, "clear \x1b[2J it"]); say([what[1], 7, False, "twice"])
time.sleep(1000)
"""
    play(script, story, tmp_path, monkeypatch)


def test_it_is_started_with_the_first_check_that_needs_it_and_ends_with_the_last() -> None:
    async def story() -> None:
        reports = Reports()
        probes = Probes(reports)
        probes.configure({"a": Script(("/bin/true",)), "b": Tcp("127.0.0.1", 1), "c": File(Path("/nowhere"))})
        await asyncio.sleep(0.1)
        of_checks = probes._means.helper
        assert of_checks.is_gone
        probes.configure({"d": Haproxy(Path("/nowhere"), "web")})
        probes.run(Probe("d", 1, 60))
        await until(lambda: last(reports, "d") is not None)
        assert not of_checks.is_gone
        probes.configure({})
        await until(lambda: of_checks.is_gone)
        probes.configure({"e": Dns("127.0.0.1", port=1)})
        probes.run(Probe("e", 1, 60))
        await until(lambda: last(reports, "e") is not None)
        await close(probes)

    asyncio.run(story())


def test_a_reload_leaves_a_run_that_is_out_and_another_one_begins_beside_it() -> None:
    async def story() -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            asked.set()
            await go.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        asked, go = asyncio.Event(), asyncio.Event()
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        web, gone = Http(f"http://127.0.0.1:{port}/"), Haproxy(Path("/nowhere"), "web")
        reports = Reports()
        probes = Probes(reports)
        probes.configure({"web": web})
        probes.run(Probe("web", 1, 60))
        await asked.wait()
        probes.configure({"web": web, "ha": gone})
        probes.run(Probe("ha", 1, 60))
        await until(lambda: last(reports, "ha") is not None)
        go.set()
        await until(lambda: last(reports, "web") is not None)
        assert last(reports, "web") == CheckDone("web", 1, True, "HTTP 200 OK")
        server.close()
        await close(probes)

    asyncio.run(story())


def test_an_expression_that_takes_for_ever_costs_one_process_and_no_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper, "PING_INTERVAL", 0.2)

    async def story() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * 60 + b"!")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        asked = Asked({"web": Http(f"http://127.0.0.1:{port}/", body="^(a+)+$")})
        assert await asked.run("web") == (False, "the helper of the checks does not answer")
        server.close()
        await asked.close()

    asyncio.run(story())


def test_the_process_outlives_no_daemon() -> None:
    async def story() -> int:
        asked = Asked({"ha": Haproxy(Path("/nowhere"), "web")})
        await asked.run("ha")
        child = asked.probes._means.helper._child
        pid: int = child._child.pid  # type: ignore[union-attr]
        asked.probes._means.helper._ours.close()  # type: ignore[union-attr]
        await until(lambda: asked.probes._means.helper.is_gone)
        await asked.close()
        return pid

    pid = asyncio.run(story())
    assert not Path(f"/proc/{pid}").exists()


def test_the_process_knows_a_check_that_a_reload_brings_before_it_is_asked_to_run_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    really = helper.Helper.send

    def send(self: helper.Helper, line: str) -> None:
        said.append(line)
        really(self, line)

    monkeypatch.setattr(helper.Helper, "send", send)

    async def story() -> None:
        reports = Reports()
        probes = Probes(reports)
        first, second = (Haproxy(Path(f"/nowhere/{name}"), "web") for name in "ab")
        probes.configure({"a": first})
        probes.run(Probe("a", 1, 60))
        await until(lambda: last(reports, "a") is not None)
        said.clear()
        probes.configure({"a": first, "b": second})
        probes.run(Probe("b", 1, 60))
        await until(lambda: last(reports, "b") is not None)
        assert [json.loads(line)[0] for line in said if json.loads(line)[1:2] == [2]] == ["set", "run"]
        await close(probes)

    asyncio.run(story())
