"""Routes and rules that move with an instance."""

from collections.abc import Iterator
from importlib.util import find_spec

from floatip.model import Model
from floatip.reading.machine import Machine
from floatip.reading.place import Places, Problem
from floatip.reading.rules.parts import instances
from floatip.virtuals import NotUnderstood, machine_tables, parse

MANUALS = {"route": "ip-route(8)", "rule": "ip-rule(8)"}


def words(model: Model, places: Places, machine: Machine) -> Iterator[Problem]:
    """Names of routing tables are this machine's."""
    if not any(instance.virtuals for instance in model.instances):
        return
    tables = machine_tables()
    for at, instance in instances(model, places):
        for kind, manual in MANUALS.items():
            ours = (one for one in instance.virtuals if one.kind == kind)
            for thing, one in places.each((*at, f"{kind}s"), ours):
                try:
                    parse(one, tables)
                except NotUnderstood as refused:
                    yield places.error(thing, str(refused), f"write it as {manual} has it, or leave it out")
    if not find_spec("pyroute2"):
        thing = next(at for at, instance in instances(model, places) if instance.virtuals)
        hint = "apt install python3-pyroute2; where floatip came by pip: pip install 'floatip[routes]'"
        yield places.on_machine(thing, "routes and rules need python3-pyroute2, which is not installed", hint)


ON_MACHINE = (words,)
