"""Who lives, who carries, and who hands over, by what the nodes say over the link."""

from tests.sim.mutants import Mutant

LINK, DETECTOR, WIRE = "core/link/link.py", "core/link/detector.py", "core/link/wire.py"
REPORT, OF_REPORTS = "core/link/report.py", "core/test_reports.py::test_"
NODES, FLEET, NODE, INSTANCE = "core/election/nodes.py", "core/fleet.py", "core/node.py", "core/instance.py"
STORY = "sim/test_stories_linked.py::test_"

MUTANTS = (
    # LINK
    Mutant(
        "what was heard already is believed again",
        LINK,
        "if ahead <= -WINDOW or peer.seen >> -ahead & 1:",
        "if False:",
        f"{STORY}a_dead_node_does_not_live_again_by_what_it_once_said",
    ),
    Mutant(
        "an overtaken datagram is a sign of life",
        LINK,
        "if datagram.sequence < peer.last:",
        "if False:",
        f"{STORY}an_old_datagram_that_comes_late_is_no_sign_of_life",
    ),
    Mutant(
        "a datagram for another node is believed",
        LINK,
        "if datagram.receiver != self.identity:",
        "if False:",
        f"{STORY}a_datagram_to_another_node_is_not_believed",
    ),
    Mutant(
        "a former life is believed",
        LINK,
        "if datagram.boot in peer.old_boots:",
        "if False:",
        f"{STORY}a_dead_node_does_not_live_again_by_what_it_once_said",
    ),
    Mutant(
        "a new life need not prove that it speaks now",
        LINK,
        "if datagram.boot != peer.boot and datagram.your_boot != self.boot:",
        "if False:",
        f"{STORY}a_node_that_has_begun_anew_believes_nothing_that_was_said_to_its_predecessor",
    ),
    Mutant(
        "what was said before a silence counts after it",
        LINK,
        "if not peer.alive:  # what",
        "if False:  # what",
        f"{STORY}a_handover_waits_for_what_a_node_says_now_that_was_deaf_to",
    ),
    Mutant(
        "any key signs",
        WIRE,
        "if not any(hmac.compare_digest(tag, _tag(signed, key)) for key in keys):",
        "if False:",
        f"{STORY}what_is_replayed_or_forged_changes_nothing",
    ),
    Mutant(
        "a daemon that stops does not say so",
        LINK,
        "for peer in self.peers.values()]\n\n    def _say(",
        "for peer in ()]\n\n    def _say(",
        f"{STORY}a_backup_that_is_stopped_says_so",
    ),
    Mutant(
        "what nobody repeats lives on",
        LINK,
        "and peer.said[oldest][1] < limit:",
        "and peer.said[oldest][1] > now:",
        f"{STORY}a_state_that_nobody_repeats_any_more_is_forgotten",
    ),
    Mutant(
        "loss makes a state stale",
        LINK,
        "limit = now - STALE_AFTER * round_time(count, len(self.peers)) * peer.detector.slack",
        "limit = now - STALE_AFTER / 2",
        f"{STORY}a_loss_of_40_percent_for_a_minute_makes_no_role_flap_more_than_once",
    ),
    Mutant(
        "own lateness is the death of others",
        LINK,
        "if now > self._hello_at + self.config.interval / 4:",
        "if False:",
        f"{STORY}a_backup_that_was_frozen_takes_its_own_lateness_for_nobodys_death",
    ),
    Mutant(
        "a node that is heard again is not told who is master",
        LINK,
        "        return effects + self._say_all(peer, now)\n\n    def _taken_news",
        "        return effects\n\n    def _taken_news",
        f"{STORY}when_a_split_heals_one_master_is_left_after_the_next_hello",
    ),
    Mutant(
        "a deaf peer is gone",
        LINK,
        "        self._learn(peer, datagram, now)\n        if peer.alive:\n",
        "        self._learn(peer, datagram, now)\n"
        "        if peer.alive and not peer.hears_us(now):\n"
        '            return self._gone(peer, "deaf", now)\n'
        "        if peer.alive:\n",
        f"{STORY}loss_in_one_direction_costs_nothing_and_no_role_flaps_more_than_once",
    ),
    # DETECTOR
    Mutant(
        "loss makes nobody patient",
        DETECTOR,
        "        if not lost:\n            return INTERVALS",
        "        if True:\n            return INTERVALS",
        f"{STORY}a_loss_of_40_percent_for_a_minute_makes_no_role_flap_more_than_once",
    ),
    Mutant(
        "a silent node is waited for twice as long",
        DETECTOR,
        "INTERVALS, MOST_INTERVALS = 3, 20",
        "INTERVALS, MOST_INTERVALS = 6, 20",
        f"{STORY}a_silent_crash_is_taken_over_within_the_detection",
    ),
    # NODES
    Mutant(
        "of two masters the earlier one stays",
        NODES,
        "if (not claim.leaves, *_order(claim)) > own]",
        "if (not claim.leaves, *_order(claim)) < own]",
        f"{STORY}a_split_for_a_minute_and_its_healing_cost_nothing",
    ),
    Mutant(
        "a master yields before the later one is acknowledged",
        NODES,
        "if best.acknowledged or (",
        "if True or (",
    ),
    Mutant(
        "a master never yields to one that is not acknowledged",
        NODES,
        "(best.ready and now >= self._better_since + YIELD_AFTER)",
        "False",
        f"{STORY}a_node_takes_over_though_a_route_server_is_silent",
    ),
    Mutant(
        "sticky is ignored",
        NODES,
        "(self.config.preempt and around.is_best)",
        "(around.preference == 0)",
        f"{STORY}a_node_that_comes_back_takes_nothing_from_the_master",
    ),
    Mutant(
        "a drained node takes over",
        NODES,
        "self._obstacles.barred or self._obstacles.leaving or self._obstacles.paused",
        "self._obstacles.barred or self._obstacles.paused",
        f"{STORY}a_drained_node_takes_nothing_over_and_still_serves_when_nobody_else_does",
    ),
    Mutant(
        "a pause is ignored",
        NODES,
        "self._obstacles.barred or self._obstacles.leaving or self._obstacles.paused",
        "self._obstacles.barred or self._obstacles.leaving",
        f"{STORY}while_the_election_is_paused_no_role_changes_and_health_still_counts",
    ),
    Mutant(
        "all take over at once",
        NODES,
        "return step * around.place\n",
        "return 0.0\n",
        f"{STORY}at_a_cold_start_one_node_becomes_master_and_no_other_ever_was",
    ),
    Mutant(
        "the successor is ignored",
        NODES,
        'successors = {claim.successor for claim in around.claims} - {""}',
        "successors = set[str]()",
        f"{STORY}a_handover_goes_to_the_node_that_is_named",
    ),
    Mutant(
        "a third node preempts the successor",
        NODES,
        "if len(staying) == len(around.claims):",
        "if staying:",
        f"{STORY}a_third_node_that_is_preferred_to_the_successor_leaves_it_alone",
    ),
    Mutant(
        "who was cut off does not listen",
        NODES,
        "if self._obstacles.barred and not obstacles.barred:",
        "if False:",
        f"{STORY}a_node_that_was_cut_off_listens_before_it_takes_over",
    ),
    Mutant(
        "the preferred master yields and takes back",
        NODES,
        "if may_renew and is_time and self._may_preempt(around):",
        "if False:",
        f"{STORY}in_a_split_the_preferred_master_stays_it",
    ),
    Mutant(
        "a successor that died leaves a stronger route behind",
        NODES,
        "if before >= self.reign and before and not has_rival and not later:",
        "if False:",
        f"{STORY}a_new_master_that_crashes_before_the_old_one_has_yielded_leaves_nothing_stronger_behind",
    ),
    Mutant(
        "a mastership that is renewed has the old rank",
        INSTANCE,
        "if is_master and not (self._was_master and self._reign == self.elector.reign):",
        "if is_master and not self._was_master:",
        f"{STORY}a_new_master_that_crashes_before_the_old_one_has_yielded_leaves_nothing_stronger_behind",
    ),
    # FLEET and NODE
    Mutant(
        "what was handed over is taken back",
        FLEET,
        "if any(claim.node == self._given.get(name) for claim in claims):",
        "if False:",
        f"{STORY}what_was_handed_over_is_not_taken_back_until_that_node_is_gone",
    ),
    Mutant(
        "a drain ends with the daemon",
        FLEET,
        "        self.drained, self.paused = drained, paused\n",
        "        self.drained, self.paused = None, paused\n",
        f"{STORY}a_drain_lasts_across_a_restart",
    ),
    Mutant(
        "who has no session is acknowledged",
        FLEET,
        "or (announces and not sessions):",
        "or False:",
        f"{STORY}nobody_yields_to_a_master_that_cannot_announce",
    ),
    Mutant(
        "a master that stops waits for nobody",
        NODE,
        "return self._hand_over(reason, now) or self._drain",
        "return self._drain",
        f"{STORY}a_master_that_is_stopped_lowers_only_after_another_has_taken_over",
    ),
    Mutant(
        "what has waited is acted on piece by piece",
        NODE,
        "if now > event.at + BACKLOG:",
        "if False:",
        f"{STORY}a_node_that_was_hung_reads_all_that_has_arrived_before_it_acts",
    ),
    Mutant(
        "nobody is told of a session",
        NODE,
        "        if self.fleet:\n            self._mark(self.instances)  # the",
        "        if False:\n            self._mark(self.instances)  # the",
        f"{STORY}each_node_knows_which_others_are_ready",
    ),
    Mutant(
        "what a node reported before its silence is shown after it",
        LINK,
        "peer.instances, peer.said, peer.report = {}, {}, Hearing()\n\n",
        "peer.instances, peer.said = {}, {}\n\n",
        f"{OF_REPORTS}a_report_of_before_a_silence_is_not_believed_after_it",
    ),
    Mutant(
        "half a report is shown",
        REPORT,
        "if len(self._parts) == report.parts:",
        "if self._parts:",
        f"{OF_REPORTS}a_report_is_heard_whole_and_replaced_whole",
    ),
    Mutant(
        "a report is never stale",
        REPORT,
        "self.content, self._whole = None, -1",
        "pass",
        f"{OF_REPORTS}a_report_is_stale_when_it_is_not_repeated",
    ),
    Mutant(
        "new words of a check are told at once",
        "core/report.py",
        "essence = [(c.name, c.value) for c in found.checks]",
        "essence = list(found.checks)",
        f"{OF_REPORTS}a_check_whose_words_change_all_the_time_adds_no_report",
    ),
)
