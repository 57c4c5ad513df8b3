"""What adopt would change, and what it leaves to a person. It writes nothing.

keepalived goes on electing. Its notify lines that switched lelastic go away, floatip is told by a FIFO (or by notify
lines of its own), and lelastic is kept from starting beside floatip: route servers accept one session per host.
"""

import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from floatip import reading
from floatip.adopt import conf_edits, floatip_toml
from floatip.adopt.conf_edits import ConfText
from floatip.adopt.files import Change, FileState, private, state
from floatip.adopt.notify_scripts import only_switches_lelastic
from floatip.adopt.setup import Setup, floating
from floatip.adopt.system import AdoptError, System
from floatip.adopt.systemd_units import Announcer
from floatip.lelastic import choose
from floatip.reading import ConfigErrors, keepalived
from floatip.reading.keepalived import Group, Instance, Notify, NotUnderstood, Place
from floatip.reading.toml.document import read
from floatip.reading.toml.reader import accepted

FIFO = "/run/keepalived/floatip"
FIFO_LINE = f"vrrp_notify_fifo {FIFO} root"
"""With a user: without one keepalived 2.2.7 looks up its script user, and ignores the line if there is none."""
EDIT_IT = "put each statement and each closing brace there on a line of its own"
TOML = Path("/etc/floatip/floatip.toml")
NOTIFY = "/usr/bin/floatip notify"
DROP_IN = """\
# Written by floatip adopt: floatip announces instead. `floatip adopt --undo` removes this file.
[Unit]
ConditionPathExists=|!/etc/floatip/floatip.toml
ConditionPathExists=|!/usr/bin/floatip
"""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line says."""

    dcid: int | None = None
    instances: tuple[str, ...] = ()
    """Empty: all that BGP can move."""
    notify: bool = False
    """Even where keepalived could write to a FIFO."""
    force: bool = False
    as_root: bool = False
    """With --replace: floatip runs as root."""


@dataclass(frozen=True, slots=True)
class Plan:
    by_scripts: bool
    """keepalived tells by running floatip, and not by a FIFO."""
    instances: tuple[Instance, ...]
    changes: tuple[Change, ...]
    announcers: tuple[str, ...]
    """Units to stop and disable."""
    by_role: bool
    """Notify lines that switched the announcer go away."""
    notes: tuple[str, ...]


def plan(system: System, setup: Setup, wishes: Wishes, dcid: int) -> Plan:
    running = [announcer for announcer in setup.announcers if runs(system, announcer)]
    instances, notes = _instances(setup, wishes)
    notes += _what_nobody_announces_any_more(setup, instances, running, wishes)
    by_scripts = _by_scripts(system, setup, wishes)
    edited = _Edited(system, setup, instances, notes, by_scripts=by_scripts)
    texts = edited.texts()
    wanted = floatip_toml.text(setup, instances, dcid, by_scripts=by_scripts, log=edited.by_role)
    meant = floatip_toml.meaning_of(system.text(TOML))
    if meant is None or meant != floatip_toml.meaning_of(wanted):
        _may_be_written(system, setup, wanted, wishes)
        texts[TOML] = wanted
    for announcer in setup.announcers:
        # A script that was forgotten may still start it, and so may a person.
        texts[Path(f"/etc/systemd/system/{announcer.unit}.d/floatip.conf")] = DROP_IN
    changes = tuple(_changes(system, texts))
    units = tuple(announcer.unit for announcer in running)
    return Plan(by_scripts, instances, changes, units, edited.by_role, tuple(notes))


def runs(system: System, announcer: Announcer) -> bool:
    unit = system.unit(announcer.unit)
    return unit is not None and (unit.enabled or unit.active)


def _instances(setup: Setup, wishes: Wishes) -> tuple[tuple[Instance, ...], list[str]]:
    """Those that are adopted, and what is to be said of the others."""
    file = setup.call.config
    known = {instance.name: instance for instance in setup.conf.instances}
    if unknown := [name for name in wishes.instances if name not in known]:
        raise AdoptError(f"{file} has no vrrp_instance {unknown[0]}", f"it has {', '.join(known) or 'none'}")
    unfit = {name: trouble for name in wishes.instances or known if (trouble := _unfit(known[name]))}
    if unfit and wishes.instances:
        name, (why, hint) = next(iter(unfit.items()))
        raise AdoptError(f"{name} cannot be adopted: {why}", hint)
    stay = [f"{name} stays as it is: {why}" for name, (why, _) in unfit.items()]
    if len(unfit) == len(known):
        hint = next((hint for _, hint in unfit.values()), "without keepalived: floatip init")
        raise AdoptError(": ".join([f"{file} has no instance to adopt", *stay[:1]]), hint)
    return tuple(known[name] for name in wishes.instances or known if name not in unfit), stay


def _unfit(instance: Instance) -> tuple[str, str] | None:
    """Why, and what helps."""
    single = [virtual for virtual in floating(instance) if virtual.address.version == 4]
    if instance.is_ipv6:
        return "it speaks VRRP over IPv6", "floatip adopt follows IPv4 only; without keepalived: floatip init"
    if not single:
        return "it has no IPv4 address", "add one to virtual_ipaddress; without keepalived: floatip init"
    if own := instance.statement.first("use_vmac") or instance.statement.first("use_ipvlan"):
        what = f"{own.keyword} puts its addresses on another interface, where floatip does not look for them"
        return what, f"{own.place}: remove {own.keyword}: clouds do not move an address by its MAC address"
    for virtual in single:
        if virtual.address.network.prefixlen != 32:
            hint = f"write {virtual.address.ip}, without a mask"
            return f"{virtual.address} belongs to a subnet, which BGP does not move", hint
        if virtual.interface == "lo":
            what = f"keepalived would remove floatip's copy of {virtual.address} from lo"
            return what, f"{virtual.statement.place}: write {virtual.address.ip} dev {instance.interface}"
    return None


def _what_nobody_announces_any_more(
    setup: Setup, instances: tuple[Instance, ...], running: list[Announcer], wishes: Wishes
) -> list[str]:
    moved = {virtual.address for instance in instances for virtual in floating(instance)}
    # Others of an instance stay with keepalived, which nobody announces.
    adopted = {address for address in moved if address.version == 4}
    kept = {one.address.ip for other in setup.conf.instances for one in floating(other)}
    notes = [f"IPv6 address {one} stays with keepalived, not announced" for one in moved - adopted]
    for announcer in running:
        flags = announcer.flags
        found = choose(setup.facts.addresses, all_interfaces=flags.allifs, ipv6_length=56 if flags.send56 else 64)
        lost = sorted(set(found) - adopted, key=str)
        floats = ", ".join(str(address) for address in lost if address.version == 4 or address.ip in kept)
        if floats and not wishes.force:
            hint = "adopt its instance too, or add it to keepalived.conf (IPv4 only); --force stops announcing it"
            raise AdoptError(f"{announcer.unit} announces {floats} too, and nobody would any more", hint)
        # With -allifs that may be an IPv6 address of the machine itself, which nobody meant to announce.
        if lost:
            names = ", ".join(str(address.network) for address in lost)
            what = f"{announcer.unit} announces {names}, and nobody does any more"
            notes.append(f"{what}; this node's own addresses the provider routes to it anyway")
    return notes


def _by_scripts(system: System, setup: Setup, wishes: Wishes) -> bool:
    notifies = [notify for instance in setup.conf.instances for notify in instance.notifies]
    if wishes.notify or _has_other_fifo(setup) or any(_tells(system, notify) for notify in notifies):
        _has_script_user(setup)
        return True
    path = system.at(FIFO)
    if path.exists() and not stat.S_ISFIFO(path.stat().st_mode):
        raise AdoptError(f"{FIFO} is not a FIFO", f"rm {FIFO}; systemd-tmpfiles --create floatip.conf")
    return False


def _has_other_fifo(setup: Setup) -> bool:
    """keepalived has only one FIFO."""
    given = setup.conf.option("vrrp_notify_fifo")
    return given is not None and given.words[1:2] != (FIFO,)


def _has_script_user(setup: Setup) -> None:
    if (user := setup.script_user) not in setup.facts.users:
        # keepalived says so only in its log, and its -t says nothing that it did not say before.
        hint = f"useradd --system --no-create-home --shell /usr/sbin/nologin {user}"
        raise AdoptError(f"there is no user {user}: keepalived would run no script", hint)


def _tells(system: System, notify: Notify) -> bool:
    """By itself, or in a script of its owner's."""
    script = script_of(system, notify)
    lines = [line for line in script.split("\n") if not line.lstrip().startswith("#")]
    return _is_ours(notify) or (script.startswith("#!") and "floatip notify" in "\n".join(lines))


def script_of(system: System, notify: Notify) -> str:
    return system.text(notify.command[0]) if notify.command else ""


def _is_ours(notify: Notify) -> bool:
    return " ".join(notify.command).startswith(NOTIFY)


def _may_be_written(system: System, setup: Setup, wanted: str, wishes: Wishes) -> None:
    try:
        reading.checked(wanted)
    except ConfigErrors as refused:
        what = "\n".join(problem.text for problem in refused.errors)
        hint = f"change {setup.call.config}: {refused.errors[0].hint}"
        raise AdoptError(f"floatip cannot run with what keepalived.conf says:\n{what}", hint) from None
    if system.text(TOML) and not wishes.force:
        raise AdoptError(
            "\n".join([f"{TOML} exists and says something else", *_differing(system, setup)]),
            f"edit it to agree; or --force writes this instead, and --undo brings the old one back:\n{wanted}",
        )


def _differing(system: System, setup: Setup) -> list[str]:
    try:
        found = floatip_toml.differences(*accepted(read(str(system.at(TOML)))), setup.conf)
        return [f"{TOML}:{one.line}: {one.text}" for one in found]
    except (ConfigErrors, ValueError):
        return [f"it is no valid configuration: floatip check {TOML}"]


def _changes(system: System, texts: dict[Path, str]) -> Iterator[Change]:
    for path, text in sorted(texts.items()):
        real = system.real(path)
        before = state(system, real)
        new = private(system, text) if path == TOML else FileState(0o644, 0, 0, b"")
        after = replace(before or new, content=text.encode(errors="surrogateescape"))
        if before and before.obstacle and after != before:
            hint = f"setfacl -b {real}, or replace it by a file of its own"
            raise AdoptError(f"{real} {before.obstacle}", hint)
        if after != before:
            yield Change(real, before, after)


class _Edited:
    """keepalived.conf and what it includes, edited."""

    def __init__(
        self, system: System, setup: Setup, instances: tuple[Instance, ...], notes: list[str], *, by_scripts: bool
    ) -> None:
        self.system, self.setup, self.notes, self.by_scripts = system, setup, notes, by_scripts
        names = {instance.name for instance in instances}
        groups = [group for group in setup.conf.groups if names & set(group.members)]
        self.blocks: tuple[Instance | Group, ...] = (*instances, *groups)
        self.files = {file: ConfText(self._text(file)) for file in setup.conf.files}
        self.gone: set[Place] = set()
        self.by_role = False

    def texts(self) -> dict[Path, str]:
        for block in self.blocks:
            self._tell(block)
        if not self.by_scripts and not self.setup.conf.option("vrrp_notify_fifo"):
            self._add_fifo()
        texts = {file: str(text) for file, text in self.files.items()}
        self._means_the_same(texts)
        return texts

    def _text(self, path: Path) -> str:
        before = state(self.system, self.system.real(path))
        return before.text if before else ""

    def _tell(self, block: Instance | Group) -> None:
        kept = [notify for notify in block.notifies if not self._goes(notify)]
        if not self.by_scripts or any(_tells(self.system, notify) for notify in kept):
            return
        if clash := [notify for notify in kept if notify.event == "any"]:
            what = f"{clash[0].statement.place}: {block.name} has a notify already"
            otherwise = "" if _has_other_fifo(self.setup) else ", or leave --notify out"
            raise AdoptError(what, f'call `floatip notify "$@"` in its script{otherwise}')
        place = block.statement.place
        if not self.files[place.file].append_to(block.statement, f'notify "{NOTIFY}"'):
            what = f"{place}: no line can be added to {block.name}"
            raise AdoptError(what, "put its closing brace on a line of its own")

    def _goes(self, notify: Notify) -> bool:
        if _is_ours(notify):
            return False
        statement, command = notify.statement, " ".join(notify.command)
        switches = only_switches_lelastic(command, script_of(self.system, notify))
        self.by_role |= switches
        where = f"{statement.place}: {statement.keyword}"
        if not switches:
            lelastic = "; lelastic does not start any more, whatever calls it" if self.setup.announcers else ""
            does = f"'{command}' does more than the guide's script, or something else"
            self.notes.append(f"{where} stays: {does}{lelastic}")
            return False
        file = self.files[statement.place.file]
        if not file.has_alone(statement, conf_edits.every(self.setup.conf.statements)):
            self.notes.append(f"{where} does not stand alone on its line: remove it by hand")
            return False
        file.remove(statement.place.line)
        self.gone.add(statement.place)
        return True

    def _add_fifo(self) -> None:
        conf = self.setup.conf
        blocks = [one for one in conf.statements if one.keyword == "global_defs"]
        if blocks and self.files[blocks[-1].place.file].append_to(blocks[-1], FIFO_LINE):
            return
        file, end = (blocks[-1].place.file, blocks[-1].end_line) if blocks else (conf.files[0], 0)
        self.files[file].insert(end + 1, "global_defs {", f"    {FIFO_LINE}", "}")

    def _means_the_same(self, texts: dict[Path, str]) -> None:
        """The changed files, read again: what was added stands where it belongs, and all else says what it said."""
        call, old = self.setup.call, self.setup.conf
        try:
            new = keepalived.read(Path(call.config), self.system.root, call.config_id, texts)
        except NotUnderstood as error:
            (place, what, _), *_ = error.errors
            raise AdoptError(f"{place}: {what}, after the change", EDIT_IT) from None
        added = (FIFO_LINE, f"notify {NOTIFY}")
        stayed = conf_edits.tree(old.statements, lambda one: one.place not in self.gone and str(one) not in added)
        if conf_edits.tree(new.statements, lambda one: str(one) not in added) != stayed or not self._is_told(new):
            raise AdoptError(f"{call.config}: a change there would change something else too", EDIT_IT)

    def _is_told(self, new: keepalived.KeepalivedConf) -> bool:
        if not self.by_scripts:
            fifo = new.option("vrrp_notify_fifo")
            return bool(fifo and fifo.words[1:2] == (FIFO,))
        names = {block.name for block in self.blocks}
        told = (block for block in new.owners if block.name in names)
        return all(any(_tells(self.system, notify) for notify in block.notifies) for block in told)
