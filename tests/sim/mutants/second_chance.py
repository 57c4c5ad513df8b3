"""Planted bugs of the second chance."""

from tests.sim.mutants import Mutant

MACHINE, MOVES, NODE = "core/second_chance/machine.py", "core/second_chance/moves.py", "core/node.py"
PEER = "core/second_chance/peer.py"
FAIR = "sim/test_second_chance_storms.py::test_moves_reset_nothing_and_leave_nothing"
FOUL = "sim/test_second_chance_storms.py::test_a_fault_resets_nothing_of_the_carrier_and_no_client_hangs"
STORIES = "sim/test_stories_chanced.py"
DIRECTLY = "sim/test_second_chance_storms.py::test_a_fault_does_no_more_harm_where_answers_may_leave_directly"
OF_MACHINE = "core/test_second_chance_machine.py"

MUTANTS = (
    Mutant(
        "resets of what is given up are held back for the sake of a third node",
        MACHINE,
        " and not self._is_given_up(a, one)\n",
        "\n",
        f"{OF_MACHINE}::test_resets_of_what_is_given_up_are_not_held_back_for_the_sake_of_a_third_node",
    ),
    Mutant(
        "who was silent for a while has no time for its large packets",
        MACHINE,
        "            peer.known_at = now  # its large packets follow the small ones\n",
        "            pass\n",
        f"{OF_MACHINE}::test_who_is_heard_again_after_a_silence_has_time_for_its_large_packets",
    ),
    Mutant(
        "answers go to another node before it is the carrier",
        MACHINE,
        "(keeping := peer.keeping) and keeping.says_so and self._leads_back(keeping, now)",
        "(keeping := peer.keeping) and keeping.carries_since < math.inf and self._leads_back(keeping, now)",
        f"{OF_MACHINE}::test_answers_leave_by_this_node_until_the_carrier_says_that_it_is_one",
    ),
    Mutant(
        "probes are believed whatever the sockets show",
        "core/second_chance/direct.py",
        "        self.disbelieved = nonce\n",
        "",
        DIRECTLY,
    ),
    Mutant(
        "only sockets that repeat themselves count, not clients that do",
        "core/second_chance/direct.py",
        "elif repeats >= REPEATS and REPEATS <= came <= 2 * repeats:",
        "elif repeats < 0:",
        DIRECTLY,
    ),
    Mutant(
        "a probe that came once is believed until the end",
        MACHINE,
        "        self._seen = seen\n",
        "        self._seen |= seen\n",
        f"{OF_MACHINE}::test_a_carrier_looks_for_probes_when_the_routes_have_changed_and_says_whence_they_came",
    ),
    Mutant(
        "answers leave directly while routes change",
        PEER,
        "settled = self.says_so and not self.is_orphan and not self.is_fast",
        "settled = self.says_so and not self.is_orphan",
        f"{OF_MACHINE}::test_a_keeper_sends_probes_each_second_and_answers_directly_while_they_arrive",
    ),
    Mutant(
        "a stream whose answers leave directly ends because none come back",
        MACHINE,
        "            if told.is_direct:\n",
        "            if False:\n",
        f"{OF_MACHINE}::test_where_answers_leave_directly_none_come_back_and_that_ends_nothing",
    ),
    Mutant(
        "a probe is forgotten a while after the first one came, though others follow",
        "second_chance/rules.py",
        "KEY, again=True),",
        "KEY),",
        "second_chance/test_sc_direct.py::test_what_was_seen_is_forgotten_when_nothing_comes",
    ),
    Mutant(
        "a probe goes to a carrier that is a neighbour, and not by the router",
        "second_chance/probes.py",
        "    hop = way.gateway if is_v4 and way.gateway and way.gateway.version == 4 else to",
        "    hop = to",
        "second_chance/test_sc_direct.py::test_it_goes_to_the_default_router_where_the_carrier_is_a_neighbour_too",
    ),
    Mutant(
        "a strict reverse path filter drops what comes out of the tunnel while answers leave directly",
        "second_chance/tunnel.py",
        "            wanted |= {(address.packed, MAIN) for address in direct}\n",
        "            wanted = {each for each in wanted if each[0] not in {one.packed for one in direct}}\n",
        "second_chance/test_sc_direct.py::test_answers_leave_directly_and_packets_still_pass_a_reverse_path_filter",
    ),
    Mutant(
        "a keeper lets in what it has said before the kernel does",
        MACHINE,
        "keeping.admitted |= new\n",
        "new = frozenset()\n",
        FAIR,
    ),
    Mutant(
        "resets are not held back while the lists are late",
        MACHINE,
        "if peer.taking and peer.taking.version and self._is_fast(peer.taking, now):",
        "if False and peer.taking and self._is_fast(peer.taking, now):",
        f"{OF_MACHINE}::test_resets_are_held_back_as_soon_as_a_list_is_there_and_while_lists_may_be_late",
    ),
    Mutant(
        "only the carrier that hands over is asked, not who kept connections before",
        MACHINE,
        "is_free and any(address in one.offers and now < one.wanted_at + SLOW for one in self.peers.values())",
        "is_free and False",
        f"{OF_MACHINE}::test_where_a_carrier_offers_an_address_other_nodes_are_asked_too",
    ),
    Mutant(
        "a tunnel that loses packets is used although no answer comes",
        MACHINE,
        "        if taking.there.is_stuck(patience, now):",
        "        if taking.there.is_stuck(100 * patience, now):",
        FOUL,
    ),
    Mutant(
        "a keeper that falls silent is forwarded to until the limit",
        MACHINE,
        "        if now >= heard_at + patience:",
        "        if now >= heard_at + 20 * patience:",
        FOUL,
    ),
    Mutant(
        "what a keeper has let in ends with the carrier's process",
        MACHINE,
        "elif is_over or not keeping.listed:",
        "elif True or is_over or not keeping.listed:",
        FOUL,
    ),
    Mutant(
        "answers go by the tunnel although this node is the carrier again",
        MACHINE,
        "for address in keeping.sought - own:",
        "for address in keeping.sought:",
        f"{OF_MACHINE}::test_answers_go_to_the_carrier_until_this_node_is_it_again",
    ),
    Mutant(
        "a successor of the process forgets what its predecessor forwarded",
        MACHINE,
        "if not ((taking := self.peers[node].taking) and taking.version)",
        "if False",
        FOUL,
    ),
    Mutant(
        "what has ended stays in the kernel",
        MACHINE,
        "remove = frozenset(flow for flow in self._loaded if flow not in wanted or flow in add)",
        "remove = frozenset(flow for flow in self._loaded if flow in add)",
        FAIR,
    ),
    Mutant(
        "a handover does not wait for the lists",
        "core/fleet.py",
        "if instance.role is Role.MASTER and self.moves and self.moves.waits(instance.config.name):",
        "if False and self.moves and self.moves.waits(instance.config.name):",
        f"{STORIES}::test_a_handover_waits_until_the_other_node_forwards_all_that_are_open",
    ),
    Mutant(
        "who is preferred does not wait for the lists",
        "core/election/nodes.py",
        "        if self._obstacles.unprepared:\n            return []\n",
        "",
        f"{STORIES}::test_who_is_preferred_takes_over_only_when_it_forwards_all_that_are_open",
    ),
    Mutant(
        "a better priority does not wait for the lists",
        "core/election/router.py",
        "        if self.asks and self._unprepared:",
        "        if False and self._unprepared:",
        f"{STORIES}::test_by_vrrp_a_drained_node_yields_only_when_the_other_forwards_all_and_takes_back_its_own",
    ),
    Mutant(
        "a move waits for a tunnel that does not work",
        MOVES,
        "works = tuple(one for one in heirs if self.works_with(one)) if self.can_move(instance) else ()",
        "works = heirs",
        f"{STORIES}::test_without_a_tunnel_nothing_waits",
    ),
    Mutant(
        "a move waits without end for a tunnel that has fallen silent",
        MOVES,
        "if not broken and now < preparation.since + PREPARE_TIME:",
        "if not broken:",
        f"{STORIES}::test_a_tunnel_that_falls_silent_holds_a_move_up_for_a_second_at_most_and_that_is_said",
    ),
    Mutant(
        "a node stops although connections of it go on",
        NODE,
        "            if self._is_keeping(now):\n                self._withdraw_in(KEEPING_INTERVAL, now)\n",
        "            if False:\n                self._withdraw_in(KEEPING_INTERVAL, now)\n",
        f"{STORIES}::test_a_node_that_stops_lives_until_its_last_connection_has_ended",
    ),
    Mutant(
        "a node that stops waits for its connections without a limit",
        NODE,
        "self.moves and self.draining and now < self._withdraw_last and",
        "self.moves and self.draining and",
        f"{STORIES}::test_a_node_that_stops_waits_no_longer_than_the_limit_and_both_nodes_say_so",
    ),
    Mutant(
        "the list of a daemon that has ended is believed",
        MACHINE,
        "frame.boot in (0, *peer.old_boots)",
        "frame.boot == 0",
        f"{OF_MACHINE}::test_a_frame_of_a_process_that_has_ended_is_not_believed",
    ),
    Mutant(
        "a frame that is repeated counts again",
        MACHINE,
        "if frame.sequence <= peer.last and not isinstance(frame.message, Listing):",
        "if False:",
        f"{OF_MACHINE}::test_a_frame_that_is_repeated_changes_nothing",
    ),
)
