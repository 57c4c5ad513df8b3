"""The text that Prometheus scrapes, with Prometheus's own tool as the judge of its form."""

import re
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from floatip.core.bgp.rank import Rank
from floatip.core.counters import Histogram
from floatip.core.events import AdvertReceived, StopRequested
from floatip.core.figures import Figures, HistogramFigures, HistogramsFigures
from floatip.core.settings import Check, Static
from floatip.core.snapshot import describe
from floatip.core.state import NodeView, Status
from floatip.core.tally import collect
from floatip.web.metrics import RANKS, render, render_as_keepalived
from tests.core.host import CONFIG, PEER, SICK, US, WEB, Host, advert, backup, config, elected, master
from tests.web.promtool import check_metrics

HOSTILE = 'a"b\\c\nd{e="f"} 1\x1b[31m\x00%s\u202e'
NODES = (
    NodeView("haproxy1", "10.0.0.1", own=True, state="this node"),
    NodeView("haproxy2", "10.0.0.2", own=False, state="alive", heard=0.4),
    NodeView("haproxy3", "10.0.0.3", own=False, state="unheard"),
)
AHEAD = 1_800_000_000.0


def scrape(host: Host, **changes: object) -> tuple[Status, Figures]:
    host.node.clock_ahead = AHEAD
    status = describe(host.node, host.now)
    status = replace(
        status, version="1.2", host="haproxy1", time="2027-01-15T08:00:00.250+00:00", monotonic=host.now, uptime=12.5
    )
    phases = {"wire": Histogram.of(0.001, 0.1)}
    return replace(status, **changes), collect(host.node, phases, Histogram.of(0.001, 0.1))  # type: ignore[arg-type]


def samples(text: str) -> dict[str, str]:
    """By name and labels."""
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))


def series(text: str) -> list[str]:
    return [line.rsplit(" ", 1)[0] for line in text.splitlines() if not line.startswith("#")]


def value(text: str, series: str) -> float:
    return float(samples(text)[series])


def names(text: str) -> set[str]:
    return set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))


def test_promtool_finds_nothing_to_complain_of() -> None:
    host = master()
    host.tell(advert(100, vrid=99), replace(advert(100), ttl=255, source=IPv4Address("10.0.0.9")))
    status, figures = scrape(host, nodes=NODES)
    assert check_metrics(render(status, figures)) == ""
    assert check_metrics(render_as_keepalived(status, figures)) == ""


def test_promtool_accepts_the_names_of_hostile_things_and_no_line_is_made_by_them() -> None:
    instance = replace(WEB, name=HOSTILE, checks=(HOSTILE,))
    host = Host(replace(CONFIG, checks=(Check(HOSTILE),), instances=(instance,)))
    status, figures = scrape(host, nodes=(*NODES, replace(NODES[1], name=HOSTILE)), version=HOSTILE)
    for text in (render(status, figures), render_as_keepalived(status, figures)):
        assert check_metrics(text) == ""
        assert len(series(text)) == len(set(series(text)))
        assert all(char.isprintable() or char == "\n" for char in text)
        assert all(
            re.fullmatch(r'#.*|\w+(\{(\w+="([^"\\]|\\["\\])*",?)+\})? [-+.\d]+', line) for line in text.splitlines()
        )


def test_roles_and_ranks_are_state_sets() -> None:
    status, figures = scrape(master())
    text = render(status, figures)
    states = {
        role: value(text, f'floatip_instance_state{{iname="VI_1",state="{role}"}}')
        for role in ("init", "backup", "master", "fault")
    }
    assert states == {"init": 0, "backup": 0, "master": 1, "fault": 0}
    ranks = {rank: value(text, f'floatip_instance_rank{{iname="VI_1",rank="{rank.label}"}}') for rank in Rank}
    assert ranks == {rank: float(rank is Rank.ACTIVE) for rank in Rank}
    assert tuple(rank.label for rank in Rank) == RANKS


def test_moments_are_seconds_since_the_epoch_and_the_same_at_the_next_scrape() -> None:
    host = master()
    since = {'floatip_role_since_timestamp_seconds{iname="VI_1"}': AHEAD + host.node.instances["VI_1"].elector.since}
    since['floatip_bgp_established_timestamp_seconds{peer="2001:db8::1"}'] = AHEAD
    for _ in range(3):
        host.run(host.now + 0.7)
        text = render(*scrape(host))
        assert {series: value(text, series) for series in since} == pytest.approx(since, abs=0.001)
        kept = {series: samples(text)[series] for series in since}
    assert kept == {series: samples(render(*scrape(host.run(host.now + 5))))[series] for series in since}
    assert value(text, "floatip_status_timestamp_seconds") == 1800000000.25
    assert value(text, "floatip_start_timestamp_seconds") == pytest.approx(AHEAD + host.now - 5 - 12.5, abs=6)


def test_a_session_that_is_down_has_no_moment_at_which_it_came_up() -> None:
    host = Host(start=True)
    host.dialling_works = False
    text = render(*scrape(host))
    assert value(text, 'floatip_bgp_session_up{peer="2001:db8::1",peer_as="65000"}') in (0, 1)
    host = Host(config(), start=False)
    text = render(*scrape(host))
    assert value(text, 'floatip_bgp_session_up{peer="2001:db8::1",peer_as="65000"}') == 0
    assert "floatip_bgp_established_timestamp_seconds" not in text


def test_a_histogram_counts_up_to_its_bound_and_ends_with_all_of_them() -> None:
    status, figures = scrape(master())
    lateness = HistogramsFigures([0.001, 0.1], [HistogramFigures("", [4, 2, 1], 0.75)])
    found = samples(render(status, figures._replace(lateness=lateness)))
    assert {series: found[series] for series in found if "lateness" in series} == {
        'floatip_loop_lateness_seconds_bucket{le="0.001"}': "4",
        'floatip_loop_lateness_seconds_bucket{le="0.1"}': "6",
        'floatip_loop_lateness_seconds_bucket{le="+Inf"}': "7",
        "floatip_loop_lateness_seconds_sum": "0.750000",
        "floatip_loop_lateness_seconds_count": "7",
    }


def test_order_and_series_are_the_same_whatever_happened_first() -> None:
    def text(*vrids: int) -> str:
        host = Host()
        for vrid in vrids:
            host.tell(advert(100) if vrid == 51 else AdvertReceived("eth0", PEER, US, 255, b"\x31"))
        return render(*scrape(host))

    assert text(51, 1, 51) == text(1, 51, 51)


def test_nobody_on_the_network_makes_more_series() -> None:
    host = master()
    for number in range(500):
        source = IPv4Address(number + 1)
        host.tell(
            AdvertReceived("eth0", source, US, number % 256, number.to_bytes(2)), replace(advert(1), source=source)
        )
    series = samples(render(*scrape(host))).keys()
    for number in range(500, 3000):
        source = IPv4Address(number + 1)
        host.tell(
            AdvertReceived("eth0", source, US, number % 256, number.to_bytes(2)), replace(advert(1), source=source)
        )
    assert samples(render(*scrape(host))).keys() == series


def test_a_drained_standby_and_a_sick_node_are_not_ready() -> None:
    def ready(host: Host, **changes: object) -> bool:
        return value(render(*scrape(host, **changes)), 'floatip_instance_ready{iname="VI_1"}') == 1

    drained = tuple(replace(node, drained=node.own) for node in NODES)
    assert ready(master())
    assert ready(backup())
    assert ready(master(), nodes=drained)  # until another one has taken over
    assert not ready(backup(), nodes=drained)
    paused = tuple(replace(node, paused=not node.own) for node in NODES)
    assert ready(master(), nodes=paused)
    assert not ready(backup(), nodes=paused)
    assert ready(backup(), nodes=tuple(replace(node, state=node.state if node.own else "silent") for node in paused))
    assert not ready(master(), cut_off=True)
    sick = backup()
    sick.tell(SICK)
    assert not ready(sick)
    ends = master()
    ends.tell(StopRequested())
    assert not ready(ends)
    assert not ready(Host(start=False))


# As keepalived-exporter


def test_as_keepalived_the_state_is_a_number_for_each_address() -> None:
    status, figures = scrape(master())
    text = render_as_keepalived(status, figures)
    assert samples(text)['keepalived_vrrp_state{iname="VI_1",intf="lo",vrid="51",ip_address="192.0.2.10/32"}'] == "2"
    for role, number in (("init", "0"), ("backup", "1"), ("master", "2"), ("fault", "3")):
        instance = status.instances[0]
        said = replace(status, instances=(replace(instance, role=replace(instance.role, value=role)),))
        assert set(re.findall(r"^keepalived_vrrp_state\S+ (\d)", render_as_keepalived(said, figures), re.M)) == {number}


def test_as_keepalived_the_names_and_labels_are_those_of_the_exporter() -> None:
    host = master()
    host.tell(replace(advert(100), ttl=1), replace(advert(100), data=b"\x31\x33"), advert(20))
    text = render_as_keepalived(*scrape(host))
    counters = {
        "advertisements_received": 1,
        "advertisements_sent": 28,
        "become_master": 1,
        "release_master": 0,
        "packet_length_errors": 1,
        "advertisements_interval_errors": 0,
        "ip_ttl_errors": 0,
        "invalid_type_received": 0,
        "address_list_errors": 0,
        "authentication_invalid": 0,
        "authentication_mismatch": 0,
        "authentication_failure": 0,
        "priority_zero_received": 0,
        "priority_zero_sent": 0,
    }
    labels = '{iname="VI_1",intf="eth0",vrid="51"}'
    found = {name: value(text, f"keepalived_{name}_total{labels}") for name in counters}
    assert found == pytest.approx(counters, abs=1)
    assert value(text, "keepalived_up") == value(text, 'keepalived_script_status{name="web"}') == 1
    absent = {"vrrp_excluded_state", "exporter_check_script_status", "script_state", "gratuitous_arp_delay_total"}
    assert names(text) == {f"keepalived_{name}_total" for name in counters} | {
        "keepalived_up",
        "keepalived_vrrp_state",
        "keepalived_script_status",
    }
    assert not any(f"keepalived_{name}" in text for name in absent)


def test_as_keepalived_an_instance_without_vrrp_has_a_state_and_no_adverts() -> None:
    static = replace(WEB, election=Static("primary"), addresses=())
    text = render_as_keepalived(*scrape(Host(replace(CONFIG, instances=(static,)))))
    assert samples(text)['keepalived_vrrp_state{iname="VI_1",intf="",vrid="",ip_address=""}'] == "2"
    assert "advertisements" not in text
    assert elected().vrid == 51
