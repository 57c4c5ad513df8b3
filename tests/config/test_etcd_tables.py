"""[etcd], [member] and exclusive instances: what may be written, and what is wrong with it, each with the next step."""

from collections.abc import Callable
from dataclasses import replace
from importlib import util
from ipaddress import IPv4Address, IPv4Interface, ip_address
from pathlib import Path

import pytest

from floatip import model, reading
from floatip.core.settings import Node, Nodes
from floatip.reading import machine
from floatip.reading.rules import etcd as rules
from floatip.reading.rules import members

MEMBER = """\
[etcd]
endpoints = ["https://192.0.2.1:2379", "https://[2001:db8::2]"]
"""
NODES = """\
[[node]]
name = "db1"
address = "198.51.100.1"
[[node]]
name = "db2"
address = "198.51.100.2"
"""
INSTANCE = """\
[[check]]
name = "db"
process = "postgres"
[[instance]]
name = "db"
addresses = ["203.0.113.1/32"]
checks = ["db"]
placement = "master"
"""
EXCLUSIVE = INSTANCE.replace('placement = "master"', "exclusive = true")
HERE = machine.Machine({"eth0": (IPv4Interface("198.51.100.1/24"),), "lo": (IPv4Interface("127.0.0.1/8"),)})


@pytest.fixture(autouse=True)
def db1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "look_around", lambda user: replace(HERE, user=user, _access={}))
    monkeypatch.setattr(members, "source_towards", lambda to: ip_address("198.51.100.1"))
    monkeypatch.setattr("socket.gethostname", lambda: "db1")


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], reading.Loaded]:
    (tmp_path / "key").write_text("5a" * 32)
    (tmp_path / "key").chmod(0o640)

    def loaded(text: str) -> reading.Loaded:
        (tmp_path / "floatip.toml").write_text(text)
        return reading.load(tmp_path / "floatip.toml")

    return loaded


Load = Callable[[str], reading.Loaded]


def wrong(load: Load, text: str) -> str:
    with pytest.raises(reading.ConfigErrors) as raised:
        load(text)
    return "\n".join(map(str, raised.value.errors))


def test_a_few_lines_make_this_machine_a_member(load: Load) -> None:
    loaded = load(MEMBER + INSTANCE)
    assert loaded.model.etcd == model.Etcd(("https://192.0.2.1:2379", "https://[2001:db8::2]:2379"))
    assert loaded.model.member == model.Member()
    assert loaded.here
    assert loaded.here.node == Node("db1", IPv4Address("198.51.100.1"))
    assert loaded.model.nodes == (loaded.here.node,)
    assert isinstance(loaded.model.instances[0].election, Nodes)
    assert not loaded.warnings


def test_the_core_learns_the_times_and_whose_prefix_it_is(load: Load) -> None:
    loaded = load(MEMBER + "lease_time = 9\nkeepalive_interval = 2\n" + INSTANCE)
    arbiter = loaded.model.settings(here=loaded.here, machine="boot").arbiter
    assert arbiter
    assert (arbiter.machine, arbiter.lease_time, arbiter.keepalive_interval, arbiter.request_timeout) == (
        *("boot", 9, 2, 1.5),
    )
    assert arbiter.fleet == model.fingerprint(bytes.fromhex("5a" * 32)) != model.fingerprint(b"another")
    assert "5a5a" not in arbiter.fleet


def test_with_nodes_in_the_file_etcd_is_the_arbiter_and_nothing_is_registered(load: Load) -> None:
    loaded = load(MEMBER + NODES + INSTANCE)
    assert loaded.model.member is None
    assert [node.name for node in loaded.model.nodes] == ["db1", "db2"]
    assert loaded.model.settings(here=loaded.here).arbiter


def test_a_member_says_its_name_address_and_weight(load: Load) -> None:
    loaded = load(MEMBER + '[member]\nname = "left"\naddress = "198.51.100.1"\nweight = 2\n' + INSTANCE)
    assert loaded.here
    assert loaded.here.node == Node("left", IPv4Address("198.51.100.1"), 2)


def test_a_prefix_ends_with_a_slash(load: Load) -> None:
    etcd = load(MEMBER + 'prefix = "/prod/web"\n' + INSTANCE).model.etcd
    assert etcd
    assert etcd.prefix == "/prod/web/"


def test_an_exclusive_instance_is_held_by_the_master_alone_and_released_without_etcd(load: Load) -> None:
    one = load("[linode]\ndcid = 6\n" + MEMBER + EXCLUSIVE).model.instances[0]
    assert one.placement == "master"
    assert one.election == Nodes(exclusive=True, on_arbiter_loss="release")
    assert one.interface == "eth0"


def test_members_may_come_and_go_and_the_digest_stays(load: Load) -> None:
    loaded = load(MEMBER + INSTANCE)
    other = replace(loaded.model, nodes=(*loaded.model.nodes, Node("db2", IPv4Address("198.51.100.2"))))
    assert other.digest == loaded.model.digest
    assert load(MEMBER + "lease_time = 9\n" + INSTANCE).model.digest != loaded.model.digest


WRONG = {
    "too short a lease": (
        MEMBER + "lease_time = 3\n" + INSTANCE,
        "floatip.toml:3: etcd.lease_time: keepalive_interval 1 + 2 x request_timeout 1.5 = 4 s is more than lease_time"
        " 3 s: one lost answer would end the lease\n  hint: write lease_time = 4 on all nodes, or request_timeout = 1",
    ),
    "too long a timeout": (
        MEMBER + "request_timeout = 6\n" + INSTANCE,
        "floatip.toml:3: etcd.request_timeout: keepalive_interval 1 + 2 x request_timeout 6 = 13 s is more than "
        "lease_time 10 s: one lost answer would end the lease\n"
        "  hint: write lease_time = 13 on all nodes, or request_timeout = 4.5",
    ),
    "a lease of half seconds": (
        MEMBER + "lease_time = 4.5\n" + INSTANCE,
        "etcd.lease_time: 4.5 is not a whole number of seconds",
    ),
    "a lease of one second": (MEMBER + "lease_time = 1\n" + INSTANCE, "etcd.lease_time: 1 is not between 2 and 3600"),
    "a lease that the kernel cannot count": (
        MEMBER + "lease_time = 3\nkeepalive_interval = 0.5\nrequest_timeout = 1\n" + EXCLUSIVE,
        "etcd.lease_time: 3 s is too short for an exclusive instance: the kernel counts whole seconds\n"
        "  hint: write lease_time = 4 or more, on all nodes alike",
    ),
    "exclusive without etcd": (
        NODES + EXCLUSIVE,
        'instance "db" exclusive: without etcd, halves of a split network may both hold it\n  hint: add [etcd]',
    ),
    "exclusive on all nodes": (
        "[linode]\ndcid = 6\n" + MEMBER + EXCLUSIVE + 'placement = "all"\n',
        'instance "db" placement: cannot be "all" for an exclusive instance: every node would hold the address\n'
        '  hint: write placement = "master", or remove exclusive',
    ),
    "exclusive that holds": (
        MEMBER + EXCLUSIVE + 'on_arbiter_loss = "hold"\n',
        'instance "db" on_arbiter_loss: "hold" is what an exclusive instance must not do',
    ),
    "exclusive beside vrrp": (
        MEMBER + EXCLUSIVE + 'vrrp = { interface = "eth0", vrid = 5, source = "198.51.100.1" }\n',
        'instance "db" exclusive: means nothing beside vrrp\n  hint: remove vrrp: only where the nodes elect',
    ),
    "exclusive beside static": (MEMBER + EXCLUSIVE + 'static = "primary"\n', "exclusive: means nothing beside static"),
    "an endpoint that is no URL": (
        '[etcd]\nendpoints = ["192.0.2.1:2379"]\n' + INSTANCE,
        'etcd.endpoints: "192.0.2.1:2379" is not a URL of etcd\n  hint: write "https://192.0.2.1:2379", or http',
    ),
    "an endpoint with a password": (
        '[etcd]\nendpoints = ["https://root:secret@192.0.2.1"]\n' + INSTANCE,
        "etcd.endpoints: a URL with a user or password",
    ),
    "an endpoint with a path": (
        '[etcd]\nendpoints = ["https://192.0.2.1:2379/v3"]\n' + INSTANCE,
        "has a path\n  hint: write the host and the port alone",
    ),
    "no endpoint": ("[etcd]\n" + INSTANCE, "etcd.endpoints: missing\n  hint: add it, for example endpoints = "),
    "an endpoint twice": (
        '[etcd]\nendpoints = ["http://[::1]", "http://[::1]:2379"]\n[member]\naddress = "198.51.100.1"\n' + INSTANCE,
        "http://[::1]:2379 is there twice\n  hint: name each member of etcd once",
    ),
    "an empty prefix": (MEMBER + 'prefix = ""\n' + INSTANCE, 'etcd.prefix: "" is empty'),
    "a certificate without a key": (
        MEMBER + 'certificate = "/etc/floatip/etcd.crt"\n' + INSTANCE,
        "etcd.certificate: means nothing without key\n  hint: add key, or remove certificate",
    ),
    "a user without a password": (MEMBER + 'user = "floatip"\n' + INSTANCE, "means nothing without password"),
    "a member without etcd": (
        "[member]\n" + INSTANCE,
        "member: a member registers itself at etcd, and there is no [etcd]",
    ),
    "a member beside nodes": (
        MEMBER + "[member]\n" + NODES + INSTANCE,
        "member: this file names the nodes, so none registers itself\n  hint: remove [member], or every [[node]]",
    ),
    "an address of another machine": (
        MEMBER + '[member]\naddress = "198.51.100.9"\n' + INSTANCE,
        "member.address: 198.51.100.9 is not this machine, which has 198.51.100.1",
    ),
    "endpoints that are names": (
        '[etcd]\nendpoints = ["https://etcd1:2379"]\n' + INSTANCE,
        'hint: write [member] address = "..."; this machine has 198.51.100.1',
    ),
    "a floating address": (
        MEMBER + INSTANCE.replace("203.0.113.1", "198.51.100.1") + '[member]\naddress = "198.51.100.1"\n',
        "member.address: 198.51.100.1 is a floating address",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named_with_its_place_and_the_next_step(load: Load, case: str) -> None:
    text, expected = WRONG[case]
    assert expected in wrong(load, text)


def test_a_password_without_tls_is_a_warning_unless_etcd_is_on_this_machine(load: Load, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("secret\n")
    secret.chmod(0o600)
    user = f'user = "floatip"\npassword = "{secret}"\n'
    text = '[etcd]\nendpoints = ["http://127.0.0.1:2379", "http://192.0.2.1:2379"]\n'
    assert [one.text for one in load(text + user + INSTANCE).warnings] == [
        "etcd.endpoints: the password travels readable to http://192.0.2.1:2379, without TLS"
    ]
    secret.chmod(0o644)
    assert any("every user of this machine can use" in one.text for one in load(text + user + INSTANCE).warnings)


def test_on_arbiter_loss_without_etcd_is_a_warning(load: Load) -> None:
    [warning] = load(NODES + INSTANCE + 'on_arbiter_loss = "release"\n').warnings
    assert warning.text == 'instance "db" on_arbiter_loss: means nothing without [etcd]'


def test_without_the_library_the_error_names_its_package(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    there = util.find_spec
    monkeypatch.setattr(rules, "find_spec", lambda name: None if name == "httpx" else there(name))
    assert "hint: apt install python3-httpx; elsewhere: pip install 'floatip[etcd]'" in wrong(load, MEMBER + INSTANCE)
    load(NODES + INSTANCE)


@pytest.mark.parametrize("path", ["/etc", "/dev/zero"])
def test_what_is_no_file_is_not_to_be_closed_for_others(load: Callable[[str], reading.Loaded], path: str) -> None:
    """chmod 640 /etc would lock everybody out."""
    loaded = load(MEMBER + f'ca = "{path}"\n')
    (found,) = [str(one) for one in loaded.warnings if f"{path} cannot be read" in str(one)]
    assert "hint: correct the path: it names no file" in found
    assert "chmod" not in found


def test_an_own_address_that_floats_is_named_and_not_missed(load: Callable[[str], reading.Loaded]) -> None:
    with pytest.raises(reading.ConfigErrors) as refused:
        load(MEMBER + INSTANCE.replace("203.0.113.1", "198.51.100.1"))
    assert "198.51.100.1, with which this machine reaches etcd, is a floating address of an [[instance]]" in str(
        reading.render(refused.value.errors, [])
    )


@pytest.mark.parametrize("key", ["password", "key"])
def test_a_secret_in_place_of_its_file_is_not_shown(load: Callable[[str], reading.Loaded], key: str) -> None:
    with pytest.raises(reading.ConfigErrors) as refused:
        load(MEMBER + f'{key} = "hunter2"\n')
    said = reading.render(refused.value.errors, refused.value.warnings)
    assert f"etcd.{key}: is not an absolute path" in said
    assert "write the secret to a file of its own" in said
    assert "hunter2" not in said
