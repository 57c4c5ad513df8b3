"""The second chance on the page and in the metrics: how many connections go on where, and whether it would work."""

from dataclasses import replace

from floatip.core.second_chance.terms import End
from floatip.core.state import SecondChanceView, StreamView, ThroughView
from floatip.web.metrics import ENDS
from floatip.web.page import render as page
from tests.web.promtool import check_metrics
from tests.web.test_etcd_shown import scraped
from tests.web.test_metrics import HOSTILE, samples, series, value
from tests.web.test_page import read, words
from tests.web.views import CHANCE, NOW, PAIR

BROKEN = ThroughView("haproxy2", False, 9.0, "nothing comes from haproxy2 through the tunnel", "unheard")


def said(known: SecondChanceView | None) -> str:
    return words(read(replace(PAIR, second_chance=known)))


def test_the_page_says_how_many_connections_go_on_where() -> None:
    assert "Open connections 312 of haproxy2 go on there (since 12 s, at most 588 s more) ready: haproxy2" in said(
        CHANCE
    )
    assert "haproxy2 does not work: nothing comes from" in said(replace(CHANCE, nodes=(BROKEN,)))
    assert "Open connections" not in said(None)


def test_the_page_says_what_an_order_does_to_open_connections() -> None:
    def orders(known: SecondChanceView | None) -> str:
        return page(replace(PAIR, second_chance=known), (), NOW, can_order=True)

    goes_on, resets = "Open connections to its addresses go on here, for at most 600 s.", "addresses are reset."
    assert goes_on in orders(CHANCE)
    assert resets not in orders(CHANCE)
    for known in (None, replace(CHANCE, nodes=(BROKEN,))):
        assert resets in orders(known)
        assert goes_on not in orders(known)


def test_promtool_finds_nothing_to_complain_of_in_what_the_second_chance_says() -> None:
    hostile = replace(CHANCE, nodes=(replace(BROKEN, node=HOSTILE),), ends={HOSTILE: 1})
    for known in (CHANCE, hostile, replace(CHANCE, nodes=(), streams=())):
        text = scraped(replace(PAIR, second_chance=known))
        assert check_metrics(text) == ""
        assert len(series(text)) == len(set(series(text)))


def test_metrics_say_whether_it_works_and_how_many_connections_go_on_where() -> None:
    here = StreamView("haproxy2", False, 7, 1.0, 599.0, 9, 9)
    text = scraped(replace(PAIR, second_chance=replace(CHANCE, streams=(*CHANCE.streams, here), accepted=9)))
    found = {key: one for key, one in samples(text).items() if key.startswith("floatip_second_chance")}
    node = '{node="haproxy2"}'
    reasons = {f'floatip_second_chance_ended_total{{reason="{end}"}}': "0" for end in ENDS}
    assert found == {
        f"floatip_second_chance_usable{node}": "1",
        f"floatip_second_chance_kept_connections{node}": "7",
        f"floatip_second_chance_forwarded_connections{node}": "312",
        "floatip_second_chance_forwarded_packets_total": "4711",
        "floatip_second_chance_accepted_packets_total": "9",
        "floatip_second_chance_reset_connections_total": "5",
        **reasons,
        'floatip_second_chance_ended_total{reason="done"}': "2",
        'floatip_second_chance_ended_total{reason="limit"}': "1",
    }


def test_each_reason_of_the_machine_has_its_series() -> None:
    assert set(ENDS) == set(End)


def test_what_does_not_work_is_0_and_without_it_there_is_no_series() -> None:
    text = scraped(replace(PAIR, second_chance=replace(CHANCE, nodes=(BROKEN,), streams=())))
    assert value(text, 'floatip_second_chance_usable{node="haproxy2"}') == 0
    assert value(text, 'floatip_second_chance_forwarded_connections{node="haproxy2"}') == 0
    assert "second_chance" not in scraped(PAIR)
