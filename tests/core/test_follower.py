"""What a node believes of the keepalived that elects for it, by itself and with its rank."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from floatip.core.bgp.rank import Rank
from floatip.core.election.elector import ASKING, Obstacles, Role
from floatip.core.election.follower import BELIEVE_KERNEL_AFTER, PATIENCE, Follower
from floatip.core.events import Held, KeepalivedFound, KeepalivedSaid, LinkChanged, Started
from floatip.core.settings import Check, Instance, Keepalived
from floatip.core.vrrp.wire import Advert
from tests.core.host import CONFIG, DOWN, PEER, RS, US, WELL, A, B, Host, advert, held, status

OTHER = IPv4Address("10.0.0.3")
KEEPALIVED = Keepalived("VI_1", "eth0", 51, 50, US, (PEER,))
FOLLOWING = replace(CONFIG, checks=(), instances=(Instance("VI_1", (A,), KEEPALIVED),))
RUNS = KeepalivedFound(True, "process 7")
GONE = KeepalivedFound(False, "its process 7 has ended")
BOTH = held(A).addresses | held(A, interface="eth0").addresses


def follower(**changes: object) -> Follower:
    """Of a keepalived that runs and has said nothing."""
    it = Follower("VI_1", replace(KEEPALIVED, **changes), 0)  # type: ignore[arg-type]
    it.found(True, "process 7", 0)
    return it


def master(at: float = 0) -> Follower:
    it = follower()
    it.sees(True, at)
    it.said("MASTER", False, at)
    assert it.role is Role.MASTER
    return it


def hear(it: Follower, at: float, priority: int = 50, source: IPv4Address = PEER) -> None:
    it.tick(at)
    it.receive(Advert(2, 51, priority, 1.0, (A.ip,), b""), source, at)


def says(state: str, is_old: bool = False, name: str = "VI_1", kind: str = "INSTANCE") -> KeepalivedSaid:
    return KeepalivedSaid(kind, name, state, is_old)  # type: ignore[arg-type]


class Beside(Host):
    """The kernel has what we hold; `VIP` is what keepalived put on eth0."""

    def __init__(self) -> None:
        super().__init__(FOLLOWING, start=False)
        self.tell(RUNS, Started())
        self.run(1)


def test_master_is_believed_when_it_is_said_and_the_address_is_there() -> None:
    it = follower()
    it.said("MASTER", False, 1)
    assert it.role is Role.BACKUP
    it.sees(True, 1.001)
    assert (it.role, it.reason, it.since) == (Role.MASTER, "keepalived says MASTER", 1.001)


def test_a_master_without_its_address_is_not_believed_for_long() -> None:
    it = master()
    it.sees(False, 5)
    assert it.role is Role.MASTER
    assert it.deadline == 5 + PATIENCE
    it.tick(it.deadline)
    assert (it.role, it.reason) == (Role.BACKUP, "keepalived says MASTER, but its addresses are not on eth0")
    assert it.doubts


def test_an_address_that_comes_back_at_once_changes_nothing() -> None:
    it = master()
    it.sees(False, 5)
    assert it.sees(True, 5.01) == []
    it.tick(6)
    assert it.role is Role.MASTER


@pytest.mark.parametrize("state", ["BACKUP", "STOP"])
def test_backup_and_stop_are_believed_at_once(state: str) -> None:
    it = master()
    it.said(state, False, 5)
    assert (it.role, it.reason) == (Role.BACKUP, f"keepalived says {state}")


def test_fault_is_sickness() -> None:
    it = master()
    it.said("FAULT", False, 5)
    assert (it.role, it.sick) == (Role.FAULT, "keepalived says FAULT")
    it.said("BACKUP", False, 6)
    assert (it.role, it.sick) == (Role.BACKUP, "")


def test_a_keepalived_that_said_fault_and_has_the_address_is_well_once_nobody_else_is_heard() -> None:
    """The lines that said so were lost."""
    it = master()
    it.said("FAULT", False, 5)
    it.tick(it.deadline)
    hear(it, 7)
    it.tick(7 + DOWN - 0.1)
    assert it.sick
    it.tick(7 + DOWN)
    assert (it.role, it.sick) == (Role.MASTER, "")
    assert it.reason == "keepalived has the addresses, although it said FAULT"


def test_a_keepalived_that_ends_leaves_nothing_to_believe() -> None:
    it = master()
    it.found(False, "its process 7 has ended", 5)
    assert (it.role, it.reason) == (Role.BACKUP, "keepalived does not run: its process 7 has ended")
    it.found(True, "process 8", 6)
    assert it.role is Role.BACKUP, "the address on eth0 may be what the dead one left"
    it.sees(False, 6.1)
    it.said("BACKUP", False, 6.1)
    it.tick(20)
    assert it.role is Role.BACKUP


def test_a_keepalived_that_has_the_address_and_says_nothing_is_master_after_silence() -> None:
    it = follower()
    it.sees(True, 1)
    assert it.role is Role.BACKUP
    assert it.deadline == 1 + DOWN
    it.tick(1 + DOWN)
    assert (it.role, it.reason) == (Role.MASTER, "keepalived has the addresses")


def test_a_keepalived_that_has_the_address_while_others_are_heard_is_not_master() -> None:
    it = follower()
    it.sees(True, 1)
    for second in range(1, 20):
        hear(it, second)
        assert it.role is Role.BACKUP


def test_what_waited_in_the_fifo_counts_only_if_the_kernel_agrees() -> None:
    it = follower()
    it.said("MASTER", True, 1)
    it.tick(10)
    assert (it.role, it.word) == (Role.BACKUP, "")
    it = follower()
    it.sees(True, 1)
    it.said("BACKUP", True, 1)
    assert it.word == ""
    it.said("MASTER", True, 1)
    assert it.role is Role.MASTER


def test_a_single_advert_makes_one_that_listens_listen_anew() -> None:
    it = follower()
    it.sees(True, 1)
    hear(it, 3)
    assert it.deadline == 3 + DOWN
    it.tick(1 + DOWN)
    assert it.role is Role.BACKUP
    it.tick(3 + DOWN)
    assert it.role is Role.MASTER


def test_a_mastership_that_our_predecessor_heard_of_goes_on() -> None:
    host = Host(FOLLOWING, start=False, kernel_answers=False)
    host.tell(Held(BOTH), replace(says("MASTER", is_old=True), at=-100.0), RUNS, Started())
    assert (host.role, host.rank) == (Role.MASTER, Rank.ACTIVE)
    young = Host(FOLLOWING, start=False, kernel_answers=False)
    young.tell(Held(BOTH), replace(says("MASTER", is_old=True), at=-1.0), RUNS, Started())
    assert young.rank is Rank.TAKEOVER
    young.run(19.5)
    assert young.rank is Rank.ACTIVE


def test_a_mastership_that_went_to_another_and_came_back_is_a_new_one() -> None:
    host = Host(FOLLOWING, start=False, kernel_answers=False)
    host.tell(Held(BOTH), replace(says("MASTER", is_old=True), at=-100.0), RUNS, Started())
    host.tell(says("BACKUP"))
    host.tell(says("MASTER"))
    assert host.rank is Rank.TAKEOVER


def test_a_lost_line_is_made_good_by_the_kernel() -> None:
    it = follower()
    it.said("BACKUP", False, 1)
    it.sees(True, 2)
    assert it.deadline == 2 + BELIEVE_KERNEL_AFTER
    it.tick(it.deadline)
    assert it.role is Role.BACKUP
    it.tick(it.deadline)
    assert (it.role, it.reason) == (Role.MASTER, "keepalived has the addresses, although it said BACKUP")
    assert it.doubts


def test_a_master_that_hears_another_for_more_than_two_intervals_is_contested() -> None:
    it = master()
    for second in (10, 11, 12):
        hear(it, second)
        assert it.role is Role.MASTER
    hear(it, 13)
    assert (it.role, it.doubts) == (Role.BACKUP, True)
    assert it.reason == "contested: keepalived says MASTER, and 10.0.0.2 sends adverts too"
    assert it.deadline == 13 + DOWN
    it.tick(13 + DOWN)
    assert (it.role, it.doubts) == (Role.MASTER, False)


def test_a_backup_that_asks_whether_its_master_lives_is_no_rival() -> None:
    it = master()
    for second in range(10, 20):
        hear(it, second, priority=ASKING)
    assert (it.role, it.doubts) == (Role.MASTER, False)


def test_two_rivals_that_take_turns_contest_as_one_does() -> None:
    it = follower(peers=(PEER, OTHER))
    it.sees(True, 1)
    it.said("MASTER", False, 1)
    for second in range(10, 14):
        hear(it, second)
        hear(it, second + 0.5, source=OTHER)
    assert (it.role, it.doubts) == (Role.BACKUP, True)


def test_one_that_is_contested_gives_in_to_its_own_keepalived() -> None:
    it = master()
    for second in range(10, 16):
        hear(it, second)
    it.said("BACKUP", False, 15.5)
    it.sees(False, 15.5)
    it.tick(30)
    assert (it.role, it.reason) == (Role.BACKUP, "keepalived says BACKUP")


def test_single_adverts_of_a_rival_are_no_contest() -> None:
    it = master()
    for second in range(10, 100, 5):
        hear(it, second)
        assert it.role is Role.MASTER


def test_the_last_adverts_of_the_old_master_are_no_contest() -> None:
    it = follower()
    for second in range(10):
        hear(it, second)
    it.sees(True, 9.5)
    it.said("MASTER", False, 9.5)
    hear(it, 10)
    it.tick(20)
    assert it.role is Role.MASTER


def test_adverts_count_only_from_peers_and_with_multicast_from_anybody_but_us() -> None:
    it = master()
    for second in range(10, 20):
        hear(it, second, source=OTHER)
    assert it.role is Role.MASTER
    assert it.dropped.counts == {"dropped, from an address that is not a peer": 10}
    loud = follower(peers=())
    loud.sees(True, 0)
    loud.said("MASTER", False, 0)
    for second in range(10, 20):
        hear(loud, second, source=US)
    assert loud.role is Role.MASTER
    for second in range(20, 30):
        hear(loud, second, source=OTHER)
    assert loud.role is Role.BACKUP


def test_one_that_was_cut_off_listens_before_it_believes_again() -> None:
    it = master()
    it.constrain(Obstacles(barred="cut off"), 10)
    assert (it.role, it.reason) == (Role.BACKUP, "cut off")
    it.constrain(Obstacles(), 20)
    assert it.role is Role.BACKUP
    it.tick(20 + DOWN)
    assert it.role is Role.MASTER


def test_masterships_of_others_are_counted_as_ours_are() -> None:
    it = follower()
    hear(it, 1)
    hear(it, 2)
    hear(it, 2.5, priority=0)
    it.sees(True, 3)
    it.said("MASTER", False, 3)
    for second in range(10, 15):
        hear(it, second)
    assert it.role is Role.BACKUP
    assert (it.reign_at, it.other_reign_at) == (3, 10)


def test_beside_keepalived_the_node_announces_what_it_holds_by_itself() -> None:
    host = Beside()
    assert (host.role, host.rank) == (Role.BACKUP, Rank.STANDBY)
    host.tell(held(A), at=2)
    told = host.tell(says("MASTER"), Held(BOTH), at=3)
    assert "takeover 192.0.2.10" in told
    host.run(30)
    assert host.rank is Rank.ACTIVE
    assert host.tell(held(A)) == [], "keepalived let go of its copy, ours is still there"
    assert host.tell(says("BACKUP")) == ["role backup", "rank standby", "standby 192.0.2.10"]


def test_our_copy_is_put_back_while_keepalived_has_its_own() -> None:
    host = Beside()
    host.tell(Held(BOTH))
    assert host.tell(held(A, interface="eth0")) == ["address lost", "hold 192.0.2.10"]


def test_keepalived_in_fault_means_no_route() -> None:
    host = Beside()
    assert host.tell(says("FAULT")) == ["role fault", "health down", "rank none", "withdraw 192.0.2.10"]
    assert host.tell(says("BACKUP")) == ["role backup", "health up", "rank standby", "standby 192.0.2.10"]


def test_our_own_checks_count_too() -> None:
    checked = replace(CONFIG, instances=(replace(FOLLOWING.instances[0], checks=("web",)),))
    host = Host(checked, start=False)
    host.tell(RUNS, Started(), WELL)
    host.tell(Held(BOTH), says("MASTER"))
    host.run(2)
    assert host.rank is Rank.TAKEOVER
    host.tell(replace(WELL, passed=False, reason="exit status 1"))
    assert (host.role, host.rank) == (Role.MASTER, Rank.NONE)


def test_a_sync_group_speaks_for_its_members() -> None:
    grouped = replace(FOLLOWING.instances[0], election=replace(KEEPALIVED, sync_group="VG1"))
    host = Host(replace(FOLLOWING, instances=(grouped,)), start=False)
    host.tell(RUNS, Started())
    host.tell(Held(BOTH))
    host.tell(says("MASTER", name="VG1", kind="GROUP"))
    assert host.role is Role.MASTER
    host.tell(says("BACKUP", name="VG2", kind="GROUP"))
    assert host.role is Role.MASTER


def test_an_instance_that_a_reload_adds_learns_what_was_said_before() -> None:
    host = Beside()
    both = BOTH | held(B).addresses | held(B, interface="eth0").addresses
    host.tell(Held(both), says("MASTER"), says("MASTER", name="VI_2"))
    second = Instance("VI_2", (B,), replace(KEEPALIVED, instance="VI_2", vrid=52))
    host.reload(replace(FOLLOWING, instances=(*FOLLOWING.instances, second)))
    assert host.node.instances["VI_2"].role is Role.MASTER


def test_fault_is_heard_while_a_check_that_a_reload_added_has_no_result() -> None:
    host = Beside()
    host.tell(Held(BOTH), says("MASTER"))
    instance = replace(FOLLOWING.instances[0], checks=("disk",))
    host.reload(replace(FOLLOWING, checks=(Check("disk", pushed=True),), instances=(instance,)))
    assert host.rank is Rank.TAKEOVER
    host.tell(says("FAULT"))
    assert host.rank is Rank.NONE


def test_the_status_names_a_keepalived_that_is_gone_and_one_that_speaks_of_others() -> None:
    host = Beside()
    host.tell(says("MASTER", name="VI_9"))
    (problem,) = status(host)["problems"]
    assert problem["hint"]
    assert problem["what"].startswith("VI_1: keepalived speaks of VI_9 and never of VI_1")
    host.tell(GONE)
    (problem,) = status(host)["problems"]
    assert problem["hint"]
    assert problem["what"].startswith("VI_1: keepalived does not run: its process 7 has ended")
    told = status(host)["keepalived"]
    assert told == {"runs": False, "for": 0, "reason": "its process 7 has ended", "said": []}


def test_a_peer_that_keeps_sending_makes_the_node_stand_by() -> None:
    host = Beside()
    host.tell(Held(BOTH), says("MASTER"))
    host.run(30)
    host.adverts_from_peer = 50
    host.run(40)
    assert (host.role, host.rank) == (Role.BACKUP, Rank.STANDBY)
    assert host.node.sessions[RS].is_up
    assert advert(50).source == PEER


def test_a_reload_that_changes_the_follower_changes_no_role_and_begins_no_mastership_anew() -> None:
    host = Beside()
    host.tell(Held(BOTH), says("MASTER"))
    host.run(60)
    assert (host.role, host.rank) == (Role.MASTER, Rank.ACTIVE)
    other = Instance("VI_1", (A,), replace(KEEPALIVED, priority=60, advert_interval=2.0))
    assert "role" not in " ".join(host.reload(replace(FOLLOWING, instances=(other,))))
    assert (host.role, host.rank) == (Role.MASTER, Rank.ACTIVE)


def test_a_reload_takes_no_mastership_from_a_node_that_only_the_kernel_shows_to_be_master() -> None:
    host = Beside()
    host.tell(Held(BOTH))
    host.run(60)
    assert host.rank is Rank.ACTIVE
    other = Instance("VI_1", (A,), replace(KEEPALIVED, priority=60))
    assert "role" not in " ".join(host.reload(replace(FOLLOWING, instances=(other,))))
    assert (host.role, host.rank) == (Role.MASTER, Rank.ACTIVE)


def test_an_instance_of_another_name_is_another_that_has_to_be_spoken_of() -> None:
    host = Beside()
    host.tell(says("BACKUP"), says("FAULT", name="VI_WEB"))
    other = Instance("VI_1", (A,), replace(KEEPALIVED, instance="VI_WEB"))
    host.reload(replace(FOLLOWING, instances=(other,)))
    assert (host.role, host.rank) == (Role.FAULT, Rank.NONE)


def test_words_of_a_keepalived_that_nobody_followed_for_a_while_are_forgotten() -> None:
    host = Beside()
    host.tell(says("FAULT"))
    host.reload(CONFIG)
    host.reload(FOLLOWING)
    host.tell(KeepalivedFound(True, "process 8"))
    assert host.role is Role.BACKUP
    assert host.node.keepalived_said == {}


def test_the_words_are_replayed_in_the_order_in_which_they_were_said_last() -> None:
    host = Beside()
    host.tell(says("FAULT"), says("BACKUP", name="VG", kind="GROUP"), says("FAULT"))
    second = Instance("VI_2", (B,), replace(KEEPALIVED, vrid=52, sync_group="VG"))
    host.reload(replace(FOLLOWING, instances=(*FOLLOWING.instances, second)))
    assert host.node.instances["VI_2"].role is Role.FAULT


def test_a_node_that_was_sick_when_keepalived_ended_stays_so_until_its_successor_speaks() -> None:
    host = Beside()
    host.tell(says("FAULT"))
    host.tell(GONE)
    assert (host.role, host.rank) == (Role.BACKUP, Rank.NONE)
    host.tell(KeepalivedFound(True, "process 8"))
    assert host.rank is Rank.NONE
    (problem,) = status(host)["problems"]
    assert problem["hint"]
    assert problem["what"].startswith("VI_1 is not healthy: keepalived said FAULT before it ended, and nothing since")
    host.tell(says("BACKUP"))
    assert host.rank is Rank.STANDBY


def test_a_mastership_that_ended_while_nobody_listened_begins_anew() -> None:
    it = follower()
    it.sees(True, 0)
    it.said("MASTER", True, 100, at=5)
    assert it.reign_at == 5
    it.said("MASTER", True, 100, at=100)
    assert it.reign_at == 100


def test_a_sick_node_that_the_kernel_shows_to_be_master_is_cut_off_as_any_other() -> None:
    host = Beside()
    host.tell(Held(BOTH), says("FAULT"))
    host.run(20)
    assert host.role is Role.MASTER
    host.acknowledging = False
    host.run(24)
    assert (host.node.network.cut_off, host.role, host.rank) == (True, Role.BACKUP, Rank.STANDBY)


def reasons(host: Host) -> str:
    return str(status(host)["instances"][0]["health"]["reason"])


def test_who_checks_is_said_as_it_is() -> None:
    host = Beside()
    assert reasons(host) == "keepalived has said nothing yet"
    host.tell(says("BACKUP"))
    assert reasons(host) == "keepalived checks, and says no FAULT"
    host.tell(GONE)
    assert reasons(host) == "not checked: keepalived does not run"


def test_a_contested_master_is_told_to_compare_the_two_files() -> None:
    """With another vrid than keepalived's, floatip hears the adverts of another pair."""
    host = Beside()
    host.tell(says("MASTER"), Held(BOTH))
    host.adverts_from_peer = 100
    host.run(5)
    (problem,) = status(host)["problems"]
    assert problem["what"] == "VI_1: contested: keepalived says MASTER, and 10.0.0.2 sends adverts too"
    assert problem["hint"].endswith("; compare floatip.toml with keepalived.conf: sudo floatip check")
    host.tell(says("MASTER", name="VI_2"))
    (problem,) = status(host)["problems"]
    hint = "keepalived speaks of VI_2 too: compare floatip.toml with keepalived.conf: sudo floatip check"
    assert problem["hint"] == hint


def test_a_backup_that_hears_nobody_is_a_problem_and_one_that_hears_a_master_is_none() -> None:
    host = Beside()
    host.tell(says("BACKUP"))
    host.run(6)
    assert status(host)["problems"] == []
    host.run(10)
    (problem,) = status(host)["problems"]
    assert problem["hint"].startswith("compare floatip.toml with keepalived.conf: sudo floatip check; ")
    assert problem["what"].startswith("VI_1: nobody sends adverts for vrid 51 on eth0, and keepalived stays BACKUP")
    host.adverts_from_peer = 100
    host.run(20)
    assert status(host)["problems"] == []


def test_an_interface_that_is_not_there_is_a_problem() -> None:
    host = Beside()
    host.tell(says("BACKUP"), LinkChanged("eth0", False, "eth0 does not exist"))
    (problem,) = status(host)["problems"]
    assert problem["hint"]
    assert problem["what"].startswith("VI_1: eth0 does not exist")
    assert status(host)["links"] == [{"interface": "eth0", "up": False, "reason": "eth0 does not exist"}]


def test_a_stranger_is_a_problem_for_a_while() -> None:
    host = Beside()
    host.adverts_from_peer = 100
    host.tell(says("BACKUP"), advert(100, vrid=52))
    (problem,) = status(host)["problems"]
    assert problem["hint"]
    assert problem["what"].startswith("1 VRRP packet dropped: vrid 52 from 10.0.0.2 belongs to no instance on eth0")
    host.run(400)
    assert status(host)["problems"] == []


def test_an_instance_that_keepalived_has_for_itself_is_no_problem() -> None:
    host = Beside()
    host.adverts_from_peer = 100
    host.tell(says("BACKUP"), advert(100, vrid=52))
    host.reload(replace(host.node.config, other_vrids=frozenset({52})))
    host.tell(advert(100, vrid=52))
    assert status(host)["problems"] == []
    host.tell(advert(100, vrid=53))
    (problem,) = status(host)["problems"]
    assert "vrid 53" in problem["what"]
