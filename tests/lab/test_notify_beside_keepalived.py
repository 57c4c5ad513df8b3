"""What floatip and a keepalived (Debian's) with the same scripts tell of the same events: lines of FIFOs, commands."""

import contextlib
import os
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from floatip.core.vrrp.wire import Advert, pack
from floatip.lab.network import FLOATING, HAPROXY1, HAPROXY2, OBSERVER, LabHost, Network
from floatip.lab.programs.floatip import FloatipDaemon
from floatip.lab.programs.keepalived import KeepalivedProgram
from floatip.lab.programs.program import Program

TIMEOUT = 60.0
INTERVAL = 0.2
FLOATIP = """
[[check]]
name = "works"
script = ["/usr/bin/test", "-e", "WORKS"]
interval = 0.2
rise = 1
fall = 1

[[instance]]
name = "VI_1"
placement = "master"
interface = "lo"
addresses = ["ADDRESS"]
checks = ["works"]
[instance.vrrp]
interface = "eth0"
vrid = 51
priority = 100
version = 3
advert_interval = INTERVAL
source = "SOURCE"
peers = ["PEER"]
"""
PROGRAM = """
import sys
from dataclasses import replace
from pathlib import Path
from floatip.host.daemon import serve
from floatip.model import Fifo, Told
from floatip.reading import load

def read():
    loaded = load({config!r})
    events = ("master", "backup", "fault", "stop", "any")
    told = tuple(Told("INSTANCE", "VI_1", event, ({script!r}, event)) for event in events)
    fifos = (Fifo(Path({fifo!r})),)
    return loaded._replace(model=replace(loaded.model, told=told, fifos=fifos))

sys.exit(serve(read))
"""
KEEPALIVED = """
global_defs {
  vrrp_version 3
  notify_fifo FIFO
  script_user root
}
vrrp_script works {
  script "/usr/bin/test -e WORKS"
  interval 1
}
vrrp_instance VI_1 {
  interface eth0
  virtual_router_id 51
  priority 100
  advert_int INTERVAL
  unicast_src_ip SOURCE
  unicast_peer {
    PEER
  }
  virtual_ipaddress {
    ADDRESS dev lo
  }
  track_script {
    works
  }
  notify_master "SCRIPT master"
  notify_backup "SCRIPT backup"
  notify_fault "SCRIPT fault"
  notify_stop "SCRIPT stop"
  notify "SCRIPT any"
}
"""


class FloatipThatTells(FloatipDaemon):
    def __init__(self, network: Network, host: str, config_text: str, script: Path) -> None:
        super().__init__(network, host, config_text)
        self.fifo, self.script = self.directory / "fifo", script

    def command(self) -> Sequence[str]:
        program = PROGRAM.format(config=self.config, script=str(self.script), fifo=str(self.fifo))
        return [sys.executable, "-c", program]


class Told:
    """What one of the two told: lines of its FIFO, and words of its commands."""

    def __init__(self, host: LabHost, directory: Path) -> None:
        assert host.ipv4
        assert OBSERVER.ipv4
        self.source = host.ipv4.ip
        self.works, self.words = directory / f"works-{host.name}", directory / f"words-{host.name}"
        self.works.touch()
        self.script = directory / f"script-{host.name}"
        self.script.write_text(f'#!/bin/sh\necho "$*" >> {self.words}\n')
        self.script.chmod(0o755)
        self._names = {
            "WORKS": self.works,
            "ADDRESS": FLOATING,
            "INTERVAL": INTERVAL,
            "SOURCE": self.source,
            "PEER": OBSERVER.ipv4.ip,
            "SCRIPT": self.script,
        }
        self._reader = -1
        self._text = ""

    def fill(self, template: str) -> str:
        for name, value in self._names.items():
            template = template.replace(name, str(value))
        return template

    def open(self, fifo: Path) -> None:
        wait_for(fifo.exists, f"{fifo} to be there")
        self._reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)

    @property
    def lines(self) -> list[str]:
        with contextlib.suppress(BlockingIOError):
            self._text += os.read(self._reader, 65536).decode()
        return self._text.splitlines()

    @property
    def commands(self) -> list[str]:
        return self.words.read_text().splitlines() if self.words.exists() else []

    def close(self) -> None:
        os.close(self._reader)


def wait_for(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not true():
        assert time.monotonic() < deadline, f"waited {TIMEOUT} s without success for {what}"
        time.sleep(0.01)


@pytest.fixture
def network() -> Iterator[Network]:
    assert os.geteuid() == 0, "the lab's tests need root: sudo .venv/bin/python -m pytest tests/lab"
    with tempfile.TemporaryDirectory() as directory, Network(Path(directory)) as network:
        Path(directory).chmod(0o755)
        yield network


def advert(network: Network, priority: int, to: Sequence[Told]) -> None:
    assert OBSERVER.ipv4
    source = OBSERVER.ipv4.ip
    with network.inside(OBSERVER.name), socket.socket(socket.AF_INET, socket.SOCK_RAW, 112) as raw:
        raw.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
        for each in to:
            packet = pack(Advert(3, 51, priority, INTERVAL, (FLOATING.ip,)), source, each.source)
            raw.sendto(packet, (str(each.source), 0))


def test_floatip_tells_what_keepalived_tells_of_start_master_backup_fault_and_stop(
    network: Network, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    ours, theirs = Told(HAPROXY1, tmp_path), Told(HAPROXY2, tmp_path)
    both = (ours, theirs)
    floatip = FloatipThatTells(network, HAPROXY1.name, ours.fill(FLOATIP), ours.script)
    keepalived = KeepalivedProgram(network, HAPROXY2.name, theirs.fill(KEEPALIVED))
    programs: tuple[Program, ...] = (floatip, keepalived)
    for program in programs:
        program.start()
    ours.open(floatip.fifo)
    theirs.open(keepalived.fifo)

    def both_say(*words: str) -> None:
        expected = [f'INSTANCE "VI_1" {word} 100' for word in words]
        wait_for(lambda: all(len(each.lines) >= len(expected) for each in both), f"{words} of both")
        assert [each.lines for each in both] == [expected, expected]

    said = ["BACKUP", "MASTER"]
    both_say(*said)
    advert(network, 150, both)
    both_say(*(said := [*said, "BACKUP", "MASTER"]))
    for each in both:
        each.works.unlink()
    both_say(*(said := [*said, "FAULT"]))
    for each in both:
        each.works.touch()
    both_say(*(said := [*said, "BACKUP", "MASTER"]))
    for program in programs:
        program.stop()
    for program in programs:
        assert program.wait() == 0
    both_say(*(said := [*said, "STOP"]))

    commands = [line for word in said for line in (word.lower(), f"any INSTANCE VI_1 {word} 100")]
    assert ours.commands == commands, "in order, and each after the one before"
    wait_for(lambda: len(theirs.commands) == len(commands), "keepalived's scripts")
    assert Counter(theirs.commands) == Counter(commands)
    for each in both:
        each.close()
