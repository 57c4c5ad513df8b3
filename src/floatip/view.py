"""What a person reads: the status (what the node is, what explains it, then what is wrong), and the providers."""

from collections.abc import Sequence

from floatip.core.bgp.rank import Marks
from floatip.core.problems import Severity
from floatip.core.state import FRESH_SESSION, InstanceView, KeepalivedView, ProblemView, SessionView, Status
from floatip.providers import LINODE_REGIONS, PROVIDERS, Provider, linode

MINUTE, HOUR, DAY = 60, 3600, 86400


Row = tuple[str, str, str, str]
"""A thing, its value, since when, because of what."""


def draw_status(status: Status) -> str:
    rows = [row for instance in status.instances for row in _instance(instance)]
    rows += _keepalived(status.keepalived)
    rows += [(f"check {check.name}", check.value, age(check.for_), check.reason) for check in status.checks]
    rows += [(f"route server {s.peer}", _state(s), age(s.for_), _reason(s)) for s in status.sessions]
    problems = [_problem(problem) for problem in status.problems]
    return "\n".join([*_aligned(rows), "", *(problems or ["no problems"])])


def _problem(problem: ProblemView) -> str:
    mark = "! " if problem.severity == Severity.PROBLEM else "warning: "
    return mark + problem.what + (f"\n  hint: {problem.hint}" if problem.hint else "")


def _instance(instance: InstanceView) -> list[Row]:
    role, rank, health = instance.role, instance.rank, instance.health
    who = f"; {instance.master} is master" if instance.master and role.value != "master" else ""
    rows = [
        (instance.name, role.value.upper(), age(role.for_), role.reason + who),
        ("  rank", rank.value, age(rank.for_), rank.reason),
        ("  health", health.value, age(health.for_), health.reason),
    ]
    for address in instance.addresses:
        held = "held" if address.held else "NOT HELD"
        announced = f"announced to {address.announced_to} of {instance.route_servers} route servers"
        rows.append(("  address", held, "", f"{address.address} on {address.interface}, {announced}"))
    return rows


def _keepalived(known: KeepalivedView | None) -> list[Row]:
    if known is None:
        return []
    said = ", ".join(f"{one.name} {one.state}" for one in known.said)
    said = f"{known.reason}; it said {said}" if said else known.reason
    return [("keepalived", "runs" if known.runs else "GONE", age(known.for_), said)]


def _reason(session: SessionView) -> str:
    """Why it is down now, and why it was lost at first, which each further dial would hide."""
    if session.young:
        return f"{session.reason}; route servers may ignore us for the first {FRESH_SESSION:g} s"
    if session.state == "established" or session.lost_because in ("", session.reason):
        return session.reason
    return f"{session.reason}; it was lost because: {session.lost_because}"


def _state(session: SessionView) -> str:
    return "up" if session.state == "established" else session.state


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def age(seconds: float) -> str:
    """Two units are enough: 3d 4h, 12m 5s, 0.4s."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    for unit, smaller, name, smaller_name in ((DAY, HOUR, "d", "h"), (HOUR, MINUTE, "h", "m"), (MINUTE, 1, "m", "s")):
        if seconds >= unit:
            return f"{seconds // unit:.0f}{name} {seconds % unit // smaller:.0f}{smaller_name}"
    return f"{seconds:.0f}s"


def draw_providers() -> str:
    """What each profile gives; "-" is for the configuration to say."""
    profiles = [linode(LINODE_REGIONS[0].dcid), *PROVIDERS.values()]
    regions = [("region", "dcid", "place"), *((r.slug, str(r.dcid), r.place) for r in LINODE_REGIONS)]
    return "\n\n".join([*map(_provider, profiles), "\n".join(_aligned(regions))])


def _provider(profile: Provider) -> str:
    peers = ", ".join(map(str, profile.peers)).replace(f":{LINODE_REGIONS[0].dcid}:", ":DCID:")
    rows = [
        ("our AS", str(profile.asn or "-")),
        ("their AS", str(profile.peer_asn or "-")),
        ("peers", peers or "-"),
        ("hold time", f"{profile.hold_time} s"),
        ("TTL", str(profile.multihop_ttl)),
        *((rank.label, _marks(marks)) for rank, marks in sorted(profile.marks.items(), reverse=True)),
        ("sources", profile.sources or "-"),
        ("unconfirmed", profile.unconfirmed or "-"),
    ]
    return "\n".join([profile.name, *(f"  {line}" for line in _aligned(rows))])


def _marks(marks: Marks) -> str:
    communities = "".join(f", community {':'.join(map(str, community))}" for community in marks.communities)
    return f"path x{marks.path_length}, origin {marks.origin.name.lower()}{communities}"
