"""This node as a member of its fleet: it registers at etcd, and follows who the others are and what all of them run.

Everything is a level: what etcd says, what is in force here, and what this node is to be are compared whenever one of
them changes. What is new is read and judged in a thread, as a file is; what is refused changes nothing.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from shlex import quote
from typing import Protocol

import floatip
from floatip import model
from floatip.core.arbiter import ALIVE, FLEET, FORMAT
from floatip.core.arbiter_problems import COMPARE
from floatip.core.etcd import Answer, Compare, Delete, Put, Question, Row, Txn, TxnDone, Unknown
from floatip.core.orders import Refused
from floatip.core.problems import Code
from floatip.core.refusals import Why
from floatip.core.settings import Node
from floatip.fleet import rows
from floatip.fleet.rows import CONFIG, MEMBERS, Member, Odd
from floatip.host.ask import Record
from floatip.host.control import Command
from floatip.host.disk import Memory
from floatip.host.failures import Failures
from floatip.host.orders import refusal
from floatip.host.reload import Outcome
from floatip.host.workers import Handle, Loop
from floatip.reading import ConfigErrors, Loaded, fleet
from floatip.reading.fleet import Known

RETRY = 5.0
"""Seconds until something is tried again that failed for now."""
CONFIGURATION, MEMBERSHIP = "the fleet's configuration", "this node as a member"
VERSION = "the version of the fleet's configuration"
WHEN = "%Y-%m-%dT%H:%M:%SZ"

SEE_ALL = "see all, on this node: floatip fleet get | floatip fleet apply --dry-run -"

Rows = Mapping[str, Row]
Read = Callable[[Known, Outcome], None]
"""Put it in force, if it can be used, and say so; not where something newer was asked for meanwhile."""


class Etcd(Protocol):
    def ask(self, question: Question, answered: Callable[[Answer], None]) -> None: ...
    def follow(self, prefix: str, changed: Callable[[Rows], None]) -> None: ...
    def forget(self, prefix: str) -> None: ...


@dataclass(slots=True)
class _Own:
    """This node, as its file has it."""

    node: Node
    etcd: model.Etcd
    keys: tuple[str, ...]
    """The fingerprints of the link's keys."""
    has_instances: bool
    """In its own file, or in the version in force."""
    rows: dict[str, Rows] = field(default_factory=dict)
    """By the prefix that is followed; missing: not read yet."""

    @property
    def prefixes(self) -> tuple[str, ...]:
        return MEMBERS, CONFIG, FLEET, self.alive

    @property
    def alive(self) -> str:
        return ALIVE + self.node.name

    @property
    def is_known(self) -> bool:
        """Whether etcd has said all of it."""
        return all(prefix in self.rows for prefix in self.prefixes)

    def is_at_the_same(self, other: "_Own") -> bool:
        """Follows the same rows."""

        def where(one: _Own) -> object:
            return one.node.name, one.etcd.endpoints, one.etcd.prefix

        return where(self) == where(other)


def _own(loaded: Loaded) -> _Own | None:
    if not (loaded.model.member and loaded.model.etcd and loaded.here):
        return None
    keys = tuple(map(model.fingerprint, loaded.here.keys))
    return _Own(loaded.here.node, loaded.model.etcd, keys, bool(loaded.model.instances))


class Membership:
    def __init__(
        self, etcd: Etcd, read: Read, failures: Failures, memory: Memory, machine: str, loop: Loop | None = None
    ) -> None:
        """`machine`: the boot id."""
        self._etcd = etcd
        self._read = read
        self._failures = failures
        self._memory = memory
        self._machine = machine
        self._loop = loop or asyncio.get_running_loop()
        self._own: _Own | None = None
        self._in_force = fleet.NOTHING
        self._has_left = False
        self._refused = ""
        """The row of a configuration that cannot be used here."""
        self._is_reading = self._is_writing = False
        self._unwritten = ""
        """Why its row was not written."""
        self._tries_again = False
        """Because that may mend."""
        self._latest = self._seen = 0
        """The latest version that was in force here; the one that etcd had last."""
        self._timer: Handle | None = None
        self._members: dict[str, tuple[int, Member | None]] = {}
        """As read, with the revision of the row; None: it is none of ours."""

    def configure(self, loaded: Loaded) -> None:
        """After the start, and after each reload."""
        self._is_reading = False
        before, own = self._own, _own(loaded)
        if before and own and before.is_at_the_same(own):
            own.rows = before.rows
        elif before or own:
            for prefix in before.prefixes if before else ():
                self._etcd.forget(prefix)
            for prefix in own.prefixes if own else ():
                self._etcd.follow(prefix, partial(self._changed, prefix))
            self._failures.keep(())
        self._own = own
        if own is None:
            return
        if before is None:
            self._has_left = loaded.known.has_left
        elif loaded.known != self._in_force:
            self._memory.remember(fleet.plain(loaded.known))
        self._in_force = loaded.known
        self._look()

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._own = None

    def commands(self) -> dict[str, Command]:
        return {
            "fleet-leave": Command(lambda request, pid: self._asked(request, leave=True), "ask it to leave the fleet"),
            "fleet-join": Command(lambda request, pid: self._asked(request, leave=False), "ask it to join the fleet"),
        }

    def _changed(self, prefix: str, found: Rows) -> None:
        if self._own:
            self._own.rows[prefix] = dict(found)
            self._look()

    def _look(self) -> None:
        own = self._own
        if not (own and own.is_known):
            return
        if self._is_ours(own):
            self._failures.clear(MEMBERSHIP)
            self._register(own)
            self._follow(own)
        elif FLEET in own.rows[FLEET]:
            what = (
                f"it follows neither members nor configuration: the row {own.etcd.prefix}{FLEET} is not of this fleet"
            )
            self._failures.set(MEMBERSHIP, what, COMPARE, Code.ETCD_PREFIX)

    def _is_ours(self, own: _Own) -> bool:
        """Whether it is this fleet's prefix. The core writes that row, and says what is wrong with another."""
        row = own.rows[FLEET].get(FLEET)
        return bool(row and rows.key_of(row.value, FORMAT) in own.keys)

    # What this node says of itself

    def _register(self, own: _Own) -> None:
        if self._is_writing:
            return
        key, members = MEMBERS + own.node.name, own.rows[MEMBERS]
        compares: list[Compare] = []
        then: tuple[Put | Delete, ...] = ()
        if self._has_left:
            then = (Delete(key),) if key in members else ()
        elif self._is_alive(own):
            known = self._member(members.get(key))
            wanted = Member(own.node, floatip.__version__, rows.CAPABILITIES, known.since if known else _now())
            compares.append(_as_seen(own.alive, own.rows[own.alive]))
            if known != wanted:
                then = (Put(key, rows.member_row(wanted)),)
            elif older := self._older(own):
                then = (Delete(MEMBERS + older),)
                compares.append(Compare(ALIVE + older, 0))
        if then:
            self._is_writing = True
            compares += [_as_seen(FLEET, own.rows[FLEET]), *(_as_seen(one.key, members) for one in then)]
            self._etcd.ask(Txn(tuple(compares), then), self._wrote)

    def _is_alive(self, own: _Own) -> bool:
        """Whether its name at etcd is this machine's, which the core sees to: so two with one name never take turns."""
        alive = own.rows[own.alive].get(own.alive)
        return bool(alive and rows.machine_of(alive.value) == self._machine)

    def _older(self, own: _Own) -> str:
        """An earlier name of this machine: it has its address."""
        found = [one for row in own.rows[MEMBERS].values() if (one := self._member(row))]
        names = [one.node.name for one in found if one.node.address == own.node.address]
        return next((name for name in names if name != own.node.name), "")

    def _wrote(self, answer: Answer) -> None:
        self._is_writing = False
        self._unwritten = answer.reason if isinstance(answer, Unknown) else ""
        if not (isinstance(answer, TxnDone) and answer.succeeded):
            self._look_later()  # if it was done anyway, the watch says so

    # What this node follows

    def _follow(self, own: _Own) -> None:
        row = self._configuration(own)
        self._say_if_older(row)
        if row and row == self._in_force.row:
            self._refused = ""
            self._failures.clear(CONFIGURATION)
        elif not (row or self._in_force.row or self._has_left or own.has_instances):
            what = "there is none at etcd, so this node carries nothing"
            self._failures.set(CONFIGURATION, what, "floatip fleet apply FILE", Code.NO_CONFIGURATION)
        known = self._known(own)
        if self._is_reading or known == self._in_force:
            return
        self._is_reading = True
        self._read(known, partial(self._was_judged, known))

    def _say_if_older(self, row: str) -> None:
        """It is followed: whoever restored etcd may want it so."""
        version, in_force = rows.version_of(row), rows.version_of(self._in_force.row)
        is_next = version > self._seen > 0  # somebody has applied it since
        self._latest = version if is_next else max(self._latest, in_force)
        self._seen = version
        if 0 < version < self._latest:
            what = f"{version} at etcd, and this node had {self._latest}: was etcd restored from an older snapshot?"
            hint = "compare with the file that you applied last, and apply that: floatip fleet diff FILE"
            self._failures.set(VERSION, what, hint, Code.FLEET_OLDER)
        else:
            self._failures.clear(VERSION)

    def _known(self, own: _Own) -> Known:
        row = self._configuration(own)
        members = () if self._has_left else self._others(own)
        return Known(
            self._in_force.row if row in ("", self._refused) else row, members, own.etcd.prefix, self._has_left
        )

    def _configuration(self, own: _Own) -> str:
        """The row at etcd; empty: there is none."""
        row = own.rows[CONFIG].get(CONFIG)
        return (row.value or " ") if row else ""  # one without a value is no configuration, as a blank is none

    def _others(self, own: _Own) -> tuple[Node, ...]:
        """Each address once: of two members with one, the one that registered last."""
        found: dict[object, Member] = {}
        self._failures.keep({CONFIGURATION, MEMBERSHIP, VERSION, *(self._called(key) for key in own.rows[MEMBERS])})
        self._members = {key: one for key, one in self._members.items() if key in own.rows[MEMBERS]}
        for row in own.rows[MEMBERS].values():
            one = self._member(row)
            if one and one.node.name != own.node.name and one.node.address != own.node.address:
                before = found.get(one.node.address)
                found[one.node.address] = max(one, before or one, key=lambda each: (each.since, each.node.name))
        return tuple(sorted((one.node for one in found.values()), key=lambda node: node.name))

    def _called(self, key: str) -> str:
        return f"row {self._own.etcd.prefix if self._own else ''}{key}"

    def _member(self, row: Row | None) -> Member | None:
        if row is None:
            return None
        revision, known = self._members.get(row.key, (0, None))
        if revision == row.revision:
            return known
        what, known = self._called(row.key), None
        try:
            known = rows.member(row.key.removeprefix(MEMBERS), row.value)
            self._failures.clear(what)
        except Odd as error:
            where = quote(what.removeprefix("row "))
            hint = f"look at it: etcdctl get {where}; delete it if nobody needs it: etcdctl del {where}"
            self._failures.set(what, f"passed over: it {error}", hint, Code.ETCD_ROW)
        self._members[row.key] = row.revision, known
        return known

    def _was_judged(self, known: Known, outcome: Loaded | ConfigErrors | OSError | None) -> None:
        """`configure` comes before this, where it was put in force."""
        self._is_reading = False
        if isinstance(outcome, Loaded):
            return
        may_mend = not isinstance(outcome, ConfigErrors) or outcome.may_mend
        is_new = known.row != self._in_force.row
        if may_mend or not is_new:
            self._look_later()
        if is_new:
            self._refused, self._tries_again = known.row, may_mend
            why = "it could not be read and checked"
            if isinstance(outcome, ConfigErrors):
                first, *more = outcome.errors
                why = first.text + f", and {len(more)} more" * bool(more)
            what = f"refused, so the one before stays in force: {why}"
            self._failures.set(CONFIGURATION, what, SEE_ALL, Code.FLEET_REFUSED)
            self._look()

    def _look_later(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(RETRY, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        if self._tries_again:
            self._refused, self._tries_again = "", False
        self._look()

    # What an administrator asks

    def _asked(self, request: Record, *, leave: bool) -> Record:
        own = self._own
        if own is None:
            what = "the file of this node has no [etcd], or names the nodes: it is no member"
            return refusal(Refused(what, "see the configuration: floatip check", Why.NO_FLEET))
        if own.is_known and FLEET in own.rows[FLEET] and not self._is_ours(own):
            what = f"the row {own.etcd.prefix}{FLEET} is not of this fleet, so nothing below that prefix is changed"
            return refusal(Refused(what, COMPARE, Why.OTHER_FLEET))
        if request.get("check") is True:
            return {"done": False}
        if self._has_left != leave:
            self._has_left = leave
            self._look()
        return {"done": not (waiting := self._waits_for(own)), "waiting": waiting}

    def _waits_for(self, own: _Own) -> str:
        """Empty: it is as it was asked for."""
        if not own.is_known:
            return "etcd has not said yet who the members are"
        if not self._is_ours(own):
            return "no node has written yet whose prefix it is at etcd"
        if self._has_left != self._in_force.has_left:
            return "the configuration is read again"
        if not self._has_left and own.rows[own.alive] and not self._is_alive(own):
            return "another machine that is alive has the name of this node"
        if (MEMBERS + own.node.name in own.rows[MEMBERS]) == self._has_left:
            why = f": {self._unwritten}" if self._unwritten else ""
            return f"etcd has not {'removed' if self._has_left else 'registered'} this node yet{why}"
        return ""


def _as_seen(key: str, found: Rows) -> Compare:
    return Compare(key, found[key].revision if key in found else 0)


def _now() -> str:
    return datetime.now(UTC).strftime(WHEN)
