"""The log: its entries, and how they reach a journal, a collector of JSON, or a terminal, whatever is in them."""

import json
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_interface
from pathlib import Path

import pytest

from floatip.core.events import Became
from floatip.core.settings import Instance, Static
from floatip.host.entries import ROLE_CHANGE, Entries
from floatip.host.journal import LONGEST_VALUE, Journal
from floatip.host.log import LONGEST_LINE, NOTICE, WARNING, Log
from floatip.host.news import MOST_TOGETHER, News

Entry = dict[str, list[bytes]]
HOSTILE = "a\nFLOATIP_ROLE=master\x00\x1b]0;x\x07\x1b[31m\r\u2028\u202eb\udcff\ud800<b>\U0001f4a3"
"""A field of somebody else's, commands to a terminal, and what is no UTF-8."""
SHOWN = "\\x00\\x1b]0;x\\x07\\x1b[31m"


class FakeJournald:
    """It reads only when it is asked to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))

    def read(self) -> list[Entry]:
        entries = []
        try:
            while True:
                entries.append(parsed(self._socket.recv(1 << 20)))
        except BlockingIOError:
            return entries

    def close(self) -> None:
        self._socket.close()
        self.path.unlink()


def parsed(datagram: bytes) -> Entry:
    """By the protocol's own words; a name may come more than once."""
    entry: Entry = {}
    while datagram:
        line, newline, datagram = datagram.partition(b"\n")
        assert newline
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", datagram[:8])
            value, end, datagram = datagram[8 : 8 + length], datagram[8 + length : 9 + length], datagram[9 + length :]
            assert end == b"\n"
            assert len(value) == length
        entry.setdefault(name.decode("ascii"), []).append(value)
    return entry


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[FakeJournald]:
    it = FakeJournald(tmp_path / "socket")
    yield it
    it.close()


@pytest.fixture
def stderr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file, which the environment calls the journal's stream."""
    with (tmp_path / "stderr").open("w") as file:
        monkeypatch.setattr(sys, "stderr", file)
        stream = os.fstat(file.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{stream.st_dev}:{stream.st_ino}")
        yield tmp_path / "stderr"


@pytest.fixture
def log(journald: FakeJournald, stderr: Path) -> Iterator[Log]:
    journal = Journal(str(journald.path))
    yield Log(journal=journal)
    journal.close()


# How an entry reaches the journal


def test_the_journal_gets_fields(log: Log, journald: FakeJournald, stderr: Path) -> None:
    log.write(WARNING, "web: healthy", [("INSTANCE", "web"), ("INSTANCE", "mail"), ("MESSAGE_ID", ROLE_CHANGE)])
    (entry,) = journald.read()
    assert entry == {
        "MESSAGE": [b"web: healthy"],
        "PRIORITY": [b"4"],
        "SYSLOG_FACILITY": [b"3"],
        "SYSLOG_IDENTIFIER": [b"floatip"],
        "FLOATIP_INSTANCE": [b"web", b"mail"],
        "MESSAGE_ID": [ROLE_CHANGE.encode()],
    }
    assert stderr.read_text() == "", "it would be there twice"


def test_what_others_chose_makes_no_field_and_no_command_to_a_terminal(log: Log, journald: FakeJournald) -> None:
    log.write(NOTICE, f"role: {HOSTILE}", [("REASON", HOSTILE)])
    (entry,) = journald.read()
    assert entry.keys() == {
        *("MESSAGE", "PRIORITY", "SYSLOG_FACILITY", "SYSLOG_IDENTIFIER", "FLOATIP_REASON"),
    }
    message, reason = (entry[name][0].decode() for name in ("MESSAGE", "FLOATIP_REASON"))
    first, second = message.split("\n")
    assert first == "role: a"
    assert second.startswith(f"FLOATIP_ROLE=master{SHOWN}\\r\\u2028\\u202eb\\udcff\\ud800<b>")
    assert reason.startswith(f"a\\nFLOATIP_ROLE=master{SHOWN}\\r\\u2028\\u202eb\\udcff\\ud800<b>")
    assert reason.isprintable()
    assert all(line.isprintable() for line in message.split("\n"))


def test_a_message_of_several_lines_is_one_entry(log: Log, journald: FakeJournald) -> None:
    log.write(NOTICE, "a warning\n  hint: mend it\n")
    (entry,) = journald.read()
    assert entry["MESSAGE"] == [b"a warning\n  hint: mend it"]


def test_what_is_too_long_for_a_datagram_is_cut_and_says_so(log: Log, journald: FakeJournald) -> None:
    log.write(NOTICE, "ä" * 1_000_000, [("REASON", "x\n" * 1_000_000)] * 3)
    (entry,) = journald.read()
    assert entry["MESSAGE"] == ["ä".encode() * (LONGEST_VALUE // 2) + b" ... (1983616 bytes more)"]
    assert log.dropped == 0


def test_a_journal_that_reads_nothing_holds_up_nothing_and_what_is_lost_is_counted(
    log: Log, journald: FakeJournald
) -> None:
    number = 0
    while not log.dropped:
        log.write(NOTICE, f"entry {number}")
        number += 1
        assert number < 100_000
    log.write(NOTICE, "lost too")
    assert log.dropped == 2
    assert [entry["MESSAGE"][0] for entry in journald.read()] == [b"entry %d" % each for each in range(number - 1)]
    log.write(NOTICE, "there is room again")
    assert [entry["MESSAGE"] for entry in journald.read()] == [[b"there is room again"]]


def test_a_journal_that_is_restarted_gets_what_is_said_after_that(
    log: Log, journald: FakeJournald, stderr: Path
) -> None:
    log.write(NOTICE, "before")
    assert journald.read()
    journald.close()
    log.write(WARNING, "meanwhile\n  hint: look there")
    assert stderr.read_text() == "<4>meanwhile\n<4>  hint: look there\n", "the stream may still lead to it"
    journald.__init__(journald.path)  # type: ignore[misc]
    log.write(NOTICE, "after")
    assert [entry["MESSAGE"] for entry in journald.read()] == [[b"after"]]
    assert log.dropped == 0


# JSON, text


def test_json_goes_to_stderr_with_the_same_fields(log: Log, journald: FakeJournald, stderr: Path) -> None:
    log.as_json = True
    log.write(WARNING, f"one\n{HOSTILE}", [("INSTANCE", "web"), ("CHECK", "a"), ("CHECK", "a")])
    (line,) = stderr.read_text().splitlines()
    record = json.loads(line.removeprefix("<4>"))
    assert (record["level"], record["instance"], record["check"]) == ("warning", "web", ["a", "a"])
    assert record["msg"].startswith(f"one\na\nFLOATIP_ROLE=master{SHOWN}")
    assert journald.read() == []


@pytest.mark.parametrize("character", ["x", "\U0001f4a3", '"'])
def test_json_that_is_too_long_becomes_an_object_for_each_line(log: Log, stderr: Path, character: str) -> None:
    log.as_json = True
    log.write(NOTICE, "\n".join(["the first", *[character * 3000] * 3, "the last"]), [("REASON", "x" * 5000)])
    lines = stderr.read_text().splitlines()
    messages = [json.loads(line.removeprefix("<5>"))["msg"] for line in lines]
    assert [messages[0], messages[-1]] == ["the first", "the last"]
    assert len(messages) == 5
    assert all(set(message) == {character} for message in messages[1:-1])
    assert all(len(line) <= LONGEST_LINE + len("<5>") for line in lines)


def test_without_a_journal_there_is_text_with_the_time(stderr: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOURNAL_STREAM")
    with stderr.open("a") as file:
        monkeypatch.setattr(sys, "stderr", file)
        Log().write(NOTICE, f"web: {HOSTILE}", [("INSTANCE", "web")])
    first, second = stderr.read_text().split("\n")[:2]
    assert first[8:] == " web: a"
    assert second[9:].startswith(f"FLOATIP_ROLE=master{SHOWN}")


# What becomes an entry


class Story:
    """News of events, as the journal has them."""

    def __init__(self, log: Log, journald: FakeJournald) -> None:
        self.entries = Entries(log)
        self._journald = journald
        self._turns: list[Callable[[], None]] = []
        self._news = News([], self._turns.append, self.entries.write)

    def tell(self, *news: Became) -> list[Entry]:
        """Of one event."""
        self._news.add(list(news), at=0)
        while self._turns:
            self._turns.pop()()
        return self._journald.read()

    def told(self, *news: Became) -> list[str]:
        return [entry["MESSAGE"][0].decode() for entry in self.tell(*news)]


@pytest.fixture
def story(log: Log, journald: FakeJournald) -> Story:
    return Story(log, journald)


SILENT = "haproxy1, which was master, is silent"


def test_what_an_event_made_of_an_instance_is_one_entry(story: Story) -> None:
    first, second, third = story.tell(
        Became("node", "haproxy1", "gone", "no hello for 0.4 s"),
        Became("role", "web", "master", SILENT),
        Became("role", "mail", "master", SILENT),
        Became("rank", "web", "takeover", "took over; outranks a stale route"),
        Became("rank", "mail", "standby", "damped"),
    )
    assert first["MESSAGE"] == [b"node haproxy1 gone: no hello for 0.4 s"]
    assert (first["FLOATIP_NODE"], first["FLOATIP_VALUE"], first["PRIORITY"]) == ([b"haproxy1"], [b"gone"], [b"4"])
    assert "MESSAGE_ID" not in first
    assert second == third | {
        "MESSAGE": [f"web: MASTER at rank takeover: {SILENT}".encode()],
        "FLOATIP_WHAT": [b"role", b"rank"],
        "FLOATIP_INSTANCE": [b"web"],
        "FLOATIP_ROLE": [b"master"],
        "FLOATIP_RANK": [b"takeover"],
        "FLOATIP_REASON": [SILENT.encode()],
        "MESSAGE_ID": [ROLE_CHANGE.encode()],
        "PRIORITY": [b"5"],
    }
    assert third["MESSAGE"] == [f"mail: MASTER at rank standby: {SILENT}".encode()]


def test_a_reason_makes_one_line(story: Story) -> None:
    (message,) = story.told(Became("check", "haproxy", "down", HOSTILE))
    assert message.startswith(f"check haproxy down: a\\nFLOATIP_ROLE=master{SHOWN}\\r")
    assert message.isprintable()


def test_a_check_that_fails_is_told_with_what_it_brings_about(story: Story) -> None:
    reason = "check haproxy: exit status 1, 2 in a row"
    (entry,) = story.tell(
        Became("check", "haproxy", "down", "exit status 1, 2 in a row"),
        Became("health", "web", "down", reason),
        Became("role", "web", "fault", reason),
        Became("rank", "web", "none", reason),
    )
    assert entry["MESSAGE"] == [f"web: FAULT at rank none, unhealthy: {reason}".encode()]
    assert entry["FLOATIP_WHAT"] == [b"check", b"health", b"role", b"rank"]
    assert entry["FLOATIP_CHECK"] == [b"haproxy"]
    assert entry["PRIORITY"] == [b"4"]
    assert story.told(Became("check", "other", "down", "timed out")) == ["check other down: timed out"]
    entry, _ = story.tell(
        Became("rank", "web", "active", "master, settled"), Became("rank", "mail", "none", "the kernel waits")
    )
    assert entry["MESSAGE"] == [b"web: rank active: master, settled"]
    assert entry["FLOATIP_ROLE"] == [b"fault"], "the one that it has"


def test_several_things_of_a_kind_are_one_entry_that_each_of_their_instances_finds(story: Story) -> None:
    story.entries.configure(
        Instance(name=name, addresses=tuple(map(ip_interface, addresses)), election=Static("primary"))
        for name, addresses in (("web", ["192.0.2.1/32", "192.0.2.2/32"]), ("mail", ["192.0.2.3/32"]))
    )
    held = [Became("address", f"192.0.2.{number}", "held", "confirmed") for number in (1, 2, 3)]
    (entry,) = story.tell(*held)
    assert entry["MESSAGE"] == [b"addresses 192.0.2.1, 192.0.2.2, 192.0.2.3 held: confirmed"]
    assert entry["FLOATIP_ADDRESS"] == [b"192.0.2.1", b"192.0.2.2", b"192.0.2.3"]
    assert entry["FLOATIP_INSTANCE"] == [b"web", b"mail"]
    (took,) = story.tell(Became("takeover", "web", "complete", "detected in 0.31 s"))
    assert took["FLOATIP_INSTANCE"] == [b"web"]
    many = [Became("address", f"192.0.2.{number}", "gone", "gone") for number in range(MOST_TOGETHER + 1)]
    assert len(story.told(*many)) == 2


def test_what_becomes_of_open_connections_reads_as_a_sentence(story: Story) -> None:
    kept = "42 connections of haproxy1 go on there"
    cut = "5 connections of haproxy1 are reset: the limit of 600 s"
    entries = [
        *story.tell(Became("connections", "haproxy1", "kept", kept)),
        *story.tell(Became("connections", "haproxy1", "cut off", cut)),
        *story.tell(Became("empty", "haproxy2", "after-drain", "all has moved away")),
    ]
    assert [entry["MESSAGE"][0].decode() for entry in entries] == [
        f"connections haproxy1 kept: {kept}",
        f"connections haproxy1 cut off: {cut}",
        "node haproxy2 is empty: all has moved away",
    ]
    assert [entry["PRIORITY"] for entry in entries] == [[b"5"], [b"4"], [b"5"]], "what was reset is a warning"


def test_a_takeover_is_found_by_its_instance(story: Story) -> None:
    (entry,) = story.tell(*(Became("takeover", name, "complete", "decided in 0.32 s") for name in ("web", "mail")))
    assert entry["MESSAGE"] == [b"takeovers web, mail complete: decided in 0.32 s"]
    assert entry["FLOATIP_INSTANCE"] == [b"web", b"mail"]


def test_a_hint_is_written_once_until_the_reason_changes(story: Story) -> None:
    def refused(peer: str, reason: str, hint: str = "register the share") -> list[str]:
        return story.told(Became("session", peer, "down", reason, hint))

    assert refused("::1", "reset") == ["session ::1 down: reset; hint: register the share"]
    assert refused("::1", "timed out") == ["session ::1 down: timed out"]
    assert refused("::2", "reset") == ["session ::2 down: reset"], "nor for another one"
    assert refused("::1", "refused", "compare dcid") == ["session ::1 down: refused; hint: compare dcid"]
    assert refused("::2", "refused", "compare dcid") == ["session ::2 down: refused"]
    assert refused("::1", "reset") == ["session ::1 down: reset; hint: register the share"]
    for peer in ("::1", "::2"):
        story.told(Became("session", peer, "up", "established"))
    assert refused("::1", "reset") == ["session ::1 down: reset; hint: register the share"], "it was well meanwhile"
