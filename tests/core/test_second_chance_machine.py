"""The machine of the second chance, a frame at a time."""

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address
from typing import TypeVar

import pytest

from floatip.core.addresses import Address
from floatip.core.link.wire import identity
from floatip.core.second_chance.direct import Pulse
from floatip.core.second_chance.flow import Flow
from floatip.core.second_chance.machine import (
    CATCH_UP,
    HELLO_PATIENCE,
    SILENCE,
    SILENCE_UNPROVEN,
    SUSPENDED,
    WINDOW,
    SecondChance,
)
from floatip.core.second_chance.peer import Sought, Taking
from floatip.core.second_chance.terms import (
    Admit,
    AnswerBy,
    Effect,
    End,
    ExpectProbes,
    Forward,
    HoldBack,
    ListSockets,
    Over,
    Phase,
    SendFrame,
    SendProbes,
    Standing,
    Tell,
    Wish,
)
from floatip.core.second_chance.wire import Ask, AskFlag, Frame, Hello, Listing, Message, Offer
from tests import flows

VIP = IPv4Address("192.0.2.1")
BOOT, THEIR_BOOT = 11, 22
FAST = int(AskFlag.FAST)
T = TypeVar("T")


def flow(number: int) -> Flow:
    return flows.flow(IPv4Address(0x0A000000 + number), 12345, VIP, 80)


class Player:
    """The machine of a, and somebody who says what b says."""

    def __init__(self) -> None:
        self.now = 100.0
        self.machine = SecondChance("a", ("a", "b"), BOOT, 60.0, self.now)
        self.sequence = 0
        self.done: list[Effect] = []
        self.standing = Standing()
        self.said = self.machine.tick(self.now)
        self.hear(Hello(True))
        self.hear(Hello(True, is_large=True))

    def do(self, effects: Iterable[Effect]) -> list[Effect]:
        found = list(effects)
        self.done += found
        self.standing = next((one.standing for one in reversed(found) if isinstance(one, Tell)), self.standing)
        return found

    def frame(self, message: Message, boot: int = THEIR_BOOT, your_boot: int = BOOT) -> Frame:
        self.sequence += 1
        return Frame(identity("b"), identity("a"), boot, your_boot, self.sequence, message)

    def hear(self, message: Message, boot: int = THEIR_BOOT, your_boot: int = BOOT) -> list[Effect]:
        return self.do(self.machine.heard(self.frame(message, boot, your_boot), self.now))

    def wish(self, phase: Phase, *nodes: str, moved_at: float | None = None) -> list[Effect]:
        return self.do(self.machine.wish([Wish("web", frozenset((VIP,)), phase, nodes, moved_at)], self.now))

    def wait(self, seconds: float) -> list[Effect]:
        """Till then, with a hello of b from time to time, and its last ask or list again and again."""
        found = list[Effect]()
        until = self.now + seconds
        while self.now < until:
            self.now = min(max(self.machine.deadline, self.now + 0.001), until)
            found += self.do(self.machine.tick(self.now))
        return found

    def asked(self, flags: int, version: int = 0, number: int = 1, reverse: bool = False) -> list[Effect]:
        """By b."""
        addresses = frozenset((VIP,))
        boot = BOOT if version else 0
        return self.hear(Ask(number, addresses, addresses if reverse else frozenset(), flags, version, boot))

    def told(self, *flows: Flow, number: int = 1, version: int = 1, base: int = 0) -> list[Effect]:
        """A list of b."""
        return self.hear(Listing(number, 0, version, base, 0, 1, len(flows), 0, frozenset(flows)))


@pytest.fixture
def player() -> Player:
    return Player()


def of(effects: Iterable[Effect], kind: type[T]) -> list[T]:
    return [one for one in effects if isinstance(one, kind)]


def messages(effects: Iterable[Effect]) -> list[Message]:
    return [one.frame.message for one in effects if isinstance(one, SendFrame)]


def taken(player: Player) -> None:
    """a has taken over from b, with two connections of b."""
    player.wish(Phase.ASKS, "b")
    player.told(flow(1), flow(2))
    player.wish(Phase.CARRIES, moved_at=player.now)


def test_who_repeats_our_boot_is_believed_and_nobody_else() -> None:
    machine = SecondChance("a", ("a", "b"), BOOT, 60.0, 100.0)
    stranger = Frame(identity("b"), identity("a"), THEIR_BOOT, 0, 1, Hello(True, is_large=True))
    answers = messages(machine.heard(stranger, 100.0))
    assert [isinstance(one, Hello) and one.is_large for one in answers] == [False, True]
    assert not messages(machine.heard(stranger, 100.1)), "a repeat is not answered"
    said = machine.heard(replace(stranger, your_boot=BOOT, sequence=2), 100.2)
    (told,) = of(said, Tell)
    assert told.standing.through[0].works


def test_a_frame_for_another_node_or_of_a_stranger_is_nothing(player: Player) -> None:
    frame = player.frame(Offer(frozenset((VIP,))))
    assert not player.machine.heard(replace(frame, receiver=identity("c")), player.now)
    assert not player.machine.heard(replace(frame, sender=identity("c")), player.now)


def test_a_frame_of_a_process_that_has_ended_is_not_believed(player: Player) -> None:
    player.hear(Hello(True), boot=33)
    player.wish(Phase.REST)
    player.hear(Offer(frozenset((VIP,))))  # of boot 22, which has ended
    assert not [one for one in messages(player.wait(0.3)) if isinstance(one, Ask)]
    player.hear(Offer(frozenset((VIP,))), boot=33)
    assert [one for one in messages(player.done) if isinstance(one, Ask)]


def test_a_frame_that_is_repeated_changes_nothing(player: Player) -> None:
    player.wish(Phase.REST)
    offer = player.frame(Offer(frozenset((VIP,))))
    player.do(player.machine.heard(offer, player.now))
    player.hear(Hello(True))
    player.wait(1.5)
    before = player.machine.peers["b"].wanted_at
    player.do(player.machine.heard(offer, player.now))
    assert player.machine.peers["b"].wanted_at == before


def test_a_silent_node_does_not_work_and_that_is_said(player: Player) -> None:
    player.wait(HELLO_PATIENCE + 0.1)
    (through,) = player.standing.through
    assert (through.works, through.why) == (False, "nothing comes from b through the tunnel")


def test_one_that_hears_nothing_of_us_does_not_work_and_that_is_said(player: Player) -> None:
    for _ in range(5):
        player.wait(1.0)
        player.hear(Hello(True, is_large=True), your_boot=0)
    (through,) = player.standing.through
    assert (through.works, through.why) == (False, "b hears nothing from this node through the tunnel")


def test_one_that_cannot_says_why(player: Player) -> None:
    player.hear(Hello(False, "no VXLAN"))
    (through,) = player.standing.through
    assert (through.works, through.why) == (False, "b says: no VXLAN")


def test_the_list_is_in_the_kernel_before_it_is_confirmed(player: Player) -> None:
    player.wish(Phase.ASKS, "b")
    assert not player.standing.ready
    effects = player.told(flow(1), flow(2))
    kinds = [type(one) for one in effects if isinstance(one, Forward | HoldBack | SendFrame | Tell)]
    assert kinds == [Forward, HoldBack, SendFrame, Tell]
    (ask,) = messages(effects)
    assert isinstance(ask, Ask)
    assert (ask.version, ask.boot, ask.flags & AskFlag.READY) == (1, THEIR_BOOT, AskFlag.READY)
    assert player.standing.ready == {("web", "")}


def test_a_list_counts_when_all_of_its_parts_are_there_in_whatever_order(player: Player) -> None:
    player.wish(Phase.ASKS, "b")
    parts = [Listing(1, 0, 1, 0, part, 3, 3, 0, frozenset((flow(part),))) for part in range(3)]
    assert not of(player.hear(parts[2]), Forward)
    assert not of(player.hear(parts[0]), Forward)
    assert not of(player.hear(parts[2]), Forward)
    (forward,) = of(player.hear(parts[1]), Forward)
    assert forward.add == {flow(0): "b", flow(1): "b", flow(2): "b"}


def test_a_difference_to_another_list_than_ours_is_not_taken(player: Player) -> None:
    player.wish(Phase.ASKS, "b")
    player.told(flow(1))
    assert not of(player.told(flow(2), version=9, base=5), Forward)
    (forward,) = of(player.told(flow(2), version=9, base=1), Forward)
    assert forward.add == {flow(2): "b"}


def test_a_list_of_a_new_process_replaces_the_one_before(player: Player) -> None:
    player.wish(Phase.ASKS, "b")
    player.told(flow(1), flow(2), version=7)
    player.hear(Hello(True), boot=33)
    listing = Listing(1, 0, 1, 0, 0, 1, 1, 0, frozenset((flow(2),)))
    (forward,) = of(player.hear(listing, boot=33), Forward)
    assert (forward.add, forward.remove) == ({}, {flow(1)})


def test_the_keeper_lets_in_what_it_lists_before_it_says_so(player: Player) -> None:
    player.wish(Phase.CARRIES)
    (listing,) = of(player.asked(FAST), ListSockets)
    assert listing == ListSockets(frozenset((VIP,)))
    effects = player.do(player.machine.listed(frozenset((flow(1),)), 0.0, player.now))
    kinds = [type(one) for one in effects if isinstance(one, Admit | SendFrame)]
    assert kinds[:2] == [Admit, SendFrame]


def test_what_is_not_confirmed_is_said_again_and_nothing_newer(player: Player) -> None:
    player.wish(Phase.CARRIES)
    player.asked(FAST)
    player.do(player.machine.listed(frozenset((flow(1),)), 0.0, player.now))
    player.wait(0.15)
    player.do(player.machine.listed(frozenset((flow(2),)), 0.0, player.now))
    again = [one for one in messages(player.wait(0.2)) if isinstance(one, Listing)]
    assert again
    assert {(one.version, one.add) for one in again} == {(again[0].version, frozenset((flow(1),)))}
    player.asked(FAST, version=again[0].version)
    (newer,) = [one for one in messages(player.wait(0.15)) if isinstance(one, Listing) and one.add][:1]
    assert (newer.base, newer.add, newer.remove) == (again[0].version, {flow(2)}, {flow(1)})


def test_after_the_window_nothing_is_held_back_and_the_end_is_said(player: Player) -> None:
    taken(player)
    version = 1
    until = player.now + WINDOW + 1
    while player.now < until:
        player.wait(0.2)
        player.told(version=version + 1, base=version, number=1) if version == 1 else player.hear(
            Listing(1, 0, 2, 2, 0, 1, 2, 0)
        )
        version = 2
    assert of(player.done, HoldBack)[-1] == HoldBack(frozenset())
    assert not of(player.done, Over)
    player.hear(Listing(1, 0, 3, 2, 0, 1, 0, 0, frozenset(), frozenset((flow(1), flow(2)))))
    (over,) = of(player.done, Over)
    assert over == Over("b", True, 0, "no connection is left", End.DONE)
    asks = [one for one in messages(player.wait(0.5)) if isinstance(one, Ask)]
    assert [(one.addresses, one.reason) for one in asks][-1] == (frozenset(), "no connection is left")


def test_resets_are_held_back_as_soon_as_a_list_is_there_and_while_lists_may_be_late(player: Player) -> None:
    player.wish(Phase.ASKS, "b")
    assert not of(player.done, HoldBack)
    player.told(flow(1))
    assert of(player.done, HoldBack) == [HoldBack(frozenset((VIP,)))]
    player.wish(Phase.CARRIES, moved_at=player.now)
    player.wait(0.6)
    assert {one.addresses for one in of(player.done, HoldBack)} == {frozenset((VIP,))}


def test_where_a_carrier_offers_an_address_other_nodes_are_asked_too() -> None:
    """They may have kept connections of it since an earlier move."""
    now, done = 100.0, list[Effect]()
    machine = SecondChance("a", ("a", "b", "c"), BOOT, 60.0, now)
    machine.wish([Wish("web", frozenset((VIP,)), Phase.REST)], now)
    heard: list[tuple[str, Message]] = [(name, Hello(True, is_large=large)) for name in "bc" for large in (False, True)]
    for sequence, (name, message) in enumerate([*heard, ("b", Offer(frozenset((VIP,))))], 1):
        done = machine.heard(Frame(identity(name), identity("a"), THEIR_BOOT, BOOT, sequence, message), now)
    asks = {one.node: one.frame.message for one in of(done, SendFrame) if isinstance(one.frame.message, Ask)}
    assert {name: ask.addresses for name, ask in asks.items()} == {"b": {VIP}, "c": {VIP}}


def test_resets_of_what_is_given_up_are_not_held_back_for_the_sake_of_a_third_node() -> None:
    now, sent, done = 100.0, 0, list[Effect]()
    machine = SecondChance("a", ("a", "b", "c"), BOOT, 60.0, now)

    def hear(name: str, message: Message) -> None:
        nonlocal sent
        sent += 1
        done.extend(machine.heard(Frame(identity(name), identity("a"), THEIR_BOOT, BOOT, sent, message), now))

    def wish(phase: Phase, moved_at: float | None = None) -> None:
        done.extend(machine.wish([Wish("web", frozenset((VIP,)), phase, ("b",), moved_at)], now))

    for name in "bc":
        hear(name, Hello(True))
        hear(name, Hello(True, is_large=True))
    wish(Phase.ASKS)
    hear("b", Listing(1, 0, 1, 0, 0, 1, 1, 0, frozenset((flow(1),))))
    hear("c", Listing(1, 0, 1, 0, 0, 1, 0, 0))
    wish(Phase.CARRIES, now)
    assert of(done, HoldBack)[-1] == HoldBack(frozenset((VIP,)))
    hear("b", Hello(False, "it cannot"))
    assert [one.node for one in of(done, Over)] == ["b"]
    assert of(done, HoldBack)[-1] == HoldBack(frozenset())


def test_who_is_heard_again_after_a_silence_has_time_for_its_large_packets(player: Player) -> None:
    """A process that was stopped for a while says a small hello first."""
    player.wait(8.0)
    said = messages(player.hear(Hello(True)) + player.wait(1.5))
    assert {one.usable for one in said if isinstance(one, Hello)} == {True}


def test_a_keeper_that_falls_silent_is_forwarded_nothing(player: Player) -> None:
    taken(player)
    player.wait(SILENCE + 0.2)
    (forward,) = of(player.done, Forward)[-1:]
    assert forward.remove == {flow(1), flow(2)}
    (over,) = of(player.done, Over)
    assert over.reason.startswith("b has said nothing through the tunnel for")


@pytest.mark.parametrize(("answers", "patience"), [(0, SILENCE_UNPROVEN), (3, SILENCE)])
def test_a_keeper_whose_answers_come_back_may_be_silent_for_longer(
    player: Player, answers: int, patience: float
) -> None:
    """Its process waited for a CPU for a second, while its kernel served the clients: they were all reset."""
    player.do(player.machine.counted(7, 7, {}, player.now))  # of an earlier move
    taken(player)
    player.wait(0.3)
    player.do(player.machine.counted(17, 7 + answers, {}, player.now))
    player.wait(patience - 0.4)
    assert not of(player.done, Over)
    player.wait(0.2)
    assert [one.end for one in of(player.done, Over)] == [End.SILENT]


def test_answers_that_were_not_counted_before_the_move_prove_nothing(player: Player) -> None:
    """Of a stream that ended in the second before: nobody counts when nothing is forwarded."""
    player.do(player.machine.counted(7, 7, {}, player.now))
    player.wait(2.0)
    player.hear(Hello(True))
    player.hear(Hello(True, is_large=True))
    taken(player)
    player.do(player.machine.counted(9, 9, {}, player.now + 0.1))
    player.wait(SILENCE_UNPROVEN + 0.1)
    assert [one.end for one in of(player.done, Over)] == [End.SILENT]


def test_answers_prove_that_a_keeper_serves_where_they_are_counted_from_the_beginning_again(player: Player) -> None:
    """The rules were made again, with counters of their own."""
    player.do(player.machine.counted(5000, 5000, {}, player.now))
    taken(player)
    for answers in (5, 10):
        player.wait(0.1)
        player.do(player.machine.counted(answers, answers, {}, player.now))
    player.wait(SILENCE_UNPROVEN)
    assert not of(player.done, Over)


def test_what_was_accepted_before_the_first_list_proves_nothing(player: Player) -> None:
    """A move that waited no longer: the list comes after it."""
    player.wish(Phase.ASKS, "b")
    player.wish(Phase.CARRIES, moved_at=player.now)
    player.hear(Listing(1, 0, 1, 0, 0, 1, 1, 500, frozenset((flow(1),))))
    player.wait(SILENCE_UNPROVEN + 0.2)
    assert [one.end for one in of(player.done, Over)] == [End.SILENT]


STALL, STALLS_EACH = SUSPENDED + 0.15, 2.5
"""Seconds for which a process has no CPU, long enough to look suspended, and after which it has none again."""


def ends_by_silence_despite_stalls(player: Player) -> None:
    began, stall_at = player.now, player.now + STALLS_EACH
    while player.now < began + 30.0 and not of(player.done, Over):
        at = player.machine.deadline
        if at >= stall_at:
            at, stall_at = at + STALL, at + STALLS_EACH
        player.now = max(at, player.now + 0.001)
        player.do(player.machine.tick(player.now))
    assert [one.end for one in of(player.done, Over)] == [End.SILENT]
    assert player.now - began < SILENCE + STALL + CATCH_UP


def test_a_silence_ends_although_this_process_has_no_cpu_now_and_then(player: Player) -> None:
    """Each time it believed that the others needed their whole patience again, until the limit."""
    taken(player)
    player.hear(Listing(1, 0, 1, 1, 0, 1, 2, 5))
    ends_by_silence_despite_stalls(player)


def test_a_carrier_that_has_gone_is_noticed_although_this_process_has_no_cpu_now_and_then(player: Player) -> None:
    player.wish(Phase.CARRIES)
    player.asked(FAST)
    player.do(player.machine.listed(frozenset((flow(1),)), 0.0, player.now))
    player.wish(Phase.REST)
    player.asked(FAST | AskFlag.CARRIES | AskFlag.READY, version=1)
    ends_by_silence_despite_stalls(player)


def test_that_large_packets_do_not_come_is_said_although_this_process_has_no_cpu_now_and_then(player: Player) -> None:
    player.wish(Phase.REST)
    stall_at = player.now + 4.0
    for _ in range(12):
        late = STALL if player.now >= stall_at else 0.0
        stall_at += 4.0 if late else 0.0
        player.now = max(player.machine.deadline, player.now) + late
        player.do(player.machine.tick(player.now))
        player.wait(max(0.0, 1.0 - late))
        player.hear(Hello(True))  # small ones alone
    said = [one.usable for one in messages(player.done) if isinstance(one, Hello)]
    assert False in said


def test_answers_of_one_of_two_keepers_prove_nothing_of_either() -> None:
    """They are counted together."""
    machine = SecondChance("a", ("a", "b", "c"), BOOT, 60.0, 100.0)
    takings = [Taking(100.0, flows=frozenset((flow(number),))) for number in range(2)]
    for peer, taking in zip(machine.peers.values(), takings, strict=True):
        taking.sought[VIP] = Sought("web", moved_at=100.0)
        peer.taking, peer.hello = taking, Hello(True)
    machine.counted(9, 9, {}, 100.1)
    machine.counted(19, 19, {}, 100.2)
    assert [one.is_proven for one in takings] == [False, False]


def test_a_move_that_does_not_come_leaves_nothing(player: Player) -> None:
    player.wish(Phase.ASKS, "b")
    player.told(flow(1))
    player.wish(Phase.REST)
    player.wait(WINDOW + 1)
    assert of(player.done, HoldBack)[-1] == HoldBack(frozenset())
    (forward,) = of(player.done, Forward)[-1:]
    assert forward.remove == {flow(1)}
    assert not of(player.done, Over)


def test_who_became_master_by_no_plan_forwards_nothing(player: Player) -> None:
    player.wish(Phase.ASKS, "b")
    player.told(flow(1))
    effects = player.wish(Phase.CARRIES) + player.wait(0.1)
    assert any(isinstance(one, Forward) and one.remove == {flow(1)} for one in effects)


def test_answers_go_to_the_carrier_until_this_node_is_it_again(player: Player) -> None:
    player.wish(Phase.CARRIES)
    player.asked(FAST)
    player.do(player.machine.listed(frozenset((flow(1),)), 0.0, player.now))
    player.wish(Phase.REST)
    player.asked(FAST | AskFlag.CARRIES | AskFlag.READY, version=1)
    assert of(player.done, AnswerBy)[-1] == AnswerBy({VIP: "b"})
    player.wish(Phase.CARRIES)
    assert of(player.done, AnswerBy)[-1] == AnswerBy({})


def test_answers_leave_by_this_node_until_the_carrier_says_that_it_is_one(player: Player) -> None:
    """In a VRRP pair the master gives the address up first, and the routes lead here for the skew time."""
    player.wish(Phase.CARRIES)
    player.asked(FAST)
    player.do(player.machine.listed(frozenset((flow(1),)), 0.0, player.now))
    player.wish(Phase.REST)
    player.asked(FAST | AskFlag.READY, version=1)
    assert not of(player.done, AnswerBy)
    player.asked(FAST | AskFlag.CARRIES | AskFlag.READY, version=1)
    assert of(player.done, AnswerBy) == [AnswerBy({VIP: "b"})]


def test_who_has_taken_over_says_so_at_once(player: Player) -> None:
    player.wish(Phase.ASKS, "b")
    player.told(flow(1))
    asks = [one for one in messages(player.wish(Phase.CARRIES, moved_at=player.now)) if isinstance(one, Ask)]
    assert [bool(one.flags & AskFlag.CARRIES) for one in asks] == [True]


def test_where_the_carrier_crashed_and_this_node_has_taken_over_its_connections_are_not_said_to_be_reset(
    player: Player,
) -> None:
    player.asked(FAST)
    player.do(player.machine.listed(frozenset((flow(1),)), 0.0, player.now))
    player.asked(FAST | AskFlag.CARRIES | AskFlag.READY, version=1)
    player.wish(Phase.CARRIES)
    player.wait(2 * SILENCE)
    (over,) = of(player.done, Over)
    assert isinstance(over, Over)
    assert (over.end, over.connections, over.reset) == (End.MOVED_ON, 1, 0)


def test_what_is_asked_back_is_not_asked_back_again(player: Player) -> None:
    """Else two nodes, none of which is to be the carrier any more, would go on for good."""
    player.wish(Phase.REST)
    player.asked(0, reverse=True)
    assert not [one for one in messages(player.wait(0.5)) if isinstance(one, Ask)]


def test_an_instance_that_cannot_be_moved_is_not_asked_for(player: Player) -> None:
    player.do(player.machine.leave_out({"web": "nobody listens"}, player.now))
    player.wish(Phase.ASKS, "b")
    assert not [one for one in messages(player.wait(0.5)) if isinstance(one, Ask)]
    assert player.standing.without == (("web", "nobody listens"),)


def test_a_kernel_that_refuses_ends_all(player: Player) -> None:
    taken(player)
    effects = player.do(player.machine.unable("the tunnel is gone", "see the log", player.now))
    assert any(isinstance(one, Forward) and one.remove == {flow(1), flow(2)} for one in effects)
    hellos = [one for one in messages(effects) if isinstance(one, Hello)]
    assert {(one.usable, one.reason) for one in hellos} == {(False, "the tunnel is gone")}
    assert (player.standing.why_not, player.standing.hint) == ("the tunnel is gone", "see the log")


def test_large_packets_that_do_not_pass_are_no_tunnel_and_that_is_said(player: Player) -> None:
    for _ in range(5):
        player.wait(1.0)
        player.hear(Hello(True))
    (through,) = player.standing.through
    assert not through.works
    assert through.why.startswith("large packets of b do not come through the tunnel")
    player.hear(Hello(True, is_large=True))
    assert player.standing.through[0].works


def test_who_is_not_heard_any_more_is_told_so(player: Player) -> None:
    """By its boot, which is not repeated: else it would take a tunnel of one direction for a good one."""
    (hello, *_) = of(player.wait(1.1), SendFrame)
    assert hello.frame.your_boot == THEIR_BOOT
    player.wait(HELLO_PATIENCE)
    (*_, hello) = of(player.wait(1.1), SendFrame)
    assert hello.frame.your_boot == 0


def test_a_keeper_that_hears_nothing_of_this_node_is_as_good_as_silent(player: Player) -> None:
    taken(player)
    heard_at = player.now
    while player.now < heard_at + SILENCE + 0.3:
        player.wait(0.2)
        ago = round((player.now - heard_at) * 1000)
        player.hear(Listing(1, ago, 1, 1, 0, 1, 2, 5))
    assert [one.reason for one in player.done if isinstance(one, Over)]


def talk(player: Player, seconds: float, forwarded: int, accepted: int, answers: int) -> None:
    """The figures of both nodes, each with an age of its own."""
    until = player.now + seconds
    while player.now < until:
        player.wait(0.25)
        player.do(player.machine.counted(forwarded, answers, {}, player.now))
        player.wait(0.25)
        player.hear(Listing(1, 0, 1, 1, 0, 1, 2, accepted))


def test_connections_that_speak_and_then_are_quiet_are_not_taken_for_lost(player: Player) -> None:
    taken(player)
    accepted = 0
    for _ in range(6):
        before, accepted = accepted, accepted + 200
        talk(player, 0.5, before, accepted, before)  # what this node has counted is older
        talk(player, 8.0, accepted, accepted, accepted)
    assert not of(player.done, Over)


@pytest.mark.parametrize("lost", [4, 40])
def test_packets_of_which_none_is_accepted_end_it_sooner_if_there_are_many(player: Player, lost: int) -> None:
    taken(player)
    talk(player, 5.0, 100, 100, 100)
    at = player.now
    while not of(player.done, Over) and player.now < at + 60:
        talk(player, 0.5, 100 + lost, 100, 100)
    (over,) = of(player.done, Over)
    assert (over.end, player.now - at < 6) == (End.UNACCEPTED, lost == 40)


def test_a_service_that_restarts_ends_nothing_that_has_begun(player: Player) -> None:
    taken(player)
    talk(player, 5.0, 100, 100, 100)
    player.do(player.machine.leave_out({"web": "nobody listens"}, player.now))
    talk(player, 6.0, 200, 200, 200)
    assert not of(player.done, Over)


def test_a_node_that_leaves_is_forwarded_nothing_from_then_on_whatever_it_says_last(player: Player) -> None:
    """What reaches this node by mistake is reset, and waits for nothing."""
    player.wish(Phase.CARRIES)
    player.asked(FAST)
    player.wish(Phase.REST)
    player.told(flow(3))
    assert [one.add for one in of(player.done, Forward)] == [{flow(3): "b"}]
    said = player.hear(Hello(False, "the second chance stops there"))
    said += player.hear(Ask(0, frozenset(), reason="the second chance stops there"))
    assert [one.remove for one in of(said, Forward)] == [{flow(3)}]
    assert not player.machine.peers["b"].hello.usable
    assert of(said, HoldBack)[-1].addresses == frozenset()


def test_a_node_that_is_not_configured_any_more_is_forwarded_nothing(player: Player) -> None:
    taken(player)
    player.machine.configure(("a",), 60.0)
    effects = player.do(player.machine.tick(player.now))
    assert any(isinstance(one, Forward) and one.remove == {flow(1), flow(2)} for one in effects)


def test_answers_that_a_killed_process_left_in_the_tunnel_leave_directly_once_this_node_carries() -> None:
    machine = SecondChance("a", ("a", "b"), BOOT, 60.0, 100.0)
    machine.adopt({}, frozenset(), {VIP: "b"})
    assert AnswerBy({}) not in machine.wish([Wish("web", frozenset((VIP,)), Phase.REST)], 100.0)
    assert AnswerBy({}) in machine.wish([Wish("web", frozenset((VIP,)), Phase.CARRIES)], 100.1)


def test_answers_that_a_killed_process_left_in_the_tunnel_go_on_until_the_carrier_has_had_time_to_ask() -> None:
    machine = SecondChance("a", ("a", "b"), BOOT, 60.0, 100.0)
    machine.adopt({}, frozenset(), {VIP: "b"})
    machine.wish([Wish("web", frozenset((VIP,)), Phase.REST)], 100.0)
    assert not [one for one in machine.tick(100.0 + WINDOW - 0.1) if isinstance(one, AnswerBy)]
    assert AnswerBy({}) in machine.tick(100.0 + WINDOW)


def test_a_carrier_that_hears_nothing_is_heard_when_it_ends_it(player: Player) -> None:
    player.asked(FAST | AskFlag.CARRIES)
    player.do(player.machine.listed(frozenset((flow(1),)), 0.001, player.now))
    ended = player.hear(Ask(0, frozenset(), reason="a has said nothing"), your_boot=0)
    assert [one.end for one in ended if isinstance(one, Over)] == [End.THERE]


def test_answers_leave_directly_where_the_carrier_is_silent_and_no_packet_comes(player: Player) -> None:
    player.asked(AskFlag.CARRIES)
    player.do(player.machine.listed(frozenset((flow(1),)), 0.001, player.now))
    player.asked(AskFlag.CARRIES)
    assert AnswerBy({VIP: "b"}) in player.done
    for accepted in range(1, 8):  # the kernel of the carrier goes on
        player.wait(1.0)
        player.do(player.machine.counted(0, 0, {"b": accepted}, player.now))
    assert AnswerBy({}) not in player.done
    for _ in range(5):
        player.wait(1.0)
        player.do(player.machine.counted(0, 0, {"b": 7}, player.now))
    assert AnswerBy({}) in player.done
    player.do(player.machine.counted(0, 0, {"b": 8}, player.now))
    assert player.done[-1] == AnswerBy({VIP: "b"}) or AnswerBy({VIP: "b"}) in player.done[-3:]


def test_of_two_nodes_that_asked_the_one_that_carries_has_the_connections() -> None:
    now, sent = 100.0, 0
    machine = SecondChance("a", ("a", "b", "c"), BOOT, 60.0, now)

    def hear(name: str, message: Message) -> list[Effect]:
        nonlocal sent
        sent += 1
        return machine.heard(Frame(identity(name), identity("a"), THEIR_BOOT, BOOT, sent, message), now)

    def ask(name: str, flags: int) -> list[Effect]:
        return hear(name, Ask(1, frozenset((VIP,)), frozenset(), flags))

    machine.wish([Wish("web", frozenset((VIP,)), Phase.CARRIES)], now)
    for name in "bc":
        hear(name, Hello(True))
        ask(name, FAST)
    machine.listed(frozenset((flow(1),)), 0.001, now)
    machine.wish([Wish("web", frozenset((VIP,)), Phase.REST)], now)
    done = ask("b", FAST | AskFlag.CARRIES)
    assert AnswerBy({VIP: "b"}) in done, "and not by c, which asked as well"
    (standing,) = (one.standing for one in done if isinstance(one, Tell))
    assert [(one.node, one.connections) for one in standing.streams] == [("b", 1)]
    now += WINDOW
    done = ask("b", AskFlag.CARRIES) + ask("c", 0)
    assert not [one for one in done if isinstance(one, Over)], "c never had any"


def test_a_carrier_that_was_suspended_reads_what_the_keeper_says_first(player: Player) -> None:
    player.wish(Phase.CARRIES, moved_at=player.now)
    player.asked(FAST | AskFlag.CARRIES, reverse=True)
    player.hear(Listing(1, 0, 1, 0, 0, 1, 1, 5, frozenset((flow(1),))))
    player.now += SILENCE + 10
    done = player.do(player.machine.tick(player.now))
    assert not [one for one in done if isinstance(one, Over)]
    done = player.wait(SILENCE + 0.1)
    assert [one.end for one in done if isinstance(one, Over) and one.forwards] == [End.SILENT]


def test_a_keeper_that_ends_says_so_and_nobody_waits_for_its_silence(player: Player) -> None:
    taken(player)
    effects = player.hear(Hello(False, "the second chance stops there"))
    assert any(isinstance(one, Forward) and one.remove == {flow(1), flow(2)} for one in effects)
    (over,) = of(effects, Over)
    assert over.reason == "b says: the second chance stops there"


def test_the_last_words_are_that_it_ends(player: Player) -> None:
    hellos = [one for one in messages(player.do(player.machine.leave(player.now))) if isinstance(one, Hello)]
    assert {(one.usable, one.reason) for one in hellos} == {(False, "the second chance stops there")}


def test_a_node_that_gets_no_large_packets_says_so(player: Player) -> None:
    for _ in range(6):
        player.wait(1.0)
        player.hear(Hello(True))
    said = [one.frame.message for one in player.done if isinstance(one, SendFrame)]
    hellos = [one for one in said if isinstance(one, Hello)]
    assert hellos[0].usable
    assert not hellos[-1].usable
    assert hellos[-1].reason.startswith("large packets of b do not come")
    player.hear(Hello(True, is_large=True))
    said = [one.frame.message for one in player.wait(1.1) if isinstance(one, SendFrame)]
    assert [one.usable for one in said if isinstance(one, Hello)] == [True, True]


def test_connections_go_on_here_where_the_carrier_is_silent_and_this_node_carries_again(player: Player) -> None:
    player.asked(AskFlag.CARRIES)
    player.do(player.machine.listed(frozenset((flow(1),)), 0.001, player.now))
    player.asked(AskFlag.CARRIES)
    done = player.wish(Phase.CARRIES) + player.wait(SILENCE + 0.1)
    assert [(one.end, one.reset) for one in done if isinstance(one, Over)] == [(End.MOVED_ON, 0)]


# Direct answers

OWN, SECRET = IPv4Address("198.51.100.1"), b"s" * 16
NONCE = b"n" * 16
THEIRS = IPv4Address("198.51.100.2")
BY_TUNNEL, DIRECT = AnswerBy({VIP: "b"}), AnswerBy({VIP: "b"}, frozenset((VIP,)))


@pytest.fixture
def direct(player: Player) -> Player:
    """Answers may leave directly."""
    player.machine.secret = SECRET
    player.do(player.machine.speak_from([VIP, OWN, IPv4Address("203.0.113.9")], player.now))
    return player


def settled(player: Player) -> Ask:
    """b keeps two connections, and the routes have changed. Gives what a says then."""
    taken(player)
    talk(player, WINDOW + 1, 100, 100, 100)
    return asked(player)


def asked(player: Player) -> Ask:
    """What a said last."""
    return [one for one in messages(player.done) if isinstance(one, Ask)][-1]


def keeps(player: Player, direct: bool, *, carries: AskFlag = AskFlag.CARRIES, nonce: bytes = NONCE) -> list[Effect]:
    """b carries what a has connections of, and says from where probes came."""
    addresses = frozenset((VIP,))
    seen = addresses if direct else frozenset[Address]()
    return player.hear(Ask(1, addresses, frozenset(), int(carries), 1, BOOT, 0, "", nonce, frozenset((THEIRS,)), seen))


def lists(player: Player, pulse: Pulse = Pulse(), accepted: int = 0, count: int = 1) -> list[Effect]:  # noqa: B008
    player.do(player.machine.counted(0, 0, {"b": accepted}, player.now))
    return player.do(player.machine.listed(frozenset(map(flow, range(count))), 0.001, player.now, pulse))


def test_a_carrier_looks_for_probes_when_the_routes_have_changed_and_says_whence_they_came(direct: Player) -> None:
    taken(direct)
    talk(direct, WINDOW / 2, 100, 100, 100)
    assert not of(direct.done, ExpectProbes), "not yet: what is seen then is not what is"
    talk(direct, WINDOW, 100, 100, 100)
    (expected,) = of(direct.done, ExpectProbes)
    (probe,) = expected.probes
    ask = asked(direct)
    assert (probe.source, ask.nonce) == (VIP, probe.nonce)
    assert ask.probe_at == {OWN}, "not the floating address, though it comes first"
    assert not ask.direct
    direct.do(direct.machine.counted(100, 100, {}, direct.now, expected.probes))
    direct.wait(0.6)
    assert asked(direct).direct == {VIP}
    direct.do(direct.machine.counted(100, 100, {}, direct.now))
    direct.wait(0.6)
    assert asked(direct).direct == frozenset()


def test_a_carrier_without_auto_wants_no_probes(player: Player) -> None:
    ask = settled(player)
    assert not ask.nonce.strip(b"\0")
    assert not of(player.done, ExpectProbes)


def test_nobody_can_guess_what_a_probe_says(direct: Player) -> None:
    nonce = settled(direct).nonce
    other = Player()
    other.machine.secret = b"t" * 16
    other.do(other.machine.speak_from([OWN], other.now))
    assert settled(other).nonce not in (nonce, bytes(16))


def test_where_answers_leave_directly_none_come_back_and_that_ends_nothing(direct: Player) -> None:
    settled(direct)
    for more in range(100, 2000, 100):
        direct.wait(0.5)
        direct.do(direct.machine.counted(100 + more, 100, {}, direct.now))
        direct.hear(Listing(1, 0, 1, 1, 0, 1, 2, 100 + more, is_direct=True))
    assert direct.standing.streams[0].direct
    assert not of(direct.done, Over)
    talk(direct, 9.0, 2000, 2000, 100)  # the last ones may have been direct
    assert not of(direct.done, Over)
    for more in range(100, 2000, 100):
        talk(direct, 0.5, 2000 + more, 2000 + more, 100)
        if of(direct.done, Over):
            break
    assert [one.end for one in of(direct.done, Over)] == [End.UNANSWERED], "and through the tunnel they must"


def test_a_keeper_sends_probes_each_second_and_answers_directly_while_they_arrive(direct: Player) -> None:
    keeps(direct, direct=False, carries=AskFlag.CARRIES | AskFlag.FAST)
    lists(direct)
    assert not of(direct.done, SendProbes), "not while routes change"
    keeps(direct, direct=False)
    assert of(direct.done, AnswerBy)[-1] == BY_TUNNEL, "a stream begins with the tunnel"
    for _ in range(10):
        direct.wait(0.25)
        keeps(direct, direct=False)
    sent = of(direct.done, SendProbes)
    assert 2 <= len(sent) <= 4
    assert set(sent) == {SendProbes(NONCE, frozenset((VIP,)), THEIRS)}
    assert of(keeps(direct, direct=True), AnswerBy) == [DIRECT]
    assert direct.standing.streams[0].direct
    said = [one for one in messages(direct.wait(0.6)) if isinstance(one, Listing)]
    assert said[-1].is_direct
    assert of(keeps(direct, direct=False), AnswerBy) == [BY_TUNNEL]


def test_a_keeper_without_auto_sends_none_and_believes_none(player: Player) -> None:
    keeps(player, direct=True)
    lists(player)
    player.wait(1.5)
    assert not of(player.done, SendProbes)
    assert of(player.done, AnswerBy)[-1] == BY_TUNNEL


@pytest.mark.parametrize(
    ("connections", "before", "pulses", "is_believed"),
    [
        (9, Pulse(3, 0), [Pulse(5, 0), Pulse(5, 1)], True),
        (9, Pulse(3, 0), [Pulse(5, 2), Pulse(5, 3)], False),
        (9, Pulse(), [Pulse(1, 1)], False),
        (9, Pulse(4, 4), [Pulse(4, 4), Pulse(6, 4)], True),  # whose clients had gone before
        (9, Pulse(4, 4), [Pulse(2, 2), Pulse(4, 3)], False),
        (9, Pulse(repeats=70), [Pulse(repeats=70), Pulse(repeats=79)], True),
        (9, Pulse(repeats=70), [Pulse(repeats=70), Pulse(repeats=90)], False),
        (9, Pulse(repeats=70), [Pulse(repeats=70), Pulse(repeats=76), Pulse(repeats=90)], False),
        (200, Pulse(3, 0), [Pulse(50, 3)], True),
        (200, Pulse(3, 0), [Pulse(50, 4)], False),
    ],
)
def test_what_its_sockets_show_is_stronger_than_a_probe(
    direct: Player, connections: int, before: Pulse, pulses: list[Pulse], is_believed: bool
) -> None:
    keeps(direct, direct=False)
    lists(direct, before, count=connections)
    keeps(direct, direct=True)
    assert of(direct.done, AnswerBy)[-1] == DIRECT
    for number, pulse in enumerate(pulses):
        lists(direct, pulse, 20 * number, connections)
        direct.wait(0.1)
        keeps(direct, direct=True)
    assert of(direct.done, AnswerBy)[-1] == (DIRECT if is_believed else BY_TUNNEL)
    assert bool(direct.standing.streams[0].distrust) != is_believed
    direct.done.clear()
    for _ in range(5):
        direct.wait(0.5)
        keeps(direct, direct=True)
    assert bool(of(direct.done, SendProbes)) == is_believed
    assert not of(direct.done, AnswerBy), "for the rest of the stream"
    keeps(direct, direct=False, nonce=b"m" * 16)
    assert of(keeps(direct, direct=True, nonce=b"m" * 16), AnswerBy) == [DIRECT], "and not of the next"


def test_where_the_carrier_falls_silent_answers_go_to_its_kernel_as_long_as_packets_come(direct: Player) -> None:
    keeps(direct, direct=False)
    lists(direct)
    keeps(direct, direct=True)
    assert of(direct.done, AnswerBy)[-1] == DIRECT
    for number in range(1, 9):
        direct.wait(0.5)
        direct.do(direct.machine.counted(0, 0, {"b": number}, direct.now))
    assert of(direct.done, AnswerBy)[-1] == BY_TUNNEL


def test_who_carries_again_sends_no_probes(direct: Player) -> None:
    keeps(direct, direct=True)
    lists(direct)
    direct.wish(Phase.CARRIES)
    direct.done.clear()
    keeps(direct, direct=True)
    direct.wait(1.5)
    assert not of(direct.done, SendProbes)


def test_repeats_are_compared_with_packets_that_were_counted_since(direct: Player) -> None:
    """Shortly after the change there are many lists for one count."""
    keeps(direct, direct=False)
    lists(direct, Pulse())
    keeps(direct, direct=True)
    lists(direct, Pulse())
    for repeats in (1, 2, 3):
        direct.do(direct.machine.listed(frozenset((flow(1),)), 0.001, direct.now, Pulse(repeats=repeats)))
    assert of(direct.done, AnswerBy)[-1] == DIRECT
    direct.wait(0.1)
    lists(direct, Pulse(repeats=3), accepted=7)
    assert of(direct.done, AnswerBy)[-1] == DIRECT
    direct.wait(0.1)
    lists(direct, Pulse(repeats=4), accepted=8)
    assert of(direct.done, AnswerBy)[-1] == BY_TUNNEL


def test_repeats_of_other_connections_of_the_machine_say_nothing_while_clients_are_silent(direct: Player) -> None:
    """The kernel counts them on the whole machine: "2 of 0 packets of clients were repeats", said the history."""
    keeps(direct, direct=False)
    lists(direct, Pulse())
    keeps(direct, direct=True)
    for repeats in (0, 40, 90):
        lists(direct, Pulse(repeats=repeats), accepted=0)
        direct.wait(0.1)
        keeps(direct, direct=True)
    assert of(direct.done, AnswerBy)[-1] == DIRECT
