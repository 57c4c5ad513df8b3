"""What is doubtful about files of this machine that the daemon runs, reads or writes.

Who can change them can do what floatip may do. Whoever asks (rules, adopt, init) adds where they are named.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from floatip.model import RunAs
from floatip.reading.machine import Machine
from floatip.reading.patience import note_path
from floatip.reading.regular import beginning
from floatip.reading.words import as_list, shown

REMOTE = re.compile(r"nfs4?|cifs|smb3?|ceph|9p|afs|glusterfs|fuse(\..+)?|autofs|virtiofs")
"""File systems that may hang, and of whose changes elsewhere inotify says nothing."""
UNTOLD = ("sysfs", "proc", "cgroup2")
RUN = Path("/run/floatip")
"""systemd makes it when it starts the daemon, and keeps it."""
BOM = b"\xef\xbb\xbf"


class Doubt(NamedTuple):
    what: str
    hint: str
    is_error: bool = True


def command(argv: tuple[str, ...], machine: Machine) -> Iterator[Doubt]:
    path = Path(argv[0])
    note_path(path)
    try:
        doubts = list(_program(path, machine))
        if not doubts and path.stat().st_uid != 0:
            doubts.append(Doubt(f"{path} does not belong to root", f"chown root {path}", is_error=False))
        doubts += _remote(path, machine)
    except OSError as error:
        is_line = len(argv) == 1 and " " in argv[0]
        hint = as_list(argv[0]) if is_line else "give the path of a file that can be run"
        doubts = [Doubt(f"{path} cannot be run: {str(error.strerror).lower()}", hint)]
    yield from doubts


def _program(path: Path, machine: Machine) -> Iterator[Doubt]:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        yield Doubt(f"{path} cannot be run: not a file", "give the path of a file that can be run")
    elif not status.st_mode & 0o111:
        yield Doubt(f"{path} cannot be run: not executable", f"chmod +x {path}")
    elif doubt := _closed(path, machine) or _first_line(path):
        yield doubt
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield Doubt(f"{path} is writable by group or others", f"chmod go-w {path}")
    for directory in sorted({path.parent, path.resolve().parent}):
        if directory.stat().st_mode & stat.S_IWOTH:
            what = f"{directory} is writable by others, who can replace {path.name}"
            yield Doubt(what, f"chmod o-w {directory}")


def _who(machine: Machine) -> str:
    return f"user {machine.user}" if machine.user else "this user"


def closed_above(path: Path, machine: Machine) -> Path | None:
    """The directory that the daemon's user may not pass; None also where one does not exist yet."""
    return next((one for one in reversed(path.parents) if os.path.isdir(one) and not machine.may(one, os.X_OK)), None)


def _closed(path: Path, machine: Machine) -> Doubt | None:
    """Whether the daemon's user lacks a right. An interpreter must read its script."""
    who = _who(machine)
    if closed := closed_above(path, machine):
        return Doubt(f"{path} cannot be run by {who}: {closed} is closed", f"move it, or chmod o+x {closed}")
    if not machine.may(path, os.X_OK):
        return Doubt(f"{path} cannot be run by {who}", f"chmod a+rx {path}")
    is_script = os.access(path, os.R_OK) and beginning(path).startswith(b"#!")
    if is_script and not machine.may(path, os.R_OK):
        return Doubt(f"{path} cannot be read by {who}, so its interpreter cannot run it", f"chmod a+r {path}")
    return None


def _first_line(path: Path) -> Doubt | None:
    """What the kernel would refuse (execve(2)), or not find."""
    if not os.access(path, os.R_OK):
        return None
    begins = beginning(path)
    line, _, _ = begins.partition(b"\n")
    if begins.startswith(BOM):
        return Doubt(f"{path} begins with a byte order mark", f"sed -i '1s/^\\xEF\\xBB\\xBF//' {path}")
    if not begins.startswith(b"#!"):
        # A program is no text; what else the kernel may run (binfmt_misc) is none either.
        is_text = b"\0" not in begins
        return Doubt(f"{path} has no #! line", "make it the first line: #!/bin/sh") if is_text else None
    if line.endswith(b"\r"):
        return Doubt(f"{path} has line ends of Windows (CRLF)", f"sed -i 's/\\r$//' {path}")
    interpreter = Path(os.fsdecode((line[2:].split() or [b""])[0]))
    if not os.access(interpreter, os.X_OK) or interpreter.is_dir():
        what = f"{path} names an interpreter that is not there: {shown(str(interpreter))}"
        return Doubt(what, "install it, or correct the first line")
    return None


def watched(path: Path, machine: Machine) -> Iterator[Doubt]:
    """A file whose being there is a check, or a pid file."""
    note_path(path)
    if closed := closed_above(path, machine):
        what = f"{path} cannot be looked at by {_who(machine)}: {closed} is closed"
        yield Doubt(what, f"move it, or chmod o+x {closed}", is_error=False)
    if (kind := machine.file_system(path)) in UNTOLD:
        what = f"{path} is on {kind}, of whose changes nobody is told: floatip looks once a second"
        yield Doubt(what, "where that is too slow, use a file in /run, or a script", is_error=False)
    yield from _remote(path, machine)


def presence(path: Path, fail_when: str, machine: Machine) -> Iterator[Doubt]:
    """A file whose being there is a check: whether that can ever be otherwise."""
    directory = Path(os.path.normpath(path)).parent
    if os.path.normpath(path) in ("/", "//"):
        verdict = "down" if fail_when == "present" else "up"
        what = f"{path} is always there, so the check is always {verdict}"
        yield Doubt(what, f'name a file that comes and goes: "{RUN}/trigger"', is_error=False)
    elif fail_when == "present" and directory != RUN and not (closed_above(path, machine) or directory.is_dir()):
        what = f"nobody can make {path}: there is no directory {directory}"
        yield Doubt(what, f'mkdir -p {directory}, or write "{RUN}/{path.name}"', is_error=False)


def _remote(path: Path, machine: Machine) -> Iterator[Doubt]:
    kind = machine.file_system(path)
    if REMOTE.fullmatch(kind):
        what = f"{path} is on {kind}: while that hangs, the check fails on every node that uses it"
        yield Doubt(what, "use a file on a local disk, or in /run", is_error=False)


def log_file(path: Path, machine: Machine) -> Iterator[Doubt]:
    note_path(path)
    hint = 'use a directory that only floatip can write to: "/var/log/floatip/state"'
    try:
        mode = path.parent.stat().st_mode
    except OSError as error:
        what = f"nothing can be written to {path.parent}: {str(error.strerror).lower()}"
        yield Doubt(what, hint, is_error=False)
        return
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield Doubt(f"{path.parent} is writable by group or others", hint)
    elif os.path.lexists(path) and (os.path.islink(path) or not os.path.isfile(path)):
        yield Doubt(f"{path} is not a regular file", hint)
    elif not machine.may(path if os.path.exists(path) else path.parent, os.W_OK):
        yield Doubt(f"{path} cannot be written by {_who(machine)}", hint, is_error=False)


def own_fifo(path: Path, owner: RunAs, machine: Machine) -> Iterator[Doubt]:
    """A FIFO that the daemon writes to, and makes where it is missing."""
    note_path(path)
    who = _who(machine)
    try:
        mode = path.lstat().st_mode
    except OSError:
        if path.parent == RUN or machine.may(path.parent, os.W_OK):
            return
        what = f"{path} cannot be made by {who}: it may not write to {path.parent}"
        if not path.parent.is_dir():
            what = f"{path} cannot be made: there is no directory {path.parent}"
    else:
        if not stat.S_ISFIFO(mode):
            yield Doubt(f"{path} is not a FIFO", f"rm {path}", is_error=False)
            return
        if machine.may(path, os.W_OK) and machine.may(path, os.R_OK):
            return
        what = f"{path} cannot be written by {who}"
    line = f"p {path} 0660 {owner.user or machine.user or 'floatip'} floatip"
    hint = f"rm -f {path}; echo '{line}' > /etc/tmpfiles.d/{path.name}.conf; systemd-tmpfiles --create"
    yield Doubt(what, hint, is_error=False)


def fifo(path: Path, machine: Machine) -> Iterator[Doubt]:
    note_path(path)
    hint = f"rm {path}; systemd-tmpfiles --create; systemctl restart keepalived"
    try:
        if not stat.S_ISFIFO(path.lstat().st_mode):
            yield Doubt(f"{path} is not a FIFO", hint)
        elif not machine.may(path, os.R_OK):
            yield Doubt(f"{path} cannot be read by {_who(machine)}", hint, is_error=False)
    except OSError as error:
        hint = "make it: systemd-tmpfiles --create; without it only `floatip notify` says what keepalived decides"
        yield Doubt(f"{path} cannot be read: {str(error.strerror).lower()}", hint, is_error=False)
    with suppress(OSError):
        if path.parent.stat().st_mode & stat.S_IWOTH:
            what = f"{path.parent} is writable by others, who can replace {path.name}"
            yield Doubt(what, 'use a directory of root\'s: "/run/keepalived/floatip"')
