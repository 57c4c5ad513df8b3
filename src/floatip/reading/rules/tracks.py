"""Tracks, which move a priority, and sync groups."""

from collections.abc import Iterator

from floatip.core.settings import Vrrp
from floatip.model import Model, Process, Value
from floatip.reading.place import Places, Problem, Thing
from floatip.reading.rules.parts import instances, tracking
from floatip.reading.words import closest, shown

OWNER = 255
LARGEST_WEIGHT = 253


def weights(model: Model, places: Places) -> Iterator[Problem]:
    kinds = {check.name: check.kind for check in model.checks}
    for at, one in tracking(model, places):
        for thing, track in places.each((*at, "tracks"), one.tracks):
            kind = kinds.get(track.check)
            most = LARGEST_WEIGHT + isinstance(kind, Process)
            if abs(track.weight) > most and not isinstance(kind, Value):
                what = f"{track.weight} is not between -{most} and {most}"
                yield places.error((*thing, "weight"), what, "a priority is 1 to 254; 20 is usual")
            if not (track.weight or track.reverse or isinstance(kind, Value)) and places.is_whole(thing):
                what = "moves no priority without a weight: while the check is down, the instance is in FAULT"
                yield places.warning(thing, what, "add a weight, as in weight = -20, or name it in checks")


def without_effect(model: Model, places: Places) -> Iterator[Problem]:
    groups = {name: group for group in model.sync_groups for name in group.members}
    for at, instance in instances(model, places):
        election = instance.election
        for thing, track in places.each((*at, "tracks"), instance.tracks):
            where = (*thing, "weight")
            if not track.weight:
                continue
            group = groups.get(instance.name)
            if not isinstance(election, Vrrp):
                what = "a weight moves the priority of VRRP, and this instance is elected otherwise"
                yield places.error(where, what, "name the check in checks: while it is down, the node is unhealthy")
            elif group and not group.members_have_weights:
                what = f"does not count: {instance.name} is in sync group {group.name}, which changes state as a whole"
                hint = "move it into the tracks of the group, or write members_have_weights = true there"
                yield places.warning(where, what, hint)
            else:
                yield from _lost(places, where, election)
    members = {one.name: one.election for one in model.instances}
    for at, group in places.each(("sync_group",), model.sync_groups):
        elections = [one for name in group.members if isinstance(one := members.get(name), Vrrp)]
        for thing, track in places.each((*at, "tracks"), group.tracks):
            if track.weight and elections:
                yield from _lost(places, (*thing, "weight"), max(elections, key=lambda one: one.priority))


def _lost(places: Places, thing: Thing, election: Vrrp) -> Iterator[Problem]:
    if election.priority == OWNER:
        what = f"does not count: a priority of {OWNER} is never changed"
        hint = places.either("name the check in checks", "remove the weight, and its failure is a fault")
        yield places.warning(thing, what, f"write a priority of at most 254, or {hint}")
    elif not election.preempt:
        what = "without preempt this node, as backup, does not take over from a master whose priority falls"
        hint = places.either("name the check in checks", "remove the weight: its failure is a fault then")
        yield places.warning(thing, what, f"{hint}; or let this node preempt")


def groups(model: Model, places: Places) -> Iterator[Problem]:
    elections = {one.name: one.election for one in model.instances if one.name}
    taken: dict[str, str] = {}
    for at, group in places.each(("sync_group",), model.sync_groups):
        for thing, name in places.each((*at, "members"), group.members):
            if name in taken:
                what = f"{name} is there twice" if taken[name] == group.name else f"{name} is in {taken[name]} already"
                yield places.error(thing, what, "name each instance once, in one sync group")
            elif name not in elections and places.is_whole(("instance",)):
                others = f"the instances are {', '.join(elections)}"
                hint = f'did you mean "{close}"?' if (close := closest(name, elections)) else others
                yield places.error(thing, f"there is no instance {shown(name)}", hint)
            elif name in elections and not isinstance(elections[name], Vrrp):
                what = f"{name} is not elected by vrrp, and a sync group is a group of virtual routers"
                yield places.error(thing, what, "remove it, or give the instance vrrp = { ... }")
            taken.setdefault(name, group.name)
        if len(group.members) == 1 and places.is_whole((*at, "members")):
            what = f"{group.members[0]} alone is no group: nothing changes with it"
            yield places.warning((*at, "members"), what, "name the others, or remove the group")


RULES = (weights, without_effect, groups)
