"""What Prometheus gets of real daemons, which have sessions with route servers and elect in both ways."""

import os
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from floatip.core.figures import Figures, read
from floatip.host.ask import ask
from floatip.lab.network import HAPROXY1, HAPROXY2
from floatip.lab.record import RunOptions
from floatip.lab.run import Run
from tests.web.promtool import ALERTS, check_metrics, expressions

MORE = """
[http]
listen = ["127.0.0.1:8179"]

[[instance]]
name = "old"
addresses = ["192.0.2.77/32"]
checks = ["trigger"]
vrrp = {{ interface = "eth0", vrid = {vrid}, priority = 50, source = "{source}", peers = ["{peer}"] }}
"""
"""Each node hears the adverts of the other, and they are of no instance that it has."""
ONLY_BESIDE_KEEPALIVED = {"floatip_keepalived_up"}
TIMEOUT = 60.0


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    assert os.geteuid() == 0, "the lab's tests need root: sudo .venv/bin/python -m pytest tests/lab"
    with Run(RunOptions(election="nodes", etcd=True, second_chance="on", check='script = "/bin/true"')) as run:
        run.start(observed=False)
        for vrid, (own, other) in enumerate(((HAPROXY1, HAPROXY2), (HAPROXY2, HAPROXY1)), 51):
            assert own.ipv4
            assert other.ipv4
            run.nodes[own.name].reload(MORE.format(vrid=vrid, source=own.ipv4.ip, peer=other.ipv4.ip))
        yield run


def scrape(run: Run, host: str = "haproxy1", query: str = "") -> str:
    """Empty: not yet."""
    with run.network.inside(host):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:8179/metrics{query}", timeout=10) as answer:
                assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
                return str(answer.read().decode())
        except OSError:
            return ""


def names(text: str) -> set[str]:
    return set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))


def test_each_metric_of_the_dashboard_and_the_alerts_is_in_a_scrape(run: Run) -> None:
    texts = [ALERTS.read_text(), *expressions().values()]
    used = {re.sub(r"_bucket$", "", name) for text in texts for name in re.findall(r"\bfloatip_\w+", text)}
    assert len(used) > 15
    run.wait_for(lambda: used - ONLY_BESIDE_KEEPALIVED <= names(scrape(run)), "every metric that is used", TIMEOUT)


def test_promtool_finds_nothing_to_complain_of_in_what_a_daemon_answers(run: Run) -> None:
    run.wait_for(lambda: bool(scrape(run)), "the listener", TIMEOUT)
    assert check_metrics(scrape(run)) == ""
    as_keepalived = scrape(run, query="?compat=keepalived")
    assert check_metrics(as_keepalived) == ""
    assert 'keepalived_vrrp_state{iname="old",intf="lo",vrid="51",ip_address="192.0.2.77/32"}' in as_keepalived


def test_another_compatibility_than_keepalived_is_refused(run: Run) -> None:
    run.wait_for(lambda: bool(scrape(run)), "the listener", TIMEOUT)
    assert scrape(run, query="?compat=zabbix") == ""


def test_the_daemon_counts_what_it_does(run: Run) -> None:
    socket: Path = run.nodes["haproxy1"].socket

    def figures() -> Figures:
        return read(ask(socket, {"cmd": "figures"}))

    before = figures()
    run.wait_for(lambda: figures().checks.each[0].counts != before.checks.each[0].counts, "another check", TIMEOUT)
    after = figures()
    assert sum(after.lateness.each[0].counts) > sum(before.lateness.each[0].counts)
    assert len(after.sessions) == 4
    assert all(one.sent[1] >= 1 and one.received[4] >= 1 for one in after.sessions)
    assert {one.name for one in after.instances} == {"VI_1", "old"}
    assert after.clock_ahead == pytest.approx(time.time() - time.monotonic(), abs=1)


def test_a_takeover_counts_with_each_of_its_phases(run: Run) -> None:
    """The last: haproxy1 does not come back."""
    run.wait_for(lambda: bool(scrape(run, "haproxy2")), "the listener", TIMEOUT)
    run.nodes["haproxy1"].kill()

    def phases() -> set[str]:
        count = r'^floatip_failover_phase_seconds_count{phase="(\w+)"} [1-9]'
        return set(re.findall(count, scrape(run, "haproxy2"), re.MULTILINE))

    # What "old" did at its start was not detected by anybody's silence.
    run.wait_for(lambda: phases() == {"detected", "decided", "wire", "acknowledged"}, "all phases", TIMEOUT)
