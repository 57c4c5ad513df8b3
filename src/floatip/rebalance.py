"""`floatip rebalance`: show which instances should move so that all nodes have their share, and move them.

One after the other, each by the node that carries it, which goes on until the other one has it. With etcd, the row
`asks/INSTANCE` asks that node; it goes with a lease of this command. Without etcd, only the daemon of this node can be
asked, so this command moves what this node carries.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from floatip import prompts, reading
from floatip.commands import Refusal
from floatip.core.arbiter import ASKS
from floatip.core.etcd import Compare, Grant, Granted, Put, Revoke, Txn, TxnDone
from floatip.core.link.rebalance import Move, rebalance
from floatip.core.refusals import Why
from floatip.core.settings import Instance, Node, Nodes
from floatip.core.state import FRESH_SESSION
from floatip.host.ask import ControlError, Declined, Record, ask, socket_path
from floatip.reading.place import ConfigErrors
from floatip.text import aligned, printable, say, show, terminal_width

if TYPE_CHECKING:  # it needs an extra, and only where there is etcd
    from floatip.fleet.store import Store

CARRIES, MASTERS, CAN = "C", "CTLU", "CTr"
"""As `host/loads.py` has them: carries it, and all is well; is master; could be master."""
INTERVAL = 0.2
"""Seconds between two looks at how a move stands."""
PATIENCE = 10.0
"""Seconds for a move. What is exclusive may take a lease time more."""
UNABLE = 2.0
"""Seconds after which a node that could take over nothing is not waited for."""
MOST_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Loads:
    """What the daemon of this node knows."""

    own: str
    paused: str
    etcd: bool
    lease_time: float
    nodes: tuple[Node, ...]
    seasoned: frozenset[str]
    instances: tuple[Instance, ...]
    letters: dict[str, dict[str, str]]
    """By node and instance."""

    def can(self, instance: str, node: str) -> bool:
        return self.letters[node].get(instance, "") in CAN

    def masters(self, instance: str) -> list[str]:
        return [name for name, letters in self.letters.items() if letters.get(instance, "") in MASTERS]

    def is_there(self, node: str) -> bool:
        """Whether it is heard and carries, or could take over, anything."""
        return any(letter in (*MASTERS, *CAN) for letter in self.letters[node].values())

    @property
    def carried(self) -> dict[str, str]:
        """What one node alone is master of."""
        masters = {one.name: self.masters(one.name) for one in self.instances}
        return {name: found[0] for name, found in masters.items() if len(found) == 1}

    def is_exclusive(self, name: str) -> bool:
        return any(
            one.name == name and isinstance(one.election, Nodes) and one.election.exclusive for one in self.instances
        )


def command(file: Path, *, dry_run: bool, yes: bool) -> int:
    """The exit status. Raises `Refusal`."""
    loads = look()
    moves = plan(loads)
    if not moves:
        say(_nothing_to_do(loads))
        return 0
    ours = [move for move in moves if loads.etcd or set(move.before) == {loads.own}]
    _show(loads, moves, ours)
    if dry_run:
        say("nothing was moved: --dry-run")
        return 0
    if not ours:
        others = ", ".join(sorted({name for move in moves for name in move.before}))
        hint = f"without etcd, a node moves only what it carries; run it there: {others}"
        raise Refusal("this node has nothing to move", hint, Why.CARRIED_ELSEWHERE)
    if sys.stdin.isatty() and not (yes or _is_confirmed()):
        say("nothing was moved")
        return 1
    try:
        with _store(file) if loads.etcd else nullcontext() as store:
            return _move_all(ours, store)
    except ConfigErrors as refused:
        show(reading.render(refused.errors, refused.warnings))
        return 2


def _store(file: Path) -> "Store":
    from floatip.fleet.command import open_store  # noqa: PLC0415

    return open_store(file)


def look() -> Loads:
    """Raises `Refusal`."""
    answer = ask(socket_path(), {"cmd": "loads"})
    if answer.get("refused"):
        raise Declined(answer)
    try:
        return _loads(answer)
    except (KeyError, TypeError, ValueError, AttributeError):
        hint = "restart the daemon, so that it has the version of this command: systemctl restart floatip"
        raise Refusal("the daemon has answered something else", hint, Why.OTHER_DAEMON_VERSION) from None


def _loads(answer: Record) -> Loads:
    given: Any = answer
    instances = tuple(
        Instance(str(name), (), Nodes(tuple(prefer), together, apart, exclusive=exclusive))
        for name, prefer, together, apart, exclusive in given["instances"]
    )
    nodes = given["nodes"]
    return Loads(
        str(given["own"]),
        str(given["paused"]),
        bool(given["etcd"]),
        float(given["lease_time"]),
        tuple(Node(str(name), IPv4Address(0), float(weight)) for name, weight, *_ in nodes),
        frozenset(str(name) for name, _, is_seasoned, _ in nodes if is_seasoned),
        instances,
        {
            str(name): {one.name: letter for one, letter in zip(instances, letters, strict=True)}
            for name, *_, letters in nodes
        },
    )


def plan(loads: Loads) -> list[Move]:
    """Raises `Refusal`."""
    if loads.paused:
        what = f"no node takes over now: {loads.paused}"
        raise Refusal(what, "where it is paused: floatip resume", Why.ELECTION_PAUSED)
    moves = rebalance(loads.instances, loads.nodes, loads.can, loads.carried)
    if young := sorted({move.to for move in moves} - loads.seasoned):
        what = f"the BGP sessions of {', '.join(young)} are younger than {FRESH_SESSION:g} s"
        what = f"{what}, and route servers may ignore them"
        raise Refusal(what, "wait until then: floatip nodes", Why.YOUNG_SESSIONS)
    return moves


# What is shown


def _show(loads: Loads, moves: Sequence[Move], ours: Sequence[Move]) -> None:
    before = Counter(loads.carried.values())
    after = before + Counter(move.to for move in moves for _ in move.instances)
    after.subtract(node for move in moves for node in move.before)
    rows = [("NODE", "CARRIES", "", "THEN")]
    rows += [(node.name, str(before[node.name]), "->", str(after[node.name])) for node in loads.nodes]
    print("\n".join(aligned([tuple(map(printable, row)) for row in rows], terminal_width())))
    count, known = sum(len(move.instances) for move in moves), len(loads.carried)
    print(f"\n{count} of {known} instances move, one after the other. Open connections to them are reset:")
    lines = [
        (f"  {name}", node, "->", move.to, _remark(loads, name, is_ours=move in ours))
        for move in moves
        for name, node in zip(move.instances, move.before, strict=True)
    ]
    print("\n".join(aligned([tuple(map(printable, line)) for line in lines[:MOST_SHOWN]], terminal_width())))
    if len(lines) > MOST_SHOWN:
        print(f"  and {len(lines) - MOST_SHOWN} more")
    if any(loads.is_exclusive(name) for move in moves for name in move.instances):
        show("exclusive: no node has it for a moment, because the old one releases it first")
    if left_alone := _left_alone(loads):
        show(printable(left_alone))


def _nothing_to_do(loads: Loads) -> str:
    count = len(loads.carried)
    if not count:
        what = "nothing to do: no instance is carried by exactly one node"
    else:
        what = f"nothing to do: {count} of {len(loads.instances)} instances {'is' if count == 1 else 'are'} carried, "
        what += "and none of them has to move"
    left_alone = _left_alone(loads)
    return printable(f"{what}; {left_alone}") + "\nhint: see why: floatip status" if left_alone else what


def _left_alone(loads: Loads) -> str:
    left = sorted({one.name for one in loads.instances} - loads.carried.keys())
    verb = "is" if len(left) == 1 else "are"
    return f"{len(left)} {verb} left alone, because no node or more than one carries it: {_few(left)}" if left else ""


def _remark(loads: Loads, name: str, *, is_ours: bool) -> str:
    remarks = ["exclusive"] * loads.is_exclusive(name) + ["by that node: run floatip rebalance there"] * (not is_ours)
    return ", ".join(remarks)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _is_confirmed() -> bool:
    try:
        return prompts.confirm("\nMove them?")
    except EOFError:
        return False


# What is done


def _move_all(moves: Sequence[Move], store: "Store | None") -> int:
    done, begun = 0, False
    try:
        for move in moves:
            begun = True
            what = printable(f"[{done + 1}/{len(moves)}] {', '.join(move.instances)} -> {move.to}")
            began = time.monotonic()
            _move(move, store)
            print(f"{what}: done in {time.monotonic() - began:.2f} s", flush=True)
            done, begun = done + 1, False
    except KeyboardInterrupt:
        account = _account(done, moves, f"begun, and may still move: {_few(moves[done].instances)}" if begun else "")
        say(f"\nstopped: {account}\nhint: see who carries what: floatip nodes; to go on: floatip rebalance")
        return 130
    except Refusal:
        say(_account(done, moves, f"stopped at {_few(moves[done].instances)}"))
        raise
    say(f"{done} moves are done" if done > 1 else "the move is done")
    return 0


def _account(done: int, moves: Sequence[Move], under_way: str) -> str:
    """`under_way`: of the first that is not done."""
    left = [name for move in moves[done + bool(under_way) :] for name in move.instances]
    parts = [f"{done} of {len(moves)} moves {'is' if done == 1 else 'are'} done", under_way]
    return printable("; ".join(filter(None, [*parts, f"not begun: {_few(left)}" if left else ""])))


def _move(move: Move, store: "Store | None") -> None:
    """Raises `Refusal` unless it is done."""
    loads = look()
    for name, before in zip(move.instances, move.before, strict=True):
        if loads.carried.get(name) != before:
            now = " and ".join(loads.masters(name)) or "nobody"
            what = f"{name} was to move from {before}, and {now} carries it now"
            raise Refusal(what, "make a new plan: floatip rebalance", Why.COUNTERMANDED)
        if not loads.can(name, move.to):
            what = f"{move.to} could not take over {name} any more"
            raise Refusal(what, f"see why: floatip explain {name}", Why.NOBODY_READY)
    if loads.paused:
        raise Refusal(f"no node takes over now: {loads.paused}", "floatip resume", Why.ELECTION_PAUSED)
    patience = PATIENCE + (loads.lease_time if any(map(loads.is_exclusive, move.instances)) else 0.0)
    if store is None:
        for name in move.instances:
            answer = ask(socket_path(), {"cmd": "handover", "instance": name, "to": move.to})
            if answer.get("refused"):
                raise Declined(answer, f"{name}: ")
        _await(move, patience)
        return
    lease = _asked(move, store, patience)
    try:
        _await(move, patience)
    finally:
        store.ask(Revoke(lease))


def _asked(move: Move, store: "Store", patience: float) -> int:
    """The lease of the rows that ask for it."""
    granted = store.ask(Grant(round(patience) + 5))
    assert isinstance(granted, Granted)
    row = json.dumps({"to": move.to, "by": "floatip rebalance", "id": uuid4().hex})
    keys = [ASKS + name for name in move.instances]
    answer = store.ask(
        Txn(tuple(Compare(key, 0) for key in keys), tuple(Put(key, row, granted.lease) for key in keys), tuple(keys))
    )
    assert isinstance(answer, TxnDone)
    if not answer.succeeded:
        store.ask(Revoke(granted.lease))
        what = f"somebody else moves {', '.join(move.instances)} now"
        raise Refusal(what, "wait until that is done: floatip nodes", Why.COUNTERMANDED)
    return granted.lease


def _await(move: Move, patience: float) -> None:
    began = able_at = time.monotonic()
    while left := _left(loads := look_again(), move):
        now = time.monotonic()
        able_at = now if loads is None or loads.is_there(move.to) else able_at
        if now > min(began + patience, able_at + UNABLE):
            is_able = now < able_at + UNABLE
            why = f" within {patience:g} s" if is_able else f": {move.to} is silent, or not ready any more"
            what = f"{left} did not move to {move.to}{why}"
            if loads:
                what += f"; {' and '.join(loads.masters(left)) or 'no node'} carries it now"
            raise Refusal(what, f"see why: floatip explain {left}; to go on: floatip rebalance", Why.NOT_TAKEN_OVER)
        time.sleep(INTERVAL)


def look_again(get: Callable[[], Loads] = look) -> Loads | None:
    """None: the daemon does not answer now, as while it restarts."""
    try:
        return get()
    except ControlError:
        return None


def _left(loads: Loads | None, move: Move) -> str:
    """One that is not yet there as a whole: acknowledged by the route servers, and not on the old node any more."""
    if loads is None:
        return move.instances[0]
    is_there = (loads.masters(name) == [move.to] and loads.letters[move.to][name] == CARRIES for name in move.instances)
    return next((name for name, there in zip(move.instances, is_there, strict=True) if not there), "")
