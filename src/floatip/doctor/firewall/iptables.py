"""What `iptables-save` prints (iptables-extensions(8)) as chains and rules. Pure.

A match or an option that is not in here makes the condition "not understood", an unknown target the verdict.
"""

import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from floatip.doctor.firewall.nft import ICMP6_TYPES, ICMP_TYPES
from floatip.doctor.firewall.packet import ICMP, ICMP6, TCP, UDP, Packet, port_number, protocol_number
from floatip.doctor.firewall.rules import (
    ACCEPT,
    DROP,
    GO_BACK,
    GOTO,
    JUMP,
    REJECT,
    UNKNOWN,
    Chain,
    Effect,
    Rule,
    Step,
    Table,
    Touched,
)

BASES = {
    "raw": {"PREROUTING": ("prerouting", -300), "OUTPUT": ("output", -300)},
    "mangle": {
        "PREROUTING": ("prerouting", -150),
        "INPUT": ("input", -150),
        "OUTPUT": ("output", -150),
        "POSTROUTING": ("postrouting", -150),
    },
    "nat": {
        "PREROUTING": ("prerouting", -100),
        "INPUT": ("input", 100),
        "OUTPUT": ("output", -100),
        "POSTROUTING": ("postrouting", 100),
    },
    "filter": {"INPUT": ("input", 0), "OUTPUT": ("output", 0)},
    "security": {"INPUT": ("input", 50), "OUTPUT": ("output", 50)},
}
"""The hooks of the chains that the kernel calls, and their priorities (NF_IP_PRI_...)."""
TARGETS = {"ACCEPT": ACCEPT, "DROP": DROP, "RETURN": GO_BACK, "REJECT": REJECT}
HARMLESS = frozenset({"LOG", "NFLOG", "ULOG", "AUDIT", "TRACE", "TCPMSS", "TEE", "SET", "LED", "IDLETIMER", ""})
"""Targets after which the packet goes on; "": the rule has none."""
CHANGES = {
    "MARK": "mark",
    "CONNMARK": "mark",
    "CONNSECMARK": "secmark",
    "SECMARK": "secmark",
    "CT": "state",
    "NOTRACK": "state",
    "TOS": "tos",
    "DSCP": "tos",
    "TTL": "ttl",
    "HL": "ttl",
}
IMPLIED = {"tcp", "udp", "icmp", "icmp6", "ipv6-icmp", "icmpv6", "comment", "conntrack", "state", "multiport"}
IMPLIED |= {"addrtype", "iprange", "mark", "pkttype", "rpfilter", "limit", "hashlimit", "ttl", "hl", "physdev"}
IMPLIED |= {"udplite", "esp"}
"""Matches of which each option is judged by itself; of any other the whole is not understood."""
HEADERS = frozenset({"rt", "frag", "hbh", "dst", "ah", "mh"})
"""Matches of a header of IPv6, also without an option: none of what floatip needs has one."""
FLAGS = {"FIN": "fin", "SYN": "syn", "RST": "rst", "PSH": "psh", "ACK": "ack", "URG": "urg"}
LINE = re.compile(r"-A (\S+) (.*)")


def tables(text: str, version: int, source: str) -> list[Table]:
    """`version`: 4 of iptables-save, 6 of ip6tables-save. Raises ValueError."""
    found: list[Table] = []
    for line in text.splitlines():
        if line.startswith("*"):
            found.append(Table(source, "ip" if version == 4 else "ip6", line[1:].strip()))
        elif line.startswith(":") and found:
            name, policy, *_ = line[1:].split()
            hook, priority = BASES.get(found[-1].name, {}).get(name, ("", 0))
            kind = "nat" if found[-1].name == "nat" else "filter"
            given = policy.lower() if policy != "-" else "accept"
            found[-1].chains[name] = Chain(name, [], kind, hook, priority, given)
        elif (match := LINE.fullmatch(line.strip())) and found:
            # What the kernel has no chain for is not shown with a policy: it may be a rule's alone.
            chain = found[-1].chains.setdefault(match[1], Chain(match[1]))
            chain.rules.append(rule(match[2], line.strip()))
    return found


def rule(text: str, shown: str = "") -> Rule:
    """Raises ValueError."""
    words = _Words(shlex.split(text))
    steps: list[Step] = []
    target = ""
    is_goto = False
    while words:
        inverted = words.take("!")
        option = words.next()
        if option in ("-j", "-g"):
            target, is_goto = words.next(), option == "-g"
            break  # what follows are the options of the target
        steps.append(_inverted(_condition(option, words)) if inverted else _condition(option, words))
    return Rule(shown or text, (*steps, _target(target, is_goto=is_goto)))


class _Words:
    def __init__(self, words: list[str]) -> None:
        self._words = words[::-1]

    def __bool__(self) -> bool:
        return bool(self._words)

    def next(self) -> str:
        return self._words.pop() if self._words else ""

    def take(self, word: str) -> bool:
        if self._words and self._words[-1] == word:
            self._words.pop()
            return True
        return False

    def values(self) -> Iterator[str]:
        """Up to the next option."""
        while self._words and not self._words[-1].startswith("-") and self._words[-1] != "!":
            yield self._words.pop()


def _target(name: str, *, is_goto: bool) -> Step:
    if name in HARMLESS:
        return _true
    if name in CHANGES:
        thing = CHANGES[name]

        def touching(packet: Packet, touched: Touched) -> bool:
            touched.things.add(thing)
            return True

        return touching
    known = {"DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP", "NFQUEUE", "QUEUE", "TPROXY", "SYNPROXY", "TARPIT"}
    effect = TARGETS.get(name) or (UNKNOWN if name in known else Effect(GOTO if is_goto else JUMP, name))
    return lambda packet, touched: (effect,)


def _true(packet: Packet, touched: Touched) -> bool:
    return True


def _inverted(step: Step) -> Step:
    def inverted(packet: Packet, touched: Touched) -> bool | None:
        found = step(packet, touched)
        return None if found is None else not found

    return inverted


def _of_packet(test: Callable[[Packet], bool | None]) -> Step:
    return lambda packet, touched: None if "something" in touched.things else test(packet)


def _condition(option: str, words: _Words) -> Step:
    match option:
        case "-s" | "--source":
            network = _network(words.next())
            return _of_packet(lambda packet: None if network is None else packet.source in network)
        case "-d" | "--destination":
            network = _network(words.next())
            return _of_packet(lambda packet: None if network is None else packet.target in network)
        case "-i" | "--in-interface":
            name = words.next()
            return _of_packet(lambda packet: packet.direction == "in" and _is_named(packet.interface, name))
        case "-o" | "--out-interface":
            name = words.next()
            return _of_packet(lambda packet: packet.direction == "out" and _is_named(packet.interface, name))
        case "-p" | "--protocol":
            number = protocol_number(words.next())
            return _of_packet(lambda packet: None if number is None else number in (0, packet.protocol))
        case "-m" | "--match":
            name = words.next()
            if name in HEADERS:
                return _of_packet(lambda packet: False)
            known = name in IMPLIED
            return _of_packet(lambda packet: True if known else None)
        case "--sport" | "--source-port" | "--sports" | "--source-ports":
            ports = words.next()
            return _of_packet(lambda packet: _is_port(packet.source_port, ports, packet))
        case "--dport" | "--destination-port" | "--dports" | "--destination-ports":
            ports = words.next()
            return _of_packet(lambda packet: _is_port(packet.target_port, ports, packet))
        case "--ports":
            ports = words.next()
            return _of_packet(
                lambda packet: _either(
                    _is_port(packet.source_port, ports, packet), _is_port(packet.target_port, ports, packet)
                )
            )
        case "--ctstate" | "--state":
            states = words.next().lower().split(",")
            # A rule that may have translated the packet is "not understood" at once.
            known_states = {"new", "established", "related", "invalid", "untracked", "dnat", "snat"}

            def state(packet: Packet, touched: Touched) -> bool | None:
                if "state" in touched.things:
                    return None
                return packet.state in states or (None if set(states) - known_states else False)

            return state
        case "--src-range" | "--dst-range":
            ends = words.next()
            return _of_packet(lambda p: _in_range(p.source if option == "--src-range" else p.target, ends))
        case "--dst-type" | "--src-type":
            kinds = words.next().split(",")
            return _of_packet(lambda packet: _has_type(packet, kinds, of_target=option == "--dst-type"))
        case "--syn":
            return _of_packet(lambda p: p.protocol == TCP and p.flags & {"syn", "ack", "rst", "fin"} == {"syn"})
        case "--tcp-flags":
            mask, wanted = words.next(), words.next()
            return _of_packet(lambda packet: _has_flags(packet, mask, wanted))
        case "--icmp-type" | "--icmpv6-type":
            kind = words.next()
            return _of_packet(lambda packet: _is_icmp(packet, kind))
        case "--mark":
            value = words.next()

            def mark(packet: Packet, touched: Touched) -> bool | None:
                if "mark" in touched.things:
                    return None
                with suppress(ValueError):
                    return int(value.partition("/")[0], 0) == 0  # as every packet begins
                return None

            return mark
        case "--pkt-type":
            kind = words.next()
            wanted = {"unicast": "host"}.get(kind, kind)
            return _of_packet(
                lambda p: ("multicast" if p.target.is_multicast else "host") == wanted if p.direction == "in" else None
            )
        case "--comment":
            words.next()
            return _of_packet(lambda packet: True)
        case "--ttl-eq" | "--ttl-lt" | "--ttl-gt" | "--hl-eq" | "--hl-lt" | "--hl-gt":
            return _of_packet(partial(_compares, option[-2:], words.next()))
        case "--rt-type" | "--rt-segsleft" | "--fragid" | "--hbh-opts" | "--dst-opts" | "--ahspi" | "--mh-type":
            list(words.values())
            return _of_packet(lambda packet: False)  # none of what floatip needs has such a header
    list(words.values())
    return _of_packet(lambda packet: None)


def _compares(how: str, value: str, packet: Packet) -> bool | None:
    if packet.ttl is None or not value.isdigit():
        return None
    return {"eq": packet.ttl == int(value), "lt": packet.ttl < int(value), "gt": packet.ttl > int(value)}[how]


def _either(one: bool | None, other: bool | None) -> bool | None:
    return True if True in (one, other) else None if None in (one, other) else False


def _network(text: str) -> IPv4Network | IPv6Network | None:
    with suppress(ValueError):
        return ip_network(text, strict=False)
    return None


def _is_named(interface: str, pattern: str) -> bool:
    return interface.startswith(pattern[:-1]) if pattern.endswith("+") else interface == pattern


def _is_port(port: int | None, text: str, packet: Packet) -> bool | None:
    if packet.protocol not in (TCP, UDP) or port is None:
        return False
    answers: list[bool | None] = []
    for part in text.split(","):
        low, _, high = part.partition(":")
        first = port_number(low or "0")
        last = port_number(high or "65535") if ":" in part else first
        answers.append(None if first is None or last is None else first <= port <= last)
    return True if True in answers else None if None in answers else False


def _in_range(address: object, ends: str) -> bool | None:
    low, _, high = ends.partition("-")
    with suppress(ValueError, TypeError):
        return bool(ip_address(low) <= address <= ip_address(high))  # type: ignore[operator]
    return None


def _has_type(packet: Packet, kinds: list[str], *, of_target: bool) -> bool | None:
    address = packet.target if of_target else packet.source
    if address.is_multicast:
        return "MULTICAST" in kinds
    is_ours = (packet.direction == "in") == of_target
    return ("LOCAL" if is_ours else "UNICAST") in kinds


def _has_flags(packet: Packet, mask: str, wanted: str) -> bool | None:
    if packet.protocol != TCP:
        return False
    names = {"ALL": set(FLAGS.values()), "NONE": set[str]()}
    looked = names.get(mask) or {FLAGS.get(each, "?") for each in mask.split(",")}
    needed = names[wanted] if wanted in names else {FLAGS.get(each, "?") for each in wanted.split(",")}
    return None if "?" in looked | needed else packet.flags & looked == needed


def _is_icmp(packet: Packet, kind: str) -> bool | None:
    if packet.protocol not in (ICMP, ICMP6):
        return False
    if packet.icmp_type is None or "/" in kind:
        return None
    if kind == "any":
        return True
    names = ICMP_TYPES if packet.protocol == ICMP else ICMP6_NAMES
    number = int(kind) if kind.isdigit() else names.get(kind)
    return None if number is None else number == packet.icmp_type


ICMP6_NAMES = ICMP6_TYPES | {
    "router-solicitation": 133,
    "router-advertisement": 134,
    "neighbour-solicitation": 135,
    "neighbor-solicitation": 135,
    "neighbour-advertisement": 136,
    "neighbor-advertisement": 136,
    "redirect": 137,
}
