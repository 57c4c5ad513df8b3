"""Doing an adoption and undoing it, step by step, in the order in which nothing is lost.

All files are written and checked before anything is restarted; until then a failure puts everything back.

floatip starts first and holds the addresses; only then lelastic stops, and keepalived reads its file again. A reload is
enough: keepalived 2.2.7 opens a new FIFO on it, and stays master.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from floatip import reading
from floatip.adopt import backup as kept
from floatip.adopt import keepalived_states, verify
from floatip.adopt.backup import Backup
from floatip.adopt.files import Change, clear, state, write
from floatip.adopt.plan import FIFO, TOML, Plan
from floatip.adopt.setup import Setup, floating
from floatip.adopt.system import AdoptError, System, UnitState
from floatip.adopt.systemd_units import tested, without_line_numbers
from floatip.core.refusals import Why
from floatip.reading.machine import daemons_user

FLOATIP = "floatip.service"
KEEPALIVED = "keepalived.service"
UNDO = "floatip adopt --undo"
TIMEOUT = 20.0
"""Seconds for what takes one or two."""
BESIDE_LELASTIC = 3.0
"""Seconds after which lelastic stops although floatip could not connect."""


class Steps:
    """Runs each step, and reports it as it happens."""

    def __init__(self, system: System, say: Callable[[str], None]) -> None:
        self.system = system
        self.say = say

    def __call__(self, what: str, do: Callable[[], str]) -> None:
        try:
            result = do()
        except AdoptError:
            self.say(f"  {what}: FAILED")
            raise
        self.say(f"  {what}: {result}")

    def systemctl(self, verb: str, unit: str = "") -> None:
        def do() -> str:
            done = self.system.run("systemctl", verb, *filter(None, [unit]))
            if done.status:
                raise AdoptError(f"systemctl {verb} {unit}: {done.output}", f"journalctl -e -u {unit or 'init.scope'}")
            return "done"

        self(f"systemctl {verb} {unit}".rstrip(), do)

    def until(self, what: str, trouble: Callable[[], str], timeout: float = TIMEOUT) -> None:
        """Waits until there is no trouble any more."""

        def do() -> str:
            if not self.system.wait(lambda: not trouble(), timeout) and (last := trouble()):
                raise AdoptError(last, "floatip status; journalctl -e -u floatip")
            return "yes"

        self(what, do)

    def change(self, changes: Iterable[Change]) -> None:
        changes = sorted(changes, key=lambda change: change.path)
        try:
            for change, path in zip(changes, write(self.system, changes), strict=True):
                self.say(f"  {path}: {'written' if change.after else 'removed'}")
        except OSError as error:
            what = f"{error.filename or 'a file'} cannot be written: {error.strerror}"
            raise AdoptError(what, "make room there, or mount it for writing", Why.FILE_UNWRITABLE) from None


def adopt(system: System, setup: Setup, plan: Plan, say: Callable[[str], None]) -> None:
    steps = Steps(system, say)
    units = {unit: system.unit(unit) for unit in (FLOATIP, KEEPALIVED, *plan.announcers)}
    if plan.changes:
        _write(steps, setup, plan, units)
    try:
        _switch(steps, setup, plan, units)
    except KeyboardInterrupt:
        what = "interrupted after the files were changed"
        raise AdoptError(what, f"finish it: floatip adopt; or go back: {UNDO}") from None
    except AdoptError as error:
        hint = f"{error.hint}\nhint: the files stay changed; to go back: {UNDO}"
        raise AdoptError(error.what, hint, error.code) from None


def _write(steps: Steps, setup: Setup, plan: Plan, units: Mapping[str, UnitState | None]) -> None:
    system = steps.system
    addresses = tuple(str(virtual.address) for instance in plan.instances for virtual in floating(instance))
    before = _test(system, setup)
    backup = kept.save(system, Backup(plan.changes, units, plan.by_role, addresses))
    steps.say(f"  backup: {backup.directory}")
    try:
        steps.change(plan.changes)
        steps("keepalived -t", lambda: _accepted(before, _test(system, setup)))
        steps("floatip check", lambda: _checked(system))
        if not plan.by_scripts:
            steps(f"FIFO {FIFO}", lambda: _made(system))
        kept.finish(system, backup)
    except BaseException:
        put_back(system, plan.changes)
        kept.forget(system, backup)
        steps.say("  everything is put back as it was; nothing was restarted")
        raise


def _switch(steps: Steps, setup: Setup, plan: Plan, units: Mapping[str, UnitState | None]) -> None:
    system = steps.system
    steps.systemctl("daemon-reload")
    steps.systemctl("enable", FLOATIP)
    was = units[FLOATIP]
    steps.systemctl("reload" if was and was.active else "start", FLOATIP)
    steps.until("floatip holds its addresses", lambda: verify.unheld(system))
    if any(unit.active for name, unit in units.items() if unit and name in plan.announcers):
        # Its sessions are from the same address as ours: route servers may refuse us until they have ended.
        connects = system.wait(lambda: not verify.unconnected(system), BESIDE_LELASTIC)
        steps("floatip is connected", lambda: "yes" if connects else "not yet, lelastic still has the sessions")
    else:
        steps.until("floatip is connected", lambda: verify.unconnected(system))
    for unit in plan.announcers:
        steps.systemctl("disable", unit)
        steps.systemctl("stop", unit)
    steps.until("floatip is connected", lambda: verify.unconnected(system))
    if setup.keepalived.active:
        steps.systemctl("reload-or-restart", KEEPALIVED)
        if not plan.by_scripts:
            steps.until("keepalived opens the FIFO", lambda: verify.unopened(system, setup))
        known = keepalived_states.tell(system, setup, plan)
        steps.say(f"  keepalived's own state: {known or 'not known'}")
        steps.until("floatip follows keepalived", lambda: verify.unfollowed(system, plan))
        if not known:
            steps.say(f"warning: {keepalived_states.UNKNOWN}")
    for warning in reading.load(system.at(TOML), daemons_user()).warnings:
        steps.say(f"warning: {warning.text}\n  hint: {warning.hint}")


def is_done(system: System, setup: Setup, plan: Plan) -> bool:
    """Nothing is left to write, and all of it runs."""
    floatip = system.unit(FLOATIP)
    runs = floatip is not None and floatip.enabled and floatip.active
    listens = plan.by_scripts or not setup.keepalived.active or not verify.unopened(system, setup)
    return not plan.changes and not plan.announcers and runs and listens


def undo(system: System, backup: Backup, say: Callable[[str], None]) -> None:
    """floatip ends before the announcer starts: route servers may refuse a second one from this machine."""
    steps = Steps(system, say)
    is_master = _is_master(system, backup)
    clear(system, backup.changes)
    found = [(change, state(system, change.path)) for change in backup.changes]
    steps.change(Change(one.path, now, one.before) for one, now in found if now != one.before)
    steps.systemctl("daemon-reload")
    floatip = backup.units[FLOATIP] or UnitState(enabled=False, active=False)
    if not floatip.enabled:
        steps.systemctl("disable", FLOATIP)
    steps.systemctl("reload" if floatip.active else "stop", FLOATIP)
    for name, unit in backup.units.items():
        if unit is None or name in (FLOATIP, KEEPALIVED):
            continue
        if unit.enabled:
            steps.systemctl("enable", name)
        if is_master if backup.by_role else unit.active:
            steps.systemctl("start", name)
    if (keepalived := system.unit(KEEPALIVED)) and keepalived.active:
        steps.systemctl("reload-or-restart", KEEPALIVED)
    kept.mark_undone(system, backup)


def _is_master(system: System, backup: Backup) -> bool:
    """By the kernel, which knows it also while no daemon does."""
    held = {str(one.address) for one in system.machine().placed() if one.interface != "lo"}
    return bool(held.intersection(backup.addresses))


def changed_since(system: System, backup: Backup) -> list[Change]:
    """What somebody else has done to the files; nothing of one that an undo that failed has put back."""
    since = [Change(change.path, change.after, state(system, change.path)) for change in backup.changes]
    before = {change.path: change.before for change in backup.changes}
    return [one for one in since if one.after not in (before[one.path], one.before)]


def put_back(system: System, changes: Iterable[Change]) -> None:
    """What was written so far. What somebody else has changed meanwhile stays."""
    written = []
    for change in changes:
        with suppress(AdoptError):  # by now it is a link, or a directory
            if state(system, change.path) == change.after:
                written.append(Change(change.path, change.after, change.before))
    try:
        list(write(system, written))
    except (AdoptError, OSError) as error:
        raise AdoptError(f"the files cannot be put back: {error}", f"make room, then: {UNDO} --force") from None


def _test(system: System, setup: Setup) -> list[str]:
    """What keepalived says of its file, without line numbers, which our lines move."""
    return without_line_numbers(tested(system, setup.call))


def _accepted(before: list[str], after: list[str]) -> str:
    if new := [line for line in after if line not in before]:
        what = "\n".join(["keepalived says of the changed file:", *new])
        raise AdoptError(what, "look at the lines that adopt adds, or try floatip adopt --notify, which adds others")
    return "the same complaints as before" if before else "ok"


def _checked(system: System) -> str:
    """Warnings come at the end: what they miss may be there once floatip has started."""
    try:
        reading.load(system.at(TOML), daemons_user())
    except reading.ConfigErrors as refused:
        raise AdoptError(reading.render(refused.errors, []), f"floatip check {TOML}") from None
    return "ok"


def _made(system: System) -> str:
    if not system.at(FIFO).is_fifo():
        system.run("systemd-tmpfiles", "--create", "floatip.conf")
    if not system.at(FIFO).is_fifo():
        raise AdoptError(f"{FIFO} is not there", "it comes with the package: systemd-tmpfiles --create floatip.conf")
    return "there"
