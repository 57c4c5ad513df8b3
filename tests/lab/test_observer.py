"""The observer against services on loopback that answer, refuse, reset and hang."""

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from floatip.cli import ended
from floatip.observing.prober import Echoes, Prober, observe
from floatip.observing.report import JsonReport, TextReport
from floatip.observing.summary import ProbeResult, Summary

Behaviour = Callable[[socket.socket], None]


class Named:
    """Says its name over HTTP, and closes first."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(f"HTTP/1.0 200 OK\r\n\r\n{self.name}\n".encode())
        connection.close()


def banner(connection: socket.socket) -> None:
    connection.sendall(b"haproxy1 ready\r\n")
    connection.close()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def hang(connection: socket.socket) -> None:
    """Accepts and says nothing."""


def keep_open(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Node: haproxy1\r\n\r\n")


def haltingly(connection: socket.socket) -> None:
    connection.recv(4096)
    for part in (b"HTTP/1.0 200 ", b"OK\r\n\r\nhap", b"roxy1"):
        connection.sendall(part)
        time.sleep(0.05)
    connection.close()


@contextmanager
def service(behaviour: Behaviour, host: str = "127.0.0.1") -> Iterator[int]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, 0), family=family, backlog=1024)
    accepted: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            accepted.append(connection)
            try:
                behaviour(connection)
            except OSError:
                connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for open_socket in (listener, *accepted):
            open_socket.close()


@contextmanager
def refusing_port() -> Iterator[int]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def started(address: str = "127.0.0.1", **arguments: Any) -> subprocess.Popen[str]:
    # We answer the requests ourselves, and must not come late on a busy machine.
    arguments = {"timeout": 30} | arguments
    call = f"import sys; from floatip.observing.prober import observe; sys.exit(observe({address!r}, **{arguments!r}))"
    return subprocess.Popen([sys.executable, "-c", call], stdout=subprocess.PIPE, text=True)


def observed(address: str = "127.0.0.1", **arguments: Any) -> tuple[int, list[dict[str, Any]]]:
    with started(address, **arguments, as_json=True, probes=True) as process:
        out, _ = process.communicate(timeout=60)
    return process.returncode, [json.loads(line) for line in out.splitlines()]


def read_until(process: subprocess.Popen[str], what: Callable[[str], bool]) -> list[str]:
    """Lines up to one that is so."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if what(line):
            return lines
    raise AssertionError(f"not to be seen in {lines}")


def end(process: subprocess.Popen[str]) -> list[str]:
    """What it says from now on."""
    assert process.stdout is not None
    process.send_signal(signal.SIGINT)
    return process.stdout.readlines()


def probes_in(lines: list[dict[str, Any]]) -> list[ProbeResult]:
    return [ProbeResult.from_json(line) for line in lines if line["event"] == "probe"]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_every_probe_to_a_healthy_service_is_answered_by_name(address: str) -> None:
    with service(Named("haproxy1"), address) as port:
        code, lines = observed(address, port=port, interval=0.02, count=20)
    summary = lines[-1]
    assert code == 0
    assert summary["sent"] == {"echo": 20, "request": 20}
    assert summary["lost"] == {"echo": 0, "request": 0}
    assert summary["answered"] == {"haproxy1": 20}


def test_the_json_stream_adds_up_to_its_own_summary() -> None:
    node = Named("haproxy1")
    with service(node) as port, started(port=port, interval=0.01, as_json=True, probes=True) as process:
        text = read_until(process, lambda line: '"haproxy1"' in line)
        node.name = "haproxy2"
        text += read_until(process, lambda line: '"move"' in line)
        text += read_until(process, lambda line: '"haproxy2"' in line)
        lines = [json.loads(line) for line in [*text, *end(process)]]
    assert lines[0]["event"] == "start"
    assert lines[-1]["event"] == "summary"
    summary = Summary.from_probes(probes_in(lines))
    moves = [(move.source, move.destination) for move in summary.moves()]
    assert moves == [("haproxy1", "haproxy2")]
    assert [(line["from"], line["to"]) for line in lines if line["event"] == "move"] == moves
    assert {key: lines[-1][key] for key in ("sent", "lost", "answered")} == {
        key: summary.to_json()[key] for key in ("sent", "lost", "answered")
    }
    moved_at = summary.moves()[0].at
    assert set(summary.between(moved_at).answers()) == {"haproxy2"}


def test_single_probes_are_not_printed_unless_asked_for() -> None:
    with service(Named("haproxy1")) as port, started(port=port, interval=0.01, count=5, as_json=True) as process:
        out, _ = process.communicate(timeout=60)
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["start", "summary"]


@pytest.mark.parametrize(("behaviour", "error", "timeout"), [(reset, "reset", 30), (hang, "timed out", 0.5)])
def test_a_request_that_is_not_answered_is_lost_though_echoes_are_fine(
    behaviour: Behaviour, error: str, timeout: float
) -> None:
    with service(behaviour) as port:
        code, lines = observed(port=port, interval=0.02, count=10, timeout=timeout)
    assert code == 1
    assert lines[-1]["lost"] == {"echo": 0, "request": 10}
    assert lines[-1]["errors"]["request"] == {error: 10}


def test_a_refused_connection_is_lost_at_once() -> None:
    with refusing_port() as port:
        begun_at = time.monotonic()
        code, lines = observed(port=port, interval=0.02, count=10, timeout=60)
    assert code == 1
    assert lines[-1]["errors"]["request"] == {"refused": 10}
    assert time.monotonic() - begun_at < 30


def test_a_service_that_keeps_the_connection_open_has_answered() -> None:
    arguments: dict[str, Any] = {"interval": 0.02, "count": 10, "as_json": True, "probes": True}
    with service(keep_open) as port, started(port=port, **arguments) as process:
        lines = [line for _ in range(10) for line in read_until(process, lambda line: '"haproxy1"' in line)]
        # It waits for the end of the connections: twice, not to wait any more.
        interrupt(process)
        summary = json.loads(end(process)[-1])
    assert all(probe.ok for probe in probes_in([json.loads(line) for line in lines]))
    assert (process.returncode, summary["answered"]) == (0, {"haproxy1": 10})


def interrupt(process: subprocess.Popen[str]) -> None:
    """Returns when it has taken notice. A second signal that came before that would be none."""
    process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + 30
    while process.poll() is None and not at_rest(process.pid):
        assert time.monotonic() < deadline, "it does not take notice of a signal"
        time.sleep(0.001)


def at_rest(pid: int) -> bool:
    """It sleeps, and no signal is pending: the one that was has woken it up, and it has gone to sleep again."""
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    pending = int(status["SigPnd"], 16) | int(status["ShdPnd"], 16)
    return status["State"].startswith("S") and not pending


def test_an_answer_that_comes_in_pieces_is_read_to_its_end() -> None:
    with service(haltingly) as port:
        code, lines = observed(port=port, interval=0.2, count=3, timeout=30)
    assert (code, lines[-1]["answered"]) == (0, {"haproxy1": 3})


def test_a_tcp_service_is_known_by_its_first_line() -> None:
    with service(banner) as port:
        _, lines = observed(port=port, interval=0.02, count=10, request="tcp")
    assert lines[-1]["answered"] == {"haproxy1 ready": 10}


def test_without_requests_only_echoes_are_sent() -> None:
    code, lines = observed(interval=0.02, count=10, request="none")
    assert (code, lines[-1]["sent"]) == (0, {"echo": 10, "request": 0})


def observed_in_namespace(preparation: str, call: str) -> Summary:
    """As root of a user and a network namespace of its own."""
    script = f'ip link set lo up\n{preparation}\n"$0" -c "from floatip.observing.prober import observe; {call}"\nwait'
    command = ["unshare", "--user", "--map-root-user", "--net", "sh", "-ec", script, sys.executable]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert process.stderr == ""
    return Summary.from_probes(probes_in([json.loads(line) for line in process.stdout.splitlines()]))


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize(
    "permission", ["echo 0 0 > /proc/sys/net/ipv4/ping_group_range", ""], ids=["ping socket", "raw socket"]
)
def test_echoes_are_answered_on_each_kind_of_socket(address: str, permission: str) -> None:
    summary = observed_in_namespace(
        permission,
        f"observe('{address}', interval=0.02, count=10, request='none', as_json=True, probes=True)",
    )
    assert (summary.sent("echo"), summary.lost("echo")) == (10, 0)


def test_an_address_that_goes_and_comes_back_leaves_one_window() -> None:
    add, delete = (f"ip address {verb} 192.0.2.1/32 dev lo" for verb in ("add", "delete"))
    call = "observe('192.0.2.1', port=9, interval=0.02, timeout=30, request='tcp', as_json=True, probes=True)"
    script = f"ip link set lo up; {add}; trap : USR1 USR2 INT\n"
    script += f'"$0" -c "from floatip.observing.prober import observe; {call}" & observer=$!\n'
    script += f"read line; {delete}; echo deleted >&2; read line; {add}; echo added >&2; read line\n"
    script += "kill $observer; wait $observer || true"
    command = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", script, sys.executable]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stderr is not None

        def go_on() -> None:
            print(file=process.stdin, flush=True)

        lines = read_until(process, lambda line: '"echo"' in line and '"ok": true' in line)
        deletes_at = time.monotonic()
        go_on()
        assert process.stderr.readline() == "deleted\n"
        lines += [line for _ in range(5) for line in read_until(process, lambda line: "unreachable" in line)]
        adds_at = time.monotonic()
        go_on()
        assert process.stderr.readline() == "added\n"
        added_at = time.monotonic()
        lines += read_until(process, lambda line: '"echo"' in line and '"ok": true' in line)
        go_on()
        lines += process.stdout.readlines() if process.stdout else []
        assert process.stderr.read() == ""
    summary = Summary.from_probes(probes_in([json.loads(line) for line in lines]))
    (window,) = summary.windows("echo")
    assert deletes_at < window.first_lost_at < window.last_lost_at < added_at
    assert window.next_good_at is not None
    assert window.next_good_at > adds_at
    assert window.lost >= 2
    assert summary.errors("echo") == {"network is unreachable": window.lost}
    assert set(summary.errors("request")) == {"refused", "network is unreachable"}


def test_no_slot_is_missing_at_2_ms() -> None:
    seconds, interval = 2, 0.002
    slots = round(seconds / interval)
    arguments: dict[str, Any] = {
        "interval": interval,
        "duration": seconds,
        "timeout": 5,
        "as_json": True,
        "probes": True,
    }
    with service(Named("haproxy1")) as port, started(port=port, **arguments) as process:
        assert process.stdout is not None
        lines = [json.loads(line) for line in process.stdout]
        needed = cpu_of_the_ended(process.pid)
    start, summary = lines[0], Summary.from_probes(probes_in(lines))
    for kind in ("echo", "request"):
        sent = summary.of(kind)
        rate = (len(sent) - 1) / (sent[-1].at - sent[0].at)
        print(f"{kind}: {len(sent)} sent, {rate:.1f} a second, late at most {summary.late_max * 1000:.2f} ms")
        assert [round((probe.at - probe.late - start["at"]) / interval) for probe in sent] == list(range(slots))
    # How fast it is depends on who else has the CPUs, what it needs for that does not.
    assert needed < 2 * seconds
    assert (summary.lost("echo"), summary.lost("request")) == (0, 0)


def cpu_of_the_ended(pid: int) -> float:
    """Seconds."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def test_a_paused_observer_sends_the_missed_slots_and_owns_up_to_being_late() -> None:
    with service(Named("haproxy1")) as port:
        interval = 0.01
        with started(port=port, interval=interval, as_json=True, probes=True) as process:
            text = read_until(process, lambda line: '"haproxy1"' in line)
            process.send_signal(signal.SIGSTOP)
            time.sleep(0.5)
            process.send_signal(signal.SIGCONT)
            text += read_until(process, lambda line: is_late(line, 0.4))
            text += [line for _ in range(60) for line in read_until(process, lambda line: '"haproxy1"' in line)]
            lines = [json.loads(line) for line in [*text, *end(process)]]
    start, summary = lines[0], Summary.from_probes(probes_in(lines))
    for kind in ("echo", "request"):
        sent = [round((probe.at - probe.late - start["at"]) / interval) for probe in summary.of(kind)]
        assert sent == list(range(lines[-1]["sent"][kind]))
    assert lines[-1]["lost"] == {"echo": 0, "request": 0}
    assert lines[-1]["late_max_ms"] > 400


def is_late(line: str, seconds: float) -> bool:
    return any(probe.late > seconds for probe in probes_in([json.loads(line)]))


def test_what_is_not_answered_while_the_observer_itself_stands_still_is_not_lost_yet() -> None:
    """A machine that pauses stops the service too."""
    with service(hang) as port:
        report, echoes = JsonReport(probes=False), Echoes(socket.AF_INET)
        prober = Prober(("127.0.0.1", port), socket.AF_INET, 0.01, 1.0, 1, "tcp", b"", report, echoes)
        now = time.monotonic()
        prober._look(now)
        prober._send_request(now)
        prober._look(now + 0.02)
        prober._look(now + 3)  # it stood still
        prober._expire(now + 3)
        assert prober.probes == []
        prober._look(now + 3.02)
        prober._expire(now + 4.5)
        assert [probe.error for probe in prober.probes] == ["timed out"]
        prober.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_the_summary(number: signal.Signals) -> None:
    with service(Named("haproxy1")) as port, started(port=port, interval=0.02, as_json=True, probes=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(20)]
        process.send_signal(number)
        lines += process.stdout.readlines()
    summary = json.loads(lines[-1])
    assert process.returncode == 0
    assert summary["event"] == "summary"
    assert summary["sent"]["echo"] == summary["sent"]["request"]
    assert sum(summary["sent"].values()) == len(lines) - 2


def test_a_second_signal_does_not_wait_for_a_service_that_hangs() -> None:
    with service(hang) as port, started(port=port, interval=0.02, timeout=60, as_json=True, probes=True) as process:
        assert process.stdout is not None
        for _ in range(10):
            process.stdout.readline()
        interrupt(process)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        last = process.stdout.readlines()[-1]
    assert json.loads(last)["event"] == "summary"


def test_a_person_sees_a_line_a_second_the_move_and_the_summary() -> None:
    node = Named("haproxy1")
    with service(node) as port, started(port=port, interval=0.1) as process:
        # Not in every second: a probe that is sent late is shown where it was sent.
        lines = read_until(process, lambda line: line.endswith(" haproxy1 |..........| lost 0 echoes, 0 requests\n"))
        node.name = "haproxy2"
        lines += read_until(process, lambda line: line.endswith(" moved haproxy1 -> haproxy2\n"))
        lines += end(process)
    out = "".join(lines)
    assert out.isascii()
    sent = dict(re.findall(r"^(echoes|requests) +(\d+) sent, 0 lost", out, re.MULTILINE))
    assert sent.keys() == {"echoes", "requests"}
    assert sent["echoes"] == sent["requests"]
    assert "answered   haproxy1 " in out


def test_losses_are_marked_in_the_strip_and_listed_with_their_reason() -> None:
    with refusing_port() as port, started(port=port, interval=0.1) as process:
        read_until(process, lambda line: line.endswith(" - |xxxxxxxxxx| lost 0 echoes, 10 requests (refused)\n"))
        out = "".join(end(process))
    found = re.search(r"^requests +(\d+) sent, \1 lost \(\1 refused\)$", out, re.MULTILINE)
    assert found
    assert f"  {found[1]} lost from " in out


def test_moves_and_seconds_are_printed_in_order_of_time(capsys: pytest.CaptureFixture[str]) -> None:
    report = TextReport(100.0, 0.5)
    names = ["haproxy1", "haproxy1", "haproxy1", "haproxy2", "haproxy2", "haproxy1"]
    probes = [ProbeResult("request", 100 + n / 2, True, who=name) for n, name in enumerate(names)]
    for move in Summary.from_probes(probes).moves():
        report.move(move)
    for probe in reversed(probes):
        report.probe(probe)
    report.settled(102.9)
    report.summary(Summary.from_probes(probes))
    printed = capsys.readouterr().out.splitlines()
    seconds = [" ".join(line.split()[1:4]) for line in printed if not line.startswith(("req", "moved", "ans", "obs"))]
    assert seconds == [
        "haproxy1 |..| lost",
        "haproxy1 haproxy2 |..|",
        "moved haproxy1 ->",
        "haproxy2 haproxy1 |..|",
        "moved haproxy2 ->",
    ]


@pytest.mark.parametrize(("behaviour", "noted"), [(Named("index"), True), (keep_open, False)])
def test_one_name_for_all_is_noted_unless_the_node_names_itself_in_a_header(behaviour: Behaviour, noted: bool) -> None:
    with service(behaviour) as port, started(port=port, interval=0.05, count=3, timeout=0.5) as process:
        out, _ = process.communicate(timeout=60)
    assert ("note       all answers carry one name: 'index' (their first line)" in out) == noted, out
    assert ("X-Node" in out) == noted


def test_a_host_name_is_resolved_once_at_the_start() -> None:
    code, lines = observed("localhost", interval=0.02, count=3, request="none")
    assert (code, lines[0]["name"], lines[-1]["sent"]["echo"]) == (0, "localhost", 3)
    assert lines[0]["address"] in ("127.0.0.1", "::1")


@pytest.mark.parametrize(
    ("address", "arguments", "what"),
    [
        ("haproxy1.invalid", {}, "cannot resolve haproxy1.invalid: "),
        ("192.0.2.1/32", {}, "cannot resolve 192.0.2.1/32: "),
        ("192.0.2.1", {"path": "/ HTTP/1.1\r\nX: y"}, "is not a path"),
    ],
)
def test_what_cannot_be_observed_is_refused_with_a_hint(
    address: str, arguments: dict[str, Any], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(lambda: observe(address, **arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert what in err
    assert "\nhint: " in err


def test_without_permission_for_icmp_the_way_out_is_named() -> None:
    """As nobody, in a network namespace whose ping_group_range still is the kernel's: empty."""
    floatip = [sys.executable, "-m", "floatip"]
    command = ["unshare", "--user", "--net", *floatip, "observe", "127.0.0.1", "--count", "1"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 2
    assert "no permission to send ICMP echoes" in process.stderr
    assert "net.ipv4.ping_group_range" in process.stderr
