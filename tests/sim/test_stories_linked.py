"""Named cases of nodes that elect over the link. All times are virtual."""

from dataclasses import replace
from typing import Any

import pytest

from floatip.core.addresses import Address
from floatip.core.election.nodes import YIELD_AFTER
from floatip.core.events import Disconnected, Order, OrdersRecalled, Reloaded
from floatip.core.fleet import HANDOVER_TIME
from floatip.core.link import wire
from floatip.core.link.wire import HelloFlag
from tests.sim.judges import MOMENT
from tests.sim.linked import INTERVAL, KEY, Linked
from tests.sim.world import INSTANCE, Machine

DETECTION = 0.45
"""Seconds that a silent crash may cost."""
SOON = 0.1


def settled(nodes: int = 2, seed: int = 0, **options: Any) -> Linked:
    world = Linked(seed, nodes=nodes, **options)
    world.run(5)
    assert_whole(world, world.masters[0])
    return world


def preferring(*names: str, nodes: int = 2, **options: Any) -> Linked:
    world = settled(nodes, prefer=names, **options)
    assert world.masters == [names[0]]
    return world


def assert_whole(world: Linked, name: str) -> None:
    """One master, everybody knows it, and all route servers point at it."""
    assert (world.masters, world.serving, world.pointers()) == ([name], name, {name})
    others = [each for each in world.nodes.values() if each.name != name and each.power.value == ""]
    known = {each.node.instances[INSTANCE].elector.master for each in others}
    assert known <= {world.nodes[name].source}


def changes(world: Linked, since: float) -> list[str]:
    """Of role."""
    return [f"{who} {what}" for at, _, who, what, _ in world.trace if at >= since and what.startswith("role ")]


def until(world: Linked, name: str, seconds: float = 10.0) -> float:
    """Seconds until it is the one that all route servers point at."""
    began = world.now
    while world.pointers() != {name} or world.masters != [name]:
        world.run(0.001)
        assert world.now < began + seconds, "\n".join(world.score())
    return world.now - began


@pytest.mark.parametrize("nodes", [2, 3, 7])
def test_at_a_cold_start_one_node_becomes_master_and_no_other_ever_was(nodes: int) -> None:
    world = Linked(nodes=nodes)
    world.run(20)
    assert [each for each in changes(world, 0) if "master" in each] == [f"{world.masters[0]} role web master"]
    assert world.outage() < SOON


def ready_for(world: Linked, name: str) -> set[str]:
    """The others that could take over from it, as it knows."""
    fleet = world.nodes[name].node.fleet
    assert fleet is not None
    return {peer.name for peer in fleet.heirs(INSTANCE)}


def test_each_node_knows_which_others_are_ready() -> None:
    world = preferring("a", nodes=3)
    assert ready_for(world, "a") == {"b", "c"}
    for number in range(1, 5):
        world.rs_down(number)
    world.run(1)
    assert ready_for(world, "a") == set()
    for number in range(1, 5):
        world.rs_up(number)
    world.run(10)
    assert ready_for(world, "a") == {"b", "c"}
    world.sicken("c")
    world.run(2)
    assert ready_for(world, "a") == {"b"}


@pytest.mark.parametrize("nodes", [2, 3, 7])
@pytest.mark.parametrize("seed", range(5))
def test_a_silent_crash_is_taken_over_within_the_detection(nodes: int, seed: int) -> None:
    world = settled(nodes, seed)
    world.run(world.random.uniform(0.0, INTERVAL))
    with world.measured() as lost:
        world.crash(world.masters[0])
        world.run(20)
    assert_whole(world, world.masters[0])
    assert lost[0] < DETECTION - INTERVAL


@pytest.mark.parametrize("apart", [0.0, 0.01, 0.3, 0.5, 1.0])
def test_the_carrier_and_its_successor_crash_within_a_second(apart: float) -> None:
    world = settled(3, prefer=("a", "b", "c"))
    world.crash("a")
    world.run(apart)
    with world.measured() as lost:
        world.crash("b")
        world.run(20)
    assert_whole(world, "c")
    assert lost[0] < 2 * DETECTION
    if apart > DETECTION:
        assert lost[0] < DETECTION


def test_a_node_that_lies_about_being_ready_delays_and_no_more() -> None:
    """Its health is fine, and it does not take over: it hears a master whom nobody else hears."""
    world = preferring("a", "b", "c", nodes=3)
    world.hold_election("b")
    world.nodes["b"].node.fleet.paused = None  # type: ignore[union-attr]
    with world.measured() as lost:
        world.crash("a")
        world.run(20)
    assert len(world.masters) == 1
    assert lost[0] < 2 * DETECTION


@pytest.mark.parametrize("preempt", [False, True])
def test_a_split_for_a_minute_and_its_healing_cost_nothing(preempt: bool) -> None:
    world = preferring("a", preempt=preempt)
    with world.measured() as lost:
        world.part("a", "b")
        world.run(60)
        assert world.masters == ["a", "b"]
        assert len(world.pointers()) == 1
        world.join("a", "b")
        world.run(INTERVAL + SOON)
        assert len(world.masters) == 1
        assert_whole(world, world.masters[0])
        world.run(20)
    assert lost == [0]
    assert world.masters == ["a" if preempt else "b"]  # the later one


def test_when_a_split_heals_one_master_is_left_after_the_next_hello() -> None:
    for seed in range(5):
        world = settled(seed=seed)
        world.part("a", "b")
        world.run(5 + world.random.random())
        assert world.masters == ["a", "b"]
        world.join("a", "b")
        world.run(INTERVAL + MOMENT)
        assert len(world.masters) == 1


def test_in_a_split_the_preferred_master_stays_it() -> None:
    world = preferring("a", preempt=True)
    began = world.now
    world.part("a", "b")
    world.run(20)
    world.join("a", "b")
    world.run(20)
    assert "a role web backup" not in changes(world, began)
    assert_whole(world, "a")


def test_in_a_split_all_route_servers_point_at_one_carrier_within_a_tenth_of_a_second_of_each_change() -> None:
    world = preferring("a")
    world.part("a", "b")
    while "b" not in world.masters:
        world.run(0.001)
    assert until_agreed(world) < SOON
    world.run(60)
    world.join("a", "b")
    while len(world.masters) > 1:
        world.run(0.001)
    assert until_agreed(world) < SOON


def until_agreed(world: Linked) -> float:
    """Until the four agree on one that lasts for a second."""
    began = agreed_at = world.now
    while world.now < agreed_at + 1:
        world.run(0.001)
        if len(world.pointers()) > 1:
            agreed_at = world.now
    return agreed_at - began


@pytest.mark.parametrize("preempt", [False, True])
@pytest.mark.parametrize(("one", "other"), [("a", "b"), ("b", "a")])
def test_loss_in_one_direction_costs_nothing_and_no_role_flaps_more_than_once(
    one: str, other: str, preempt: bool
) -> None:
    world = preferring("a", preempt=preempt)
    began = world.now
    with world.measured() as lost:
        world.silence(one, other)
        world.run(60)
        assert len(world.pointers()) == 1
        # Who is not heard is gone. Who does not hear us is there, and says what it does.
        assert preempt or world.masters == [other]
        world.unsilence(one, other)
        world.run(20)
    assert lost == [0]
    assert_whole(world, world.masters[0])
    assert_flaps(world, began, at_most=1)


def assert_flaps(world: Linked, since: float, *, at_most: int) -> None:
    """A node that becomes master and backup again, or the other way round, has flapped once."""
    for name in world.nodes:
        assert changes(world, since).count(f"{name} role web backup") <= at_most, "\n".join(changes(world, since))


@pytest.mark.parametrize("nodes", [2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_a_loss_of_40_percent_for_a_minute_makes_no_role_flap_more_than_once(nodes: int, seed: int) -> None:
    world = settled(nodes, seed)
    began = world.now
    with world.measured() as lost:
        world.lose(0.4)
        world.run(60)
        world.lose(0.0)
        world.run(20)
    print(f"{nodes} nodes, seed {seed}: {len(changes(world, began))} changes of role")
    assert lost == [0]
    assert_whole(world, world.masters[0])
    assert_flaps(world, began, at_most=1)


@pytest.mark.parametrize("nodes", [2, 3])
@pytest.mark.parametrize("deaf", [False, True])
@pytest.mark.parametrize("preempt", [False, True])
def test_a_node_that_is_frozen_for_a_fifth_of_a_second_changes_no_role(nodes: int, deaf: bool, preempt: bool) -> None:
    world = preferring("a", nodes=nodes, preempt=preempt)
    began = world.now
    for name in world.nodes:
        for _ in range(10):
            world.pause(name, 0.2, deaf=deaf)
            world.run(0.5 + world.random.random())
    assert changes(world, began) == []


@pytest.mark.parametrize("seconds", [0.25, 0.3, 0.5, 1.0, 2.0])
def test_a_backup_that_was_frozen_takes_its_own_lateness_for_nobodys_death(seconds: float) -> None:
    world = preferring("a", nodes=3)
    began = world.now
    for _ in range(20):
        world.pause("b", seconds, deaf=True)
        world.run(seconds + 0.5 + world.random.random())
    assert changes(world, began) == []


def test_a_master_that_was_frozen_for_long_yields_to_its_successor_when_it_wakes() -> None:
    world = preferring("a")
    world.freeze("a", deaf=True)
    world.run(5)
    assert_whole(world, "b")
    with world.measured() as lost:
        world.wake("a")
        world.run(20)
    assert lost == [0]
    assert_whole(world, "b")


def test_a_node_that_was_hung_reads_all_that_has_arrived_before_it_acts() -> None:
    """It hears first that the master hands over, and only then that another one has taken over."""
    world = preferring("a", "b", "c", nodes=3)
    world.hang("b")
    world.run(0.1)
    world.hand_over("a")
    world.run(0.2)
    world.wake("b")
    world.run(5)
    began = world.now
    assert_whole(world, "c")
    assert changes(world, began) == []


def test_a_node_that_wakes_up_does_not_take_for_dead_who_spoke_while_it_hung() -> None:
    world = preferring("a")
    began = world.now
    for _ in range(20):
        world.hang("b")
        world.run(world.random.uniform(0.2, 2.0))
        world.wake("b")
        world.run(world.random.uniform(0.0, 0.5))
    assert changes(world, began) == []


# Orders


@pytest.mark.parametrize("preempt", [False, True])
def test_a_handover_loses_nothing_and_two_are_master_only_until_the_new_one_is_acknowledged(preempt: bool) -> None:
    world = preferring("a", preempt=preempt)
    with world.measured() as lost:
        world.hand_over("a")
        assert until(world, "b", YIELD_AFTER) < 0.2
        assert "" not in seen_pointers(world, 20)
    assert lost == [0]
    assert_whole(world, "b")


def seen_pointers(world: Linked, seconds: float) -> set[str]:
    """Of each route server, every millisecond."""
    seen = set[str]()
    for _ in range(round(seconds / 0.001)):
        world.run(0.001)
        seen |= world.pointers()
    return seen


@pytest.mark.parametrize("after", [0.002, 0.01, 0.03])
def test_a_new_master_that_crashes_before_the_old_one_has_yielded_leaves_nothing_stronger_behind(after: float) -> None:
    world = preferring("a")
    world.hand_over("a")
    while "b" not in world.masters:
        world.run(0.001)
    world.run(after)
    with world.measured() as lost:
        world.crash("b")
        world.run(20)
    assert_whole(world, "a")
    assert lost[0] < DETECTION


def test_a_handover_waits_for_what_a_node_says_now_that_was_deaf_to() -> None:
    """Before the silence that node was master, and its mastership has ended since."""
    for _ in range(10):
        world = preferring("a")
        world.run(world.random.random())
        world.silence("a", "b")
        world.run(5)
        assert_whole(world, "b")
        began = world.now
        world.unsilence("a", "b")
        fleet = world.nodes["b"].node.fleet
        assert fleet is not None
        while not fleet.link.peers["a"].alive:
            world.run(0.001)
        with world.measured() as lost:
            world.hand_over("b")
            world.run(5)
        assert lost == [0]
        assert_whole(world, "a")
        assert_flaps(world, began, at_most=1)
        roles = [(name, what) for at, _, name, what, _ in world.trace if at >= began and what.startswith("role")]
        assert roles == [("a", "role web master"), ("b", "role web backup")], "make before break"


def test_a_handover_goes_to_the_node_that_is_named() -> None:
    world = preferring("a", "b", "c", nodes=3)
    world.hand_over("a", "c")
    world.run(5)
    assert_whole(world, "c")


def test_a_third_node_that_is_preferred_to_the_successor_leaves_it_alone() -> None:
    world = preferring("a", "b", "c", nodes=3, preempt=True)
    world.rs_cut(1)  # so that it takes a while
    began = world.now
    world.hand_over("a", "c")
    world.run(30)
    world.rs_uncut(1)
    world.run(10)
    assert_whole(world, "c")
    assert [each for each in changes(world, began) if each.startswith("b")] == []


def test_what_was_handed_over_is_not_taken_back_until_that_node_is_gone() -> None:
    world = preferring("a", preempt=True)
    world.hand_over("a")
    world.run(60)
    assert_whole(world, "b")
    world.crash("b")
    world.run(5)
    assert_whole(world, "a")
    world.boot("b")
    world.run(5)
    assert_whole(world, "a")


def test_a_handover_without_a_ready_peer_changes_nothing() -> None:
    world = preferring("a")
    world.sicken("b")
    world.run(5)
    began = world.now
    world.hand_over("a")
    world.run(HANDOVER_TIME + 1)
    world.heal("b")
    world.run(20)
    assert changes(world, began) == ["b role web backup"]
    assert_whole(world, "a")


def test_a_handover_of_a_node_to_itself_changes_nothing() -> None:
    world = preferring("a")
    began = world.now
    world.hand_over("a", "a")
    world.run(20)
    assert changes(world, began) == []


def test_a_drained_master_is_replaced_without_loss_and_stays_out() -> None:
    world = preferring("a", preempt=True)
    with world.measured() as lost:
        world.drain("a")
        world.run(60)
        assert_whole(world, "b")
        world.undrain("a")
        world.run(5)
        assert_whole(world, "a")
    assert lost == [0]


def test_where_both_are_drained_the_last_one_goes_on() -> None:
    world = preferring("a")
    with world.measured() as lost:
        world.drain("a")
        world.run(5)
        world.drain("b")
        world.run(20)
        assert_whole(world, "b")
        world.undrain("a")
        world.run(5)
        assert_whole(world, "a")
    assert lost == [0]


def test_a_drained_node_takes_nothing_over_and_still_serves_when_nobody_else_does() -> None:
    world = preferring("a")
    world.drain("b")
    world.crash("a")
    world.run(20)
    assert (world.masters, world.serving) == ([], "b")
    world.undrain("b")
    world.run(1)
    assert_whole(world, "b")


def test_a_drain_lasts_across_a_restart() -> None:
    world = preferring("a", preempt=True)
    world.drain("a", "new disks")
    world.run(5)
    world.stop("a")
    world.run(5)
    world.start("a")
    world.run(10)
    assert world.orders["a"] == OrdersRecalled(Order("new disks"), None)
    assert_whole(world, "b")
    world.undrain("a")
    world.run(5)
    assert_whole(world, "a")


def test_while_the_election_is_paused_no_role_changes_and_health_still_counts() -> None:
    world = preferring("a", preempt=True)
    world.hold_election("b")
    world.run(1)
    with world.measured() as lost:
        world.sicken("a")
        world.run(5)
        assert (world.masters, world.serving) == ([], "b")
        world.heal("a")
        world.run(20)
    assert lost[0] < 1 + MOMENT
    world.resume_election("b")
    world.run(5)
    assert_whole(world, "a")


@pytest.mark.parametrize("nodes", [2, 3])
def test_a_master_that_is_stopped_lowers_only_after_another_has_taken_over(nodes: int) -> None:
    world = settled(nodes)
    name = world.masters[0]
    began = world.now
    with world.measured() as lost:
        world.stop(name)
        assert "" not in seen_pointers(world, 5)
    assert lost == [0]
    assert changes(world, began)[0] == f"{world.masters[0]} role web master"
    assert_whole(world, world.masters[0])
    world.start(name)
    began = world.now
    world.run(20)
    assert changes(world, began) == [f"{name} role web backup"]


def test_a_backup_that_is_stopped_says_so() -> None:
    world = preferring("a")
    world.stop("b")
    world.run(0.5)
    fleet = world.nodes["a"].node.fleet
    assert fleet is not None
    assert not fleet.link.peers["b"].alive
    assert any("its daemon has stopped" in why for _, _, _, what, why in world.trace if what == "node b gone")


@pytest.mark.parametrize("verb", ["crash", "kill"])
@pytest.mark.parametrize("seed", range(5))
def test_a_node_that_comes_back_takes_nothing_from_the_master(verb: str, seed: int) -> None:
    world = settled(seed=seed)
    name = world.masters[0]
    strike, mend = {"crash": (world.crash, world.boot), "kill": (world.kill, world.start)}[verb]
    strike(name)
    world.run(5)
    began = world.now
    mend(name)
    world.run(20)
    assert changes(world, began) == [f"{name} role web backup"]


def test_a_node_that_was_cut_off_listens_before_it_takes_over() -> None:
    """A route server answers before the next hello of the master comes."""
    world = preferring("a")
    world.part("a", "b")
    world.cut("a")
    world.run(5)
    assert world.masters == ["b"]
    began = world.now
    world.uncut("a")
    while world.nodes["a"].node.network.cut_off:
        world.run(0.001)
    world.join("a", "b")
    world.run(20)
    assert changes(world, began) == []


def test_a_preferred_node_without_a_route_server_does_not_take_over() -> None:
    world = preferring("a", preempt=True)
    world.crash("a")
    world.run(2)
    dial = world._dial

    def refuse(node: Machine, peer: Address, timeout: float) -> None:
        if node.name == "a":
            world._deliver_to(node, node.incarnation, Disconnected(peer, "connection refused"))
        else:
            dial(node, peer, timeout)

    world._dial = refuse  # type: ignore[method-assign]
    world.boot("a")
    world.run(20)
    assert_whole(world, "b")
    world._dial = dial  # type: ignore[method-assign]
    world.run(10)
    assert_whole(world, "a")


def test_nobody_yields_to_a_master_that_cannot_announce() -> None:
    """The two did not hear each other, and the later one has lost its route servers just before they do again."""
    world = preferring("a")
    world.part("a", "b")
    world.run(5)
    assert world.masters == ["a", "b"]
    for connection in list(world.nodes["b"].sockets.values()):
        world.nodes["b"].sockets.pop(connection.server.address)
        world.nodes["b"].told.pop(connection.server.address, None)
        connection.node_open = False
        world._send(connection, connection.up, None)
        world._deliver(world.nodes["b"], Disconnected(connection.server.address, "connection reset by the peer"))
    world._dial = lambda *_: None  # type: ignore[method-assign]
    world.join("a", "b")
    world.run(YIELD_AFTER + SOON)
    assert "a" in world.masters
    assert world.pointers() == {"a"}


def test_a_node_takes_over_though_a_route_server_is_silent() -> None:
    world = preferring("a")
    world.rs_cut(1)
    world.run(0.5)
    world.hand_over("a")
    world.run(YIELD_AFTER + SOON)
    assert world.masters == ["b"]


# Datagrams that are not what they seem


def test_what_is_replayed_or_forged_changes_nothing() -> None:
    world = settled(3)
    world.crash(world.masters[0])
    world.run(5)
    for name in sorted(world.nodes):
        if world.nodes[name].power.value:
            world.boot(name)
    world.run(20)
    began, masters = world.now, world.masters
    for _ in range(20):
        world.replay(50)
        world.forge(50)
        world.run(1)
    world.run(10)
    assert changes(world, began) == []
    assert [what for at, _, _, what, _ in world.trace if at >= began and what.startswith("node")] == []
    assert_whole(world, masters[0])


def replay_all(world: Linked, sender: str, receivers: list[str], datagrams: list[bytes]) -> None:
    for name in receivers:
        for data in datagrams:
            world._arrive_by_link(world.nodes[name], world.nodes[sender], data)


def recording(world: Linked, sender: str) -> list[tuple[Machine, bytes]]:
    """All that it says from now on."""
    heard: list[tuple[Machine, bytes]] = []
    record = world._record

    def listen(one: Machine, other: Machine, data: bytes) -> None:
        record(one, other, data)
        if one.name == sender:
            heard.append((other, data))

    world._record = listen  # type: ignore[method-assign, assignment]
    return heard


def test_a_node_that_has_begun_anew_believes_nothing_that_was_said_to_its_predecessor() -> None:
    world = settled(3)
    name, other = world.masters[0], next(each for each in world.nodes if each not in world.masters)
    heard = recording(world, name)
    world.run(2)
    world.crash(name)
    world.kill(other)
    world.run(1)
    world.start(other)
    world.run(1)
    for receiver, data in heard:
        if receiver.name == other:
            replay_all(world, name, [other], [data])
    fleet = world.nodes[other].node.fleet
    assert fleet is not None
    assert not fleet.link.peers[name].was_heard


@pytest.mark.parametrize("is_back", [False, True])
def test_a_dead_node_does_not_live_again_by_what_it_once_said(is_back: bool) -> None:
    world = settled(3)
    name = world.masters[0]
    heard = recording(world, name)
    world.run(10)
    world.crash(name)
    world.run(5)
    if is_back:
        world.boot(name)
        world.run(20)
    began = world.now
    others = [each for each in world.nodes if each != name]
    for _ in range(20):
        replay_all(world, name, others, [data for _, data in heard])
        world.run(INTERVAL)
    assert changes(world, began) == []
    assert [what for at, _, _, what, _ in world.trace if at >= began and what.startswith("node")] == []


def test_a_goodbye_of_a_former_life_ends_nobody() -> None:
    world = settled(2)
    name = world.masters[0]
    heard = recording(world, name)
    world.stop(name)
    world.run(5)
    goodbyes = [data for _, data in heard if wire.parse(data, (KEY,)).flags & HelloFlag.LEAVES]
    assert goodbyes
    world.start(name)
    world.run(5)
    began = world.now
    other = next(each for each in world.nodes if each != name)
    replay_all(world, name, [other], goodbyes)
    world.run(5)
    assert [what for at, _, _, what, _ in world.trace if at >= began and what.startswith("node")] == []


def test_a_datagram_to_another_node_is_not_believed() -> None:
    """Each receiver has its own sequence, so it may be ahead of what was heard here."""
    world = settled(3)
    name = world.masters[0]
    world.silence(name, sorted(set(world.nodes) - {name})[0])
    world.run(10)
    deaf, hearing = sorted(set(world.nodes) - {name})
    heard = recording(world, name)
    world.run(3)
    fleet = world.nodes[deaf].node.fleet
    assert fleet is not None
    assert not fleet.link.peers[name].alive
    replay_all(world, name, [deaf], [data for receiver, data in heard if receiver.name == hearing])
    assert not fleet.link.peers[name].alive


def test_an_old_datagram_that_comes_late_is_no_sign_of_life() -> None:
    """It was lost, and somebody kept it."""
    world = settled(2)
    name = world.masters[0]
    other = next(each for each in world.nodes if each != name)
    kept: list[bytes] = []
    heard = recording(world, name)
    transmit = world._transmit

    def lose_every_other(sender: Machine, receiver: Machine, data: bytes) -> None:
        if sender.name == name and len(kept) < 5 and world.random.random() < 0.3:
            kept.append(data)
        else:
            transmit(sender, receiver, data)

    world._transmit = lose_every_other  # type: ignore[method-assign]
    world.run(3)
    assert len(kept) == 5
    assert heard
    world.crash(name)
    for data in kept:
        world.run(0.2)
        replay_all(world, name, [other], [data])
    fleet = world.nodes[other].node.fleet
    assert fleet is not None
    assert not fleet.link.peers[name].alive
    assert world.masters == [other]


def test_a_state_that_nobody_repeats_any_more_is_forgotten() -> None:
    """A reload has removed the instance there."""
    world = preferring("a")
    node = world.nodes["a"]
    world._deliver(node, Reloaded(replace(node.config, instances=())))
    world.run(10)
    known = world.nodes["b"].node.fleet
    assert known is not None
    assert known.link.peers["a"].alive
    assert known.link.peers["a"].instances == {}
