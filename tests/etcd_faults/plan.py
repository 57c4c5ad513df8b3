"""The faults of one run, as its seed draws them."""

import random
from dataclasses import dataclass

WINDOW = 12.0
"""Seconds in which faults begin."""
LONGEST = 8.0
NODES, MEMBERS = (1, 2, 3), (1, 2, 3)


@dataclass(frozen=True, slots=True)
class Fault:
    kind: str
    at: float
    """Seconds after the first instance was carried."""
    lasts: float
    where: tuple[int, ...]
    """Numbers of nodes or members, as the kind has it."""
    amount: float = 0.0

    def __str__(self) -> str:
        where = "-".join(map(str, self.where))
        amount = f" by {self.amount:+.1f} s" if self.kind == "clock" else ""
        return f"{self.at:5.1f} s: {self.kind} {where}{amount} for {self.lasts:.1f} s"


KINDS = {
    "kill": 3,
    "stop": 4,
    "member-kill": 2,
    "member-stop": 2,
    "member-slow": 2,
    "leader-stop": 2,
    "cut-node-etcd": 3,
    "cut-node-member": 2,
    "cut-nodes": 2,
    "cut-members": 2,
    "isolate": 2,
    "clock": 2,
    "disk": 1,
    "holder-stop": 4,
    "holder-kill": 2,
    "holder-cut": 3,
}
"""How often each is drawn. "holder": the node that has the first exclusive address then, which the seed cannot know."""
OF_A_NODE = frozenset({"kill", "stop", "cut-node-etcd", "isolate", "clock"})
OF_A_MEMBER = frozenset({"member-kill", "member-stop", "member-slow", "disk"})
PAIRS = frozenset({"cut-node-member", "cut-nodes", "cut-members"})


def draw(seed: int) -> list[Fault]:
    """In the order in which they begin. They may overlap, and a majority of etcd may be gone."""
    chance = random.Random(seed)
    faults = list[Fault]()
    for _ in range(chance.randint(3, 7)):
        (kind,) = chance.choices(list(KINDS), list(KINDS.values()))
        at = round(chance.uniform(0, WINDOW), 1)
        # Around the times of the lease, and around those of the link.
        lasts = round(chance.choice((chance.uniform(0.05, 0.6), chance.uniform(0.5, 3), chance.uniform(2, LONGEST))), 2)
        where: tuple[int, ...] = ()
        if kind in OF_A_NODE:
            where = (chance.choice(NODES),)
        elif kind in OF_A_MEMBER:
            where = (chance.choice(MEMBERS),)
        elif kind == "cut-node-member":
            where = (chance.choice(NODES), chance.choice(MEMBERS))
        elif kind in PAIRS:
            where = tuple(sorted(chance.sample(NODES, 2)))
        if kind == "disk" and any(fault.kind == "disk" for fault in faults):
            continue
        amount = chance.choice((-3600.0, -5.0, -0.3, 0.3, 4.0, 86400.0)) if kind == "clock" else 0.0
        faults.append(Fault(kind, at, lasts, where, amount))
    return sorted(faults, key=lambda fault: fault.at)
