"""`floatip adopt`: shows what it found and what it would change, asks, does it, and says how to undo it."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext

from floatip import prompts
from floatip.adopt import apply, backup, replace, report
from floatip.adopt.files import diff
from floatip.adopt.floatip_toml import meaning_of
from floatip.adopt.plan import TOML, Plan, Wishes, plan
from floatip.adopt.setup import Setup, does_not_start, is_running, look_at
from floatip.adopt.system import AdoptError, System
from floatip.adopt.systemd_units import tested
from floatip.commands import WRITING, Misused, again_as_root
from floatip.core.refusals import Why
from floatip.reading.keepalived import NotUnderstood
from floatip.reading.keepalived.lint import Finding
from floatip.reading.keepalived.lint.takeover import SHARED, SUDO, WRITABLE
from floatip.text import printable, say

LEFT = (WRITABLE, SHARED, SUDO, report.UNWATCHED)
"""What a person has to do when the adoption is done."""


@contextmanager
def _guarded() -> Iterator[None]:
    """Whatever is found on the machine, `Refusal` is raised and nothing else."""
    if os.geteuid() != 0:
        raise AdoptError("only root can read and change all of this", again_as_root(), Why.NOT_ALLOWED)
    try:
        yield
    except NotUnderstood as error:
        raise Misused(f"nothing was changed: keepalived.conf cannot be used as it is\n{error}", "") from None
    except (OSError, IndexError, RuntimeError, ValueError) as error:
        # Others may change what is read at any time: a loop of links, fewer lines. Stdout is the caller's.
        if isinstance(error, OSError) and error.errno in WRITING:
            raise
        raise AdoptError(f"a file cannot be read: {error}", "run floatip adopt again") from None


@_guarded()
def adopt(system: System, wishes: Wishes, *, config: str | None = None, dry_run: bool, yes: bool) -> int:
    with nullcontext() if dry_run else backup.locked(system):
        backup.is_nothing_left_of_a_killed_adoption(system)
        setup = look_at(system, config)
        found, said = report.findings(system, setup), tested(system, setup.call)
        _show(report.wrapped(report.role(setup)), "", *report.what_is_here(setup))
        _show("", *report.what_is_unsafe(found, said))
        _keepalived_reads_it(said)
        planned = plan(system, setup, wishes, _data_centre(system, setup, wishes))
        if apply.is_done(system, setup, planned):
            _show("", f"Nothing to do: {setup.idle or 'floatip follows keepalived already; see: floatip status'}")
            return 0
        _show("", *report.what_will_change(planned))
        if dry_run:
            _show("", *_commands_first(found, wishes), "Nothing was changed: --dry-run")
            return 0
        if (commands := _commands_first(found, wishes)) and not wishes.force:
            what = "nothing was changed: other users can change what root reads or runs"
            raise AdoptError(what, "\n".join(commands))
        is_running(setup, wishes.force)
        if system.unit(apply.FLOATIP) is None:
            raise AdoptError(
                "there is no floatip.service", "install the package, which contains it: apt install floatip"
            )
        if not _confirmed(yes):
            return 1
        _do(system, setup, planned, found)
        return 0


@_guarded()
def replace_keepalived(system: System, wishes: Wishes, *, config: str | None, dry_run: bool, yes: bool) -> int:
    with nullcontext() if dry_run else backup.locked(system):
        backup.is_nothing_left_of_a_killed_adoption(system)
        setup = look_at(system, config, strict=False)
        planned = replace.plan(system, setup, wishes, _known_data_centre(setup, wishes))
        _show(*report.in_which_order(planned), "", *report.what_is_here(setup))
        if replace.is_done(system, planned):
            _show("", "Nothing to do: floatip runs in keepalived's place already; see: floatip status")
            return 0
        _show("", *report.what_floatip_says(planned), "", *report.what_replacing_changes(planned))
        if dry_run:
            _show("", "Nothing was changed: --dry-run")
            return 0
        replace.may_begin(system, planned, wishes)
        if not _confirmed(yes):
            return 1
        replace.do(system, setup, planned, wishes, say)
        say("done: floatip runs in keepalived's place. Now the other node, if keepalived still runs there")
        say(f"state: floatip status    to go back: {apply.UNDO}")
        return 0


def _do(system: System, setup: Setup, planned: Plan, found: Iterable[Finding]) -> None:
    if planned.announcers:
        say("  the journal will show refused BGP sessions (Cease) and two changes of role: expected")
    apply.adopt(system, setup, planned, say)
    for finding in found:
        if finding.code in LEFT:
            say(f"warning: {finding.place}: {finding.what}\n  hint: {finding.hint}")
    done = setup.idle or "done: keepalived elects, floatip announces"
    say(f"{done}. Now adopt the other node, if it is not adopted yet")
    say(f"state: floatip status    to go back: {apply.UNDO}")


def _keepalived_reads_it(said: list[str]) -> None:
    if line := does_not_start(said):
        what = f"keepalived does not start with its file, so there is nothing to adopt: {line}"
        raise AdoptError(what, "correct it until keepalived -t says nothing of that kind")


def _commands_first(found: Iterable[Finding], wishes: Wishes) -> list[str]:
    """What a person has to do before the adoption; empty: nothing."""
    commands = list(dict.fromkeys(finding.hint for finding in found if finding.code in (WRITABLE, SHARED)))
    if not commands:
        return []
    head = "--force goes on without:" if wishes.force else "run this first, then floatip adopt again (or --force):"
    return [head, *(f"  {printable(command)}" for command in commands)]


def _data_centre(system: System, setup: Setup, wishes: Wishes) -> int:
    dcid, *_ = meaning_of(system.text(TOML)) or (0,)
    if known := _known_data_centre(setup, wishes) or dcid:
        return known
    hint = "add --dcid NUMBER (Newark is 6; for the others: floatip providers)"
    raise AdoptError("no unit of lelastic says in which data centre this is", hint)


def _known_data_centre(setup: Setup, wishes: Wishes) -> int:
    """0: neither the command line nor a unit of lelastic says it."""
    by_unit = next((announcer.flags.dcid for announcer in setup.announcers if announcer.flags.dcid), 0)
    return wishes.dcid or by_unit


@_guarded()
def undo(system: System, *, dry_run: bool, yes: bool, force: bool) -> int:
    backup.last(system)  # without one, not even the directory of the lock is made
    with nullcontext() if dry_run else backup.locked(system):
        last = backup.last(system)
        changed = apply.changed_since(system, last)
        for change in changed:
            _show(*(printable(line) for line in diff(change)))
        if changed and not force:
            names = ", ".join(str(change.path) for change in changed)
            hint = "copy what you want to keep (shown above), then: floatip adopt --undo --force"
            raise AdoptError(f"changed since floatip adopt wrote it: {names}", hint)
        _show(f"back to what {last.directory} holds:")
        for change in last.changes:
            _show(f"  {printable(str(change.path))}{'' if change.before else ' is removed'}")
        if last.by_role and not last.replaces:
            wait = "undo the master first, and the other node once lelastic announces, which takes it ten seconds"
            _show(report.wrapped(f"note: {wait}"))
        if dry_run:
            _show("Nothing was changed: --dry-run")
            return 0
        if not _confirmed(yes):
            return 1
        (replace.undo if last.replaces else apply.undo)(system, last, say)
        say("done: keepalived and the announcer are as they were")
        return 0


def _show(*lines: str) -> None:
    print("\n".join(lines), flush=True)


def _confirmed(yes: bool) -> bool:
    if yes:
        return True
    if not sys.stdin.isatty():
        raise AdoptError("stdin is not a terminal, so nobody can say yes", "add --yes; --dry-run only shows it")
    if prompts.confirm("\nDo this?"):
        return True
    _show("Nothing was changed.")
    return False
