"""Programs that the daemon runs and files that it writes: who can change them can do what floatip may do."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from floatip.model import Model, Script
from floatip.reading.machine import Machine, beginning
from floatip.reading.place import Places, Problem, Thing, shown
from floatip.reading.toml.values import as_list

BOM = b"\xef\xbb\xbf"
Doubt = tuple[str, str]


def commands(model: Model, places: Places, machine: Machine) -> Iterator[Problem]:
    named: list[tuple[Thing, tuple[str, ...]]] = [
        ((*at, "script"), check.kind.argv)
        for at, check in places.each(("check",), model.checks)
        if isinstance(check.kind, Script)
    ]
    if model.notify and model.notify.command:
        named.append((("notify", "command"), model.notify.command))
    for thing, argv in named:
        path = Path(argv[0])
        try:
            doubts = list(_doubts(path, machine))
            if not doubts and path.stat().st_uid != 0:
                yield places.warning(thing, f"{path} does not belong to root", f"chown root {path}")
        except OSError as error:
            is_line = len(argv) == 1 and " " in argv[0]
            hint = as_list(argv[0]) if is_line else "give the path of a file that can be run"
            doubts = [(f"{path} cannot be run: {str(error.strerror).lower()}", hint)]
        for what, hint in doubts:
            yield places.on_machine(thing, what, hint)


def _doubts(path: Path, machine: Machine) -> Iterator[Doubt]:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        yield f"{path} cannot be run: not a file", "give the path of a file that can be run"
    elif not status.st_mode & 0o111:
        yield f"{path} cannot be run: not executable", f"chmod +x {path}"
    elif doubt := _not_by_user(path, machine) or _first_line(path):
        yield doubt
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield f"{path} is writable by group or others", f"chmod go-w {path}"
    for directory in sorted({path.parent, path.resolve().parent}):
        if directory.stat().st_mode & stat.S_IWOTH:
            yield f"{directory} is writable by others, who can replace {path.name}", f"chmod o-w {directory}"


def _not_by_user(path: Path, machine: Machine) -> Doubt | None:
    """Whether the daemon's user lacks a right. An interpreter must read its script."""
    who = f"user {machine.user}" if machine.user else "this user"
    closed = next((one for one in reversed(path.parents) if not machine.may(one, os.X_OK)), None)
    if closed:
        return f"{path} cannot be run by {who}: {closed} is closed", f"move it, or chmod o+x {closed}"
    if not machine.may(path, os.X_OK):
        return f"{path} cannot be run by {who}", f"chmod a+rx {path}"
    is_script = os.access(path, os.R_OK) and beginning(path).startswith(b"#!")
    if is_script and not machine.may(path, os.R_OK):
        return f"{path} cannot be read by {who}, so its interpreter cannot run it", f"chmod a+r {path}"
    return None


def _first_line(path: Path) -> Doubt | None:
    """What the kernel would refuse (execve(2)), or not find."""
    if not os.access(path, os.R_OK):
        return None
    begins = beginning(path)
    line, _, _ = begins.partition(b"\n")
    if begins.startswith(BOM):
        return f"{path} begins with a byte order mark", f"sed -i '1s/^\\xEF\\xBB\\xBF//' {path}"
    if not begins.startswith(b"#!"):
        # A program is no text; what else the kernel may run (binfmt_misc) is none either.
        is_text = b"\0" not in begins
        return (f"{path} has no #! line", "make it the first line: #!/bin/sh") if is_text else None
    if line.endswith(b"\r"):
        return f"{path} has line ends of Windows (CRLF)", f"sed -i 's/\\r$//' {path}"
    interpreter = Path(os.fsdecode((line[2:].split() or [b""])[0]))
    if not os.access(interpreter, os.X_OK) or interpreter.is_dir():
        what = f"{path} names an interpreter that is not there: {shown(str(interpreter))}"
        return what, "install it, or correct the first line"
    return None


def state_log(model: Model, places: Places, machine: Machine) -> Iterator[Problem]:
    if not (path := model.state_log):
        return
    thing: Thing = ("state_log",)
    hint = 'use a directory that only floatip can write to: "/var/log/floatip/state"'
    try:
        mode = path.parent.stat().st_mode
    except OSError as error:
        what = f"nothing can be written to {path.parent}: {str(error.strerror).lower()}"
        yield places.warning(thing, what, hint)
        return
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield places.on_machine(thing, f"{path.parent} is writable by group or others", hint)
    elif os.path.lexists(path) and (os.path.islink(path) or not os.path.isfile(path)):
        yield places.on_machine(thing, f"{path} is not a regular file", hint)


def stop_time(model: Model, places: Places, machine: Machine) -> Iterator[Problem]:
    graceful = model.network.speaker.graceful_shutdown if model.network else 0.0
    if graceful + model.release_delay < machine.stop_limit:
        return
    thing: Thing = ("bgp", "graceful_shutdown") if graceful else ("release_delay",)
    what = (
        f"stopping takes {graceful + model.release_delay:g} s, and systemd kills floatip after {machine.stop_limit:g} s"
    )
    hint = f"systemctl edit floatip, and below [Service]: TimeoutStopSec={graceful + model.release_delay + 5:.0f}"
    yield places.warning(thing, what, hint)


ON_MACHINE = (commands, state_log, stop_time)
