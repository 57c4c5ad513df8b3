"""Doing it, and undoing it: step by step, in the order in which nothing is lost.

All files are written and judged before anything is restarted; until then a failure puts everything back. floatip starts
first and holds the addresses; only then lelastic stops, and keepalived reads its file again. A reload is enough:
keepalived 2.2.7 opens a new FIFO on it, and stays master.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from floatip import config
from floatip.adopt import backup as kept
from floatip.adopt import verify
from floatip.adopt.backup import Backup
from floatip.adopt.files import Change, State, diff, put, state
from floatip.adopt.found import Found
from floatip.adopt.host import AdoptError, Host, UnitState
from floatip.adopt.plan import FIFO, TOML, Plan

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

    def write(self, wanted: dict[Path, State | None]) -> None:
        try:
            for path in put(self.host, wanted):
                self.say(f"  {path}: {'written' if wanted[path] else 'removed'}")
        except OSError as error:
            what = f"a file cannot be written: {error.strerror}"
            raise AdoptError(what, "make room there, or mount it for writing") from None


def adopt(host: Host, found: Found, plan: Plan, say: Callable[[str], None]) -> None:
    steps = Steps(host, say)
    units = {unit: host.unit(unit) for unit in (FLOATIP, KEEPALIVED, *plan.announcers)}
    if plan.changes:
        _write(steps, found, plan, units)
    try:
        _switch(steps, found, plan, units)
    except KeyboardInterrupt:
        raise AdoptError("interrupted, with the files changed", f"go on: floatip adopt; back: {UNDO}") from None
    except AdoptError as error:
        raise AdoptError(error.what, f"{error.hint}\nhint: the files stay changed; back: {UNDO}") from None


def _write(steps: Steps, found: Found, plan: Plan, units: dict[str, UnitState | None]) -> None:
    host = steps.host
    before = _test(host, found)
    backup = kept.save(host, plan.changes, units, by_role=plan.by_role)
    steps.say(f"  backup: {backup.directory}")
    try:
        steps.write({change.path: change.after for change in plan.changes})
        steps("keepalived -t", lambda: _accepted(before, _test(host, found)))
        steps("floatip check", lambda: _checked(host))
        if plan.method == "fifo":
            steps(f"FIFO {FIFO}", lambda: _made(host))
    except BaseException:
        _put_back(host, plan.changes)
        kept.forget(host, backup)
        steps.say("  everything is put back as it was; nothing was restarted")
        raise


def _switch(steps: Steps, found: Found, plan: Plan, units: dict[str, UnitState | None]) -> None:
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
        steps.until("floatip follows keepalived", lambda: verify.unfollowed(host, plan))
    for warning in config.load(host.at(TOML)).warnings():
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
    is_master = verify.is_master(host)
    steps.write({change.path: change.before for change in reversed(backup.changes)})
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


def changed_since(host: Host, backup: Backup) -> list[str]:
    """What somebody else has done to the files, as a diff; nothing of one that an undo that failed has put back."""
    since = [Change(change.path, change.after, state(host, change.path)) for change in backup.changes]
    pairs = zip(backup.changes, since, strict=True)
    return [line for change, now in pairs if now.after != change.before for line in diff(now)]


def _put_back(host: Host, changes: Iterable[Change]) -> None:
    changed = {change.path: change.before for change in changes if state(host, change.path) != change.before}
    try:
        list(put(host, changed))
    except OSError as error:
        raise AdoptError(f"cannot be put back: {error.strerror}", f"make room, then: {UNDO} --force") from None


def _test(host: Host, found: Found) -> list[str]:
    """What keepalived says of its file, without line numbers, which our lines move."""
    identity = ("-i", found.call.config_id) if found.call.config_id else ()
    test = ("keepalived", "-t", "-f", found.call.config, *identity)
    # 2.2.7 ends itself by SIGTERM at the first script that does not run as root, and is immune to that as process 1.
    done = host.run("unshare", "--pid", "--fork", "--kill-child", *test)
    if done.output.startswith("unshare:"):
        done = host.run(*test)
    said = [re.sub(r"\(([^()]*: )?Line \d+\)\s*", "", line) for line in done.output.splitlines()]
    return [*said, f"exit status {done.status}"] if done.status else said


def _accepted(before: list[str], after: list[str]) -> str:
    if new := [line for line in after if line not in before]:
        what = "\n".join(["keepalived says of the changed file:", *new])
        raise AdoptError(what, "the other of --fifo and --notify may do")
    return "as before" if before else "ok"


def _checked(host: Host) -> str:
    """Warnings come at the end: what they miss may be there once floatip has started."""
    try:
        config.load(host.at(TOML))
    except config.ConfigErrors as refused:
        raise AdoptError(config.render(refused.errors, []), f"floatip check {TOML}") from None
    return "ok"


def _made(host: Host) -> str:
    if not host.at(FIFO).is_fifo():
        host.run("systemd-tmpfiles", "--create", "floatip.conf")
    if not host.at(FIFO).is_fifo():
        raise AdoptError(f"{FIFO} is not there", "it comes with the package: systemd-tmpfiles --create floatip.conf")
    return "there"
