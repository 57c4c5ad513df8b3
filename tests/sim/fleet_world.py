"""The world of nodes with etcd as their arbiter: beside the address of `Linked`, exclusive ones that one node has.

A kernel ends an exclusive address at the time that the last `Fence` gave it, whether or not the process runs. Each node
has a monotonic clock of its own, which is fast or slow by up to a thousandth. A machine that stands still may have a
clock that stands still with it: then its kernel and its node do not know that they were away.
"""

from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv4Interface, IPv4Network
from math import inf
from random import Random
from typing import Any, Literal

from floatip.core import settings
from floatip.core.addresses import Address, Placed
from floatip.core.arbiter import KERNEL_DELAY, lifetime
from floatip.core.bgp.attributes import Prefix
from floatip.core.bgp.rank import Rank
from floatip.core.etcd import Answer, AskEtcd, EtcdAnswered, EtcdChanged, EtcdTrouble, EtcdUnwatched, Unknown, WatchEtcd
from floatip.core.events import Became, ClockMoved, Close, Dial, Effect, Event, Fence, HandoverAsked, Held
from floatip.host.network.kernel.fencing import EARLY, WORTH_IT
from floatip.lab.route_server import LearntRoute, choose
from tests.sim.etcd import Etcd, Store
from tests.sim.linked import Linked
from tests.sim.world import CHECK, EPOCH, FROZEN, INTERFACE, KEEPALIVE_LENGTH, RUNNING, Machine, _updates

EXCLUSIVE = ("db", "licence")
ADDRESSES = {name: IPv4Interface(f"192.168.223.{160 + number}/32") for number, name in enumerate(EXCLUSIVE)}
DRIFT = 0.001
"""By which a clock is fast or slow, at most."""
ROUNDING = 1e-6
"""Seconds after the time at which a clock shows what is waited for."""
NTP = 20.0
"""Seconds until somebody sets the time of day of a machine whose clock stood still."""


@dataclass(slots=True)
class Clock:
    rate: float
    since: float = 0.0
    shown: float = 0.0
    """At that time."""
    stands: bool = False

    def shows(self, now: float) -> float:
        return self.shown + (0.0 if self.stands else self.rate * (now - self.since))

    def when(self, shows: float) -> float:
        return self.since + (shows - self.shown) / self.rate + ROUNDING

    def set_going(self, now: float, *, goes: bool) -> None:
        self.shown, self.since, self.stands = self.shows(now), now, not goes


@dataclass(slots=True)
class Fenced:
    """What the host of a node was told of exclusive addresses, and when its kernel ends those that it has."""

    named: frozenset[Placed] | None = None
    """None: it was told nothing yet."""
    until: float = -inf
    """By the clock of the node, as the rest."""
    wanted: frozenset[Placed] = frozenset()
    lent: dict[Placed, float] = field(default_factory=dict)
    """Until when, as the host counts."""
    ends: dict[Placed, float] = field(default_factory=dict)


class Fleet(Linked):
    def __init__(
        self,
        seed: int = 0,
        *,
        exclusive: int = 1,
        arbiter: settings.Arbiter | None = None,
        on_arbiter_loss: Literal["hold", "release"] = "hold",
        drift: float = DRIFT,
        **options: Any,
    ) -> None:
        """`exclusive`: how many instances of that kind there are. `on_arbiter_loss`: of the one that is not."""
        self.exclusive = EXCLUSIVE[:exclusive]
        self.placed_of = {name: Placed(INTERFACE, ADDRESSES[name]) for name in self.exclusive}
        self.arbiter = arbiter or settings.Arbiter("", "fleet", lease_time=5.0)
        self.on_arbiter_loss = on_arbiter_loss
        self.roles: dict[tuple[str, str], str] = {}
        """By node and exclusive instance."""
        self.woke_at: dict[str, float] = {}
        """When a node went on whose clock had stood still."""
        self.asked: list[tuple[float, str, AskEtcd]] = []
        self.backup: Store | None = None
        self._told_of: dict[tuple[str, str], dict[Address, Rank]] = defaultdict(dict)
        """What each route server was told, by node and exclusive instance."""
        self._troubles: dict[str, str] = {}
        self._etcd_cut: set[str] = set()
        self._boots: dict[str, int] = defaultdict(int)
        self._fenced: dict[str, Fenced] = defaultdict(Fenced)
        random = Random(seed)
        self._clocks = {name: Clock(random.uniform(1 - drift, 1 + drift)) for name in "abcdefgh"}
        super().__init__(seed, **options)

    def _prepare(self) -> None:
        self.etcd = Etcd(self, Random(self.random.getrandbits(32)))

    def _instances(self, instance: settings.Instance) -> tuple[settings.Instance, ...]:
        election = replace(self._nodes_election, on_arbiter_loss=self.on_arbiter_loss)
        one = replace(self._nodes_election, exclusive=True, on_arbiter_loss="release")
        others = (
            settings.Instance(name, (ADDRESSES[name],), one, (CHECK,), "master", INTERFACE) for name in self.exclusive
        )
        return (replace(instance, election=election), *others)

    def _drawn(self, config: settings.Settings) -> settings.Settings:
        drawn = super()._drawn(config)
        assert config.link is not None
        own = config.link.own
        return replace(drawn, arbiter=replace(self.arbiter, machine=f"{own}-{self._boots[own]}"))

    # Time

    def clock(self, node: Machine) -> float:
        return self._clocks[node.name].shows(self.now)

    def when(self, node: Machine, clock: float) -> float:
        return self._clocks[node.name].when(clock)

    def _ahead(self, node: Machine) -> float:
        return EPOCH + node.clock_skew + self.now - self.clock(node)

    # What is seen

    def holders(self, name: str) -> list[str]:
        """The nodes whose kernels have its address and answer for it."""
        placed = self.placed_of[name]
        return [each.name for each in self.nodes.values() if each.is_alive and placed in each.fenced]

    def announcers(self, name: str) -> list[str]:
        """The nodes that run and announce it as a master does, at this moment."""
        nodes = self.nodes.values()
        return [each.name for each in nodes if each.power is RUNNING and self.announces_as_master(each, name)]

    def announces_as_master(self, node: Machine, name: str) -> bool:
        told = self._told_of[node.name, name]
        return any(rank > Rank.STANDBY for peer, rank in told.items() if peer in node.sockets)

    def pointer_of(self, name: str) -> str:
        """Where the network leads clients of an exclusive address."""
        prefix: Prefix = IPv4Network(ADDRESSES[name].ip)
        bests: list[LearntRoute] = [best for each in self.servers if each.up and (best := each.machine.best(prefix))]
        best = choose(bests)
        return self._node_by_local[best.peer].name if best else ""

    def masters_of(self, name: str) -> list[str]:
        return [
            each.name
            for each in self.nodes.values()
            if each.power is RUNNING and self.roles.get((each.name, name)) == "master"
        ]

    def owner(self, name: str) -> str | None:
        """The row at etcd, as text."""
        row = self.etcd.store.rows.get(f"owners/{name}")
        return row.value if row else None

    # Faults of etcd and their mending

    def cut(self, name: str) -> None:
        super().cut(name)
        self._cut_etcd()

    def uncut(self, name: str) -> None:
        super().uncut(name)
        self._cut_etcd()

    def cut_from_etcd(self, name: str) -> None:
        self._strike("etcd-cut", name)
        self._etcd_cut.add(name)
        self._cut_etcd()

    def uncut_from_etcd(self, name: str) -> None:
        self._mend("etcd-cut", name)
        self._etcd_cut.discard(name)
        self._cut_etcd()

    def _cut_etcd(self) -> None:
        cut = {each.name for each in self.nodes.values() if each.cut} | self._etcd_cut
        for name in sorted(cut ^ self.etcd.cut):
            (self.etcd.cut_off if name in cut else self.etcd.uncut)(name)

    def lose_etcd(self) -> None:
        """All members are gone."""
        self._strike("etcd-gone", "")
        self.etcd.vanish()

    def find_etcd(self) -> None:
        self._mend("etcd-gone", "")
        self.etcd.come_back()

    def lose_etcd_leader(self, seconds: float) -> None:
        self._strike("etcd-leader", "", f"for {seconds:.2f} s")
        self.etcd.lose_leader(seconds)
        self.at(self.now + seconds, self._mend, "etcd-leader", "")

    def trouble_etcd(self, kind: Literal["etcd-slow", "etcd-lost", "etcd-late", "etcd-full"], how: float) -> None:
        """0 mends it."""
        (self._strike if how else self._mend)(kind, "")
        match kind:
            case "etcd-slow":
                self.etcd.slowness = how
            case "etcd-lost":
                self.etcd.lost = how
            case "etcd-late":
                self.etcd.late = how
            case "etcd-full":
                self.etcd.store.is_full = bool(how)

    def leave_with_old_leader(self, name: str) -> None:
        """It speaks with a leader that the other members have left, which renews leases and confirms nothing."""
        self._strike("etcd-stale", name)
        self.etcd.isolate(name)

    def return_from_old_leader(self, name: str) -> None:
        self._mend("etcd-stale", name)
        self.etcd.rejoin(name)

    def delay_watch(self, name: str, seconds: float) -> None:
        (self._strike if seconds else self._mend)("etcd-lag", name)
        self.etcd.delay_watch(name, seconds)

    def break_watch(self, name: str) -> None:
        self._strike("etcd-gap", name)
        self.etcd.break_watch(name)
        self._mend("etcd-gap", name)

    def compact_etcd(self) -> None:
        self._strike("etcd-compact", "")
        self.etcd.compact()
        self._mend("etcd-compact", "")

    def write_row(self, key: str, value: str | None) -> None:
        """Somebody does so by hand."""
        self._strike("row", "", f"{key} = {value}")
        self.etcd.write(key, value)
        self._mend("row", "")

    def restore_etcd(self) -> None:
        """From the backup, all members having been stopped before."""
        assert self.backup is not None
        self._strike("restore", "")
        self.etcd.restore(self.backup)
        self._mend("restore", "")

    # Faults of machines

    def step_clock(self, name: str, seconds: float) -> None:
        """Of the time of day."""
        node = self._strike("clock", name, f"{seconds:+g} s")
        node.clock_skew += seconds
        self._deliver(node, ClockMoved(self._ahead(node)))
        self._mend("clock", name)

    def stand_still(self, name: str) -> None:
        """The whole machine, and its clocks with it, so that nothing in it knows of it later."""
        self._strike("stand", name).power = FROZEN
        self._clocks[name].set_going(self.now, goes=False)

    def wake(self, name: str) -> None:
        node, clock = self.nodes[name], self._clocks[name]
        if clock.stands:
            self._mend("stand", name)
            clock.set_going(self.now, goes=True)
            self.woke_at[name] = self.now
            self.at(self.now + self.random.uniform(0.0, NTP), self._set_time, node, node.incarnation)
        for placed, ends in list(self._fenced[name].ends.items()):
            self._end_address(node, placed, ends, is_up=True)
        super().wake(name)
        node.wake_at = inf
        self._set_alarm(node)

    def _set_time(self, node: Machine, incarnation: int) -> None:
        self._deliver_to(node, incarnation, ClockMoved(self._ahead(node)))

    def crash(self, name: str) -> None:
        self.nodes[name].fenced.clear()
        self._boots[name] += 1
        super().crash(name)
        self._fenced[name].ends.clear()

    def delete_exclusive(self, name: str, instance: str) -> None:
        """By hand, on a node."""
        node = self._strike("delete-exclusive", name)
        self._fenced[name].ends.pop(self.placed_of[instance], None)
        if self.placed_of[instance] in node.fenced:
            node.fenced.discard(self.placed_of[instance])
            self._report_fenced(node)
        self._mend("delete-exclusive", name)

    def hand_over_exclusive(self, name: str, to: str = "") -> None:
        self._strike("handover", name, f"of {self.exclusive} {to}")
        self._deliver(self.nodes[name], HandoverAsked(self.exclusive, to))
        self._mend("handover", name)

    # The host of a node

    def _forget_process(self, node: Machine) -> None:
        super()._forget_process(node)
        fenced = self._fenced[node.name]
        fenced.named, fenced.until, fenced.wanted = None, -inf, frozenset()
        fenced.lent.clear()
        self._troubles.pop(node.name, None)
        self.etcd.unwatch(node.name)
        for name in self.exclusive:
            self.roles.pop((node.name, name), None)
            self._told_of[node.name, name].clear()

    def _perform(self, node: Machine, effect: Effect, answers: list[Event]) -> None:
        match effect:
            case AskEtcd(number, question):
                self.asked.append((self.now, node.name, effect))
                answered = partial(self._answered, node, node.incarnation, number)
                self.etcd.ask(node.name, question, self.arbiter.request_timeout, answered)
            case WatchEtcd(prefixes, revision):
                self.etcd.watch(node.name, prefixes, revision, partial(self._told, node, node.incarnation))
            case Fence(addresses, until):
                fenced = self._fenced[node.name]
                fenced.named, fenced.until = addresses, until
                self.at(self.now + self.kernel_delay, self._apply, node, node.incarnation)
            case Became("role", name, value) if name != "web":
                self.roles[node.name, name] = value.lower()
                super()._perform(node, effect, answers)
            case Dial(peer) | Close(peer):
                for name in self.exclusive:
                    self._told_of[node.name, name].pop(peer, None)
                super()._perform(node, effect, answers)
            case _:
                super()._perform(node, effect, answers)

    def _answered(self, node: Machine, incarnation: int, number: int, answer: Answer) -> None:
        trouble = answer.reason if isinstance(answer, Unknown) else ""
        if node.incarnation == incarnation and trouble != self._troubles.get(node.name, ""):
            self._troubles[node.name] = trouble
            self._deliver(node, EtcdTrouble(trouble))
        self._deliver_to(node, incarnation, EtcdAnswered(number, answer))

    def _told(self, node: Machine, incarnation: int, event: EtcdChanged | EtcdUnwatched) -> None:
        self._deliver_to(node, incarnation, event)

    def _learn_what_is_told(self, node: Machine, peer: Address, data: bytes) -> None:
        super()._learn_what_is_told(node, peer, data)
        if len(data) == KEEPALIVE_LENGTH:
            return
        for update in _updates(data):
            for name in self.exclusive:
                prefix = IPv4Network(ADDRESSES[name].ip)
                if prefix in update.announced and update.attributes is not None:
                    self._told_of[node.name, name][peer] = node.rank_of(update.attributes)
                elif prefix in update.withdrawn:
                    self._told_of[node.name, name].pop(peer, None)
        self._changed()

    # Its kernel

    def _hold(self, node: Machine, incarnation: int, wanted: set[Placed]) -> None:
        ours = set(self.placed_of.values())
        super()._hold(node, incarnation, wanted - ours)
        if node.incarnation == incarnation:
            self._fenced[node.name].wanted = frozenset(wanted & ours)
            self._apply(node, incarnation)

    def _apply(self, node: Machine, incarnation: int) -> None:
        """The host has its exclusive addresses as they are to be; it looks at the clock just before."""
        if node.incarnation != incarnation:
            return
        if node.power is not RUNNING:
            node.inbox.append(partial(self._apply, node, incarnation))
            return
        fenced, shows, before = self._fenced[node.name], self.clock(node), set(node.fenced)
        seconds = 0 if fenced.named is None else lifetime(fenced.until - shows)
        for placed in self.placed_of.values():
            if placed not in fenced.wanted or placed not in (fenced.named or ()):
                node.fenced.discard(placed)
                fenced.ends.pop(placed, None)
                fenced.lent.pop(placed, None)
            elif seconds >= 1 and (
                placed not in node.fenced or shows + seconds > fenced.lent.get(placed, -inf) + WORTH_IT
            ):
                node.fenced.add(placed)
                fenced.lent[placed] = shows + seconds
                ends = shows + seconds + self.random.uniform(-EARLY, KERNEL_DELAY)
                fenced.ends[placed] = ends
                self.at(self.when(node, ends), self._end_address, node, placed, ends)
        if node.fenced != before:
            self._report_fenced(node)

    def _end_address(self, node: Machine, placed: Placed, ends: float, *, is_up: bool = False) -> None:
        """A lifetime is over, if it still is the one. `is_up`: the machine is just going on."""
        fenced = self._fenced[node.name]
        if fenced.ends.get(placed) != ends or (node.power is FROZEN and not is_up):
            return
        if self.clock(node) < ends:
            self.at(max(self.now, self.when(node, ends)), self._end_address, node, placed, ends)
            return
        del fenced.ends[placed]
        node.fenced.discard(placed)
        self._report_fenced(node)

    def _report_fenced(self, node: Machine) -> None:
        has = ", ".join(name for name in self.exclusive if self.placed_of[name] in node.fenced)
        self.note(node.name, f"kernel has {has or 'nothing exclusive'}")
        self._changed()
        self.at(self.now + 0.0002, self._report, node, node.incarnation)

    def _report(self, node: Machine, incarnation: int) -> None:
        self._deliver_to(node, incarnation, Held(node.usable))
