"""What the results of probes mean: what was lost and when, which node answered, and when that changed. Pure.

A service names its node by the header `X-Node` or `X-Served-By`, or by the first line of its answer. If the answer is
a page that begins like any other, `Server` must do, which often is the same on both nodes.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Self

Kind = Literal["echo", "request"]

KINDS: tuple[Kind, ...] = ("echo", "request")
PLURAL: dict[Kind, str] = {"echo": "echoes", "request": "requests"}
RESET = "reset"
TIMED_OUT = "timed out"
LONGEST_NAME = 64


NAMING_HEADERS = ("X-Node", "X-Served-By")
FIRST_LINE = "their first line"
MARKUP = (b"<!doctype", b"<html", b"<?xml")


@dataclass(frozen=True, slots=True)
class Answer:
    who: str | None = None
    error: str | None = None
    named_by: str = ""
    """The header that named the node, or `FIRST_LINE`; empty: nothing did."""


def read_http(data: bytes, ended: bool) -> Answer | None:
    """The answer, once there is enough of it; None: read on."""
    head, blank_line, body = data.partition(b"\r\n\r\n")
    if not blank_line:
        return Answer(error="closed without an answer") if ended else None
    status_line, *lines = head.split(b"\r\n")
    version, _, status = status_line.partition(b" ")
    if not version.startswith(b"HTTP/") or not status[:3].isdigit():
        return Answer(error="not HTTP")
    error = f"status {status[:3].decode()}" if status.startswith(b"5") else None
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    for header in NAMING_HEADERS:
        if name := _name(headers.get(header.lower().encode(), b"")):
            return Answer(name, error, header)
    length = headers.get(b"content-length", b"")
    whole = ended or b"\n" in body or (length.isdigit() and len(body) >= int(length[:9]))
    if not whole:
        return None
    line = b"" if body.lstrip()[:9].lower().startswith(MARKUP) else body
    for named_by, value in ((FIRST_LINE, line), ("Server", headers.get(b"server", b"")), (FIRST_LINE, body)):
        if name := _name(value):
            return Answer(name, error, named_by)
    return Answer(error=error)


def read_line(data: bytes, ended: bool) -> Answer | None:
    if b"\n" in data or (ended and data):
        return Answer(_name(data), named_by=FIRST_LINE if _name(data) else "")
    return Answer(error="closed without an answer") if ended else None


def _name(data: bytes) -> str | None:
    line = data.split(b"\n", 1)[0][: 4 * LONGEST_NAME].decode(errors="replace").strip()
    return "".join(character for character in line if character.isprintable())[:LONGEST_NAME] or None


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """`at` is when the probe was sent; `rtt` and `late` are in seconds. `rtt`: until the answer, or until it failed."""

    kind: Kind
    at: float
    ok: bool
    rtt: float | None = None
    who: str | None = None
    error: str | None = None
    late: float = 0.0
    named_by: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "event": "probe",
            "kind": self.kind,
            "at": self.at,
            "ok": self.ok,
            "rtt_ms": _ms(self.rtt),
            "who": self.who,
            "error": self.error,
            "late_ms": _ms(self.late),
            "named_by": self.named_by,
        }

    @classmethod
    def from_json(cls, line: dict[str, Any]) -> Self:
        rtt = None if line["rtt_ms"] is None else line["rtt_ms"] / 1000
        late, named_by = line["late_ms"] / 1000, line.get("named_by", "")
        return cls(line["kind"], line["at"], line["ok"], rtt, line["who"], line["error"], late, named_by)


@dataclass(frozen=True, slots=True)
class Window:
    """Probes of one kind lost in a row."""

    first_lost_at: float
    last_lost_at: float
    lost: int
    next_good_at: float | None
    """None: nothing was answered again before the end."""

    @property
    def ms(self) -> float:
        """From the first lost probe to the next good one; a lower bound when there is none."""
        until = self.last_lost_at if self.next_good_at is None else self.next_good_at
        return round((until - self.first_lost_at) * 1000, 3)

    def to_json(self) -> dict[str, Any]:
        return {"from": self.first_lost_at, "until": self.next_good_at, "ms": self.ms, "lost": self.lost}


@dataclass(frozen=True, slots=True)
class Move:
    """`at` is when the first request that the new node answered was sent."""

    at: float
    source: str
    destination: str

    def to_json(self) -> dict[str, Any]:
        return {"at": self.at, "from": self.source, "to": self.destination}


class MoveDetector:
    """Fed with one result after the other, it says when another node answers than before."""

    def __init__(self) -> None:
        self.latest: ProbeResult | None = None

    def follow(self, probe: ProbeResult) -> Move | None:
        before = self.latest
        if not (probe.ok and probe.who) or (before is not None and probe.at < before.at):
            return None
        self.latest = probe
        if before is None or before.who is None or before.who == probe.who:
            return None
        return Move(probe.at, before.who, probe.who)


@dataclass(frozen=True, slots=True)
class Summary:
    probes: tuple[ProbeResult, ...]
    """In the order in which they were sent."""

    @classmethod
    def from_probes(cls, probes: Iterable[ProbeResult]) -> Self:
        return cls(tuple(sorted(probes, key=lambda probe: probe.at)))

    def of(self, kind: Kind) -> list[ProbeResult]:
        return [probe for probe in self.probes if probe.kind == kind]

    def sent(self, kind: Kind) -> int:
        return len(self.of(kind))

    def lost(self, kind: Kind) -> int:
        return sum(not probe.ok for probe in self.of(kind))

    def windows(self, kind: Kind) -> list[Window]:
        found: list[Window] = []
        row: list[ProbeResult] = []
        for probe in self.of(kind):
            if not probe.ok:
                row.append(probe)
            elif row:
                found.append(Window(row[0].at, row[-1].at, len(row), probe.at))
                row = []
        if row:
            found.append(Window(row[0].at, row[-1].at, len(row), None))
        return found

    def moves(self) -> list[Move]:
        detector = MoveDetector()
        return [move for probe in self.probes if (move := detector.follow(probe))]

    def between(self, after: float, before: float = math.inf) -> "Summary":
        """Of the probes sent in `after <= at < before`."""
        return Summary(tuple(probe for probe in self.probes if after <= probe.at < before))

    @property
    def answered_alike(self) -> tuple[str, str] | None:
        """The one name in all answers and what gave it, where a second node might well give the same; else None."""
        named = {(probe.who, probe.named_by) for probe in self.probes if probe.ok and probe.who}
        (who, named_by) = next(iter(named)) if len(named) == 1 else (None, "")
        return (who, named_by) if who and named_by not in NAMING_HEADERS else None

    def answers(self) -> dict[str, int]:
        return dict(Counter(probe.who for probe in self.probes if probe.ok and probe.who))

    def errors(self, kind: Kind) -> dict[str, int]:
        return dict(Counter(probe.error or "unknown" for probe in self.of(kind) if not probe.ok))

    def errors_in_words(self, kind: Kind) -> str:
        """As ` (2 refused, 1 reset)`; empty: there are none."""
        errors = ", ".join(f"{number} {error}" for error, number in self.errors(kind).items())
        return f" ({errors})" if errors else ""

    def rtt(self, kind: Kind, percent: float) -> float | None:
        """The nearest-rank percentile, in seconds."""
        rtts = sorted(probe.rtt for probe in self.of(kind) if probe.ok and probe.rtt is not None)
        return rtts[max(0, math.ceil(len(rtts) * percent / 100) - 1)] if rtts else None

    @property
    def late_max(self) -> float:
        return max((probe.late for probe in self.probes), default=0.0)

    def to_json(self) -> dict[str, Any]:
        return {
            "event": "summary",
            "sent": {kind: self.sent(kind) for kind in KINDS},
            "lost": {kind: self.lost(kind) for kind in KINDS},
            "errors": {kind: self.errors(kind) for kind in KINDS},
            "windows": {kind: [window.to_json() for window in self.windows(kind)] for kind in KINDS},
            "moves": [move.to_json() for move in self.moves()],
            "answered": self.answers(),
            "rtt_ms": {kind: {f"p{p}": _ms(self.rtt(kind, p)) for p in (50, 99)} for kind in KINDS},
            "late_max_ms": _ms(self.late_max),
        }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
