"""Why no daemon answers: what systemd, the journal and the files of this machine say.

Programs that are absent or hang, and files that cannot be read, leave out what they would have said.
"""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import NamedTuple

from floatip import DEFAULT_CONFIG
from floatip.commands import COMMANDS
from floatip.host.ask import NobodyAnswers
from floatip.text import span

SYSTEMD = "/run/systemd/system"
"""Where systemd runs (sd_booted(3))."""
FLAGS = "/etc/floatip/lelastic"
"""What floatip-lelastic.service waits for."""
OURS, KEEPALIVED = "floatip.service", "keepalived.service"
ANNOUNCERS = ("floatip-lelastic.service", "lelastic.service")
"""The second may be a unit of the administrator's own that runs floatip in lelastic mode."""
PROPERTIES = (
    *("Id", "LoadState", "ActiveState", "SubState", "Result", "UnitFileState", "NRestarts", "ExecStart"),
    *("ExecMainCode", "ExecMainStatus", "ActiveEnterTimestamp", "ActiveExitTimestamp", "InactiveEnterTimestamp"),
)
TIMEOUT, READ_TIMEOUT = 5.0, 10.0
"""Seconds for each program, and for reading the configuration: a busy machine is slow, a hanging one never answers."""
LATEST = 5.0
"""Seconds for which an answer is good: `--watch` asks every second."""
LINES, ERRORS, LONGEST = 4, 3, 300
"""Of the journal; of the configuration; characters of a line."""
STOPPED_WITHIN = 15.0
"""Seconds before a stop in which a command caused it."""
EXITED, KILLED, DUMPED = "1", "2", "3"
"""ExecMainCode: CLD_EXITED and so on of sigaction(2)."""
USAGE = "Usage of floatip lelastic:\n"
"""Stands below a wrong flag."""
RESULTS = {
    "watchdog": "it hung, and the watchdog killed it",
    "timeout": "it did not start or stop in time",
    "oom-kill": "it used too much memory, and the kernel killed it",
    "start-limit-hit": "it was started too often",
    "resources": "systemd has no resources for it",
    "protocol": "it did not say that it was ready",
}
BEGIN = "floatip adopt, or floatip init"


@dataclass(slots=True)
class Findings:
    why: str
    hint: str
    facts: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    """The last ones of its journal."""


class Absent(NobodyAnswers):
    """`what` is one line; all that is known stands below it."""

    def __init__(self, error: NobodyAnswers, found: Findings) -> None:
        super().__init__(f"{error.what}: {found.why}", found.hint)
        last = ["the last lines of its journal:", *(f"  {line}" for line in found.lines)] if found.lines else []
        lines = [line for fact in (found.why, *found.facts, *last) for line in fact.split("\n")]
        self._text = "\n".join([error.coded, *(f"  {line}" for line in lines), f"hint: {found.hint}"])

    def __str__(self) -> str:
        return self._text


class Entry(NamedTuple):
    message: str
    time: float
    """Seconds since the epoch."""


Unit = dict[str, str]
"""Properties of systemctl show."""
_latest: tuple[float, Findings] | None = None


def explained(error: NobodyAnswers) -> NobodyAnswers:
    """The same error with what is known."""
    global _latest
    if not _latest or time.monotonic() - _latest[0] > LATEST:
        _latest = time.monotonic(), _find_out()
    return Absent(error, _latest[1])


def _find_out() -> Findings:
    is_configured = os.path.exists(DEFAULT_CONFIG)
    units = _units()
    announcers = [units[name] for name in ANNOUNCERS if units and _runs_floatip(units.get(name, {}))]
    if not is_configured and (announcers or os.path.exists(FLAGS)):
        return _lelastic(announcers, units)
    found = _daemon(units, is_configured)
    if is_configured:
        keepalived_elects, errors = _configuration()
        if errors is None:
            found.facts.append(f"{DEFAULT_CONFIG} could not be read and checked within {READ_TIMEOUT:g} s")
        elif errors:
            found.facts += errors
            found.lines = []  # they say the same
            found.hint = f"mend the file: floatip check; then: {_start(found)}"
        if keepalived_elects:
            state = (units or {}).get(KEEPALIVED, {}).get("ActiveState", "")
            is_so = f" ({KEEPALIVED} is {state})" if state else ""
            found.facts.append(f"keepalived elects on this node{is_so}; without floatip this node announces nothing")
    return found


def _start(found: Findings) -> str:
    return found.hint if found.hint.startswith("systemctl") else "systemctl start floatip"


# The mode without an election


def _lelastic(announcers: list[Unit], units: dict[str, Unit] | None) -> Findings:
    unit = next((one for one in announcers if one["ActiveState"] != "inactive"), announcers[0] if announcers else {})
    name = unit.get("Id", ANNOUNCERS[0])
    mode = f"this node is in lelastic mode: {name} announces, and floatip elects and checks nothing here"
    found = (
        _of_unit(unit, name)
        if unit
        else Findings(_no_answer(units), "see what starts it here; its flags: floatip lelastic -h")
    )
    found.facts.insert(0, mode)
    if (units or {}).get(KEEPALIVED, {}).get("ActiveState") == "active":
        found.facts.append("a notify script of keepalived may start and stop it: then a standby announces nothing")
        if found.hint.startswith("systemctl start"):
            found.hint = f"is this node to announce? journalctl -u keepalived -n 20; if it is: {found.hint}"
    return found


def _runs_floatip(unit: Unit) -> bool:
    """A unit that is there, and is not lelastic's own."""
    if unit.get("LoadState") != "loaded":
        return False
    return (unit.get("Id") == ANNOUNCERS[0] and os.path.exists(FLAGS)) or bool(
        unit.get("Id") != ANNOUNCERS[0] and re.search(r"floatip[ -]lelastic", unit.get("ExecStart", ""))
    )


# The daemon


def _daemon(units: dict[str, Unit] | None, is_configured: bool) -> Findings:
    unit = (units or {}).get(OURS, {})
    state, load = unit.get("ActiveState", ""), unit.get("LoadState", "")
    if load == "masked" or state not in ("", "inactive"):
        return _of_unit(unit, OURS)
    if not is_configured:
        return Findings(f"this node is not configured: there is no {DEFAULT_CONFIG}", BEGIN)
    if load == "not-found":
        return Findings(f"there is no unit {OURS}", "install the package, or run the daemon by hand: floatip run")
    if not unit:
        return _without_systemd(units)
    return _of_unit(unit, OURS)


def _no_answer(units: dict[str, Unit] | None) -> str:
    return "systemd does not run here" if units is None else "systemd does not answer"


def _without_systemd(units: dict[str, Unit] | None) -> Findings:
    if units is not None:
        return Findings(_no_answer(units), "find out whether it hangs: systemctl status")
    pids = list(_daemons())
    if pids:
        what = f"process {', '.join(map(str, pids))} is a floatip daemon"
        hint = "give the command the daemon's RUNTIME_DIRECTORY; look whether it has only started"
        return Findings(f"{_no_answer(units)}, and {what}", hint)
    return Findings(f"{_no_answer(units)}, and no process is a floatip daemon", "floatip run, in what starts it here")


def _daemons() -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if any(words[at].endswith(b"floatip") and words[at + 1] == b"run" for at in range(len(words) - 1)):
                yield int(path.parent.name)


# A unit, as systemd sees it


def _of_unit(unit: Unit, name: str) -> Findings:
    short = name.removesuffix(".service")
    start, read = f"systemctl start {short}", f"read why: journalctl -u {short} -n 50"
    if unit["LoadState"] == "masked":
        found = Findings(f"{name} is masked, so nothing can start it", f"systemctl unmask {short}; {start}")
        if since := _ago(unit["InactiveEnterTimestamp"]):
            found.facts.append(f"stopped {since}")
        return found
    if unit["LoadState"] != "loaded":
        return Findings(f"{name} cannot be loaded ({unit['LoadState']})", f"systemctl status {short}")
    state, ended = f"{unit['ActiveState']}/{unit['SubState']}", _ended(unit, name)
    match unit["ActiveState"]:
        case "failed":
            since = _ago(unit["InactiveEnterTimestamp"])
            found = Findings(f"{name} failed{f' {since}' if since else ''}: {ended}", read)
            found.lines = _last_lines(name)
        case "activating" if unit["SubState"] == "auto-restart":
            count = f"{unit['NRestarts']} restarts so far" if unit["NRestarts"] != "1" else "one restart so far"
            found = Findings(f"{name} has ended, and systemd starts it again ({count}): {ended}", read)
            found.lines = _last_lines(name)
        case "activating":
            found = Findings(f"{name} is starting", read)
            found.lines = _last_lines(name)
        case "inactive" if since := _ago(_stopped(unit, name)):
            found = Findings(f"{name} was stopped {since}{_by_whom(unit, name)}", start)
            if ended and unit["ExecMainStatus"] not in ("", "0"):
                found.facts.append(f"at last: {ended}")
        case "inactive":
            found = Findings(f"{name} does not run, and no start since the boot is known", start)
        case "active" | "reloading":
            hint = f"is RUNTIME_DIRECTORY another one here? {read}"
            since = _ago(unit["ActiveEnterTimestamp"])
            found = Findings(f"{name} is running{f' since {since}' if since else ''}", hint)
        case _:
            found = Findings(f"{name} is {state}", read)
    if unit["UnitFileState"] == "disabled":
        found.facts.append(f"{name} is disabled: it does not start at boot (systemctl enable {short})")
    return found


def _ended(unit: Unit, name: str) -> str:
    """How its last process ended."""
    known = RESULTS.get(unit["Result"], "")
    code, status = unit["ExecMainCode"], unit["ExecMainStatus"]
    if code == EXITED:
        meaning = COMMANDS["run"].exits.get(int(status), "") if name == OURS and status.isdigit() else ""
        how = f"exit status {status}" + (f", {meaning}" if meaning and status != "0" else "")
    elif code in (KILLED, DUMPED):
        how = f"killed by {_signal_name(status)}"
    else:
        how = "" if known else unit["Result"]
    return "; ".join(filter(None, (known, how)))


def _signal_name(number: str) -> str:
    with suppress(ValueError):
        return signal.Signals(int(number)).name
    return f"signal {number}"


def _ago(timestamp: str) -> str:
    """Of systemctl's "@1764435600"; empty: it never was."""
    if not (match := re.fullmatch(r"@(\d+)", timestamp)) or not int(match[1]):
        return ""
    at = int(match[1])
    then = time.strftime("%d %b %H:%M:%S", time.localtime(at))
    return f"{then}, {span(max(0.0, time.time() - at))} ago"


def _stopped(unit: Unit, name: str) -> str:
    """When. systemd forgets what it knew of a unit that is neither enabled nor runs; the journal does not."""
    if unit["InactiveEnterTimestamp"].strip("@0"):
        return unit["InactiveEnterTimestamp"]
    stops = _journal("--boot", "--lines=1", "_PID=1", f"UNIT={name}", "JOB_TYPE=stop", "JOB_RESULT=done")
    return f"@{int(stops[-1].time)}" if stops else ""


def _by_whom(unit: Unit, name: str) -> str:
    """If it was by sudo, which writes down each command."""
    began = unit["ActiveExitTimestamp"]
    if not (match := re.fullmatch(r"@(\d+)", began if began.strip("@0") else _stopped(unit, name))):
        return ""
    at = int(match[1])
    short = name.removesuffix(".service")
    between = f"--since=@{at - STOPPED_WITHIN:.0f}", f"--until=@{at + 1}"
    for entry in reversed(_journal("--lines=50", *between, "_COMM=sudo")):
        told = re.match(r"\s*(\S+) : .*\bCOMMAND=(.*)", entry.message)
        if told and re.search(rf"(systemctl|service) .*\b{re.escape(short)}\b", told[2]):
            return f" by {told[1]}: {told[2][:LONGEST]}"
    return ""


def _units() -> dict[str, Unit] | None:
    """Empty: systemd does not answer in time. None: there is none."""
    if not os.path.isdir(SYSTEMD):
        return None
    show = ["systemctl", "show", "--no-pager", f"--property={','.join(PROPERTIES)}"]
    names = OURS, *ANNOUNCERS, KEEPALIVED
    try:
        # An older systemd does not know the option, and then says no times.
        text = _output([*show, "--timestamp=unix", *names])
        if text is None:
            text = _output([*show, *names])
    except FileNotFoundError:
        return None
    blocks = [
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in (text or "").split("\n\n")
    ]
    # One that is an alias of another comes under the name of that.
    return {
        asked: dict.fromkeys(PROPERTIES, "") | block
        for asked, block in zip(names, blocks, strict=False)
        if "Id" in block
    }


def _last_lines(name: str) -> list[str]:
    """Of its processes; one entry may have many."""
    text = "\n".join(entry.message for entry in _journal("--lines=50", f"_SYSTEMD_UNIT={name}"))
    before, usage, after = text.rpartition(USAGE)
    is_last = usage and all(line.startswith((" ", "\t")) for line in after.splitlines())
    lines = [line for line in (before if is_last else text).splitlines() if line.strip()]
    return [line[:LONGEST] for line in lines[-LINES:]]


def _journal(*arguments: str) -> list[Entry]:
    """None may be readable for this user."""
    try:
        text = _output(["journalctl", "--quiet", "--no-pager", "--output=json", *arguments])
    except FileNotFoundError:
        return []
    entries = []
    for line in (text or "").splitlines():
        with suppress(ValueError, TypeError, KeyError):
            entry = json.loads(line)
            message, time = entry["MESSAGE"], float(entry["__REALTIME_TIMESTAMP"]) / 1e6
            # What is not printable comes as a list of bytes.
            text = message if isinstance(message, str) else bytes(message).decode(errors="replace")
            entries.append(Entry(text, time))
    return entries


def _output(command: list[str]) -> str | None:
    """Empty: it cannot be run, or hangs; None: it failed. Raises FileNotFoundError."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT,
            env=os.environ | {"LC_ALL": "C"},
            check=False,
        )
    except FileNotFoundError:
        raise
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


# The file


def _configuration() -> tuple[bool, list[str] | None]:
    """Whether keepalived elects, and what is wrong with the file; in a thread, because a path in it may hang: None."""
    result: list[tuple[bool, list[str]]] = []
    reading = Thread(target=lambda: result.append(_read()), daemon=True)
    reading.start()
    reading.join(READ_TIMEOUT)
    return result[0] if result else (False, None)


def _read() -> tuple[bool, list[str]]:
    from floatip.core.settings import Keepalived  # noqa: PLC0415
    from floatip.reading import ConfigErrors, load  # noqa: PLC0415
    from floatip.reading.machine import daemons_user  # noqa: PLC0415

    if not os.access(DEFAULT_CONFIG, os.R_OK):
        return False, []  # this user may not, the daemon may
    try:
        loaded = load(DEFAULT_CONFIG, daemons_user())
    except ConfigErrors as refused:
        left = len(refused.errors) - ERRORS
        more = [f"and {left} more errors"] if left > 0 else []
        return False, [*map(str, refused.errors[:ERRORS]), *more]
    except OSError:
        return False, []  # of the machine, not of the file
    return any(isinstance(one.election, Keepalived) for one in loaded.model.instances), []
