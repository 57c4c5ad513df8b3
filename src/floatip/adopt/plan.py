"""What adopt would change, and what it leaves to a person. It writes nothing.

keepalived goes on electing. Its notify lines that switched lelastic go away, floatip is told by a FIFO (or by notify
lines of its own), and lelastic is kept from starting beside floatip: route servers speak with one announcer a host.
"""

import re
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from floatip import keepalived_conf
from floatip.adopt import configuration, drift, edit, owners
from floatip.adopt.edit import Edit
from floatip.adopt.files import Change, State, state
from floatip.adopt.found import Found, floating
from floatip.adopt.glue import only_switches_lelastic, without_rule
from floatip.adopt.host import AdoptError, Host
from floatip.adopt.surroundings import commands_of, paths_of
from floatip.adopt.units import Announcer
from floatip.keepalived_conf import Group, Instance, Notify, NotUnderstood, Place, Statement
from floatip.lelastic import choose
from floatip.reading import ConfigErrors
from floatip.reading.toml.document import read

FIFO = "/run/keepalived/floatip"
FIFO_LINE = f"vrrp_notify_fifo {FIFO} root"
"""With a user: without one keepalived 2.2.7 looks up its script user, and passes the line over if there is none."""
EDIT_IT = "put each statement and each closing brace there on a line of its own"
TOML = Path("/etc/floatip/floatip.toml")
NOTIFY = "/usr/bin/floatip notify"
DROP_IN = """\
# Written by floatip adopt: floatip announces in its place. `floatip adopt --undo` removes this file.
[Unit]
ConditionPathExists=|!/etc/floatip/floatip.toml
ConditionPathExists=|!/usr/bin/floatip
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
    gone: set[Place] = field(default_factory=set)
    moved: dict[Place, str] = field(default_factory=dict)
    """From `lo` to the interface."""
    before: dict[Path, State | None] = field(default_factory=dict)
    after: dict[Path, State | None] = field(default_factory=dict)
    by_role: bool = False

    def plan(self) -> Plan:
        self._readable_names()
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
        self._says_what_it_shall(instances, method)
        self._configuration(instances, method)
        self._sudoers()
        self._owners()
        for announcer in self.found.announcers:
            # A script that was forgotten may still start it, and so may a person.
            self._write(Path(f"/etc/systemd/system/{announcer.unit}.d/floatip.conf"), DROP_IN)
        if running and self.found.is_master(instances):
            self.notes.append(
                "this node is master: adopt the backup first, or seconds are lost until floatip connects\n"
                "  hint: done there if its `floatip status` says BACKUP, held, announced to the route servers"
            )
        paths = sorted(path for path, after in self.after.items() if after != self.before[path])
        changes = tuple(Change(path, self.before[path], self.after[path]) for path in paths)
        for change in changes:
            if change.before and change.before.obstacle:
                hint = f"setfacl -b {change.path}, or make it a file of its own"
                raise AdoptError(f"{change.path} {change.before.obstacle}", hint)
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
        moved = {virtual.address for instance in instances for virtual in floating(instance)}
        # Others of an instance stay with keepalived, which nobody announces.
        adopted = {address for address in moved if address.version == 4}
        kept = {one.address.ip for other in self.found.conf.instances for one in floating(other)}
        self.notes += [f"IPv6 address {one} stays with keepalived, not announced" for one in moved - adopted]
        for announcer in running:
            flags = announcer.flags
            found = choose(self.found.placed, all_interfaces=flags.allifs, ipv6_length=56 if flags.send56 else 64)
            lost = sorted(set(found) - adopted, key=str)
            floats = ", ".join(str(address) for address in lost if address.version == 4 or address.ip in kept)
            if floats and not self.options.force:
                hint = "adopt its instance too, or give it one in keepalived.conf; --force gives it up"
                if any(address.version == 6 for address in lost if address.ip in kept):
                    hint = f"beside keepalived floatip moves IPv4 only; --force gives it up\n{hint}"
                raise AdoptError(f"{announcer.unit} announces {floats} too, and nobody would any more", hint)
            # With -allifs that may be an IPv6 address of the machine itself, which nobody meant to announce.
            if lost:
                names = ", ".join(str(address.network) for address in lost)
                self.notes.append(
                    f"nobody announces {names} any more, which {announcer.unit} did\n"
                    "  hint: fine for this node's own addresses, which the provider routes to it anyway"
                )

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
        if taken := self._taken():
            if self.options.method == "fifo":
                what = f"{taken.place}: {' '.join(taken.words)}: this FIFO is somebody else's"
                raise AdoptError(what, "keepalived has only one; --notify needs none")
            return "notify"
        ours = any(self._tells(notify) for instance in self.found.conf.instances for notify in instance.notifies)
        return self.options.method or ("notify" if ours else "fifo")

    def _taken(self) -> Statement | None:
        """keepalived has one FIFO for this, and it is somebody else's."""
        given = self.found.conf.option("vrrp_notify_fifo")
        return given if given and given.words[1:2] != (FIFO,) else None

    def _tells(self, notify: Notify) -> bool:
        """By itself, or in a script of its owner's."""
        script = self.host.text(notify.command[0]) if notify.command else ""
        lines = [line for line in script.split("\n") if not line.lstrip().startswith("#")]
        return _is_ours(notify) or (script.startswith("#!") and "floatip notify" in "\n".join(lines))

    def _notifies(self, instances: tuple[Instance, ...], method: Method) -> None:
        names = {instance.name for instance in instances}
        groups = [group for group in self.found.conf.groups if names & set(group.members)]
        blocks: tuple[Instance | Group, ...] = (*instances, *groups)
        for block in blocks:
            kept = [notify for notify in block.notifies if not self._goes(notify, method)]
            if method == "notify" and not any(map(self._tells, kept)):
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
            self.gone.add(statement.place)
        elif superfluous:
            name = edit.definition(text, statement)
            why = f"comes from the definition {name}" if name else "does not stand alone"
            self.notes.append(f"{statement.place}: {statement.keyword} {why}: remove it by hand")
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
            otherwise = "" if self._taken() else ", or use --fifo"
            raise AdoptError(what, f'call `floatip notify "$@"` in its script{otherwise}')
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
                    self.moved[place] = instance.interface

    def _fifo(self) -> None:
        path = self.host.at(FIFO)
        if path.exists() and not stat.S_ISFIFO(path.stat().st_mode):
            raise AdoptError(f"{FIFO} is not a FIFO", "remove it, and: systemd-tmpfiles --create floatip.conf")
        if self.found.conf.option("vrrp_notify_fifo"):
            return
        blocks = [one for one in self.found.conf.statements if one.keyword == "global_defs"]
        if blocks and (inside := edit.last_in(self._text(blocks[-1].place.file), blocks[-1], FIFO_LINE)):
            self.edits.append(inside)
            return
        file, end = (blocks[-1].place.file, blocks[-1].end_line) if blocks else (self.found.conf.files[0], 0)
        self.edits.append(Edit(file, end + 1, end, ("global_defs {", f"    {FIFO_LINE}", "}")))

    def _says_what_it_shall(self, instances: tuple[Instance, ...], method: Method) -> None:
        """The changed files, read again: what was put in stands where it belongs, and all else says what it said."""
        conf = self.found.conf
        texts = {file: after.text for file in conf.files if (after := self.after[self.host.real(file)])}
        try:
            new = keepalived_conf.read(Path(self.found.call.config), self.host.root, self.found.call.config_id, texts)
        except NotUnderstood as error:
            (place, what, _), *_ = error.errors
            raise AdoptError(f"{place}: {what}, after the change", EDIT_IT) from None

        def words(statement: Statement, is_old: bool = False) -> tuple[str, ...] | None:
            said = " ".join(statement.words)
            if said in (FIFO_LINE, f"notify {NOTIFY}") or (is_old and statement.place in self.gone):
                return None
            if is_old and (interface := self.moved.get(statement.place)):
                return tuple(said.replace("dev lo", f"dev {interface}").split(" "))
            return tuple(said.split(" "))

        is_as_before = edit.tree(new.statements, words) == edit.tree(conf.statements, lambda one: words(one, True))
        fifo = new.option("vrrp_notify_fifo")
        names = {instance.name for instance in instances}
        told = [one for one in new.owners if one.name in names or (isinstance(one, Group) and names & set(one.members))]
        is_there = bool(fifo and fifo.words[1:2] == (FIFO,))
        if method == "notify":
            is_there = all(any(map(self._tells, block.notifies)) for block in told)
        if not (is_as_before and is_there):
            places = ", ".join(f"{one.file}:{one.first}" for one in self.edits)
            raise AdoptError(f"{places}: what would be changed there changes something else too", EDIT_IT)

    def _readable_names(self) -> None:
        for block in self.found.conf.owners:
            if not block.name.isprintable():
                what = f"{block.statement.place}: the name {block.name!a} cannot be written to {TOML}"
                raise AdoptError(what, "name it in UTF-8, without control characters")

    def _configuration(self, instances: tuple[Instance, ...], method: Method) -> None:
        existing = self.host.text(TOML)
        dcid = self.options.dcid or self.found.dcid or configuration.dcid_of(existing)
        if dcid is None:
            hint = "add --dcid; `floatip providers` lists them, Newark is 6"
            raise DataCentreUnknown("no unit of lelastic says in which data centre this is", hint)
        text = configuration.text(self.found, instances, dcid, by_scripts=method == "notify", log=self.by_role)
        if not existing:
            self._write(TOML, text)
        elif configuration.meaning_of(existing) != configuration.meaning_of(text):
            self._differs(existing, text)

    def _differs(self, existing: str, wanted: str) -> None:
        try:
            document = read(str(self.host.at(TOML)))
            differing = [
                f"{TOML}:{one.line}: {one.path}: {one.what}" for one in drift.differences(document, self.found.conf)
            ]
        except (ConfigErrors, ValueError):
            document, differing = None, [f"it is no configuration: floatip check {TOML}"]
        if not self.options.force:
            hint = "--force changes only this, --dry-run --force shows it; it is kept for --undo"
            raise AdoptError("\n".join([f"{TOML} exists and says something else", *differing]), hint)
        self._write(TOML, configuration.merged(existing, document, wanted) if document else wanted)

    def _sudoers(self) -> None:
        for file in (Path("/etc/sudoers"), *self.host.files("/etc/sudoers.d", "*")):
            if self.host.at(file).is_file():
                text, gone, mixed = without_rule(self._touch(file), self.found.script_user)
                if gone and (caller := self._caller_of_sudo()):
                    self.notes.append(f"{file}: the sudo rule stays: {caller} calls sudo")
                elif gone:
                    self._write(file, text)
                self.notes += [f"{file}: a rule allows more than lelastic, and stays: {rule}" for rule in mixed]

    def _caller_of_sudo(self) -> str:
        """A script that keepalived goes on running."""
        for place, command in commands_of(self.found.conf):
            seen = [self.found.surroundings.files.get(path) for path in paths_of(command)]
            text = "\n".join([" ".join(command), *(one.text for one in seen if one)])
            if place not in self.gone and re.search(r"\bsudo\s", text):
                return " ".join(command)
        return ""

    def _owners(self) -> None:
        """What root's keepalived reads belongs to root."""
        if self.found.script_ids[0]:
            for path in owners.what_keepalived_uses(self.host, self.found):
                self._touch(path, contents=False)
                if one := self.after[path]:
                    self.after[path] = owners.roots(one, self.found.script_ids)

    def _touch(self, path: Path, *, contents: bool = True) -> str:
        path = self.host.real(path)
        if path not in self.before:
            self.before[path] = self.after[path] = state(self.host, path, contents=contents)
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
