"""A model written as floatip.toml, in the order and the layout in which the documentation shows it.

`text` writes all of a model that differs from the defaults; what the reader makes of it is the same model. `table` and
`document` write what is no model yet, for `init`.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, get_args

from floatip import model as m
from floatip.core import settings as core
from floatip.core.bgp.rank import Rank
from floatip.model import Model
from floatip.providers import PROVIDERS, linode
from floatip.reading.place import Thing
from floatip.reading.toml import checks
from floatip.reading.toml import tables as t
from floatip.reading.toml import values as v

Values = Mapping[str, object]
Origin = Callable[[Thing], Sequence[str]]
"""Comments above a table: where it comes from."""
WIDTH = 120
BARE = re.compile(r"[A-Za-z0-9_-]+")
"""A key that needs no quotes."""


def text(model: Model, comment: Iterable[str] = (), origin: Origin = lambda thing: ()) -> str:
    top = _keys(t.TOP, model, only=("log", "state_log", "release_delay"))
    return document(comment, top, _tables(model, origin))


def _tables(model: Model, origin: Origin) -> Iterator[list[str]]:
    if model.network:
        yield from _network(model.network)
    for index, node in enumerate(model.nodes):
        yield table("[[node]]", _keys(t.NODE, node), *origin(("node", index)))
    yield table("[link]", _keys(t.LINK, model.link))
    if model.etcd:
        yield table("[etcd]", _keys(t.ETCD, model.etcd))
    if model.member:
        yield table("[member]", _keys(t.MEMBER, model.member))
    if model.second_chance:
        yield table("[second_chance]", _keys(t.SECOND_CHANCE, model.second_chance)) or ["", "[second_chance]"]
    yield table("[keepalived]", _keys(t.KEEPALIVED, model.keepalived))
    for index, check in enumerate(model.checks):
        yield table("[[check]]", checks.values_of(check), *origin(("check", index)))
    for index, one in enumerate(model.instances):
        yield table("[[instance]]", _instance(one, model), *origin(("instance", index)))
    for index, group in enumerate(model.sync_groups):
        values = _keys(t.SYNC_GROUP, group, only=("name", "members", "checks", "tracks", "members_have_weights"))
        values |= _told(model, "GROUP", group.name)
        yield table("[[sync_group]]", values, *origin(("sync_group", index)))
    for index, fifo in enumerate(model.fifos):
        values = _keys(t.FIFO, fifo, only=("path", "script", "on_reload"))
        values |= _run_as(fifo.owner) | _run_as(fifo.run_as, "script_")
        yield table("[[fifo]]", values, *origin(("fifo", index)))
    yield table("[notify]", _keys(t.NOTIFY, model.notify) if model.notify else {})
    if model.http:
        yield table("[http]", _keys(t.HTTP, model.http)) or ["", "[http]"]


# The values of a table


def _keys(table: t.Table, item: Any, only: Iterable[str] = (), **defaults: object) -> dict[str, object]:
    """What must be there, and what differs from the default: that of the model, or the one that is given by its key."""
    usual = {one.name: one.default for one in fields(item)}
    written = {}
    for name in only or table.keys:
        key = table.keys[name]
        value = getattr(item, key.field or name)
        default = defaults.get(name, usual[key.field or name])
        if key.example is not None or default is MISSING or value != default:
            written[name] = _value(key.kind, value)
    return written


def _value(kind: t.Kind, value: Any) -> object:
    match kind:
        case t.Items(one):
            return [_value(one, each) for each in value]
        case t.Table():
            return _keys(kind, value)
        case t.Short(alone, _):
            return _value(alone, value)
        case v.Words():
            return kind.word(value)
    write: Callable[[Any], object] = WORDS.get(kind, lambda value: value)
    return write(value)


def _argv(command: tuple[str, ...]) -> object:
    return list(command) if len(command) > 1 else command[0]


def _endpoint(listener: tuple[str, int]) -> str:
    host, port = listener
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _scope(number: int) -> object:
    return next((name for name, one in v.SCOPES.items() if one == number), number)


WORDS: Mapping[object, Callable[[Any], object]] = {
    v.opposite: lambda value: not value,
    v.command: _argv,
    v.listener: _endpoint,
    v.origin: lambda origin: origin.name.lower(),
    v.scope: _scope,
    v.lifetime: lambda seconds: "forever" if seconds == v.FOREVER else seconds,
    v.words: " ".join,
}
"""How a value of the model is written, by what reads it."""


def _run_as(run_as: m.RunAs, prefix: str = "") -> dict[str, object]:
    return {f"{prefix}{key}": value for key, value in (("user", run_as.user), ("group", run_as.group)) if value}


# The parts of a model


def _network(network: m.Network) -> Iterator[list[str]]:
    profile, speaker = network.profile, network.speaker
    base = linode(profile.dcid) if profile.dcid else PROVIDERS[profile.name]
    named = {"provider": profile.name} if not profile.dcid and profile.name != "generic" else {}
    figures = ["peers", "asn", "peer_asn", "hold_time", *([] if speaker.min_ttl else ["multihop_ttl"])]
    bgp: dict[str, object] = named | {
        key: _value(t.BGP.keys[key].kind, getattr(profile, key))
        for key in figures
        if getattr(profile, key) != getattr(base, key)
    }
    bgp |= {"router_id": network.router_id} if network.router_id else {}
    if network.next_hop != "session":
        bgp["next_hop"] = list(network.next_hop) if isinstance(network.next_hop, tuple) else network.next_hop
    of_speaker = ("retry_interval", "source", "interface", "min_ttl", "md5", "graceful_shutdown")
    bgp |= _keys(t.BGP, speaker, only=of_speaker)
    if speaker.med != "election":
        bgp["med"] = False if speaker.med is None else speaker.med
    ranks = {rank.name.lower(): marks for rank in profile.marks if (marks := _marks(network, rank))}
    if profile.dcid:
        yield table("[linode]", {"dcid": profile.dcid})
    elif not bgp:
        bgp = {"provider": profile.name}
    yield table("[bgp]", bgp)
    for name, marks in ranks.items():
        yield table(f"[bgp.ranks.{name}]", marks)


def _marks(network: m.Network, rank: Rank) -> dict[str, object]:
    """Where a rank does not look as in the provider's profile. Communities replace that one's."""
    usual, marks = network.profile.marks[rank], network.speaker.marks[rank]
    large = network.speaker.large_communities.get(rank, ())
    values: dict[str, object] = {}
    if marks.communities != usual.communities or large:
        values["communities"] = [":".join(map(str, one)) for one in (*marks.communities, *large)]
    if marks.origin != usual.origin:
        values["origin"] = WORDS[v.origin](marks.origin)
    if marks.path_length != usual.path_length:
        values["prepend"] = marks.path_length - 1
    return values


def _instance(one: core.Instance, model: Model) -> dict[str, object]:
    has_bgp, exclusive = model.network is not None and one.is_announced, m.is_exclusive(one.election)
    placement = m.usual_placement(has_bgp=has_bgp, exclusive=exclusive)
    special = {option.address: option for option in one.options}
    values: dict[str, object] = {"name": one.name}
    values["addresses"] = [
        _keys(t.ADDRESS, special[address]) if address in special else str(address) for address in one.addresses
    ]
    if one.placement != placement or not (model.network or exclusive):  # without BGP it shows that this is meant
        values["placement"] = one.placement
    usual = m.usual_interface(one.election, one.placement if one.placement != "found" else "all")
    values |= {"interface": one.interface} if one.interface != usual else {}
    values |= _keys(t.INSTANCE, one, only=("announce", "checks", "tracks", "last_resort"))
    for kind in ("route", "rule"):
        if lines := [_virtual(virtual) for virtual in one.virtuals if virtual.kind == kind]:
            values[f"{kind}s"] = lines
    return values | _election(one) | _told(model, "INSTANCE", one.name)


def _virtual(one: core.Virtual) -> object:
    words = " ".join(one.words)
    return words if one.is_tracked else {one.kind: words, "tracked": False}


def _election(instance: core.Instance) -> dict[str, object]:
    match instance.election:
        case core.Vrrp() as one:
            return {"vrrp": _vrrp(one)}
        case core.Keepalived() as one:
            return {"keepalived": _keys(t.FOLLOWED, one, priority=m.PRIORITY, instance=instance.name, peers=())}
        case core.Static(role):
            return {"static": role}
        case core.Nodes() as one:
            usual = "release" if one.exclusive else "hold"
            return _keys(t.INSTANCE, one, only=t.NODES, on_arbiter_loss=usual)


def _vrrp(one: core.Vrrp) -> dict[str, object]:
    plain = [key for key in t.VRRP.keys if key != "auth_hmac"]
    values = _keys(t.VRRP, one, plain, priority=m.PRIORITY, peers=(), version=m.usual_version(one.source))
    if one.hmac:
        keys = [{"id": number, "key": key.hex()} for number, key in one.hmac.keys]
        others = ("active_key", "mode", "time_window", "anti_replay")
        values["auth_hmac"] = {"keys": keys} | _keys(t.HMAC, one.hmac, others, active_key=one.hmac.keys[0][0])
    return values


def _told(model: Model, kind: str, name: str) -> dict[str, object]:
    told = {one.event: one for one in model.told if (one.kind, one.name) == (kind, name)}
    how = {
        event: _run_as(one.run_as) | ({"timeout": one.timeout} if one.timeout else {}) for event, one in told.items()
    }
    is_alike = len({repr(one) for one in how.values()}) == 1
    values: dict[str, object] = {}
    for event in get_args(m.NotifyEvent):
        if event in told:
            command = _argv(told[event].command)
            values[event] = command if is_alike or not how[event] else {"command": command} | how[event]
    values |= next(iter(how.values())) if is_alike else {}
    if kind == "INSTANCE" and name in model.tells_priorities:
        values["priority_changes"] = True
    return {"notify": values} if values else {}


def _how(told: m.Told) -> dict[str, object]:
    return _run_as(told.run_as) | ({"timeout": told.timeout} if told.timeout else {})


# The text


def table(header: str, values: Values, *comments: str) -> list[str]:
    """Its lines; none for a table without values. What does not fit into a line stands in a table below it."""
    lines, below = [*(f"# {comment}" for comment in comments), header], []
    for key, value in values.items():
        line = f"{key} = {_inline(value)}"
        if isinstance(value, Mapping) and len(line) > WIDTH:
            below += table(f"[{header.strip('[]')}.{key}]", value)
        elif isinstance(value, list) and len(line) > WIDTH:
            lines += [f"{key} = [", *(f"    {_inline(one)}," for one in value), "]"]
        else:
            lines.append(line)
    return ["", *lines, *below] if values else []


def document(comment: Iterable[str], top: Values, tables: Iterable[list[str]]) -> str:
    lines = [f"# {line}".rstrip() for line in comment]
    lines += [f"{key} = {_inline(value)}" for key, value in top.items()]
    return "\n".join([*lines, *(line for one in tables for line in one)]).lstrip("\n") + "\n"


def _escaped(char: str) -> str:
    """Others chose names and commands, and the text may go to a terminal. What is not UTF-8 the reader refuses."""
    return char if char.isprintable() or "\ud800" <= char <= "\udfff" else f"\\U{ord(char):08x}"


def _key(key: str) -> str:
    return key if BARE.fullmatch(key) else _inline(key)


def _inline(value: object) -> str:
    match value:
        case Mapping():
            return f"{{ {', '.join(f'{_key(key)} = {_inline(inner)}' for key, inner in value.items())} }}"
        case list() | tuple():
            return f"[{', '.join(map(_inline, value))}]"
        case float() if value.is_integer():
            return str(int(value))
        case bool() | int() | float():
            return json.dumps(value)
    return "".join(map(_escaped, json.dumps(str(value), ensure_ascii=False)))
