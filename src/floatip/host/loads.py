"""The control command `loads`: what each node carries and could carry, in short form, for `floatip rebalance`.

A letter for each instance and node: 50 nodes with 1,000 instances are 50 kB, where the status has 5 MB. The letters of
a node are made in one go, with the loop between two nodes.
"""

from collections.abc import Callable, Mapping
from functools import partial

from floatip.core import settings
from floatip.core.fleet import Fleet
from floatip.core.link import wire
from floatip.core.link.wire import InstanceFlag, InstanceState, NodeFlag
from floatip.core.node import Node
from floatip.core.orders import Refused
from floatip.core.refusals import Why
from floatip.host.ask import Record
from floatip.host.control import Command
from floatip.host.orders import refusal

CARRIES, TAKES_OVER, LEAVES, UNWELL, READY, NEITHER = "CTLUr-"
"""It is master, and the route servers know; they do not know yet; it is master and wants to leave; it is master and
could not become it again; it could take over; none of that.
"""
MASTERS = CARRIES + TAKES_OVER + LEAVES + UNWELL


class Loads:
    def __init__(self, node: Callable[[], Node], soon: Callable[[Callable[[], None]], object]) -> None:
        """`soon`: calls back when the loop has had its turn."""
        self._node, self._soon = node, soon
        self._letters: dict[str, str] = {}
        self.command = Command(lambda request, pid: self._answer(), "ask what each node carries", prepare=self._prepare)

    def _prepare(self, ready: Callable[[], None]) -> None:
        fleet = self._node().fleet
        names = [one.name for one in fleet.link.config.nodes] if fleet else []
        self._look(names, {}, ready)

    def _look(self, names: list[str], letters: dict[str, str], ready: Callable[[], None]) -> None:
        node = self._node()
        if not names or not node.fleet:
            self._letters = letters
            ready()
            return
        identities = [wire.identity(name) for name in _elected(node)]
        states = _states(node.fleet, names[0])
        letters[names[0]] = "".join(_letter(states.get(identity)) for identity in identities)
        self._soon(partial(self._look, names[1:], letters, ready))

    def _answer(self) -> Record:
        node = self._node()
        fleet = node.fleet
        if fleet is None:
            hint = "name all nodes in the configuration, each with a [[node]] table, then: systemctl reload floatip"
            return refusal(Refused("no [[node]] is configured: this node knows no others", hint, Why.NO_NODES))
        elected = _elected(node)
        letters = {name: some for name, some in self._letters.items() if len(some) == len(elected)}
        arbiter = node.config.arbiter
        return {
            "own": fleet.own.name,
            "paused": fleet.pause_reason,
            "etcd": arbiter is not None,
            "lease_time": arbiter.lease_time if arbiter else 0.0,
            "nodes": [
                [one.name, one.weight, _is_seasoned(fleet, one.name), letters.get(one.name, NEITHER * len(elected))]
                for one in fleet.link.config.nodes
            ],
            "instances": [
                [name, [*one.prefer], one.together, one.apart, one.exclusive] for name, one in elected.items()
            ],
        }


def _elected(node: Node) -> dict[str, settings.Nodes]:
    elections = ((name, one.config.election) for name, one in node.instances.items())
    return {name: election for name, election in elections if isinstance(election, settings.Nodes)}


def _states(fleet: Fleet, name: str) -> Mapping[bytes, InstanceState]:
    if name == fleet.own.name:
        return fleet.link.own_instances
    peer = fleet.link.peers.get(name)
    return peer.instances if peer and peer.alive and peer.node else {}


def _is_seasoned(fleet: Fleet, name: str) -> bool:
    """Whether route servers believe what it announces."""
    peer = fleet.link.peers.get(name)
    state = peer.node if peer else fleet.link.own_node
    return bool(state and state.flags & NodeFlag.SEASONED)


def _letter(state: InstanceState | None) -> str:
    if state is None:
        return NEITHER
    flags = int(state.flags)
    is_ready = flags & int(InstanceFlag.READY)
    if state.role is not wire.Role.MASTER:
        return READY if is_ready else NEITHER
    if flags & int(InstanceFlag.LEAVES):
        return LEAVES
    if not is_ready:
        return UNWELL
    return CARRIES if flags & int(InstanceFlag.ACKNOWLEDGED) else TAKES_OVER
