"""The filters of the Ansible collection: floatip.toml from variables, the nodes of an inventory, mistakes."""

import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from floatip.reading.toml import document, reader

ROOT = Path(__file__).parents[2]
GIVEN: dict[str, Any] = {
    "deb": "",
    "places": [],
    "announces": True,
    "apt_sources": "",
    "config": "",
    "group": "floatip",
    "nodes": [{"name": "a", "address": "192.0.2.1"}, {"name": "b", "address": "192.0.2.2"}],
    "instances": [{"name": "web", "addresses": ["192.0.2.10/32"]}],
    "etcd": False,
    "etcd_files": {},
    "member": False,
    "fleet": False,
}


def loaded() -> Any:
    spec = spec_from_file_location("ansible_filters", ROOT / "deploy/ansible/plugins/filter/floatip.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


filters = loaded()


def test_what_is_written_is_read_again() -> None:
    tables = {
        "log": "json",
        "release_delay": 1.5,
        "linode": {"dcid": 6},
        "http": {"listen": ["127.0.0.1:8179"], "a key": 'quoted "\\ text\n\t\x01\x7fä'},
        "node": [{"name": "a", "weight": 0}, {"name": "b"}],
        "instance": [{"name": "web", "preempt": True, "vrrp": {"vrid": 51, "peers": ["192.0.2.2"], "of": [{"x": 1}]}}],
    }
    assert tomllib.loads(filters.to_toml(tables)) == tables


def test_variables_without_mistakes_make_a_configuration_without() -> None:
    assert filters.mistakes(GIVEN) == []
    tables = {"linode": {"dcid": 6}, "node": GIVEN["nodes"], "instance": GIVEN["instances"]}
    assert names_of_nodes(filters.to_toml(tables)) == ["a", "b"]


def names_of_nodes(text: str) -> list[str]:
    """Of a configuration in which no value is wrong."""
    model, _, problems = reader.model_of(document.parse("floatip.toml", text.encode()))
    assert not problems
    return [node.name for node in model.nodes]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"deb": "floatip_9_all.deb", "apt_sources": "Types: deb"}, "exclude each other: leave out one of the two"),
        ({"deb": "floatip.deb"}, "floatip.deb is not named floatip_VERSION_ARCHITECTURE.deb"),
        ({"deb": "floatip_9_all.deb", "places": ["/a", "/b"]}, "no floatip_9_all.deb in /a or /b: make deb builds one"),
        ({"announces": False}, "nothing would be announced, so no traffic would come: set floatip_dcid, or bgp in"),
        ({"instances": []}, "no floating address: set floatip_instances"),
        ({"nodes": []}, "the group floatip of the inventory has 0 of the nodes, and two are needed"),
        (
            {"nodes": [{"name": "a", "address": ""}, {"name": "b"}]},
            "a has no address by which the others",
        ),
        ({"member": True}, "floatip_member means nothing without etcd: set floatip_etcd"),
        ({"fleet": True}, "floatip_fleet means nothing without etcd"),
        ({"etcd_files": {"ca": "x"}}, "floatip_etcd_files means nothing without etcd"),
        ({"etcd": True, "etcd_files": {"cert": "x"}}, "cert is no file of [etcd]: the keys are ca,"),
    ],
)
def test_each_mistake_is_named_with_what_to_do(changes: dict[str, Any], says: str) -> None:
    assert says in "\n".join(filters.mistakes(GIVEN | changes))


def test_nodes_that_share_a_layer_2_announce_nothing() -> None:
    assert filters.mistakes(GIVEN | {"announces": False, "instances": [{"name": "web", "placement": "master"}]}) == []


def test_a_package_is_looked_for_beside_the_inventory_and_where_the_command_was_typed(tmp_path: Path) -> None:
    beside, here = tmp_path / "inventory", tmp_path / "here"
    for each in (beside, here):
        each.mkdir()
        (each / "floatip_1_all.deb").touch()
    (here / "floatip_2_all.deb").touch()
    places = [str(beside), str(here)]
    assert filters.located("floatip_1_all.deb", places) == str(beside / "floatip_1_all.deb")
    assert filters.located("floatip_2_all.deb", places) == str(here / "floatip_2_all.deb")
    assert filters.located(str(here / "floatip_1_all.deb"), places) == str(here / "floatip_1_all.deb")
    assert filters.located("floatip_3_all.deb", places) == ""


@pytest.mark.parametrize(
    "text",
    [
        '[bgp]\nmd5 = "x"',
        '[bgp]\nroute_servers = [{ address = "192.0.2.1", md5 = "x" }]',
        'auth_hmac = [{ id = 1, key = "x" }]',
        'headers = { Authorization = "Bearer x" }',
        'url = "https://me:x@192.0.2.1/"',
    ],
)
def test_a_file_with_a_secret_is_shown_in_no_diff(text: str) -> None:
    assert filters.has_secret(text)
    assert not filters.has_secret('[linode]\ndcid = 6\n\n[[check]]\nname = "web"\nhttp = "http://127.0.0.1/"\n')


def test_a_whole_file_needs_no_other_variable() -> None:
    assert filters.mistakes(GIVEN | {"config": "[linode]", "nodes": [], "instances": []}) == []


def test_a_node_is_a_host_of_the_inventory() -> None:
    hosts = {
        "a": {"ansible_host": "192.0.2.1", "floatip_node": {"weight": 2}},
        "b": {"ansible_host": "b.example.org", "floatip_node_name": "beta", "floatip_node_address": "192.0.2.2"},
        "c": {"ansible_host": "c.example.org"},
    }
    assert filters.nodes(list(hosts), hosts) == [
        {"name": "a", "address": "192.0.2.1", "weight": 2},
        {"name": "beta", "address": "192.0.2.2"},
        {"name": "c", "address": ""},
    ]


def test_members_need_no_instance_and_no_address() -> None:
    nodes = [{"name": "a", "address": ""}]
    assert filters.mistakes(GIVEN | {"etcd": True, "member": True, "instances": [], "nodes": nodes}) == []
    hosts = {"a": {"ansible_host": "a.example.org", "floatip_node": {"weight": 2}}, "b": {"ansible_host": "192.0.2.2"}}
    assert filters.member(hosts, "a") == {"name": "a", "weight": 2}
    assert filters.member(hosts, "b") == {"name": "b", "address": "192.0.2.2"}


def test_versions_are_read_from_what_dpkg_and_apt_print() -> None:
    installed = "Package: floatip\nStatus: install ok installed\nVersion: 1:0.1.0+test2\nDescription: a: b\n"
    assert filters.version_installed(installed) == "1:0.1.0+test2"
    assert filters.version_installed(installed.replace("install ok installed", "deinstall ok config-files")) == ""
    assert filters.version_installed("") == ""
    assert filters.candidate("floatip:\n  Installed: (none)\n  Candidate: 0.1.0\n") == "0.1.0"
    assert filters.candidate("floatip:\n  Installed: (none)\n  Candidate: (none)\n") == ""
    assert filters.version_of("/tmp/a_b/floatip_0.1.0+next_all.deb") == "0.1.0+next"


def test_the_configuration_of_the_opentofu_example_is_one_that_floatip_reads() -> None:
    text = (ROOT / "deploy/opentofu/floatip.toml.tftpl").read_text()
    head, each = text.split("%{ for name, address in nodes ~}\n")
    node, tail = each.split("%{ endfor ~}\n")
    hosts = {"a": "192.0.2.1", "b": "192.0.2.2"}
    nodes = "".join(node.replace("${name}", name).replace("${address}", address) for name, address in hosts.items())
    filled = head + nodes + tail
    for name, value in {"dcid": "6", "floating": "192.0.2.10", "port": "80"}.items():
        filled = filled.replace(f"${{{name}}}", value)
    assert "$" not in filled
    assert names_of_nodes(filled) == ["a", "b"]


def test_the_configuration_of_a_member_by_opentofu_is_one_that_floatip_reads() -> None:
    text = (ROOT / "deploy/opentofu/fleet/floatip.toml.tftpl").read_text()
    filled = text.replace("${endpoints}", '["https://192.0.2.1:2379"]')
    assert "$" not in filled
    model, _, problems = reader.model_of(document.parse("floatip.toml", filled.encode()))
    assert not problems
    assert model.member
    assert model.etcd
    assert (model.etcd.user, model.etcd.endpoints) == ("floatip", ("https://192.0.2.1:2379",))
