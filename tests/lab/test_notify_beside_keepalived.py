"""What floatip and a keepalived (Debian's) with the same scripts tell of the same events: lines of FIFOs, commands."""

import contextlib
import os
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from floatip.core.vrrp.wire import Advert, pack
from floatip.lab.network import FLOATING, HAPROXY1, HAPROXY2, OBSERVER, LabHost, Network
from floatip.lab.programs.floatip import FloatipDaemon
from floatip.lab.programs.keepalived import KeepalivedProgram

TIMEOUT = 60.0
INTERVAL = 0.2
SECOND, THIRD = IPv4Interface("192.168.223.159/32"), IPv4Interface("192.168.223.160/32")
GLOBAL = """
global_defs {
  vrrp_version 3
  notify_fifo FIFO
  script_user root
}
vrrp_script works {
  script "/usr/bin/test -e WORKS"
  interval 1
}
vrrp_script better {
  script "/usr/bin/test -e BETTER"
  interval 1
  weight 20
}
"""
INSTANCE = """
vrrp_instance NAME {
  interface eth0
  virtual_router_id VRID
  priority 100
  advert_int INTERVAL
  unicast_src_ip SOURCE
  unicast_peer {
    PEER
  }
  virtual_ipaddress {
    ADDRESS dev lo
  }
  TRACKS
  notify_master "SCRIPT NAME master"
  notify_backup "SCRIPT NAME backup"
  notify_fault "SCRIPT NAME fault"
  notify_stop "SCRIPT NAME stop"
  notify_master_rx_lower_pri "SCRIPT NAME lower"
  notify "SCRIPT NAME any"
}
"""
TRACKS = "track_script {\n works\n}"
WEIGHTED = "notify_priority_changes true\n track_script {\n better\n}"
GROUP = """
vrrp_sync_group G {
  group {
    VI_1
    VI_2
  }
  track_script {
    works
  }
  notify_master "SCRIPT G master"
  notify_backup "SCRIPT G backup"
  notify_fault "SCRIPT G fault"
  notify_stop "SCRIPT G stop"
  notify "SCRIPT G any"
}
"""


def instance(name: str, vrid: int, address: object, tracks: str = "") -> str:
    words = {"NAME": name, "VRID": str(vrid), "ADDRESS": str(address), "TRACKS": tracks}
    text = INSTANCE
    for word, value in words.items():
        text = text.replace(word, value)
    return text


class FloatipWithConf(FloatipDaemon):
    """It runs a keepalived.conf."""

    def __init__(self, network: Network, host: str, config_text: str) -> None:
        super().__init__(network, host, "")
        directory = self.directory / "conf"
        directory.mkdir()
        self.fifo, conf = directory / "fifo", directory / "keepalived.conf"
        conf.write_text(config_text.replace("FIFO", str(self.fifo)))
        self.config = str(conf)


class Told:
    """What one of the two told: lines of its FIFO, and words of its commands."""

    def __init__(self, host: LabHost, directory: Path) -> None:
        assert host.ipv4
        assert OBSERVER.ipv4
        self.source = host.ipv4.ip
        self.works, self.better = directory / f"works-{host.name}", directory / f"better-{host.name}"
        self.works.touch()
        self.words = directory / f"words-{host.name}"
        self.script = directory / f"script-{host.name}"
        self.script.write_text(f'#!/bin/sh\necho "$*" >> {self.words}\n')
        self.script.chmod(0o755)
        self._names = {
            "WORKS": self.works,
            "BETTER": self.better,
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


def advert(network: Network, priority: int, to: Sequence[Told], vrid: int, address: IPv4Interface) -> None:
    assert OBSERVER.ipv4
    source = OBSERVER.ipv4.ip
    with network.inside(OBSERVER.name), socket.socket(socket.AF_INET, socket.SOCK_RAW, 112) as raw:
        raw.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
        for each in to:
            packet = pack(Advert(3, vrid, priority, INTERVAL, (address.ip,)), source, each.source)
            raw.sendto(packet, (str(each.source), 0))


class Both:
    """floatip on haproxy1 and keepalived on haproxy2, each alone with the observer, from the same file."""

    def __init__(self, network: Network, directory: Path, conf: str) -> None:
        self.network = network
        self.ours, self.theirs = self.told = Told(HAPROXY1, directory), Told(HAPROXY2, directory)
        floatip = FloatipWithConf(network, HAPROXY1.name, self.ours.fill(conf))
        keepalived = KeepalivedProgram(network, HAPROXY2.name, self.theirs.fill(conf))
        self._programs = ((self.ours, floatip, floatip.fifo), (self.theirs, keepalived, keepalived.fifo))
        self._seen = 0

    def start(self) -> None:
        for told, program, fifo in self._programs:
            program.start()
            told.open(fifo)

    def say(self, *lines: str) -> None:
        """Next these, in an order of their own."""
        end = self._seen + len(lines)
        wait_for(lambda: all(len(each.lines) >= end for each in self.told), f"{lines} of both")
        said = [sorted(each.lines[self._seen : end]) for each in self.told]
        assert said == [sorted(lines)] * 2
        self._seen = end

    def advert(self, priority: int, vrid: int = 51, address: IPv4Interface = FLOATING) -> None:
        advert(self.network, priority, self.told, vrid, address)

    def stop(self) -> None:
        for _, program, _ in self._programs:
            program.stop()
        for _, program, _ in self._programs:
            assert program.wait() == 0

    def close(self) -> None:
        for each in self.told:
            each.close()


def test_floatip_tells_what_keepalived_tells_of_start_master_backup_fault_and_stop(
    network: Network, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    both = Both(network, tmp_path, GLOBAL + instance("VI_1", 51, FLOATING, TRACKS))
    both.start()
    states = []

    def say(*words: str) -> None:
        for word in words:
            both.say(f'INSTANCE "VI_1" {word} 100')
            states.append(word)

    say("BACKUP", "MASTER")
    both.advert(50)
    both.say('INSTANCE "VI_1" MASTER_RX_LOWER_PRI 100')
    both.advert(150)
    say("BACKUP", "MASTER")
    for each in both.told:
        each.works.unlink()
    say("FAULT")
    for each in both.told:
        each.works.touch()
    say("BACKUP", "MASTER")
    both.stop()
    say("STOP")
    commands = [line for word in states for line in (f"VI_1 {word.lower()}", f"VI_1 any INSTANCE VI_1 {word} 100")]
    commands.insert(4, "VI_1 lower")
    assert both.ours.commands == commands, "in order, and each after the one before"
    wait_for(lambda: len(both.theirs.commands) == len(commands), "keepalived's scripts")
    assert Counter(both.theirs.commands) == Counter(commands)
    both.close()


def test_floatip_tells_what_keepalived_tells_of_a_sync_group_and_of_priorities(
    network: Network, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    conf = GLOBAL + instance("VI_1", 51, FLOATING) + instance("VI_2", 52, SECOND) + GROUP
    both = Both(network, tmp_path, conf + instance("VI_3", 53, THIRD, WEIGHTED))
    both.start()

    def say(word: str) -> None:
        both.say(f'GROUP "G" {word} 0', *(f'INSTANCE "{name}" {word} 100' for name in ("VI_1", "VI_2")))

    both.say(
        *(f'INSTANCE "{name}" BACKUP 100' for name in ("VI_1", "VI_2", "VI_3")),
        'GROUP "G" BACKUP 0',
        *(f'INSTANCE "{name}" MASTER 100' for name in ("VI_1", "VI_2", "VI_3")),
        'GROUP "G" MASTER 0',
    )
    for each in both.told:
        each.better.touch()
    both.say('INSTANCE "VI_3" MASTER_PRIORITY 120')
    both.advert(150, 53, THIRD)
    both.say('INSTANCE "VI_3" BACKUP 120', 'INSTANCE "VI_3" MASTER 120')
    for each in both.told:
        each.works.unlink()
    say("FAULT")
    for each in both.told:
        each.works.touch()
    both.say(
        *(f'INSTANCE "{name}" {word} 100' for name in ("VI_1", "VI_2") for word in ("BACKUP", "MASTER")),
        *(f'GROUP "G" {word} 0' for word in ("BACKUP", "MASTER")),
    )
    both.stop()
    both.say(
        'GROUP "G" STOP 0',
        *(f'INSTANCE "{name}" STOP {priority}' for name, priority in (("VI_1", 100), ("VI_2", 100), ("VI_3", 120))),
    )
    wait_for(lambda: len(both.theirs.commands) == len(both.ours.commands), "keepalived's scripts")
    assert Counter(both.theirs.commands) == Counter(both.ours.commands)
    both.close()
