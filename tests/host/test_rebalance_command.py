"""`floatip rebalance` against a daemon that is played: it hands over what it is asked for, or does not."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from floatip import rebalance
from floatip.commands import Refusal
from floatip.core.arbiter import ASKS
from floatip.core.etcd import Grant, Granted, Question, Revoke, Txn, TxnDone
from floatip.core.refusals import Why
from floatip.host import ask as asking

FILE = Path("/nonexistent")


class Daemon:
    """Of haproxy1. All nodes are ready for everything."""

    def __init__(self, homes: dict[str, str], nodes: tuple[str, ...] = ("haproxy1", "haproxy2", "haproxy3")) -> None:
        self.homes, self.nodes = homes, nodes
        self.etcd = False
        self.exclusive: set[str] = set()
        self.paused = ""
        self.young: set[str] = set()
        self.stubborn: set[str] = set()
        """Instances that never move."""
        self.silent: set[str] = set()
        """Nodes, once something was asked for."""
        self.asked: list[tuple[str, str]] = []

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["cmd"] == "handover":
            self.move(request["instance"], request["to"])
            return {"done": False, "order": 1}
        assert request["cmd"] == "loads"
        return {
            "own": "haproxy1",
            "paused": self.paused,
            "etcd": self.etcd,
            "lease_time": 5.0,
            "nodes": [
                [
                    node,
                    1.0,
                    node not in self.young,
                    "".join(self.letter(node, home) for home in self.homes.values()),
                ]
                for node in self.nodes
            ],
            "instances": [[one, [], "", "", one in self.exclusive] for one in self.homes],
        }

    def letter(self, node: str, home: str) -> str:
        if node in self.silent and self.asked:
            return "-"
        return "C" if home == node else "r"

    def move(self, instance: str, to: str) -> None:
        self.asked.append((instance, to))
        if instance not in self.stubborn:
            self.homes[instance] = to


class Store:
    """etcd, whose watch reaches the daemon at once."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.leases: dict[int, set[str]] = {}

    def ask(self, question: Question) -> object:
        match question:
            case Grant(ttl):
                self.leases[len(self.leases) + 1] = set()
                return Granted(len(self.leases), ttl)
            case Txn(_, then, _):
                for put in then:
                    row = json.loads(getattr(put, "value", ""))
                    self.leases[getattr(put, "lease", 0)].add(put.key)
                    self.daemon.move(put.key.removeprefix(ASKS), row["to"])
                return TxnDone(True, 2)
            case Revoke(lease):
                self.leases[lease].clear()
        return None


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    played = Daemon({f"web{number}": f"haproxy{1 + number % 2}" for number in range(1, 7)})

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            answer = played.answer(json.loads(self.rfile.readline()))
            self.wfile.write(json.dumps(answer).encode() + b"\n")

    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(rebalance, "INTERVAL", 0.01)
    monkeypatch.setattr(rebalance, "_store", lambda file: nullcontext(Store(played)))
    with socketserver.ThreadingUnixStreamServer(str(asking.socket_path()), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield played
        server.shutdown()


def run(*, dry_run: bool = False) -> int:
    return rebalance.command(FILE, dry_run=dry_run, yes=True)


def loads(daemon: Daemon) -> list[int]:
    return [list(daemon.homes.values()).count(node) for node in daemon.nodes]


def test_a_dry_run_shows_the_plan_and_moves_nothing(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.etcd = True
    assert run(dry_run=True) == 0
    shown = capsys.readouterr().out
    assert "haproxy3  0        ->  2" in shown
    assert "2 of 6 instances move" in shown
    assert loads(daemon) == [3, 3, 0]


def test_with_etcd_each_owner_is_asked_and_no_row_is_left(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(daemon)
    monkeypatch.setattr(rebalance, "_store", lambda file: nullcontext(store))
    daemon.etcd = True
    assert run() == 0
    assert loads(daemon) == [2, 2, 2]
    assert len(daemon.asked) == 2
    assert list(store.leases.values()) == [set(), set()]


def test_without_etcd_a_node_moves_only_what_it_carries(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert loads(daemon) == [2, 3, 1]
    assert "run floatip rebalance there" in capsys.readouterr().out


def test_where_all_is_even_nothing_is_done(daemon: Daemon) -> None:
    daemon.homes = {"web1": "haproxy1", "web2": "haproxy2", "web3": "haproxy3"}
    assert run() == 0
    assert daemon.asked == []


def test_it_stops_at_the_first_instance_that_does_not_move_and_says_what_is_left(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rebalance, "PATIENCE", 0.05)
    daemon.etcd = True
    daemon.stubborn = set(daemon.homes)
    with pytest.raises(Refusal, match="did not move to haproxy3") as refused:
        run()
    assert refused.value.code is Why.NOT_TAKEN_OVER
    assert len(daemon.asked) == 1
    ((left, _),) = daemon.asked
    said = capsys.readouterr().err
    assert f"0 of 2 moves are done; stopped at {left}; not begun: web" in said
    assert f"{daemon.homes[left]} carries it now" in str(refused.value)


def test_a_node_that_falls_silent_is_not_waited_for(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebalance, "PATIENCE", 3600.0)
    monkeypatch.setattr(rebalance, "UNABLE", 0.05)
    daemon.etcd = True
    daemon.stubborn, daemon.silent = set(daemon.homes), {"haproxy3"}
    with pytest.raises(Refusal, match="haproxy3 is silent, or not ready any more") as refused:
        run()
    assert refused.value.code is Why.NOT_TAKEN_OVER


def test_ctrl_c_says_what_is_done_what_may_still_move_and_what_is_left(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Pressed(Store):
        def ask(self, question: Question) -> object:
            answer = super().ask(question)
            if isinstance(question, Txn) and len(self.leases) == 2:
                raise KeyboardInterrupt
            return answer

    monkeypatch.setattr(rebalance, "_store", lambda file: nullcontext(Pressed(daemon)))
    daemon.etcd = True
    daemon.homes = dict.fromkeys(("web1", "web2", "web3", "web4", "web5", "web6"), "haproxy1")
    assert run() == 130
    (first, _), (second, _) = daemon.asked
    said = capsys.readouterr().err
    assert f"stopped: 1 of 4 moves is done; begun, and may still move: {second}; not begun: web" in said
    assert first not in said


def test_with_nothing_to_do_it_names_what_nobody_carries(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.homes = {"web1": "haproxy1", "web2": "haproxy2", "web3": "haproxy3", "web4": ""}
    assert run() == 0
    assert "3 of 4 instances are carried" in (said := capsys.readouterr().err)
    assert "1 is left alone, because no node or more than one carries it: web4\nhint: see why: floatip status\n" in said
    daemon.homes = {"web1": ""}
    assert run() == 0
    assert "no instance is carried by exactly one node" in capsys.readouterr().err


def test_a_paused_election_or_young_sessions_are_refused_before_anything_moves(daemon: Daemon) -> None:
    daemon.etcd, daemon.young = True, {"haproxy3"}
    with pytest.raises(Refusal) as young:
        run()
    daemon.paused = "haproxy2 has paused the election"
    with pytest.raises(Refusal) as paused:
        run()
    assert (young.value.code, paused.value.code) == (Why.YOUNG_SESSIONS, Why.ELECTION_PAUSED)
    assert daemon.asked == []


def test_the_plan_says_that_an_exclusive_instance_is_nowhere_for_a_moment(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.etcd, daemon.exclusive = True, set(daemon.homes)
    assert run(dry_run=True) == 0
    assert "no node has it for a moment" in capsys.readouterr().out


def test_another_daemon_that_answers_something_else_is_named(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "answer", lambda request: {"nodes": 3})
    with pytest.raises(Refusal) as refused:
        run()
    assert refused.value.code is Why.OTHER_DAEMON_VERSION
