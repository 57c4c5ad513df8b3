"""A few of the runs, and that their judges see what they are to see."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from ipaddress import ip_interface
from pathlib import Path

import pytest

from floatip.core.etcd import Compare, Put, Txn, TxnDone
from floatip.lab.namespaces import Namespace
from floatip.rtnetlink import OURS, Netlink, addition, deletion
from tests.etcd_faults import history, plan
from tests.etcd_faults.__main__ import play
from tests.etcd_faults.watch import Seen, Watcher
from tests.etcd_faults.world import name_namespace
from tests.host.conftest import CLONE_NEWNET, entered
from tests.linearizable import complaints

A = ip_interface("192.0.2.10/32")
GROUPS, SEQUENCES = 2, 2
SEEDS = range(1, 1 + GROUPS * SEQUENCES, SEQUENCES)


@pytest.fixture
def nodes() -> Iterator[dict[int, Namespace]]:
    with entered("net", CLONE_NEWNET):
        made = {number: Namespace() for number in (1, 2)}
        for number, one in made.items():
            name_namespace(one, number)
            with one.inside():
                subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield made
        for one in made.values():
            one.close()


def played(nodes: dict[int, Namespace], act: Callable[[Netlink, Netlink], None]) -> Seen:
    sockets = []
    for one in nodes.values():
        with one.inside():
            sockets.append(Netlink())
    with closing(sockets[0]), closing(sockets[1]), closing(Watcher(nodes, [str(A.ip)], 1)) as watcher:
        watcher.look()
        act(sockets[0], sockets[1])
        watcher.look()
        return watcher.seen


ADD, DELETE = addition(1, A, OURS), deletion(1, A)


def test_the_watcher_sees_an_overlap_that_is_shorter_than_the_time_between_two_looks(
    nodes: dict[int, Namespace],
) -> None:
    def overlap(one: Netlink, other: Netlink) -> None:
        assert one.request([ADD]) == other.request([ADD]) == one.request([DELETE]) == other.request([DELETE]) == [0]

    (twice,) = played(nodes, overlap).twice
    assert "came to node 2 while [1] had it" in twice


def test_the_watcher_sees_that_both_have_it(nodes: dict[int, Namespace]) -> None:
    def both(one: Netlink, other: Netlink) -> None:
        assert one.request([ADD]) == other.request([ADD]) == [0]

    assert len(played(nodes, both).twice) == 2  # by both of its eyes


def test_the_watcher_calls_a_move_a_move_however_quick_it_is(nodes: dict[int, Namespace]) -> None:
    def move(one: Netlink, other: Netlink) -> None:
        for _ in range(20):
            assert one.request([ADD]) == one.request([DELETE]) == other.request([ADD]) == other.request([DELETE]) == [0]

    seen = played(nodes, move)
    assert not seen.twice
    assert sum(came for *_, came in seen.story) == 40


def test_a_history_in_which_two_win_the_same_row_is_none_of_etcd(tmp_path: Path) -> None:
    def line(pid: int, kind: str, at: float, what: object) -> str:
        return f"{(pid, kind, 1, at)!r} {what!r}\n"

    def won(pid: int, at: float, revision: int) -> str:
        question = Txn((Compare("owners/db", 0),), (Put("owners/db", f"node{pid}"),), ("owners/db",))
        return line(pid, "asked", at, question) + line(pid, "answered", at + 0.1, TxnDone(True, revision))

    (tmp_path / "node1").write_text(won(1, 1.0, 5))
    assert not complaints(history.read([tmp_path / "node1"]))
    (tmp_path / "node2").write_text(won(2, 2.0, 6) + "(2, 'asked', 2, 2.")  # it was killed while it wrote
    assert complaints(history.read([tmp_path / "node1", tmp_path / "node2"]))


def test_a_seed_draws_the_same_faults_each_time() -> None:
    assert plan.draw(7) == plan.draw(7)
    assert {fault.kind for seed in range(200) for fault in plan.draw(seed)} == set(plan.KINDS)


@pytest.fixture
def root_and_etcd() -> None:
    if not shutil.which("etcd"):
        pytest.fail("etcd is not installed: make test-needs")
    if os.geteuid() != 0:
        pytest.fail("this test makes namespaces and needs root: sudo make test")


@pytest.mark.usefixtures("root_and_etcd")
def test_no_exclusive_address_is_on_two_nodes_whatever_happens_to_daemons_and_etcd() -> None:
    with ThreadPoolExecutor(GROUPS) as pool:
        figures = [one for group in pool.map(lambda seed: play(seed, SEQUENCES), SEEDS) for one in group]
    assert sum("seed" in one for one in figures) == GROUPS * SEQUENCES
    assert not any(one["wrong"] for one in figures)


@pytest.mark.usefixtures("root_and_etcd")
def test_a_daemon_that_is_stopped_loses_what_is_exclusive_before_another_node_has_it(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Longer than its lease. Then it goes on, and leaves the addresses where they are."""
    figures = play(0, 1, "--faults", "holder-stop@0.5+9,holder-cut@15+8", "--story")
    said = capfd.readouterr().out
    print(said)
    assert not any(one["wrong"] for one in figures)
    stopped, cut = re.findall(r"node(\d) was the holder", said)
    moves = re.findall(r"(came to|left) node(\d): 192.0.2.10", said)
    assert moves[:2] == [("left", stopped), ("came to", cut)]
    assert stopped != cut
    assert moves[2] == ("left", cut)
