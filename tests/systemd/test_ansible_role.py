"""The Ansible role on real hosts: from two bare machines to running nodes, later changes, an upgrade; what stops it."""

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Thread
from typing import Any

import pytest

from floatip import __version__
from floatip.lab.network import FLOATING, NODES
from tests.systemd import guide
from tests.systemd.controller import Controller
from tests.systemd.faults import starved
from tests.systemd.machines import Machine, Rack, on_each, wait_for
from tests.systemd.nodes import FLOATIP_TOML, KEY
from tests.systemd.pair import Pair
from tests.systemd.stacks import NEXT_VERSION, begin_to_build, next_package, package, status

CHECK: dict[str, Any] = {"name": "haproxy", "process": "haproxy"}


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    begin_to_build()
    with ExitStack() as exits:
        rack = Rack()
        exits.callback(rack.close)
        pair = Pair(rack, exits)
        on_each(pair.nodes, guide.install_service)
        yield pair


@pytest.fixture(scope="module")
def controller(pair: Pair) -> Controller:
    controller = Controller(pair.directory / "controller")
    for node, host in zip(pair.nodes, NODES, strict=True):
        assert host.ipv4
        controller.add(node, str(host.ipv4.ip))
    controller.variables = {
        "floatip_deb": str(package()),
        "floatip_dcid": 6,
        "floatip_checks": [CHECK],
        "floatip_instances": [{"name": "web", "addresses": [str(FLOATING)], "checks": ["haproxy"]}],
    }
    return controller


@contextmanager
def nothing_lost(pair: Pair) -> Iterator[None]:
    """Of the probes that an observer sends meanwhile, 200 a second."""
    with pair.observed() as observation:
        yield
        time.sleep(1)
    record = observation.record
    lost = [probe for probe in record.probes if not probe.ok and not starved(record, probe)]
    print(f"-- {len(lost)} of {len(record.probes)} probes lost")
    assert len(record.probes) > 200
    assert not lost


def pids(pair: Pair) -> list[str]:
    return [node.run("systemctl show --value --property=MainPID floatip", quiet=True) for node in pair.nodes]


def established(pair: Pair) -> list[list[int]]:
    """How often each session has come up."""
    return [[each["times_established"] for each in status(node)["sessions"]] for node in pair.nodes]


def test_one_playbook_run_makes_a_pair_of_two_bare_hosts(pair: Pair, controller: Controller) -> None:
    for node in pair.nodes:
        assert not node.succeeds("command -v floatip")
    tried = controller.play("deploy", "--check", "--diff", quiet=True)
    assert tried.status == 0, tried.output
    for node in pair.nodes:
        assert not node.succeeds("command -v floatip || ls /etc/floatip")
    played = controller.play("deploy", "--diff")
    assert played.status == 0
    for node in pair.nodes:
        node.run("floatip nodes && systemctl is-enabled floatip")
    carriers = [node for node in pair.nodes if any(one["role"]["value"] == "master" for one in status(node)["instances"])]
    assert len(carriers) == 1
    wait_for(lambda: pair.led_to == carriers[0].name, "the traffic to go there", 30)


def test_the_key_is_the_same_everywhere_and_shown_nowhere(pair: Pair, controller: Controller) -> None:
    keys = {node.run(f"cat {KEY}", quiet=True) for node in pair.nodes}
    assert len(keys) == 1
    (secret,) = re.findall(r"^[0-9a-f]{64}$", keys.pop(), re.MULTILINE)
    for node in pair.nodes:
        assert node.run(f"stat --format '%U:%G %a' {KEY}", quiet=True) == "root:floatip 640\n"
    pair.haproxy2.run(f"rm {KEY}")
    played = controller.play("deploy", "--diff", "-vvv", quiet=True)
    assert played.status == 0, played.output
    assert played.changed == {"haproxy1": 0, "haproxy2": 2}
    assert secret in pair.haproxy2.run(f"cat {KEY}", quiet=True)
    assert secret not in played.output


def test_a_second_run_changes_nothing_and_so_says_check_mode(pair: Pair, controller: Controller) -> None:
    for options in ([], ["--check", "--diff"]):
        played = controller.play("deploy", *options)
        assert (played.status, played.changed) == (0, {"haproxy1": 0, "haproxy2": 0})
