"""What each path answers, by the real process and a control socket."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from floatip.core.state import NodeView, Standing, as_data
from tests.web.process import INSTANCE, STATUS, Web, events, raw, request, until

GET = b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def test_the_status_is_what_the_daemon_answers(web: Web) -> None:
    answered = request("/status")
    assert (answered.status, answered.data) == (200, json.loads(json.dumps(as_data(STATUS))))
    assert answered.headers["content-type"] == "application/json"


def test_every_answer_forbids_what_a_page_here_does_not_need(web: Web) -> None:
    for path in ("/status", "/nowhere"):
        headers = request(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; ")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"


def test_head_has_the_headers_and_no_body(web: Web) -> None:
    head, get = request("/healthz", "HEAD"), request("/healthz")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.body))


def test_what_is_not_there_is_named(web: Web) -> None:
    answered = request("/nowhere")
    assert answered.status == 404
    assert b"/status" in answered.body


@pytest.mark.parametrize(("path", "method", "allowed"), [("/status", "DELETE", "GET, HEAD"), ("/drain", "GET", "POST")])
def test_another_method_is_refused_with_those_that_work(web: Web, path: str, method: str, allowed: str) -> None:
    answered = request(path, method)
    assert (answered.status, answered.headers["allow"]) == (405, allowed)


def test_a_connection_serves_one_request_after_another(web: Web) -> None:
    assert raw(GET + GET + LAST).body.count(b"HTTP/1.1 200 OK") == 2  # behind the first


def test_many_readers_cost_the_daemon_four_questions_a_second(web: Web) -> None:
    def read(number: int) -> int:
        web.daemon.tell("master", f"change {number}")
        return request("/status").status

    before, began = web.daemon.questions, time.monotonic()
    with ThreadPoolExecutor(16) as readers:
        assert {*readers.map(read, range(64))} == {200}
    assert web.daemon.questions - before <= 4 * (time.monotonic() - began) + 2


def test_the_status_is_not_older_than_the_last_change(web: Web) -> None:
    with events() as stream:
        for number in range(4):
            web.daemon.status = replace(STATUS, host=f"h{number}")
            web.daemon.tell(f"value {number}")
            stream.next("change")
            assert request("/status").data["host"] == f"h{number}"


def test_health_is_that_the_daemon_answers(web: Web) -> None:
    answered = request("/healthz")
    assert (answered.status, answered.body) == (200, b"ok\n")


def test_a_daemon_that_hangs_is_not_healthy_until_it_goes_on(web: Web) -> None:
    until(lambda: request("/healthz").status == 200)
    with web.daemon.hanging():
        until(lambda: request("/healthz").status == 503)
        answered = request("/status")
        assert answered.status == 503
        assert b"did not answer within 3 s" in answered.body
    until(lambda: request("/healthz").status == 200)


OWN = NodeView("h1", "192.0.2.1", own=True, state="this node")
FAULT = replace(INSTANCE, role=Standing("fault", 1.0, "eth0 does not exist"))
SICK = replace(INSTANCE, role=Standing("backup", 1.0, ""), health=Standing("down", 1.0, "check haproxy failed"))


def _states() -> Iterator[Any]:
    yield pytest.param(STATUS, "", id="master")
    backup = replace(INSTANCE, role=Standing("backup", 1.0, "h2 is master"))
    yield pytest.param(replace(STATUS, instances=(backup,)), "", id="standby")
    yield pytest.param(replace(STATUS, instances=(FAULT,)), "VI_1: fault: eth0 does not exist", id="fault")
    yield pytest.param(replace(STATUS, instances=(INSTANCE, SICK)), "VI_1: down: check haproxy failed", id="sick")
    drained = replace(OWN, drained=True, reason="new kernel")
    yield pytest.param(replace(STATUS, nodes=(OWN,)), "", id="with nodes")
    yield pytest.param(replace(STATUS, nodes=(drained,)), "this node is drained: new kernel", id="drained")
    paused = replace(OWN, own=False, name="h2", state="alive", paused=True, reason="a switch")
    yield pytest.param(replace(STATUS, nodes=(OWN, paused)), "", id="paused and master")
    why = "h2 has paused the nodes: none takes over: a switch"
    yield pytest.param(replace(STATUS, instances=(backup,), nodes=(OWN, paused)), why, id="paused")
    unheard = replace(paused, state="silent")
    yield pytest.param(replace(STATUS, instances=(backup,), nodes=(OWN, unheard)), "", id="pause of a silent node")
    yield pytest.param(replace(STATUS, cut_off=True), "this node is cut off from the route servers", id="cut off")
    yield pytest.param(replace(STATUS, stopping="asked to stop"), "this node is stopping: asked to stop", id="stopping")
    hostile = replace(FAULT, role=Standing("fault", 1.0, "\x1b[2J\n<b>"))
    yield pytest.param(replace(STATUS, instances=(hostile,)), "VI_1: fault: \\x1b[2J\\n<b>", id="hostile")
    yield pytest.param(replace(STATUS, instances=()), "no instance is configured", id="nothing")


@pytest.mark.parametrize(("status", "why"), [*_states()])
def test_a_node_is_ready_when_it_serves_or_could(web: Web, status: object, why: str) -> None:
    web.daemon.status = status  # type: ignore[assignment]
    answered = request("/readyz")
    assert (answered.status, answered.body) == ((503, f"{why}\n".encode()) if why else (200, b"ready\n"))


def test_it_ends_with_the_connection_to_the_daemon(web: Web) -> None:
    assert web.hang_up() == 0


def test_a_bug_costs_one_answer_and_is_told(web: Web) -> None:
    web.daemon.order = lambda request: {"done": True}
    web.tell(token=web.make_token())
    web.daemon.status = "no status"  # type: ignore[assignment]
    answered = request("/readyz")
    assert answered.status == 500
    assert b"Error" not in answered.body
    [(name, reason, _)] = web.told()
    assert (name, reason[:16]) == ("http", "a bug in floatip")
    web.daemon.status = STATUS
    until(lambda: request("/readyz").status == 200)
    web.log.write_text("")  # the traceback
