"""What a drill's verdict says of what was seen: pure."""

from dataclasses import replace

import pytest

from floatip.core.state import AddressView, InstanceView, Standing
from floatip.drill.method import allowed_outage
from floatip.drill.report import Finding, Probes, Seen
from floatip.drill.verdict import probed, took_over
from floatip.observing.summary import ProbeResult

STANDING = Standing("master", 60.0, "")
WEB = InstanceView(
    name="web",
    role=STANDING,
    health=STANDING,
    rank=STANDING,
    master=None,
    election="nodes",
    priority=None,
    vrid=None,
    dropped={},
    master_down_interval=0.3,
    addresses=(AddressView("192.0.2.10/32", "lo", True, 4),),
    route_servers=4,
)
IN_A_VLAN = replace(WEB, route_servers=0)


@pytest.mark.parametrize(
    ("instance", "fault", "seconds"),
    [
        (WEB, "check", 0.0),
        (WEB, "stop", 0.0),
        (WEB, "cut", 0.8),
        (replace(WEB, election="vrrp", master_down_interval=3.6), "cut", 4.1),
        (IN_A_VLAN, "check", 0.1),
        (IN_A_VLAN, "handover", 0.0),
        (replace(IN_A_VLAN, election="vrrp"), "check", 1.0),
    ],
)
def test_the_outage_that_a_fault_may_cost_is_that_of_the_documentation(
    instance: InstanceView, fault: str, seconds: float
) -> None:
    assert allowed_outage(instance, fault) == pytest.approx(seconds)


def probes(*lost: float, error: str = "timed out", until: float = 3.0) -> Probes:
    """A request every 20 ms from a second before the fault; haproxy2 answers from 0.3 s on."""
    results = []
    for number in range(round((until + 1) / 0.02)):
        at = round(number * 0.02 - 1, 3)
        who = "haproxy1" if at < 0.3 else "haproxy2"
        if at in lost:
            results.append(ProbeResult("request", at, False, error=error))
        else:
            results.append(ProbeResult("request", at, True, 0.001, who, named_by="X-Node"))
    return Probes("haproxy3", "192.0.2.10", 80, 0.02, tuple(results))


def findings(told: Probes, fault: str) -> list[tuple[bool, str]]:
    return [(one.holds, one.text.removeprefix("haproxy3, 192.0.2.10: ")) for one in probed(told, WEB, fault)]


MOVED = (True, "answers moved from haproxy1 to haproxy2 after 0.30 s; answered: haproxy1 15, haproxy2 135")


def test_a_fault_that_must_lose_nothing_fails_by_one_lost_request() -> None:
    assert findings(probes(), "check") == [(True, "0 of 200 requests lost"), MOVED]
    (holds, text), *_ = findings(probes(0.02), "check")
    assert holds is False
    assert text.startswith("1 of 200 requests lost, 0.02 s without an answer; the documentation allows 0.00 s")


def test_a_request_that_the_move_resets_is_no_loss_and_is_named() -> None:
    (holds, text), *_ = findings(probes(0.02, error="reset"), "check")
    assert (holds, text) == (True, "1 of 200 requests lost; 1 was reset by the move")


def test_an_outage_of_a_cut_is_measured_against_the_time_of_detection() -> None:
    short = [round(0.02 * number, 3) for number in range(12)]
    (holds, text), *_ = findings(probes(*short), "cut")
    assert (holds, "0.24 s without an answer; the documentation allows 0.80 s" in text) == (True, True)
    long = [round(0.02 * number, 3) for number in range(60)]
    assert findings(probes(*long), "cut")[0][0] is False


def test_several_short_outages_are_as_long_as_their_sum() -> None:
    lost = [round(at + 0.02 * number, 3) for at in (0, 0.6, 1.2) for number in range(20)]
    (holds, text), *_ = findings(probes(*lost), "cut")
    assert holds is False
    assert "60 of 200 requests lost, 1.20 s without an answer in 3 outages; the documentation allows 0.80 s" in text


def test_an_outage_that_does_not_end_is_never_allowed() -> None:
    told = probes(*[round(2.9 + 0.02 * number, 3) for number in range(5)])
    (holds, text), *_ = findings(told, "cut")
    assert holds is False
    assert text.endswith("nothing was answered after that")


def test_answers_that_do_not_move_are_found() -> None:
    told = probes()
    stays = tuple(replace(one, who="haproxy1") for one in told.results)
    assert findings(replace(told, results=stays), "check")[-1] == (False, "the answers did not move: haproxy1 150")


def seen(at: float, node: str, value: str = "master") -> Seen:
    return Seen(at, node, "role", "web", value, source="haproxy1")


def takeover(*all_seen: Seen, fault: str = "check", is_linked: bool = True) -> Finding:
    return took_over(all_seen, "haproxy1", WEB, fault, 10.0, is_linked=is_linked)


def test_who_took_over_and_when_is_named_and_must_be_soon() -> None:
    assert takeover(seen(-5, "haproxy1"), seen(0.1, "haproxy2")) == Finding(
        True, "haproxy2 took web over after 0.10 s, as haproxy1 heard"
    )
    assert takeover(seen(5.0, "haproxy2")).holds is False
    assert takeover(seen(-5, "haproxy1"), seen(1.0, "haproxy1")).holds is False
    assert takeover(seen(9.0, "192.0.2.2"), is_linked=False).text == "192.0.2.2 is master of web, as haproxy1 heard"
