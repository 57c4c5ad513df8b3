"""What adopt would change, and what it leaves to a person. It writes nothing.

keepalived goes on electing. Its notify lines that switched lelastic go away, floatip is told by a FIFO (or by notify
lines of its own), and lelastic is kept from starting beside floatip: route servers speak with one announcer a host.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from floatip.adopt import configuration, edit
from floatip.adopt.edit import Edit
from floatip.adopt.files import Change, State, state
from floatip.adopt.found import Found, floating
from floatip.adopt.glue import only_switches_lelastic, without_rule
from floatip.adopt.host import AdoptError, Host
from floatip.adopt.units import Announcer
from floatip.keepalived_conf import Group, Instance, Notify
from floatip.lelastic import choose

FIFO = "/run/keepalived/floatip"
TOML = Path("/etc/floatip/floatip.toml")
NOTIFY = "/usr/bin/floatip notify"
DROP_IN = """\
# Written by floatip adopt: floatip announces in its place. `floatip adopt --undo` removes this file.
[Unit]
ConditionPathExists=!/etc/floatip/floatip.toml
"""

Method = Literal["fifo", "notify"]


@dataclass(frozen=True, slots=True)
class Options:
    dcid: int | None = None
    instances: tuple[str, ...] = ()
    """Empty: all that BGP can move."""
    method: Method | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    method: Method
    instances: tuple[Instance, ...]
    changes: tuple[Change, ...]
    announcers: tuple[str, ...]
    """Units to stop and disable."""
    by_role: bool
    """Notify lines that switched the announcer go away."""
    notes: tuple[str, ...]


class DataCentreUnknown(AdoptError):
    """Nothing on this machine says it."""


def plan(host: Host, found: Found, options: Options) -> Plan:
    return _Planner(host, found, options).plan()


@dataclass(slots=True)
class _Planner:
    host: Host
    found: Found
    options: Options
    notes: list[str] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)
    before: dict[Path, State | None] = field(default_factory=dict)
    after: dict[Path, State | None] = field(default_factory=dict)
    by_role: bool = False

    def plan(self) -> Plan:
        running = [announcer for announcer in self.found.announcers if self._runs(announcer)]
        instances = self._instances()
        self._nothing_is_lost(instances, running)
        method = self._method()
        for path in self.found.conf.files:
            self._touch(path)
        self._notifies(instances, method)
        self._addresses(instances)
        if method == "fifo":
            self._fifo()
        for file in self.found.conf.files:
            self._write(file, edit.apply(self._text(file), [one for one in self.edits if one.file == file]))
        self._configuration(instances, method)
        self._sudoers()
        self._owners()
        for announcer in self.found.announcers:
            # A script that was forgotten may still start it, and so may a person.
            self._write(Path(f"/etc/systemd/system/{announcer.unit}.d/floatip.conf"), DROP_IN)
        if running and self.found.is_master(instances):
            self.notes.append("this node is master: adopt the backup first, or seconds are lost until floatip connects")
        # Directories first: from then on nobody else can put files into them.
        paths = [path for path, after in self.after.items() if after != self.before[path]]
        paths.sort(key=lambda path: not self.host.at(path).is_dir())
        changes = tuple(Change(path, self.before[path], self.after[path]) for path in paths)
        units = tuple(announcer.unit for announcer in running)
        return Plan(method, instances, changes, units, self.by_role, tuple(self.notes))

    def _runs(self, announcer: Announcer) -> bool:
        unit = self.host.unit(announcer.unit)
        return unit is not None and (unit.enabled or unit.active)

    def _instances(self) -> tuple[Instance, ...]:
        file = self.found.call.config
        known = {instance.name: instance for instance in self.found.conf.instances}
        if unknown := [name for name in self.options.instances if name not in known]:
            raise AdoptError(f"{file} has no vrrp_instance {unknown[0]}", f"there are {', '.join(known) or 'none'}")
        unfit = {name: why for name in self.options.instances or known if (why := _unfit(known[name]))}
        if unfit and self.options.instances:
            (name, why), *_ = unfit.items()
            raise AdoptError(f"{name} cannot be adopted: {why}", "floatip moves single IPv4 addresses by BGP")
        stay = [f"{name} stays as it is: {why}" for name, why in unfit.items()]
        if len(unfit) == len(known):
            raise AdoptError(
                ": ".join([f"{file} has no instance to adopt", *stay[:1]]), "without keepalived: floatip init"
            )
        self.notes += stay
        return tuple(known[name] for name in self.options.instances or known if name not in unfit)

    def _nothing_is_lost(self, instances: tuple[Instance, ...], running: list[Announcer]) -> None:
        """Addresses that lelastic announces now and nobody would any more."""
        adopted = {virtual.address for instance in instances for virtual in floating(instance)}
        for announcer in running:
            flags = announcer.flags
            found = choose(self.found.placed, all_interfaces=flags.allifs, ipv6_length=56 if flags.send56 else 64)
            lost = sorted(set(found) - adopted, key=str)
            ipv4 = ", ".join(str(address) for address in lost if address.version == 4)
            if ipv4 and not self.options.force:
                hint = "adopt its instance too, or give it one in keepalived.conf; --force gives it up"
                raise AdoptError(f"{announcer.unit} announces {ipv4} too, and nobody would any more", hint)
            # With -allifs that may be an IPv6 address of the machine itself, which nobody meant to announce.
            if lost:
                names = ", ".join(str(address.network) for address in lost)
                self.notes.append(f"nobody announces {names} any more, which {announcer.unit} did")

    def _method(self) -> Method:
        method = self._chosen_method()
        if method == "notify":
            self._scripts_run()
        return method

    def _scripts_run(self) -> None:
        named, secure = self.found.conf.option("script_user"), self.found.conf.option("enable_script_security")
        user = named.argument() if named else "keepalived_script" if secure else "root"
        if user not in self.found.surroundings.users:
            # It says so only in its log, and its -t says nothing that it did not say before.
            hint = f"useradd --system --no-create-home --shell /usr/sbin/nologin {user}"
            raise AdoptError(f"there is no user {user}: keepalived would run no script", hint)

    def _chosen_method(self) -> Method:
        taken = self.found.conf.option("vrrp_notify_fifo")
        if taken and taken.words[1:2] != (FIFO,):
            if self.options.method == "fifo":
                what = f"{taken.place}: {' '.join(taken.words)}: this FIFO is somebody else's"
                raise AdoptError(what, "keepalived has only one; --notify needs none")
            return "notify"
        ours = any(_is_ours(notify) for instance in self.found.conf.instances for notify in instance.notifies)
        return self.options.method or ("notify" if ours else "fifo")

    def _notifies(self, instances: tuple[Instance, ...], method: Method) -> None:
        names = {instance.name for instance in instances}
        groups = [group for group in self.found.conf.groups if names & set(group.members)]
        blocks: tuple[Instance | Group, ...] = (*instances, *groups)
        for block in blocks:
            kept = [notify for notify in block.notifies if not self._goes(notify, method)]
            if method == "notify" and not any(map(_is_ours, kept)):
                self._tell_by_script(block, kept)

    def _goes(self, notify: Notify, method: Method) -> bool:
        statement = notify.statement
        if _is_ours(notify):
            superfluous = method == "fifo"
        else:
            superfluous = self._only_switches(notify)
            self.by_role |= superfluous
        text = self._text(statement.place.file)
        cut = edit.without(text, statement, edit.every(self.found.conf.statements)) if superfluous else None
        if cut:
            self.edits.append(cut)
        elif superfluous:
            self.notes.append(f"{statement.place}: {statement.keyword} does not stand alone: remove it by hand")
        elif not _is_ours(notify):
            self.notes.append(
                f"{statement.place}: {statement.keyword} stays: its script does more than switch lelastic"
            )
        return cut is not None

    def _only_switches(self, notify: Notify) -> bool:
        script = self.host.text(notify.command[0]) if notify.command else ""
        return only_switches_lelastic(script if script.startswith("#!") else " ".join(notify.command))

    def _tell_by_script(self, block: Instance | Group, kept: list[Notify]) -> None:
        place = block.statement.place
        if clash := [notify for notify in kept if notify.event == "any"]:
            what = f"{clash[0].statement.place}: {block.name} has a notify already"
            raise AdoptError(what, 'call `floatip notify "$@"` in its script, or use --fifo')
        line = edit.last_in(self._text(place.file), block.statement, f'notify "{NOTIFY}"')
        self._edit(line, f"{place}: no line can be added to {block.name}", "put its closing brace on a line of its own")

    def _addresses(self, instances: tuple[Instance, ...]) -> None:
        for instance in instances:
            for virtual in floating(instance):
                if virtual.interface == "lo":
                    place = virtual.statement.place
                    moved = edit.moved(self._text(place.file), virtual.statement, instance.interface)
                    hint = f"write `dev {instance.interface}`: on lo keepalived would remove floatip's copy"
                    self._edit(moved, f"{place}: {virtual.address} cannot be moved away from lo", hint)

    def _fifo(self) -> None:
        path = self.host.at(FIFO)
        if path.exists() and not stat.S_ISFIFO(path.stat().st_mode):
            raise AdoptError(f"{FIFO} is not a FIFO", "remove it, and: systemd-tmpfiles --create floatip.conf")
        if self.found.conf.option("vrrp_notify_fifo"):
            return
        blocks = [one for one in self.found.conf.statements if one.keyword == "global_defs"]
        # With a user: without one keepalived 2.2.7 looks up its script user, and passes the line over if there is none.
        line = f"vrrp_notify_fifo {FIFO} root"
        if blocks and (inside := edit.last_in(self._text(blocks[-1].place.file), blocks[-1], line)):
            self.edits.append(inside)
            return
        file, end = (blocks[-1].place.file, blocks[-1].end_line) if blocks else (self.found.conf.files[0], 0)
        self.edits.append(Edit(file, end + 1, end, ("global_defs {", f"    {line}", "}")))

    def _configuration(self, instances: tuple[Instance, ...], method: Method) -> None:
        existing = self.host.text(TOML)
        dcid = self.options.dcid or self.found.dcid or configuration.dcid_of(existing)
        if dcid is None:
            hint = "add --dcid; `floatip providers` lists them, Newark is 6"
            raise DataCentreUnknown("no unit of lelastic says in which data centre this is", hint)
        text = configuration.text(self.found, instances, dcid, by_scripts=method == "notify", log=self.by_role)
        if not existing or self.options.force:
            self._write(TOML, text)
        elif configuration.meaning_of(existing) != configuration.meaning_of(text):
            hint = "--dry-run --force shows how they differ; --force replaces it, and keeps it for --undo"
            raise AdoptError(f"{TOML} exists and says something else", hint)

    def _sudoers(self) -> None:
        for file in (Path("/etc/sudoers"), *self.host.files("/etc/sudoers.d", "*")):
            if self.host.at(file).is_file():
                text, gone, mixed = without_rule(self._touch(file), self.found.script_user)
                if gone:
                    self._write(file, text)
                self.notes += [f"{file}: a rule allows more than lelastic, and stays: {rule}" for rule in mixed]

    def _owners(self) -> None:
        """What root's keepalived reads belongs to root. The script user keeps what it needs: to read and to run."""
        uid, gid = self.found.script_ids
        for path in map(self.host.real, self._keepalived_files() if uid else ()):
            self._touch(path)
            one = self.after[path]
            assert one
            if one.uid == uid:
                one = replace(one, uid=0, gid=gid, mode=one.mode | (one.mode & 0o500) >> 3)
            others_write = 0o022 if one.gid == gid else 0o002
            self.after[path] = replace(one, mode=one.mode & ~others_write)

    def _keepalived_files(self) -> Iterator[Path]:
        for file in self.found.conf.files:
            yield from (self.host.real(file).parent, file)
        for name, _, files in os.walk(self.host.at("/etc/keepalived")):
            paths = [Path(name), *(path for file in files if (path := Path(name) / file).is_file())]
            yield from (Path("/") / path.relative_to(self.host.root) for path in paths if not path.is_symlink())

    def _touch(self, path: Path) -> str:
        path = self.host.real(path)
        if path not in self.before:
            self.before[path] = self.after[path] = state(self.host, path)
        return self._text(path)

    def _text(self, path: Path) -> str:
        before = self.before[self.host.real(path)]
        return before.text if before else ""

    def _write(self, path: Path, text: str) -> None:
        self._touch(path)
        path = self.host.real(path)
        old = self.after[path] or State(0o644, 0, 0)
        self.after[path] = replace(old, content=text.encode(errors="surrogateescape"))

    def _edit(self, made: Edit | None, what: str, hint: str) -> None:
        if made is None:
            raise AdoptError(what, hint)
        self.edits.append(made)


def _unfit(instance: Instance) -> str:
    addresses = [virtual.address for virtual in floating(instance) if virtual.address.version == 4]
    if not floating(instance):
        return "it has no address"
    if not addresses:
        return "its addresses are IPv6"
    if any(peer.version == 6 for peer in (*instance.peers, *filter(None, [instance.source]))):
        return "it speaks VRRP over IPv6"
    if subnet := [str(address) for address in addresses if address.network.prefixlen != 32]:
        return f"{subnet[0]} belongs to a subnet, which BGP does not move"
    return ""


def _is_ours(notify: Notify) -> bool:
    return " ".join(notify.command).startswith(NOTIFY)
