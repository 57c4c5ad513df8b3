"""Pairs of real daemons whose open connections over IPv4 and IPv6 go on: by VRRP, and by a link over IPv6."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from floatip.lab.network import FLOATING, HAPROXY1, NODES, LabHost
from floatip.lab.programs.connections import IDLE
from floatip.lab.verdicts import Verdict
from tests.lab.moving import FLOATING6, INSTANCE, LONG, Pair, Story, by_link, head, moving, until_judged

ADVERT_INTERVAL = 0.2
BEFORE, LIVES = 0.5, 4.0
"""Seconds for which the connections are open before a move, and after it."""
PRIORITIES = {"haproxy1": 60, "haproxy2": 50}


def by_vrrp(host: LabHost) -> str:
    """A virtual router for each version; the link is over IPv4."""
    (other,) = (each for each in NODES if each is not host)
    assert host.ipv4
    assert other.ipv4
    text = head(4)
    for number, (address, own, peer) in enumerate(
        ((str(FLOATING), host.ipv4.ip, other.ipv4.ip), (f"{FLOATING6}/128", host.ipv6, other.ipv6)), 1
    ):
        text += INSTANCE.format(f"VI_{number}", f'"{address}"')
        text += (
            f'vrrp = {{ interface = "eth0", vrid = 5{number}, priority = {PRIORITIES[host.name]}, version = 3, '
            f'advert_interval = {ADVERT_INTERVAL}, source = "{own}", peers = ["{peer}"] }}\n'
        )
    return text


@pytest.fixture(scope="module")
def vrrp_pair() -> Iterator[Pair]:
    with moving(by_vrrp, election="vrrp", advert_interval=ADVERT_INTERVAL) as pair:
        yield pair


def test_a_drain_of_a_vrrp_pair_resets_nothing_and_neither_does_the_way_back(vrrp_pair: Pair) -> None:
    def there_and_back() -> bool:
        away = moves(vrrp_pair, lambda node: vrrp_pair.order(node, "drain"))
        return moves(vrrp_pair, lambda node: vrrp_pair.order(vrrp_pair.other(node), "undrain")) and away

    assert vrrp_pair.master == HAPROXY1.name, "its priority is higher"
    until_judged(there_and_back)


def test_a_stop_of_a_vrrp_pair_resets_nothing(vrrp_pair: Pair) -> None:
    until_judged(lambda: moves(vrrp_pair, vrrp_pair.stop))


@pytest.fixture(scope="module")
def linked_pair() -> Iterator[Pair]:
    with moving(partial(by_link, link=6)) as pair:
        yield pair


def test_a_handover_over_a_link_of_ipv6_resets_nothing(linked_pair: Pair) -> None:
    until_judged(lambda: moves(linked_pair, lambda node: linked_pair.order(node, "handover")))


def test_a_stop_of_a_node_with_a_link_of_ipv6_resets_nothing(linked_pair: Pair) -> None:
    until_judged(lambda: moves(linked_pair, linked_pair.stop))


def moves(pair: Pair, order: Callable[[str], float]) -> bool:
    """By an order that is given to the master, or because of it: when that was. Whether nothing was harmed."""
    keeper = pair.master
    carrier = pair.other(keeper)
    pair.settle()
    with pair.connected() as connected:
        time.sleep(BEFORE)
        at = order(keeper)
        taken_at = pair.taken_over(carrier, at)
        time.sleep(max(0.0, taken_at + LIVES - time.monotonic()))
        story = connected.tell(keeper, at, taken_at)
    pair.start_again()
    return story.judge([*story.went_on(), *of_each(story)])


def of_each(story: Story) -> list[Verdict]:
    """There were connections to both addresses."""
    count = Counter(one.who for one in story.record.connections.long)
    return [Verdict(count == {story.keeper: 2 * (LONG + LONG // IDLE)}, f"long connections by node: {dict(count)}")]
