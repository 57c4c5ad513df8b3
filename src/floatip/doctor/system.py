"""What the system does for the daemon: its unit, the journal, the clock."""

import re
from collections.abc import Iterator

from floatip.doctor.context import Context
from floatip.doctor.finding import Code, Finding, note, problem, unseen, warning, well
from floatip.doctor.host import Missing, Unseen

UNIT = "floatip.service"
PROPERTIES = "LoadState,UnitFileState,ActiveState,NRestarts"
SYSTEMD = "/run/systemd/system"
"""Where systemd runs (sd_booted(3))."""


def unit(context: Context) -> Iterator[Finding]:
    command = ("systemctl", "show", UNIT, "-p", PROPERTIES)
    try:
        context.host.names(SYSTEMD)
        shown = context.host.run(*command)
    except Missing:
        if context.has_file:
            what = "systemd does not run here: something else must start floatip at boot, and again when it crashes"
            yield note(Code.UNIT, UNIT, what)
        return
    except Unseen as error:
        yield unseen(Code.UNIT, UNIT, f"the unit is not seen: {error}")
        return
    said = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    evidence = f"{' '.join(command[:3])}: {', '.join(f'{key}={value}' for key, value in said.items())}"
    state = said.get("UnitFileState", "")
    if said.get("LoadState") == "masked":
        hint = "systemctl unmask floatip; systemctl enable --now floatip"
        yield problem(Code.UNIT, UNIT, f"{UNIT} is masked: nothing can start it", evidence, hint)
    elif said.get("LoadState") != "loaded":
        if context.has_file:
            what = f"there is no {UNIT}: floatip does not start at boot"
            yield warning(
                Code.UNIT, UNIT, what, evidence, "install the package, or the unit of docs/operate/install.md"
            )
    elif not context.has_file:
        return
    elif state != "enabled":
        what = f"{UNIT} is {state or 'not enabled'}: after a reboot this node announces nothing"
        yield warning(Code.UNIT, UNIT, what, evidence, "systemctl enable floatip")
    else:
        yield well(Code.UNIT, UNIT, f"{UNIT} starts at boot", evidence)
    restarts = said.get("NRestarts", "0")
    if restarts.isdigit() and int(restarts):
        what = f"systemd has restarted {UNIT} {restarts} times since it was started: it crashed or hung"
        yield warning(Code.UNIT, UNIT, what, evidence, "journalctl -u floatip -b | less")


def journal(context: Context) -> Iterator[Finding]:
    """After a reboot the reason of the reboot is asked for."""
    try:
        context.host.names(SYSTEMD)
        context.host.names("/run/log")
    except Unseen:
        return
    try:
        kept = context.host.names("/var/log/journal")
    except Missing:
        kept = []
    except Unseen as error:
        yield unseen(Code.JOURNAL, "journald", f"whether the journal is kept is not known: {error}")
        return
    if kept:
        yield well(Code.JOURNAL, "journald", "the journal is kept over a reboot", "/var/log/journal")
    else:
        what = "the journal is lost at a reboot: what floatip logged before is gone, and only its history stays"
        hint = "mkdir -p /var/log/journal && systemd-tmpfiles --create --prefix /var/log/journal && journalctl --flush"
        yield warning(Code.JOURNAL, "journald", what, "/var/log/journal: no such directory, or it is empty", hint)


def clock(context: Context) -> Iterator[Finding]:
    """floatip does not elect by the clock; signed adverts, the history and whoever compares logs do."""
    if not context.model and not context.status:
        return
    try:
        said = context.host.run("timedatectl", "show", "-p", "NTPSynchronized", "-p", "NTP").strip()
        is_well = "NTPSynchronized=yes" in said.split()
        evidence = f"timedatectl show: {', '.join(said.split())}"
    except Unseen:
        try:
            said = context.host.run("adjtimex", "--print")
        except Unseen as error:
            yield unseen(
                Code.CLOCK,
                "clock",
                f"whether the clock is synchronised is not known: {error}",
                (),
                "date, on each node",
            )
            return
        status = re.search(r"status:\s*(\d+)", said)
        is_well = bool(status and not int(status[1]) & 0x40)  # STA_UNSYNC of adjtimex(2)
        evidence = f"adjtimex --print: status {status[1] if status else 'unknown'}"
    if is_well:
        yield well(Code.CLOCK, "clock", "the clock is synchronised", evidence)
    else:
        hint = "timedatectl set-ntp true; timedatectl timesync-status"
        what = "the clock is not synchronised: histories and logs of two nodes cannot be compared"
        yield warning(Code.CLOCK, "clock", what, evidence, hint)
