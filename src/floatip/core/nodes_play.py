"""The election of the nodes, played for one instance: a `NodesElector` for each node that lives.

This node's elector is a copy of its own. Those of the others are made from what they have said, and learn from each
other at once what the link would carry. The order of the nodes comes from `spread`, as in the real election.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from floatip.core import settings
from floatip.core.bgp.rank import Rank
from floatip.core.election.elector import Claim, Obstacles, Others, Role
from floatip.core.election.nodes import NodesElector
from floatip.core.events import Drained, Order
from floatip.core.fleet import Fleet
from floatip.core.foresight import Names, Outcome, Question, Step
from floatip.core.health import Health
from floatip.core.instance import Instance
from floatip.core.link import spread, wire
from floatip.core.link.wire import InstanceFlag, InstanceState, NodeFlag, NodeState
from floatip.core.node import Node
from floatip.core.orders import objection
from floatip.core.rules import Rule
from floatip.core.supposed import concerns, verdict_if

MOST_ROUNDS, MOST_STEPS = 20, 60
"""In which the electors learn from each other, and after which a play that finds no end is given up."""
LONG_AGO = 5.0
"""Seconds after which a preferred node that could take over, and has not, has given the instance away."""
ROLES = {wire.Role.INIT: Role.INIT, wire.Role.BACKUP: Role.BACKUP, wire.Role.MASTER: Role.MASTER}
ROLES[wire.Role.FAULT] = Role.FAULT


@dataclass(slots=True)
class _Member:
    """A node, as it says it is, and as the question has it."""

    node: settings.Node
    state: NodeState | None
    instances: Mapping[bytes, InstanceState]
    flags: NodeFlag
    is_back: bool = False
    """It is there again, and well: nothing that it said before is of now."""

    @property
    def is_out(self) -> bool:
        return bool(self.flags & (NodeFlag.DRAINED | NodeFlag.STOPPING))

    @property
    def can_tell(self) -> bool:
        return self.is_back or not (self.state and self.state.sessions and not self.state.sessions_up)


class NodesPlay:
    """One question, to one fleet, at one moment. Once it is made and has taken the instances that are asked for,
    `outcome` needs nothing of the node any more, and may run in another thread.
    """

    def __init__(self, node: Node, question: Question, known: Names, now: float) -> None:
        fleet = node.fleet
        assert fleet is not None
        self.question, self.now, self.of = question, now, known.find(question.of)
        self.own = fleet.own.name
        self.nodes = fleet.link.config.nodes
        self.detection_time = fleet.link.detection_time
        self.clock_ahead = node.clock_ahead
        self.hold_time = float(node.network.hold_time)
        self.announces = bool(node.sessions)
        self.members = dict(_members(fleet))
        self.gone = self.of if question.kind == "down" and self.of in self.members else ""
        peer = fleet.link.peers.get(self.of)
        self.patience = peer.detector.patience if peer else self.detection_time
        self.refused = ""
        match question.kind:
            case "back" if peer:
                kept = peer.node.flags & NodeFlag.DRAINED if peer.node else NodeFlag(0)  # a restart does not end it
                self.members[self.of] = _Member(peer.config, None, {}, NodeFlag.SEASONED | kept, is_back=True)
            case "drained" if self.of in self.members:
                self.members[self.of].flags |= NodeFlag.DRAINED
                if self.of == self.own and not fleet.drained:
                    refused = objection(node, Drained(Order()), force=False)
                    self.refused = refused.what if refused else ""
            case "undrained" if self.of in self.members:
                self.members[self.of].flags &= ~NodeFlag.DRAINED
            case "resumed" if self.of in self.members:
                self.members[self.of].flags &= ~NodeFlag.PAUSED
        elected = [one for one in node.instances.values() if isinstance(one.config.election, settings.Nodes)]
        self.sick_if = {
            one.config.name: verdict_if(node, question, one).health is not Health.UP
            for one in elected
            if concerns(node, question, one)
        }
        """Of the instances for which the check counts that is asked for: whether they are not healthy then."""
        self._configs = {one.config.name: one.config for one in elected}
        self._taken: dict[str, NodesElector] = {}
        self.etcd_answers = node.arbiter.answers if node.arbiter else None
        """None: it has no part in this."""
        self.lease_time, self.lease_while_held = (
            (node.arbiter.config.lease_time, node.arbiter.hold_time) if node.arbiter else (0.0, 0.0)
        )
        self.given = dict(fleet.given)
        self._whole = fleet.whole
        self.is_noticed = True
        """Whether the others know by now who is gone."""
        self._ready: dict[tuple[str, str, bool], bool] = {}
        self._assigned: dict[bool, dict[str, str]] = {}
        self._best: dict[bool, dict[str, str]] = {}
        """Before and after that."""

    def take(self, instance: Instance) -> None:
        """What is in an elector is never changed, only replaced: a shallow copy is one of its own."""
        assert isinstance(instance.elector, NodesElector)
        elector = copy.copy(instance.elector)
        elector.forget_etcd()  # what etcd makes of it is in `outcome`
        self._taken[instance.config.name] = elector

    # What the question makes of the fleet

    @property
    def live(self) -> dict[str, _Member]:
        """As far as the others know."""
        return {name: one for name, one in self.members.items() if not self._is_missed(name)}

    def _is_missed(self, name: str) -> bool:
        return name == self.gone and self.is_noticed

    def state(self, instance: str, name: str) -> InstanceState | None:
        member = self.members.get(name)
        return member.instances.get(wire.identity(instance)) if member else None

    def is_carried(self, instance: str) -> bool:
        """Whether a node says now that it is master of it."""
        states = (self.state(instance, name) for name in self.members)
        return any(state is not None and state.role is wire.Role.MASTER for state in states)

    def is_sick(self, config: settings.Instance, name: str) -> bool:
        """With the question."""
        member = self.members[name]
        if member.is_back:
            return False
        if name == self.own and config.name in self.sick_if:
            return self.sick_if[config.name]
        state = self.state(config.name, name)
        return state is None or not state.flags & InstanceFlag.HEALTHY or state.role is wire.Role.FAULT

    def is_ready(self, config: settings.Instance, name: str) -> bool:
        key = config.name, name, self.is_noticed
        if key not in self._ready:
            self._ready[key] = self._is_ready(config, name)
        return self._ready[key]

    def _is_ready(self, config: settings.Instance, name: str) -> bool:
        member = self.members.get(name)
        if member is None or self._is_missed(name) or member.is_out or self.is_sick(config, name):
            return False
        state = self.state(config.name, name)
        if state is None:
            return member.is_back
        if state.flags & InstanceFlag.READY:
            return True
        was_held_up = self.was_held_up(config, name)
        return was_held_up and member.can_tell and bool(state.flags & InstanceFlag.HELD or config.placement != "all")

    def was_held_up(self, config: settings.Instance, name: str) -> bool:
        """Whether what the question takes away was all that kept it from being ready."""
        kind, own = self.question.kind, self.own
        return (kind == "undrained" and name == self.of) or (
            kind == "check-passes" and name == own and config.name in self.sick_if
        )

    def pause(self, members: Mapping[str, _Member]) -> str:
        who = next((name for name, one in members.items() if one.flags & NodeFlag.PAUSED), "")
        return f"{who} has paused the election" if who else ""

    def planned(self, instance: str) -> str:
        """Who is to take it over, if it has no carrier then."""
        if self.is_noticed not in self._assigned:
            configs = self._configs
            carried = {}
            for name, config in configs.items():
                staying = [one for one in self.members if self._keeps(config, one)]
                if staying:
                    carried[name] = max(staying, key=lambda one: self._reign(name, one))
            self._assigned[self.is_noticed] = spread.assign(
                list(configs.values()),
                self.nodes,
                lambda name, one: self.is_ready(configs[name], one),
                carried,
            )
        return self._assigned[self.is_noticed].get(instance, "")

    def _keeps(self, config: settings.Instance, name: str) -> bool:
        state, member = self.state(config.name, name), self.members[name]
        is_master = state is not None and state.role is wire.Role.MASTER
        leaves = member.is_out or bool(state and state.flags & InstanceFlag.LEAVES and not self.takes_back(name))
        return is_master and not leaves and not self._is_missed(name) and not self.is_sick(config, name)

    def takes_back(self, name: str) -> bool:
        return self.question.kind == "undrained" and name == self.of

    def _reign(self, instance: str, name: str) -> int:
        state = self.state(instance, name)
        return state.reign if state else 0

    def preferred(self, config: settings.Instance) -> str:
        """Who takes it over with `preempt`; empty: nobody asks."""
        assert isinstance(config.election, settings.Nodes)
        if not config.election.preempt:
            return ""
        if self.is_noticed not in self._best:
            configs, nodes = self._configs, self.nodes
            whole = self._whole or spread.assign(list(configs.values()), nodes, lambda name, one: True, {})
            self._best[self.is_noticed] = spread.assign(
                list(configs.values()), nodes, lambda name, one: self.is_ready(configs[name], one), whole
            )
        return self._best[self.is_noticed].get(config.name, "")

    # The play

    def taken(self, name: str) -> NodesElector:
        return copy.copy(self._taken[name])

    def outcome(self, name: str) -> Outcome:
        play = _Election(self, self._configs[name])
        play.run()
        return self._with_etcd(play.told()) if self.etcd_answers is not None else play.told()

    def _with_etcd(self, told: Outcome) -> Outcome:
        """What the nodes would do by the link, and what etcd makes of that."""
        election, kind = self._configs[told.instance].election, self.question.kind
        assert isinstance(election, settings.Nodes)
        needs_etcd = election.exclusive or election.on_arbiter_loss == "release"
        if not needs_etcd:
            what = "it does not need etcd: the nodes go on by the link"
            return replace(told, rule=Rule.STICKY, what=what) if kind == "etcd-gone" else told
        if kind == "etcd-gone":
            what = f"it leaves the node within {self.lease_while_held:g} s, and no node may take it over without etcd"
        elif not self.etcd_answers and (told.carrier != told.before or not told.before):
            what = "etcd does not answer, and without it no node may take it over"
        elif election.exclusive and self.gone and self.gone == told.before and told.carrier and told.after is not None:
            steps = tuple(replace(step, after=step.after + self.lease_time) for step in told.steps)
            what = f"{told.what}; {told.before} cannot say that it has let go, so {told.carrier} waits for lease_time"
            return replace(told, after=told.after + self.lease_time, what=what, steps=steps)
        else:
            return told
        return replace(told, carrier="", certain=True, after=None, rule=Rule.ETCD_SILENT, what=what, steps=())


def _members(fleet: Fleet) -> list[tuple[str, _Member]]:
    found = []
    for one in fleet.link.config.nodes:
        if one.name == fleet.own.name:
            state, instances = fleet.link.own_node, fleet.link.own_instances
        elif (peer := fleet.link.peers[one.name]).alive:
            state, instances = peer.node, peer.instances
        else:
            continue
        found.append((one.name, _Member(one, state, dict(instances), state.flags if state else NodeFlag(0))))
    return found


class _Election:
    def __init__(self, play: NodesPlay, config: settings.Instance) -> None:
        self.play = play
        self.config = config
        assert isinstance(config.election, settings.Nodes)
        self.election = config.election
        self.started_at = self.now = play.now
        self.noticed_at = play.now + play.patience if play.gone else -math.inf
        play.is_noticed = not play.gone
        self.steps: list[Step] = []
        self.electors: dict[str, NodesElector] = {}
        for name in sorted(play.live, key=lambda name: name != play.of):  # who is asked about knows it first
            self.electors[name] = self._elector(name)
        self._told: dict[str, Others] = {}
        self.before = self._carrier()
        self._first_carrier = self.before

    def _elector(self, name: str) -> NodesElector:
        if name == self.play.own:
            return self.play.taken(self.config.name)
        state = self.play.state(self.config.name, name)
        role = ROLES[state.role] if state else Role.INIT if self.play.is_sick(self.config, name) else Role.BACKUP
        reign = state.reign if state else 0
        is_open = not self.play.is_carried(self.config.name)
        return NodesElector.as_told(self.config.name, self.election, role, reign, is_open=is_open, now=self.now)

    def _carrier(self) -> str:
        masters = [name for name, one in self.electors.items() if one.role is Role.MASTER]
        return max(masters, key=lambda name: self.electors[name].reign, default="")

    def _obstacles(self, name: str, members: Mapping[str, _Member]) -> Obstacles:
        play, member = self.play, self.play.members[name]
        state, is_ready = play.state(self.config.name, name), play.is_ready(self.config, name)
        sick = (state.reason if state else "unhealthy") if play.is_sick(self.config, name) else ""
        leaving = "drained" if member.is_out else ""
        if name == play.own:
            own = self.electors[name].obstacles
            if play.question.kind in ("undrained", "drained"):
                own = replace(own, leaving=leaving)
            if not play.was_held_up(self.config, name) and play.question.kind != "check-fails":
                sick = own.sick
            if play.question.kind == "check-passes" and not sick:
                own = replace(own, waiting="")
            return replace(own, sick=sick, paused=play.pause(members))
        waiting = "starting" if state and state.role is wire.Role.INIT else ""
        if state and state.flags & InstanceFlag.LEAVES and not play.takes_back(name):
            leaving = leaving or "asked to hand over"
        barred = "" if member.can_tell else "no BGP session"
        return Obstacles(
            waiting, sick, "", barred, leaving, play.pause(members), "" if is_ready or sick else "not ready"
        )

    def run(self) -> None:
        self._enter()
        for _ in range(MOST_STEPS):
            wake = min([one.deadline for one in self.electors.values()], default=math.inf)
            if self.noticed_at > self.now:
                wake = min(wake, self.noticed_at)
            if wake == math.inf:
                return
            is_news = self.now < self.noticed_at <= wake
            self.now = max(self.now, wake)
            if is_news:
                self._enter()
                continue
            for name, one in self.electors.items():
                if name != self.play.gone and one.deadline <= self.now:
                    one.tick(self.now)
                    self._note(name)
            self._settle()

    def _enter(self) -> None:
        """What is so from now on."""
        self.play.is_noticed = self.now >= self.noticed_at
        if self.play.gone and self.play.is_noticed:
            self.electors.pop(self.play.gone, None)
        members = self.play.live
        for name, one in self.electors.items():
            if name != self.play.gone:
                one.constrain(self._obstacles(name, members), self.now)
                self._learn(name)
        self._settle()

    def _learn(self, name: str) -> bool:
        """Whether that is news to it."""
        around, before = self._others(name), self._told.get(name)
        if around != before:
            self._told[name] = around
            self.electors[name].hear(around, self.now)
        self._note(name)
        return around != before

    def _settle(self) -> None:
        """Each learns what the others are, until there is nothing new."""
        for _ in range(MOST_ROUNDS):
            if not [name for name in self.electors if name != self.play.gone and self._learn(name)]:
                return

    def _note(self, name: str) -> None:
        carrier = self._carrier()
        if carrier == name and carrier != self._first_carrier:
            self.steps.append(Step(max(self.now - self.started_at, 0.0), name, self.electors[name].reason))
        self._first_carrier = carrier

    def _claims(self, name: str) -> tuple[Claim, ...]:
        found = []
        for other, elector in self.electors.items():
            if other == name or elector.role is not Role.MASTER:
                continue
            member, state = self.play.members[other], self.play.state(self.config.name, other)
            was_master = state is not None and state.role is wire.Role.MASTER and state.reign == elector.reign
            leaves = bool(elector.obstacles.leaving)
            is_ready = self.play.is_ready(self.config, other)
            acknowledged = bool(state.flags & InstanceFlag.ACKNOWLEDGED) if was_master and state else is_ready
            successor = ""
            if was_master and state:
                known = self.play.nodes
                successor = next((one.name for one in known if wire.identity(one.name) == state.successor), "")
            found.append(Claim(other, member.node.address, elector.reign, is_ready, acknowledged, leaves, successor))
        return tuple(found)

    def _others(self, name: str) -> Others:
        play, claims = self.play, self._claims(name)
        nodes, own = play.nodes, play.members[name].node
        is_open = all(claim.leaves for claim in claims)
        needs_plan = is_open or bool(self.election.together)
        planned = play.planned(self.config.name) if needs_plan else ""

        def ready(instance: str, one: str) -> bool:
            return play.is_ready(self.config, one)

        return Others(
            claims,
            False,
            play.is_ready(self.config, name),
            spread.place(self.config, nodes, name, ready, planned),
            play.preferred(self.config) == name and not self._has_given(name, claims),
            bool(self.election.together) and planned == name and not is_open,
            own,
            spread.ranking(self.config, nodes).index(name),
            play.detection_time,
            play.clock_ahead,
            f"{play.gone} is silent" if play.gone else "",
        )

    def _has_given(self, name: str, claims: tuple[Claim, ...]) -> bool:
        if name == self.play.own:
            return any(claim.node == self.play.given.get(self.config.name) for claim in claims)
        member = self.play.members[name]
        if member.is_back or self.play.was_held_up(self.config, name):
            return False
        reign_at = self._reign_at(claims)
        return self.play.now - reign_at > self.election.preempt_delay + LONG_AGO

    def _reign_at(self, claims: tuple[Claim, ...]) -> float:
        """Since when the node that carries it has done so."""
        latest = max((claim.reign for claim in claims), default=0)
        return latest / 1000 - self.play.clock_ahead

    # The answer

    def told(self) -> Outcome:
        carrier = self._carrier()
        moves = carrier != self.before
        after = self.steps[-1].after if moves and carrier and self.steps else None
        if not carrier and (standby := self._standby()):
            return self._by_its_route(standby)
        rule, what = self._rule(carrier, moves)
        return Outcome(
            self.config.name,
            self.play.question.kind,
            self.play.question.of,
            self.before,
            carrier,
            self.play.question.kind != "back" and not (moves and self._is_doubtful(carrier)),
            after,
            rule,
            what,
            unknown=tuple(self._unknown(carrier, moves)),
            refused=self.play.refused,
            steps=tuple(self.steps),
        )

    def _standby(self) -> str:
        """Where the route servers lead while no node is master: the order of the standbys is in their routes."""
        if not self.play.announces:
            return ""
        for name in spread.ranking(self.config, self.play.nodes):
            elector, member = self.electors.get(name), self.play.members.get(name)
            if not elector or not member or elector.role is not Role.BACKUP or not member.can_tell:
                continue
            state = self.play.state(self.config.name, name)
            if not (member.is_out and state and state.rank == Rank.NONE):  # drained, and withdrawn
                return name
        return ""

    def _by_its_route(self, standby: str) -> Outcome:
        """A node that is gone leaves a route behind, which the route servers keep for the hold time."""
        play = self.play
        after = play.hold_time if play.gone and play.gone == self.before else 0.0
        what = f"no node becomes master ({self._why_nobody()}); the route servers lead to the standby {standby}"
        return Outcome(
            self.config.name,
            play.question.kind,
            play.question.of,
            self.before,
            standby,
            True,
            after,
            Rule.STANDBY_ROUTE,
            what,
            refused=play.refused,
        )

    def _why_nobody(self) -> str:
        if pause := self.play.pause(self.play.live):
            return pause
        return "; ".join(f"{name} {why}" for name in self._all_names() if (why := self._why_not(name)))

    def _rule(self, carrier: str, moves: bool) -> tuple[Rule, str]:
        play = self.play
        members = play.live
        if not carrier:
            return Rule.PAUSED if play.pause(members) else Rule.NOBODY_READY, self._why_nobody()
        if not moves:
            return self._stays(carrier)
        others = [name for name in self.electors if name != carrier and play.is_ready(self.config, name)]
        if (
            play.preferred(self.config) == carrier
            and self.before in self.electors
            and play.is_ready(self.config, self.before)
        ):
            return Rule.PREEMPT, f"{carrier} is preferred, and preempt is on"
        if not others:
            return Rule.ONLY_READY_NODE, f"{carrier} is the only node that is ready then"
        if play.planned(self.config.name) == carrier:
            return Rule.FIRST_CHOICE, f"{carrier} is the first choice among the nodes that are ready then"
        return Rule.NEXT_IN_TURN, f"{carrier} is the first that could take over"

    def _stays(self, carrier: str) -> tuple[Rule, str]:
        play, kind = self.play, self.play.question.kind
        if play.members[carrier].is_out or self.electors[carrier].obstacles.leaving:
            pause = play.pause(play.live)
            why = pause or "no other node could take over"
            return Rule.NO_SUCCESSOR, f"{carrier} goes on carrying it: {why}"
        if kind in ("back", "check-passes", "undrained") and self.election.preempt:
            return Rule.STICKY, f"{carrier} keeps it: no node that is ready is preferred to it"
        if kind in ("back", "check-passes", "undrained"):
            return Rule.STICKY, f"{carrier} keeps it, because preempt is off"
        return Rule.STICKY, f"{carrier} keeps it as long as it is ready"

    def _all_names(self) -> list[str]:
        return [one.name for one in self.play.nodes]

    def _why_not(self, name: str) -> str:
        play = self.play
        if name == play.gone:
            return "is down"
        member = play.members.get(name)
        if member is None:
            return "is not heard"
        if member.is_out:
            return "is drained" if member.flags & NodeFlag.DRAINED else "is stopping"
        if play.is_sick(self.config, name):
            return "is not healthy"
        return "" if play.is_ready(self.config, name) else "is not ready"

    def _is_doubtful(self, carrier: str) -> bool:
        """It may be damped, and takes over last, or barred, and does not."""
        return carrier not in ("", self.play.own) and not self.play.is_ready(self.config, carrier)

    def _unknown(self, carrier: str, moves: bool) -> list[str]:
        found = []
        if moves and self._is_doubtful(carrier):
            found.append(f"whether {carrier} takes over: it says that it is not ready")
        play, own = self.play, self.play.own
        member = play.members.get(carrier)
        announces = play.announces
        if moves and carrier and member and announces:
            if not member.can_tell:
                found.append(f"{carrier} has no BGP session: clients reach it when it has one")
            elif not member.is_back and not member.flags & NodeFlag.SEASONED:
                found.append(f"the BGP sessions of {carrier} are younger than 30 s: route servers may ignore it")
        if play.question.kind == "back" and play.of != own:
            found.append(f"whether {play.of} is healthy, connected and in service when it comes back")
        return found
