"""What verdicts accept and refuse, and how a run is shown."""

import contextlib
import io
import itertools
import os
import re
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest

from floatip.lab.network import HAPROXY1, HAPROXY2, ROUTER
from floatip.lab.record import SCENE, Answer, Record, RunEvent, RunOptions
from floatip.lab.routes import RouteChange
from floatip.lab.run import last_line
from floatip.lab.scheduling import Delay, DelayWatch, children, delayed, run_delay
from floatip.lab.screen import Feed, Screen, describe, group_by_cause
from floatip.lab.verdicts import (
    Verdict,
    answered_only_by,
    changes_role,
    handed_over,
    happened_within,
    lost_less_than,
    moved_to,
    no_loss,
    was_done,
    was_refused,
)
from floatip.observing.summary import RESET, ProbeResult

PAUSE = [Delay(10.02, 11.5), Delay(11.3, 11.52), Delay(11.6, 11.7)]


def test_held_up_is_the_time_in_which_anything_was() -> None:
    assert delayed([], 10, 11) == 0
    assert delayed(PAUSE, 9, 10.01) == 0
    assert delayed(PAUSE, 10.01, 10.5) == pytest.approx(0.48)
    assert delayed(PAUSE, 11.4, 11.55) == pytest.approx(0.12)
    assert delayed(PAUSE, 10.01, 99) == pytest.approx(1.6)
    assert delayed(PAUSE, 12, 99) == 0


def test_the_pulse_finds_a_pause_and_nothing_on_a_machine_that_goes_on() -> None:
    found: list[Delay] = []
    looks: list[float] = []

    def pids() -> list[int]:
        if len(looks) == 3:
            time.sleep(0.2)  # as if the machine stood still
        looks.append(time.monotonic())
        return [os.getpid(), 1 << 30]

    watch = DelayWatch(pids, found)
    deadline = time.monotonic() + 30
    while len(looks) < 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    watch.close()
    assert len(looks) >= 6
    assert delayed(found, looks[3] - 0.2, looks[4]) > 0.15
    print(f"{len(found)} delays: {found}")
    assert run_delay(1 << 30) == 0


def record_of(*probes: ProbeResult, delays: Sequence[Delay] = (), moves: Sequence[float] = (10.06,)) -> Record:
    """The traffic leads to haproxy1 at 9.0 s and changes sides at each of the moves."""
    hosts = itertools.cycle((HAPROXY1.ipv6, HAPROXY2.ipv6))
    routes = {ROUTER: [RouteChange(at, next(hosts)) for at in (9.0, *moves)]}
    return Record(probes=list(probes), routes=routes, delays=list(delays))


def request(at: float, who: str | None, error: str | None = None) -> ProbeResult:
    return ProbeResult("request", at, ok=error is None, who=who, error=error)


def test_an_answer_of_the_wrong_node_is_accepted_only_while_the_lab_had_no_cpu() -> None:
    probes = request(11.53, "haproxy1"), request(11.6, "haproxy2")
    verdict = moved_to(record_of(*probes, delays=PAUSE), "haproxy2", 10.0, "it")
    assert verdict.holds
    assert verdict.text == "haproxy2 gave all 2 answers after it, except 1 while the lab had no CPU"
    assert not moved_to(record_of(*probes), "haproxy2", 10.0, "it").holds
    assert moved_to(record_of(*probes), "haproxy2", 10.0, "it", within=1.55).holds
    seen = record_of(*probes).seen
    assert not answered_only_by(seen, "haproxy2", 10.05, "it").holds, "where nothing moves no delay excuses an answer"
    verdict = moved_to(record_of(*probes, request(12.5, "haproxy1"), delays=PAUSE), "haproxy2", 10.0, "it")
    assert (verdict.holds, verdict.text) == (
        False,
        "1 of 3 answers after it not from haproxy2, the last 2450 ms too late",
    )


def test_a_limit_is_extended_by_the_time_without_a_cpu() -> None:
    probes = request(10.0, None, "timed out"), request(12.0, "haproxy2")
    assert [each.holds for each in lost_less_than(record_of(*probes, delays=PAUSE), 0.5)] == [True, True]
    assert [each.holds for each in lost_less_than(record_of(*probes, delays=PAUSE), 0.1)] == [True, False]
    assert [each.holds for each in lost_less_than(record_of(*probes), 0.5)] == [True, False]
    verdict = happened_within(record_of(delays=PAUSE), "it came", 12.0, 0.5, 10.0, "that")
    assert (verdict.holds, verdict.text) == (
        True,
        "it came 2.000 s after that (limit 2.1 s: 0.5 s and 1.60 s without a CPU)",
    )
    assert not happened_within(record_of(), "it came", 12.0, 0.5, 10.0, "that").holds
    assert not happened_within(record_of(delays=PAUSE), "it came", None, 0.5, 10.0, "that").holds


def test_an_outage_without_an_end_is_too_long() -> None:
    probes = request(9.0, "haproxy1"), request(10.0, None, "timed out")
    assert [each.holds for each in lost_less_than(record_of(*probes), 3)] == [True, False]


def test_a_second_outage_is_one_too_many() -> None:
    probes = [request(at, None if at in (10.0, 11.0) else "haproxy2") for at in (9.0, 10.0, 10.5, 11.0, 11.5)]
    lost = [replace(probe, ok=probe.who is not None, error=None if probe.who else "refused") for probe in probes]
    assert [each.holds for each in lost_less_than(record_of(*lost), 3)] == [True, False]
    assert [each.holds for each in lost_less_than(record_of(*lost), 3, times=2)] == [True, True]


def test_a_request_that_was_open_at_the_fault_belongs_to_the_outage_that_follows() -> None:
    probes = [request(9.98, None, "reset"), request(10.0, "haproxy1"), request(10.02, None, "timed out")]
    both = lost_less_than(record_of(*probes, request(12.0, "haproxy2")), 3)
    assert [(each.holds, each.text) for each in both] == [
        (True, "no echo lost"),
        (True, "requests lost for 2.020 s (limit 3 s)"),
    ]
    apart = [*probes[:2], request(10.06, None, "timed out"), request(12.0, "haproxy2")]
    assert [each.holds for each in lost_less_than(record_of(*apart), 3)] == [True, False]


def test_a_reset_request_was_torn_if_it_was_open_when_the_traffic_moved() -> None:
    early, open_then, late = (request(at, None, "reset") for at in (9.9, 10.04, 10.07))
    probes = early, open_then, late, request(10.05, None, "timed out")
    record = record_of(*probes)
    assert record.torn == {open_then}
    assert record.seen.lost("request") == 3
    hung = replace(early, rtt=0.2)  # a service without a CPU: no answer yet when the traffic moved
    assert record_of(hung, replace(early, rtt=0.1)).torn == {hung}
    assert record_of(*probes, delays=PAUSE, moves=(10.06, 11.5)).torn == {open_then, late}


def test_what_the_verdict_leaves_out_it_names() -> None:
    torn = request(10.04, None, "reset")
    record = record_of(request(9.0, "haproxy1"), torn, request(11.0, "haproxy2"), moves=(10.05,))
    assert [each.text for each in no_loss(record)] == [
        "0 of 0 echoes lost",
        "0 of 2 requests lost; 1 was reset by the move",
    ]


def event(at: float, host: str, what: str, value: str, reason: str, name: str = "VI_1") -> RunEvent:
    return RunEvent(at, host, what, name, value, reason)


def test_what_has_one_cause_is_one_line_and_the_reason_stands_in_it_once() -> None:
    failed = [
        event(8.7001, "haproxy1", "check", "down", "/run/lab/haproxy1.trigger exists", "trigger"),
        event(8.70015, "haproxy1", "health", "down", "check trigger: /run/lab/haproxy1.trigger exists"),
        event(8.7002, "haproxy1", "role", "fault", "check trigger: /run/lab/haproxy1.trigger exists"),
        event(8.7003, "haproxy1", "rank", "none", "check trigger: /run/lab/haproxy1.trigger exists"),
        event(8.7004, "haproxy1", "session", "idle", "not told here"),
        event(8.7005, "haproxy2", "role", "master", "no advert"),
        event(9.9, "haproxy1", "role", "backup", "it is well"),
    ]
    groups = group_by_cause(reversed(failed))
    assert [describe(group) for group in groups] == [
        "haproxy1  check trigger down, FAULT, rank none: /run/lab/haproxy1.trigger exists",
        "haproxy2  MASTER: no advert",
        "haproxy1  BACKUP: it is well",
    ]


def shown(record: Record) -> list[str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        Feed(Screen(), record, "/run/lab").close()
    return out.getvalue().splitlines()


def test_the_screen_shows_everything_in_order_of_time_within_80_columns() -> None:
    record = record_of(*(request(101.005 + n / 100, "haproxy1" if n < 140 else "haproxy2") for n in range(400)))
    record.started_at = 100.0
    record.probes[120] = request(record.probes[120].at, None, "refused")
    long = "192.168.143.227 stopped being master because of " + "a reason that is rather long " * 3
    record.events += [
        event(102.41, "haproxy2", "role", "master", long),
        event(102.4, SCENE, "", "", "touch the trigger file"),
        event(100.5, SCENE, "", "", "start floatip on haproxy1"),
    ]
    lines = shown(record)
    times = [float(line[:6]) for line in lines if line[:6].strip()]
    assert times == sorted(times) == [0.5, 1.0, 2.0, 2.4, 2.41, 3.0], "the fourth second is like the third"
    assert all(len(line) <= 80 for line in lines)
    assert any(re.search("1{8,}x1{8,}2{28,}$", line) for line in lines)
    assert "haproxy1 stopped being master" in "\n".join(lines), "addresses of nodes are shown as names"
    assert "a character 20 ms" in lines[1]
    assert not [line for line in lines if "\x1b" in line], "no colour but on a terminal"


def all_of(terminal: int) -> str:
    """What was written to a terminal whose other end is closed: one read returns as little as a line."""
    printed = b""
    with open(terminal, "rb", buffering=0) as reader, contextlib.suppress(OSError):  # EIO is its end
        while part := reader.read(4096):
            printed += part
    return printed.decode()


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_colour_and_bold_are_for_terminals_that_want_them(
    environment: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ours, theirs = os.openpty()
    with open(theirs, "w") as terminal, contextlib.redirect_stdout(terminal):
        Screen().verdicts([Verdict(True, "good"), Verdict(False, "bad")], ["noted"])
    printed = all_of(ours)
    assert ("\x1b[" in printed) == coloured
    plain = re.sub("\x1b[^m]*m", "", printed).split("\r\n")
    assert plain[:3] == ["  ok      good", "  FAILED  bad", "  note    noted"]


@pytest.mark.parametrize(("interval", "version", "down"), [(1.0, 2, 3.805), (2.0, 2, 6.805), (1.5, 3, 5.707)])
def test_adverts_of_whole_seconds_are_version_2_and_others_version_3(
    interval: float, version: int, down: float
) -> None:
    options = RunOptions(advert_interval=interval)
    assert options.vrrp_version == version
    assert options.master_down_interval == pytest.approx(down, abs=0.001)


def test_a_command_is_judged_by_its_status_and_its_words() -> None:
    done = Answer("floatip drain on haproxy1", 0, "done in 0.11 s: haproxy2 carries VI_1")
    refused = Answer("floatip drain on haproxy1", 1, "error: drain refused: haproxy2 is drained")
    failed = Answer("floatip drain on haproxy1", 3, "error: no floatip daemon answers: refused")
    assert [was_done(each).holds for each in (done, refused, failed)] == [True, False, False]
    assert [was_done(done, what).holds for what in ("haproxy2 carries", "stays here")] == [True, False]
    assert [was_refused(each, "is drained").holds for each in (done, refused, failed)] == [False, True, False]
    verdict = was_refused(refused, "is silent")
    assert not verdict.holds
    assert "is silent" in verdict.text
    assert refused.text in verdict.text


def test_changes_of_role_are_counted_for_each_node_from_an_instant_on() -> None:
    record = record_of()
    roles = [
        (1, "haproxy1", "master"),
        (12, "haproxy1", "backup"),
        (12, "haproxy2", "master"),
        (13, "haproxy2", "backup"),
    ]
    record.events = [RunEvent(at, node, "role", "VI_1", role, "") for at, node, role in roles]
    assert [verdict.holds for verdict in changes_role(record, 10, 1)] == [True, False]
    assert [verdict.holds for verdict in changes_role(record, 10, 2)] == [True, True]


def test_a_silent_node_is_noticed_by_the_link_sooner_than_by_vrrp() -> None:
    assert RunOptions(election="nodes").detection_time < 0.4
    assert RunOptions().detection_time == RunOptions().master_down_interval


@pytest.mark.parametrize(("outage", "holds"), [(0.85, True), (0.95, False)])
def test_in_a_vlan_a_handover_may_cost_the_skew_time_and_a_connection_that_was_open_then(
    outage: float, holds: bool
) -> None:
    lost = ProbeResult("echo", 10.0, ok=False), ProbeResult("echo", 10.0 + outage, ok=True, who="haproxy2")
    torn = request(9.99, None, RESET)
    record = replace(record_of(*lost, torn, moves=[10.0]), options=RunOptions(shared_layer2=True))
    assert [verdict.holds for verdict in handed_over(record)] == [holds, True]


def test_what_a_node_takes_back_at_once_is_a_line_of_its_own_with_its_own_reason() -> None:
    pause = [
        event(9.000, "haproxy2", "etcd", "lost", "no endpoint of etcd answers", "etcd"),
        event(9.010, "haproxy2", "etcd", "answers", "it did not for 0.0 s", "etcd"),
    ]
    assert [describe(group) for group in group_by_cause(pause)] == [
        "haproxy2  etcd lost: no endpoint of etcd answers",
        "haproxy2  etcd answers: it did not for 0.0 s",
    ]


def test_who_the_owner_is_reads_as_a_sentence() -> None:
    owner = [event(9.0, "haproxy2", "owner", "haproxy1", "no other node was master")]
    assert describe(owner) == "haproxy2  owner of VI_1 haproxy1: no other node was master"


def test_of_a_command_that_is_done_the_record_has_its_last_line_without_the_hint() -> None:
    assert last_line("NODE  CARRIES\n[1/1] VI_1 -> haproxy2: done in 0.2 s\nthe move is done\n") == "the move is done"
    assert last_line("haproxy1 is no member any more\nhint: to come back: floatip fleet join\n\n")[:8] == "haproxy1"
    assert last_line("") == ""


def test_where_there_are_several_instances_each_is_named() -> None:
    mine = [event(9.0, "haproxy2", "role", "master", "no advert"), event(9.0, "haproxy2", "rank", "takeover", "")]
    assert describe(mine, several=True) == "haproxy2  VI_1 MASTER, rank of VI_1 takeover: no advert"


@pytest.mark.parametrize("three", [False, True])
def test_what_the_characters_mean_fits_on_two_lines_and_names_the_nodes_that_there_are(three: bool) -> None:
    record = record_of(*(request(101.005 + n / 100, "haproxy1") for n in range(200)))
    record.started_at, record.options = 100.0, RunOptions(three=three)
    lines = shown(record)
    begin = next(number for number, line in enumerate(lines) if "a line is a second" in line)
    assert lines[begin + 1].endswith("left out")
    assert ("haproxy4" in lines[begin + 1]) is three


def test_a_process_that_another_thread_started_is_a_child_too() -> None:
    """The daemon starts its processes so. Nobody saw that they had no CPU."""
    started: list[subprocess.Popen[bytes]] = []
    goes_on = threading.Event()

    def start() -> None:
        started.append(subprocess.Popen(["sleep", "60"]))
        goes_on.wait()

    thread = threading.Thread(target=start)
    thread.start()
    try:
        while not started:
            time.sleep(0.01)
        assert started[0].pid in children(os.getpid())
    finally:
        goes_on.set()
        thread.join()
        started[0].kill()
        started[0].wait()
    assert children(started[0].pid) == []
