"""The configuration: whether it can be used, who may read what it names, and whether its checks see the service."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from floatip.core import settings
from floatip.doctor.context import Context
from floatip.doctor.finding import Code, Finding, problem, unseen, warning, well
from floatip.doctor.host import Unseen
from floatip.doctor.listening import listeners
from floatip.model import Check, File, Http, Interface, Tcp
from floatip.reading import key
from floatip.reading.machine import DAEMON
from floatip.reading.place import ConfigNote

NOT_SERVED = frozenset({22, 25, 53, 111, 179, 631, 5355, 8179, 9112, 9113, 50051})
"""Ports that other programs of a node listen on."""

OF_RIGHTS = frozenset({"link.key"})
"""Keys that name a file which `rights` looks at."""


def configuration(context: Context) -> Iterator[Finding]:
    file = str(context.file)
    if not context.has_file:
        if context.status:
            what = f"there is no {file}, and a daemon runs: it has another file"
            yield unseen(Code.CONFIGURATION, file, what, (), "floatip doctor FILE")
        else:
            hint = "floatip init, or floatip adopt where keepalived runs"
            yield problem(Code.CONFIGURATION, file, f"this node is not configured: there is no {file}", (), hint)
        return
    if not os.access(context.file, os.R_OK):
        yield unseen(Code.CONFIGURATION, file, f"this user may not read {file}", (), "sudo floatip doctor")
        return
    for error in context.errors:
        if error.path not in OF_RIGHTS:
            yield problem(Code.CONFIGURATION, file, error.head, f"floatip check {file}", error.hint)
    for one in context.warnings:
        if not isinstance(one, ConfigNote):
            yield warning(Code.CONFIGURATION, file, one.head, f"floatip check {file}", one.hint)
    if not context.errors:
        yield well(Code.CONFIGURATION, file, f"{file} can be used", f"floatip check {file}")


# Rights


def rights(context: Context) -> Iterator[Finding]:
    """Of the files with secrets: the daemon's user reads them, and nobody else."""
    if not context.has_file:
        return
    model = context.model
    files = {}
    if model and model.nodes:
        files[model.link.key or context.file.absolute().with_name(key.NAME)] = "sign as a node"
    if model and model.http:
        files |= {path: "ask over HTTP" for path in (model.http.token,) if path}
        files |= {path: "be this server" for path in (model.http.tls_key,) if path}
    for path, use in files.items():
        yield from _closed(context, path, use)


def _closed(context: Context, path: Path, use: str) -> Iterator[Finding]:
    user = context.machine.user if context.machine else ""
    share = f"chown root:{user or DAEMON} {path} && chmod 640 {path}"
    try:
        found = path.stat()
    except OSError as error:
        said = (error.strerror or "").lower()
        if isinstance(error, PermissionError):
            yield unseen(Code.FILE_RIGHTS, str(path), f"{path} is not seen: {said}", (), "sudo floatip doctor")
        else:
            yield problem(Code.FILE_RIGHTS, str(path), f"{path}: {said}", (), key.command(path))
        return
    mode = stat.S_IMODE(found.st_mode)
    shown = f"stat {path}: mode {mode:o}, owner {found.st_uid}, group {found.st_gid}"
    if mode & 0o007:
        what = f"every user of this machine can use {path}, and {use}"
        yield problem(Code.FILE_RIGHTS, str(path), what, shown, share)
    elif mode & 0o020:
        yield warning(Code.FILE_RIGHTS, str(path), f"the group of {path} can write it", shown, share)
    elif context.machine and user and not context.machine.may(path, os.R_OK):
        what = f"user {user}, who runs the daemon, cannot read {path}"
        yield problem(Code.FILE_RIGHTS, str(path), what, shown, share)
    else:
        who = f"user {user or 'who asks'} can read {path}, and not everybody"
        yield well(Code.FILE_RIGHTS, str(path), who, shown)


# Checks


def watched(context: Context) -> Iterator[Finding]:
    """An instance without a check stays where it is when its service dies."""
    model = context.model
    if not model:
        return
    by_name = {check.name: check for check in model.checks}
    for instance in model.instances:
        names = dict.fromkeys((*instance.checks, *(track.check for track in instance.tracks)))
        for group in model.sync_groups:
            if instance.name in group.members:
                names |= dict.fromkeys((*group.checks, *(track.check for track in group.tracks)))
        checks = [by_name[name] for name in names if name in by_name]
        yield from _watch(context, instance, checks)


def _watch(context: Context, instance: settings.Instance, checks: list[Check]) -> Iterator[Finding]:
    name = instance.name
    looking = [one for one in checks if not isinstance(one.kind, File | Interface)]
    if isinstance(instance.election, settings.Keepalived) and not checks:
        yield well(Code.UNWATCHED, name, f"keepalived checks the service of {name}", "its vrrp_script")
        return
    if not checks:
        what = f"nothing checks the service of {name}: the address stays here when the service dies"
        hint = 'add a [[check]], for example process = "haproxy" or tcp = "127.0.0.1:80", and name it in checks = [...]'
        yield warning(Code.UNWATCHED, name, what, str(context.file), hint)
        return
    if not looking:
        names = ", ".join(one.name for one in checks)
        what = f"the checks of {name} ({names}) look at files and interfaces, and none at the service"
        hint = 'add a [[check]] with process = "..." or tcp = "127.0.0.1:80"'
        yield warning(Code.UNWATCHED, name, what, str(context.file), hint)
        return
    yield from _ports(context, instance, looking)


def _ports(context: Context, instance: settings.Instance, looking: list[Check]) -> Iterator[Finding]:
    """Where only ports are checked: whether one of them is served on the address."""
    checked = {port for one in looking if (port := _port(one)) is not None}
    name, names = instance.name, ", ".join(one.name for one in looking)
    if len([one for one in looking if _port(one) is not None]) < len(looking):
        yield well(Code.UNWATCHED, name, f"the checks of {name} look at its service: {names}", str(context.file))
        return
    own = {address.ip for address in instance.addresses}
    try:
        here = listeners(context.host)
    except Unseen as error:
        yield unseen(Code.UNWATCHED, name, f"which ports are served is not known: {error}")
        return
    served = {one.port for one in here if one.address.is_unspecified or one.address in own} - NOT_SERVED
    if served and not served & checked:
        ports = ", ".join(map(str, sorted(served)))
        looked = ", ".join(map(str, sorted(checked)))
        what = f"{name}: the checks look at port {looked}, and what listens on the address is port {ports}"
        hint = f'check what the clients use: tcp = "127.0.0.1:{min(served)}"'
        yield warning(Code.UNWATCHED, name, what, f"/proc/net/tcp: listens on {ports}", hint)
    else:
        yield well(Code.UNWATCHED, name, f"the checks of {name} look at its service: {names}", str(context.file))


def _port(check: Check) -> int | None:
    match check.kind:
        case Tcp():
            return check.kind.port
        case Http():
            parts = urlsplit(check.kind.url)
            return parts.port or (443 if parts.scheme == "https" else 80)
    return None
