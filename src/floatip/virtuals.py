"""The words of a route or rule that moves with an instance, as ip-route(8) and ip-rule(8) have them.

Words that floatip cannot do are refused by name, so that a configuration is refused and not half of it done.
keepalived.conf(5) has some of its own (`gw`, `or`, `inet6`); they mean the same here. `src` is the source address that
the kernel prefers; `from` is the source of a packet.
"""

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import TypeVar

from floatip.core.addresses import Address
from floatip.core.settings import Virtual

Network = IPv4Network | IPv6Network
T = TypeVar("T")

TABLES = {"default": 253, "main": 254, "local": 255}
MAIN = TABLES["main"]
TABLE_FILES = ("/usr/share/iproute2/rt_tables", "/etc/iproute2/rt_tables")
SCOPES = {"global": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}
PROTOCOLS = {"redirect": 1, "kernel": 2, "boot": 3, "static": 4, "ra": 9, "zebra": 11, "bird": 12, "dhcp": 16}
PROTOCOLS |= {"keepalived": 18, "babel": 42, "bgp": 186, "isis": 187, "ospf": 188, "rip": 189, "eigrp": 192}
TYPES = {"unicast": 1, "local": 2, "broadcast": 3, "anycast": 4, "multicast": 5}
TYPES |= {"blackhole": 6, "unreachable": 7, "prohibit": 8, "throw": 9}
"""RTN_... of rtnetlink(7)."""
ACTIONS = {"nop": 3, "blackhole": 6, "unreachable": 7, "prohibit": 8}
TO_TABLE, GOTO = 1, 2
"""FR_ACT_... of linux/fib_rules.h."""
METRICS = {"mtu": 2, "window": 3, "rtt": 4, "rttvar": 5, "ssthresh": 6, "cwnd": 7, "advmss": 8, "reordering": 9}
METRICS |= {"hoplimit": 10, "initcwnd": 11, "rto_min": 13, "initrwnd": 14, "quickack": 15}
"""RTAX_... of linux/rtnetlink.h."""
IP_PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "ipv6-icmp": 58, "sctp": 132}
PREFERENCE = 16384
"""Of a rule that names none: before main (32766), and those of one instance in their order."""
IFNAMSIZ = 16
MOST = (1 << 32) - 1


class NotUnderstood(ValueError):
    """Why floatip cannot do what the words say; the message names the word."""


@dataclass(frozen=True, slots=True)
class Hop:
    gateway: Address | None = None
    interface: str = ""
    weight: int = 1
    onlink: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    words: str
    family: int
    """AF_INET or AF_INET6."""
    destination: Network
    hops: tuple[Hop, ...]
    """One, or several that share the load."""
    type: int = TYPES["unicast"]
    source: Network | None = None
    prefers: Address | None = None
    """As the source of what this machine sends by it."""
    table: int = MAIN
    scope: int = 0
    tos: int = 0
    priority: int | None = None
    protocol: int | None = None
    """None: floatip's mark."""
    metrics: tuple[tuple[int, int], ...] = ()
    locked: int = 0
    """Bits of the metrics that path MTU discovery and the like may not change."""
    appended: bool = False
    """Behind another one of the same destination, not before it."""


@dataclass(frozen=True, slots=True)
class Rule:
    words: str
    family: int
    action: int
    table: int = 0
    source: Network | None = None
    destination: Network | None = None
    tos: int = 0
    iif: str = ""
    oif: str = ""
    mark: tuple[int, int] | None = None
    """Value and mask."""
    preference: int = PREFERENCE
    protocol: int | None = None
    ip_protocol: int | None = None
    source_ports: tuple[int, int] | None = None
    destination_ports: tuple[int, int] | None = None
    users: tuple[int, int] | None = None
    suppress_prefixlength: int | None = None
    suppress_ifgroup: int | None = None
    goto: int | None = None
    l3mdev: bool = False
    inverted: bool = False


def parse(virtual: Virtual, tables: Mapping[str, int] = TABLES) -> Route | Rule:
    """Raises NotUnderstood. `tables`: the names of routing tables on this machine (`machine_tables`)."""
    return parse_route(virtual.words, tables) if virtual.kind == "route" else parse_rule(virtual.words, tables)


def machine_tables() -> dict[str, int]:
    """Those that have names here (ip-route(8)). What cannot be read is not known."""
    found = dict(TABLES)
    files = [Path(one) for one in TABLE_FILES]
    for file in [one for path in files for one in (path, *sorted(path.parent.glob(path.name + ".d/*.conf")))]:
        try:
            text = file.read_text(errors="replace")
        except OSError:
            continue
        for line in text.splitlines():
            number, *name = line.partition("#")[0].split()[:2] or [""]
            if name and number.isdecimal():
                found[name[0]] = int(number)
    return found


class _Words:
    """Taken one by one."""

    def __init__(self, kind: str, words: Sequence[str]) -> None:
        self.text = f"{kind} {' '.join(words)}"
        self._words = list(words)

    def __iter__(self) -> Iterator[str]:
        while self._words:
            yield self._words.pop(0)

    def next_is(self, *words: str) -> bool:
        return bool(self._words) and self._words[0] in words

    def skip(self, *words: str) -> bool:
        """Whether it was one of these."""
        found = self.next_is(*words)
        if found:
            self._words.pop(0)
        return found

    def value(self, word: str, read: Callable[[str], T], what: str) -> T:
        if not self._words:
            raise self.refusal(f"{word} has no value")
        text = self._words.pop(0)
        try:
            return read(text)
        except (ValueError, KeyError):
            raise self.refusal(f"{word} {text}: not {what}") from None

    def number(self, word: str, most: int = MOST) -> int:
        return self.value(word, lambda text: _number(text, most), f"a number up to {most}")

    def named(self, word: str, names: Mapping[str, int], most: int, what: str) -> int:
        def read(text: str) -> int:
            return names[text] if text in names else _number(text, most)

        return self.value(word, read, f"{what} or a number up to {most}")

    def address(self, word: str) -> Address:
        return self.value(word, ip_address, "an address")

    def network(self, word: str) -> Network | None:
        """None: `default`, `any` or `all`, of either family."""
        return self.value(word, _network, "a network")

    def interface(self, word: str) -> str:
        return self.value(word, _interface, "the name of an interface (15 characters at most)")

    def refusal(self, why: str) -> NotUnderstood:
        return NotUnderstood(f"{self.text}: {why}")


def parse_route(route: Sequence[str], tables: Mapping[str, int] = TABLES) -> Route:
    """Raises NotUnderstood."""
    words, families = _Words("route", route), set[int]()
    kind, destination, has_destination = TYPES["unicast"], None, False
    hop, hops, scope, metrics = Hop(), list[Hop](), None, dict[int, int]()
    made = Route(words.text, 0, ip_network("0.0.0.0/0"), ())

    def of_family(thing: Address | Network | None) -> None:
        if thing is not None:
            families.add(thing.version)

    for word in words:
        match word:
            case _ if word in TYPES:
                kind = TYPES[word]
            case "inet" | "inet6":
                families.add(6 if word == "inet6" else 4)
            case "via" | "gw" | "nexthop":
                if word == "nexthop":
                    hops.append(_hop(words, of_family))
                    continue
                if words.skip("inet", "inet6"):
                    raise words.refusal("a gateway of the other family is not supported")
                hop = replace(hop, gateway=words.address(word))
                of_family(hop.gateway)
            case "or":
                hops += [hop, replace(hop, gateway=words.address(word))]
                of_family(hops[-1].gateway)
            case "dev" | "oif":
                hop = replace(hop, interface=words.interface(word))
            case "onlink":
                hop = replace(hop, onlink=True)
            case "src":
                made = replace(made, prefers=words.address(word))
                of_family(made.prefers)
            case "from":
                made = replace(made, source=words.network(word))
                of_family(made.source)
            case "table":
                made = replace(made, table=words.named(word, tables, MOST, "the name of a table of this machine"))
            case "scope":
                scope = words.named(word, SCOPES, 255, "a scope")
            case "tos" | "dsfield":
                made = replace(made, tos=words.number(word, 255))
            case "metric" | "priority" | "preference":
                made = replace(made, priority=words.number(word))
            case "proto" | "protocol":
                made = replace(made, protocol=words.named(word, PROTOCOLS, 255, "a protocol"))
            case "append":
                made = replace(made, appended=True)
            case _ if word in METRICS:
                if words.skip("lock"):
                    made = replace(made, locked=made.locked | 1 << METRICS[word])
                metrics[METRICS[word]] = words.number(word)
            case _ if has_destination:
                raise words.refusal(f"floatip does not know the word {word}")
            case _:
                if word == "to":
                    destination = words.network(word)
                else:
                    try:
                        destination = _network(word)
                    except ValueError:
                        raise words.refusal(f"floatip does not know the word {word}") from None
                has_destination = True
                of_family(destination)
    family = _family(families, words)
    if not has_destination:
        raise words.refusal("it has no destination")
    if hops and hop.interface:
        hops = [one if one.interface else replace(one, interface=hop.interface) for one in hops]
    is_gone = kind in (TYPES["blackhole"], TYPES["unreachable"], TYPES["prohibit"], TYPES["throw"])
    if not is_gone and not hops and not hop.interface and hop.gateway is None:
        raise words.refusal("it names neither a gateway (via) nor an interface (dev)")
    if scope is None:
        # As ip-route(8) does: what is on the link itself, and this machine's own.
        has_gateway = hop.gateway is not None or bool(hops) or is_gone
        scope = SCOPES["host"] if kind == TYPES["local"] else SCOPES["global" if has_gateway else "link"]
    return replace(
        made,
        family=socket.AF_INET if family == 4 else socket.AF_INET6,
        type=kind,
        destination=destination or ip_network("0.0.0.0/0" if family == 4 else "::/0"),
        hops=tuple(hops) or (hop,),
        scope=scope if family == 4 else 0,
        metrics=tuple(metrics.items()),
    )


def _hop(words: _Words, of_family: Callable[[Address], None]) -> Hop:
    hop = Hop()
    while words.next_is("via", "dev", "weight", "onlink"):
        if words.skip("onlink"):
            hop = replace(hop, onlink=True)
        elif words.skip("dev"):
            hop = replace(hop, interface=words.interface("dev"))
        elif words.skip("weight"):
            hop = replace(hop, weight=max(words.number("weight", 256), 1))
        elif words.skip("via"):
            gateway = words.address("via")
            hop = replace(hop, gateway=gateway)
            of_family(gateway)
    if hop == Hop():
        raise words.refusal("nexthop has neither via nor dev")
    return hop


def parse_rule(rule: Sequence[str], tables: Mapping[str, int] = TABLES) -> Rule:
    """Raises NotUnderstood."""
    words, families = _Words("rule", rule), set[int]()
    made = Rule(words.text, 0, 0)
    for word in words:
        match word:
            case "inet" | "inet6":
                families.add(6 if word == "inet6" else 4)
            case "not":
                made = replace(made, inverted=True)
            case "from" | "to":
                network = words.network(word)
                if network is not None:
                    families.add(network.version)
                made = replace(made, source=network) if word == "from" else replace(made, destination=network)
            case "table" | "lookup":
                table = words.named(word, tables, MOST, "the name of a table of this machine")
                made = replace(made, action=TO_TABLE, table=table)
            case "goto":
                made = replace(made, action=GOTO, goto=words.number(word))
            case "type":
                pass
            case _ if word in ACTIONS:
                made = replace(made, action=ACTIONS[word])
            case "iif" | "dev":
                made = replace(made, iif=words.interface(word))
            case "oif":
                made = replace(made, oif=words.interface(word))
            case "tos" | "dsfield":
                made = replace(made, tos=words.number(word, 255))
            case "fwmark":
                made = replace(made, mark=words.value(word, _mark, "a mark, or a mark and a mask (1/0xff)"))
            case "preference" | "pref" | "priority" | "order":
                made = replace(made, preference=words.number(word))
            case "protocol" | "proto":
                made = replace(made, protocol=words.named(word, PROTOCOLS, 255, "a protocol"))
            case "ipproto" | "ip_proto":
                number = words.value(
                    word, lambda text: _named_in_any_case(text, IP_PROTOCOLS), "a protocol of IP, or its number"
                )
                made = replace(made, ip_protocol=number)
            case "sport":
                made = replace(
                    made, source_ports=words.value(word, lambda text: _range(text, 65535), "a port or range")
                )
            case "dport":
                ports = words.value(word, lambda text: _range(text, 65535), "a port or range")
                made = replace(made, destination_ports=ports)
            case "uidrange":
                made = replace(made, users=words.value(word, lambda text: _range(text, MOST), "a range of users"))
            case "suppress_prefixlength" | "sup_pl" | "suppress_prefixlen":
                made = replace(made, suppress_prefixlength=words.number(word))
            case "suppress_ifgroup" | "sup_group":
                made = replace(made, suppress_ifgroup=words.number(word))
            case "l3mdev":
                made = replace(made, action=TO_TABLE, l3mdev=True)
            case _:
                raise words.refusal(f"floatip does not know the word {word}")
    if not made.action:
        raise words.refusal("it names no table, and nothing else to do")
    family = socket.AF_INET if _family(families, words) == 4 else socket.AF_INET6
    return replace(made, family=family)


def _family(families: set[int], words: _Words) -> int:
    if len(families) > 1:
        raise words.refusal("it mixes IPv4 and IPv6")
    return next(iter(families), 4)


def _number(text: str, most: int) -> int:
    """Raises ValueError."""
    number = int(text, 0)
    if not 0 <= number <= most:
        raise ValueError
    return number


def _named_in_any_case(text: str, names: Mapping[str, int]) -> int:
    return names[text.lower()] if text.lower() in names else _number(text, 255)


def _network(text: str) -> Network | None:
    """Raises ValueError."""
    return None if text in ("default", "any", "all") else ip_network(text, strict=False)


def _interface(text: str) -> str:
    if not 0 < len(text.encode()) < IFNAMSIZ or "/" in text:
        raise ValueError
    return text


def _mark(text: str) -> tuple[int, int]:
    value, _, mask = text.partition("/")
    return _number(value, MOST), _number(mask, MOST) if mask else MOST


def _range(text: str, most: int) -> tuple[int, int]:
    first, _, last = text.partition("-")
    found = _number(first, most), _number(last or first, most)
    if found[0] > found[1]:
        raise ValueError
    return found
