"""`floatip check`: what is wrong with a configuration and with this machine for it; with --run, what the checks say."""

import asyncio
import os
import pwd
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from floatip import DEFAULT_CONFIG, reading
from floatip.adopt import beside
from floatip.adopt.system import AdoptError, System
from floatip.commands import Misused, Refusal, again_as_root
from floatip.core.refusals import Why
from floatip.host import privileges
from floatip.host.checks.once import Result, counted, run_each
from floatip.host.checks.runner import KINDS
from floatip.host.errors import in_words
from floatip.model import Check, Model, Script
from floatip.reading import machine
from floatip.reading.keepalived.lint.facts import PATH
from floatip.reading.patience import told_when_slow
from floatip.reading.place import Places
from floatip.reading.toml import document
from floatip.text import printable, say, show

STDIN = Path("-")
WIDEST_NAME = 24
PATIENCE = 10.0
"""Seconds for an answer of systemd."""
NOT_OURS = ("operation not permitted", "no process found")
"""What kill -0 and killall -0 say of a process of another user."""


class Unseen(Refusal):
    """The kernel does not say what this machine has."""

    status = 2
    code = Why.KERNEL_REFUSES


def check(
    file: Path, dcid: int | str | None = None, *, run: bool, strict: bool = False, becomes: Path | None = None
) -> int:
    """The exit status. Raises `Refusal`.

    `becomes`: where the file is to be copied; None: it is there, or comes from stdin and is to be the default file.
    """
    if file == STDIN:
        becomes = becomes or Path(DEFAULT_CONFIG)
    user = machine.daemons_user()
    if run:
        _may_run()
    try:
        with told_when_slow(file):
            seen = _machine(user)
            read = _read(file, becomes, seen, dcid)
            loaded = reading.judged(read, user, file, seen, becomes)
            warnings = [*loaded.warnings, *_beside(read)]
    except reading.ConfigErrors as refused:
        show(reading.render(refused.errors, refused.warnings))
        return 2
    if warnings:
        show(reading.render([], warnings))
    show("\n".join(f"ok: {line}" for line in reading.will(loaded.model, loaded.here)))
    status = _run(read.model, read.places, user) if run else 0
    return status or int(strict and bool(reading.partitioned(warnings)[1]))


def _beside(read: reading.Read) -> Iterator[reading.ConfigWarning]:
    try:
        yield from beside.beside(read.model, read.places, System(patience=PATIENCE))
    except AdoptError as error:
        what = f"whether keepalived or lelastic elects or announces here too is not known: {error.what}"
        yield read.places.warning((), what, error.hint)


def _read(file: Path, becomes: Path | None, seen: machine.Machine, dcid: int | str | None) -> reading.Read:
    if file != STDIN:
        return reading.read(file, seen, dcid)
    text = sys.stdin.buffer.read(document.LARGEST + 1)
    if len(text) > document.LARGEST:
        what = f"larger than {document.LARGEST >> 10} KiB"
        error = reading.ConfigError(str(becomes), 0, "", what, "give the configuration alone on stdin")
        raise reading.ConfigErrors([error])
    return reading.read_text(str(becomes), text, dcid)


def _machine(user: str) -> machine.Machine:
    """Raises `Unseen`."""
    try:
        return reading.look_around(user)
    except OSError as error:
        what = f"this machine's addresses and routes cannot be read: {in_words(error.errno)}"
        raise Unseen(what, "ask the kernel yourself: ip address; ip route") from None


def _may_run() -> None:
    if os.geteuid() != 0 and (name := _own_name()) != machine.DAEMON:
        what = f"--run runs the checks as user {machine.DAEMON}, and you are {name}"
        raise Misused(what, again_as_root())


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"number {os.geteuid()}"


def _run(model: Model, places: Places, user: str) -> int:
    checks = [one for one in model.checks if one.kind]
    if not checks:
        print("there is no check to run")
        return 0
    if user:
        _become(user)
    privileges.keep_from_children()
    print(f"each check once, as user {_own_name()}:", flush=True)
    width = min(max(len(one.name) for one in checks), WIDEST_NAME)
    results: dict[str, Result] = {}
    failed = []

    def done(check: Check, result: Result) -> None:
        results[check.name] = result
        verdict = "passed" if result.passed else "failed"
        show(printable(f"{verdict}  {check.name:{width}}  {result.seconds:6.2f} s  {result.reason}"), width + 20)
        if not result.passed:
            failed.append(check)
            if hint := _hint(check, result.reason, places):
                show(f"  hint: {hint}")

    asyncio.run(run_each([one for one in checks if type(one.kind) in KINDS], done, _still_running))
    for check in checks:
        if type(check.kind) not in KINDS:
            if result := counted(check, results):
                done(check, result)
            else:
                show(printable(f"unknown {check.name:{width}}            only a floatip that runs knows"), width + 20)
    print(f"{len(results) - len(failed)} of {len(results)} passed")
    return 1 if failed else 0


def _still_running(checks: Sequence[Check], seconds: float) -> None:
    names = ", ".join(f"{one.name} (timeout {one.policy.timeout:g} s)" for one in checks)
    say(f"after {seconds:.0f} s still running: {names}")


def _hint(check: Check, reason: str, places: Places) -> str:
    if not isinstance(check.kind, Script) or not any(words in reason.lower() for words in NOT_OURS):
        return ""
    instead = places.either('write process = "NAME"', "write a vrrp_track_process")
    return f"kill -0 and killall -0 ask only about processes of the same user; {instead} instead"


def _become(name: str) -> None:
    """The user of the unit, for the rest of this process, with the environment that systemd gives."""
    user = pwd.getpwnam(name)
    os.setgroups(os.getgrouplist(name, user.pw_gid))
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    with privileges.kept():
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    os.chdir("/")
    os.umask(0o022)
    os.environ.clear()
    os.environ.update(PATH=PATH, USER=name, LOGNAME=name, HOME=user.pw_dir, SHELL=user.pw_shell, LANG="C.UTF-8")
