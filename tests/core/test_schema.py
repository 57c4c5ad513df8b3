"""docs/reference/status.schema.json says what `floatip status --json` prints."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from floatip.core.events import CheckDone, Disconnected, Failing, Failure, StopRequested
from floatip.core.problems import Code
from floatip.core.snapshot import describe
from floatip.core.state import CarriedView, ChangeView, NetworkView, SchedulingView, SocketView, as_data
from tests.core.host import CONFIG, RS, SICK, Host, backup, config, master, status
from tests.core.schema import FILE, faults, schema, text
from tests.core.test_view import nasty, node, own
from tests.web import views

WRITTEN: dict[str, Any] = json.loads(FILE.read_text())


def test_the_file_is_as_the_types_are() -> None:
    assert FILE.read_text() == text(), "run: python -m tests.core.schema"


def sick() -> Host:
    host = master()
    failure = Failure("adverts", "refused", "look")
    host.tell(SICK, CheckDone("web", 0, False, "x"), Disconnected(RS, "reset"), Failing("x", frozenset({failure})))
    host.tell(StopRequested())
    return host


@pytest.mark.parametrize(
    "host", [master, backup, sick, lambda: Host(start=False), lambda: Host(replace(CONFIG, speaker=None))]
)
def test_what_a_node_answers_is_as_the_schema_says(host: Callable[[], Host]) -> None:
    assert faults(status(host()), WRITTEN, WRITTEN) == []


def test_an_answer_with_all_that_the_host_adds_is_as_the_schema_says() -> None:
    host = master(config(placement="master"))
    full = replace(
        describe(host.node, host.now),
        nodes=(own(), node("haproxy2", until=3.0, carries=(CarriedView("web", "standby"),)), node("x", heard=None)),
        recent=(ChangeView("2025-11-29T03:12:07.123+00:00", "role", "web", "backup", "master", "x"),),
        network=NetworkView("linode", 6, "Newark"),
        scheduling=SchedulingView("rr", 10, True),
        sockets=(SocketView("link", 48, "known nodes"), SocketView("BGP", 48, None)),
    )
    assert faults(as_json(full), WRITTEN, WRITTEN) == []
    for arbitrated in (views.arbitrated(), views.etcd_lost(), replace(views.hostile(), problems=())):
        assert faults(as_json(arbitrated), WRITTEN, WRITTEN) == []
    assert faults(as_json(replace(nasty(), problems=())), WRITTEN, WRITTEN) == []


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(as_data(value)))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"instances": [{}]}, "$.instances[0]: has no name"),
        ({"cut_off": 0}, "$.cut_off: 0 is no boolean"),
        ({"uptime": "3"}, "$.uptime: '3' is no number"),
        ({"pid": 1.5}, "$.pid: 1.5 is no integer"),
        ({"dropped": {"a": "b"}}, "$.dropped.a: 'b' is no integer"),
        ({"network": 3}, "$.network: 3 is none of"),
        ({"checks": None}, "$.checks: None is no array"),
        ({"problems": [{"severity": "dire"}]}, "$.problems[0].severity: 'dire' is none of"),
        ({"problems": [{"code": "of-our-own"}]}, "$.problems[0].code: 'of-our-own' is none of"),
    ],
)
def test_the_checker_finds_what_is_not_as_the_schema_says(change: dict[str, Any], fault: str) -> None:
    found = faults(status(master()) | change, WRITTEN, WRITTEN)
    assert any(each.startswith(fault) for each in found), found


def test_every_code_and_every_field_stands_in_the_schema() -> None:
    kinds = schema()["$defs"]
    assert set(kinds["ProblemView"]["properties"]["code"]["enum"]) == set(Code)
    assert status(master()).keys() == kinds["Status"]["properties"].keys()
