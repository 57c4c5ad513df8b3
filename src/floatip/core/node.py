"""The node: one door in, one list out. `handle(event, now)` is told what happened and what time it is and answers with
what is to be done; `deadline` is when it wants to be told the time again.

It routes events to the machines (checks, routers, sessions), and when something that matters has changed it
*reviews*: health -> role -> rank -> what to hold and what to announce, as whole sets. An advert that changes
nothing causes no review.

Order is safety here: hold -> confirmed by the kernel -> announce; withdraw -> release. Routes are made only from
addresses that are held, and the sessions' effects stand before `Hold` in every list.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from floatip.core import health, settings
from floatip.core.bgp import session as bgp
from floatip.core.bgp.attributes import Prefix
from floatip.core.bgp.session import Route, Session
from floatip.core.drops import Drops
from floatip.core.events import (
    Address,
    AdvertReceived,
    Became,
    BytesReceived,
    CheckDone,
    Connected,
    Disconnected,
    Effect,
    Event,
    Exit,
    Failed,
    Failing,
    Failure,
    Held,
    Hold,
    KeepalivedFound,
    KeepalivedSaid,
    LinkChanged,
    Measured,
    Mended,
    Placed,
    Started,
    StopRequested,
    Ticked,
    Writable,
)
from floatip.core.instance import CUT_OFF_AT_LEAST, Instance
from floatip.core.malformed import Malformed
from floatip.core.settings import Settings, Speaker, Vrrp
from floatip.core.vrrp import wire
from floatip.core.vrrp.follower import Follower

HOLD_AGAIN_INTERVAL = 1.0
RELEASE_TIMEOUT = 0.5
FAILURES_KEPT = 20
UNSTEADY = "it keeps dying: not master until it has run for a minute"
SUBJECTS_KEPT = 512
GRACEFUL_SHUTDOWN = (65535, 0)
NO_INSTANCE = "no instance has vrid"


class Node:
    def __init__(self, config: Settings, now: float = 0.0) -> None:
        self.config = config
        self.checks = {check.name: health.Check(check, now) for check in config.checks}
        self.instances = {instance.name: Instance(instance, now) for instance in config.instances}
        self.speaker = config.speaker
        """The one in force: a reload changes no router id, and a node that drains adds a community."""
        self.sessions = self._make_sessions(now)
        self._sessions_at = math.inf
        self.held: frozenset[Address] = frozenset()
        """What the kernel can answer for, wherever it is."""
        self.placed: frozenset[tuple[str, Address]] = frozenset()
        """The same with the interface of each."""
        self._found: frozenset[Placed] = frozenset()
        self.links: dict[str, str] = {}
        """Why VRRP cannot work on an interface; empty: it can."""
        self.failures: dict[str, tuple[float, Failed]] = {}
        """What the world refused lately, and when."""
        self._failing_parts: dict[str, dict[str, Failure]] = {}
        self.dropped = Drops()
        """Packets of protocol 112 that belong to no instance, by reason."""
        self.keepalived: KeepalivedFound | None = None
        self.keepalived_since = now
        self.keepalived_said: dict[tuple[str, str], tuple[str, float]] = {}
        """The last state of each of its instances and groups, ours or not, and since when; the latest last."""
        self.draining = ""
        """Why this node is about to stop, while others take over."""
        self.stopping = ""
        self.started_at = math.inf
        self.cut_off = False
        self._routes: Mapping[Prefix, Route] | None = None
        """What all sessions were told to announce; None: not all of them."""
        self._wanted: frozenset[Placed] | None = None  # not said yet, so that a predecessor's leftovers are released
        self._barred_until = math.inf
        """Because this node keeps dying; `math.inf`: it does not."""
        self._hold_again_at = math.inf
        self._withdraw_at = math.inf
        self._release_at = math.inf
        self._exit_at = math.inf
        self._index()

    @property
    def running(self) -> bool:
        return self.started_at < math.inf

    @property
    def deadline(self) -> float:
        """Monotonic seconds; `math.inf`: nothing is waited for."""
        if not self.running:
            return math.inf
        if self.stopping:
            return min(self._release_at, self._exit_at)
        waits = [self._hold_again_at, self._withdraw_at, self._sessions_at, self._barred_until]
        waits += [check.deadline for check in self.checks.values()]
        waits += [instance.deadline for instance in self.instances.values()]
        return min(waits) if self.cut_off else min(*waits, self._cut_off_at())

    def handle(self, event: Event, now: float) -> list[Effect]:
        match event:
            case AdvertReceived():
                return self._advert(event, now)
            case Ticked():
                return self._tick(now)
            case BytesReceived(peer, data) if peer in self.sessions:
                return self._session(self.sessions[peer], self.sessions[peer].received(data, now), now)
            case Writable(peer) if peer in self.sessions:
                return self.sessions[peer].writable()
            case Measured(peer, acknowledged) if peer in self.sessions:
                self.sessions[peer].measured(acknowledged, now)
                return self._review(now) if self.cut_off and acknowledged else []
            case CheckDone(name, run, passed, reason):
                effects = self.checks[name].done(run, passed, reason, now) if name in self.checks else []
                return self._reviewed(effects, now) if effects else []
            case Held(addresses):
                return self._held(addresses, now)
            case KeepalivedFound(running, reason):
                self.keepalived, self.keepalived_since = event, now if event.since is None else event.since
                if not running:
                    self.keepalived_said.clear()
                return self._reviewed([e for each in self.followers for e in each.found(running, reason, now)], now)
            case KeepalivedSaid():
                return self._keepalived_said(event, now)
            case LinkChanged(interface, up, reason):
                return self._link(interface, "" if up else reason, now)
            case Connected(peer, local) if peer in self.sessions:
                return self._session(self.sessions[peer], self.sessions[peer].connected(local, now), now)
            case Disconnected(peer, reason) if peer in self.sessions:
                return self._session(self.sessions[peer], self.sessions[peer].disconnected(reason, now), now)
            case Failing(part, failures):
                return self._failing(part, failures, now)
            case Failed():
                return self._fail(event, now)
            case Mended(what):
                return self._mend(what)
            case StopRequested(reason):
                return self._drain(reason, now) or self._stop(reason, now)
            case Started(barred_for):
                self.started_at = now
                effects = self._tick(now)
                if barred_for:
                    self._barred_until = now + barred_for
                    effects += self._fail(Failed("start", UNSTEADY, lasts=True), now)
                return self._reviewed(effects, now)
            case _:
                return []  # about a peer that a reload removed

    def reload(self, config: Settings, now: float) -> list[Effect]:
        """Take over a new configuration; what is the same in it is not touched."""
        effects: list[Effect] = []
        self.checks = {c.name: self._reloaded_check(c, now) for c in config.checks}
        for name, instance in self.instances.items():
            kept = next((i for i in config.instances if i.name == name), None)
            if instance.router is not None and (kept is None or not instance.goes_on_as(kept)):
                stopped = instance.router.stop("removed or changed by a reload", now)
                # Of one that goes on its new election speaks, if anything becomes different.
                effects += [effect for effect in stopped if kept is None or not isinstance(effect, Became)]
        self.instances = {i.name: self._reloaded_instance(i, now, effects) for i in config.instances}
        if not self.followers:
            self.keepalived = None
            self.keepalived_said.clear()
        effects += self._reload_sessions(config, now)
        self.config = config
        self.dropped = Drops()  # it may be what this mends
        self._index()
        return self._reviewed(effects, now)

    def _reloaded_check(self, config: settings.Check, now: float) -> health.Check:
        check = self.checks.get(config.name)
        if check is None or check.config.pushed != config.pushed:
            return health.Check(config, now)
        check.config = config
        return check

    def _reloaded_instance(self, config: settings.Instance, now: float, effects: list[Effect]) -> Instance:
        instance = self.instances.get(config.name)
        if instance is None or not instance.goes_on_as(config):
            instance = Instance(config, now)
        else:
            instance.reconfigure(config)
        effects += self._introduce(instance, now)
        return instance

    def _reload_sessions(self, config: Settings, now: float) -> list[Effect]:
        old, new = self.speaker, config.speaker
        peers = new.peers if new is not None else ()
        effects: list[Effect] = []
        if old is not None and new is not None and new.router_id != old.router_id:
            what = f"it stays {old.router_id} until the next start, since a change would end every session"
            effects += self._fail(Failed(f"router id {new.router_id}", what), now)
            new = replace(new, router_id=old.router_id)
        same = old is not None and new is not None and old.agrees_with(new)
        for peer, session in self.sessions.items():
            if peer not in peers:
                effects += session.stop(bgp.PEER_REMOVED, "removed by a reload", now)
            elif not same:
                effects += session.stop(bgp.CONFIGURATION_CHANGE, "changed by a reload", now)
        kept = {p: s for p, s in self.sessions.items() if p in peers and same}
        heard_at = max((s.acknowledged_at for s in self.sessions.values()), default=now)
        self._speak_as(new)
        self.sessions = self._make_sessions(now) | kept
        for session in self.sessions.values():
            session.acknowledged_at = max(session.acknowledged_at, heard_at)  # a reload is no cut
        self._await_sessions()
        return effects

    def _speak_as(self, speaker: Speaker | None) -> None:
        self.speaker = speaker
        for session in self.sessions.values():
            session.speaker = speaker or session.speaker
        self._routes = None  # so that the review announces to new sessions too, and new marks to the old

    def _make_sessions(self, now: float) -> dict[Address, Session]:
        speaker = self.speaker
        if speaker is None:
            return {}
        return {peer: Session(peer, speaker, self.config.seed, now) for peer in speaker.peers}

    def _index(self) -> None:
        """What is looked up at every event, made once a configuration."""
        elected = [(i, i.router) for i in self.instances.values() if i.router is not None]
        self._by_vrid = {(router.config.interface, router.config.vrid): instance for instance, router in elected}
        self.cut_off_time = max([CUT_OFF_AT_LEAST, *(router.master_down_interval for _, router in elected)])
        """Seconds without an acknowledgement from any route server after which this node must not be master."""

    def _tick(self, now: float) -> list[Effect]:
        if not self.running:
            return []
        if self.stopping:
            return self._release(now)
        if now >= self._withdraw_at:
            return self._stop(self.draining, now)
        effects: list[Effect] = []
        if not self.cut_off and now >= self._cut_off_at():
            effects += self._review(now)  # before a router claims what it must not
        review = now >= self._hold_again_at
        if now >= self._barred_until:
            self._barred_until, review = math.inf, True
            effects += self._mend("start")
        for check in self.checks.values():
            if now >= check.deadline:
                verdict = check.health
                effects += check.tick(now)
                review |= check.health is not verdict
        for instance in self.instances.values():
            if now >= instance.deadline:
                role = instance.role
                if instance.router is not None:
                    effects += instance.router.tick(now)
                review |= instance.role is not role or now >= instance.patience
        for session in self.sessions.values():
            if now >= session.deadline:
                up = session.is_up
                effects += session.tick(now)
                review |= session.is_up is not up
        self._await_sessions()
        return self._reviewed(effects, now) if review else effects

    def _advert(self, event: AdvertReceived, now: float) -> list[Effect]:
        try:
            advert = wire.parse(event.data, event.source, event.destination)
        except Malformed as error:
            return self._drop(error.what, now)
        instance = self._by_vrid.get((event.interface, advert.vrid))
        if instance is None or instance.router is None:
            if advert.vrid in self.config.other_vrids:
                return []
            return self._drop(f"{NO_INSTANCE} {advert.vrid} on {event.interface}", now)
        if not self.running or self.stopping:
            return []
        role = instance.role
        if isinstance(instance.router, Follower):
            effects = instance.router.receive(advert, event.source, now)
            return self._reviewed(effects, now) if effects else []
        effects = instance.router.receive(advert, event.source, event.ttl, now)
        if instance.role is not role:
            return self._reviewed(effects, now)
        return effects + instance.defend(self.held) if effects else effects

    def _drop(self, why: str, now: float) -> list[Effect]:
        self.dropped.count(why, now)
        return []

    @property
    def followers(self) -> list[Follower]:
        return [i.router for i in self.instances.values() if isinstance(i.router, Follower)]

    def _keepalived_said(self, event: KeepalivedSaid, now: float) -> list[Effect]:
        subject = event.kind, event.name
        self.keepalived_said.pop(subject, None)
        if len(self.keepalived_said) < SUBJECTS_KEPT:
            self.keepalived_said[subject] = event.state, now if event.at is None else event.at
        meant = [follower for follower in self.followers if subject in follower.subjects]
        effects = [effect for follower in meant for effect in follower.said(event.state, event.is_old, now, event.at)]
        return self._reviewed(effects, now) if effects else []

    def _introduce(self, instance: Instance, now: float) -> list[Effect]:
        """What a follower that a reload made, or gave another name, has not heard."""
        effects = instance.sees(self._found, now)
        if isinstance(instance.router, Follower) and not instance.router.word and self.keepalived is not None:
            effects += instance.router.found(self.keepalived.running, self.keepalived.reason, now)
            for subject, (state, at) in self.keepalived_said.items():
                if subject in instance.router.subjects:
                    effects += instance.router.said(state, True, now, at)
        return effects

    def _held(self, addresses: frozenset[Placed], now: float) -> list[Effect]:
        ours = self._ours()
        self._found = addresses
        before, self.placed = self.placed, frozenset((p.interface, p.address.ip) for p in addresses)
        self.held = frozenset(address for _, address in self.placed)
        lost = sorted((a for _, a in (before - self.placed) & ours), key=int)
        found = sorted((a for _, a in (self.placed - before) & ours), key=int)
        effects: list[Effect] = [
            Became("address", str(a), "released", self.stopping)
            if self.stopping
            else Became("address", str(a), "lost", "somebody removed it: putting it back")
            for a in lost
        ]
        effects += [Became("address", str(a), "held", "the kernel has it") for a in found]
        for instance in self.instances.values():
            for address in instance.config.addresses:
                if address.ip in lost:
                    instance.lost_at[address.ip] = now
                elif address.ip in found:
                    instance.lost_at.pop(address.ip, None)
        if lost:
            self._hold_again_at = now
        if self.stopping:
            return effects + self._release(now)
        effects += [e for instance in self.instances.values() for e in instance.sees(addresses, now)]
        return self._reviewed(effects, now) if effects else []

    def _link(self, interface: str, fault: str, now: float) -> list[Effect]:
        if self.links.get(interface) == fault:
            return []
        self.links[interface] = fault
        value = "down" if fault else "up"
        return self._reviewed([Became("link", interface, value, fault or "up, with its addresses")], now)

    def _session(self, session: Session, effects: list[Effect], now: float) -> list[Effect]:
        self._await_sessions()
        news = any(isinstance(effect, Became) for effect in effects)
        return self._reviewed(effects, now) if news else effects

    def _await_sessions(self) -> None:
        """The deadline is asked for after every event, and few of them move a session's."""
        self._sessions_at = min([session.deadline for session in self.sessions.values()], default=math.inf)

    def _fail(self, failed: Failed, now: float) -> list[Effect]:
        _, known = self.failures.pop(failed.what, (0.0, None))
        self.failures[failed.what] = (now, failed)
        if len(self.failures) > FAILURES_KEPT:
            del self.failures[next(iter(self.failures))]
        return [] if known == failed else [Became("failure", failed.what, "failed", failed.reason)]

    def _failing(self, part: str, failures: frozenset[Failure], now: float) -> list[Effect]:
        """A level: what is not named any more works again."""
        before, after = self._failing_parts.get(part, {}), {failure.what: failure for failure in failures}
        self._failing_parts[part] = after
        effects: list[Effect] = []
        for what in sorted(before.keys() - after.keys()):
            effects += self._mend(what)
        for what in sorted(after):
            if after[what] != before.get(what):
                hint = f"\n  hint: {after[what].hint}" if after[what].hint else ""
                effects += self._fail(Failed(what, after[what].reason + hint, lasts=True), now)
        return effects

    def _mend(self, what: str) -> list[Effect]:
        return [Became("failure", what, "mended", "it works now")] if self.failures.pop(what, None) else []

    def _unsteady(self, instance: Instance) -> str:
        # A standby of placement "all" serves; where only a master holds the address, nobody might.
        return UNSTEADY if self._barred_until < math.inf and instance.config.placement == "all" else ""

    @property
    def acknowledged_at(self) -> float:
        """When a route server acknowledged something last, or this node began."""
        return max([self.started_at, *[session.acknowledged_at for session in self.sessions.values()]])

    def _cut_off_at(self) -> float:
        """When this node must take itself for cut off unless a route server acknowledges something before."""
        return self.acknowledged_at + self.cut_off_time if self.sessions else math.inf

    def _hold_time(self) -> float:
        """The longest time for which a route server may keep a route of a silent node."""
        up = [s.hold_time for s in self.sessions.values() if s.is_up]
        if up or self.speaker is None:
            return max(up, default=0)
        return self.speaker.hold_time

    def _reviewed(self, effects: list[Effect], now: float) -> list[Effect]:
        return effects + self._review(now)

    def _review(self, now: float) -> list[Effect]:
        if not self.running:
            return []
        effects = self._judge_network(now)
        limit = f"more than {self.cut_off_time:.1f} s"
        barred = f"cut off: no route server has answered for {limit}" if self.cut_off else ""
        for instance in self.instances.values():
            verdict, reason = health.combine([self.checks[name] for name in instance.config.checks])
            effects += instance.judge(verdict, reason, now)
            bar = barred or self._unsteady(instance)
            effects += instance.review(self._link_fault(instance), bar, self.stopping, self._hold_time(), now)
        effects += self._announce(now)
        effects += self._hold(now)
        for instance in self.instances.values():
            effects += instance.garps(self.held)
        return effects

    def _link_fault(self, instance: Instance) -> str:
        election = instance.config.election
        return self.links.get(election.interface, "") if isinstance(election, Vrrp) else ""

    def _judge_network(self, now: float) -> list[Effect]:
        cut_off = now >= self._cut_off_at()
        if cut_off is self.cut_off:
            return []
        self.cut_off = cut_off
        if cut_off:
            return [Became("network", "route servers", "cut-off", "none has acknowledged anything lately")]
        return [Became("network", "route servers", "connected", "at least one answers")]

    def _announce(self, now: float) -> list[Effect]:
        routes: dict[Prefix, Route] = {}
        for instance in self.instances.values():
            routes |= instance.routes(self.held, now)
        if routes == self._routes:
            return []
        self._routes = routes
        return [effect for session in self.sessions.values() for effect in session.announce(routes, now)]

    def _hold(self, now: float) -> list[Effect]:
        if self.stopping:
            return []
        wanted = frozenset[Placed]().union(*(instance.wants(now) for instance in self.instances.values()))
        missing = any((placed.interface, placed.address.ip) not in self.placed for placed in wanted)
        again = missing and now >= self._hold_again_at
        if again or not missing or wanted != self._wanted:
            self._hold_again_at = now + HOLD_AGAIN_INTERVAL if missing else math.inf
        if wanted == self._wanted and not again:
            return []
        self._wanted = wanted
        return [Hold(wanted)]

    def _ours(self) -> set[tuple[str, Address]]:
        return {(placed.interface, placed.address.ip) for placed in self._wanted or ()}

    def _drain(self, reason: str, now: float) -> list[Effect]:
        """Before a stop, if asked for: our routes are everybody's last choice, and still there (RFC 8326)."""
        speaker = self.speaker
        if speaker is None or not speaker.graceful_shutdown or self.draining or self.stopping or not self._routes:
            return []
        self.draining, self._withdraw_at = reason, now + speaker.graceful_shutdown
        marks = {r: replace(m, communities=(*m.communities, GRACEFUL_SHUTDOWN)) for r, m in speaker.marks.items()}
        self._speak_as(replace(speaker, marks=marks))
        news = Became("network", "route servers", "draining", f"{reason}: withdrawn in {speaker.graceful_shutdown:g} s")
        return self._reviewed([news], now)

    def _stop(self, reason: str, now: float) -> list[Effect]:
        if self.stopping:
            return []
        self.stopping = reason
        self.started_at = min(self.started_at, now)
        effects: list[Effect] = []
        for instance in self.instances.values():
            if instance.router is not None:
                effects += instance.router.stop(reason, now)
        effects += self._review(now)
        for session in self.sessions.values():
            effects += session.stop(bgp.SHUTDOWN, reason, now)
        self._release_at = now + self.config.release_delay
        return effects

    def _release(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        if now >= self._release_at:
            self._release_at, self._exit_at = math.inf, now + RELEASE_TIMEOUT
            effects.append(Hold(frozenset()))
        released = self._exit_at < math.inf and not self._ours() & self.placed
        if released or now >= self._exit_at:
            self._exit_at = math.inf
            effects.append(Exit())
        return effects
