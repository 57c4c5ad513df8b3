"""The scenes in which etcd decides: what is done to it, and what must and must not be seen then.

etcd's three members run on hosts of their own. What is not exclusive does not need them to stay where it is, or to be
taken over: nothing is lost that is not lost without etcd. What is exclusive has one holder at most, at every instant.
"""

import time

from floatip.lab.configuration import LEASE_TIME
from floatip.lab.holders import together
from floatip.lab.network import HAPROXY1, HAPROXY2, HAPROXY4, WITNESSES
from floatip.lab.programs.etcd import Etcd
from floatip.lab.record import Record, RunEvent
from floatip.lab.run import Run
from floatip.lab.verdicts import (
    AGREEMENT,
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
    nothing_lost,
    was_done,
)

MASTER, STANDBY, THIRD = HAPROXY1.name, HAPROXY2.name, HAPROXY4.name
MEMBERS = tuple(host.name for host in WITNESSES)
TROUBLE = "etcd-lost"
"""The code of the problem that etcd does not answer."""
AT_ONCE = 2.0
"""Seconds within which a node must say that etcd does not answer: one keepalive, and what refuses it.

So soon it also says that etcd answers again, and knows who has left.
"""
CLAIMED_WITHIN = 0.02
"""Seconds from the end of detection until the node takes over, whether etcd answers or not."""
GONE_FOR = 60.0
HANDED_OVER_WITHIN = 0.3
"""Seconds for which nobody has what is exclusive, from when its owner let go of it."""
JOINED_WITHIN = 10.0
"""Seconds from the start of a daemon until all nodes have it as a member, and hear it."""


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
    answered = run.mark("etcd answers")
    for node in run.nodes:
        finds_etcd(run, node)
    over = run.mark("all nodes say that etcd answers")
    time.sleep(LEASE_TIME)
    record = run.finish()
    lasted = f"{back - at:.0f} s"
    return [
        *(happened_within(record, f"{node} said so", told[node], AT_ONCE, at, "etcd was gone") for node in told),
        Verdict(TROUBLE in said.text, f"floatip status after {lasted}: {line_of(said.text)}"),
        happened_within(record, "no node said so any more", over, AT_ONCE, answered, "etcd answered again"),
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
        happened_within(
            record, f"{STANDBY} was master", taken, LEASE_TIME + TAKEOVER_MARGIN, at, f"{MASTER} lost etcd"
        ),
        *lost_less_than(record, HANDED_OVER_WITHIN),
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


def joins(run: Run) -> list[Verdict]:
    """It gets nothing by joining, and what has nobody then."""
    at = run.fault(f"{THIRD} is started, with a file of a few lines")
    run.start_node(THIRD)
    known = run.wait_for(lambda: all(lists(run, node, THIRD) for node in run.nodes), f"all to know {THIRD}")
    run.wait_for_event(THIRD, "rank", "standby", at)
    time.sleep(5)
    carried = run.record.carries(THIRD)
    both = run.mark(f"{MASTER} and {STANDBY} crash at once: their packets vanish")
    run.network.faults.cut(MASTER, STANDBY)
    run.wait_for_role(THIRD, "master")
    time.sleep(3)
    record = run.finish()
    calm = record.seen.between(at, both)
    return [
        happened_within(record, f"all nodes knew {THIRD}", known, JOINED_WITHIN, at, "its start"),
        Verdict(not carried, f"{THIRD} carried {' and '.join(sorted(carried)) or 'nothing'} before they crashed"),
        *nothing_lost(calm, "until they crashed"),
        answered_only_by(calm, MASTER, at, f"{THIRD} joined"),
        never_moves(record, at, f"{THIRD} joined", until=both),
        *lost_less_than(record, run.options.detection_time + TAKEOVER_MARGIN),
        moved_to(record, THIRD, both, "they crashed", within=run.options.detection_time + TAKEOVER_MARGIN),
        ends_as(record, THIRD, "master"),
    ]


def leaves(run: Run) -> list[Verdict]:
    run.wait_until_seasoned(STANDBY)
    run.wait_until_seasoned(THIRD)
    at = run.fault(f"{MASTER} leaves the fleet")
    left = run.ask(MASTER, "fleet", "leave")
    others = [node for node in run.nodes if node != MASTER]
    gone_at = run.wait_for(lambda: not any(lists(run, node, MASTER) for node in others), f"{MASTER} to be off the list")
    time.sleep(3)
    record = run.finish()
    heirs = [node for node in record.masters if node != MASTER]
    return [
        was_done(left),
        *no_loss(record),
        Verdict(len(heirs) == 1, f"{' and '.join(heirs) or 'nobody'} carries it at the end"),
        happened_within(record, f"no other node listed {MASTER}", gone_at, AT_ONCE, at, "the command began"),
        *(moved_with_command(record, heir, at) for heir in heirs),
    ]


def rebalance(run: Run) -> list[Verdict]:
    """One node carries all three; the second and the third get one each, and nothing moves twice."""
    run.start_node(THIRD)
    run.wait_for(lambda: all(lists(run, node, THIRD) for node in run.nodes), f"all to know {THIRD}")
    run.wait_for_event(THIRD, "rank", "standby", 0.0)
    run.wait_until_seasoned(STANDBY)
    run.wait_until_seasoned(THIRD)
    at = run.fault("the fleet is rebalanced")
    done = run.ask(MASTER, "rebalance", "--yes")
    time.sleep(2)
    record = run.finish()
    carried = {node: sorted(record.carries(node)) for node in run.nodes}
    moves = [(event.at, event.name) for event in record.events if event.what == "role" and is_move(event, at)]
    return [
        was_done(done),
        Verdict(
            all(len(names) == 1 for names in carried.values()),
            ", ".join(f"{node} carries {' and '.join(names) or 'nothing'}" for node, names in carried.items()),
        ),
        Verdict(len(moves) == len(run.nodes) - 1, f"{len(moves)} moves, and {len(run.nodes) - 1} are the fewest"),
        one_at_a_time(record, at),
        *(
            verdict
            for address, seen in run.observed.items()
            for verdict in nothing_lost(seen.seen, f"at {address.ip}", len(seen.torn))
        ),
    ]


def is_move(event: RunEvent, at: float) -> bool:
    return event.at > at and event.value == "master"


def one_at_a_time(record: Record, at: float) -> Verdict:
    """The node that had it is backup before the next one moves."""
    moving = dict[str, float]()
    together = 0
    for event in sorted(record.events, key=lambda event: event.at):
        if event.what == "role" and event.at > at:
            if event.value == "master":
                together += bool(moving)
                moving[event.name] = event.at
            else:
                moving.pop(event.name, None)
    return Verdict(not together, f"{together} of them began before the one before it was over")


def lists(run: Run, node: str, other: str) -> bool:
    """Whether the node's status has the other one, and hears it."""
    if not run.nodes[node].running:
        return False
    return any(
        each["name"] == other and each["state"] in ("alive", "this node") for each in run.nodes[node].status()["nodes"]
    )


def moved_with_command(record: Record, node: str, at: float) -> Verdict:
    taken = record.first(node, "role", "master", at)
    return moved_to(record, node, taken.at if taken else at, "the takeover", within=AGREEMENT)


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
    return any(problem["code"] == TROUBLE for problem in run.nodes[node].status()["problems"])


def line_of(text: str) -> str:
    """What it says of etcd."""
    _, found, rest = text.partition("etcd has not answered for ")
    return f"{found}{rest.partition(' (')[0]}" if found else "nothing of etcd"


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
