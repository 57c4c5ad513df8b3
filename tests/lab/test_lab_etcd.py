"""The lab's etcd: three real members, on hosts of their own."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from floatip.lab.holders import Held, together
from floatip.lab.namespaces import LabError
from floatip.lab.network import WITNESSES, Network
from floatip.lab.programs import etcd as programs
from floatip.lab.programs.etcd import Etcd
from floatip.lab.scenes import SCENES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    assert os.geteuid() == 0, "the lab's tests need root: sudo .venv/bin/python -m pytest tests/lab"
    with Network(tmp_path_factory.mktemp("lab"), WITNESSES) as network:
        yield network


@pytest.fixture(scope="module")
def etcd(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Etcd:
    made = Etcd(network, tmp_path_factory.mktemp("data"))
    made.start()
    return made


def etcdctl(network: Network, etcd: Etcd, *words: str) -> str:
    with network.inside("haproxy1"):
        return subprocess.check_output(["etcdctl", *words], env={**os.environ, **etcd.environment}, text=True)


def test_what_the_members_store_outlives_that_all_of_them_are_killed(network: Network, etcd: Etcd) -> None:
    etcdctl(network, etcd, "put", "/floatip/a", "b")
    etcd.kill()
    assert not any(member.is_healthy for member in etcd.members.values())
    etcd.start()
    assert etcdctl(network, etcd, "get", "/floatip/a").split() == ["/floatip/a", "b"]


def test_another_member_leads_when_the_one_that_leads_is_cut_off(network: Network, etcd: Etcd) -> None:
    leader = etcd.leader()
    network.faults.cut(leader)
    try:
        etcd.wait_for(lambda: etcd.leader() != leader, "another leader")
    finally:
        network.faults.heal(leader)


def test_a_node_that_is_cut_off_from_etcd_reaches_everything_else(network: Network, etcd: Etcd) -> None:
    def reaches(host: str, address: str) -> bool:
        with network.inside(host):
            done = subprocess.run(["ping", "-c", "1", "-W", "1", address], capture_output=True, check=False)
        return done.returncode == 0

    members = {name: member.address for name, member in etcd.members.items()}
    network.faults.cut_from("haproxy1", members)
    assert not any(reaches("haproxy1", address) for address in members.values())
    assert reaches("haproxy1", "192.168.143.241")
    assert all(reaches("haproxy2", address) for address in members.values())
    network.faults.heal_from("haproxy1", members)
    assert all(reaches("haproxy1", address) for address in members.values())


def test_without_etcd_the_lab_says_which_package_has_it_and_how_to_stop_debians_own(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "find_program", missing)
    with pytest.raises(LabError, match="the lab needs etcd") as raised:
        Etcd(network, tmp_path)
    assert "apt install etcd-server" in raised.value.hint
    assert "systemctl disable --now etcd" in raised.value.hint


def missing(name: str, package: str) -> str:
    raise LabError(f"the lab needs {name}, which is not installed", f"apt install {package}")


@pytest.mark.parametrize("scene", ["all", *SCENES])
def test_make_installs_etcd_for_the_scenes_that_have_it_and_for_no_other(scene: str) -> None:
    said = subprocess.check_output(["make", "-n", "lab-needs", f"SCENE={scene}"], text=True, cwd=ROOT)
    assert ("etcd:etcd-server" in said) == (scene == "all" or SCENES[scene].etcd)


def test_two_nodes_that_have_the_address_at_once_are_found_and_for_how_long() -> None:
    one_after_another = {"a": [Held(0, False), Held(1, True), Held(2, False)], "b": [Held(0, False), Held(2.5, True)]}
    assert together(one_after_another) == (1, 0.0)
    overlapping = {"a": [Held(0, False), Held(1, True), Held(2, False)], "b": [Held(0, False), Held(1.75, True)]}
    assert together(overlapping) == (2, 0.25)
    assert together({"a": [Held(0, False)], "b": [Held(0, False)]}) == (0, 0.0)
    still = {"a": [Held(0, False), Held(1, True)], "b": [Held(0, False), Held(2, True)]}
    assert together(still)[0] == 2
