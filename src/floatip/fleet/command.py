"""`floatip fleet`: the configuration of a fleet at etcd, and its members."""

import difflib
import json
import os
import pwd
import re
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from floatip import DEFAULT_CONFIG, prompts, reading
from floatip.commands import Misused, Refusal, again_as_root
from floatip.core.differences import differences
from floatip.core.link.spread import assign
from floatip.core.refusals import Why
from floatip.core.settings import Node, Nodes
from floatip.fleet import rows
from floatip.fleet.rows import Config, Odd
from floatip.fleet.store import Found, Store
from floatip.model import Model, fingerprint, is_exclusive
from floatip.reading import fleet, key, regular
from floatip.reading.machine import daemons_user, look_around
from floatip.reading.patience import told_when_slow
from floatip.reading.place import ConfigError, ConfigErrors
from floatip.reading.toml.document import LARGEST
from floatip.reading.words import closest, few, listed
from floatip.text import aligned, printable, say, show, terminal_width

STDIN = "-"
SECRET = re.compile(r"""((?:pass|secret|authorization|token|md5)\w*["']?\s*=\s*)(.*)""", re.IGNORECASE)
NO_CHANGE, CHANGES = 0, 1


class NoFleet(Refusal):
    status = 2
    code = Why.NO_FLEET


@dataclass(frozen=True, slots=True)
class Wishes:
    argument: str | None
    """FILE or NAME."""
    file: Path
    """The configuration of this node."""
    version: int
    dry_run: bool
    yes: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class Here:
    """This node's side of it."""

    file: Path
    local: reading.Read
    fingerprints: tuple[str, ...]
    """Of the keys of the link; none: they cannot be read by this user."""

    @property
    def model(self) -> Model:
        return self.local.model


def fleet_command(verb: str, wishes: Wishes) -> int:
    """The exit status. Raises `Refusal`."""
    try:
        with told_when_slow(wishes.file):
            here = _look(wishes.file)
        assert here.model.etcd
        with Store(here.model.etcd) as store:
            store.refuse_other_fleet(here.fingerprints)
            return VERBS[verb](here, store, wishes)
    except ConfigErrors as refused:
        show(reading.render(refused.errors, refused.warnings))
        return 2


def open_store(file: Path) -> Store:
    """The fleet's etcd, by this node's file. Raises `ConfigErrors` and `Refusal`."""
    here = _look(file)
    assert here.model.etcd
    store = Store(here.model.etcd)
    store.refuse_other_fleet(here.fingerprints)
    return store


def _look(file: Path) -> Here:
    """Of the file, only [etcd] must be right. Raises `ConfigErrors` and `Refusal`."""
    given = reading.read(file, known=fleet.NOTHING)
    if given.model.etcd is None and ("etcd",) not in given.places.given:
        what = f"{file} has no [etcd], so this node is of no fleet at etcd"
        raise NoFleet(what, "add [etcd] with the endpoints of your etcd: floatip help endpoints")
    if errors := [one for one in given.problems if isinstance(one, ConfigError) and one.path.startswith("etcd")]:
        raise ConfigErrors(errors)
    keys, _ = key.read(given.model.link.key or file.absolute().with_name(key.NAME), look_around())
    return Here(file, given, tuple(map(fingerprint, keys)))


# The configuration


def _apply(here: Here, store: Store, wishes: Wishes) -> int:
    text = _text(wishes)
    before, revision = _in_force(store)
    found = store.found()
    after, warnings = _judged(here, store, text, found, wishes)
    if not here.fingerprints:
        what = "the key of the nodes cannot be read, so it is not known whether this is the fleet of this node"
        raise Refusal(what, again_as_root(), Why.KEY_UNUSABLE)
    if before and before.toml == text:
        say(f"nothing to do: version {before.version} is the same")
        return 0
    _show_changes(before, text, wishes.argument or "")
    old = _as_before(here, store, before, after)
    if old:
        _refuse_moved(old.model, after.model)
    _show_moves(here, old, after, found)
    for line in [*"\n".join(warnings).splitlines(), *_cannot(after, found)]:
        show(printable(line), 4)
    if wishes.dry_run:
        say("nothing was changed: --dry-run")
        return 0
    if sys.stdin.isatty() and not (wishes.yes or prompts.confirm("\nApply this to the whole fleet?")):
        say("nothing was changed")
        return 1
    new = store.apply(text, _who(), before, revision)
    say(f"applied as version {new.version}; to see whether all nodes have loaded it: floatip nodes")
    if before:
        file = "" if str(here.file) == DEFAULT_CONFIG else f" --file {quote(str(here.file))}"
        back = f"floatip fleet get --version {before.version}{file} | floatip fleet apply -{file}"
        say(f"to go back to the version before: {printable(back)}")
    return 0


def _text(wishes: Wishes) -> str:
    """Of FILE. Raises `ConfigErrors` and `Misused`."""
    name = wishes.argument
    if not name:
        raise Misused("FILE is missing", "give the file with the fleet's configuration, or - for stdin")
    try:
        data = sys.stdin.buffer.read(LARGEST + 1) if name == STDIN else regular.read(Path(name))
        if len(data) > LARGEST:
            what, hint = (
                f"larger than {LARGEST >> 10} KiB",
                "give several fleets a part each, with prefixes of their own",
            )
            raise ConfigErrors([ConfigError(name, 0, "", what, hint)])
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise Misused(f"{name} cannot be read: {error.strerror}", "see its owner and mode: ls -l") from None
    except UnicodeDecodeError:
        raise ConfigErrors([ConfigError(name, 0, "", "not UTF-8", "save the file as UTF-8")]) from None


def _in_force(store: Store) -> tuple[Config | None, int]:
    try:
        return store.config()
    except Odd as error:
        what = f"the row {printable(store.prefix)}{rows.CONFIG} {error}: it is not floatip's, or of another version"
        where = f"{printable(store.prefix)}{rows.CONFIG}"
        hint = f"look at it: etcdctl get {where}; to replace it: etcdctl del {where}; then apply again"
        raise Refusal(what, hint, Why.OTHER_FLEET) from None


def _judged(here: Here, store: Store, text: str, found: Found, wishes: Wishes) -> tuple[reading.Loaded, list[str]]:
    """As a node will judge it, with the file of this one. Raises `ConfigErrors`."""
    if not here.model.member:
        what = f"{here.file} names the nodes, so it has the whole configuration, and none is read from etcd"
        raise NoFleet(what, "edit that file on each node; or remove every [[node]]: then etcd knows the nodes")
    name = "stdin" if wishes.argument == STDIN else wishes.argument or ""
    members = tuple(one.node for one in found.members)
    known = fleet.Known(rows.config_row(Config(1, "", "", text)), members, store.prefix, name=name)
    user = daemons_user()
    given = reading.read(here.file, look_around(user), known=known)
    given.problems.extend(_own_addresses(given, members))
    loaded = reading.judged(given, user, here.file)
    return loaded, [str(one) for one in loaded.warnings if one.file == name]


def _own_addresses(given: reading.Read, members: Iterable[Node]) -> Iterator[ConfigError]:
    """Other nodes would add it to their interfaces, and cut that member off."""
    names = {one.address: one.name for one in members}
    for at, instance in given.places.each(("instance",), given.model.instances):
        for address in instance.addresses:
            if name := names.get(address.ip):
                what = f"{address.ip} is the own address of {name}, a member of the fleet"
                hint = "give a floating address that no node has as its own: floatip fleet members"
                yield given.places.error((*at, "addresses"), what, hint)


def _cannot(after: reading.Loaded, found: Found) -> Iterator[str]:
    names = [one.node.name for one in found.members if rows.EXCLUSIVE not in one.capabilities]
    if names and any(is_exclusive(one.election) for one in after.model.instances):
        yield f"warning: {listed(names)} cannot hold exclusive instances: their floatip is too old"
        yield "  hint: upgrade floatip there first: floatip fleet members"


def _show_changes(before: Config | None, text: str, name: str) -> None:
    old = before.toml.splitlines() if before else []
    title = f"version {before.version}" if before else "nothing"
    for line in difflib.unified_diff(old, text.splitlines(), title, name, lineterm=""):
        print(printable(SECRET.sub(r"\1********", line)), flush=True)


def _as_before(here: Here, store: Store, before: Config | None, after: reading.Loaded) -> reading.Read | None:
    """This node with the version in force, which it need not accept. None: there is none, or it is no TOML."""
    if before:
        with suppress(ConfigErrors):
            known = fleet.Known(rows.config_row(before), after.known.members, store.prefix)
            return reading.read(here.file, known=known)
    return None


def _refuse_moved(before: Model, after: Model) -> None:
    """etcd knows an owner by the name of the instance: with two names, two nodes may hold one address for a moment.

    Raises `Refusal`.
    """
    bound = [each for each in before.instances if is_exclusive(each.election)]
    exclusive = {one.ip: each.name for each in bound for one in each.addresses}
    moved = [
        (str(one.ip), exclusive[one.ip], each.name)
        for each in after.instances
        for one in each.addresses
        if exclusive.get(one.ip, each.name) != each.name
    ]
    if moved:
        address, old, new = moved[0]
        more = f", and {len(moved) - 1} more addresses move so" if moved[1:] else ""
        what = f"{address} moves from the exclusive instance {old} to {new} in one step{more}: two nodes could hold it"
        hint = (
            f"apply a version without {address}, wait until floatip nodes shows that all have it, then apply this one"
        )
        raise Refusal(printable(what), hint, Why.EXCLUSIVE_MOVES)


def _show_moves(here: Here, before: reading.Read | None, after: reading.Loaded, found: Found) -> None:
    if before:
        with suppress(ConfigErrors):
            old = reading.judged(before, daemons_user(), here.file)
            changed = differences(old.model.settings(here=old.here), after.model.settings(here=after.here))
            print(f"\nin short: {printable(changed)}")
    print()
    show("\n".join(_moves(after.model, found)), 2)


def _get(here: Here, store: Store, wishes: Wishes) -> int:
    config = _known(store, wishes.version)
    if wishes.as_json:
        print(json.dumps({"version": config.version, "by": config.by, "at": config.at, "toml": config.toml}, indent=2))
        return 0
    say(f"version {config.version}, by {config.by or 'nobody'} at {config.at or 'an unknown time'}")
    sys.stdout.write(config.toml if not sys.stdout.isatty() else "".join(map(_shown, config.toml.splitlines(True))))
    return 0


def _shown(line: str) -> str:
    text = line.rstrip("\n")
    return printable(text) + line[len(text) :]


def _known(store: Store, version: int) -> Config:
    """Raises `Refusal`."""
    if version:
        try:
            config, _ = store.config(version)
        except Odd as error:
            where = f"{store.prefix}{rows.VERSIONS}{version}"
            hint = "see the others: floatip fleet versions"
            raise Refusal(printable(f"the row {where} {error}"), hint, Why.OTHER_FLEET) from None
    else:
        config, _ = _in_force(store)
    if config is None and version:
        what = f"there is no version {version}; the last {rows.KEPT} are kept"
        raise Refusal(what, "see them: floatip fleet versions", Why.UNKNOWN_NAME)
    if config is None:
        raise Refusal("this fleet has no configuration at etcd", "floatip fleet apply FILE", Why.UNKNOWN_NAME)
    return config


def _diff(here: Here, store: Store, wishes: Wishes) -> int:
    text = _text(wishes)
    config = _in_force(store)[0]
    if config and config.toml == text:
        say(f"no difference to version {config.version}")
        return NO_CHANGE
    _show_changes(config, text, wishes.argument or "")
    return CHANGES


def _versions(here: Here, store: Store, wishes: Wishes) -> int:
    current = _in_force(store)[0]
    found, odd = store.versions()
    if wishes.as_json:
        data = [{"version": one.version, "by": one.by, "at": one.at, "bytes": len(one.toml.encode())} for one in found]
        print(json.dumps(data, indent=2))
    elif not current:
        say("this fleet has no configuration at etcd\nhint: floatip fleet apply FILE")
    else:
        table = [("VERSION", "WHEN", "BYTES", "BY")]
        table += [(str(one.version), one.at, str(len(one.toml.encode())), one.by) for one in found]
        _table(table)
    _say_odd(store, odd)
    return 0


# Where what is


def _plan(here: Here, store: Store, wishes: Wishes) -> int:
    text = _text(wishes)
    found = store.found()
    after, _ = _judged(here, store, text, found, wishes)
    if wishes.as_json:
        now, then = _homes(after.model, found)
        moved = {name: {"from": now.get(name), "to": then.get(name)} for name in _moved(after.model, now, then)}
        print(json.dumps({"carried_by": then, "moved": moved, "gone": _gone(after.model, found)}, indent=2))
    else:
        show("\n".join(_moves(after.model, found)), 2)
    return 0


def _homes(model: Model, found: Found) -> tuple[dict[str, str], dict[str, str]]:
    """The node of each instance now, as etcd knows it, and with this model, while all that live are ready."""
    elected = [one for one in model.instances if isinstance(one.election, Nodes)]
    nodes = [one.node for one in found.members if one.node.name in found.alive]
    now = {one.name: found.owners[one.name] for one in elected if one.name in found.owners}
    alive = {one.name for one in nodes}
    carried = {name: node for name, node in now.items() if node in alive}
    return now, assign(elected, nodes, lambda instance, node: True, carried)


def _moved(model: Model, now: dict[str, str], then: dict[str, str]) -> list[str]:
    return [one.name for one in model.instances if now.get(one.name) != then.get(one.name)]


def _gone(model: Model, found: Found) -> list[str]:
    names = {one.name for one in model.instances}
    return [name for name in found.owners if name not in names]


def _moves(model: Model, found: Found) -> Iterator[str]:
    if not found.alive:
        yield "no member is alive, so what moves is not known"
        return
    now, then = _homes(model, found)
    moved = _moved(model, now, then)
    gone = _gone(model, found)
    lines = [(f"  {name}", now.get(name, "nobody"), "->", then.get(name, "nobody")) for name in moved]
    lines += [(f"  {name}", found.owners[name], "->", "removed") for name in gone]
    if not lines:
        yield "nothing moves"
        return
    yield f"{len(lines)} of {len(model.instances) + len(gone)} instances move, if every node that is alive is ready:"
    yield from map(printable, aligned(lines[:MOST]))
    if len(lines) > MOST:
        yield f"  and {len(lines) - MOST} more: floatip fleet plan FILE --json"


MOST = 20
"""Moves, rows and names that are shown."""


def _members(here: Here, store: Store, wishes: Wishes) -> int:
    found = store.found()
    names = [one.node.name for one in found.members]
    carries = {name: sum(node == name for node in found.owners.values()) for name in [*names, *found.alive]}
    if wishes.as_json:
        print(json.dumps([_data(one, found, carries) for one in found.members], indent=2))
    elif not names:
        say("no node has registered\nhint: start floatip on the nodes; their files have [etcd] and no [[node]]")
    else:
        table = [("NAME", "STATE", "ADDRESS", "WEIGHT", "OWNS", "VERSION", "MEMBER SINCE")]
        for one in found.members:
            state = "alive" if one.node.name in found.alive else "silent"
            facts = (f"{one.node.weight:g}", str(carries[one.node.name]), found.alive.get(one.node.name) or one.version)
            table.append((one.node.name, state, str(one.node.address), *facts, one.since))
        _table(table)
    for address, alike in rows.alike(found.members).items():
        hint = "forget the one that is gone: floatip fleet forget NAME"
        say(f"warning: {listed(alike)} have the same address {address}\n  hint: {hint}")
    if strangers := [name for name in found.alive if name not in names]:
        names_of = few(sorted(strangers), ", ", MOST)
        say(f"note: alive and no member, because its file names the nodes, or it has left: {names_of}")
    _say_odd(store, found.odd)
    return 0 if names and all(name in found.alive for name in names) else 1


def _data(one: rows.Member, found: Found, carries: dict[str, int]) -> dict[str, Any]:
    node = one.node
    return {
        "name": node.name,
        "alive": node.name in found.alive,
        "address": str(node.address),
        "weight": node.weight,
        "owns": carries[node.name],
        "version": found.alive.get(node.name) or one.version,
        "capabilities": list(one.capabilities),
        "since": one.since,
    }


def _forget(here: Here, store: Store, wishes: Wishes) -> int:
    name = wishes.argument
    if not name:
        raise Misused("NAME is missing", "see the members: floatip fleet members")
    if not here.fingerprints:
        what = "the key of the nodes cannot be read, so it is not known whether this is the fleet of this node"
        raise Refusal(what, again_as_root(), Why.KEY_UNUSABLE)
    if store.forget(name):
        say(f"{name} is no member any more")
        return 0
    names = [one.node.name for one in store.found().members]
    close = closest(name, names)
    hint = f"did you mean {close}?" if close else f"the members are {listed(names) or 'none'}"
    raise Refusal(f"there is no member {name}", hint, Why.UNKNOWN_NAME)


def _table(table: Sequence[tuple[str, ...]]) -> None:
    print("\n".join(aligned([tuple(map(printable, row)) for row in table], terminal_width())))


def _say_odd(store: Store, odd: Iterable[tuple[str, str]]) -> None:
    odd = list(odd)
    for name, why in odd[:MOST]:
        where = quote(store.prefix + name)
        say(f"warning: the row {store.prefix}{name} is passed over: it {why}")
        say(f"  hint: look at it: etcdctl get {where}; delete it if nobody needs it: etcdctl del {where}")
    if len(odd) > MOST:
        say(f"warning: {len(odd) - MOST} more rows below {store.prefix} are passed over")


def _who() -> str:
    name = os.environ.get("SUDO_USER", "")
    with suppress(KeyError):
        name = name or pwd.getpwuid(os.geteuid()).pw_name
    return f"{name or os.geteuid()}@{socket.gethostname()}"[: rows.LONGEST_WORD]


VERBS: dict[str, Callable[[Here, Store, Wishes], int]] = {
    "apply": _apply,
    "get": _get,
    "diff": _diff,
    "plan": _plan,
    "versions": _versions,
    "members": _members,
    "forget": _forget,
}
