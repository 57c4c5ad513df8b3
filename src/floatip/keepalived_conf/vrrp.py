"""What the statements about VRRP mean, with keepalived's defaults for what is not given.

Where keepalived complains of a value and takes its default, so do we; what it would leave out (an instance, an address)
is not understood.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface
from typing import Literal, get_args

from floatip.core.events import Address, InterfaceAddress
from floatip.keepalived_conf.syntax import Errors, Statement, split

NotifyEvent = Literal["master", "backup", "fault", "stop", "deleted", "master_rx_lower_pri", "any"]


@dataclass(frozen=True, slots=True)
class Script:
    """`vrrp_script`"""

    statement: Statement
    name: str
    command: tuple[str, ...]
    """Empty: keepalived drops the script."""
    interval: float = 1.0
    timeout: float = 0.0
    """0: as `interval`."""
    rise: int = 1
    fall: int = 1
    weight: int = 0
    user: str = ""


@dataclass(frozen=True, slots=True)
class VirtualAddress:
    statement: Statement
    address: InterfaceAddress
    interface: str
    """The instance's own unless `dev` names another."""


@dataclass(frozen=True, slots=True)
class Notify:
    """One of the `notify...` statements of an instance or a group."""

    statement: Statement
    event: NotifyEvent
    """`notify` alone is "any"."""
    command: tuple[str, ...]
    user: str = ""


@dataclass(frozen=True, slots=True)
class Instance:
    """`vrrp_instance`"""

    statement: Statement
    name: str
    interface: str
    vrid: int
    priority: int
    state: Literal["MASTER", "BACKUP"]
    version: Literal[2, 3]
    advert_interval: float
    preempt: bool
    """As it takes effect: keepalived clears `nopreempt` where the state is MASTER."""
    source: Address | None
    """`unicast_src_ip` or `mcast_src_ip`; None: keepalived takes the interface's first address."""
    peers: tuple[Address, ...]
    """Empty: multicast."""
    addresses: tuple[VirtualAddress, ...]
    tracked: tuple[tuple[str, int], ...]
    """Names and weights of the tracked scripts; 0: a failure is a fault."""
    notifies: tuple[Notify, ...]
    auth_pass: str = field(default="", repr=False)
    excluded: tuple[VirtualAddress, ...] = ()
    """`virtual_ipaddress_excluded`: held like the others, and in no advert."""

    @property
    def address_list(self) -> tuple[InterfaceAddress, ...]:
        return tuple(dict.fromkeys(virtual.address for virtual in self.addresses))


@dataclass(frozen=True, slots=True)
class Group:
    """`vrrp_sync_group`"""

    statement: Statement
    name: str
    members: tuple[str, ...]
    notifies: tuple[Notify, ...] = ()
    tracked: tuple[tuple[str, int], ...] = ()


def scripts(statements: Iterable[Statement]) -> tuple[Script, ...]:
    return tuple(_script(statement) for statement in statements if statement.keyword == "vrrp_script")


def _script(statement: Statement) -> Script:
    def number(keyword: str, default: int, low: int, high: int = 2**31) -> int:
        # keepalived takes 2.5 for 2 here.
        option = statement.last(keyword)
        leading = re.match(r"[+-]?\d+", option.argument()) if option else None
        return int(leading[0]) if leading and low <= int(leading[0]) <= high else default

    command, user = statement.last("script"), statement.last("user")
    return Script(
        statement=statement,
        name=statement.argument(),
        command=split(command.argument()) if command else (),
        interval=number("interval", 1, 1),
        timeout=number("timeout", 0, 0),
        rise=number("rise", 1, 1),
        fall=number("fall", 1, 1),
        weight=number("weight", 0, -(2**31)),
        user=user.argument() if user else "",
    )


def groups(statements: Iterable[Statement], weights: Mapping[str, int]) -> tuple[Group, ...]:
    return tuple(
        Group(
            statement=statement,
            name=statement.argument(),
            members=tuple(member.keyword for block in statement.all("group") for member in block.block or ()),
            notifies=_notifies(statement),
            tracked=_tracked(statement, weights),
        )
        for statement in statements
        if statement.keyword == "vrrp_sync_group"
    )


def instances(
    statements: Iterable[Statement], weights: Mapping[str, int], default_version: Literal[2, 3], errors: Errors
) -> tuple[Instance, ...]:
    """`weights` are those of the scripts."""
    found: dict[str, Instance] = {}
    for statement in statements:
        if statement.keyword == "vrrp_instance" and (
            instance := _instance(statement, weights, default_version, errors)
        ):
            if instance.name in found:
                what = f"{statement}: defined before, at {found[instance.name].statement.place}"
                errors.append((statement.place, what, "give it another name; keepalived leaves out the second one"))
            found.setdefault(instance.name, instance)
    return tuple(found.values())


def _instance(
    statement: Statement, weights: Mapping[str, int], default_version: Literal[2, 3], errors: Errors
) -> Instance | None:
    def missing(what: str, hint: str) -> None:
        keyword = what.removeprefix("no ")
        same_line = [one for one in statement.block or () if keyword in one.words[1:]]
        hint = f"one statement a line: {keyword} stands behind {same_line[0].keyword}" if same_line else hint
        errors.append((statement.place, f"{statement}: {what}", hint))

    name, interface, vrid = statement.argument(), statement.last("interface"), _vrid(statement, errors)
    if not name:
        missing("no name", "for example vrrp_instance VI_1 {")
    if not interface:
        missing("no interface", "for example interface eth0")
    if not statement.last("virtual_router_id"):
        missing("no virtual_router_id", "for example virtual_router_id 51, the same on all nodes of the instance")
    if not (name and interface and vrid):
        return None
    device = interface.argument()
    addresses = _addresses(statement, "virtual_ipaddress", device, errors)
    for virtual in addresses:
        if virtual.address.version != addresses[0].address.version:
            what = f"{virtual.statement}: not of the family of the first address, keepalived leaves it out"
            errors.append((virtual.statement.place, what, "put it in virtual_ipaddress_excluded"))
    version = vrrp_version(
        statement.last("version"), 3 if addresses and addresses[0].address.version == 6 else default_version
    )
    given = statement.last("state")
    priority = _integer(statement.last("priority"), 1, 255)
    if priority is None:
        priority = 255 if given and given.argument() == "MASTER" and not statement.last("priority") else 100
    master = given.argument() == "MASTER" if given else priority == 255
    preempting = [option.keyword == "preempt" for option in statement.block or () if option.keyword in PREEMPT]
    return Instance(
        statement=statement,
        name=name,
        interface=device,
        vrid=vrid,
        priority=priority,
        state="MASTER" if master else "BACKUP",
        version=version,
        advert_interval=_advert_interval(statement, version),
        preempt=master or priority == 255 or not preempting or preempting[-1],
        source=_source(statement, errors),
        peers=_peers(statement, errors),
        addresses=addresses,
        tracked=_tracked(statement, weights),
        notifies=_notifies(statement),
        auth_pass=_auth_pass(statement),
        excluded=_addresses(statement, "virtual_ipaddress_excluded", device, errors),
    )


PREEMPT = ("preempt", "nopreempt")


def _integer(statement: Statement | None, low: int, high: int) -> int | None:
    text = statement.argument() if statement else ""
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,9}", text) and low <= int(text) <= high else None


def _vrid(statement: Statement, errors: Errors) -> int | None:
    given = statement.last("virtual_router_id")
    vrid = _integer(given, 1, 255)
    if given and vrid is None:
        what = f"{given}: not a number from 1 to 255"
        errors.append((given.place, what, "the same number on all nodes of the instance"))
    return vrid


def vrrp_version(statement: Statement | None, default: Literal[2, 3]) -> Literal[2, 3]:
    """Of `version` or `vrrp_version`."""
    match _integer(statement, 2, 3):
        case 2:
            return 2
        case 3:
            return 3
        case _:
            return default


def _advert_interval(instance: Statement, version: Literal[2, 3]) -> float:
    given = instance.last("advert_int")
    text = given.argument() if given else ""
    seconds = float(text) if re.fullmatch(r"\+?([0-9]+\.?[0-9]*|\.[0-9]+)", text) else 1.0
    if not 0.01 <= seconds <= 255:
        seconds = 1.0
    # Version 2 has whole seconds on the wire, version 3 hundredths.
    return max(1.0, math.floor(seconds + 0.5)) if version == 2 else math.floor(seconds * 100 + 0.5) / 100


def _address(statement: Statement, text: str, errors: Errors) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        errors.append((statement.place, f"{statement}: not an address", "for example 192.0.2.1"))
        return None


def _source(instance: Statement, errors: Errors) -> Address | None:
    given = [option for option in instance.block or () if option.keyword in ("unicast_src_ip", "mcast_src_ip")]
    sources = [_address(option, option.argument(), errors) for option in given]
    return sources[-1] if sources else None


def _peers(instance: Statement, errors: Errors) -> tuple[Address, ...]:
    lines = [peer for block in instance.all("unicast_peer") for peer in block.block or ()]
    peers = [_address(peer, peer.keyword, errors) for peer in lines]
    return tuple(dict.fromkeys(peer for peer in peers if peer))


def _addresses(instance: Statement, keyword: str, device: str, errors: Errors) -> tuple[VirtualAddress, ...]:
    found = []
    for line in (line for block in instance.all(keyword) for line in block.block or ()):
        named = line.words[line.words.index("dev") + 1 :] if "dev" in line.words else ()
        try:
            if not re.fullmatch(r"[^/]+(/[0-9]+)?", line.keyword):
                raise ValueError
            found.append(VirtualAddress(line, ip_interface(line.keyword), named[0] if named else device))
        except ValueError:
            errors.append((line.place, f"{line}: not an address", "for example 192.0.2.10/32"))
    return tuple(found)


def _tracked(statement: Statement, weights: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    found = []
    for line in (line for block in statement.all("track_script") for line in block.block or ()):
        weight = re.fullmatch(r"weight ([+-]?\d+).*", " ".join(line.words[1:]))
        default = weights.get(line.keyword, 0)
        found.append((line.keyword, max(-253, min(253, int(weight[1]))) if weight else default))
    return tuple(found)


def _notifies(statement: Statement) -> tuple[Notify, ...]:
    events = {"notify" if event == "any" else f"notify_{event}": event for event in get_args(NotifyEvent)}
    return tuple(
        Notify(option, events[option.keyword], split(option.argument()), option.argument(2))
        for option in statement.block or ()
        if option.keyword in events
    )


def _auth_pass(instance: Statement) -> str:
    given = [word for block in instance.all("authentication") for word in block.all("auth_pass")]
    return given[-1].argument() if given else ""
