"""A real journald gets our entries with their fields, and a real systemd says why no daemon answers."""

import json
from typing import Any

import pytest

from floatip.host.entries import ROLE_CHANGE
from tests.systemd.machines import Machine, wait_for
from tests.systemd.nodes import FLOATIP_TOML, NODES_STACK
from tests.systemd.pair import Pair
from tests.systemd.stacks import SETTLE_TIMEOUT, settle, use

FLAGS, LELASTIC = "/etc/floatip/lelastic", "/etc/systemd/system/lelastic.service"


@pytest.fixture
def standby(pair: Pair) -> Machine:
    use(pair, NODES_STACK)
    return pair.other(settle(pair, NODES_STACK))


def entries(node: Machine, *matches: str) -> list[dict[str, Any]]:
    """Of the journal; of this boot, oldest first."""
    command = f"journalctl --boot --unit=floatip --output=json {' '.join(matches)}"
    return [json.loads(line) for line in node.run(command, quiet=True).splitlines()]


def status(node: Machine) -> list[str]:
    return node.run("floatip status 2>&1", check=False).splitlines()


def test_the_journal_has_the_fields_of_a_change_of_role(standby: Machine) -> None:
    standby.run("floatip handover --force || systemctl restart floatip", check=False)
    changes = entries(standby, "FLOATIP_INSTANCE=web", "FLOATIP_WHAT=role", f"MESSAGE_ID={ROLE_CHANGE}")
    last = changes[-1]
    assert last["MESSAGE"].startswith(f"web: {last['FLOATIP_ROLE'].upper()} at rank {last['FLOATIP_RANK']}")
    assert last["FLOATIP_REASON"].split(";")[0] in last["MESSAGE"]
    assert (last["_TRANSPORT"], last["PRIORITY"], last["SYSLOG_IDENTIFIER"]) == ("journal", "5", "floatip")
    assert last["_SYSTEMD_UNIT"] == "floatip.service"
    streamed = [entry["MESSAGE"] for entry in entries(standby, "_TRANSPORT=stdout", "_COMM=floatip")]
    assert not [message for message in streamed if "web" in message], "nothing is there twice"


def test_the_last_words_and_a_restarted_journald(standby: Machine) -> None:
    standby.run("systemctl restart systemd-journald && systemctl stop floatip")

    def stops() -> list[str]:
        return [entry["MESSAGE"] for entry in entries(standby, "FLOATIP_WHAT=role", "FLOATIP_ROLE=init")]

    wait_for(lambda: bool(stops()), "the journal to have the end", SETTLE_TIMEOUT)
    assert stops()[-1] == "web: INIT at rank none: asked to stop (SIGTERM)"


CRASH = """
import os, signal, sys
sys.path.insert(0, "/usr/lib/floatip")
from floatip.host.log import ERROR, NOTICE, Log
signal.alarm(120)
log = Log()
log.write(NOTICE, "it runs")
open("/root/crash").read()
log.write(ERROR, "a bug in floatip\\nTraceback")
os._exit(70)
"""
JOURNALD = "systemd-journald"


def test_the_unit_of_a_daemon_that_crashes_has_its_last_words(standby: Machine) -> None:
    """Although journald reads them when the process is gone: it knows the process by what it said before."""
    standby.write("/root/crash.py", CRASH)
    standby.run("mkfifo /root/crash && systemd-run --unit=crash python3 /root/crash.py")

    def last(words: str) -> list[dict[str, Any]]:
        told = standby.run("journalctl --boot --unit=crash --output=json", quiet=True)
        found = [json.loads(line) for line in told.splitlines() if '"_TRANSPORT":"journal"' in line]
        return [entry for entry in found if words in entry["MESSAGE"]]

    wait_for(lambda: bool(last("it runs")), "the journal to know it", SETTLE_TIMEOUT)
    standby.run(f"systemctl kill --signal=STOP {JOURNALD}")
    try:
        standby.run("true >/root/crash")
        wait_for(lambda: standby.succeeds("systemctl is-failed crash"), "the process to be gone", SETTLE_TIMEOUT)
    finally:
        standby.run(f"systemctl kill --signal=CONT {JOURNALD}; systemctl reset-failed; rm /root/crash", check=False)
    wait_for(lambda: bool(last("a bug")), "the journal to have its last words", SETTLE_TIMEOUT)
    [entry] = last("a bug")
    assert (entry["MESSAGE"], entry["PRIORITY"]) == ("a bug in floatip\nTraceback", "3")


def test_a_check_that_fails_is_one_warning(standby: Machine) -> None:
    standby.run("systemctl stop haproxy")

    def warnings() -> list[dict[str, Any]]:
        return entries(standby, "--priority=warning", "FLOATIP_INSTANCE=web", "FLOATIP_HEALTH=down")

    wait_for(lambda: bool(warnings()), "the warning", SETTLE_TIMEOUT)
    standby.run("systemctl start haproxy")
    last = warnings()[-1]
    assert last["FLOATIP_CHECK"] == "haproxy"
    assert {"check", "health", "rank"} <= set(last["FLOATIP_WHAT"])
    assert ", unhealthy: " in last["MESSAGE"]


def test_it_says_who_stopped_it(standby: Machine) -> None:
    standby.run("useradd alice; echo 'alice ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/alice", check=False)
    standby.run("runuser -u alice -- sudo systemctl stop floatip")
    first, why, hint = status(standby)
    assert first == "error: no floatip daemon answers at /run/floatip/floatip.sock [no-daemon]"
    assert why.startswith("  floatip.service was stopped ")
    assert why.endswith(" ago by alice: /usr/bin/systemctl stop floatip")
    assert hint == "hint: systemctl start floatip"


def test_it_says_what_is_wrong_with_the_file(standby: Machine) -> None:
    standby.run(f"cp -p {FLOATIP_TOML} /root/sound && echo 'chekc = 1' | cat - /root/sound >{FLOATIP_TOML}")
    try:
        standby.run("systemctl restart floatip", check=False)
        wait_for(lambda: standby.succeeds("systemctl is-failed floatip"), "the unit to fail", SETTLE_TIMEOUT)
        _, why, error, did_you_mean, hint = status(standby)
        assert why.endswith(": exit status 2, the configuration is wrong")
        assert error == f"  {FLOATIP_TOML}:1: chekc: unknown key"
        assert "check" in did_you_mean
        assert hint == "hint: mend the file: floatip check; then: systemctl start floatip"
    finally:
        standby.run(f"cp -p /root/sound {FLOATIP_TOML}; systemctl reset-failed floatip", check=False)


def test_it_says_that_it_is_masked(standby: Machine) -> None:
    standby.run("systemctl mask --now floatip")
    try:
        assert status(standby)[1] == "  floatip.service is masked, so nothing can start it"
    finally:
        standby.run("systemctl unmask floatip")


@pytest.mark.parametrize("unit", ["floatip-lelastic", "lelastic"])
def test_a_node_in_lelastic_mode_is_not_told_to_adopt(standby: Machine, unit: str) -> None:
    standby.run(f"systemctl stop floatip && mv {FLOATIP_TOML} /root/away")
    try:
        assert "this node is not configured" in status(standby)[1]
        if unit == "lelastic":
            standby.write(LELASTIC, "[Service]\nExecStart=/usr/bin/floatip-lelastic -dcid 6 -secondary\n")
        else:
            standby.write(FLAGS, "OPTIONS=-dcid 6 -secondary\n")
        standby.run(f"systemctl daemon-reload && systemctl start {unit}")
        wait_for(lambda: standby.succeeds("floatip status; test $? != 3"), "it to answer", SETTLE_TIMEOUT)
        standby.run(f"systemctl stop {unit}")
        _, why, mode, *_ = status(standby)
        assert why.startswith(f"  {unit}.service was stopped ")
        assert mode.startswith(f"  this node is in lelastic mode: {unit}.service announces")
    finally:
        standby.run(f"systemctl stop {unit}; rm -f {FLAGS} {LELASTIC}; mv /root/away {FLOATIP_TOML}")
        standby.run("systemctl daemon-reload")
