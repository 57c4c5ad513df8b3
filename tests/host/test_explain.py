"""`floatip explain`: the control command on a made node, and the command line against a made daemon."""

import json
import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any

import pytest

from floatip.core import settings
from floatip.core.addresses import Placed
from floatip.core.events import CheckDone, ClockMoved, Drained, Held, Order, Started, Ticked
from floatip.core.node import Node
from floatip.core.rules import Rule
from floatip.core.settings import Settings
from floatip.core.snapshot import describe
from floatip.host.ask import Record
from floatip.host.explain import Explain
from tests.command_line import floatip
from tests.host.test_verbs import daemon

ROOT = Path(__file__).parents[2]
LINK = settings.Link(
    tuple(settings.Node(f"haproxy{number}", IPv4Address(f"10.0.0.{number}")) for number in (1, 2)),
    "haproxy1",
    (b"k" * 32,),
    bytes(8),
)
HOSTILE = "\x1b[2J[bold]<b>\n"


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    return tmp_path


def made(number: int = 1, election: settings.Election | None = None) -> Node:
    """Master of all its instances, and the other node has never been heard."""
    instances = tuple(
        settings.Instance(
            f"web{n}", (IPv4Interface(f"192.0.2.{n}/32"),), election or settings.Nodes(), ("haproxy",), "master", "eth0"
        )
        for n in range(1, number + 1)
    )
    checks = (settings.Check("haproxy", pushed=True),)
    node = Node(Settings(checks, instances, link=LINK), 0.0)
    node.handle(ClockMoved(1.8e9), 0.0)
    node.handle(Started(), 0.0)
    node.handle(Held(frozenset()), 0.0)
    return node


def well(node: Node, until: float = 10.0) -> Node:
    node.handle(CheckDone("haproxy", 0, True, "it runs"), 1.0)
    node.handle(Held(frozenset(Placed("eth0", each.config.addresses[0]) for each in node.instances.values())), 1.0)
    while node.deadline < until:
        node.handle(Ticked(), node.deadline)
    return node


class AtOnce:
    """A loop in which nothing takes time, and the workers beside it."""

    def time(self) -> float:
        return 10.0

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Any:
        callback(*args)

    def do(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        done(job())

    def close(self) -> None:
        pass


def ask(node: Node, **fields: Any) -> dict[str, Any]:
    answers: list[Callable[[], Record]] = []
    think = Explain(lambda: node, AtOnce(), AtOnce()).command.think
    assert think
    think({"cmd": "explain", **fields}, answers.append)
    (answer,) = answers
    found: dict[str, Any] = json.loads(json.dumps(answer()))
    return found


def test_a_node_that_is_alone_carries_it_because_no_other_is_ready() -> None:
    (told,) = ask(well(made()))["answers"]
    assert (told["carrier"], told["role"], told["rule"]) == ("haproxy1", "master", "only-ready-node")
    assert "haproxy2 is not heard yet" in told["what"]


def test_a_node_without_a_result_of_its_check_says_so() -> None:
    (told,) = ask(made())["answers"]
    assert (told["carrier"], told["rule"]) == ("", "no-result-yet")
    assert "haproxy" in told["what"]


@pytest.mark.parametrize(
    ("fields", "what", "hint"),
    [
        ({"instance": "mail"}, "there is no instance mail", "web1"),
        ({"if": "down", "of": "haproxy9"}, "there is no node haproxy9", "haproxy1, haproxy2; this one is haproxy1"),
        ({"if": "drained", "of": "haproxy9"}, "there is no node haproxy9", "haproxy1, haproxy2"),
        ({"if": "check-fails", "of": "nginx"}, "there is no check nginx", "haproxy"),
        ({"if": "explodes", "of": "haproxy1"}, "not understood", "send for example"),
        ({"if": "down"}, "not understood", "send for example"),
        ({"if": ["down"], "of": "haproxy1"}, "not understood", "send for example"),
        ({"instance": 7}, "not understood", "send for example"),
    ],
)
def test_what_does_not_exist_is_refused_and_what_exists_is_named(fields: dict[str, Any], what: str, hint: str) -> None:
    answer = ask(well(made()), **fields)
    assert what in answer["refused"]
    assert hint in answer["hint"]


def test_a_question_changes_nothing_in_the_node() -> None:
    node = well(made(3))
    before = all_that_it_is(node)
    for kind, of in (("down", "haproxy1"), ("down", "haproxy2"), ("drained", "haproxy1"), ("check-fails", "haproxy")):
        assert len(all_of(node, **{"if": kind, "of": of})) == 3
    assert all_that_it_is(node) == before


def all_that_it_is(node: Node) -> str:
    everything = describe(node, 10.0), node.deadline, [vars(each.elector) for each in node.instances.values()]
    return re.sub(r" at 0x\w+", "", str(everything))


def all_of(node: Node, **fields: Any) -> list[dict[str, Any]]:
    """In as many requests as it takes."""
    found, begin = [], None
    while True:
        answer = ask(node, **fields, **{"from": begin})
        found += answer["answers"]
        if (begin := answer["more"]) is None:
            return found


def test_many_instances_are_answered_in_slices_each_of_them_once() -> None:
    node = well(made(40))
    first = ask(node)
    assert 1 <= len(first["answers"]) < 40
    assert [one["instance"] for one in all_of(node)] == list(node.instances)
    assert [one["instance"] for one in all_of(node, **{"if": "down", "of": "haproxy1"})] == list(node.instances)
    assert [one["instance"] for one in all_of(node, **{"if": "drained", "of": "haproxy1"})] == list(node.instances)


def test_questions_are_played_one_after_the_other_in_the_order_in_which_they_came() -> None:
    node, answers, jobs = well(made()), list[Record](), list[Callable[[], None]]()

    class Later(AtOnce):
        def do(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
            jobs.append(lambda: done(job()))

    think = Explain(lambda: node, AtOnce(), Later()).command.think
    assert think
    for of in ("haproxy1", "haproxy2", "haproxy3"):
        think({"if": "down", "of": of}, lambda answer: answers.append(answer()))
    while jobs:
        (job,) = jobs
        jobs.clear()
        job()
    assert [answer.get("refused", "") for answer in answers] == ["", "", "there is no node haproxy3"]


def test_the_last_node_stays_when_it_is_drained_and_the_refusal_is_told() -> None:
    (outcome,) = ask(well(made()), **{"if": "drained", "of": "haproxy1"})["answers"]
    assert (outcome["carrier"], outcome["after"], outcome["rule"]) == ("haproxy1", None, "no-successor")
    assert "no other node could take over" in outcome["refused"]


def test_a_drained_node_says_why_it_is_drained() -> None:
    node = well(made())
    node.handle(Drained(Order("kernel upgrade")), 10.0)
    (told,) = ask(node)["answers"]
    assert told["rule"] == "drained"
    assert "kernel upgrade" in told["what"]
    assert {"kind": "undrained", "of": "haproxy1"} in told["questions"]


def test_a_configured_role_is_explained_and_the_rest_is_said_to_be_unknown() -> None:
    (told,) = ask(well(made(election=settings.Static("primary"))))["answers"]
    assert (told["rule"], told["election"], told["carrier"]) == ("configured", "static", "haproxy1")
    assert told["unknown"]
    (outcome,) = ask(well(made(election=settings.Static("primary"))), **{"if": "down", "of": "haproxy1"})["answers"]
    assert (outcome["carrier"], outcome["certain"]) == ("", False)


def test_a_bug_in_an_explanation_is_an_answer_and_does_not_end_the_daemon() -> None:
    node = well(made())
    del node.instances["web1"].elector
    answer = ask(node)
    assert answer["refused"].startswith("a bug in floatip: AttributeError")
    assert ask(node, **{"if": "down", "of": "haproxy1"})["refused"].startswith("a bug in floatip: AttributeError")


def test_the_reference_has_a_line_for_each_rule() -> None:
    page = (ROOT / "docs/reference/explain.md").read_text()
    assert re.findall(r"^\| `([a-z-]+)` \| \w", page.partition("## Rules")[2], re.MULTILINE) == [*Rule]


# The command line

TOLD = {
    "instance": "web",
    "election": "nodes",
    "node": "haproxy1",
    "role": "backup",
    "rank": "standby",
    "for": 266400.0,
    "carrier": "haproxy2",
    "rule": "sticky",
    "what": "haproxy2 carries it, and keeps it as long as it is ready (preempt is off)",
    "because": HOSTILE,
    "also": [{"rule": "damped", "what": f"withdrawn three times {HOSTILE}"}],
    "unknown": ["whether haproxy2 could take over: a backup is silent"],
    "questions": [{"kind": "down", "of": "haproxy2"}],
    "owner": None,
    "etcd_silent": None,
}
OUTCOME = {
    "instance": "web",
    "if": "down",
    "of": "haproxy2",
    "before": "haproxy2",
    "carrier": "haproxy1",
    "certain": True,
    "after": 0.32,
    "rule": "only-ready-node",
    "what": f"haproxy1 is the only node that is ready then {HOSTILE}",
    "candidates": [],
    "unknown": [HOSTILE],
    "refused": "",
    "steps": [{"after": 0.32, "node": "haproxy1", "reason": HOSTILE}],
}


def answer(*answers: dict[str, Any]) -> dict[str, Any]:
    return {"answers": list(answers), "more": None}


@pytest.mark.parametrize("width", [60, 80])
def test_the_screen_fits_and_no_text_of_others_is_a_command_to_the_terminal(
    runtime: Path, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    with daemon(runtime, answer(TOLD), answer(OUTCOME)) as requests:
        status, shown = floatip("explain")
    assert status == 0
    assert all(len(line) <= width for line in shown.splitlines())
    assert "\x1b" not in shown
    assert requests[1] == {"cmd": "explain", "instance": "web", "if": "down", "of": "haproxy2", "from": None}
    words = " ".join(shown.split())
    assert "web: haproxy2 carries it here haproxy1, BACKUP for 3d 2h, rank standby rule sticky: haproxy2" in words
    assert "if haproxy2 goes down: haproxy1 takes over after about 0.3 s:" in words


@pytest.mark.parametrize("width", [60, 80])
def test_a_question_shows_from_where_to_where_it_moves(
    runtime: Path, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    with daemon(runtime, answer(OUTCOME)):
        status, shown = floatip("explain", "web", "--if-down", "haproxy2")
    assert status == 0
    assert all(len(line) <= width for line in shown.splitlines())
    assert "\x1b" not in shown
    assert shown.startswith("if haproxy2 goes down:\n  web: haproxy2 -> haproxy1 after about 0.3 s: ")


def test_json_has_the_answers_of_the_daemon_and_the_changes(runtime: Path) -> None:
    with daemon(runtime, answer(TOLD), answer(OUTCOME)):
        status, shown = floatip("explain", "--json")
    assert (status, json.loads(shown)) == (0, {"explanations": [TOLD | {"changes": [OUTCOME]}]})
    runtime.joinpath("floatip.sock").unlink()
    with daemon(runtime, answer(OUTCOME)):
        status, shown = floatip("explain", "--if-down", "haproxy2", "--json")
    assert (status, json.loads(shown)) == (0, {"if": "down", "of": "haproxy2", "outcomes": [OUTCOME]})


def test_the_client_asks_again_until_it_has_all_instances(runtime: Path) -> None:
    with daemon(runtime, {"answers": [OUTCOME], "more": "mail"}, answer(OUTCOME | {"instance": "mail"})) as requests:
        _, shown = floatip("explain", "--if-down", "haproxy2", "--json")
    assert [one["instance"] for one in json.loads(shown)["outcomes"]] == ["web", "mail"]
    assert [request["from"] for request in requests] == [None, "mail"]


def test_a_refusal_of_the_daemon_is_exit_status_1(runtime: Path) -> None:
    with daemon(runtime, {"refused": "there is no node x", "hint": "the nodes are: a, b"}):
        assert floatip("explain", "--if-down", "x") == (
            1,
            "error: there is no node x [daemon-refuses]\nhint: the nodes are: a, b\n",
        )


def test_two_questions_are_one_too_many() -> None:
    status, shown = floatip("explain", "--if-down", "a", "--if-drained", "b")
    assert status == 2
    assert "--if-down and --if-drained exclude each other" in shown


def test_without_a_daemon_the_exit_status_is_3() -> None:
    assert floatip("explain")[0] == 3


@pytest.mark.parametrize("odd", [{}, {"answers": 1, "more": None}, {"answers": [{}], "more": None}])
def test_an_answer_of_another_version_is_named(runtime: Path, odd: dict[str, Any]) -> None:
    with daemon(runtime, odd):
        status, shown = floatip("explain")
    assert status == 3
    assert "another version" in shown
