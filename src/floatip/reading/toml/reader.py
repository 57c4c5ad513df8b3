"""floatip.toml read into the model."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal, get_args

from floatip.core import settings as core
from floatip.core.bgp.rank import Rank
from floatip.model import (
    PRIORITY,
    Etcd,
    Fifo,
    Link,
    Listener,
    LocalKeepalived,
    Member,
    Model,
    Network,
    Notify,
    NotifyEvent,
    RankMarks,
    RunAs,
    SecondChance,
    Told,
    instance,
    network,
    usual_version,
)
from floatip.providers import PROVIDERS, linode
from floatip.reading.place import ConfigError, ConfigErrors, Places, Problem, Thing
from floatip.reading.toml import checks
from floatip.reading.toml.document import Document
from floatip.reading.toml.tables import ADDRESS, ELECTIONS, GARP, HMAC, INSTANCE, NODES, TOP, VRRP, Table
from floatip.reading.toml.values import AUTO
from floatip.reading.toml.walk import Walk
from floatip.reading.words import shown

FIGURES = ("checks", "placement", "interface", "last_resort", "announce")
"""Keys of an instance that are fields of the model, of whichever election."""
HMAC_KEYS = ("vrrp", "auth_hmac", "keys")
BELONGS = "remove it: it is for an instance that the nodes elect, which has no vrrp, keepalived or static"
EXCLUSIVE = "remove {}: only where the nodes elect can etcd decide who holds it; or remove exclusive"
HINTS = {
    ("vrrp", "prefer"): "write a priority into vrrp: the node with the higher one becomes master",
    ("vrrp", "preempt"): "move it into vrrp, which has a preempt of its own",
    ("vrrp", "preempt_delay"): "move it into vrrp, which has a preempt_delay of its own",
    ("vrrp", "exclusive"): EXCLUSIVE.format("vrrp"),
    ("keepalived", "exclusive"): EXCLUSIVE.format("keepalived"),
    ("static", "exclusive"): EXCLUSIVE.format("static"),
    ("keepalived", "prefer"): "remove it: the priority in keepalived.conf says which node is preferred",
    ("keepalived", "preempt"): "remove it: keepalived.conf says it, by nopreempt",
    ("keepalived", "preempt_delay"): "remove it: keepalived.conf says it, by preempt_delay",
}
"""For keys of the nodes' election, by what elects instead."""


def accepted(document: Document) -> tuple[Model, Places]:
    """Raises `ConfigErrors`. No rule has seen the model."""
    model, places, problems = model_of(document)
    if errors := [problem for problem in problems if isinstance(problem, ConfigError)]:
        raise ConfigErrors(errors)
    return model, places


def with_dcid(document: Document, dcid: int | str | None) -> tuple[Document, list[Problem]]:
    """`dcid`: what the command line says, which must agree with the file; a number, or "auto"."""
    if dcid is None:
        return document, []
    given = document.data.get("linode")
    named = given.get("dcid", dcid) if isinstance(given, dict) else dcid
    data = document.data | {"linode": {"dcid": dcid}}
    problems: list[Problem] = []
    if named != dcid:
        at = ("linode", "dcid")
        what = f"{shown(named)} is not {dcid}, which --dcid says"
        problems.append(ConfigError(*document.place(at), "linode.dcid", what, "leave out one of the two"))
    return replace(document, data=data), problems


def model_of(document: Document) -> tuple[Model, Places, list[Problem]]:
    """With what is wrong with each value."""
    walk = Walk(document)
    read = walk.table(TOP, document.data, ())
    places = walk.places
    net = _network(read, places)
    instances, groups = read.get("instance", ()), read.get("sync_group", ())
    told = [*(one for each in instances for one in _told("INSTANCE", each))]
    told += [one for each in groups for one in _told("GROUP", each)]
    model = Model(
        checks=tuple(map(checks.check_of, read.get("check", ()))),
        instances=tuple(
            _instance(one, places, at, has_bgp=net is not None) for at, one in places.each(("instance",), instances)
        ),
        sync_groups=tuple(map(_sync_group, groups)),
        network=net,
        nodes=tuple(core.Node(**one) for one in read.get("node", ())),
        link=Link(**read.get("link", {})),
        etcd=Etcd(**read["etcd"]) if "etcd" in read else None,
        member=_member(read, places),
        second_chance=SecondChance(**read["second_chance"]) if "second_chance" in read else None,
        keepalived=LocalKeepalived(**read.get("keepalived", {})),
        notify=Notify(**read["notify"]) if "notify" in read else None,
        told=tuple(told),
        fifos=tuple(map(_fifo, read.get("fifo", ()))),
        tells_priorities=frozenset(one["name"] for one in instances if one.get("notify", {}).get("priority_changes")),
        http=Listener(**read["http"]) if "http" in read else None,
        **{key: read[key] for key in ("log", "state_log", "release_delay") if key in read},
    )
    has_secret = any(thing[-1] in ("md5", "auth_pass") or thing[-5:-2] == HMAC_KEYS for thing in places.given)
    problems = [*walk.problems, *checks.means_nothing(places), *_elections(document, places)]
    problems += [*_open_to_all(document, places, has_secret=has_secret), *_remembered(document, places)]
    return model, places, problems


def _instance(read: dict[str, Any], places: Places, at: Thing, *, has_bgp: bool) -> core.Instance:
    tables = [one if isinstance(one, dict) else {"address": one} for one in read["addresses"]]
    options = [core.AddressOptions(**_fields(ADDRESS, one)) for one in tables]
    figures = _fields(INSTANCE, {key: read[key] for key in FIGURES if key in read})
    return instance(
        read["name"],
        tuple(one.address for one in options),
        _election(read, places, at),
        has_bgp=has_bgp,
        **figures,
        tracks=_tracks(read),
        options=tuple(one for one in options if one != core.AddressOptions(one.address)),
        virtuals=(*_virtuals("route", read), *_virtuals("rule", read)),
    )


def _fields(table: Table, read: dict[str, Any]) -> dict[str, Any]:
    """By the names that the model has."""
    return {table.keys[key].field or key: value for key, value in read.items()}


def _tracks(read: dict[str, Any]) -> tuple[core.Track, ...]:
    return tuple(core.Track(**one) for one in read.get("tracks", ()))


def _virtuals(kind: Literal["route", "rule"], read: dict[str, Any]) -> Iterator[core.Virtual]:
    for one in read.get(f"{kind}s", ()):
        table = one if isinstance(one, dict) else {kind: one}
        yield core.Virtual(kind, table[kind], table.get("tracked", True))


def _sync_group(read: dict[str, Any]) -> core.SyncGroup:
    figures = {key: read[key] for key in ("checks", "members_have_weights") if key in read}
    return core.SyncGroup(read["name"], read["members"], tracks=_tracks(read), **figures)


def _told(kind: Literal["INSTANCE", "GROUP"], read: dict[str, Any]) -> Iterator[Told]:
    table = read.get("notify", {})
    for event in get_args(NotifyEvent):
        if event in table:
            one = table[event] if isinstance(table[event], dict) else {"command": table[event]}
            run_as = one if one.keys() & {"user", "group"} else table
            timeout = one.get("timeout", table.get("timeout", 0.0))
            yield Told(kind, read["name"], event, one["command"], _run_as(run_as), timeout)


def _run_as(read: dict[str, Any], prefix: str = "") -> RunAs:
    return RunAs(read.get(f"{prefix}user", ""), read.get(f"{prefix}group", ""))


def _fifo(read: dict[str, Any]) -> Fifo:
    figures = {key: read[key] for key in ("script", "on_reload") if key in read}
    return Fifo(read["path"], _run_as(read), run_as=_run_as(read, "script_"), **figures)


def _election(read: dict[str, Any], places: Places, at: Thing) -> core.Election:
    if "vrrp" in read:
        return _vrrp(read["vrrp"], places, (*at, "vrrp"))
    if "keepalived" in read:
        return core.Keepalived(**{"priority": PRIORITY, "instance": read["name"]} | read["keepalived"])
    if "static" not in read and _has_nodes(places):
        usual = {"on_arbiter_loss": "release"} if read.get("exclusive") else {}
        return core.Nodes(**usual | {key: read[key] for key in NODES if key in read})
    # Where it was refused or is missing, the one about which the rules ask least.
    return core.Static(read.get("static", "secondary"))


def _has_nodes(places: Places) -> bool:
    """Named in the file, or known by etcd."""
    return bool(places.given & {("node",), ("etcd",), ("member",)})


def _member(read: dict[str, Any], places: Places) -> Member | None:
    """With etcd this node registers itself, unless the file names all nodes."""
    if ("node",) in places.given or not places.given & {("etcd",), ("member",)}:
        return None
    return Member(**read.get("member", {}))


def _vrrp(read: dict[str, Any], places: Places, at: Thing) -> core.Vrrp:
    figures: dict[str, Any] = {"priority": PRIORITY, "peers": (), "version": usual_version(read["source"])} | _fields(
        VRRP, read
    )
    if "garp" in read:
        figures["garps"] = core.Garps(**_fields(GARP, read["garp"]))
    if "auth_hmac" in read:
        figures["hmac"] = _hmac(read["auth_hmac"], places, (*at, "auth_hmac"))
    return core.Vrrp(**figures)


def _hmac(read: dict[str, Any], places: Places, at: Thing) -> core.Hmac:
    """The keys that stand in files are empty: who knows this machine reads them."""
    for thing, one in places.each((*at, "keys"), read["keys"]):
        if "file" in one:
            places.files[(*thing, "file")] = one["file"]
    keys = tuple((one["id"], one.get("key", b"")) for one in read["keys"])
    return core.Hmac(**{"active": keys[0][0] if keys else -1} | _fields(HMAC, read) | {"keys": keys})


def _network(read: dict[str, Any], places: Places) -> Network | None:
    if not places.given & {("linode",), ("bgp",)}:
        return None
    bgp = dict(read.get("bgp", {}))
    provider = PROVIDERS[bgp.pop("provider", "generic")]
    if ("linode",) in places.given:
        provider = linode(read.get("linode", {"dcid": 0})["dcid"])
    ranks = {Rank[name.upper()]: RankMarks(**marks) for name, marks in bgp.pop("ranks", {}).items()}
    return network(provider, ranks=ranks, **bgp)


def _elections(document: Document, places: Places) -> Iterator[Problem]:
    """An instance is elected by one of its tables, or else by the nodes; each has keys of its own."""
    has_nodes = _has_nodes(places)
    tables = document.data.get("instance")
    for index, table in enumerate(tables if isinstance(tables, list) else ()):
        if not isinstance(table, dict):
            continue
        at, given = ("instance", index), table.keys()
        elected = next((key for key in ELECTIONS if key in given), None)
        if not elected and not has_nodes and places.is_whole(("node",)):
            what = "has no vrrp, keepalived or static, and there are no nodes that could elect"
            hint = "add a [[node]] for each node, with its name and address; or give exactly one of the three"
            yield places.error(at, what, hint)
        for key in NODES:
            if elected and key in given:
                yield places.error((*at, key), f"means nothing beside {elected}", HINTS.get((elected, key), BELONGS))
        if not elected and has_nodes and "preempt_delay" in given and table.get("preempt") is not True:
            hint = "add preempt = true, or remove it"
            yield places.warning((*at, "preempt_delay"), "means nothing without preempt = true", hint)


def _remembered(document: Document, places: Places) -> Iterator[Problem]:
    """The data centre is "auto", and what an earlier start was told."""
    at = ("linode", "dcid")
    given = document.data.get("linode")
    if isinstance(given, dict) and given.get("dcid") == AUTO and places.is_whole(at):
        from floatip.linode import region  # noqa: PLC0415

        if (known := region.find()).why:
            what = f"{known.region.dcid} ({known.region.slug}), as Linode's metadata service said at {known.when}"
            hint = f"write dcid = {known.region.dcid}, if that is where this machine is; then the service is not needed"
            yield places.warning(at, f"{what}: {known.why}", hint)


def _open_to_all(document: Document, places: Places, *, has_secret: bool) -> Iterator[Problem]:
    if has_secret and document.mode & 0o004:
        hint = f"chown root:floatip {document.file} && chmod 640 {document.file}"
        yield places.warning((), "holds a password, and every user of this machine can read it", hint)
