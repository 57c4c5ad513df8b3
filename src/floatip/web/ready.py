"""Whether a load balancer or a rolling update may count on this node."""

from collections.abc import Iterator

from floatip.core.problems import Code
from floatip.core.state import InstanceView, Status


def obstacles(status: Status) -> Iterator[str]:
    """Why this node neither serves nor is ready to take over, a sentence each; none: it is ready."""
    if status.stopping:
        yield f"this node is stopping: {status.stopping}"
    own = next((node for node in status.nodes if node.own), None)
    if own and own.drained:
        yield "this node is drained" + (f": {own.reason}" if own.reason else "")
    if status.sessions and not any(session.state == "established" for session in status.sessions):
        yield "no BGP session is up"
    elif status.cut_off:
        yield "this node is cut off from the route servers"
    if not status.instances:
        yield "no instance is configured"
    yield from (problem.what for problem in status.problems if problem.code == Code.NOT_HELD)
    for instance in status.instances:
        if why := _obstacle(instance):
            yield f"{instance.name}: {why}"


def _obstacle(instance: InstanceView) -> str:
    if instance.role.value not in ("master", "backup"):
        return f"{instance.role.value}: {instance.role.reason}"
    if instance.health.value != "up":
        return f"{instance.health.value}: {instance.health.reason}"
    if instance.role.value == "master":
        untold = [one.address for one in instance.addresses if instance.route_servers and not one.announced_to]
        if untold:
            return f"{untold[0]} is announced to no route server"
    return ""
