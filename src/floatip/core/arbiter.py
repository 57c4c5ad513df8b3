"""This node at etcd: its lease, what it knows of owners, its claims, and until when it may hold what is exclusive.

docs/decisions/0038-etcd.md says why. Rows are JSON objects; what is no row of ours is counted, shown and left alone.
"""

from dataclasses import dataclass

FORMAT = 1
FLEET, OWNERS, ALIVE, ASKS = "fleet", "owners/", "alive/", "asks/"
EPOCH_STEP = 2000
"""Milliseconds by which an epoch is greater than the one before it, at least: a step of the MED of settled masters."""
PATIENCE = 0.015
"""Seconds for which what is not exclusive waits for etcd's answer to a claim."""
MARGIN = 0.1
"""The share of `lease_time` by which an owner lets go before another may have it, for clocks that run unevenly."""
KERNEL_DELAY = 1.2
"""Seconds by which the kernel may remove an address later than its lifetime says.

It looks at lifetimes at most once a second; 0.98 s is the latest that its source allows, and a busy machine adds to it.
"""
HANDLING = 0.05
"""Seconds that the daemon has to hand a lifetime to the kernel. If it takes longer, the address gets a shorter one."""
SHORTEST_LEASE_TIME = 3.0
"""Seconds of `lease_time`. A lifetime is whole seconds, and one of less than a second holds nothing."""


def lifetime(left: float) -> int:
    """Seconds of `valid_lft` for an address that may be here for `left` seconds more; less than 1: it may not."""
    return int(left - KERNEL_DELAY - HANDLING)


@dataclass(frozen=True, slots=True)
class Owner:
    """A row of `owners/`."""

    node: str
    machine: str
    boot: str
    epoch: int
    """Milliseconds since the Unix epoch, and greater than every epoch before it."""
    released: bool
    revision: int
    why: str = ""
    """Why it took over, for people."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """What etcd says of one instance, as its elector learns it."""

    owner: Owner | None
    """None: nobody, or not known yet."""
    is_own: bool
    """Whether this daemon is the owner."""
    lives: bool
    """Whether the owner is another node that lives, as far as etcd and the link know."""
    answers: bool
    """Whether etcd answers."""
    free_at: float
    """Of an owner: when nobody else can have it any more (monotonic seconds); `-inf`: it is free."""
    until: float
    """Of an owner: until when it may hold what is exclusive."""
    claim: str
    """How this node's claim stands: "" (none), "asked", "lost", "unknown"."""
