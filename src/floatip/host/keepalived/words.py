"""What keepalived said, by its FIFO or by `floatip notify`, and of which keepalived it was.

Nothing here touches the machine, so the simulation runs it as it is. keepalived says nothing twice, so what it said is
remembered together with the process, for a successor of this daemon. Words of no living process are dropped.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from floatip.core.events import KeepalivedSaid

LINE = re.compile(r'(INSTANCE|GROUP) "(.*)" (MASTER|BACKUP|FAULT|STOP|DELETED|MASTER_RX_LOWER_PRI) \d+')
"""Not so: virtual and real servers, and changes of priority: of a sick instance keepalived says BACKUP_PRIORITY."""
STILL_MASTER = "MASTER_RX_LOWER_PRI"
MOST_SUBJECTS = 256
"""Instances and groups whose last words are kept. Those that are followed are forgotten last."""

Subject = tuple[str, str]
"""INSTANCE or GROUP, and the name."""


@dataclass(frozen=True, slots=True)
class Sender:
    """A process that runs `floatip notify`. `began`: clock ticks since boot; 0 if that is not known."""

    pid: int
    began: int


class Memory(Protocol):
    def recall(self, read: Callable[[dict[str, Any]], Iterable[KeepalivedSaid]]) -> Iterable[KeepalivedSaid] | None: ...
    def remember(self, state: dict[str, Any]) -> object: ...


class Words:
    def __init__(self, report: Callable[[KeepalivedSaid], None], memory: Memory, time: Callable[[], float]) -> None:
        self._report = report
        self._memory = memory
        self._time = time
        self._followed: frozenset[Subject] = frozenset()
        self._process = ""
        """Which keepalived the words are of; empty: none runs."""
        self._process_began = 0
        self._said: dict[Subject, KeepalivedSaid] = {}
        self._told_by: dict[Subject, tuple[Sender, str]] = {}
        """Who told of it last by `floatip notify`, and what."""
        self._by_fifo = False

    @property
    def come_by_fifo(self) -> bool:
        """Whether the FIFO is the way by which keepalived tells us, as far as anybody knows."""
        return self._by_fifo or not self._said

    def follow(self, subjects: Iterable[Subject]) -> None:
        self._followed = frozenset(subjects)

    def begin(self, process: str, began: int) -> None:
        """A keepalived runs. `began`: clock ticks since boot; 0 if that is not known."""
        self._process, self._process_began = process, began
        for one in self._memory.recall(self._said_by_this_one) or ():
            self._said[one.kind, one.name] = one
            self._report(one)

    def end(self) -> None:
        self._process = ""
        self._said.clear()

    def hear(self, lines: list[bytes], is_old: bool) -> None:
        """Lines of the FIFO. `is_old`: they had been waiting, for they were written while nobody listened."""
        self._by_fifo = True
        self._keep(_latest(lines, self._time()) if is_old else _parsed(lines))

    def notify(self, said: KeepalivedSaid, sender: Sender) -> str:
        """Why it is discarded, or empty. keepalived runs its scripts side by side: the one begun last is right."""
        subject = said.kind, said.name
        if sender.began:
            if sender.began < self._process_began:
                return f"its sender (pid {sender.pid}) was started before the keepalived that runs now"
            other, word = self._told_by.get(subject, (Sender(0, 0), ""))
            if (other.began, other.pid) > (sender.began, sender.pid):
                return f"a notify that was started later (pid {other.pid}) said {word}"
            self._told_by[subject] = sender, said.state
        self._by_fifo = False
        self._keep([said])
        return ""

    def _keep(self, said: Iterable[KeepalivedSaid]) -> None:
        if not self._process:
            return
        for one in said:
            known = self._said.pop((one.kind, one.name), None)  # a group and its members: the order counts
            at = known.at if known and known.state == one.state else self._time()
            self._said[one.kind, one.name] = replace(one, at=at if one.at is None else one.at)
            self._forget_some()
            self._report(one)
        said_by = [[one.kind, one.name, one.state, one.at] for one in self._said.values()]
        self._memory.remember({"process": self._process, "by_fifo": self._by_fifo, "said": said_by})

    def _forget_some(self) -> None:
        while len(self._said) > MOST_SUBJECTS:
            del self._said[next((each for each in self._said if each not in self._followed), next(iter(self._said)))]

    def _said_by_this_one(self, state: dict[str, Any]) -> Iterable[KeepalivedSaid]:
        if state["process"] != self._process:
            return ()
        self._by_fifo = bool(state["by_fifo"])
        return [KeepalivedSaid(kind, name, word, True, float(at)) for kind, name, word, at in state["said"]]


def _parsed(lines: list[bytes], at: float | None = None) -> Iterator[KeepalivedSaid]:
    """`at`: now, for lines that had been waiting: they tell of changes since a predecessor of this daemon read."""
    for line in lines:
        if found := LINE.fullmatch(line.decode(errors="replace")):
            kind, name, state = found.groups()
            word = {"DELETED": "STOP", STILL_MASTER: "MASTER"}.get(state, state)
            began_at = None if state == STILL_MASTER else at
            yield KeepalivedSaid(kind, name, word, at is not None, began_at)  # type: ignore[arg-type]


def _latest(lines: list[bytes], now: float) -> Iterable[KeepalivedSaid]:
    """Of what had been waiting only the last of each subject counts, in the order in which those were said."""
    latest: dict[Subject, KeepalivedSaid] = {}
    for said in _parsed(lines, now):
        before = latest.pop((said.kind, said.name), said)
        latest[said.kind, said.name] = replace(said, at=before.at) if said.at is None else said
    return latest.values()
