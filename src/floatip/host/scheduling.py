"""How the kernel schedules the loop. The unit sets it (debian/floatip.service): here it is only looked at."""

import os

from floatip.core.state import SchedulingView

POLICIES = {os.SCHED_OTHER: "other", os.SCHED_BATCH: "batch", os.SCHED_IDLE: "idle", os.SCHED_FIFO: "fifo"}
POLICIES[os.SCHED_RR] = "rr"


def scheduling() -> SchedulingView:
    """Of the thread that calls."""
    policy = os.sched_getscheduler(0)
    reset = bool(policy & os.SCHED_RESET_ON_FORK)
    policy &= ~os.SCHED_RESET_ON_FORK
    return SchedulingView(POLICIES.get(policy, str(policy)), os.sched_getparam(0).sched_priority, reset)
