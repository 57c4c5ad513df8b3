"""Whether a load balancer or a rolling update may count on this node, and whether metrics call an instance ready."""

from collections.abc import Iterator

from floatip.core.problems import Code
from floatip.core.state import InstanceView, Status


def obstacles(status: Status) -> Iterator[str]:
    """Why this node neither serves nor is ready to take over, a sentence each; none: it is ready."""
    yield from of_node(status)
    own = next((node for node in status.nodes if node.own), None)
    if own and own.drained:
        yield "this node is drained" + (f": {own.reason}" if own.reason else "")
    if any(instance.role.value != "master" for instance in status.instances):
        yield from _pause(status)
    if not status.instances:
        yield "no instance is configured"
    yield from (problem.what for problem in status.problems if problem.code == Code.NOT_HELD)
    for instance in status.instances:
        if why := of_instance(instance):
            yield f"{instance.name}: {why}"


def of_node(status: Status) -> Iterator[str]:
    """What keeps it from serving anything."""
    if status.stopping:
        yield f"this node is stopping: {status.stopping}"
    if status.sessions and not any(session.state == "established" for session in status.sessions):
        yield "no BGP session is up"
    elif status.cut_off:
        yield "this node is cut off from the route servers"


def may_take_over(status: Status) -> bool:
    """Whether no administrator has said that it must not."""
    return not any(node.own and node.drained for node in status.nodes) and not any(_pause(status))


def of_instance(instance: InstanceView) -> str:
    """Why this node neither serves it nor is ready to; empty: no reason."""
    if instance.role.value not in ("master", "backup"):
        return f"{instance.role.value}: {instance.role.reason}"
    if instance.health.value != "up":
        return f"{instance.health.value}: {instance.health.reason}"
    if instance.role.value == "master":
        untold = [one.address for one in instance.addresses if instance.route_servers and not one.announced_to]
        if untold:
            return f"{untold[0]} is announced to no route server"
    return ""


def _pause(status: Status) -> Iterator[str]:
    """One node that says so is enough, as long as it is heard."""
    for node in status.nodes:
        if node.paused and (node.own or node.state == "alive"):
            yield f"{node.name} has paused the nodes: none takes over" + (f": {node.reason}" if node.reason else "")
