"""[[check]] of floatip.toml: read into the model, and written from it."""

from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from floatip.core import settings as core
from floatip.model import (
    DAEMON,
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
    Process,
    Quorum,
    RunAs,
    Script,
    Systemd,
    Tcp,
    Value,
    check,
)
from floatip.reading.place import Places, Problem
from floatip.reading.toml.tables import CHECK, CHECK_KINDS, CHECK_POLICY

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


def check_of(read: dict[str, Any]) -> Check:
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


def values_of(one: Check) -> dict[str, Any]:
    """What `check_of` makes the check from, without defaults."""
    values = {"name": one.name, **_of_kind(one.kind)}
    usual = {field.name: field.default for field in fields(core.Check)} | {"timeout": one.policy.interval}
    for key in CHECK_POLICY:
        value = getattr(one.policy, key)
        if value != usual[key] and not (key in TIMING and isinstance(one.kind, NOT_ASKED)):
            values[key] = value
    return values


def _of_kind(kind: Kind | None) -> dict[str, Any]:
    match kind:
        case Script(argv, run_as):
            return {"script": _command(argv), **_unusual(run_as)}
        case Tcp(host, port):
            return {"tcp": f"[{host}]:{port}" if ":" in host else f"{host}:{port}"}
        case File(path):
            return {"file": str(path), **_unusual(kind)}
        case Value(path, initial, overwrite):
            return {"value": str(path), **_given(init=initial, overwrite=overwrite or None)}
        case Process(name):
            return {"process": name, **_unusual(kind)}
        case Http(url):
            return {"http": url, **_unusual(kind)}
        case Dns():
            return {"dns": {"server": kind.server, **_unusual(kind)}}
        case Icmp(host):
            return {"icmp": host, **_unusual(kind)}
        case Interface(name):
            return {"interface": name}
        case Haproxy(socket):
            return {"haproxy": str(socket), **_given(backend=kind.backend), **_unusual(kind)}
        case Systemd(unit):
            return {"systemd": unit}
        case Bgp(sessions):
            return {"bgp": sessions}
        case Quorum(of, quorum):
            return {"of": list(of), "quorum": quorum}
    return {}


def _command(argv: tuple[str, ...]) -> str | list[str]:
    return argv[0] if len(argv) == 1 else list(argv)


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _unusual(thing: Any) -> dict[str, Any]:
    """The fields that have a default, and another value."""
    own = ((field.name, getattr(thing, field.name), field.default) for field in fields(thing))
    return {name: _written(name, value) for name, value, usual in own if usual is not MISSING and value != usual}


def _written(name: str, value: Any) -> Any:
    match name:
        case "status":
            return [low if low == high else f"{low}-{high}" for low, high in value]
        case "headers" | "header":
            return dict(value)
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value


def means_nothing(places: Places) -> Iterator[Problem]:
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
