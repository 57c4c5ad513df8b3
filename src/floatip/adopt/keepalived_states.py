"""The states of keepalived's instances, which floatip is told once: after a reload keepalived says nothing.

On SIGUSR1 keepalived writes what it knows to a file. Without this an adopted node in FAULT would count as healthy.
"""

import os
import re
from pathlib import Path

from floatip.adopt.plan import Plan
from floatip.adopt.setup import Setup
from floatip.adopt.system import AdoptError, System
from floatip.host.ask import ControlError
from floatip.reading import regular

STATE = re.compile(r"^ VRRP Instance = (.*)\n(?:   .*\n)*?   FileState = (\w+)$", re.M)
STATES = ("MASTER", "BACKUP", "FAULT")
TIMEOUT = 5.0
"""Seconds for what takes milliseconds; a check that has not run yet takes its interval."""
UNKNOWN = "floatip does not know keepalived's state until it changes: systemctl restart keepalived"


def tell(system: System, setup: Setup, plan: Plan) -> str:
    """Tells the daemon, until keepalived says the same twice. Returns the states as text; empty: not known."""
    names = [instance.name for instance in plan.instances]
    seen: dict[str, str] = {}
    told: dict[str, str] = {}

    def is_settled() -> bool:
        nonlocal seen, told
        seen = states(system, setup)
        now = {name: seen[name] for name in names if seen.get(name) in STATES}
        if len(now) < len(names) or now == told:
            return len(now) == len(names)
        for name, state in now.items():
            system.tell({"cmd": "notify", "kind": "INSTANCE", "name": name, "state": state})
        told = now
        return False

    try:
        is_known = system.wait(is_settled, TIMEOUT)
    except ControlError as error:
        raise AdoptError(f"the floatip daemon refuses keepalived's state: {error.what}", error.hint) from None
    if seen and (missing := [name for name in names if name not in seen]):
        hint = "check its interface and its virtual_router_id: journalctl -u keepalived"
        raise AdoptError(f"keepalived runs without {missing[0]}, which its file defines", hint)
    return ", ".join(f"{name} is {state}" for name, state in told.items()) if is_known else ""


def states(system: System, setup: Setup) -> dict[str, str]:
    """By name of the instance; empty: keepalived writes no file."""
    pid = system.text(setup.call.pid_file).strip()
    # Through keepalived's own root: its unit may have a private /tmp.
    file = system.at(f"/proc/{pid}/root/tmp/keepalived.data")
    seen = [_read(file)]
    if not pid.isdecimal() or system.run("kill", "-s", "USR1", pid).status:
        return {}

    def is_written() -> bool:
        seen.append(_read(file))
        return seen[0] != seen[-2] == seen[-1]

    return dict(STATE.findall(seen[-1][-1])) if system.wait(is_written, TIMEOUT) else {}


def _read(file: Path) -> tuple[int, int, str]:
    """Which file it is, and its text. Anybody can put one there: only root's counts, and no link."""
    try:
        with regular.looked_at(file, follow=False) as descriptor:
            status = os.fstat(descriptor)
            if status.st_uid == 0:
                return status.st_ino, status.st_mtime_ns, regular.read_from(descriptor).decode(errors="replace")
    except OSError:
        pass
    return 0, 0, ""
