"""The VRRP router against the rules of RFC 9568 section 6.4 and keepalived's manners, one advert at a time."""

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from floatip.core.addresses import Address
from floatip.core.election.elector import ASKING, Obstacles, Role, Surroundings
from floatip.core.election.router import Router
from floatip.core.events import Became, Effect, SendAdvert
from floatip.core.settings import Vrrp
from floatip.core.vrrp.wire import Advert, parse

INIT, BACKUP, MASTER, FAULT = Role
LOWER, US, PEER = IPv4Address("10.0.0.9"), IPv4Address("10.0.1.1"), IPv4Address("10.0.1.2")
STRANGER = IPv4Address("10.0.0.66")
ADDRESSES = (IPv4Address("192.0.2.10"),)
SKEW = (256 - 100) / 256
DOWN = 3 + SKEW
"""The master-down interval at priority 100 and adverts of 1 s."""
SICK = "check web: exit status 1"
CUT_OFF = "cut off: no route server has answered"


def advert(priority: int = 100, **changes: Any) -> Advert:
    return replace(Advert(2, 51, priority, 1.0, ADDRESSES), **changes)


class Wire:
    """Feeds one router; each method returns the priorities of the adverts that it sent."""

    def __init__(self, priority: int = 100, *, start: bool = True, **config: Any) -> None:
        self.router = Router("VI_1", Vrrp("eth0", 51, priority, US, (PEER, LOWER), **config), ADDRESSES, now=0)
        self.news: list[Became] = []
        if start:
            self.judge(at=0)

    def judge(self, *, at: float, **obstacles: Any) -> list[int]:
        return self._sent(self.router.constrain(Obstacles(**obstacles), at))

    def tick(self, at: float) -> list[int]:
        return self._sent(self.router.tick(at))

    def hear(self, said: Advert, source: IPv4Address = PEER, *, at: float, ttl: int = 255) -> list[int]:
        return self._sent(self.router.receive(said, source, ttl, at))

    def stop(self, at: float) -> list[int]:
        return self._sent(self.router.stop("asked to stop", at))

    def _sent(self, effects: list[Effect]) -> list[int]:
        self.news += [effect for effect in effects if isinstance(effect, Became)]
        packets = [effect for effect in effects if isinstance(effect, SendAdvert)]
        assert [packet.destination for packet in packets] in ([], [PEER], [PEER, LOWER])
        return [parse(packet.data, US, PEER).priority for packet in packets if packet.destination == PEER]


def backup(priority: int = 100, **config: Any) -> Wire:
    """Followed 10.0.1.2 until 10 s."""
    wire = Wire(priority, **config)
    for at in range(1, 11):
        wire.hear(advert(max(priority, 100)), at=at)
    return wire


def master(priority: int = 100, **config: Any) -> Wire:
    """Became master at 10 s."""
    wire = Wire(priority, **config)
    wire.router._due_at = 10
    assert wire.tick(10) == [priority]
    return wire


# Start, timers, stop


def test_at_start_a_router_listens_for_a_whole_master_down_interval_and_then_becomes_master() -> None:
    wire = Wire()
    assert (wire.router.role, wire.router.reason, wire.router.deadline) == (BACKUP, "started", DOWN)
    assert wire.tick(DOWN - 0.01) == []
    assert wire.tick(DOWN) == [100]
    assert (wire.router.role, wire.router.reason) == (MASTER, "no advert for 3.61 s")
    assert wire.router.deadline == DOWN + 1


def test_the_first_advert_stands_before_the_news_of_the_new_role() -> None:
    router = Wire().router
    assert [type(effect) for effect in router.tick(DOWN)] == [SendAdvert, SendAdvert, Became]


def test_nobody_starts_before_its_checks_have_answered() -> None:
    wire = Wire(start=False)
    wire.judge(at=0, waiting="check web: no result yet")
    assert (wire.router.role, wire.router.deadline) == (INIT, float("inf"))
    wire.judge(at=5)
    assert (wire.router.role, wire.router.deadline) == (BACKUP, 5 + DOWN)


def test_the_owner_of_the_addresses_is_master_at_once() -> None:
    wire = Wire(255, start=False)
    assert wire.judge(at=0) == [255]
    assert (wire.router.role, wire.router.reason) == (MASTER, "owns the addresses (priority 255)")


@pytest.mark.parametrize(
    ("version", "interval", "priority", "skew"),
    [(2, 1.0, 100, 156 / 256), (2, 10.0, 100, 156 / 256), (2, 1.0, 254, 2 / 256), (3, 0.1, 50, 206 / 2560)],
)
def test_the_skew_is_counted_in_seconds_by_version_2_and_in_intervals_by_version_3(
    version: Any, interval: float, priority: int, skew: float
) -> None:
    router = Wire(priority, version=version, advert_interval=interval).router
    assert router.skew == pytest.approx(skew)
    assert router.master_down_interval == pytest.approx(3 * interval + skew)


def test_a_master_sends_adverts_every_interval_and_does_not_drift() -> None:
    wire = master()
    for turn in range(1, 100):
        assert wire.router.deadline == 10 + turn
        assert wire.tick(9.99 + turn) == []
        assert wire.tick(10.05 + turn) == [100]


def test_an_advert_says_what_is_configured() -> None:
    wire = Wire(50, auth_pass="a long password", advert_interval=2.0)
    packet = wire.router.tick(7)[0]
    assert isinstance(packet, SendAdvert)
    assert (packet.interface, packet.source, packet.destination) == ("eth0", US, PEER)
    assert parse(packet.data, US, PEER) == Advert(2, 51, 50, 2.0, ADDRESSES, b"a long p")


def test_only_a_master_says_priority_0_when_it_stops() -> None:
    wire = master()
    assert wire.stop(11) == [0]
    assert (wire.router.role, wire.router.reason, wire.router.deadline) == (INIT, "asked to stop", float("inf"))
    assert backup().stop(11) == []


# RFC 9568 6.4.2


@pytest.mark.parametrize(
    ("priority", "source", "deadline"),
    [
        (0, PEER, 11 + SKEW),
        (0, LOWER, 11 + SKEW),
        (100, PEER, 11 + DOWN),
        (100, LOWER, 11 + DOWN),
        (255, PEER, 11 + DOWN),
        (99, PEER, 11 + SKEW),
        (99, LOWER, 10 + DOWN),
    ],
)
def test_what_a_backup_does_with_an_advert(priority: int, source: IPv4Address, deadline: float) -> None:
    wire = backup()
    assert wire.hear(advert(priority), source, at=11) == []
    assert (wire.router.role, wire.router.deadline) == (BACKUP, deadline)


@pytest.mark.parametrize("priority", [0, 99])
def test_neither_priority_0_nor_a_lower_advert_ever_extends_the_timer(priority: int) -> None:
    wire = backup()
    for at in (11, 11.2, 11.4):
        wire.hear(advert(priority), at=at)
    assert wire.router.deadline == 11 + SKEW
    late = backup()
    late.hear(advert(priority), at=13.5)
    assert late.router.deadline == 10 + DOWN


@pytest.mark.parametrize("priority", [0, 99])
def test_a_better_master_ends_the_hurry(priority: int) -> None:
    wire = backup()
    wire.hear(advert(priority), at=11)
    wire.hear(advert(150), LOWER, at=11.1)
    assert (wire.router.deadline, wire.router.master) == (11.1 + DOWN, LOWER)
    wire.tick(11.1 + DOWN)
    assert wire.router.reason == "no advert for 3.61 s from 10.0.0.9"


def test_who_preempts_a_master_that_it_never_followed_does_not_call_it_silent() -> None:
    wire = Wire()
    for at in (1, 2, 3):
        wire.hear(advert(90), at=at)
    assert wire.tick(DOWN) == [100]
    assert wire.news[-1].reason == "10.0.1.2 has priority 90, below ours (100)"
    assert wire.router.turns.by_cause["master preferred"] == 1
    assert wire.router.onset
    assert wire.router.onset.heard_at is None, "nothing had to be detected"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (0, "10.0.1.2 handed over (priority 0)"),
        (99, "10.0.1.2 now has priority 99, below ours (100)"),
        (None, "no advert for 3.61 s from 10.0.1.2"),
    ],
)
def test_a_new_master_says_what_made_it_one(said: int | None, reason: str) -> None:
    wire = backup()
    assert wire.router.reason == "following 10.0.1.2, priority 100"
    if said is not None:
        wire.hear(advert(said), at=11)
    assert wire.tick(wire.router.deadline) == [100]
    assert wire.news[-1] == Became("role", "VI_1", "master", reason)


@pytest.mark.parametrize("source", [PEER, LOWER])
def test_without_preemption_a_backup_follows_anybody(source: IPv4Address) -> None:
    wire = backup(preempt=False)
    wire.hear(advert(2), source, at=11)
    assert (wire.router.deadline, wire.router.master) == (11 + DOWN, source)
    wire.hear(advert(0), source, at=12)
    assert wire.router.deadline == 12 + SKEW


def test_with_a_delay_a_backup_preempts_only_when_it_is_over() -> None:
    wire = Wire(preempt_delay=5.0)
    for at in range(1, 6):
        wire.hear(advert(50), at=at)
        assert wire.router.deadline == at + DOWN
    wire.hear(advert(50), at=6)
    assert wire.router.deadline == 6 + SKEW


def test_the_delay_starts_again_when_a_better_master_was_heard() -> None:
    wire = Wire(preempt_delay=5.0)
    wire.hear(advert(50), at=1)
    wire.hear(advert(150), at=4)
    for at in (5, 7, 9.9):
        wire.hear(advert(50), at=at)
        assert wire.router.deadline == at + DOWN
    wire.hear(advert(50), at=10)
    assert wire.router.deadline == 10 + SKEW


def test_the_delay_holds_nobody_back_when_the_master_goes() -> None:
    wire = Wire(preempt_delay=1000.0)
    wire.hear(advert(50), at=1)
    wire.hear(advert(0), at=2)
    assert wire.tick(2 + SKEW) == [100]


def test_version_3_adopts_the_masters_interval_while_it_follows() -> None:
    wire = Wire(version=3, advert_interval=1.0)
    wire.hear(advert(version=3, interval=0.5), at=1)
    assert wire.router.deadline == 1 + 0.5 * DOWN
    wire.tick(1 + 0.5 * DOWN)
    assert (wire.router.role, wire.router.deadline) == (MASTER, 1 + 0.5 * DOWN + 1)


# RFC 9568 6.4.3


@pytest.mark.parametrize(
    ("priority", "source"), [(0, PEER), (0, LOWER), (1, PEER), (99, PEER), (99, LOWER), (100, LOWER)]
)
def test_a_master_answers_a_worse_advert_at_once(priority: int, source: IPv4Address) -> None:
    wire = master()
    assert wire.hear(advert(priority), source, at=10.3) == [100]
    assert (wire.router.role, wire.router.deadline) == (MASTER, 11.3)


@pytest.mark.parametrize("preempt", [True, False])
@pytest.mark.parametrize(
    ("priority", "source", "reason"),
    [
        (101, LOWER, "10.0.0.9 has priority 101, ours is 100"),
        (255, PEER, "10.0.1.2 has priority 255, ours is 100"),
        (100, PEER, "10.0.1.2 has the same priority 100 and the greater address"),
    ],
)
def test_a_master_yields_to_a_better_one_without_a_word(
    preempt: bool, priority: int, source: IPv4Address, reason: str
) -> None:
    wire = master(preempt=preempt)
    assert wire.hear(advert(priority), source, at=10.3) == []
    assert (wire.router.role, wire.router.master, wire.router.deadline) == (BACKUP, source, 10.3 + DOWN)
    assert wire.news[-1] == Became("role", "VI_1", "backup", reason)


def test_a_master_that_yields_adopts_the_new_masters_interval() -> None:
    wire = master(version=3)
    wire.hear(advert(200, version=3, interval=0.2), at=10.3)
    assert wire.router.deadline == pytest.approx(10.3 + 0.2 * DOWN)


def test_of_two_owners_the_greater_address_stays() -> None:
    assert master(255).hear(advert(255), LOWER, at=10.3) == [255]
    wire = master(255)
    assert wire.hear(advert(255), PEER, at=10.3) == []
    assert wire.router.role is BACKUP


# Late is dangerous


def test_a_late_master_steps_down_before_it_answers() -> None:
    wire = master()
    assert wire.hear(advert(50), at=11.1 + DOWN) == []
    assert (wire.router.role, wire.router.deadline) == (BACKUP, 11.1 + 2 * DOWN)
    assert wire.news[-1].reason == "was suspended for 3.7 s: another node may have taken over"


def test_a_late_master_steps_down_before_it_sends() -> None:
    wire = master()
    assert wire.tick(11.1 + DOWN) == []
    assert wire.router.role is BACKUP


def test_a_master_that_is_late_by_less_goes_on() -> None:
    wire = master()
    assert wire.tick(10.9 + DOWN) == [100]
    assert wire.router.role is MASTER


def test_a_late_backup_waits_once_more() -> None:
    wire = backup()
    assert wire.tick(10.1 + 2 * DOWN) == []
    assert (wire.router.role, wire.router.deadline) == (BACKUP, 10.1 + 3 * DOWN)
    assert wire.tick(10.1 + 3 * DOWN) == [100]


def test_a_late_backup_that_wakes_to_an_advert_follows_it() -> None:
    wire = backup()
    wire.hear(advert(), at=60)
    assert wire.tick(60) == []
    assert wire.router.deadline == 60 + DOWN


# Faults and bars


def test_a_sick_master_gives_up_and_a_fault_hears_nothing() -> None:
    wire = master()
    assert wire.judge(at=10.5, sick=SICK) == [0]
    assert (wire.router.role, wire.router.reason, wire.router.deadline) == (FAULT, SICK, float("inf"))
    assert wire.hear(advert(50), at=11) == wire.tick(20) == wire.judge(at=21, sick=SICK) == []
    assert len(wire.news) == 3


def test_another_fault_is_news_of_the_same_role() -> None:
    wire = backup()
    assert wire.judge(at=11, sick=SICK) == []
    wire.judge(at=12, sick="eth0 is down")
    assert wire.news[-1] == Became("role", "VI_1", "fault", "eth0 is down")
    assert wire.router.since == 11


def test_who_is_mended_listens_for_a_whole_master_down_interval() -> None:
    wire = master(preempt=False)
    wire.judge(at=11, sick=SICK)
    assert wire.judge(at=20) == []
    assert (wire.router.role, wire.router.reason) == (BACKUP, "the fault is gone")
    assert wire.router.deadline == 20 + DOWN


def test_a_barred_master_gives_up_and_never_claims() -> None:
    wire = master()
    assert wire.judge(at=10.5, barred=CUT_OFF) == [0]
    assert (wire.router.role, wire.router.reason) == (BACKUP, CUT_OFF)
    for _ in range(20):
        assert wire.tick(wire.router.deadline) == []
    wire.hear(advert(0), at=wire.router.deadline - 2)
    assert wire.tick(wire.router.deadline) == []
    assert wire.router.role is BACKUP


def test_after_the_bar_lifts_a_backup_listens_for_a_whole_master_down_interval() -> None:
    wire = backup()
    wire.judge(at=10.5, barred=CUT_OFF)
    wire.judge(at=13, barred="")
    assert wire.router.deadline == 13 + DOWN
    wire.judge(at=14)
    assert wire.tick(13 + DOWN) == [100]


def test_a_claim_after_the_bar_does_not_tell_of_what_was_heard_before() -> None:
    wire = backup()
    wire.judge(at=10.5, barred=CUT_OFF)
    wire.hear(advert(0), at=11)
    wire.tick(12)
    wire.judge(at=100)
    wire.tick(100 + DOWN)
    assert wire.news[-1].reason == "no advert for 3.61 s"


def test_a_barred_owner_waits_as_anybody() -> None:
    wire = Wire(255, start=False)
    assert wire.judge(at=0, barred=CUT_OFF) == []
    wire.judge(at=5)
    assert (wire.router.role, wire.router.deadline) == (BACKUP, 5 + 3 + 1 / 256)


def test_an_owner_preempts_whatever_is_configured() -> None:
    """RFC 9568 section 6.1, Preempt_Mode."""
    wire = Wire(255, start=False, preempt=False)
    wire.judge(at=0, barred=CUT_OFF)
    wire.judge(at=5)
    for at in range(6, 11):
        wire.hear(advert(100), at=at)
        wire.tick(at)
    assert wire.router.role is MASTER


# RFC 9568 7.1


@pytest.mark.parametrize(
    ("said", "source", "ttl", "why"),
    [
        (advert(200), STRANGER, 255, "from an address that is not a peer"),
        (advert(200), US, 255, "from an address that is not a peer"),
        (advert(200), PEER, 253, "TTL below 254"),
        (advert(200, version=3), PEER, 255, "version 3 from 10.0.1.2, ours is 2"),
        (advert(200, auth_pass=b"wrong"), PEER, 255, "another password from 10.0.1.2"),
        (advert(200), PEER, 255, "another password from 10.0.1.2"),
        (advert(200, interval=2.0), PEER, 255, "advert interval 2 s from 10.0.1.2, ours is 1 s"),
    ],
)
@pytest.mark.parametrize("role", [BACKUP, MASTER])
def test_what_is_not_from_a_peer_of_the_same_kind_is_counted_and_dropped(
    role: Role, said: Advert, source: IPv4Address, ttl: int, why: str
) -> None:
    wire = (master if role is MASTER else Wire)(auth_pass="secret", min_ttl=254)
    deadline = wire.router.deadline
    password = said.auth_pass or (b"" if "password" in why else b"secret")
    for at in (0.1, 0.2, 0.3):
        assert wire.hear(replace(said, auth_pass=password), source, at=at, ttl=ttl) == []
    assert (wire.router.role, wire.router.deadline) == (role, deadline)
    assert wire.router.dropped.counts == {f"dropped, {why}": 3}


def test_the_password_is_the_first_eight_octets() -> None:
    wire = master(auth_pass="a long password")
    wire.hear(advert(200, auth_pass=b"a long p"), at=10.5)
    assert wire.router.role is BACKUP


@pytest.mark.parametrize(("min_ttl", "ttl"), [(0, 1), (254, 254)])
def test_a_ttl_of_the_minimum_is_accepted(min_ttl: int, ttl: int) -> None:
    wire = master(min_ttl=min_ttl)
    wire.hear(advert(200), at=10.5, ttl=ttl)
    assert wire.router.role is BACKUP


def test_other_addresses_are_counted_and_the_advert_is_heard() -> None:
    wire = master()
    wire.hear(advert(200, addresses=(STRANGER,)), at=10.5)
    assert wire.router.role is BACKUP
    assert wire.router.dropped.counts == {f"accepted although they name other addresses, from {PEER}": 1}


def test_the_order_of_the_addresses_does_not_matter() -> None:
    wire = Wire()
    wire.router.reconfigure(wire.router.config, (STRANGER, *ADDRESSES), 0)
    wire.hear(advert(addresses=(*ADDRESSES, STRANGER)), at=1)
    assert wire.router.dropped.counts == {}


# What the second takeover rung is made of


def test_it_remembers_when_the_latest_other_master_was_first_heard_and_when_it_became_master() -> None:
    wire = backup()
    wire.hear(advert(150), LOWER, at=11)
    wire.hear(advert(150), LOWER, at=12)
    wire.tick(12 + DOWN)
    assert (wire.router.other_reign_at, wire.router.reign_at) == (11, 12 + DOWN)


def test_a_master_that_gave_up_or_may_have_begun_anew_unnoticed_begins_another_reign() -> None:
    wire = backup()
    wire.hear(advert(0), at=11)
    wire.hear(advert(), at=11.2)
    wire.hear(advert(), at=12)
    assert wire.router.other_reign_at == 11.2
    wire.hear(advert(), at=12.1 + 2 * DOWN)
    assert wire.router.other_reign_at == 12.1 + 2 * DOWN


# The network is a for-loop


def play(routers: Iterable[Router], until: float, cut: tuple[float, float] = (0, 0)) -> list[tuple[float, Became]]:
    """Deliver each advert at once, but for the time of the cut; when who became what."""
    by_source: dict[Address, Router] = {router.config.source: router for router in routers}
    history: list[tuple[float, Became]] = []
    for hundredth in range(round(until * 100)):
        now = hundredth / 100
        todo = [e for router in by_source.values() for e in (router.constrain(Obstacles(), now) + router.tick(now))]
        while todo:
            effect = todo.pop(0)
            if isinstance(effect, Became):
                history.append((now, effect))
            elif isinstance(effect, SendAdvert) and not cut[0] <= now < cut[1]:
                said = parse(effect.data, effect.source, effect.destination)
                todo += by_source[effect.destination].receive(said, effect.source, 64, now)
    return history


def pair(one: int, other: int, **config: Any) -> tuple[Router, Router]:
    ends = (LOWER, one, PEER), (PEER, other, LOWER)
    routers = [
        Router(str(me), Vrrp("eth0", 51, priority, me, (peer,), **config), ADDRESSES, 0) for me, priority, peer in ends
    ]
    return routers[0], routers[1]


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(("one", "other", "roles"), [(100, 50, (MASTER, BACKUP)), (50, 50, (BACKUP, MASTER))])
def test_two_routers_elect_one_master_and_keep_it(version: Any, one: int, other: int, roles: tuple[Role, Role]) -> None:
    routers = pair(one, other, version=version)
    history = play(routers, until=30)
    assert tuple(router.role for router in routers) == roles
    assert max(now for now, _ in history) < 5
    assert not any(router.dropped.counts for router in routers)


@pytest.mark.parametrize("preempt", [True, False])
def test_after_a_split_the_better_of_two_masters_stays(preempt: bool) -> None:
    routers = pair(100, 50, preempt=preempt)
    history = play(routers, until=30, cut=(10, 20))
    assert tuple(router.role for router in routers) == (MASTER, BACKUP)
    when = [(now, news.name, news.value) for now, news in history if now > 9]
    assert [(name, value) for _, name, value in when] == [(str(PEER), "master"), (str(PEER), "backup")]
    assert when[0][0] == pytest.approx(9.6 + 3.8, abs=1)
    assert 20 <= when[1][0] <= 21


# Damped, and mistakes


def test_a_damped_backup_follows_anybody_and_replaces_who_is_silent() -> None:
    wire = backup()
    wire.judge(at=10, damped="flaps")
    wire.hear(advert(90), at=10.5)
    wire.hear(advert(90), at=11.5)
    assert (wire.router.master, wire.router.deadline) == (PEER, 11.5 + DOWN)
    assert wire.tick(11.5 + DOWN) == [100]


def test_a_damped_backup_takes_over_from_one_that_hands_over_as_any_other() -> None:
    wire = backup()
    wire.judge(at=10, damped="flaps")
    wire.hear(advert(0), at=11)
    assert wire.router.deadline == 11 + SKEW


@pytest.mark.parametrize("obstacle", ["damped", "leaving"])
def test_a_master_that_is_damped_hands_over_once(obstacle: str) -> None:
    """And so does one that is drained."""
    wire = master()
    assert wire.judge(at=11, **{obstacle: "cannot keep it"}) == [0]
    assert (wire.router.role, wire.router.reason) == (BACKUP, "cannot keep it")
    assert wire.tick(11 + DOWN) == [100]
    assert wire.judge(at=15, **{obstacle: "cannot keep it"}) == wire.judge(at=15) == []
    assert wire.router.role is MASTER


def test_a_damped_owner_listens_first() -> None:
    wire = Wire(255, start=False)
    wire.judge(at=0, damped="flaps")
    assert wire.router.role is BACKUP


def test_after_a_fault_of_its_link_a_router_listens_for_two_seconds_at_least() -> None:
    wire = Wire(version=3, advert_interval=0.1)
    wire.judge(at=5, link="eth0 is down")
    wire.judge(at=10, link="eth0 is down", sick=SICK)
    wire.judge(at=20, sick=SICK)
    wire.judge(at=20.5)
    assert wire.router.deadline == 22 + SKEW / 2
    sick = Wire(version=3, advert_interval=0.1)
    sick.judge(at=5, sick=SICK)
    sick.judge(at=20)
    assert sick.router.deadline == pytest.approx(20 + DOWN / 10)


def test_after_a_fault_of_all_links_the_best_router_claims_first() -> None:
    ends = {}
    for priority in (50, 100, 101):
        wire = Wire(priority, version=3, advert_interval=0.1)
        wire.judge(at=5, link="eth0 is down")
        wire.judge(at=20)
        ends[priority] = wire.router.deadline
    assert ends[101] < ends[100] < ends[50] < 22.5


def test_a_damped_master_that_cannot_keep_its_address_either_hands_over_once_more() -> None:
    wire = master()
    assert wire.judge(at=wire.router.deadline, damped="withdrawn too often") == [0]
    assert wire.tick(wire.router.deadline) == [100]  # nobody else is there
    at = wire.router.deadline
    assert wire.judge(at=at, damped="something removes the address") == [0]
    wire.tick(wire.router.deadline)
    assert wire.judge(at=wire.router.deadline, damped="withdrawn too often") == []
    assert wire.router.role is MASTER


def mistaken(times: int = 2, priority: int = 100) -> Wire:
    """Took over from a master that lives, so many times."""
    wire = Wire(priority)
    for at in range(10, 10 * times + 1, 10):
        wire.hear(advert(200), at=at)
        assert wire.tick(at + wire.router.master_down_interval) == [priority]
        wire.hear(advert(200), at=at + 4)
    return wire


def test_who_was_mistaken_twice_in_five_minutes_asks_its_master_before_it_claims() -> None:
    wire = mistaken()
    asked = []
    while wire.router.role is BACKUP:
        at = wire.router.deadline
        asked += [(at, said) for said in wire.tick(at)]
    assert asked[0] == (26.5, 1)
    assert [said for _, said in asked] == [1] * (len(asked) - 1) + [100]
    assert len(asked) > 5
    assert asked[-1][0] == 24 + DOWN, "and is not later for it"


def test_an_answer_ends_the_questions() -> None:
    wire = mistaken()
    assert wire.tick(26.5) == [1]
    wire.hear(advert(200), at=26.501)
    assert wire.router.deadline == 26.501 + 2.5


def test_who_was_mistaken_also_asks_one_who_seems_to_hand_over() -> None:
    wire = mistaken()
    wire.hear(advert(0), at=25)
    assert wire.tick(25) == [1]
    assert wire.router.deadline < 25 + SKEW


@pytest.mark.parametrize("times", [0, 1])
def test_who_was_not_mistaken_asks_nobody(times: int) -> None:
    wire = mistaken(times)
    wire.hear(advert(200), at=26)
    assert wire.router.deadline == 26 + DOWN


def test_mistakes_of_long_ago_are_forgotten() -> None:
    wire = mistaken()
    for second in range(25, 320):
        wire.hear(advert(200), at=second)
    assert wire.router.deadline == 319 + DOWN


def test_a_question_makes_nobody_yield() -> None:
    """Of two nodes of priority 1 the greater address would win."""
    wire = mistaken(priority=1)
    wire.hear(advert(1), LOWER, at=25)
    assert wire.router.deadline == 25 + wire.router.master_down_interval


def test_only_the_master_is_asked() -> None:
    """To a third node the question would look like another master."""
    wire = mistaken()
    asked = wire.router.tick(26.5)
    assert [effect.destination for effect in asked if isinstance(effect, SendAdvert)] == [PEER]


@pytest.mark.parametrize("preempt", [True, False])
def test_a_question_of_another_backup_is_no_sign_of_life_of_the_master(preempt: bool) -> None:
    wire = backup(preempt=preempt)
    wire.hear(advert(ASKING), LOWER, at=12)
    assert wire.tick(10 + DOWN) == [100]


def test_a_router_of_priority_1_follows_a_master_of_priority_1() -> None:
    wire = Wire(ASKING)
    wire.hear(advert(ASKING), at=3)
    assert wire.router.master == PEER


def test_who_is_asked_does_not_take_the_questions_for_a_second_master() -> None:
    wire = master(200)
    at = 11.0
    for _ in range(20):
        for _ in range(10):
            wire.hear(advert(1), at=at)
            at += 0.18
        at += 2.2
    assert not [news for news in wire.news if news.value == "second-master"]


def test_who_says_priority_0_again_and_again_is_no_second_master() -> None:
    wire = master(200)
    for tenth in range(60):
        wire.hear(advert(0), at=11 + tenth / 10)
    assert not [news for news in wire.news if news.value == "second-master"]


def test_a_master_whose_adverts_are_dropped_has_been_heard() -> None:
    around = Surroundings(link_fault="")
    wire = master(200)
    wire.hear(advert(100, version=3), at=10.5)
    assert wire.router.problems(around, 11) == []
    assert [problem.code for problem in wire.router.problems(around, 20)] == ["peer-unheard"]


# The effective priority


def test_tracks_move_the_priority_and_it_stays_from_1_to_254() -> None:
    for base, shift, effective in [(100, -40, 60), (100, -200, 1), (200, 100, 254), (255, -100, 255), (255, 10, 255)]:
        wire = Wire(base)
        wire.judge(at=0, shift=shift)
        assert wire.router.priority == effective
        assert wire.router.preference == (effective, US)


def test_another_priority_is_news_with_its_reason() -> None:
    wire = backup()
    wire.judge(at=10.5, shift=-10, why_shift="check web failed")
    wire.judge(at=10.6, shift=-10, why_shift="check web failed")
    assert wire.news[-1] == Became("priority", "VI_1", "90", "check web failed")
    assert len([news for news in wire.news if news.what == "priority"]) == 1


def test_what_moves_the_priority_of_an_owner_or_beyond_its_limits_is_no_news() -> None:
    for wire in (backup(255), backup(254)):
        before = len(wire.news)
        wire.judge(at=10.5, shift=20)
        assert len(wire.news) == before


@pytest.mark.parametrize("shift", [-50, 50])
def test_the_running_timer_of_a_backup_moves_with_its_skew(shift: int) -> None:
    wire = backup()
    wire.judge(at=11, shift=shift)
    assert wire.router.deadline == 10 + DOWN - shift / 256
    wire.hear(advert(0), at=11)
    assert wire.router.deadline == 11 + SKEW - shift / 256


def test_a_master_of_another_priority_says_so_at_once_and_goes_on() -> None:
    wire = master()
    assert wire.judge(at=10.4, shift=-50) == [50]
    assert (wire.router.role, wire.router.deadline) == (MASTER, 11.4)
    assert wire.tick(11.4) == [50]
    assert wire.hear(advert(60), at=11.6) == []
    assert wire.router.role is BACKUP


def test_the_advert_of_another_priority_stands_before_the_news() -> None:
    effects = master().router.constrain(Obstacles(shift=-1), 10.4)
    assert [type(effect) for effect in effects] == [SendAdvert, SendAdvert, Became]


def test_a_master_that_fails_while_its_priority_falls_says_priority_0_only() -> None:
    assert master().judge(at=10.4, shift=-50, sick=SICK) == [0]


def test_a_backup_whose_priority_rises_preempts_the_master_that_it_follows() -> None:
    wire = Wire()
    wire.hear(advert(120), at=1)
    wire.judge(at=1.5, shift=50)
    wire.hear(advert(120), at=2)
    assert wire.router.deadline == pytest.approx(2 + 106 / 256)


# Sync groups

WAITS = "VI_2 follows 10.0.1.2"


def test_who_is_held_back_wants_to_be_master_and_listens_on() -> None:
    wire = backup()
    wire.judge(at=10, holds_back=WAITS)
    assert not wire.router.wants_master
    assert wire.tick(10 + DOWN) == []
    assert (wire.router.role, wire.router.wants_master) == (BACKUP, True)
    assert wire.router.reason == f"no advert for 3.61 s from 10.0.1.2, but {WAITS}"
    assert wire.router.deadline == 10 + 2 * DOWN
    assert wire.tick(10 + 2 * DOWN) == []


def test_who_wants_to_be_master_is_master_as_soon_as_nothing_holds_it_back() -> None:
    wire = backup()
    wire.judge(at=10, holds_back=WAITS)
    wire.tick(10 + DOWN)
    wire.judge(at=10 + DOWN, holds_back=WAITS)
    assert wire.judge(at=11 + DOWN) == [100]
    assert wire.news[-1] == Became("role", "VI_1", "master", "no advert for 3.61 s from 10.0.1.2")
    assert not wire.router.wants_master


def test_who_has_waited_for_nothing_does_not_become_master_when_nothing_holds_it_back() -> None:
    wire = backup()
    wire.judge(at=10, holds_back=WAITS)
    assert wire.judge(at=11) == []
    assert wire.router.deadline == 10 + DOWN


@pytest.mark.parametrize("priority", [100, 200])
def test_a_master_that_is_followed_ends_the_wish(priority: int) -> None:
    wire = backup()
    wire.judge(at=10, holds_back=WAITS)
    wire.tick(10 + DOWN)
    wire.hear(advert(priority), at=15)
    assert not wire.router.wants_master
    assert wire.judge(at=16) == []


def test_a_lower_master_does_not_end_the_wish() -> None:
    wire = backup()
    wire.judge(at=10, holds_back=WAITS)
    wire.tick(10 + DOWN)
    wire.hear(advert(50), at=15)
    assert wire.router.wants_master


def test_who_is_held_back_beside_a_lower_master_names_it_and_says_no_alarm() -> None:
    wire = Wire()
    wire.judge(at=0, holds_back=WAITS)
    for at in (1, 2, 3):
        wire.hear(advert(90), at=at)
    assert wire.tick(DOWN) == []
    assert (wire.router.wants_master, wire.router.lower_master) == (True, PEER)
    assert wire.router.reason == f"10.0.1.2 has priority 90, below ours (100), but {WAITS}"
    assert wire.router.problems(Surroundings(""), DOWN) == []
    wire.tick(2 * DOWN)
    assert wire.router.lower_master is None
    assert len(wire.router.problems(Surroundings(""), 2 * DOWN)) == 1


@pytest.mark.parametrize("obstacle", ["sick", "link", "barred"])
def test_who_must_not_be_master_no_longer_wants_to(obstacle: str) -> None:
    wire = backup()
    wire.judge(at=10, holds_back=WAITS)
    wire.tick(10 + DOWN)
    wire.judge(at=15, **{obstacle: "it must not"}, holds_back=WAITS)
    assert not wire.router.wants_master
    assert wire.judge(at=16) == []
    assert wire.router.role is BACKUP


def test_an_owner_that_is_held_back_wants_to_be_master_at_once() -> None:
    wire = Wire(255, start=False)
    assert wire.judge(at=0, holds_back=WAITS) == []
    assert (wire.router.role, wire.router.wants_master) == (BACKUP, True)
    assert wire.judge(at=1) == [255]


def test_a_late_backup_forgets_its_wish() -> None:
    wire = backup()
    wire.judge(at=10, holds_back=WAITS)
    wire.tick(10 + DOWN)
    assert wire.judge(at=30) == []
    assert (wire.router.role, wire.router.wants_master) == (BACKUP, False)


def test_a_master_yields_to_its_group_without_a_word() -> None:
    wire = master()
    assert wire.judge(at=11, yields="VI_2 is no longer master") == []
    assert (wire.router.role, wire.router.reason) == (BACKUP, "VI_2 is no longer master")
    assert wire.router.deadline == 11 + DOWN
    assert wire.router.turns.by_cause["backup group"] == 1
    assert backup().judge(at=11, yields="VI_2 is no longer master") == []


def test_a_backup_that_cannot_be_master_for_its_group_is_a_problem() -> None:
    wire = Wire()
    wire.judge(at=0, holds_back=WAITS)
    wire.tick(DOWN)
    (problem,) = wire.router.problems(Surroundings(""), 5)
    assert problem.what == f"VI_1: no better master is heard, but this node must not be master: {WAITS}"
