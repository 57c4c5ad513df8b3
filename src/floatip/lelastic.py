"""lelastic's command line: its flags in Go's syntax, and its choice of addresses.

The daemon is the ordinary one with one static instance, whose addresses are those that somebody has configured on `lo`
or, with -allifs, anywhere. They are followed as they come and go; none is ever held or released here.

Other than lelastic it refuses both roles at once, and leaves addresses with a lifetime (SLAAC) alone.
"""

import json
import re
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from ipaddress import IPv6Interface, ip_address
from typing import Any

from floatip.commands import Refusal
from floatip.core.addresses import InterfaceAddress, Placed
from floatip.core.refusals import Why
from floatip.core.settings import Instance, Settings, Static
from floatip.host import daemon
from floatip.host.log import ERROR, NOTICE, WARNING, Log
from floatip.model import Model, network
from floatip.providers import LINODE_REGIONS, linode
from floatip.reading import Loaded

LINGER = 0.2
"""Seconds for the peers to read our last messages; nothing is released after them."""
LOG_LEVELS = dict.fromkeys(("trace", "debug", "info"), NOTICE)
LOG_LEVELS |= dict.fromkeys(("warn", "warning"), WARNING)
LOG_LEVELS |= dict.fromkeys(("error", "fatal", "panic"), ERROR)


def _flag(default: Any, about: str) -> Any:
    return field(default=default, metadata={"about": about})


@dataclass(frozen=True, slots=True)
class Flags:
    """As lelastic names them; the type of the default is the type of the flag."""

    allifs: bool = _flag(False, "announce what is found on any interface, not only on lo")
    dcid: int = _flag(0, "number of the data centre")
    loglevel: str = _flag("info", f"least level that is logged: {', '.join(LOG_LEVELS)}")
    logjson: bool = _flag(False, "log JSON objects")
    multihopttl: int = _flag(16, "TTL of packets to the route servers")
    neighborpattern: str = _flag("2600:3c0f:%d:34::%d", "the route servers, by dcid and number; not for Linode's own")
    primary: bool = _flag(False, "announce as primary")
    secondary: bool = _flag(False, "announce as secondary")
    send56: bool = _flag(False, "announce the /56 of an IPv6 address that is neither a /56 nor a /64, not its /64")


class BadFlag(Exception):
    """Not one of the flags, or not a value for it; in Go's words. Empty: help was asked for."""


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        flags, ignored = parse(sys.argv[1:] if arguments is None else arguments)
        loaded = Loaded(configure(flags))
    except BadFlag as error:
        print(f"{error}\n{_usage()}".lstrip(), file=sys.stderr)
        return 2 if str(error) else 0
    log = Log(LOG_LEVELS.get(flags.loglevel, NOTICE), flags.logjson)
    for warning in _warnings(flags, ignored):
        log.write(WARNING, warning)
    return daemon.serve(lambda: loaded, log, partial(follow, flags, socket.gethostname()))


def parse(arguments: Iterable[str]) -> tuple[Flags, list[str]]:
    """The flags, and what stands behind them: as in Go, the first argument that is no flag ends them."""
    defaults = {flag.name: flag.default for flag in fields(Flags)}
    given: dict[str, Any] = {}
    rest = deque(arguments)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        argument = rest.popleft()
        if argument == "--":
            break
        name, equals, value = argument.removeprefix("-").removeprefix("-").partition("=")
        if not name or name.startswith("-"):
            raise BadFlag(f"bad flag syntax: {argument}")
        if name in ("h", "help"):
            raise BadFlag
        if name not in defaults:
            raise BadFlag(f"flag provided but not defined: -{name}")
        kind = type(defaults[name])
        if not equals and kind is bool:
            value = "true"
        elif not equals:
            if not rest:
                raise BadFlag(f"flag needs an argument: -{name}")
            value = rest.popleft()
        try:
            given[name] = READERS[kind](value)
        except (ValueError, KeyError):
            raise BadFlag(f'invalid value "{value}" for flag -{name}: parse error') from None
    return Flags(**given), list(rest)


def _integer(text: str) -> int:
    # A zero in front means octal in Go, and nothing in Python.
    return int(re.sub(r"^([+-]?)0(?=\d)", r"\g<1>0o", text), 0)


BOOLEANS = dict.fromkeys(["1", "t", "T", "true", "TRUE", "True"], True)
BOOLEANS |= dict.fromkeys(["0", "f", "F", "false", "FALSE", "False"], False)
READERS: dict[type, Callable[[str], Any]] = {bool: BOOLEANS.__getitem__, int: _integer, str: str}


def _usage() -> str:
    lines = ["Usage of floatip lelastic:"]
    for flag in fields(Flags):
        kind = {bool: "", int: " int", str: " string"}[type(flag.default)]
        default = f" (default {json.dumps(flag.default)})" if flag.default else ""
        lines.append(f"  -{flag.name}{kind}\n    \t{flag.metadata['about']}{default}")
    return "\n".join(lines)


def configure(flags: Flags) -> Model:
    """The ordinary configuration but for the instance, which `follow` adds."""
    if flags.dcid <= 1:
        what = f"there is no data centre {flags.dcid}" if flags.dcid else "no data centre is given"
        raise Refusal(what, "add its number, -dcid 6 for Newark; the provider's guide lists them", Why.USAGE)
    if flags.primary == flags.secondary:
        both = "both roles are given, and none wins" if flags.primary else "no role is given"
        raise Refusal(both, "give either -primary or -secondary", Why.USAGE)
    if not 1 <= flags.multihopttl <= 255:
        what = f"multihopttl {flags.multihopttl} is not between 1 and 255"
        raise Refusal(what, "leave it out: Linode needs 16", Why.USAGE)
    try:
        before, between, after = flags.neighborpattern.split("%d")
        peers = [ip_address(f"{before}{flags.dcid}{between}{number}{after}") for number in range(1, 5)]
    except ValueError:
        raise Refusal(
            f'neighborpattern "{flags.neighborpattern}" makes no addresses with dcid {flags.dcid}',
            'the first "%d" becomes the dcid, the second 1 to 4: "2600:3c0f:%d:34::%d"',
            Why.USAGE,
        ) from None
    log = "json" if flags.logjson else "text"
    return Model(network=network(linode(flags.dcid), peers=tuple(peers), multihop_ttl=flags.multihopttl), log=log)


def _warnings(flags: Flags, ignored: list[str]) -> Iterable[str]:
    if flags.dcid not in {region.dcid for region in LINODE_REGIONS}:
        yield f"dcid {flags.dcid} is not among the data centres that floatip knows"
    if flags.loglevel not in LOG_LEVELS:
        yield f'there is no log level "{flags.loglevel}": taken for info'
    if ignored:
        yield f"ignored from the first argument that is no flag: {' '.join(ignored)}"


def follow(flags: Flags, hostname: str, settings: Settings, found: Iterable[Placed]) -> Settings:
    """The settings with what is found now as the addresses of the one instance."""
    assert settings.speaker
    instance = Instance(
        name="lelastic",
        addresses=choose(found, all_interfaces=flags.allifs, ipv6_length=56 if flags.send56 else 64),
        election=Static("primary" if flags.primary else "secondary"),
        placement="found",
        interface="any interface" if flags.allifs else "lo",
    )
    speaker = replace(settings.speaker, hostname=hostname)
    return replace(settings, instances=(instance,), speaker=speaker, release_delay=LINGER)


def choose(found: Iterable[Placed], *, all_interfaces: bool, ipv6_length: int) -> tuple[InterfaceAddress, ...]:
    """What lelastic would announce of these: each address with the prefix that it stands for."""
    chosen = {
        _as_announced(placed.address, ipv6_length)
        for placed in found
        if (all_interfaces or placed.interface == "lo") and _can_float(placed.address)
    }
    return tuple(sorted(chosen, key=lambda address: (address.version, address)))


def _can_float(address: InterfaceAddress) -> bool:
    ip = address.ip
    if ip.is_loopback or ip.is_link_local or ip.is_multicast:
        return False
    return address.version == 6 or address.network.prefixlen == 32


def _as_announced(address: InterfaceAddress, ipv6_length: int) -> InterfaceAddress:
    # A range of IPv6 moves as a whole: any of its addresses, usually a /128, stands for it.
    if address.version == 4 or address.network.prefixlen in (56, 64):
        return address
    return IPv6Interface((int(address.ip), ipv6_length))
