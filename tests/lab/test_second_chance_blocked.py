"""A tunnel that is blocked at a move, with real daemons: the address moves, and open connections are reset.

None hangs, new ones lose nothing, and the daemons say why.
"""

from collections.abc import Iterator

import pytest

from floatip.second_chance.tunnel import DEVICE
from tests.lab.moving import Pair, moving
from tests.lab.obstacles import (
    BOTH_WAYS,
    NO_FRAGMENTS,
    TO_CARRIER,
    TO_KEEPER,
    TO_TUNNEL,
    Obstacle,
    Way,
    chain,
    filtered,
    play,
)

LOADS = f"{TO_TUNNEL} @th,224,16 {{ 0x0800, 0x86dd }}"
"""Packets in the tunnel that are no frames of the daemons' own: behind 8 octets of UDP and 8 of VXLAN."""
NO_LOADS = filtered("router", chain("forward", f"{LOADS} drop"))
NO_LOADS_TO_KEEPER = filtered("router", chain("forward", f'oifname "KEEPER" {LOADS} drop'))
NO_LOADS_TO_CARRIER = filtered("router", chain("forward", f'oifname "CARRIER" {LOADS} drop'))
DEAF_KEEPER = filtered("keeper", chain("input", f"{TO_TUNNEL} drop"))
FILTERING_KEEPER = filtered("keeper", chain("input", f'iifname "{DEVICE}" drop'))


def known(name: str, before: Obstacle, why: str) -> Way:
    """Before the move, so that it waits for nothing."""
    return Way(name, before=before, status=why, news="not moved", why=why, closes=True)


WAYS = [
    known("closed to the keeper", TO_KEEPER, "nothing comes from"),
    known("closed to the carrier", TO_CARRIER, "hears nothing from this node"),
    known("closed both ways", BOTH_WAYS, "nothing comes from"),
    known("closed by the keeper's firewall", DEAF_KEEPER, "nothing comes from"),
    known("fragments are dropped", NO_FRAGMENTS, "large packets"),
    Way("closed a moment before", opened=BOTH_WAYS, news="not moved", why="did not ask for", closes=True),
    Way("open for frames only", opened=NO_LOADS, news="cut off", why="accepts none"),
    Way("open for frames only to the keeper", opened=NO_LOADS_TO_KEEPER, news="cut off", why="accepts none"),
    Way(
        "open for frames only to the carrier",
        opened=NO_LOADS_TO_CARRIER,
        news="cut off",
        why="no answers of",
        within=3.3,
    ),
    Way(
        "the keeper's firewall drops what comes by the tunnel",
        before=FILTERING_KEEPER,
        news="cut off",
        why="accepts none",
    ),
]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with moving() as pair:
        yield pair


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_connections_are_reset_at_the_move(pair: Pair, way: Way) -> None:
    play(pair, way)
