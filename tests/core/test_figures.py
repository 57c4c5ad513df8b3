"""What a node counts, and what of it comes through JSON."""

import json
from copy import copy
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from floatip.core import settings
from floatip.core.bgp.notification import Notification
from floatip.core.bgp.wire import Keepalive, Type, pack
from floatip.core.counters import Histogram, Refused
from floatip.core.events import AdvertReceived, BytesReceived, KeepalivedFound, LinkChanged, StopRequested
from floatip.core.figures import MESSAGES, AdvertFigures, Figures, InstanceFigures, SessionFigures, read
from floatip.core.settings import Check, Keepalived
from floatip.core.tally import collect
from tests.core.host import PEER, RS, SICK, US, VRRP, WEB, WELL, Host, advert, backup, config, elected, master


def figures(host: Host) -> Figures:
    """As they come out of the control socket."""
    record = collect(host.node, {"wire": Histogram.of(0.1)}, Histogram.of(0.1))._asdict()
    return read(json.loads(json.dumps(record, allow_nan=False)))


def instance(host: Host) -> InstanceFigures:
    return figures(host).instances[0]


def adverts(host: Host) -> AdvertFigures:
    found = instance(host).adverts
    assert found is not None
    return found


def session(host: Host) -> SessionFigures:
    return figures(host).sessions[0]


def test_what_a_reader_gets_is_what_the_node_counted() -> None:
    host = master()
    assert figures(host) == collect(host.node, {"wire": Histogram.of(0.1)}, Histogram.of(0.1))


def test_each_advert_that_is_sent_counts_and_those_that_hand_over_count_besides() -> None:
    host = master()
    sent = sum(word.startswith("advert") for _, word in host.log)
    assert (adverts(host).sent, adverts(host).zero_sent) == (sent, 0)
    host.tell(SICK)
    assert (adverts(host).sent, adverts(host).zero_sent) == (sent + 1, 1)


def test_each_advert_that_is_used_counts_with_its_time() -> None:
    host = backup()
    before = adverts(host)
    host.tell(advert(100), advert(0), at=host.now + 0.5)
    after = adverts(host)
    assert (after.received - before.received, after.zero_received) == (2, 1)
    assert after.heard_at == host.now
    assert after.refused == []


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"source": IPv4Address("10.0.0.9")}, Refused.NOT_A_PEER),
        ({"ttl": 1}, Refused.TTL),
        ({"data": b"\x31\x33"}, Refused.LENGTH),
        ({"data": b"\x32\x33\x64\x01\x00\x64\x00\x00\xc0\x00\x02\x0a"}, Refused.TYPE),
    ],
)
def test_an_advert_that_is_refused_counts_with_its_reason_at_the_router_that_it_names(
    changes: dict[str, Any], why: Refused
) -> None:
    host = master(config(election=replace(VRRP, min_ttl=255)))
    received = adverts(host).received
    host.tell(replace(advert(100), **changes))
    assert adverts(host).refused == [int(code is why) for code in Refused]
    assert adverts(host).received == received
    assert not any(figures(host).refused)


def test_an_advert_that_names_no_router_of_ours_counts_at_the_node() -> None:
    host = master()
    host.tell(
        advert(100, vrid=52), AdvertReceived("eth0", PEER, US, 255, b"\x31"), AdvertReceived("eth0", PEER, US, 255, b"")
    )
    assert not any(adverts(host).refused)
    assert figures(host).refused == [{Refused.UNKNOWN_VRID: 1, Refused.LENGTH: 2}.get(code, 0) for code in Refused]


def test_garbage_without_end_makes_no_figure_more() -> None:
    host = master()
    for number in range(3000):
        source = IPv4Address(number + 1)
        host.tell(
            AdvertReceived("eth0", source, US, number % 256, number.to_bytes(2)), replace(advert(1), source=source)
        )
    size = len(json.dumps(figures(host)))
    for number in range(3000):
        host.tell(AdvertReceived("eth0", IPv4Address(number + 7777), US, 1, number.to_bytes(4)))
    assert len(json.dumps(figures(host))) < size + 40


def test_a_role_counts_with_its_cause_and_only_when_it_changes() -> None:
    host = master()
    assert instance(host).turns == {"backup start": 1, "master silence": 1}
    host.tell(SICK)
    host.tell(WELL)
    host.run(host.now + 10)
    host.tell(LinkChanged("eth0", False, "eth0 is down"))
    host.run(host.now + 1)
    host.tell(SICK)  # FAULT for another reason
    host.tell(WELL)
    host.tell(LinkChanged("eth0", True, ""))
    host.run(host.now + 10)
    host.tell(StopRequested())
    assert instance(host).turns == {
        "backup start": 1,
        "master silence": 3,
        "fault check": 1,
        "fault link": 1,
        "backup recovered": 2,
        "init stop": 1,
    }
    assert (instance(host).became_master, instance(host).released_master) == (3, 3)


def test_who_takes_over_and_who_yields_have_causes_of_their_own() -> None:
    host = backup()
    host.adverts_from_peer = None
    host.tell(advert(0))
    host.run(host.now + 2)
    assert instance(host).turns == {"backup start": 1, "master handover": 1}
    host.tell(advert(100))
    assert instance(host).turns["backup preferred"] == 1
    host.tell(advert(10))
    host.run(host.now + 2)
    assert instance(host).turns["master preferred"] == 1
    host.acknowledging = False
    host.run(host.now + 10)
    assert instance(host).turns["backup barred"] == 1


def test_a_copy_of_an_elector_counts_alone() -> None:
    host = backup()
    before = instance(host)
    tried = copy(host.node.instances["VI_1"].elector)
    tried.stop("tried", host.now)
    assert tried.turns.by_cause == {"backup start": 1, "init stop": 1}
    assert instance(host).turns == before.turns


def test_keepalived_is_a_cause_where_it_elects() -> None:
    host = Host(config(election=Keepalived("VI_1", "eth0", 51, 50, US, (PEER,))), kernel_answers=False)
    host.tell(KeepalivedFound(True, ""))
    assert instance(host).turns == {"backup keepalived": 1}
    host.tell(advert(100), replace(advert(100), source=IPv4Address("10.0.0.9")))
    assert adverts(host).received == 1
    assert adverts(host).refused[Refused.NOT_A_PEER] == 1
    host.tell(StopRequested())
    assert instance(host).turns["init stop"] == 1


def test_bgp_messages_count_by_direction_and_type() -> None:
    host = master()
    before = session(host)
    assert before.sent[Type.OPEN] == before.received[Type.OPEN] == 1
    assert before.sent[Type.KEEPALIVE] >= 25  # one a second
    updates = before.sent[Type.UPDATE]
    host.tell(SICK)
    assert session(host).sent[Type.UPDATE] == updates + 1
    host.tell(BytesReceived(RS, pack(Keepalive()) * 2), BytesReceived(RS, pack(Notification(6, 2))))
    after = session(host)
    assert after.received[Type.KEEPALIVE] == before.received[Type.KEEPALIVE] + 2
    assert after.received[Type.NOTIFICATION] == 1
    assert tuple(kind.name.lower().replace("_", "-") for kind in Type) == MESSAGES


def test_what_we_refuse_a_peer_with_counts_as_a_notification() -> None:
    host = master()
    host.tell(BytesReceived(RS, b"\x00" * 19))
    assert session(host).sent[Type.NOTIFICATION] == 1
    host.run(host.now + 5).tell(StopRequested())
    assert session(host).sent[Type.NOTIFICATION] == 2


def test_prefixes_count_by_the_rank_at_which_they_are_announced() -> None:
    host = master()
    assert session(host).announced == {"active": 1}
    host.adverts_from_peer = 100
    host.run(host.now + 3)
    assert session(host).announced == {"standby": 1}
    host.tell(SICK)
    assert session(host).announced == {}


def test_the_duration_of_a_check_counts_from_the_question_to_the_answer_or_the_timeout() -> None:
    asked = settings.Settings(
        checks=(Check("web", 1.0, 0.4), Check("pushed", pushed=True)),
        instances=(replace(WEB, checks=("web", "pushed")),),
    )
    host = Host(asked, start=False)
    assert [one.name for one in figures(host).checks.each] == ["web"]
    check = host.node.checks["web"]
    check.tick(0)
    check.done(check.runs, True, "", 0.03)
    check.tick(1)
    check.tick(1.4)
    (duration,) = figures(host).checks.each
    assert duration.sum == pytest.approx(0.43)
    bounds = figures(host).checks.bounds
    assert [bounds[at] for at, count in enumerate(duration.counts) if count] == [0.05, 0.5]


def test_a_value_on_a_bound_belongs_to_its_bucket_and_a_greater_one_to_the_last() -> None:
    histogram = Histogram.of(1.0, 2.0)
    for value in (0.0, 1.0, 1.5, 2.0, 2.1):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 1]
    assert histogram.sum == pytest.approx(6.6)


def test_a_reload_that_changes_only_figures_of_an_election_forgets_no_count() -> None:
    host = master()
    before = instance(host)
    host.reload(config(election=elected(priority=60)))
    assert instance(host).turns == before.turns
    assert before.adverts
    assert adverts(host).sent >= before.adverts.sent > 0
