"""Each fault on floatip's nodes with its verdicts, what is asked of them by whom, and the way there from a VRRP pair.

RUNS=5 plays each five times.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from floatip.core.settings import LINK_PORT
from floatip.host.network.link import RECEIVE_BUFFER
from tests.systemd.conftest import RUNS
from tests.systemd.faults import Fault, play
from tests.systemd.machines import Machine, Rack
from tests.systemd.nodes import FAULTS, KEY, NODES_STACK, VRRP_PAIR, WATCHED, from_vrrp_to_nodes
from tests.systemd.pair import Pair
from tests.systemd.stacks import begin_to_build, settle, use
from tests.systemd.table import NODES_TABLE

TO_NODES = Fault("from VRRP to nodes", from_vrrp_to_nodes, moves=None, within=WATCHED)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    begin_to_build()
    with ExitStack() as exits:
        rack = Rack()
        exits.callback(rack.close)
        yield Pair(rack, exits)


@pytest.mark.parametrize("run", range(RUNS))
def test_a_vrrp_pair_becomes_nodes_without_a_loss(pair: Pair, run: int) -> None:
    use(pair, VRRP_PAIR)
    outcome = play(pair, VRRP_PAIR, TO_NODES, settle(pair, VRRP_PAIR))
    NODES_TABLE.add(TO_NODES.name, NODES_STACK.name, outcome.cost)
    print(outcome.report())
    assert all(verdict.holds for verdict in outcome.verdicts), outcome.report()
    pair.stack = NODES_STACK
    settle(pair, NODES_STACK)


@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_nodes_lose_no_more_than_the_docs_say(pair: Pair, fault: Fault, run: int) -> None:
    use(pair, NODES_STACK)
    settle(pair, NODES_STACK)
    fault.prepare(pair)
    outcome = play(pair, NODES_STACK, fault, settle(pair, NODES_STACK))
    NODES_TABLE.add(fault.name, NODES_STACK.name, outcome.cost)
    print(outcome.report())
    assert all(verdict.holds for verdict in outcome.verdicts), outcome.report()


def test_the_key_and_the_orders_are_for_root_and_floatip_alone(pair: Pair) -> None:
    use(pair, NODES_STACK)
    node = pair.other(settle(pair, NODES_STACK))
    node.run("useradd other; useradd --groups floatip colleague")
    assert node.run(f"stat --format '%U:%G %a' {KEY}") == "root:floatip 640\n"
    assert as_user(node, "floatip", f"test -r {KEY}")
    assert not as_user(node, "other", f"test -r {KEY}")
    assert not as_user(node, "other", "floatip drain")
    assert not as_user(node, "other", "floatip nodes")
    assert as_user(node, "colleague", "floatip drain --reason mine && floatip undrain")


def as_user(node: Machine, user: str, command: str) -> bool:
    return node.succeeds(f"runuser -u {user} -- sh -c '{command}'")


def test_the_unit_lets_the_daemon_do_all_that_the_link_needs(pair: Pair) -> None:
    use(pair, NODES_STACK)
    settle(pair, NODES_STACK)
    for node in pair.nodes:
        node.run("systemctl restart floatip")
        settle(pair, NODES_STACK)
        buffers = re.findall(r"\brb(\d+)", node.run(f"ss --udp --all --numeric --memory 'sport = :{LINK_PORT}'"))
        assert str(2 * RECEIVE_BUFFER) in buffers, "the kernel allows as much by CAP_NET_ADMIN only, and doubles it"
        since = node.run("systemctl show --value --property=InactiveExitTimestamp floatip", quiet=True).strip()
        told = node.run(f"journalctl --unit=floatip --since '{since}' --output=cat FLOATIP_WHAT=failure")
        assert not told, told
