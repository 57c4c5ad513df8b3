"""What systemd, dpkg and a second daemon do to an adopted node, which must never be left deaf, doubled or silent."""

import json
import re

import pytest

from tests.systemd.machines import Machine, wait_for
from tests.systemd.pair import Pair
from tests.systemd.stacks import BESIDE, SETTLE_TIMEOUT, package, settle, use

CONFIG = "/etc/floatip/floatip.toml"
FIFO = "/run/keepalived/floatip"
PID = "systemctl show --value --property=MainPID"


@pytest.fixture
def node(pair: Pair) -> Machine:
    """The backup, adopted."""
    use(pair, BESIDE)
    return pair.other(settle(pair, BESIDE))


def test_a_reload_with_an_error_in_the_file_fails_and_changes_nothing(node: Machine) -> None:
    pid = node.run(f"{PID} floatip")
    node.run(f"cp -p {CONFIG} /root/sound && echo 'chekc = 1' >>{CONFIG}")
    reload = "systemctl reload floatip"
    assert not node.succeeds(reload)
    wait_for(lambda: node.succeeds("journalctl --unit=floatip | grep chekc"), "the journal to say why", SETTLE_TIMEOUT)
    node.run(f"cp -p /root/sound {CONFIG} && chown root:root {CONFIG} && chmod 600 {CONFIG}")
    assert not node.succeeds(reload), "the daemon's user cannot read it"
    node.run(f"cp -p /root/sound {CONFIG} && touch {CONFIG}")
    node.run(f"{reload} && systemctl is-active floatip")
    assert node.run(f"{PID} floatip") == pid


def test_keepalived_finds_a_fifo_that_floatip_may_read_whenever_it_starts(node: Machine) -> None:
    node.run(f"rm {FIFO} && systemctl reload keepalived")
    wait_for(lambda: node.succeeds(f"test -p {FIFO}"), "keepalived to make the FIFO", SETTLE_TIMEOUT)
    assert node.run(f"stat --format '%U:%G %a' {FIFO}") == "root:root 600\n"
    wait_for(lambda: FIFO in problems(node), "floatip to complain that it may not read it", SETTLE_TIMEOUT)
    node.run("systemctl restart keepalived")
    assert node.run(f"stat --format '%U:%G %a' {FIFO}") == "root:floatip 640\n"
    wait_for(lambda: "it said VI_1 BACKUP" in status(node), "floatip to hear of it", SETTLE_TIMEOUT)
    assert FIFO not in problems(node)


def test_the_daemon_of_another_user_is_in_the_way_and_the_unit_waits_until_it_has_gone(node: Machine) -> None:
    node.run("systemctl stop floatip")
    node.run("systemd-run --unit=by-hand /usr/bin/floatip run")
    try:
        wait_for(lambda: answers(node, "by-hand"), "the daemon of root", SETTLE_TIMEOUT)
        node.run("systemctl start floatip", check=False)
        refused = "journalctl --unit=floatip | grep 'user root already runs'"
        wait_for(lambda: node.succeeds(refused), "the unit to be refused", SETTLE_TIMEOUT)
        assert answers(node, "by-hand")
    finally:
        node.run("systemctl stop by-hand")
    wait_for(lambda: answers(node, "floatip"), "the unit", SETTLE_TIMEOUT)


def test_an_adopted_node_keeps_its_package(node: Machine) -> None:
    for command in ("dpkg --remove floatip", "dpkg --purge floatip"):
        assert "floatip adopt --undo first" in node.run(f"{command} 2>&1", check=False)
        assert node.run("systemctl is-active floatip; systemctl is-enabled floatip").split() == ["active", "enabled"]
    node.install(package())
    node.run("mv /var/lib/floatip/adopt /root && dpkg --remove floatip")
    assert not node.succeeds("systemctl cat keepalived | grep tmpfiles")
    node.run("systemctl restart keepalived")
    node.install(package())
    node.run("mv /root/adopt /var/lib/floatip")
    node.run("systemctl restart keepalived floatip")


def problems(node: Machine) -> str:
    return status(node).partition("!")[2]


def status(node: Machine, *options: str) -> str:
    return node.run(f"floatip status {' '.join(options)}", check=False, quiet=True)


def answers(node: Machine, unit: str) -> bool:
    """Whether the daemon of this unit has the control socket."""
    return f'"pid": {node.run(f"{PID} {unit}", quiet=True).strip()},' in status(node, "--json")


def test_the_daemon_is_real_time_and_its_checks_and_threads_are_not(node: Machine) -> None:
    node.run(f"cp -p {CONFIG} /root/sound")
    check = """
[[check]]
name = "policy"
script = ["/bin/sh", "-c", "chrt --pid $$ >/tmp/policy"]
"""
    text = node.run(f"cat {CONFIG}", quiet=True)
    unchecked = re.sub(r"^checks = .*\n", "", text, flags=re.MULTILINE)
    used = re.sub(r"^(addresses = .*)$", r'\1\nchecks = ["policy"]', unchecked, count=1, flags=re.MULTILINE)
    node.run(f"rm -f /tmp/policy; cat >{CONFIG} <<'END'\n{used}{check}END\nsystemctl restart floatip")
    wait_for(lambda: node.succeeds("grep priority /tmp/policy"), "the check to run", SETTLE_TIMEOUT)
    assert "SCHED_OTHER" in node.run("cat /tmp/policy")
    pid = int(node.run(f"{PID} floatip"))
    threads = dict(
        re.findall(
            r"^pid (\d+)'s current scheduling policy: (.*)$", node.run(f"chrt --all-tasks --pid {pid}"), re.MULTILINE
        )
    )
    assert threads.pop(str(pid)) == "SCHED_RR|SCHED_RESET_ON_FORK"
    assert threads, "it has started workers"
    assert set(threads.values()) == {"SCHED_OTHER"}
    scheduling = json.loads(status(node, "--json"))["scheduling"]
    assert scheduling == {"policy": "rr", "priority": 10, "reset_on_fork": True}
    node.run(f"cp -p /root/sound {CONFIG} && systemctl restart floatip")


def test_http_runs_without_rights_in_the_unit_and_the_group_reads_the_history(node: Machine) -> None:
    node.run(f"cp -p {CONFIG} /root/sound && printf '\\n[http]\\n' >>{CONFIG} && systemctl reload floatip")
    try:
        ask = "curl --silent --fail http://127.0.0.1:8179"
        wait_for(lambda: node.succeeds(f"{ask}/healthz"), "HTTP to answer", SETTLE_TIMEOUT)
        assert f"<h1>{node.name}</h1>" in node.run(f"{ask}/", quiet=True)
        assert node.succeeds(f"{ask}/static/page.js")
        (pid,) = node.run("pgrep --full 'floatip[.]web$'").split()
        capabilities = re.findall(r"Cap(?:Prm|Eff|Amb):\t0+\n", node.run(f"cat /proc/{pid}/status", quiet=True))
        assert len(capabilities) == 3
        assert "SCHED_OTHER" in node.run(f"chrt --pid {pid}")
        node.run("id guest || useradd guest")
        history = "floatip history --json"
        assert not node.succeeds(f"runuser -u guest -- {history}")
        assert '"role"' in node.run(f"runuser -u guest -g floatip -- {history}", quiet=True)
    finally:
        node.run(f"cp -p /root/sound {CONFIG} && systemctl reload floatip")


@pytest.mark.parametrize("refused", ["mount --bind /bin/false /usr/bin/chrt", "mount --bind /dev/null /usr/bin/chrt"])
def test_where_real_time_is_refused_the_unit_starts_without_it(node: Machine, refused: str) -> None:
    node.run(refused)
    try:
        node.run("systemctl restart floatip && systemctl is-active floatip")
        assert json.loads(status(node, "--json"))["scheduling"]["policy"] == "other"
    finally:
        node.run("umount /usr/bin/chrt && systemctl restart floatip")
    assert json.loads(status(node, "--json"))["scheduling"]["policy"] == "rr"


def test_systemd_finds_little_to_lock_up_further(node: Machine) -> None:
    report = node.run("systemd-analyze security --no-pager floatip", quiet=True)
    exposure = re.search(r"exposure level for floatip.service: (\S+)", report)
    assert exposure, report
    print(f"\nfloatip: exposure {exposure[1]}")
    assert float(exposure[1]) <= 2.4, "docs/decisions/0024-real-time.md says what less would cost"
