"""What is there before anything is changed: keepalived as it runs, its file, lelastic's units, what surrounds them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from floatip import keepalived_conf
from floatip.adopt.findings import default_user, script_users
from floatip.adopt.host import AdoptError, Host, UnitState
from floatip.adopt.surroundings import Surroundings, look_around
from floatip.adopt.units import Announcer, KeepalivedCall, announcers, keepalived_call, settled, tested
from floatip.core.events import Placed
from floatip.keepalived_conf import Group, Instance, KeepalivedConf, Notify, VirtualAddress


@dataclass(frozen=True, slots=True)
class Found:
    call: KeepalivedCall
    keepalived: UnitState
    conf: KeepalivedConf
    announcers: tuple[Announcer, ...]
    surroundings: Surroundings
    script_user: str
    script_ids: tuple[int, int]
    """uid and gid of that user."""
    own: tuple[Placed, ...] = ()
    """All addresses of the kernel, those with a lifetime too, that keepalived does not move."""

    @property
    def placed(self) -> tuple[Placed, ...]:
        return self.surroundings.addresses

    @property
    def dcid(self) -> int | None:
        return next((announcer.flags.dcid for announcer in self.announcers if announcer.flags.dcid), None)

    @property
    def idle(self) -> str:
        """Why nobody elects; empty: keepalived runs."""
        return "" if self.keepalived.active else "keepalived does not run: nobody elects until it does"

    def is_master(self, instances: tuple[Instance, ...]) -> bool:
        addresses = {virtual.address for instance in instances for virtual in floating(instance)}
        return any(placed.address in addresses for placed in self.placed if placed.interface != "lo")


def configuration(host: Host) -> KeepalivedConf:
    """That of keepalived as it runs here, or would."""
    call = keepalived_call(host, _unit(host).pid)
    return keepalived_conf.read(Path(call.config), host.root, call.config_id)


def _unit(host: Host) -> UnitState:
    if (unit := host.unit("keepalived.service")) is None:
        raise AdoptError("there is no keepalived.service", "without keepalived: floatip init")
    return unit


def look(host: Host, config: str | None) -> Found:
    """`config`: in place of the file that keepalived uses by itself."""
    unit = _unit(host)
    call = keepalived_call(host, unit.pid)
    if config:
        call = replace(call, config=config)
    conf = keepalived_conf.read(Path(call.config), host.root, call.config_id)
    call = settled(call, conf)
    _is_the_units(host, call, unit)
    surroundings = look_around(conf, host.root, host.addresses())
    sudo = {user.name: tuple(_allowed_by_sudo(host, user.name)) for user in script_users(conf, surroundings)}
    surroundings = replace(surroundings, sudo=sudo)
    user = default_user(conf, surroundings)
    known = (line.split(":") for line in host.text("/etc/passwd").splitlines())
    ids = next(((int(uid), int(gid)) for name, _, uid, gid, *_ in known if name == user), (0, 0))
    moved = {virtual.address.ip for instance in conf.instances for virtual in floating(instance)}
    own = tuple(placed for placed in host.addresses(leased=True) if placed.address.ip not in moved)
    return Found(call, unit, conf, tuple(announcers(host)), surroundings, user, ids, own)


def _allowed_by_sudo(host: Host, user: str) -> Iterator[str]:
    """Without a password. sudo knows its aliases, groups and numbers; empty where it is not installed."""
    output = host.run("sudo", "-n", "-l", "-U", user).output
    defaults, _, rules = output.partition("may run the following commands")
    for rule in re.sub(r"\n {8}", " ", rules).splitlines()[1:]:
        _, password, allowed = rule.partition("NOPASSWD:")
        if password or "!authenticate" in defaults:
            yield (allowed or rule).strip()


def _is_the_units(host: Host, call: KeepalivedCall, unit: UnitState) -> None:
    """By its pid file floatip will know keepalived: it must be that of the process that systemd runs."""
    pid = host.text(call.pid_file).strip()
    if not unit.active and pid.isdigit() and host.text(f"/proc/{pid}/comm") == "keepalived\n":
        hint = "end it, and: systemctl start keepalived"
        raise AdoptError(f"keepalived runs as process {pid}, and not by keepalived.service", hint)
    if unit.active and unit.pid and pid != str(unit.pid):
        what = f"{call.pid_file} names process {pid or 'none'}, and keepalived.service runs as process {unit.pid}"
        hint = "where keepalived.conf was changed since it started: systemctl restart keepalived"
        raise AdoptError(what, hint)


def floating(instance: Instance) -> tuple[VirtualAddress, ...]:
    """All addresses that keepalived moves, whether or not its adverts name them."""
    return (*instance.addresses, *instance.excluded)


def owners(conf: KeepalivedConf, instance: Instance) -> tuple[Instance | Group, ...]:
    """The instance, and the groups that share its fate."""
    return (instance, *(group for group in conf.groups if instance.name in group.members))


def tracked(conf: KeepalivedConf, instance: Instance) -> list[str]:
    """All that decides about its priority or its health."""
    scripts = [name for owner in owners(conf, instance) for name, _ in owner.tracked]
    lines = [
        f"{line.keyword} ({' '.join([kind, *line.words[1:]])})"
        for owner in owners(conf, instance)
        for kind in ("process", "file", "interface", "bfd")
        for block in owner.statement.all(f"track_{kind}")
        for line in block.block or ()
    ]
    return list(dict.fromkeys([*scripts, *lines]))


def notifies(conf: KeepalivedConf, instance: Instance) -> list[Notify]:
    return [notify for owner in owners(conf, instance) for notify in owner.notifies]


def complaints(host: Host, found: Found) -> list[str]:
    """What keepalived says of its file as it is."""
    if not (said := tested(host, found.call)):
        return []
    hint = "it may run without what it complains of: keepalived -t, keepalived.conf(5)"
    return ["note: keepalived -t says of its file as it is:", *(f"    {line}" for line in said), f"  hint: {hint}"]


def is_running(found: Found, force: bool) -> None:
    """An enabled keepalived that does not run was meant to: then an adoption proves nothing."""
    if found.keepalived.enabled and found.idle and not force:
        raise AdoptError(found.idle, "systemctl start keepalived; journalctl -u keepalived; --force adopts it as it is")
