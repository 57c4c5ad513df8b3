"""What a reload changed, in a few words."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

from floatip.core.settings import Settings

MOST = 4
"""Things that are named; of more, their number is said."""


class _Named(Protocol):
    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=_Named)


def differences(before: Settings, after: Settings) -> str:
    """As `check web changed, instance api added`."""
    nodes = [one.link.nodes if one.link else () for one in (before, after)]
    found = [
        *_named("node", *nodes),
        *_named("check", before.checks, after.checks),
        *_named("instance", before.instances, after.instances),
        *_named("sync group", before.sync_groups, after.sync_groups),
    ]
    old, new = before.link, after.link
    if old and new and old.keys != new.keys:
        found.append("key changed")
    if old and new and (old.interval, old.port) != (new.interval, new.port):
        found.append("link changed")
    found += _one("etcd", before.arbiter, after.arbiter)
    found += _one("second chance", before.second_chance, after.second_chance)
    if before.speaker != after.speaker:
        found.append("BGP changed")
    if (before.release_delay, before.other_vrids) != (after.release_delay, after.other_vrids):
        found.append("options changed")
    if len(found) > MOST:
        found = [*found[:MOST], f"{len(found) - MOST} more"]
    return ", ".join(found) or "nothing that the elections, checks or sessions use has changed"


def _one(kind: str, before: object, after: object) -> list[str]:
    if before == after:
        return []
    return [f"{kind} {'changed' if before and after else 'added' if after else 'removed'}"]


def _named(kind: str, before: Iterable[T], after: Iterable[T]) -> list[str]:
    old, new = {one.name: one for one in before}, {one.name: one for one in after}
    return [
        *(f"{kind} {name} removed" for name in old if name not in new),
        *(f"{kind} {name} added" for name in new if name not in old),
        *(f"{kind} {name} changed" for name in new if name in old and old[name] != new[name]),
    ]
