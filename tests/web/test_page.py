"""The page as text: what it says, that nothing of others is markup in it, and that it needs nothing from elsewhere."""

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from floatip.core.bgp.rank import Rank
from floatip.core.state import ChangeView, ProblemView, Status
from floatip.web import page, routes, site_page
from tests.web.views import (
    DAY,
    EVIL,
    EVIL_DAY,
    NOW,
    PAIR,
    arbitrated,
    change,
    etcd_lost,
    fleet,
    hostile,
    instance,
    troubled,
)

VOID = {"meta", "link", "input", "br", "img"}


class Reader(HTMLParser):
    """Elements that are open, all tags with their attributes, and the words."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(status: Status, changes: Sequence[ChangeView] = DAY, *, can_order: bool = True) -> Reader:
    reader = Reader(page.render(status, changes, NOW, can_order=can_order))
    assert reader.open == []
    return reader


def words(reader: Reader) -> str:
    return " ".join(" ".join(reader.words).split())


ALL = {
    "pair": (PAIR, DAY),
    "troubled": (troubled(), DAY),
    "fleet": (fleet(), DAY),
    "hostile": (hostile(), EVIL_DAY),
    "etcd": (arbitrated(), DAY),
    "etcd lost": (etcd_lost(), DAY),
}
EMPTY = replace(PAIR, nodes=(), instances=(), checks=(), sessions=())


@pytest.mark.parametrize("name", ALL)
def test_a_page_is_well_formed_and_each_id_is_there_once(name: str) -> None:
    ids = [str(attributes["id"]) for _, attributes in read(*ALL[name]).tags if "id" in attributes]
    assert sorted(set(ids)) == sorted(ids)


@pytest.mark.parametrize("name", ALL)
def test_what_a_label_or_a_name_refers_to_is_there(name: str) -> None:
    tags = read(*ALL[name]).tags
    ids = {attributes["id"] for _, attributes in tags if "id" in attributes}
    for _, attributes in tags:
        for key in ("for", "aria-labelledby"):
            assert set((attributes.get(key) or "").split()) <= ids
        assert (attributes.get("href") or "#main").removeprefix("#") in ids | {
            "/",
            "/static/page.css",
            "/static/icon.svg",
        }


@pytest.mark.parametrize("name", ALL)
def test_a_page_keeps_its_own_content_security_policy_and_asks_no_other_host(name: str) -> None:
    for tag, attributes in read(*ALL[name]).tags:
        assert tag not in {"style", "iframe", "object", "embed", "base", "img"}
        assert not {key for key in attributes if key == "style" or key.startswith("on")}
        for key in ("src", "href", "action", "formaction"):
            assert (attributes.get(key) or "/").startswith(("/", "#"))
            assert not (attributes.get(key) or "/").startswith("//")
        assert (tag == "script") == ("src" in attributes)


@pytest.mark.parametrize("can_order", [False, True])
def test_nothing_that_others_chose_is_markup_and_no_control_character_is_left(can_order: bool) -> None:
    html = page.render(hostile(), EVIL_DAY, NOW, can_order=can_order)
    assert all(char.isprintable() or char == "\n" for char in html)
    assert "<script>" not in html
    assert "<img" not in html
    same = page.render(replace_evil(hostile()), tuple(map(replace_evil, EVIL_DAY)), NOW, can_order=can_order)
    assert [tag for tag, _ in Reader(html).tags] == [tag for tag, _ in Reader(same).tags]
    assert html.count("&lt;script&gt;") > 40


def replace_evil(value: Any) -> Any:
    """The same view, and each text in it harmless."""
    if isinstance(value, str):
        return "harmless" if value == EVIL else value
    if isinstance(value, tuple):
        return tuple(map(replace_evil, value))
    if hasattr(value, "__dataclass_fields__"):
        changes = {name: replace_evil(getattr(value, name)) for name in value.__dataclass_fields__}
        return replace(value, **changes)
    return value


def test_the_page_of_a_daemon_that_is_gone_escapes_too() -> None:
    html = page.gone(EVIL, EVIL)
    assert "<script>" not in html
    assert Reader(html).open == []
    assert "floatip does not answer" in html


def test_a_pair_that_is_well_says_so_and_who_carries_what() -> None:
    reader = read(PAIR)
    said = words(reader)
    assert "✓ haproxy1: OK" in said
    assert "floatip 0.5.0, up 2d 7h, Newark, NJ" in said
    assert "None on any node that is heard." in said
    assert "web ● carries ○ standby" in said
    assert "mail ○ standby ● carries" in said
    assert "Route servers: 4 of 4 connected" in said
    assert "12 Nov 01:36:40 role mail backup → master haproxy2 is not healthy: check haproxy" in said


def test_problems_of_all_nodes_stand_on_top_worst_first_with_their_hints() -> None:
    said = words(read(troubled()))
    assert "✗ haproxy1: 2 problems, 1 warning" in said
    silent = said.index("haproxy3 is silent node-silent run there: systemctl status floatip")
    sick = said.index("haproxy2 web is not healthy: check haproxy unhealthy repair the service")
    drained = said.index("haproxy1 this node is drained: kernel drained floatip undrain")
    assert silent < sick < drained < said.index("Instances")


def test_what_two_nodes_say_is_said_once() -> None:
    status = troubled()
    brief = status.nodes[1].problems[0]
    ours = ProblemView(brief.code, brief.severity, brief.subject, brief.what, brief.hint, 3.0)
    said = words(read(replace(status, problems=(ours,))))
    assert said.count("haproxy1, haproxy2 web is not healthy: check haproxy") == 1


def test_a_node_that_is_silent_carries_nothing_and_its_checks_are_not_shown_as_of_now() -> None:
    status = troubled()
    dead = replace(status.nodes[1], state="silent", why="no hello for 4 s")
    said = words(read(replace(status, nodes=(status.nodes[0], dead))))
    assert "mail ○ standby ● was: carries" in said
    assert "down haproxy connection refused" not in said
    assert "web is not healthy" not in said


def test_a_node_that_is_drained_says_until_when_and_why() -> None:
    assert "drained for 1 h 30 min more: kernel" in words(read(troubled()))


def test_a_node_without_others_is_a_node_too() -> None:
    said = words(read(replace(PAIR, nodes=())))
    assert "haproxy1 this node" in said
    assert "web ● carries ▸" in said.replace("MASTER", "▸")
    assert words(read(EMPTY, ())).count("None") == 3


def test_route_servers_that_are_down_stand_first_and_are_open() -> None:
    reader = read(troubled())
    assert "Route servers: 4 of 5 connected" in words(reader)
    (details,) = [attributes for tag, attributes in reader.tags if tag == "details" and attributes.get("id") == "rs"]
    assert "open" in details
    said = words(reader)
    assert said.index("2001:db8::5 idle") < said.index("2001:db8::1 established")


def test_orders_are_offered_only_where_there_is_a_token_and_say_what_will_happen() -> None:
    assert "data-verb" not in page.render(PAIR, DAY, NOW)
    html = page.render(PAIR, DAY, NOW, can_order=True)
    assert re.findall('data-verb="([a-z]+)"', html) == ["drain", "pause", "handover"]
    assert "haproxy1 hands over web, and carries nothing until you undrain it" in html
    drained = page.render(troubled(), DAY, NOW, can_order=True)
    assert re.findall('data-verb="([a-z]+)"', drained)[0] == "undrain"


def test_many_instances_are_folded_by_who_carries_them_and_what_needs_a_look_is_not() -> None:
    html = page.render(fleet(), DAY, NOW)
    before, _, after = html.partition('<details id="g')
    assert "site-017</th>" in before
    assert before.count('<th scope="row">') == 1
    assert after.count('<th scope="row">site-') == 254
    for group in ("85 instances on haproxy1", "85 instances on haproxy2", "84 instances on haproxy3"):
        assert group in html
    assert 'id="find"' in html


def test_instances_that_nobody_carries_are_not_hidden_among_the_others() -> None:
    status = fleet()
    unserved = replace(status, nodes=tuple(replace(node, carries=node.carries[1:]) for node in status.nodes))
    html = page.render(unserved, DAY, NOW)
    assert 'class="look" data-name="site-000"' in html
    assert "nothing to look at" in html


def test_a_failover_of_many_instances_is_one_line_of_the_changes() -> None:
    many = [change(60, "role", f"site-{one:03}", "backup", "master", "haproxy2 is gone") for one in range(200)]
    said = words(read(fleet(), many))
    assert "role site-199, site-198, site-197 and 197 more backup → master haproxy2 is gone" in said


def test_what_happens_twice_does_not_look_as_if_it_had_become_what_it_was() -> None:
    said = words(read(PAIR, [change(60, "configuration", "floatip", "reloaded", "reloaded", "nothing has changed")]))
    assert "configuration floatip reloaded nothing has changed" in said


def test_255_instances_are_drawn_in_under_100_ms() -> None:
    status = fleet()
    changes = [change(9000 - n, "role", one.name, "", one.role.value, "x") for n, one in enumerate(status.instances)]
    took = []
    for _ in range(5):
        begun = time.process_time()
        page.render(status, changes, NOW)
        took.append(time.process_time() - begun)
    assert min(took) < 0.1


def test_a_role_in_fault_needs_a_look() -> None:
    faulty = replace(PAIR, instances=(instance("web", "fault", 5.0),))
    assert 'class="look" data-name="web"' in page.render(faulty, DAY, NOW)


def test_a_page_is_drawn_once_for_all_who_look_at_the_same_status() -> None:
    first = site_page.drawn(PAIR, DAY, can_order=False)
    assert site_page.drawn(PAIR, list(DAY), can_order=False).body is first.body
    assert site_page.drawn(replace(PAIR), DAY, can_order=False).body is not first.body
    assert b"Orders to" in site_page.drawn(PAIR, DAY, can_order=True).body
    news = change(1, "role", "web", "", "master", "something new")
    assert b"something new" in site_page.drawn(PAIR, (*DAY, news), can_order=True).body


def test_what_the_page_refers_to_has_a_route_and_a_kind() -> None:
    for path in re.findall(r'"(/static/[^"]+)"', page.render(PAIR, DAY, NOW)):
        assert path in routes.ROUTES
        assert site_page.static(path).kind.split(";")[0] in ("text/css", "text/javascript", "image/svg+xml")


def test_the_page_of_a_silent_daemon_names_the_node_and_is_no_success() -> None:
    answer = site_page.silent(PAIR, "the daemon did not answer within 3 s")
    assert answer.status == 503
    assert "haproxy1: floatip does not answer" in answer.body.decode()
    assert "this node" in site_page.silent(None, "x").body.decode()


def test_each_rank_has_words_and_those_above_standby_carry() -> None:
    assert list(page.RANKS) == [rank.label for rank in Rank]
    assert {rank.label for rank in Rank if rank > Rank.STANDBY} == page.CARRYING
