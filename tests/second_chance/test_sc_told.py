"""What the daemon tells the process, where many instances move at once."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

import pytest

from floatip.core import settings
from floatip.core.events import Arrange
from floatip.core.second_chance.terms import End, Over, Phase, Standing, Wish
from floatip.host import second_chance
from floatip.host.second_chance import SecondChance
from floatip.second_chance import lines
from floatip.second_chance.run import Process, without_outdated

INSTANCES = 200


def wishes(carried: int) -> tuple[Wish, ...]:
    phases = [Phase.CARRIES] * carried + [Phase.REST] * (INSTANCES - carried)
    return tuple(
        Wish(f"VI_{number}", frozenset((IPv4Address("192.0.2.0") + number,)), phase)
        for number, phase in enumerate(phases)
    )


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


def test_the_last_wishes_arrive_although_the_process_reads_late(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    packets: list[bytes] = []

    async def play() -> None:
        it = SecondChance(lambda event: None)
        it._process._ours = ours
        for carried in range(INSTANCES + 1):
            it.perform(Arrange(wishes(carried)))
            await asyncio.sleep(0)
        theirs.setblocking(False)
        while not packets or packets[-1] != lines.of_wishes(wishes(INSTANCES)):
            try:
                packets.append(theirs.recv(lines.LARGEST))
            except BlockingIOError:
                await asyncio.sleep(0.001)
        it.close()

    asyncio.run(asyncio.wait_for(play(), 20))
    assert len(packets) < INSTANCES


def test_of_wishes_in_a_row_the_last_one_counts() -> None:
    told: list[list[Any]] = [["configure", 1], ["wish", 1], ["wish", 2], ["configure", 2], ["wish", 3], ["end"]]
    assert list(without_outdated(told)) == [["configure", 1], ["wish", 2], ["configure", 2], ["wish", 3], ["end"]]
    assert json.loads(lines.of_wishes(wishes(1)))[0] == "wish"


def test_each_end_of_a_stream_is_told_and_then_how_it_stands_although_the_daemon_reads_late(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = ends
    overs = [Over("b", False, number, "no connection is left", End.DONE) for number in range(3)]

    async def play() -> list[Standing | Over]:
        process, filler, said = Process(ours), lines.of_over(overs[0]), list[bytes]()
        with contextlib.suppress(BlockingIOError):
            while True:
                ours.send(filler)
        for over in overs:
            process._say_over(over)
            process._say_standing(Standing(f"after {over.connections}"))
        theirs.setblocking(False)
        while not said or lines.heard(said[-1]) != Standing("after 2"):
            try:
                said.append(theirs.recv(lines.LARGEST))
            except BlockingIOError:
                await asyncio.sleep(0.001)
        return [lines.heard(packet) for packet in said[-4:]]

    found = asyncio.run(asyncio.wait_for(play(), 20))
    assert found == [*overs, Standing("after 2")]


@pytest.mark.parametrize("stops", [False, True])
def test_without_a_process_the_daemon_itself_ends_that_answers_leave_by_the_tunnel(
    monkeypatch: pytest.MonkeyPatch, *, stops: bool
) -> None:
    """The process crashed and is started again later: `mode = "off"` or a stop in between left an address dead here."""
    left: list[object] = []
    monkeypatch.setattr(second_chance, "leave_directly", lambda *addresses: left.append(addresses))

    async def play() -> None:
        it = SecondChance(lambda event: None)
        it._was_configured = True
        it._configured = lines.Configured("a", (), (b"k" * 32,), 8473, 60.0)
        if stops:
            await it.finish()
        else:
            it.configure(settings.Settings())
        it.close()

    asyncio.run(asyncio.wait_for(play(), 20))
    assert left == [()]
