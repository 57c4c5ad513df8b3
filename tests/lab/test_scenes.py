"""Every scene once on real daemons, as `floatip lab` plays it; its findings are the judgement and are printed."""

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from floatip.drill.files import read
from floatip.drill.html import to_html
from floatip.lab.report import TORN
from floatip.lab.scenes import SCENES
from floatip.observing.summary import KINDS, Summary
from tests.lab.moving import DELAYED, TRIES

WITH_BIRD = ("--route-server", "bird")
LONG = {"vrrp-crash-settled", "vrrp-split", "vrrp-return", "vrrp-hang"}
"""Not played here: they differ from the nodes' scenes only in who elects, and the simulation plays that."""
WITH_CONNECTIONS = {name for name, scene in SCENES.items() if scene.connections}
"""Played with fewer connections than by default, and not all of them: `bench/second_chance.py` has the others."""
PLAYS = [
    *[(scene,) for scene in SCENES if scene not in LONG | WITH_CONNECTIONS],
    ("connections-handover", "--connections", "100", "--delay", "20"),
    *[(scene, "--second-chance", "on", "--connections", "50") for scene in ("connections-stop", "connections-strict")],
    ("connections-handover", "--second-chance", "on", "--connections", "50", "--answers", "auto"),
    *[(scene, *WITH_BIRD) for scene in ("check", "stop", "kill", "return", "rs-cut", "rs-restart")],
    *[(scene, *WITH_BIRD) for scene in ("etcd-cut-exclusive", "carrier-and-etcd-leader-die")],
    ("crash", "--hold-time", "90"),
    ("crash-again", "--hold-time", "90", *WITH_BIRD),
    *[(scene, "--advert-interval", "0.1") for scene in ("vrrp-crash", "vlan-crash")],
]
TIMEOUT = 240.0


@pytest.mark.parametrize("arguments", PLAYS, ids=" ".join)
def test_the_scene_goes_as_expected(arguments: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    command = [sys.executable, "-m", "floatip", "lab", *arguments, "--json", "--report", str(file)]
    for left in reversed(range(TRIES if "--second-chance" in arguments else 1)):
        played = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        assert played.stdout, f"the lab did not play: {played.stderr}"
        (result,) = json.loads(played.stdout)
        findings = [f"{'ok ' if finding['holds'] else 'NOT'} {finding['text']}" for finding in result["findings"]]
        print(f"\n{' '.join(arguments)}:", *findings, sep="\n  ")
        if result["holds"] or not (left and without_cpu(findings) > DELAYED):
            break
        print("this machine did not run all programs, and a node without a CPU keeps no connection: once more")
    assert result["holds"], "\n".join([*findings, *map(str, result["timeline"]), str(result["routes"]), played.stderr])
    assert played.returncode == 0
    tells_the_same(file, result)


def without_cpu(findings: Iterable[str]) -> float:
    """Seconds, as far as a limit was extended by them."""
    return max(
        (float(found) for text in findings for found in re.findall(r"([\d.]+) s without a CPU", text)), default=0
    )


def tells_the_same(file: Path, result: dict[str, Any]) -> None:
    """The report of a scene, and what `--json` prints of it."""
    report = read(file)
    assert [(one.holds, one.text) for one in report.verdict] == [(f["holds"], f["text"]) for f in result["findings"]]
    assert report.before
    assert [one for one in report.before if not one.holds] == []
    assert [one.step for one in report.done].count("fault") == 1
    (probes,) = report.probes
    seen = Summary(tuple(probe for probe in probes.results if probe.error != TORN))
    for kind in KINDS:
        assert (seen.sent(kind), seen.lost(kind)) == tuple(result["observed"][each][kind] for each in ("sent", "lost"))
    roles = [event for event in result["timeline"] if event["what"] == "role" and event["at"] > result["fault_at"]]
    assert sum(one.what == "role" and one.at > 0 for one in report.seen) == len(roles)
    assert {route.host for route in report.routes} == result["routes"].keys()
    ElementTree.fromstring(to_html(report).removeprefix("<!DOCTYPE html>"))
