"""The scenes: what is done to the pair, and what must and must not be seen then.

Each begins with haproxy1 as master, both nodes announced, and an observer that sends an echo and a request every few
milliseconds. A scene does its faults to a `Run`, lets it finish, and reads its verdicts from the `Record`.

The nodes elect over the link, floatip elects by VRRP (`vrrp-...`), or keepalived does and floatip follows it
(`beside-...`). In all cases nothing may be lost but in a silent crash, because both nodes hold the address on `lo` and
the standby's route is there. In a VLAN (`vlan-...`, by VRRP) the master alone holds it: there the skew time is lost too
where a check fails.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from floatip.lab import etcd_scenes, second_chance_scenes
from floatip.lab.network import ROUTER
from floatip.lab.record import Record
from floatip.lab.run import Run
from floatip.lab.verdicts import (
    AGREEMENT,
    FOREVER,
    TAKEOVER_MARGIN,
    Verdict,
    agreement,
    answered_only_by,
    becomes_standby,
    changes_role,
    ends_as,
    handed_over,
    happened_within,
    lost_less_than,
    moved_to,
    never_moves,
    no_loss,
    nothing_lost,
    one_master,
    was_done,
    was_refused,
)
from floatip.observing.summary import KINDS

MASTER, STANDBY = "haproxy1", "haproxy2"


@dataclass(frozen=True, slots=True)
class Scene:
    about: str
    play: Callable[[Run], list[Verdict]]
    election: Literal["nodes", "vrrp", "keepalived"] = "nodes"
    three: bool = False
    """Nodes; otherwise two."""
    shared_layer2: bool = False
    """Whether the address is where the master is."""
    etcd: bool = False
    """Whether etcd decides."""
    exclusive: bool = False
    members: bool = False
    """Whether the nodes register themselves at etcd, which has the configuration."""
    last_joins: bool = False
    """Whether the last of the nodes is not started with the others."""
    instances: int = 1
    connections: bool = False
    """Whether there are long and short connections to the address."""
    strict: bool = False
    """Whether the router checks the reverse path."""


def check(run: Run) -> list[Verdict]:
    if run.options.election != "keepalived":  # else it is keepalived's check
        run.foresee("check-fails", "trigger", MASTER)
    at = run.fault(f"touch the trigger file on {MASTER}: its check fails")
    run.triggers[MASTER].touch()
    run.wait_for_event(MASTER, "role", "fault", at)
    run.wait_for_role(STANDBY, "master")
    time.sleep(1)
    run.mark(f"remove the trigger file: {MASTER} is healthy again")
    run.triggers[MASTER].unlink()
    run.wait_for_role(MASTER, "backup")
    time.sleep(1)
    record = run.finish()
    failed = record.first(MASTER, "role", "fault", at)
    moved = moved_to(record, STANDBY, failed.at if failed else at, "the check failed")
    return [*handed_over(record), moved, ends_as(record, MASTER, "backup"), ends_as(record, STANDBY, "master")]


def stop(run: Run) -> list[Verdict]:
    elector = run.electors[MASTER]
    run.foresee("down", MASTER)
    at = run.fault(f"stop {elector.name} on {MASTER} (SIGTERM)")
    elector.stop()
    status = elector.wait()
    ended = run.mark(f"{elector.name} on {MASTER} exited with status {status}")
    released = not run.holds_address(MASTER)
    run.wait_for_role(STANDBY, "master")
    time.sleep(2)
    if run.options.election == "keepalived":
        run.mark(f"start {elector.name} on {MASTER} again")
        elector.start()
        time.sleep(6)
    record = run.finish()
    lost, ends = no_loss(record), [ends_as(record, STANDBY, "master")]
    if run.options.election == "keepalived":
        return [*lost, moved_with_role(record, at, "SIGTERM"), ends_as(record, MASTER, "backup"), *ends]
    return [
        *lost,
        moved_with_role(record, at, "SIGTERM"),
        *ends,
        Verdict(status == 0, f"{elector.name} exited with status {status} after {ended - at:.1f} s"),
        Verdict(released, f"the address was {'removed from' if released else 'left on'} {MASTER}"),
    ]


def kill(run: Run) -> list[Verdict]:
    elector, floatip = run.electors[MASTER], run.nodes[MASTER]
    run.foresee("down", MASTER)
    at = run.fault(f"kill {elector.name} on {MASTER} (SIGKILL)")
    elector.kill()
    run.wait_for_role(STANDBY, "master")
    if run.options.election != "keepalived":
        time.sleep(1)
        record = run.finish()
        return [*no_loss(record), moved_with_role(record, at, "SIGKILL"), ends_as(record, STANDBY, "master")]
    run.mark(f"start {elector.name} on {MASTER} again")
    elector.start()
    run.wait_for(lambda: floatip.status()["keepalived"]["runs"], "floatip to follow keepalived again")
    time.sleep(5)
    follows = floatip.status()["keepalived"]["runs"]
    record = run.finish()
    noticed = record.first(MASTER, "role", "backup", at)
    return [
        *no_loss(record),
        happened_within(record, "floatip noticed it", noticed.at if noticed else None, 0.1, at, "SIGKILL"),
        Verdict(follows, f"floatip {'follows' if follows else 'does not follow'} keepalived again"),
        ends_as(record, MASTER, "backup"),
        ends_as(record, STANDBY, "master"),
    ]


def hang(run: Run) -> list[Verdict]:
    elector = run.electors[MASTER]
    run.foresee("down", MASTER)
    at = run.fault(f"suspend {elector.name} on {MASTER} (SIGSTOP): address and service stay")
    elector.pause()
    run.wait_for_role(STANDBY, "master")
    taken = run.mark(f"{STANDBY} is master")
    if run.options.election == "keepalived":
        run.wait_for_role(MASTER, "backup")
    time.sleep(max(0.0, at + 12 - time.monotonic()))
    woken = run.mark("resume it (SIGCONT)")
    elector.resume()
    run.wait_for_role(MASTER, "backup")
    time.sleep(8)
    record = run.finish()
    return [
        *no_loss(record),
        moved_to(record, STANDBY, taken, "the takeover"),
        never_moves(record, woken, "SIGCONT"),
        ends_as(record, MASTER, "backup"),
        ends_as(record, STANDBY, "master"),
    ]


def restart(run: Run) -> list[Verdict]:
    """Where keepalived elects, its master stays master."""
    at = run.fault(f"kill floatip on {MASTER} (SIGKILL) and start it at once")
    run.nodes[MASTER].kill()
    run.start_node(MASTER)
    # Wait for the leaving first: the route servers may be slower than the new daemon.
    run.wait_for(lambda: any(change.at > at for change in run.record.routes[ROUTER]), f"the traffic to leave {MASTER}")
    run.wait_for_event(MASTER, "role", "master", at)
    back = run.wait_for(lambda: run.record.pointed_at(ROUTER, time.monotonic()) == MASTER, "the traffic to return")
    time.sleep(2)
    record = run.finish()
    returned = moved_to(record, MASTER, back, "the traffic returned")
    return [*no_loss(record), returned, ends_as(record, MASTER, "master"), ends_as(record, STANDBY, "backup")]


def again(run: Run) -> list[Verdict]:
    """The address stays where it is until one of them is master."""
    at = run.fault(f"kill floatip on {MASTER} (SIGKILL) and start it at once")
    run.nodes[MASTER].kill()
    run.start_node(MASTER)
    run.wait_for(
        lambda: any(run.record.first(node, "role", "master", at) for node in run.nodes), "one of them to be master"
    )
    time.sleep(2)
    record = run.finish()
    return [*no_loss(record), one_master(record)]


def crash(run: Run, age: float) -> list[Verdict]:
    """`age`: seconds since the start of haproxy1's daemon, so that its rank is takeover, or has settled."""
    time.sleep(max(0.0, run.record.started_first_at + age - time.monotonic()))
    run.foresee("down", MASTER)
    run.fault(f"{MASTER} crashes {age:g} s after its start: its packets vanish")
    silent = cut(run, MASTER)
    run.wait_for_role(STANDBY, "master")
    time.sleep(3)
    record = run.finish()
    return [
        *lost_less_than(record, run.options.detection_time + TAKEOVER_MARGIN),
        moved_to(record, STANDBY, silent, "the crash"),
        ends_as(record, STANDBY, "master"),
    ]


def crash_again(run: Run) -> list[Verdict]:
    time.sleep(2)
    run.foresee("down", MASTER)
    run.fault(f"{MASTER} crashes: its packets vanish")
    silent = cut(run, MASTER)
    taken = run.wait_for_role(STANDBY, "master")
    time.sleep(1)
    run.mark(f"{MASTER} is back")
    run.network.faults.heal(MASTER)
    run.wait_for_role(MASTER, "backup")
    time.sleep(max(0.0, taken + 5 - time.monotonic()))
    run.foresee("down", STANDBY)
    again = run.mark(f"{STANDBY} crashes, 5 s after it took over")
    silent_again = cut(run, STANDBY)
    run.wait_for_event(MASTER, "role", "master", again)
    time.sleep(3)
    record = run.finish()
    return [
        *lost_less_than(record, run.options.detection_time + TAKEOVER_MARGIN, 2),
        moved_to(record, STANDBY, silent, "the first crash", until=again),
        moved_to(record, MASTER, silent_again, "the second crash"),
        ends_as(record, MASTER, "master"),
    ]


def rs_cut(run: Run) -> list[Verdict]:
    beyond_hold_time = run.options.hold_time + 3
    at = run.fault("rs1 is cut off silently, for longer than the hold time")
    run.network.faults.cut("rs1")
    time.sleep(beyond_hold_time)
    run.mark("rs1 is back")
    run.network.faults.heal("rs1")
    run.wait_for(lambda: all(map(run.connected, run.nodes)), "both nodes to have all four sessions")
    time.sleep(1)
    run.mark(f"{STANDBY} loses rs2, rs3 and rs4: only rs1 has its route")
    for server in ("rs2", "rs3", "rs4"):
        run.network.faults.cut_pair(STANDBY, server)
    time.sleep(beyond_hold_time)
    run.foresee("down", MASTER)
    stopped = run.mark(f"stop floatip on {MASTER} (SIGTERM)")
    run.nodes[MASTER].stop()
    run.wait_for_role(STANDBY, "master")
    time.sleep(2)
    record = run.finish()
    return [
        *no_loss(record),
        answered_only_by(record.seen, MASTER, at, "the cut", until=stopped),
        moved_with_role(record, stopped, "SIGTERM"),
        ends_as(record, STANDBY, "master"),
    ]


def rs_restart(run: Run) -> list[Verdict]:
    at = run.fault("rs1 is stopped, and started 3 s later")
    run.servers["rs1"].kill()
    time.sleep(3)
    run.servers["rs1"].start()
    time.sleep(5)
    all_at = run.mark("all four route servers are stopped")
    for server in run.servers.values():
        server.kill()
    time.sleep(6)
    run.mark("all four are started")
    for server in run.servers.values():
        server.start()
    listening_at = run.wait_for(lambda: any(map(run.listens, run.servers)), "a route server to listen")
    run.mark("the first of them listens")
    time.sleep(10)
    record = run.finish()
    before = record.seen.between(0, all_at)
    back = next((probe.at for probe in record.seen.probes if probe.ok and probe.who and probe.at > listening_at), None)
    lost = [probe for probe in record.seen.probes if not probe.ok and back and probe.at > back]
    return [
        *nothing_lost(before, "while one restarts"),
        answered_only_by(before, MASTER, at, "rs1 was stopped"),
        happened_within(record, "the first answer came", back, 2.5, listening_at, "a route server listened again"),
        Verdict(not lost, f"{len(lost)} probes lost from then on"),
        one_master(record),
    ]


def split(run: Run) -> list[Verdict]:
    # A master settles after 20 s: then both have.
    seconds = 10 if run.options.shared_layer2 else 60
    at = run.fault(f"the nodes do not hear each other for {seconds} s; both are healthy")
    run.network.faults.cut_election()
    time.sleep(seconds)
    healed = run.mark("they hear each other again")
    run.network.faults.heal_election()
    time.sleep(6)
    record = run.finish()
    event = "they heard each other again"
    by_one = [answered_only_by(record.seen, STANDBY, healed, event)]
    agreed = by_one if run.options.shared_layer2 else agreement(record, at)
    return [*no_loss(record), *agreed, never_moves(record, healed, event), one_master(record)]


def back(run: Run) -> list[Verdict]:
    run.foresee("down", MASTER)
    run.fault(f"{MASTER} crashes: its packets vanish")
    run.network.faults.cut(MASTER)
    run.wait_for_role(STANDBY, "master")
    time.sleep(11)
    healed = run.mark(f"{MASTER} is back")
    run.network.faults.heal(MASTER)
    time.sleep(8)
    run.foresee("down", MASTER)
    killed = run.mark(f"kill floatip on {MASTER} (SIGKILL), and start it 3 s later")
    run.nodes[MASTER].kill()
    time.sleep(3)
    run.start_node(MASTER)
    run.wait_for_event(MASTER, "rank", "standby", killed)
    time.sleep(7)
    record = run.finish()
    return [
        *nothing_lost(record.seen.between(healed), f"since {MASTER} was back"),
        answered_only_by(record.seen, STANDBY, healed, f"{MASTER} was back"),
        never_moves(record, healed, f"{MASTER} was back"),
        ends_as(record, MASTER, "backup"),
        ends_as(record, STANDBY, "master"),
        becomes_standby(record, MASTER, killed),
    ]


PUT_BACK = 0.05
"""Seconds that putting back a deleted address may take."""


def delete(run: Run) -> list[Verdict]:
    at = run.fault(f"delete the floating IP on {MASTER}")
    run.delete_address(MASTER)
    time.sleep(3)
    record = run.finish()
    lost = {kind: record.seen.lost(kind) for kind in KINDS}
    roles = [event for event in record.events if event.what == "role" and event.at > at]
    held = record.first(MASTER, "address", "held", at)
    delayed = record.delayed(at, held.at) if held else 0.0
    # A late observer sends several probes at once, so beyond one it is the time from the first to the last that counts.
    most = 0.9 * run.options.probe_interval
    more = f", and those in {delayed:.2f} s without a CPU" if delayed >= 0.01 else ""
    windows = [window for kind in KINDS for window in record.seen.windows(kind)]
    # From when floatip knows: the deletion itself needs a process to start.
    gone = record.first(MASTER, "address", "lost", at)
    back_after = held.at - gone.at if held and gone else math.inf
    most += min(back_after, PUT_BACK) + delayed
    short = all(window.last_lost_at - window.first_lost_at < most for window in windows)
    return [
        Verdict(
            max(lost.values()) <= 1 or (short and len(windows) <= len(KINDS)),
            f"{lost['echo']} echoes and {lost['request']} requests lost (one of each, or until it was back{more})",
        ),
        Verdict(
            back_after <= PUT_BACK + delayed,
            f"floatip put it back {back_after * 1000:.1f} ms after it knew (limit {PUT_BACK * 1000:.0f} ms{more})",
        ),
        Verdict(not roles, f"{len(roles)} changes of role"),
        answered_only_by(record.seen, MASTER, at, "the deletion"),
    ]


def moved_with_role(record: Record, at: float, event: str, until: float = FOREVER) -> Verdict:
    """At once where the network drops the route of a daemon that ends, else with the takeover."""
    taken = record.first(STANDBY, "role", "master", at)
    if taken and record.options.election == "nodes":  # it takes over first, and so has to wait for the route servers
        return moved_to(record, STANDBY, taken.at, "the takeover", until=until, within=AGREEMENT)
    if taken and (record.options.election == "keepalived" or record.options.shared_layer2):
        return moved_to(record, STANDBY, taken.at, "the takeover", until=until)
    return moved_to(record, STANDBY, at, event, until=until)


def cut(run: Run, node: str) -> float:
    """When the node's packets vanish for certain: some reach it until the router has its rules."""
    run.network.faults.cut(node)
    return time.monotonic()


def reload(run: Run) -> list[Verdict]:
    at = run.fault("both nodes get another configuration")
    run.reload(STANDBY, "another")
    time.sleep(1)
    run.reload(MASTER, "another")
    time.sleep(2)
    record = run.finish()
    return [
        *no_loss(record),
        answered_only_by(record.seen, MASTER, at, "the reload"),
        never_moves(record, at, "the reload"),
        *changes_role(record, at, 0),
    ]


def upgrade(run: Run) -> list[Verdict]:
    """As a package does it, node by node, the standby first."""
    run.foresee("down", STANDBY)
    run.fault(f"floatip is restarted on {STANDBY} (SIGTERM)")
    renew(run, STANDBY)
    time.sleep(1)
    run.foresee("down", MASTER)
    again = run.mark(f"floatip is restarted on {MASTER}")
    renew(run, MASTER)
    time.sleep(2)
    record = run.finish()
    return [
        *no_loss(record),
        moved_with_role(record, again, "SIGTERM"),
        ends_as(record, MASTER, "backup"),
        ends_as(record, STANDBY, "master"),
    ]


def renew(run: Run, node: str) -> None:
    run.nodes[node].stop()
    run.nodes[node].wait()
    ended = time.monotonic()
    run.start_node(node)
    run.wait_for_event(node, "rank", "standby", ended)


def handover(run: Run) -> list[Verdict]:
    young = run.ask(MASTER, "handover")
    run.wait_until_seasoned(STANDBY)
    at = run.fault(f"{MASTER} hands over")
    done = run.ask(MASTER, "handover")
    time.sleep(1)
    record = run.finish()
    return [
        was_refused(young, "younger than 30 s"),
        was_done(done),
        *no_loss(record),
        moved_with_role(record, at, "the command"),
        ends_as(record, MASTER, "backup"),
        ends_as(record, STANDBY, "master"),
        *changes_role(record, at, 1),
    ]


def refused(run: Run) -> list[Verdict]:
    run.foresee("check-fails", "trigger", STANDBY)
    at = run.fault(f"the check of {STANDBY} fails, and {MASTER} is to hand over")
    run.triggers[STANDBY].touch()
    run.wait_for_role(STANDBY, "fault")
    sick = run.ask(MASTER, "handover", "--force")
    run.foresee("down", STANDBY)
    run.mark(f"stop floatip on {STANDBY} (SIGTERM)")
    run.nodes[STANDBY].stop()
    run.nodes[STANDBY].wait()
    run.foresee("drained", MASTER)
    gone = run.ask(MASTER, "drain")
    time.sleep(1)
    record = run.finish()
    return [
        was_refused(sick, f"{STANDBY} is not healthy"),
        was_refused(gone, "no other node could take over"),
        *no_loss(record),
        answered_only_by(record.seen, MASTER, at, "the check failed"),
        ends_as(record, MASTER, "master"),
    ]


def drain(run: Run) -> list[Verdict]:
    run.wait_until_seasoned(STANDBY)
    run.foresee("drained", MASTER)
    at = run.fault(f"{MASTER} is drained")
    drained = run.ask(MASTER, "drain", "--reason", "kernel upgrade")
    time.sleep(1)
    run.mark(f"floatip is restarted on {MASTER}")
    renew(run, MASTER)
    stays = run.ask(STANDBY, "drain")
    undrained = run.ask(MASTER, "undrain")
    run.wait_for(lambda: not run.knows(STANDBY, MASTER)["drained"], f"{STANDBY} to know that {MASTER} is back")
    run.foresee("down", STANDBY)
    back = run.mark(f"stop floatip on {STANDBY} (SIGTERM)")
    run.nodes[STANDBY].stop()
    run.wait_for_role(MASTER, "master")
    time.sleep(1)
    record = run.finish()
    returned = record.first(MASTER, "role", "master", back)
    return [
        was_done(drained),
        was_refused(stays, f"{MASTER} is drained"),
        was_done(undrained),
        *no_loss(record),
        moved_with_role(record, at, "the command", until=back),
        moved_to(record, MASTER, returned.at if returned else back, "it was back", within=AGREEMENT),
    ]


def drain_both(run: Run) -> list[Verdict]:
    run.foresee("drained", STANDBY)
    at = run.fault(f"{STANDBY} is drained, then {MASTER}")
    first = run.ask(STANDBY, "drain")
    run.wait_for(lambda: run.knows(MASTER, STANDBY)["drained"], f"{MASTER} to know that {STANDBY} is drained")
    run.foresee("drained", MASTER)
    second = run.ask(MASTER, "drain")
    forced = run.ask(MASTER, "drain", "--force")
    time.sleep(1)
    run.foresee("undrained", STANDBY)
    undrained = run.ask(STANDBY, "undrain")
    run.wait_for_role(STANDBY, "master")
    time.sleep(1)
    record = run.finish()
    return [
        was_done(first),
        was_refused(second, f"{STANDBY} is drained"),
        was_done(forced, "stays here until another node is ready"),
        was_done(undrained),
        *no_loss(record),
        moved_with_role(record, at, "it was ready"),
        ends_as(record, MASTER, "backup"),
    ]


def one_way(run: Run, deaf: str) -> list[Verdict]:
    (other,) = {MASTER, STANDBY} - {deaf}
    at = run.fault(f"{deaf} no longer hears {other} for 10 s")
    run.network.faults.cut_link(other, deaf)
    time.sleep(10)
    healed = run.mark(f"{deaf} hears {other} again")
    run.network.faults.heal_link()
    time.sleep(3)
    record = run.finish()
    return [
        *no_loss(record),
        *agreement(record, at),
        never_moves(record, healed, "they heard each other again"),
        one_master(record),
        *changes_role(record, at, 1),
    ]


def lossy(run: Run) -> list[Verdict]:
    at = run.fault("40 % of what the nodes tell each other is lost, for a minute")
    run.network.faults.cut_link(MASTER, STANDBY, 0.4)
    run.network.faults.cut_link(STANDBY, MASTER, 0.4)
    time.sleep(60)
    healed = run.mark("nothing is lost any more")
    run.network.faults.heal_link()
    time.sleep(3)
    record = run.finish()
    calm = never_moves(record, healed, "nothing was lost any more")
    return [*no_loss(record), *agreement(record, at), calm, one_master(record), *changes_role(record, at, 1)]


def crash_two(run: Run) -> list[Verdict]:
    run.foresee("down", MASTER)
    at = run.fault(f"{MASTER} crashes: its packets vanish")
    run.network.faults.cut(MASTER)
    others = [node for node in run.nodes if node != MASTER]
    run.wait_for(lambda: any(run.record.first(node, "role", "master", at) for node in others), "its successor")
    (successor,) = (node for node in others if run.record.first(node, "role", "master", at))
    (last,) = (node for node in others if node != successor)
    run.foresee("down", successor)
    again = run.mark(f"{successor}, which has just taken over, crashes as well")
    silent = cut(run, successor)
    run.wait_for_event(last, "role", "master", at)
    time.sleep(3)
    record = run.finish()
    back = next((probe.at for probe in record.seen.probes if probe.ok and probe.who == last), None)
    limit = run.options.detection_time + TAKEOVER_MARGIN + silent - again
    return [
        happened_within(record, f"{last} answered", back, limit, again, "the second crash began"),
        moved_to(record, last, again, "the second crash", within=limit),
        ends_as(record, last, "master"),
    ]


WithEtcd = partial(Scene, etcd=True)
Members = partial(WithEtcd, members=True, three=True)
WithConnections = partial(Scene, connections=True)
Beside = partial(Scene, election="keepalived")
InVlan = partial(Scene, election="vrrp", shared_layer2=True)
BY_VRRP = ("check", "stop", "kill", "hang", "crash", "crash-settled", "crash-again", "split", "return")
"""Scenes in which it matters who elects."""
SCENES = {
    "check": Scene(f"the guide's own test: a trigger file makes {MASTER}'s check fail", check),
    "stop": Scene(f"the daemon on {MASTER} is stopped (SIGTERM)", stop),
    "kill": Scene(f"the daemon on {MASTER} is killed (SIGKILL)", kill),
    "hang": Scene(f"the daemon on {MASTER} is suspended for 12 s (SIGSTOP)", hang),
    "crash": Scene(f"{MASTER} crashes silently 6 s after its start", partial(crash, age=6.0)),
    "crash-settled": Scene(f"{MASTER} crashes silently 40 s after its start", partial(crash, age=40.0)),
    "crash-again": Scene(f"{MASTER} crashes and is back; {STANDBY} crashes 5 s after it took over", crash_again),
    "rs-cut": Scene("a route server is cut off silently; then only one knows the standby", rs_cut),
    "rs-restart": Scene("one of four route servers restarts, then all four at once", rs_restart),
    "split": Scene("the nodes do not hear each other for 60 s", split),
    "return": Scene(f"{MASTER} returns from a crash, then from SIGKILL", back),
    "delete": Scene(f"somebody deletes the floating IP on {MASTER}", delete),
    "reload": Scene("both nodes reload another configuration", reload),
    "upgrade": Scene("floatip is restarted on both nodes, one after the other", upgrade),
    "handover": Scene(f"floatip handover on {MASTER}, too early and then in time", handover),
    "refused": Scene("nobody is ready: handover and drain are refused", refused),
    "drain": Scene(f"{MASTER} is drained, restarted, undrained, and takes over again", drain),
    "drain-both": Scene("both nodes are drained: the last one refuses, unless forced", drain_both),
    "deaf": Scene(f"{MASTER} does not hear {STANDBY} for 10 s", partial(one_way, deaf=MASTER)),
    "unheard": Scene(f"{STANDBY} does not hear {MASTER} for 10 s", partial(one_way, deaf=STANDBY)),
    "lossy": Scene("for a minute 40 % of what the nodes tell each other is lost", lossy),
    "crash-two": Scene("three nodes: the master crashes, and its successor as it takes over", crash_two, three=True),
    "etcd-leader-dies": WithEtcd("the member that leads etcd crashes", etcd_scenes.leader_dies),
    "etcd-gone": WithEtcd("all members of etcd are gone for a minute", etcd_scenes.gone),
    "etcd-cut": WithEtcd(f"{MASTER} does not reach etcd for 20 s", etcd_scenes.cut_off),
    "etcd-cut-exclusive": WithEtcd(
        f"an exclusive address: {MASTER} does not reach etcd for 20 s", etcd_scenes.cut_off_exclusive, exclusive=True
    ),
    "carrier-and-etcd-leader-die": WithEtcd(
        f"{MASTER} and the member that leads etcd crash at once", etcd_scenes.crash_with_leader
    ),
    "node-joins": Members("a third node registers itself at etcd", etcd_scenes.joins, last_joins=True),
    "node-leaves": Members("the node that carries it leaves the fleet", etcd_scenes.leaves),
    "rebalance": Members(
        "a node has joined: floatip rebalance evens out who carries what",
        etcd_scenes.rebalance,
        last_joins=True,
        instances=3,
    ),
    "connections-handover": WithConnections(
        f"connections are open: floatip handover on {MASTER}", second_chance_scenes.handover
    ),
    "connections-strict": WithConnections(
        "the same, and the router drops packets that come from a node it has no route to",
        second_chance_scenes.handover,
        strict=True,
    ),
    "connections-drain": WithConnections(f"connections are open: {MASTER} is drained", second_chance_scenes.drain),
    "connections-stop": WithConnections(
        f"connections are open: the daemon on {MASTER} is stopped (SIGTERM)", second_chance_scenes.stop
    ),
    "beside-check": Beside("keepalived elects: its check fails", check),
    "beside-stop": Beside("keepalived elects: it is stopped and started", stop),
    "beside-kill": Beside("keepalived elects: it is killed, then started", kill),
    "beside-hang": Beside("keepalived elects: it is suspended for 12 s", hang),
    "beside-again": Beside("keepalived elects: floatip is killed and started at once", restart),
    "vlan-check": InVlan(f"in a VLAN: {MASTER}'s check fails", check),
    "vlan-stop": InVlan(f"in a VLAN: the daemon on {MASTER} is stopped", stop),
    "vlan-kill": InVlan(f"in a VLAN: the daemon on {MASTER} is killed", kill),
    "vlan-again": InVlan("in a VLAN: floatip is killed and started at once", again),
    "vlan-hang": InVlan(f"in a VLAN: the daemon on {MASTER} is suspended for 12 s", hang),
    "vlan-crash": InVlan(f"in a VLAN: {MASTER} crashes silently", partial(crash, age=6.0)),
    "vlan-split": InVlan("in a VLAN: the nodes do not hear each other for 10 s", split),
    "vlan-return": InVlan(f"in a VLAN: {MASTER} returns from a crash, then from SIGKILL", back),
    "vlan-delete": InVlan("in a VLAN: somebody deletes the floating IP", delete),
}
SCENES |= {
    f"vrrp-{name}": replace(SCENES[name], about=f"by VRRP: {SCENES[name].about}", election="vrrp") for name in BY_VRRP
}
