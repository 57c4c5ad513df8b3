"""VRRP beyond two unicast peers: multicast, IPv6, priorities that move, sync groups, owners, signatures."""

from tests.sim.mutants import Mutant

ROUTER, WIRE, TRAILER = "core/election/router.py", "core/vrrp/wire.py", "core/vrrp/trailer.py"
NODE = "core/node.py"
OF_ROUTER, OF_FULL = "core/test_router.py::test_", "core/test_router_in_full.py::test_"
OF_WIRE, OF_TRAILER = "core/test_vrrp_wire.py::test_", "core/test_vrrp_trailer.py::test_"

MUTANTS = (
    # The priority
    Mutant(
        "tracks move the priority of an owner",
        ROUTER,
        "if base == OWNER else min(",
        "if base == 0 else min(",
        f"{OF_ROUTER}tracks_move_the_priority_and_it_stays_from_1_to_254",
    ),
    Mutant(
        "the running timer forgets that the priority moved",
        ROUTER,
        "self._due_at += self.skew - skew",
        "pass",
        f"{OF_ROUTER}the_running_timer_of_a_backup_moves_with_its_skew",
    ),
    Mutant(
        "a master keeps another priority for itself until the next advert",
        ROUTER,
        "case Role.MASTER if shifted and was_master:",
        "case Role.MASTER if False:",
        f"{OF_ROUTER}a_master_of_another_priority_says_so_at_once_and_goes_on",
    ),
    # Sync groups
    Mutant(
        "who is held back claims",
        ROUTER,
        "        if not self.held_back:\n            return self._enter_master(",
        "        if True:\n            return self._enter_master(",
        f"{OF_ROUTER}who_is_held_back_wants_to_be_master_and_listens_on",
    ),
    Mutant(
        "who wanted to be master waits once more",
        ROUTER,
        "case Role.BACKUP if self._want and",
        "case Role.BACKUP if False and",
        f"{OF_ROUTER}who_wants_to_be_master_is_master_as_soon_as_nothing_holds_it_back",
    ),
    Mutant(
        "a better master does not end the wish",
        ROUTER,
        "        self._want, self.asks = None, False\n        if source != self.master:",
        "        if source != self.master:",
        f"{OF_ROUTER}a_master_that_is_followed_ends_the_wish",
    ),
    Mutant(
        "a master stays while its group yields",
        ROUTER,
        "case Role.MASTER if obstacles.yields:",
        "case Role.MASTER if False:",
        f"{OF_ROUTER}a_master_yields_to_its_group_without_a_word",
    ),
    # What is accepted
    Mutant(
        "by multicast any TTL will do",
        ROUTER,
        "(255, 255) if is_multicast else",
        "(0, 255) if is_multicast else",
        f"{OF_FULL}by_multicast_what_may_come_from_elsewhere_is_dropped",
    ),
    Mutant(
        "a TTL above the limit is accepted",
        ROUTER,
        "if not least <= ttl <= most:",
        "if ttl < least:",
        f"{OF_FULL}the_ttl_of_unicast_lies_between_two_limits",
    ),
    Mutant(
        "unicast and multicast hear each other",
        ROUTER,
        "if destination not in (usual, None) and destination.is_multicast != is_multicast:",
        "if False:",
        f"{OF_FULL}unicast_nodes_do_not_hear_the_group",
    ),
    Mutant(
        "a vrid is one virtual router over IPv4 and IPv6",
        NODE,
        "adverts(event.interface, advert.vrid, event.source.version)",
        "adverts(event.interface, advert.vrid, 4)",
        f"{OF_FULL}one_vrid_is_another_virtual_router_on_each_interface_and_over_each_version_of_ip",
    ),
    Mutant(
        "an advert without an address is as good as any",
        ROUTER,
        "if not advert.addresses and self.addresses:",
        "if False:",
        f"{OF_FULL}an_advert_without_an_address_counts_only_where_there_is_none_here_either",
    ),
    # Owners, beginning
    Mutant(
        "two owners stay masters",
        ROUTER,
        "        self._gives_way = True\n",
        "        self._gives_way = False\n",
        f"{OF_FULL}two_owners_do_not_stay_masters_where_the_lower_one_does_not_yield",
    ),
    Mutant(
        "state MASTER is forgotten",
        ROUTER,
        "if cause is Cause.START and self.config.begins_as_master:",
        "if False:",
        f"{OF_FULL}who_begins_as_master_waits_for_one_advert_only",
    ),
    Mutant(
        "adverts count in the startup delay",
        ROUTER,
        "if now < self._opens_at:",
        "if False:",
        f"{OF_FULL}in_the_startup_delay_nothing_is_heard_and_nothing_claimed",
    ),
    # Bytes
    Mutant(
        "an IPv6 checksum without the pseudo-header",
        WIRE,
        "has_pseudo_header = source.version == 6 or",
        "has_pseudo_header = False or",
        f"{OF_WIRE}parse_is_the_inverse_of_pack",
    ),
    Mutant(
        "the IPv6 checksum leaves the trailer out",
        WIRE,
        "return _with_checksum(data, checksum(_pseudo_header(source, destination, len(data)) + data))",
        "return _with_checksum(data, checksum(_pseudo_header(source, destination, len(data)) + data[:-28]))",
        f"{OF_TRAILER}the_images_of_the_draft_are_made",
    ),
    # Signatures
    Mutant(
        "unsigned adverts are believed whatever the mode",
        TRAILER,
        'if self._hmac.mode != "enforce":',
        "if True:",
        f"{OF_FULL}without_a_signature_nothing_is_believed_where_one_is_enforced",
    ),
    Mutant(
        "a signature of another key is believed",
        TRAILER,
        "if not hmac.compare_digest(mac, trailer.mac):",
        "if False:",
        f"{OF_TRAILER}only_enforce_asks_for_a_signature_and_all_modes_check_one",
    ),
    Mutant(
        "a replay is believed",
        TRAILER,
        "is_new = mark is None or _is_after(sequence, mark)",
        "is_new = True",
        f"{OF_FULL}a_replayed_priority_0_makes_nobody_take_over",
    ),
    Mutant(
        "the window is open without end",
        TRAILER,
        "if not self._hmac.monotonic and abs(_age(trailer.sequence, clock)) > self.window:",
        "if False:",
        f"{OF_TRAILER}clocks_may_differ_by_the_window",
    ),
    Mutant(
        "a mark never expires",
        TRAILER,
        "if mark is not None and not self._hmac.monotonic and",
        "if False and not self._hmac.monotonic and",
        f"{OF_TRAILER}after_all_clocks_were_put_back_a_mark_of_the_future_counts_for_nothing_unless_it_is_monotonic",
    ),
    Mutant(
        "sequences are compared as numbers",
        TRAILER,
        "return 0 < (one - other) % _LATEST < _LATEST >> 1",
        "return one > other",
        f"{OF_TRAILER}sequences_are_compared_as_serial_numbers",
    ),
    Mutant(
        "a reload forgets what was heard",
        TRAILER,
        "dict(predecessor._heard) if predecessor else {}",
        "{}",
        f"{OF_TRAILER}a_reload_forgets_neither_what_was_sent_nor_what_was_heard",
    ),
    Mutant(
        "the clock that signs stands still",
        NODE,
        "                    instance.tell_time(ahead)\n",
        "                    pass\n",
        f"{OF_FULL}the_clock_of_the_node_is_the_one_that_signs",
    ),
)
