"""The scenes in which etcd decides: what is done to it, and what must and must not be seen then.

etcd's three members run on hosts of their own. What is not exclusive does not need them to stay where it is, or to be
taken over: nothing is lost that is not lost without etcd. What is exclusive has one holder at most, at every instant.
"""

import time

from floatip.lab.holders import together
from floatip.lab.network import HAPROXY1, HAPROXY2, WITNESSES
from floatip.lab.programs.etcd import Etcd
from floatip.lab.record import Record
from floatip.lab.run import Run
from floatip.lab.verdicts import (
    TAKEOVER_MARGIN,
    Verdict,
    answered_only_by,
    changes_role,
    ends_as,
    happened_within,
    lost_less_than,
    moved_to,
    never_moves,
    no_loss,
)

MASTER, STANDBY = HAPROXY1.name, HAPROXY2.name
MEMBERS = tuple(host.name for host in WITNESSES)
TROUBLE = "etcd"
"""How the codes begin of problems with etcd."""
AT_ONCE = 2.0
"""Seconds within which a node must say that etcd does not answer: one keepalive, and what refuses it."""
CLAIMED_WITHIN = 0.02
"""Seconds from the end of detection until the node takes over, whether etcd answers or not."""
LEASE_TIME = 5.0
"""The default."""
GONE_FOR = 60.0


def leader_dies(run: Run) -> list[Verdict]:
    leader = etcd(run).leader()
    at = run.fault(f"{leader}, which leads etcd, crashes: its packets vanish")
    run.network.faults.cut(leader)
    time.sleep(2 * LEASE_TIME)
    successor = etcd(run).leader()
    run.mark(f"{successor} leads etcd")
    back = run.mark(f"{leader} is back")
    run.network.faults.heal(leader)
    time.sleep(LEASE_TIME)
    record = run.finish()
    return [
        Verdict(successor != leader, f"{successor} led etcd {back - at:.0f} s after {leader} crashed"),
        *nothing_happens(record, at, f"{leader} crashed"),
    ]


def gone(run: Run) -> list[Verdict]:
    at = run.fault("all members of etcd are killed (SIGKILL)")
    etcd(run).kill()
    told = {node: misses_etcd(run, node) for node in run.nodes}
    time.sleep(max(0.0, at + GONE_FOR - time.monotonic()))
    said = run.ask(MASTER, "status")
    back = run.mark("start all members of etcd again")
    etcd(run).start()
    run.mark("etcd answers")
    for node in run.nodes:
        finds_etcd(run, node)
    over = run.mark("all nodes say that etcd answers")
    time.sleep(LEASE_TIME)
    record = run.finish()
    lasted = f"{back - at:.0f} s"
    return [
        *(happened_within(record, f"{node} said so", told[node], AT_ONCE, at, "etcd was gone") for node in told),
        Verdict("etcd" in said.text and said.status != 2, f"floatip status after {lasted}: {line_of(said.text)}"),
        Verdict(over > back, f"no node says so any more {over - back:.1f} s after the members were started"),
        *nothing_happens(record, at, "etcd was gone"),
    ]


def cut_off(run: Run) -> list[Verdict]:
    """Nobody may take from a node what is not exclusive while the link says that it lives."""
    at = run.fault(f"{MASTER} does not reach etcd for {4 * LEASE_TIME:g} s; the other node does")
    run.network.faults.cut_from(MASTER, MEMBERS)
    told = misses_etcd(run, MASTER)
    time.sleep(max(0.0, at + 4 * LEASE_TIME - time.monotonic()))
    run.mark(f"{MASTER} reaches etcd again")
    run.network.faults.heal_from(MASTER, MEMBERS)
    finds_etcd(run, MASTER)
    time.sleep(LEASE_TIME)
    record = run.finish()
    return [
        happened_within(record, f"{MASTER} said so", told, LEASE_TIME, at, "it lost etcd"),
        *nothing_happens(record, at, "it lost etcd"),
    ]


def cut_off_exclusive(run: Run) -> list[Verdict]:
    """It lets go before its lease time is over, says so over the link, and the other node takes it."""
    at = run.fault(f"{MASTER} does not reach etcd for {4 * LEASE_TIME:g} s; the other node does")
    run.network.faults.cut_from(MASTER, MEMBERS)
    taken = run.wait_for_role(STANDBY, "master")
    time.sleep(max(0.0, at + 4 * LEASE_TIME - time.monotonic()))
    healed = run.mark(f"{MASTER} reaches etcd again")
    run.network.faults.heal_from(MASTER, MEMBERS)
    finds_etcd(run, MASTER)
    time.sleep(LEASE_TIME)
    record = run.finish()
    left = next((change.at for change in record.held[MASTER] if change.at > at and not change.holds), None)
    return [
        never_two_holders(record),
        happened_within(record, f"{MASTER} let go of it", left, LEASE_TIME, at, "it lost etcd"),
        happened_within(record, f"{STANDBY} was master", taken, LEASE_TIME + TAKEOVER_MARGIN, at, "that"),
        *lost_less_than(record, 1.0),
        answered_only_by(record.seen, STANDBY, healed, f"{MASTER} reached etcd again"),
        never_moves(record, healed, f"{MASTER} reached etcd again"),
        ends_as(record, MASTER, "backup"),
        ends_as(record, STANDBY, "master"),
    ]


def crash_with_leader(run: Run) -> list[Verdict]:
    """A lease of etcd alone takes 4 to 5 s here: a new leader extends it."""
    leader = etcd(run).leader()
    run.foresee("down", MASTER)
    run.fault(f"{MASTER} crashes, and with it {leader}, which leads etcd")
    run.network.faults.cut(leader, MASTER)
    silent = time.monotonic()
    run.wait_for_role(STANDBY, "master")
    time.sleep(3)
    record = run.finish()
    missed = record.first(STANDBY, "node", "gone", silent)
    taken = record.first(STANDBY, "role", "master", silent)
    taken_at, missed_at = taken.at if taken else None, missed.at if missed else silent
    return [
        *lost_less_than(record, run.options.detection_time + TAKEOVER_MARGIN),
        happened_within(record, f"{STANDBY} was master", taken_at, CLAIMED_WITHIN, missed_at, f"it missed {MASTER}"),
        moved_to(record, STANDBY, silent, "the crash"),
        ends_as(record, STANDBY, "master"),
    ]


def etcd(run: Run) -> Etcd:
    assert run.etcd
    return run.etcd


def misses_etcd(run: Run, node: str) -> float:
    """When its status says that etcd does not answer."""
    return run.wait_for(lambda: troubles(run, node), f"{node} to say that etcd does not answer")


def finds_etcd(run: Run, node: str) -> float:
    return run.wait_for(lambda: not troubles(run, node), f"{node} to find etcd again")


def troubles(run: Run, node: str) -> bool:
    """Whether the node's status says that etcd does not answer."""
    return any(problem["code"].startswith(TROUBLE) for problem in run.nodes[node].status()["problems"])


def line_of(text: str) -> str:
    """What it says of etcd."""
    return next((line for line in text.split("  ") if "etcd" in line), "nothing of etcd")


def nothing_happens(record: Record, at: float, event: str) -> list[Verdict]:
    return [
        *no_loss(record),
        answered_only_by(record.seen, MASTER, at, event),
        never_moves(record, at, event),
        *changes_role(record, at, 0),
    ]


def never_two_holders(record: Record) -> Verdict:
    most, seconds = together(record.held)
    nodes = " and ".join(record.held)
    if most > 1:
        return Verdict(False, f"{most} nodes held the address at once, for {seconds * 1000:.1f} ms")
    return Verdict(most == 1, f"at every instant {'one' if most else 'none'} of {nodes} at most held the address")
