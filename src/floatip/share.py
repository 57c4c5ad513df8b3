"""`floatip share`: let Linodes announce each other's addresses, by Linode's API. Read, show, ask, write, look again.

A write replaces all that is shared to a Linode, and the API has no way to write only if nothing changed. So each write
starts from a list that was read right before it, and what was written is read again, to notice other writers.
"""

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Interface, IPv6Network, ip_interface
from pathlib import Path
from typing import Any, NamedTuple

from floatip import DEFAULT_CONFIG, prompts, reading
from floatip.commands import Misused, Refusal
from floatip.core.addresses import Address
from floatip.core.refusals import Why
from floatip.core.settings import Keepalived, Vrrp
from floatip.core.state import Status, read
from floatip.host.ask import ControlError, ask, socket_path
from floatip.linode import metadata, token
from floatip.linode.api import Account, Again, Linode, Range
from floatip.linode.merge import Change, Thing, Things, in_order, wanted
from floatip.model import Model
from floatip.reading.place import ConfigError, ConfigErrors
from floatip.reading.words import few, listed
from floatip.text import printable, say, show

PATIENCE = 120.0
"""Seconds for which a write is tried again while the Linode is busy."""
VISIBLE = 60.0
"""Seconds until a write must be seen."""
LOOK = 2.0
"""Seconds between two looks."""
MOST = 4
METADATA_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Wishes:
    addresses: Sequence[str]
    receivers: Sequence[str]
    """Nodes of the configuration, or numbers of Linodes; none: all nodes."""
    linode: int | None
    """This machine's."""
    remove: Sequence[str]
    file: Path
    is_file_given: bool
    token_file: Path | None
    dry_run: bool
    yes: bool
    as_json: bool


class Unshareable(Refusal):
    """What is asked for is not what Linode can share."""

    code = Why.CANNOT_SHARE


class _Node(NamedTuple):
    name: str
    address: Address


@dataclass(slots=True)
class _Target:
    linode: Linode
    has: Things
    change: Change = field(default_factory=Change)
    wrote: Things | None = None
    is_visible: bool = False
    lost: Things = frozenset()
    """Of what was written: what another writer has taken away since."""


def wishes(file: Path | None, asked: Mapping[str, Any]) -> Wishes:
    """Of the options, by their names in `floatip.cli`."""
    return Wishes(
        addresses=asked["address"],
        receivers=asked["receivers"] or (),
        linode=asked["linode"],
        remove=asked["remove"] or (),
        file=file or Path(DEFAULT_CONFIG),
        is_file_given=file is not None,
        token_file=asked["token_file"],
        dry_run=asked["dry_run"],
        yes=asked["yes"],
        as_json=asked["as_json"],
    )


def share(wishes: Wishes) -> int:
    """The exit status. Raises `Refusal`."""
    return _Share(wishes).run()


class _Share:
    def __init__(self, wishes: Wishes) -> None:
        """Raises `Refusal`: an address or the configuration cannot be used."""
        if not (wishes.yes or wishes.dry_run or sys.stdin.isatty()):
            raise Misused("--yes is missing, and stdin is not a terminal", "look first: floatip share --dry-run")
        self._wishes = wishes
        self._add, self._remove = _read_addresses(wishes.addresses), _read_addresses(wishes.remove)
        if both := self._add & self._remove:
            raise Misused(f"{_few(both)} cannot be shared and removed at once", "give it once")
        self._model = _model(wishes)
        if not self._add and not self._remove:
            self._add = _floating(self._model, wishes.file)
        self._nodes = _nodes(self._model)
        self._warnings: list[str] = []
        self._said: set[str] = set()

    def run(self) -> int:
        self._account = Account(token.find(self._wishes.token_file), say)
        self._linodes = {one.id: one for one in self._account.linodes()}
        targets = self._targets()
        region = next(iter(targets.values())).linode.region
        ranges = self._account.ranges(region)
        self._read(targets.values(), ranges)
        self._plan(targets, ranges, region)
        if not any(one.change for one in targets.values()):
            return self._end(targets.values(), "nothing to do: it is shared as you want it")
        self._show(targets.values())
        self._warn(targets.values(), ranges)
        if self._wishes.dry_run:
            return self._end(targets.values(), "nothing was changed: --dry-run")
        if not (self._wishes.yes or prompts.confirm("Change what is shared?")):
            say("nothing was changed")
            return 1
        error: Refusal | None = None
        try:
            for one in targets.values():
                if one.change:
                    self._write(one)
        except Refusal as refusal:
            error = refusal
        self._wait_until_visible([one for one in targets.values() if one.wrote is not None])
        return self._end(targets.values(), "done", error)

    # Who, and what

    def _targets(self) -> dict[int, _Target]:
        """In one region. Raises `Refusal`."""
        found = [self._receiver(name) for name in self._wishes.receivers]
        if not self._wishes.receivers:
            found = [self._of_node(node) for node in self._nodes]
        if self._wishes.linode is not None:
            found.append(self._by_number(self._wishes.linode))
        elif not found:
            found = [self._by_number(_this_machine())]
        regions = {one.region for one in found}
        if len(regions) > 1:
            where = listed([f"{_name(one)} is in {one.region}" for one in found])
            raise Unshareable(
                f"an address is shared only within one region: {where}", "give Linodes of one region: --with"
            )
        return {one.id: _Target(one, frozenset()) for one in found}

    def _receiver(self, text: str) -> Linode:
        if text.isdecimal():
            return self._by_number(int(text[:18]))
        for node in self._nodes:
            if node.name == text:
                return self._of_node(node)
        known = listed([node.name for node in self._nodes])
        what = f"--with: {self._wishes.file} has no node {text}" + (f", it has {known}" if known else "")
        raise Misused(what, "give the name of a node, or the number of a Linode")

    def _by_number(self, number: int) -> Linode:
        if number not in self._linodes:
            known = few([f"{one.id} ({one.label})" for one in self._linodes.values()], ", ", MOST)
            hint = f"those there are {known}" if known else "it has none: is the token of the right account?"
            raise Unshareable(f"the account of the token has no Linode {number}", hint)
        return self._linodes[number]

    def _of_node(self, node: _Node) -> Linode:
        """The Linode that owns the node's address. A private address is unique only within a region."""
        found = [one for one in self._linodes.values() if node.address in one.ipv4 or node.address == one.ipv6]
        if len(found) > 1:
            found = [one for one in found if node.address in self._account.held(one.id).own] or found
        if len(found) == 1:
            return found[0]
        what = f"no Linode of the account has {node.address}, the address of node {node.name}"
        if found:
            what = f"{listed(list(map(_name, found)))} have {node.address}, the address of node {node.name}"
        named = next((one for one in self._linodes.values() if one.label == node.name), None)
        like = f"{named.id} (its label is {named.label})" if named else "NUMBER"
        raise Unshareable(what, f"name the Linode of each node by its number: --with {like}")

    def _read(self, targets: Iterable[_Target], ranges: Iterable[Range]) -> None:
        for one in targets:
            one.has = self._shared(one.linode, ranges)

    def _shared(self, linode: Linode, ranges: Iterable[Range]) -> Things:
        held = self._account.held(linode.id)
        shared = (one.network for one in ranges if one.is_shared and linode.id in one.linodes)
        return frozenset((*held.shared, *shared))

    def _plan(self, targets: dict[int, _Target], ranges: Sequence[Range], region: str) -> None:
        remove = frozenset(self._thing(one, ranges, region) for one in self._remove)
        owners: list[tuple[Thing, int]] = []
        for one in self._add:
            thing = self._thing(one, ranges, region)
            owners.append((thing, 0 if isinstance(thing, IPv6Network) else self._owner(thing, region)))
        if both := remove & {thing for thing, _ in owners}:
            raise Misused(f"{_few(both)} cannot be shared and removed at once", "the range is shared as a whole")
        for target in targets.values():
            target.change = Change(wanted(target.linode.id, owners), remove).of(target.has)
        things = {thing for thing, _ in owners}
        for each in ranges:
            if each.network in things and not each.is_shared:
                for number in each.linodes:
                    self._share_to_owner(targets, number, each.network, ranges)

    def _share_to_owner(
        self, targets: dict[int, _Target], number: int, network: IPv6Network, ranges: Iterable[Range]
    ) -> None:
        """First: once a range is shared to another Linode, the API does not tell whether it is shared to its owner."""
        if number not in self._linodes:
            return
        linode = self._linodes[number]
        owner = targets.pop(number, None) or _Target(linode, self._shared(linode, ranges))
        owner.change = Change(owner.change.add | {network}, owner.change.remove)
        others = dict(targets)
        targets.clear()
        targets |= {number: owner} | others

    def _thing(self, one: Address | IPv6Network, ranges: Iterable[Range], region: str) -> Thing:
        if isinstance(one, IPv4Address):
            return one
        network = one if isinstance(one, IPv6Network) else IPv6Network(one)
        found = [each.network for each in ranges if network.subnet_of(each.network)]
        if found:
            return found[0]
        have = few([str(each.network) for each in ranges], ", ", MOST) or "none"
        what = f"no range of the account in {region} contains {one}; the ranges there are {have}"
        raise Unshareable(
            what, "an IPv6 address is shared as the whole /64 or /56 that is routed to a Linode: add a range"
        )

    def _owner(self, address: IPv4Address, region: str) -> int:
        """Raises `Refusal`."""
        found = [one for one in self._linodes.values() if address in one.ipv4]
        for one in sorted(found, key=lambda one: one.region != region):
            held = self._account.held(one.id)
            if address not in held.own:
                continue
            if address in held.nat_1_1:
                what = f"{address} of {_name(one)} is used for 1:1 NAT to a VPC, and Linode does not share it"
                raise Unshareable(what, "share another public address of that Linode, or take the 1:1 NAT off")
            if one.region != region:
                what = f"{address} is in {one.region}, and {region} is where it would be shared"
                raise Unshareable(what, "an address is shared only within its region")
            return one.id
        what = f"no Linode of the account has {address}"
        raise Unshareable(
            what, "is it of another account, or reserved and not assigned? Give it to one of the Linodes first"
        )

    # What is shown

    def _out(self, text: str) -> None:
        (say if self._wishes.as_json else show)(text)

    def _show(self, targets: Iterable[_Target]) -> None:
        for one in targets:
            self._out(f"{_name(one.linode)} in {one.linode.region}")
            self._out(f"  has     {_few(one.has, 'nothing that is shared to it')}")
            if one.change.add:
                self._out(f"  add     {_few(one.change.add)}")
            if one.change.remove:
                self._out(f"  remove  {_few(one.change.remove)}")
            if not one.change:
                self._out("  stays as it is")

    def _warn(self, targets: Iterable[_Target], ranges: Iterable[Range]) -> None:
        """What is shared for the first time is cut off until somebody announces it."""
        shared = {thing for one in targets for thing in one.has} | {one.network for one in ranges if one.is_shared}
        added = {thing for one in targets for thing in one.change.add} - shared
        removed = {thing for one in targets for thing in one.change.remove}
        announced, hint = _announced(added | removed)
        if silent := added - announced:
            self._warning(f"once shared, nothing reaches {_few(silent)} until a speaker announces it")
            say(f"  hint: {hint}")
        for thing in in_order(removed):
            if thing in announced:
                self._warning(f"floatip announces {thing}, and the Linode will not be allowed to any more")

    def _warning(self, text: str) -> None:
        self._warnings.append(text)
        say(f"warning: {text}")

    # The writes

    def _write(self, one: _Target) -> None:
        """Raises `Refusal`."""
        end = time.monotonic() + PATIENCE
        name = _name(one.linode)
        while True:
            has = self._shared(one.linode, self._account.ranges(one.linode.region))
            if has != one.has:
                self._changed(one, has)
            left = one.change.of(has)
            if not left:
                return
            wrote = one.change.applied(has)
            try:
                self._account.share(one.linode.id, in_order(wrote))
            except Again as error:
                if time.monotonic() + error.wait > end:
                    raise Refusal(f"{name}: {error.what}, still after {PATIENCE:g} s", error.hint, error.code) from None
                say(f"{name}: {error.what}; trying again in {error.wait:g} s")
                time.sleep(error.wait)
                continue
            except Refusal as error:
                raise Refusal(f"{name}: {error.what}", error.hint, error.code) from None
            one.wrote = wrote
            self._out(f"{name}: written")
            return

    def _changed(self, one: _Target, has: Things) -> None:
        parts = [f"added {_few(has - one.has)}"] if has - one.has else []
        parts += [f"removed {_few(one.has - has)}"] if one.has - has else []
        self._warning(f"{_name(one.linode)}: somebody else {' and '.join(parts)} meanwhile, which stays")
        one.has = has

    def _wait_until_visible(self, targets: Sequence[_Target]) -> None:
        began = time.monotonic()
        waiting = list(targets)
        while waiting:
            ranges = self._account.ranges(waiting[0].linode.region)
            is_over = time.monotonic() - began > VISIBLE
            for one in list(waiting):
                if self._is_settled(one, self._shared(one.linode, ranges), began, is_over=is_over):
                    waiting.remove(one)
            if waiting and len(waiting) == len(targets):
                self._say_once(f"waiting until it is seen, up to {VISIBLE:g} s")
            if waiting:
                time.sleep(LOOK)

    def _is_settled(self, one: _Target, has: Things, began: float, *, is_over: bool) -> bool:
        """Whether it is seen, or has been waited for long enough."""
        assert one.wrote is not None
        one.lost = one.wrote - has
        one.is_visible = not one.lost and not one.change.remove & has
        if one.is_visible:
            self._out(f"{_name(one.linode)}: seen after {time.monotonic() - began:.1f} s")
            if more := has - one.wrote:
                self._warning(f"{_name(one.linode)}: somebody else shared {_few(more)} to it meanwhile")
        elif is_over:
            self._not_seen(one, has)
        return one.is_visible or is_over

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            say(text)

    def _not_seen(self, one: _Target, has: Things) -> None:
        name = _name(one.linode)
        if has == one.has:
            self._warning(
                f"{name}: what was written is not seen after {VISIBLE:g} s; look again: floatip share --dry-run"
            )
            return
        parts = [f"{_few(one.lost)} is missing"] if one.lost else []
        parts += [f"{_few(one.change.remove & has)} is back"] if one.change.remove & has else []
        what = f"{name}: another program writes what is shared to this Linode: {' and '.join(parts)} after our write"
        self._warning(f"{what}. Stop it (Terraform, Ansible, a controller), or let it share these addresses too")

    def _end(self, targets: Iterable[_Target], what: str, error: Refusal | None = None) -> int:
        targets = list(targets)
        is_done = all(one.is_visible for one in targets if one.wrote is not None)
        if self._wishes.as_json:
            print(json.dumps(self._data(targets, error), indent=2))
        elif not error and is_done:
            show(what)
        if error:
            raise error
        return 0 if is_done else 1

    def _data(self, targets: Iterable[_Target], error: Refusal | None) -> Mapping[str, object]:
        return {
            "changed": any(one.wrote is not None for one in targets),
            "would_change": any(one.change for one in targets),
            "linodes": [
                {
                    "id": one.linode.id,
                    "label": one.linode.label,
                    "region": one.linode.region,
                    "has": _texts(one.has),
                    "add": _texts(one.change.add),
                    "remove": _texts(one.change.remove),
                    "written": one.wrote is not None,
                    "seen": one.is_visible,
                    "missing": _texts(one.lost),
                }
                for one in targets
            ],
            "warnings": self._warnings,
            "error": error and error.what,
            "hint": error and error.hint,
            "code": error and error.code,
        }


# The arguments


def _read_addresses(texts: Sequence[str]) -> frozenset[Address | IPv6Network]:
    return frozenset(_read_address(word) for text in texts for word in text.replace(",", " ").split())


def _read_address(text: str) -> Address | IPv6Network:
    """Raises `Misused`."""
    try:
        found = ip_interface(text)
    except ValueError:
        raise Misused(f"{printable(text)} is not an IP address", "give one as 192.0.2.10 or 2001:db8::/64") from None
    if isinstance(found, IPv6Interface):
        return found.ip if found.network.prefixlen == 128 or found.ip != found.network[0] else found.network
    if found.network.prefixlen != 32:
        raise Misused(f"{text} is a network, and Linode shares IPv4 addresses one by one", f"write {found.ip}")
    return found.ip


# The configuration, which need not be of this machine


def _model(wishes: Wishes) -> Model | None:
    """None: there is none, and none is needed. Raises `Refusal`."""
    asks_for_addresses = not wishes.addresses and not wishes.remove
    names = [one for one in wishes.receivers if not one.isdecimal()]
    if not (asks_for_addresses or names or wishes.is_file_given) and (wishes.receivers or not wishes.file.exists()):
        return None
    try:
        given = reading.read(wishes.file)
        if errors := [one for one in given.problems if isinstance(one, ConfigError)]:
            raise ConfigErrors(errors)
    except ConfigErrors as refused:
        hint = "correct it, or say it without the file: floatip share ADDRESS --with NUMBER --with NUMBER"
        raise Misused(f"the configuration cannot be used:\n{reading.render(refused.errors, [])}", hint) from None
    return given.model


def _floating(model: Model | None, file: Path) -> frozenset[Address | IPv6Network]:
    """What it announces by BGP."""
    found = [one for each in model.instances if each.is_announced for one in each.addresses] if model else []
    if not found:
        raise Misused(f"{file} has no address that could be shared", "name it: floatip share ADDRESS")
    return frozenset(one.ip for one in found)


def _nodes(model: Model | None) -> list[_Node]:
    """Those that know each other; or the two ends of VRRP."""
    if model is None:
        return []
    if model.nodes:
        return [_Node(one.name, one.address) for one in model.nodes]
    ends: dict[Address, None] = {}
    for one in model.instances:
        if isinstance(one.election, Vrrp | Keepalived):
            ends |= dict.fromkeys((one.election.source, *one.election.peers))
    return [_Node(str(address), address) for address in ends]


def _this_machine() -> int:
    """Raises `Refusal`."""
    try:
        return metadata.ask(METADATA_TIMEOUT).linode_id
    except metadata.Unavailable as error:
        hint = "name the Linodes by number: --with NUMBER for each, or --linode NUMBER for this machine"
        raise Refusal(f"which Linode this is, is not known: {error.what}", hint, error.code) from None


# What the daemon says


def _announced(things: Iterable[Thing]) -> tuple[set[Thing], str]:
    """Those that this node's daemon announces, and what to do about the others."""
    start = "start floatip on the nodes first: systemctl start floatip"
    try:
        status = read(Status, ask(socket_path(), {"cmd": "status"}))
    except ControlError as error:
        return set(), f"{start} ({error.what})"
    except (KeyError, TypeError, ValueError):
        return set(), f"{start} (the daemon is of another version)"
    views = [one for instance in status.instances for one in instance.addresses]
    told = {ip_interface(one.address).ip for one in views if one.announced_to}
    known = {ip_interface(one.address).ip for one in views}
    if all(any(_is_of(address, thing) for address in known) for thing in things):
        start = "floatip runs here, and announces it as soon as the route servers let it; see: floatip status"
    return {one for one in things if any(_is_of(address, one) for address in told)}, start


def _is_of(address: Address, thing: Thing) -> bool:
    return address in thing if isinstance(thing, IPv6Network) else address == thing


# Words


def _name(linode: Linode) -> str:
    return f"{linode.label} ({linode.id})"


def _texts(things: Iterable[Thing]) -> list[str]:
    return [str(one) for one in in_order(things)]


def _few(things: Iterable[object], none: str = "") -> str:
    return ", ".join(sorted(map(str, things))) or none
