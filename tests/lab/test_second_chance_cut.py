"""A tunnel that is blocked after a move, with real daemons: the connections that went on are reset soon.

None hangs, new ones lose nothing, and the daemons say why.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from floatip.second_chance.tunnel import DEVICE
from tests.lab.moving import REPEATED_WITHIN, Pair, moving
from tests.lab.obstacles import BOTH_WAYS, NO_FRAGMENTS, TO_CARRIER, TO_KEEPER, Obstacle, Way, ip, play

SLOWLY = 3.2
"""Seconds after a move at which lists are no longer exchanged often."""


@contextmanager
def no_device_on_carrier(pair: Pair, keeper: str, carrier: str) -> Iterator[None]:
    ip(pair, carrier, f"link delete {DEVICE}")
    yield


def late(name: str, after: Obstacle, why: str, after_for: float = SLOWLY) -> Way:
    """After the move."""
    return Way(name, after=after, after_for=after_for, news="cut off", why=why, within=REPEATED_WITHIN, closes=True)


WAYS = [
    late("closed both ways after the move", BOTH_WAYS, "has said nothing through the tunnel"),
    late("closed to the keeper after the move", TO_KEEPER, "accepts none|has said nothing"),
    late("closed to the carrier after the move", TO_CARRIER, "has said nothing through the tunnel"),
    late("closed both ways as soon as it has moved", BOTH_WAYS, "has said nothing through the tunnel", after_for=0.0),
    late("fragments are dropped after the move", NO_FRAGMENTS, "large packets"),
    Way(
        "the carrier's tunnel is deleted",
        after=no_device_on_carrier,
        news="cut off",
        why="the device floatip-sc of the tunnel was deleted or set down",
    ),
]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with moving() as pair:
        yield pair


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_connections_are_reset_soon(pair: Pair, way: Way) -> None:
    play(pair, way)
