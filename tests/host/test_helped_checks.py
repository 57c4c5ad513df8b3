"""Checks of the helper process: DNS, ICMP and HAProxy's stats socket, each against a real one."""

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from floatip.host import privileges
from floatip.host.spawn import spawn
from floatip.lab.namespaces import find_program
from floatip.model import Dns, Haproxy, Icmp
from tests.host.checking import Asked, verdicts
from tests.host.reports import until
from tests.host.users import NOBODY

ADDRESSES = {"a.example.": "192.0.2.1", "cut.example.": "192.0.2.2"}


class NameServer(asyncio.DatagramProtocol):
    """Knows two names, answers `refused.` with REFUSED, and cuts off what `cut.` is by UDP."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, sender: tuple[str, int]) -> None:
        answer = answered(data)
        if "silent" not in str(answer.question[0].name):
            self.transport.sendto(b"not DNS", sender)
            self.transport.sendto(dns.message.make_response(dns.message.make_query("other", "A")).to_wire(), sender)
            if "cut" in str(answer.question[0].name):
                answer.answer, answer.flags = [], answer.flags | dns.flags.TC
            self.transport.sendto(answer.to_wire(), sender)


def answered(data: bytes) -> dns.message.Message:
    query = dns.message.from_wire(data)
    answer = dns.message.make_response(query)
    name = str(query.question[0].name)
    if name in ADDRESSES:
        answer.answer.append(dns.rrset.from_text(name, 60, "IN", "A", ADDRESSES[name]))
    else:
        answer.set_rcode(dns.rcode.REFUSED if name == "refused." else dns.rcode.NXDOMAIN)
    return answer


@asynccontextmanager
async def name_server() -> AsyncIterator[int]:
    async def by_tcp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(2))
        wire = answered(await reader.readexactly(length)).to_wire()
        writer.write(len(wire).to_bytes(2) + wire)
        writer.close()

    listening = await asyncio.start_server(by_tcp, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", port))
    try:
        yield port
    finally:
        transport.close()
        listening.close()


@pytest.mark.usefixtures("namespace")
def test_a_name_server_must_answer_and_with_the_address_that_is_wanted() -> None:
    async def story() -> None:
        async with name_server() as port:
            a = Dns("127.0.0.1", "a.example", "A", port)
            found = await verdicts(
                {
                    "a": a,
                    "wanted": replace(a, answer="192.0.2.1"),
                    "other": replace(a, answer="192.0.2.9"),
                    "by TCP": replace(a, name="cut.example", answer="192.0.2.2"),
                    "no name": replace(a, name="none.example"),
                    "no name, wanted": replace(a, name="none.example", answer="192.0.2.1"),
                    "refused": replace(a, name="refused"),
                    "nobody": replace(a, port=1),
                }
            )
        assert found["a"] == found["wanted"] == (True, "A of a.example: 192.0.2.1")
        assert found["other"] == (False, "A of a.example: 192.0.2.1; not 192.0.2.9")
        assert found["by TCP"] == (True, "A of cut.example: 192.0.2.2")
        assert found["no name"] == (True, "A of none.example: no such name")
        assert found["no name, wanted"] == (False, "A of none.example: no such name; not 192.0.2.1")
        assert found["refused"] == (False, "the server answers REFUSED for A of refused")
        assert found["nobody"] == (False, "connection refused")

    asyncio.run(story())


def test_a_name_server_that_is_silent_has_failed_at_the_timeout_and_comes_back() -> None:
    async def story() -> None:
        async with name_server() as port:
            a = Dns("127.0.0.1", "a.example", "A", port)
            asked = Asked({"a": a, "silent": replace(a, name="silent")})
            assert (await asked.run("a"))[0]
            assert await asked.run("silent", 0.3) == (False, "timed out after 0.3 s")
            assert (await asked.run("a"))[0]
            await asked.close()

    asyncio.run(story())


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize("may_ping", [False, True], ids=["a raw socket", "a ping socket"])
def test_an_echo_request_is_answered_or_not(may_ping: bool) -> None:
    Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 0" if may_ping else "1 0")
    ip("link", "add", "v0", "type", "veth", "peer", "name", "v1")
    ip("address", "add", "192.0.2.1/24", "dev", "v0")
    ip("link", "set", "v0", "up")
    ip("link", "set", "v1", "up")

    async def story() -> None:
        asked = Asked({"lo": Icmp("127.0.0.1"), "six": Icmp("::1"), "own": Icmp("192.0.2.1", "127.0.0.1")})
        for name in ("lo", "six", "own"):
            passed, reason = await asked.run(name)
            assert passed, reason
            assert reason.startswith("answered after ")
        await asked.close()
        asked = Asked({"lo": Icmp("127.0.0.1"), "gone": Icmp("192.0.2.2"), "nowhere": Icmp("198.51.100.1")})
        assert (await asked.run("lo"))[0]
        assert await asked.run("gone", 0.3) == (False, "timed out after 0.3 s")
        passed, reason = await asked.run("nowhere")
        assert not passed
        assert "unreachable" in reason
        assert (await asked.run("lo"))[0]
        await asked.close()

    asyncio.run(story())


def test_a_capability_can_be_lent_to_one_child_of_an_unprivileged_daemon() -> None:
    read, write = os.pipe()
    if not (child := os.fork()):
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            with privileges.kept():
                os.setresuid(NOBODY, NOBODY, NOBODY)
            privileges.keep_from_children()
            for lent in (privileges.CAP_NET_RAW, 0):
                with privileges.lent(lent):
                    pid = spawn(["/bin/grep", "CapEff", "/proc/self/status"], None, write)
                os.waitpid(pid, 0)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with open(read) as said:
        assert said.read() == f"CapEff:\t{1 << 13:016x}\nCapEff:\t{0:016x}\n"


HAPROXY = """
global
  stats socket {path} mode 600 level user
defaults
  mode http
  timeout connect 1s
  timeout client 1s
  timeout server 1s
backend web
  server one 127.0.0.1:1
  server two 127.0.0.1:1 disabled
  server three 127.0.0.1:1 check inter 50 fall 1 rise 1
backend other
  server four 127.0.0.1:1
"""


@pytest.fixture
def haproxy(tmp_path: Path) -> Callable[[], "subprocess.Popen[bytes]"]:
    program = find_program("haproxy", "haproxy")
    (tmp_path / "cfg").write_text(HAPROXY.format(path=tmp_path / "socket"))
    return lambda: subprocess.Popen([program, "-db", "-f", tmp_path / "cfg"], stderr=subprocess.DEVNULL)


def test_a_backend_must_have_enough_servers_up(
    haproxy: Callable[[], "subprocess.Popen[bytes]"], tmp_path: Path
) -> None:
    path = tmp_path / "socket"
    web = Haproxy(path, "web")

    async def story() -> None:
        asked = Asked({"web": web, "two": replace(web, servers=2), "none": replace(web, backend="nowhere")})
        assert await asked.run("web") == (False, f"cannot connect to {path}: no such file or directory")
        for _ in range(2):  # it ends, and comes back
            with haproxy() as daemon:
                await until(lambda: is_listening(path))
                while "three DOWN" not in (await asked.run("two"))[1]:
                    await asyncio.sleep(0.05)
                assert await asked.run("web") == (True, "1 of 3 servers of web are up")
                lacks = "1 of 3 servers of web are up, 2 are wanted: two MAINT, three DOWN"
                assert await asked.run("two") == (False, lacks)
                assert await asked.run("none") == (False, "HAProxy answers: No such proxy.")
                daemon.kill()
            assert await asked.run("web") == (False, f"cannot connect to {path}: connection refused")
        await asked.close()

    asyncio.run(story())


def is_listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
        probe.connect(str(path))
        return True
    return False


def test_a_stats_socket_that_does_not_answer_has_failed_at_the_timeout(tmp_path: Path) -> None:
    async def story() -> None:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(tmp_path / "socket"))
            listening.listen()
            asked = Asked({"web": Haproxy(tmp_path / "socket", "web"), "gone": Haproxy(tmp_path / "gone", "web")})
            assert not (await asked.run("gone"))[0]  # by now the helper runs
            assert await asked.run("web", 0.3) == (False, "timed out after 0.3 s")
            await asked.close()

    asyncio.run(story())
