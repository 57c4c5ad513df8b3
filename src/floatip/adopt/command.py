"""`floatip adopt`: shows what it found and what it would change, asks, does it, and says how to undo it."""

import os
import sys
from collections.abc import Callable
from dataclasses import replace

import typer

from floatip.adopt import apply, backup
from floatip.adopt.files import diff
from floatip.adopt.findings import findings
from floatip.adopt.found import Found, floating, look
from floatip.adopt.host import AdoptError, Host
from floatip.adopt.plan import DataCentreUnknown, Options, Plan, plan
from floatip.keepalived_conf import Instance, NotUnderstood


def adopt(host: Host, options: Options, *, config: str | None = None, dry_run: bool, yes: bool) -> int:
    return _guarded(lambda: _adopt(host, options, config, dry_run=dry_run, yes=yes))


def undo(host: Host, *, dry_run: bool, yes: bool, force: bool) -> int:
    return _guarded(lambda: _undo(host, dry_run=dry_run, yes=yes, force=force))


def _guarded(do: Callable[[], None]) -> int:
    try:
        if os.geteuid() != 0:
            raise AdoptError("only root can read and change all of this", "sudo floatip adopt")
        do()
    except NotUnderstood as error:
        print(f"error: nothing was changed: keepalived.conf cannot be used as it is\n{error}", file=sys.stderr)
        return 2
    except AdoptError as error:
        print(f"error: {error.what}\nhint: {error.hint}", file=sys.stderr)
        return 1
    return 0


def _adopt(host: Host, options: Options, config: str | None, *, dry_run: bool, yes: bool) -> None:
    found = look(host, config)
    print("\n".join([*_described(found), "", *map(str, findings(found.conf, found.surroundings))]))
    planned = _planned(host, found, options, yes=yes)
    if apply.is_done(host, found, planned):
        print("\nnothing to do: floatip runs beside keepalived already")
        return
    print("\n".join(_proposed(planned)), flush=True)
    if dry_run:
        print("\nnothing was changed: --dry-run")
        return
    if host.unit(apply.FLOATIP) is None:
        raise AdoptError("there is no floatip.service", "install the package, which brings it: docs/operate/install.md")
    _ask(yes)
    apply.adopt(host, found, planned, _say)
    _say("done: keepalived elects, floatip announces. Now the other node, if it is not done yet")
    _say(f"what it does: floatip status    back to what was: {apply.UNDO}")


def _planned(host: Host, found: Found, options: Options, *, yes: bool) -> Plan:
    try:
        return plan(host, found, options)
    except DataCentreUnknown:
        if yes or not sys.stdin.isatty():
            raise
    asked = "Number of the data centre (`floatip providers` lists them)"
    return plan(host, found, replace(options, dcid=typer.prompt(asked, type=int)))


def _undo(host: Host, *, dry_run: bool, yes: bool, force: bool) -> None:
    last = backup.newest(host)
    if changed := apply.changed_since(host, last):
        print("\n".join(changed))
        if not force:
            hint = "see above; --force loses these changes"
            raise AdoptError("files have been changed since floatip adopt wrote them", hint)
    print(f"back to what {last.directory} holds:")
    print("\n".join(f"  {change.path}{'' if change.before else ' is removed'}" for change in last.changes))
    if last.by_role:
        print("note: take the master first, and the other node when lelastic has announced, which takes it ten seconds")
    if dry_run:
        return
    _ask(yes)
    apply.undo(host, last, _say)
    _say("done: keepalived and the announcer are as they were")


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _ask(yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise AdoptError("nobody is there to say yes", "--yes does it without a question, --dry-run only shows it")
    if not typer.confirm("\nDo this?", default=False):
        raise AdoptError("nothing was changed", "floatip adopt --dry-run shows it again")


def _described(found: Found) -> list[str]:
    state = f"runs (pid {found.keepalived.pid})" if found.keepalived.active else "does not run"
    lines = [f"keepalived {state}: {', '.join(map(str, found.conf.files))}, scripts run as {found.script_user}"]
    for instance in found.conf.instances:
        lines += _instance(instance)
    for announcer in found.announcers:
        role = "primary" if announcer.flags.primary else "secondary" if announcer.flags.secondary else "no role"
        problem = f"; its flags cannot be read: {announcer.problem}" if announcer.problem else ""
        lines.append(f"{announcer.unit} starts lelastic: dcid {announcer.flags.dcid or 'unknown'}, {role}{problem}")
    return lines


def _instance(instance: Instance) -> list[str]:
    """One row a thing, the names of the things below the name of the instance."""
    addresses = ", ".join(f"{virtual.address} on {virtual.interface}" for virtual in floating(instance))
    peers = ", ".join(map(str, instance.peers)) or "multicast"
    checks = ", ".join(name for name, _ in instance.tracked)
    rows = [
        f"{instance.name}: vrid {instance.vrid} on {instance.interface}, priority {instance.priority}",
        f"  addresses  {addresses or 'none'}",
        f"  peers      {peers}",
        f"  checks     {checks or 'none'}",
    ]
    rows += [f"  {notify.statement.keyword:14} {' '.join(notify.command)}" for notify in instance.notifies]
    return rows


def _proposed(planned: Plan) -> list[str]:
    lines = [""]
    for change in planned.changes:
        lines += diff(change)
    lines += [f"{unit}: stopped and disabled, not removed" for unit in planned.announcers]
    lines += [f"note: {note}" for note in planned.notes]
    return lines
