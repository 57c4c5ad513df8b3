"""Planted bugs in what people see of the second chance."""

from tests.sim.mutants import Mutant

DEPARTURE, MOVES, NODE, PROBLEMS = (
    "core/departure.py",
    "core/second_chance/moves.py",
    "core/node.py",
    "core/second_chance_problems.py",
)
STORIES = "sim/test_stories_chanced_status.py::test_"
MUTANTS = (
    Mutant(
        "a drain is over while connections go on here",
        DEPARTURE,
        "        if keeps:\n            return []\n",
        "",
        f"{STORIES}a_drain_is_over_when_the_last_connection_has_ended",
    ),
    Mutant(
        "a drain that is taken back is over when all has gone",
        DEPARTURE,
        "        if not is_meant:\n            self.give_up()\n            return []\n",
        "",
        f"{STORIES}a_drain_that_is_taken_back_is_not_over",
    ),
    Mutant(
        "a drain that is repeated is over again",
        NODE,
        "                if order and not fleet.drained:\n",
        "                if order:\n",
        f"{STORIES}a_drain_is_over_when_the_last_connection_has_ended",
    ),
    Mutant(
        "what a move back leaves is counted as reset",
        MOVES,
        "        self.cut += over.reset\n",
        "        self.cut += over.connections\n",
        f"{STORIES}a_move_back_resets_nothing_and_says_so",
    ),
    Mutant(
        "a process that is killed ends the wait of a stop",
        MOVES,
        "            self._kept_until = now + SUCCEEDED_WITHIN\n",
        "            pass\n",
        f"{STORIES}a_process_that_is_killed_and_started_again_does_not_end_a_stop",
    ),
    Mutant(
        "with mode auto a tunnel that does not work is a warning",
        PROBLEMS,
        "    if not moves.config.is_wanted or now < started_at + SETTLE:\n",
        "    if now < started_at + SETTLE:\n",
        f"{STORIES}with_mode_auto_nothing_is_a_problem",
    ),
    Mutant(
        "right after the start a node that cannot take part is a warning",
        PROBLEMS,
        "    if not moves.config.is_wanted or now < started_at + SETTLE:\n",
        "    if not moves.config.is_wanted:\n",
        f"{STORIES}a_node_that_cannot_take_part_is_a_warning_but_not_right_after_the_start",
    ),
)
