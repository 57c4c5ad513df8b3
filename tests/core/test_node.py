"""The node through its one door: what comes out, and in which order."""

from dataclasses import replace
from ipaddress import IPv4Interface, ip_address
from typing import Any

import pytest

from floatip.core import settings
from floatip.core.addresses import Placed
from floatip.core.bgp.rank import Marks, Rank, med
from floatip.core.bgp.wire import Keepalive, pack
from floatip.core.drops import KEPT
from floatip.core.election.elector import Role
from floatip.core.events import (
    AdvertReceived,
    BytesReceived,
    CheckDone,
    ClockMoved,
    Connected,
    Dial,
    Disconnected,
    Drained,
    Effect,
    Failing,
    Failure,
    LinkChanged,
    Measured,
    Order,
    Reloaded,
    Started,
    StopRequested,
    Ticked,
    Writable,
)
from floatip.core.instance import Instance
from floatip.core.link.wire import NodeFlag
from floatip.core.node import LEAVE_TIME, SUBJECTS_KEPT
from floatip.core.settings import Check, Static, Vrrp
from floatip.core.state import FRESH_SESSION
from floatip.core.vrrp import wire
from floatip.core.vrrp.wire import Advert
from tests.core.host import (
    CONFIG,
    DOWN,
    LOCAL,
    MARKS,
    PEER,
    RS,
    RS2,
    SICK,
    THIRD,
    US,
    VRRP,
    WEB,
    WELL,
    A,
    B,
    Host,
    advert,
    backup,
    config,
    elected,
    held,
    master,
    problems,
)

# From the start to master


def test_before_the_start_nothing_is_done_and_nothing_waited_for() -> None:
    host = Host(start=False)
    assert host.node.deadline == float("inf")
    assert host.tell(Ticked(), WELL, advert(100), held(), at=10) == ["check up"]


def test_nothing_is_announced_before_it_is_held() -> None:
    host = Host(kernel_answers=False).run(10)
    assert (host.role, host.rank) == (Role.MASTER, Rank.TAKEOVER)
    assert [word for _, word in host.log if word.endswith("192.0.2.10")] == ["hold 192.0.2.10"] * 11
    assert host.tell(held(A)) == ["address held", "takeover 192.0.2.10"]


def test_an_address_that_is_there_already_is_announced_at_once() -> None:
    host = Host(start=False, kernel_answers=False)
    host.tell(held(A), Started(), WELL)
    assert "standby 192.0.2.10" in [word for _, word in host.log]


def test_a_check_that_answers_before_the_start_is_told_with_it_where_the_nodes_elect() -> None:
    host = Host(among_nodes(), start=False)
    host.tell(WELL)
    told = host.tell(Started())
    assert [word for word in told if word in ("health up", "role backup")] == ["health up", "role backup"]


def test_the_others_are_told_when_the_sessions_are_old_enough_although_nothing_else_happens() -> None:
    host = Host(among_nodes())
    assert host.node.fleet
    link = host.node.fleet.link
    host.run(FRESH_SESSION - 0.1)
    assert link.own_node
    assert NodeFlag.SEASONED not in link.own_node.flags
    host.run(FRESH_SESSION + 0.2)
    assert NodeFlag.SEASONED in link.own_node.flags


def test_a_node_that_leaves_goes_on_speaking_while_its_routes_are_everybodys_last_choice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where the time to leave and that of a hello come at once."""
    host = Host(among_nodes(speaker={"graceful_shutdown": 10}))
    host.run(30)
    assert host.node.fleet
    monkeypatch.setattr(host.node.fleet, "heirs", lambda instance: ["haproxy2"])  # who never takes over
    host.tell(StopRequested())
    host.tick(30 + LEAVE_TIME + 1)
    host.run(30 + LEAVE_TIME + 8)
    assert host.node.draining
    assert max(host.when("senddatagram")) > 30 + LEAVE_TIME + 7


def test_a_drained_node_of_a_vrrp_pair_hands_over_and_comes_back_only_when_asked() -> None:
    link = among_nodes().link
    host = master(replace(config(), link=link))
    assert "advert 0" in host.tell(Drained(Order("kernel update")))
    assert (host.role, host.node.instances["VI_1"].elector.reason) == (Role.BACKUP, "drained: kernel update")
    host.tell(advert(50))
    assert host.role is Role.BACKUP
    host.tell(Drained(None))
    host.run(60)
    assert host.role is Role.MASTER


def among_nodes(**changes: Any) -> settings.Settings:
    nodes = (settings.Node("haproxy1", US), settings.Node("haproxy2", PEER))
    link = settings.Link(nodes, "haproxy1", (b"k" * 32,), bytes(8))
    return replace(config(election=settings.Nodes(), **changes), link=link)


def test_nobody_announces_before_the_checks_have_answered() -> None:
    host = Host(start=False)
    host.tell(Started())
    host.run(60)
    assert (host.role, host.rank) == (Role.INIT, Rank.NONE)
    assert host.tell(WELL) == ["check up", "health up", "role backup", "rank standby", "standby 192.0.2.10"]


def test_what_nobody_wants_any_more_is_released_at_the_start() -> None:
    host = Host(config(placement="master", interface="eth0"), start=False, kernel_answers=False)
    assert "hold" in host.tell(Started())


def test_a_new_master_announces_takeover_and_settles_by_itself() -> None:
    host = master()
    assert host.when("standby 192.0.2.10") == [0]
    assert host.when("takeover 192.0.2.10") == [DOWN]
    assert host.when("active 192.0.2.10") == [DOWN + 20]


def test_a_node_that_keeps_dying_stays_at_standby_for_a_minute_and_then_waits_as_any_backup() -> None:
    host = Host(start=False)
    host.tell(Started(barred_for=60), LinkChanged("eth0", True, ""), WELL)
    host.run(60 + DOWN - 0.01)
    assert (host.role, host.rank) == (Role.BACKUP, Rank.STANDBY)
    assert "hold 192.0.2.10" in [word for _, word in host.log]
    assert (host.when("start barred"), host.when("start steady")) == ([0], [60])
    host.run(61 + DOWN)
    assert host.when("takeover 192.0.2.10") == [60 + DOWN]


def test_a_node_that_keeps_dying_is_master_where_only_a_master_has_the_address() -> None:
    host = Host(config(placement="master", interface="eth0"), start=False)
    host.tell(Started(barred_for=60), LinkChanged("eth0", True, ""), WELL)
    host.run(DOWN)
    assert host.role is Role.MASTER
    assert ("start-limit", "floatip crashed and restarted 3 times within a minute") in problems(host)


def test_who_replaces_a_fresh_master_announces_the_second_rung_and_the_time_of_day_as_med() -> None:
    host = Host()
    host.tell(ClockMoved(1000.0))
    host.adverts_from_peer = 100
    host.run(5)
    host.adverts_from_peer = None
    host.run(10)
    assert host.when("takeover-again 192.0.2.10") == [5 + DOWN]
    [route] = host.node.instances["VI_1"].routes(host.node.holding, host.now).values()
    assert route.med == med(50, US, Rank.TAKEOVER_AGAIN, 1005 + DOWN)


def test_a_master_that_goes_on_through_a_fault_of_ours_is_counted_once() -> None:
    host = Host()
    host.adverts_from_peer = 100
    host.run(5)
    host.tell(SICK, at=5)
    host.run(15)
    host.tell(WELL, at=15)
    assert host.run(20).node.instances["VI_1"].elector.other_reign_at < 5


def test_a_master_that_was_silent_for_long_may_have_begun_again() -> None:
    host = Host()
    host.adverts_from_peer = 100
    host.run(5)
    host.tell(SICK, at=5)
    host.adverts_from_peer = None
    host.run(15)
    host.adverts_from_peer = 100
    assert host.run(20).node.instances["VI_1"].elector.other_reign_at > 15


def test_a_node_that_is_master_again_after_itself_alone_needs_no_stronger_rung() -> None:
    host = Host().run(5)
    host.tell(SICK, at=5)
    host.tell(WELL, at=6)
    host.run(15)
    assert (host.role, host.rank) == (Role.MASTER, Rank.TAKEOVER)


@pytest.mark.parametrize("role", ["primary", "secondary"])
def test_without_an_election_the_configured_role_is_announced_and_no_med(role: Any) -> None:
    host = Host(config(election=Static(role))).run(60)
    rank = Rank.ACTIVE if role == "primary" else Rank.STANDBY
    assert [word for _, word in host.log if "192.0.2.10" in word] == ["hold 192.0.2.10", f"{rank.label} 192.0.2.10"]
    [route] = host.node.instances["VI_1"].routes(host.node.holding, host.now).values()
    assert (route.rank, route.med) == (rank, None)


# Health, links, role


def test_a_sick_master_gives_up_withdraws_and_keeps_the_address() -> None:
    host = master()
    assert host.tell(SICK) == [
        "check down", "health down", "advert 0", "role fault", "rank none", "withdraw 192.0.2.10",
    ]  # fmt: skip
    assert host.tell(WELL)[-2:] == ["rank standby", "standby 192.0.2.10"]
    assert host.when("hold 192.0.2.10") == [0]


def test_a_sick_node_with_a_last_resort_announces_it() -> None:
    host = master(config(last_resort=True))
    assert host.tell(SICK)[-2:] == ["rank last-resort", "last-resort 192.0.2.10"]


def test_a_link_that_is_down_ends_mastership_and_not_the_service() -> None:
    host = master()
    assert host.tell(LinkChanged("eth0", False, "eth0 is down")) == []
    assert host.tick(30.05) == [
        "link down", "advert 0", "role fault", "rank standby", "standby 192.0.2.10",
    ]  # fmt: skip
    assert host.tell(LinkChanged("eth0", False, "eth0 is down"), LinkChanged("eth9", False, "")) == ["link up"]
    assert host.tell(LinkChanged("eth0", True, "")) == ["link up", "role backup", "standby 192.0.2.10"]


def test_a_source_that_is_missing_is_a_fault_of_its_own_instance_only() -> None:
    host = master()
    other = LinkChanged("eth0", False, "eth0 does not have fe80::1", 7, frozenset({ip_address("fe80::1")}))
    assert host.tell(other, at=30) == []
    assert host.tick(30.05) == ["link down"]
    assert host.node.instances["VI_1"].role is Role.MASTER
    assert problems(host) == []
    own = LinkChanged("eth0", False, "eth0 does not have 10.0.0.1", 7, frozenset({ip_address("10.0.0.1")}))
    assert host.tell(own, at=31) == ["link down", "advert 0", "role fault", "rank standby", "standby 192.0.2.10"]


def test_a_link_that_is_back_within_50_ms_was_never_gone() -> None:
    host = master()
    assert host.tell(LinkChanged("eth0", False, "eth0 does not have 10.0.0.1"), at=30) == []
    assert host.tell(LinkChanged("eth0", False, "eth0 has no carrier"), at=30.04) == []
    assert host.tell(LinkChanged("eth0", True, ""), at=30.049) == []
    host.run(60)
    assert host.when("link down") == host.when("role fault") == []


def test_a_link_that_blinks_again_and_again_is_a_problem_until_it_is_steady() -> None:
    host = master()
    for number in range(5):
        assert problems(host) == []
        # With the second fault of one loss it is still that loss.
        host.tell(LinkChanged("eth0", False, "eth0 is down"), at=31 + number / 10)
        host.tell(LinkChanged("eth0", False, "eth0 has no carrier"), at=31.02 + number / 10)
        host.tell(LinkChanged("eth0", True, ""), at=31.04 + number / 10)
    why = "lost at least 5 times, never steady for 60 s since, the last time because eth0 is down"
    assert problems(host) == [("link-unsteady", f"eth0 comes and goes: {why}")]
    assert (host.role, host.when("link unsteady")) == (Role.MASTER, [31.4])
    host.run(91.3)
    assert problems(host) == [("link-unsteady", f"eth0 comes and goes: {why}")]
    host.run(91.5)
    assert problems(host) == []


def test_a_link_that_goes_on_blinking_is_one_problem_and_not_a_new_one_each_time() -> None:
    host = master()
    for number in range(20):
        host.tell(LinkChanged("eth0", False, "eth0 is down"), at=31 + 14 * number)
        host.tell(LinkChanged("eth0", True, ""), at=31.04 + 14 * number)
        host.run(44.9 + 14 * number)
        assert bool(problems(host)) is (number >= 4)
    assert len(host.when("link unsteady")) == 1


def test_a_link_that_is_lost_now_and_then_is_no_problem() -> None:
    host = master()
    for number in range(10):
        host.tell(LinkChanged("eth0", False, "eth0 is down"), at=31 + 16 * number)
        host.tell(LinkChanged("eth0", True, ""), at=31.04 + 16 * number)
        assert not [code for code, _ in problems(host) if code == "link-unsteady"]


def test_another_fault_of_a_link_does_not_prolong_the_patience_and_neither_does_a_reload() -> None:
    host = master()
    host.tell(LinkChanged("eth0", False, "eth0 does not have 10.0.0.1"), at=30)
    host.tell(LinkChanged("eth0", False, "eth0 is down"), at=30.04)
    host.reload(CONFIG)
    host.run(31)
    assert host.when("link down") == host.when("role fault") == [30.05]
    assert host.node.links["eth0"] == "eth0 is down"


def test_a_link_that_is_down_at_the_start_is_down_at_once() -> None:
    host = Host(start=False)
    host.tell(LinkChanged("eth0", False, "eth0 is down"), Started(), WELL)
    host.run(10)
    assert (host.role, host.when("link down")) == (Role.FAULT, [0])


UNKEPT = frozenset({Failure("192.0.2.10/32 on lo", "something removes it", unkept=frozenset({Placed("lo", A)}))})


def test_a_master_that_cannot_keep_its_address_hands_over_once_and_serves_if_nobody_takes_over() -> None:
    host = master()
    assert host.tell(Failing("removals", UNKEPT)) == [
        "failure failed", "advert 0", "role backup", "rank standby", "standby 192.0.2.10",
    ]  # fmt: skip
    assert host.node.instances["VI_1"].elector.reason == "192.0.2.10/32 on lo: something removes it"
    host.run(60)
    assert (host.role, host.rank) == (Role.MASTER, Rank.ACTIVE)
    assert host.tell(Failing("removals", frozenset())) == ["failure mended"]


def test_a_better_node_that_cannot_keep_its_address_preempts_when_it_can_again() -> None:
    host = master()
    host.tell(Failing("removals", UNKEPT))
    host.adverts_from_peer = 10
    host.run(60)
    assert (host.role, host.rank) == (Role.BACKUP, Rank.STANDBY)
    host.tell(Failing("removals", frozenset()))
    host.run(65)
    assert host.role is Role.MASTER


def test_a_failure_of_many_addresses_concerns_the_instances_of_all() -> None:
    second = replace(WEB, name="VI_2", addresses=(B,), election=elected(vrid=52))
    host = Host(replace(CONFIG, instances=(WEB, second))).run(30)
    both = frozenset({Placed("lo", A), Placed("lo", B)})
    host.tell(Failing("removals", frozenset({Failure("removals: others", "2 more", unkept=both)})))
    assert {one.role for one in host.node.instances.values()} == {Role.BACKUP}


def test_an_address_of_nobody_that_is_not_kept_concerns_nobody() -> None:
    host = master()
    other = frozenset({Failure("192.0.2.11/32 on lo", "something removes it", unkept=frozenset({Placed("lo", B)}))})
    assert host.tell(Failing("removals", other)) == ["failure failed"]


def test_a_damped_node_follows_a_lower_master_until_it_was_quiet() -> None:
    host = master()
    for at in (31, 41, 51):
        host.tell(SICK, at=at)
        host.run(at + 5)
        host.tell(WELL)
    host.adverts_from_peer = 10
    host.run(350)
    assert (host.role, host.rank) == (Role.BACKUP, Rank.STANDBY)
    host.run(360)
    assert (host.role, host.rank) == (Role.MASTER, Rank.TAKEOVER)


def test_a_damped_node_that_is_alone_is_master_by_role_and_by_rank() -> None:
    host = master()
    for at in (31, 41, 51):
        host.tell(SICK, at=at)
        host.run(at + 5)
        host.tell(WELL)
    host.run(56 + DOWN)
    assert (host.role, host.rank) == (Role.MASTER, Rank.TAKEOVER)


def test_a_master_that_hears_a_better_one_announces_standby_at_once() -> None:
    host = master()
    assert host.tell(advert(100)) == ["role backup", "rank standby", "standby 192.0.2.10"]


@pytest.mark.parametrize("host", [master, backup])
def test_an_advert_that_changes_nothing_causes_nothing_but_adverts(host: Any) -> None:
    one = host()
    one.tell(advert(10))
    answer = ["advert 50"] if host is master else []
    for _ in range(3):
        assert one.tell(advert(10 if host is master else 100)) == answer


def test_a_master_that_hears_a_lower_one_says_so_once_a_second() -> None:
    host = master()
    assert host.tell(advert(10)) == ["advert 50", "advert lower"]
    assert host.tell(advert(10)) == ["advert 50"]
    assert host.tell(advert(10), at=host.now + 1) == ["advert 50", "advert lower"]


def test_a_backup_that_asks_its_master_and_one_that_hands_over_are_no_lower_masters() -> None:
    host = master()
    assert (host.tell(advert(1)), host.tell(advert(0))) == (["advert 50"], ["advert 50"])


def test_a_hanging_check_is_judged_at_its_timeout() -> None:
    host = Host(replace(CONFIG, checks=(Check("web", interval=1, timeout=2),)), start=False)
    assert "probe web" in host.tell(Started())
    host.tell(CheckDone("web", 1, True, ""))
    host.run(3.5)
    assert (host.when("probe web"), host.when("health down")) == ([0, 1, 3], [3])


# Stop


def test_a_stop_says_priority_0_then_withdraws_then_ceases_and_keeps_the_address_for_a_while() -> None:
    host = master()
    assert host.tell(StopRequested(), at=30) == [
        "advert 0", "role init", "rank none", "withdraw 192.0.2.10", "notification 6/2", "close", "session down",
    ]  # fmt: skip
    assert host.tick(30.99) == host.tell(StopRequested(), advert(0), advert(100)) == []
    host.kernel_answers = False
    assert (host.node.deadline, host.tick(31)) == (31, ["hold"])
    assert host.tell(held(), at=31.001) == ["address released", "exit"]
    assert (host.node.deadline, host.tick(40)) == (float("inf"), [])


def test_a_stop_does_not_wait_for_ever_for_the_release() -> None:
    host = master()
    host.tell(StopRequested(), at=30)
    host.kernel_answers = False
    host.tick(31)
    assert host.tick(31.49) == []
    assert host.tick(31.5) == ["exit"]


def test_a_stop_waits_while_the_kernel_releases_one_address_after_another() -> None:
    host = master(config(addresses=(A, B)))
    host.tell(StopRequested(), at=30)
    host.kernel_answers = False
    host.tick(31)
    assert host.tell(held(A), at=31.4) == ["address released"]
    assert host.tick(31.6) == []
    assert host.tell(held(), at=31.8) == ["address released", "exit"]


def test_an_address_that_somebody_deletes_during_the_stop_is_not_put_back() -> None:
    host = master()
    host.tell(StopRequested(), at=30)
    assert host.tell(held(), at=30.5) == ["address released"]
    assert host.tick(31) == ["hold", "exit"]


def test_a_stop_before_the_start_releases_and_exits() -> None:
    host = Host(start=False)
    host.tell(StopRequested())
    assert host.tick(1) == ["hold", "exit"]


def test_where_the_master_alone_has_the_address_a_stop_releases_it_soon_after_another_node_is_master() -> None:
    host = master(replace(VLAN, speaker=None))
    host.tell(StopRequested(), at=30)
    assert host.tell(advert(0), at=30.3) == []
    assert host.node.deadline == 31
    assert host.tell(advert(100), at=30.6) == []
    assert (host.node.deadline, host.tick(30.8)) == (30.8, ["hold"])
    host.run(32)
    assert host.when("exit") == [30.8]


def test_a_stop_goes_on_as_before_where_the_new_master_is_heard_late_or_routes_point_here() -> None:
    for config_of, at in ((replace(VLAN, speaker=None), 30.9), (VLAN, 30.1)):
        host = master(config_of)
        host.tell(StopRequested(), at=30)
        assert host.tell(advert(100), at=at) == []
        assert host.node.deadline == 31


def test_a_start_or_a_reload_during_the_stop_does_not_hold_it_up() -> None:
    for event in (Started(), Reloaded(config())):
        host = master()
        host.tell(StopRequested(), at=30)
        assert host.tell(event, at=30.5) == []
        assert host.tick(31) == ["hold"]
        host.run(32)
        assert host.when("exit") == [31]


# Somebody deletes the address


def test_a_deleted_address_is_put_back_at_once_and_stays_announced_meanwhile() -> None:
    host = master()
    host.kernel_answers = False
    assert host.tell(held(), at=30) == ["address lost", "hold 192.0.2.10"]
    assert host.tick(30.049) == []
    assert host.tell(held(A), at=30.049) == ["address held"]
    host.run(60)
    assert host.when("withdraw 192.0.2.10") == []


def test_an_address_that_does_not_come_back_is_withdrawn_after_50_ms_and_asked_for_each_second() -> None:
    host = master()
    host.kernel_answers = False
    host.tell(held(), at=30)
    host.run(32.5)
    assert host.when("withdraw 192.0.2.10") == [30.05]
    assert host.when("hold 192.0.2.10") == [0, 30, 31, 32]
    assert host.tell(held(A)) == ["address held", "active 192.0.2.10"]


def test_addresses_of_others_are_none_of_our_business() -> None:
    host = master()
    assert host.tell(held(A, B)) == host.tell(held(A)) == []


# Cut off


@pytest.mark.parametrize(
    ("election", "time"),
    [(VRRP, DOWN), (elected(version=3, advert_interval=0.1), 3), (elected(advert_interval=2.0), DOWN + 3)],
)
def test_a_master_whom_no_route_server_acknowledges_is_cut_off_and_gives_up(election: Vrrp, time: float) -> None:
    host = master(config(election=election))
    host.acknowledging = False
    host.run(60)
    # The last acknowledgement was measured before the KEEPALIVE of 30 s.
    assert host.when("network cut-off") == [pytest.approx(30 + time, abs=0.2)]
    gone = host.log.index((host.when("network cut-off")[0], "network cut-off"))
    assert [word for _, word in host.log[gone : gone + 5]] == [
        "network cut-off", "advert 0", "role backup", "rank standby", "standby 192.0.2.10",
    ]  # fmt: skip
    assert len(host.when("role master")) == 1


def test_a_slow_master_does_not_change_when_a_node_is_cut_off() -> None:
    host = Host(config(election=elected(version=3))).run(10)
    said = wire.pack(Advert(3, 51, 100, 40.95, (A.ip,)), PEER, US)
    host.tell(AdvertReceived("eth0", PEER, US, 255, said))
    host.reload(config(election=elected(version=3, priority=60)))
    host.acknowledging = False
    host.run(60)
    assert host.when("network cut-off") == [pytest.approx(10 + DOWN, abs=1)]


def test_with_all_sessions_down_a_node_is_cut_off_and_keeps_the_address() -> None:
    host = master()
    host.dialling_works = False
    host.tell(Disconnected(RS, "reset"), at=30)
    host.run(60)
    assert host.when("network cut-off") == [pytest.approx(30 + DOWN, abs=0.2)]
    assert host.when("hold 192.0.2.10") == [0]


def test_one_route_server_that_acknowledges_is_enough() -> None:
    host = master(config(speaker={"peers": (RS, RS2)}))
    host.acknowledging = host.dialling_works = False
    for second in range(31, 60):
        host.now = second
        host.tell(Measured(RS, False), Measured(RS2, True), BytesReceived(RS2, pack(Keepalive())), Ticked())
    assert host.when("network cut-off") == []
    assert host.role is Role.MASTER


def test_after_the_first_acknowledgement_a_cut_off_node_listens_before_it_claims() -> None:
    host = master()
    host.acknowledging = False
    host.run(60)
    host.acknowledging = True
    host.run(80)
    [back] = host.when("network connected")
    assert 60 <= back <= 61
    assert host.when("role master")[1:] == [pytest.approx(back + DOWN)]


def test_a_node_that_reaches_no_route_server_from_the_start_never_claims() -> None:
    host = Host(start=False)
    host.dialling_works = False
    host.tell(Started(), WELL)
    host.run(60)
    assert host.when("role master") == []


def test_without_route_servers_nobody_is_cut_off() -> None:
    host = Host(replace(CONFIG, speaker=None)).run(60)
    assert (host.role, host.node.network.cut_off) == (Role.MASTER, False)


def test_without_route_servers_no_reason_speaks_of_routes_and_nothing_is_damped() -> None:
    host = Host(replace(CONFIG, speaker=None)).run(DOWN)
    decision = host.node.instances["VI_1"].decision
    assert (decision.rank, decision.reason) == (Rank.ACTIVE, "master, settled")
    for _ in range(5):
        host.tell(SICK, WELL)
    assert problems(host) == []


# Garbage


def test_what_belongs_to_no_instance_is_counted_by_reason() -> None:
    host = backup()
    assert host.tell(advert(100, vrid=52), advert(100, interface="eth1")) == []
    assert host.tell(AdvertReceived("eth0", PEER, US, 255, b"x"), AdvertReceived("eth0", RS, RS2, 255, b"")) == []
    assert host.node.strangers == {("eth0", 52): 1, ("eth1", 51): 1}
    assert host.node.dropped.counts == {
        "1 octets are too short for a VRRP header": 1,
        "0 octets are too short for a VRRP header": 1,
    }


def test_garbage_of_any_kind_makes_no_endless_list() -> None:
    host = backup()
    for length in range(8, 1000):
        host.tell(AdvertReceived("eth0", PEER, US, 255, b"\x21\x33\x64\x02" + bytes(length)))
    assert len(host.node.dropped.counts) <= KEPT + 1
    assert sum(host.node.dropped.counts.values()) == 992
    for number in range(3 * 255):
        host.tell(advert(100, vrid=number % 255 + 1, interface=f"eth{number // 255 + 1}"))
    assert len(host.node.strangers) == SUBJECTS_KEPT


def test_events_about_what_a_reload_removed_are_ignored() -> None:
    host = backup()
    before = list(host.log)
    host.tell(Connected(RS2, LOCAL), Disconnected(RS2, ""), BytesReceived(RS2, b"x"), Writable(RS2))
    host.tell(Measured(RS2, True), CheckDone("gone", 1, False, ""))
    assert host.log == before


def test_what_a_part_of_the_host_cannot_do_is_a_level() -> None:
    host = backup()
    first, second = Failure("hold 192.0.2.10 on lo", "not permitted"), Failure("hold 192.0.2.11 on lo", "not permitted")
    both = Failing("addresses", frozenset({first, second}))
    assert host.tell(both, both) == ["failure failed", "failure failed"]
    changed = replace(first, reason="no such device")
    assert host.tell(Failing("addresses", frozenset({changed})), at=40) == ["failure mended", "failure failed"]
    assert host.node.failures["addresses"] == {first.what: (30, changed)}
    assert host.tell(Failing("another part", frozenset())) == []
    assert host.tell(Failing("addresses", frozenset())) == ["failure mended"]


# Reload


def test_a_reload_of_the_same_touches_nothing() -> None:
    for host in (master(), backup()):
        assert host.reload(config()) == []
        assert host.run(60).when("role init") == []


@pytest.mark.parametrize(
    "change",
    [{"priority": 60}, {"peers": (PEER, THIRD)}, {"preempt": False}, {"min_ttl": 200}, {"auth_pass": "new"}],
)
@pytest.mark.parametrize("placement", ["all", "master"])
def test_another_figure_is_the_same_election(change: dict[str, Any], placement: Any) -> None:
    where: dict[str, Any] = {"placement": placement, "interface": "eth0"}
    host = master(config(**where))
    # The priority is a part of the MED.
    assert host.reload(config(**where, election=elected(**change))) == ["active 192.0.2.10"] * ("priority" in change)
    host.run(31)
    assert (host.role, host.rank) == (Role.MASTER, Rank.ACTIVE)
    assert host.when("advert 0") == host.when("address released") == host.when("address lost") == []
    assert [word for at, word in host.log if at > 30 and word.startswith("advert")] == [
        f"advert {change.get('priority', 50)}"
    ] * len(change.get("peers", (PEER,)))


def test_another_virtual_router_is_another_election() -> None:
    host = master()
    assert host.reload(config(election=elected(vrid=52))) == [
        "advert 0", "health up", "role backup", "rank standby", "standby 192.0.2.10",
    ]  # fmt: skip
    host.run(40)
    assert (host.role, host.when("session down")) == (Role.MASTER, [])


def test_a_shorter_interval_of_a_check_counts_at_once() -> None:
    slow, fast = (replace(CONFIG, checks=(Check("web", interval=each, timeout=1),)) for each in (600, 1))
    host = Host(slow, start=False)
    host.tell(Started())
    host.tell(CheckDone("web", 1, True, ""))
    host.run(10)
    host.reload(fast)
    assert host.tick(10) == ["probe web"]


def test_an_answer_to_what_a_check_asked_before_a_reload_does_not_count() -> None:
    old, new = (replace(CONFIG, checks=(Check("web", what=each),)) for each in ("old script", "new script"))
    host = Host(old, start=False)
    host.tell(Started())
    host.reload(new)
    assert host.tick(0.1) == ["probe web"]
    assert host.tell(CheckDone("web", 1, False, "")) == []
    assert "health up" in host.tell(CheckDone("web", 3, True, ""))


def test_a_reload_while_it_drains_keeps_it_everybodys_last_choice() -> None:
    host = master(config(speaker={"graceful_shutdown": 10}))
    host.tell(StopRequested())
    assert host.reload(config(speaker={"graceful_shutdown": 10})) == []
    host.run(60)
    assert (host.when("withdraw 192.0.2.10"), host.when("exit")) == ([40], [41])


def test_an_added_address_is_held_and_then_announced() -> None:
    host = master()
    host.kernel_answers = False
    assert host.reload(config(addresses=(A, B))) == ["hold 192.0.2.10 192.0.2.11"]
    assert host.tell(held(A, B)) == ["address held", "active 192.0.2.11"]


def test_a_removed_address_is_withdrawn_and_then_released() -> None:
    host = master(config(addresses=(A, B)))
    assert host.reload(config()) == ["withdraw 192.0.2.11", "hold 192.0.2.10"]
    assert host.role is Role.MASTER


def test_an_address_that_a_reload_moves_to_another_instance_stays_announced() -> None:
    def pair(*addresses: IPv4Interface) -> tuple[settings.Instance, ...]:
        names = enumerate(addresses, 51)
        return tuple(settings.Instance(f"VI_{vrid}", (one,), elected(vrid=vrid)) for vrid, one in names)

    host = Host(replace(CONFIG, instances=pair(A, B))).run(30)
    assert not [word for word in host.reload(replace(CONFIG, instances=pair(B, A))) if word.startswith("withdraw")]
    session = host.node.sessions[RS]
    assert session.tells(A.network)
    assert session.tells(B.network)


def test_a_removed_instance_gives_up_withdraws_and_releases() -> None:
    host = master()
    assert host.reload(replace(config(), instances=())) == ["advert 0", "role init", "withdraw 192.0.2.10", "hold"]


def test_an_added_route_server_gets_everything_and_the_others_nothing_new() -> None:
    host = master()
    assert host.reload(config(speaker={"peers": (RS, RS2)})) == []
    told = len(host.log)
    effects = host.node.handle(Ticked(), 30)
    assert Dial(RS2, 2.0) in effects
    host.perform(effects)
    assert host.node.sessions[RS2].tells(A.network)
    assert not [word for _, word in host.log[told:] if "192.0.2.10" in word]


def test_a_removed_route_server_is_told_so() -> None:
    host = master(config(speaker={"peers": (RS, RS2)}))
    assert host.reload(config(speaker={"peers": (RS2,)})) == [
        "withdraw 192.0.2.10", "notification 6/3", "close", "session down",
    ]  # fmt: skip
    assert list(host.node.sessions) == [RS2]
    assert host.node.sessions[RS2].is_up


def test_another_hold_time_opens_the_sessions_anew_and_is_not_taken_for_a_cut() -> None:
    host = master()
    assert host.reload(config(speaker={"hold_time": 30})) == [
        "withdraw 192.0.2.10", "notification 6/6", "close", "session down",
    ]  # fmt: skip
    host.run(60)
    assert (host.role, host.when("network cut-off")) == (Role.MASTER, [])
    assert host.when("session up") == [0, 30]


def test_route_servers_that_a_reload_brings_are_given_time_to_answer() -> None:
    host = Host(replace(CONFIG, speaker=None)).run(60)
    host.reload(CONFIG)
    host.run(90)
    assert (len(host.when("role master")), host.when("network cut-off")) == (1, [])


def test_a_cut_off_node_stays_so_when_a_reload_changes_its_sessions() -> None:
    host = master()
    host.dialling_works = False
    host.tell(Disconnected(RS, "reset"))
    host.run(60)
    assert host.reload(config(speaker={"hold_time": 30})) == ["session down"]
    assert host.run(90).when("role master") == [DOWN]


def test_other_marks_are_announced_on_the_standing_sessions() -> None:
    host = master()
    marks = MARKS | {Rank.ACTIVE: Marks(communities=((65000, Rank.STANDBY),))}
    assert host.reload(config(speaker={"marks": marks})) == ["standby 192.0.2.10"]


def test_an_added_check_does_not_change_the_verdict_before_it_has_answered() -> None:
    for verdict, rank in ((WELL, Rank.ACTIVE), (SICK, Rank.NONE)):
        host = master()
        host.tell(verdict)
        checks = (*CONFIG.checks, Check("disk", pushed=True))
        assert host.reload(replace(config(checks=("web", "disk")), checks=checks)) == []
        assert host.rank is rank
    assert host.tell(WELL) == ["check up"]
    assert "rank standby" in host.tell(CheckDone("disk", 0, True, "42 GB"))


def test_a_removed_check_counts_no_more() -> None:
    host = master()
    host.tell(SICK)
    assert host.reload(replace(config(checks=()), checks=()))[:2] == ["health up", "role backup"]


# Placement "master"

VLAN = config(placement="master", interface="eth0")


def test_only_the_master_holds_the_address_and_tells_the_neighbours_when_it_is_there() -> None:
    host = Host(VLAN, kernel_answers=False).run(DOWN - 0.1)
    assert host.when("hold 192.0.2.10") == []
    assert host.tick(DOWN)[-1] == "hold 192.0.2.10"
    assert host.tell(held(A, interface="eth0")) == ["address held", "takeover 192.0.2.10", "garp"]
    host.run(60)
    assert len(host.when("garp")) == 1


def test_a_master_that_loses_to_a_better_advert_keeps_rank_and_address_for_200_ms() -> None:
    host = master(VLAN)
    assert host.tell(advert(100), at=30) == ["advert 50", "role backup", "stopgarp"]
    assert host.tick(30.199) == []
    assert host.node.deadline == 30.2
    assert host.tick(30.2) == ["rank standby", "withdraw 192.0.2.10", "hold"]


def test_a_sick_master_releases_the_address_at_once() -> None:
    assert master(VLAN).tell(SICK)[-2:] == ["hold", "stopgarp"]


def test_a_master_whose_link_is_down_releases_the_address() -> None:
    host = master(VLAN)
    host.tell(LinkChanged("eth0", False, "eth0 is down"))
    assert host.tick(30.05)[-2:] == ["hold", "stopgarp"]


def test_a_late_master_keeps_nothing_and_has_the_neighbours_told_who_is_master() -> None:
    host = master(VLAN)
    assert [word for word in host.tick(30 + 2 * DOWN) if word != "measure"] == [
        "network cut-off", "role backup", "advert 1", "rank standby", "withdraw 192.0.2.10", "hold", "stopgarp",
    ]  # fmt: skip


WITHOUT_BGP = replace(VLAN, speaker=None)


def test_a_late_master_that_nobody_replaced_keeps_the_address() -> None:
    host = master(WITHOUT_BGP)
    late = host.tick(30 + 2 * DOWN)
    assert [word for word in late if word != "stopgarp"] == ["role backup", "advert 1", "rank standby"]
    host.run(60)
    assert (host.role, host.when("hold")) == (Role.MASTER, [0])


def test_a_late_master_that_was_replaced_asks_and_releases_the_address() -> None:
    host = master(WITHOUT_BGP)
    host.tick(30 + 2 * DOWN)
    assert host.tell(advert(100)) == ["advert 1"]
    assert host.tick(host.now + 0.2)[-1] == "hold"


def restarted() -> Host:
    """After a crash of the daemon alone: its address is still there."""
    host = Host(VLAN, start=False)
    host.tell(held(A, interface="eth0"), LinkChanged("eth0", True, ""), Started(), at=10)
    assert [word for _, word in host.log if word.startswith(("advert", "hold"))] == ["hold 192.0.2.10"]
    assert host.tell(WELL)[2:4] == ["role backup", "advert 1"]
    return host


def test_a_sick_one_or_one_that_keeps_dying_asks_nobody_who_is_master() -> None:
    """A keepalived with `nopreempt` would take the question for a sign of life, and wait again."""
    for first, barred_for, said in ((SICK, 0, ["advert 0"]), (WELL, 60, [])):
        host = Host(VLAN, start=False)
        host.tell(held(A, interface="eth0"), LinkChanged("eth0", True, ""), Started(barred_for), first, at=10)
        assert [word for _, word in host.log if word.startswith("advert")] == said


def test_only_those_addresses_stay_that_are_there() -> None:
    host = Host(config(placement="master", interface="eth0", addresses=(A, B)), start=False)
    host.tell(held(A, interface="eth0"), LinkChanged("eth0", True, ""), Started(), WELL, at=10)
    assert "hold 192.0.2.10" in [word for _, word in host.log]
    assert "hold 192.0.2.10 192.0.2.11" not in [word for _, word in host.log]


def test_who_stops_or_falls_sick_while_the_address_stays_hands_over() -> None:
    host = restarted()
    assert host.tell(StopRequested(), at=11)[0] == "advert 0"
    host = restarted()
    assert "advert 0" in host.tell(SICK, at=11)
    host = restarted()
    host.tell(advert(100), at=10.1)
    assert "advert 0" not in host.tell(SICK, at=10.2)


def test_what_a_killed_master_left_serves_until_its_successor_is_master_by_itself() -> None:
    host = restarted()
    host.tell(advert(1))  # another one asks, too
    host.run(60)
    assert (host.role, host.rank) == (Role.MASTER, Rank.ACTIVE)
    assert host.when("hold") == []
    assert host.when("garp") == [10 + DOWN]


def test_what_a_killed_master_left_is_released_200_ms_after_another_was_heard() -> None:
    host = restarted()
    assert host.tell(advert(100), at=10.1) == ["advert 1"]
    assert host.tick(10.299) == []
    assert host.tick(10.3)[-1] == "hold"


def test_what_a_killed_master_left_is_released_by_a_sick_one_and_by_a_link_that_is_down() -> None:
    assert restarted().tell(SICK)[-1] == "hold"
    host = restarted()
    host.tell(LinkChanged("eth0", False, "eth0 is down"))
    assert host.tick(10.05)[-1] == "hold"


def test_what_nobody_becomes_master_of_does_not_stay_for_ever() -> None:
    host = Host(VLAN, start=False)
    host.tell(held(A, interface="eth0"), LinkChanged("eth0", True, ""), Started(), at=10)
    assert host.run(10 + 2 * DOWN).when("hold") == [10 + 2 * DOWN]


def test_a_master_that_wins_against_another_tells_the_neighbours_again() -> None:
    host = master(VLAN)
    assert host.tell(advert(10)) == ["advert 50", "advert lower", "garp"]


def test_a_stopping_master_keeps_the_address_as_long_as_everywhere() -> None:
    host = master(VLAN)
    host.tell(StopRequested(), at=30)
    assert host.tick(30.99) == []
    assert host.tick(31) == ["hold"]


def test_a_reload_that_begins_another_election_tells_of_the_release_before_it_tells_of_the_next_hold() -> None:
    host = master(VLAN)
    host.reload(config(placement="master", interface="eth0", election=elected(vrid=52)))
    host.run(60)
    assert [word for _, word in host.log if word.startswith("address")] == [
        "address held",
        "address released",
        "address held",
    ]


def test_an_address_that_is_wanted_again_before_it_was_gone_was_not_released() -> None:
    host = master(VLAN)
    host.kernel_answers = False
    host.reload(config(placement="master", interface="eth0", election=elected(vrid=52)))
    host.run(60)
    assert host.role is Role.MASTER
    assert host.tell(held(interface="eth0"))[0] == "address lost"


def test_neighbours_are_told_of_an_address_that_a_reload_adds_to_a_master() -> None:
    host = master(VLAN)
    host.reload(config(placement="master", interface="eth0", addresses=(A, B)))
    assert [at for at in host.when("garp") if at == 30] == [30]


def test_an_address_that_the_kernel_refuses_keeps_no_other_from_the_neighbours() -> None:
    host = Host(config(placement="master", interface="eth0", addresses=(A, B)), kernel_answers=False).run(DOWN)
    assert host.tell(held(A, interface="eth0"))[-1] == "garp"


def test_an_address_is_added_at_once_to_an_interface_that_was_made_again() -> None:
    host = master(VLAN)
    host.kernel_answers = False
    host.tell(LinkChanged("eth0", False, "eth0 does not exist"), held(interface="eth0"), at=30)
    assert host.tell(LinkChanged("eth0", True, ""), at=30.01) == ["hold 192.0.2.10"]


def test_one_that_yields_stops_telling_the_neighbours_before_it_releases_the_address() -> None:
    host = master(VLAN)
    assert "stopgarp" in host.tell(advert(100), at=30)
    assert "hold" in host.tick(30.2)


def test_a_deaf_lower_master_is_answered_at_once_and_the_neighbours_once_a_second() -> None:
    host = master(VLAN)
    for tenth in range(20):
        host.tell(advert(10), at=30 + tenth / 10)
    assert [at for at in host.when("garp") if at >= 30] == [30, 31]


# Many at once


def test_a_change_of_one_instance_looks_at_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    host = many()
    looked_at = []
    decide = Instance.decide

    def noted(self: Instance, stopping: str, announces: bool, now: float) -> list[Effect]:
        looked_at.append(self.config.name)
        return decide(self, stopping, announces, now)

    monkeypatch.setattr(Instance, "decide", noted)
    host.tell(advert(10, vrid=7))
    assert not looked_at, "such an advert changes nothing"
    host.tell(advert(100, vrid=7))
    assert looked_at == ["VI_7"]


def many(number: int = 50) -> Host:
    """Masters, each of one address."""
    instances = [
        settings.Instance(f"VI_{n}", (IPv4Interface(f"192.0.2.{n}/32"),), elected(vrid=n), checks=("web",))
        for n in range(1, number + 1)
    ]
    return Host(replace(CONFIG, instances=tuple(instances))).run(30)


def test_roles_are_decided_for_all_before_any_rank_is() -> None:
    words = many().tell(SICK)
    assert words.index("rank none") > max(n for n, word in enumerate(words) if word == "role fault")


# Two instances


def test_each_instance_has_its_own_role() -> None:
    other = settings.Instance("VI_2", (B,), elected(vrid=52))
    host = Host(replace(CONFIG, instances=(WEB, other)))
    for second in range(1, 6):
        host.tell(advert(100, vrid=52), at=second)
        host.tick(second)
    assert [instance.role for instance in host.node.instances.values()] == [Role.MASTER, Role.BACKUP]
    assert host.tell(SICK)[-1] == "withdraw 192.0.2.10"
    assert host.node.instances["VI_2"].decision.rank is Rank.STANDBY
