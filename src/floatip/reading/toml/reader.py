"""floatip.toml read into the model."""

from collections.abc import Iterator
from typing import Any

from floatip.core import settings as core
from floatip.core.bgp.rank import Rank
from floatip.model import (
    DAEMON,
    PRIORITY,
    WATCHED,
    Bgp,
    Check,
    Dns,
    File,
    Haproxy,
    Http,
    Icmp,
    Interface,
    Kind,
    Link,
    Listener,
    LocalKeepalived,
    Model,
    Network,
    Notify,
    Process,
    Quorum,
    RankMarks,
    RunAs,
    Script,
    Systemd,
    Tcp,
    Value,
    check,
    instance,
    network,
)
from floatip.providers import PROVIDERS, linode
from floatip.reading.place import ConfigError, ConfigErrors, Places, Problem
from floatip.reading.toml.document import Document
from floatip.reading.toml.tables import CHECK, CHECK_KINDS, CHECK_POLICY, ELECTIONS, TOP
from floatip.reading.toml.walk import Walk

TIMING = ("interval", "timeout", "fast_interval", "rise", "fall", "master_rise", "master_fall")
NOT_ASKED = (*WATCHED, Quorum, Bgp)
UNASKED = {
    key: f"remove it: {what} is watched, not asked, and each change counts at once"
    for key, what in {
        "file": "a file",
        "value": "a file",
        "process": "a process",
        "interface": "an interface",
        "systemd": "a unit",
    }.items()
} | {
    "bgp": "remove it: floatip knows its sessions, and each change counts at once",
    "of": "remove it: each change of the other checks counts at once",
}
"""Kinds for which no time is kept, and what to do about keys of it."""
NEEDED = (("haproxy", "backend", '"web"'), ("of", "quorum", "2"))
"""What a kind must have beside its own key."""
BESIDE = (
    ("overwrite", "init", "add init = 0: it is what is written"),
    ("param_match", "command", 'add command = ["/usr/sbin/haproxy", "-W"]'),
)
"""Keys that mean nothing without another one."""
NODES = ("prefer", "together", "apart", "preempt", "preempt_delay")
"""Keys of an instance for the election of the nodes."""
BELONGS = "remove it: it is for an instance that the nodes elect, which has no vrrp, keepalived or static"
HINTS = {
    ("vrrp", "prefer"): "write a priority into vrrp: the node with the higher one becomes master",
    ("vrrp", "preempt"): "move it into vrrp, which has a preempt of its own",
    ("vrrp", "preempt_delay"): "move it into vrrp, which has a preempt_delay of its own",
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


def model_of(document: Document) -> tuple[Model, Places, list[Problem]]:
    """With what is wrong with each value."""
    walk = Walk(document)
    read = walk.table(TOP, document.data, ())
    places = walk.places
    net = _network(read, places)
    model = Model(
        checks=tuple(map(_check, read.get("check", ()))),
        instances=tuple(_instance(one, places, has_bgp=net is not None) for one in read.get("instance", ())),
        network=net,
        nodes=tuple(core.Node(**one) for one in read.get("node", ())),
        link=Link(**read.get("link", {})),
        keepalived=LocalKeepalived(**read.get("keepalived", {})),
        notify=Notify(**read["notify"]) if "notify" in read else None,
        http=Listener(**read["http"]) if "http" in read else None,
        **{key: read[key] for key in ("log", "state_log", "release_delay") if key in read},
    )
    has_secret = any(thing[-1] in ("md5", "auth_pass") for thing in places.given)
    problems = [*walk.problems, *_means_nothing(places), *_elections(document, places)]
    problems += [*_open_to_all(document, places, has_secret=has_secret)]
    return model, places, problems


def _check(read: dict[str, Any]) -> Check:
    kind = _kind(read)
    policy = {key: read[key] for key in CHECK_POLICY if key in read}
    if isinstance(kind, NOT_ASKED):
        policy = {key: value for key, value in policy.items() if key not in TIMING}
    elif "interval" in policy:
        policy.setdefault("timeout", policy["interval"])
    return check(read["name"], kind, **policy)


def _kind(read: dict[str, Any]) -> Kind | None:
    named = next((key for key in CHECK_KINDS if key in read), None)
    if named is None:
        return None
    value, own = read[named], {key: read[key] for key in CHECK_KINDS[named][1] if key in read}
    match named:
        case "script":
            return Script(value, RunAs(**own) if own else DAEMON)
        case "tcp":
            return Tcp(*value)
        case "process":
            return Process(value, **own)
        case "file":
            return File(value, **own)
        case "value":
            return Value(value, own.get("init"), own.get("overwrite", False))
        case "http":
            return Http(value, **own)
        case "dns":
            return Dns(**value)
        case "icmp":
            return Icmp(value, **{key: str(address) for key, address in own.items()})
        case "interface":
            return Interface(value)
        case "haproxy":
            return Haproxy(value, **{"backend": ""} | own)
        case "systemd":
            return Systemd(value)
        case "bgp":
            return Bgp(value)
    return Quorum(value, own.get("quorum", 1))


def _instance(read: dict[str, Any], places: Places, *, has_bgp: bool) -> core.Instance:
    others = {key: read[key] for key in ("checks", "placement", "interface", "last_resort") if key in read}
    return instance(read["name"], read["addresses"], _election(read, places), has_bgp=has_bgp, **others)


def _election(read: dict[str, Any], places: Places) -> core.Election:
    if "vrrp" in read:
        return core.Vrrp(**{"priority": PRIORITY} | read["vrrp"])
    if "keepalived" in read:
        return core.Keepalived(**{"priority": PRIORITY, "instance": read["name"]} | read["keepalived"])
    if "static" not in read and ("node",) in places.given:
        return core.Nodes(**{key: read[key] for key in NODES if key in read})
    # Where it was refused or is missing, the one about which the rules ask least.
    return core.Static(read.get("static", "secondary"))


def _network(read: dict[str, Any], places: Places) -> Network | None:
    if not places.given & {("linode",), ("bgp",)}:
        return None
    bgp = dict(read.get("bgp", {}))
    provider = PROVIDERS[bgp.pop("provider", "generic")]
    if ("linode",) in places.given:
        provider = linode(read.get("linode", {"dcid": 0})["dcid"])
    ranks = {Rank[name.upper()]: RankMarks(**marks) for name, marks in bgp.pop("ranks", {}).items()}
    return network(provider, ranks=ranks, **bgp)


def _means_nothing(places: Places) -> Iterator[Problem]:
    """Keys that the model of a check has no room for, and those that a kind must have."""
    for at in sorted({thing[:2] for thing in places.given if thing[0] == "check" and len(thing) == 3}, key=str):
        given = [key for key in CHECK.keys if (*at, key) in places.given]
        kinds = [key for key in CHECK_KINDS if key in given]
        if len(kinds) != 1:
            continue  # that is said already
        named = kinds[0]
        for key in given:
            owners = _owners(key)
            if key in TIMING and named in UNASKED:
                yield places.warning((*at, key), f"means nothing beside {named}", UNASKED[named])
            elif owners and named not in owners:
                hint = f"remove it, or give {' or '.join(owners)} in place of {named}"
                yield places.error((*at, key), f"means nothing without {' or '.join(owners)}", hint)
        for kind, key, example in NEEDED:
            if named == kind and key not in given:
                yield places.error((*at, key), "missing", f"add it, for example {key} = {example}")
        for key, needed, why in BESIDE:
            if key in given and needed not in given and named in _owners(key):
                yield places.error((*at, key), f"means nothing without {needed}", why)


def _owners(key: str) -> list[str]:
    return [kind for kind, (_, own) in CHECK_KINDS.items() if key in own]


def _elections(document: Document, places: Places) -> Iterator[Problem]:
    """An instance is elected by one of its tables, or else by the nodes; each has keys of its own."""
    has_nodes = ("node",) in places.given
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


def _open_to_all(document: Document, places: Places, *, has_secret: bool) -> Iterator[Problem]:
    if has_secret and document.mode & 0o004:
        hint = f"chown root:floatip {document.file} && chmod 640 {document.file}"
        yield places.warning((), "holds a password, and every user of this machine can read it", hint)
