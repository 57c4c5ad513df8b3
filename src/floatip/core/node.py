"""The node: one door in, one list out. `handle(event, now)` is told what happened and what time it is and answers with
what is to be done; `deadline` is when it wants to be told the time again.

It routes events to the machines (checks, instances, sessions), and what changes by them marks instances. A *review*
then takes the marked ones in passes: the network, health, role, rank, routes, addresses, neighbours. Each pass ends for
all of them before the next begins. An advert that changes nothing marks nothing.

Order is safety here: hold -> confirmed by the kernel -> announce; withdraw -> release. Routes are made only from
addresses that are held, and the sessions' effects stand before `Hold` in every list.
"""

import math
from collections import Counter, deque
from collections.abc import Iterable
from typing import TypeVar

from floatip.core import settings
from floatip.core.addresses import Address, Placed
from floatip.core.arbiter import HANDLING, Arbiter, lifetime
from floatip.core.bgp.attributes import Prefix
from floatip.core.bgp.session import Route, Session
from floatip.core.counters import Refused, refusals
from floatip.core.departure import Departure
from floatip.core.departure import Order as Ordered
from floatip.core.drops import Drops
from floatip.core.election.elector import ASKING, KEEPALIVED, Fact, Heard, Obstacles, Role, Subject, adverts, keepalived
from floatip.core.election.nodes import NodesElector
from floatip.core.etcd import EtcdAnswered, EtcdChanged, EtcdMembers, EtcdTrouble, EtcdUnwatched
from floatip.core.events import (
    AdvertReceived,
    Became,
    BytesReceived,
    CheckDone,
    ClockMoved,
    Connected,
    DatagramReceived,
    Disconnected,
    Drained,
    Drill,
    Drilled,
    Effect,
    Event,
    Exit,
    Failing,
    Failure,
    Fence,
    HandoverAsked,
    Held,
    Hold,
    Install,
    KeepalivedFound,
    KeepalivedSaid,
    LinkChanged,
    Measure,
    Measured,
    OrdersRecalled,
    Paused,
    Reloaded,
    StandingTold,
    Started,
    StopRequested,
    StreamOver,
    Ticked,
    Writable,
)
from floatip.core.fleet import Fleet, is_acknowledged
from floatip.core.health import CheckState, of_parts, of_sessions
from floatip.core.holding import Holding, Key, key
from floatip.core.instance import CUT_OFF_AT_LEAST, KEEP_TIME, Instance, is_held
from floatip.core.link.link import Changed
from floatip.core.link.wire import identity
from floatip.core.malformed import Malformed
from floatip.core.network import Network
from floatip.core.phases import Takeovers
from floatip.core.problems import KEEPS_CRASHING, UNSTEADY
from floatip.core.report import Reporter
from floatip.core.second_chance.moves import PREPARE_TIME, Moves
from floatip.core.second_chance.terms import Phase, Standing
from floatip.core.settings import Settings, Virtual
from floatip.core.sync_groups import MOST_ROUNDS, SyncGroup
from floatip.core.timers import Timers
from floatip.core.tracks import Tracked, tracked
from floatip.core.vrrp import wire

RELEASE_TIMEOUT = 0.5
"""Seconds without any progress after which a stopping node no longer waits for the kernel."""
LINK_PATIENCE = 0.05
"""Seconds for which a link may be gone: a lease that is renewed takes the address away for less than a millisecond."""
LOSSES, LOSSES_WINDOW = 5, 60.0
"""How often a link may be lost within so many seconds, however shortly, before it is a problem."""
SUBJECTS_KEPT = 512
TOLD_ONE_BY_ONE = 8
LOST = "lost", "removed by another program, or with its interface; floatip adds it again"
LAPSED = "lost", "the kernel removed it at the end of its lifetime: etcd has not confirmed it in time"
RELEASED = "released", "no instance holds it on this node any more"

K = TypeVar("K")

CUT_OFF, HOLD, BARRED, WITHDRAW, RELEASE, EXIT = "cut off", "hold", "barred", "withdraw", "release", "exit"
LINK, ACKNOWLEDGE, CONSULT, REPORT, TAKEN_OVER = "link", "acknowledge", "consult", "report", "taken over"
DRILL, ETCD, UNTIL, MOVES, KEPT = "drill", "etcd", "until", "moves", "kept"
SESSIONS = "BGP sessions"
"""What checks of them follow from. No check has a space in its name."""
ACKNOWLEDGE_INTERVAL, ACKNOWLEDGE_TIME = 0.02, 1.5
"""Seconds between two looks at whether the route servers have what a new master announces, and how long it looks."""
AT_ONCE = 16
"""Takeovers that are said to be complete in one go."""
BACKLOG = 0.05
"""Seconds for which a datagram may have waited."""
GOODBYE = 2.5
"""Hellos for which a node that stops goes on to say what it has let go of."""
KEEPING_INTERVAL = 0.5
"""Seconds between two looks of a node that is to stop at whether connections of it are left."""
LEAVE_TIME = 1.5
"""Seconds for which a node that stops waits for the others to take over."""


class Node:
    def __init__(self, config: Settings, now: float = 0.0) -> None:
        self.config = config
        self.checks = {check.name: CheckState(check, now) for check in config.checks}
        self.instances = {instance.name: Instance(instance, now) for instance in config.instances}
        self.groups = {group.name: SyncGroup(group, now) for group in config.sync_groups}
        self.network = Network(config.speaker, config.seed, now)
        self.sessions = self.network.sessions
        self.fleet = Fleet(config.link, config.boot, now) if config.link else None
        self.moves: Moves | None = None
        """None: there is no second chance."""
        self.departure = Departure()
        self.arbiter: Arbiter | None = None
        """None: etcd has no part in the election."""
        self.reporter = Reporter(now)
        self.holding = Holding()
        self.links: dict[str, str] = {}
        """Why VRRP cannot work on an interface; empty: it can."""
        self._lacking: dict[str, frozenset[Address]] = {}
        """The sources that an interface cannot send from, where that is its only fault."""
        self._blinks: dict[str, tuple[float, str, frozenset[Address]]] = {}
        """Interfaces that have just got a fault: when it counts unless it is gone by then."""
        self._lost_links: dict[str, deque[tuple[float, str]]] = {}
        """When each link was lost, and why: the latest of them."""
        self._unkept: dict[Placed, str] = {}
        """Addresses that do not stay where the host puts them, and why."""
        self.failures: dict[str, dict[str, tuple[float, Failure]]] = {}
        """What each part of the host cannot do, and since when."""
        self.dropped = Drops()
        """Adverts that nobody could read, by reason."""
        self.refused = refusals()
        """Adverts that no instance counts, by `Refused`."""
        self.strangers: Counter[tuple[str, int]] = Counter()
        """Adverts of virtual routers that no instance is, by interface and vrid, since the last reload."""
        self.strangers_at: dict[tuple[str, int], tuple[float, Address]] = {}
        """When the latest came, and from whom."""
        self.keepalived: KeepalivedFound | None = None
        self.keepalived_since = now
        self.keepalived_said: dict[tuple[str, str], tuple[str, float]] = {}
        """The last state of each of its instances and groups, ours or not, and since when; the latest last."""
        self.drill: Drill | None = None
        self.drill_until = math.inf
        self.draining = ""
        """Why this node is about to stop, while others take over."""
        self.stopping = ""
        self._unsucceeded: set[str] = set()
        """While stopping: the instances of which this node was master, and nobody is yet."""
        self.started_at = math.inf
        self.barred_until = math.inf
        """Because this node died again and again; `math.inf`: it did not."""
        self.clock_ahead = 0.0
        """Seconds from monotonic time to seconds since the epoch."""
        self._timers = Timers()
        self._marked: dict[str, None] = {}
        """The instances that the next review looks at."""
        self._routes: dict[str, dict[Prefix, Route]] = {}
        """What each instance announces."""
        self._takeovers = Takeovers()
        self._wants: dict[str, frozenset[Placed]] = {}
        self._fence = Fence(frozenset(), -math.inf)
        self._virtuals: tuple[Virtual, ...] = ()
        """Routes and rules that are to be there."""
        self._has_installed = False
        """Whether the host knows of them; until then what a predecessor left may be there."""
        self._has_virtuals = False
        """Whether the configuration has, or had, routes or rules."""
        self._paused = ""
        """Why the nodes do not elect now."""
        self._withdraw_at = math.inf
        self._is_releasing = False
        self._withdraw_last = math.inf
        """When it stops, whatever connections are left."""
        self._arrange_moves(now)
        self._arbitrate(now)
        self._index()

    @property
    def running(self) -> bool:
        return self.started_at < math.inf

    @property
    def deadline(self) -> float:
        """Monotonic seconds; `math.inf`: nothing is waited for."""
        return self._timers.earliest if self.running else math.inf

    def handle(self, event: Event, now: float) -> list[Effect]:
        effects = self._handle(event, now)
        if self.departure.order:
            effects = [*effects, *self._look_at_departure(now)]
        return self.arbiter.bundled(effects) if self.arbiter else effects

    def _handle(self, event: Event, now: float) -> list[Effect]:
        match event:
            case AdvertReceived():
                return self._advert(event, now)
            case DatagramReceived():
                return self._datagram(event, now)
            case Ticked():
                return self._tick(now)
            case BytesReceived(peer, data) if session := self.sessions.get(peer):
                return self._session(session, session.received(data, now), now)
            case Writable(peer) if session := self.sessions.get(peer):
                self._takeovers.wrote(session, self._routes, now)
                return session.writable()
            case Measured(peer, acknowledged) if session := self.sessions.get(peer):
                return self._measured(session, acknowledged, now)
            case CheckDone() if check := self.checks.get(event.check):
                return self._check_done(check, event, now)
            case Held(addresses):
                return self._held(addresses, now)
            case KeepalivedFound():
                return self._keepalived_found(event, now)
            case KeepalivedSaid():
                return self._keepalived_said(event, now)
            case LinkChanged(interface, up, reason):
                return self._link(interface, "" if up else reason, event.lacking, now)
            case Connected(peer, local) if session := self.sessions.get(peer):
                return self._session(session, session.connected(local, now), now)
            case Disconnected(peer, reason, trouble) if session := self.sessions.get(peer):
                return self._session(session, session.disconnected(reason, now, trouble), now)
            case Failing(part, failures):
                return self._failing(part, failures, now)
            case Reloaded(config):
                return [] if self.stopping else self._reload(config, now)
            case StopRequested(reason):
                return self._hand_over(reason, now) or self._drain(reason, now) or self._stop(reason, now)
            case Drained() | Paused() | HandoverAsked() | OrdersRecalled() if self.fleet:
                return self._order(self.fleet, event, now)
            case EtcdMembers() if self.arbiter:
                self.arbiter.met(event, now)
                return []
            case EtcdAnswered() | EtcdChanged() | EtcdUnwatched() | EtcdTrouble() if self.arbiter:
                return self._etcd(self.arbiter, event, now)
            case StandingTold(standing) if self.moves:
                return self._told_standing(self.moves, standing, now)
            case StreamOver(over) if self.moves:
                self.departure.over(over)
                effects = self.moves.over(over, now)
                self._look_at_stop(now)
                return effects
            case Drilled(drill):
                return self._drilled(drill, "the command has ended", now)
            case Started(barred_for):
                return [] if self.stopping else self._start(barred_for, now)
            case ClockMoved(ahead):
                self.clock_ahead = ahead
                for instance in self.instances.values():
                    instance.tell_time(ahead)
                return self._consult(None, now) if self.running and not self.stopping else []
            case _:
                return []  # about a peer or a check that a reload removed

    # Start and reload

    def _start(self, barred_for: float, now: float) -> list[Effect]:
        self.started_at = self.network.began_at = now
        for instance in self.instances.values():
            instance.begin(self.holding, may_ask=not barred_for, now=now)
        self._await_cut_off()
        effects = self._consult(None, now) + self._derive(now) + self._tick(now)
        effects += self.arbiter.begin(now) if self.arbiter else []
        self._await_etcd(now)
        if barred_for:
            self.barred_until = now + barred_for
            self._timers.set(BARRED, self.barred_until)
            reason = UNSTEADY if self.holds_back else KEEPS_CRASHING
            effects.append(Became("start", "floatip", "barred", reason))
        self._mark(self.instances)
        return effects + self._review(now)

    def _reload(self, config: Settings, now: float) -> list[Effect]:
        """What is the same in it is not touched, and what differs only in figures goes on with the new ones."""
        effects: list[Effect] = []
        self.checks = {c.name: self._reloaded_check(c, now) for c in config.checks}
        wanted = {instance.name: instance for instance in config.instances}
        for name, instance in self.instances.items():
            if name not in wanted or not instance.goes_on_as(wanted[name]):
                stopped = instance.stop("removed or changed by a reload", now)
                # Of one that goes on, its new election speaks, if anything becomes different.
                effects += [effect for effect in stopped if name not in wanted or not isinstance(effect, Became)]
        self.instances = {i.name: self._reloaded_instance(i, now, effects) for i in config.instances}
        self.groups = {group.name: self.groups.get(group.name) or SyncGroup(group, now) for group in config.sync_groups}
        ended, failures = self.network.reconfigure(config.speaker, now)
        effects += [*self._failing("router id", failures, now), *ended]
        self._reload_fleet(config, now)
        self._takeovers.keep(self.instances)
        self.config = config
        self._arrange_moves(now)
        effects += self._arbitrate(now)
        self.dropped = Drops()  # it may be what this mends
        self.strangers.clear()
        self.strangers_at.clear()
        self._index()
        if self.drill and self.drill.fails and (check := self.checks.get(self.drill.check)):
            effects += self._taken(check, check.take_as_failed(_why_failed(self.drill), now), now)
        if not self.follows_keepalived:
            self.keepalived = None
            self.keepalived_said.clear()
        self._mark(self.instances)
        return effects + self._derive(now) + self._consult(None, now) + self._review(now)

    def _reloaded_check(self, config: settings.Check, now: float) -> CheckState:
        check = self.checks.get(config.name)
        if check is None or not check.goes_on_as(config):
            return CheckState(config, now)
        check.reconfigure(config, now)
        return check

    def _reloaded_instance(self, config: settings.Instance, now: float, effects: list[Effect]) -> Instance:
        instance = self.instances.get(config.name)
        if instance is None or not instance.goes_on_as(config):
            instance, known = Instance(config, now), frozenset[Subject]()
        else:
            known = instance.elector.hears
            effects += instance.reconfigure(config, now)
        effects += instance.see(self.holding, now)
        for subject, fact in self._known_facts():
            if subject in instance.elector.hears - known:
                effects += instance.hear(fact, now)
        return instance

    def _known_facts(self) -> Iterable[tuple[Subject, Fact]]:
        """What an elector that a reload made, or gave another name, has not heard."""
        if self.keepalived is not None:
            yield KEEPALIVED, self.keepalived
            for (kind, name), (state, at) in self.keepalived_said.items():
                yield keepalived(kind, name), KeepalivedSaid(kind, name, state, True, at)  # type: ignore[arg-type]

    def _index(self) -> None:
        """What is looked up at every event, made once a configuration."""
        instances = self.instances.values()
        self._hearers: dict[Subject, list[Instance]] = {}
        for instance in instances:
            for subject in instance.elector.hears:
                self._hearers.setdefault(subject, []).append(instance)
        for group in self.config.sync_groups:
            self.groups[group.name].configure(group, self.instances)
        self._group_of = {name: group for group in self.groups.values() for name in group.names}
        self._tracked = {name: self._all_tracked(instance) for name, instance in self.instances.items()}
        self.derived = _in_order([check for check in self.checks.values() if check.is_derived])
        self.by_check = _grouped(self._dependents())
        by_role = [check for check in self.checks.values() if check.config.master_rise or check.config.master_fall]
        self._mind_role = [
            (check, [self.instances[name] for name in self.by_check.get(check.config.name, ())]) for check in by_role
        ]
        self._has_virtuals |= any(each.config.virtuals for each in instances)
        self._by_ip = _grouped((target.ip, i.config.name) for i in instances for target in i.targets)
        self._position = {name: position for position, name in enumerate(self.instances)}
        self.network.cut_off_time = max([CUT_OFF_AT_LEAST, *(i.elector.detection_time for i in instances)])
        gone = [name for name in self._routes if name not in self.instances]
        self._mark(gone)
        self._timers = Timers()
        all_of_them: list[CheckState | Instance | Session | SyncGroup]
        all_of_them = [*self.checks.values(), *self.instances.values(), *self.sessions.values(), *self.groups.values()]
        for one in all_of_them:
            self._timers.set(one, one.deadline)
        self._await_cut_off()
        self._timers.set(HOLD, self.holding.again_at)
        self._timers.set(BARRED, self.barred_until)
        self._timers.set(DRILL, self.drill_until)
        self._timers.set(MOVES, self.moves.deadline if self.moves else math.inf)
        self._timers.set(WITHDRAW, self._withdraw_at)
        if self.fleet:
            self._timers.set(LINK, self.fleet.link.deadline)
            self._timers.set(REPORT, self.reporter.at)
        if self.arbiter:
            self._timers.set(ETCD, self.arbiter.deadline)
            self._timers.set(UNTIL, self.arbiter.until)
        for interface, (at, *_) in self._blinks.items():
            self._timers.set(("link", interface), at)

    def _all_tracked(self, instance: Instance) -> Tracked:
        """What its sync group has counts for each member. Weights of its own only if the group says so."""
        config, group = instance.config, self._group_of.get(instance.config.name)
        checks, tracks = config.checks, config.tracks
        if group:
            are_kept = group.config.members_have_weights
            checks += group.config.checks
            tracks = tuple(one for one in tracks if are_kept or not one.weight) + group.config.tracks
        return tracked([self.checks[name] for name in checks], [(one, self.checks[one.check]) for one in tracks])

    def tracked(self, instance: Instance) -> Tracked:
        """The checks that count for it."""
        return self._tracked[instance.config.name]

    def group_of(self, instance: Instance) -> SyncGroup | None:
        return self._group_of.get(instance.config.name)

    def _dependents(self) -> Iterable[tuple[str, str]]:
        """Each check with each instance that it counts for, also by a check that is made of others."""
        parts = {check.config.name: check.config.of for check in self.derived}
        for name, has in self._tracked.items():
            found: dict[str, None] = {}
            left = [check.config.name for check in (*has.checks, *(check for _, check in has.tracks))]
            while left:
                if (check := left.pop()) not in found:
                    found[check] = None
                    left += parts.get(check, ())
            yield from ((check, name) for check in found)

    @property
    def follows_keepalived(self) -> bool:
        return KEEPALIVED in self._hearers

    def is_followed(self, kind: str, name: str) -> bool:
        """Whether an instance follows what keepalived says of its instance or group `name`."""
        return keepalived(kind, name) in self._hearers

    # Time

    def _tick(self, now: float) -> list[Effect]:
        if not self.running:
            return []
        due = dict.fromkeys(self._timers.due(now))
        effects: list[Effect] = []
        if RELEASE in due:
            effects += self._release(now)
        if EXIT in due:
            effects += self._exit(is_over=True)
        if WITHDRAW in due:
            if self._is_keeping(now):
                self._withdraw_in(KEEPING_INTERVAL, now)
            else:
                effects += self._drain(self.draining, now) or self._stop(self.draining, now)
            if self.stopping:
                return effects
        if CUT_OFF in due:
            effects += self._review(now)  # before an elector claims what it must not
            self._await_cut_off()
        if LINK in due and self.fleet:
            effects += self._tick_link(self.fleet, now)
        if ETCD in due and self.arbiter:
            effects += self.arbiter.tick(now)
            effects += self._rule(self.arbiter, now)
        if UNTIL in due:
            self._mark(self._bound)
        if CONSULT in due:
            effects += self._consult(set(), now)
        if REPORT in due and self.fleet:
            self.reporter.tick(self, self.fleet.link, now)
            self._timers.set(REPORT, self.reporter.at)
        if MOVES in due and self.moves:
            self._mark(self.instances)
        if TAKEN_OVER in due:
            effects += self._acknowledged(now)
        if ACKNOWLEDGE in due:
            effects += self._await_acknowledgement(now)
        if BARRED in due:
            self.barred_until = math.inf
            effects.append(Became("start", "floatip", "steady", "it has run for a minute"))
            self._mark(self.instances)
        if DRILL in due:
            effects += self._drilled(None, "its time is over", now)
        for one in due:
            match one:
                case ("link", str(interface)) if interface in self._blinks:
                    effects += self._link_is(interface, *self._blinks.pop(interface)[1:], now)
                case SyncGroup():
                    self._mark(one.names)
        for one in due:
            if isinstance(one, CheckState):
                effects += self._tick_check(one, now)
        for one in due:
            if isinstance(one, Instance):
                effects += self._tick_instance(one, now)
        for one in due:
            if isinstance(one, Session):
                effects += one.tick(now)
                self._timers.set(one, one.deadline)
        return effects + self._review(now) if self._marked or HOLD in due else effects

    def _tick_check(self, check: CheckState, now: float) -> list[Effect]:
        verdict = check.health
        effects = check.tick(now)
        self._timers.set(check, check.deadline)
        if check.health is not verdict:
            self._mark(self.by_check.get(check.config.name, ()))
            effects += self._derive(now, check.config.name)
        return effects

    def _tick_instance(self, instance: Instance, now: float) -> list[Effect]:
        role, is_patient = instance.role, now < instance.patience
        wanted = instance.wants_master
        effects = instance.tick(now) + self._bid(instance, now)
        self._await(instance)
        if instance.role is not role or not is_patient or instance.elector.asks:
            self._mark([instance.config.name])
        elif instance.wants_master and not wanted and (group := self.group_of(instance)) and group.is_willing:
            self._mark([instance.config.name])  # before it is, nobody has to look at the whole group
        return effects

    def _await(self, instance: Instance) -> None:
        if not self.stopping:
            self._timers.set(instance, instance.deadline)

    def _await_cut_off(self) -> None:
        is_late = self.network.cut_off or self.stopping
        self._timers.set(CUT_OFF, math.inf if is_late else self.network.cut_off_at)

    # Events

    def _check_done(self, check: CheckState, done: CheckDone, now: float) -> list[Effect]:
        before = check.health, check.value
        effects = check.done(done.run, done.passed, done.reason, now, done.value)
        self._timers.set(check, check.deadline if not self.stopping else math.inf)
        if (check.health, check.value) == before:
            return effects
        self._mark(self.by_check.get(check.config.name, ()))
        effects += self._derive(now, check.config.name)
        return effects + self._review(now)

    def _drilled(self, drill: Drill | None, why: str, now: float) -> list[Effect]:
        """`why` it is over, if it is."""
        before, self.drill = self.drill, drill
        if before is None and drill is None:
            return []
        effects: list[Effect] = []
        if drill:
            self.drill_until = now + drill.lasts
        if before is None and drill:
            effects.append(Became("drill", drill.instance, "began", f"{drill.fault}, {drill.by}"))
        if drill and drill.fails and (check := self.checks.get(drill.check)):
            effects += self._taken(check, check.take_as_failed(_why_failed(drill), now), now)
        if before and drill is None:
            self.drill_until = math.inf
            effects.append(Became("drill", before.instance, "over", f"{why}: {before.fault}, {before.by}"))
            if check := self.checks.get(before.check):
                effects += self._taken(check, check.take_as_it_is(now), now)
        self._timers.set(DRILL, self.drill_until)
        if self.fleet:
            self.fleet.drills = drill is not None
            self._mark(self.instances)
        return effects + self._review(now)

    def _taken(self, check: CheckState, effects: list[Effect], now: float) -> list[Effect]:
        self._mark(self.by_check.get(check.config.name, ()))
        return effects + self._derive(now, check.config.name)

    def _derive(self, now: float, changed: str = "") -> list[Effect]:
        """The checks that follow from `changed`, another check or `SESSIONS`; empty: all of them."""
        effects: list[Effect] = []
        if self.stopping:
            return effects
        those = {changed}
        for check in self.derived:
            if not changed or not those.isdisjoint(check.config.of or (SESSIONS,)):
                verdict = check.health
                effects += check.conclude(*self._conclusion(check.config), now)
                self._timers.set(check, check.deadline)
                if check.health is not verdict:
                    those.add(check.config.name)
                    self._mark(self.by_check.get(check.config.name, ()))
        return effects

    def _conclusion(self, config: settings.Check) -> tuple[bool | None, str]:
        if config.of:
            return of_parts(config.quorum, [self.checks[name] for name in config.of])
        up = sum(session.is_up for session in self.sessions.values())
        return of_sessions(config.sessions, up, len(self.sessions))

    def _advert(self, event: AdvertReceived, now: float) -> list[Effect]:
        try:
            advert = wire.parse(event.data, event.source, event.destination)
        except Malformed as error:
            self.dropped.count(error.what, now)
            self._count_refused(event, error.code)
            return []
        hearers = self._hearers.get(adverts(event.interface, advert.vrid, event.source.version))
        if hearers is None:
            return self._stranger(event.interface, advert.vrid, event.source, now)
        if self.stopping and advert.priority not in (0, ASKING):
            self._succeeded({instance.config.name for instance in hearers}, now)
        if not self.running or self.stopping:
            return []
        return self._tell(hearers, Heard(advert, event.source, event.ttl, event.destination), now)

    def _count_refused(self, event: AdvertReceived, why: int) -> None:
        """At the virtual routers that it names, if it names one."""
        vrid = event.data[1] if len(event.data) > 1 else 0
        for instance in self._hearers.get(adverts(event.interface, vrid, event.source.version), ()):
            if instance.elector.adverts:
                instance.elector.adverts.refused[why] += 1
                return
        self.refused[why] += 1

    def _stranger(self, interface: str, vrid: int, source: Address, now: float) -> list[Effect]:
        self.refused[Refused.UNKNOWN_VRID] += 1
        is_known = (interface, vrid) in self.strangers
        if vrid not in self.config.other_vrids and (is_known or len(self.strangers) < SUBJECTS_KEPT):
            self.strangers[interface, vrid] += 1
            self.strangers_at[interface, vrid] = now, source
        return []

    def _tell(self, hearers: Iterable[Instance], fact: Fact, now: float) -> list[Effect]:
        effects = [effect for instance in hearers for effect in self._hear(instance, fact, now)]
        return effects + self._review(now) if self._marked else effects

    def _hear(self, instance: Instance, fact: Fact, now: float) -> list[Effect]:
        effects = instance.hear(fact, now)
        self._await(instance)
        if isinstance(instance.elector, NodesElector):
            bids = self._bid(instance, now)
            effects = [*effects, *bids] if bids else effects
            if self.moves and instance.elector.asks:
                self._mark([instance.config.name])
        if not effects:
            return effects
        news = [effect for effect in effects if isinstance(effect, Became)]
        if any(one.what != "advert" for one in news):
            self._mark([instance.config.name])
        group = self._group_of.get(instance.config.name) if news else None
        if group and any(one.what == "advert" for one in news):
            # A lower master of one member may have misled the neighbours of all.
            others = (each for each in group.members if each is not instance)
            effects = [*effects, *(effect for each in others for effect in each.defend(now))]
        return effects

    def _keepalived_found(self, event: KeepalivedFound, now: float) -> list[Effect]:
        self.keepalived, self.keepalived_since = event, now if event.since is None else event.since
        if not event.running:
            self.keepalived_said.clear()
        return self._tell(self._hearers.get(KEEPALIVED, ()), event, now)

    def _keepalived_said(self, event: KeepalivedSaid, now: float) -> list[Effect]:
        subject = event.kind, event.name
        self.keepalived_said.pop(subject, None)
        if len(self.keepalived_said) < SUBJECTS_KEPT:
            self.keepalived_said[subject] = event.state, now if event.at is None else event.at
        return self._tell(self._hearers.get(keepalived(*subject), ()), event, now)

    def _held(self, addresses: frozenset[Placed], now: float) -> list[Effect]:
        changed, found, lost, released = self.holding.take(addresses)
        gone = ("released", self.stopping) if self.stopping else LOST
        lapsed = self._lapsed(now) & set(lost) if lost else set()
        effects: list[Effect] = [
            *_told([one for one in lost if one not in lapsed], *gone),
            *_told([one for one in lost if one in lapsed], *LAPSED),
            *_told(released, *RELEASED),
            *_told(found, "held", "confirmed by the kernel"),
        ]
        if self.stopping:
            if self._is_releasing and lost:
                self._timers.set(EXIT, now + RELEASE_TIMEOUT)
            return effects + self._depart(now) + self._exit(is_over=False)
        if lost:
            self.holding.again_at = now
        touched = dict.fromkeys(name for p in changed for name in self._by_ip.get(p.address.ip, ()))
        are_lost, are_found = set(lost), set(found)
        for name in touched:
            instance = self.instances[name]
            for target in instance.targets:
                if target.key in are_lost:
                    instance.lost_at[target.ip] = now
                    self._look_at_end(instance, now)
                elif target.key in are_found:
                    instance.lost_at.pop(target.ip, None)
            if all(target.key in self.holding.placed for target in instance.targets):
                instance.doubted_until = -math.inf
            effects += instance.see(self.holding, now)
            self._await(instance)
        if found and self._virtuals:
            self._has_installed = False  # some may have waited for their source address
        if effects:
            self._mark(touched)
            effects += self._review(now)
        return effects

    def _link(self, interface: str, fault: str, lacking: frozenset[Address], now: float) -> list[Effect]:
        if fault and self.running and self.links.get(interface) == "":
            effects = self._link_lost(interface, fault, now) if interface not in self._blinks else []
            at = self._blinks[interface][0] if interface in self._blinks else now + LINK_PATIENCE
            self._blinks[interface] = at, fault, lacking
            self._timers.set(("link", interface), at)
            return effects
        is_back = self._blinks.pop(interface, None) is not None and not fault
        if is_back:
            self.holding.again_at = now  # if it is a new interface, its addresses could not be added until now
        effects = self._link_is(interface, fault, lacking, now)
        return effects + self._review(now) if effects or is_back else []

    def _link_lost(self, interface: str, fault: str, now: float) -> list[Effect]:
        was_unsteady = interface in self.unsteady_links(now)
        lost = self._lost_links.setdefault(interface, deque(maxlen=LOSSES))
        if not was_unsteady:  # else it goes on, until there was none for as long
            while lost and now > lost[0][0] + LOSSES_WINDOW:
                lost.popleft()
        lost.append((now, fault))
        if was_unsteady or not (why := self.unsteady_links(now).get(interface)):
            return []
        return [Became("link", interface, "unsteady", why[1])]

    def unsteady_links(self, now: float) -> dict[str, tuple[float, str]]:
        """Interfaces whose link comes and goes: since when, and why."""
        often = {name: lost for name, lost in self._lost_links.items() if len(lost) == LOSSES}
        return {
            name: (
                lost[0][0],
                f"lost at least {LOSSES} times, never steady for {LOSSES_WINDOW:g} s since, "
                f"the last time because {lost[-1][1]}",
            )
            for name, lost in often.items()
            if now <= lost[-1][0] + LOSSES_WINDOW
        }

    def link_fault(self, instance: Instance) -> str:
        """Why its election cannot take place on its interface; empty: it can."""
        interface, election = instance.elector.interface, instance.config.election
        lacking = self._lacking.get(interface)
        if lacking and isinstance(election, settings.Vrrp | settings.Keepalived) and election.source not in lacking:
            return ""
        return self.links.get(interface, "")

    def _link_is(self, interface: str, fault: str, lacking: frozenset[Address], now: float) -> list[Effect]:
        if self.links.get(interface) == fault:
            return []
        self.links[interface], self._lacking[interface] = fault, lacking
        self._mark(name for name, instance in self.instances.items() if instance.elector.interface == interface)
        value = "down" if fault else "up"
        return [Became("link", interface, value, fault or "it is up, with its addresses")]

    def _session(self, session: Session, effects: list[Effect], now: float) -> list[Effect]:
        self._timers.set(session, session.deadline if not self.stopping else math.inf)
        if not any(isinstance(effect, Became) for effect in effects):
            return effects
        self._await_cut_off()
        if self.fleet:
            self._mark(self.instances)  # the other nodes are told who is ready
        return effects + self._derive(now, SESSIONS) + self._review(now)

    def _measured(self, session: Session, acknowledged: bool, now: float) -> list[Effect]:
        session.measured(acknowledged, now)
        self._await_cut_off()
        effects = self._review(now) if self.network.cut_off and acknowledged else []
        return effects + self._acknowledged(now) if acknowledged else effects

    def _failing(self, part: str, failures: frozenset[Failure], now: float) -> list[Effect]:
        """A level: what is not named any more works again."""
        before = self.failures.get(part, {})
        in_order = sorted(failures, key=lambda one: one.what)
        after = {one.what: before.get(one.what, (now, one)) for one in in_order}
        effects: list[Effect] = [
            Became("failure", what, "mended", "it works now") for what in sorted(before.keys() - after.keys())
        ]
        for one in in_order:
            since, known = after[one.what]
            if one.what not in before or known != one:
                after[one.what] = since, one
                effects.append(Became("failure", one.what, "failed", one.reason, one.hint))
        self.failures[part] = after
        before_it, self._unkept = self._unkept, self._unkept_addresses()
        if changed := before_it.keys() ^ self._unkept.keys():
            self._mark(name for placed in changed for name in self._by_ip.get(placed.address.ip, ()))
            effects += self._review(now)
        return effects

    def _unkept_addresses(self) -> dict[Placed, str]:
        known = [failure for failures in self.failures.values() for _, failure in failures.values()]
        return {placed: f"{one.what}: {one.reason}" for one in known for placed in one.unkept}

    # The review

    def _mark(self, names: Iterable[str]) -> None:
        self.reporter.is_marked = True
        self._marked.update(dict.fromkeys(names))

    def _review(self, now: float) -> list[Effect]:
        if not self.running:
            return []
        effects = self.network.review(now)
        if effects:
            self._await_cut_off()
            self._mark(self.instances)
        marked, self._marked = self._marked, {}
        if self._group_of:
            groups = {group: None for name in marked if (group := self._group_of.get(name))}
            marked |= {name: None for group in groups for name in group.names}
        names = sorted((name for name in marked if name in self.instances), key=self._position.__getitem__)
        instances = [self.instances[name] for name in names]
        for instance in instances:
            effects += instance.take_health(self._tracked[instance.config.name].judge(), now)
            instance.unkept = next((why for placed, why in self._unkept.items() if placed in instance.placed), "")
        effects += self._prepare(instances, now)
        if not self.stopping:
            for instance in instances:
                if instance.config.name not in self._group_of:
                    effects += self._elect(instance, self._obstacles(instance, now), now)
            for group in groups if self._group_of else ():
                effects += self._elect_together(group, now)
        for instance in instances:
            withdrawn = self.fleet.withdraws if self.fleet and instance.role is not Role.MASTER else ""
            effects += instance.decide(self.stopping or withdrawn, self.config.speaker is not None, now)
        effects += self._announce(marked, now)
        effects += self._hold(marked, now)
        for check, those in self._mind_role:
            check.is_master = any(one.role is Role.MASTER for one in those)
        for instance in instances:
            effects += instance.tell_neighbours(self.holding)
            effects += self._look_at_takeover(instance, now)
            effects += self._bid(instance, now)
            self._await(instance)
        effects += self._arrange(instances, now)
        return effects + self._tell_others(self.fleet, instances, now) if self.fleet else effects

    def _elect(self, instance: Instance, obstacles: Obstacles, now: float) -> list[Effect]:
        return instance.elect(obstacles, self.network.hold_time, self.clock_ahead, now)

    def _elect_together(self, group: SyncGroup, now: float) -> list[Effect]:
        """What one member becomes may concern the others."""
        effects: list[Effect] = []
        for _ in range(MOST_ROUNDS):
            before = [member.role for member in group.members]
            own = [self._obstacles(member, now) for member in group.members]
            for member, obstacles in zip(group.members, group.constrain(own, now), strict=True):
                effects += self._elect(member, obstacles, now)
            if [member.role for member in group.members] == before:
                break
        effects += group.settle(now)
        self._timers.set(group, group.deadline)
        return effects

    def _obstacles(self, instance: Instance, now: float) -> Obstacles:
        fault = self.link_fault(instance)
        leaving, paused = (self.fleet.leaves(instance), self.fleet.pause_reason) if self.fleet else ("", "")
        unprepared = self._unprepared(instance)
        bar = self._bar(instance, now)
        outside = Obstacles(link=fault, barred=bar, leaving=leaving, paused=paused, unprepared=unprepared)
        return instance.obstacles(outside, now)

    def _bar(self, instance: Instance, now: float) -> str:
        """Why it must not be master; empty: it may."""
        if self.network.cut_off and instance.is_announced:
            limit = self.network.cut_off_time
            return f"cut off: no route server has acknowledged anything for more than {limit:.1f} s"
        if why := self._why_not_by_etcd(instance, now):
            return why
        # A standby of placement "all" serves; where only a master holds the address, nobody might.
        group = self._group_of.get(instance.config.name)
        are_served = all(one.config.placement == "all" for one in (group.members if group else (instance,)))
        return UNSTEADY if self.barred_until < math.inf and are_served else ""

    @property
    def holds_back(self) -> bool:
        """Whether a node that crashes again and again leaves an instance to others for a while."""
        return any(instance.config.placement == "all" for instance in self.instances.values())

    def _announce(self, marked: Iterable[str], now: float) -> list[Effect]:
        changes: dict[Prefix, Route | None] = {}
        gone: dict[Prefix, Route | None] = {}
        for name in marked:
            instance = self.instances.get(name)
            before, after = self._routes.pop(name, {}), instance.routes(self.holding, now) if instance else {}
            if after:
                self._routes[name] = after
            changes |= {prefix: route for prefix, route in after.items() if before.get(prefix) != route}
            gone |= {prefix: None for prefix in before if prefix not in after}
        # An address may have moved from one instance to another.
        return self.network.announce({**gone, **changes}, self._all_routes, now)

    def _all_routes(self) -> dict[Prefix, Route]:
        return {prefix: route for each in self._routes.values() for prefix, route in each.items()}

    def _hold(self, marked: Iterable[str], now: float) -> list[Effect]:
        if self.stopping:
            return []
        wanted = self.holding.wanted
        changed = wanted is None
        for name in marked:
            instance = self.instances.get(name)
            wants = instance.wants(now) if instance else frozenset[Placed]()
            changed |= self._wants.pop(name, frozenset()) != wants
            if wants:
                self._wants[name] = wants
        if changed or wanted is None:
            wanted = frozenset[Placed]().union(*self._wants.values())
        effects = [*self._fenced(now), *self.holding.want(wanted, now)]
        self._timers.set(HOLD, self.holding.again_at)
        return self._install(effects, now) if self._has_virtuals else effects

    def _install(self, held: list[Effect], now: float) -> list[Effect]:
        """`held`: what is done with the addresses. Routes go before them, and come after them."""
        before = self._virtuals
        self._virtuals = after = tuple(one for each in self.instances.values() for one in each.virtuals(now))
        if after == before and self._has_installed:
            return held
        kept = tuple(one for one in before if one in after)
        first: list[Effect] = [Install(kept)] if kept != before else []
        last: list[Effect] = [Install(after)] if kept != after or not self._has_installed else []
        self._has_installed = True
        return [*first, *held, *last]

    # etcd

    def _arbitrate(self, now: float) -> list[Effect]:
        """By the configuration: whether etcd decides, and for which instances it must."""
        config, effects = self.config.arbiter, list[Effect]()
        own = self.fleet.own if self.fleet else None
        if config is None or own is None:
            self.arbiter = None
        elif self.arbiter is None or self.arbiter.own.name != own.name:
            number = self.arbiter.number if self.arbiter else 0  # an answer to the one before is none to this one
            self.arbiter = Arbiter(config, own, self.config.boot, now, number)
            effects = self.arbiter.begin(now) if self.running else []
        else:
            self.arbiter.reconfigure(config, own, self.instances)
        if self.fleet:
            self.fleet.arbiter = self.arbiter
        self._bound = [name for name, instance in self.instances.items() if _needs_etcd(instance)]
        for name, instance in self.instances.items():
            if isinstance(instance.elector, NodesElector):
                instance.elector.ruling = self.arbiter.ruling(name) if self.arbiter else None
        return effects

    def _etcd(
        self, arbiter: Arbiter, event: EtcdAnswered | EtcdChanged | EtcdUnwatched | EtcdTrouble, now: float
    ) -> list[Effect]:
        effects: list[Effect] = []
        match event:
            case EtcdAnswered(number, answer):
                effects += arbiter.answered(number, answer, now)
            case EtcdChanged():
                effects += arbiter.changed(event, now)
            case EtcdUnwatched(reason):
                effects += arbiter.unwatched(reason, now)
            case EtcdTrouble(reason, hint):
                arbiter.troubled(reason, hint)
        return effects + self._rule(arbiter, now) if self.running and not self.stopping else effects

    def _rule(self, arbiter: Arbiter, now: float) -> list[Effect]:
        """What etcd has said reaches the instances."""
        effects: list[Effect] = []
        changed = arbiter.take_changed(self.instances)
        # Who is the owner and who carries it are learned together: else two nodes would take it from each other.
        for name in changed:
            self._take_ask(arbiter, name, now)
            elector = self.instances[name].elector
            if isinstance(elector, NodesElector):
                elector.ruling = arbiter.ruling(name)
        if changed:
            effects += self._consult({identity(name) for name in changed}, now)
        for name in changed:
            effects += self._hear(self.instances[name], arbiter.ruling(name), now)
        self._mark(changed)
        if any(self.instances[name].bar for name in self._bound) and now < arbiter.until:
            self._mark(self._bound)
        if self._marked:
            effects += self._review(now)
        self._await_etcd(now)
        return effects + self._fenced(now)

    def _take_ask(self, arbiter: Arbiter, name: str, now: float) -> None:
        """Somebody has asked by etcd that this node hands it over."""
        ask = arbiter.take_ask(name)
        if not ask or not self.fleet or ask.to not in ("", *self.fleet.link.peers):  # a name that somebody mistyped
            return
        if self.instances[name].role is Role.MASTER:
            self.fleet.wish(HandoverAsked((name,), ask.to), self.instances, now)

    def _await_etcd(self, now: float) -> None:
        if self.arbiter and not self.stopping:
            until = self.arbiter.until
            self._timers.set(ETCD, self.arbiter.deadline)
            self._timers.set(UNTIL, until if self._bound and now < until else math.inf)

    def _why_not_by_etcd(self, instance: Instance, now: float) -> str:
        """Why etcd keeps it from being master; empty: it does not."""
        if not _needs_etcd(instance):
            return ""
        if self.arbiter is None:
            return "it needs etcd, and the configuration has no table [etcd]"
        if now < self.arbiter.until and self.arbiter.until > instance.ended_until:
            return ""
        return f"etcd has not confirmed within {self.arbiter.hold_time:g} s what this node may have"

    def _look_at_end(self, instance: Instance, now: float) -> None:
        """The kernel ends an exclusive address a second or two early, and what is left is too short to put it back.

        To stay master for the rest would be an outage: another node may have it as soon as this one is not.
        """
        if instance.is_exclusive and self.arbiter and lifetime(self.arbiter.until - now) < 1:
            instance.ended_until = self.arbiter.until

    def _bid(self, instance: Instance, now: float) -> list[Effect]:
        """At etcd: claim what it wants, and let go of what it does not."""
        elector, name = instance.elector, instance.config.name
        if not self.arbiter or not isinstance(elector, NodesElector) or self.stopping:
            return []
        effects: list[Effect] = []
        if bid := elector.bid:
            why = elector.reason if elector.role is Role.MASTER else elector.why_bid
            effects = self.arbiter.bid(name, bid, why, now)
        elif elector.role is not Role.MASTER and instance.is_free(self.holding, now):
            effects = self.arbiter.let_go(name, now)
            if elector.ruling and elector.ruling.is_own:  # at once: what it has let go of is not its own any more
                elector.ruling = self.arbiter.ruling(name)
        if elector.role is Role.MASTER and self.arbiter.is_own(name):
            if instance.is_exclusive and now >= self.arbiter.free_at.get(name, 0.0):
                effects = [*effects, *self.arbiter.has_waited(name, now)]
            if name in self.arbiter.shorter:
                effects = [*effects, *self.arbiter.tell_lease(name, now)]
        self._timers.set(ETCD, self.arbiter.deadline)
        return effects

    def _fenced(self, now: float) -> list[Effect]:
        """Until when what is exclusive may be here."""
        if not self._bound or not self.arbiter:
            return []
        wanted = [name for name in self._bound if name in self._wants and self.instances[name].is_exclusive]
        fence = Fence(frozenset[Placed]().union(*(self._wants[name] for name in wanted)), self.arbiter.until)
        if fence == self._fence or not (fence.addresses or self._fence.addresses):
            return []
        self._fence = fence
        for name in wanted:
            if not all(target.key in self.holding.placed for target in self.instances[name].targets):
                self.instances[name].doubted_until = fence.until
        return [fence]

    def _lapsed(self, now: float) -> set[Key]:
        """Exclusive addresses whose lifetime in the kernel has run out: a later one would not end in time."""
        if not self._fence.addresses or lifetime(self._fence.until - now - HANDLING) >= 1:
            return set()
        return {key(placed) for placed in self._fence.addresses}

    def _depart(self, now: float) -> list[Effect]:
        """While stopping: tell etcd what this node does not have any more, and last that it is gone."""
        if not self.arbiter:
            return []
        effects: list[Effect] = []
        left = [name for name, each in self.instances.items() if not each.is_free(self.holding, now)]
        for name in self.instances:
            if name not in left:
                effects += self.arbiter.let_go(name, now)
        return effects if left else effects + self.arbiter.leave(now)

    # The second chance

    def _arrange_moves(self, now: float) -> None:
        """By the configuration."""
        wanted = self.config.second_chance if self.fleet else None
        if wanted is None:
            self.moves = None
        elif self.moves is None:
            self.moves = Moves(wanted, now)
        else:
            self.moves.config = wanted
            self.moves.keep(self.instances)
        if self.fleet:
            self.fleet.moves = self.moves

    def _prepare(self, instances: Iterable[Instance], now: float) -> list[Effect]:
        """What is to be done before planned moves."""
        if not self.moves or not self.fleet or self.stopping:
            return []
        effects: list[Effect] = []
        for instance in instances:
            name = instance.config.name
            if instance.role is Role.MASTER and self.fleet.wants_to_leave(instance):
                wish = self.fleet.wishes.get(name)
                heirs = [one.name for one in self.fleet.heirs(name)]
                named = [wish.successor] if wish and wish.successor in heirs else heirs
                effects += self.moves.prepare(instance, Phase.OFFERS, named, now)
            elif instance.role is Role.BACKUP and instance.elector.asks:
                carrier = self.fleet.carrier(name)
                effects += self.moves.prepare(instance, Phase.ASKS, [carrier] if carrier else [], now)
            else:
                self.moves.forget(name)
        return effects

    def _unprepared(self, instance: Instance) -> str:
        """What has to be done before it takes over from a master that is well; empty: nothing."""
        carrier = self.fleet.carrier(instance.config.name) if self.moves and self.fleet else ""
        if not carrier or not self.moves or instance.role is not Role.BACKUP:
            return ""
        has_to = self.moves.has_to_prepare(instance, carrier)
        return f"the open connections of {carrier} are listed first" if has_to else ""

    def _arrange(self, instances: Iterable[Instance], now: float) -> list[Effect]:
        """What its process is to know. An elector that has just asked is to be prepared for."""
        if not self.moves:
            return []
        effects = [] if self.stopping else self._prepare([one for one in instances if one.elector.asks], now)
        self._timers.set(MOVES, self.moves.deadline)
        return effects + self.moves.arrange(instances, now)

    def _told_standing(self, moves: Moves, standing: Standing, now: float) -> list[Effect]:
        concerned, effects = moves.take(standing, now)
        if concerned is None or concerned:
            self._mark(self.instances if concerned is None else concerned)
        effects += self._review(now) if self._marked and self.running else []
        self._look_at_stop(now)
        return effects

    def _is_keeping(self, now: float) -> bool:
        """Whether this node, which is about to stop, still has connections that another one forwards to it."""
        return bool(self.moves and self.draining and now < self._withdraw_last and self.moves.is_keeping(now))

    def waits_for_connections(self, now: float) -> bool:
        """Whether this node is to stop, and does not yet, because connections of it go on by another one."""
        return self._has_left(now) and not self.stopping and self._is_keeping(now)

    def keeps_connections(self, now: float) -> bool:
        """Whether connections of this node go on by another one, or may do so."""
        return self.moves is not None and self.moves.is_keeping(now)

    def _look_at_departure(self, now: float) -> list[Effect]:
        fleet, roles = self.fleet, [one.role for one in self.instances.values()]
        if not fleet or self.stopping:
            self.departure.give_up()
            return []
        is_meant = bool(fleet.drained) if self.departure.order is Ordered.DRAIN else (
            bool(fleet.wishes) or Role.MASTER not in roles
        )  # fmt: skip
        self._timers.set(KEPT, self.moves.kept_until if self.moves and self.moves.kept_until > now else math.inf)
        return self.departure.look(
            fleet.own.name,
            is_master=Role.MASTER in roles,
            is_meant=is_meant,
            keeps=self.keeps_connections(now),
        )

    def _look_at_stop(self, now: float) -> None:
        """Whether the last connection that it waits for has ended."""
        is_leaving = self.fleet and self.fleet.leaving and not self.stopping and not self.network.drains
        if is_leaving and self._has_left(now) and not self._is_keeping(now):
            self._withdraw_in(0.0, now)

    # The other nodes

    def _datagram(self, event: DatagramReceived, now: float) -> list[Effect]:
        if self.fleet is None or not self.running or self.stopping:
            return []
        effects, changed = self.fleet.link.received(event.source, event.data, event.at, now)
        self._timers.set(LINK, self.fleet.link.deadline)
        if not changed:
            return effects
        if now > event.at + BACKLOG:  # it is history, and what came after it may wait behind it
            self.fleet.pending |= changed
            self._timers.set(CONSULT, now)
            return effects
        return effects + self._consult(changed, now)

    def _tick_link(self, fleet: Fleet, now: float) -> list[Effect]:
        effects = fleet.expire(now + self.clock_ahead)
        if fleet.fulfil(self.instances, now) or effects:
            self._mark(self.instances)
        # What passes with time alone, such as the youth of a session, marks nobody.
        told, _ = fleet.tell((), len(self.instances), self.network, self.holding, now)
        said, changed = fleet.link.tick(now)
        self._timers.set(LINK, fleet.link.deadline)
        return effects + told + said + self._consult(changed, now)

    def _consult(self, changed: Changed | None, now: float) -> list[Effect]:
        """What the instances learn of the others."""
        if self.fleet is None or self.stopping:
            return []
        effects: list[Effect] = []
        pause = self.fleet.pause_reason
        if pause != self._paused:
            self._paused = pause
            self._mark(self.instances)
        for instance, around in self.fleet.consult(changed, self.instances, self.clock_ahead, now):
            effects += self._hear(instance, around, now)
        if self.fleet.pending:
            self._timers.set(CONSULT, max(now, self.fleet.plan_at))
        if self.arbiter and self._learn_freed(self.arbiter, self.fleet):
            return effects + self._rule(self.arbiter, now)
        return effects + self._review(now) if self._marked and self.running else effects

    def _learn_freed(self, arbiter: Arbiter, fleet: Fleet) -> bool:
        """From the former owners, over the link."""
        freed = [name for name, owner in arbiter.awaited.items() if fleet.has_freed(name, owner)]
        for name in freed:
            arbiter.freed(name)
        return bool(freed)

    def _tell_others(self, fleet: Fleet, instances: Iterable[Instance], now: float) -> list[Effect]:
        if any(_is_young(instance, now) for instance in instances):
            self._timers.set(ACKNOWLEDGE, now + ACKNOWLEDGE_INTERVAL)
        if fleet.fulfil(self.instances, now):
            self._mark(self.instances)  # who has handed over is in nobody's way any more
            self._timers.set(CONSULT, now)
        effects = self._say(fleet, instances, now)
        if fleet.leaving and not self.network.drains and self._has_left(now) and not self._is_keeping(now):
            # The next owner of what is exclusive waits for the word that it is free: it is repeated before the goodbye.
            self._withdraw_in(GOODBYE * fleet.link.config.interval if self._bound else 0.0, now)
        return effects

    def _say(self, fleet: Fleet, instances: Iterable[Instance], now: float) -> list[Effect]:
        effects, is_another_plan = fleet.tell(instances, len(self.instances), self.network, self.holding, now)
        if is_another_plan:
            self._timers.set(CONSULT, now)
        return effects

    def _await_acknowledgement(self, now: float) -> list[Effect]:
        """Of what new masters announce: the others wait for it."""
        young = [instance for instance in self.instances.values() if _is_young(instance, now)]
        if not young:
            return []
        effects = self._say(self.fleet, young, now) if self.fleet else []
        if self._takeovers.open or (self.fleet and self.fleet.awaits_acknowledgement(young)):
            self._timers.set(ACKNOWLEDGE, now + ACKNOWLEDGE_INTERVAL)
            effects += [Measure(session.peer) for session in self.sessions.values() if session.is_up]
        return effects

    def _look_at_takeover(self, instance: Instance, now: float) -> list[Effect]:
        before = len(self._takeovers.open)
        effects = self._takeovers.look(instance)
        if not self.sessions or not instance.is_announced:
            effects += self._told_by_arp(instance, now)
        elif len(self._takeovers.open) > before:
            self._timers.set(ACKNOWLEDGE, now + ACKNOWLEDGE_INTERVAL)
        return effects

    def _acknowledged(self, now: float) -> list[Effect]:
        """The takeovers of which all route servers know, a few at a time."""
        up = [session for session in self.sessions.values() if session.is_up]
        if not self._takeovers.open or not up:
            return []
        effects: list[Effect] = []
        at = min(session.acknowledged_at for session in up)
        ready = self._takeovers.written_before(at)
        for name in ready[:AT_ONCE]:
            if is_acknowledged(self.instances[name], up, self._holds(self.instances[name]), announces=True):
                effects += self._takeovers.complete(name, "acknowledged", at)
        if len(ready) > AT_ONCE:
            self._timers.set(TAKEN_OVER, now)
        return effects

    def _told_by_arp(self, instance: Instance, now: float) -> list[Effect]:
        """Its takeover, where there is no BGP."""
        name, is_master = instance.config.name, instance.config.placement == "master"
        if name not in self._takeovers.open or not instance.has_told_neighbours:
            return []
        if not is_acknowledged(instance, (), self._holds(instance), announces=False):
            return []
        last = "held and told by ARP" if is_master and instance.targets else "held" if instance.targets else "done"
        return self._takeovers.complete(name, last, now)

    def _holds(self, instance: Instance) -> bool:
        return all(is_held(self.holding, instance, target) for target in instance.targets)

    def _order(
        self, fleet: Fleet, event: Drained | Paused | HandoverAsked | OrdersRecalled, now: float
    ) -> list[Effect]:
        effects: list[Effect] = []
        match event:
            case Drained(order):
                if order and not fleet.drained:
                    self.departure.begin(Ordered.DRAIN)
                effects += fleet.drain(order)
            case Paused(order):
                effects += fleet.pause(order)
            case HandoverAsked():
                fleet.wish(event, self.instances, now)
                if fleet.wishes and not self.departure.order:
                    self.departure.begin(Ordered.HANDOVER)
            case OrdersRecalled(drained, paused):
                fleet.recall(drained, paused)
        self._mark(self.instances)
        return effects + self._consult(None, now)

    def _reload_fleet(self, config: Settings, now: float) -> None:
        if config.link is None:
            self.fleet = None
        elif self.fleet is None:
            self.fleet = Fleet(config.link, config.boot, now)
        else:
            self.fleet.reload(config.link, self.instances, now)

    def _hand_over(self, reason: str, now: float) -> list[Effect]:
        """Before a stop: whoever is ready takes over first, and open connections end first."""
        fleet = self.fleet
        if fleet is None or fleet.leaving or self.draining or self.stopping:
            return []
        hands_over = any(self._is_handed_over(one) and fleet.heirs(name) for name, one in self.instances.items())
        if not hands_over and not self.keeps_connections(now):
            return []
        fleet.leaving = self.draining = reason
        self._withdraw_in(LEAVE_TIME + (PREPARE_TIME if self.moves else 0.0), now)
        self._withdraw_last = now + self.moves.config.limit + LEAVE_TIME if self.moves else now
        self._mark(self.instances)
        first = "another node takes over first" if hands_over else "open connections of this node go on until they end"
        news = Became("node", fleet.own.name, "leaving", f"{reason}: {first}")
        return [news, *self._consult(None, now)]

    def _has_left(self, now: float) -> bool:
        instances = self.instances.values()
        return all(not self._is_handed_over(one) and one.is_free(self.holding, now) for one in instances)

    def _is_handed_over(self, instance: Instance) -> bool:
        """Whether another node has to take over before this one stops."""
        if instance.role is not Role.MASTER:
            return False
        if isinstance(instance.config.election, settings.Nodes):
            return True
        # By VRRP a stop says so to all at once (priority 0); to list the open connections first takes a moment.
        if not self.fleet or not self.moves or not self.moves.can_move(instance):
            return False
        return any(self.moves.works_with(heir.name) for heir in self.fleet.heirs(instance.config.name))

    # The end

    def _drain(self, reason: str, now: float) -> list[Effect]:
        """Before a stop, if asked for: our routes are everybody's last choice, and still there (RFC 8326)."""
        drain_time = self.network.drain_time
        if not drain_time or self.network.drains or self.stopping or not self._routes:
            return []
        self.draining = reason
        self._withdraw_in(drain_time, now)
        self.network.drain()
        news = Became("network", "route servers", "draining", f"{reason}: routes are withdrawn in {drain_time:g} s")
        return [news, *self._review(now)]

    def _withdraw_in(self, seconds: float, now: float) -> None:
        self._withdraw_at = now + seconds
        self._timers.set(WITHDRAW, self._withdraw_at)

    def _stop(self, reason: str, now: float) -> list[Effect]:
        if self.stopping:
            return []
        self.stopping = reason
        self._unsucceeded = {name for name, each in self.instances.items() if each.role is Role.MASTER}
        self.started_at = self.network.began_at = min(self.started_at, now)
        effects: list[Effect] = []
        for instance in self.instances.values():
            effects += instance.stop(reason, now)
        self._mark(self.instances)
        effects += self._review(now)
        effects += self._let_go(now)
        effects += self.fleet.link.leave(now) if self.fleet else []
        effects += self.network.stop(reason, now)
        self._timers = Timers()
        self._release_at = now + self.config.release_delay
        self._timers.set(RELEASE, self._release_at)
        return effects

    def _let_go(self, now: float) -> list[Effect]:
        """Of what is exclusive, before anything else: the next owner waits for that."""
        effects: list[Effect] = []
        exclusive = self._fence.addresses
        if exclusive:
            self._fence = Fence(frozenset(), self._fence.until)
            effects = [self._fence, *self.holding.want((self.holding.wanted or frozenset()) - exclusive, now)]
        return effects + self._depart(now)

    def _succeeded(self, names: set[str], now: float) -> None:
        """Another node is master of these. Where the master alone has the addresses, they need not stay longer here:
        two nodes would answer the neighbours. Routes take their time."""
        keeps = self.config.speaker or any(each.config.placement != "master" for each in self.instances.values())
        if self._unsucceeded and not keeps:
            self._unsucceeded -= names
            if not self._unsucceeded and now + KEEP_TIME < self._release_at:
                self._timers.set(RELEASE, now + KEEP_TIME)

    def _release(self, now: float) -> list[Effect]:
        self._is_releasing = True
        self._timers.set(EXIT, now + RELEASE_TIMEOUT)
        removed: list[Effect] = [Install(())] if self._virtuals else []
        self._virtuals = ()
        return [*removed, Hold(frozenset()), *self._exit(is_over=False)]

    def _exit(self, is_over: bool) -> list[Effect]:
        """`is_over`: the kernel has made no progress for too long."""
        if not self._is_releasing or not (is_over or self.holding.is_released):
            return []
        self._is_releasing = False
        self._timers.set(EXIT, math.inf)
        return [Exit()]


def _needs_etcd(instance: Instance) -> bool:
    election = instance.config.election
    return isinstance(election, settings.Nodes) and (election.exclusive or election.on_arbiter_loss == "release")


def _is_young(instance: Instance, now: float) -> bool:
    """Whether route servers may still be learning of this master."""
    return instance.role is Role.MASTER and now < instance.elector.reign_at + ACKNOWLEDGE_TIME


def _told(keys: list[Key], value: str, reason: str) -> list[Became]:
    """One line each, or one for many."""
    if len(keys) > TOLD_ONE_BY_ONE:
        interfaces = ", ".join(sorted({interface for interface, _ in keys}))
        return [Became("address", f"{len(keys)} on {interfaces}", value, reason)]
    addresses = sorted((address for _, address in keys), key=int)
    return [Became("address", str(address), value, reason) for address in addresses]


def _in_order(derived: list[CheckState]) -> list[CheckState]:
    """Each after what it is made of. Those in a circle, which every front end refuses, come last."""
    left, ordered = {check.config.name: check for check in derived}, list[CheckState]()
    while left:
        ready = [check for check in left.values() if left.keys().isdisjoint(check.config.of)] or [*left.values()]
        ordered += ready
        left = {name: check for name, check in left.items() if check not in ready}
    return ordered


def _grouped(pairs: Iterable[tuple[K, str]]) -> dict[K, list[str]]:
    groups: dict[K, list[str]] = {}
    for one, name in pairs:
        groups.setdefault(one, []).append(name)
    return groups


def _why_failed(drill: Drill) -> str:
    return f"a drill counts it as failed for at most {drill.lasts:.0f} s ({drill.by})"
