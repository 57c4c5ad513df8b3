"""`floatip drain` and its like against a made daemon: what they ask, what they show, and how they exit."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from floatip import verbs
from floatip.arguments import parse
from floatip.commands import COMMANDS
from tests.command_line import floatip

DONE = {"done": True, "refused": "", "hint": "", "waiting": []}
WAITS = DONE | {"done": False, "waiting": ["web: haproxy2 takes over"]}


@contextmanager
def daemon(directory: Path, *answers: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Gives the answers in turn, and then the last one again; yields the requests."""
    path, requests, stopping = directory / "floatip.sock", list[dict[str, Any]](), Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while True:
                client, _ = listener.accept()
                with client, client.makefile("rb") as lines:
                    line = lines.readline()
                    if stopping.is_set():
                        return
                    requests.append(json.loads(line))
                    answer = answers[min(len(requests), len(answers)) - 1]
                    client.sendall(json.dumps(answer).encode() + b"\n")

        thread = Thread(target=serve)
        thread.start()
        try:
            yield requests
        finally:
            stopping.set()
            with socket.socket(socket.AF_UNIX) as last:
                last.connect(str(path))
            thread.join()


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        ("drain", {"cmd": "drain", "reason": "", "for": None, "withdraw": False, "force": False}),
        (
            "drain --reason kernel --for 1h30m --force",
            {"cmd": "drain", "reason": "kernel", "for": 5400.0, "withdraw": False, "force": True},
        ),
        ("undrain", {"cmd": "undrain"}),
        ("handover", {"cmd": "handover", "instance": None, "to": None, "force": False}),
        ("handover web --to b --force", {"cmd": "handover", "instance": "web", "to": "b", "force": True}),
        ("pause", {"cmd": "pause", "for": None, "reason": ""}),
        ("pause --for 90s --reason why", {"cmd": "pause", "for": 90.0, "reason": "why"}),
        ("resume", {"cmd": "resume"}),
    ],
)
def test_each_command_is_one_request(runtime: Path, line: str, request_: dict[str, Any]) -> None:
    with daemon(runtime, DONE) as requests:
        status, said = floatip(*line.split())
    assert (status, requests) == (0, [request_])
    assert said.startswith("done in 0.")


def test_a_command_asks_until_it_is_done_and_shows_each_step_once(runtime: Path) -> None:
    second = WAITS | {"waiting": ["web: haproxy2 takes over", "mail: haproxy2 takes over"]}
    done = DONE | {"result": "haproxy2 carries web, mail"}
    with daemon(runtime, WAITS | {"order": 7}, WAITS | {"order": 7}, second | {"order": 7}, done) as requests:
        status, said = floatip("drain")
    assert status == 0
    assert [request.get("order") for request in requests] == [None, 7, 7, 7], "another client may have asked since"
    assert [request["cmd"] for request in requests] == ["drain", "verb-status", "verb-status", "verb-status"]
    *steps, end = said.splitlines()
    assert steps == ["web: haproxy2 takes over", "mail: haproxy2 takes over"]
    assert end.startswith("done in ")
    assert end.endswith(" s: haproxy2 carries web, mail")


@pytest.mark.parametrize("before", [[], [WAITS]])
def test_a_refusal_says_why_and_what_to_do(runtime: Path, before: list[dict[str, Any]]) -> None:
    refused = DONE | {"done": False, "refused": "haproxy2 is not healthy", "hint": "repair it, or use --force"}
    with daemon(runtime, *before, refused):
        status, said = floatip("handover", "web")
    assert status == 1
    assert said.endswith(
        "error: handover refused: haproxy2 is not healthy [daemon-refuses]\nhint: repair it, or use --force\n"
    )


def test_a_command_that_is_not_done_in_time_says_what_it_waits_for(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verbs, "LIMIT", 0.0)
    with daemon(runtime, WAITS):
        status, said = floatip("drain")
    assert status == 1
    assert (
        "error: drain is not done after 0 s; the daemon waits for: web: haproxy2 takes over [not-done-yet]\nhint: "
        in said
    )
    assert said.endswith("to take it back: floatip undrain\n")


def test_without_a_daemon_and_for_a_user_who_may_not_the_exit_status_is_that_of_status(runtime: Path) -> None:
    assert floatip("drain")[0] == 3
    with daemon(runtime, {"error": "user 7 may not drain", "hint": "root may", "forbidden": True}):
        assert floatip("drain") == (4, "error: user 7 may not drain [not-allowed]\nhint: root may\n")


def test_nothing_that_the_daemon_says_is_a_command_to_the_terminal(runtime: Path) -> None:
    evil = "\x1b[2K"
    with daemon(runtime, WAITS | {"waiting": [evil]}, DONE | {"result": evil}):
        assert evil not in floatip("drain")[1]


@pytest.mark.parametrize("verb", sorted(verbs.TAKE_BACK))
def test_ctrl_c_says_what_goes_on_and_how_to_take_it_back(runtime: Path, verb: str) -> None:
    command = [sys.executable, "-m", "floatip", verb]
    environment = {**os.environ, "RUNTIME_DIRECTORY": str(runtime)}
    pipe = subprocess.PIPE
    with (
        daemon(runtime, WAITS),
        subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process,
    ):
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "web: haproxy2 takes over\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert f"the daemon goes on. Take it back: {verbs.TAKE_BACK[verb]}\n" in process.stderr.read()


# Open connections that go on here


def kept(count: int | None, until: float = 1e9) -> dict[str, Any]:
    nodes = ["haproxy2"] if count else []
    return DONE | {"order": 7, "kept": {"connections": count, "nodes": nodes, "until": until if count else None}}


GONE = DONE | {"order": 7, "kept": None, "gone": "all that this node carried has moved away"}


@pytest.mark.parametrize(
    ("verb", "then"),
    [
        ("drain", "to wait for them: floatip drain --wait"),
        # A second `floatip handover --wait` is refused, or hands over the instances that were to stay.
        ("handover", "floatip status says how many are left"),
    ],
)
def test_a_move_waits_for_the_last_connection_only_where_it_is_asked_to(runtime: Path, verb: str, then: str) -> None:
    with daemon(runtime, kept(312)) as requests:
        status, said = floatip(verb)
    assert status == 0
    assert len(requests) == 1
    done, left = said.splitlines()
    assert done.startswith("done in ")
    assert left.startswith("312 connections go on here by haproxy2, for ")
    assert left.endswith(f" at most; {then}")


@pytest.mark.parametrize("verb", ["drain", "handover"])
def test_with_wait_a_move_is_done_when_the_last_connection_has_gone(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setattr(verbs, "KEPT_INTERVAL", 0.01)
    with daemon(runtime, WAITS | {"order": 7}, kept(None), kept(312), kept(1), GONE) as requests:
        status, said = floatip(verb, "--wait")
    assert status == 0
    assert [one["cmd"] for one in requests] == [verb, *["verb-status"] * 4]
    assert [one.get("order") for one in requests] == [None, 7, 7, 7, 7]
    waits, done, left, gone = said.splitlines()
    assert waits == "web: haproxy2 takes over"
    assert done.startswith("done in ")
    assert left.startswith("312 connections go on here by haproxy2, for "), "a line each 10 s, where it is no terminal"
    assert gone.startswith("after ")
    assert gone.endswith(" s: all that this node carried has moved away")


def test_how_many_are_left_is_said_again_after_a_while(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbs, "KEPT_INTERVAL", 0.01)
    monkeypatch.setattr(verbs, "SAID_INTERVAL", 0.0)
    with daemon(runtime, kept(312), kept(1), GONE):
        said = floatip("drain", "--wait")[1].splitlines()
    assert [line.partition(" on here")[0] for line in said[1:3]] == ["312 connections go", "1 connection goes"]


def test_a_drain_that_is_taken_back_while_it_waits_ends_the_waiting(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verbs, "KEPT_INTERVAL", 0.01)
    refused = DONE | {"done": False, "refused": "this node is not drained any more", "hint": "floatip nodes"}
    with daemon(runtime, kept(312), refused):
        status, said = floatip("drain", "--wait")
    assert status == 1
    assert "error: drain ended: this node is not drained any more" in said


def test_a_daemon_that_does_not_know_of_connections_makes_nobody_wait(runtime: Path) -> None:
    with daemon(runtime, DONE) as requests:
        status, said = floatip("drain", "--wait")
    assert (status, len(requests)) == (0, 1)
    assert said.endswith(": no connection of what has moved goes on here\n")


def test_on_a_terminal_one_line_is_written_again(runtime: Path) -> None:
    ours, its = os.openpty()
    environment = {**os.environ, "RUNTIME_DIRECTORY": str(runtime), "COLUMNS": "80"}
    command = [sys.executable, "-m", "floatip", "drain", "--wait"]
    with daemon(runtime, kept(312), kept(7), GONE), subprocess.Popen(command, stdout=its, env=environment) as process:
        assert process.wait(60) == 0
    os.close(its)
    said = b""
    with suppress(OSError):  # EIO: the other end is closed, and all is read
        while part := os.read(ours, 65536):
            said += part
    os.close(ours)
    done, left, gone, _ = said.decode().replace("\r\n", "\n").split("\n")
    assert done.startswith("done in ")
    first, second = left.split("\r")[1:]
    assert first.startswith("312 connections go on here by haproxy2")
    assert second.startswith("7 connections go on here by haproxy2")
    assert len(second) == len(first), "nothing of the longer line is left"
    assert gone.startswith("after ")


def test_ctrl_c_while_connections_go_on_says_that_the_drain_goes_on(runtime: Path) -> None:
    command = [sys.executable, "-m", "floatip", "drain", "--wait"]
    environment = {**os.environ, "RUNTIME_DIRECTORY": str(runtime)}
    pipe = subprocess.PIPE
    with (
        daemon(runtime, kept(312)),
        subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process,
    ):
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        assert process.stdout.readline().startswith("312 connections go on here")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        said = process.stderr.read()
    assert "the drain goes on, and so do the connections. Take it back: floatip undrain\n" in said


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1h1m1s", 3661), ("0h5s", 5)]
)
def test_a_duration_has_hours_minutes_and_seconds(text: str, seconds: float) -> None:
    assert parse(COMMANDS["drain"], ["--for", text])["seconds"] == seconds


@pytest.mark.parametrize(
    "text", ["", "0s", "90", "h", "1d", "30m1h", "-1h", "1.5h", "1 h", "\u0663h", "99999h", "1h\n"]
)
def test_what_is_no_duration_is_refused_before_anything_happens(runtime: Path, text: str) -> None:
    with daemon(runtime, DONE) as requests:
        for verb in ("drain", "pause"):
            status, said = floatip(verb, f"--for={text}")
            assert status == 2
            assert "is not a duration such as 90s, 30m, 2h or 1h30m [usage]\nhint: " in said
    assert requests == []


def test_a_reason_must_fit_into_what_nodes_tell_each_other(runtime: Path) -> None:
    with daemon(runtime, DONE) as requests:
        for text in ("x" * 161, "\u00e9" * 81, "two\nlines"):
            status, said = floatip("drain", "--reason", text)
            assert (status, "is not one line of at most 160 bytes" in said) == (2, True)
        assert requests == []
        assert floatip("drain", "--reason", "\u00e9" * 80)[0] == 0
