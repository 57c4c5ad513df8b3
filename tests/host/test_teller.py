"""From news to keepalived's words: what is told, in which order, and of what nothing is told."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from pathlib import Path

from floatip.core import settings
from floatip.core.events import Became
from floatip.core.instance import Instance
from floatip.core.settings import SyncGroup, Vrrp
from floatip.host.news import News
from floatip.host.teller import Teller
from floatip.model import Fifo, Model, NotifyEvent, Told, instance
from tests.host.reports import Reports, until

PEERS = (ip_address("10.0.0.2"),)


def vrrp(name: str, vrid: int) -> settings.Instance:
    election = Vrrp("eth0", vrid, 100 + vrid, ip_address("10.0.0.1"), PEERS)
    return instance(name, (ip_interface(f"192.0.2.{vrid}/32"),), election, has_bgp=False)


class Play:
    """A teller with a FIFO and a command that writes its words to a file."""

    def __init__(self, reports: Reports, directory: Path, *events: NotifyEvent) -> None:
        self.reports = reports
        self.fifo, self.out = directory / "fifo", directory / "out"
        command = directory / "command"
        command.write_text(f'#!/bin/sh\necho "$*" >> {self.out}\n')
        command.chmod(0o755)
        self.told = tuple(Told("INSTANCE", "VI_1", event, (str(command), event)) for event in events)
        self.model = Model(
            instances=(vrrp("VI_1", 1), vrrp("VI_2", 2)),
            sync_groups=(SyncGroup("G", ("VI_1", "VI_2")),),
            told=self.told,
            fifos=(Fifo(self.fifo),),
            tells_priorities=frozenset({"VI_1"}),
        )
        self._text = b""

    def run(self, story: Callable[[], Coroutine[object, object, None]]) -> None:
        async def all_of_it() -> None:
            self.teller = Teller(self.reports)
            self.instances = {one.name: Instance(one, 0.0) for one in self.model.instances}
            self.teller.configure(self.model)
            self.news = News((lambda item: self.teller.note(item, self.instances),), lambda callback: None)
            await until(self.fifo.exists)
            self._reader = os.open(self.fifo, os.O_RDONLY | os.O_NONBLOCK)
            await story()
            await self.teller.finish()
            os.close(self._reader)

        asyncio.run(all_of_it())

    def became(self, *news: tuple[str, str, str]) -> None:
        self.news.add([Became(*one, "because") for one in news], 0.0)
        self.news.flush()

    async def lines(self, *expected: str) -> None:
        """These are all."""
        text = "".join(f"{line}\n" for line in expected).encode()
        await until(lambda: len(self._read()) >= len(text))
        assert self._read() == text

    def _read(self) -> bytes:
        with contextlib.suppress(BlockingIOError):
            self._text += os.read(self._reader, 65536)
        return self._text

    @property
    def commands(self) -> list[str]:
        return self.out.read_text().splitlines() if self.out.exists() else []


def test_lines_are_those_of_keepalived(reports: Reports, tmp_path: Path) -> None:
    play = Play(reports, tmp_path)

    async def story() -> None:
        play.became(("group", "G", "backup"), ("role", "VI_1", "backup"), ("role", "VI_2", "backup"))
        play.became(("priority", "VI_1", "90"), ("priority", "VI_2", "90"))
        play.became(("role", "VI_1", "master"), ("role", "VI_2", "master"), ("group", "G", "master"))
        play.became(("advert", "VI_2", "lower"))
        play.became(("advert", "VI_2", "lower"))
        play.became(("priority", "VI_1", "95"))
        play.became(("role", "VI_1", "fault"), ("health", "VI_1", "unhealthy"))
        play.became(("priority", "VI_1", "80"))
        await play.lines(
            'GROUP "G" BACKUP 0',
            'INSTANCE "VI_1" BACKUP 101',
            'INSTANCE "VI_2" BACKUP 102',
            'INSTANCE "VI_1" BACKUP_PRIORITY 90',
            'INSTANCE "VI_1" MASTER 101',
            'INSTANCE "VI_2" MASTER 102',
            'GROUP "G" MASTER 0',
            'INSTANCE "VI_2" MASTER_RX_LOWER_PRI 102',
            'INSTANCE "VI_2" MASTER_RX_LOWER_PRI 102',
            'INSTANCE "VI_1" MASTER_PRIORITY 95',
            'INSTANCE "VI_1" FAULT 101',
        )

    play.run(story)


def test_a_group_stops_before_its_first_member_and_once(reports: Reports, tmp_path: Path) -> None:
    play = Play(reports, tmp_path)

    async def story() -> None:
        play.became(("role", "VI_1", "init"), ("role", "VI_2", "init"))
        await play.lines('GROUP "G" STOP 0', 'INSTANCE "VI_1" STOP 101', 'INSTANCE "VI_2" STOP 102')

    play.run(story)


def test_a_removed_instance_is_deleted_and_its_last_command_runs(reports: Reports, tmp_path: Path) -> None:
    play = Play(reports, tmp_path, "deleted", "fault", "any")

    async def story() -> None:
        play.became(("role", "VI_1", "master"))
        play.teller.configure(replace(play.model, instances=play.model.instances[1:], told=()))
        play.became(("role", "VI_1", "init"))
        play.became(("role", "VI_2", "master"))
        await play.lines('INSTANCE "VI_1" MASTER 101', 'INSTANCE "VI_1" DELETED 101', 'INSTANCE "VI_2" MASTER 102')
        await until(lambda: len(play.commands) == 3)
        assert play.commands == ["any INSTANCE VI_1 MASTER 101", "deleted", "any INSTANCE VI_1 DELETED 101"]

    play.run(story)


def test_a_removed_instance_without_notify_deleted_is_in_fault(reports: Reports, tmp_path: Path) -> None:
    play = Play(reports, tmp_path, "fault", "any")

    async def story() -> None:
        play.became(("role", "VI_1", "master"))
        play.teller.configure(replace(play.model, instances=play.model.instances[1:], told=()))
        await play.lines('INSTANCE "VI_1" MASTER 101', 'INSTANCE "VI_1" FAULT 101')
        await until(lambda: len(play.commands) == 3)
        assert play.commands[1:] == ["fault", "any INSTANCE VI_1 FAULT 101"]

    play.run(story)


def test_nothing_is_told_after_a_reload_unless_the_state_changed(reports: Reports, tmp_path: Path) -> None:
    play = Play(reports, tmp_path, "master", "any")

    async def story() -> None:
        play.became(("role", "VI_1", "master"))
        play.teller.configure(play.model)
        play.became(("role", "VI_1", "master"), ("group", "G", "master"))
        play.teller.configure(play.model)
        play.became(("group", "G", "master"))
        play.became(("role", "VI_1", "backup"))
        lines = 'INSTANCE "VI_1" MASTER 101', 'GROUP "G" MASTER 0', 'INSTANCE "VI_1" BACKUP 101'
        await play.lines(*lines)
        await until(lambda: len(play.commands) == 3)
        assert play.commands == ["master", "any INSTANCE VI_1 MASTER 101", "any INSTANCE VI_1 BACKUP 101"]

    play.run(story)
