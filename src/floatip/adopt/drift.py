"""Where floatip.toml and the keepalived.conf that it was made from have come to differ."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from floatip.adopt import found
from floatip.adopt.host import AdoptError, Host
from floatip.config import Config, ConfigWarning
from floatip.config.document import Document, read
from floatip.config.model import Following
from floatip.keepalived_conf import Instance, KeepalivedConf, NotUnderstood, Place

HINT = "edit it, and: systemctl reload floatip; or floatip adopt --force, which changes only this"
KEYWORDS = {
    "interface": "interface",
    "vrid": "virtual_router_id",
    "priority": "priority",
    "source": "unicast_src_ip",
    "peers": "unicast_peer",
    "version": "version",
    "advert_interval": "advert_int",
}
"""Ours and keepalived's."""


def since_adoption(file: Path, host: Host) -> list[ConfigWarning]:
    """Nothing where keepalived's file cannot be read: then there is nothing to compare with."""
    document = read(str(host.at(file)))
    if os.geteuid() != 0 or not any("keepalived" in table for _, table in document.tables("instance")):
        return []
    try:
        conf = found.configuration(host)
    except AdoptError:
        return []
    except NotUnderstood as error:
        (place, what, hint), *_ = error.errors
        return [document.warning((), f"not compared with keepalived.conf: {place}: {what}", hint)]
    return list(differences(document, conf))


def differences(document: Document, conf: KeepalivedConf) -> Iterator[ConfigWarning]:
    named = {instance.name: instance for instance in conf.instances}
    for index, instance in enumerate(Config.model_validate(document.data).instance):
        if not (followed := instance.keepalived):
            continue
        here: tuple[str | int, ...] = ("instance", index)
        name = followed.instance or instance.name
        if name not in named:
            there = f"those there are {', '.join(named) or 'none'}"
            what = f"{conf.files[0]} has no vrrp_instance {name}; {there}"
            yield document.warning((*here, "keepalived"), what, HINT)
            continue
        other = named[name]
        moved = tuple(one.address for one in found.floating(other) if one.address.version == 4)
        ours = tuple(one for one in instance.addresses if one.version == 4)
        if set(ours) != set(moved):
            what = _both(ours, moved, _place(other, "virtual_ipaddress"))
            yield document.warning((*here, "addresses"), what, HINT)
        for key, was, now, place in _followed(followed, other, conf):
            yield document.warning((*here, "keepalived", key), _both(was, now, place), HINT)


def _followed(followed: Following, other: Instance, conf: KeepalivedConf) -> Iterator[tuple[str, Any, Any, Place]]:
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
