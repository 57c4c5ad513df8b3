"""Who is master by what the nodes say: what no story of the simulation comes by."""

from dataclasses import replace
from ipaddress import IPv4Address

from floatip.core.election.elector import Claim, Obstacles, Others, Role
from floatip.core.election.nodes import UNTOLD_TIME, NodesElector
from floatip.core.settings import Node, Nodes

US, OTHER = Node("us", IPv4Address("192.0.2.1")), Node("other", IPv4Address("192.0.2.2"))
NOBODY = Others(
    claims=(),
    untold=False,
    is_ready=True,
    place=0,
    is_best=True,
    is_called=False,
    own=US,
    preference=0,
    detection_time=0.3,
    clock_ahead=1e9,
)
CLAIM = Claim("other", OTHER.address, 1000, ready=True, acknowledged=True, leaves=False, successor="")


def started(around: Others) -> NodesElector:
    """And the time of listening is over."""
    elector = NodesElector("web", Nodes(), 0.0)
    elector.hear(around, 0.0)
    elector.constrain(Obstacles(), 0.0)
    elector.tick(0.3)
    return elector


def test_a_node_that_lives_and_has_not_said_what_it_carries_is_waited_for() -> None:
    elector = started(replace(NOBODY, untold=True))
    assert (elector.role, elector.deadline) == (Role.BACKUP, 0.3 + UNTOLD_TIME)
    elector.hear(replace(NOBODY, claims=(CLAIM,)), 0.9)
    elector.tick(2.0)
    assert (elector.role, elector.master) == (Role.BACKUP, OTHER.address)


def test_but_not_for_ever() -> None:
    elector = started(replace(NOBODY, untold=True))
    elector.tick(0.3 + UNTOLD_TIME)
    assert elector.role is Role.MASTER


def test_and_no_longer_than_it_takes() -> None:
    elector = started(replace(NOBODY, untold=True))
    elector.hear(NOBODY, 0.5)
    assert elector.role is Role.MASTER
