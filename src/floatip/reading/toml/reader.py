"""floatip.toml read into the model."""

from collections.abc import Iterator
from typing import Any

from floatip.core import settings as core
from floatip.core.bgp.rank import Rank
from floatip.model import (
    PRIORITY,
    Link,
    Listener,
    LocalKeepalived,
    Model,
    Network,
    Notify,
    RankMarks,
    instance,
    network,
)
from floatip.providers import PROVIDERS, linode
from floatip.reading.place import ConfigError, ConfigErrors, Places, Problem
from floatip.reading.toml import checks
from floatip.reading.toml.document import Document
from floatip.reading.toml.tables import ELECTIONS, TOP
from floatip.reading.toml.walk import Walk

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
        checks=tuple(map(checks.check_of, read.get("check", ()))),
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
    problems = [*walk.problems, *checks.means_nothing(places), *_elections(document, places)]
    problems += [*_open_to_all(document, places, has_secret=has_secret)]
    return model, places, problems


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
