"""With one keepalived.conf floatip sends what keepalived sends, octet by octet, and tshark understands it."""

import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from floatip.core.vrrp.wire import PROTOCOL
from floatip.lab.network import ROUTER
from tests.lab.vrrp.kinds import Kind
from tests.lab.vrrp.recorder import ETH_P_ALL, Recorder
from tests.lab.vrrp.routers import PROGRAMS
from tests.lab.vrrp.segment import Segment

KINDS = [
    Kind("version 2", version=2, interval=1),
    Kind("version 2 with a password", version=2, interval=1, password="twenty-characters-000"),
    Kind("version 2 unicast", version=2, interval=1, multicast=False),
    Kind("version 3"),
    Kind("version 3 unicast", multicast=False),
    Kind("10 ms", interval=0.01),
    Kind("IPv6", family=6),
    Kind("IPv6 unicast", family=6, multicast=False),
]
TIMEOUT = 60.0
ETHERNET = 14
IPV4, IPV6 = b"\x08\x00", b"\x86\xdd"


class Capture:
    """The frames of a host with adverts in them, as they arrive at the switch."""

    def __init__(self, segment: Segment, host: str) -> None:
        with segment.inside(ROUTER):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK)
        self._socket.bind((host, ETH_P_ALL))

    def adverts(self) -> Iterator[bytes]:
        with suppress(BlockingIOError):
            while True:
                frame, (_, _, direction, *_) = self._socket.recvfrom(2048)
                kind, protocol = frame[12:ETHERNET], {IPV4: 9, IPV6: 6}.get(frame[12:ETHERNET])
                if direction != socket.PACKET_OUTGOING and protocol and frame[ETHERNET + protocol] == PROTOCOL:
                    yield without_identification(frame) if kind == IPV4 else without_flow(frame)

    def close(self) -> None:
        self._socket.close()


def without_identification(frame: bytes) -> bytes:
    """RFC 791: the identification is the sender's choice, and the header's checksum covers it."""
    at = ETHERNET
    return frame[: at + 4] + bytes(2) + frame[at + 6 : at + 10] + bytes(2) + frame[at + 12 :]


def without_flow(frame: bytes) -> bytes:
    """RFC 6437: the flow label is the kernel's choice."""
    first = int.from_bytes(frame[ETHERNET : ETHERNET + 4]) & 0xFFF00000
    return frame[:ETHERNET] + first.to_bytes(4) + frame[ETHERNET + 4 :]


def hop_limit(frame: bytes) -> int:
    return frame[ETHERNET + 7]


def without_hop_limit(frame: bytes) -> bytes:
    return frame[: ETHERNET + 7] + bytes(1) + frame[ETHERNET + 8 :]


def adverts_of(program: str, kind: Kind, directory: Path) -> set[bytes]:
    """All different ones, from its start to its end; nobody else is there."""
    with ExitStack() as stage:
        segment = stage.enter_context(Segment(directory, kind.hosts))
        recorder = stage.enter_context(Recorder(segment, kind.hosts, kind.all_addresses))
        capture = stage.enter_context(closing(Capture(segment, "r1")))
        router = PROGRAMS[program](segment, kind, "r1")
        router.start()
        router.join()
        assert recorder.wait(lambda: all(recorder.holders(a) for a in kind.all_addresses), TIMEOUT), router.log()
        router.stop()
        return set(capture.adverts())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_floatip_and_keepalived_send_the_same_octets(kind: Kind) -> None:
    assert os.geteuid() == 0, "the lab's tests need root: sudo .venv/bin/python -m pytest tests/lab"
    found = {}
    for program in ("keepalived", "floatip"):
        with TemporaryDirectory(prefix="vrrp-") as directory:
            found[program] = adverts_of(program, kind, Path(directory))
            assert understood(found[program], Path(directory)) == [True, True], "an advert and one of priority 0"
    if kind.family == 6 and not kind.multicast:
        assert {hop_limit(each) for each in found["floatip"]} == {255}, "RFC 9568 section 5.1.2.3"
        assert {hop_limit(each) for each in found["keepalived"]} == {64}, "keepalived 2.2.7 leaves it to the kernel"
        found = {program: set(map(without_hop_limit, frames)) for program, frames in found.items()}
    assert {each.hex() for each in found["floatip"]} == {each.hex() for each in found["keepalived"]}


def understood(frames: set[bytes], directory: Path) -> list[bool]:
    """Whether tshark finds an advert with a right checksum in each, and nothing to complain of."""
    file = directory / "adverts.pcap"
    records = [struct.pack("=IIII", 0, 0, len(frame), len(frame)) + frame for frame in sorted(frames)]
    file.write_bytes(struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + b"".join(records))
    fields = ["-e", "vrrp.checksum.status", "-e", "_ws.expert.message", "-e", "_ws.malformed"]
    asked = ["tshark", "-r", str(file), "-T", "fields", *fields]
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    return [line.split("\t") == ["1", "", ""] for line in said.splitlines()]
