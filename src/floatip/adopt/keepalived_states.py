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
    told: dict[str, str] = {}
    seen: dict[str, str] = {}

    def is_settled() -> bool:
        nonlocal seen, told
        seen = states(system, setup)
        now = {one.name: seen.get(one.name, "") for one in plan.instances}
        if now == told or not set(now.values()) <= set(STATES):
            return now == told
        for name, state in now.items():
            system.tell({"cmd": "notify", "kind": "INSTANCE", "name": name, "state": state})
        told = now
        return False

    try:
        is_known = system.wait(is_settled, TIMEOUT)
    except ControlError as error:
        raise AdoptError(f"the floatip daemon refuses keepalived's state: {error.what}", error.hint) from None
    if seen and (missing := [one.name for one in plan.instances if one.name not in seen]):
        hint = "check its interface and its virtual_router_id: journalctl -u keepalived"
        raise AdoptError(f"keepalived runs without {missing[0]}, which its file defines", hint)
    return ", ".join(f"{name} is {state}" for name, state in told.items()) if is_known else ""


def states(system: System, setup: Setup) -> dict[str, str]:
    """By name of the instance; empty: keepalived writes no file."""
    pid = system.text(setup.call.pid_file).strip()
    if not pid.isdecimal():
        return {}
    file = _file(system, setup, pid)
    before, text = _read(file)[0], ""
    if system.run("kill", "-s", "USR1", pid).status:
        return {}

    def is_written() -> bool:
        nonlocal text
        was = text
        identity, now = _read(file)
        text = "" if identity == before else now
        return bool(text) and text == was

    return dict(STATE.findall(text)) if system.wait(is_written, TIMEOUT) else {}


def _file(system: System, setup: Setup, pid: str) -> Path:
    """Seen through keepalived's own root: its unit may have a private /tmp."""
    variables = dict(one.split("=", 1) for one in system.text(f"/proc/{pid}/environ").split("\0") if "=" in one)
    directory = variables.get("TMPDIR", "")
    instances = [one.argument() for one in setup.conf.statements if one.keyword == "instance"]
    name = f".{instances[0]}" if instances and setup.conf.option("data_use_instance") else ""
    directory = directory if directory.startswith("/") else "/tmp"
    return system.at(f"/proc/{pid}/root{directory}/keepalived{name}.data")


def _read(file: Path) -> tuple[tuple[int, int], str]:
    """Which file it is, and its text. Anybody can put one there: only root's counts, and no link."""
    try:
        with regular.looked_at(file, follow=False) as descriptor:
            status = os.fstat(descriptor)
            text = regular.read_from(descriptor).decode(errors="replace") if status.st_uid == 0 else ""
            return (status.st_ino, status.st_mtime_ns), text
    except OSError:
        return (0, 0), ""
