"""Names: each once, and each that is used is there."""

from collections.abc import Iterable, Iterator

from floatip.core.settings import Instance, Keepalived, Node, Static, SyncGroup
from floatip.model import Bgp, Check, File, Interface, Model, Process, Value, is_exclusive
from floatip.reading.place import Places, Problem, Thing
from floatip.reading.rules.parts import elections, floating, instances, looked_at, tracking
from floatip.reading.words import closest, shown

NOT_THE_SERVICE = File, Value, Interface, Bgp
COMM_LENGTH = 15
"""What the kernel keeps of the name of a process."""


def repeated(model: Model, places: Places) -> Iterator[Problem]:
    def once(things: Iterable[tuple[Thing, str]], hint: str) -> Iterator[Problem]:
        first: dict[str, Thing] = {}
        for thing, value in things:
            if value and (earlier := first.setdefault(value, thing)) != thing:
                first_place, place = places.place(earlier), places.place(thing)
                where = f"line {first_place.line}" + f" of {first_place.file}" * (first_place.file != place.file)
                yield places.error(thing, f"{value} is taken by {where}", hint)

    named: dict[str, Iterable[Check | Instance | Node | SyncGroup]]
    nodes = () if model.member else model.nodes
    named = {"node": nodes, "check": model.checks, "instance": model.instances, "sync_group": model.sync_groups}
    for kind, items in named.items():
        names = (((*at, "name"), one.name and f'"{one.name}"') for at, one in places.each((kind,), items))
        yield from once(names, f"give each {kind} a name of its own")
    # A virtual router is one of a vrid and a version of IP (RFC 9568 section 1.4).
    vrids = (
        ((*at, "vrid"), f"{one.vrid} on {one.interface}" + " for IPv6" * (one.source.version == 6))
        for at, one in elections(model, places)
        if one.vrid and one.interface
    )
    yield from once(vrids, "give two instances on one interface two vrids")
    followed = ((at, one.instance) for at, one in elections(model, places) if isinstance(one, Keepalived))
    quoted = (((*at, "instance"), name and f'"{name}"') for at, name in followed)
    yield from once(quoted, "name another one of keepalived's instances")
    addresses = ((at, str(one.ip)) for at, one in floating(model, places))
    yield from once(addresses, "list each address once, in one instance")


def checks(model: Model, places: Places) -> Iterator[Problem]:
    names = [check.name for check in model.checks if check.name]
    used: set[str] = set()
    for thing, name in _uses(model, places):
        used.add(name)
        if name and name not in names:
            others = f"the checks are {', '.join(names)}" if names else "add a [[check]]"
            hint = f'did you mean "{close}"?' if (close := closest(name, names)) else others
            yield places.error(thing, f"there is no check {shown(name)}", hint)
    for at, check in places.each(("check",), model.checks):
        for thing, name in places.each((*at, "of"), check.policy.of):
            used.add(name)
            if name not in names or name == check.name:
                hint = f"name others of the checks: {', '.join(one for one in names if one != check.name)}"
                what = f"there is no check {shown(name)}" if name not in names else "the check counts itself"
                yield places.error(thing, what, hint)
    for at, check in places.each(("check",), model.checks):
        if check.name not in used and (model.instances or not model.member):
            yield places.warning(at, "no instance uses this check", "name it in the checks of an instance")
        if isinstance(check.kind, Process) and not check.kind.command:
            yield from _process(places, (*at, "process"), check.kind.process)


def _uses(model: Model, places: Places) -> Iterator[tuple[Thing, str]]:
    for at, one in tracking(model, places):
        yield from places.each((*at, "checks"), one.checks)
        for thing, track in places.each((*at, "tracks"), one.tracks):
            yield (*thing, "check"), track.check


def unwatched(model: Model, places: Places) -> Iterator[Problem]:
    """A trigger file tells of an administrator, not of a service. Where keepalived elects, its own checks count."""
    kind_of = {check.name: check.kind for check in model.checks}
    triggers = {name for name, kind in kind_of.items() if isinstance(kind, NOT_THE_SERVICE)}
    for at, instance in instances(model, places):
        is_known = all(map(places.is_whole, ((*at, "checks"), (*at, "tracks"), ("check",), ("sync_group",))))
        names = looked_at(model, instance)
        if is_known and not isinstance(instance.election, Keepalived) and triggers.issuperset(names):
            kinds = {"an interface" if isinstance(kind_of[name], Interface) else "a file" for name in names}
            only = f" but {' and '.join(sorted(kinds))}" if names else ""
            what = f"nothing{only} is checked: this node keeps the traffic even while the service is down"
            hint = 'add [[check]] name = "haproxy", process = "haproxy"; and to the instance: checks = ["haproxy"]'
            if places.is_keepaliveds:
                hint = "add a vrrp_track_process with process haproxy, and track_process to the instance"
            yield places.warning((*at, "checks"), what, hint)


def _process(places: Places, thing: Thing, process: str) -> Iterator[Problem]:
    if "/" in process and not process.startswith("/"):
        hint = 'write a name as pgrep -x finds it, or a pid file: "/run/haproxy.pid"'
        yield places.error(thing, f"{shown(process)} is neither a name nor an absolute path", hint)
    elif len(process.encode()) > COMM_LENGTH and not process.startswith("/"):
        kept = process.encode()[:COMM_LENGTH].decode(errors="ignore")
        hint = f"the kernel keeps {COMM_LENGTH} of a name: write {shown(kept)}"
        yield places.error(thing, f"{shown(process)} is longer than {COMM_LENGTH} octets", hint)


def present(model: Model, places: Places) -> Iterator[Problem]:
    if not model.instances and ("instance",) not in places.given and model.member:
        what = "there is no [[instance]] here, and the fleet's configuration is not known on this machine"
        yield places.warning((), what, "the daemon learns it from etcd; see it: floatip fleet get")
    elif not model.instances and ("instance",) not in places.given:
        yield places.error((), "there is no [[instance]]", "add one: it names the addresses to keep")
    follows = any(isinstance(instance.election, Keepalived) for instance in model.instances)
    if ("keepalived",) in places.given and not follows and places.is_whole(("instance",)):
        hint = "give an instance keepalived = { ... } in place of vrrp, or remove the table"
        yield places.warning(("keepalived",), "no instance follows keepalived", hint)


def without_bgp(model: Model, places: Places) -> Iterator[Problem]:
    if model.network:
        return
    hint = "add [linode] or [bgp], or let vrrp elect"
    for at, instance in instances(model, places):
        if instance.placement == "all" and not is_exclusive(instance.election):
            what = '"all" needs BGP to lead traffic to one node'
            yield places.error((*at, "placement"), what, 'add [linode] or [bgp], or write placement = "master"')
        if isinstance(instance.election, Static) and (*at, "static") in places.given:
            yield places.error((*at, "static"), "a fixed role is nothing but a BGP rank", hint)
        if isinstance(instance.election, Keepalived):
            what = "keepalived elects and holds the address, so there is nothing left to do"
            yield places.error((*at, "keepalived"), what, hint)
    is_meant = all(
        (*at, "placement") in places.given or is_exclusive(one.election) for at, one in instances(model, places)
    )
    if model.instances and places.is_whole(("instance",)) and not is_meant:
        hint = 'add [linode] or [bgp], or write placement = "master" if the nodes share one layer 2'
        yield places.warning((), "there is no [linode] and no [bgp]: nothing is announced by BGP", hint)


RULES = (repeated, checks, unwatched, present, without_bgp)
