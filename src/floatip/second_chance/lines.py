"""What the daemon and the process of the second chance say to each other: a list in JSON, one packet each."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from typing import Any

from floatip.core.addresses import Address
from floatip.core.second_chance.terms import End, Fault, Over, Phase, Standing, Stream, Through, Wish
from floatip.text import printable

LARGEST = 1 << 17
"""Octets of a packet, either way."""
LONGEST_TEXT = 400
END = json.dumps(["end"]).encode()
"""Remove everything from the kernel. The end of the connection alone leaves it there, for a successor."""


@dataclass(frozen=True, slots=True)
class Configured:
    """Of the process."""

    own: str
    nodes: tuple[tuple[str, Address], ...]
    """Names and addresses on the link, this node's too."""
    keys: tuple[bytes, ...]
    """The first one signs."""
    port: int
    limit: float
    may_be_direct: bool = False
    """Answers may leave the keeper by its own way, where a probe has proven that they arrive."""

    @property
    def opening(self) -> tuple[object, ...]:
        """What the tunnel is made of."""
        return self.own, dict(self.nodes)[self.own], self.port


def of_configured(configured: Configured) -> bytes:
    nodes = [(name, str(address)) for name, address in configured.nodes]
    keys = [key.hex() for key in configured.keys]
    rest = configured.port, configured.limit, configured.may_be_direct
    return json.dumps(["configure", configured.own, nodes, keys, *rest]).encode()


def configured(fields: list[Any]) -> Configured:
    own, nodes, keys, port, limit, may_be_direct = fields
    named = tuple((name, ip_address(address)) for name, address in nodes)
    return Configured(own, named, tuple(map(bytes.fromhex, keys)), port, limit, may_be_direct is True)


def of_wishes(wishes: Iterable[Wish]) -> bytes:
    told = [
        (one.instance, [str(each) for each in one.addresses], one.phase.value, one.nodes, one.moved_at)
        for one in wishes
    ]
    return json.dumps(["wish", told]).encode()


def wishes(told: list[Any]) -> list[Wish]:
    return [
        Wish(instance, frozenset(map(ip_address, addresses)), Phase(phase), tuple(nodes), moved_at)
        for instance, addresses, phase, nodes, moved_at in told
    ]


def of_standing(standing: Standing) -> bytes:
    pairs = {"ready": sorted(standing.ready), "asked": sorted(standing.asked)}
    return json.dumps(["standing", asdict(standing) | pairs]).encode()


def of_over(over: Over) -> bytes:
    return json.dumps(["over", asdict(over)]).encode()


def heard(packet: bytes) -> Standing | Over:
    """Raises ValueError, TypeError or KeyError."""
    match json.loads(packet):
        case ["standing", dict(told)]:
            return Standing(
                _text(told["why_not"]),
                _text(told["hint"]),
                tuple((_text(name), _text(why)) for name, why in told["without"]),
                tuple(map(_through, told["through"])),
                _pairs(told["ready"]),
                tuple(map(_stream, told["streams"])),
                _pairs(told["asked"]),
            )
        case ["over", dict(told)]:
            connections, reason = int(_number(told["connections"])), _text(told["reason"])
            return Over(_text(told["node"]), told["forwards"] is True, connections, reason, End(told["end"]))
        case other:
            raise ValueError(str(other)[:LONGEST_TEXT])


def _pairs(told: list[Any]) -> frozenset[tuple[str, str]]:
    return frozenset((_text(instance), _text(node)) for instance, node in told)


def _through(told: dict[str, Any]) -> Through:
    fault = None if told["fault"] is None else Fault(told["fault"])
    return Through(_text(told["node"]), told["works"] is True, _text(told["why"]), fault)


def _stream(told: dict[str, Any]) -> Stream:
    connections, forwarded, accepted = (int(_number(told[name])) for name in ("connections", "forwarded", "accepted"))
    since, until = (float(_number(told[name])) for name in ("since", "until"))
    direct, distrust = told["direct"] is True, _text(told["distrust"])
    figures = connections, since, until, forwarded, accepted
    return Stream(_text(told["node"]), told["forwards"] is True, *figures, direct, distrust)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("no number")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return printable(value[:LONGEST_TEXT])
