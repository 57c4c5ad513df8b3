"""The Ansible role on real hosts: from two bare machines to running nodes, later changes, an upgrade; what stops it."""

import json
import re
import secrets
import shutil
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from string import Template
from threading import Thread
from typing import Any

import pytest

from floatip import __version__
from floatip.lab.network import FLOATING, HAPROXY4, NODES, OBSERVER
from floatip.reading.toml import document, reader
from tests.packaging.trees import Key, Layer, lay_out
from tests.systemd import guide
from tests.systemd.controller import TIMEOUT, Controller
from tests.systemd.faults import starved
from tests.systemd.machines import Machine, Rack, boot, debian, on_each, wait_for
from tests.systemd.nodes import FLOATIP_TOML, KEY, nodes_toml
from tests.systemd.pair import Pair
from tests.systemd.stacks import (
    CHECKOUT,
    NEXT_VERSION,
    SETTLE_TIMEOUT,
    begin_to_build,
    claims,
    is_announced,
    next_package,
    package,
    status,
)

CLOUD_CFG = """\
datasource_list: [NoCloud]
network: {config: disabled}
apt: {preserve_sources_list: true}
locale: false
"""
SEED = "/var/lib/cloud/seed/nocloud"
CHECK: dict[str, Any] = {"name": "haproxy", "process": "haproxy"}
CHANGED: dict[str, Any] = {"name": "haproxy", "tcp": "127.0.0.1:80"}


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    """Hosts of Debian with cloud-init, which stays switched off until a test wants it."""
    begin_to_build()
    debian_with = Layer(tmp_path_factory.mktemp("debian"), str(debian()))
    debian_with.run("apt-get -qq update && apt-get -qq install -y --no-install-recommends cloud-init >/dev/null")
    debian_with.write("/etc/cloud/cloud-init.disabled", "")
    debian_with.write("/etc/cloud/cloud.cfg.d/99-tests.cfg", CLOUD_CFG)
    rack = Rack(debian_with.tree)
    yield rack
    rack.close()


@pytest.fixture(scope="module")
def pair(rack: Rack) -> Iterator[Pair]:
    with ExitStack() as exits:
        pair = Pair(rack, exits)
        on_each(pair.nodes, guide.install_service)
        on_each(pair.nodes, lambda node: node.write("/etc/apt/sources.list", ""))
        yield pair


@pytest.fixture(scope="module")
def sources(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The floatip.sources of a signed apt repository that haproxy3 serves."""
    directory = tmp_path_factory.mktemp("apt")
    key = Key(directory / "keys")
    assert OBSERVER.ipv4
    url = f"http://{OBSERVER.ipv4.ip}:8000"
    done = lay_out(directory / "apt", package(), key.environment | {"URL": url})
    assert done.returncode == 0, done.stderr
    archive = shutil.make_archive(str(directory / "apt"), "tar", directory / "apt")
    pair.haproxy3.put("/root/apt.tar", Path(archive).read_bytes())
    pair.haproxy3.run("mkdir apt && tar --extract --file apt.tar --directory apt")
    pair.haproxy3.run("systemd-run --unit=apt python3 -m http.server --directory /root/apt 8000")
    yield (directory / "apt/floatip.sources").read_text()
    key.close()


@pytest.fixture(scope="module")
def controller(pair: Pair, sources: str) -> Controller:
    controller = Controller(pair.directory / "controller")
    for node, host in zip(pair.nodes, NODES, strict=True):
        assert host.ipv4
        controller.add(node, str(host.ipv4.ip))
    controller.variables = {
        "floatip_apt_sources": sources,
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


def test_one_playbook_run_makes_a_drilled_pair_of_two_bare_hosts(
    pair: Pair, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    for node in pair.nodes:
        assert not node.succeeds("command -v floatip")
    tried = controller.play("deploy", "--check", "--diff", quiet=True)
    assert tried.status == 0, tried.output
    for node in pair.nodes:
        assert not node.succeeds("command -v floatip || ls /etc/floatip")
    monkeypatch.setitem(controller.variables, "floatip_drill", True)
    played = controller.play("deploy")
    assert played.status == 0
    report = json.loads((controller.directory / "drill.json").read_text())
    assert all(finding["holds"] for finding in (*report["verdict"], *report["restored"]))
    assert "<svg" in (controller.directory / "drill.html").read_text()
    for node in pair.nodes:
        node.run("floatip nodes && systemctl is-enabled floatip")
    (carrier,) = (node for node in pair.nodes if claims(status(node)))
    wait_for(lambda: pair.led_to == carrier.name, "the traffic to go there", 30)


def test_a_second_run_brings_back_the_key_alone_and_shows_it_nowhere(pair: Pair, controller: Controller) -> None:
    keys = {node.run(f"cat {KEY}", quiet=True) for node in pair.nodes}
    assert len(keys) == 1
    (secret,) = re.findall(r"^[0-9a-f]{64}$", keys.pop(), re.MULTILINE)
    for node in pair.nodes:
        assert node.run(f"stat --format '%U:%G %a' {KEY}", quiet=True) == "root:floatip 640\n"
    pair.haproxy2.run(f"rm {KEY}")
    played = controller.play("deploy", "--diff", "-vvv", quiet=True)
    assert played.status == 0, played.output
    assert played.changed == {"haproxy1": 0, "haproxy2": 2}, "the key, and the reload"
    assert secret in pair.haproxy2.run(f"cat {KEY}", quiet=True)
    assert secret not in played.output


def test_a_changed_check_is_reloaded_and_no_session_notices(
    pair: Pair, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = pids(pair), established(pair)
    monkeypatch.setitem(controller.variables, "floatip_checks", [CHANGED])
    with nothing_lost(pair):
        played = controller.play("deploy", "--diff")
    assert (played.status, played.changed) == (0, {"haproxy1": 2, "haproxy2": 2}), "the file, and the reload"
    assert '+tcp = "127.0.0.1:80"' in played.output
    assert (pids(pair), established(pair)) == before
    for node in pair.nodes:
        node.run(f"grep ^tcp {FLOATIP_TOML} && floatip nodes")


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"floatip_dcid": "us-esat"}, "/etc/floatip/floatip.toml:4: linode.dcid: "),
        ({"floatip_checks": [CHECK | {"process": "nginx"}]}, "A check fails on this node"),
        ({"floatip_instances": [], "floatip_deb": "/tmp/floatip.deb"}, "no floating address: set floatip_instances"),
        ({"floatip_wait_timeout": "soon"}, "floatip_wait_timeout' is of type <class 'str'>"),
    ],
    ids=["a region that is none", "a check that fails", "no instance", "a number that is none"],
)
def test_a_wrong_value_says_what_is_wrong_and_changes_nothing(
    pair: Pair, controller: Controller, monkeypatch: pytest.MonkeyPatch, variables: dict[str, Any], says: str
) -> None:
    before = pids(pair), [node.run(f"sha256sum {FLOATIP_TOML}; stat {FLOATIP_TOML}", quiet=True) for node in pair.nodes]
    for name, value in variables.items():
        monkeypatch.setitem(controller.variables, name, value)
    played = controller.play("deploy")
    assert played.status != 0
    assert says in played.output
    assert set(played.changed.values()) == {0}
    after = pids(pair), [node.run(f"sha256sum {FLOATIP_TOML}; stat {FLOATIP_TOML}", quiet=True) for node in pair.nodes]
    assert after == before


def test_what_check_cannot_know_to_be_wrong_stops_at_the_standby(
    pair: Pair, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    (master,) = (node for node in pair.nodes if node.name == pair.led_to)
    with nothing_lost(pair):
        with monkeypatch.context() as wrong:
            wrong.setitem(controller.variables, "floatip_dcid", 5)
            wrong.setitem(controller.variables, "floatip_wait_timeout", 5)
            played = controller.play("deploy")
        assert played.failed == [pair.other(master).name]
        assert "no route server is connected" in played.output
        master.run(f"grep -x 'dcid = 6' {FLOATIP_TOML}")
        assert controller.play("deploy", quiet=True).status == 0
    assert pair.led_to == master.name


def test_an_upgrade_rolls_and_stops_where_a_node_cannot_be_reached(
    pair: Pair, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(controller.variables, "floatip_apt_sources")
    monkeypatch.setitem(controller.variables, "floatip_deb", str(next_package(pair.directory)))
    (master,) = (node for node in pair.nodes if node.name == pair.led_to)
    standby = pair.other(master)
    take_away = Thread(target=take_away_when_upgraded, args=(controller, standby, master))
    with nothing_lost(pair):
        take_away.start()
        played = controller.play("upgrade")
        take_away.join()
        assert played.status != 0
        assert played.unreachable == [master.name]
        assert (version(standby), version(master)) == (NEXT_VERSION, __version__), "those that carry nothing come first"
        assert pair.led_to == master.name
        controller.gone(master).unlink()
        played = controller.play("upgrade")
        assert played.status == 0
        assert (version(standby), version(master)) == (NEXT_VERSION, NEXT_VERSION)
        assert pair.led_to == standby.name
    for node in pair.nodes:
        node.run("floatip nodes && floatip status")


def take_away_when_upgraded(controller: Controller, node: Machine, other: Machine) -> None:
    """Takes `other` away in the middle of the roll: `node` waits then for half a minute until it is believed."""
    wait_for(lambda: version(node) == NEXT_VERSION, f"{node.name} to be upgraded", TIMEOUT)
    controller.gone(other).touch()


def version(node: Machine) -> str:
    return node.run("dpkg-query --show --showformat='${Version}' floatip", quiet=True)


def test_cloud_init_makes_a_node_that_waits_for_its_key_or_has_it(pair: Pair, rack: Rack, sources: str) -> None:
    host = Machine(rack, pair.network, HAPROXY4.name)
    boot([host])
    guide.install_service(host)
    host.write("/etc/apt/sources.list", "")
    address = HAPROXY4.ipv4.ip if HAPROXY4.ipv4 else None
    configuration = nodes_toml() + f'[[node]]\nname = "{HAPROXY4.name}"\naddress = "{address}"\n'
    key = pair.haproxy1.run(f"cat {KEY}", check=False, quiet=True) or f"{secrets.token_hex(32)}\n"

    first_boot(host, "one", user_data(sources, configuration, ""))
    told = host.run("cat /var/log/cloud-init-output.log")
    assert "floatip: the key is missing" in told
    assert not host.succeeds(f"systemctl is-active floatip || test -e {KEY}")
    host.put("/root/key", key.encode())
    (install,) = re.findall(r"install -m .* /dev/stdin \S+", told)
    (start,) = re.findall(r'ssh root@HERE "(.*)"', told)
    host.run(f"{install} </root/key && {start}")
    assert host.run(f"stat --format '%U:%G %a' {KEY} {FLOATIP_TOML}") == "root:floatip 640\n" * 2
    wait_for(lambda: is_announced(status(host)), "the node to announce", SETTLE_TIMEOUT)

    host.run("systemctl disable --now floatip && rm /etc/floatip/key")
    first_boot(host, "two", user_data(sources, configuration, key))
    wait_for(lambda: is_announced(status(host)), "the node to announce", SETTLE_TIMEOUT)
    host.run("systemctl is-enabled floatip && floatip check")


def user_data(sources: str, configuration: str, key: str) -> str:
    template = Template((CHECKOUT / "deploy/cloud-init/user-data.yaml").read_text())
    texts = {"sources": sources, "configuration": configuration, "key": key}
    return template.substitute({name: b64encode(text.encode()).decode() for name, text in texts.items()})


def first_boot(host: Machine, instance: str, user_data: str) -> None:
    """As that of a machine that was made with this user data."""
    assert len(user_data) < 16384, "Linode takes no more"
    host.write(f"{SEED}/user-data", user_data)
    host.write(f"{SEED}/meta-data", f"instance-id: {instance}\nlocal-hostname: {host.name}\n")
    host.run(f"cloud-init schema --config-file {SEED}/user-data && rm -f /etc/cloud/cloud-init.disabled")
    host.reboot()
    host.run("cloud-init status --wait --long")


FILES = {"ca": "C", "certificate": "P", "key": "K", "password": "secret"}
ETCD = {"endpoints": ["https://192.0.2.1:2379"], "user": "floatip", "lease_time": 10}
PLAY = """\
- hosts: floatip
  connection: local
  gather_facts: false
  vars_files: [{defaults}, {vars}]
  tasks:
    - copy: {{content: "{{{{ floatip_toml }}}}", dest: "{{{{ inventory_dir }}}}/{{{{ inventory_hostname }}}}.toml"}}
"""
"""What the role makes of its variables, without a host."""


@pytest.mark.parametrize("member", [False, True])
def test_the_role_writes_the_tables_of_a_fleet_on_etcd(tmp_path: Path, member: bool) -> None:
    controller = Controller(tmp_path / "controller")
    role = CHECKOUT / "deploy/ansible/roles/floatip"
    places = {name: str(role / name / "main.yml") for name in ("defaults", "vars")}
    (controller.directory / "play.yml").write_text(PLAY.format_map(places))
    hosts = {name: {"floatip_node_address": f"192.0.2.{number}"} for number, name in enumerate(("a", "b"), 1)}
    (controller.directory / "inventory.yml").write_text(json.dumps({"floatip": {"hosts": hosts}}))
    variables = {"floatip_etcd": ETCD, "floatip_etcd_files": FILES, "floatip_member": member}
    if not member:
        variables["floatip_instances"] = [{"name": "db", "addresses": ["192.0.2.9/32"], "exclusive": True}]
    played = controller.command("-i", "inventory.yml", "play.yml", "-e", json.dumps(variables))
    assert played.status == 0, played.output
    for name in hosts:
        text = (controller.directory / f"{name}.toml").read_bytes()
        model, _, problems = reader.model_of(document.parse("floatip.toml", text))
        assert not problems
        assert model.etcd
        paths = (model.etcd.ca, model.etcd.certificate, model.etcd.key, model.etcd.password)
        assert [path and path.name for path in paths] == ["etcd-ca.pem", "etcd.pem", "etcd.key", "etcd-password"]
        assert (model.etcd.user, model.etcd.lease_time) == ("floatip", 10)
        assert (model.member.name if model.member else None) == (name if member else None)
        assert [node.name for node in model.nodes] == ([] if member else ["a", "b"])
