"""Who is master, and at which rank."""

from tests.sim.mutants import Mutant

ELECTOR, ROUTER = "core/election/elector.py", "core/election/router.py"
DECISION, FOLLOWER = "core/decision.py", "core/election/follower.py"
OF_ROUTER, OF_NODE = "core/test_router.py::test_", "core/test_node.py::test_"
OF_STATUS, OF_FOLLOWER = "core/test_status.py::test_", "core/test_follower.py::test_"

MUTANTS = (
    # ELECTOR
    Mutant("the skew time is forgotten", ELECTOR, "return (256 - priority) / 256 *", "return 0 *"),
    Mutant(
        "master-down is twice as long",
        ELECTOR,
        "return self.down_timer_adverts *",
        "return 2 * self.down_timer_adverts *",
    ),
    # ROUTER
    Mutant(
        "a backup ignores adverts",
        ROUTER,
        "return self._receive_as_backup(",
        "return [] and self._receive_as_backup(",
    ),
    Mutant(
        "a planned stop says nothing", ROUTER, "self._advertise(0, now) if self.role is Role.MASTER", "[] if self.role"
    ),
    Mutant("a master never yields", ROUTER, "if advert.priority and (advert.priority, int(source)) >", "if () >"),
    Mutant("equal priorities are no tie", ROUTER, "(self.priority, int(config.source)):", "(self.priority, 2**32):"),
    Mutant("preempt = false is forgotten", ROUTER, "if not self.config.preempt or", "if False or"),
    Mutant("any lower advert arms the skew", ROUTER, "if source == self.master:", "if True:"),
    Mutant("a late master believes itself", ROUTER, "if late <= self.master_down_interval:", "if True:"),
    Mutant("a cut-off master stays", ROUTER, "yields = obstacles.barred or", "yields = '' or"),
    Mutant("a damped node preempts", ROUTER, "preempt or self._damped:", "preempt or False:"),
    Mutant("lost adverts make takeovers without end", ROUTER, "if len(gave_back) < MISTAKES", "if True"),
    Mutant(
        "nobody answers a question",
        ROUTER,
        "return [*self._advertise(self.priority, now), *given_way",
        "return [*given_way",
    ),
    Mutant("whose link was down does not listen", ROUTER, "self._linked_at + LISTEN_AFTER_LINK_FAULT + spread", "0"),
    # DECISION
    Mutant("no takeover rank", DECISION, "if now < self._settled_at:", "if False:"),
    Mutant("one takeover rung", DECISION, "if self._is_again:", "if False:"),
    Mutant("takeover never settles", DECISION, "if now < self._settled_at:", "if self._settled_at:"),
    Mutant("no damping", DECISION, "DAMPED if now < self.damped_until else", "DAMPED if False else"),
    Mutant("sick is as good as healthy", DECISION, "if facts.health is not Health.UP:", "if False:"),
    Mutant("last-resort is forgotten", DECISION, "facts.health is Health.DOWN and self.last_resort", "False"),
    Mutant(
        "a damped master stays at standby",
        DECISION,
        "if self._held_back or facts.role is not Role.MASTER:",
        "if True:",
    ),
    # FOLLOWER
    Mutant(
        "what a dead keepalived said lives on",
        FOLLOWER,
        'self.word, self._claims, self._began_at = "", False, None',
        "pass",
    ),
    Mutant("a dead keepalived is as good as one that runs", FOLLOWER, "if self._lost:", "if False:"),
    Mutant("old words are believed", FOLLOWER, 'if is_old and (state == "MASTER")', 'if False and (state == "MASTER")'),
    Mutant("FAULT is ignored", FOLLOWER, 'Role.FAULT if self.word == "FAULT" and', "Role.FAULT if False and"),
    Mutant("FAULT ends with keepalived", FOLLOWER, "if self._ended_in_fault and", "if False and"),
    Mutant(
        "a mastership goes on unheard of",
        FOLLOWER,
        "self.reign_at = max(self.reign_at, at)",
        "self.reign_at = self.reign_at",
        f"{OF_FOLLOWER}a_mastership_that_ended_while_nobody_listened_begins_anew",
    ),
    Mutant("FAULT is believed for ever", FOLLOWER, 'case "BACKUP" | "FAULT", True if', 'case "BACKUP", True if'),
    Mutant("no patience with an address", FOLLOWER, "False if now < self._differ_since + PATIENCE:", "False if False:"),
    Mutant(
        "MASTER is believed without the address",
        FOLLOWER,
        'return False, f"keepalived says MASTER',
        'return True, f"keepalived says MASTER',
    ),
    Mutant(
        "BACKUP is believed whatever the kernel has",
        FOLLOWER,
        "True if now >= self._differ_since",
        "True if now >= math.inf",
    ),
    Mutant("no contest", FOLLOWER, "if self._contested(now):", "if False:"),
    Mutant("two rivals are none", FOLLOWER, "if was_silent or self._rival", "if source != self.master or self._rival"),
    Mutant("one advert is a contest", FOLLOWER, "<= CONTESTED_AFTER * self._master_interval", "< 0"),
    Mutant("a contest never ends", FOLLOWER, "quiet_at = self._heard_at + ", "quiet_at = math.inf + "),
    Mutant("an address is enough to be master at once", FOLLOWER, 'if claims and self.word != "MASTER":', "if False:"),
    Mutant("no listening after being cut off", FOLLOWER, "if self._barred and not obstacles.barred:", "if False:"),
    Mutant(
        "whoever listens does not hear",
        FOLLOWER,
        "if now < self._listen_until:\n            self._l",
        "if False:\n            self._l",
    ),
    Mutant("a cut-off follower stays master", FOLLOWER, "if self._barred:", "if False:"),
    Mutant(
        "masters that were heard are not counted",
        FOLLOWER,
        "if (was_silent or source != self.master) and",
        "if False and",
    ),
    # Faults that were found later
    Mutant(
        "a damped master keeps its mastership",
        ROUTER,
        "in self._yielded_to else damped)",
        'in self._yielded_to else "")',
        f"{OF_ROUTER}a_master_that_is_damped_hands_over_once",
    ),
    Mutant(
        "another figure is another election",
        ROUTER,
        "and _identity(config) == _identity(self.config)",
        "and config == self.config",
        f"{OF_NODE}another_figure_is_the_same_election",
    ),
    Mutant(
        "adverts that were made before a reload go on",
        ROUTER,
        "        self._adverts: dict[int, dict[Address, SendAdvert]] = {}\n",
        '        self._adverts = getattr(self, "_adverts", {})\n',
        f"{OF_NODE}another_figure_is_the_same_election",
    ),
    Mutant(
        "an advert that names other addresses is dropped",
        ROUTER,
        '            self.dropped.count(f"accepted although they name other addresses, from {source}", now)\n',
        "            return effects\n",
        f"{OF_ROUTER}other_addresses_are_counted_and_the_advert_is_heard",
    ),
    Mutant(
        "a lower advert of our own master arms no skew",
        ROUTER,
        "if source == self.master:",
        "if False:",
        f"{OF_ROUTER}what_a_backup_does_with_an_advert",
    ),
    Mutant(
        "a master that yields says nothing to the winner",
        ROUTER,
        "[source]) if self.address_moves else []",
        "[source]) if False else []",
        f"{OF_NODE}a_master_that_loses_to_a_better_advert_keeps_rank_and_address_for_200_ms",
    ),
    Mutant(
        "how long a node may be cut off follows the master's adverts",
        ELECTOR,
        "return self._down_after(self.config.advert_interval)",
        "return self._down_after(self._master_interval)",
        f"{OF_NODE}a_slow_master_does_not_change_when_a_node_is_cut_off",
    ),
    Mutant(
        "a fault of a backup counts the reign of its master again",
        ROUTER,
        "if not {role, self.role} <= {Role.BACKUP, Role.FAULT}:",
        "if True:",
        f"{OF_NODE}a_master_that_goes_on_through_a_fault_of_ours_is_counted_once",
    ),
    Mutant(
        "an instance that takes no part is no problem",
        ROUTER,
        "if self.role is Role.FAULT and around.link_fault:",
        "if False:",
        "core/test_truth.py::test_a_fault_is_always_a_problem",
    ),
    Mutant(
        "a second master is no problem",
        ROUTER,
        "        if self.second_master(now):\n            hint",
        "        if False:\n            hint",
        f"{OF_STATUS}another_master_that_does_not_yield_is_a_problem_and_news",
    ),
    Mutant(
        "a master that hears nobody says nothing of it",
        ROUTER,
        "if self._is_alone and self.role is Role.MASTER and",
        "if False and",
        "core/test_truth.py::test_a_master_says_what_it_hears_of_the_other_node",
    ),
)
