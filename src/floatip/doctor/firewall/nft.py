"""The JSON of `nft -j list ruleset` (libnftables-json(5)) as chains and rules. Pure.

An expression that is not in here makes the condition "not understood"; a statement that is not in here makes the
verdict so.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import Any

from floatip.doctor.firewall.packet import ICMP, ICMP6, Packet, port_number, protocol_number
from floatip.doctor.firewall.rules import (
    ACCEPT,
    DROP,
    GO_BACK,
    GO_ON,
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

SOURCE = "nft list ruleset"
HARMLESS = frozenset({"counter", "log", "comment", "dup", "last", "ct helper", "ct timeout", "secmark"})
"""Statements that let the packet go on in the rule."""
CONDITIONAL = frozenset({"limit", "quota", "ct count"})
"""They match only now and then."""
VERDICTS = {"accept": ACCEPT, "drop": DROP, "return": GO_BACK, "continue": GO_ON}
NOTHING = object()
"""The packet has no such field: the rule does not match."""
OPAQUE = object()
"""Not understood."""
TCP_FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ecn": 64, "cwr": 128}
ICMP_TYPES = {
    "echo-reply": 0,
    "destination-unreachable": 3,
    "source-quench": 4,
    "redirect": 5,
    "echo-request": 8,
    "router-advertisement": 9,
    "router-solicitation": 10,
    "time-exceeded": 11,
    "parameter-problem": 12,
    "timestamp-request": 13,
    "timestamp-reply": 14,
}
ICMP6_TYPES = {
    "destination-unreachable": 1,
    "packet-too-big": 2,
    "time-exceeded": 3,
    "parameter-problem": 4,
    "echo-request": 128,
    "echo-reply": 129,
    "mld-listener-query": 130,
    "mld-listener-report": 131,
    "mld-listener-done": 132,
    "mld-listener-reduction": 132,
    "nd-router-solicit": 133,
    "nd-router-advert": 134,
    "nd-neighbor-solicit": 135,
    "nd-neighbor-advert": 136,
    "nd-redirect": 137,
    "mld2-listener-report": 143,
}
Texts = Mapping[tuple[str, str, int], str]
"""Of rules, by family, table and handle."""
Devices = Mapping[tuple[str, str, str], tuple[str, ...]]
"""Of chains, by family, table and name."""
DEVICES = re.compile(r"\t\ttype \S+ hook \w+ devices? (?:= \{ )?([^}]*?)(?: \})? priority ")
Sets = Mapping[tuple[str, str, str], "list[Any] | None"]
"""Elements, by family, table and name; None: they are not known."""


def tables(ruleset: Mapping[str, Any], listing: str = "") -> list[Table]:
    """`listing`: of `nft -a list ruleset`, for the words of rules. An older nft has `dormant` and devices only there.

    Raises KeyError, TypeError or ValueError where it is no such JSON.
    """
    texts, dormant, devices = texts_of(listing)
    found: dict[tuple[str, str], Table] = {}
    sets: dict[tuple[str, str, str], list[Any] | None] = {}
    asleep = set()
    rules: list[dict[str, Any]] = []
    for item in ruleset["nftables"]:
        ((kind, body),) = item.items()
        if kind == "table":
            found[body["family"], body["name"]] = Table(SOURCE, body["family"], body["name"])
            if "dormant" in body.get("flags", ()) or (body["family"], body["name"]) in dormant:
                asleep.add((body["family"], body["name"]))
        elif kind == "chain":
            device = body.get("dev") or devices.get((body["family"], body["table"], body["name"]), ())
            found[body["family"], body["table"]].chains[body["name"]] = Chain(
                body["name"],
                kind=body.get("type", ""),
                hook=body.get("hook", ""),
                priority=int(body.get("prio", 0)),
                policy=body.get("policy", "accept"),
                device=(device,) if isinstance(device, str) else tuple(device),
            )
        elif kind in ("set", "map"):
            # What is added by packets, and ends by time, is another thing a moment later.
            moves = {"dynamic", "timeout"} & set(body.get("flags", ()))
            sets[body["family"], body["table"], body["name"]] = None if moves else body.get("elem", [])
        elif kind == "rule":
            rules.append(body)
    for body in rules:
        key = body["family"], body["table"]
        chain = found[key].chains[body["chain"]]
        text = texts.get((*key, body.get("handle", 0))) or _as_text(body["expr"])
        chain.rules.append(Rule(text, tuple(_step(each, key, sets) for each in body["expr"])))
    return [table for key, table in found.items() if key not in asleep]


def texts_of(listing: str) -> tuple[Texts, set[tuple[str, str]], Devices]:
    """Each rule as a person writes it, the tables that are asleep, and the devices of chains."""
    found: dict[tuple[str, str, int], str] = {}
    dormant = set()
    devices: dict[tuple[str, str, str], tuple[str, ...]] = {}
    family = table = chain = ""
    for line in listing.splitlines():
        head, _, handle = line.rpartition(" # handle ")
        if line.startswith("table "):
            _, family, table, *_ = line.split()
        elif line.startswith("\tflags ") and "dormant" in line:
            dormant.add((family, table))
        elif line.startswith("\tchain "):
            chain = line.split()[1]
        elif match := DEVICES.match(line):
            devices[family, table, chain] = tuple(match[1].replace('"', " ").replace(",", " ").split())
        elif line.startswith("\t\t") and handle.isdigit():
            found[family, table, int(handle)] = head.strip()
    return found, dormant, devices


def has_compatibility(expressions: Iterable[Mapping[str, Any]]) -> bool:
    """A rule of iptables-nft with a part that only iptables can show."""
    return any("xt" in each for each in expressions)


def _as_text(expressions: object) -> str:
    """Where nft's own words are missing."""
    import json  # noqa: PLC0415

    return json.dumps(expressions, separators=(",", ":"))[:300]


# Statements


def _step(statement: Mapping[str, Any] | str, table: tuple[str, str], sets: Sets) -> Step:
    if isinstance(statement, str):
        statement = {statement: None}
    ((kind, body),) = statement.items()
    if kind in VERDICTS or kind in ("jump", "goto", "reject"):
        return _always(_effect(kind, body))
    if kind == "match":
        return _match(body, table, sets)
    if kind == "vmap":
        return _vmap(body, table, sets)
    if kind in ("set", "map"):
        return _adding(body)
    if kind in HARMLESS:
        # By a map: what is not in it ends the rule.
        return _not_understood if isinstance(body, dict) and "map" in body else _true
    if kind in CONDITIONAL:
        return _not_understood
    if kind == "mangle":
        return _changing(body["key"], body["value"])
    if kind == "notrack":
        return _touching("state")
    return _always(UNKNOWN)


def _effect(kind: str, body: Any) -> Effect:
    if kind in ("jump", "goto"):
        return Effect(JUMP if kind == "jump" else GOTO, body["target"])
    return REJECT if kind == "reject" else VERDICTS[kind]


def _always(*effects: Effect) -> Step:
    return lambda packet, touched: effects


def _true(packet: Packet, touched: Touched) -> bool:
    return True


def _not_understood(packet: Packet, touched: Touched) -> None:
    return None


def _touching(thing: str) -> Step:
    def step(packet: Packet, touched: Touched) -> bool:
        touched.things.add(thing)
        return True

    return step


def _adding(body: Mapping[str, Any]) -> Step:
    """To a set, of what the packet has; a condition may stand in the element."""
    conditions = [name for each in body.get("stmt", ()) for name in each if name not in HARMLESS]
    key = body["elem"]
    if isinstance(key, dict) and isinstance(key.get("elem"), dict):
        key = key["elem"]["val"]

    def step(packet: Packet, touched: Touched) -> bool | None:
        if _value(key, packet, touched) is NOTHING:
            return False
        return None if conditions else True

    return step


def _changing(key: Any, value: Any) -> Step:
    """Where the packet lacks what is changed, or what it is changed to, the rule ends."""
    thing = _name_of(key)
    field = key.get("payload") if isinstance(key, dict) else None
    if field and field.get("field") not in ("dscp", "ecn", "ttl", "hoplimit", "flowlabel", "checksum"):
        thing = "something"  # an address or a port has more than one name

    def step(packet: Packet, touched: Touched) -> bool | None:
        if field and _payload(field, packet) is NOTHING:
            return False
        touched.things.add(thing)
        return True if isinstance(value, int | str) else None

    return step


def _name_of(expression: Any) -> str:
    """Of what a statement changes, or an expression reads: "meta mark", "payload ip saddr"."""
    if isinstance(expression, dict) and len(expression) == 1:
        ((kind, body),) = expression.items()
        if isinstance(body, dict):
            parts = (body.get("protocol"), body.get("field"), body.get("key"))
            name = " ".join([kind, *(str(part) for part in parts if part)])
            return {"meta mark": "mark", "ct mark": "mark", "ct state": "state", "ct zone": "state"}.get(name, name)
    return "something"


def _vmap(body: Mapping[str, Any], table: tuple[str, str], sets: Sets) -> Step:
    elements = _elements(body["data"], table, sets)

    def step(packet: Packet, touched: Touched) -> bool | tuple[Effect, ...] | None:
        value = _value(body["key"], packet, touched)
        if value is NOTHING:
            return False
        if elements is None:
            return (UNKNOWN,)
        effects = []
        for pattern, verdict in elements:
            does_match = _equals(value, pattern, packet) if value is not OPAQUE else None
            if does_match is not False:
                ((kind, target),) = verdict.items() if isinstance(verdict, dict) else ((verdict, None),)
                effects.append(_effect(kind, target))
            if does_match is True:
                return tuple(effects)
        return (*effects, GO_ON) if effects else False

    return step


def _elements(data: Any, table: tuple[str, str], sets: Sets) -> list[Any] | None:
    if isinstance(data, str) and data.startswith("@"):
        return sets.get((*table, data[1:]))
    elements: list[Any] = data["set"] if isinstance(data, dict) and "set" in data else data
    return elements


# Conditions


def _match(body: Mapping[str, Any], table: tuple[str, str], sets: Sets) -> Step:
    operator, left, right = body["op"], body["left"], body["right"]

    def step(packet: Packet, touched: Touched) -> bool | None:
        value = _value(left, packet, touched)
        if value is NOTHING:
            return False
        if value is OPAQUE:
            return None
        if operator in ("<", ">", "<=", ">="):
            return _compared(value, operator, _plain(right, value))
        if isinstance(right, str) and right.startswith("@"):
            elements = sets.get((*table, right[1:]))
            found = None if elements is None else _is_one_of(value, elements, packet)
        else:
            found = _has_flag(value, right, packet) if operator == "in" else _equals(value, right, packet)
        if operator == "!=":
            return None if found is None else not found
        return found if operator in ("==", "in") else None

    return step


def _has_flag(value: Any, pattern: Any, packet: Packet) -> bool | None:
    """`tcp flags syn`, `ct state established,related`: one of them is set."""
    if isinstance(value, _Flags):
        bits = _bits(pattern)
        return None if bits is None else bool(int(value) & bits)
    return _equals(value, pattern, packet)


def _is_one_of(value: Any, patterns: Iterable[Any], packet: Packet) -> bool | None:
    answers = [_equals(value, pattern, packet) for pattern in patterns]
    return True if True in answers else None if None in answers else False


def _equals(value: Any, pattern: Any, packet: Packet) -> bool | None:
    """None: not understood."""
    if isinstance(pattern, dict):
        if "elem" in pattern:
            inner = pattern["elem"]
            return _equals(value, inner["val"], packet) if isinstance(inner, dict) else None
        if "set" in pattern:
            return _is_one_of(value, pattern["set"], packet)
        if "concat" in pattern:
            return _all(value, pattern["concat"], packet) if isinstance(value, tuple) else None
        if "prefix" in pattern:
            with suppress(ValueError, KeyError, TypeError):
                network = ip_network((pattern["prefix"]["addr"], pattern["prefix"]["len"]), strict=False)
                return value in network if hasattr(value, "version") else None
            return None
        if "range" in pattern:
            low, high = (_plain(end, value) for end in pattern["range"])
            low_well, high_well = _compared(value, ">=", low), _compared(value, "<=", high)
            return None if None in (low_well, high_well) else bool(low_well and high_well)
        return None
    if isinstance(value, _Flags):
        bits = _bits(pattern)
        return None if bits is None else int(value) == bits
    if isinstance(value, _Status):
        return value.has(pattern)
    if isinstance(pattern, list):
        return _is_one_of(value, pattern, packet)
    if isinstance(value, _Interface):
        text = str(pattern)
        return value.startswith(text[:-1]) if text.endswith("*") else value == text
    if isinstance(value, bool) or isinstance(pattern, bool):
        return value == pattern if isinstance(value, bool) and isinstance(pattern, bool) else None
    plain = _plain(pattern, value)
    if plain is None:
        return None
    same: bool = value == plain
    return same


def _all(values: tuple[Any, ...], patterns: list[Any], packet: Packet) -> bool | None:
    if len(values) != len(patterns):
        return None
    answers = [
        None if value is OPAQUE else _equals(value, pattern, packet)
        for value, pattern in zip(values, patterns, strict=True)
    ]
    return False if False in answers else None if None in answers else True


class _Interface(str):
    pass


class _Protocol(int):
    pass


class _Port(int):
    pass


class _Icmp(int):
    names: Mapping[str, int] = ICMP_TYPES


class _Icmp6(_Icmp):
    names = ICMP6_TYPES


class _Flags(int):
    """Of TCP, as bits."""


class _Status:
    """Of connection tracking. No rule has translated the packet: one that may have is "not understood" at once."""

    def has(self, pattern: Any) -> bool | None:
        names = set(pattern) if isinstance(pattern, list) else {pattern} if isinstance(pattern, str) else {None}
        return False if names <= {"dnat", "snat"} else None


def _plain(pattern: Any, value: Any) -> Any:
    """The pattern as the value has it; None: not understood."""
    if isinstance(value, _Protocol):
        return protocol_number(pattern)
    if isinstance(value, _Port):
        return port_number(pattern)
    if isinstance(value, _Icmp):
        return value.names.get(str(pattern), pattern if isinstance(pattern, int) else None)
    if hasattr(value, "packed"):
        with suppress(ValueError):
            return ip_address(pattern)
        return None
    if isinstance(value, str):
        return pattern if isinstance(pattern, str) else None
    if isinstance(value, int):
        return pattern if isinstance(pattern, int) else None
    return None


def _compared(value: Any, operator: str, other: Any) -> bool | None:
    if other is None:
        return None
    compare: dict[str, Callable[[Any, Any], bool]] = {
        "<": lambda a, b: a < b,
        ">": lambda a, b: a > b,
        "<=": lambda a, b: a <= b,
        ">=": lambda a, b: a >= b,
    }
    try:
        return compare[operator](value, other)
    except TypeError:
        return None


def _bits(pattern: Any) -> int | None:
    """Of flags of TCP."""
    if isinstance(pattern, int):
        return pattern
    if isinstance(pattern, str):
        return TCP_FLAGS.get(pattern)
    if isinstance(pattern, list):
        bits = [_bits(each) for each in pattern]
        return None if None in bits else sum(bit for bit in bits if bit is not None)
    if isinstance(pattern, dict) and "|" in pattern:
        return _bits(pattern["|"])
    return None


# Expressions


def _value(expression: Any, packet: Packet, touched: Touched) -> Any:
    """Of the packet; NOTHING: it has no such thing. OPAQUE: not understood."""
    if not isinstance(expression, dict) or len(expression) != 1:
        return OPAQUE
    ((kind, body),) = expression.items()
    if _name_of(expression) in touched.things or "something" in touched.things:
        return OPAQUE
    if kind == "concat":
        values = tuple(_value(part, packet, touched) for part in body)
        return NOTHING if NOTHING in values else values
    if kind == "payload":
        return _payload(body, packet)
    if kind == "meta":
        return _meta(str(body.get("key")), packet)
    if kind == "ct":
        return _ct(str(body.get("key")), packet)
    if kind == "fib":
        return _fib(body, packet)
    if kind == "&" and isinstance(body, list) and len(body) == 2:
        value, mask = _value(body[0], packet, touched), body[1]
        if value in (NOTHING, OPAQUE):
            return value
        if isinstance(value, _Flags):
            bits = _bits(mask)
            return OPAQUE if bits is None else _Flags(int(value) & bits)
        if isinstance(value, int) and isinstance(mask, int) and type(value) is int:
            return value & mask
    return OPAQUE


def _payload(body: Mapping[str, Any], packet: Packet) -> Any:
    protocol, name = body.get("protocol"), body.get("field")
    if protocol in ("ip", "ip6"):
        if packet.version != (4 if protocol == "ip" else 6):
            return NOTHING
        if name in ("saddr", "daddr"):
            return packet.source if name == "saddr" else packet.target
        if name in ("protocol", "nexthdr"):
            return _Protocol(packet.protocol)
        if name in ("ttl", "hoplimit") and packet.ttl is not None:
            return packet.ttl
        return OPAQUE
    if protocol in ("tcp", "udp"):
        if packet.protocol != protocol_number(protocol):
            return NOTHING
        if protocol == "tcp" and name == "flags":
            return _Flags(sum(TCP_FLAGS[flag] for flag in packet.flags))
        return _port(str(name), packet)
    if protocol == "th":
        return _port(str(name), packet)
    if protocol in ("icmp", "icmpv6"):
        if packet.protocol != (ICMP if protocol == "icmp" else ICMP6):
            return NOTHING
        if name == "type" and packet.icmp_type is not None:
            return (_Icmp if protocol == "icmp" else _Icmp6)(packet.icmp_type)
        return OPAQUE
    known = protocol_number(protocol) if isinstance(protocol, str) else None
    return NOTHING if known is not None and known != packet.protocol else OPAQUE


def _port(name: str, packet: Packet) -> Any:
    port = packet.source_port if name == "sport" else packet.target_port if name == "dport" else None
    return OPAQUE if port is None else _Port(port)


def _meta(key: str, packet: Packet) -> Any:
    comes = packet.direction == "in"
    match key:
        case "iifname" | "iif":
            return _Interface(packet.interface if comes else "")
        case "oifname" | "oif":
            return _Interface("" if comes else packet.interface)  # the kernel compares with an empty name
        case "l4proto":
            return _Protocol(packet.protocol)
        case "nfproto":
            return "ipv4" if packet.version == 4 else "ipv6"
        case "protocol":
            return "ip" if packet.version == 4 else "ip6"
        case "mark":
            return 0  # as every packet begins; what changes it is in `touched`
        case "pkttype" if comes:
            return "multicast" if packet.target.is_multicast else "host"
    return OPAQUE


def _ct(key: str, packet: Packet) -> Any:
    if packet.state == "invalid" and key != "state":
        return NOTHING  # no connection is known yet
    match key:
        case "state":
            return packet.state
        case "status":
            return _Status()
        case "mark" if packet.state == "new":
            return 0
        case "l3proto":
            return "ipv4" if packet.version == 4 else "ipv6"
        case "protocol":
            return _Protocol(packet.protocol)
        case "direction" if packet.state == "new":
            return "original"
    return OPAQUE


def _fib(body: Mapping[str, Any], packet: Packet) -> Any:
    flags = set(body.get("flags", ()))
    if body.get("result") == "type":
        address = packet.target if "daddr" in flags else packet.source
        if address.is_multicast:
            return "multicast"
        is_ours = (packet.direction == "in") == ("daddr" in flags)
        return "local" if is_ours else "unicast"
    # Whether the source would be answered by the interface that it came by (the reverse path).
    if body.get("result") == "oif" and "saddr" in flags and packet.direction == "in" and packet.way_back:
        return packet.way_back == packet.interface if "iif" in flags else True
    return OPAQUE
