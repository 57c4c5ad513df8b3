"""The state of a node as plain data, and what a person should look at."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from floatip.core.bgp.trouble import Trouble
from floatip.core.events import (
    AdvertReceived,
    BytesReceived,
    Disconnected,
    Failing,
    Failure,
    LinkChanged,
    Started,
    StopRequested,
)
from floatip.core.snapshot import describe
from floatip.core.state import Status, read
from floatip.core.vrrp import wire
from floatip.core.vrrp.wire import Advert
from tests.core.host import (
    CONFIG,
    PEER,
    RS,
    RS2,
    SICK,
    US,
    WELL,
    A,
    Host,
    advert,
    config,
    elected,
    held,
    master,
    problems,
    status,
)

FAILS = frozenset({Failure("advert to 10.0.0.2 on eth0", "network is unreachable", "see why")})
SECRET_ADVERT = Advert(2, 51, 100, 1.0, (A.ip,), auth_pass=b"secret")
TWO = config(speaker={"peers": (RS, RS2)})


def test_a_node_without_a_problem_says_so() -> None:
    assert problems(master(TWO)) == []


@pytest.mark.parametrize(
    "host",
    [
        lambda: Host(start=False),
        lambda: Host(replace(CONFIG, speaker=None)),
        lambda: Host(config(placement="master")),
        lambda: master(TWO),
    ],
)
def test_the_status_is_plain_data_at_any_time(host: Callable[[], Host]) -> None:
    one = host()
    assert read(Status, status(one)) == describe(one.node, one.now)
    one.tell(Failing("advert", FAILS), advert(0), SICK, Disconnected(RS, "reset"), StopRequested(), at=31)
    assert status(one)["stopping"] == "asked to stop"
    assert read(Status, status(one) | {"of a later version": 1}) == describe(one.node, one.now)


def test_a_node_that_stops_has_that_problem_and_those_of_its_machine() -> None:
    host = master(TWO)
    host.tell(SICK, StopRequested())
    host.run(30.1)
    assert problems(host) == [("stopping", "stopping: asked to stop")]
    host.tell(Failing("advert", FAILS))
    assert [code for code, _ in problems(host)] == ["stopping", "failure"]


def test_a_node_that_drains_before_it_stops_still_names_its_other_problems() -> None:
    host = master(config(speaker={"peers": (RS, RS2), "graceful_shutdown": 5.0}))
    host.tell(SICK, WELL, StopRequested())
    host.tell(SICK)
    assert [code for code, _ in problems(host)] == ["stopping", "unhealthy"]


def test_each_value_stands_with_its_age_and_its_reason() -> None:
    host = master(TWO)
    [instance] = status(host)["instances"]
    assert instance["role"]["value"] == "master"
    assert instance["role"]["for"] == pytest.approx(30 - 3.8, abs=0.1)
    assert instance["role"]["reason"] == "no advert for 3.80 s"
    assert instance["health"] == {"value": "up", "for": 30, "reason": "check web: exit status 0"}
    assert instance["rank"]["value"] == "active"
    assert instance["rank"]["reason"] == "master, settled"
    [address] = instance["addresses"]
    assert address == {"address": "192.0.2.10/32", "interface": "lo", "held": True, "announced_to": 2}


def test_a_backup_names_its_master() -> None:
    host = Host()
    host.tell(advert(100))
    [instance] = status(host)["instances"]
    assert (instance["master"], instance["role"]["reason"]) == ("10.0.0.2", "following 10.0.0.2, priority 100")


def test_fewer_sessions_are_a_warning_and_none_is_a_problem() -> None:
    host = master(TWO)
    assert problems(host, "warning") == []
    host.dialling_works = False
    host.tell(Disconnected(RS, "reset"))
    assert problems(host) == []
    assert problems(host, "warning") == [("session-down", f"1 of 2 route servers not connected: {RS}: reset")]
    host.tell(Disconnected(RS2, "no route to host"))
    assert problems(host) == [("no-session", f"no route server of 2 is connected: {RS}: reset")]
    assert problems(host, "warning") == []


def test_a_session_that_is_down_says_what_to_try() -> None:
    host = Host(config(speaker={"hints": {Trouble.REFUSED: "start it"}}), start=False)
    host.dialling_works = False
    host.tell(Started(), WELL)
    [problem] = [one for one in status(host)["problems"] if one["code"] == "no-session"]
    assert problem["what"] == f"no route server of 1 is connected: {RS}: connection refused"
    assert problem["hint"] == "start it"
    [session] = status(host)["sessions"]
    assert (session["reason"], session["hint"]) == ("connection refused", "start it")


def test_a_young_session_is_noted_and_is_no_problem() -> None:
    host = Host()
    [young] = describe(host.node, 29).sessions
    [grown] = describe(host.node, 30).sessions
    assert (young.young, grown.young) == (True, False)
    assert problems(host) == []


def test_a_sick_instance_is_named_with_its_check() -> None:
    host = master()
    host.tell(SICK)
    assert problems(host) == [("unhealthy", "VI_1 is not healthy: check web: exit status 1")]


def test_a_node_that_is_cut_off_is_named_also_while_its_sessions_stand() -> None:
    host = master()
    host.acknowledging = False
    host.run(40)
    assert problems(host) == [("cut-off", "cut off: no route server has acknowledged anything for 10.0 s")]


def test_a_route_server_that_stopped_reading_is_a_warning_until_it_reads_again() -> None:
    host = master(TWO)
    host.silent_peers = {RS}
    host.run(35)
    assert problems(host, "warning") == []
    host.run(36)
    what = f"{RS} has acknowledged nothing for 6 s: what is withdrawn now stays there"
    assert (problems(host, "warning"), problems(host)) == ([("not-acknowledged", what)], [])
    host.silent_peers.clear()
    host.run(37)
    assert problems(host, "warning") == []


@pytest.mark.parametrize("placement", ["all", "master"])
def test_an_address_that_should_be_held_and_is_not_is_named(placement: Any) -> None:
    host = master(config(placement=placement))
    host.kernel_answers = False
    host.tell(held())
    assert problems(host) == [("not-held", "VI_1 does not hold 192.0.2.10")]


def test_an_address_that_is_not_released_is_named() -> None:
    host = master(config(placement="master"))
    host.kernel_answers = False
    host.adverts_from_peer = 100
    host.run(32)
    what = "VI_1 is not master here, and has 192.0.2.10: two nodes may answer"
    assert problems(host) == [("not-released", what)]
    host.tell(held())
    assert problems(host) == []


def test_a_backup_need_not_hold_what_only_the_master_holds() -> None:
    assert problems(Host(config(placement="master"))) == []


def test_dropped_adverts_are_named_with_the_reason() -> None:
    host = Host(config(election=elected(auth_pass="secret")))
    host.tell(advert(100), advert(100), AdvertReceived("eth0", PEER, US, 255, b"x"))
    assert problems(host) == [
        ("adverts-dropped", "VI_1: 2 adverts dropped, another password from 10.0.0.2"),
        ("adverts-dropped", "1 VRRP packet dropped: 1 octets are too short for a VRRP header"),
    ]
    assert "adverts-dropped" not in [code for code, _ in problems(host.run(400))]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (replace(SECRET_ADVERT, auth_pass=b"other"), "compare auth_pass on both"),
        (replace(SECRET_ADVERT, interval=2.0), "give both the same advert interval"),
        (replace(SECRET_ADVERT, version=3, auth_pass=b""), "give both the same version of VRRP"),
        (replace(SECRET_ADVERT, addresses=(PEER,)), "a keepalived ignores adverts that name others"),
    ],
)
def test_the_hint_about_dropped_adverts_says_what_they_lead_to_and_what_to_compare(said: Advert, words: str) -> None:
    host = Host(config(election=elected(auth_pass="secret")))
    host.tell(AdvertReceived("eth0", PEER, US, 255, wire.pack(said, PEER, US)))
    (hint,) = [one["hint"] for one in status(host)["problems"] if one["code"] == "adverts-dropped"]
    assert words in hint
    assert hint.endswith("; the adverts: tcpdump -vni eth0 vrrp")


def test_what_a_route_server_sent_in_vain_is_named() -> None:
    host = master()
    host.dialling_works = False
    host.tell(BytesReceived(RS, b"HTTP/1.1 400 Bad Request\r\n"))
    what = f"{RS} sent 1 malformed message, the last: the marker is not all ones"
    assert ("malformed-messages", what) in problems(host)
    host.run(400)
    assert ("malformed-messages", what) not in problems(host)


def test_what_the_world_refused_is_named() -> None:
    host = master()
    host.tell(Failing("adverts", FAILS))
    host.run(1000)
    assert problems(host) == [("failure", "advert to 10.0.0.2 on eth0: network is unreachable")]
    host.tell(Failing("adverts", frozenset()))
    assert problems(host) == []


def test_a_failure_without_a_hint_leads_to_the_manual() -> None:
    host = master()
    host.tell(Failing("disk", frozenset({Failure("state log /x", "no space left on device")})))
    (problem,) = [one for one in status(host)["problems"] if one["severity"] == "problem"]
    assert problem["hint"] == "look up failure in /usr/share/doc/floatip/operate/troubleshooting.md"


def test_a_route_server_that_cannot_carry_the_prefix_is_named() -> None:
    host = Host(start=False)
    host.peers_offer = replace(host.peers_offer, extended_next_hop=frozenset())
    host.tell(Started(), WELL)
    assert problems(host) == [("prefix-refused", f"VI_1: {RS} takes no IPv4 prefix over this session")]
    [instance] = status(host)["instances"]
    assert instance["addresses"][0]["announced_to"] == 0


def test_an_instance_that_takes_no_part_in_the_election_is_a_problem() -> None:
    host = master()
    host.tell(LinkChanged("eth0", False, "eth0 does not exist"))
    host.run(31)
    assert problems(host) == [("instance-fault", "VI_1 takes no part in the election: eth0 does not exist")]
    host.tell(LinkChanged("eth0", True, ""))
    assert problems(host) == []


def test_another_master_that_does_not_yield_is_a_problem_and_news() -> None:
    host = master()
    host.adverts_from_peer = 10
    host.run(33)
    assert problems(host) == host.when("network second-master") == []
    host.run(36)
    assert host.when("network second-master") == [34]
    assert problems(host) == [("second-master", "VI_1: 10.0.0.2 is MASTER too: it does not hear our adverts")]
    host.adverts_from_peer = None
    host.run(40)
    assert problems(host) == []
