"""The package that `make deb` builds: what is in it, what it asks for, how its units are locked up. Boots nothing."""

import json
import posixpath
import re
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

import floatip
from floatip import cli  # noqa: F401 (it fills the table)
from floatip.commands import COMMANDS
from tests.systemd import stacks

ROOT = Path(__file__).parents[2]
LIBRARY = "./usr/lib/floatip/"


def output(*command: str | Path) -> bytes:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout.decode()}{done.stderr.decode()}"
    return done.stdout


@pytest.fixture(scope="module")
def package() -> Path:
    """Make builds it when a source is newer than what is in dist/."""
    return stacks.package()


@pytest.fixture(scope="module")
def contents(package: Path) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=BytesIO(output("dpkg-deb", "--fsys-tarfile", package))) as files:
        members = {member.name: member for member in files}
        opened = {name: files.extractfile(member) for name, member in members.items() if member.isfile()}
        return {name: (members[name], file.read() if (file := opened.get(name)) else b"") for name in members}


@pytest.mark.parametrize("unit", ["floatip.service", "floatip-lelastic.service"])
def test_the_unit_is_locked_up(unit: str) -> None:
    report = output("systemd-analyze", "security", "--offline=true", "--no-pager", ROOT / "debian" / unit).decode()
    exposure = re.search(r"exposure level for \S+: (\S+)", report)
    assert exposure
    print(f"\n{unit}: exposure {exposure[1]}")
    assert float(exposure[1]) <= 2.4, report


@pytest.mark.parametrize("unit", ["floatip.service", "floatip-lelastic.service"])
def test_systemd_understands_every_line_of_the_unit(unit: str, tmp_path: Path) -> None:
    # The programs that it starts and shows are not on this machine: others stand in for them.
    text = re.sub(
        r"^(Exec\w+=)/usr/bin/floatip\S*", r"\1/bin/true", (ROOT / "debian" / unit).read_text(), flags=re.MULTILINE
    )
    (tmp_path / unit).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / unit],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert unit not in done.stderr, done.stderr


def test_the_fields_say_what_it_needs(package: Path) -> None:
    fields = {}
    for line in output("dpkg-deb", "--field", package).decode().splitlines():
        name, colon, value = line.partition(": ")
        if colon:
            fields[name] = value
    print("\n" + json.dumps(fields, indent=2))
    assert fields["Package"] == "floatip"
    assert fields["Version"] == floatip.__version__, "debian/changelog and floatip.__version__ differ"
    assert fields["Architecture"] == "all"
    needs = fields["Depends"]
    assert "python3 (>= 3.11) | python3.11" in needs, needs
    assert "procps" in needs, "/bin/kill of ExecReload"
    assert {"python3-h11", "python3-rich"} <= set(needs.split(", ")), needs


def test_all_belongs_to_root_and_nobody_else_may_write(contents: dict[str, tuple[tarfile.TarInfo, bytes]]) -> None:
    for name, (member, _) in contents.items():
        assert (member.uname, member.gname) == ("root", "root"), name
        assert member.issym() or not member.mode & 0o7022, f"{name}: mode {member.mode:o}"
    programs = {name: member.linkname for name, (member, _) in contents.items() if name.startswith("./usr/bin/")}
    assert programs == {"./usr/bin/floatip": "", "./usr/bin/floatip-lelastic": "floatip"}


def test_no_file_knows_where_it_was_built(contents: dict[str, tuple[tarfile.TarInfo, bytes]]) -> None:
    index = output(sys.executable, "-m", "pip", "config", "list").decode()
    # As they stand in an address, since a mirror may be called localhost or pypi.
    hosts = {re.escape(host) for host in re.findall(r"://(?:[^@/\s']*@)?([^/\s']+)", index)} - {r"pypi\.org"}
    # A checkout may lie in a directory whose name ends the paths of others, such as /floatip.
    checkout = rf"(?<![\w.-]){re.escape(str(ROOT))}(?![\w.-])"
    for place in (checkout, "debian/floatip/usr", *(rf"(//|@){host}[/'\"\s]" for host in hosts)):
        knowing = [name for name, (_, content) in contents.items() if re.search(place.encode(), content)]
        assert not knowing, f"{place!r} stands in {knowing[:5]}"


def test_nothing_in_it_is_machine_code(contents: dict[str, tuple[tarfile.TarInfo, bytes]]) -> None:
    assert not [name for name, (_, content) in contents.items() if content.startswith(b"\x7fELF")]


def test_every_module_is_there_and_none_compiled_for_one_python(
    contents: dict[str, tuple[tarfile.TarInfo, bytes]],
) -> None:
    sources = {str(file.relative_to(ROOT / "src")) for file in (ROOT / "src/floatip").rglob("*.py")}
    assert {name.removeprefix(LIBRARY) for name in contents if name.endswith(".py")} == sources
    assert not [name for name in contents if name.endswith(".pyc")]


def test_the_files_of_the_page_are_there(contents: dict[str, tuple[tarfile.TarInfo, bytes]]) -> None:
    static = sorted((ROOT / "src/floatip/web/static").iterdir())
    assert static
    for file in static:
        assert contents[f"{LIBRARY}floatip/web/static/{file.name}"][1] == file.read_bytes()


def test_it_bundles_no_library(contents: dict[str, tuple[tarfile.TarInfo, bytes]]) -> None:
    inside = {name.removeprefix(LIBRARY).split("/")[0] for name in contents if name.startswith(LIBRARY)}
    assert inside - {""} == {"floatip", "compile"}


def test_every_document_that_a_unit_or_a_document_names_is_there(
    contents: dict[str, tuple[tarfile.TarInfo, bytes]],
) -> None:
    units = (content.decode() for name, (_, content) in contents.items() if name.endswith(".service"))
    named = {f".{path}" for unit in units for path in re.findall(r"file://(\S+)", unit)}
    assert named
    for name in ("operate/README.md", "examples/alerts.yml", "examples/grafana-dashboard.json"):
        assert f"./usr/share/doc/floatip/{name}" in contents
    for name, (_, content) in contents.items():
        if name.startswith("./usr/share/doc/floatip/") and name.endswith(".md"):
            links = re.findall(r"\]\((?!https?:)([^)#]+)", content.decode())
            named |= {f"./{posixpath.normpath(posixpath.join(posixpath.dirname(name), link))}" for link in links}
    assert not named - contents.keys()


def test_the_man_page_knows_every_command(contents: dict[str, tuple[tarfile.TarInfo, bytes]]) -> None:
    page = (ROOT / "docs/man/floatip.8").read_text()
    assert "status" in COMMANDS
    for command in COMMANDS:
        assert re.search(rf"^\.BR? {command}\b", page, re.MULTILINE), f"docs/man/floatip.8 says nothing of {command}"


def test_the_completions_are_where_the_shells_look(contents: dict[str, tuple[tarfile.TarInfo, bytes]]) -> None:
    for path in ("bash-completion/completions/floatip", "zsh/vendor-completions/_floatip"):
        assert b"--withdraw" in contents[f"./usr/share/{path}"][1]
    assert b"-l withdraw" in contents["./usr/share/fish/vendor_completions.d/floatip.fish"][1]
    # bash and fish look for a file of the command's name.
    for path in ("bash-completion/completions/floatip-lelastic", "fish/vendor_completions.d/floatip-lelastic.fish"):
        assert contents[f"./usr/share/{path}"][0].issym()


def test_it_starts_from_the_package_alone(package: Path, tmp_path: Path) -> None:
    output("dpkg-deb", "--extract", package, tmp_path)
    launcher = (tmp_path / "usr/bin/floatip").read_text()
    assert launcher.startswith("#!/usr/bin/python3 -IS\n"), "libraries of the user or of the site would be found first"
    elsewhere = launcher.replace('"/usr/lib/floatip"', f'"{tmp_path}/usr/lib/floatip"')
    for arguments in (["--version"], ["providers"], ["lab", "--list"]):
        assert output("/usr/bin/python3", "-IS", "-c", elsewhere, *arguments)
