"""The scenes: what is done to the pair, and what must and must not be seen then.

Each scene begins with haproxy1 as master, both nodes announced, and an observer that sends an echo and a request
every few milliseconds. A scene acts on the stage, and returns what it expects as findings: each one sentence with
the figure, and whether it holds. Lost echoes alone prove nothing, because both nodes hold the address: who answered the
requests is part of every judgement.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from floatip.lab.findings import (
    Finding,
    agreement,
    allowance,
    announced,
    answered_only_by,
    last_role,
    lost_less_than,
    moved_to,
    never_moves,
    nothing_lost,
    role,
)
from floatip.lab.stage import Record, Stage
from floatip.lab.summary import KINDS, Summary

MASTER, STANDBY = "haproxy1", "haproxy2"
TAKEOVER_MARGIN = 0.1
"""Seconds that a takeover may take beyond the detection of a silent master."""


@dataclass(frozen=True, slots=True)
class Scene:
    about: str
    play: Callable[[Stage], "Plot"]
    beside_keepalived: bool = False
    """It elects; else floatip does."""


@dataclass(frozen=True, slots=True)
class Plot:
    """What was done when, for the judgement after the curtain."""

    fault_at: float
    judge: Callable[[Record, Summary], list[Finding]]


def check(stage: Stage) -> Plot:
    at = stage.mark("touch the trigger file on haproxy1: its check fails")
    stage.triggers[MASTER].touch()
    wait_for_role(stage, STANDBY, "master")
    time.sleep(1)
    stage.mark("remove the trigger file: haproxy1 is well again")
    stage.triggers[MASTER].unlink()
    wait_for_role(stage, MASTER, "backup")
    time.sleep(1)

    def judge(record: Record, seen: Summary) -> list[Finding]:
        verdict = record.first(MASTER, "check", "down", at)
        moved = moved_to(record, seen, STANDBY, verdict.at if verdict else at, "the verdict")
        return [*nothing_lost(seen), moved, role(record, MASTER, "backup"), role(record, STANDBY, "master")]

    return Plot(at, judge)


def stop(stage: Stage) -> Plot:
    at = stage.mark("SIGTERM to floatip on haproxy1")
    stage.nodes[MASTER].stop()
    status = stage.nodes[MASTER].wait()
    ended = stage.mark(f"floatip on haproxy1 has ended, exit status {status}")
    released = not stage.holds_address(MASTER)
    time.sleep(2)

    def judge(record: Record, seen: Summary) -> list[Finding]:
        return [
            *nothing_lost(seen),
            moved_to(record, seen, STANDBY, at, "SIGTERM"),
            role(record, STANDBY, "master"),
            Finding(status == 0, f"exit status {status} after {ended - at:.1f} s"),
            Finding(released, "the address is released" if released else "the address is still on haproxy1"),
        ]

    return Plot(at, judge)


def kill(stage: Stage) -> Plot:
    at = stage.mark("SIGKILL to floatip on haproxy1")
    stage.nodes[MASTER].kill()
    wait_for_role(stage, STANDBY, "master")
    time.sleep(1)

    def judge(record: Record, seen: Summary) -> list[Finding]:
        moved = moved_to(record, seen, STANDBY, at, "SIGKILL")
        return [*nothing_lost(seen), moved, role(record, STANDBY, "master")]

    return Plot(at, judge)


def hang(stage: Stage) -> Plot:
    at = stage.mark("SIGSTOP to floatip on haproxy1: it hangs, the address and the service are still there")
    stage.nodes[MASTER].pause()
    wait_for_role(stage, STANDBY, "master")
    taken = stage.mark("haproxy2 is master")
    time.sleep(max(0.0, 12 - (taken - at)))
    woken = stage.mark("SIGCONT: it wakes up")
    stage.nodes[MASTER].resume()
    wait_for_role(stage, MASTER, "backup")
    time.sleep(8)

    def judge(record: Record, seen: Summary) -> list[Finding]:
        return [
            *nothing_lost(seen),
            moved_to(record, seen, STANDBY, taken, "the takeover"),
            never_moves(record, woken, "the awakening"),
            role(record, MASTER, "backup"),
            role(record, STANDBY, "master"),
        ]

    return Plot(at, judge)


def crash(stage: Stage) -> Plot:
    return _crash(stage, 6.0)


def crash_settled(stage: Stage) -> Plot:
    return _crash(stage, 40.0)


def _crash(stage: Stage, age: float) -> Plot:
    """`age`: seconds from the start of haproxy1's daemon, so that it is at takeover, or has settled."""
    started = next(h.at for h in stage.record.happenings if h.host == "scene")
    time.sleep(max(0.0, started + age - time.monotonic()))
    at = stage.mark(f"haproxy1 crashes {age:g} s after its start: its packets vanish, its link stays up")
    silent = cut(stage, MASTER)
    wait_for_role(stage, STANDBY, "master")
    time.sleep(3)

    def judge(record: Record, seen: Summary) -> list[Finding]:
        bound = record.options.master_down_interval + TAKEOVER_MARGIN
        return [
            *lost_less_than(record, seen, bound, 1),
            moved_to(record, seen, STANDBY, silent, "the crash"),
            role(record, STANDBY, "master"),
        ]

    return Plot(at, judge)


def crash_again(stage: Stage) -> Plot:
    time.sleep(2)
    at = stage.mark("haproxy1 crashes")
    silent = cut(stage, MASTER)
    wait_for_role(stage, STANDBY, "master")
    taken = time.monotonic()
    time.sleep(1)
    stage.mark("haproxy1 is back")
    stage.network.heal(MASTER)
    wait_for_role(stage, MASTER, "backup")
    time.sleep(max(0.0, taken + 5 - time.monotonic()))
    again = stage.mark("haproxy2 crashes, 5 s after it took over")
    silent_again = cut(stage, STANDBY)
    stage.wait_for(
        lambda: stage.record.first(MASTER, "role", "master", again) is not None, "haproxy1 to be master again"
    )
    time.sleep(3)

    def judge(record: Record, seen: Summary) -> list[Finding]:
        bound = record.options.master_down_interval + TAKEOVER_MARGIN
        return [
            *lost_less_than(record, seen, bound, 2),
            moved_to(record, seen, STANDBY, silent, "the first crash", until=again),
            moved_to(record, seen, MASTER, silent_again, "the second crash"),
            role(record, MASTER, "master"),
        ]

    return Plot(at, judge)


def rs_cut(stage: Stage) -> Plot:
    at = stage.mark("rs1 is silently cut off, for longer than the hold time")
    stage.network.cut("rs1")
    time.sleep(stage.options.hold_time + 3)
    stage.mark("rs1 is back")
    stage.network.heal("rs1")
    stage.wait_for(lambda: all(map(stage.connected, stage.nodes)), "both nodes to have all four sessions")
    time.sleep(1)
    stage.mark("haproxy2 loses rs2, rs3 and rs4: it is on one route server only")
    for server in ("rs2", "rs3", "rs4"):
        stage.network.cut_pair(STANDBY, server)
    time.sleep(stage.options.hold_time + 3)
    stopped = stage.mark("SIGTERM to floatip on haproxy1")
    stage.nodes[MASTER].stop()
    wait_for_role(stage, STANDBY, "master")
    time.sleep(2)

    def judge(record: Record, seen: Summary) -> list[Finding]:
        return [
            *nothing_lost(seen),
            answered_only_by(seen, MASTER, at, "the cut", until=stopped),
            moved_to(record, seen, STANDBY, stopped, "SIGTERM"),
            role(record, STANDBY, "master"),
        ]

    return Plot(at, judge)


def rs_restart(stage: Stage) -> Plot:
    at = stage.mark("rs1 is stopped, and started again 3 s later")
    stage.servers["rs1"].kill()
    time.sleep(3)
    stage.servers["rs1"].start()
    time.sleep(5)
    all_at = stage.mark("all four route servers are stopped")
    for server in stage.servers.values():
        server.kill()
    time.sleep(6)
    stage.mark("all four are started again")
    for server in stage.servers.values():
        server.start()
    listening_at = stage.wait_for(lambda: any(map(stage.listens, stage.servers)), "a route server to listen")
    stage.mark("the first of them listens")
    time.sleep(10)

    def judge(record: Record, seen: Summary) -> list[Finding]:
        before = Summary.from_probes(probe for probe in seen.probes if probe.at < all_at)
        back = min((p.at for p in seen.probes if p.ok and p.who and p.at > listening_at), default=float("inf"))
        after = [probe for probe in seen.probes if probe.at > back and not probe.ok]
        masters = [node for node in (MASTER, STANDBY) if last_role(record, node) == "master"]
        held_up = record.held_up(listening_at, back)
        return [
            *nothing_lost(before, "while one restarts"),
            answered_only_by(before, MASTER, at, "one restarts"),
            Finding(
                back - listening_at < 2.5 + held_up,
                f"back {back - listening_at:.2f} s after the first of four listens (< 2.5{allowance(held_up)})",
            ),
            Finding(not after, f"{len(after)} probes lost from then on"),
            Finding(len(masters) == 1, f"master in the end: {', '.join(masters) or 'nobody'}"),
        ]

    return Plot(at, judge)


def split(stage: Stage) -> Plot:
    at = stage.mark("the nodes do not hear each other's adverts for 60 s; both are healthy")
    stage.network.cut_vrrp()
    time.sleep(60)
    healed = stage.mark("they hear each other again")
    stage.network.heal_vrrp()
    time.sleep(6)

    def judge(record: Record, seen: Summary) -> list[Finding]:
        masters = [node for node in (MASTER, STANDBY) if last_role(record, node) == "master"]
        return [
            *nothing_lost(seen),
            *agreement(record, at),
            never_moves(record, healed, "the healing"),
            Finding(len(masters) == 1, f"one master in the end: {', '.join(masters)}"),
        ]

    return Plot(at, judge)


def back(stage: Stage) -> Plot:
    at = stage.mark("haproxy1 crashes: its packets vanish")
    stage.network.cut(MASTER)
    wait_for_role(stage, STANDBY, "master")
    time.sleep(11)
    healed = stage.mark("haproxy1 returns")
    stage.network.heal(MASTER)
    time.sleep(8)
    killed = stage.mark("SIGKILL to floatip on haproxy1, and a new start 3 s later")
    stage.nodes[MASTER].kill()
    time.sleep(3)
    stage.start_node(MASTER)
    stage.wait_for(lambda: stage.record.first(MASTER, "rank", "standby", killed) is not None, "haproxy1 to stand by")
    time.sleep(7)

    def judge(record: Record, seen: Summary) -> list[Finding]:
        since = Summary.from_probes(probe for probe in seen.probes if probe.at > healed)
        return [
            *nothing_lost(since, "from the return on"),
            answered_only_by(seen, STANDBY, healed, "the return"),
            never_moves(record, healed, "the return"),
            role(record, MASTER, "backup"),
            role(record, STANDBY, "master"),
            announced(stage, MASTER, killed),
        ]

    return Plot(at, judge)


def delete(stage: Stage) -> Plot:
    at = stage.mark("somebody deletes the floating IP on haproxy1")
    stage.delete_address(MASTER)
    time.sleep(3)

    def judge(record: Record, seen: Summary) -> list[Finding]:
        lost = {kind: seen.lost(kind) for kind in KINDS}
        roles = [h for h in record.happenings if h.what == "role" and h.at > at]
        held = record.first(MASTER, "address", "held", at)
        held_up = record.held_up(at, held.at) if held else 0.0
        # A late observer sends several at once, so beyond one it is the time from the first to the last that counts.
        most = 0.9 * record.options.probe_interval + held_up
        windows = [window for kind in KINDS for window in seen.windows(kind)]
        short = len(windows) <= len(KINDS) and all(w.last_lost_at - w.first_lost_at < most for w in windows)
        return [
            Finding(
                max(lost.values()) <= 1 or short,
                f"{lost['echo']} echoes and {lost['request']} requests lost (1 slot allowed{allowance(held_up)})",
            ),
            Finding(held is not None, f"put back after {(held.at - at) * 1000:.1f} ms" if held else "not put back"),
            Finding(not roles, f"{len(roles)} changes of role"),
            answered_only_by(seen, MASTER, at, "the deletion"),
        ]

    return Plot(at, judge)


SCENES = {
    "check": Scene("the guide's own test: the trigger file makes haproxy1's check fail", check),
    "stop": Scene("the daemon on haproxy1 is stopped (SIGTERM)", stop),
    "kill": Scene("the daemon on haproxy1 is killed (SIGKILL)", kill),
    "hang": Scene("the daemon on haproxy1 hangs for 12 s (SIGSTOP), then wakes up", hang),
    "crash": Scene("haproxy1 crashes silently 6 s after its start", crash),
    "crash-settled": Scene("haproxy1 crashes silently 40 s after its start", crash_settled),
    "crash-again": Scene("haproxy2 crashes 5 s after it took over from haproxy1, which is back", crash_again),
    "rs-cut": Scene("one route server is silently cut off; then the standby is on one only", rs_cut),
    "rs-restart": Scene("one of four route servers restarts, then all four at once", rs_restart),
    "split": Scene("the nodes do not hear each other for 60 s, then they do again", split),
    "return": Scene("haproxy1 returns from a crash, then from SIGKILL", back),
    "delete": Scene("somebody deletes the floating IP on haproxy1", delete),
}


def cut(stage: Stage, node: str) -> float:
    """When the node's packets vanish for certain: some reach it until the router has its rules."""
    stage.network.cut(node)
    return time.monotonic()


def wait_for_role(stage: Stage, node: str, role: str) -> None:
    stage.wait_for(lambda: stage.latest(node, "role") == role, f"{node} to be {role}")
