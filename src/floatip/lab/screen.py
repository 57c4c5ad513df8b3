"""What a person sees of a run, at 80 columns: one line an event, one line a second of answers, in order of time.

Times are seconds since the run began. Lines come two seconds late, because a probe is lost only after its timeout.
Colour and bold appear on a terminal only (not with NO_COLOR, TERM=dumb or in a pipe).
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from textwrap import wrap
from threading import Event, Thread

from floatip.lab.network import THREE_NODES
from floatip.lab.record import SCENE, Record, RunEvent
from floatip.lab.verdicts import Verdict

WIDTH = 80
STRIP_WIDTH = 50
MARKS = {"haproxy1": "1", "haproxy2": "2", "haproxy4": "4"}
LEGEND = (
    "a line is a second, a character 20 ms: 1 haproxy1 answers,",
    "2 haproxy2 answers, x a probe is lost; repeats are left out",
)
LEGEND_OF_THREE = LEGEND[0], "2 haproxy2, 4 haproxy4, x a probe is lost; repeats left out"
UNTOLD = ("session", "link", "address")
LAG = 1.3
"""Seconds after which the fate of a probe is known."""
SAME_CAUSE = 0.02
"""Seconds within which what one node says has one cause."""
REPEAT_AFTER = 10.0
STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32"}


class Screen:
    def __init__(self, *, silent: bool = False) -> None:
        self._is_silent = silent
        self._has_styles = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def say(self, text: str = "", style: str = "", indent: int = 0) -> None:
        """`indent`: where lines go on that are too long for the screen."""
        for line in text.split("\n"):
            for part in wrap(line, WIDTH, subsequent_indent=" " * indent) or [""]:
                self._print(self._styled(part, style))

    def verdicts(self, verdicts: Iterable[Verdict], notes: Iterable[str]) -> None:
        for verdict in verdicts:
            word, style = ("ok", "green") if verdict.holds else ("FAILED", "bold red")
            first, *others = wrap(verdict.text, WIDTH - 10)
            self._print(f"  {self._styled(f'{word:6}', style)}  {first}")
            for line in others:
                self._print(" " * 10 + line)
        for note in notes:
            self.say(f"  note    {note}", "dim", indent=10)

    def _styled(self, text: str, style: str) -> str:
        codes = ";".join(STYLES[word] for word in style.split())
        return f"\033[{codes}m{text}\033[0m" if text and codes and self._has_styles else text

    def _print(self, line: str) -> None:
        if not self._is_silent:
            print(line, flush=True)


class Feed:
    """Prints a record while it grows."""

    def __init__(self, screen: Screen, record: Record, directory: str) -> None:
        self._screen = screen
        self._record = record
        names = {str(node.ipv4.ip): node.name for node in THREE_NODES if node.ipv4}
        self._short = {f"{directory}/": "", **names}
        self._instances: set[str] = set()
        self._told = 0.0
        """All events up to this instant are printed."""
        self._strip_at: float | None = None
        """The first second that is not printed."""
        self._last_strip = ""
        self._last_strip_at = 0.0
        self._closing = Event()
        self._thread = Thread(target=self._follow, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Print the rest."""
        self._closing.set()
        self._thread.join()
        self._print(float("inf"))

    def _follow(self) -> None:
        while not self._closing.wait(0.2):
            self._print(time.monotonic() - LAG)

    def _print(self, until: float) -> None:
        for _, text, style in sorted(self._lines(until), key=lambda line: line[0]):
            self._screen.say(text, style, indent=18)

    def _lines(self, until: float) -> Iterator[tuple[float, str, str]]:
        probes = self._record.probes
        if self._strip_at is None and probes and probes[0].at < until:
            self._strip_at = probes[0].at
            for line in LEGEND_OF_THREE if self._record.options.three else LEGEND:
                yield self._strip_at, f"{'':18}{line}", "dim"
        if self._strip_at is not None:
            end = min(until, probes[-1].at + 1)
            while self._strip_at + 1 <= end:
                yield from self._strip(self._strip_at)
                self._strip_at += 1
            until = until if self._closing.is_set() else self._strip_at  # a second comes before its events
        events = [event for event in list(self._record.events) if self._told < event.at <= until]
        self._told = max(self._told, until)
        self._instances |= {event.name for event in events if event.what == "role"}
        for group in group_by_cause(events):
            text = describe(group, several=len(self._instances) > 1)
            for long, short in self._short.items():
                text = text.replace(long, short)
            yield group[0].at, f"{self._clock(group[0].at)}  {text}", "bold" if group[0].host == SCENE else ""

    def _strip(self, begin: float) -> Iterator[tuple[float, str, str]]:
        strip = draw_strip(self._record, begin)
        if strip != self._last_strip or begin - self._last_strip_at >= REPEAT_AFTER:
            self._last_strip, self._last_strip_at = strip, begin
            yield begin, f"{self._clock(begin)}  {'':10}{strip}", "red" if "x" in strip else "dim"

    def _clock(self, at: float) -> str:
        return f"{at - self._record.started_at:6.2f}"


def draw_strip(record: Record, begin: float) -> str:
    slices = [" "] * STRIP_WIDTH
    for probe in list(record.probes):
        index = int((probe.at - begin) * STRIP_WIDTH)
        if begin <= probe.at and index < STRIP_WIDTH and slices[index] != "x":
            slices[index] = "x" if not probe.ok else MARKS.get(probe.who or "", slices[index])
    return "".join(slices).rstrip()


def group_by_cause(events: Iterable[RunEvent]) -> list[list[RunEvent]]:
    """What one node says at one instant belongs together: check, health, role and rank."""
    groups: list[list[RunEvent]] = []
    for event in sorted(events, key=lambda event: event.at):
        if event.what in UNTOLD:
            continue
        mine = next((group for group in reversed(groups) if group[0].host == event.host), None)
        if mine and event.host != SCENE and event.at - mine[0].at < SAME_CAUSE and not _has_told(mine, event.what):
            mine.append(event)
        else:
            groups.append([event])
    return groups


def _has_told(group: list[RunEvent], what: str) -> bool:
    """Another word of the same thing has a reason of its own, which the group's first event does not give."""
    return any(event.what == what for event in group)


def describe(group: list[RunEvent], *, several: bool = False) -> str:
    """The node, what changed on it, and the reason of the first change, which the others follow from.

    `several`: there are several instances, so each is named.
    """
    first = group[0]
    if first.host == SCENE:
        return f"-- {first.reason}"
    changes = {event.what: event for event in group}
    if len(changes) > 1:
        changes.pop("health", None)  # it follows from the check, and the role from it
    words = [_word(event, several=several) for event in changes.values()]
    return f"{first.host}  {', '.join(words)}: {first.reason}"


def _word(event: RunEvent, *, several: bool) -> str:
    match event.what:
        case "role":
            return f"{event.name} {event.value.upper()}" if several else event.value.upper()
        case "rank" | "health" if several:
            return f"{event.what} of {event.name} {event.value}"
        case "rank" | "health" | "etcd" | "configuration":
            return f"{event.what} {event.value}"
        case "owner":
            return f"owner of {event.name} {event.value}"
        case "empty":
            return f"{event.name} is empty"
        case _:
            return f"{event.what} {event.name} {event.value}"
