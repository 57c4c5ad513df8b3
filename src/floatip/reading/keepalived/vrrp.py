"""What the statements about VRRP mean, with keepalived's defaults for what is not given.

Where keepalived complains of a value and takes its default, so do we. A file with which keepalived does not start, or
from which it leaves out an instance or an address, is refused.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface
from itertools import takewhile
from typing import Literal, get_args

from floatip.core.addresses import Address, InterfaceAddress
from floatip.reading.keepalived.syntax import Doubts, Statement, split
from floatip.reading.words import closest

NotifyEvent = Literal["master", "backup", "fault", "stop", "deleted", "master_rx_lower_pri", "any"]


@dataclass(frozen=True, slots=True)
class Script:
    """`vrrp_script`"""

    statement: Statement
    name: str
    command: tuple[str, ...]
    """Empty: keepalived drops the script."""
    text: str
    """The command with its quotes."""
    interval: float = 1.0
    timeout: float = 0.0
    """0: as `interval`."""
    rise: int = 1
    fall: int = 1
    weight: int = 0
    user: str = ""
    reverse: bool = False


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


TrackKind = Literal["track_script", "track_process", "track_file", "track_interface"]


@dataclass(frozen=True, slots=True)
class Tracked:
    """One line of what is tracked."""

    statement: Statement
    kind: TrackKind
    name: str
    weight: int
    """0: a failure is a fault."""
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Tracking:
    """What an instance or a group tracks."""

    tracked: tuple[Tracked, ...] = ()
    ignored: tuple[tuple[Statement, str, str], ...] = ()
    """Lines that keepalived ignores, each with the reason, and what to do."""

    @property
    def scripts(self) -> tuple[tuple[str, int], ...]:
        """Names and weights of the scripts that count."""
        return tuple((one.name, one.weight) for one in self.tracked if one.kind == "track_script")


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
    tracking: Tracking
    notifies: tuple[Notify, ...]
    auth_type: str = ""
    """PASS or AH."""
    auth_pass: str = field(default="", repr=False)
    """Empty where keepalived ignores it: without `auth_type PASS`, with version 3, with `vrrp_strict`."""
    excluded: tuple[VirtualAddress, ...] = ()
    """`virtual_ipaddress_excluded`: held like the others, and in no advert."""
    is_ipv6: bool = False
    """Whether it speaks VRRP over IPv6."""


@dataclass(frozen=True, slots=True)
class Group:
    """`vrrp_sync_group`"""

    statement: Statement
    name: str
    members: tuple[str, ...]
    notifies: tuple[Notify, ...] = ()
    tracking: Tracking = Tracking()


DEFINITIONS: dict[TrackKind, tuple[str, ...]] = {
    "track_script": ("vrrp_script",),
    "track_process": ("vrrp_track_process",),
    "track_file": ("vrrp_track_file", "track_file"),
}
Weight = tuple[int, bool]
"""A number, and whether it is reversed."""
HEAVIEST: dict[TrackKind, int] = {"track_script": 253, "track_process": 254, "track_file": 254, "track_interface": 253}
Above = Mapping[TrackKind, Mapping[str, Weight]]
"""By `track_...`, the names that are known there, with their weights."""


def scripts(statements: Iterable[Statement]) -> tuple[Script, ...]:
    """The first of a name that runs something counts."""
    given = [_script(statement) for statement in statements if statement.keyword == "vrrp_script"]
    found = {script.name: script for script in reversed(given)}
    found |= {script.name: script for script in reversed(given) if script.command}
    return tuple(found.values())


def _script(statement: Statement) -> Script:
    def number(keyword: str, default: int, low: int) -> int:
        # keepalived takes 2.5 for 2 here.
        option = statement.last(keyword)
        found = _leading(option.argument()) if option else None
        return found if found is not None and low <= found <= 2**31 else default

    commands = ["", *(option.argument() for option in statement.all("script") if option.argument())]
    user, timeout = statement.last("user"), statement.last("timeout")
    return Script(
        statement=statement,
        name=statement.argument(),
        command=split(commands[-1]),
        text=commands[-1],
        interval=number("interval", 1, 1),
        timeout=1 if timeout and re.fullmatch(r"\+?0+", timeout.argument()) else number("timeout", 0, 1),
        rise=number("rise", 1, 1),
        fall=number("fall", 1, 1),
        weight=number("weight", 0, -(2**31)),
        user=user.argument() if user else "",
        reverse=_is_reversed(statement),
    )


def _is_reversed(definition: Statement) -> bool:
    weight = definition.last("weight")
    return bool(weight and weight.argument(2) == "reverse")


def _leading(text: str) -> int | None:
    """The number at the beginning, as strtol has it. A line is too short for one that Python refuses."""
    digits = re.match(r"[+-]?\d+", text)
    return int(digits[0]) if digits else None


def groups(statements: tuple[Statement, ...], instances: Iterable[Instance]) -> tuple[Group, ...]:
    """A group without a name or members is none, and an instance that does not exist is no member."""
    known = {instance.name for instance in instances}
    found = (
        Group(
            statement=statement,
            name=statement.argument(),
            members=tuple(
                name
                for block in statement.all("group")
                for line in block.block or ()
                for name in line.words
                if name in known
            ),
            notifies=_notifies(statement),
            tracking=_tracking(statement, _known_above(statements, statement)),
        )
        for statement in statements
        if statement.keyword == "vrrp_sync_group"
    )
    return tuple(group for group in found if len(group.statement.words) == 2 and group.members)


def instances(
    statements: tuple[Statement, ...], global_defs: Iterable[Statement], doubts: Doubts
) -> tuple[Instance, ...]:
    version: Literal[2, 3] = 2
    for option in global_defs:
        version = vrrp_version(option, version) if option.keyword == "vrrp_version" else version
    strict = any(option.keyword == "vrrp_strict" for option in global_defs)
    found: dict[str, Instance] = {}
    routers: dict[tuple[object, ...], Instance] = {}
    for statement in (one for one in statements if one.keyword == "vrrp_instance"):
        if instance := _instance(statement, _known_above(statements, statement), version, strict, doubts):
            named = found.get(instance.name)
            router = instance if named else routers.setdefault(_virtual_router(instance), instance)
            _conflicts(instance, named, router, doubts)
            found.setdefault(instance.name, instance)
    return tuple(found.values())


def _known_above(statements: Iterable[Statement], user: Statement) -> Above:
    """keepalived knows a script, a process or a file only where it is defined above its use."""
    above = tuple(takewhile(lambda one: one is not user, statements))
    of_scripts = {script.name: (script.weight, script.reverse) for script in scripts(above)}
    return {
        kind: {
            one.argument(): of_scripts[one.argument()] if kind == "track_script" else _weight(one, kind)
            for one in reversed(above)
            if one.keyword in definitions
        }
        for kind, definitions in DEFINITIONS.items()
    }


def _weight(definition: Statement, kind: TrackKind) -> Weight:
    option, most = definition.last("weight"), 2**31 - 1 if kind == "track_file" else HEAVIEST[kind]
    number = _leading(option.argument()) if option else None
    is_valid = number is not None and abs(number) <= most
    default = int(kind == "track_file")
    return number if number is not None and is_valid else default, _is_reversed(definition)


def _conflicts(instance: Instance, named: Instance | None, router: Instance, doubts: Doubts) -> None:
    """`named`, `router`: the first of its name, and of its virtual router."""
    place, name = instance.statement.place, instance.statement
    if named:
        what = f"{name}: defined before, at {named.statement.place}"
        doubts.left_out.append((place, what, "give it another name; keepalived leaves out the second one"))
    elif router is not instance:
        what = f"{name}: virtual_router_id {instance.vrid} is also that of {router.name}, on {instance.interface}"
        what += ": keepalived does not start"
        doubts.errors.append((place, what, "give each instance an id of its own"))


def _virtual_router(instance: Instance) -> tuple[object, ...]:
    return instance.interface, instance.vrid, instance.is_ipv6, frozenset(instance.peers)


def _instance(
    statement: Statement, above: Above, version: Literal[2, 3], strict: bool, doubts: Doubts
) -> Instance | None:
    """`version`, `strict`: what `global_defs` says for all."""
    name, interface, vrid = statement.argument(), statement.last("interface"), _vrid(statement, doubts)
    family = _family(statement.block or ())
    source = _source(statement, family, doubts)
    _what_every_instance_needs(statement, source, doubts)
    if not (name and vrid):
        return None
    device = interface.argument() if interface else ""
    listed = _addresses(statement, "virtual_ipaddress", device, doubts)
    excluded = _addresses(statement, "virtual_ipaddress_excluded", device, doubts)
    hint = "put it in virtual_ipaddress_excluded"
    addresses = [
        virtual for virtual in listed if _is_of_family(family, virtual.address.version, virtual.statement, hint, doubts)
    ]
    strict = _is_strict(statement, strict)
    version = 3 if family == 6 and strict else _version(statement, 3 if family == 6 else version)
    if not addresses and (strict or version == 3):
        what = f"{statement}: no virtual_ipaddress with {'strict_mode' if strict else 'version 3'}"
        doubts.left_out.append((statement.place, f"{what}, and keepalived does not start", "add virtual_ipaddress"))
    master = _is_master(statement)
    priority = _integer(statement.last("priority"), 1, 255)
    if priority is None:
        priority = 255 if master and not statement.last("priority") else 100
    auth_type, auth_pass = _authentication(statement) if version == 2 and not strict else ("", "")
    is_owner = priority == 255
    if master is None or strict:
        master = is_owner
    elif auth_type == "AH" and family != 6:  # which needs an advert before it can be MASTER
        master = master and is_owner
    most = MOST_ADDRESSES[family or 4]
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
        preempt=master or is_owner or not preempting or preempting[-1],
        source=source,
        peers=_peers(statement, family, doubts),
        addresses=tuple(addresses[:most]),
        tracking=_tracking(statement, above, is_owner=is_owner),
        notifies=_notifies(statement),
        auth_type=auth_type,
        auth_pass=auth_pass if auth_type == "PASS" else "",
        excluded=(*excluded, *addresses[most:]),
        is_ipv6=family == 6,
    )


def _what_every_instance_needs(statement: Statement, source: Address | None, doubts: Doubts) -> None:
    for keyword, hint in (
        ("interface", "for example interface eth0"),
        ("virtual_router_id", "for example virtual_router_id 51, the same on all nodes of the instance"),
    ):
        given = statement.last(keyword)
        if not given or given.words[1:] == ("",):
            same_line = [one for one in statement.block or () if keyword in one.words[1:]]
            behind = f"one statement a line: {keyword} stands behind {same_line[0].keyword}" if same_line else hint
            # keepalived 2.4 takes that of the source.
            is_clear = keyword == "interface" and not given and source and not same_line
            (doubts.left_out if is_clear else doubts.errors).append(
                (statement.place, f"{statement}: no {keyword}", behind)
            )
        elif keyword == "interface" and given.argument() == "lo":
            what = "interface lo: keepalived does not start"
            doubts.errors.append((given.place, what, "name the interface to the other nodes"))
    if len(statement.words) != 2:
        what = f"{statement}: not one name"
        doubts.errors.append((statement.place, what, "for example vrrp_instance VI_1 {"))


def _family(statements: Iterable[Statement]) -> int | None:
    """4 or 6, that of the first source, peer or address."""
    for statement in statements:
        words: tuple[str, ...] = ()
        if statement.keyword == "native_ipv6":
            return 6
        if statement.keyword in ("unicast_src_ip", "mcast_src_ip"):
            words = (statement.argument(),)
        elif statement.keyword in ("unicast_peer", "virtual_ipaddress"):
            words = tuple(line.keyword for line in statement.block or ())
        for word in words:
            with suppress(ValueError):
                return ip_address(_without_range(word)).version
    return None


def _is_strict(instance: Statement, default: bool) -> bool:
    values = {"": True, **dict.fromkeys(("true", "on", "yes"), True), **dict.fromkeys(("false", "off", "no"), False)}
    given = [values[option.argument()] for option in instance.all("strict_mode") if option.argument() in values]
    return given[-1] if given else default


def _is_master(instance: Statement) -> bool | None:
    """None: not given. A BACKUP below a MASTER is ignored, any other word is not."""
    state = None
    for option in instance.all("state"):
        state = option.argument() == "MASTER" or (option.argument() == "BACKUP" and bool(state))
    return state


MOST_ADDRESSES = {4: 255, 6: 89}
"""Of an advert: what it counts, and what a packet of 1500 octets holds."""
PREEMPT = ("preempt", "nopreempt")


def _integer(statement: Statement | None, low: int, high: int) -> int | None:
    text = statement.argument() if statement else ""
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,9}", text) and low <= int(text) <= high else None


def _vrid(instance: Statement, doubts: Doubts) -> int | None:
    """The last one that is valid."""
    given = [*instance.all("virtual_router_id")]
    valid = [vrid for vrid in (_integer(statement, 1, 255) for statement in given) if vrid]
    if given and given[-1].argument() and not valid:
        what = f"{given[-1]}: not a number from 1 to 255"
        doubts.errors.append((given[-1].place, what, "the same number on all nodes of the instance"))
    return valid[-1] if valid else None


def vrrp_version(statement: Statement, default: Literal[2, 3]) -> Literal[2, 3]:
    """Of `version` or `vrrp_version`."""
    number = _leading(statement.argument())
    return 2 if number == 2 else 3 if number == 3 else default


def _version(instance: Statement, default: Literal[2, 3]) -> Literal[2, 3]:
    """The first that is valid; 2 is not below an address of IPv6."""
    block = instance.block or ()
    for number, option in enumerate(block):
        if option.keyword == "version" and _leading(option.argument()) in (2, 3):
            version = vrrp_version(option, default)
            if version == 3 or _family(block[:number]) != 6:
                return version
    return default


def _advert_interval(instance: Statement, version: Literal[2, 3]) -> float:
    """The last that is valid."""
    texts = [option.argument() for option in instance.all("advert_int")]
    given = [float(text) for text in texts if re.fullmatch(r"\+?([0-9]+\.?[0-9]*|\.[0-9]+)", text)]
    seconds = next((one for one in reversed(given) if 0.01 <= one <= 255), 1.0)
    microseconds = round(seconds * 1_000_000)
    # Version 2 has whole seconds on the wire, version 3 hundredths, in 12 bits.
    if version == 2:
        return max(1.0, (microseconds + 500_000) // 1_000_000)
    return min(4095, (microseconds + 5_000) // 10_000) / 100


def _without_range(text: str) -> str:
    """keepalived ignores a mask and a range behind a source or a peer."""
    return re.split("[/-]", text, maxsplit=1)[0]


def _address(statement: Statement, text: str, family: int | None, doubts: Doubts) -> Address | None:
    try:
        address = ip_address(_without_range(text))
    except ValueError:
        doubts.errors.append((statement.place, f"{statement}: not an address", "for example 192.0.2.1"))
        return None
    hint = f"remove it, or give an IPv{family} address"
    return address if _is_of_family(family, address.version, statement, hint, doubts) else None


def _is_of_family(family: int | None, version: int, statement: Statement, hint: str, doubts: Doubts) -> bool:
    if is_other := bool(family and version != family):
        what = f"{statement}: not of the family of the first address, keepalived leaves it out"
        doubts.left_out.append((statement.place, what, hint))
    return not is_other


def _source(instance: Statement, family: int | None, doubts: Doubts) -> Address | None:
    given = [option for option in instance.block or () if option.keyword in ("unicast_src_ip", "mcast_src_ip")]
    sources = [_address(option, option.argument(), family, doubts) for option in given if option.argument()]
    return next((source for source in reversed(sources) if source), None)


def _peers(instance: Statement, family: int | None, doubts: Doubts) -> tuple[Address, ...]:
    lines = [peer for block in instance.all("unicast_peer") for peer in block.block or ()]
    peers = [_address(peer, peer.keyword, family, doubts) for peer in lines]
    return tuple(dict.fromkeys(peer for peer in peers if peer))


def _addresses(instance: Statement, keyword: str, device: str, doubts: Doubts) -> tuple[VirtualAddress, ...]:
    found = []
    for line in (line for block in instance.all(keyword) for line in block.block or ()):
        options = address_options(line)
        address = _virtual(line, doubts)
        is_complete = True
        for option, value in options.items():
            if not re.fullmatch(OPTIONS[option], value):
                what = f"{line}: keepalived leaves out this address, because of {option} '{value}'"
                doubts.left_out.append((line.place, what, f"correct {option}, or remove it"))
                is_complete = False
        if address and is_complete:
            found.append(VirtualAddress(line, address, options.get("dev", device)))
    return tuple(found)


def _virtual(line: Statement, doubts: Doubts) -> InterfaceAddress | None:
    text, slash, mask = line.keyword.partition("/")
    try:
        host = ip_address(text)
    except ValueError:
        doubts.errors.append((line.place, f"{line}: not an address", "for example 192.0.2.10/32"))
        return None
    if not slash:
        return ip_interface(host)
    if re.fullmatch("[0-9]{1,3}", mask) and int(mask) <= host.max_prefixlen:
        return ip_interface((host, int(mask)))
    what = f"{line}: not an address; keepalived takes /{host.max_prefixlen} for the mask"
    doubts.left_out.append((line.place, what, f"write {text}/{host.max_prefixlen}"))
    return ip_interface(host)


BROADCAST = r"[-+]|\d+(\.\d+){3}"
OPTIONS = {"dev": r".+", "label": r".{1,15}", "brd": BROADCAST, "broadcast": BROADCAST}
OPTIONS |= dict.fromkeys(("scope", "peer", "preferred_lft"), r".+")
"""Of an address, with the values that keepalived accepts."""


def address_options(line: Statement) -> dict[str, str]:
    words = iter(line.words[1:])
    return {word: next(words, "") for word in words if word in OPTIONS}


def _tracking(statement: Statement, above: Above, *, is_owner: bool = False) -> Tracking:
    found: dict[tuple[str, str], Tracked] = {}
    ignored = []
    lines = [(kind, line) for kind in HEAVIEST for block in statement.all(kind) for line in block.block or ()]
    for kind, line in lines:
        name, options, known = line.keyword, line.words[1:], above.get(kind, {line.keyword: (0, False)})
        weight, reverse = known.get(name, (0, False))
        if len(options) > 1:
            most = HEAVIEST[kind]
            given = _leading(options[1]) or 0
            weight = max(-most, min(given, most)) if abs(given) <= 254 else weight
            reverse = options[2] == "reverse" if options[2:] and options[2] in REVERSED else reverse
        if (kind, name) in found:
            why, hint = f"{name} is tracked already", "remove one of the two"
        elif name not in known:
            what = DEFINITIONS[kind][0]
            close = closest(name, known)
            hint = f"did you mean {close}?" if close else f"define {name} above it"
            why = f"there is no {what} {name} above it"
        elif options and (options[0] != "weight" or len(options) < 2):
            why, hint = f"'{' '.join(options)}' is not 'weight NUMBER'", "write: name, or: name weight NUMBER"
        elif weight and is_owner and kind == "track_script":
            why, hint = "priority 255 has no weights", "use no weight: then a failure is a fault"
        else:
            found[kind, name] = Tracked(line, kind, name, weight, reverse)
            continue
        ignored.append((line, f"in {kind}: {why}", hint))
    return Tracking(tuple(found.values()), tuple(ignored))


REVERSED = ("reverse", "noreverse")
"""Behind the weight of a line."""


def _notifies(statement: Statement) -> tuple[Notify, ...]:
    """Of each event the first counts."""
    events = {"notify" if event == "any" else f"notify_{event}": event for event in get_args(NotifyEvent)}
    found: dict[str, Notify] = {}
    for option in statement.block or ():
        if event := events.get(option.keyword):
            found.setdefault(event, Notify(option, event, split(option.argument()), option.argument(2)))
    return tuple(found.values())


def _authentication(instance: Statement) -> tuple[str, str]:
    """Type and password."""
    given = [option for block in instance.all("authentication") for option in block.block or ()]
    types = [option.argument() for option in given if option.keyword == "auth_type"]
    passwords = [option.argument() for option in given if option.keyword == "auth_pass"]
    known = [name for name in types if name in ("PASS", "AH")]
    return (known[-1], passwords[-1]) if known and passwords and passwords[-1] else ("", "")
