"""What is wrong with a model as a whole, and on this machine, whichever file it was read from.

A rule yields problems and stops at none. A value that was refused is absent from the model or stands there as nothing
(an empty name, vrid 0, source 0.0.0.0), and rules pass it over, so that one mistake hides no other.
"""

from collections.abc import Iterator

from floatip.model import Model
from floatip.reading.machine import Machine
from floatip.reading.place import Places, Problem
from floatip.reading.rules import (
    addresses,
    checks,
    commands,
    election,
    etcd,
    http,
    names,
    network,
    nodes,
    second_chance,
    tracks,
    virtuals,
    vrrp,
)

RULES = (
    *names.RULES,
    *checks.RULES,
    *nodes.RULES,
    *second_chance.RULES,
    *election.RULES,
    *etcd.RULES,
    *vrrp.RULES,
    *tracks.RULES,
    *addresses.RULES,
    *network.RULES,
    *http.RULES,
    *commands.RULES,
)
ON_MACHINE = (
    *addresses.ON_MACHINE,
    *checks.ON_MACHINE,
    *commands.ON_MACHINE,
    *election.ON_MACHINE,
    *network.ON_MACHINE,
    *virtuals.ON_MACHINE,
    *nodes.ON_MACHINE,
    *http.ON_MACHINE,
    *etcd.ON_MACHINE,
)


def judge(model: Model, places: Places, machine: Machine) -> Iterator[Problem]:
    for rule in RULES:
        yield from rule(model, places)
    for on_machine in ON_MACHINE:
        yield from on_machine(model, places, machine)
