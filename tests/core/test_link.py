"""What two nodes know of each other after each datagram."""

from collections import deque
from dataclasses import replace
from ipaddress import IPv4Address
from random import Random

from floatip.core import settings
from floatip.core.addresses import Address
from floatip.core.events import Effect, SendDatagram
from floatip.core.link import wire
from floatip.core.link.link import Link
from floatip.core.link.wire import InstanceFlag, InstanceState, NodeFlag, NodeState

WEB = wire.identity("web")
ONE, TWO, THREE = (settings.Node(f"haproxy{number}", IPv4Address(f"10.0.0.{number}")) for number in (1, 2, 3))


class Pair:
    """Two of them; what they send arrives at once, in order."""

    def __init__(self) -> None:
        self.now = 100.0
        self.is_cut = False
        self.loss = 0.0
        self.deaf: set[Address] = set()
        self._random = Random(1)
        self.links: dict[str, Link] = {}
        self.begin(ONE)
        self.begin(TWO)

    def begin(self, own: settings.Node) -> Link:
        config = settings.Link((ONE, TWO), own.name, (b"k" * 32,), bytes(8))
        link = self.links[own.name] = Link(config, int(self.now * 1000) + int(own.address), self.now)
        return link

    def deliver(self, sender: Link, effects: list[Effect]) -> None:
        waiting = deque((sender, effect) for effect in effects)
        while waiting:
            source, effect = waiting.popleft()
            if isinstance(effect, SendDatagram) and not self.is_cut and self._random.random() >= self.loss:
                for link in self.links.values():
                    if link.own.address == effect.destination and effect.destination not in self.deaf:
                        answers, _ = link.received(source.own.address, effect.data, self.now, self.now)
                        waiting += ((link, answer) for answer in answers)

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds * 100)):
            self.now += 0.01
            for link in self.links.values():
                effects, _ = link.tick(self.now)
                self.deliver(link, effects)

    def tell(self, link: Link, role: wire.Role) -> None:
        node = NodeState(link.own.name, "1", bytes(8), 1, NodeFlag(0))
        state = InstanceState(WEB, role, 3, InstanceFlag.READY, 0, 1)
        self.deliver(link, link.tell(node, {WEB: state}, self.now))


def test_a_node_that_starts_knows_who_is_master_as_soon_as_it_hears_him() -> None:
    """Otherwise it knows for a second only that he is there, and takes his place."""
    pair = Pair()
    pair.tell(pair.links["haproxy1"], wire.Role.MASTER)
    for _ in range(10):
        pair.run(1.13)
        two = pair.begin(TWO)
        while not two.peers["haproxy1"].alive:
            pair.run(0.01)
        pair.run(0.01)
        assert two.peers["haproxy1"].instances[WEB].role is wire.Role.MASTER


def test_a_node_that_was_away_is_missed_as_soon_as_before() -> None:
    """Its absence is not taken for a lossy way to it."""
    pair = Pair()
    pair.run(10)
    peer = pair.links["haproxy2"].peers["haproxy1"]
    for seconds in (1.07, 1.93, 2.2, 60):
        pair.is_cut = True
        pair.run(seconds)
        pair.is_cut = False
        pair.run(5)
        assert peer.alive
        assert peer.detector.patience < 0.33


def test_what_a_node_said_before_its_silence_is_not_believed_after_it() -> None:
    """It had been master, and yields while it is not heard: a handover to it now must wait for what it says now."""
    pair = Pair()
    one, two = pair.links.values()
    pair.tell(one, wire.Role.MASTER)
    pair.tell(two, wire.Role.BACKUP)
    pair.run(0.5)
    peer = two.peers["haproxy1"]
    pair.deaf.add(TWO.address)
    pair.run(1)
    assert not peer.alive
    assert one.peers["haproxy2"].alive, "it hears the one who does not hear it"
    pair.tell(one, wire.Role.BACKUP)
    for _ in range(5):
        pair.run(1.13)
        pair.deaf.clear()
        while not peer.alive:
            pair.run(0.01)
        assert peer.instances.get(WEB) in (None, one.own_state(WEB))
        pair.run(0.21)
        assert peer.instances.get(WEB) == one.own_state(WEB), "it says all as soon as it is heard again"
        pair.deaf.add(TWO.address)


def test_a_master_whose_way_is_lossy_keeps_what_it_has_said() -> None:
    pair = Pair()
    one, two = pair.links.values()
    pair.tell(one, wire.Role.MASTER)
    pair.run(3)
    peer = two.peers["haproxy1"]
    pair.loss = 0.4
    for _ in range(250):
        pair.run(1)
        assert WEB in peer.instances or not peer.alive


def test_an_instance_that_a_node_no_longer_has_is_forgotten() -> None:
    pair = Pair()
    one, two = pair.links.values()
    pair.tell(one, wire.Role.MASTER)
    pair.run(10)
    assert WEB in two.peers["haproxy1"].instances
    one.keep(set())
    pair.run(10)
    assert not two.peers["haproxy1"].instances


def test_a_node_says_that_it_no_longer_has_an_instance_before_it_is_forgotten() -> None:
    pair = Pair()
    one, two = pair.links.values()
    pair.tell(one, wire.Role.MASTER)
    pair.run(10)
    one.keep(set())
    pair.run(0.15)
    said = two.peers["haproxy1"].instances[WEB]
    assert (said.role, said.flags, said.reign, said.reason) == (wire.Role.INIT, 0, 0, "removed by a reload")
    assert WEB not in two.masters
    pair.tell(one, wire.Role.MASTER)
    assert WEB in two.masters


def test_a_node_that_is_added_again_is_heard_at_once() -> None:
    pair = Pair()
    pair.run(30)
    one, two = pair.links.values()
    config = one.config
    one.configure(replace(config, nodes=(ONE, THREE)), pair.now)
    pair.run(2)
    assert not two.peers["haproxy1"].alive
    one.configure(config, pair.now)
    pair.run(0.5)
    assert (one.peers["haproxy2"].alive, two.peers["haproxy1"].alive) == (True, True)
    pair.run(30)
    pair.links["haproxy1"] = Link(config, one.boot, pair.now)  # all nodes were removed, and added again
    pair.run(0.5)
    assert two.peers["haproxy1"].alive
    assert two.peers["haproxy1"].last == pair.links["haproxy1"].peers["haproxy2"].sequence


def test_a_stranger_who_becomes_a_node_is_none_any_more() -> None:
    link = Pair().links["haproxy1"]
    link.received(THREE.address, b"", 100.0, 100.0)
    assert list(link.strangers) == [THREE.address]
    link.configure(replace(link.config, nodes=(ONE, TWO, THREE)), 101.0)
    assert not link.strangers
