"""etcd on the page and in the metrics: whether it answers, who owns what, and which endpoint is silent."""

import re
from dataclasses import replace

from floatip.core.figures import Figures
from floatip.core.state import EndpointView, RowView, Status
from floatip.web.metrics import render
from tests.core.host import master
from tests.web.promtool import check_metrics
from tests.web.test_metrics import HOSTILE, samples, scrape, series, value
from tests.web.test_page import read, words
from tests.web.views import ETCD, OWNED, arbitrated, etcd_lost


def figures() -> Figures:
    return scrape(master())[1]


def scraped(status: Status) -> str:
    return render(status, figures())


def test_a_page_says_that_etcd_answers_and_who_owns_what() -> None:
    said = words(read(arbitrated()))
    assert "etcd decides who may have what answers for 3d 4h: 3 of 3 endpoints answer; " in said
    assert "Owner this node for 2h 0m, as etcd says; exclusive" in said
    assert "Owner haproxy2 for 2h 0m, as etcd says" in said


def test_a_page_without_etcd_does_not_speak_of_it() -> None:
    assert "etcd" not in words(read(replace(arbitrated(), etcd=None)))


def test_a_page_says_since_when_etcd_is_lost_and_shows_each_endpoint() -> None:
    reader = read(etcd_lost())
    said = words(reader)
    assert "does not answer for 2.1s: no endpoint answers: connection refused" in said
    assert "https://10.0.0.2:2379 silent 2.1s connection refused" in said
    assert "Exclusive instances may stay 2.4 s without another answer" in said
    assert "as etcd said 2.1s ago; exclusive; leaves this node within 2.4 s" in said
    (details,) = [attributes for tag, attributes in reader.tags if tag == "details" and attributes["id"] == "et"]
    assert "open" in details


def test_a_page_names_the_rows_that_floatip_cannot_use() -> None:
    etcd = replace(ETCD, rows=(RowView("owners/db", "is no JSON"),), more_rows=2)
    said = words(read(replace(arbitrated(), etcd=etcd)))
    assert "Rows that floatip cannot use owners/db : is no JSON and 2 more" in said


def test_promtool_finds_nothing_to_complain_of_in_what_etcd_says() -> None:
    hostile = replace(arbitrated(), instances=tuple(replace(one, name=HOSTILE) for one in arbitrated().instances[:1]))
    etcd = replace(ETCD, endpoints=(EndpointView(HOSTILE, True, 1.0, HOSTILE),))
    for status in (arbitrated(), etcd_lost(), replace(hostile, etcd=etcd)):
        text = scraped(status)
        assert check_metrics(text) == ""
        assert len(series(text)) == len(set(series(text)))


def test_metrics_say_whether_etcd_answers_and_for_how_long_it_has_not() -> None:
    text = scraped(arbitrated())
    assert (value(text, "floatip_etcd_up"), value(text, "floatip_etcd_unanswered_seconds")) == (1, 0)
    assert value(text, "floatip_etcd_exclusive_seconds") == 4.3
    text = scraped(etcd_lost(60.0))
    assert (value(text, "floatip_etcd_up"), value(text, "floatip_etcd_unanswered_seconds")) == (0, 60)
    assert value(text, "floatip_etcd_exclusive_seconds") == 0
    assert value(text, 'floatip_etcd_endpoint_up{endpoint="https://10.0.0.1:2379"}') == 0


def test_metrics_count_claims_and_say_who_owns_what() -> None:
    text = scraped(arbitrated())
    claims = {key: found for key, found in samples(text).items() if key.startswith("floatip_etcd_claims")}
    assert claims == {
        'floatip_etcd_claims_total{outcome="won"}': "3",
        'floatip_etcd_claims_total{outcome="lost"}': "1",
        'floatip_etcd_claims_total{outcome="unknown"}': "0",
    }
    assert value(text, 'floatip_instance_owner{iname="db"}') == 1
    assert value(text, 'floatip_instance_owner{iname="web"}') == 0
    assert value(text, 'floatip_instance_owned{iname="web"}') == 1
    assert value(text, 'floatip_instance_owner_since_timestamp_seconds{iname="db"}') == OWNED.epoch / 1000
    assert 'floatip_instance_owner_info{iname="web",owner="haproxy2"} 1' in text


def test_who_writes_to_etcd_can_make_no_series() -> None:
    """The names of owners are what others wrote; labels are names of the configuration."""
    one, two = arbitrated().instances
    stranger = replace(two, etcd=replace(OWNED, own=False, owner="mallory"))
    nobody = replace(one, etcd=replace(OWNED, own=False, owner="", epoch=0))
    text = scraped(replace(arbitrated(), instances=(nobody, stranger)))
    assert "mallory" not in text
    assert re.findall(r'owner="(\w*)"', text) == ["", "unknown"]
    assert value(text, 'floatip_instance_owned{iname="db"}') == 0


def test_an_owner_that_has_let_go_is_none() -> None:
    one = arbitrated().instances[0]
    released = replace(one, etcd=replace(OWNED, released=True))
    assert value(scraped(replace(arbitrated(), instances=(released,))), 'floatip_instance_owned{iname="db"}') == 0


def test_without_etcd_there_are_no_metrics_of_it() -> None:
    assert "etcd" not in render(*scrape(master()))
    assert "floatip_instance_owner" not in render(*scrape(master()))
