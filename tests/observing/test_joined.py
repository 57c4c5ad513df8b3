"""A drill and an observer that has joined it: processes over loopback and in namespaces."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from floatip.drill import observation
from floatip.drill.observation import Target
from floatip.observing import join
from floatip.observing.joined import Joined, joined
from floatip.observing.meeting import CannotMeet
from floatip.observing.signed import MAGIC, NONCE
from floatip.observing.summary import Summary
from tests.command_line import floatip
from tests.host.conftest import Elsewhere
from tests.observing.meet import KEY, LIMIT, OTHER, Observer, key_file, observing, serving, wait_for
from tests.web.process import Daemon


@contextmanager
def joining(observer: Observer | str, key: Path, node: str = "haproxy1") -> Iterator[Joined]:
    one = joined(observer if isinstance(observer, str) else observer.where, key, node)
    try:
        yield one
    finally:
        one.close()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return key_file(tmp_path)


def probed(drill: observation.Observer, least: int = 1) -> tuple[int, int]:
    """Waits until so many were sent."""
    wait_for(lambda: drill.probes_so_far()[0] >= least, drill.probes_so_far)
    return drill.probes_so_far()


def test_a_drill_gets_what_the_observer_probed_in_its_own_time(key: Path) -> None:
    with serving() as service, observing(key, "--name", "client") as observer, joining(observer, key) as drill:
        began = time.monotonic()
        drill.begin(service.target(), 60)
        began_by = time.monotonic()
        sent, lost = probed(drill, 20)
        assert (drill.name, lost) == ("client", 0)
        seen = drill.finish(10)
        ended_by = time.monotonic()
        observer.until("haproxy1 (127.0.0.1) has fetched its recording")
        assert observer.stop() == 0
    assert (seen.observer, seen.seen) == ("client", ())
    summary = Summary.from_probes(seen.probes)
    assert len(seen.probes) >= sent
    assert summary.answers() == {"haproxy1": summary.sent("request")}
    assert {probe.named_by for probe in summary.of("request")} == {"X-Node"}
    assert list(seen.probes) == sorted(seen.probes, key=lambda probe: probe.at)
    # The first was sent before `begin` returned, and on one machine the clocks are the same.
    assert 0 < seen.uncertainty < 0.05
    first = seen.probes[0].at - seen.probes[0].late
    assert began - seen.uncertainty < first < began_by + seen.uncertainty
    assert seen.probes[-1].at < ended_by + seen.uncertainty
    for at, probe in zip(service.asked, summary.of("request"), strict=False):
        assert probe.at - seen.uncertainty < at
    assert re.fullmatch(
        r"waiting for drills as client, on TCP port \d+, until Ctrl-C\n"
        r"on a node, now: floatip drill --observer 127\.0\.0\.1:\d+\n"
        r"no floatip daemon runs here: only what the prober sees is recorded\n"
        r"[\d:]{8} haproxy1 \(127\.0\.0\.1\) has joined, floatip \S+\n"
        r"[\d:]{8} haproxy1 \(127\.0\.0\.1\) probes 127\.0\.0\.1:\d+ every 0\.02 s \(http\), for 1 min at most\n"
        r"[\d:]{8} ended: \d+ probes sent, 0 lost\n"
        r"[\d:]{8} haproxy1 \(127\.0\.0\.1\) has fetched its recording\n",
        observer.text,
    ), observer.text


def test_the_clock_of_the_observer_is_translated_whatever_it_shows(key: Path) -> None:
    """In a time namespace its monotonic clock is another one, as on another machine."""
    elsewhere = ["unshare", "--time", "--monotonic", "86400", "--"]
    if os.geteuid() != 0:
        elsewhere[1:1] = ["--user", "--map-root-user"]
    with serving() as service, observing(key, before=elsewhere) as observer, joining(observer, key) as drill:
        drill.begin(service.target(), 60)
        probed(drill, 20)
        seen = drill.finish(10)
        assert drill._before
        assert 86399 < drill._before.ahead < 86401
    requests = Summary.from_probes(seen.probes).of("request")
    assert len(requests) >= 10
    for at, probe in zip(service.asked, requests, strict=False):
        assert probe.rtt is not None
        assert probe.at - seen.uncertainty < at < probe.at + probe.rtt + seen.uncertainty


def test_what_the_daemon_there_says_is_seen_with_its_state_first(key: Path) -> None:
    daemon = Daemon(key.parent / "floatip.sock")
    try:
        daemon.tell("backup", "before the drill")
        with observing(key) as observer, joining(observer, key) as drill:
            assert "what the floatip daemon of h1 says is recorded too" in observer.text
            assert drill.has_daemon
            daemon.status = replace(daemon.status, monotonic=time.monotonic())
            drill.begin(None, 60)
            wait_for(lambda: daemon.is_watched, lambda: observer.text)
            wait_for(lambda: daemon.questions >= 2, lambda: daemon.questions)
            told_at = time.monotonic()
            daemon.tell("fault", "in the drill")
            daemon.drop_watchers()
            wait_for(lambda: daemon.is_watched, lambda: observer.text)
            wait_for(lambda: daemon.questions >= 3, lambda: daemon.questions)
            seen = drill.finish(10)
    finally:
        daemon.close()
    assert (seen.observer, seen.probes) == ("h1", ())
    roles = [(one.value, one.reason) for one in seen.seen if one.what == "role"]
    assert roles[:2] == [("master", "no other"), ("fault", "in the drill")], seen.seen
    assert {one.node for one in seen.seen} == {"h1"}
    (fault,) = [one for one in seen.seen if one.value == "fault"]
    assert abs(fault.at - told_at) < 1 + seen.uncertainty
    assert ("node", "gone") in [(one.what, one.value) for one in seen.seen]


# Keys


@pytest.mark.parametrize("of_the_observer", [(OTHER, KEY), (KEY, OTHER)])
def test_a_key_that_is_being_replaced_is_believed(tmp_path: Path, of_the_observer: tuple[bytes, bytes]) -> None:
    key = key_file(tmp_path, *of_the_observer)
    with observing(key) as observer, joining(observer, key_file(tmp_path, KEY, name="before")) as drill:
        drill.begin(None, 60)
        assert drill.finish(10).probes == ()


def test_another_key_is_refused_and_both_sides_say_so(key: Path) -> None:
    with observing(key) as observer:
        with pytest.raises(CannotMeet, match="its key is another") as refused:
            joined(observer.where, key_file(key.parent, OTHER, name="other"), "haproxy1")
        assert "sha256sum" in refused.value.hint
        observer.until("refused 127.0.0.1: it signs with another key")
        assert "haproxy1" not in observer.text  # a name is believed only with the key


@pytest.mark.parametrize(
    ("mode", "text", "what", "hint"),
    [
        (0o604, None, "every user of this machine can use", "chmod o-rwx"),
        (0o600, "secret\n", "line 1 of .* has 6 characters", "copy the file from a node"),
        (0o600, "", "has no key", "copy the file from a node"),
    ],
)
@pytest.mark.parametrize("side", ["observer", "drill"])
def test_a_key_file_that_the_link_would_refuse_is_refused_here(
    key: Path, side: str, mode: int, text: str | None, what: str, hint: str
) -> None:
    if text is not None:
        key.write_text(text)
    key.chmod(mode)
    with pytest.raises(CannotMeet, match=what) as refused:
        join.join("127.0.0.1:0", key, None) if side == "observer" else joined("127.0.0.1:1", key, "haproxy1")
    assert hint in refused.value.hint


def test_a_missing_key_is_to_be_copied_from_a_node(tmp_path: Path) -> None:
    status, shown = floatip("observe", "--join", "--key", str(tmp_path / "key"))
    assert status == 2
    assert f"{tmp_path}/key is missing" in shown
    assert "hint: copy it from a node: scp -p root@NODE:/etc/floatip/key" in shown


# One drill at a time


def test_a_second_drill_is_refused_with_who_and_since_when(key: Path) -> None:
    with (
        serving() as service,
        observing(key) as observer,
        joining(observer, key) as drill,
        joining(observer, key, "haproxy2") as second,
    ):
        drill.begin(service.target(), 60)
        with pytest.raises(
            CannotMeet, match=r"another drill is running: haproxy1 \(127.0.0.1\) records since [\d:]{8}"
        ) as it:
            second.begin(service.target(), 60)
        assert re.search(r"wait until it ends, at [\d:]{8} at the latest", it.value.hint)
        observer.until("refused haproxy2 (127.0.0.1): another drill is running")
        assert drill.finish(10).probes
        second.begin(service.target(), 60)
        assert second.finish(10).probes


DRILL = """
import sys, time
from pathlib import Path
from floatip.drill.observation import Target
from floatip.observing.joined import joined
drill = joined({where!r}, Path({key!r}), "haproxy1")
drill.begin(Target("127.0.0.1", {port}, "http", 0.02), 60)
print("begun", flush=True)
time.sleep(60)
"""


def test_a_drill_that_is_killed_makes_room_for_the_next_one(key: Path) -> None:
    with serving() as service, observing(key) as observer:
        program = DRILL.format(where=observer.where, key=str(key), port=service.server_address[1])
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            assert process.stdout.readline() == "begun\n"
            (prober,) = observer.probers()
            process.kill()
        observer.until("haproxy1 (127.0.0.1) has closed the connection: the recording goes on until")
        with joining(observer, key, "haproxy2") as drill:
            with pytest.raises(CannotMeet, match="another drill is running"):
                drill.begin(service.target(), 60)
            begun_at = time.monotonic()
            while True:
                try:
                    drill.begin(service.target(), 60)
                    break
                except CannotMeet:
                    assert time.monotonic() < begun_at + LIMIT
                    time.sleep(0.2)
            assert "haproxy1 (127.0.0.1) has not come back: its recording ends" in observer.text
            assert drill.finish(10).probes
        wait_for(lambda: not observer.probers(), observer.probers)
        assert not Path(f"/proc/{prober}").exists()


def test_an_observer_that_is_killed_ends_the_drills_observation_and_its_prober(key: Path) -> None:
    with serving() as service, observing(key) as observer, joining(observer, key) as drill:
        drill.begin(service.target(), 60)
        sent = probed(drill)
        (prober,) = observer.probers()
        observer.stop(signal.SIGKILL)
        wait_for(lambda: not is_running(prober), lambda: prober)
        assert drill.probes_so_far()[0] >= sent[0]
        with pytest.raises(CannotMeet, match="the recording could not be fetched: no observer listens") as refused:
            drill.finish(0.5)
        assert "start it on that machine: floatip observe --join" in refused.value.hint


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_ctrl_c_ends_the_observer_and_its_prober_at_once(key: Path) -> None:
    with serving() as service, observing(key) as observer, joining(observer, key) as drill:
        drill.begin(service.target(), 60)
        (prober,) = observer.probers()
        assert observer.stop(signal.SIGINT) == 0
        assert not is_running(prober)
        with pytest.raises(CannotMeet, match="could not be fetched"):
            drill.finish(0.2)
    assert "Traceback" not in observer.text


def test_a_recording_ends_at_its_time_and_waits_for_its_drill(key: Path) -> None:
    with serving() as service, observing(key) as observer, joining(observer, key) as drill:
        drill.begin(service.target(), 0.5)
        assert drill._line
        drill._line.close()
        drill._line = None
        observer.until("has closed the connection")
        observer.until("ended: 50 probes sent, 0 lost")
        observer.until("kept for haproxy1 (127.0.0.1) for 10 min")
        assert not observer.probers()
        assert len(drill.finish(10).probes) == 50
        assert drill.probes_so_far() == (50, 0)


def test_a_prober_that_dies_too_early_is_no_whole_observation(key: Path) -> None:
    with serving() as service, observing(key) as observer, joining(observer, key) as drill:
        drill.begin(service.target(), 60)
        (prober,) = observer.probers()
        os.kill(prober, signal.SIGKILL)
        observer.until("ended, too early: the prober ended with status -9")
        with pytest.raises(CannotMeet, match="stopped probing too early: the prober ended with status -9"):
            drill.finish(10)


# The path is cut


class Net:
    """This namespace, which is that of a node, and one of an observer, with a wire between them."""

    def __init__(self, elsewhere: Elsewhere, key: Path) -> None:
        self._elsewhere, self._key = elsewhere, key
        run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", elsewhere.path)
        for address in ("10.0.0.1/24", "2001:db8::1/64"):
            run("ip", "address", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else []))
        run("ip", "link", "set", "eth0", "up")
        with elsewhere.entered():
            for address in ("10.0.0.9/24", "2001:db8::9/64"):
                run("ip", "address", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else []))
            run("ip", "link", "set", "eth0", "up")

    @contextmanager
    def observer(self, address: str = "10.0.0.9:9113") -> Iterator[Observer]:
        with ExitStack() as stack:
            with self._elsewhere.entered():
                observer = stack.enter_context(observing(self._key, address=address))
            yield observer

    def cut(self) -> None:
        """As a drill does: the node neither hears nor reaches anybody."""
        run("nft", "table inet cut { chain input { type filter hook input priority 0; iifname eth0 drop; }; }")
        run("nft", "add chain inet cut output { type filter hook output priority 0; }")
        run("nft", "add rule inet cut output oifname eth0 drop")

    def mend(self) -> None:
        run("nft", "delete table inet cut")


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.stderr)


@pytest.fixture
def net(elsewhere: Elsewhere, key: Path) -> Net:
    return Net(elsewhere, key)


def test_the_recording_goes_on_while_the_node_is_cut_off_and_is_fetched_afterwards(net: Net, key: Path) -> None:
    with net.observer() as observer, serving("10.0.0.1") as service, ExitStack() as stack:
        drill = stack.enter_context(joining("10.0.0.9", key))
        drill.begin(service.target(0.05), 60)
        probed(drill, 10)
        cut_at = time.monotonic()
        net.cut()
        observer.until("probes lost so far")
        before = drill.probes_so_far()
        time.sleep(3)  # so long that the connection counts as stale, and that TCP waits before it tries again
        assert drill.probes_so_far() == before
        with pytest.raises(CannotMeet, match=r"could not be fetched: the observer at 10.0.0.9:9113 cannot be reached"):
            drill.finish(0.2)
        assert drill.probes_so_far() == before
        mends_at = time.monotonic()
        net.mend()
        seen = drill.finish(LIMIT)
    (window,) = Summary.from_probes(seen.probes).windows("request")
    # A probe that was sent just before the cut may be lost too.
    assert cut_at - 1 - seen.uncertainty < window.first_lost_at < cut_at + 1
    assert window.next_good_at
    assert window.next_good_at > mends_at - seen.uncertainty
    assert "has fetched its recording" in observer.text


def test_after_a_cut_the_drill_learns_of_the_probes_without_being_asked_to_end(net: Net, key: Path) -> None:
    with net.observer() as observer, serving("10.0.0.1") as service, ExitStack() as stack:
        drill = stack.enter_context(joining("10.0.0.9", key))
        drill.begin(service.target(0.05), 60)
        probed(drill, 10)
        net.cut()
        observer.until("probes lost so far")
        time.sleep(2.5)
        asked_at = time.monotonic()
        sent, _ = drill.probes_so_far()
        assert time.monotonic() - asked_at < 0.5
        net.mend()
        probed(drill, sent + 50)
        assert drill.probes_so_far()[1] > 0
        assert drill.finish(LIMIT).probes


@pytest.mark.parametrize("where", ["2001:db8::9", "[2001:db8::9]:9113", "10.0.0.9", "10.0.0.9:9113"])
def test_an_observer_on_all_addresses_is_reached_by_ipv4_and_ipv6(net: Net, key: Path, where: str) -> None:
    with net.observer(":9113") as observer, joining(where, key) as drill:
        assert drill.has("10.0.0.9")
        assert not drill.has("10.0.0.1")
        drill.begin(None, 10)
        with pytest.raises(CannotMeet, match="another drill"), joining("10.0.0.9", key, "b") as other:
            other.begin(Target("10.0.0.1", 80, "none", 1.0), 10)
        drill.finish(5)
        assert not drill.is_probing
        with pytest.raises(CannotMeet, match=r"has 10.0.0.9 itself, and would answer its own probes"):
            drill.begin(Target("10.0.0.9", 80, "http", 1.0), 10)
        observer.until("has fetched its recording")


def test_a_node_that_has_the_address_itself_records_only_what_its_daemon_says(net: Net, key: Path) -> None:
    daemon = Daemon(key.parent / "floatip.sock")
    try:
        with net.observer() as observer, joining("10.0.0.9", key) as drill:
            drill.begin(Target("10.0.0.9", 80, "http", 0.1), 60)
            assert not drill.is_probing
            observer.until("records what the daemon here says")
            wait_for(lambda: daemon.is_watched and daemon.questions >= 2, lambda: observer.text)
            seen = drill.finish(10)
    finally:
        daemon.close()
    assert seen.probes == ()
    assert ("role", "master") in [(one.what, one.value) for one in seen.seen]


def test_where_no_observer_is_the_next_step_is_named(net: Net, key: Path) -> None:
    for where, what, hint in (
        (
            "10.0.0.9",
            "no observer listens at 10.0.0.9:9113",
            "floatip observe --join; its firewall may refuse TCP port 9113",
        ),
        ("[2001:db8::9]:99", r"no observer listens at \[2001:db8::9\]:99", "floatip observe --join"),
        ("10.0.0.8", "10.0.0.8:9113 cannot be reached", "let TCP port 9113 in from this node"),
        ("192.0.2.1", "192.0.2.1:9113 cannot be reached: network is unreachable", "TCP port 9113"),
        ("observer.invalid", "cannot resolve the observer observer.invalid", "getent hosts NAME"),
        ("2001:db8::9:99999", "is not an IPv6 address; with a port in brackets", "name the observer's machine"),
        ("[2001:db8::9", "is not an IPv6 address in brackets", "name the observer's machine"),
        ("10.0.0.9/24", "is not a host", "name the observer's machine"),
        ("10.0.0.9:0", "is not a host with a port from 1 to 65535", "name the observer's machine"),
        ("", "names no machine", "haproxy3:9113"),
    ):
        with pytest.raises(CannotMeet, match=what) as refused:
            joined(where, key, "haproxy1")
        assert hint in refused.value.hint


def test_what_listens_there_and_is_no_observer_is_named(key: Path) -> None:
    for answer, what in (
        (b"SSH-2.0-OpenSSH_9.2\r\n", "is not believed to be an observer: it speaks another protocol"),
        (MAGIC + b"\2" + bytes(NONCE), "is of another version: it speaks format 2"),
        (b"", "does not greet as an observer does"),
        (MAGIC + b"\1" + bytes(NONCE) + b"\0\0\0\2" + bytes(32) + b"{}", "it signs with another key"),
    ):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            where = f"127.0.0.1:{listener.getsockname()[1]}"
            with ExitStack() as stack:
                drill = subprocess_of(where, key)
                stack.callback(drill.kill)
                connection, _ = listener.accept()
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                _, said = drill.communicate(timeout=LIMIT)
                connection.close()
        assert what in said, said
        assert "hint: " in said


def subprocess_of(where: str, key: Path) -> "subprocess.Popen[str]":
    program = (
        "from pathlib import Path; from floatip.cli import ended; from floatip.observing.joined import joined; "
        f"ended(lambda: joined({where!r}, Path({str(key)!r}), 'haproxy1') and 0)"
    )
    return subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
