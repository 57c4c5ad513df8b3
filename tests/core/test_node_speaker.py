"""What a node does with the options of its BGP speaker: a graceful shutdown, and a reload of each of them."""

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from floatip.core.bgp.rank import Marks, Rank
from floatip.core.bgp.update import Update
from floatip.core.bgp.wire import parse, split
from floatip.core.events import Effect, SendBytes, StopRequested
from tests.core.host import CONFIG, RS, SICK, US, Host, config, held, master, problems, status

GRACEFUL = config(speaker={"graceful_shutdown": 10})


def communities(effects: list[Effect]) -> list[tuple[tuple[int, int], ...]]:
    sent = bytearray(b"".join(effect.data for effect in effects if isinstance(effect, SendBytes)))
    updates = [parse(each) for each in split(sent)]
    return [each.attributes.communities for each in updates if isinstance(each, Update) and each.attributes]


def draining() -> Host:
    """Since 30 s, after 30 s as master."""
    host = master(GRACEFUL)
    host.tell(StopRequested())
    return host


def test_a_stop_asks_for_graceful_shutdown_before_it_withdraws() -> None:
    host = master(GRACEFUL)
    effects = host.node.handle(StopRequested(), 30)
    assert communities(effects) == [((65000, Rank.ACTIVE), (65535, 0))]
    host.perform(effects)
    host.run(39.9)
    assert host.when("withdraw 192.0.2.10") == host.when("advert 0") == []
    host.run(45)
    assert host.when("withdraw 192.0.2.10") == host.when("advert 0") == host.when("notification 6/2") == [40]
    assert host.when("exit") == [41]


def test_while_it_drains_a_node_stays_what_it_is() -> None:
    host = draining().run(35)
    assert host.rank is Rank.ACTIVE
    assert status(host)["stopping"] == "asked to stop"
    host.tell(SICK)
    assert host.when("withdraw 192.0.2.10") == [35]
    host.run(45)
    assert host.when("exit") == [41]


def test_a_second_request_ends_the_draining() -> None:
    host = draining().run(32)
    host.tell(StopRequested())
    assert host.when("withdraw 192.0.2.10") == [32]


@pytest.mark.parametrize("host", [master, lambda: Host(GRACEFUL, start=False)])
def test_without_the_option_or_without_a_route_a_stop_is_at_once(host: Any) -> None:
    one = host()
    one.tell(StopRequested())
    assert one.node.stopping


def test_a_reload_never_changes_the_router_id_and_says_so() -> None:
    host = master()
    other = IPv4Address("10.0.0.99")
    assert host.reload(config(speaker={"router_id": other})) == ["failure failed"]
    assert host.node.sessions[RS].is_up
    assert host.node.sessions[RS].speaker.router_id == US
    what = f"router id {other}: a new router id would end every session, so it stays {US} until the next start"
    assert problems(host) == [("failure", what)]


@pytest.mark.parametrize(
    "change",
    [
        {"med": 5},
        {"next_hops": (IPv4Address("10.0.0.9"),)},
        {"large_communities": {Rank.ACTIVE: ((1, 2, 3),)}},
        {"marks": {rank: Marks(communities=((65000, rank), (65000, 7))) for rank in Rank}},
    ],
    ids=str,
)
def test_what_routes_are_made_of_changes_by_an_update(change: dict[str, Any]) -> None:
    host = master()
    assert host.reload(config(speaker=change)) == ["active 192.0.2.10"]
    assert host.node.sessions[RS].established_count == 1


@pytest.mark.parametrize(
    "change", [{"md5": "key"}, {"min_ttl": 254}, {"ttl": 3}, {"source": US}, {"interface": "eth0"}]
)
def test_what_a_connection_is_made_of_opens_it_anew(change: dict[str, Any]) -> None:
    host = master()
    told = host.reload(config(speaker=change))
    assert told[:3] == ["withdraw 192.0.2.10", "notification 6/6", "close"]
    host.run(31)
    assert host.node.sessions[RS].is_up


def test_an_address_that_is_lost_while_draining_is_withdrawn() -> None:
    host = draining()
    host.kernel_answers = False
    host.tell(held(), at=31)
    host.run(32)
    assert [round(at, 2) for at in host.when("withdraw 192.0.2.10")] == [31.05]


def test_the_key_is_not_shown_when_settings_are() -> None:
    assert CONFIG.speaker
    assert "secret" not in repr(replace(CONFIG.speaker, md5="secret"))
