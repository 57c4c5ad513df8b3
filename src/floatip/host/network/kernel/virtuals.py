"""Routes and rules that are there while this node is master: adds what is missing, removes what floatip added.

They carry floatip's mark (RTPROT, FRA_PROTOCOL), and the kernel removes for us only what carries it. What names a
protocol of its own is remembered in the state file, as all of them are: a successor adopts what it finds there.
A pass adds everything that is wanted, and the kernel says of most that it is there. A pass follows each change of links
and addresses, each removal of a marked route, and, while something fails, each second: the kernel drops routes without
a word when their interface goes down.
pyroute2 (24 MB, a third of a second) is imported where a configuration has routes or rules, and in the thread that
works with it.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from floatip import virtuals
from floatip.core.events import Event, Failure
from floatip.core.settings import Virtual
from floatip.host.disk import Memory
from floatip.host.errors import in_words
from floatip.host.failures import Failures
from floatip.host.network import packet_filter
from floatip.host.network.packet_filter import ALL, JUMP_EQUAL, LD_BYTE, NOTHING, RETURN, Instruction
from floatip.host.workers import Workers
from floatip.rtnetlink import OURS
from floatip.virtuals import Hop, NotUnderstood, Route, Rule

WRITE_TIMEOUT = 0.5
"""Seconds that a route waits for the disk at most, before it is added."""
RETRY_INTERVAL = 1.0
ANSWER_TIMEOUT = 5.0
WAITING = "see what else works on routes, and what the kernel says: journalctl -k"
PAUSE = 0.02
"""Seconds between two passes: changes of the kernel come in bursts."""
NEWROUTE, DELROUTE, NEWRULE, DELRULE = 24, 25, 32, 33
F_REQUEST, F_ACK, F_EXCL, F_CREATE, F_APPEND = 0x01, 0x04, 0x200, 0x400, 0x800
GROUPS = 0x40 | 0x400 | 0x80 | 1 << 18
"""RTNLGRP_IPV4_ROUTE, IPV6_ROUTE, IPV4_RULE, IPV6_RULE."""
LD_HALF, KIND_AT, PROTOCOL_AT = 0x28, 4, 21
"""In struct nlmsghdr, and in struct rtmsg behind it."""
ONLINK, INVERTED = 4, 2
"""RTNH_F_ONLINK, FIB_RULE_INVERT."""
LOCK = "RTAX_LOCK"
GONE = frozenset({errno.ESRCH, errno.ENOENT, errno.ENODEV, errno.EADDRNOTAVAIL})
NO_PYROUTE2 = "pyroute2 is not installed"
HINTS = {
    errno.ENETUNREACH: "see whether its gateway (via) is in a network of this machine: ip route get GATEWAY",
    errno.EHOSTUNREACH: "see whether its gateway (via) is in a network of this machine: ip route get GATEWAY",
    errno.EINVAL: "see whether this machine has its source address (src) and its gateway is reachable: ip -br address",
    errno.ENODEV: "see which interfaces there are: ip -br link",
    errno.ENETDOWN: "see which interfaces are up: ip -br link",
}


@dataclass(slots=True)
class _Outcome:
    """What a pass did."""

    ours: set[Virtual] = field(default_factory=set)
    there: set[Virtual] = field(default_factory=set)
    gone: set[Virtual] = field(default_factory=set)
    refused: list[Failure] = field(default_factory=list)


class Virtuals:
    def __init__(self, report: Callable[[Event], None], memory: Memory | None) -> None:
        self._memory = memory
        self._loop = asyncio.get_running_loop()
        self._failures = Failures("routes and rules", report)
        self._workers = Workers(most=1)
        self._thread = _Thread()
        self._named: frozenset[Virtual] | None = None
        self._wanted: tuple[Virtual, ...] | None = None
        """None: the core has not said yet."""
        self._ours: list[Virtual] = []
        """In the order in which they were added."""
        self._supposed: frozenset[Virtual] = frozenset()
        """Those that a predecessor may have left; most are not there."""
        self._settled: set[Virtual] = set()
        """Those that are not put back when somebody removes them."""
        self._refused: frozenset[str] = frozenset()
        """What the last pass could not do: it may wait for an address that is being added."""
        self._asked = asyncio.Event()
        self._watch: socket.socket | None = None
        self._remembered: list[Any] = []

    def configure(self, named: frozenset[Virtual]) -> None:
        """All of the configuration. The first time, what a predecessor left is adopted."""
        if self._named is None and self._memory:
            left = self._memory.recall(_virtuals) or []
            # The file alone proves nothing where the mark does not: a check could have written it.
            self._ours = [one for one in left if _is_marked(one) or one in named]
            # Where the mark does, no file is needed: the disk may have been full.
            self._supposed = frozenset(one for one in named if _is_marked(one) and one not in left)
            self._ours += self._supposed
        self._named = named
        if (named or self._ours) and self._memory:
            self._watch_removals(named)
            self._workers.do(self._thread.prepare, lambda _: self._asked.set())

    def install(self, wanted: Iterable[Virtual]) -> None:
        self._wanted = tuple(dict.fromkeys(wanted))
        self._settled &= set(self._wanted)
        self._asked.set()  # always: what a pass adds just now may be unwanted already

    def look_again(self) -> None:
        """Something changed in the kernel, by which routes may have gone or may be possible now."""
        if self._wanted or self._ours:
            self._asked.set()

    def close(self) -> None:
        if self._watch:
            self._loop.remove_reader(self._watch)
            self._watch.close()
            self._watch = None
        self._workers.do(self._thread.close, lambda _: self._workers.close())

    async def run(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self._reconcile()
            await asyncio.sleep(PAUSE)

    async def _reconcile(self) -> None:
        wanted = self._wanted or ()
        if self._wanted is None and self._named:
            return  # a master that was killed may be master again in a moment
        surplus = [one for one in reversed(self._ours) if one not in wanted]
        missing = [one for one in wanted if one not in self._settled]
        if not surplus and not missing:
            self._failures.replace([])
            return
        # Before they are added: whatever happens in between, a successor knows them.
        if over := self._remember([*self._ours, *(one for one in missing if one not in self._ours)]):
            await asyncio.wait([over], timeout=WRITE_TIMEOUT)
        supposed, self._supposed = self._supposed, frozenset()
        done: asyncio.Future[_Outcome | OSError] = self._loop.create_future()
        self._workers.do(lambda: self._thread.work(surplus, missing, supposed), done.set_result)
        while not (await asyncio.wait([done], timeout=ANSWER_TIMEOUT))[0]:
            self._failures.set("routes and rules", f"no answer of the kernel within {ANSWER_TIMEOUT:g} s", WAITING)
        outcome = done.result()
        if isinstance(outcome, OSError):
            outcome = _Outcome(refused=[Failure("routes and rules", in_words(outcome.errno))])
        self._ours = [one for one in self._ours if one not in outcome.gone]
        self._ours += [one for one in missing if one in outcome.ours and one not in self._ours]
        self._settled |= {one for one in outcome.there if not one.is_tracked}
        self._remember(self._ours)
        if outcome.refused:
            self._loop.call_later(RETRY_INTERVAL, self._asked.set)
        self._failures.replace([one for one in outcome.refused if one.what in self._refused])
        self._refused = frozenset(one.what for one in outcome.refused)

    def _remember(self, ours: list[Virtual]) -> asyncio.Future[bool] | None:
        """None: it is remembered already."""
        rows = [[one.kind, list(one.words), one.is_tracked] for one in ours]
        if not self._memory or rows == self._remembered:
            return None
        self._remembered = rows
        return self._memory.remember({"virtuals": rows})

    def _watch_removals(self, named: frozenset[Virtual]) -> None:
        protocols = {OURS} | {protocol for one in named if (protocol := _protocol(one)) is not None}
        try:
            if not self._watch:
                self._watch = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
                self._watch.bind((0, GROUPS))
                self._loop.add_reader(self._watch, self._removed)
            packet_filter.attach(self._watch, _removals_of(protocols))
        except OSError as error:
            self._failures.set("watch routes and rules", in_words(error.errno))

    def _removed(self) -> None:
        assert self._watch
        with contextlib.suppress(OSError):  # none is left, or some were lost: both is a reason to look
            while self._watch.recv(1 << 16):
                pass
        self.look_again()


def _removals_of(protocols: Iterable[int]) -> list[Instruction]:
    """Passes removals of routes with these protocols, and of any rule. The kind is in the byte order of the host."""
    code = [
        (LD_HALF, 0, 0, KIND_AT),
        (JUMP_EQUAL, 0, 1, socket.htons(DELRULE)),
        (RETURN, 0, 0, ALL),
        (JUMP_EQUAL, 1, 0, socket.htons(DELROUTE)),
        (RETURN, 0, 0, NOTHING),
        (LD_BYTE, 0, 0, PROTOCOL_AT),
    ]
    for protocol in sorted(protocols):
        code += [(JUMP_EQUAL, 0, 1, protocol), (RETURN, 0, 0, ALL)]
    return [*code, (RETURN, 0, 0, NOTHING)]


def _virtuals(state: dict[str, Any]) -> list[Virtual]:
    return [Virtual(kind, tuple(map(str, words)), bool(tracked)) for kind, words, tracked in state["virtuals"]]


def _protocol(virtual: Virtual) -> int | None:
    try:
        return virtuals.parse(virtual).protocol
    except NotUnderstood:
        return None  # of a table that has its name on this machine only, at most


def _is_marked(virtual: Virtual) -> bool:
    return not {"proto", "protocol"} & set(virtual.words)


class _Thread:
    """What happens in the thread: pyroute2, and everything that waits for the kernel."""

    def __init__(self) -> None:
        self._route: Any = None

    def prepare(self) -> str:
        """Why it cannot be done; empty: it can. Raises OSError."""
        if self._route is None:
            try:
                from pyroute2 import IPRoute  # noqa: PLC0415 - where a configuration asks for it
            except ImportError:
                return NO_PYROUTE2
            self._route = IPRoute()
        return ""

    def close(self) -> None:
        if self._route is not None:
            self._route.close()
            self._route = None

    def work(self, surplus: list[Virtual], missing: list[Virtual], supposed: frozenset[Virtual]) -> _Outcome:
        """`supposed`: what cannot be removed of these was never added. Raises OSError."""
        outcome = _Outcome()
        if reason := self.prepare():
            hint = "apt-get install python3-pyroute2, or pip install 'floatip[routes]'"
            outcome.refused = [Failure("routes and rules", reason, hint)]
            return outcome
        tables = virtuals.machine_tables()
        for one in surplus:
            code = self._perform(one, tables, adds=False)
            if code in GONE or not code or one in supposed:
                outcome.gone.add(one)
            else:
                outcome.refused.append(_failure("remove", one, code))
        for one in missing:
            code = self._perform(one, tables, adds=True)
            # The kernel removes nothing for us that does not carry the mark: what carries it may be called ours.
            if not code or (code == errno.EEXIST and _is_marked(one)):
                outcome.ours.add(one)
            if code in (0, errno.EEXIST):
                outcome.there.add(one)
            else:
                outcome.refused.append(_failure("add", one, code))
        return outcome

    def _perform(self, virtual: Virtual, tables: dict[str, int], adds: bool) -> int | str:
        """0, the errno with which the kernel answered, or why it was not asked."""
        from pyroute2 import NetlinkError  # noqa: PLC0415

        try:
            thing = virtuals.parse(virtual, tables)
            if isinstance(thing, Route):
                message, kind = _route_message(thing), NEWROUTE if adds else DELROUTE
                flags = F_CREATE | (F_APPEND if thing.appended else 0)
            else:
                message, kind = _rule_message(thing), NEWRULE if adds else DELRULE
                flags = F_CREATE | F_EXCL
            message["header"]["type"] = kind
            message["header"]["flags"] = F_REQUEST | F_ACK | (flags if adds else 0)
            # `nlm_request` of pyroute2 0.9 fails on a KeyError of its own.
            for _ in self._route.nlm_request_batch([message]):
                pass
        except NotUnderstood as error:
            return str(error)
        except NetlinkError as error:
            return abs(int(error.code)) or errno.EIO
        except OSError as error:
            return error.errno or errno.EIO
        except Exception as error:  # it has its own bugs, and the election goes on
            return f"pyroute2 fails: {error!r}"
        return 0


def _failure(verb: str, virtual: Virtual, code: int | str) -> Failure:
    what = f"{verb} {virtual.kind} {' '.join(virtual.words)}"
    return Failure(what, code) if isinstance(code, str) else Failure(what, in_words(code), HINTS.get(code, ""))


def _index(interface: str) -> int:
    """Raises OSError."""
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        raise OSError(errno.ENODEV, "") from None


def _route_message(route: Route) -> Any:
    """Raises OSError where an interface does not exist."""
    from pyroute2.netlink.rtnl.rtmsg import rtmsg  # noqa: PLC0415

    message = rtmsg()
    message["family"], message["type"], message["scope"] = route.family, route.type, route.scope
    message["proto"] = OURS if route.protocol is None else route.protocol
    message["tos"], message["table"] = route.tos, route.table if route.table < 256 else 0
    message["dst_len"] = route.destination.prefixlen
    attributes: list[tuple[str, Any]] = [("RTA_TABLE", route.table)]
    if route.destination.prefixlen:
        attributes.append(("RTA_DST", str(route.destination.network_address)))
    if route.source is not None:
        message["src_len"] = route.source.prefixlen
        attributes.append(("RTA_SRC", str(route.source.network_address)))
    if route.prefers is not None:
        attributes.append(("RTA_PREFSRC", str(route.prefers)))
    if route.priority is not None:
        attributes.append(("RTA_PRIORITY", route.priority))
    if len(route.hops) == 1:
        (hop,) = route.hops
        message["flags"] = ONLINK if hop.onlink else 0
        attributes += _towards(hop)
        if hop.interface:
            attributes.append(("RTA_OIF", _index(hop.interface)))
    else:
        attributes.append(("RTA_MULTIPATH", [_nexthop(hop) for hop in route.hops]))
    if route.metrics:
        names = {number: f"RTAX_{name.upper()}" for name, number in virtuals.METRICS.items()}
        metrics = [(names[kind], value) for kind, value in route.metrics]
        attributes.append(("RTA_METRICS", {"attrs": [*metrics, *([(LOCK, route.locked)] if route.locked else [])]}))
    message["attrs"] = attributes
    return message


def _towards(hop: Hop) -> list[tuple[str, Any]]:
    return [("RTA_GATEWAY", str(hop.gateway))] if hop.gateway is not None else []


def _nexthop(hop: Hop) -> dict[str, Any]:
    oif = _index(hop.interface) if hop.interface else 0
    return {"oif": oif, "hops": hop.weight - 1, "flags": ONLINK if hop.onlink else 0, "attrs": _towards(hop)}


def _rule_message(rule: Rule) -> Any:
    from pyroute2.netlink.rtnl.fibmsg import fibmsg  # noqa: PLC0415

    message = fibmsg()
    message["family"], message["action"], message["tos"] = rule.family, rule.action, rule.tos
    message["table"] = rule.table if rule.table < 256 else 0
    message["flags"] = INVERTED if rule.inverted else 0
    attributes: list[tuple[str, Any]] = [
        ("FRA_PRIORITY", rule.preference),
        ("FRA_PROTOCOL", OURS if rule.protocol is None else rule.protocol),
    ]
    if rule.table:
        attributes.append(("FRA_TABLE", rule.table))
    for length, name, network in (("src_len", "FRA_SRC", rule.source), ("dst_len", "FRA_DST", rule.destination)):
        if network is not None and network.prefixlen:
            message[length] = network.prefixlen
            attributes.append((name, str(network.network_address)))
    if rule.mark is not None:
        attributes += [("FRA_FWMARK", rule.mark[0]), ("FRA_FWMASK", rule.mark[1])]
    named: list[tuple[str, Any]] = [
        ("FRA_IIFNAME", rule.iif or None),
        ("FRA_OIFNAME", rule.oif or None),
        ("FRA_GOTO", rule.goto),
        ("FRA_IP_PROTO", rule.ip_protocol),
        ("FRA_SUPPRESS_PREFIXLEN", rule.suppress_prefixlength),
        ("FRA_SUPPRESS_IFGROUP", rule.suppress_ifgroup),
        ("FRA_L3MDEV", 1 if rule.l3mdev else None),
    ]
    ranges = [
        ("FRA_SPORT_RANGE", rule.source_ports),
        ("FRA_DPORT_RANGE", rule.destination_ports),
        ("FRA_UID_RANGE", rule.users),
    ]
    named += [(name, f"{found[0]}:{found[1]}") for name, found in ranges if found]
    message["attrs"] = attributes + [(name, value) for name, value in named if value is not None]
    return message
