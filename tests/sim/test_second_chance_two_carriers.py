"""A node of three is drained: its two instances go to two nodes, and it keeps connections for both."""

from ipaddress import IPv4Address

import pytest

from floatip.core.second_chance.flow import packed_address
from floatip.core.second_chance.terms import Phase, Wish
from tests.flows import flow
from tests.sim.second_chance_world import FIRST_RETRY, PATH, RST, Client, Machine, World

ADDRESSES = {"web": IPv4Address("192.0.2.1"), "mail": IPv4Address("192.0.2.2")}
NAMES = {address.packed: name for name, address in ADDRESSES.items()}
CLIENTS = 20
RARELY, OFTEN = 1000.0, 0.05
"""Seconds between two words of a client."""
PATIENCE = 7.5
"""Seconds for which a client waits at most where the tunnel begins to lose all but frames."""


class TwoAddresses(World):
    def __init__(self) -> None:
        self.targets = dict.fromkeys(ADDRESSES, "a")
        self._told: dict[str, dict[str, Wish]] = {name: {} for name in "abc"}
        super().__init__(1, ("a", "b", "c"))

    def tell(self, name: str, phase: Phase, *nodes: str, moved_at: float | None = None, instance: str = "") -> None:
        for each in [instance] if instance else ADDRESSES:
            self._told[name][each] = Wish(each, frozenset((ADDRESSES[each],)), phase, nodes, moved_at)
        machine = self.machines[name]
        machine.wishes = list(self._told[name].values())
        if machine.process:
            self.do(machine, machine.process.wish(machine.wishes, self.now))

    def talk(self, instance: str, interval: float) -> None:
        for _ in range(CLIENTS):
            connection = flow(IPv4Address(0x0A000000 + next(self._number)), 12345, ADDRESSES[instance], 80)
            client = self.clients[connection] = Client(connection, interval, self.now, 1e9)
            self.speak(client)

    def transmit(self, client: Client, of: float) -> None:
        if not client.waits or client.sent_at != of or client.reset_at >= 0:
            return
        client.longest = max(client.longest, self.now - client.sent_at)
        is_syn = not client.is_open
        target = self.machines[self.targets[NAMES[packed_address(client.flow)]]]
        self.later(PATH, lambda: self.arrive(client, target, is_syn))
        client.tries += 1
        first = 1.0 if is_syn else FIRST_RETRY
        self.later(first * 2 ** (client.tries - 1), lambda: self.transmit(client, of))

    def answer(self, client: Client, machine: Machine, what: str) -> None:
        address = ADDRESSES[NAMES[packed_address(client.flow)]]
        if what is RST and machine.held.get(address, 0.0) > self.now:
            return
        if by := machine.answer_by.get(address):
            lost = frozenset((machine.name, by)) in self.blocked | self.data_blocked
            if lost or client.flow not in self.machines[by].moved:
                return
            self.machines[by].answers += 1
        self.later(PATH, lambda: self.hear(client, what, machine))

    def hand_over(self, instance: str, new: str) -> None:
        self.tell("a", Phase.OFFERS, new, instance=instance)
        ready = instance, new
        assert self.run_until(lambda: ready in self.machines["a"].standing.ready, 1.0)
        self.tell(new, Phase.CARRIES, moved_at=self.now, instance=instance)
        self.later(0.005, lambda: self.tell("a", Phase.REST, instance=instance))
        self.later(0.01, lambda: self.targets.update({instance: new}))

    @property
    def cut(self) -> list[str]:
        """Why connections were given up."""
        return [one.reason for machine in self.machines.values() for one in machine.over if one.connections]


@pytest.fixture
def world() -> TwoAddresses:
    return TwoAddresses()


def drained(world: TwoAddresses, *, web: float, mail: float) -> None:
    """How often clients of each say something."""
    world.talk("web", web)
    world.talk("mail", mail)
    world.run(5)
    world.hand_over("web", "b")
    world.hand_over("mail", "c")


@pytest.mark.parametrize("mail", [OFTEN, 1.0])
def test_idle_connections_go_on_beside_busy_ones_of_another_carrier(world: TwoAddresses, mail: float) -> None:
    """The packets of all carriers were counted together, so the idle ones seemed to get no answer, and were reset."""
    drained(world, web=RARELY, mail=mail)
    world.run(20)
    assert world.cut == []
    assert {machine.name for machine in world.machines.values() if machine.moved} == {"b", "c"}


def test_a_tunnel_that_leads_nowhere_is_noticed_beside_a_busy_one_that_works(world: TwoAddresses) -> None:
    drained(world, web=0.5, mail=OFTEN)
    world.run(1)
    world.data_blocked.add(frozenset("ab"))
    world.run(30)
    assert world.cut == ["a accepts none of the packets that are forwarded to it"] * len(world.cut) != []
    assert max(client.longest for client in world.clients.values()) < PATIENCE
    assert world.machines["c"].moved
