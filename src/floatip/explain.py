"""`floatip explain`: why an instance is where it is, what would change it, and what would happen if."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from floatip.commands import Misused
from floatip.core.explain import Explanation
from floatip.core.foresight import Outcome
from floatip.core.refusals import Why
from floatip.core.rules import Rule
from floatip.core.state import OwnerView, as_data, read
from floatip.host.ask import ControlError, Declined, Record, ask, socket_path
from floatip.text import age, folded, printable

T = TypeVar("T")
DETAILED = 4
"""Up to so many instances, each says what would change it without being asked."""
TIMEOUT = 30.0
"""Seconds: what others ask is played before."""
LABEL = 13
AT_ONCE = 0.05
"""Seconds."""
EVENTS = {
    "down": "if {} goes down",
    "check-fails": "if check {} fails here",
    "drained": "if {} is drained",
    "back": "if {} comes back",
    "check-passes": "if check {} passes here",
    "undrained": "if {} is undrained",
    "resumed": "if {} resumes the election",
    "etcd-gone": "if etcd does not answer any more",
}


@dataclass(frozen=True, slots=True)
class Explained:
    told: Explanation
    changes: tuple[Outcome, ...] | None
    """None: not asked."""


def show(instance: str | None, down: str | None, fails: str | None, drained: str | None, *, as_json: bool) -> int:
    asked = {
        "--if-down": ("down", down),
        "--if-check-fails": ("check-fails", fails),
        "--if-drained": ("drained", drained),
    }
    given = [(option, kind, of) for option, (kind, of) in asked.items() if of is not None]
    if len(given) > 1:
        raise Misused(f"{given[0][0]} and {given[1][0]} exclude each other", "ask one after the other")
    width = shutil.get_terminal_size().columns
    if given:
        _, kind, of = given[0]
        outcomes = _answers(Outcome, instance, kind, of)
        data: object = {"if": kind, "of": of, "outcomes": as_data(outcomes)}
        text: Callable[[], str] = lambda: draw_outcomes(kind, str(of), outcomes, width)  # noqa: E731
    else:
        explained = list(_explained(instance))
        data = {
            "explanations": [
                as_data(one.told) | {"changes": None if one.changes is None else as_data(one.changes)}
                for one in explained
            ]
        }
        text = lambda: draw_explanations(explained, width)  # noqa: E731
    print(json.dumps(data, indent=2) if as_json else text())
    return 0


def _explained(instance: str | None) -> Iterator[Explained]:
    found = _answers(Explanation, instance)
    for one in found:
        changes = None
        if instance is not None or len(found) <= DETAILED:
            answers = [_answers(Outcome, one.instance, asked.kind, asked.of) for asked in one.questions]
            changes = tuple(outcome for each in answers for outcome in each)
        yield Explained(one, changes)


def _answers(kind: type[T], instance: str | None, if_: str | None = None, of: str | None = None) -> list[T]:
    """Of all instances that are asked for, in as many requests as the daemon wants."""
    found: list[T] = []
    begin: object = None
    while True:
        asked: Record = {"cmd": "explain", "instance": instance, "if": if_, "of": of, "from": begin}
        answer = ask(socket_path(), asked, TIMEOUT)
        if answer.get("refused"):
            raise Declined(answer)
        try:
            told, begin = answer["answers"], answer["more"]
            assert isinstance(told, list)
            found += [read(kind, one) for one in told]
        except (AssertionError, KeyError, TypeError, ValueError):
            what = "the daemon is of another version, and its answer cannot be read"
            raise ControlError(what, "systemctl restart floatip", Why.OTHER_DAEMON_VERSION) from None
        if begin is None:
            return found


# What a person reads


def draw_explanations(explained: Sequence[Explained], width: int) -> str:
    if not explained:
        return "no [[instance]] is configured: there is nothing to explain"
    return "\n\n".join("\n".join(_explanation(one, width)) for one in explained)


def _explanation(explained: Explained, width: int) -> Iterator[str]:
    one = explained.told
    who = "no node that is heard carries it" if not one.carrier else f"{one.carrier} carries it"
    if one.carrier == one.node:
        who = f"this node, {one.node}, carries it"
    yield from _fold(f"{one.instance}: {who}", width, 2)
    yield from _labelled("here", f"{one.node}, {one.role.upper()} for {age(one.for_)}, rank {one.rank}", width)
    yield from _labelled("rule", f"{one.rule}: {one.what}", width)
    if one.because not in one.what and one.because != "started":
        yield from _labelled("because", one.because, width)
    if one.owner:
        yield from _labelled("by etcd", _owner(one.owner, one.etcd_silent), width)
    for reason in one.also:
        yield from _labelled("also", f"{reason.rule}: {reason.what}", width)
    for what in one.unknown:
        yield from _labelled("not known", what, width)
    if explained.changes is None:
        yield from _fold(f"  what would change it: floatip explain {one.instance}", width, 4)
        return
    if explained.changes:
        yield "  what would change it"
    for outcome in explained.changes:
        yield from _fold(f"    {_event(outcome.if_, outcome.of)}: {in_words(outcome)}", width, 8)


def _owner(view: OwnerView, silent: float | None) -> str:
    says = "etcd says that" if silent is None else f"etcd, which has not answered for {age(silent)}, said that"
    what = f"{says} nobody owns it"
    if view.owner and not view.released:
        since = time.strftime("%d %b %Y %H:%M:%S", time.localtime(view.epoch / 1000))
        what = f"{says} {view.owner} has owned it since {since}, epoch {view.epoch}"
        what += f" ({view.why})" if view.why else ""
    elif view.owner:
        what += f": {view.owner} has let go of epoch {view.epoch}"
    return f"{what}; {'exclusive' if view.exclusive else 'not exclusive'}"


def draw_outcomes(kind: str, of: str, outcomes: Sequence[Outcome], width: int) -> str:
    lines = [*_fold(f"{_event(kind, of)}:", width, 2)]
    same = [one for one in outcomes if one.before == one.carrier and one.certain and not one.refused]
    few = len(outcomes) <= DETAILED
    for one in outcomes:
        if few or one not in same:
            lines += _outcome(one, width)
    if same and not few:
        lines.append(f"  {len(same)} {'instances stay' if len(same) > 1 else 'instance stays'} where they are")
    return "\n".join(lines)


def _outcome(one: Outcome, width: int) -> Iterator[str]:
    yield from _fold(f"  {one.instance}: {in_words(one, whole=True)}", width, 6)
    if one.refused:
        yield from _fold(f"      floatip drain is refused now: {one.refused}", width, 8)
    for what in one.unknown:
        yield from _fold(f"      not known: {what}", width, 8)


def in_words(one: Outcome, *, whole: bool = False) -> str:
    """`whole`: with the node that it goes from, or stays with."""
    when = "at once" if (one.after or 0.0) < AT_ONCE else f"after about {one.after:.1f} s"
    if one.before == one.carrier and (one.certain or one.carrier):
        stays = f"stays with {one.carrier}" if whole else "nothing changes"
        return f"{stays if one.carrier else 'still no node carries it'}: {one.what}"
    if one.carrier:
        moves = f"{one.carrier} takes over {when}"
        if one.rule == Rule.STANDBY_ROUTE:
            moves = f"the traffic goes to {one.carrier} {when}"
        elif whole:
            moves = f"{one.before or 'nobody'} -> {one.carrier} {when}"
        return f"{moves}{'' if one.certain else ', as far as this node knows'}: {one.what}"
    if one.certain:
        return f"no node carries it: {one.what}"
    if one.candidates:
        return f"{' or '.join(one.candidates)} carries it: {one.what}"
    return f"it cannot be known from here who carries it: {one.what}"


def _event(kind: str, of: str) -> str:
    return EVENTS[kind].format(of)


def _labelled(label: str, text: str, width: int) -> list[str]:
    return _fold(f"  {label:{LABEL - 2}}{text}", width, LABEL)


def _fold(line: str, width: int, indent: int) -> list[str]:
    return folded(printable(line), width, indent)
