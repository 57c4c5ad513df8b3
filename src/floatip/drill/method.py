"""What a drill is going to do, in sentences, and what the clients may notice. Pure."""

from collections.abc import Sequence

from floatip.core.state import InstanceView, Status
from floatip.drill.report import Method
from floatip.drill.said import name_of

CUT_LASTS = 8
DETECTION_MARGIN = 0.5
"""Seconds: until the new route is everywhere, and the sleep of a busy machine."""


def method(
    status: Status,
    instance: InstanceView,
    fault: str,
    check: str,
    unit: str,
    lasts: float,
    to: str,
    others: Sequence[str],
) -> Method:
    """`others`: what this node carries besides, and the fault moves too."""
    node, addresses = name_of(status), tuple(one.address for one in instance.addresses)
    sentences = (
        *_done(node, instance, fault, check, unit, lasts, to),
        *([f"This moves more that {node} carries: {', '.join(others)}."] if others else []),
        _noticed(instance, fault),
        *_undone(node, fault, unit, lasts),
        _afterwards(status, instance, fault),
    )
    return Method(fault, node, instance.name, addresses, sentences)


def _done(node: str, instance: InstanceView, fault: str, check: str, unit: str, lasts: float, to: str) -> list[str]:
    name = instance.name
    match fault:
        case "check":
            which = f"check {check}" if check else "a check"
            return [f"The daemon on {node} counts {which} as failed for {lasts:g} s. The service is not touched."]
        case "stop":
            return [f"systemd stops the daemon on {node} ({unit}), and starts it after {lasts:g} s."]
        case "handover":
            return [f"{node} hands {name} over to {to or 'the best node that is ready'}, as floatip handover does."]
    return [
        f"nftables on {node} drops all packets of all interfaces but lo, in and out, for {lasts:g} s: to the others"
        f" {node} vanishes.",
        "Your ssh session to this node freezes for that time, and goes on afterwards.",
    ]


def allowed_outage(instance: InstanceView, fault: str) -> float:
    """Seconds without an answer that the documentation allows for this fault."""
    announces = instance.route_servers > 0
    detection = instance.master_down_interval or 0.0
    if fault == "cut":
        return detection + DETECTION_MARGIN
    if announces or fault in ("stop", "handover"):
        return 0.0
    return 0.1 if instance.election == "nodes" else 1.0


def _noticed(instance: InstanceView, fault: str) -> str:
    outage = allowed_outage(instance, fault)
    lost = f"no answer for up to {round(outage, 2):g} s" if outage else "no lost answer"
    return f"Clients should notice {lost}. Open TCP connections to {_all(instance)} are reset."


def _all(instance: InstanceView) -> str:
    first, *more = [one.address.partition("/")[0] for one in instance.addresses] or [instance.name]
    return first + (f" and {len(more)} more" if more else "")


def _undone(node: str, fault: str, unit: str, lasts: float) -> list[str]:
    ends = "It ends earlier at Ctrl-C."
    match fault:
        case "check":
            limit = "The daemon ends it as soon as this command dies."
        case "stop":
            limit = (
                "If this command dies, a guard in systemd starts the daemon at once; if that dies too, a timer does."
            )
        case "handover":
            return ["Nothing of it is to be undone."]
        case _:
            limit = "If this command dies, the kernel removes the rules at once."
            limit += f" If it hangs, they expire in the kernel after {CUT_LASTS} s."
    return [f"{ends} {limit}"]


def _afterwards(status: Status, instance: InstanceView, fault: str) -> str:
    if instance.election == "keepalived":
        return "keepalived decides who carries it afterwards."
    name, node = instance.name, name_of(status)
    text = f"Afterwards the other node carries {name}, unless the configuration prefers {node}."
    if instance.election == "nodes":
        text += f" To bring it back, run there: floatip handover {name} --to {node}"
    return text
