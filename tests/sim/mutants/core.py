"""The rest of the core: checks, addresses, sessions, packets, what a person is told."""

from tests.sim.mutants import Mutant

HEALTH, INSTANCE, NODE, TIMERS = "core/health.py", "core/instance.py", "core/node.py", "core/timers.py"
NETWORK, SESSION, TROUBLE = "core/network.py", "core/bgp/session.py", "core/bgp/trouble.py"
UPDATE, WIRE, VRRP = "core/bgp/update.py", "core/bgp/wire.py", "core/vrrp/wire.py"
DIAGNOSIS, DROPS, VIEW = "core/diagnosis.py", "core/drops.py", "view.py"
OF_HEALTH, OF_NODE, OF_FOLLOWER = (
    "core/test_health.py::test_",
    "core/test_node.py::test_",
    "core/test_follower.py::test_",
)
OF_SESSION, OF_WIRE, OF_VRRP = (
    "core/test_session.py::test_",
    "core/test_bgp_wire.py::test_",
    "core/test_vrrp_wire.py::test_",
)
TRACKS, GROUPS = "core/tracks.py", "core/sync_groups.py"
OF_TRACKS, OF_GROUPS = "core/test_tracks.py::test_", "sim/test_stories_grouped.py::test_"
OF_STATUS, OF_VIEW = "core/test_status.py::test_", "core/test_view.py::test_"

MUTANTS = (
    # HEALTH
    Mutant(
        "a delay is over though the result has changed back",
        HEALTH,
        "self._streak, self._settle_at = 0, math.inf\n        else:",
        "self._streak = 0\n        else:",
        f"{OF_HEALTH}a_pushed_check_changes_its_verdict_after_its_delay_unless_the_result_changes_back",
    ),
    Mutant(
        "a quorum is not met while a part is unknown",
        HEALTH,
        "if up < quorum <= up + unknown:",
        "if unknown:",
        f"{OF_HEALTH}a_quorum_is_known_as_soon_as_no_part_without_a_result_can_change_it",
    ),
    # TRACKS
    Mutant(
        "reverse is another check, not another sign",
        TRACKS,
        "weight = -track.weight if track.reverse else track.weight",
        "weight = track.weight",
        f"{OF_TRACKS}reverse_turns_the_sign_of_the_weight_round",
    ),
    Mutant(
        "a number that changes is no news",
        NODE,
        "if (check.health, check.value) == before:",
        "if check.health is before[0]:",
        f"{OF_TRACKS}a_number_that_changes_moves_the_priority_though_its_check_stays_down",
    ),
    # GROUPS
    Mutant(
        "a member becomes master alone",
        GROUPS,
        "unwilling = self._unwilling\n        waits",
        "unwilling = list[Instance]()\n        waits",
        f"{OF_GROUPS}adverts_of_one_instance_that_are_lost_move_nothing",
    ),
    Mutant(
        "a member yields alone",
        GROUPS,
        '"yields": self._yields(),',
        '"yields": "",',
        "core/test_sync_groups.py::test_a_member_that_hears_a_better_master_takes_the_others_along_without_priority_0",
    ),
    Mutant(
        "two nodes that beat each other claim again at the same time",
        GROUPS,
        "if now >= self._not_before:",
        "if True:",
        f"{OF_GROUPS}two_nodes_that_each_have_a_better_member_agree",
    ),
    Mutant(
        "routes go after their addresses",
        NODE,
        "return [*first, *held, *last]",
        "return [*held, *first, *last]",
        "core/test_address_options.py::test_a_master_that_yields_removes_its_routes_before_its_addresses_when_"
        "the_next_one_has_them",
    ),
    Mutant("a hanging check never fails", HEALTH, "if now >= self._give_up_at:", "if False:"),
    Mutant("one failure is enough whatever fall says", HEALTH, "self._streak < needed", "False"),
    # NODE
    Mutant(
        "a link that blinks is a link that is down",
        NODE,
        'if fault and self.running and self.links.get(interface) == "":',
        "if False:",
    ),
    Mutant(
        "a link that is down stays unnoticed",
        NODE,
        'self._timers.set(("link", interface), at)\n            return effects',
        "return effects",
    ),
    Mutant(
        "an address that cannot be kept is nobody's concern",
        NODE,
        "for one in known for placed in one.unkept}",
        "for one in known for placed in ()}",
    ),
    Mutant(
        "released before withdrawn",
        NODE,
        "self._release_at = now + self.config.release_delay",
        "self._release_at = now",
    ),
    Mutant("a deleted address stays away", NODE, "        if lost:\n            self.holding.again_at = now", ""),
    Mutant(
        "a lost election changes no rank",
        NODE,
        'if any(one.what != "advert" for one in news):\n            self._mark([instance.config',
        "if False:\n            self._mark([instance.config",
    ),
    Mutant(
        "a master that times made marks nothing",
        NODE,
        "if instance.role is not role or not is_patient or instance.elector.asks:",
        "if False:",
    ),
    # INSTANCE
    Mutant("announced before it is held", INSTANCE, "if t.ip in holding.held or t.ip in self.lost_at", ""),
    Mutant("no MED", INSTANCE, "return Route(rank, med(", "return Route(rank, 0 * med("),
    Mutant(
        "a node in FAULT is a standby like any other",
        INSTANCE,
        "in_fault = self.role is Role.FAULT",
        "in_fault = False",
    ),
    Mutant(
        "the latest master is not the best",
        INSTANCE,
        "settings.Nodes), self.decision.master_since",
        "settings.Nodes), 0.0",
    ),
    Mutant("nobody tells the neighbours", INSTANCE, "[*effects, Garp(new)] if new else effects", "effects"),
    Mutant(
        "neighbours whom another has told are not told again",
        INSTANCE,
        "if self._told and now >= self._defended_at",
        "if False and now >= self._defended_at",
    ),
    Mutant("who yields goes on telling the neighbours", INSTANCE, "[StopGarp(old)] if old else []", "[]"),
    Mutant(
        "who yields does not release", INSTANCE, "self._keep_until = now + KEEP_TIME", "self._keep_until = now + 3600"
    ),
    Mutant(
        "a sick master keeps the address",
        INSTANCE,
        "or self.role is Role.MASTER or",
        "or self.role in (Role.MASTER, Role.FAULT) or",
    ),
    Mutant("an address waits a second for its new interface", NODE, "if is_back:", "if False:"),
    # TIMERS
    Mutant(
        "a deadline that comes nearer is missed",
        TIMERS,
        "if at < self._queued.get(key, math.inf):",
        "if not self._heap:",
    ),
    # SESSION
    Mutant("the hold timer is ignored", SESSION, "if now >= self._hold_at:", "if False:"),
    Mutant("no keepalives", SESSION, "if now >= self._keepalive_at:", "if False:"),
    Mutant("a peer that flaps is dialled as any other", SESSION, "if self._short_lived > 1:", "if False:"),
    Mutant("no second dial", SESSION, "self._dial_at = max(now, ", "self._dial_at = max(math.inf, "),
    # UPDATE
    Mutant("IPv4 is withdrawn by an attribute", UPDATE, "    if family == IPV4_UNICAST:\n", "    if False:\n"),
    # Checks
    Mutant(
        "a run that a pause interrupted has failed",
        HEALTH,
        "if not asleep:",
        "if True:",
        f"{OF_HEALTH}a_check_that_we_slept_through_is_run_again_and_not_judged",
    ),
    Mutant(
        "a shorter interval counts when the longer one is over",
        HEALTH,
        "        self._run_at = min(self._run_at, max(now, self._began_at + self._period))\n",
        "",
        f"{OF_NODE}a_shorter_interval_of_a_check_counts_at_once",
    ),
    Mutant(
        "an answer to the question before the reload counts",
        HEALTH,
        "self.runs += 1  # an answer",
        "self.runs += 0  # an answer",
        f"{OF_NODE}an_answer_to_what_a_check_asked_before_a_reload_does_not_count",
    ),
    Mutant(
        "unknown is healthy",
        HEALTH,
        "for health in (Health.DOWN, Health.UNKNOWN):",
        "for health in (Health.DOWN,):",
        f"{OF_HEALTH}down_beats_unknown_and_unknown_beats_up",
    ),
    Mutant(
        "keepalived's FAULT waits for the result of a new check",
        INSTANCE,
        "        if sick := self.elector.sick:\n            health, reason = Health.DOWN, sick\n        elif",
        "        if (sick := self.elector.sick) and health is not Health.UNKNOWN:\n"
        "            health, reason = Health.DOWN, sick\n        elif",
        f"{OF_FOLLOWER}fault_is_heard_while_a_check_that_a_reload_added_has_no_result",
    ),
    # Addresses and neighbours
    Mutant(
        "a damped node is still elected",
        INSTANCE,
        "damped=self.unkept or self.decision.damped(now),",
        "damped=self.unkept,",
        f"{OF_NODE}a_damped_node_follows_a_lower_master_until_it_was_quiet",
    ),
    Mutant(
        "a master that loses releases its address at once",
        INSTANCE,
        "self._keep_until = now + KEEP_TIME",
        "self._keep_until = now",
        f"{OF_NODE}a_master_that_loses_to_a_better_advert_keeps_rank_and_address_for_200_ms",
    ),
    Mutant(
        "of an address that a reload adds no neighbour is told",
        INSTANCE,
        "new, old, self._told = here - self._told,",
        "new, old, self._told = frozenset() if self._told else here,",
        f"{OF_NODE}neighbours_are_told_of_an_address_that_a_reload_adds_to_a_master",
    ),
    Mutant(
        "an address that the kernel refuses keeps all from the neighbours",
        INSTANCE,
        "        new, old, self._told = ",
        "        if here != self.placed:\n            return []\n        new, old, self._told = ",
        f"{OF_NODE}an_address_that_the_kernel_refuses_keeps_no_other_from_the_neighbours",
    ),
    Mutant(
        "the neighbours are told at each advert of a lower master",
        INSTANCE,
        "if self._told and now >= self._defended_at + DEFEND_INTERVAL:",
        "if self._told:",
        f"{OF_NODE}a_deaf_lower_master_is_answered_at_once_and_the_neighbours_once_a_second",
    ),
    Mutant(
        "a stop does not wait for a kernel that makes progress",
        NODE,
        "            if self._is_releasing and lost:\n                self._timers.set(EXIT, now + RELEASE_TIMEOUT)\n",
        "",
        f"{OF_NODE}a_stop_waits_while_the_kernel_releases_one_address_after_another",
    ),
    Mutant(
        "what a killed master left is released at the start",
        INSTANCE,
        "self._stay_since, self._stay_until = now, now + 2 * (self.elector.master_down_interval or 0.0)",
        "self._stay_until = now",
        f"{OF_NODE}what_a_killed_master_left_serves_until_its_successor_is_master_by_itself",
    ),
    Mutant(
        "what a killed master left stays beside another master",
        INSTANCE,
        "self._stay_until, self._stay_since = now + KEEP_TIME, math.inf",
        "pass",
        f"{OF_NODE}what_a_killed_master_left_is_released_200_ms_after_another_was_heard",
    ),
    Mutant(
        "what a killed master left is released in silence", INSTANCE, "[*effects, *self.elector.ask(now)]", "effects"
    ),
    # The cost of what changes nothing
    Mutant(
        "each change of one instance looks at all",
        NODE,
        "in news):\n            self._mark([instance.config.name])",
        "in news):\n            self._mark(self.instances)",
        f"{OF_NODE}a_change_of_one_instance_looks_at_no_other",
    ),
    Mutant(
        "an advert that changes nothing is reviewed",
        NODE,
        'if any(one.what != "advert" for one in news):\n            self._mark([instance.config',
        "if True:\n            self._mark([instance.config",
        f"{OF_NODE}a_change_of_one_instance_looks_at_no_other",
    ),
    Mutant(
        "garbage makes an endless list of virtual routers",
        NODE,
        "(is_known or len(self.strangers) < SUBJECTS_KEPT)",
        "True",
        f"{OF_NODE}garbage_of_any_kind_makes_no_endless_list",
    ),
    Mutant(
        "garbage makes an endless list of reasons",
        DROPS,
        "if why not in self.counts and len(self.counts) >= KEPT:",
        "if False:",
        f"{OF_NODE}garbage_of_any_kind_makes_no_endless_list",
    ),
    # Starts, reloads and stops
    Mutant(
        "a node that keeps crashing is master",
        NODE,
        "return UNSTEADY if self.barred_until < math.inf",
        "return UNSTEADY if False",
        f"{OF_NODE}a_node_that_keeps_dying_stays_at_standby_for_a_minute_and_then_waits_as_any_backup",
    ),
    Mutant(
        "a reload ends a graceful shutdown",
        NETWORK,
        "_drained(new) if self.drains and",
        "_drained(new) if False and",
        f"{OF_NODE}a_reload_while_it_drains_keeps_it_everybodys_last_choice",
    ),
    Mutant(
        "a reload changes the router id, and ends all sessions",
        NETWORK,
        "            new = replace(new, router_id=old.router_id)\n",
        "",
        "core/test_node_speaker.py::test_a_reload_never_changes_the_router_id_and_says_so",
    ),
    Mutant(
        "a reload during a stop holds it up",
        NODE,
        "return [] if self.stopping else self._reload(config, now)",
        "return self._reload(config, now)",
        f"{OF_NODE}a_start_or_a_reload_during_the_stop_does_not_hold_it_up",
    ),
    # BGP
    Mutant(
        "a ROUTE-REFRESH repeats all families",
        SESSION,
        "self._say_again(family) if family in FAMILIES",
        "self._say_again(*FAMILIES) if family in FAMILIES",
        f"{OF_SESSION}a_route_refresh_is_answered_with_all_routes_of_its_family",
    ),
    Mutant(
        "a short hold time waits for the beat of the KEEPALIVEs",
        SESSION,
        "min(now // 1 + 2, now + self.hold_time / 3)",
        "now // 1 + 2",
        f"{OF_SESSION}a_keepalive_leaves_every_second_and_before_it_is_asked_what_was_acknowledged",
    ),
    Mutant(
        "what the peer said is hidden by the next dial",
        SESSION,
        "                self.lost_because, self._said = self.reason, said(notification)\n",
        "",
        f"{OF_SESSION}what_the_peer_said_stays_in_sight_while_it_hangs_up_without_a_word",
    ),
    Mutant(
        "a peer that waits after an error is taken for one that has no share",
        SESSION,
        "Trouble.ERROR_WAIT if self.established_count else Trouble.OPEN_REJECTED",
        "Trouble.OPEN_REJECTED",
        f"{OF_SESSION}a_peer_that_was_up_and_hangs_up_now_may_only_be_waiting",
    ),
    Mutant(
        "the hint of a peer that drops our packets for their TTL is not shown",
        SESSION,
        "or trouble is Trouble.HOLD_TIMER",
        "",
        f"{OF_SESSION}the_hint_stays_while_a_peer_that_was_silent_is_silent_again_or_hangs_up",
    ),
    Mutant(
        "each refused dial is news",
        SESSION,
        "or reason in self._news:",
        "or False:",
        f"{OF_SESSION}only_a_reason_not_yet_given_is_news",
    ),
    Mutant(
        "a peer that does not read is never given up",
        SESSION,
        "if now >= self._send_hold_at:",
        "if False:",
        f"{OF_SESSION}a_peer_that_talks_but_does_not_read_is_given_up",
    ),
    Mutant(
        "a peer that asks for a role is not understood",
        TROUBLE,
        "    (2, 11): Trouble.ROLE_MISMATCH,  # RFC 9234 section 5\n",
        "",
        f"{OF_SESSION}a_peer_that_asks_for_a_role_is_understood",
    ),
    Mutant(
        "an OPEN that is cut in its extended length is accepted",
        WIRE,
        "if len(parameters) < 3:",
        "if False:",
        f"{OF_WIRE}an_error_has_the_code_that_the_rfc_demands",
    ),
    Mutant(
        "MP_REACH_NLRI is not the first attribute",
        UPDATE,
        "            attributes += pack_reach(family, update.attributes.next_hop, update.announced)\n",
        "            attributes += pack_path(family, update.attributes, four_octet_asn)\n"
        "            attributes += pack_reach(family, update.attributes.next_hop, update.announced)\n"
        "            return _pack_body(withdrawn, attributes, nlri)\n",
        f"{OF_WIRE}our_update_is_lelastics_with_mp_reach_first",
    ),
    Mutant(
        "thousands of prefixes leave in one piece",
        SESSION,
        "while self._pending and len(changed) + len(gone) < BATCH:",
        "while self._pending:",
        f"{OF_SESSION}thousands_of_prefixes_leave_in_batches",
    ),
    # VRRP packets
    Mutant(
        "the old checksum is accepted",
        VRRP,
        '            what = "the checksum is that of old_unicast_checksum',
        "            return Advert(3, vrid, priority, 1.0, addresses)\n"
        '            what = "the checksum is that of old_unicast_checksum',
        f"{OF_VRRP}the_checksum_of_old_keepaliveds_is_refused_with_the_keyword_that_asks_for_it",
    ),
    Mutant(
        "the keyword of the old checksum is not named",
        VRRP,
        "if not is_right and not checksum(_pseudo_header(source, GROUP, len(data)) + data):",
        "if False:",
        f"{OF_VRRP}the_checksum_of_old_keepaliveds_is_refused_with_the_keyword_that_asks_for_it",
    ),
    Mutant(
        "an advert with an interval of 0 is heard",
        VRRP,
        "if not value:  # RFC 9568",
        "if False:  # RFC 9568",
        f"{OF_VRRP}a_bad_packet_is_refused_with_the_reason",
    ),
    # What a person is told
    Mutant(
        "a peer that stopped reading is no problem",
        DIAGNOSIS,
        "if session.is_up and silent > UNACKNOWLEDGED:",
        "if False:",
        f"{OF_STATUS}a_route_server_that_stopped_reading_is_a_warning_until_it_reads_again",
    ),
    Mutant(
        "a link that comes and goes is no problem",
        DIAGNOSIS,
        "    yield from _of_links(node, now)\n",
        "",
        f"{OF_NODE}a_link_that_blinks_again_and_again_is_a_problem_until_it_is_steady",
    ),
    Mutant(
        "a stop is a problem for each session that closes",
        DIAGNOSIS,
        "    if node.stopping:  # sessions",
        "    if False:  # sessions",
        f"{OF_STATUS}a_node_that_stops_has_that_problem_and_those_of_its_machine",
    ),
    Mutant(
        "an address that is not released is no problem",
        DIAGNOSIS,
        'if placement == "master" and role is not Role.MASTER and any(held) and not instance.wants(now):',
        "if False:",
        f"{OF_STATUS}an_address_that_is_not_released_is_named",
    ),
    Mutant(
        "packets of an unknown virtual router are no problem",
        DIAGNOSIS,
        "if at >= now - MATTERS:",
        "if False:",
        f"{OF_FOLLOWER}a_stranger_is_a_problem_for_a_while",
    ),
    Mutant(
        "a failure without a hint has none",
        DIAGNOSIS,
        'hint = failure.hint or f"look',
        'hint = failure.hint if True else f"look',
        f"{OF_STATUS}a_failure_without_a_hint_leads_to_the_manual",
    ),
    Mutant(
        "what happened once is a problem without end",
        DROPS,
        "if self._latest[why] >= at}",
        "if True}",
        f"{OF_STATUS}dropped_adverts_are_named_with_the_reason",
    ),
    Mutant(
        "a line may be wider than the terminal",
        "screen.py",
        'initial_indent=" " * first',
        'initial_indent=""',
        f"{OF_VIEW}no_line_is_wider_than_the_terminal",
    ),
    Mutant(
        "the status lets an answer speak to the terminal",
        "screen.py",
        "text, indent = printable(text), at",
        "text, indent = text, at",
        f"{OF_VIEW}nothing_in_an_answer_is_a_command_to_the_terminal",
    ),
    Mutant(
        "a check that is down shows only its first reason",
        VIEW,
        "if last and last not in check.reason else check.reason",
        "if False else check.reason",
        f"{OF_VIEW}a_check_that_is_down_shows_its_last_result_too",
    ),
    Mutant(
        "a master whose routes reach nobody is said to have the traffic",
        "carrier.py",
        "if any(address.announced_to for address in instance.addresses) else 0",
        "if True else 0",
        f"{OF_VIEW}a_master_whose_routes_reach_nobody_has_no_traffic",
    ),
    Mutant(
        "what is kept of an answer outlives a change of the addresses",
        "core/holding.py",
        "        self.version += 1\n",
        "",
        f"{OF_STATUS}an_address_that_is_not_released_is_named",
    ),
)
