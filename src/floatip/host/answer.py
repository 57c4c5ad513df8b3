"""The answer to `status`, as the control socket sends it.

With 255 instances and 1,000 prefixes it has 240 kB. To make all of it at once would keep the loop for 50 ms. So after a
request the instances are looked at in slices, and the answer is put together when all have been. What it says of each
is of a moment between the two. The text of an instance is kept until one of its facts changes; only its ages are new.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from floatip.core.diagnosis import diagnose, of_instances
from floatip.core.instance import Instance
from floatip.core.node import Node
from floatip.core.problems import Problem
from floatip.core.snapshot import Facts, announced, carried, facts, names_of, of_instance, states_of
from floatip.core.state import Status, as_data
from floatip.host.network.slices import Slice

AGES = ("role", "health", "rank")
Text = tuple[str, str, str, str]
"""What stands before, between and behind the three ages."""


class Answers:
    def __init__(self, soon: Callable[[Callable[[], None]], object], clock: Callable[[], float]) -> None:
        """`soon`: calls back when the loop has had its turn."""
        self._soon, self._clock = soon, clock
        self._texts: dict[str, tuple[Facts, Text]] = {}
        self._problems: dict[str, list[Problem]] = {}
        self._told: tuple[object, ...] = ()
        """After which of these each route server has other routes than before."""
        self._announced: dict[str, tuple[object, tuple[int, ...]]] = {}
        self._carried: dict[str, tuple[object, str]] = {}

    def prepare(self, node: Node, ready: Callable[[], None]) -> None:
        """Look at all instances, slice by slice."""
        for kept in (self._texts, self._problems, self._announced):
            for name in kept.keys() - node.instances.keys():
                del kept[name]
        self._prepare(node, iter(list(node.instances.values())), ready)

    def _prepare(self, node: Node, left: Iterator[Instance], ready: Callable[[], None]) -> None:
        slice_ = Slice()
        told = tuple((one, one.established_count, one.sent_updates, one.state) for one in node.sessions.values())
        if told != self._told:  # else the same object, which is soon compared
            self._told = told
        for instance in left:
            self._look(node, instance)
            if slice_.is_over:
                self._soon(partial(self._prepare, node, left, ready))
                return
        ready()

    def _look(self, node: Node, instance: Instance) -> None:
        name, key = instance.config.name, (instance.targets, self._told)
        told = self._announced.get(name)
        if told is None or told[0] != key:
            told = self._announced[name] = key, announced(node, instance)
        known, entry = facts(node, instance, told[1]), self._texts.get(name)
        if entry is None or entry[0] != known:
            self._texts[name] = known, _text(known)
        self._problems[name] = list(of_instances(node, [instance], self._clock()))

    def problems(self, node: Node, now: float) -> list[Problem]:
        """As `diagnose` gives them."""
        for name, instance in node.instances.items():
            if name not in self._problems:  # a reload has brought it
                self._look(node, instance)
        return diagnose(node, now, [problem for name in node.instances for problem in self._problems[name]])

    def text(self, frame: Status, node: Node, now: float) -> str:
        """`frame`: of the node now, with the problems from here and what the host adds."""
        data = as_data(frame)
        written = {key: json.dumps(value) for key, value in data.items() if key not in ("instances", "nodes")}
        written["instances"] = _list(self._instances(node, now))
        written["nodes"] = _list(self._nodes(data["nodes"], node))
        return _object(written)

    def _instances(self, node: Node, now: float) -> Iterator[str]:
        for name in node.instances:
            known, (first, second, third, last) = self._texts[name]
            ages = now - known.role_since, now - known.health_since, now - known.rank_since
            yield f"{first}{ages[0]:.3f}{second}{ages[1]:.3f}{third}{ages[2]:.3f}{last}"

    def _nodes(self, views: list[dict[str, Any]], node: Node) -> Iterator[str]:
        names, states = names_of(node), dict(states_of(node))
        for view in views:
            of_it = states[view["name"]]
            key = names, [(identity, each.rank, each.flags) for identity, each in of_it.items()]
            entry = self._carried.get(view["name"])
            if entry is None or entry[0] != key:
                entry = self._carried[view["name"]] = key, json.dumps(as_data(carried(of_it, names)))
            yield _object({name: json.dumps(value) for name, value in view.items()} | {"carries": entry[1]})


def _text(known: Facts) -> Text:
    data = as_data(of_instance(known, 0.0))
    parts = [""]
    for key, value in data.items():
        parts[-1] += f"{', ' if parts != [''] else '{'}{json.dumps(key)}: "
        if key in AGES:
            parts[-1] += f'{{"value": {json.dumps(value["value"])}, "for": '
            parts.append(f', "reason": {json.dumps(value["reason"])}}}')
        else:
            parts[-1] += json.dumps(value)
    parts[-1] += "}"
    first, second, third, last = parts
    return first, second, third, last


def _object(members: dict[str, str]) -> str:
    return "{" + ", ".join(f"{json.dumps(key)}: {value}" for key, value in members.items()) + "}"


def _list(texts: Iterable[str]) -> str:
    return "[" + ", ".join(texts) + "]"
