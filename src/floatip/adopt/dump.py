"""What keepalived is, by its own word: on SIGUSR1 it writes all it knows to a file.

It says nothing after a reload. Without this a node that is in FAULT when it is adopted would be taken for well.
"""

import os
import re
import stat
from pathlib import Path

from floatip.adopt.found import Found
from floatip.adopt.host import AdoptError, Host
from floatip.adopt.plan import Plan
from floatip.host.ask import ControlError

STATE = re.compile(r"^ VRRP Instance = (.*)\n(?:   .*\n)*?   State = (\w+)$", re.M)
SAID = ("MASTER", "BACKUP", "FAULT")
PATIENCE = 5.0
"""Seconds for what takes milliseconds; a check that has not run yet takes its interval."""
UNKNOWN = "keepalived's state is not known until it changes: systemctl restart keepalived tells it"


def pass_on(host: Host, found: Found, plan: Plan) -> str:
    """Tells the daemon what keepalived is, and says it; empty: it cannot be learned."""
    told: dict[str, str] = {}
    seen: dict[str, str] = {}

    def is_told() -> bool:
        """Asked until it says the same twice: it may change while it is being told."""
        nonlocal seen, told
        seen = states(host, found)
        now = {one.name: seen.get(one.name, "") for one in plan.instances}
        if now == told:
            return True
        if not set(now.values()) <= set(SAID):
            return False
        for name, state in now.items():
            host.tell({"cmd": "notify", "kind": "INSTANCE", "name": name, "state": state})
        told = now
        return False

    try:
        is_known = host.wait(is_told, PATIENCE)
    except ControlError as error:
        raise AdoptError(f"the floatip daemon refuses what keepalived is: {error.what}", error.hint) from None
    if seen and (missing := [one.name for one in plan.instances if one.name not in seen]):
        hint = "journalctl -u keepalived says why; check its interface and its virtual_router_id"
        raise AdoptError(f"keepalived runs without {missing[0]}, which its file has", hint)
    return ", ".join(f"{name} is {state}" for name, state in told.items()) if is_known else ""


def states(host: Host, found: Found) -> dict[str, str]:
    """Of each instance that runs; empty: it does not say."""
    pid = host.text(found.call.pid_file).strip()
    if not pid.isdigit():
        return {}
    file = _file(host, found, pid)
    before = _read(file)[0]
    if host.run("kill", "-s", "USR1", pid).status:
        return {}
    text = ""

    def is_written() -> bool:
        nonlocal text
        was = text
        identity, now = _read(file)
        text = "" if identity == before else now
        return bool(text) and text == was

    return dict(STATE.findall(text)) if host.wait(is_written, PATIENCE) else {}


def _file(host: Host, found: Found, pid: str) -> Path:
    """As keepalived names it, and below its root: its unit may have a /tmp of its own."""
    variables = dict(one.split("=", 1) for one in host.text(f"/proc/{pid}/environ").split("\0") if "=" in one)
    directory = variables.get("TMPDIR", "")
    instances = [one.argument() for one in found.conf.statements if one.keyword == "instance"]
    name = f".{instances[0]}" if instances and found.conf.option("data_use_instance") else ""
    directory = directory if directory.startswith("/") else "/tmp"
    return host.at(f"/proc/{pid}/root{directory}/keepalived{name}.data")


def _read(file: Path) -> tuple[tuple[int, int], str]:
    """Which file it is, and its text. Anybody can put one there: only root's counts, and no link."""
    try:
        with open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_uid != 0:
                return (0, 0), ""
            return (status.st_ino, status.st_mtime_ns), opened.read().decode(errors="replace")
    except OSError:
        return (0, 0), ""
