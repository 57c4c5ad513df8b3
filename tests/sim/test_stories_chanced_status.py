"""What people see of planned moves with the second chance: status, problems, news, orders. All times are virtual."""

from dataclasses import replace
from typing import Any

import pytest

from floatip.connection_words import sentences
from floatip.core.events import Drained, HandoverAsked, Order, Reloaded, StreamOver
from floatip.core.orders import Progress, progress
from floatip.core.second_chance.terms import End, Over
from floatip.core.second_chance_problems import SETTLE
from floatip.core.settings import SecondChance
from floatip.core.snapshot import describe
from floatip.core.state import SecondChanceView, Status
from tests.sim.chanced import LIMIT, Chanced
from tests.sim.test_stories_chanced import CONNECTIONS, lines, settled
from tests.sim.test_stories_linked import until
from tests.sim.world import INSTANCE, RUNNING

NOW = 0.2


def status(world: Chanced, name: str) -> Status:
    return describe(world.nodes[name].node, world.now)


def chance(world: Chanced, name: str) -> SecondChanceView:
    known = status(world, name).second_chance
    assert known
    return known


def said(world: Chanced, name: str) -> list[str]:
    return [one.text for one in sentences(status(world, name))]


def problems(world: Chanced, name: str) -> list[tuple[str, str, str]]:
    found = status(world, name).problems
    return [(one.subject, one.severity, one.what) for one in found if one.code == "second-chance"]


def drained(world: Chanced, name: str) -> Progress:
    found = progress(world.nodes[name].node, Drained(Order("", 0.0)), force=False)
    assert isinstance(found, Progress)
    return found


def empty(world: Chanced, since: float = 0) -> list[tuple[str, str]]:
    return [(who, what.rpartition(" ")[2]) for _, who, what in lines(world, since, "empty")]


def wanting(world: Chanced, **changes: Any) -> None:
    """All nodes get another configuration."""
    for machine in world.nodes.values():
        config = machine.node.config
        assert config.second_chance
        world._deliver(machine, Reloaded(replace(config, second_chance=replace(config.second_chance, **changes))))


# The status


def test_the_status_says_with_whom_it_works() -> None:
    world = settled()
    known = chance(world, "a")
    assert known.usable
    assert (known.mode, known.limit, known.port) == ("auto", LIMIT, SecondChance().port)
    assert [(one.node, one.works, one.fault) for one in known.nodes] == [("b", True, "")]
    assert known.nodes[0].for_ > 3
    assert said(world, "a") == ["ready: b"]


def test_without_a_second_chance_nothing_is_said() -> None:
    world = settled()
    for machine in world.nodes.values():
        world._deliver(machine, Reloaded(replace(machine.node.config, second_chance=None)))
    assert status(world, "a").second_chance is None
    assert said(world, "a") == []


def test_both_nodes_say_how_many_connections_go_on_where_and_for_how_long() -> None:
    world = settled()
    world.hand_over("a")
    until(world, "b")
    world.run(4)
    (here,), (there,) = chance(world, "a").streams, chance(world, "b").streams
    assert (here.node, here.forwards, here.connections) == ("b", False, CONNECTIONS)
    assert (there.node, there.forwards, there.connections) == ("a", True, CONNECTIONS)
    for one in (here, there):
        assert one.for_ == pytest.approx(4, abs=NOW)
        assert one.left == pytest.approx(LIMIT - 4, abs=NOW)
    assert said(world, "a")[0] == f"{CONNECTIONS} go on here by b (since 4 s, at most 26 s more)"
    assert said(world, "b")[0] == f"{CONNECTIONS} of a go on there (since 4 s, at most 26 s more)"


def test_a_stopping_node_says_first_for_how_many_it_waits() -> None:
    world = settled()
    world.stop("a")
    until(world, "b")
    world.run(4)
    known = status(world, "a")
    (stopping,) = (one for one in known.problems if one.code == "stopping")
    assert known.problems[0] == stopping
    assert f"waits for {CONNECTIONS} connections that go on here by b, 26 s at most" in stopping.what
    assert chance(world, "a").waits
    assert said(world, "a")[0] == f"{CONNECTIONS} go on here by b; floatip stops when they end, in 26 s at most"
    assert not chance(world, "b").waits


def test_what_ended_is_counted_and_kept() -> None:
    world = settled()
    world.hand_over("a")
    until(world, "b")
    world.run(LIMIT + 3)
    for name, forwards in (("a", False), ("b", True)):
        known = chance(world, name)
        (last,) = known.ended
        assert (last.forwards, last.connections) == (forwards, CONNECTIONS)
        assert known.cut == CONNECTIONS
        assert last.why == f"the limit of {LIMIT:g} s"
    assert chance(world, "b").ends == {"limit": 1}
    assert chance(world, "a").ends == {"there": 1}, "only the carrier knows why"
    assert said(world, "b")[-1] == f"{CONNECTIONS} of a were reset 3 s ago: the limit of {LIMIT:g} s"


def test_a_move_of_nothing_is_no_news() -> None:
    world = settled()
    world.connections["a"].clear()
    world.hand_over("a")
    until(world, "b")
    world.run(8)
    assert chance(world, "b").ends == {"done": 1}
    assert not lines(world, 0, "connections")


def test_a_move_back_resets_nothing_and_says_so() -> None:
    world = settled()
    world.hand_over("a")
    until(world, "b")
    world.run(6)
    world.hand_over("b")
    until(world, "a")
    world.run(6)
    for name in ("a", "b"):
        assert chance(world, name).cut == 0
        assert chance(world, name).ends == {"done": 1, "moved-on": 1}, "those of a; and b had none"
        assert not any("reset" in each for each in said(world, name))
    assert not [what for _, _, what in lines(world, 0, "connections") if "cut off" in what]


def test_news_are_of_the_begin_and_of_the_end() -> None:
    world = settled()
    world.hand_over("a")
    until(world, "b")
    world.run(4)
    world.connections["a"].clear()
    world.run(4)
    found = [(who, what) for _, who, what in lines(world, 0, "connections")]
    assert sorted(found) == [
        ("a", "connections b ended"),
        ("a", "connections b kept"),
        ("b", "connections a ended"),
        ("b", "connections a kept"),
    ]


def test_a_node_that_is_not_heard_through_the_tunnel_says_so_and_the_other_one_knows() -> None:
    """Frames pass from a to b only."""
    world = settled()
    take = world._take_frame
    world._take_frame = lambda to, frame: take(to, frame) if to == "b" else None  # type: ignore[method-assign]
    world.run(8)
    (one,), (other,) = chance(world, "a").nodes, chance(world, "b").nodes
    assert (one.works, one.fault, one.why) == (False, "unheard", "nothing comes from b through the tunnel")
    assert (other.works, other.fault) == (False, "deaf")
    assert said(world, "b") == ["a does not work: a hears nothing from this node through the tunnel"]


# Problems


def test_with_mode_auto_nothing_is_a_problem() -> None:
    world = settled()
    world.no_tunnel = True
    world.run(20)
    assert not chance(world, "a").nodes[0].works
    assert problems(world, "a") == []


def test_with_mode_on_a_tunnel_that_does_not_work_is_a_warning() -> None:
    world = settled()
    wanting(world, is_wanted=True)
    world.run(10)
    assert problems(world, "a") == []
    world.no_tunnel = True
    world.run(SETTLE + 5)
    why = "nothing comes from b through the tunnel"
    what = f"a planned move between this node and b resets connections: {why}"
    assert problems(world, "a") == [("b", "warning", what)]
    world.no_tunnel = False
    world.run(3)
    assert problems(world, "a") == []


def test_a_node_that_is_gone_is_no_problem_of_the_tunnel() -> None:
    world = settled()
    wanting(world, is_wanted=True)
    world.crash("b")
    world.run(SETTLE + 10)
    assert problems(world, "a") == []


def test_nothing_is_a_problem_right_after_the_start() -> None:
    world = Chanced(prefer=("a",), wanted=True)
    world.no_tunnel = True
    world.run(SETTLE - 1)
    assert problems(world, "a") == []
    world.run(SETTLE + 4)
    assert [subject for subject, *_ in problems(world, "a")] == ["b"]


def test_a_node_that_cannot_take_part_is_a_warning_but_not_right_after_the_start() -> None:
    world = Chanced(prefer=("a",), wanted=True)
    world.run(0.1)
    world.restart_process("a", after=60)
    world.run(SETTLE - 1)
    assert problems(world, "a") == []
    world.run(2)
    what = "a planned move from or to this node resets connections: its process was killed"
    assert problems(world, "a") == [("a", "warning", what)]


def test_a_tunnel_that_led_nowhere_is_a_warning_until_a_move_has_used_it() -> None:
    """Its frames pass, so it works as far as anybody can tell."""
    world = settled()
    for end in (End.UNACCEPTED, End.UNANSWERED):
        world._deliver(world.nodes["b"], StreamOver(Over("a", True, 5, "a accepts none", end)))
        world.run(20)
        what = "the last planned move from a reset open connections (5): a accepts none"
        assert problems(world, "b") == [("a", "warning", what)]
    world.no_tunnel = True
    world.run(10)
    assert problems(world, "b") == [], "that it does not work says more"
    world.no_tunnel = False
    world.run(3)
    assert problems(world, "b")
    world.hand_over("a")
    until(world, "b")
    world.connections["a"].clear()
    world.run(8)
    assert problems(world, "b") == []


# What was moved away has gone


def test_a_drain_is_over_when_the_last_connection_has_ended() -> None:
    world = settled()
    world.drain("a")
    until(world, "b")
    world.run(6)
    assert empty(world) == []
    found = drained(world, "a")
    assert found.done
    assert found.kept
    assert (found.kept.connections, found.kept.nodes) == (CONNECTIONS, ("b",))
    assert found.kept.until == pytest.approx(world.now + LIMIT - 6, abs=NOW)
    world.connections["a"].clear()
    world.run(3)
    assert empty(world) == [("a", "after-drain")]
    found = drained(world, "a")
    assert (found.kept, found.gone) == (
        None,
        "all that this node carried has moved away, and no connection goes on here",
    )
    world.drain("a")
    world.run(6)
    assert empty(world) == [("a", "after-drain")], "it is told once"


def test_a_drain_is_over_too_when_they_are_cut_off() -> None:
    world = settled()
    world.drain("a")
    until(world, "b")
    world.run(LIMIT + 3)
    assert empty(world) == [("a", "after-drain")]
    gone = f"all that this node carried has moved away; {CONNECTIONS} connections were reset: the limit of {LIMIT:g} s"
    assert drained(world, "a").gone == gone


@pytest.mark.parametrize("why", ["no connection", "no tunnel", "no second chance"])
def test_a_drain_is_over_at_once_where_nothing_goes_on_here(why: str) -> None:
    world = settled()
    if why == "no connection":
        world.connections["a"].clear()
    elif why == "no tunnel":
        world.no_tunnel = True
        world.run(5)
    else:
        for machine in world.nodes.values():
            world._deliver(machine, Reloaded(replace(machine.node.config, second_chance=None)))
    world.drain("a")
    until(world, "b")
    world.run(3)
    assert empty(world) == [("a", "after-drain")]
    assert drained(world, "a").kept is None


def test_a_drain_of_a_node_that_carries_nothing_is_over_at_once() -> None:
    world = settled()
    world.drain("b")
    world.run(0.1)
    assert empty(world) == [("b", "after-drain")]


def test_before_it_is_known_how_many_go_on_nobody_says_that_none_does() -> None:
    world = settled()
    world.drain("a")
    until(world, "b")
    while not chance(world, "a").streams:
        found = drained(world, "a")
        assert not found.done or (found.kept and found.kept.connections is None)
        world.run(0.01)
    assert empty(world) == []


def test_a_handover_is_over_when_the_last_connection_has_ended() -> None:
    world = settled()
    world.hand_over("a")
    until(world, "b")
    world.run(6)
    assert empty(world) == []
    world.connections["a"].clear()
    world.run(3)
    assert empty(world) == [("a", "after-handover")]


def test_a_drain_that_is_taken_back_is_not_over() -> None:
    world = settled()
    world.drain("a")
    until(world, "b")
    world.run(3)
    world.undrain("a")
    world.connections["a"].clear()
    world.run(8)
    assert empty(world) == []


def test_a_handover_is_done_when_the_address_has_moved_and_says_what_is_left() -> None:
    world = settled()
    order = HandoverAsked((INSTANCE,), "b")
    world._deliver(world.nodes["a"], order)
    until(world, "b")
    world.run(4)
    found = progress(world.nodes["a"].node, order, force=False)
    assert isinstance(found, Progress)
    assert found.done
    assert found.kept
    assert (found.kept.connections, found.kept.nodes) == (CONNECTIONS, ("b",))
    world.connections["a"].clear()
    world.run(4)
    found = progress(world.nodes["a"].node, order, force=False)
    assert isinstance(found, Progress)
    assert (found.kept, found.gone) == (
        None,
        "all that this node carried has moved away, and no connection goes on here",
    )


def test_a_handover_that_nobody_takes_up_is_not_over() -> None:
    world = settled()
    world.sicken("b")
    world.run(2)
    world._deliver(world.nodes["a"], HandoverAsked((INSTANCE,), "b"))
    world.run(8)
    world.crash("b")
    world.connections["a"].clear()
    world.run(8)
    assert world.masters == ["a"]
    assert empty(world) == []


def test_a_stop_a_crash_and_a_failed_check_are_no_order() -> None:
    for fault in ("stop", "sicken"):
        world = settled()
        getattr(world, fault)("a")
        until(world, "b")
        world.connections["a"].clear()
        world.run(8)
        assert empty(world) == []


def test_a_process_that_is_killed_and_started_again_does_not_end_a_stop() -> None:
    """For a moment it says of nothing that it is kept."""
    world = settled()
    world.stop("a")
    until(world, "b")
    world.run(5)
    world.restart_process("a", after=1.0)
    world.run(5)
    assert world.nodes["a"].power is RUNNING
    assert chance(world, "a").streams[0].connections == CONNECTIONS
    world.connections["a"].clear()
    world.run(6)
    assert world.nodes["a"].power is not RUNNING
