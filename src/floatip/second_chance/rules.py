"""The rules in the kernel's nftables that carry packets of connections. docs: nft list table netdev floatip_sc.

All that is carried on leaves at the ingress hook of the device that it came by: before connection tracking, before any
ruleset of the user's, and whether this machine forwards or not. What came through the tunnel is never sent to another
node: it goes to the sockets of this machine, to a client, or nowhere.

A chain is hooked in only while it has something to do. While no connection is moved, packets of the service cost
nothing.
"""

import errno
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple, Self

from floatip.core.addresses import Address
from floatip.core.second_chance.direct import NONCE, Probe
from floatip.core.second_chance.flow import V4, V6, Flow, is_flow
from floatip.rtnetlink import U32, Interrupted
from floatip.second_chance import nftables
from floatip.second_chance.cannot import Cannot
from floatip.second_chance.nftables import (
    ACCEPT,
    DEVICE,
    DROP,
    EVAL,
    FRAGMENT,
    GOTO,
    INET,
    INGRESS,
    INPUT,
    INTERVAL,
    IPV4,
    IPV6,
    JUMP,
    LINK,
    MARK,
    META_IIF,
    META_L4PROTO,
    META_NFPROTO,
    META_PROTOCOL,
    NETDEV,
    NETWORK,
    OUTPUT,
    OWNER,
    PERSIST,
    RETURN,
    SERVICE,
    TRANSPORT,
    UNEQUAL,
    Kind,
    Message,
    Nftables,
    Refused,
    Set,
)
from floatip.second_chance.surroundings import Route, Seen
from floatip.second_chance.tunnel import ETHERTYPE, Tunnel, mac

TABLE = "floatip_sc"
UPLINK = "uplink_"
"""The name of a base chain begins with it; the name of its device follows."""
EARLY = -310
"""Before connection tracking and what drops packets early (raw: -300)."""
LATE = 2**31 - 2
"""Behind every filter."""
HELD_FOR = 3.0
"""Seconds after which the kernel resets unknown connections again, if nobody is there to say that it must not."""
FRAGMENTS = 30
"""Seconds for the rest of a packet to come: as long as the kernel waits for it (ipfrag_time)."""
PROVEN_FOR = 3.5
"""Seconds for which a probe proves that answers arrive: two of them may be lost."""
MOST_FRAGMENTED = 65_535
"""Packets of which fragments are on their way."""
MOST_PROBES = 65_535
"""Nobody else can add one: the nonces are known."""
ATTEMPTS = 5
LOOK = "see what the kernel says: journalctl -k; nft list ruleset"
HINTS = {
    errno.EPERM: "floatip needs CAP_NET_ADMIN; or another floatip owns the tables: nft list tables",
    errno.EOPNOTSUPP: "see whether the kernel has nftables for ingress: modprobe nf_tables; modprobe nft_fwd_netdev",
    errno.ENOENT: "see whether the kernel has nftables for ingress: modprobe nf_tables; modprobe nft_fwd_netdev",
}

TCP, UDP, ICMP, ICMPV6 = b"\x06", b"\x11", b"\x01", b"\x3a"
IPV4_PROTOCOL, IPV6_PROTOCOL, VLAN = b"\x08\x00", b"\x86\xdd", b"\x81\x00"
QUOTING = {4: (b"\x03", b"\x0b", b"\x0c"), 6: (b"\x01", b"\x02", b"\x03", b"\x04")}
"""Types of ICMP that quote the packet they are about: unreachable, too big, time exceeded, parameter problem."""
KEY = 8
"""The register at which every key begins: up to ten of them."""
VALUE, INDEX = 18, 22
"""Behind it: what a map has; the tunnel's index."""


class Version(NamedTuple):
    """What differs between IPv4 and IPv6. Places are octets in a header."""

    number: int
    protocol: bytes
    icmp: bytes
    address: Kind
    size: int
    source: int
    destination: int
    quoted: int
    """Where the ports are in the packet that an ICMP error quotes, if that has no options."""


FOUR = Version(4, IPV4_PROTOCOL, ICMP, IPV4, 4, 12, 16, 28)
SIX = Version(6, IPV6_PROTOCOL, ICMPV6, IPV6, 16, 8, 24, 48)
VERSIONS = (FOUR, SIX)


@dataclass(frozen=True, slots=True)
class Counts:
    """Packets since `open`."""

    forwarded: int
    """From the uplinks into the tunnel: packets of TCP, each once."""
    answers: int
    """From the tunnel to the uplinks."""
    accepted: Mapping[str, int]
    """Out of the tunnel to the sockets of this machine, by the node they came from: no filter dropped them."""

    def __add__(self, other: "Counts") -> "Counts":
        accepted = {
            name: self.accepted.get(name, 0) + other.accepted.get(name, 0) for name in {*self.accepted, *other.accepted}
        }
        return Counts(self.forwarded + other.forwarded, self.answers + other.answers, accepted)


class Rules:
    """Every method raises Cannot."""

    def __init__(self, tunnel: Tunnel, port: int, timeout: float, seen: Seen) -> None:
        self._tunnel = tunnel
        self._port = port
        self._timeout = timeout
        self._uplinks, self._routes = seen.uplinks, seen.routes
        self._peers = frozenset(peer.node.address for peer in tunnel.peers.values())
        self._moved: dict[Flow, str] = {}
        self._here: set[Flow] = set()
        self._held: frozenset[Address] = frozenset()
        self._probes: frozenset[Probe] = frozenset()
        self._in_parts: frozenset[int] = frozenset()
        """The numbers of nodes for which there are rules for packets in parts."""
        self._counted: frozenset[str] = frozenset()
        """The nodes whose packets to our sockets are counted."""
        self._before = Counts(0, 0, {})
        """Of tables that another program removed."""
        self._last = Counts(0, 0, {})
        self.is_owner = True
        """Whether other programs cannot change the tables (Linux 6.9)."""
        try:
            self._nftables = Nftables()
        except OSError as error:
            raise _cannot("open nftables", error) from error

    @classmethod
    def open(cls, tunnel: Tunnel, port: int, timeout: float, seen: Seen, *, may_own: bool = True) -> Self:
        """Makes the tables; connections that a killed predecessor left in them go on.

        `timeout`: seconds after which the kernel forgets a connection, if nobody is there to remove it.
        `may_own`: as is_owner, where the kernel can.
        """
        rules = cls(tunnel, port, timeout, seen)
        try:
            rules._adopt()
            if may_own:
                try:
                    rules._make()
                    return rules
                except Refused as error:
                    if error.code != errno.EOPNOTSUPP:
                        raise
            rules.is_owner = False
            rules._make()
        except (Refused, OSError) as error:
            rules._nftables.close()
            raise _cannot("make the rules of the second chance", error) from error
        return rules

    def adopted(self) -> dict[Flow, str]:
        """The connections that are moved, with the node of each: right after `open`, those of a killed predecessor."""
        return dict(self._moved)

    def adopted_here(self) -> frozenset[Flow]:
        """Those that may come in through the tunnel."""
        return frozenset(self._here)

    def uplinks(self, names: Iterable[str]) -> None:
        """The whole set of devices by which packets of connections come (`Seen.uplinks`).

        A device that is gone by now is passed over: the next reading of the surroundings does not have it.
        """
        self._uplinks = frozenset(names)
        self._follow_devices()

    def _follow_devices(self) -> None:
        chains = {UPLINK + name: name for name in self._uplinks} if self._moved else {}
        with _said("follow the network devices"):
            for _ in range(ATTEMPTS):
                self._remake_if_gone()
                there = {name for name in self._chains() if name.startswith(UPLINK)}
                devices = _devices()
                gone = [nftables.delete_base_chain(NETDEV, TABLE, name) for name in there - chains.keys()]
                new = [
                    _uplink(name) for chain_name, name in chains.items() if chain_name not in there and name in devices
                ]
                try:
                    return self._nftables.run(list(chain.from_iterable([*gone, *new])))
                except Refused as error:
                    if error.code != errno.ENOENT:
                        raise  # else a device or a chain has gone meanwhile
            raise OSError(errno.EAGAIN, "")

    def routes(self, routes: Iterable[Route]) -> None:
        """The whole table of how answers go on to the clients (`Seen.routes`)."""
        wanted = frozenset(routes)
        if wanted == self._routes:
            return
        before, self._routes = self._routes, wanted
        empty = [
            nftables.flush_set(NETDEV, TABLE, f"{name}{v.number}") for v in VERSIONS for name in ("device", "gateway")
        ]
        try:
            self._run("follow the routes", [*empty, *self._route_elements()])
        except Cannot:
            self._routes = before
            raise

    def peers(self, addresses: Iterable[Address]) -> None:
        """The whole set of those whose packets may come into the tunnel: the nodes' addresses on the link."""
        self._peers = frozenset(addresses)
        self._run("follow the nodes", _filled(INET, "peers", self._peers))

    def hold(self, addresses: Iterable[Address]) -> None:
        """The whole set of addresses that are on the move, while the lists of connections may be late.

        This machine does not reset connections of theirs that it does not have. All of their answers go on from the
        tunnel to the clients, not only those of connections that are moved. That lasts for `HELD_FOR` seconds: say it
        again before they are over.
        """
        before, self._held = self._held, frozenset(addresses)
        messages = list(self._held_elements())
        if self._held and not before:
            messages += self._hold_rules()
        if before and not self._held:
            messages += nftables.delete_base_chain(INET, TABLE, "hold")
        try:
            self._run("hold resets back", messages)
        except Cannot:
            self._held = before
            raise

    def expect(self, probes: Iterable[Probe]) -> None:
        """The whole set of those that are looked for at the uplinks."""
        before, self._probes = self._probes, frozenset(probes)
        try:
            self._run("look for probes", self._probe_elements())
        except Cannot:
            self._probes = before
            raise

    def seen(self) -> frozenset[Probe]:
        """Those of the last few seconds."""
        if not self._probes:
            return frozenset()
        with _said("read which probes have come"):
            bodies = [
                body for v in VERSIONS for body in self._dump(nftables.get_elements(NETDEV, TABLE, f"seen{v.number}"))
            ]
            found = frozenset(key for body in bodies for key, _ in nftables.elements(body))
            return frozenset(one for one in self._probes if _packed(one) in found)

    def moved(self, add: Mapping[Flow, str], remove: Iterable[Flow]) -> None:
        """Packets of these connections go to that node. Answers that it sends back go on to the client.

        To add one that is there with another node moves it; `add` counts after `remove`. Raises ValueError for what is
        no flow, and KeyError for a node that is no peer.
        """
        names = frozenset(add.values())
        new = {flow: name for flow, name in add.items() if self._moved.get(flow) != name}
        old = {flow for flow in remove if flow in self._moved and flow not in add}
        old |= {flow for flow in new if flow in self._moved}
        hops = self._hops(names)
        values = {flow: hops[name, len(flow)] for flow, name in new.items() if is_flow(flow)}
        if len(values) < len(new):
            raise ValueError("not a flow")
        unprepared = self._numbers(names) - self._in_parts
        self._change("moved", values, old, [rule for number in unprepared for rule in self._part_rules(number)])
        self._in_parts |= unprepared
        was_empty = not self._moved
        for flow in old:
            del self._moved[flow]
        self._moved |= new
        if was_empty != (not self._moved):
            self._follow_devices()

    def here(self, add: Iterable[Flow], remove: Iterable[Flow]) -> None:
        """Packets of these connections may come in through the tunnel; frames of ours may, and nothing else.

        Raises ValueError for what is no flow.
        """
        wanted = frozenset(add)
        if not all(map(is_flow, wanted)):
            raise ValueError("not a flow")
        new = wanted - self._here
        old = (self._here & frozenset(remove)) - wanted
        after = (self._here - old) | new
        chains: list[Message] = []
        uncounted = frozenset[str]()
        if after:
            if not self._here:
                chains.append(nftables.new_base_chain(INET, TABLE, "accepted", INPUT, LATE))
            uncounted = frozenset(self._tunnel.peers.keys() - self._counted)
            chains += self._accepted_rules(uncounted)
        elif self._here:
            chains += nftables.delete_base_chain(INET, TABLE, "accepted")
        self._change("here", dict.fromkeys(new, b""), old, chains)
        self._here = after
        self._counted = self._counted | uncounted if after else frozenset()

    def _numbers(self, names: Iterable[str]) -> frozenset[int]:
        return frozenset(self._tunnel.peers[name].number for name in frozenset(names))

    def _hops(self, names: Iterable[str]) -> dict[tuple[str, int], bytes]:
        """The next hop to each node, by its name and the size of a flow. Raises KeyError."""
        versions = ((4, V4), (6, V6))
        return {(name, size): self._tunnel.peers[name].next_hop(v).packed for name in names for v, size in versions}

    def _change(self, name: str, new: Mapping[Flow, bytes], old: set[Flow], rules: Iterable[Message] = ()) -> None:
        for _ in range(ATTEMPTS):
            try:
                return self._nftables.run(
                    [
                        *rules,
                        *(
                            message
                            for version, size in ((4, V4), (6, V6))
                            for message in chain(
                                nftables.delete_elements(
                                    NETDEV, TABLE, f"{name}{version}", [flow for flow in old if len(flow) == size]
                                ),
                                nftables.add_elements(
                                    NETDEV,
                                    TABLE,
                                    f"{name}{version}",
                                    {flow: value for flow, value in new.items() if len(flow) == size},
                                ),
                            )
                        ),
                    ]
                )
            except Refused as error:
                if error.code != errno.ENOENT:
                    raise _cannot("change the list of connections", error) from error
                # The kernel has forgotten some of the old ones, or another program has removed the tables.
                try:
                    self._remake_if_gone()
                    old = {flow for flow in old if flow in self._elements(name)}
                except (Refused, OSError) as again:
                    raise _cannot("change the list of connections", again) from again
            except OSError as error:
                raise _cannot("change the list of connections", error) from error
        raise _cannot("change the list of connections", OSError(errno.EAGAIN, ""))

    def counts(self) -> Counts:
        """Where another program removed the tables, it makes them again first."""
        with _said("read the counters"):
            self._remake_if_gone()
            found: dict[str, int] = {}
            for family in (NETDEV, INET):
                found |= dict(map(nftables.counted, self._dump(nftables.get_counters(family, TABLE))))
            numbers = {name: f"accepted{peer.number}" for name, peer in self._tunnel.peers.items()}
            accepted = {name: found[counter] for name, counter in numbers.items() if counter in found}
            self._last = Counts(found["forwarded"], found["answers"], accepted)
            return self._before + self._last

    def close(self) -> None:
        """Removes everything."""
        try:
            with _said("remove the rules of the second chance"):
                for family in (NETDEV, INET):
                    try:
                        self._nftables.run([nftables.delete_table(family, TABLE)])
                    except Refused as error:
                        if error.code != errno.ENOENT:
                            raise
        finally:
            self._nftables.close()

    # What is there

    def _chains(self, family: int = NETDEV) -> list[str]:
        found = map(nftables.chain_of, self._dump(nftables.get_chains(family, TABLE)))
        return [name for table, name in found if table == TABLE]

    def _elements(self, name: str) -> dict[Flow, bytes]:
        found: dict[Flow, bytes] = {}
        for version in VERSIONS:
            bodies = self._dump(nftables.get_elements(NETDEV, TABLE, f"{name}{version.number}"))
            found |= dict(chain.from_iterable(map(nftables.elements, bodies)))
        return found

    def _dump(self, message: Message) -> list[memoryview]:
        for _ in range(ATTEMPTS):
            try:
                return [memoryview(bytes(body)) for body in self._nftables.dump(message)]
            except Interrupted:
                continue
        raise OSError(errno.EAGAIN, "")

    def _adopt(self) -> None:
        """What a predecessor left. The numbers of the nodes mean the same only where its tunnel was adopted, too."""
        if not self._tunnel.is_adopted:
            return
        try:
            names = {peer.next_hop(v).packed: name for name, peer in self._tunnel.peers.items() for v in (4, 6)}
            moved = {flow: names.get(hop) for flow, hop in self._elements("moved").items()}
            here = self._elements("here")
        except Refused as error:
            if error.code != errno.ENOENT:
                raise
            return
        self._moved = {flow: name for flow, name in moved.items() if name is not None and is_flow(flow)}
        self._here = {flow for flow in here if is_flow(flow)}

    def _remake_if_gone(self) -> None:
        if len(self._chains()) and len(self._chains(INET)):
            return
        self._before += self._last
        self._last = Counts(0, 0, {})
        self._make()

    def _make(self) -> None:
        """Everything, in place of what is there."""
        flags = OWNER | PERSIST if self.is_owner else 0
        families = [family for family in (NETDEV, INET) if self._chains(family)]
        there = _devices()
        self._moved = {flow: name for flow, name in self._moved.items() if name in self._tunnel.peers}
        self._in_parts = self._numbers(self._moved.values())
        self._counted = frozenset(self._tunnel.peers if self._here else ())
        self._nftables.run(
            [
                *(nftables.delete_table(family, TABLE) for family in families),
                *(nftables.new_table(family, TABLE, flags) for family in (NETDEV, INET)),
                *self._sets(),
                *(nftables.new_counter(NETDEV, TABLE, name) for name in ("forwarded", "answers")),
                *self._uplink_rules(),
                *self._tunnel_rules(),
                *self._guard_rules(),
                *(self._hold_rules() if self._held else ()),
                *([nftables.new_base_chain(INET, TABLE, "accepted", INPUT, LATE)] if self._here else []),
                *self._accepted_rules(self._counted),
                *(rule for number in self._in_parts for rule in self._part_rules(number)),
                *self._all_elements(),
                *(message for name in (self._uplinks & there if self._moved else ()) for message in _uplink(name)),
            ]
        )

    def _sets(self) -> Iterator[Message]:
        for v in VERSIONS:
            flow = (v.address, SERVICE, v.address, SERVICE)
            for it in (
                Set(f"moved{v.number}", flow, (v.address,), timeout=self._timeout),
                Set(f"here{v.number}", flow, timeout=self._timeout),
                _parts(v, "here"),
                Set(f"gateway{v.number}", (v.address,), (v.address,), flags=INTERVAL),
                Set(f"device{v.number}", (v.address,), (DEVICE,), flags=INTERVAL),
            ):
                yield nftables.new_set(NETDEV, TABLE, it)
            probe = IPV6, v.address
            yield nftables.new_set(NETDEV, TABLE, Set(f"probes{v.number}", probe))
            seen = Set(f"seen{v.number}", probe, flags=EVAL, timeout=PROVEN_FOR, most=MOST_PROBES)
            yield nftables.new_set(NETDEV, TABLE, seen)
            for family, name in ((INET, "peers"), (INET, "held"), (NETDEV, "held")):
                lasts = HELD_FOR if name == "held" else 0.0
                yield nftables.new_set(family, TABLE, Set(f"{name}{v.number}", (v.address,), timeout=lasts))

    def _uplink_rules(self) -> Iterator[Message]:
        """What comes from the clients: to the node that has the connection, or on as if we were not there."""
        yield nftables.new_chain(NETDEV, TABLE, "uplink")
        # A tagged packet comes once more by the device of its VLAN, without the tag.
        yield _rule("uplink", nftables.payload(LINK, 12, 2, KEY), nftables.compare(KEY, VLAN), nftables.verdict(RETURN))
        for v in VERSIONS:
            here, parts, errors = f"uplink{v.number}", f"parts{v.number}", f"errors{v.number}"
            for name in (here, parts, errors):
                yield nftables.new_chain(NETDEV, TABLE, name)
            yield _rule("uplink", *_is(META_PROTOCOL, v.protocol), nftables.verdict(GOTO, here))
            yield _rule(here, *_part(v), nftables.verdict(JUMP, parts))
            moved = nftables.lookup(f"moved{v.number}", KEY, VALUE)
            to_node = self._to_node(v)
            yield _rule(here, *_flow(v), moved, *to_node)
            yield _rule(here, *_is(META_L4PROTO, v.icmp), nftables.verdict(GOTO, errors))
            # Nothing behind this hook sees it: it comes from an address that this machine has.
            probe = [
                *_is(META_L4PROTO, UDP),
                *self._to_port(),
                nftables.payload(TRANSPORT, 8, NONCE, KEY),
                nftables.payload(NETWORK, v.source, v.size, KEY + NONCE // 4),
                nftables.lookup(f"probes{v.number}", KEY),
                nftables.remember(f"seen{v.number}", KEY, again=True),
            ]
            yield _rule(here, *probe, nftables.verdict(DROP))
            for kind in QUOTING[v.number]:
                yield _rule(errors, *_quoting(v, kind), moved, *self._uncounted(v))

    def _to_port(self) -> list[bytes]:
        return [nftables.payload(TRANSPORT, 2, 2, KEY), nftables.compare(KEY, self._port.to_bytes(2, "big"))]

    def _to_node(self, v: Version) -> list[bytes]:
        return [nftables.count("forwarded"), *self._uncounted(v)]

    def _uncounted(self, v: Version) -> list[bytes]:
        """For what the node does not count as accepted: errors of ICMP, and parts of a packet but the first."""
        return [nftables.immediate(INDEX, U32.pack(self._tunnel.index)), nftables.forward(INDEX, VALUE, v.number)]

    def _part_rules(self, number: int) -> Iterator[Message]:
        """For packets to the node of that number that come in parts: the first has the ports, the others follow it.

        Each node has sets of its own: nft 1.0.6 aborts at a rule that copies a value from one map to another.
        """
        peer = next(peer for peer in self._tunnel.peers.values() if peer.number == number)
        for v in VERSIONS:
            chain_name, hop = f"parts{v.number}", peer.next_hop(v.number).packed
            yield nftables.new_set(NETDEV, TABLE, parts := _parts(v, f"moved{number}"))
            known = nftables.lookup(parts.name, KEY)
            to_node = [nftables.immediate(VALUE, hop), *self._uncounted(v)]
            yield _rule(chain_name, *_later_part(v), *_packet(v), known, *to_node)
            to_peer = [nftables.lookup(f"moved{v.number}", KEY, VALUE), nftables.compare(VALUE, hop)]
            first = [*_first_part(v), *_flow(v), *to_peer]
            yield _rule(chain_name, *first, *_packet(v), nftables.remember(parts.name, KEY))

    def _tunnel_rules(self) -> Iterator[Message]:
        """What comes from the nodes: to our sockets, or, if it is an answer, to the client. Nothing else passes."""
        yield nftables.new_base_chain(NETDEV, TABLE, "tunnel", INGRESS, 0, self._tunnel.name)
        accept = nftables.verdict(ACCEPT)
        yield _rule("tunnel", *_is(META_PROTOCOL, ETHERTYPE.to_bytes(2, "big")), accept)
        for v in VERSIONS:
            here, answer = f"tunnel{v.number}", f"answer{v.number}"
            yield nftables.new_chain(NETDEV, TABLE, here)
            yield nftables.new_chain(NETDEV, TABLE, answer)
            yield _rule("tunnel", *_is(META_PROTOCOL, v.protocol), nftables.verdict(GOTO, here))
            ours, parts = nftables.lookup(f"here{v.number}", KEY), _parts(v, "here").name
            yield _rule(here, *_later_part(v), *_packet(v), nftables.lookup(parts, KEY), accept)
            yield _rule(here, *_first_part(v), *_flow(v), ours, *_packet(v), nftables.remember(parts, KEY))
            yield _rule(here, *_flow(v), ours, accept)
            for kind in QUOTING[v.number]:
                yield _rule(here, *_quoting(v, kind), ours, accept)
            # The kernel of Debian 12 has no question whether a map has a key, only for the value.
            moved = [nftables.lookup(f"moved{v.number}", KEY, VALUE), nftables.compare(VALUE, bytes(v.size), UNEQUAL)]
            yield _rule(here, *_flow(v, is_answer=True), *moved, nftables.verdict(GOTO, answer))
            # While routes change, the keeper answers all kinds of packets: pings, and UDP as well.
            source = nftables.payload(NETWORK, v.source, v.size, KEY)
            held = [*_is(META_PROTOCOL, v.protocol), source, nftables.lookup(f"held{v.number}", KEY)]
            yield _rule(here, *held, nftables.verdict(GOTO, answer))
            yield _rule(here, nftables.verdict(DROP))
            client = [*_is(META_PROTOCOL, v.protocol), nftables.payload(NETWORK, v.destination, v.size, KEY)]
            device, gateway = nftables.lookup(f"device{v.number}", KEY, INDEX), f"gateway{v.number}"
            by_router = [nftables.lookup(gateway, KEY, VALUE), nftables.count("answers")]
            yield _rule(answer, *client, device, *by_router, nftables.forward(INDEX, VALUE, v.number))
            yield _rule(answer, *client, device, nftables.count("answers"), nftables.forward(INDEX, KEY, v.number))
            yield _rule(answer, nftables.verdict(DROP))
        # Not as the policy: that would be in force before the rules are.
        yield _rule("tunnel", nftables.verdict(DROP))

    def _guard_rules(self) -> Iterator[Message]:
        """What comes to the tunnel's port, by whichever device, comes from the nodes, or nothing comes of it."""
        yield nftables.new_base_chain(INET, TABLE, "guard", INPUT, EARLY)
        yield nftables.new_chain(INET, TABLE, "to_tunnel")
        yield _rule(
            "guard", *_is(META_L4PROTO, UDP), *self._to_port(), nftables.verdict(GOTO, "to_tunnel"), family=INET
        )
        for v in VERSIONS:
            stranger = nftables.lookup(f"peers{v.number}", KEY, inverted=True)
            yield _rule("to_tunnel", *_source(v), stranger, nftables.verdict(DROP), family=INET)

    def _hold_rules(self) -> Iterator[Message]:
        yield nftables.new_base_chain(INET, TABLE, "hold", OUTPUT, EARLY)
        # The answer to a packet of an unknown connection is RST alone; a refused SYN gets RST and ACK.
        reset = [*_is(META_L4PROTO, TCP), nftables.payload(TRANSPORT, 13, 1, KEY), nftables.compare(KEY, b"\x04")]
        for v in VERSIONS:
            held = nftables.lookup(f"held{v.number}", KEY)
            yield _rule("hold", *reset, *_source(v), held, nftables.verdict(DROP), family=INET)

    def _accepted_rules(self, names: Iterable[str]) -> Iterator[Message]:
        """Each node's packets are counted apart: one of them may have a tunnel that leads nowhere."""
        this = [*_is(META_IIF, U32.pack(self._tunnel.index)), *_is(META_L4PROTO, TCP)]
        for name in names:
            counter = f"accepted{self._tunnel.peers[name].number}"
            yield nftables.new_counter(INET, TABLE, counter)  # one that is there goes on
            sender = [nftables.payload(LINK, 6, 6, KEY), nftables.compare(KEY, mac(name))]
            yield _rule("accepted", *this, *sender, nftables.count(counter), family=INET)

    def _all_elements(self) -> Iterator[Message]:
        hops = self._hops(frozenset(self._moved.values()))
        for v, size in ((4, V4), (6, V6)):
            values = {flow: hops[name, size] for flow, name in self._moved.items() if len(flow) == size}
            yield from nftables.add_elements(NETDEV, TABLE, f"moved{v}", values)
            here = [flow for flow in self._here if len(flow) == size]
            yield from nftables.add_elements(NETDEV, TABLE, f"here{v}", here)
        yield from self._route_elements()
        yield from _filled(INET, "peers", self._peers)
        yield from self._held_elements()
        yield from self._probe_elements()

    def _probe_elements(self) -> Iterator[Message]:
        for v in VERSIONS:
            wanted = [_packed(one) for one in self._probes if one.source.version == v.number]
            yield nftables.flush_set(NETDEV, TABLE, f"probes{v.number}")
            yield from nftables.add_elements(NETDEV, TABLE, f"probes{v.number}", wanted)

    def _held_elements(self) -> Iterator[Message]:
        for family in (INET, NETDEV):
            yield from _filled(family, "held", self._held)

    def _route_elements(self) -> Iterator[Message]:
        for v in VERSIONS:
            devices, gateways = [], []
            for start, end, route in _spans(
                [route for route in self._routes if route.destination.version == v.number], 8 * v.size
            ):
                first = start.to_bytes(v.size, "big")
                closing = [nftables.interval_end(end.to_bytes(v.size, "big"))] if end < 1 << 8 * v.size else []
                devices += [nftables.element(first, U32.pack(route.device)), *closing]
                if route.gateway:
                    gateways += [nftables.element(first, route.gateway.packed), *closing]
            yield from nftables.add_intervals(NETDEV, TABLE, f"device{v.number}", devices)
            yield from nftables.add_intervals(NETDEV, TABLE, f"gateway{v.number}", gateways)

    def _run(self, to: str, messages: Iterable[Message]) -> None:
        with _said(to):
            wanted = list(messages)
            try:
                self._nftables.run(wanted)
            except Refused as error:
                if error.code != errno.ENOENT:
                    raise
                self._remake_if_gone()


def _devices() -> frozenset[str]:
    return frozenset(name for _, name in socket.if_nameindex())


def _spans(routes: Iterable[Route], bits: int) -> Iterator[tuple[int, int, Route]]:
    """Start, end and route: what the longest prefixes leave of the shorter ones, in order, without overlaps."""
    inner: list[tuple[int, Route]] = []
    at = 0
    whole = 1 << bits

    def upto(end: int) -> Iterator[tuple[int, int, Route]]:
        """What the routes that are open at `at` cover of it, before `end`."""
        nonlocal at
        while inner and at < end:
            stop, route = inner[-1]
            if at < (here := min(stop, end)):
                yield at, here, route
                at = here
            if stop <= end:
                inner.pop()
        at = end

    ordered = sorted(routes, key=lambda one: (int(one.destination.network_address), one.destination.prefixlen))
    for route in ordered:
        start = int(route.destination.network_address)
        yield from upto(start)
        inner.append((start + route.destination.num_addresses, route))
    yield from upto(whole)


def _rule(chain_name: str, *expressions: bytes, family: int = NETDEV) -> Message:
    return nftables.rule(family, TABLE, chain_name, *expressions)


def _uplink(device: str) -> list[Message]:
    return [
        nftables.new_base_chain(NETDEV, TABLE, UPLINK + device, INGRESS, 0, device),
        _rule(UPLINK + device, nftables.verdict(JUMP, "uplink")),
    ]


def _is(key: int, value: bytes) -> list[bytes]:
    return [nftables.meta(key, KEY), nftables.compare(KEY, value)]


def _source(v: Version) -> list[bytes]:
    """Where a packet comes from, in a chain that sees both versions."""
    this = _is(META_NFPROTO, bytes([nftables.NFPROTO_OF[v.number]]))
    return [*this, nftables.payload(NETWORK, v.source, v.size, KEY)]


def _flow(v: Version, *, is_answer: bool = False) -> list[bytes]:
    """The key of a TCP packet's connection. An answer has client and us the other way round."""
    client, ours = (v.destination, v.source) if is_answer else (v.source, v.destination)
    port, our_port = (2, 0) if is_answer else (0, 2)
    places = ((NETWORK, client), (TRANSPORT, port), (NETWORK, ours), (TRANSPORT, our_port))
    return [*_is(META_PROTOCOL, v.protocol), *_is(META_L4PROTO, TCP), *_key(v, *places)]


def _key(v: Version, *places: tuple[int, int]) -> list[bytes]:
    registers = v.size // 4
    client, port, ours, our_port = places
    return [
        nftables.payload(*client, v.size, KEY),
        nftables.payload(*port, 2, KEY + registers),
        nftables.payload(*ours, v.size, KEY + registers + 1),
        nftables.payload(*our_port, 2, KEY + 2 * registers + 1),
    ]


def _quoting(v: Version, kind: bytes) -> list[bytes]:
    """The key of the connection that an ICMP error quotes: what it quotes is an answer of ours."""
    inner = 8
    is_tcp: list[bytes] = [nftables.payload(TRANSPORT, inner + 6, 1, KEY), nftables.compare(KEY, TCP)]
    if v is FOUR:
        is_tcp = [
            nftables.payload(TRANSPORT, inner, 1, KEY),
            nftables.compare(KEY, b"\x45"),  # without options: the ports are where we look
            nftables.payload(TRANSPORT, inner + 6, 2, KEY),
            nftables.masked(KEY, b"\x1f\xff"),
            nftables.compare(KEY, b"\0\0"),
            nftables.payload(TRANSPORT, inner + 9, 1, KEY),
            nftables.compare(KEY, TCP),
        ]
    return [
        *_is(META_PROTOCOL, v.protocol),
        *_is(META_L4PROTO, v.icmp),
        nftables.payload(TRANSPORT, 0, 1, KEY),
        nftables.compare(KEY, kind),
        *is_tcp,
        *_key(
            v,
            (TRANSPORT, inner + v.destination),
            (TRANSPORT, v.quoted + 2),
            (TRANSPORT, inner + v.source),
            (TRANSPORT, v.quoted),
        ),
    ]


def _packet(v: Version) -> list[bytes]:
    """The key of a packet that came in parts."""
    registers = v.size // 4
    identifier = KEY + 2 * registers
    return [
        nftables.payload(NETWORK, v.source, v.size, KEY),
        nftables.payload(NETWORK, v.destination, v.size, KEY + registers),
        nftables.payload(NETWORK, 4, 2, identifier) if v is FOUR else nftables.extension(FRAGMENT, 4, 4, identifier),
    ]


def _part(v: Version) -> list[bytes]:
    """A part of a packet, whichever."""
    if v is FOUR:
        return [*_place(v, b"\x3f\xff"), nftables.compare(KEY, b"\0\0", UNEQUAL)]
    return [*_place(v, b"\xff\xf9"), nftables.compare(KEY, b"\0\0", UNEQUAL)]


def _later_part(v: Version) -> list[bytes]:
    return [*_place(v, b"\x1f\xff" if v is FOUR else b"\xff\xf8"), nftables.compare(KEY, b"\0\0", UNEQUAL)]


def _first_part(v: Version) -> list[bytes]:
    """It has an offset of 0, and more follows."""
    if v is FOUR:
        return [*_place(v, b"\x3f\xff"), nftables.compare(KEY, b"\x20\x00")]
    return [*_place(v, b"\xff\xf9"), nftables.compare(KEY, b"\x00\x01")]


def _place(v: Version, mask: bytes) -> list[bytes]:
    """What these bits say of a part's place in its packet."""
    where = nftables.payload(NETWORK, 6, 2, KEY) if v is FOUR else nftables.extension(FRAGMENT, 2, 2, KEY)
    return [*_is(META_PROTOCOL, v.protocol), where, nftables.masked(KEY, mask)]


def _parts(v: Version, name: str) -> Set:
    """Packets of which the first part was seen."""
    key = (v.address, v.address, MARK)
    return Set(f"{name}_parts{v.number}", key, flags=EVAL, timeout=FRAGMENTS, most=MOST_FRAGMENTED)


def _packed(probe: Probe) -> bytes:
    return probe.nonce + probe.source.packed


def _filled(family: int, name: str, addresses: frozenset[Address]) -> Iterator[Message]:
    for v in VERSIONS:
        these = [address.packed for address in addresses if address.version == v.number]
        yield nftables.flush_set(family, TABLE, f"{name}{v.number}")
        yield from nftables.add_elements(family, TABLE, f"{name}{v.number}", these)


def _cannot(to: str, error: Refused | OSError) -> Cannot:
    code = (error.code if isinstance(error, Refused) else error.errno) or errno.EIO
    why = str(error) if isinstance(error, Refused) else os.strerror(code).lower()
    return Cannot(f"cannot {to}: {why}", HINTS.get(code, LOOK))


@contextmanager
def _said(to: str) -> Iterator[None]:
    try:
        yield
    except (Refused, OSError) as error:
        raise _cannot(to, error) from error
