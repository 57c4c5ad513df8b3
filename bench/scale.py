"""What many groups and many addresses cost, beside keepalived where it does the same: one row a figure.

python -m bench.scale [--only slow,steady,fast,silence,burst,addresses,advert,lab] [--seconds 60] [--json FILE]

steady     255 groups, adverts of 100 ms, half of the groups master on each node: CPU, longest gap
slow       the same with adverts of 1 s
fast       the same with adverts of 20 ms, from the start on: one master a group within a second and for --seconds
silence    127 groups lose their master at once, by SIGKILL
burst      127 adverts of priority 0 at once, then 127 of a higher priority, to a node that is master of 128 others
addresses  80, 255 and 1,000 addresses in one group, without and with BGP; --counts chooses others; without BGP they
           change hands, too: the new master's adverts meanwhile
advert     what an advert costs the core that changes nothing, with 10 and with 255 groups
lab        the daemon of the lab's scenes: RSS, start to first route, `floatip status`

Both daemons are scheduled as floatip's unit does it (real-time). A gap "of our making" is what stays of it after the
time for which the machine did not run the sender is subtracted.
Everything happens in namespaces that end with this process. The exit status is 1 when a figure is over its limit.
"""

import argparse
import json
import math
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, IPv4Interface
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

from bench.pairs import HIGH, LOW, ONE, OTHER, PROGRAMS, SENDERS, Group, Pair, Plan, ipv4_of, rss, shared_groups, stage
from bench.pairs import wait_for as wait
from bench.wire import AddressMonitor, Capture, Watch
from floatip.core import settings
from floatip.core.events import AdvertReceived, Held, LinkChanged, Started, Ticked
from floatip.core.node import Node
from floatip.core.vrrp.wire import PROTOCOL, Advert, pack
from floatip.lab.namespaces import LabError, enter
from floatip.lab.network import ROUTE_SERVERS, Network
from floatip.lab.programs.bird import BirdRouteServer
from floatip.lab.record import RunOptions
from floatip.lab.run import Run

GROUPS = 255
AT_ONCE = 127
SETTLE = 4.0
"""Seconds for masters to be elected before a measurement begins."""
TAKEN_OVER_WITHIN = 10.0
STRONGER = 200


@dataclass(frozen=True, slots=True)
class Row:
    part: str
    what: str
    unit: str
    floatip: float
    keepalived: float | None = None
    limit: float | None = None
    of_ratio: bool = False
    """The limit is one of the ratio to keepalived, and not of the figure."""

    @property
    def ratio(self) -> float | None:
        return self.floatip / self.keepalived if self.keepalived else None

    @property
    def holds(self) -> bool | None:
        """None: nothing is demanded."""
        judged = self.ratio if self.of_ratio else self.floatip
        return None if self.limit is None or judged is None else judged <= self.limit


def log(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


# Adverts over time


@dataclass(frozen=True, slots=True)
class Gap:
    """The longest time without an advert of a group, and how much of its lateness the machine made."""

    length: float
    by_machine: float

    @property
    def ours(self) -> float:
        return self.length - self.by_machine


def gaps(capture: Capture, watch: Watch, plan: Plan, groups: Iterable[Group], since: float, until: float) -> Gap:
    """The gap that is longest after the machine's share is taken out; `length` is the longest of all."""
    longest, found = 0.0, Gap(0.0, 0.0)
    for group in groups:
        heard = [each for each in said(capture, group, since) if each[0] < until]
        last = heard[-1][1] if heard else group.preferred
        for (before, _), (after, host) in pairwise([(since, ""), *heard, (until, last)]):
            length = after - before
            longest = max(longest, length)
            if length > found.ours:
                by_machine = watch.held_up(host, min(before + plan.interval, after), after)
                if length - by_machine > found.ours:
                    found = Gap(length, by_machine)
    return Gap(longest, longest - found.ours)


def said(capture: Capture, group: Group, since: float) -> list[tuple[float, str]]:
    """When each advert of the group arrived, and from whom."""
    return sorted((at, host) for host in (ONE, OTHER) for at in capture.sent(host, group.vrid, since))


def changes(capture: Capture, groups: Iterable[Group], since: float) -> dict[int, int]:
    """By vrid, how many times an advert comes from another node than the one before."""
    found = {}
    for group in groups:
        hosts = [host for _, host in said(capture, group, since)]
        found[group.vrid] = sum(one != other for one, other in pairwise(hosts))
    return found


def slow(options: argparse.Namespace) -> Iterator[Row]:
    yield from _half_each("slow", 1.0, options.seconds, start_to_judge=False)


def steady(options: argparse.Namespace) -> Iterator[Row]:
    yield from _half_each("steady", 0.1, options.seconds, start_to_judge=False)


def fast(options: argparse.Namespace) -> Iterator[Row]:
    yield from _half_each("fast", 0.02, options.seconds, start_to_judge=True)


def _half_each(part: str, interval: float, seconds: float, *, start_to_judge: bool) -> Iterator[Row]:
    plan = Plan(shared_groups(GROUPS, lambda vrid: ONE if vrid % 2 else OTHER), interval)
    found = {program: _run_half_each(program, plan, seconds, start_to_judge) for program in PROGRAMS}
    limits: dict[str, tuple[float, bool]] = {_since(start_to_judge, seconds): (0, False)}
    if not start_to_judge:
        limits |= {"CPU of the busier node": (2.0, True), "longest gap of our making": (1.2, False)}
    for what, unit in found["floatip"]:
        limit, of_ratio = limits.get(what, (None, False))
        floatip, keepalived = (found[program][what, unit] for program in PROGRAMS)
        yield Row(part, what, unit, floatip, keepalived, limit, of_ratio)


def _run_half_each(program: str, plan: Plan, seconds: float, start_to_judge: bool) -> dict[tuple[str, str], float]:
    with stage() as network, Capture(network, (ONE, OTHER), SENDERS) as capture:
        pair = Pair(network, program, plan)
        pair.start(ONE)
        pair.start(OTHER)
        wait(lambda: any(host == OTHER for host, _ in capture.adverts.copy()), "adverts of both nodes", 60)
        begin = min(times[0] for (host, _), times in capture.adverts.copy().items() if host == OTHER)
        delay = 1.0 if start_to_judge else SETTLE
        time.sleep(max(0.0, begin + delay - time.monotonic()))
        log(f"{program}: {GROUPS} groups, adverts of {1000 * plan.interval:g} ms, measured for {seconds:g} s")
        with Watch(pair.senders()) as watch:
            since, before = time.monotonic(), pair.cpu()
            time.sleep(seconds)
            until, after = time.monotonic(), pair.cpu()
            capture.settle()
            took = until - since
            cpu = [100 * (after[host] - before[host]) / took for host in after]
            rates = [_count(capture, host, since, until) / took for host in (ONE, OTHER)]
            gap = gaps(capture, watch, plan, plan.groups, since, until)
            late = _lateness(capture, plan, since, until)
            one_master = _with_one_master(capture, plan, since, until)
            turns = sum(changes(capture, plan.groups, since).values())
        return {
            ("CPU of the busier node", "% of a core"): max(cpu),
            ("CPU of the other node", "% of a core"): min(cpu),
            ("CPU an advert that was sent", "us"): 1e4 * sum(cpu) / max(sum(rates), 1 / took),
            ("adverts of the busier node", "1/s"): max(rates),
            ("adverts of the other node", "1/s"): min(rates),
            (_since(start_to_judge, seconds), "groups"): GROUPS - one_master,
            ("changes of master", ""): turns,
            ("adverts late, median", "ms"): 1000 * statistics.median(late),
            ("adverts late, p99", "ms"): 1000 * statistics.quantiles(late, n=100)[98],
            ("adverts late, the latest", "ms"): 1000 * max(late),
            ("longest gap", "intervals"): gap.length / plan.interval,
            ("longest gap of our making", "intervals"): gap.ours / plan.interval,
            ("longest time that the machine held up a sender", "ms"): 1000 * watch.longest_hold_up(),
            ("RSS", "MB"): pair.rss(),
        }


def _lateness(capture: Capture, plan: Plan, since: float, until: float) -> list[float]:
    """Of each advert of a group's preferred node: how much later than an interval after the one before it came."""
    found = []
    for group in plan.groups:
        times = [at for at in capture.sent(group.preferred, group.vrid, since) if at < until]
        found += [max(0.0, after - before - plan.interval) for before, after in pairwise(times)]
    return found or [until - since]


def _since(start_to_judge: bool, seconds: float) -> str:
    return f"groups without one master {f'1 s to {1 + seconds:g} s' if start_to_judge else 'all the time'}"


def _count(capture: Capture, host: str, since: float, until: float) -> int:
    return sum(sum(at < until for at in capture.sent(host, vrid, since)) for vrid in range(1, GROUPS + 1))


def _with_one_master(capture: Capture, plan: Plan, since: float, until: float) -> int:
    """Groups whose preferred node sent all adverts, and was never silent for master-down."""
    count = 0
    for group in plan.groups:
        found = [each for each in said(capture, group, since) if each[0] < until]
        times = [since, *(at for at, _ in found), until]
        silent = max(b - a for a, b in pairwise(times))
        count += {host for _, host in found} == {group.preferred} and silent < plan.master_down(HIGH)
    return count


# Many groups take over


def silence(options: argparse.Namespace) -> Iterator[Row]:
    plan = Plan(shared_groups(AT_ONCE, lambda vrid: ONE), 0.1)
    found: dict[str, list[Gap]] = {}
    for program in PROGRAMS:
        found[program] = [_run_silence(program, plan) for _ in range(options.runs)]
    for what, value in (
        (f"all {AT_ONCE} taken over, after master-down", lambda gap: gap.length),
        ("of our making", lambda gap: gap.ours),
    ):
        floatip, keepalived = (1000 * (max(map(value, found[program])) - plan.master_down()) for program in PROGRAMS)
        yield Row("silence", what, "ms", floatip, keepalived, limit=20.0 if what == "of our making" else None)


def _run_silence(program: str, plan: Plan) -> Gap:
    """From the last advert of the dead master to the first of the new one: the longest of all groups."""
    with stage() as network, Capture(network, (ONE, OTHER), SENDERS) as capture:
        pair = Pair(network, program, plan)
        pair.start(ONE)
        wait(lambda: _masters(capture, ONE) == AT_ONCE, f"{program} to be master of all groups", 60)
        pair.start(OTHER)
        time.sleep(SETTLE)
        with Watch({OTHER: pair.sender(OTHER)}) as watch:
            killed_at = time.monotonic()
            pair.kill(ONE)
            wait(lambda: _masters(capture, OTHER, killed_at) == AT_ONCE, "the other node", TAKEN_OVER_WITHIN)
            capture.settle()
            longest, ours = 0.0, 0.0
            for group in plan.groups:
                last, first = capture.sent(ONE, group.vrid)[-1], capture.sent(OTHER, group.vrid, killed_at)[0]
                by_machine = watch.held_up(OTHER, min(last + plan.master_down(), first), first)
                longest, ours = max(longest, first - last), max(ours, first - last - by_machine)
        log(f"{program}: {AT_ONCE} groups {1000 * longest:.0f} ms after the last advert of each")
        return Gap(longest, longest - ours)


def _masters(capture: Capture, host: str, since: float = 0.0) -> int:
    """How many groups the host has advertised."""
    return sum(at[-1] >= since for (sender, _), at in capture.adverts.copy().items() if sender == host)


class FakePeer:
    """The other node's adverts, and nothing else of it."""

    def __init__(self, network: Network, plan: Plan, vrids: Sequence[int]) -> None:
        with network.inside(ONE):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, PROTOCOL)
        self._groups = [group for group in plan.groups if group.vrid in vrids]
        self._interval = plan.interval
        self._closing = Event()
        self._thread: Thread | None = None

    def say(self, priority: int) -> None:
        source, destination = IPv4Address(ipv4_of(ONE)), IPv4Address(ipv4_of(OTHER))
        packets = [
            pack(
                Advert(3, group.vrid, priority, self._interval, tuple(IPv4Interface(a).ip for a in group.addresses)),
                source,
                destination,
            )
            for group in self._groups
        ]
        for packet in packets:
            self._socket.sendto(packet, (str(destination), 0))

    def repeat(self, priority: int) -> None:
        def go_on() -> None:
            while not self._closing.wait(self._interval):
                self.say(priority)

        self._closing.clear()
        self.say(priority)
        self._thread = Thread(target=go_on, daemon=True)
        self._thread.start()

    def hush(self) -> None:
        self._closing.set()
        if self._thread:
            self._thread.join()

    def close(self) -> None:
        self.hush()
        self._socket.close()


def burst(options: argparse.Namespace) -> Iterator[Row]:
    plan = Plan(shared_groups(GROUPS, lambda vrid: ONE), 0.1)
    worst: dict[str, dict[str, float]] = {}
    for program in PROGRAMS:
        runs = [_run_burst(program, plan) for _ in range(options.runs)]
        worst[program] = {what: max(run[what] for run in runs) for what in runs[0]}
    limits = {f"{AT_ONCE} x priority 0: all taken over, after skew": 20.0}
    for what in worst["floatip"]:
        floatip, keepalived = (worst[program][what] for program in PROGRAMS)
        unit = "ms" if "after skew" in what else "intervals"
        limit = 1.2 if "of our making" in what else limits.get(what)
        yield Row("burst", what, unit, floatip, keepalived, limit)


def _run_burst(program: str, plan: Plan) -> dict[str, float]:
    vrids = range(1, AT_ONCE + 1)
    others = plan.groups[AT_ONCE:]
    with ExitStack() as exits:
        network = exits.enter_context(stage())
        capture = exits.enter_context(Capture(network, (ONE, OTHER), SENDERS))
        peer = FakePeer(network, plan, vrids)
        exits.callback(peer.close)
        peer.repeat(STRONGER)
        pair = Pair(network, program, plan)
        pair.start(OTHER)
        wait(lambda: _masters(capture, OTHER) >= len(others), f"{program} to be master of the others", 60)
        time.sleep(SETTLE)
        watch = exits.enter_context(Watch({OTHER: pair.sender(OTHER)}))
        peer.hush()
        resigned_at = time.monotonic()
        peer.say(0)
        wait(lambda: _masters(capture, OTHER, resigned_at) == GROUPS, f"{program} to take over", TAKEN_OVER_WITHIN)
        time.sleep(1.0)
        claimed_at = time.monotonic()
        peer.repeat(STRONGER)
        time.sleep(2.0)
        until = time.monotonic()
        capture.settle()
        taken = [
            capture.sent(OTHER, vrid, resigned_at)[0] - capture.resignations[ONE, vrid][-1] - plan.skew()
            for vrid in vrids
        ]
        # The machine's share in these few milliseconds is at most what it kept the node from running in all of them.
        by_machine = watch.held_up(OTHER, resigned_at + plan.skew(), resigned_at + plan.skew() + max(taken))
        first, second = (
            gaps(capture, watch, plan, others, since, end)
            for since, end in ((resigned_at, claimed_at), (claimed_at, until))
        )
    log(f"{program}: {AT_ONCE} groups taken over {1000 * max(taken):.0f} ms after skew")
    return {
        f"{AT_ONCE} x priority 0: all taken over, after skew": 1000 * (max(taken) - by_machine),
        "longest gap of 128 others meanwhile": first.length / plan.interval,
        "of it of our making": first.ours / plan.interval,
        f"{AT_ONCE} x higher priority: longest gap of 128 others": second.length / plan.interval,
        "of that of our making": second.ours / plan.interval,
    }


# Many addresses in one group

WATCHED_FOR = 25.0
HELD_WITHIN = 60.0
MOVED_FOR = 8.0
"""Seconds in which the new master's adverts are watched; after 5 s both programs tell the neighbours once more."""
RELEASED_WITHIN = 60.0


def addresses(options: argparse.Namespace) -> Iterator[Row]:
    for count in map(int, options.counts.split(",")):
        for bgp in (False, True):
            part = f"{count} {'with BGP' if bgp else 'addresses'}"
            found = {"floatip": _run_addresses("floatip", count, bgp)}
            if not bgp:
                found["keepalived"] = _run_addresses("keepalived", count, bgp)
            for (what, unit), figure in found["floatip"].items():
                limit = {"held": 1.0, "left behind": 0, "changes of master in 25 s": 0, "gap of our making": 1.2}
                limit |= {"the new master's gap of our making": 1.2}
                keepalived = found["keepalived"][what, unit] if "keepalived" in found else None
                yield Row(part, what, unit, figure, keepalived, limit.get(what))


def addresses_of(count: int) -> tuple[str, ...]:
    """An advert names 255 at most (RFC 9568 section 5.2.5), all of IPv4; the rest are of IPv6."""
    ipv4 = count if count <= 255 else 250
    octets = ((200 + n // 250, 1 + n % 250) for n in range(ipv4))
    return (
        *(f"192.168.{third}.{fourth}/32" for third, fourth in octets),
        *(f"2600:3c03:0:2::{n:x}/128" for n in range(1, count - ipv4 + 1)),
    )


def _run_addresses(program: str, count: int, bgp: bool) -> dict[tuple[str, str], float]:
    plan = Plan([Group(1, ONE, addresses_of(count))], 0.1, bgp)
    with ExitStack() as exits:
        network = exits.enter_context(stage())
        capture = exits.enter_context(Capture(network, (ONE, OTHER), SENDERS))
        if bgp:
            _start_route_servers(network)
        monitor = exits.enter_context(AddressMonitor(network, ONE, plan.addresses))
        pair = Pair(network, program, plan)
        pair.start(ONE)
        wait(lambda: _masters(capture, ONE) == 1, f"{program} to be master", 60)
        began = capture.sent(ONE, 1)[0]
        held = _wait_for_all(monitor.got, count, HELD_WITHIN)
        since = monitor.got[min(monitor.got, key=lambda a: monitor.got[a])] if bgp else began
        pair.start(OTHER)
        with Watch(pair.senders()) as watch:
            time.sleep(max(0.0, began + WATCHED_FOR - time.monotonic()))
            capture.settle()
            until = time.monotonic()
            gap = gaps(capture, watch, plan, plan.groups, began, until)
            turns = changes(capture, plan.groups, began)[1]
        with AddressMonitor(network, OTHER, plan.addresses) as other, Watch({OTHER: pair.sender(OTHER)}) as watch:
            released, left, status = _stop(pair, network, monitor, count)
            moved = _wait_for_all(other.got, count, HELD_WITHIN) if not bgp else 0.0
            time.sleep(MOVED_FOR)
            capture.settle()
            resigned = capture.resignations.get((ONE, 1), [math.nan])[-1]
            first = capture.sent(OTHER, 1, until)[0]
            moving = gaps(capture, watch, plan, plan.groups, first, time.monotonic())
        how = f"held {held - since:.2f} s, {turns} changes, stop {released:.2f} s, {left} left, exit {status}"
        log(f"{program}: {count} addresses{', BGP' if bgp else ''}: {how}")
    changes_hands = {
        ("all held by the other node", "ms after priority 0"): 1000 * (moved - resigned),
        ("the new master's gap", "intervals"): moving.length / plan.interval,
        ("the new master's gap of our making", "intervals"): moving.ours / plan.interval,
    }
    return {
        ("held", "s after the first" if bgp else "s after master"): held - since,
        ("changes of master in 25 s", ""): turns,
        ("gap", "intervals"): gap.length / plan.interval,
        ("gap of our making", "intervals"): gap.ours / plan.interval,
        ("from SIGTERM to the end", "s"): released,
        ("left behind", "addresses"): left,
        ("exit status", ""): status,
        **({} if bgp else changes_hands),
    }


def _wait_for_all(times: dict[str, float], count: int, timeout: float) -> float:
    """When the last of them came; inf: never."""
    deadline = time.monotonic() + timeout
    while len(times) < count:
        if time.monotonic() > deadline:
            return math.inf
        time.sleep(0.02)
    return max(times.values())


def _stop(pair: Pair, network: Network, monitor: AddressMonitor, count: int) -> tuple[float, int, int]:
    """Seconds from SIGTERM to the end, addresses that are left then, exit status."""
    monitor.lost.clear()
    began = time.monotonic()
    node = pair.nodes[ONE]
    node.stop()
    try:
        status = node.wait(RELEASED_WITHIN)
    except subprocess.TimeoutExpired:
        status = -signal.SIGALRM
    took = time.monotonic() - began
    with network.inside(ONE):
        shown = subprocess.run(["ip", "-json", "address"], capture_output=True, text=True, check=True)
    here = {address["local"] for link in json.loads(shown.stdout) for address in link["addr_info"]}
    return took, len(here & set(pair.plan.addresses)), status


def _start_route_servers(network: Network) -> None:
    for server in ROUTE_SERVERS:
        BirdRouteServer(network, server.name).start()
    time.sleep(1.0)


# The core alone


def advert(options: argparse.Namespace) -> Iterator[Row]:
    few, many = (_advert_cost(count, options.rounds) for count in (10, GROUPS))
    yield Row("advert", "that changes nothing, 10 groups", "us", 1e6 * few)
    yield Row("advert", f"that changes nothing, {GROUPS} groups", "us", 1e6 * many)
    yield Row("advert", f"{GROUPS} groups to 10", "times", many / few, limit=1.5)
    total, longest = _demotion_cost()
    yield Row("advert", f"{GROUPS} of a higher priority, together", "ms", 1000 * total)
    yield Row("advert", "the longest of them", "ms", 1000 * longest)
    yield Row("advert", f"a tick that makes {GROUPS} masters", "ms", 1000 * _promotion_cost())


def _advert_cost(count: int, rounds: int) -> float:
    """Seconds, the median of all adverts, each with the deadline that the host asks for after it."""
    node = _node(count)
    adverts = [_received(vrid, STRONGER) for vrid in range(1, count + 1)]
    times = []
    now = 1.0
    for turn in range(max(rounds, 2000 // count)):
        for event in adverts:
            now += 0.0001
            began = time.perf_counter()
            effects = node.handle(event, now)
            deadline = node.deadline
            took = time.perf_counter() - began
            assert math.isfinite(deadline)
            if turn:
                assert not effects
                times.append(took)
    return statistics.median(times)


def _promotion_cost() -> float:
    node = _node(GROUPS)
    now = node.deadline
    began = time.perf_counter()
    node.handle(Ticked(), now + 1.0)
    took = time.perf_counter() - began
    _assert_roles(node, "master")
    return took


def _demotion_cost() -> tuple[float, float]:
    node = _node(GROUPS)
    node.handle(Ticked(), node.deadline + 0.001)
    _assert_roles(node, "master")
    now = node.deadline
    times = []
    for vrid in range(1, GROUPS + 1):
        began = time.perf_counter()
        node.handle(_received(vrid, STRONGER), now)
        times.append(time.perf_counter() - began)
        assert math.isfinite(node.deadline)
    _assert_roles(node, "backup")
    return sum(times), max(times)


def _assert_roles(node: Node, role: str) -> None:
    roles = {instance.role.value for instance in node.instances.values()}
    assert roles == {role}, f"{roles}, not {role}: the measurement is of something else"


def _node(count: int) -> Node:
    """Running, backup everywhere."""
    source, peer = IPv4Address(ipv4_of(OTHER)), IPv4Address(ipv4_of(ONE))
    instances = tuple(
        settings.Instance(
            f"VI_{vrid}",
            (IPv4Interface(f"192.168.200.{vrid}/32"),),
            settings.Vrrp("eth0", vrid, LOW, source, (peer,), version=3, advert_interval=1.0),
            placement="master",
            interface="eth0",
        )
        for vrid in range(1, count + 1)
    )
    node = Node(settings.Settings(instances=instances), 0.0)
    for event in (LinkChanged("eth0", True, ""), Held(frozenset()), Started()):
        node.handle(event, 0.0)
    return node


def _received(vrid: int, priority: int) -> AdvertReceived:
    source, destination = IPv4Address(ipv4_of(ONE)), IPv4Address(ipv4_of(OTHER))
    said = Advert(3, vrid, priority, 1.0, (IPv4Address(f"192.168.200.{vrid}"),))
    return AdvertReceived("eth0", source, destination, 254, pack(said, source, destination))


# The lab's daemon


def lab(options: argparse.Namespace) -> Iterator[Row]:
    first_routes, memory = [], []
    for _ in range(options.runs):
        with Run(RunOptions()) as run:
            run.start(observed=False)
            time.sleep(SETTLE)
            node = run.nodes[ONE]
            first_routes.append(run.record.start_to_first_route)
            memory.append(rss(node.pid))
            log(f"first route after {first_routes[-1]:.2f} s, {memory[-1]:.1f} MB")
    yield Row("lab", "RSS", "MB", max(memory), limit=40.0)
    yield Row("lab", f"start to first route, median of {options.runs}", "s", statistics.median(first_routes))
    with Run(RunOptions()) as run:
        run.start(observed=False)
        times, cpu = zip(*(_time_status(run) for _ in range(20)), strict=True)
    yield Row("lab", "`floatip status`, median of 20", "ms", 1000 * statistics.median(times), limit=150.0)
    yield Row("lab", "`floatip status`, CPU alone", "ms", 1000 * statistics.median(cpu))


def _time_status(run: Run) -> tuple[float, float]:
    """Seconds of the whole command: wall clock and CPU."""
    node = run.nodes[ONE]
    command = [sys.executable, "-m", "floatip", "status"]
    before, began = _children_cpu(), time.monotonic()
    asked = subprocess.run(command, env={**node.environment()}, capture_output=True, text=True, check=False)
    took = time.monotonic() - began
    if "VI_1" not in asked.stdout:
        raise LabError(f"floatip status failed: {asked.stderr}", "see the daemon's log")
    return took, _children_cpu() - before


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


# All


Part = Callable[[argparse.Namespace], Iterator[Row]]
PARTS: dict[str, Part] = {
    "advert": advert,
    "lab": lab,
    "slow": slow,
    "steady": steady,
    "fast": fast,
    "silence": silence,
    "burst": burst,
    "addresses": addresses,
}


def table(rows: Sequence[Row]) -> str:
    lines = [f"{'':18}{'':50}{'floatip':>9} {'keepalived':>10} {'ratio':>6} {'limit':>11}"]
    for row in rows:
        beside = "" if row.keepalived is None else figure(row.keepalived)
        ratio = "" if row.ratio is None else f"{row.ratio:.1f}"
        limit = "" if row.limit is None else f"{figure(row.limit)}{' times' if row.of_ratio else ''}"
        verdict = {None: "", True: "ok", False: "OVER"}[row.holds]
        what = f"{row.what}, {row.unit}" if row.unit else row.what
        lines.append(f"{row.part:18}{what:50}{figure(row.floatip):>9} {beside:>10} {ratio:>6} {limit:>11} {verdict}")
    return "\n".join(line.rstrip() for line in lines)


def figure(value: float) -> str:
    if not math.isfinite(value):
        return "never"
    return f"{value:.0f}" if value == int(value) or value >= 1000 else f"{value:.3g}" if value < 10 else f"{value:.1f}"


def measure(only: str, seconds: float, runs: int) -> list[dict[str, Any]]:
    """In a process of its own, which can enter namespaces; prints the table. Empty: it could not be measured."""
    with TemporaryDirectory(prefix="floatip-bench-") as directory:
        found = Path(directory, "scale.json")
        command = [sys.executable, "-m", "bench.scale", "--json", str(found)]
        command += ["--only", only, "--seconds", str(seconds), "--runs", str(runs)]
        subprocess.run(command, check=False)
        return list(json.loads(found.read_text())) if found.exists() else []


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scale")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long `slow`, `steady` and `fast` measure")
    parser.add_argument("--runs", type=int, default=3, help="of `silence`, `burst` and `lab`; the worst counts")
    parser.add_argument("--counts", default="80,255,1000", help="addresses of `addresses`")
    parser.add_argument("--rounds", type=int, default=100, help="of `advert`")
    return run_parts(parser, PARTS)


def run_parts(parser: argparse.ArgumentParser, parts: Mapping[str, Part]) -> int:
    """Measure what `--only` names, in namespaces; print the table; the exit status. `parser`: of `python -m MODULE`."""
    parser.add_argument("--json", type=Path, help="all rows")
    options = parser.parse_args()
    if unknown := set(options.only.split(",")) - parts.keys():
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    try:
        enter([sys.executable, *parser.prog.split()[1:], *sys.argv[1:]])
        rows: list[Row] = []
        for name in options.only.split(","):
            log(f"{name} ... (load of the machine {os.getloadavg()[0]:.1f})")
            rows += parts[name](options)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"load of the machine at the end: {os.getloadavg()[0]:.1f}\n{table(rows)}")
    if options.json:
        found = [{**asdict(row), "ratio": row.ratio, "holds": row.holds} for row in rows]
        options.json.write_text(json.dumps(found, indent=1))
    return 1 if any(row.holds is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
