"""This node among the others: what it says over the link, what each instance learns from there, and what an operator
has asked of it.

Everything is a level. A node that is to leave says so with each state, stays master until another one has taken over,
and nobody needs an answer.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from floatip.core import settings
from floatip.core.addresses import Address
from floatip.core.arbiter import Arbiter, Owner
from floatip.core.bgp.rank import Rank
from floatip.core.bgp.session import Session
from floatip.core.election.elector import Claim, Others, Role
from floatip.core.events import Became, Effect, HandoverAsked, KeepOrders, Order
from floatip.core.health import Health
from floatip.core.holding import Holding
from floatip.core.instance import Instance
from floatip.core.link import spread, wire
from floatip.core.link.link import NODE, READY, SILENT, UNHEARD, Changed, Link, Peer
from floatip.core.link.wire import InstanceFlag, InstanceState, NodeFlag, NodeState
from floatip.core.network import Network
from floatip.core.second_chance.moves import Moves
from floatip.core.state import FRESH_SESSION

LEAVES = int(InstanceFlag.LEAVES)
PLANNED_AT_ONCE, PLAN_INTERVAL = 64, 0.05
"""Where nobody has more instances than that, as when all nodes start, each word of each node is no plan of its own, but
one is made after so many seconds.
"""
HANDOVER_TIME = 5.0
"""Seconds after which a handover that nobody took up is forgotten."""
ROLES = {
    Role.INIT: wire.Role.INIT,
    Role.BACKUP: wire.Role.BACKUP,
    Role.MASTER: wire.Role.MASTER,
    Role.FAULT: wire.Role.FAULT,
}


@dataclass(frozen=True, slots=True)
class Wish:
    """That another node takes over an instance."""

    successor: str
    until: float


class Fleet:
    def __init__(self, config: settings.Link, boot: int, now: float) -> None:
        self.link = Link(config, boot, now)
        self.arbiter: Arbiter | None = None
        """etcd; None: it has no part in this."""
        self.drained: Order | None = None
        self.paused: Order | None = None
        self.drills = False
        """Whether an administrator rehearses a failover here."""
        self.leaving = ""
        """Why this node is about to stop, while others take over."""
        self.wishes: dict[str, Wish] = {}
        self.moves: Moves | None = None
        """None: there is no second chance."""
        self._given: dict[str, str] = {}
        """To whom it has handed over what: `preempt` takes nothing back from them."""
        self._told: dict[str, Others] = {}
        self._whole: dict[str, str] | None = None
        """The plan for when all nodes are ready."""
        self._ready: set[str] = set()
        """The instances for which this node has said that it is ready."""
        self._preferences: dict[str, int] = {}
        """The place of this node in the order of each instance."""
        self._elected = Elected({})
        self._open: dict[str, None] = {}
        """The instances of which no node is master that wants to stay it."""
        self._best: dict[str, str] = {}
        """Who is preferred for each."""
        self._best_of = 0
        """As of which readiness."""
        self.pending: set[bytes] = set()
        """What the next `consult` looks at too."""
        self.plan_at = -math.inf
        """When it is planned again who takes over what nobody has."""
        self._went: dict[bytes, str] = {}
        """The last other master of each instance."""

    @property
    def own(self) -> settings.Node:
        return self.link.own

    @property
    def others(self) -> Iterable[Peer]:
        return self.link.peers.values()

    # What an operator asks

    def drain(self, order: Order | None) -> list[Effect]:
        before, self.drained = self.drained, order
        return [self._kept(), *_news("drained", "in service", before, order, self.own.name)]

    def pause(self, order: Order | None) -> list[Effect]:
        before, self.paused = self.paused, order
        return [self._kept(), *_news("paused", "resumed", before, order, self.own.name)]

    def recall(self, drained: Order | None, paused: Order | None) -> None:
        """As a predecessor kept them."""
        self.drained, self.paused = drained, paused

    def _kept(self) -> Effect:
        return KeepOrders(self.drained, self.paused)

    def expire(self, epoch: float) -> list[Effect]:
        """What has an end that has come."""
        effects: list[Effect] = []
        if self.drained and 0 < self.drained.until <= epoch:
            effects += self.drain(None)
        if self.paused and 0 < self.paused.until <= epoch:
            effects += self.pause(None)
        return effects

    def wish(self, event: HandoverAsked, instances: Mapping[str, Instance], now: float) -> None:
        for name in event.instances:
            if name in instances and instances[name].role is Role.MASTER and event.to != self.own.name:
                self.wishes[name] = Wish(event.to, now + HANDOVER_TIME)

    def fulfil(self, instances: Mapping[str, Instance], now: float) -> bool:
        """Forget the wishes that came true, or that nobody took up. Returns whether there were such."""
        before = len(self.wishes)
        for name, wish in list(self.wishes.items()):
            role = instances[name].role if name in instances else None
            if role is Role.MASTER and now < wish.until:
                continue
            del self.wishes[name]
            self.pending.add(wire.identity(name))
            if role is Role.BACKUP and (claims := tuple(self._claims(name))):
                self._given[name] = max(claims, key=lambda claim: claim.reign).node
        return len(self.wishes) < before

    def leaves(self, instance: Instance) -> str:
        """Why another node is to take over from it; empty: it stays, or that is being prepared."""
        if instance.role is Role.MASTER and self.moves and self.moves.waits(instance.config.name):
            return ""
        return self.wants_to_leave(instance)

    def wants_to_leave(self, instance: Instance) -> str:
        """Why it is to be handed over; empty: it is not."""
        if self.leaving:
            return self.leaving
        if self.drained:
            return f"drained: {self.drained.reason}" if self.drained.reason else "drained"
        return "asked to hand over" if instance.config.name in self.wishes else ""

    @property
    def withdraws(self) -> str:
        """Why this node announces nothing that it is not master of; empty: it does, as a standby."""
        return "drained, and asked to withdraw" if self.drained and self.drained.withdraw else ""

    @property
    def pause_reason(self) -> str:
        """Why no node of the fleet takes over; empty: they may."""
        if self.paused:
            return f"paused: {self.paused.reason}" if self.paused.reason else "this node is paused"
        who = next((peer for peer in self.others if peer.alive and _says(peer, NodeFlag.PAUSED)), None)
        return f"{who.name} has paused the election" if who else ""

    @property
    def drills_elsewhere(self) -> str:
        """The node that says so; empty: none that is heard."""
        return next((peer.name for peer in self.others if peer.alive and _says(peer, NodeFlag.DRILL)), "")

    def heirs(self, instance: str) -> list[Peer]:
        """The other nodes that could take over now."""
        identity = wire.identity(instance)
        return [
            peer
            for peer in self.others
            if peer.alive and peer.node and (state := peer.instances.get(identity)) and int(state.flags) & READY
        ]

    def carrier(self, instance: str) -> str:
        """The other node that is master of it; empty: none that is heard."""
        return next((claim.node for claim in self._claims(instance)), "")

    def why_nobody(self, instance: str, to: str = "") -> str:
        """Why no other node, or not `to`, could take over."""
        said = [f"{peer.name} {why_not(peer, instance)}" for peer in self.others if to in ("", peer.name)]
        return "; ".join(said) or "there is no other node"

    # What an instance learns

    def consult(
        self, changed: Changed | None, instances: Mapping[str, Instance], clock_ahead: float, now: float
    ) -> list[tuple[Instance, Others]]:
        """What is news to instances that the nodes elect; `changed` as `Link` gives it; None: perhaps all of it.

        With a thousand instances on fifty nodes this is asked hundreds of times within a failover, so it looks only at
        those for which something may be different. What it leaves for later is `pending`, until `plan_at`.
        """
        if self._elected.source is not instances:
            self._elected, self._open, changed = Elected(instances), {}, None
        elected = self._elected.instances
        claims = {name: self._claims(name) for name in self._concerned(changed, now)}
        for name, each in claims.items():
            if elected[name].role is not Role.MASTER and all(claim.leaves for claim in each):
                self._open[name] = None
            else:
                self._open.pop(name, None)
        to_plan = {name for name in claims if name in self._open or _together(elected[name])}
        if to_plan and now < self.plan_at:
            self.pending.update(map(wire.identity, to_plan))
            claims = {name: each for name, each in claims.items() if name not in to_plan}
            to_plan = set()
        plan = self._plan(elected) if to_plan else {}
        if len(to_plan) > PLANNED_AT_ONCE:
            self.plan_at = now + PLAN_INTERVAL
        untold = any(peer.alive and peer.is_untold for peer in self.others)
        nodes = self.link.config.nodes
        news = []
        for name, each in claims.items():
            config, is_open, planned = elected[name].config, name in self._open, plan.get(name, "")
            # Whoever does not hear the carrier does not know that it would not be the better one there.
            is_heard = all(self._is_heard(claim.node) for claim in each)
            around = Others(
                each,
                untold and is_open,
                name in self._ready,
                spread.place(config, nodes, self.own.name, self._is_ready, planned) if is_open else len(nodes),
                self._best.get(name) == self.own.name and not self._has_given(name, each) and is_heard,
                planned == self.own.name
                and bool(_together(elected[name]))
                and not all(c.leaves for c in each)
                and is_heard,
                self.own,
                self._preference(config),
                self.link.detection_time,
                clock_ahead,
                self._gone(name, each),
                self._heard_at(name, each),
            )
            if around != self._told.get(name):
                self._told[name] = around
                news.append((elected[name], around))
        return news

    def _concerned(self, changed: Changed | None, now: float) -> list[str]:
        """The instances for which something may be different."""
        if changed is None:
            if self._elected.preempts:
                self._changed_best()
            return list(self._elected.instances)
        if now >= self.plan_at:
            changed, self.pending = changed | self.pending, set()
        elif NODE in changed:
            self.pending.add(NODE)
            changed = changed - {NODE}
        known, elected, together = self._elected.known, self._elected.instances, self._elected.together
        names = dict.fromkeys(known[identity] for identity in changed if identity in known)
        if NODE in changed:
            names |= self._open | together | self._owned_by_missing()
        if self._elected.preempts and changed:
            names |= self._changed_best()
        if words := {_together(elected[name]) for name in names} - {""}:  # what is together moves if one of it must
            names |= {name: None for name in together if _together(elected[name]) in words}
        return sorted(names, key=self._elected.position.__getitem__)

    @property
    def whole(self) -> Mapping[str, str] | None:
        """The plan for when all nodes are ready, if an instance has asked for it."""
        return self._whole

    @property
    def given(self) -> Mapping[str, str]:
        """To whom it has handed over which instance: it takes nothing back from them."""
        return self._given

    def reload(self, config: settings.Link, instances: Mapping[str, Instance], now: float) -> None:
        self.link.configure(config, now)
        self.link.keep({wire.identity(name) for name in instances})
        self._told.clear()
        self._whole, self._best = None, {}
        self._elected, self._open = Elected({}), {}
        self._preferences.clear()
        self._ready &= instances.keys()

    def awaits_acknowledgement(self, instances: Iterable[Instance]) -> bool:
        states = (self.link.own_state(wire.identity(instance.config.name)) for instance in instances)
        return any(state and not state.flags & InstanceFlag.ACKNOWLEDGED for state in states)

    def _is_heard(self, node: str) -> bool:
        peer = self.link.peers.get(node)
        return peer is not None and peer.alive

    def _has_given(self, name: str, claims: Iterable[Claim]) -> bool:
        if any(claim.node == self._given.get(name) for claim in claims):
            return True
        self._given.pop(name, None)
        return False

    def living_owner(self, instance: str) -> Owner | None:
        """Another node that owns it by etcd, and lives as far as etcd and the link know.

        To have written a row is a sign of life: only one that the link has heard since then can be missed by the link.
        """
        owner = self.arbiter.owners.get(instance) if self.arbiter else None
        if not self.arbiter or not owner or owner.released or owner.node == self.own.name:
            return None
        peer = self.link.peers.get(owner.node)
        if peer and peer.alive:
            state = peer.instances.get(wire.identity(instance))
            if boot_of(peer) != owner.boot or state is None or state.role is wire.Role.INIT:  # removed by a reload
                return None
            has_let_go = state.epoch == owner.epoch and state.flags & InstanceFlag.FREE
            takes_part = state.role is wire.Role.MASTER or bool(state.flags & InstanceFlag.READY)
            # One that is not ready may own it where nobody is, and does not know it yet when others do.
            may_know_later = state.epoch == owner.epoch or self._is_registered(instance, owner)
            return owner if (takes_part or may_know_later) and not has_let_go else None
        if not self._is_registered(instance, owner):
            return None
        if not peer:
            return owner
        said = peer.instances.get(wire.identity(instance))
        has_said_so = said is not None and said.epoch == owner.epoch
        is_missed = has_said_so or peer.detector.heard_at >= self.arbiter.seen_at.get(instance, 0.0)
        return None if is_missed else owner

    def _owned_by_missing(self) -> dict[str, None]:
        """The instances whose owner by etcd is not heard, and may not be master yet."""
        if not self.arbiter:
            return {}
        missing = {peer.name for peer in self.others if not peer.alive}
        owned = self.arbiter.owners.items() if missing else ()
        return {name: None for name, owner in owned if owner.node in missing and name in self._elected.instances}

    def _is_registered(self, instance: str, owner: Owner) -> bool:
        if self.arbiter and instance in self.arbiter.claimed_at:  # its row of `alive/` may come later
            return True
        row = self.arbiter.alive.get(owner.node) if self.arbiter else None
        return bool(row and row.boot == owner.boot and self.arbiter and self.arbiter.knows_who_lives)

    def has_freed(self, instance: str, owner: Owner) -> bool:
        """Whether a former owner says that it has nothing left of it."""
        peer = self.link.peers.get(owner.node)
        state = peer.instances.get(wire.identity(instance)) if peer and peer.alive else None
        if not peer or not state or boot_of(peer) != owner.boot:
            return False
        return state.epoch == owner.epoch and bool(state.flags & InstanceFlag.FREE)

    def _address(self, node: str) -> Address | None:
        if peer := self.link.peers.get(node):
            return peer.config.address
        row = self.arbiter.alive.get(node) if self.arbiter else None
        try:
            return ip_address(row.address) if row else None
        except ValueError:
            return None

    def _masters(self, identity: bytes) -> list[Peer]:
        """The others that say that they are master."""
        if not (named := self.link.masters.get(identity)):
            return []
        if len(named) > 1:  # in one order, however they came
            return [peer for peer in self.others if peer.name in named and peer.alive]
        return [peer for peer in named.values() if peer.alive]

    def _claims(self, instance: str) -> tuple[Claim, ...]:
        identity, owner = wire.identity(instance), self.living_owner(instance)
        masters = self._masters(identity)
        claims = [self._claim(peer, peer.instances[identity], owner) for peer in masters]
        if owner and all(peer.name != owner.node for peer in masters) and (address := self._address(owner.node)):
            claims.append(
                Claim(owner.node, address, owner.epoch, True, False, False, "", is_heard=False, epoch=owner.epoch)
            )
        return tuple(claims)

    def _claim(self, peer: Peer, state: InstanceState, owner: Owner | None) -> Claim:
        epoch = state.epoch if self.arbiter else 0
        # What the link says may be late.
        newest = max(epoch, owner.epoch) if owner and owner.node == peer.name else epoch
        return Claim(
            peer.name,
            peer.config.address,
            max(state.reign, newest),
            bool(state.flags & InstanceFlag.READY),
            newest == epoch and bool(state.flags & InstanceFlag.ACKNOWLEDGED),
            bool(state.flags & InstanceFlag.LEAVES),
            self._name(state.successor),
            _why_it_leaves(peer) if state.flags & InstanceFlag.LEAVES else "",
            epoch=newest,
        )

    def _name(self, identity: bytes) -> str:
        """Empty: of no node."""
        if identity == wire.NOBODY:
            return ""
        if identity == self.link.identity:
            return self.own.name
        return next((peer.name for peer in self.others if peer.identity == identity), "")

    def _gone(self, name: str, claims: tuple[Claim, ...]) -> str:
        """In words, while nobody is master."""
        identity = wire.identity(name)
        if claims:
            self._went[identity] = max(claims, key=lambda claim: claim.reign).node
            return ""
        peer = self.link.peers.get(self._went.get(identity, ""))
        if peer is None:
            return "no other node was master"
        if not peer.alive:
            return f"{peer.name}, which was master, {why_not(peer, name)}"
        state = peer.instances.get(identity)
        return f"{peer.name} is not master any more: {state.reason}" if state else f"{peer.name} has lost it"

    def _heard_at(self, name: str, claims: tuple[Claim, ...]) -> float | None:
        """The last sign of life of the last master, if it fell silent."""
        peer = self.link.peers.get(self._went.get(wire.identity(name), ""))
        is_silent = not claims and peer is not None and not peer.alive and peer.why == SILENT
        return peer.detector.heard_at if peer and is_silent else None

    def _is_ready(self, instance: str, node: str) -> bool:
        if node == self.own.name:
            return instance in self._ready
        peer = self.link.peers.get(node)
        state = peer.instances.get(wire.identity(instance)) if peer and peer.alive else None
        return bool(state and int(state.flags) & READY)

    def _plan(self, elected: Mapping[str, Instance]) -> dict[str, str]:
        """Who is to take over what nobody has, or what must move to be together."""
        carried = {}
        for identity, name in self._elected.known.items():
            masters = [(peer, peer.instances[identity]) for peer in self._masters(identity)]
            if staying := [(state.reign, peer.name) for peer, state in masters if not int(state.flags) & LEAVES]:
                carried[name] = max(staying)[1]
            elif elected[name].role is Role.MASTER:
                carried[name] = self.own.name
        return spread.assign(self._elected.configs, self.link.config.nodes, self._is_ready, carried)

    def _changed_best(self) -> dict[str, None]:
        """For which another node is preferred than before. The others' absence moves nothing that is whole."""
        if self._best and self._best_of == self.link.readiness:
            return {}
        nodes, before = self.link.config.nodes, self._best
        self._best_of = self.link.readiness
        if self._whole is None:
            self._whole = spread.assign(self._elected.configs, nodes, lambda instance, node: True, {})
        self._best = spread.assign(self._elected.configs, nodes, self._is_ready, self._whole)
        return {name: None for name in self._elected.known.values() if self._best.get(name) != before.get(name)}

    def _preference(self, config: settings.Instance) -> int:
        if (known := self._preferences.get(config.name)) is None:
            known = spread.ranking(config, self.link.config.nodes).index(self.own.name)
            self._preferences[config.name] = known
        return known

    # What this node says

    def tell(
        self,
        changed: Iterable[Instance],
        count: int,
        network: Network,
        holding: Holding,
        now: float,
    ) -> tuple[list[Effect], bool]:
        """And whether the plan is another, because this node is ready for more or less than before."""
        states, is_another_plan = {}, False
        for instance in changed:
            state, name = self._state(instance, network, holding, now), instance.config.name
            states[state.instance] = state
            if (name in self._ready) is not bool(int(state.flags) & READY):
                self._ready ^= {name}
                self.pending |= {state.instance, NODE}
                self.link.readiness += 1
                is_another_plan = True
        return self.link.tell(self._node_state(count, network, now), states, now), is_another_plan

    def _node_state(self, count: int, network: Network, now: float) -> NodeState:
        up = [session for session in network.sessions.values() if session.is_up]
        is_seasoned = not network.sessions or any(now - session.since >= FRESH_SESSION for session in up)
        order = self.drained or self.paused
        flags = {
            NodeFlag.DRAINED: self.drained,
            NodeFlag.PAUSED: self.paused,
            NodeFlag.STOPPING: self.leaving,
            NodeFlag.SEASONED: is_seasoned,
            NodeFlag.DRILL: self.drills,
        }
        return NodeState(
            self.own.name,
            self.link.config.version,
            self.link.config.digest,
            count,
            NodeFlag(sum(flag for flag, is_so in flags.items() if is_so)),
            len(up),
            len(network.sessions),
            int(order.until) if order else 0,  # never later than it ends
            order.reason if order else "",
        )

    def _state(self, instance: Instance, network: Network, holding: Holding, now: float) -> InstanceState:
        elector, name = instance.elector, instance.config.name
        is_master = elector.role is Role.MASTER
        wish = self.wishes.get(name)
        # One that somebody has just deleted is put back before anybody could take over.
        is_held = all(target.key in holding.placed or target.ip in instance.lost_at for target in instance.targets)
        up = [session for session in network.sessions.values() if session.is_up]
        announces = bool(network.sessions) and instance.is_announced
        leaves, is_healthy = self.leaves(instance), instance.health is Health.UP
        can_tell = bool(up) and not network.cut_off if announces else True
        can_hold = is_held or instance.config.placement != "all"
        takes_part = elector.role in (Role.BACKUP, Role.MASTER) and not leaves and not instance.bar
        flags = {
            InstanceFlag.HEALTHY: is_healthy,
            InstanceFlag.HELD: is_held,
            InstanceFlag.READY: takes_part and is_healthy and can_tell and can_hold,
            InstanceFlag.ACKNOWLEDGED: is_master and is_acknowledged(instance, up, is_held, announces),
            InstanceFlag.LEAVES: is_master and leaves,
            InstanceFlag.FREE: self._has_let_go(instance, holding, now),
        }
        return InstanceState(
            wire.identity(name),
            ROLES[elector.role],
            instance.decision.rank,
            InstanceFlag(sum(flag for flag, is_so in flags.items() if is_so)),
            self._preference(instance.config) if isinstance(instance.config.election, settings.Nodes) else 0,
            elector.reign,
            wire.identity(wish.successor) if is_master and wish and wish.successor else wire.NOBODY,
            elector.reason,
            self.arbiter.epochs.get(name, 0) if self.arbiter else 0,
        )

    def _has_let_go(self, instance: Instance, holding: Holding, now: float) -> bool:
        """Of what it had by etcd."""
        if not self.arbiter or instance.role is Role.MASTER:
            return False
        return self.arbiter.is_spent(instance.config.name) and instance.is_free(holding, now)


def is_acknowledged(instance: Instance, up: Iterable[Session], is_held: bool, announces: bool) -> bool:
    """Whether the route servers have what this master announces; without any, whether it holds the addresses."""
    prefixes = [target.prefix for target in instance.targets]
    sessions = [session for session in up if any(session.tells(prefix) for prefix in prefixes)]
    if instance.decision.rank is Rank.NONE or not is_held or (announces and not sessions):
        return False
    return all(session.acknowledged_at > instance.elector.reign_at for session in sessions)


def boot_of(peer: Peer) -> str:
    """As the rows of etcd have it."""
    return f"{peer.boot:016x}"


class Elected:
    """What the nodes elect, of the instances of one configuration."""

    def __init__(self, instances: Mapping[str, Instance]) -> None:
        self.source = instances
        self.instances = {
            name: one for name, one in instances.items() if isinstance(one.config.election, settings.Nodes)
        }
        self.known = {wire.identity(name): name for name in self.instances}
        self.configs = [one.config for one in self.instances.values()]
        self.together = {name: None for name, one in self.instances.items() if _together(one)}
        elections = [config.election for config in self.configs]
        self.position = {name: position for position, name in enumerate(self.instances)}
        self.preempts = any(isinstance(election, settings.Nodes) and election.preempt for election in elections)


def _together(instance: Instance) -> str:
    """The word of the instances that go to one node with it; empty: there is none."""
    election = instance.config.election
    return election.together if isinstance(election, settings.Nodes) else ""


def why_not(peer: Peer, instance: str) -> str:
    """Why a node could not take over, as what follows its name."""
    if not peer.alive:
        return f"is {peer.why}" if peer.why in (SILENT, UNHEARD) else f"is not there: {peer.why}"
    state = peer.instances.get(wire.identity(instance))
    if _says(peer, NodeFlag.DRAINED):
        return "is drained"
    if _says(peer, NodeFlag.STOPPING):
        return "is stopping"
    if peer.node is None:
        return "has not said yet how it is"
    if state is None:
        return f"has no instance {instance}"
    if not state.flags & InstanceFlag.HEALTHY or state.role is wire.Role.FAULT:
        return f"is not healthy: {state.reason}"
    if peer.node and peer.node.sessions and not peer.node.sessions_up:
        return "has no BGP session"
    return f"is not ready: {state.reason}"


def _why_it_leaves(peer: Peer) -> str:
    if peer.node and _says(peer, NodeFlag.DRAINED):
        return f"it is drained: {peer.node.reason}" if peer.node.reason else "it is drained"
    return "it is stopping" if _says(peer, NodeFlag.STOPPING) else ""


def _says(peer: Peer, flag: NodeFlag) -> bool:
    return bool(peer.node and peer.node.flags & flag)


def _news(begun: str, over: str, before: Order | None, order: Order | None, name: str) -> list[Effect]:
    if order == before:
        return []
    if order is None:
        return [Became("node", name, over, "asked for, or its time is over")]
    return [Became("node", name, begun, order.reason or "asked for")]
