"""What etcd says, in words: for the status, `floatip nodes` and the page."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from floatip.core.state import EndpointView, EtcdView, InstanceView, NodeView, OwnerView, Status
from floatip.text import age

NAMED = 4
"""Names in a sentence; more are counted."""


def summary(etcd: EtcdView) -> str:
    """One line: does it answer, and what this node has of it."""
    if not etcd.answers:
        return etcd.reason or "has not answered yet"
    return "; ".join(_facts(etcd))


def _facts(etcd: EtcdView) -> Iterator[str]:
    up = sum(one.answers is True for one in etcd.endpoints)
    if etcd.endpoints:
        yield f"{up} of {len(etcd.endpoints)} endpoints answer"
    lease = "this node has no lease" if etcd.lease_left is None else f"lease of this node {etcd.lease_left:.1f} s"
    yield f"{lease} of {etcd.lease_time:g} s"
    yield f"alive there: {some(etcd.alive)}" if etcd.alive else "no node is alive there"


def place(endpoint: EndpointView) -> str:
    return endpoint.url.partition("://")[2] or endpoint.url


def said(endpoint: EndpointView) -> str:
    """What it said last, beside its name."""
    return endpoint.said.removeprefix(place(endpoint) + " ")


def silent(etcd: EtcdView) -> Sequence[EndpointView]:
    """Endpoints that were asked and do not answer."""
    return [one for one in etcd.endpoints if one.answers is False]


def owner(
    instance: InstanceView, status: Status, carrier: str = "", *, now: datetime | None = None, brief: bool = False
) -> str:
    """Who owns it by etcd, for how long, and what is special. `carrier`: who serves, "this node" or a name.

    `brief`: without what differs between instances that are otherwise alike.
    """
    view, etcd = instance.etcd, status.etcd
    if view is None or etcd is None:
        return ""
    said = f"as etcd said {age(etcd.for_)} ago" if not etcd.answers else "as etcd says"
    parts = [f"{_who(view, '' if brief or not view.epoch else _since(view, status, now))}, {said}"]
    if view.exclusive:
        parts.append("exclusive")
    if view.asked:
        parts.append("this node has asked for it")
    if view.own and view.exclusive and view.free_at is not None and view.free_at > status.monotonic:
        left = "" if brief else f" {view.free_at - status.monotonic:.1f} s"
        parts.append(f"waits{left} until {view.waits_for or 'any other node'} surely has let go")
    if view.own and view.exclusive and not etcd.answers:
        stays = etcd.exclusive_left or 0.0
        parts.append(f"leaves this node within {stays:.1f} s" if stays > 0 else "has left this node")
    if is_other(view, carrier):
        parts.append(f"but {carrier} serves")
    return "; ".join(parts)


def is_other(view: OwnerView, carrier: str) -> bool:
    """Whether somebody serves who is not the owner."""
    if not carrier or not (view.own or view.owner) or view.released:
        return False
    return (carrier == "this node") is not view.own or (not view.own and carrier != view.owner)


def of_node(node: NodeView) -> str:
    """Where etcd says something else of it than the link."""
    if node.etcd == "other":
        return "another machine has its name at etcd"
    if node.own or node.state == "alive":
        return "has no lease at etcd" if node.etcd == "gone" else ""
    return "still has its lease at etcd" if node.etcd == "alive" else ""


def _who(view: OwnerView, since: str) -> str:
    if not view.own and not view.owner:
        return "nobody"
    name = "this node" if view.own else view.owner
    if view.released:
        return f"nobody: {name} has let go"
    gone = "" if view.own or view.alive else ", which is gone"
    return f"{name}{since}{gone}"


def _since(view: OwnerView, status: Status, now: datetime | None) -> str:
    try:
        moment = now or datetime.fromisoformat(status.time)
    except ValueError:
        return ""
    seconds = moment.timestamp() - view.epoch / 1000
    return f" for {age(seconds)}" if seconds >= 0 else f", from a clock {age(-seconds)} ahead of this one"


def some(names: Iterable[str], most: int = NAMED) -> str:
    names = list(names)
    left = len(names) - most
    return ", ".join(names[:most]) + (f" and {left} more" if left > 0 else "")
