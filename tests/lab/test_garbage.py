"""Garbage at every door of a running daemon: it is counted and named, and nothing else changes."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from floatip.lab.network import HAPROXY1, HAPROXY2
from floatip.lab.record import RunOptions
from floatip.lab.run import Run

MOST_RSS = 60e6


@pytest.fixture(scope="module")
def stage() -> Iterator[Run]:
    assert os.geteuid() == 0, "the lab's tests need root: sudo .venv/bin/python -m pytest tests/lab"
    with Run(RunOptions()) as stage:
        stage.start(observed=False)
        yield stage


def problems(stage: Run) -> list[str]:
    found: list[str] = [problem["what"] for problem in stage.nodes["haproxy1"].status()["problems"]]
    return found


def roles(stage: Run) -> list[Any]:
    instances = stage.nodes["haproxy1"].status()["instances"]
    return [(each["name"], each["role"]["value"]) for each in instances]


def wait_for_problem(stage: Run, words: str) -> None:
    deadline = time.monotonic() + 30
    while not any(words in problem for problem in problems(stage)):
        assert time.monotonic() < deadline, f"{words!r} is not in {problems(stage)}"
        time.sleep(0.05)


def test_garbage_on_the_raw_socket_is_counted_and_named(stage: Run) -> None:
    before = roles(stage)
    assert HAPROXY1.ipv4
    with stage.network.inside(HAPROXY2.name), socket.socket(socket.AF_INET, socket.SOCK_RAW, 112) as raw:
        for data in (b"", b"x", os.urandom(20), b"\x21\x33\x00" + os.urandom(17), os.urandom(1400)):
            raw.sendto(data, (str(HAPROXY1.ipv4.ip), 0))
    wait_for_problem(stage, "packets of VRRP")
    assert roles(stage) == before


def test_an_advert_from_a_stranger_is_counted_and_named(stage: Run) -> None:
    assert HAPROXY1.ipv4
    # Priority 255 in version 2 for vrid 51, from the observer: whoever believed it would step down.
    advert = bytes.fromhex("2133ff010001") + b"\0\0" + socket.inet_aton("192.168.223.158") + bytes(8)
    total = sum(int.from_bytes(advert[i : i + 2]) for i in range(0, len(advert), 2))
    total = (total & 0xFFFF) + (total >> 16)
    advert = advert[:6] + (~total & 0xFFFF).to_bytes(2) + advert[8:]
    with stage.network.inside("haproxy3"), socket.socket(socket.AF_INET, socket.SOCK_RAW, 112) as raw:
        raw.sendto(advert, (str(HAPROXY1.ipv4.ip), 0))
    wait_for_problem(stage, "not a peer")
    assert roles(stage) == [("VI_1", "master")]


def test_garbage_on_the_control_socket_is_answered_counted_and_named(stage: Run) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(stage.nodes["haproxy1"].socket))
        client.sendall(b"\xff\x00garbage\n[]\n{}\n")
        with client.makefile("rb") as lines:
            answers = [json.loads(lines.readline()) for _ in range(3)]
    assert all("hint" in answer for answer in answers)
    wait_for_problem(stage, "control socket")
    assert roles(stage) == [("VI_1", "master")]


def test_garbage_on_a_bgp_connection_costs_that_session_only(stage: Run) -> None:
    stage.servers["rs4"].kill()
    with stage.network.inside("rs4"):
        listener = socket.create_server(("::", 179), family=socket.AF_INET6, reuse_port=False)
    with listener:
        listener.settimeout(30)
        served = 0
        while served < 2:  # both nodes dial, in any order
            connection, (address, *_) = listener.accept()
            with connection:
                connection.settimeout(30)
                connection.sendall(os.urandom(64))
                with suppress(ConnectionError):  # it may close before it has read all
                    while connection.recv(65536):
                        pass
            served += address == str(HAPROXY1.ipv6)
    wait_for_problem(stage, "malformed")
    sessions = stage.nodes["haproxy1"].status()["sessions"]
    assert [each["state"] for each in sessions][:3] == ["established"] * 3
    assert roles(stage) == [("VI_1", "master")]
    stage.servers["rs4"].start()
    stage.wait_for(lambda: stage.nodes["haproxy1"].status()["sessions"][3]["state"] == "established", "rs4 to be back")


def test_the_daemon_stays_small(stage: Run) -> None:
    pid = stage.nodes["haproxy1"].pid
    rss = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    print(f"RSS {rss / 1e6:.1f} MB")
    assert rss < MOST_RSS
