"""`floatip adopt --replace`: floatip takes keepalived's place on this node, with keepalived.conf as it is.

All files are written and checked before anything stops; until then a failure puts everything back. Then keepalived
stops, floatip starts, and if floatip does not work within `TIMEOUT`, all is undone and keepalived starts again.

Where an announcer runs it stops before keepalived: the other node's route carries the traffic then, and keepalived
still has the address.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from floatip import reading
from floatip.adopt import backup as kept
from floatip.adopt import floatip_toml, verify
from floatip.adopt.apply import FLOATIP, KEEPALIVED, UNDO, Steps, put_back
from floatip.adopt.backup import Backup
from floatip.adopt.files import Change, FileState, clear, private, state
from floatip.adopt.notify_scripts import only_switches_lelastic
from floatip.adopt.plan import Wishes, runs, script_of
from floatip.adopt.setup import Setup, floating
from floatip.adopt.system import AdoptError, System, UnitState
from floatip.core.addresses import Placed
from floatip.core.settings import Vrrp
from floatip.model import DAEMON as DAEMONS_OWN
from floatip.model import Model, Script
from floatip.reading.keepalived.front_end import drop_in
from floatip.reading.machine import DAEMON
from floatip.reading.rights import user_id

SYSTEMD = Path("/etc/systemd/system")
UNIT_DROP_IN = SYSTEMD / "floatip.service.d/keepalived-conf.conf"
INSTEAD = f"""\
# Written by floatip adopt --replace: floatip does its work while it is enabled. `{UNDO}` removes this file.
[Unit]
ConditionPathExists=!/etc/systemd/system/multi-user.target.wants/floatip.service
"""
AS_ROOT = """\
# Scripts run with the rights that they have under keepalived: as root, or as the user that the file names.
User=root
CapabilityBoundingSet=~
AmbientCapabilities=
NoNewPrivileges=no
PrivateMounts=no
ProtectSystem=no
ReadWritePaths=
ProtectHome=no
PrivateDevices=no
ProtectClock=no
ProtectControlGroups=no
ProtectHostname=no
ProtectKernelLogs=no
ProtectKernelModules=no
ProtectKernelTunables=no
LockPersonality=no
RemoveIPC=no
RestrictAddressFamilies=
RestrictNamespaces=no
RestrictRealtime=no
RestrictSUIDSGID=no
SystemCallArchitectures=
SystemCallFilter=
UMask=0022
"""
TIMEOUT = 20.0
"""Seconds in which floatip must work, beside four advert intervals and `vrrp_startup_delay`."""
ANNOUNCER = "floatip-lelastic.service"
"""Ours, in lelastic's place: it would announce beside us."""


@dataclass(frozen=True, slots=True)
class Replacement:
    model: Model
    warnings: tuple[reading.ConfigWarning, ...]
    """Of `floatip check`: among them all that the file says and floatip does otherwise."""
    changes: tuple[Change, ...]
    announcers: tuple[str, ...]
    """Units that run, to stop and disable."""
    by_role: bool
    """keepalived's notify scripts start and stop the announcer."""
    masters: tuple[str, ...]
    """Instances of which this node is master."""
    notes: tuple[str, ...]

    @property
    def patience(self) -> float:
        elections = [one.election for one in self.model.instances if isinstance(one.election, Vrrp)]
        return TIMEOUT + max((4 * one.advert_interval + one.startup_delay for one in elections), default=0.0)


def plan(system: System, setup: Setup, wishes: Wishes, dcid: int) -> Replacement:
    """Changes nothing. `dcid`: 0 where nothing is announced by BGP."""
    conf = Path(setup.call.config)
    if setup.call.config_id:
        what = f"keepalived runs with -i {setup.call.config_id}, and floatip takes the lines of this host's name"
        raise AdoptError(what, "remove -i from /etc/default/keepalived, or the lines that begin with @ from the file")
    user = "" if wishes.as_root else DAEMON
    loaded = _judged(system, setup, dcid, user)
    running = tuple(one.unit for one in setup.announcers if runs(system, one))
    texts = {
        UNIT_DROP_IN: _unit_drop_in(conf, as_root=wishes.as_root),
        SYSTEMD / f"{KEEPALIVED}.d/floatip-instead.conf": INSTEAD,
    }
    texts |= {SYSTEMD / f"{one.unit}.d/floatip.conf": INSTEAD for one in setup.announcers}
    beside = conf.with_name(drop_in.NAME)
    if dcid and not system.at(beside).exists():
        texts[beside] = floatip_toml.beside_conf(setup, dcid)
    switching = [
        notify.statement
        for owner in setup.conf.owners
        for notify in owner.notifies
        if only_switches_lelastic(" ".join(notify.command), script_of(system, notify))
    ]
    notes = [*_about_users(loaded.model, wishes)]
    notes += [
        f"{one.place}: {one.keyword} switches lelastic, which floatip replaces: remove the line" for one in switching
    ]
    return Replacement(
        loaded.model,
        loaded.warnings,
        tuple(_changes(system, setup, texts, user)),
        running,
        bool(switching),
        masters(setup),
        tuple(notes),
    )


def masters(setup: Setup) -> tuple[str, ...]:
    """By the kernel: whose addresses keepalived has put there."""
    if setup.idle:
        return ()
    return _masters(setup, setup.facts.addresses)


def _masters(setup: Setup, placed: Iterable[Placed]) -> tuple[str, ...]:
    here = {(one.interface, one.address.ip) for one in placed}
    return tuple(
        instance.name
        for instance in setup.conf.instances
        if any((virtual.interface, virtual.address.ip) in here for virtual in floating(instance))
    )


def is_done(system: System, planned: Replacement) -> bool:
    floatip, keepalived = system.unit(FLOATIP), system.unit(KEEPALIVED)
    return (
        not planned.changes
        and not planned.announcers
        and bool(floatip and floatip.enabled and floatip.active)
        and not (keepalived and (keepalived.enabled or keepalived.active))
    )


def may_begin(system: System, planned: Replacement, wishes: Wishes) -> None:
    """Raises `AdoptError`: nothing was changed yet, and must not be."""
    floatip = system.unit(FLOATIP)
    if floatip is None:
        raise AdoptError("there is no floatip.service", "install the package, which contains it: apt install floatip")
    if floatip.active and system.at(UNIT_DROP_IN).exists():
        return
    if floatip.active:
        hint = f"{UNDO}, or: systemctl disable --now floatip; then floatip adopt --replace"
        raise AdoptError("floatip runs here already, with another configuration", hint)
    if (announcer := system.unit(ANNOUNCER)) and announcer.active:
        hint = f"systemctl disable --now {ANNOUNCER}; then floatip adopt --replace --dcid NUMBER"
        raise AdoptError(f"{ANNOUNCER} announces here, and floatip itself is to", hint)
    if planned.masters and not wishes.force:
        stop = " && ".join(f"systemctl stop {unit}" for unit in (*planned.announcers, KEEPALIVED))
        what = f"this node is MASTER of {', '.join(planned.masters)}: replace the keepalived of the other node first"
        then = f"{stop}, wait until it says MASTER, and run this again"
        if not planned.announcers:
            then = "floatip adopt --replace --force, which lets it take over first"
        hint = f"when the other node's floatip status says BACKUP: {then}"
        raise AdoptError(what, hint)


def _judged(system: System, setup: Setup, dcid: int, user: str) -> reading.Loaded:
    """On this machine as it is once keepalived has taken its addresses away."""
    conf, machine = Path(setup.call.config), system.machine()
    eyes = user if user_id(user) is not None else ""
    moved = {Placed(one.interface, one.address) for instance in setup.conf.instances for one in floating(instance)}
    left = {
        name: tuple(address for address in addresses if Placed(name, address) not in moved)
        for name, addresses in machine.interfaces.items()
    }
    machine = replace(machine, interfaces=left if setup.keepalived.active else machine.interfaces, user=eyes)
    try:
        given = reading.read(system.at(conf), machine, dcid or None)
        return reading.judged(given, user, None, machine)
    except reading.ConfigErrors as refused:
        what = f"floatip cannot run with {conf}:\n{reading.render(refused.errors, [])}"
        raise AdoptError(what, f"correct it until this finds no errors: floatip check {conf}") from None


def _unit_drop_in(conf: Path, *, as_root: bool) -> str:
    return f"""\
# Written by floatip adopt --replace: floatip runs keepalived.conf. `{UNDO}` removes this file.
[Unit]
ConditionPathExists=
ConditionPathExists={conf}
[Service]
ExecStart=
ExecStart=/usr/bin/floatip run {conf}
ExecReload=
ExecReload=/usr/bin/floatip check {conf}
ExecReload=/bin/kill -HUP $MAINPID
{AS_ROOT if as_root else ""}"""


def _about_users(model: Model, wishes: Wishes) -> Iterator[str]:
    if wishes.as_root:
        yield "floatip runs as root, without the sandbox of its unit: --root"
        return
    rights = [one.kind.run_as for one in model.checks if isinstance(one.kind, Script)]
    rights += [one.run_as for one in model.told] + [one.run_as for one in model.fifos if one.script]
    if users := sorted({one.user for one in rights if one != DAEMONS_OWN}):
        what = f"scripts run as user {DAEMON} in the sandbox of floatip.service, and not as {', '.join(users)}"
        yield f"{what}; --root lets floatip run as root without it, and each script as its user"


def _changes(system: System, setup: Setup, texts: Mapping[Path, str], user: str) -> Iterator[Change]:
    for path, text in sorted(texts.items()):
        before = state(system, path)
        new = FileState(0o644, 0, 0, b"") if path.is_relative_to(SYSTEMD) else private(system, "")
        after = replace(before or new, content=text.encode())
        if after != before:
            yield Change(path, before, after)
    group = system.daemons_group()
    if not user or group is None:
        return
    for file in setup.conf.files:
        real = system.real(file)
        before = state(system, real)
        if before is None or before.mode & 0o004 or (before.gid == group and before.mode & 0o040):
            continue
        if before.obstacle:
            raise AdoptError(f"{real} {before.obstacle}", f"let the group {DAEMON} read it, and run this again")
        yield Change(real, before, replace(before, gid=group, mode=before.mode | 0o040))


# Doing it


def do(system: System, setup: Setup, planned: Replacement, wishes: Wishes, say: Callable[[str], None]) -> None:
    steps = Steps(system, say)
    units = {unit: system.unit(unit) for unit in (FLOATIP, KEEPALIVED, *planned.announcers)}
    # Without changes an earlier run was interrupted after it had written them.
    backup = _write(steps, setup, planned, wishes, units) if planned.changes else kept.last(system)
    try:
        if planned.masters and not planned.announcers:
            _hand_over(steps, setup, planned)
        _switch(steps, planned, wishes, was_active=setup.keepalived.active)
    except (AdoptError, KeyboardInterrupt) as error:
        say("  it does not work: everything goes back")
        undo(system, backup, say)
        if isinstance(error, AdoptError):
            raise AdoptError(f"{error.what}; keepalived is as it was", error.hint, error.code) from None
        raise AdoptError("interrupted; keepalived is as it was", "run floatip adopt --replace again") from None


def _write(
    steps: Steps, setup: Setup, planned: Replacement, wishes: Wishes, units: Mapping[str, UnitState | None]
) -> Backup:
    system, conf = steps.system, Path(setup.call.config)
    addresses = tuple(str(virtual.address) for one in setup.conf.instances for virtual in floating(one))
    # What is changed for a moment only: see `_hand_over`.
    known = {change.path for change in planned.changes}
    for_a_moment = [one for one in _with_priority_1(system, setup) if one.path not in known]
    changes = (*planned.changes, *(Change(one.path, one.before, one.before) for one in for_a_moment))
    backup = kept.save(system, Backup(changes, units, planned.by_role, addresses, replaces=True))
    steps.say(f"  backup: {backup.directory}")
    try:
        steps.change(planned.changes)
        steps("floatip check", lambda: _checked(system, conf))
        steps("each check, as the daemon runs it", lambda: _passed(system, conf, wishes))
        kept.finish(system, backup)
    except BaseException:
        put_back(system, planned.changes)
        kept.forget(system, backup)
        steps.say("  everything is put back as it was; nothing was stopped")
        raise
    return backup


def _checked(system: System, conf: Path) -> str:
    done = system.run("floatip", "check", str(conf))
    if done.status:
        raise AdoptError(done.output, f"floatip check {conf}")
    return "ok"


def _passed(system: System, conf: Path, wishes: Wishes) -> str:
    done = system.run("floatip", "check", "--run", str(conf))
    failed = [line for line in done.stdout.splitlines() if line.startswith("failed ")]
    if done.status == 0 or (failed and wishes.force):
        return "; ".join(failed) or "ok"
    what = "\n".join(["checks fail as the daemon runs them:", *(failed or [done.output])])
    hint = "mend what they look at; or --root, if they need the rights of root; or --force, and this node is in FAULT"
    raise AdoptError(what, hint)


def _hand_over(steps: Steps, setup: Setup, planned: Replacement) -> None:
    """A keepalived whose priority becomes 1 keeps its addresses until the other node is master.

    keepalived 2.2.7 also sends no advert for longer than the master-down interval after such a reload, so that a
    `nopreempt` of the other node does not matter.
    """
    system, changes = steps.system, [*_with_priority_1(steps.system, setup)]
    if not changes:
        steps.say("  keepalived's priority cannot be lowered for a moment: the other node takes over when it stops")
        return
    try:
        steps.change(changes)
        steps.systemctl("reload", KEEPALIVED)
        has_left = system.wait(lambda: not _masters(setup, system.machine().placed()), planned.patience)
    finally:
        steps.change([Change(one.path, one.after, one.before) for one in changes])
    if not has_left:
        steps.systemctl("reload", KEEPALIVED)
        what = f"no other node took over within {planned.patience:g} s"
        raise AdoptError(what, f"look there: floatip status; or without it: systemctl stop {KEEPALIVED}, and again")
    steps.say("  the other node took over: yes")


def _with_priority_1(system: System, setup: Setup) -> Iterator[Change]:
    """Nothing, where an instance has no line of its own for its priority."""
    lines: dict[Path, set[int]] = {}
    for instance in setup.conf.instances:
        if (said := instance.statement.last("priority")) is None:
            return
        lines.setdefault(said.place.file, set()).add(said.place.line)
    found = []
    for file, numbers in lines.items():
        real = system.real(file)
        before = state(system, real)
        texts = before.text.splitlines(keepends=True) if before else []
        for number in numbers:
            if not re.match(r"\s*priority\s+\d+\s*([#!].*)?$", texts[number - 1] if number <= len(texts) else ""):
                return
            texts[number - 1] = re.sub(r"\d+", "1", texts[number - 1], count=1)
        if before:
            found.append(Change(real, before, replace(before, content="".join(texts).encode(errors="surrogateescape"))))
    yield from found


def _switch(steps: Steps, planned: Replacement, wishes: Wishes, *, was_active: bool) -> None:
    system, names = steps.system, [instance.name for instance in planned.model.instances]
    steps.systemctl("daemon-reload")
    for unit in (*planned.announcers, KEEPALIVED):
        steps.systemctl("disable", unit)
        steps.systemctl("stop", unit)
    steps.systemctl("enable", FLOATIP)
    steps.systemctl("start", FLOATIP)
    # keepalived followed a master until now: a floatip that becomes master does not hear that one.
    followed = [] if not was_active else [name for name in names if name not in planned.masters]

    def unready() -> str:
        return verify.unready(system, names, may_be_in_fault=wishes.force)

    def deaf() -> str:
        return verify.deaf(system, followed)

    steps.until("floatip elects", lambda: "" if deaf() else unready(), planned.patience)
    if wrong := deaf():
        raise AdoptError(wrong, "let its adverts in, as keepalived's: tcpdump -ni any proto 112; nft list ruleset")
    if planned.model.network:
        steps.until("floatip is connected", lambda: verify.unconnected(system), planned.patience)


def undo(system: System, backup: Backup, say: Callable[[str], None]) -> None:
    """floatip hands over and ends before keepalived starts: both would elect for the same addresses."""
    steps = Steps(system, say)
    was = backup.units[FLOATIP] or UnitState(enabled=False, active=False)
    steps.systemctl("stop", FLOATIP)
    clear(system, backup.changes)
    found = [(change, state(system, change.path)) for change in backup.changes]
    steps.change(Change(one.path, now, one.before) for one, now in found if now != one.before)
    steps.systemctl("daemon-reload")
    if not was.enabled:
        steps.systemctl("disable", FLOATIP)
    keepalived = backup.units[KEEPALIVED]
    for name, unit in backup.units.items():
        if unit and name != FLOATIP and unit.enabled:
            steps.systemctl("enable", name)
    # One that was stopped so that the other node took over was meant to run again.
    if keepalived and (keepalived.active or keepalived.enabled):
        steps.systemctl("start", KEEPALIVED)
    for name, unit in backup.units.items():
        if unit and name not in (FLOATIP, KEEPALIVED) and unit.active and not backup.by_role:
            steps.systemctl("start", name)
    kept.mark_undone(system, backup)
