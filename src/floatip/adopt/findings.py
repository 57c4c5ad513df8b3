"""What is unsafe in the setup around a keepalived.conf, or will not work. Pure: it looks at what it is given.

Each finding says what it is and why it matters, and what to do, whether or not floatip is going to do it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from floatip.adopt.printable import printable
from floatip.adopt.surroundings import ROOT, Surroundings, User, in_path, paths_of
from floatip.keepalived_conf import Group, Instance, KeepalivedConf, Place, Script, Statement, VirtualAddress

LEVELS = ("danger", "wrong", "note")
SCRIPT_USER = "keepalived_script"
SLOW = 5.0
KILLALL = re.compile(r"\bkillall\s+(-\S+\s+)*(-0|-s\s*0)|\b(pidof|pgrep)\s")
TMP = re.compile(r"(?<![\w/.])/(?:tmp|var/tmp|dev/shm)/[\w.+-]+(?:/[\w.+-]+)*")


@dataclass(frozen=True, slots=True)
class Finding:
    level: Literal["danger", "wrong", "note"]
    """It loses traffic or gives away root; it does not do what is written; good to know."""
    place: Place
    what: str
    hint: str

    def __str__(self) -> str:
        return f"{self.level}: {printable(f'{self.place}: {self.what}')}\n  hint: {printable(self.hint)}"


@dataclass(frozen=True, slots=True)
class Command:
    """A check or a notify script, and who runs it."""

    statement: Statement
    words: tuple[str, ...]
    user: User
    use: str
    loss: str
    """What happens when keepalived does without it."""

    @property
    def paths(self) -> list[Path]:
        return paths_of(self.words)


def findings(conf: KeepalivedConf, surroundings: Surroundings) -> list[Finding]:
    """The worst first."""
    commands = list(_commands(conf, surroundings))
    found = [
        *_commands_that_keepalived_drops(conf, surroundings, commands),
        *takeovers(conf, surroundings),
        *_what_scripts_do(surroundings, commands),
        *_script_security(conf, commands),
        *_fifos(conf),
    ]
    for owner in conf.owners:
        found += [*_untold_stop(owner), *_checks_that_are_missing(conf, owner)]
    for instance in conf.instances:
        found += [
            *_addresses(instance, surroundings),
            *_sources(instance),
            *_election(instance, surroundings),
            *_weights(conf, instance, surroundings),
            *_peers(instance),
            *_password(instance),
        ]
    for script in conf.scripts:
        found += _slowness(script)
    return sorted(dict.fromkeys(found), key=lambda finding: LEVELS.index(finding.level))


def takeovers(conf: KeepalivedConf, surroundings: Surroundings) -> list[Finding]:
    """How somebody becomes root by way of keepalived."""
    commands = list(_commands(conf, surroundings))
    return [
        *_what_others_can_change(conf, surroundings, commands),
        *_sudo_rules(surroundings, script_users(conf, surroundings)),
    ]


def default_user(conf: KeepalivedConf, surroundings: Surroundings) -> str:
    """Who runs the scripts that name nobody."""
    if named := conf.option("script_user"):
        return named.argument()
    # With script security keepalived insists on this user, and without falls back to its own.
    is_needed = SCRIPT_USER in surroundings.users or conf.option("enable_script_security")
    return SCRIPT_USER if is_needed else ROOT


def _commands(conf: KeepalivedConf, surroundings: Surroundings) -> Iterator[Command]:
    default = default_user(conf, surroundings)

    def user(name: str) -> User:
        # Whoever is not in passwd: nobody's rights.
        return surroundings.users.get(name or default) or User(name or default, -1)

    tracked = {name for owner in conf.owners for name, _ in owner.tracked}
    for script in conf.scripts:
        if script.name in tracked:
            loss = "its instances run without this check"
            yield Command(script.statement, script.command, user(script.user), "check", loss)
    for owner in conf.owners:
        for notify in owner.notifies:
            if notify.command:
                yield Command(notify.statement, notify.command, user(notify.user), "notify script", "nobody is told")


def _commands_that_keepalived_drops(
    conf: KeepalivedConf, surroundings: Surroundings, commands: list[Command]
) -> Iterator[Finding]:
    secure = conf.option("enable_script_security") is not None
    for command in commands:

        def drops(why: str, hint: str, command: Command = command) -> Finding:
            what = f"{command.statement}: {why}, so keepalived drops it and {command.loss}"
            return Finding("danger", command.statement.place, what, hint)

        if not command.words:
            yield drops("no script", 'for example script "/etc/keepalived/check.sh"')
            continue
        if command.user.uid < 0:
            hint = 'a user that exists; a command with arguments stands in quotes: notify "/path arguments" user'
            if command.user.name == SCRIPT_USER:
                hint = f"useradd --system --no-create-home --shell /usr/sbin/nologin {SCRIPT_USER}"
            yield drops(f"there is no user {command.user.name}", hint)
            continue
        if not command.words[0].startswith("/"):
            found = [path for path in in_path(command.words[0]) if path in surroundings.files]
            if not found:
                yield drops(f"{command.words[0]} is not in keepalived's PATH", "install it, or give its path")
            elif command.user.uid:
                why = f"keepalived looks up {command.words[0]} in its PATH for root only, not for {command.user.name}"
                yield drops(why, f"its path: {found[0]}")
            continue
        path = Path(command.words[0])
        seen = surroundings.files.get(path)
        if not seen:
            yield drops(f"{path} is not there", "put it there, or remove the line")
        elif seen.is_directory or not seen.can_execute(command.user):
            yield drops(f"{command.user.name} cannot execute {path}", f"chmod 755 {path}")
        elif secure and command.user.uid == 0:
            for part in (path, *path.parents):
                if part in surroundings.files and not surroundings.files[part].is_roots_alone:
                    yield drops(f"it runs as root, and not only root can change {part}", _taken_back(part))


def _taken_back(path: Path) -> str:
    return f"chown root:root {path} && chmod go-w {path}"


def _what_others_can_change(
    conf: KeepalivedConf, surroundings: Surroundings, commands: list[Command]
) -> Iterator[Finding]:
    read = [(file, Place(file, 0)) for file in conf.files]
    run = [(path, command.statement.place) for command in commands for path in command.paths]
    who: dict[Path, tuple[Place, list[str]]] = {}
    for user in _others(surroundings, script_users(conf, surroundings)):
        for path, place in (*read, *run):
            if changed := _changeable(surroundings, user, path):
                names = who.setdefault(changed, (place, []))[1]
                names += [user.name] if user.name not in names else []
    for changed, (place, names) in who.items():
        what = f"{_some(names)} can change {changed}, and with it what keepalived reads or runs"
        yield Finding("danger", place, what, _taken_back(changed))
    for path, place in dict(reversed((*read, *run))).items():
        seen = surroundings.files.get(path)
        if seen and not seen.is_directory and seen.uid and seen.mode & 0o6000:
            what = f"{path} runs with the rights of its owner, user {seen.uid}, whoever calls it"
            yield Finding("danger", place, what, f"chmod u-s,g-s {path}")
    for directory, file in {surroundings.real.get(file, file).parent: file for file in reversed(conf.files)}.items():
        if directory in surroundings.files and surroundings.files[directory].is_for_everybody:
            what = f"keepalived's configuration is read from {directory}, where anybody can put files"
            yield Finding("danger", Place(file, 0), what, "include from a directory that only root can write")


def script_users(conf: KeepalivedConf, surroundings: Surroundings) -> list[User]:
    """Those that are not root."""
    commands = _commands(conf, surroundings)
    return list({command.user.name: command.user for command in commands if command.user.uid > 0}.values())


def _others(surroundings: Surroundings, first: list[User]) -> list[User]:
    """Whoever is not root, also without a name."""
    named = [*first, *(user for user in surroundings.users.values() if user.uid > 0 and user not in first)]
    owners = {seen.uid for seen in surroundings.files.values()} - {0, *(user.uid for user in named)}
    return [*named, *(User(f"user {uid}", uid) for uid in sorted(owners))]


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _changeable(surroundings: Surroundings, user: User, path: Path) -> Path | None:
    """The file, or a directory above it, that the user can change; the highest, because it gives the rest away."""
    real = surroundings.real.get(path, path)
    parts = [part for part in (real, *real.parents, path, *path.parents) if part in surroundings.files]
    changeable = [part for part in parts if surroundings.files[part].can_change(user)]
    return min(changeable, key=lambda part: len(part.parts), default=None)


def _sudo_rules(surroundings: Surroundings, users: list[User]) -> Iterator[Finding]:
    for user in users:
        rules = {}
        who = {user.name, *(f"%{group}" for group in user.groups)}
        for place, line in surroundings.sudoers:
            if line.partition(" ")[0] in who and "NOPASSWD" in line:
                rules[line.partition("NOPASSWD:")[2].strip()] = place
        for allowed in surroundings.sudo.get(user.name, ()):
            rules.setdefault(allowed, Place(Path("/etc/sudoers"), 0))
        for allowed, place in rules.items():
            what = f"{user.name} may run {allowed} as root without a password: who takes over a script has it too"
            yield Finding("danger", place, what, "remove the line: floatip needs no sudo")


def _what_scripts_do(surroundings: Surroundings, commands: list[Command]) -> Iterator[Finding]:
    scripts: dict[str, tuple[Command, str]] = {}
    for command in commands:
        for path in command.paths:
            if path in surroundings.files:
                scripts.setdefault(str(path), (command, surroundings.files[path].text))
        scripts.setdefault(" ".join(command.words), (command, " ".join(command.words)))
    for name, (command, text) in scripts.items():
        code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
        for level, what, hint in _what_it_does(code, command):
            yield Finding(level, command.statement.place, f"{command.use} {name} {what}", hint)


def _what_it_does(code: str, command: Command) -> Iterator[tuple[Literal["danger", "wrong"], str, str]]:
    if command.user.uid and re.search(r"\bsudo\s", code):
        what = f"calls sudo: the failover hangs on a rule that makes {command.user.name} root"
        yield "danger", what, "let floatip announce: it needs no sudo"
    if re.search(r"\bsystemctl\s", code):
        what = "calls systemctl: it waits for other jobs, and two changes of role may overtake each other"
        yield "wrong", what, "leave the announcer running and change its routes, as floatip does"
    if command.use == "check" and (asked := KILLALL.search(code)):
        what = f"asks {asked[0].strip()}: yes also for a zombie, another's process of that name, or one that hangs"
        yield "wrong", what, "send the service a request; floatip's process check knows of an exit in milliseconds"
    for file in sorted({file for file in TMP.findall(code) if "XXX" not in file}):  # mktemp's
        what = f"uses {file}: anybody can put a link or a file of their own there first"
        yield "danger", what, "use a directory that only its user can write; floatip has state_log"


def _script_security(conf: KeepalivedConf, commands: list[Command]) -> Iterator[Finding]:
    if commands and not conf.option("enable_script_security"):
        what = "no enable_script_security: keepalived runs as root also what others can change"
        yield Finding("wrong", _place(conf), what, "put enable_script_security into global_defs")


def _place(conf: KeepalivedConf) -> Place:
    blocks = [statement.place for statement in conf.statements if statement.keyword == "global_defs"]
    return blocks[0] if blocks else Place(conf.files[0], 0)


def _fifos(conf: KeepalivedConf) -> Iterator[Finding]:
    for option in conf.global_defs:
        if option.keyword == "vrrp_notify_fifo" and "floatip" not in option.argument():
            what = f"{option}: somebody reads this FIFO already, and a line goes to one reader only"
            yield Finding("note", option.place, what, "leave it to its reader: floatip can be told by notify lines")


def _untold_stop(owner: Instance | Group) -> Iterator[Finding]:
    told = {notify.event for notify in owner.notifies}
    if told & {"master", "backup", "fault"} and not told & {"stop", "any"}:
        what = f"{owner.statement}: no notify_stop: keepalived stops, the announcer goes on, traffic is lost"
        yield Finding(
            "danger", owner.statement.place, what, "floatip watches keepalived itself; without it add notify_stop"
        )


def _checks_that_are_missing(conf: KeepalivedConf, owner: Instance | Group) -> Iterator[Finding]:
    known = {script.name for script in conf.scripts}
    for name in (name for name, _ in owner.tracked if name not in known):
        what = f"{owner.statement}: there is no vrrp_script {name}, and keepalived runs the instance without it"
        yield Finding("danger", owner.statement.place, what, "check the name in track_script")


def _addresses(instance: Instance, surroundings: Surroundings) -> Iterator[Finding]:
    if not instance.addresses:
        yield Finding("wrong", instance.statement.place, f"{instance.statement}: no address", "add virtual_ipaddress")
    for virtual in (*instance.addresses, *instance.excluded):
        place, address = virtual.statement.place, virtual.address
        if virtual.interface == "lo":
            what = (
                f"{virtual.statement}: on lo keepalived takes away the copy that floatip holds, at each change of role"
            )
            yield Finding("danger", place, what, f"dev {instance.interface}")
        if address.version == 6:
            continue
        if address.network.prefixlen != 32:
            yield _wide(place, f"{virtual.statement}: written as /{address.network.prefixlen}", f"write {address.ip}")
        for placed in surroundings.addresses:
            is_keepaliveds = (placed.interface, placed.address) == (virtual.interface, address)
            if placed.address.ip == address.ip and placed.address.network.prefixlen != 32 and not is_keepaliveds:
                hint = (
                    f"turn off Network Helper, remove it from the network configuration, and "
                    f"ip address del {placed.address} dev {placed.interface}"
                )
                yield _wide(place, f"{placed.address} is on {placed.interface}, put there by something else", hint)


def may_be_source(instance: Instance) -> list[VirtualAddress]:
    """IPv6 addresses that the kernel may take for connections of its own; keepalived deprecates a /128 by itself."""
    return [
        virtual
        for virtual in (*instance.addresses, *instance.excluded)
        if virtual.address.version == 6
        and ("preferred_lft" in virtual.statement.words or virtual.address.network.prefixlen != 128)
        and not re.search(r"preferred_lft 0\b", " ".join(virtual.statement.words))
    ]


def _sources(instance: Instance) -> Iterator[Finding]:
    for virtual in may_be_source(instance):
        what = f"{virtual.statement}: the kernel may take it as the source of BGP sessions, which route servers refuse"
        hint = "write it as /128, which keepalived deprecates; floatip.toml: [bgp] source, an address of this node"
        yield Finding("wrong", virtual.statement.place, what, hint)


def _wide(place: Place, what: str, hint: str) -> Finding:
    return Finding("wrong", place, f"{what}: its neighbours of that network cannot be reached from here", hint)


def _election(instance: Instance, surroundings: Surroundings) -> Iterator[Finding]:
    statement = instance.statement.last("nopreempt")
    if statement and instance.state == "MASTER":
        what = (
            f"{instance.statement}: nopreempt with state MASTER: keepalived clears it, and a returning node takes over"
        )
        yield Finding("wrong", statement.place, what, "state BACKUP on both nodes")
    if instance.priority == surroundings.peer_priority:
        what = f"{instance.statement}: both nodes have priority {instance.priority}: the greater source address wins"
        yield Finding("note", instance.statement.place, what, "different priorities, if one node is to be preferred")


def _weights(conf: KeepalivedConf, instance: Instance, surroundings: Surroundings) -> Iterator[Finding]:
    groups = [group for group in conf.groups if instance.name in group.members]
    own = [(name, weight, bool(groups)) for name, weight in instance.tracked]
    for name, weight, is_ignored in own + [(*tracked, False) for group in groups for tracked in group.tracked]:
        if weight:
            level, why, hint = _weighed(instance, weight, is_ignored, surroundings.peer_priority)
            what = f"{instance.statement}: {name} weighs {weight:+d}: {why}"
            yield Finding(level, instance.statement.place, what, hint)


def _weighed(
    instance: Instance, weight: int, is_ignored: bool, peer: int | None
) -> tuple[Literal["wrong", "note"], str, str]:
    lowered = max(1, instance.priority - abs(weight))
    fault = "no weight: then a failure is a fault, and the other node takes over"
    if is_ignored:
        return "wrong", "keepalived leaves out weighted checks of an instance in a sync group", "track it in the group"
    if instance.priority == 255:
        return "wrong", "priority 255 never changes", fault
    if not instance.preempt:
        return "wrong", "with nopreempt the other node leaves the failing master alone", fault
    if peer is None:
        why = f"a failure moves the address only if the other node's priority is above {lowered}"
        return "note", why, f"compare it there, or {fault}"
    if lowered >= peer:
        why = f"a failure makes {lowered} of {instance.priority}, and the other node has only {peer}"
        return "wrong", why, f"a weight of more than {instance.priority - peer}, or {fault}"
    return "note", "a failing master is overtaken after the master-down interval, not at once", fault


def _peers(instance: Instance) -> Iterator[Finding]:
    place = instance.statement.place
    if not instance.peers:
        what = f"{instance.statement}: no unicast_peer: clouds drop multicast, and each node becomes master"
        yield Finding("danger", place, what, "unicast_peer { the other nodes' private addresses }")
    elif not instance.source:
        what = f"{instance.statement}: no unicast_src_ip: keepalived takes the interface's first address"
        yield Finding("wrong", place, what, "unicast_src_ip and the private address that is a peer of the others")


def _password(instance: Instance) -> Iterator[Finding]:
    if len(instance.auth_pass) > 8:
        what = f"{instance.statement}: auth_pass has more than 8 characters: only 8 reach the wire, in clear"
        yield Finding("note", instance.statement.place, what, "rely on the network for secrecy, not on this password")


def _slowness(script: Script) -> Iterator[Finding]:
    longest = script.interval * script.fall
    if longest > SLOW:
        what = f"{script.statement}: a failure is noticed after {longest - script.interval:g} to {longest:g} s"
        hint = "interval 1 and fall 2; or a check of floatip's"
        yield Finding("note", script.statement.place, what, f"{script.interval:g} s x fall {script.fall}: {hint}")
