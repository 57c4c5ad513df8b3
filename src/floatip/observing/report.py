"""What `floatip observe` prints: lines of JSON for programs, or a line a second for people."""

import json
import math
import sys
import time
from typing import Any

from floatip.observing.summary import KINDS, PLURAL, Kind, Move, ProbeResult, Summary

FLUSH_INTERVAL = 0.025
STRIP_WIDTH = 50


class Lines:
    """To stdout in batches: a write for each of a thousand probes a second would cost slots."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.flushed_at = 0.0

    def flush(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if self.lines and (force or now - self.flushed_at >= FLUSH_INTERVAL):
            sys.stdout.write("\n".join(self.lines) + "\n")
            sys.stdout.flush()
            self.lines.clear()
            self.flushed_at = now


class JsonReport(Lines):
    def __init__(self, *, probes: bool) -> None:
        super().__init__()
        self.probes = probes

    def probe(self, probe: ProbeResult) -> None:
        if self.probes:
            self._write(probe.to_json())

    def move(self, move: Move) -> None:
        self._write({"event": "move", **move.to_json()})

    def settled(self, until: float) -> None:
        self.flush()

    def start(self, **what: object) -> None:
        self._write({"event": "start", **what})
        self.flush(force=True)

    def summary(self, summary: Summary) -> None:
        self._write(summary.to_json())
        self.flush(force=True)

    def _write(self, line: dict[str, Any]) -> None:
        self.lines.append(json.dumps(line, ensure_ascii=False))


class TextReport(Lines):
    """A line a second, once the fate of every probe of that second is known, then the moves in that second."""

    def __init__(self, started_at: float, interval: float) -> None:
        super().__init__()
        self.started_at = started_at
        self.wall_offset = time.time() - time.monotonic()
        self.width = max(1, min(STRIP_WIDTH, round(1 / interval)))
        fancy = sys.stdout.isatty() and sys.stdout.encoding.lower().startswith("utf")
        self.good, self.edge = ("·", "▏") if fancy else (".", "|")
        self.seconds: dict[int, list[ProbeResult]] = {}
        self.moves: list[Move] = []

    def start(self, **what: object) -> None:
        named, address, port, interval = (what[key] for key in ("name", "address", "port", "interval"))
        target = address if named == address else f"{named} ({address})"
        self.lines.append(f"probing {target} port {port} every {interval} s until Ctrl-C or the limit given")
        self.lines.append("each line is one second: time, node that answered, its probes (x: lost)")
        self.flush(force=True)

    def probe(self, probe: ProbeResult) -> None:
        self.seconds.setdefault(int(probe.at - self.started_at), []).append(probe)

    def move(self, move: Move) -> None:
        self.moves.append(move)

    def settled(self, until: float) -> None:
        """Every probe sent before `until` has been reported."""
        for second in sorted(self.seconds):
            if self.started_at + second + 1 > until:
                break
            self._write_second(second)
            self._write_moves(self.started_at + second + 1)
        self.flush()

    def _write_moves(self, until: float) -> None:
        for move in [move for move in self.moves if move.at < until]:
            self.moves.remove(move)
            self.lines.append(f"{self.clock(move.at)} moved {move.source} -> {move.destination}")

    def _write_second(self, second: int) -> None:
        """`16:58:24 haproxy1 |..xx......| lost 2 echoes, 2 requests (refused)`"""
        start = self.started_at + second
        summary = Summary.from_probes(self.seconds.pop(second))
        strip = [" "] * self.width
        for probe in summary.probes:
            place = min(self.width - 1, int((probe.at - start) * self.width))
            if strip[place] != "x":
                strip[place] = self.good if probe.ok else "x"
        who = " ".join(summary.answers()) or "-"
        lost = ", ".join(f"{summary.lost(kind)} {PLURAL[kind]}" for kind in KINDS)
        errors = ", ".join({**summary.errors("echo"), **summary.errors("request")})
        because = f" ({errors})" if errors else ""
        clock = self.clock(start).partition(".")[0]
        self.lines.append(f"{clock} {who} {self.edge}{''.join(strip)}{self.edge} lost {lost}{because}")

    def summary(self, summary: Summary) -> None:
        self.settled(math.inf)
        for kind in KINDS:
            if summary.sent(kind):
                self._write_kind(summary, kind)
        for move in summary.moves():
            self.lines.append(f"moved      {move.source} -> {move.destination} at {self.clock(move.at)}")
        if answers := summary.answers():
            self.lines.append("answered   " + ", ".join(f"{who} {count}" for who, count in answers.items()))
        if alike := summary.answered_alike:
            self.lines.append(f"note       all answers carry one name: {alike[0]!r} ({alike[1]})")
            self.lines.append("           If both nodes answer alike, moves are not seen: send X-Node")
        self.lines.append(f"observer   sent each probe at most {summary.late_max * 1000:.1f} ms late")
        self.flush(force=True)

    def _write_kind(self, summary: Summary, kind: Kind) -> None:
        lost = f"{summary.lost(kind)} lost{summary.errors_in_words(kind)}"
        line = f"{PLURAL[kind]:<10} {summary.sent(kind)} sent, {lost}"
        p50, p99 = summary.rtt(kind, 50), summary.rtt(kind, 99)
        if p50 is not None and p99 is not None:
            line += f", rtt p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms"
        self.lines.append(line)
        for window in summary.windows(kind):
            until = "the end" if window.next_good_at is None else self.clock(window.next_good_at)
            self.lines.append(
                f"  {window.lost} lost from {self.clock(window.first_lost_at)} to {until}, {window.ms:.0f} ms"
            )

    def clock(self, at: float) -> str:
        wall = at + self.wall_offset
        return time.strftime("%H:%M:%S", time.localtime(wall)) + f".{int(wall % 1 * 1000):03}"


Report = JsonReport | TextReport
