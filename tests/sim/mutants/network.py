"""What the host does with sockets: adverts, gratuitous ARP, the kernel's tables, TCP to the route servers."""

from tests.sim.mutants import Mutant

ADVERTS, PEERS = "host/network/adverts.py", "host/network/peers.py"
KERNEL, HOLDER = "host/network/kernel/__init__.py", "host/network/kernel/holder.py"
NEIGHBOURS, TABLES = "host/network/kernel/neighbours.py", "host/network/kernel/tables.py"
FENCING, OF_FENCE = "host/network/kernel/fencing.py", "host/test_fence.py::test_"
VIRTUALS, OF_VIRTUALS = "host/network/kernel/virtuals.py", "host/test_virtuals.py::test_"
OF_ADVERTS, OF_KERNEL = "host/test_adverts.py::test_", "host/test_kernel.py::test_"
OF_PEERS, OF_REFUSALS = "host/test_peers.py::test_", "host/test_refusals.py::test_"

MUTANTS = (
    # Adverts
    Mutant(
        "a socket for each advert",
        ADVERTS,
        "link.adverts.sendmsg(",
        "link.family.open(advert.interface, RECEIVE_BUFFER).sendmsg(",
        f"{OF_ADVERTS}an_advert_opens_no_socket",
    ),
    Mutant(
        "an advert that fails leaves a deaf socket open",
        ADVERTS,
        "if error.errno in (errno.ENODEV, errno.ENXIO):",
        "if False:",
        f"{OF_ADVERTS}an_interface_made_anew_is_opened_by_the_send_that_meets_it",
    ),
    Mutant(
        "an interface that was made again is taken for the same",
        ADVERTS,
        "if link is None or link.index != index:",
        "if link is None:",
        f"{OF_ADVERTS}an_interface_made_anew_is_opened_by_the_send_that_meets_it",
    ),
    Mutant(
        "an advert that goes on failing is forgotten",
        ADVERTS,
        "lasts=max(PATIENCE, min(3 * since, MOST_PATIENCE))",
        "lasts=PATIENCE",
        f"{OF_ADVERTS}what_is_seldom_tried_fails_in_between",
    ),
    Mutant(
        "an advert that works again stays a failure",
        ADVERTS,
        "            self._sending.clear(way.what)\n",
        "",
        f"{OF_ADVERTS}a_destination_fails_until_a_send_works",
    ),
    Mutant(
        "an interface that is down is a failure of each advert, too",
        ADVERTS,
        "if reason and advert.interface not in self._down:",
        "if reason:",
        f"{OF_ADVERTS}that_nothing_leaves_by_an_interface_that_is_down_is_no_failure_of_its_own",
    ),
    Mutant(
        "a socket that could not be opened is never tried again",
        ADVERTS,
        "                    self._again = self._loop.call_later(OPEN_AGAIN_INTERVAL, self.refresh)\n",
        "                    pass\n",
        f"{OF_REFUSALS}adverts",
    ),
    Mutant(
        "packets of strangers are parsed as adverts are",
        ADVERTS,
        "packet_filter.program(wanted.known, version=version)",
        "packet_filter.program(None, version=version)",
        f"{OF_ADVERTS}what_is_not_for_us_comes_by_a_way_of_its_own",
    ),
    Mutant(
        "of a flood of strangers every packet is looked at",
        ADVERTS,
        "        self._loop.remove_reader(strangers)\n        self._loop.call_later(",
        "        self._loop.call_later(",
        f"{OF_ADVERTS}of_a_flood_of_strangers_few_a_second_are_looked_at_and_no_advert_is_lost",
    ),
    Mutant(
        "a reload to multicast joins no group",
        ADVERTS,
        "for group in wanted.groups - link.groups:",
        "for group in ():",
        f"{OF_ADVERTS}the_group_is_joined_and_left_by_a_reload",
    ),
    # Gratuitous ARP
    Mutant(
        "neighbours are told once",
        NEIGHBOURS,
        "return (SPREAD / (repeat - 1) for _ in range(repeat - 1))",
        "return iter(())",
        f"{OF_KERNEL}neighbours_are_told_five_times",
    ),
    Mutant(
        "neighbours are told one after the other without a pause",
        NEIGHBOURS,
        "if not interval:",
        "if True:",
        f"{OF_KERNEL}packets_on_one_interface_keep_their_distance",
    ),
    Mutant(
        "a group is not joined again",
        ADVERTS,
        "_leave_all(link)  #",
        "pass  #",
        "host/test_vrrp_sockets.py::test_the_group_is_joined_again_when_the_interface_comes_back",
    ),
    Mutant(
        "a socket for each gratuitous ARP",
        NEIGHBOURS,
        "if not self._arp:",
        "if True:",
        f"{OF_KERNEL}neighbours_are_told_five_times",
    ),
    Mutant(
        "a thousand gratuitous ARPs at once",
        NEIGHBOURS,
        "and self._queue[0][0] <= now and not part.is_over:",
        "and self._queue[0][0] <= now:",
        f"{OF_KERNEL}a_thousand_addresses_are_told_to_the_neighbours_between_other_work",
    ),
    Mutant(
        "each order of gratuitous ARPs adds to the one before",
        NEIGHBOURS,
        "if self._sets.get(placed) is not order and self._told.get(placed) is not order:",
        "if False:",
        f"{OF_KERNEL}a_new_order_for_the_neighbours_replaces_the_repeats_of_the_old_one",
    ),
    # Routes and rules
    Mutant(
        "a release that comes while a route is being added is forgotten",
        VIRTUALS,
        "        self._asked.set()  # always",
        "        self.look_again()  # always",
        f"{OF_VIRTUALS}what_is_being_added_is_removed_again_if_nobody_wants_it_by_then",
    ),
    Mutant(
        "a route that somebody removed stays away",
        VIRTUALS,
        "                pass\n        self.look_again()\n",
        "                pass\n",
        f"{OF_VIRTUALS}a_route_that_goes_is_put_back",
    ),
    Mutant(
        "routes carry no mark",
        VIRTUALS,
        'message["proto"] = OURS if route.protocol is None else route.protocol',
        'message["proto"] = route.protocol or 3',
        f"{OF_VIRTUALS}what_somebody_else_has_put_there_is_never_removed",
    ),
    # What the kernel has
    Mutant(
        "half a datagram of the kernel is a whole one",
        "rtnetlink.py",
        '                raise OSError(errno.ENOBUFS, "")  # cut off',
        "                return  # cut off",
        "host/test_rtnetlink.py::test_a_datagram_that_was_cut_off_counts_as_lost",
    ),
    Mutant(
        "notifications that were lost stay lost",
        KERNEL,
        "self._lost.set()  # ENOBUFS, or worse",
        "pass",
        f"{OF_KERNEL}lost_notifications_are_made_good_by_reading_everything",
    ),
    Mutant(
        "an interface made again during an overflow is the same",
        KERNEL,
        "        index = self._tables.index(interface)\n",
        "        index = 0\n",
        f"{OF_KERNEL}an_interface_made_anew_while_notifications_were_lost_is_another_one",
    ),
    Mutant(
        "each notification is told by itself",
        KERNEL,
        "                    if gone := self._tables.take(message):\n",
        "                    self._tell()\n                    if gone := self._tables.take(message):\n",
        f"{OF_KERNEL}a_thousand_addresses_leave_the_loop_free",
    ),
    Mutant(
        "a table that cannot be read ends the daemon",
        KERNEL,
        "            except OSError as error:\n                self._lost.set()",
        "            except BlockingIOError as error:\n                self._lost.set()",
        f"{OF_REFUSALS}netlink_tables",
    ),
    Mutant(
        "a link that is down still answers for its addresses",
        TABLES,
        "if link.up and entry.usable:",
        "if entry.usable:",
        f"{OF_KERNEL}a_link_that_is_down_answers_for_none_of_its_addresses",
    ),
    # What may be held and released
    Mutant(
        "the state file makes an address ours, whoever added it",
        HOLDER,
        "return entry is not None and entry.proto != OURS and self._tables.knows_marks",
        "return False",
        f"{OF_KERNEL}the_state_file_alone_makes_no_address_ours",
    ),
    Mutant(
        "without marks the state file decides alone",
        HOLDER,
        "else left & self._named",
        "else left",
        f"{OF_KERNEL}a_kernel_without_marks_lets_the_file_and_the_configuration_together_decide",
    ),
    Mutant(
        "without the state file our mark counts for nothing",
        HOLDER,
        "known = left | self._named if",
        "known = left if",
        f"{OF_KERNEL}what_carries_our_mark_is_adopted_without_the_state_file_if_the_configuration_names_it",
    ),
    Mutant(
        "a release takes the addresses of the host along",
        HOLDER,
        "if any(entry.placed not in surplus",
        "if False and any(entry.placed not in surplus",
        f"{OF_KERNEL}the_addresses_and_routes_of_the_host_stay_when_ours_was_the_first_of_their_network",
    ),
    Mutant(
        "an exclusive address that etcd does not name is added",
        FENCING,
        "everything - (self.exclusive - self.named if",
        "everything - (set() if",
        f"{OF_FENCE}an_exclusive_address_that_is_not_named_is_not_added_with_those_that_are",
    ),
    Mutant(
        "what came too late stays",
        HOLDER,
        "            late |= set(batch)\n",
        "",
        f"{OF_FENCE}an_address_that_came_too_late_is_removed_at_once",
    ),
    Mutant(
        "what is lost waits for the work that is under way",
        HOLDER,
        "        self._desired = desired\n        self._expel()\n",
        "        self._desired = desired\n",
        f"{OF_FENCE}what_is_lost_goes_within_the_call_however_much_waits",
    ),
    Mutant(
        "lifetimes are never renewed",
        HOLDER,
        "            refused += await self._perform(due, self._lend_again, self._fenced, BATCH // 2)\n",
        "",
        f"{OF_FENCE}its_lifetime_in_the_kernel_ends_before_it_must_be_gone_and_is_renewed",
    ),
    Mutant(
        "what the kernel ended counts as removed by somebody",
        HOLDER,
        "is_over = self._fencing.gone(placed, now)",
        "is_over = False",
        f"{OF_FENCE}what_the_kernel_has_ended_comes_back_with_new_leave_and_is_nobodys_removal",
    ),
    Mutant(
        "what is ours is not ours under another name of its interface",
        HOLDER,
        "        if self._ours.pop(before, None) is not None:\n",
        "        if False:\n",
        f"{OF_KERNEL}an_address_is_released_from_a_link_that_got_another_name_meanwhile",
    ),
    Mutant(
        "a thousand addresses are added at once",
        HOLDER,
        "            refused += change(batch)\n            if part.is_over:\n",
        "            refused += change(batch)\n            if False:\n",
        f"{OF_KERNEL}a_thousand_addresses_leave_the_loop_free",
    ),
    Mutant(
        "each removal of an address by others is told",
        HOLDER,
        "if self._removals[placed] <= REMOVALS_TOLD and",
        "if True or",
        f"{OF_KERNEL}who_keeps_removing_an_address_is_one_failure_and_the_address_is_put_back",
    ),
    # TCP to the route servers
    Mutant(
        "a socket that cannot be made ends the daemon",
        PEERS,
        "        except OSError as error:\n            return self._ended(",
        "        except BlockingIOError as error:\n            return self._ended(",
        f"{OF_REFUSALS}peers",
    ),
    Mutant(
        "BGP packets leave as any other",
        PEERS,
        "(level, traffic_class, DSCP_CS6),",
        "",
        f"{OF_PEERS}packets_carry_the_class_of_network_control_and_leave_from_no_temporary_address",
    ),
    Mutant(
        "a session leaves from a temporary address",
        PEERS,
        "if self.peer.version == 6:\n            # Not",
        "if False:\n            # Not",
        f"{OF_PEERS}packets_carry_the_class_of_network_control_and_leave_from_no_temporary_address",
    ),
    Mutant(
        "a session leaves from a floating address",
        PEERS,
        "if local in options.floating:",
        "if False:",
        f"{OF_PEERS}no_session_leaves_from_a_floating_address",
    ),
)
