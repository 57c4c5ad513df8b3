"""`floatip plan`: which node is to carry which instance, by the file alone."""

import json
from collections.abc import Sequence
from pathlib import Path

from floatip import reading
from floatip.commands import Misused, Refusal
from floatip.core.link.spread import assign
from floatip.core.refusals import Why
from floatip.core.settings import Nodes
from floatip.model import Model
from floatip.reading.patience import told_when_slow
from floatip.reading.place import ConfigError, ConfigErrors
from floatip.reading.rules import RULES
from floatip.reading.words import closest, listed
from floatip.text import aligned, printable, show, terminal_width

Homes = dict[str, str]
"""The node of each instance; an instance that nobody can carry is absent."""


class NothingToPlan(Refusal):
    """The nodes elect for nothing."""

    status = 2
    code = Why.NO_NODES


def plan(file: Path, without: Sequence[str], *, as_json: bool) -> int:
    """The exit status. Raises `Refusal`."""
    try:
        with told_when_slow(file):
            model = _read(file)
    except ConfigErrors as refused:
        show(reading.render(refused.errors, refused.warnings))
        return 2
    _refuse(model, file, without)
    nodes = [node.name for node in model.nodes]
    gone = [[], *([name] for name in nodes)] if not without else [list(dict.fromkeys(without))]
    ideal = _homes(model, {}, [])
    cases = [(names, _homes(model, ideal, names)) for names in gone]
    if as_json:
        print(json.dumps(_data(model, ideal, cases), indent=2))
    else:
        show(printable(f"Which node carries which instance, by {file} alone."), 0)
        for names, homes in cases:
            _show_case(model, ideal, homes, names)
        _show_rest(model)
    return 0


def _read(file: Path) -> Model:
    """Without the rules for this machine, which need not be one of the nodes. Raises `ConfigErrors`."""
    given = reading.read(file)
    problems = [*given.problems, *(problem for rule in RULES for problem in rule(given.model, given.places))]
    if errors := [problem for problem in problems if isinstance(problem, ConfigError)]:
        raise ConfigErrors(sorted(errors, key=lambda error: error.line))
    return given.model


def _refuse(model: Model, file: Path, without: Sequence[str]) -> None:
    names = [node.name for node in model.nodes]
    if not names and model.member:
        hint = "see them at etcd: floatip fleet members; what would move: floatip fleet plan FILE"
        raise NothingToPlan(f"{file} names no nodes, and this machine has not kept the members of the fleet", hint)
    if not names:
        hint = "add a [[node]] with name and address for each node. What this node does now: floatip status"
        raise NothingToPlan(f"{file} has no [[node]], so the nodes do not share out the instances", hint)
    if not _planned(model):
        hint = "remove vrrp, keepalived or static from each instance that the nodes are to elect for"
        raise NothingToPlan(f"{file} has no instance that the nodes elect for", hint)
    if unknown := [name for name in without if name not in names]:
        close = closest(unknown[0], names)
        guess = f"did you mean {close}? " if close else ""
        raise Misused(f"there is no node {unknown[0]}", f"{guess}{file} has {listed(names)}", Why.UNKNOWN_NAME)


def _planned(model: Model) -> list[str]:
    return [one.name for one in model.instances if isinstance(one.election, Nodes)]


def _homes(model: Model, carried: Homes, gone: Sequence[str]) -> Homes:
    return assign(model.instances, model.nodes, lambda instance, node: node not in gone, carried)


def _data(model: Model, ideal: Homes, cases: Sequence[tuple[list[str], Homes]]) -> dict[str, object]:
    return {
        "nodes": [{"name": node.name, "address": str(node.address), "weight": node.weight} for node in model.nodes],
        "cases": [
            {
                "without": names,
                "carried_by": {instance: homes.get(instance) for instance in _planned(model)},
                "moved": [instance for instance in _planned(model) if homes.get(instance) != ideal[instance]],
            }
            for names, homes in cases
        ],
    }


def _show_case(model: Model, ideal: Homes, homes: Homes, gone: Sequence[str]) -> None:
    rows = []
    for node in model.nodes:
        if node.name not in gone:
            here = [name for name in _planned(model) if homes.get(name) == node.name]
            stay = [name for name in here if ideal[name] == node.name]
            new = [f"+{name}" for name in here if ideal[name] != node.name]
            weight = f" (weight {node.weight:g})" if node.weight != 1 else ""
            rows.append((f"  {node.name}{weight}", str(len(here)), ", ".join(stay + new) or "nothing"))
    if nowhere := [name for name in _planned(model) if name not in homes]:
        rows.append(("  nobody", str(len(nowhere)), ", ".join(nowhere)))
    print()
    show(printable(f"without {', '.join(gone)}" if gone else "all nodes ready"), 2)
    print("\n".join(aligned([tuple(map(printable, row)) for row in rows], terminal_width())))


def _show_rest(model: Model) -> None:
    print()
    if others := [one.name for one in model.instances if not isinstance(one.election, Nodes)]:
        show(printable(f"not in this plan, because the nodes do not elect for them: {', '.join(others)}"), 2)
    note = "+ taken over from a node that is gone. When that node comes back, an instance moves back only with"
    show(f"{note} preempt = true.\nWhat the nodes do now: floatip nodes", 0)
