"""The link: what this node says to the others, what they have said, and which of them live.

Nothing is believed of a datagram but what a known node has signed with a key of ours, once, since this daemon began: a
new boot of a node is believed when it repeats our own, and an old one never again. What is said is a level and not an
edge: each state is sent at once, twice more with the next hellos, and again in each *round*, which says the whole state
a part with each hello. A node that is heard again gets the whole state at once. A report of checks and problems rides
with the hellos that are not early, in datagrams of its own where there is a state to say.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from floatip.core import settings
from floatip.core.addresses import Address
from floatip.core.drops import Drops
from floatip.core.events import Became, Effect, SendDatagram
from floatip.core.link import wire
from floatip.core.link.detector import Detector
from floatip.core.link.report import Hearing, Saying
from floatip.core.link.wire import Datagram, Heard, HelloFlag, InstanceFlag, InstanceState, NodeState, Role
from floatip.core.malformed import Malformed

MICROSECONDS = 1_000_000
REPEATS = 3
"""How often a change is said, beside the rounds."""
ROUND = 1.0
"""Seconds in which the whole state is said, at least."""
SAID_A_SECOND = 10_000
"""Instances that a node says in its rounds to all others together, each second at most. It hears as many."""
AT_ONCE = 20
"""Instances with one hello, at least: about as many as a datagram has room for."""
OWED_AT_ONCE = 5 * AT_ONCE
WINDOW = 64
"""Sequence numbers that may come out of order (as in RFC 4303 section 3.4.3)."""
STRANGERS_KEPT = 64
STALE_AFTER = 5
"""Rounds after which what a node has not repeated is not so any more; where datagrams are lost, it takes longer."""
SILENT, UNHEARD = "silent", "not heard yet"
MATTERS = 30.0
"""Seconds for which a refused datagram says why a node is not heard."""


@dataclass(slots=True, eq=False)
class Peer:
    """Another node, as it is known here."""

    config: settings.Node
    identity: bytes
    detector: Detector
    sequence: int = 0
    """Of the last datagram to it."""
    boot: int = 0
    last: int = 0
    """The greatest sequence heard, and which of those before it."""
    seen: int = 0
    back: int = 0
    """The sequence with which it was heard again after a silence, or first."""
    old_boots: set[int] = field(default_factory=set)
    unproven: tuple[int, int, float] = (0, 0, -math.inf)
    """A boot that has not repeated ours yet, its sequence, and when it came."""
    alive: bool = False
    was_heard: bool = False
    since: float = -math.inf
    """When it was heard first, or last."""
    why: str = UNHEARD
    """Why it is not alive."""
    hears_us_at: float = -math.inf
    node: NodeState | None = None
    instances: dict[bytes, InstanceState] = field(default_factory=dict)
    said: dict[bytes, tuple[int, float]] = field(default_factory=dict)
    """The sequence with which each came last, and when; the oldest first."""
    owed: deque[bytes] = field(default_factory=deque)
    """What is said to it alone with the next scheduled hellos, because it did not hear us before."""
    report: Hearing = field(default_factory=Hearing)
    refused: str = ""
    """Why its last datagram was not believed."""
    refused_at: float = -math.inf
    refused_for: int = 0
    """`OTHER_KEY`, `OTHER_FORMAT`, or something else."""
    answered_at: float = -math.inf

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def is_untold(self) -> bool:
        """Whether it has yet to say what it carries."""
        return self.node is None or len(self.instances) < self.node.instances

    def hears_us(self, now: float) -> bool:
        return now < self.hears_us_at + self.detector.patience + self.detector.interval


NODE = b""
Changed = set[bytes]
"""Instances of which something else is known now, and `NODE` where a node came, went or is different."""
READY = int(InstanceFlag.READY)
"""As a number: to compare members of an enumeration takes ten times as long."""


def round_time(instances: int, peers: int) -> float:
    """Seconds in which a node with so many instances says them all to so many others."""
    return max(ROUND, instances * peers / SAID_A_SECOND)


class Link:
    def __init__(self, config: settings.Link, boot: int, now: float) -> None:
        self.boot = boot
        self.dropped = Drops()
        self.strangers: dict[Address, float] = {}
        """Who is no node and spoke to us, and when last."""
        self.peers: dict[str, Peer] = {}
        self.began_at = now
        self.masters: dict[bytes, dict[str, Peer]] = {}
        """Who has said that it is master of an instance, whether it lives or not."""
        self.readiness = 0
        """Grows whenever another node is ready for something else than before."""
        self._news: Changed = set()
        self._node: NodeState | None = None
        self._instances: dict[bytes, InstanceState] = {}
        self._blocks: dict[bytes, bytes] = {}
        self._repeats: dict[bytes, int] = {}
        """How often each change is still to be said; the key of the node itself is empty."""
        self.report = Saying()
        self._hello_at = now
        self._heard_at = now
        """When it is said again how the others are heard."""
        self._round_at = now
        self._left: deque[bytes] = deque()
        """What this round has yet to say."""
        self.configure(config, now)

    def configure(self, config: settings.Link, now: float) -> None:
        self.config = config
        self.own = next(node for node in config.nodes if node.name == config.own)
        self.identity = wire.identity(config.own)
        before = self.peers
        self.peers = {}
        for node in config.nodes:
            if node.name == config.own:
                continue
            known = before.get(node.name)
            if known is None or known.config.address != node.address:
                # The other one believes no lower sequence, after a reload that has removed it and one that adds it.
                begin = round(now * MICROSECONDS)
                known = Peer(node, wire.identity(node.name), Detector(config.interval), begin, since=now)
            known.config = node
            self.peers[node.name] = known
        self._by_address = {peer.config.address: peer for peer in self.peers.values()}
        self.masters = {}
        for peer in self.peers.values():
            for state in peer.instances.values():
                self._index(peer, state)
        self.strangers = {address: at for address, at in self.strangers.items() if address not in self._by_address}
        self._hello_at = min(self._hello_at, now + config.interval)

    @property
    def detection_time(self) -> float:
        """Seconds after which a silent node is gone, where nothing is lost."""
        return Detector(self.config.interval).patience

    @property
    def deadline(self) -> float:
        gone = [peer.detector.gone_at for peer in self.peers.values() if peer.alive]
        return min([self._hello_at, *gone])

    # What arrives

    def received(self, source: Address, data: bytes, at: float, now: float) -> tuple[list[Effect], Changed]:
        return self._receive(source, data, at, now), self._taken_news()

    def _receive(self, source: Address, data: bytes, at: float, now: float) -> list[Effect]:
        peer = self._by_address.get(source)
        if peer is None:
            self.dropped.count("from an address that is no node's", now)
            if source in self.strangers or len(self.strangers) < STRANGERS_KEPT:
                self.strangers[source] = now
            return []
        try:
            datagram = wire.parse(data, self.config.keys)
        except Malformed as error:
            return self._refuse(peer, error.what, now, error.code)
        if datagram.sender != peer.identity:
            return self._refuse(peer, "says that it is another node: two nodes may have one address", now)
        if datagram.receiver != self.identity:
            self.dropped.count(f"of {peer.name}, for another node", now)
            return []
        if datagram.boot in peer.old_boots:
            self.dropped.count("of a daemon that has ended", now)
            return []
        if datagram.boot != peer.boot and datagram.your_boot != self.boot:
            peer.unproven = datagram.boot, datagram.sequence, at
            return self._answer(peer, now)
        effects: list[Effect] = []
        if datagram.boot != peer.boot:
            effects += self._new_boot(peer, datagram.boot, now)
        lost = self._lost(peer, datagram.sequence)
        if lost is None:
            self.dropped.count("doubled or replayed", now)
            return effects
        peer.refused, peer.refused_at = "", -math.inf
        if datagram.flags & HelloFlag.LEAVES:
            self._forget(peer)
            return effects + self._gone(peer, "its daemon has stopped", now)
        if datagram.sequence < peer.last:  # it was overtaken, or kept: no sign that the node lives now
            if peer.alive and datagram.sequence >= peer.back:
                self._learn(peer, datagram, now)
            return effects
        if not peer.alive:  # what it said before its silence may not be so any more
            peer.back = datagram.sequence
            self._clear(peer)
        heard_us = peer.hears_us(now)
        peer.detector.heard(min(at, now), datagram.interval / 1000, lost, is_back=not peer.alive)
        if datagram.your_boot == self.boot and datagram.your_age != wire.NEVER:
            peer.hears_us_at = max(peer.hears_us_at, at - datagram.your_age / 1000)
        self._learn(peer, datagram, now)
        if peer.alive:
            # It has forgotten what we said before.
            return effects + self._say_all(peer, now) if peer.hears_us(now) and not heard_us else effects
        peer.alive = peer.was_heard = True
        peer.since, peer.why = now, ""
        self._news.add(NODE)
        self.readiness += 1
        effects.append(Became("node", peer.name, "alive", f"{peer.config.address} is heard"))
        # It has just begun, perhaps, and would take the place of a master whom it hears and does not know as such.
        return effects + self._say_all(peer, now)

    def _taken_news(self) -> Changed:
        news, self._news = self._news, set()
        return news

    def _refuse(self, peer: Peer, what: str, now: float, code: int = 0) -> list[Effect]:
        peer.refused, peer.refused_at, peer.refused_for = what, now, code
        self.dropped.count(f"of {peer.name}: {what}", now)
        return []

    def _answer(self, peer: Peer, now: float) -> list[Effect]:
        """So that it can prove that it speaks now: at most twice an interval, or a replay would make us talk."""
        if now < peer.answered_at + self.config.interval / 2:
            return []
        peer.answered_at = now
        return [self._datagram(peer, (), now, unproven=True)]

    def _new_boot(self, peer: Peer, boot: int, now: float) -> list[Effect]:
        was_alive = peer.alive
        self._forget(peer)
        peer.boot = boot
        if not was_alive:
            return []
        peer.alive, peer.since = False, now
        return [Became("node", peer.name, "restarted", "its daemon was restarted")]

    def _forget(self, peer: Peer) -> None:
        if peer.boot:
            peer.old_boots.add(peer.boot)
        peer.boot = peer.last = peer.seen = 0
        peer.hears_us_at = -math.inf
        self._clear(peer)
        peer.detector = Detector(peer.detector.interval)

    def _lost(self, peer: Peer, sequence: int) -> int | None:
        """How many sequence numbers it skips; None: it was heard already, or is too old to know."""
        ahead = sequence - peer.last
        if ahead > 0:
            lost = ahead - 1 if peer.last else 0
            peer.seen = (peer.seen << min(ahead, WINDOW) | 1) & ((1 << WINDOW) - 1)
            peer.last = sequence
            return lost
        if ahead <= -WINDOW or peer.seen >> -ahead & 1:
            return None
        peer.seen |= 1 << -ahead
        return 0

    def _learn(self, peer: Peer, datagram: Datagram, now: float) -> None:
        if datagram.node is not None and datagram.sequence == peer.last and datagram.node != peer.node:
            peer.node = datagram.node
            self._news |= {NODE, *self._mastered(peer)}
        was_untold = peer.is_untold
        peer.report.hear(datagram, now)
        said = datagram.sequence, now
        for state in datagram.instances:
            instance = state.instance
            before = peer.said.pop(instance, None)  # so that it comes last
            if before and datagram.sequence < before[0]:
                peer.said[instance] = before[0], now
                continue
            if before is None and len(peer.instances) >= settings.MOST_INSTANCES:
                continue
            peer.said[instance] = said
            if (known := peer.instances.get(instance)) != state:
                peer.instances[instance] = state
                self._index(peer, state)
                self._news.add(instance)
                self.readiness += int(state.flags) & READY != (int(known.flags) & READY if known else 0)
        if was_untold and not peer.is_untold:
            self._news.add(NODE)

    def _index(self, peer: Peer, state: InstanceState) -> None:
        if state.role is Role.MASTER:
            self.masters.setdefault(state.instance, {})[peer.name] = peer
        else:
            self._drop_from_index(peer, state.instance)

    def _drop_from_index(self, peer: Peer, instance: bytes) -> None:
        if (named := self.masters.get(instance)) and named.pop(peer.name, None) and not named:
            del self.masters[instance]

    def _mastered(self, peer: Peer) -> list[bytes]:
        return [instance for instance, state in peer.instances.items() if state.role is Role.MASTER]

    def _clear(self, peer: Peer) -> None:
        """Forget what it has said."""
        for instance in (mastered := self._mastered(peer)):
            self._drop_from_index(peer, instance)
        self._news |= {NODE, *mastered}
        self.readiness += 1
        peer.node = None
        peer.instances, peer.said, peer.report = {}, {}, Hearing()

    # Time

    def tick(self, now: float) -> tuple[list[Effect], Changed]:
        """What is to be said now, and who is gone. Whatever had arrived before must have been heard."""
        if now > self._hello_at + self.config.interval / 4:
            for peer in self.peers.values():
                peer.detector.excuse(now - self._hello_at, now)
        effects: list[Effect] = []
        for peer in self.peers.values():
            if peer.alive and now >= peer.detector.gone_at:
                silent = now - peer.detector.heard_at
                effects += self._gone(peer, SILENT, now, f"silent for {silent:.2f} s")
            elif peer.alive:
                self._forget_stale(peer, now)
            peer.report.forget_stale(peer.detector.interval, peer.detector.slack, now)
        if now >= self._hello_at:
            effects += self._say(now)
        return effects, self._taken_news()

    def _gone(self, peer: Peer, why: str, now: float, news: str = "") -> list[Effect]:
        if not peer.alive:
            peer.why = why
            return []
        self._news |= {NODE, *self._mastered(peer)}
        self.readiness += 1
        peer.alive, peer.since, peer.why = False, now, why
        return [Became("node", peer.name, "gone", news or why)]

    def _forget_stale(self, peer: Peer, now: float) -> None:
        count = max(peer.node.instances if peer.node else 0, len(peer.instances))
        limit = now - STALE_AFTER * round_time(count, len(self.peers)) * peer.detector.slack
        while (oldest := next(iter(peer.said), None)) is not None and peer.said[oldest][1] < limit:
            del peer.said[oldest], peer.instances[oldest]
            self._drop_from_index(peer, oldest)
            self._news.add(oldest)
            self.readiness += 1

    # What this node says

    def tell(self, node: NodeState, instances: Mapping[bytes, InstanceState], now: float) -> list[Effect]:
        """The state from now on; of `instances` only those that may have changed."""
        if node != self._node:
            self._node = node
            self._repeats[NODE] = REPEATS
            self._blocks[NODE] = wire.node_block(node)
        for identity, state in instances.items():
            if self._instances.get(identity) != state:
                self._instances[identity] = state
                self._blocks[identity] = wire.instance_block(state)
                self._repeats[identity] = REPEATS
        # A hello that says something new does not wait for its time.
        return self._say(now, is_early=True) if REPEATS in self._repeats.values() else []

    @property
    def own_node(self) -> NodeState | None:
        """What this node says of itself; None: it has not yet."""
        return self._node

    @property
    def own_instances(self) -> Mapping[bytes, InstanceState]:
        return self._instances

    def own_state(self, instance: bytes) -> InstanceState | None:
        return self._instances.get(instance)

    def keep(self, instances: set[bytes]) -> None:
        """A reload has removed the others: that is said before they are forgotten, or nobody would take them over."""
        removed = [state for identity, state in self._instances.items() if identity not in instances]
        self._instances = {identity: state for identity, state in self._instances.items() if identity in instances}
        self._blocks = {key: block for key, block in self._blocks.items() if not key or key in instances}
        self._repeats = {key: left for key, left in self._repeats.items() if not key or key in instances}
        self._left.clear()
        for state in removed:
            gone = InstanceState(state.instance, Role.INIT, state.rank, InstanceFlag(0), reason="removed by a reload")
            self._blocks[state.instance] = wire.instance_block(gone)
            self._repeats[state.instance] = REPEATS

    def leave(self, now: float) -> list[Effect]:
        """The last word."""
        return [self._datagram(peer, (), now, flags=HelloFlag.LEAVES) for peer in self.peers.values()]

    def _say(self, now: float, *, is_early: bool = False) -> list[Effect]:
        if not is_early:
            late = now - self._hello_at
            self._hello_at = now + self.config.interval - (late if late < self.config.interval / 2 else 0.0)
        keys = dict.fromkeys(self._repeats)
        self._repeats = {key: left - 1 for key, left in self._repeats.items() if left > 1}
        first, part = list[bytes](), list[bytes]()
        if not is_early:
            part = self.report.next_part()
            if now >= self._heard_at:
                self._heard_at = now + ROUND
                first = [self._heard_block(now)]
                keys[NODE] = None
            keys |= dict.fromkeys(self._of_round(now))
        pieces = self._pieces(first, keys, part)
        return [
            self._datagram(peer, piece, now)
            for peer in self.peers.values()
            for piece in (self._pieces(first, keys | self._owed(peer), part) if peer.owed and not is_early else pieces)
        ]

    def _pieces(self, first: list[bytes], keys: Iterable[bytes], part: list[bytes]) -> list[list[bytes]]:
        """`part`: of the report."""
        blocks = [*first, *(self._blocks[key] for key in keys if key in self._blocks)]
        pieces = list(wire.pieces(blocks))
        if not part:
            return pieces
        return [*pieces, part] if blocks else [part]

    def _of_round(self, now: float) -> list[bytes]:
        """What this hello says of the whole state."""
        takes = round_time(len(self._instances), len(self.peers))
        if not self._left and now >= self._round_at:
            self._round_at = now + takes
            self._left.extend(self._instances)
        number = max(AT_ONCE, math.ceil(len(self._instances) * self.config.interval / takes))
        return _first(number, self._left)

    def _say_all(self, peer: Peer, now: float) -> list[Effect]:
        """To it alone, at once."""
        keys = [NODE, *self._instances]
        peer.owed = deque(keys * (REPEATS - 1))
        pieces = self._pieces([self._heard_block(now)], keys, [])
        return [self._datagram(peer, piece, now) for piece in pieces]

    def _owed(self, peer: Peer) -> dict[bytes, None]:
        return dict.fromkeys(_first(min(OWED_AT_ONCE, len(self._blocks)), peer.owed))

    def _heard_block(self, now: float) -> bytes:
        return wire.heard_block(
            Heard(peer.identity, _milliseconds(now - peer.detector.heard_at)) for peer in self.peers.values()
        )

    def _datagram(
        self,
        peer: Peer,
        blocks: Iterable[bytes],
        now: float,
        *,
        flags: HelloFlag = HelloFlag(0),  # noqa: B008
        unproven: bool = False,
    ) -> Effect:
        peer.sequence += 1
        boot, sequence, at = peer.boot, peer.last, peer.detector.heard_at
        if unproven or not boot:
            boot, sequence, at = peer.unproven
        datagram = Datagram(
            self.identity,
            self.boot,
            peer.sequence,
            round(self.config.interval * 1000),
            flags,
            boot,
            sequence,
            _milliseconds(now - at) if boot else wire.NEVER,
            receiver=peer.identity,
        )
        return SendDatagram(peer.config.address, wire.pack(datagram, self.config.keys[0], blocks))


def _first(number: int, left: deque[bytes]) -> list[bytes]:
    """Taken away."""
    return [left.popleft() for _ in range(min(number, len(left)))]


def _milliseconds(age: float) -> int:
    return min(round(max(age, 0.0) * 1000), wire.NEVER - 1) if age < math.inf else wire.NEVER
