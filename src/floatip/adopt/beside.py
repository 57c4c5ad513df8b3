"""What a configuration has to do with the keepalived and the lelastic of this machine.

What else elects or announces, where keepalived.conf says something else, and what nothing watches.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from floatip.adopt.floatip_toml import differences
from floatip.adopt.setup import floating, named_by
from floatip.adopt.system import AdoptError, System
from floatip.adopt.systemd_units import announcers, keepalived_call
from floatip.core.settings import Instance as Ours
from floatip.core.settings import Keepalived, Vrrp
from floatip.model import File, Model
from floatip.reading import ConfigWarning, Places, keepalived
from floatip.reading.keepalived import Instance, KeepalivedConf, NotUnderstood
from floatip.reading.keepalived.lint.facts import gather
from floatip.reading.keepalived.lint.tracking import unwatched_services


def beside(model: Model, places: Places, system: System) -> Iterator[ConfigWarning]:
    if model.network:
        yield from _announcers(places, system)
    unit = system.unit("keepalived.service")
    # systemd need not have started it.
    pid = (unit.pid if unit else 0) or named_by(model.keepalived.pid_file, system)
    if not (unit or pid):
        return
    # Who is not root may not see all that keepalived.conf includes.
    follows = os.geteuid() == 0 and any(isinstance(one.election, Keepalived) for one in model.instances)
    try:
        call = keepalived_call(system, pid)
        conf = keepalived.read(Path(call.config), system.root, call.config_id)
    except AdoptError:
        return
    except NotUnderstood as error:
        (place, what, hint), *_ = error.errors
        if follows:
            yield places.warning((), f"not compared with keepalived.conf: {place}: {what}", hint)
        return
    if follows:
        yield from differences(model, places, conf)
    if call.elects and (pid or (unit and unit.active)):
        yield from _electors(model, places, conf)
        yield from _unwatched(model, places, conf, system)


def _announcers(places: Places, system: System) -> Iterator[ConfigWarning]:
    for announcer in announcers(system):
        if (unit := system.unit(announcer.unit)) and unit.active:
            table = "linode" if ("linode",) in places.given else "bgp"
            what = f"{announcer.unit} runs here: route servers accept one session per node, so floatip gets none"
            hint = f"systemctl disable --now {announcer.unit}; where keepalived runs, floatip adopt does that"
            yield places.warning((table,), what, hint)


def _electors(model: Model, places: Places, conf: KeepalivedConf) -> Iterator[ConfigWarning]:
    """Two electors for one address on one machine would both be master."""
    hint = "keep keepalived and run floatip adopt, or: systemctl disable --now keepalived"
    for at, instance in places.each(("instance",), model.instances):
        if isinstance(instance.election, Keepalived):
            continue
        for other in conf.instances:
            if common := _in_common(instance, other):
                what = f"keepalived runs here, and elects for {common} too: {other.statement.place}"
                yield places.warning(at, what, hint)


def _in_common(ours: Ours, theirs: Instance) -> str:
    one = ours.election
    if isinstance(one, Vrrp) and (one.vrid, one.interface) == (theirs.vrid, theirs.interface):
        return f"vrid {one.vrid} on {one.interface}"
    moved = {virtual.address.ip for virtual in floating(theirs)}
    return next((str(address.ip) for address in ours.addresses if address.ip in moved), "")


def _unwatched(model: Model, places: Places, conf: KeepalivedConf, system: System) -> Iterator[ConfigWarning]:
    """Of an instance that follows keepalived, where neither keepalived nor floatip checks the service."""
    triggers = {check.name for check in model.checks if isinstance(check.kind, File)}
    followers = [
        at
        for at, instance in places.each(("instance",), model.instances)
        if isinstance(instance.election, Keepalived) and triggers.issuperset(instance.checks)
    ]
    if followers:
        for finding in unwatched_services(conf, gather(conf, system.users(), system.root)):
            yield places.warning((*followers[0], "checks"), finding.what, finding.hint)
