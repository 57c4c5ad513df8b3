"""Every scene once on real daemons, as `floatip lab` plays it; its findings are the judgement and are printed.

Those that mostly wait are played one after the other while the tests of this directory before them run.
"""

import json

import pytest

from floatip.lab.scenes import SCENES
from tests.lab.conftest import Begun, play

WITH_BIRD = ("--route-server", "bird")
PATIENT = [
    *[(scene,) for scene in ("split", "crash-settled", "hang", "beside-check", "beside-hang", "beside-stop")],
    *[(scene, *options) for scene in ("return", "rs-cut", "rs-restart") for options in ((), WITH_BIRD)],
]
PLAYS = [
    *[(scene,) for scene in SCENES if (scene,) not in PATIENT],
    *[(scene, *WITH_BIRD) for scene in ("check", "stop", "kill")],
    ("crash", "--hold-time", "90"),
    ("crash-again", "--hold-time", "90", *WITH_BIRD),
    ("crash", "--advert-interval", "0.1"),
    *PATIENT,  # last: those that wait are played meanwhile
]


@pytest.mark.parametrize(
    "arguments",
    [pytest.param(each, marks=[pytest.mark.patient] if each in PATIENT else [], id=" ".join(each)) for each in PLAYS],
)
def test_the_scene_goes_as_expected(begun: Begun, arguments: tuple[str, ...]) -> None:
    played = begun[arguments].result() if arguments in begun else play(arguments)
    assert played.stdout, f"the lab did not play: {played.stderr}"
    (result,) = json.loads(played.stdout)
    findings = [f"{'ok ' if finding['holds'] else 'NOT'} {finding['text']}" for finding in result["findings"]]
    print(f"\n{' '.join(arguments)}:", *findings, sep="\n  ")
    assert result["holds"], "\n".join([*findings, *map(str, result["timeline"]), played.stderr])
    assert played.returncode == 0
