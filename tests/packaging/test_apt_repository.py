"""The repository of `make apt-repo`: apt installs from it, and refuses what was changed on the way."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from floatip import __version__
from tests.packaging.trees import Key, Layer, lay_out, served
from tests.systemd.machines import debian
from tests.systemd.stacks import NEXT_VERSION, next_package, package

ROOT = Path(__file__).parents[2]
SUITE = "dists/stable"
POOL = "pool/main/f/floatip"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Key]:
    assert os.geteuid() == 0, "a chroot needs root: sudo make test"
    key = Key(tmp_path_factory.mktemp("keys") / "ours")
    yield key
    key.close()


@pytest.fixture
def repository(tmp_path: Path, key: Key) -> Iterator[Path]:
    directory = tmp_path / "apt"
    with served(directory) as url:
        done = lay_out(directory, package(), key.environment | {"URL": url})
        assert done.returncode == 0, done.stderr
        yield directory


@pytest.fixture
def host(tmp_path: Path, repository: Path) -> Layer:
    """Debian 12 with what floatip needs, where apt knows no other archive."""
    host = Layer(tmp_path / "host", str(debian()))
    host.write("/etc/apt/sources.list", "")
    host.write("/etc/apt/sources.list.d/floatip.sources", (repository / "floatip.sources").read_text())
    return host


def refused(host: Layer, reason: str) -> None:
    """apt refuses the lists, and the package."""
    _, told = host.try_to("apt-get update")
    assert re.search(reason, told), told
    status, told = host.try_to("apt-get install -y floatip")
    assert status != 0
    assert "Unable to locate package floatip" in told


def test_apt_installs_it_and_an_upgrade_and_goes_back(host: Layer, repository: Path, key: Key, tmp_path: Path) -> None:
    updated = host.run("apt-get update")
    assert not re.search("^[WE]:", updated, re.M), updated
    host.run("apt-get install -y floatip")
    assert host.run("floatip --version") == f"floatip {__version__}\n"
    example = re.search(r"```toml\n(# /etc/floatip/floatip.toml.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert example
    host.write("/etc/floatip/floatip.toml", example[1])
    host.run("floatip key && chgrp floatip /etc/floatip/*")
    ours = "ip link set lo up && ip address add 192.168.143.227/17 dev lo"
    host.run(f"unshare --net sh -ec '{ours} && floatip check'")
    done = lay_out(repository, next_package(tmp_path), key.environment | {"URL": "http://127.0.0.1"})
    assert done.returncode == 0, done.stderr
    host.run("apt-get update && apt-get upgrade -y")
    assert NEXT_VERSION in host.run("dpkg-query --show floatip")
    host.run(f"apt-get install -y --allow-downgrades floatip={__version__} && floatip --version")
    host.run("apt-get purge -y floatip")
    assert host.try_to("test -e /usr/lib/floatip || test -e /etc/floatip || test -e /var/lib/floatip")[0] == 1


def test_every_module_is_compiled_for_the_python_of_the_host(host: Layer) -> None:
    host.run("apt-get update && apt-get install -y floatip")
    modules = host.run("find /usr/lib/floatip -name '*.py'").split()
    assert "/usr/lib/floatip/floatip/__main__.py" in modules
    # PEP 552: a hash of the source that is not looked at.
    flags = host.run("find /usr/lib/floatip -name '*.pyc' | while read f; do echo $f $(od -An -tu4 -j4 -N4 $f); done")
    compiled = dict(line.split() for line in flags.splitlines())
    assert set(compiled.values()) == {"1"}
    wanted = {re.sub(r"([^/]+)\.py$", r"__pycache__/\1.cpython-311.pyc", module) for module in modules}
    assert compiled.keys() == wanted
    where = "import floatip.cli; print(floatip.cli.main.__code__.co_filename)"
    told = host.run(f"PYTHONPATH=/usr/lib/floatip python3 -c '{where}'")
    assert told == "/usr/lib/floatip/floatip/cli.py\n"
    # As an upgrade of Python does.
    host.run("rm -r /usr/lib/floatip/floatip/__pycache__ && dpkg-trigger --by-package=python3-minimal /usr/bin/python3")
    host.run("dpkg --configure --pending && test -e /usr/lib/floatip/floatip/__pycache__/cli.cpython-311.pyc")


def test_apt_refuses_a_package_that_was_changed(host: Layer, repository: Path) -> None:
    host.run("apt-get update")
    (file,) = (repository / POOL).iterdir()
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    status, told = host.try_to("apt-get install -y floatip")
    assert status != 0
    assert "Hash Sum mismatch" in told
    assert host.try_to("dpkg-query --show floatip")[0] == 1


def test_apt_refuses_lists_that_were_changed(host: Layer, repository: Path) -> None:
    for file in (repository / SUITE / "main").rglob("*"):
        if file.is_file():
            file.write_bytes(b"Package: floatip\n" + file.read_bytes())
    refused(host, "Hash Sum mismatch|unexpected size")


def test_apt_refuses_a_release_file_that_was_changed(host: Layer, repository: Path) -> None:
    for name in ("InRelease", "Release"):
        file = repository / SUITE / name
        file.write_text(file.read_text().replace("Origin: floatip", "Origin: another"))
    refused(host, "BADSIG|invalid")


def test_apt_refuses_a_repository_without_a_signature(host: Layer, repository: Path) -> None:
    for name in ("InRelease", "Release.gpg"):
        (repository / SUITE / name).unlink()
    refused(host, "is not signed")


def test_apt_refuses_the_signature_of_another_key(
    host: Layer, repository: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Key(tmp_path_factory.mktemp("keys") / "other")
    try:
        done = lay_out(repository, package(), other.environment | {"URL": "http://127.0.0.1"})
        assert done.returncode == 0, done.stderr
    finally:
        other.close()
    refused(host, "NO_PUBKEY")


def test_amd64_and_arm64_get_the_same_package_and_nothing_in_it_is_machine_code(repository: Path) -> None:
    lists = [(repository / SUITE / f"main/binary-{each}/Packages").read_text() for each in ("amd64", "arm64")]
    assert lists[0] == lists[1]
    assert "Architecture: all\n" in lists[0]


@pytest.mark.parametrize(
    ("settings", "said", "hint"),
    [
        ({"KEYID": "", "URL": "http://127.0.0.1"}, "no key to sign with", "KEYID="),
        ({"KEYID": "nobody@example.org", "URL": "http://127.0.0.1"}, "no secret key nobody@example.org", "gpg --list"),
        ({"URL": ""}, "address of the repository is not named", "URL="),
    ],
)
def test_nothing_is_laid_out_without_a_key_or_an_address(
    key: Key, tmp_path: Path, settings: dict[str, str], said: str, hint: str
) -> None:
    done = lay_out(tmp_path / "apt", package(), key.environment | settings)
    assert done.returncode == 1
    error, hints = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert said in error
    assert hints.startswith("hint: ")
    assert hint in hints
    assert not (tmp_path / "apt").exists()


def test_a_key_that_has_expired_leaves_the_repository_as_it_was(repository: Path, tmp_path: Path) -> None:
    key = Key(tmp_path / "expired", "--faked-system-time=20200101T000000!")
    before = (repository / SUITE / "InRelease").read_text()
    try:
        done = lay_out(repository, package(), key.environment | {"URL": "http://127.0.0.1"})
    finally:
        key.close()
    assert done.returncode == 1
    assert f"error: key {key.id} does not sign\nhint: " in done.stderr
    assert (repository / SUITE / "InRelease").read_text() == before
