"""Plays scenes, and shows or returns what came of them."""

import json
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from floatip.drill import files
from floatip.drill.report import Report
from floatip.lab import report as reports
from floatip.lab import shell
from floatip.lab.foresight import came_true
from floatip.lab.record import Record, RunOptions
from floatip.lab.run import Run
from floatip.lab.scenes import SCENES
from floatip.lab.screen import Feed, Screen
from floatip.lab.verdicts import Verdict, starts_in_time
from floatip.text import aligned


@dataclass(frozen=True, slots=True)
class Result:
    scene: str
    verdicts: list[Verdict]
    record: Record

    @property
    def holds(self) -> bool:
        return all(verdict.holds for verdict in self.verdicts)

    @property
    def notes(self) -> list[str]:
        torn, late = len(self.record.torn), self.record.seen.late_max
        notes = [f"open connections that the move of the traffic reset: {torn}"] if torn else []
        return [*notes, f"the observer sent each probe at most {late * 1000:.0f} ms late"]

    @property
    def report(self) -> Report:
        return reports.report(self.scene, SCENES[self.scene].about, self.record, self.verdicts, self.notes)

    def as_json(self) -> dict[str, Any]:
        record = self.record
        observed = record.seen.to_json()
        del observed["event"]
        return {
            "scene": self.scene,
            "holds": self.holds,
            "options": asdict(record.options),
            "detection_time": record.options.detection_time,
            "fault_at": record.fault_at,
            "start_to_first_route": record.start_to_first_route,
            "longest_outage": record.longest_outage,
            "findings": [asdict(verdict) for verdict in self.verdicts],
            "notes": self.notes,
            "foretold": [asdict(foresight) for foresight in record.foresights],
            "observed": observed,
            "torn": len(record.torn),
            "connections": record.connections.summary() if record.options.connections else None,
            "timeline": [asdict(event) for event in record.events],
            "routes": {
                host: [{"at": change.at, "next_hop": str(change.next_hop or "")} for change in changes]
                for host, changes in record.routes.items()
            },
        }


LOST = Path("/run")
"""The lab has a /run of its own."""


def check_report(path: Path, names: Sequence[str], runs: int) -> None:
    """That the reports can be written. Call it before the lab is entered."""
    if path.absolute().resolve().is_relative_to(LOST):
        raise files.CannotWrite(f"{path} is in {LOST}, of which the lab has its own", "give a file somewhere else")
    report_files(path, names, runs)


def play(
    names: Sequence[str], options: RunOptions, *, runs: int, as_json: bool, keep: bool, report: Path | None = None
) -> int:
    """0: every verdict holds, 1: not. `report`: see `report_files`."""
    screen = Screen(silent=as_json)
    paths = report_files(report, names, runs) if report else {}
    results = []
    for name in names:
        for number in range(1, runs + 1):
            count = f" ({number} of {runs})" if runs > 1 else ""
            results.append(play_once(name, options, screen, count=count, keep=keep, report=paths.get((name, number))))
    if as_json:
        json.dump([result.as_json() for result in results], sys.stdout)
        print()
    elif len(results) > 1:
        screen.say("\n" + table(results))
    return 0 if all(result.holds for result in results) else 1


def report_files(path: Path, names: Sequence[str], runs: int) -> dict[tuple[str, int], Path]:
    """By scene and run. Of one run it is `path`; of several, each has a file, as FILE-crash.html, FILE-crash-2.html.

    Raises Refusal, if one of them cannot be written.
    """
    alone = len(names) == 1 and runs == 1
    found = {}
    for name in names:
        for number in range(1, runs + 1):
            ending = f"-{name}" + (f"-{number}" if runs > 1 else "")
            found[name, number] = path if alone else path.with_name(f"{path.stem}{ending}{path.suffix}")
    for one in found.values():
        files.check(one)
    return found


def play_once(
    name: str,
    options: RunOptions,
    screen: Screen,
    *,
    count: str = "",
    keep: bool = False,
    report: Path | None = None,
) -> Result:
    scene = SCENES[name]
    screen.say(f"{name}{count}: {scene.about}", "bold")
    options = replace(
        options,
        election=scene.election,
        three=scene.three,
        shared_layer2=scene.shared_layer2,
        etcd=scene.etcd,
        exclusive=scene.exclusive,
        members=scene.members,
        last_joins=scene.last_joins,
        instances=scene.instances,
        connections=options.connections if scene.connections else 0,
        strict=scene.strict,
    )
    with Run(options) as run:
        feed = Feed(screen, run.record, str(run.network.directory))
        try:
            run.start()
            time.sleep(1)
            verdicts = scene.play(run)
        finally:
            feed.close()
        verdicts += came_true(name, run.record)
        if not (scene.shared_layer2 or scene.exclusive or scene.members):  # the last two wait for etcd first
            verdicts.append(starts_in_time(run.record))
        result = Result(name, verdicts, run.record)
        screen.say()
        screen.verdicts(result.verdicts, result.notes)
        if report:
            files.write(result.report, report)
            screen.say(f"  report  {report}", "dim", indent=10)
        failed = sum(not verdict.holds for verdict in result.verdicts)
        screen.say(
            f"{name}: {f'{failed} FAILED' if failed else 'as expected'}\n", "bold red" if failed else "bold green"
        )
        if keep:
            _keep(run, screen)
    return result


def _keep(run: Run, screen: Screen) -> None:
    run.network.faults.heal_all()
    shell.prepare(run)
    screen.say("the lab keeps running; for a shell, in another terminal:", "bold")
    screen.say("\n".join(f"  {command}" for command in shell.commands(run)))
    if run.etcd:
        screen.say("etcdctl finds etcd in each of them: etcdctl get --prefix /floatip/")
    screen.say("to rehearse a failover, in the shell of")
    screen.say("\n".join(f"  {line}" for line in shell.a_drill()))
    screen.say(f"  for a report that stays: --report {Path.cwd() / 'drill.html'}")
    screen.say("Ctrl-C ends the lab and every shell in it")
    try:
        signal.pause()
    except KeyboardInterrupt:
        return


def table(results: Sequence[Result]) -> str:
    rows = [("scene", "echoes lost", "requests lost", "longest outage", "as expected")]
    for result in results:
        seen = result.record.seen
        rows.append(
            (
                result.scene,
                f"{seen.lost('echo')} of {seen.sent('echo')}",
                f"{seen.lost('request')} of {seen.sent('request')}",
                f"{result.record.longest_outage * 1000:.0f} ms",
                "yes" if result.holds else "NO",
            )
        )
    return "\n".join(aligned(rows))
