"""Plays scenes and tells them: what happens, while it happens; then the timeline with its reasons; then findings."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from threading import Event, Thread
from typing import Any

from floatip.lab import beside, scenes
from floatip.lab.findings import Finding, allowance, connections_torn
from floatip.lab.stage import Happening, Options, Record, Stage
from floatip.lab.summary import KINDS, Summary

SCENES = scenes.SCENES | beside.SCENES
STRIP_WIDTH = 50
MARKS = {"haproxy1": "1", "haproxy2": "2"}


@dataclass(frozen=True, slots=True)
class Result:
    scene: str
    fault_at: float
    findings: list[Finding]
    record: Record
    seen: Summary

    @property
    def holds(self) -> bool:
        return all(finding.holds for finding in self.findings)

    @property
    def longest_outage(self) -> float:
        """Seconds."""
        return max((window.ms / 1000 for kind in KINDS for window in self.seen.windows(kind)), default=0.0)

    def as_json(self) -> dict[str, Any]:
        summary = self.seen.to_json()
        del summary["event"]
        return {
            "scene": self.scene,
            "holds": self.holds,
            "options": asdict(self.record.options),
            "master_down_interval": self.record.options.master_down_interval,
            "fault_at": self.fault_at,
            "start_to_first_route": self.record.start_to_first_route,
            "longest_outage": self.longest_outage,
            "findings": [asdict(finding) for finding in self.findings],
            "observed": summary,
            "timeline": [asdict(happening) for happening in self.record.happenings],
            "routes": {
                host: [{"at": move.at, "next_hop": str(move.next_hop or "")} for move in moves]
                for host, moves in self.record.moves.items()
            },
        }


class Teller:
    """Prints what happens, with the seconds since the curtain rose. Silent when data is wanted."""

    def __init__(self, silent: bool) -> None:
        self._silent = silent
        self._stage: Stage | None = None
        self._closed = Event()
        self.results: list[Result] = []

    def say(self, text: str) -> None:
        if not self._silent:
            print(text, flush=True)

    def happened(self, happening: Happening) -> None:
        if happening.what not in ("session", "link", "address"):
            self.say(line_of(happening, self._stage.record.started_at if self._stage else happening.at))

    def follow(self, stage: Stage) -> None:
        self._stage = stage
        self._closed.clear()
        Thread(target=self._strips, args=(stage,), daemon=True).start()

    def leave(self) -> None:
        self._closed.set()

    def _strips(self, stage: Stage) -> None:
        """One line a second: who answered, in slices of 20 ms; x: something was lost in the slice."""
        begin = time.monotonic()
        while not self._closed.wait(0.2):
            if not stage.record.probes:
                begin = time.monotonic()
            elif time.monotonic() > begin + 2.2:  # a lost probe is known after its timeout of one second
                self.say(f"{begin - stage.record.started_at:8.2f}  {strip(stage.record, begin)}")
                begin += 1


def strip(record: Record, begin: float) -> str:
    slices = [" "] * STRIP_WIDTH
    for probe in list(record.probes):
        index = int((probe.at - begin) * STRIP_WIDTH)
        if begin <= probe.at and index < STRIP_WIDTH and slices[index] != "x":
            slices[index] = "x" if not probe.ok else MARKS.get(probe.who or "", slices[index])
    return "".join(slices)


def line_of(happening: Happening, since: float) -> str:
    at = f"{happening.at - since:8.2f}"
    if happening.host == "scene":
        return f"{at}  -- {happening.reason}"
    name = "" if happening.what in ("role", "rank", "health") else f" {happening.name}"
    return f"{at}  {happening.host:9} {happening.what}{name} {happening.value}: {happening.reason}"


def play(names: Sequence[str], options: Options, *, runs: int, as_json: bool, keep: bool) -> int:
    teller = Teller(silent=as_json)
    for name in names:
        for run in range(runs):
            count = f" ({run + 1} of {runs})" if runs > 1 else ""
            teller.say(f"\n{name}: {SCENES[name].about}{count}\n")
            result = play_once(name, options, teller, keep=keep)
            teller.results.append(result)
            if not keep:  # else it was told while the lab still stood
                teller.say(report(result))
    if as_json:
        json.dump([result.as_json() for result in teller.results], sys.stdout)
        print()
    elif len(teller.results) > 1:
        teller.say("\n" + table(teller.results))
    return 0 if all(result.holds for result in teller.results) else 1


def play_once(name: str, options: Options, teller: Teller, *, keep: bool = False) -> Result:
    scene = SCENES[name]
    with Stage(replace(options, keepalived=scene.beside_keepalived), teller.happened) as stage:
        teller.follow(stage)
        stage.start()
        teller.say("           1: haproxy1 answers, 2: haproxy2 answers, x: something is lost")
        time.sleep(1)
        plot = scene.play(stage)
        stage.finish()
        teller.leave()
        record = stage.record
        torn = connections_torn(record)
        seen = Summary.from_probes(probe for probe in record.probes if probe not in torn)
        judged = plot.judge(record, seen)
        judged.append(Finding(True, f"{len(torn)} connections that were open when the traffic moved were reset"))
        began, first = record.started_first_at, record.start_to_first_route
        held_up = max(record.held_up(began, began + first), record.waited_for_cpu)
        start = f"first route at a route server {first:.2f} s after the start of the daemon (< 1{allowance(held_up)})"
        judged.append(Finding(first < 1 + held_up, start))
        judged.append(Finding(True, f"the observer sent each probe within {seen.late_max * 1000:.0f} ms of its time"))
        result = Result(name, plot.fault_at, judged, record, seen)
        if keep:
            _keep(stage, teller, result)
    return result


def _keep(stage: Stage, teller: Teller, result: Result) -> None:
    teller.say(report(result))
    stage.network.heal_all()
    for host in ("haproxy1", "haproxy2", "haproxy3", "router", "rs1"):
        teller.say(stage.network.shell_hint(host))
    teller.say("the lab stands until Ctrl-C")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return


def report(result: Result) -> str:
    lines = ["", f"timeline of {result.scene}, seconds from the fault"]
    for happening in sorted(result.record.happenings, key=lambda happening: happening.at):
        lines.append(line_of(happening, result.fault_at))
    lines += ["", "found"]
    lines += [f"  {'ok ' if finding.holds else 'NOT'}  {finding.text}" for finding in result.findings]
    return "\n".join(lines)


def table(results: Sequence[Result]) -> str:
    rows = [("scene", "echoes lost", "requests lost", "longest outage", "as expected")]
    for result in results:
        rows.append(
            (
                result.scene,
                f"{result.seen.lost('echo')} of {result.seen.sent('echo')}",
                f"{result.seen.lost('request')} of {result.seen.sent('request')}",
                f"{result.longest_outage * 1000:.0f} ms",
                "yes" if result.holds else "NO",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
