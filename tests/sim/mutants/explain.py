"""What is foretold, and why a node carries an instance."""

from tests.sim.mutants import Mutant

PLAY, VIRTUAL = "core/nodes_play.py", "core/virtual_router_play.py"
FLEETS = "core/test_nodes_play.py::test_"
WORLD = "sim/test_foresight.py::test_what_is_foretold_of_"
ASKED = "host/test_explain.py::test_"

MUTANTS = (
    Mutant(
        "what is together with what moves stays where it is",
        "core/fleet.py",
        'if words := {_together(elected[name]) for name in names} - {""}:',
        "if words := set[str]():",
        f"{FLEETS}instances_that_are_together_move_together_where_a_third_node_is_ready_for_both",
    ),
    Mutant(
        "a node that is gone is missed at once",
        PLAY,
        "return name == self.gone and self.is_noticed",
        "return name == self.gone",
        f"{WORLD}a_node_happens",
    ),
    Mutant(
        "in a play nobody waits for his turn",
        PLAY,
        "is_open = not self.play.is_carried(self.config.name)",
        "is_open = True",
        f"{FLEETS}each_node_foretells_where_all_instances_go",
    ),
    Mutant(
        "the standby's route is forgotten",
        PLAY,
        "if not carrier and (standby := self._standby()):",
        "if not carrier and (standby := ''):",
        f"{WORLD}a_node_happens",
    ),
    Mutant(
        "a silent backup is said to be there for certain",
        VIRTUAL,
        "return self._told(heirs[0], is_known, after, rule, why, unknown=unknown)",
        "return self._told(heirs[0], True, after, rule, why, unknown=unknown)",
        f"{WORLD}vrrp_happens_or_is_said_to_be_unknown",
    ),
    Mutant(
        "a bug in an explanation ends the daemon",
        "host/explain.py",
        "    except Exception as error:",
        "    except KeyError as error:",
        f"{ASKED}a_bug_in_an_explanation_is_an_answer_and_does_not_end_the_daemon",
    ),
)
