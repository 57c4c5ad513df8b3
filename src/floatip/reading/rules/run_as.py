"""The user whose rights a command has: whether there is one, and whether the daemon may choose."""

import os
from collections.abc import Iterator
from dataclasses import replace

from floatip.model import DAEMON, RunAs
from floatip.reading.files import Doubt
from floatip.reading.machine import Machine
from floatip.reading.rights import ROOT, group_id, user_id
from floatip.reading.words import shown

DROP_IN = "User=root, Group=root and CapabilityBoundingSet=CAP_KILL CAP_SETUID CAP_SETGID"


def seen_by(run_as: RunAs, machine: Machine) -> Machine:
    """With whose eyes the files of the command are looked at."""
    if run_as.user and _is_root(machine) and user_id(run_as.user) is not None and os.geteuid() == 0:
        return replace(machine, user=run_as.user, _access={})
    return machine


def become(run_as: RunAs, machine: Machine) -> Iterator[Doubt]:
    if run_as == DAEMON:
        return
    if run_as.user and user_id(run_as.user) is None:
        yield Doubt(f"there is no user {shown(run_as.user)}", "name a user of this machine: getent passwd")
    elif run_as.group and group_id(run_as.group) is None:
        yield Doubt(f"there is no group {shown(run_as.group)}", "name a group of this machine: getent group")
    elif not _is_root(machine) and (run_as.group or user_id(run_as.user) != _daemon(machine)):
        who = f"user {machine.user}" if machine.user else "the user that runs floatip"
        both = (run_as.user and f"user {run_as.user}", run_as.group and f"group {run_as.group}")
        whom = " and ".join(filter(None, both))
        what = f"it runs as {who} and not as {whom}: only root may change the user of a command"
        hint = f"remove it, or let floatip run as root: systemctl edit floatip, and below [Service]: {DROP_IN}"
        yield Doubt(what, hint, is_error=False)


def _is_root(machine: Machine) -> bool:
    return machine.user == ROOT or (not machine.user and os.geteuid() == 0)


def _daemon(machine: Machine) -> int | None:
    return user_id(machine.user) if machine.user else os.geteuid()
