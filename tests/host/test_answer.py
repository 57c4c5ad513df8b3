"""The answer to `status` of which most is kept from the one before is as if all of it were made again."""

import json
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Interface
from typing import Any

import pytest

from floatip.core.events import Disconnected, StopRequested, Ticked
from floatip.core.node import Node
from floatip.core.settings import Static
from floatip.core.snapshot import describe, describe_frame
from floatip.core.state import as_data
from floatip.host import answer as answers
from floatip.host.answer import Answers
from tests.core.host import CONFIG, RS, RS2, SICK, WEB, WELL, Host, answered, config, master, status
from tests.core.test_link_scale import INSTANCES, _node, _play

MANY = replace(
    CONFIG,
    instances=tuple(
        replace(
            WEB, name=f"web{number}", addresses=(IPv4Interface(f"192.0.2.{number}/32"),), election=Static("primary")
        )
        for number in range(1, 40)
    ),
)


def test_what_two_nodes_tell_each_other_of_255_instances_is_in_the_answers_of_both() -> None:
    nodes = one, other = _node(0), _node(1)
    kept = [Answers(lambda call: call(), lambda: now) for _ in nodes]
    now = 0.0
    before = [_whole(those, node, now) for those, node in zip(kept, nodes, strict=True)]
    assert [each["nodes"][0]["carries"] for each in before] == [[], []]
    _play(one, other, until=5.0)
    now = 5.0
    for those, node in zip(kept, nodes, strict=True):
        assert [len(each["carries"]) for each in _whole(those, node, now)["nodes"]] == [INSTANCES] * 2
    while now < 10.0:  # the other one has fallen silent
        now = one.deadline
        one.handle(Ticked(), now)
    assert {each["role"]["value"] for each in _whole(kept[0], one, now)["instances"]} == {"master"}


def _whole(kept: Answers, node: Node, now: float) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(answered(kept, node, now))
    assert told == json.loads(json.dumps(as_data(describe(node, now))))
    return told


def test_the_answer_follows_each_change() -> None:
    """`status` compares."""
    host = master(config(speaker={"peers": (RS, RS2)}))
    assert status(host)["instances"][0]["addresses"][0]["announced_to"] == 2
    host.dialling_works = False
    host.tell(Disconnected(RS, "reset"))
    assert status(host)["instances"][0]["addresses"][0]["announced_to"] == 1
    host.tell(SICK)
    assert status(host)["instances"][0]["addresses"][0]["announced_to"] == 0
    host.tell(WELL)
    host.run(40)
    assert status(host)["instances"][0]["role"]["for"] < 10
    host.reload(MANY)
    assert [one["name"] for one in status(host)["instances"]] == [one.name for one in MANY.instances]
    host.reload(config())
    assert [one["name"] for one in status(host)["instances"]] == ["VI_1"]
    host.tell(StopRequested())
    assert [one["code"] for one in status(host)["problems"]] == ["stopping"]


@pytest.fixture
def no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each slice is over after its first step."""
    monkeypatch.setattr("floatip.host.network.slices.LENGTH", 0.0)


def test_the_instances_are_looked_at_in_slices(no_time: None) -> None:
    host, turns, ready = Host(MANY).run(5), deque[Callable[[], None]](), []
    kept = Answers(turns.append, lambda: host.now)
    kept.prepare(host.node, lambda: ready.append(True))
    count = 0
    while turns:
        assert not ready
        turns.popleft()()
        count += 1
    assert ready == [True]
    assert count == len(MANY.instances)


def test_an_instance_that_a_reload_brings_between_the_slices_is_in_the_answer(no_time: None) -> None:
    host, turns = Host(config()).run(5), deque[Callable[[], None]]()
    kept = Answers(turns.append, lambda: host.now)
    kept.prepare(host.node, lambda: None)
    host.reload(MANY)
    while turns:
        turns.popleft()()
    frame = describe_frame(host.node, kept.problems(host.node, host.now), host.now)
    told = json.loads(kept.text(frame, host.node, host.now))
    assert told == json.loads(json.dumps(as_data(describe(host.node, host.now))))


def test_the_text_of_an_instance_is_made_again_only_if_it_is_different(monkeypatch: pytest.MonkeyPatch) -> None:
    host, made = Host(MANY).run(5), []
    text = answers._text
    monkeypatch.setattr(answers, "_text", lambda known: made.append(known.config.name) or text(known))
    assert len(status(host)["instances"]) == len(made) == 39
    host.run(6)
    status(host)
    assert len(made) == 39
    host.tell(SICK)
    status(host)
    assert len(made) == 78
