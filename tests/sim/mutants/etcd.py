"""What a node with etcd as arbiter may hold, and when it may take it from another."""

from tests.sim.mutants import Mutant

ARBITER, NODES, FLEET = "core/arbiter.py", "core/election/nodes.py", "core/fleet.py"
STORY = "sim/test_stories_etcd.py::test_"
OF_ARBITER = "core/test_arbiter.py::test_"
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
        f"{OF_ARBITER}the_clock_of_what_is_exclusive_starts_when_the_question_was_sent",
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
        f"{OF_ARBITER}a_claim_that_another_node_forestalled_is_lost",
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
    Mutant(
        "what the watch brings confirms what is exclusive",
        ARBITER,
        "        effects = self._take_all(event.rows, now)\n",
        "        effects, self.confirmed_at = self._take_all(event.rows, now), now\n",
        f"{OF_ARBITER}the_watch_confirms_nothing",
    ),
    Mutant(
        "a claim without an answer counts as won",
        ARBITER,
        "            self._not_before[asked.name] = now + RETRY\n",
        "            return self._wrote(asked, TxnDone(True, self.revision + 1), now)\n",
        f"{OF_ARBITER}no_answer_to_many_bids_means_that_each_may_be_won",
    ),
    Mutant(
        "who has let go comes back under that epoch",
        ARBITER,
        "not row.released and row.epoch > self._spent.get(name, 0))",
        "not row.released)",
        f"{OF_ARBITER}who_has_let_go_never_comes_back_under_that_epoch",
    ),
    Mutant(
        "the word of an owner that had not waited itself spares the wait",
        ARBITER,
        "if before and before.held and now >= self._distrusts_until:",
        "if before and now >= self._distrusts_until:",
        f"{OF_ARBITER}an_owner_that_had_not_waited_cannot_free_it_over_the_link",
    ),
    Mutant(
        "a store that was restored is trusted at once",
        ARBITER,
        "self._distrusts_until = now + self.config.lease_time",
        "self._distrusts_until = now",
        f"{OF_ARBITER}after_a_gap_a_proof_that_may_be_old_counts_for_nothing",
    ),
    Mutant(
        "an owner says that it is free while its kernel may still have it",
        "core/node.py",
        "elif elector.role is not Role.MASTER and instance.is_free(self.holding, now):",
        "elif elector.role is not Role.MASTER:",
        "core/test_exclusive_release.py::test_no_owner_is_free_of_it_before_its_kernel_is",
    ),
)
