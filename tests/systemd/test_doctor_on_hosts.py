"""`floatip doctor` on a host broken as administrators break one: it finds that, and its hints mend it."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from floatip.lab.network import FLOATING
from tests.systemd.machines import Machine, Rack
from tests.systemd.nodes import FLOATIP_TOML, KEY, NODES_STACK
from tests.systemd.pair import Pair
from tests.systemd.stacks import begin_to_build, settle, use

LELASTIC = """\
[Service]
ExecStart=/usr/local/bin/lelastic 100000
[Install]
WantedBy=multi-user.target
"""
BROKEN = (
    "ufw default deny outgoing",
    "ufw --force enable",
    f"ip address add {FLOATING.ip}/24 dev eth0",
    "cp /bin/sleep /usr/local/bin/lelastic",
    "systemctl daemon-reload; systemctl enable --now lelastic",
    f"chmod 644 {KEY}",
    "systemctl disable floatip",
    f"touch {FLOATIP_TOML}",
)
REPAIR = (
    "ufw --force reset; ufw --force disable",
    f"ip address del {FLOATING.ip}/24 dev eth0",
    "systemctl disable --now lelastic; rm -f /etc/systemd/system/lelastic.service",
    f"chmod 640 {KEY}; systemctl enable floatip; systemctl reload floatip",
)
EXPECTED = {
    "firewall-link": "problem",
    "firewall-bgp": "problem",
    "address-prefix": "problem",
    "other-announcer": "problem",
    "file-rights": "problem",
    "unit": "warning",
    "reload-pending": "warning",
}


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Hosts of its own: what is broken here would be in the way of another stack."""
    begin_to_build()
    with ExitStack() as exits:
        rack = Rack()
        exits.callback(rack.close)
        yield Pair(rack, exits)


@pytest.fixture
def node(pair: Pair) -> Iterator[Machine]:
    """The one that is not master: what is broken on it costs no traffic."""
    use(pair, NODES_STACK)
    node = pair.other(settle(pair, NODES_STACK))
    yield node
    for command in REPAIR:
        node.run(command, check=False, quiet=True)


def examined(node: Machine, more: str = "") -> dict[str, Any]:
    report: dict[str, Any] = json.loads(node.run(f"floatip doctor --json{more}", check=False, quiet=True))
    return report


def worst(report: dict[str, Any]) -> dict[str, str]:
    """By code; the findings come worst first."""
    return {one["code"]: one["grade"] for one in reversed(report["findings"])}


def test_the_hints_mend_what_is_found(node: Machine) -> None:
    before = examined(node)
    assert not [one for one in before["findings"] if one["grade"] == "problem"], before["findings"]
    node.write("/etc/systemd/system/lelastic.service", LELASTIC)
    for command in BROKEN:
        node.run(command)
    node.run("COLUMNS=80 floatip doctor", check=False)
    report = examined(node)
    found = worst(report)
    assert {code: found.get(code) for code in EXPECTED} == EXPECTED
    for _ in range(3):  # what one hint mends may show what stood behind it
        for one in report["findings"]:
            if one["grade"] in ("problem", "warning") and one["code"] in EXPECTED:
                node.run(one["hint"], check=False)
        report = examined(node)
        if not set(EXPECTED) & {one["code"] for one in report["findings"] if one["grade"] in ("problem", "warning")}:
            break
    left = {code: grade for code, grade in worst(report).items() if grade == "problem" or code in EXPECTED}
    assert set(left.values()) <= {"well"}, [one for one in report["findings"] if one["code"] in left]


def test_another_user_learns_what_could_not_be_seen(node: Machine) -> None:
    assert node.succeeds("runuser -u nobody -- floatip doctor; test $? = 2")
    shown = node.run("runuser -u nobody -- floatip doctor", check=False)
    assert "sudo floatip doctor" in shown
    assert "a bug in floatip" not in shown


def test_a_file_to_send_has_the_journal_and_not_the_key(node: Machine) -> None:
    node.run("rm -f /root/support.txt; floatip doctor --support /root/support.txt", check=False)
    written = node.run("cat /root/support.txt", quiet=True)
    assert node.run("stat --format %a /root/support.txt") == "600\n"
    assert node.run(f"cat {KEY}", quiet=True).strip() not in written
    assert "MASTER" in written or "BACKUP" in written
    assert '"figures"' in written or "======== figures" in written
    assert 'name = "haproxy1"' in written
