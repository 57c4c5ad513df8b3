"""Every scene once on real daemons, as `floatip lab` plays it; its findings are the judgement and are printed."""

import json
import subprocess
import sys

import pytest

from floatip.lab.scenes import SCENES

WITH_BIRD = ("--route-server", "bird")
LONG = {"vrrp-crash-settled", "vrrp-split", "vrrp-return", "vrrp-hang"}
"""Not played here: they differ from the nodes' scenes only in who elects, and the simulation plays that."""
PLAYS = [
    *[(scene,) for scene in SCENES if scene not in LONG],
    *[(scene, *WITH_BIRD) for scene in ("check", "stop", "kill", "return", "rs-cut", "rs-restart")],
    ("crash", "--hold-time", "90"),
    ("crash-again", "--hold-time", "90", *WITH_BIRD),
    *[(scene, "--advert-interval", "0.1") for scene in ("vrrp-crash", "vlan-crash")],
]
TIMEOUT = 240.0


@pytest.mark.parametrize("arguments", PLAYS, ids=" ".join)
def test_the_scene_goes_as_expected(arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "floatip", "lab", *arguments, "--json"]
    played = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert played.stdout, f"the lab did not play: {played.stderr}"
    (result,) = json.loads(played.stdout)
    findings = [f"{'ok ' if finding['holds'] else 'NOT'} {finding['text']}" for finding in result["findings"]]
    print(f"\n{' '.join(arguments)}:", *findings, sep="\n  ")
    assert result["holds"], "\n".join([*findings, *map(str, result["timeline"]), str(result["routes"]), played.stderr])
    assert played.returncode == 0
