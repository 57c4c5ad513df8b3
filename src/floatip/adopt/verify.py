"""Whether an adoption works: what the daemon's status, keepalived's open files and the kernel say.

Each question answers with what is wrong; empty: nothing is.
"""

from collections.abc import Collection, Iterable

from floatip.adopt.plan import FIFO, Plan
from floatip.adopt.setup import Setup, floating
from floatip.adopt.system import System

SILENCE = "no advert"
"""Begins the reason of a master that took over from nobody that it heard."""
SILENT = "the floatip daemon does not answer"


def unready(system: System, names: Iterable[str], *, may_be_in_fault: bool) -> str:
    """Of a floatip that took keepalived's place: each instance is master, or hears one."""
    status = system.status()
    if status is None:
        return SILENT
    told = {instance["name"]: instance for instance in status["instances"]}
    for name in names:
        if name not in told:
            return f"floatip does not know {name}"
        role = told[name]["role"]
        if role["value"] == "backup" and told[name]["master"] is None:
            return f"{name} is backup and hears no master: {role['reason']}"
        if role["value"] not in ("master", "backup") and not (may_be_in_fault and role["value"] == "fault"):
            return f"{name} is {role['value']}: {role['reason']}"
    return ""


def deaf(system: System, followed: Collection[str]) -> str:
    """`followed`: instances for which keepalived heard a master. Who preempts a lower one has heard it."""
    status = system.status() or {"instances": []}
    for told in status["instances"]:
        is_master = told["role"]["value"] == "master"
        if is_master and told["name"] in followed and told["role"]["reason"].startswith(SILENCE):
            return f"{told['name']} became master here, although the other node was: {told['role']['reason']}"
    return ""


def unheld(system: System) -> str:
    status = system.status()
    if status is None:
        return SILENT
    missing = [a["address"] for i in status["instances"] for a in i["addresses"] if not a["held"]]
    return f"floatip does not hold {', '.join(missing)}" if missing else ""


def unconnected(system: System) -> str:
    status = system.status()
    if status is None:
        return SILENT
    sessions = status["sessions"]
    if any(session["state"] == "established" for session in sessions):
        return ""
    return f"no route server is connected: {sessions[0]['peer']}: {sessions[0]['reason']}"


def unopened(system: System, setup: Setup) -> str:
    pid = system.text(setup.call.vrrp_pid_file).strip()
    return "" if pid.isdigit() and system.has_open(int(pid), FIFO) else f"keepalived has not opened {FIFO}"


def unfollowed(system: System, plan: Plan) -> str:
    status = system.status()
    if status is None:
        return SILENT
    placed = {placed.address.ip for placed in system.machine().placed() if placed.interface != "lo"}
    told = {instance["name"]: instance for instance in status["instances"]}
    for instance in plan.instances:
        name = instance.name
        if name not in told:
            return f"floatip does not know {name}"
        role = told[name]["role"]
        if (role["value"] == "master") != any(virtual.address.ip in placed for virtual in floating(instance)):
            return f"{name} is {role['value']} for floatip: {role['reason']}"
        if role["value"] != "fault" and not all(address["announced_to"] for address in told[name]["addresses"]):
            return f"{name} is not announced: {told[name]['rank']['reason']}"
    return ""
