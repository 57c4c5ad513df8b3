"""floatip, keepalived 2.2.7 and FRR's vrrpd as routers of one virtual router: each takes the others for its own kind.

Each play has a network of its own, and mostly waits; so many play at once. What is asserted is who is master and that
nobody else is, after each thing that happens. What it costs in milliseconds is measured by `python -m bench interop`.
"""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.lab.vrrp.kinds import Kind
from tests.lab.vrrp.plays import Play

AT_ONCE = 12
ENDS_WITHIN = 600.0
OURS, THEIRS, FRR, CONVERTED = "floatip", "keepalived", "frr", "converted"
BOTH_WAYS = ((OURS, THEIRS), (THEIRS, OURS))

V2, V3 = Kind("version 2", version=2, interval=1, begins_as_master=True), Kind("version 3")
SLOW = [
    V2,
    Kind("version 2 with a password", version=2, interval=1, password="twenty-characters-000", multicast=False),
    Kind("version 2 with a weight", version=2, interval=1, check="weight"),
]
QUICK = [
    V3,
    Kind("unicast", multicast=False),
    Kind("10 ms", interval=0.01),
    Kind("nopreempt", preempt=False, check="fault"),
    Kind("preempt_delay", preempt_delay=2),
    Kind("equal priorities", equal=True),
    Kind("owner", owner=True),
    Kind("a check that is a fault", check="fault", multicast=False),
    Kind("a weight", check="weight"),
    Kind("sync group", groups=2, check="fault"),
    Kind("sync group with a weight", groups=2, check="weight"),
    Kind("IPv6", family=6),
    Kind("IPv6 unicast", family=6, multicast=False),
]
"""After those that take long."""
MIXED = [
    Play(V2, (FRR, OURS)),
    Play(V3, (OURS, FRR)),
    Play(V3, (FRR, OURS)),
    Play(Kind("IPv6", family=6), (OURS, FRR)),
    Play(Kind("IPv6", family=6), (FRR, OURS)),
    Play(Kind("three", hosts=("r1", "r2", "r3")), (THEIRS, OURS, FRR)),
    Play(Kind("three", hosts=("r1", "r2", "r3")), (OURS, FRR, THEIRS)),
    Play(Kind("three with unicast", hosts=("r1", "r2", "r3"), multicast=False, check="weight"), (OURS, THEIRS, OURS)),
]
CONVERTS = [
    Play(Kind("converted, version 2", version=2, interval=1, password="secret"), (THEIRS, CONVERTED)),
    Play(Kind("converted, sync group", groups=2, check="weight"), (CONVERTED, THEIRS)),
    Play(Kind("converted, IPv6", family=6, check="fault"), (THEIRS, CONVERTED)),
]
PLAYS = [*(Play(kind, programs) for kind in (*SLOW, *QUICK) for programs in BOTH_WAYS), *MIXED, *CONVERTS]


@pytest.fixture(scope="module")
def ends(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[Play]]]:
    """Of all plays that are wanted; they begin together."""
    assert os.geteuid() == 0, "the lab's tests need root: sudo .venv/bin/python -m pytest tests/lab"
    chosen = [item.callspec.params["play"] for item in request.session.items if item.path == request.path]  # type: ignore[attr-defined]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {play.title: pool.submit(play.run) for play in chosen}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("play", PLAYS, ids=lambda play: play.title)
def test_exactly_one_router_is_master_and_it_is_the_right_one(play: Play, ends: Mapping[str, Future[Play]]) -> None:
    steps = ends[play.title].result(ENDS_WITHIN).steps
    for step in steps:
        print(f"{step.name:18} {step.leaves:10} -> {step.takes:10} {1000 * step.took:6.0f} ms", end="")
        print(f", nobody {1000 * step.gap:5.0f} ms, two {1000 * step.overlap:5.0f} ms")
    took = {step.name: step.took for step in steps}
    if play.kind.interval == 1:  # shorter ones are shorter than a pause of this machine
        assert took["stop"] < 3 * play.kind.interval, "the priority 0 was not understood"
    if play.kind.interval == 1 and play.kind.check == "weight" and OURS in play.programs[1:]:
        assert took["check fails"] < 3 * play.kind.interval, "floatip waited for a master that had become worse"
    if play.kind.preempt_delay:
        assert all(step.took >= play.kind.preempt_delay for step in steps if step.name == "return")
