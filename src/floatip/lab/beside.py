"""The scenes beside keepalived: it elects on both nodes and puts the address on eth0, floatip follows it.

In all of them nothing may be lost: whatever becomes of either program, both nodes hold the address on `lo`, and the
standby's route is there.
"""

import signal
import time

from floatip.lab.findings import Finding, allowance, moved_to, never_moves, nothing_lost, role
from floatip.lab.net import ROUTER
from floatip.lab.scenes import MASTER, STANDBY, Plot, Scene, wait_for_role
from floatip.lab.stage import Record, Stage
from floatip.lab.summary import Summary


def check(stage: Stage) -> Plot:
    at = stage.mark("touch the trigger file on haproxy1: keepalived's check fails twice")
    stage.triggers[MASTER].touch()
    wait_for_role(stage, MASTER, "fault")
    wait_for_role(stage, STANDBY, "master")
    time.sleep(1)
    stage.mark("remove the trigger file: haproxy1 is well again")
    stage.triggers[MASTER].unlink()
    wait_for_role(stage, MASTER, "backup")
    time.sleep(1)

    def judge(record: Record, seen: Summary) -> list[Finding]:
        fault = record.first(MASTER, "role", "fault", at)
        moved = moved_to(record, seen, STANDBY, fault.at if fault else at, "keepalived's verdict")
        return [*nothing_lost(seen), moved, role(record, MASTER, "backup"), role(record, STANDBY, "master")]

    return Plot(at, judge)


def stop(stage: Stage) -> Plot:
    at = stage.mark("SIGTERM to keepalived on haproxy1")
    stage.electors[MASTER].stop()
    stage.electors[MASTER].wait()
    wait_for_role(stage, STANDBY, "master")
    time.sleep(1)
    stage.mark("keepalived on haproxy1 is started again")
    stage.electors[MASTER].start()
    time.sleep(6)

    def judge(record: Record, seen: Summary) -> list[Finding]:
        master = record.first(STANDBY, "role", "master", at)
        moved = moved_to(record, seen, STANDBY, master.at if master else at, "the takeover")
        return [*nothing_lost(seen), moved, role(record, MASTER, "backup"), role(record, STANDBY, "master")]

    return Plot(at, judge)


def kill(stage: Stage) -> Plot:
    at = stage.mark("SIGKILL to both processes of keepalived on haproxy1: its address stays on eth0")
    stage.electors[MASTER].send(signal.SIGKILL)
    stage.electors[MASTER].wait()
    wait_for_role(stage, STANDBY, "master")
    stage.mark("keepalived on haproxy1 is started again")
    stage.electors[MASTER].start()
    stage.wait_for(lambda: stage.nodes[MASTER].status()["keepalived"]["runs"], "floatip to follow keepalived again")
    time.sleep(5)
    believed = stage.nodes[MASTER].status()["keepalived"]["runs"]

    def judge(record: Record, seen: Summary) -> list[Finding]:
        gone = record.first(MASTER, "role", "backup", at)
        after = (gone.at - at) * 1000 if gone else float("inf")
        held_up = record.held_up(at, gone.at) if gone else 0.0
        noticed = Finding(
            after < 100 + held_up * 1000, f"noticed after {after:.1f} ms (100 allowed{allowance(held_up)})"
        )
        return [
            *nothing_lost(seen),
            noticed,
            Finding(believed, "floatip follows keepalived again" if believed else "floatip does not follow it again"),
            role(record, MASTER, "backup"),
            role(record, STANDBY, "master"),
        ]

    return Plot(at, judge)


def hang(stage: Stage) -> Plot:
    at = stage.mark("SIGSTOP to both processes of keepalived on haproxy1: they hang, the address stays on eth0")
    stage.electors[MASTER].send(signal.SIGSTOP)
    wait_for_role(stage, STANDBY, "master")
    taken = stage.mark("haproxy2 is master")
    wait_for_role(stage, MASTER, "backup")
    stage.mark("floatip on haproxy1 does not believe its keepalived any more")
    time.sleep(3)
    woken = stage.mark("SIGCONT: they wake up")
    stage.electors[MASTER].send(signal.SIGCONT)
    time.sleep(8)

    def judge(record: Record, seen: Summary) -> list[Finding]:
        moved = moved_to(record, seen, STANDBY, taken, "the takeover")
        still = never_moves(record, woken, "the awakening")
        return [*nothing_lost(seen), moved, still, role(record, MASTER, "backup"), role(record, STANDBY, "master")]

    return Plot(at, judge)


def again(stage: Stage) -> Plot:
    at = stage.mark("SIGKILL to floatip on haproxy1, and a new one at once")
    stage.nodes[MASTER].kill()
    stage.start_node(MASTER)
    # Before its return can be told: the route servers may be slower than the new daemon.
    stage.wait_for(lambda: any(move.at > at for move in stage.record.moves[ROUTER]), "the traffic to leave haproxy1")
    stage.wait_for(lambda: stage.record.first(MASTER, "role", "master", at) is not None, "haproxy1 to be master again")
    back = stage.wait_for(lambda: stage.record.pointed_at(ROUTER, time.monotonic()) == MASTER, "the traffic to return")
    time.sleep(2)

    def judge(record: Record, seen: Summary) -> list[Finding]:
        returned = moved_to(record, seen, MASTER, back, "its return")
        return [*nothing_lost(seen), returned, role(record, MASTER, "master"), role(record, STANDBY, "backup")]

    return Plot(at, judge)


SCENES = {
    "beside-check": Scene("the guide's own test where keepalived elects and floatip follows", check, True),
    "beside-stop": Scene("the same, and keepalived on haproxy1 is stopped and started", stop, True),
    "beside-kill": Scene("the same, and keepalived on haproxy1 is killed (SIGKILL), then started", kill, True),
    "beside-hang": Scene("the same, and keepalived on haproxy1 hangs (SIGSTOP), then wakes up", hang, True),
    "beside-again": Scene("the same, and floatip on haproxy1 is killed and started at once", again, True),
}
