"""Doing it, and undoing it: step by step, in the order in which nothing is lost.

All files are written and judged before anything is restarted; until then a failure puts everything back. Directories
are taken first, from the top, so that nobody else changes what is written into them; what was shown must then still be
what there is to change, and nothing may be left of it at the end. They are given back last, from the bottom.

floatip starts first and holds the addresses; only then lelastic stops, and keepalived reads its file again. A reload is
enough: keepalived 2.2.7 opens a new FIFO on it, and stays master.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from floatip import reading
from floatip.adopt import backup as kept
from floatip.adopt import dump, verify
from floatip.adopt.backup import Backup
from floatip.adopt.files import Change, clear, diff, now, own, write
from floatip.adopt.found import Found, floating
from floatip.adopt.host import AdoptError, Host, UnitState
from floatip.adopt.plan import FIFO, TOML, Plan
from floatip.adopt.units import tested, without_line_numbers

FLOATIP = "floatip.service"
KEEPALIVED = "keepalived.service"
UNDO = "floatip adopt --undo"
PATIENCE = 20.0
"""Seconds for what takes one or two."""
BESIDE_LELASTIC = 3.0


class Steps:
    """Runs each step, and says so as it happens."""

    def __init__(self, host: Host, say: Callable[[str], None]) -> None:
        self.host = host
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
            done = self.host.run("systemctl", verb, *filter(None, [unit]))
            if done.status:
                raise AdoptError(f"systemctl {verb} {unit}: {done.output}", f"journalctl -e -u {unit or 'init.scope'}")
            return "done"

        self(f"systemctl {verb} {unit}".rstrip(), do)

    def until(self, what: str, trouble: Callable[[], str]) -> None:
        """Waits until there is no trouble any more."""

        def do() -> str:
            if not self.host.wait(lambda: not trouble(), PATIENCE) and (last := trouble()):
                raise AdoptError(last, "floatip status; journalctl -e -u floatip")
            return "yes"

        self(what, do)

    def change(self, changes: Iterable[Change], *, back: bool = False) -> None:
        for path, become in _changed(self.host, changes, back=back):
            self.say(f"  {path}: {become}")


def _changed(host: Host, changes: Iterable[Change], *, back: bool = False) -> Iterator[tuple[Path, str]]:
    """Files are written while their directories are root's."""
    changes = sorted(changes, key=lambda change: change.path)
    directories = [change for change in changes if change.is_directory]
    files = [change for change in changes if not change.is_directory]
    try:
        for path in own(host, [] if back else directories):
            yield path, "taken"
        for change, _ in zip(files, write(host, files), strict=True):
            yield change.path, "written" if change.after else "removed"
        for path in own(host, reversed(directories) if back else []):
            yield path, "given back"
    except OSError as error:
        what = f"{error.filename or 'a file'} cannot be written: {error.strerror}"
        raise AdoptError(what, "make room there, or mount it for writing") from None


def adopt(host: Host, found: Found, plan: Plan, again: Callable[[], Plan], say: Callable[[str], None]) -> None:
    """`again`: looks and plans once more."""
    steps = Steps(host, say)
    units = {unit: host.unit(unit) for unit in (FLOATIP, KEEPALIVED, *plan.announcers)}
    if plan.changes:
        _write(steps, found, plan, again, units)
    try:
        _switch(steps, found, plan, units)
    except KeyboardInterrupt:
        raise AdoptError("interrupted, with the files changed", f"go on: floatip adopt; back: {UNDO}") from None
    except AdoptError as error:
        raise AdoptError(error.what, f"{error.hint}\nhint: the files stay changed; back: {UNDO}") from None


def _write(
    steps: Steps, found: Found, plan: Plan, again: Callable[[], Plan], units: Mapping[str, UnitState | None]
) -> None:
    host = steps.host
    directories = [change for change in plan.changes if change.is_directory]
    files = [change for change in plan.changes if not change.is_directory]
    addresses = tuple(str(virtual.address) for instance in plan.instances for virtual in floating(instance))
    before = _test(host, found)
    backup = kept.save(host, Backup(plan.changes, units, plan.by_role, addresses))
    steps.say(f"  backup: {backup.directory}")
    try:
        steps.change(directories)
        clear(host, backup.changes)
        is_what_was_shown(again().changes, files)
        steps.change(files)
        is_what_was_shown([change for change in again().changes if change.path != TOML], [])
        steps("keepalived -t", lambda: _accepted(before, _test(host, found)))
        steps("floatip check", lambda: _checked(host))
        if plan.method == "fifo":
            steps(f"FIFO {FIFO}", lambda: _made(host))
        kept.finish(host, backup)
    except BaseException:
        _put_back(host, plan.changes)
        kept.forget(host, backup)
        steps.say("  everything is put back as it was; nothing was restarted")
        raise


def is_what_was_shown(changes: Iterable[Change], shown: Iterable[Change]) -> None:
    if differing := sorted({change.path for change in set(changes) ^ set(shown)}):
        raise AdoptError(f"somebody else has changed {differing[0]} since it was shown", "floatip adopt shows it again")


def _switch(steps: Steps, found: Found, plan: Plan, units: Mapping[str, UnitState | None]) -> None:
    host = steps.host
    steps.systemctl("daemon-reload")
    steps.systemctl("enable", FLOATIP)
    was = units[FLOATIP]
    steps.systemctl("reload" if was and was.active else "start", FLOATIP)
    steps.until("floatip holds its addresses", lambda: verify.unheld(host))
    if any(unit.active for name, unit in units.items() if unit and name in plan.announcers):
        # Its sessions are from the same address as ours: route servers may refuse us until they have ended.
        connects = host.wait(lambda: not verify.unconnected(host), BESIDE_LELASTIC)
        steps("floatip connects", lambda: "yes" if connects else "not beside lelastic")
    else:
        steps.until("floatip connects", lambda: verify.unconnected(host))
    for unit in plan.announcers:
        steps.systemctl("disable", unit)
        steps.systemctl("stop", unit)
    steps.until("floatip is connected", lambda: verify.unconnected(host))
    if found.keepalived.active:
        steps.systemctl("reload-or-restart", KEEPALIVED)
        if plan.method == "fifo":
            steps.until("keepalived opens the FIFO", lambda: verify.unopened(host, found))
        known = dump.pass_on(host, found, plan)
        steps.say(f"  keepalived's own state: {known or 'not known'}")
        steps.until("floatip follows keepalived", lambda: verify.unfollowed(host, plan))
        if not known:
            steps.say(f"warning: {dump.UNKNOWN}")
    for warning in reading.load(host.at(TOML)).warnings:
        steps.say(f"warning: {warning.path}: {warning.what}\n  hint: {warning.hint}")


def is_done(host: Host, found: Found, plan: Plan) -> bool:
    """Nothing is left to write, and all of it runs."""
    floatip = host.unit(FLOATIP)
    runs = floatip is not None and floatip.enabled and floatip.active
    listens = plan.method == "notify" or not found.keepalived.active or not verify.unopened(host, found)
    return not plan.changes and not plan.announcers and runs and listens


def undo(host: Host, backup: Backup, say: Callable[[str], None]) -> None:
    """floatip ends before the announcer starts: route servers may refuse a second one from this host."""
    steps = Steps(host, say)
    is_master = _is_master(host, backup)
    clear(host, backup.changes)
    steps.change(_back(host, backup.changes), back=True)
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
        if unit.active if is_master is None or not backup.by_role else is_master:
            steps.systemctl("start", name)
    if (keepalived := host.unit(KEEPALIVED)) and keepalived.active:
        steps.systemctl("reload-or-restart", KEEPALIVED)
    kept.mark_undone(host, backup)


def _is_master(host: Host, backup: Backup) -> bool | None:
    """By the kernel, which knows it also while no daemon does; None: it does not say."""
    try:
        placed = host.addresses()
    except ValueError:  # there is no ip, or it does not work
        return None
    held = {str(one.address) for one in placed if one.interface != "lo"}
    return bool(held.intersection(backup.addresses)) if placed else None


def changed_since(host: Host, backup: Backup) -> list[Change]:
    """What somebody else has done to the files; nothing of one that an undo that failed has put back."""
    since = [Change(change.path, change.after, now(host, change)) for change in backup.changes]
    pairs = zip(backup.changes, since, strict=True)
    return [one for change, one in pairs if one.after != change.before and any(diff(one))]


def _back(host: Host, changes: Iterable[Change]) -> Iterator[Change]:
    for change in changes:
        found = now(host, change)
        # Where no contents are kept it is given back only if it is what was taken.
        is_kept = change.before is None or change.before.content is not None
        if found != change.before and (is_kept or found == change.after or (found and found.is_directory)):
            yield Change(change.path, found, change.before)


def _put_back(host: Host, changes: Iterable[Change]) -> None:
    """What was written so far. What somebody else has changed meanwhile stays."""
    try:
        written = [change for change in changes if now(host, change) == change.after]
        list(_changed(host, _back(host, written), back=True))
    except AdoptError as error:
        raise AdoptError(f"cannot be put back: {error.what}", f"{error.hint}; then: {UNDO} --force") from None


def _test(host: Host, found: Found) -> list[str]:
    """What keepalived says of its file, without line numbers, which our lines move."""
    return without_line_numbers(tested(host, found.call))


def _accepted(before: list[str], after: list[str]) -> str:
    if new := [line for line in after if line not in before]:
        what = "\n".join(["keepalived says of the changed file:", *new])
        raise AdoptError(what, "the other of --fifo and --notify may do")
    return "as before" if before else "ok"


def _checked(host: Host) -> str:
    """Warnings come at the end: what they miss may be there once floatip has started."""
    try:
        reading.load(host.at(TOML))
    except reading.ConfigErrors as refused:
        raise AdoptError(reading.render(refused.errors, []), f"floatip check {TOML}") from None
    return "ok"


def _made(host: Host) -> str:
    if not host.at(FIFO).is_fifo():
        host.run("systemd-tmpfiles", "--create", "floatip.conf")
    if not host.at(FIFO).is_fifo():
        raise AdoptError(f"{FIFO} is not there", "it comes with the package: systemd-tmpfiles --create floatip.conf")
    return "there"
