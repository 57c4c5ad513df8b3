"""What the daemons foretell just before a fault, and whether it came true."""

from typing import Any

from floatip.lab.network import THREE_NODES
from floatip.lab.record import Foresight, Record
from floatip.lab.verdicts import Verdict

AGREES_AFTER = 0.1
"""Seconds from a change of master until the observer's last answer must be of that node."""
ADDRESSES = {str(host.ipv4.ip): host.name for host in THREE_NODES if host.ipv4}

ETCD_FAILS = "etcd fails, and no node"
MEMBERS_CHANGE = "which nodes there are changes, and none of the three questions asks that"
NOTHING_FAILS = "no node goes down, no check fails and nothing is drained"
A_HANDOVER = "a handover is none of the three questions"
BACK_AT_ONCE = "floatip is killed and started at once: the node is not down for long enough to be missed"
NOT_FORETOLD = {
    "rs-restart": "route servers fail, and no node",
    "split": NOTHING_FAILS,
    "delete": NOTHING_FAILS,
    "reload": NOTHING_FAILS,
    "handover": A_HANDOVER,
    "connections-handover": A_HANDOVER,
    "connections-strict": A_HANDOVER,
    "deaf": NOTHING_FAILS,
    "unheard": NOTHING_FAILS,
    "lossy": NOTHING_FAILS,
    "etcd-leader-dies": ETCD_FAILS,
    "etcd-gone": ETCD_FAILS,
    "etcd-cut": ETCD_FAILS,
    "etcd-cut-exclusive": ETCD_FAILS,
    "node-joins": MEMBERS_CHANGE,
    "node-leaves": MEMBERS_CHANGE,
    "rebalance": MEMBERS_CHANGE,
    "beside-check": "keepalived's own check fails, which floatip does not run",
    "beside-again": BACK_AT_ONCE,
    "vlan-again": BACK_AT_ONCE,
    "vlan-split": NOTHING_FAILS,
    "vlan-delete": NOTHING_FAILS,
    "vrrp-split": NOTHING_FAILS,
}
"""Scenes to which none of `--if-down`, `--if-check-fails` and `--if-drained` applies, and why. In all others the
daemons are asked just before the fault, and must be right."""


def came_true(scene: str, record: Record) -> list[Verdict]:
    """For each question, and that there was one."""
    if scene in NOT_FORETOLD:
        asked = f"{len(record.foresights)} questions are asked, and NOT_FORETOLD says: {NOT_FORETOLD[scene]}"
        return [Verdict(False, asked)] if record.foresights else []
    if not record.foresights:
        return [Verdict(False, "no daemon was asked what will happen: ask, or name the scene in NOT_FORETOLD")]
    ends = [foresight.at for foresight in record.foresights[1:]] + [float("inf")]
    return [
        _came_true(foresight, carrier(record, foresight.at, until, foresight.down))
        for foresight, until in zip(record.foresights, ends, strict=True)
    ]


def carrier(record: Record, after: float, until: float, down: str = "") -> str:
    """Who answers last before `until`, or became master since; empty: nobody. `down`: as in `Foresight`."""
    answers = [probe for probe in record.seen.between(after, until).probes if probe.ok and probe.who]
    last = max(answers, key=lambda probe: probe.at, default=None)
    became = [
        (event.at, event.host)
        for event in record.events
        if (event.what, event.value) == ("role", "master") and event.host != down and after <= event.at <= until
    ]
    if became and (last is None or last.at < max(became)[0] + AGREES_AFTER):
        return max(became)[1]
    return (last.who if last else None) or ""


def _came_true(foresight: Foresight, real: str) -> Verdict:
    said = {node: _said(answer) for node, answer in foresight.answers.items()}
    holds = bool(real) and real in said.values() and not any(_is_wrong(a, real) for a in foresight.answers.values())
    foretold = ", ".join(f"{node} foretold {to or 'nothing certain'}" for node, to in said.items())
    return Verdict(holds, f"{foresight.question}: {foretold}; {real or 'nobody'} carried it")


def _said(answer: dict[str, Any]) -> str:
    return _host(answer["carrier"])


def _is_wrong(answer: dict[str, Any], real: str) -> bool:
    """One that is not certain names the nodes of which it may be one."""
    if answer["certain"] or answer["carrier"]:
        return _said(answer) != real
    return real not in map(_host, answer["candidates"])


def _host(name: str) -> str:
    return ADDRESSES.get(name, name)
