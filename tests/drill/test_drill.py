"""`floatip drill` on the lab's pair: what it refuses, what it shows and reports, and what ends it early.

One lab for all tests, in order; each leaves the pair whole.
"""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from floatip import cli  # noqa: F401  # the commands
from floatip.arguments import parse
from floatip.commands import COMMANDS
from floatip.core.state import FRESH_SESSION
from floatip.drill import cut, files
from floatip.drill.command import _Signals
from floatip.drill.cut import LASTS, Cut, NftError
from floatip.drill.faults import CannotDrill
from floatip.lab.network import OBSERVER
from tests.drill.rig import NODES, Rig, report, rig, wait


@pytest.fixture(scope="module")
def lab() -> Iterator[Rig]:
    with rig() as made:
        yield made


def refused(lab: Rig, host: str, *words: str, status: int = 2) -> str:
    code, said = lab.drill(host, *words).end()
    assert code == status, said
    assert "the fault is made" not in said
    return said


def other(host: str) -> str:
    return NODES[1] if host == NODES[0] else NODES[0]


def season(lab: Rig) -> None:
    wait(
        lambda: not any(one["young"] for host in NODES for one in lab.status(host)["sessions"]),
        "sessions that route servers believe",
        FRESH_SESSION + 30,
    )


def test_all_reasons_against_a_drill_are_named_with_what_to_do(lab: Rig) -> None:
    master = lab.master()
    wait(lambda: "starting" not in lab.problems(master), "a node that knows who serves")
    said = refused(lab, master, "--yes")
    assert f"refused: the BGP sessions of {other(master)} are younger than 30 s" in said
    assert "refused: BGP sessions of this node are younger than 30 s: 4 of 4" in said
    assert "nothing was done, for 2 reasons, named above" in said
    said = refused(lab, other(master), "--yes", "--force")
    assert "refused: this node does not carry VI_1" in said
    assert f"hint: {master} does: run the drill there" in said
    assert "the instances are: VI_1" in refused(lab, master, "web", "--yes")
    assert "its checks are: trigger" in refused(lab, master, "--check", "disk", "--yes", "--force")
    assert "no unit of systemd runs the daemon" in refused(lab, master, "--fault", "stop", "--yes", "--force") or (
        "this machine does not run it" in refused(lab, master, "--fault", "stop", "--yes", "--force")
    )
    assert "stdin is not a terminal" in refused(lab, master, "--force")
    assert "--to is only for --fault handover" in refused(lab, master, "--to", other(master))
    assert "a report is a file that ends in .html or .json" in refused(lab, master, "--report", "x.pdf")
    code, said = lab.drill(master, "--dry-run", "--force").end()
    assert code == 0, said
    assert "nothing was done: --dry-run" in said


def test_a_node_without_a_daemon_is_told_so(lab: Rig, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "floatip", "drill", "--yes"]
    environment = os.environ | {"RUNTIME_DIRECTORY": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "no floatip daemon answers" in done.stderr) == (3, True), done.stderr


def test_a_drill_to_a_node_that_is_none_is_refused(lab: Rig) -> None:
    master = lab.master()
    order = ("--fault", "handover", "--yes", "--force", "--to")
    assert "nowhere is no node of the configuration" in refused(lab, master, *order, "nowhere")
    assert f"{master} is this node" in refused(lab, master, *order, master, "--dry-run")


def test_a_signal_that_nohup_ignores_does_not_end_a_drill() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        asked: list[str] = []
        with _Signals(asked.append):
            os.kill(os.getpid(), signal.SIGHUP)
        assert asked == []
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_drill_is_for_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    with pytest.raises(CannotDrill, match="a drill needs root") as error:
        COMMANDS["drill"].run(**parse(COMMANDS["drill"], ["--yes"]))
    assert error.value.hint.startswith("sudo floatip")


def test_what_an_administrator_has_ordered_stands_against_a_drill(lab: Rig) -> None:
    master = lab.master()
    lab.run.ask(other(master), "drain")
    wait(lambda: lab.run.knows(master, other(master))["drained"], "the drain to be known")
    said = refused(lab, master, "--yes", "--force")
    assert f"no other node could take over VI_1: {other(master)} is drained" in said
    lab.run.ask(other(master), "undrain")
    lab.run.ask(other(master), "pause")
    wait(lambda: lab.run.knows(master, other(master))["paused"], "the pause to be known")
    assert "no node takes over now" in refused(lab, master, "--yes", "--force")
    lab.run.ask(other(master), "resume")
    lab.wait_until_whole()


def test_a_drill_of_a_check_is_seen_by_all_and_its_report_says_how_it_went(lab: Rig, tmp_path: Path) -> None:
    season(lab)
    lab.wait_until_whole()
    master, standby = lab.master(), other(lab.master())
    key = str(lab.run.nodes[master].directory / "key")
    join = [sys.executable, "-m", "floatip", "observe", "--join", "--key", key, "--name", "watcher"]
    observer = lab.run.network.run(OBSERVER.name, join, log=tmp_path / "observer")
    wait(lambda: "waiting for drills" in (tmp_path / "observer").read_text(), "the observer")
    assert OBSERVER.ipv4
    words = ("--observer", str(OBSERVER.ipv4.ip), "--key", key, "--for", "4", "--yes")
    drill = lab.drill(master, *words, "--report", str(tmp_path / "it.json"), "--report", str(tmp_path / "it.html"))
    drill.wait_for("the fault is made")
    assert "check trigger counts as failed; started by root, pid" in lab.problems(master)["drill-runs"]
    wait(
        lambda: f"{master} rehearses a failover" in lab.problems(standby).get("drill-runs", ""),
        "the other node to know",
    )
    assert f"a drill runs on {master}" in lab.objections(standby)
    assert any(one.startswith("a drill runs on this node: check of VI_1") for one in lab.objections(master))
    status, said = drill.end()
    observer.kill()
    assert status == 0, said
    assert f"ok      {standby} took VI_1 over after" in said
    told = report(tmp_path / "it.json")
    roles = [(one["node"], one["value"]) for one in told["seen"] if one["what"] == "role" and one["at"] >= 0]
    assert roles[:3] == [(master, "fault"), (standby, "master"), (master, "backup")] or roles[:3] == [
        (standby, "master"),
        (master, "fault"),
        (master, "backup"),
    ]
    assert "<svg" in (tmp_path / "it.html").read_text()
    (probes,) = files.read(tmp_path / "it.json").probes
    assert (probes.observer, sum(not one.ok for one in probes.results)) == ("watcher", 0)
    assert {one.who for one in probes.results if one.who} == {master, standby}
    history = lab.run.ask(master, "history", "--json").text
    assert '"what": "drill"' in history.replace('":"', '": "')
    again = subprocess.run(
        [sys.executable, "-m", "floatip", "drill", "--from", str(tmp_path / "it.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (again.returncode, "PASSED" in again.stdout) == (0, True)
    lab.wait_until_whole()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_drill_and_undoes_the_fault(lab: Rig, tmp_path: Path, number: signal.Signals) -> None:
    lab.wait_until_whole()
    fault = "cut" if number is signal.SIGHUP else "check"
    file = tmp_path / "it.json"
    drill = lab.drill(lab.master(), "--fault", fault, "--for", "60", "--yes", "--force", "--report", str(file))
    drill.wait_for("the fault is made")
    drill.process.send_signal(number)
    lab.wait_until_whole()
    status, said = drill.end()
    assert status == 130, said
    assert f"the drill was ended early, by {number.name}" in report(file)["notes"]


def test_a_standby_that_dies_meanwhile_ends_the_fault_at_once(lab: Rig, tmp_path: Path) -> None:
    lab.wait_until_whole(60)
    master = lab.master()
    file = tmp_path / "it.json"
    drill = lab.drill(master, "--for", "60", "--yes", "--force", "--report", str(file))
    drill.wait_for("the fault is made")
    wait(lambda: lab.answer() == other(master), "the standby to serve")
    lab.run.nodes[other(master)].kill()
    wait(lambda: lab.instance(master)["role"]["value"] == "master", "this node to serve again", 10)
    lab.run.start_node(other(master))
    status, said = drill.end()
    assert status == 1, said
    assert f"the drill cannot go on: no node could carry VI_1: {other(master)} is silent" in said
    assert "the fault was undone early" in report(file)["restored"][0]["text"]
    lab.wait_until_whole(60)


def test_a_standby_that_dies_before_the_fault_keeps_it_from_being_made(lab: Rig) -> None:
    lab.wait_until_whole()
    master = lab.master()
    drill = lab.drill(master, "--yes", "--force")
    drill.wait_for("what undoes the fault stands ready")
    lab.run.nodes[other(master)].kill()
    status, said = drill.end()
    assert status == 2, said
    assert f"not ready any more: {other(master)}" in said
    assert "the fault is made" not in said
    lab.run.start_node(other(master))
    lab.wait_until_whole(60)


def test_a_daemon_that_is_killed_meanwhile_is_reported_and_the_next_one_knows_no_drill(lab: Rig) -> None:
    lab.wait_until_whole()
    master = lab.master()
    drill = lab.drill(master, "--for", "4", "--yes", "--force", "--json")
    drill.wait_for("the fault is made")
    lab.run.nodes[master].kill()
    time.sleep(1)
    lab.run.start_node(master)
    status, said = drill.end()
    assert status == 1, said
    restored = json.loads(said[said.index('{\n "format"') :])["restored"]
    assert "the daemon ended during the drill, and another one runs" in restored[-1]["text"]
    lab.wait_until_whole(60)
    assert lab.status(master)["drill"] is None


def test_a_drill_fails_whose_observer_dies(lab: Rig, tmp_path: Path) -> None:
    lab.wait_until_whole()
    master = lab.master()
    key, log = str(lab.run.nodes[master].directory / "key"), tmp_path / "observer"
    join = [sys.executable, "-m", "floatip", "observe", "--join", "--key", key, "--name", "watcher"]
    observer = lab.run.network.run(OBSERVER.name, join, log=log)
    wait(lambda: "waiting for drills" in log.read_text(), "the observer")
    assert OBSERVER.ipv4
    words = ("--observer", str(OBSERVER.ipv4.ip), "--key", key, "--for", "3", "--yes", "--force")
    drill = lab.drill(master, *words, "--report", str(tmp_path / "it.json"))
    drill.wait_for("the fault is made")
    observer.kill()
    status, said = drill.end()
    assert status == 1, said
    first = report(tmp_path / "it.json")["verdict"][0]
    assert (first["holds"], first["text"][:30]) == (False, "what watcher saw is missing: t")
    assert "nothing was probed" not in said
    lab.wait_until_whole()


def test_ctrl_c_at_the_question_begins_nothing(lab: Rig) -> None:
    ours, theirs = pty.openpty()
    with lab.run.network.inside(lab.master()):
        drill = subprocess.Popen(
            [sys.executable, "-m", "floatip", "drill", "--force"],
            env=os.environ | lab.run.nodes[lab.master()].environment(),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
    os.close(theirs)
    said = b""
    while b"Begin the drill?" not in said:
        assert select.select([ours], [], [], 30)[0], said
        said += os.read(ours, 4096)
    for _ in range(6):  # Python misses a signal that comes just before it waits for the answer
        drill.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            drill.wait(10)
            break
    assert drill.returncode == 2
    assert b"nothing was done" in os.read(ours, 4096)
    os.close(ours)


def test_a_drill_that_hangs_is_ended_by_the_daemon_and_a_cut_by_the_kernel(lab: Rig) -> None:
    lab.wait_until_whole()
    drill = lab.drill(lab.master(), "--fault", "cut", "--for", "60", "--yes", "--force")
    drill.wait_for("the fault is made")
    drill.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    wait(lambda: not is_cut(lab), "the kernel to let everything through", LASTS + 3)
    assert time.monotonic() - began < LASTS + 1
    drill.kill()
    lab.wait_until_whole()


def is_cut(lab: Rig) -> bool:
    """Whether the rules of some node still drop anything."""
    for host in NODES:
        with lab.run.network.inside(host):
            rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
        if cut.TABLE in rules and "elements" in rules:
            return True
    return False


FOREIGN = "table inet foreign { chain in { type filter hook input priority 0; policy accept; tcp dport 4444 drop; }; }"


def test_a_cut_lives_beside_foreign_rules_and_outlives_their_reload(lab: Rig) -> None:
    lab.wait_until_whole()
    master = lab.master()
    drill = lab.drill(master, "--fault", "cut", "--for", "4", "--yes", "--force")
    drill.wait_for("the fault is made")
    with lab.run.network.inside(master):
        subprocess.run(["nft", f"flush ruleset; {FOREIGN}"], check=True)  # as nftables.service reloads
        rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    assert "elements" in rules
    assert "tcp dport 4444" in rules
    _, said = drill.end()
    with lab.run.network.inside(master):
        rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
        subprocess.run(["nft", "delete table inet foreign"], check=True)
    assert "tcp dport 4444" in rules
    assert cut.TABLE not in rules
    assert "took VI_1 over after" in said
    lab.wait_until_whole()


def test_a_report_that_finds_no_room_does_not_keep_the_fault(lab: Rig, tmp_path: Path) -> None:
    lab.wait_until_whole()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "small", str(tmp_path)], check=True)
    try:
        file = str(tmp_path / "it.json")
        drill = lab.drill(lab.master(), "--fault", "check", "--for", "3", "--yes", "--force", "--report", file)
        drill.wait_for("the fault is made")
        status, said = drill.end()
        print(said)
        assert status == 1, said
        assert "the disk is full" in said
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    lab.wait_until_whole()


def test_a_machine_without_nftables_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut, "LIBRARY", "libnftables-of-nobody.so.1")
    with pytest.raises(NftError) as error:
        Cut()
    assert "libnftables-of-nobody.so.1 is not installed" in str(error.value)
    assert "apt install nftables" in str(error.value)
