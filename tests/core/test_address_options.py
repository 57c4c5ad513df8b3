"""What is special about an address, what moves with it, and instances that have or announce nothing."""

from dataclasses import replace

import pytest

from floatip.core.addresses import Placed
from floatip.core.election.elector import Role
from floatip.core.events import Effect, Event, Hold, Install, SendAdvert, StopRequested
from floatip.core.settings import AddressOptions, Virtual
from floatip.core.vrrp import wire
from tests.core.host import US, A, B, Host, advert, config, held, master, problems, status

OFF_BGP = config(is_announced=False)
ROUTE = Virtual("route", ("198.51.100.0/24", "via", "10.0.0.254", "dev", "eth0"))
OTHER = Virtual("route", ("203.0.113.0/24", "dev", "eth0"))
RULE = Virtual("rule", ("from", "192.0.2.10", "table", "7"))


def handled(host: Host, event: Event) -> list[Effect]:
    effects = host.node.handle(event, host.now)
    host.perform(effects)
    return effects


def test_an_address_can_be_held_on_an_interface_of_its_own() -> None:
    options = (AddressOptions(B, interface="eth1"),)
    two = config(addresses=(A, B), placement="master", interface="eth0", options=options)
    host = Host(two)
    host.run(30)
    wanted = frozenset({Placed("eth0", A), Placed("eth1", B)})
    assert host.node.holding.wanted == wanted
    shown = [(one["address"], one["interface"], one["held"]) for one in status(host)["instances"][0]["addresses"]]
    assert shown == [(str(A), "eth0", True), (str(B), "eth1", True)]
    assert handled(host, held(A, interface="eth0"))[0].value == "lost"  # type: ignore[union-attr]


def test_an_excluded_address_is_held_and_announced_and_in_no_advert() -> None:
    host = Host(config(addresses=(A, B), options=(AddressOptions(B, is_advertised=False),)))
    host.run(30)
    [sent] = [effect for effect in handled(host, advert(10)) if isinstance(effect, SendAdvert)]
    assert wire.parse(sent.data, US, sent.destination).addresses == (A.ip,)
    assert {"hold 192.0.2.10 192.0.2.11", "takeover 192.0.2.10", "takeover 192.0.2.11"} <= {
        word for _, word in host.log
    }
    excluded = replace(host.node.config.instances[0], options=())
    host.reload(replace(host.node.config, instances=(excluded,)))
    [sent] = [effect for effect in handled(host, advert(10)) if isinstance(effect, SendAdvert)]
    assert wire.parse(sent.data, US, sent.destination).addresses == (A.ip, B.ip)


def test_an_address_that_is_not_tracked_is_put_back_like_the_others() -> None:
    host = master(config(options=(AddressOptions(A, is_tracked=False),)))
    assert [effect for effect in handled(host, held()) if isinstance(effect, Hold)]
    assert host.role is Role.MASTER


def test_an_instance_without_addresses_elects_and_says_so() -> None:
    host = Host(config(addresses=()))
    host.run(30)
    assert host.role is Role.MASTER
    assert [word for _, word in host.log if word.startswith("role")] == ["role backup", "role master"]
    assert host.node._takeovers.open == {}
    assert problems(host) == []
    host.tell(advert(100))
    assert host.role is Role.BACKUP


def test_an_instance_that_is_not_announced_has_no_routes_and_says_no_rank_to_route_servers() -> None:
    host = Host(OFF_BGP)
    host.run(30)
    assert (host.role, host.node._takeovers.open) == (Role.MASTER, {})
    assert [word for _, word in host.log if "192.0.2.10" in word] == ["hold 192.0.2.10"]
    assert status(host)["instances"][0]["route_servers"] == 0


def test_a_node_that_is_cut_off_stays_master_of_what_it_does_not_announce() -> None:
    host = master(OFF_BGP)
    host.acknowledging = False
    host.run(60)
    assert host.node.network.cut_off
    assert host.role is Role.MASTER


# Routes and rules

MOVES = config(placement="master", interface="eth0", virtuals=(ROUTE, RULE))
PLACED = frozenset({Placed("eth0", A)})


class Recorder(Host):
    """Keeps what is done with addresses and routes, in order."""

    def perform(self, effects: list[Effect]) -> None:
        self.done: list[Effect] = [*getattr(self, "done", []), *(e for e in effects if isinstance(e, Install | Hold))]
        super().perform(effects)

    def since(self) -> list[Effect]:
        done, self.done = self.done, []
        return done


def serving() -> Recorder:
    host = Recorder(MOVES)
    host.run(30)
    host.since()
    return host


def test_what_a_predecessor_left_is_removed_at_the_start_and_comes_back_with_mastership_after_the_addresses() -> None:
    host = Recorder(MOVES)
    assert host.since() == [Hold(frozenset()), Install(())]
    host.run(30)
    # Those with the address as their source cannot be added before the kernel has it: again, when it has.
    assert host.since() == [Hold(PLACED), Install((ROUTE, RULE)), Install((ROUTE, RULE))]


def test_a_master_that_yields_removes_its_routes_before_its_addresses_when_the_next_one_has_them() -> None:
    host = serving()
    host.tell(advert(100))
    host.run(host.now + 0.1)
    assert host.since() == []
    host.run(host.now + 0.2)
    assert host.since() == [Install(()), Hold(frozenset())]


def test_a_stopping_master_removes_its_routes_before_its_addresses() -> None:
    host = serving()
    host.tell(StopRequested())
    host.tick(host.now + 1)
    assert host.since() == [Install(()), Hold(frozenset())]


@pytest.mark.parametrize(
    ("virtuals", "orders"),
    [
        ((RULE,), [Install((RULE,))]),
        ((RULE, ROUTE), [Install((RULE, ROUTE))]),
        ((), [Install(())]),
        ((ROUTE, OTHER), [Install((ROUTE,)), Install((ROUTE, OTHER))]),
    ],
)
def test_a_reload_with_other_routes_removes_first_and_adds_then(
    virtuals: tuple[Virtual, ...], orders: list[Effect]
) -> None:
    host = serving()
    host.reload(config(placement="master", interface="eth0", virtuals=virtuals))
    assert host.since() == orders
