"""What a node with etcd as arbiter may hold, and when it may take it from another."""

from tests.sim.mutants import Mutant

ARBITER, NODES, FLEET = "core/arbiter.py", "core/election/nodes.py", "core/fleet.py"
STORY = "sim/test_stories_etcd.py::test_"
STORM = "sim/test_storms_fleet.py::test_nothing_forbidden_is_seen_in_a_storm_of_nodes_with_etcd"

MUTANTS = (
    Mutant(
        "a node that takes it does not wait for the one before it",
        ARBITER,
        "self.free_at[name] = now + max(self._lease(before), self._lease(self.owners[name])) / 1000",
        "self.free_at[name] = -math.inf",
        f"{STORY}a_carrier_that_hangs_loses_the_exclusive_address_by_its_kernel_before_another_has_it",
    ),
    Mutant(
        "what is exclusive counts from the answer",
        ARBITER,
        "self.confirmed_at = max(self.confirmed_at, asked.sent_at)",
        "self.confirmed_at = max(self.confirmed_at, now)",
        STORM,
    ),
    Mutant(
        "the former owner counts as free without its word",
        FLEET,
        "return state.epoch == owner.epoch and bool(state.flags & InstanceFlag.FREE)",
        "return True",
        STORM,
    ),
    Mutant(
        "a claim does not compare",
        ARBITER,
        "txn = Txn((Compare(key, revision),), (Put(key, _as_text(new)),), (key,))",
        "txn = Txn((), (Put(key, _as_text(new)),), (key,))",
        STORM,
    ),
    Mutant(
        "a garbled row is compared as if there were none",
        ARBITER,
        "return self._refused_at.get(key, known.revision if known else 0)",
        "return known.revision if known else 0",
        f"{STORY}a_row_that_somebody_garbled_is_replaced_and_not_fought_over",
    ),
    Mutant(
        "an owner waits for its turn",
        NODES,
        "is_own = bool(self.ruling and self.ruling.is_own)  # then",
        "is_own = False  # then",
        STORM,
    ),
)
