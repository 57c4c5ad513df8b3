"""What a scene's verdict forgives: what the machine did, and nothing else."""

import os
import time

import pytest

from floatip.lab.findings import answered_only_by, connections_torn, lost_less_than, moved_to
from floatip.lab.net import HAPROXY1, HAPROXY2, ROUTER, Move
from floatip.lab.pulse import HoldUp, Pulse, held_up, run_delay
from floatip.lab.stage import Options, Record
from floatip.lab.summary import Probe, Summary

PAUSE = [HoldUp(10.02, 11.5), HoldUp(11.3, 11.52), HoldUp(11.6, 11.7)]


def test_held_up_is_the_time_in_which_anything_was() -> None:
    assert held_up([], 10, 11) == 0
    assert held_up(PAUSE, 9, 10.01) == 0
    assert held_up(PAUSE, 10.01, 10.5) == pytest.approx(0.48)
    assert held_up(PAUSE, 11.4, 11.55) == pytest.approx(0.12)
    assert held_up(PAUSE, 10.01, 99) == pytest.approx(1.6)
    assert held_up(PAUSE, 12, 99) == 0


def test_the_pulse_finds_a_pause_and_nothing_on_a_machine_that_goes_on() -> None:
    found: list[HoldUp] = []
    looks: list[float] = []

    def pids() -> list[int]:
        if len(looks) == 3:
            time.sleep(0.2)  # as if the machine stood still
        looks.append(time.monotonic())
        return [os.getpid(), 1 << 30]

    pulse = Pulse(pids, found)
    deadline = time.monotonic() + 30
    while len(looks) < 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    pulse.close()
    assert len(looks) >= 6
    assert held_up(found, looks[3] - 0.2, looks[4]) > 0.15
    print(f"{len(found)} hold-ups: {found}")
    assert run_delay(1 << 30) == 0


def record_of(*probes: Probe, hold_ups: list[HoldUp]) -> tuple[Record, Summary]:
    moves = {ROUTER: [Move(9.0, HAPROXY1.ipv6), Move(10.06, HAPROXY2.ipv6)]}
    return Record(Options(), probes=list(probes), moves=moves, hold_ups=hold_ups), Summary.from_probes(probes)


def request(at: float, who: str | None, error: str | None = None) -> Probe:
    return Probe("request", at, ok=error is None, who=who, error=error)


def test_an_answer_of_the_wrong_node_is_forgiven_only_while_the_machine_held_the_lab_up() -> None:
    probes = request(11.53, "haproxy1"), request(11.6, "haproxy2")
    record, seen = record_of(*probes, hold_ups=PAUSE)
    finding = moved_to(record, seen, "haproxy2", 10.0, "it")
    assert finding.holds
    assert finding.text == "haproxy2 gave all 2 answers after it, but 1 while the machine held it up"
    record, seen = record_of(*probes, hold_ups=[])
    assert not moved_to(record, seen, "haproxy2", 10.0, "it").holds
    assert not answered_only_by(seen, "haproxy2", 10.05, "it").holds, "where nothing moves nothing is forgiven"
    record, seen = record_of(*probes, request(12.5, "haproxy1"), hold_ups=PAUSE)
    finding = moved_to(record, seen, "haproxy2", 10.0, "it")
    assert finding.text == "1 of 3 answers after it not by haproxy2, the last 2450 ms late"


def test_an_outage_may_be_longer_by_what_the_machine_held_up() -> None:
    probes = request(10.0, None, "timed out"), request(12.0, "haproxy2")
    assert [f.holds for f in lost_less_than(*record_of(*probes, hold_ups=PAUSE), 0.5, 1)] == [True, True]
    assert [f.holds for f in lost_less_than(*record_of(*probes, hold_ups=PAUSE), 0.1, 1)] == [True, False]
    assert [f.holds for f in lost_less_than(*record_of(*probes, hold_ups=[]), 0.5, 1)] == [True, False]


def test_a_reset_request_was_torn_if_it_was_open_when_the_fabric_moved() -> None:
    early, open_then, late = (request(at, None, "reset") for at in (9.9, 10.04, 10.07))
    lost = request(10.05, None, "timed out")
    record, _ = record_of(early, open_then, late, lost, hold_ups=[])
    assert connections_torn(record) == {open_then}
    record.moves[ROUTER].append(Move(11.5, HAPROXY1.ipv6))
    record.hold_ups.extend(PAUSE)
    assert connections_torn(record) == {open_then, late}
