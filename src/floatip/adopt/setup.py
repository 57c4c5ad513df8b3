"""What is set up on this machine: keepalived as it runs, its configuration, lelastic's units, addresses."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from floatip.adopt.system import AdoptError, System, UnitState
from floatip.adopt.systemd_units import Announcer, KeepalivedCall, announcers, keepalived_call, settled
from floatip.core.addresses import Placed
from floatip.reading import keepalived
from floatip.reading.keepalived import Instance, KeepalivedConf, VirtualAddress
from floatip.reading.keepalived.lint.commands import default_user, script_users
from floatip.reading.keepalived.lint.facts import MachineFacts, gather


@dataclass(frozen=True, slots=True)
class Setup:
    call: KeepalivedCall
    keepalived: UnitState
    conf: KeepalivedConf
    announcers: tuple[Announcer, ...]
    facts: MachineFacts
    script_user: str
    own: tuple[Placed, ...] = ()
    """All addresses of the kernel, those with a lifetime too, that keepalived does not move."""

    @property
    def idle(self) -> str:
        """Why nobody elects; empty: keepalived runs."""
        return "" if self.keepalived.active else "keepalived does not run: nobody elects until it does"

    @property
    def is_master(self) -> bool:
        addresses = {virtual.address for instance in self.conf.instances for virtual in floating(instance)}
        return any(placed.address in addresses for placed in self.facts.addresses if placed.interface != "lo")


def _unit(system: System) -> UnitState:
    if (unit := system.unit("keepalived.service")) is None:
        raise AdoptError("there is no keepalived.service", "without keepalived: floatip init")
    return unit


def look_at(system: System, config: str | None, *, strict: bool = True) -> Setup:
    """`config` replaces the path of the file that keepalived reads by default. `strict`: see `keepalived.read`."""
    unit = _unit(system)
    call = keepalived_call(system, unit.pid)
    if config:
        call = replace(call, config=config)
    conf = keepalived.read(Path(call.config), system.root, call.config_id, strict=strict)
    call = settled(call, conf)
    _is_the_units(system, call, unit)
    machine = system.machine()
    facts = gather(conf, system.users(), system.root, machine.placed())
    sudo = {user.name: tuple(_allowed_by_sudo(system, user.name)) for user in script_users(conf, facts)}
    facts = replace(facts, sudo=sudo)
    user = default_user(conf, facts)
    moved = {virtual.address.ip for instance in conf.instances for virtual in floating(instance)}
    own = tuple(placed for placed in machine.placed(leased=True) if placed.address.ip not in moved)
    return Setup(call, unit, conf, tuple(announcers(system)), facts, user, own)


def _allowed_by_sudo(system: System, user: str) -> Iterator[str]:
    """Without a password. sudo knows its aliases, groups and numbers; empty where it is not installed."""
    output = system.run("sudo", "-n", "-l", "-U", user).output
    defaults, _, rules = output.partition("may run the following commands")
    for rule in re.sub(r"\n {8}", " ", rules).splitlines()[1:]:
        _, password, allowed = rule.partition("NOPASSWD:")
        if password or "!authenticate" in defaults:
            yield (allowed or rule).strip()


def _is_the_units(system: System, call: KeepalivedCall, unit: UnitState) -> None:
    """By its pid file floatip will know keepalived: it must be that of the process that systemd runs."""
    if not unit.active and (process := named_by(call.pid_file, system)):
        hint = "end it, and: systemctl start keepalived"
        raise AdoptError(f"keepalived runs as process {process}, and not by keepalived.service", hint)
    pid = system.text(call.pid_file).strip()
    if unit.active and unit.pid and pid != str(unit.pid):
        what = f"{call.pid_file} names process {pid or 'none'}, and keepalived.service runs as process {unit.pid}"
        hint = "where keepalived.conf was changed since it started: systemctl restart keepalived"
        raise AdoptError(what, hint)


def named_by(pid_file: str | Path, system: System) -> int:
    """The process of a keepalived; 0: there is none."""
    pid = system.text(pid_file).strip()
    return int(pid) if pid.isdecimal() and system.text(f"/proc/{pid}/comm") == "keepalived\n" else 0


def floating(instance: Instance) -> tuple[VirtualAddress, ...]:
    """All addresses that keepalived moves, whether or not its adverts name them."""
    return (*instance.addresses, *instance.excluded)


NOT_STARTED = re.compile(
    "missing a parameter|Unknown interface!|the virtual router id must be set"
    "|No VIP specified; at least one is required|duplicate VRID conflict"
    "|Non-existent interface specified|Config files missing|^exit status 2$"
)
"""What `keepalived -t` says of a file with which keepalived does not start."""


def does_not_start(said: list[str]) -> str:
    """The line of `keepalived -t` that says so; empty: it starts."""
    return next((line for line in said if NOT_STARTED.search(line)), "")


def is_running(setup: Setup, force: bool) -> None:
    """An enabled keepalived that does not run was meant to: then an adoption proves nothing."""
    if setup.keepalived.enabled and setup.idle and not force:
        hint = "systemctl start keepalived; journalctl -u keepalived; --force adopts it as it is"
        raise AdoptError(setup.idle, hint)
