"""`floatip adopt`: shows what it found and what it would change, asks, does it, and says how to undo it."""

import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import typer

from floatip.adopt import apply, backup
from floatip.adopt.files import diff
from floatip.adopt.findings import findings, takeovers
from floatip.adopt.found import Found, complaints, floating, is_running, look, notifies, tracked
from floatip.adopt.host import AdoptError, Host
from floatip.adopt.plan import DataCentreUnknown, Options, Plan, plan
from floatip.adopt.printable import printable, printable_lines
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
        _say(f"error: nothing was changed: keepalived.conf cannot be used as it is\n{error}")
        return 2
    except AdoptError as error:
        _say(f"error: {error.what}\nhint: {error.hint}")
        return 1
    except typer.Abort:  # is a RuntimeError too
        raise
    except (OSError, IndexError, RuntimeError) as error:
        # Others may change what is read at any time: a loop of links, fewer lines.
        _say(f"error: a file cannot be read: {error}\nhint: floatip adopt looks at it again")
        return 1
    return 0


def _adopt(host: Host, options: Options, config: str | None, *, dry_run: bool, yes: bool) -> None:
    with nullcontext() if dry_run else backup.locked(host):
        found = look(host, config)
        print("\n".join([*_described(found), "", *map(str, findings(found.conf, found.surroundings))]))
        print("\n".join(map(printable, complaints(host, found))))
        options = _with_data_centre(host, found, options, yes=yes)
        planned = plan(host, found, options)
        if apply.is_done(host, found, planned):
            print(f"\nnothing to do: {found.idle or 'floatip runs beside keepalived already'}")
            return
        print("\n".join(_proposed(planned)), flush=True)
        if dry_run:
            print("\nnothing was changed: --dry-run")
            return
        is_running(found, options.force)
        if host.unit(apply.FLOATIP) is None:
            hint = "install the package, which brings it: docs/operate/install.md"
            raise AdoptError("there is no floatip.service", hint)
        _ask(yes)

        def again() -> Plan:
            return plan(host, look(host, config), options)

        apply.is_what_was_shown(again().changes, planned.changes)
        apply.adopt(host, found, planned, again, _say)
        left = look(host, config)
        for finding in takeovers(left.conf, left.surroundings):
            _say(f"warning: {finding.place}: {finding.what}\n  hint: {finding.hint}")
        done = found.idle or "done: keepalived elects, floatip announces"
        _say(f"{done}. Now the other node, if it is not done yet")
        _say(f"what it does: floatip status    back to what was: {apply.UNDO}")


def _with_data_centre(host: Host, found: Found, options: Options, *, yes: bool) -> Options:
    try:
        plan(host, found, options)
    except DataCentreUnknown:
        if yes or not sys.stdin.isatty():
            raise
        asked = "Number of the data centre (`floatip providers` lists them)"
        return replace(options, dcid=typer.prompt(asked, type=int))
    return options


def _undo(host: Host, *, dry_run: bool, yes: bool, force: bool) -> None:
    with nullcontext() if dry_run else backup.locked(host):
        last = backup.newest(host)
        if last is None:
            hint = "floatip adopt writes a backup there first"
            raise AdoptError(f"there is nothing to undo in {backup.DIRECTORY}", hint)
        changed = apply.changed_since(host, last)
        for change in changed:
            print("\n".join(map(printable, diff(change))))
        if changed and not force:
            hint = "see above; --force does away with these changes, and keeps a copy of them beside the backup"
            raise AdoptError("files have been changed since floatip adopt wrote them", hint)
        print(f"back to what {last.directory} holds:")
        for change in last.changes:
            print(f"  {printable(str(change.path))}{'' if change.before else ' is removed'}")
        if last.by_role:
            wait = "take the master first, and the other node when lelastic has announced, which takes it ten seconds"
            print(f"note: {wait}")
        if dry_run:
            return
        _ask(yes)
        backup.keep_overwritten(host, last, changed)
        apply.undo(host, last, _say)
        _say("done: keepalived and the announcer are as they were")


def _say(what: str) -> None:
    print(printable_lines(what), file=sys.stderr, flush=True)


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
        lines += _instance(instance, found)
    for announcer in found.announcers:
        role = "primary" if announcer.flags.primary else "secondary" if announcer.flags.secondary else "no role"
        problem = f"; its flags cannot be read: {announcer.problem}" if announcer.problem else ""
        lines.append(f"{announcer.unit} starts lelastic: dcid {announcer.flags.dcid or 'unknown'}, {role}{problem}")
    return [printable(line) for line in lines]


def _instance(instance: Instance, found: Found) -> list[str]:
    """One row a thing, the names of the things below the name of the instance."""
    addresses = ", ".join(f"{virtual.address} on {virtual.interface}" for virtual in floating(instance))
    peers = ", ".join(map(str, instance.peers)) or "multicast"
    checks = ", ".join(tracked(found.conf, instance))
    rows = [
        f"{instance.name}: vrid {instance.vrid} on {instance.interface}, priority {instance.priority}",
        f"  addresses  {addresses or 'none'}",
        f"  peers      {peers}",
        f"  checks     {checks or 'none'}",
    ]
    rows += [f"  {notify.statement.keyword:14} {' '.join(notify.command)}" for notify in notifies(found.conf, instance)]
    return rows


def _proposed(planned: Plan) -> list[str]:
    lines: list[str] = []
    for change in planned.changes:
        lines += map(printable, diff(change))
    lines += [f"{unit}: stopped and disabled, not removed" for unit in planned.announcers]
    lines += [f"note: {note}" for note in planned.notes]
    return ["", *map(printable_lines, lines)]
