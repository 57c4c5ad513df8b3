"""A `vrrp_instance` as an instance of the model, and a `vrrp_sync_group` as a group."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from itertools import pairwise
from typing import Literal

from floatip.core import settings as core
from floatip.core.addresses import Address, InterfaceAddress
from floatip.model import instance as made
from floatip.reading.keepalived import Group, Instance, KeepalivedConf, Statement, VirtualAddress
from floatip.reading.keepalived.front_end.checks import Checks
from floatip.reading.keepalived.front_end.hmac import hmac
from floatip.reading.keepalived.front_end.settings import Settings, multicast_group
from floatip.reading.keepalived.front_end.sheet import Sheet
from floatip.reading.keepalived.front_end.values import Values
from floatip.reading.keepalived.vrrp import address_options
from floatip.reading.machine import Machine
from floatip.reading.place import Thing

SCOPES = {"global": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}
"""RT_SCOPE_... of the kernel, as ip-address(8) names them."""
FOREVER = 2**32 - 1
NOWHERE: dict[int, Address] = {4: IPv4Address(0), 6: IPv6Address(0)}


@dataclass(frozen=True, slots=True)
class Reading:
    conf: KeepalivedConf
    settings: Settings
    checks: Checks
    sheet: Sheet
    machine: Machine | None
    """None: whether the file fits this machine is not asked."""
    has_bgp: bool


def instances(reading: Reading) -> Iterator[core.Instance]:
    floating = {virtual.address.ip for one in reading.conf.instances for virtual in (*one.addresses, *one.excluded)}
    for number, one in enumerate(reading.conf.instances):
        yield _instance(one, ("instance", number), reading, floating)


def _instance(one: Instance, at: Thing, reading: Reading, floating: set[Address]) -> core.Instance:
    sheet, name = reading.sheet, str(one.statement)
    sheet.put(at, one.statement, name)
    sheet.put((*at, "placement"), one.statement, name)
    source = one.source or _first_address(one, reading, floating)
    interface = one.interface or _interface_of(one, source, reading)
    addresses, options = _addresses(one, (*at, "addresses"), interface, reading)
    is_announced = reading.has_bgp and bool(addresses) and all(_is_alone(each) for each in addresses)
    if reading.has_bgp and not is_announced and addresses:
        wide = next(each for each in addresses if not _is_alone(each))
        what = f"{one.statement}: {wide} belongs to a subnet, so the master holds the addresses on {interface}"
        sheet.note(one.statement, f"{what}, and BGP announces none of them", f"to announce: write {wide.ip}")
    if is_announced:
        options = tuple(each for each in (replace(each, interface="") for each in options) if _says_something(each))
    groups = [group for group in reading.conf.groups if one.name in group.members]
    is_grouped = bool(groups) and not _members_have_weights(groups[0], sheet)
    used = {} if is_announced else _used_by_addresses(one, options)
    used |= _used_by_virtuals(one)
    used = {name: statement for name, statement in used.items() if name not in (interface, "lo")}
    is_owner = one.priority == 255
    faults, tracks = reading.checks.of(one, own=interface, is_owner=is_owner, is_grouped=is_grouped, used=used)
    return made(
        one.name,
        addresses,
        _vrrp(one, (*at, "vrrp"), interface, source, reading),
        has_bgp=reading.has_bgp,
        placement="all" if is_announced else "master",
        interface="lo" if is_announced else interface,
        checks=tuple(faults),
        tracks=tuple(tracks),
        options=options,
        virtuals=tuple(_virtuals(one, at, reading.sheet)),
        is_announced=is_announced or not reading.has_bgp,
    )


def _vrrp(one: Instance, at: Thing, interface: str, source: Address, reading: Reading) -> core.Vrrp:
    sheet, settings = reading.sheet, reading.settings
    values = Values(one.statement.block or (), "vrrp_instance", sheet)
    for thing, keyword in {
        "interface": "interface",
        "vrid": "virtual_router_id",
        "priority": "priority",
        "advert_interval": "advert_int",
        "version": "version",
        "auth_pass": "authentication",
        "source": "unicast_src_ip",
        "peers": "unicast_peer",
    }.items():
        if statement := values.last(keyword):
            sheet.put((*at, thing), statement, f"{one.statement} {keyword}")
    peers = {line.keyword: line for block in one.statement.all("unicast_peer") for line in block.block or ()}
    for number, line in enumerate(peers.values()):
        sheet.put((*at, "peers", number), line, f"{one.statement} unicast_peer")
    least, most = _hops(peers.values(), sheet)
    preempt_delay = values.number("preempt_delay", 0)
    adverts = values.whole("down_timer_adverts", settings.down_timer_adverts)
    strict = values.switch("strict_mode", settings.strict)
    return core.Vrrp(
        interface=interface,
        vrid=one.vrid,
        priority=one.priority,
        source=source,
        peers=one.peers,
        version=one.version,
        advert_interval=one.advert_interval,
        preempt=one.preempt,
        preempt_delay=0 if one.state == "MASTER" or not one.preempt or strict else preempt_delay,
        auth_pass=one.auth_pass if one.auth_type == "PASS" else "",
        min_ttl=least,
        max_ttl=most,
        ttl=values.whole("unicast_ttl", 255),
        group=_group(one, values, reading),
        begins_as_master=_begins_as_master(one, reading.conf),
        down_timer_adverts=3 if strict else adverts,
        startup_delay=settings.startup_delay,
        tracks_interface=not values.flag("dont_track_primary"),
        sends_before_yielding=values.switch("higher_prio_send_advert", settings.sends_before_yielding),
        answers_lower=not values.switch("lower_prio_no_advert", not settings.answers_lower or strict),
        owner_ignores_adverts=values.switch("owner_ignore_adverts", settings.owner_ignores_adverts),
        checksum_as_v2=values.switch("v3_checksum_as_v2", settings.checksum_as_v2),
        checks_source=not one.peers
        or values.switch("check_unicast_src", settings.checks_source)
        or (least, most) != (0, 255),
        hmac=hmac(one.statement, sheet),
        garps=_garps(values, settings.garps, strict=strict),
    )


def _begins_as_master(one: Instance, conf: KeepalivedConf) -> bool:
    """Of a group all members or none."""
    groups = [group for group in conf.groups if one.name in group.members]
    members = [each for each in conf.instances if groups and each.name in groups[0].members]
    return one.state == "MASTER" and all(each.state == "MASTER" and each.priority == 255 for each in members)


def _garps(values: Values, default: core.Garps, *, strict: bool) -> core.Garps:
    found = replace(
        default,
        repeat=values.whole("garp_master_repeat", default.repeat),
        delay=values.number("garp_master_delay", default.delay),
        lower_repeat=values.whole("garp_lower_prio_repeat", default.lower_repeat),
        lower_delay=values.number("garp_lower_prio_delay", default.lower_delay),
        refresh=values.number("garp_master_refresh", default.refresh),
        refresh_repeat=values.whole("garp_master_refresh_repeat", default.refresh_repeat),
    )
    # Without adverts that answer lower ones there is nothing to repeat.
    return replace(found, lower_repeat=0, lower_delay=0) if strict else found


def _group(one: Instance, values: Values, reading: Reading) -> Address | None:
    kind: type[Address] = IPv6Address if one.is_ipv6 else IPv4Address
    own = values.last("mcast_dst_ip")
    found = multicast_group(own, kind, reading.sheet) if own else None
    if one.peers:
        return None  # adverts go to them
    return found or next((group for group in reading.settings.groups if isinstance(group, kind)), None)


def _hops(peers: Iterable[Statement], sheet: Sheet) -> tuple[int, int]:
    """The TTL that adverts have at least and at most; keepalived says it for each peer."""
    found = []
    for line in peers:
        given = dict(zip(line.words[1::2], line.words[2::2], strict=False))
        found.append((_ttl(given.get("min_ttl", ""), 0), _ttl(given.get("max_ttl", ""), 255), line))
    if not found:
        return 0, 255
    least, most = min(each[0] for each in found), max(each[1] for each in found)
    for low, high, line in found:
        if (low, high) != (least, most):
            what = f"{line}: floatip has one range for all peers of an instance, {least} to {most}"
            sheet.warning(line, what, "give all peers the same min_ttl and max_ttl")
    return least, most


def _ttl(text: str, default: int) -> int:
    return min(int(text), 255) if re.fullmatch("[0-9]{1,3}", text) else default


def _first_address(one: Instance, reading: Reading, floating: set[Address]) -> Address:
    """What keepalived takes for the source: the first of the interface, of IPv6 the link-local one."""
    version = 6 if one.is_ipv6 else 4
    if not reading.machine:
        return NOWHERE[version]
    here: list[Address] = [each.ip for each in reading.machine.interfaces.get(one.interface, ())]
    here = [each for each in here if each.version == version]
    usable = [each for each in here if each not in floating and (version == 4 or each.is_link_local)]
    if not usable:
        kind = "link-local IPv6 address" if version == 6 else "IPv4 address of its own"
        what = f"{one.statement}: no unicast_src_ip, and {one.interface or 'this machine'} has no {kind} now"
        hint = "add unicast_src_ip and this node's own address: then floatip starts, and waits for it"
        reading.sheet.on_machine(one.statement, what, hint)
    return usable[0] if usable else NOWHERE[version]


def _interface_of(one: Instance, source: Address, reading: Reading) -> str:
    """keepalived 2.4 allows an instance without interface where it has a source."""
    if not reading.machine:
        return ""
    found = reading.machine.interface_of(source)
    if not found:
        what = f"{one.statement}: no interface, and no interface has {source} now"
        reading.sheet.on_machine(one.statement, what, "add interface and its name")
    return found


def _addresses(
    one: Instance, at: Thing, interface: str, reading: Reading
) -> tuple[tuple[InterfaceAddress, ...], tuple[core.AddressOptions, ...]]:
    """All that are held, each once, and what is special about them."""
    found: dict[Address, InterfaceAddress] = {}
    options = []
    if not one.addresses:
        reading.sheet.places.spoil(at)  # an instance that only elects: no rule asks for addresses
    for virtual in (*one.addresses, *one.excluded):
        address = virtual.address
        if address.ip in found:
            hint = "remove one of the two"
            reading.sheet.warning(virtual.statement, f"{virtual.statement}: twice in {one.statement}", hint)
            continue
        if address.ip.is_unspecified or address.ip.is_multicast or address.ip.is_loopback:
            what = f"{virtual.statement}: no address of one host"
            reading.sheet.error(virtual.statement, what, "give the floating address that clients connect to")
            continue
        reading.sheet.put((*at, len(found)), virtual.statement, f"{one.statement} virtual_ipaddress")
        found[address.ip] = address
        option = _options(virtual, interface, reading, is_advertised=virtual in one.addresses)
        if _says_something(option):
            options.append(option)
    if one.addresses:
        reading.sheet.places.given.add(at)
    return tuple(found.values()), tuple(options)


def _options(virtual: VirtualAddress, own: str, reading: Reading, *, is_advertised: bool) -> core.AddressOptions:
    words, options = virtual.statement.words, address_options(virtual.statement)
    device = virtual.interface or reading.settings.default_interface or own
    if reading.has_bgp and _is_alone(virtual.address) and options.get("dev", "lo") != "lo":
        what = f"{virtual.statement}: an address that BGP announces is on lo of each node, not on {device}"
        reading.sheet.note(virtual.statement, what, "write dev lo, or leave dev out")
    is_ipv6 = virtual.address.version == 6
    lifetime = options.get("preferred_lft", "0" if virtual.address.network.prefixlen == 128 else "forever")
    return core.AddressOptions(
        virtual.address,
        interface="" if device == own else device,
        label="" if is_ipv6 else options.get("label", ""),
        scope=None if is_ipv6 else _scope(virtual, options.get("scope", ""), reading.sheet),
        is_advertised=is_advertised,
        is_tracked="no_track" not in words,
        preferred_lft=_seconds(virtual, lifetime, reading.sheet) if is_ipv6 else None,
    )


def _scope(virtual: VirtualAddress, text: str, sheet: Sheet) -> int | None:
    if not text:
        return None
    number = SCOPES.get(text, int(text) if re.fullmatch("[0-9]{1,3}", text) else 256)
    if number > 255:
        what = f"{virtual.statement}: no such scope, so the kernel's choice counts"
        sheet.warning(virtual.statement, what, f"write one of {', '.join(SCOPES)}")
        return None
    return number


def _seconds(virtual: VirtualAddress, text: str, sheet: Sheet) -> int:
    if text == "forever":
        return FOREVER
    if not re.fullmatch("[0-9]{1,10}", text) or int(text) > FOREVER:
        what = f"{virtual.statement}: preferred_lft {text} is no number of seconds, so it is preferred without limit"
        sheet.warning(virtual.statement, what, "write seconds, or forever")
        return FOREVER
    return int(text)


def _says_something(option: core.AddressOptions) -> bool:
    return option != core.AddressOptions(option.address)


def _is_alone(address: InterfaceAddress) -> bool:
    """Whether it is all of its network, as what BGP announces must be."""
    return address.network.prefixlen == address.max_prefixlen


def _used_by_addresses(one: Instance, options: Iterable[core.AddressOptions]) -> dict[str, Statement]:
    """Interfaces of addresses without no_track: keepalived tracks them."""
    interfaces = {option.address: option.interface for option in options if option.is_tracked and option.interface}
    virtuals = [each for each in (*one.addresses, *one.excluded) if each.address in interfaces]
    return {interfaces[each.address]: each.statement for each in reversed(virtuals)}


def _used_by_virtuals(one: Instance) -> dict[str, Statement]:
    """Of rules iif and oif. Interfaces of several next hops do not count."""
    found = dict[str, Statement]()
    for keyword, names in (("virtual_routes", ("dev", "oif")), ("virtual_rules", ("iif", "oif", "dev"))):
        for line in [line for block in one.statement.all(keyword) for line in block.block or ()]:
            if not {"no_track", "nexthop"} & set(line.words):
                found |= {name: line for word, name in pairwise(line.words) if word in names}
    return found


def _virtuals(one: Instance, at: Thing, sheet: Sheet) -> Iterator[core.Virtual]:
    kinds: tuple[tuple[str, Literal["route", "rule"]], ...] = (("virtual_routes", "route"), ("virtual_rules", "rule"))
    for keyword, kind in kinds:
        lines = (line for block in one.statement.all(keyword) for line in block.block or ())
        for number, line in enumerate(lines):
            sheet.put((*at, f"{kind}s", number), line, f"{one.statement} {keyword}")
            words = tuple(word for word in line.words if word != "no_track")
            yield core.Virtual(kind, words, is_tracked="no_track" not in line.words)


def groups(reading: Reading) -> Iterator[core.SyncGroup]:
    taken: dict[str, Group] = {}
    for number, group in enumerate(reading.conf.groups):
        reading.sheet.put(("sync_group", number), group.statement, str(group.statement))
        members = []
        for member in dict.fromkeys(group.members):
            if (first := taken.setdefault(member, group)) is group:
                members.append(member)
            else:
                what = f"{group.statement}: {member} is in {first.statement} already, where it stays"
                reading.sheet.warning(group.statement, what, f"remove {member} from one of the two")
        faults, tracks = reading.checks.of(group)
        weighs = _members_have_weights(group, reading.sheet)
        if members:
            yield core.SyncGroup(group.name, tuple(members), tuple(faults), tuple(tracks), weighs)


def _members_have_weights(group: Group, sheet: Sheet) -> bool:
    values = Values(group.statement.block or (), "vrrp_sync_group", sheet)
    return values.flag("sync_group_tracking_weight") or values.flag("global_tracking")


def priorities(reading: Reading) -> frozenset[str]:
    """Instances of which each change of priority is told."""
    found = set()
    for one in reading.conf.instances:
        values = Values(one.statement.block or (), "vrrp_instance", reading.sheet)
        if values.switch("notify_priority_changes", reading.settings.tells_priorities):
            found.add(one.name)
    return frozenset(found)
