"""Garbage at every door of a running daemon: it is counted and named, and nothing else changes."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from floatip.core.problems import Code
from floatip.lab.network import HAPROXY1, HAPROXY2, ROUTE_SERVERS
from floatip.lab.record import RunOptions
from floatip.lab.run import Run

MOST_RSS = 60e6


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    assert os.geteuid() == 0, "the lab's tests need root: sudo .venv/bin/python -m pytest tests/lab"
    with Run(RunOptions()) as run:
        run.start(observed=False)
        yield run


def roles(run: Run) -> list[Any]:
    instances = run.nodes["haproxy1"].status()["instances"]
    return [(each["name"], each["role"]["value"]) for each in instances]


def codes(run: Run) -> set[tuple[str, str]]:
    return {(each["code"], each["subject"]) for each in run.nodes["haproxy1"].status()["problems"]}


def wait_for_problem(run: Run, code: Code, subject: str) -> None:
    run.wait_for(lambda: (code, subject) in codes(run), f"the problem {code} of {subject}")


def test_garbage_on_the_raw_socket_is_counted_and_named(run: Run) -> None:
    before = roles(run)
    assert HAPROXY1.ipv4
    with run.network.inside(HAPROXY2.name), socket.socket(socket.AF_INET, socket.SOCK_RAW, 112) as raw:
        for data in (b"", b"x", os.urandom(20), b"\x21\x33\x00" + os.urandom(17), os.urandom(1400)):
            raw.sendto(data, (str(HAPROXY1.ipv4.ip), 0))
    wait_for_problem(run, Code.ADVERTS_DROPPED, "VRRP")
    assert roles(run) == before


def test_an_advert_from_a_stranger_is_counted_for_its_instance(run: Run) -> None:
    assert HAPROXY1.ipv4
    # Priority 255 in version 2 for vrid 51, from the observer: whoever believed it would step down.
    advert = bytes.fromhex("2133ff010001") + b"\0\0" + socket.inet_aton("192.168.223.158") + bytes(8)
    total = sum(int.from_bytes(advert[i : i + 2]) for i in range(0, len(advert), 2))
    total = (total & 0xFFFF) + (total >> 16)
    advert = advert[:6] + (~total & 0xFFFF).to_bytes(2) + advert[8:]
    with run.network.inside("haproxy3"), socket.socket(socket.AF_INET, socket.SOCK_RAW, 112) as raw:
        raw.sendto(advert, (str(HAPROXY1.ipv4.ip), 0))
    wait_for_problem(run, Code.ADVERTS_DROPPED, "VI_1")
    assert roles(run) == [("VI_1", "master")]


def test_garbage_on_the_control_socket_is_answered_and_counted_and_ends_the_connection(run: Run) -> None:
    before, rejected = codes(run), run.nodes["haproxy1"].status()["control_requests_rejected"]
    for garbage in (b"\xff\x00garbage\n", b"[]\n", b"{}\n"):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(run.nodes["haproxy1"].socket))
            client.sendall(garbage)
            with client.makefile("rb") as lines:
                assert "hint" in json.loads(lines.readline()), garbage
                assert not lines.readline(), "what was not understood ends the connection"
    assert run.nodes["haproxy1"].status()["control_requests_rejected"] == rejected + 3
    assert codes(run) - before == {(Code.CONTROL_MISUSE, "control socket")}
    assert roles(run) == [("VI_1", "master")]


def test_garbage_on_a_bgp_connection_costs_that_session_only(run: Run) -> None:
    run.servers["rs4"].kill()
    with run.network.inside("rs4"):
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
    wait_for_problem(run, Code.MALFORMED_MESSAGES, str(ROUTE_SERVERS[3].ipv6))
    sessions = run.nodes["haproxy1"].status()["sessions"]
    assert [each["state"] for each in sessions][:3] == ["established"] * 3
    assert roles(run) == [("VI_1", "master")]
    run.servers["rs4"].start()
    run.wait_for(lambda: run.nodes["haproxy1"].status()["sessions"][3]["state"] == "established", "rs4 to be back")


def test_the_daemon_stays_small(run: Run) -> None:
    pid = run.nodes["haproxy1"].pid
    rss = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    print(f"RSS {rss / 1e6:.1f} MB")
    assert rss < MOST_RSS
