"""The report of a scene of the lab, of the same kind as that of `floatip drill`."""

import time
from dataclasses import replace
from typing import cast, get_args

import floatip
from floatip.drill.report import Done, Finding, Method, Probes, Report, Route, Seen, Step, What
from floatip.lab.network import FLOATING, OBSERVER, ROUTE_SERVERS, ROUTER
from floatip.lab.record import NEXT_HOPS, OPEN_FOR_AT_MOST, SCENE, Record
from floatip.lab.run import DIRECTORY
from floatip.lab.verdicts import Verdict
from floatip.observing.summary import ProbeResult

PORT = 80
SERVERS = {str(host.ipv6): host.name for host in ROUTE_SERVERS}
ELECTIONS = {
    "nodes": "The nodes elect over the link.",
    "vrrp": "The nodes elect by VRRP.",
    "keepalived": "keepalived elects on each node, and floatip follows it.",
}
TORN = "reset: it was open when the traffic moved"


def report(scene: str, about: str, record: Record, verdicts: list[Verdict], notes: list[str]) -> Report:
    """After the run. `about`: what the scene does, in a sentence."""
    fault = record.fault_at or record.started_at
    starts = min((probe.at for probe in record.probes), default=record.started_first_at) - fault
    ends = max([*(probe.at for probe in record.probes), *(event.at for event in record.events)]) - fault
    master = record.pointed_at(ROUTER, fault) or record.nodes[0]
    return Report(
        title=f"lab {scene}: {about}",
        made_by=f"floatip {floatip.__version__}",
        kind="lab",
        began=time.time() - time.monotonic() + fault,
        starts=starts,
        ends=ends,
        method=Method(scene, master, _instance(record), (str(FLOATING),), _method(record)),
        nodes=tuple(record.nodes),
        before=_before(record, fault, master),
        done=_done(record, fault, starts),
        seen=_seen(record, fault, starts),
        probes=(_probes(record, fault),),
        verdict=tuple(Finding(verdict.holds, verdict.text) for verdict in verdicts),
        restored=(),
        routes=_routes(record, fault, starts),
        notes=(*notes, "the lab's network and daemons end with the scene: there is nothing to restore"),
    )


def _instance(record: Record) -> str:
    return next((event.name for event in record.events if event.what == "role"), "")


def _method(record: Record) -> tuple[str, ...]:
    options, interval = record.options, record.options.probe_interval * 1000
    servers = "In a VLAN, without route servers: the master alone holds the address."
    if not options.shared_layer2:
        program = "BIRD" if options.bird else "floatip's built-in route server"
        servers = f"Four route servers ({program}, hold time {options.hold_time} s) lead a router to the address."
    etcd = " Three members of etcd run on hosts of their own, and decide which node has it." if options.etcd else ""
    return (
        f"{len(record.nodes)} nodes run floatip, each in a network namespace of one machine. "
        f"{ELECTIONS[options.election]}{etcd}",
        servers,
        f"An observer on a third host sends an echo and an HTTP request every {interval:g} ms.",
    )


def _before(record: Record, fault: float, master: str) -> tuple[Finding, ...]:
    """At the instant of the fault."""
    found = []
    joins = record.nodes[-1] if record.options.last_joins else ""
    for node in record.nodes:
        said = {what: _value(record, node, what, fault) for what in ("role", "rank", "health")}
        if node == joins and not any(said.values()):
            found.append(Finding(True, f"{node} does not run yet"))
            continue
        wanted = "master" if node == master else "backup"
        holds = said["role"] == wanted and said["health"] in ("up", "")
        text = f"{node} is {said['role'].upper() or 'not known'}, announced as {said['rank'] or 'nothing'}"
        found.append(Finding(holds, text))
    if not record.options.shared_layer2:
        elsewhere = [host for host in record.routes if record.pointed_at(host, fault) != master]
        text = f"the routes of all route servers and of the router lead to {master}"
        if elsewhere:
            text = f"{', '.join(elsewhere)} did not lead to {master}"
        found.append(Finding(not elsewhere, text))
    # What was open when the fault came was lost by it.
    earlier = record.seen.between(0, fault - OPEN_FOR_AT_MOST).probes
    lost = sum(not probe.ok for probe in earlier)
    return (*found, Finding(not lost, f"{lost} of {len(earlier)} probes before the fault were lost"))


def _value(record: Record, node: str, what: str, at: float) -> str:
    values = [event.value for event in record.of(node, what) if event.at <= at]
    return values[-1] if values else ""


def _done(record: Record, fault: float, starts: float) -> tuple[Done, ...]:
    """What the scene did since the observer started."""
    found = []
    for event in record.events:
        at = event.at - fault
        if event.host == SCENE and at >= starts:
            step: Step = "fault" if at == 0 else "before" if at < 0 else "watch"
            found.append(Done(at, step, _short(event.reason)))
    return tuple(found)


def _seen(record: Record, fault: float, starts: float) -> tuple[Seen, ...]:
    """Of what was before the observer started: how it was then."""
    first: dict[tuple[str, ...], Seen] = {}
    later = []
    for event in sorted(record.events, key=lambda event: event.at):
        if event.host == SCENE or event.what not in get_args(What):
            continue
        at, name = event.at - fault, SERVERS.get(event.name, event.name)
        seen = Seen(max(at, starts), event.host, cast(What, event.what), name, event.value, _short(event.reason))
        if at > starts:
            later.append(seen)
        elif event.what != "takeover":
            first[event.host, event.what, event.name] = seen
    return (*first.values(), *later)


def _probes(record: Record, fault: float) -> Probes:
    results = tuple(_relative(record, probe, fault) for probe in sorted(record.probes, key=lambda probe: probe.at))
    return Probes(OBSERVER.name, str(FLOATING.ip), PORT, record.options.probe_interval, results)


def _relative(record: Record, probe: ProbeResult, fault: float) -> ProbeResult:
    return replace(probe, at=probe.at - fault, error=TORN if probe in record.torn else probe.error)


def _routes(record: Record, fault: float, starts: float) -> tuple[Route, ...]:
    """Each host's route at the start, and its changes."""
    found = []
    for host, changes in record.routes.items():
        now = Route(starts, host, record.pointed_at(host, fault + starts))
        found.append(now)
        for change in changes:
            if change.at > fault + starts:
                found.append(Route(change.at - fault, host, NEXT_HOPS.get(str(change.next_hop), "")))
    return tuple(sorted(found, key=lambda route: route.at))


def _short(text: str) -> str:
    return text.replace(f"{DIRECTORY}/", "")
