"""Where floatip.toml and the keepalived.conf that it was made from have come to differ."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from floatip.adopt import setup
from floatip.adopt.system import AdoptError, System
from floatip.core.settings import Keepalived
from floatip.reading import ConfigWarning
from floatip.reading.keepalived import Instance, KeepalivedConf, NotUnderstood, Place
from floatip.reading.toml.document import Document, read
from floatip.reading.toml.reader import accepted

HINT = "edit it, then: systemctl reload floatip; or: floatip adopt --force, which rewrites the file"
KEYWORDS = {
    "interface": "interface",
    "vrid": "virtual_router_id",
    "priority": "priority",
    "source": "unicast_src_ip",
    "peers": "unicast_peer",
    "version": "version",
    "advert_interval": "advert_int",
}
"""Keys of floatip.toml and the keywords of keepalived.conf that they must agree with."""


def since_adoption(file: Path, system: System) -> list[ConfigWarning]:
    """Empty where keepalived.conf cannot be read."""
    document = read(str(system.at(file)))
    model, places = accepted(document)
    if os.geteuid() != 0 or not any(isinstance(one.election, Keepalived) for one in model.instances):
        return []
    try:
        conf = setup.configuration(system)
    except AdoptError:
        return []
    except NotUnderstood as error:
        (place, what, hint), *_ = error.errors
        return [places.warning((), f"not compared with keepalived.conf: {place}: {what}", hint)]
    return list(differences(document, conf))


def differences(document: Document, conf: KeepalivedConf) -> Iterator[ConfigWarning]:
    named = {instance.name: instance for instance in conf.instances}
    model, places = accepted(document)
    for here, instance in places.each(("instance",), model.instances):
        followed = instance.election
        if not isinstance(followed, Keepalived):
            continue
        name = followed.instance
        if name not in named:
            there = f"those there are {', '.join(named) or 'none'}"
            what = f"{conf.files[0]} has no vrrp_instance {name}; {there}"
            yield places.warning((*here, "keepalived"), what, HINT)
            continue
        other = named[name]
        moved = tuple(one.address for one in setup.floating(other) if one.address.version == 4)
        ours = tuple(one for one in instance.addresses if one.version == 4)
        if set(ours) != set(moved):
            what = _both(ours, moved, _place(other, "virtual_ipaddress"))
            yield places.warning((*here, "addresses"), what, HINT)
        for key, was, now, place in _followed(followed, other, conf):
            yield places.warning((*here, "keepalived", key), _both(was, now, place), HINT)


def _followed(followed: Keepalived, other: Instance, conf: KeepalivedConf) -> Iterator[tuple[str, Any, Any, Place]]:
    for key, keyword in KEYWORDS.items():
        was, now = getattr(followed, key), getattr(other, key)
        is_same = set(was) == set(now) if key == "peers" else was == now or (key == "source" and now is None)
        if not is_same:
            yield key, was, now, _place(other, keyword)
    group = next((group for group in conf.groups if other.name in group.members), None)
    if followed.sync_group != (group.name if group else ""):
        yield "sync_group", followed.sync_group, group.name if group else "", (group or other).statement.place


def _place(instance: Instance, keyword: str) -> Place:
    return (instance.statement.last(keyword) or instance.statement).place


def _both(was: Any, now: Any, place: Place) -> str:
    return f"{_shown(was)} here, and {_shown(now)} at {place}"


def _shown(value: Any) -> str:
    return (", ".join(map(str, value)) if isinstance(value, tuple) else str(value)) or "none"
