"""`dcid = "auto"`: the data centre is asked for, remembered, and the same for all nodes of a region."""

import json
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from ipaddress import ip_interface
from pathlib import Path

import pytest

from floatip import convert, init, reading
from floatip.cli import ended
from floatip.host import daemon
from floatip.linode import metadata, region
from floatip.model import Model
from floatip.providers import LINODE_REGIONS, Region
from floatip.reading.machine import Machine
from floatip.reading.toml import reader
from floatip.reading.toml.document import parse
from tests.adopt.test_init import FILE, GUIDE, Played
from tests.command_line import floatip
from tests.linode_fake.account import Account
from tests.linode_fake.clients import fake
from tests.linode_fake.server import Api, Fault, MetadataService

MACHINE = Machine({"eth0": (ip_interface("192.168.143.227/17"),)})
Fake = tuple[Account, Api, MetadataService]
TEXT = '[linode]\ndcid = "auto"\n[[instance]]\nname = "a"\naddresses = ["192.0.2.10/32"]\nstatic = "primary"\n'
KEEPALIVED = """\
vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    priority 100
    unicast_src_ip 192.168.143.227
    unicast_peer {
        192.168.143.241
    }
    virtual_ipaddress {
        192.0.2.10/32
    }
}
"""


@pytest.fixture(name="linode")
def linode_fixture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Fake]:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    with fake(here=1002) as found:
        monkeypatch.setenv(metadata.VARIABLE, found[2].url)
        region.forget()
        yield found
        region.forget()


def unreachable(linode: Fake) -> None:
    linode[2].faults.append(Fault(".*", raw=b"", times=1 << 20))


def read(text: str = TEXT) -> tuple[Model, list[reading.Problem]]:
    model, _, problems = reader.model_of(parse("floatip.toml", text.encode()))
    return model, problems


def dcid(model: Model) -> int:
    assert model.network
    return model.network.profile.dcid


def test_auto_is_the_number_of_the_region(linode: Fake) -> None:
    model, problems = read()
    assert not problems
    assert dcid(model) == 6
    assert str(model.network and model.network.profile.peers[0]) == "2600:3c0f:6:34::1"
    assert model == read(TEXT.replace('"auto"', "6"))[0]


@pytest.mark.parametrize("one", LINODE_REGIONS, ids=lambda one: one.slug)
def test_each_known_region_has_its_number(linode: Fake, one: Region) -> None:
    linode[2].linode.region = one.slug
    assert dcid(read()[0]) == one.dcid


def test_the_table_has_each_number_and_region_once() -> None:
    assert len({one.dcid for one in LINODE_REGIONS}) == len({one.slug for one in LINODE_REGIONS}) == len(LINODE_REGIONS)
    assert next(one.place for one in LINODE_REGIONS if one.slug == "de-fra-2" and one.dcid == 47)


def test_two_nodes_of_a_region_have_one_digest_also_where_one_names_it(linode: Fake) -> None:
    digests = {read(TEXT.replace('"auto"', value))[0].digest for value in ('"auto"', "6", '"us-east"')}
    linode[2].linode = linode[0].linodes[1001]
    region.forget()
    digests.add(read()[0].digest)
    assert len(digests) == 1
    assert read(TEXT.replace('"auto"', "7"))[0].digest not in digests


def test_it_is_asked_once_a_process(linode: Fake) -> None:
    for _ in range(3):
        read()
    assert linode[2].count("GET /instance") == 1
    unreachable(linode)
    model, problems = read()
    assert (dcid(model), problems) == (6, [])


def test_an_unknown_region_is_an_error_that_says_what_to_write(linode: Fake) -> None:
    linode[2].linode.region = "jp-tyo-3"
    _, (problem,) = read()
    assert type(problem) is reading.ConfigError
    assert str(problem).startswith(
        'floatip.toml:2: linode.dcid: "auto" is region jp-tyo-3, whose number floatip does not'
    )
    assert "dcid = 6" in problem.hint


def test_without_the_service_and_without_a_memory_this_machine_is_not_ready(linode: Fake) -> None:
    unreachable(linode)
    _, (problem,) = read()
    assert isinstance(problem, reading.MachineError)  # the daemon exits with 75, and systemd tries again
    assert problem.line == 2
    assert '"auto" is not known: the metadata service at 127.0.0.1 closes' in problem.what
    assert "dcid = 6" in problem.hint


def test_a_silent_service_holds_up_a_reading_for_two_seconds_once(linode: Fake) -> None:
    linode[2].faults.append(Fault(".*", 200, seconds=60, times=1 << 20))
    began = time.monotonic()
    read()
    assert metadata.TIMEOUT * 0.9 < time.monotonic() - began < 2 * metadata.TIMEOUT
    began = time.monotonic()
    read()
    assert time.monotonic() - began < metadata.TIMEOUT / 2


def remember(linode: Fake) -> Path:
    region.find()
    region.keep()
    region.forget()
    return Path(os.environ["STATE_DIRECTORY"]) / region.NAME


def test_what_an_earlier_start_was_told_serves_where_the_service_is_silent(linode: Fake) -> None:
    remember(linode)
    unreachable(linode)
    model, (problem,) = read()
    assert dcid(model) == 6
    assert isinstance(problem, reading.ConfigWarning)
    assert "6 (us-east), as Linode's metadata service said at 20" in problem.what
    assert "closes the connection" in problem.what
    assert "dcid = 6" in problem.hint


def test_the_service_counts_more_than_the_memory(linode: Fake) -> None:
    file = remember(linode)
    linode[2].linode.region = "eu-central"
    assert dcid(read()[0]) == 10
    region.keep()
    assert json.loads(file.read_text())["region"] == "eu-central"


def test_the_memory_is_written_only_when_it_changes(linode: Fake) -> None:
    file = remember(linode)
    os.utime(file, (1, 1))
    region.find()
    region.keep()
    assert file.stat().st_mtime == 1


BROKEN = {
    "no JSON": "x",
    "another type": "[]",
    "no region": '{"when": "2026-11-29T00:00:00Z"}',
    "an unknown region": '{"region": "xx", "when": "2026-11-29T00:00:00Z"}',
    "a time that is none": '{"region": "us-east", "when": "\\u001b[31m"}',
    "a time of another type": '{"region": "us-east", "when": 5}',
    "too much": json.dumps({"region": "us-east", "when": "2026-11-29T00:00:00Z", "x": "x" * 5000}),
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_memory_is_none(linode: Fake, text: str) -> None:
    remember(linode).write_text(text)
    unreachable(linode)
    _, (problem,) = read()
    assert isinstance(problem, reading.MachineError)


def test_a_fifo_in_place_of_the_memory_holds_up_nothing(linode: Fake) -> None:
    file = remember(linode)
    file.unlink()
    os.mkfifo(file)
    unreachable(linode)
    assert isinstance(read()[1][0], reading.MachineError)


def test_the_daemon_remembers_it_and_starts_without_the_service(linode: Fake, tmp_path: Path) -> None:
    file = tmp_path / "floatip.toml"
    file.write_text(TEXT)
    assert not [one for one in daemon._load(file, None, None, None).warnings if "dcid" in one.path]
    region.forget()
    unreachable(linode)
    loaded = daemon._load(file, None, None, None)
    assert dcid(loaded.model) == 6
    assert ["as Linode's metadata service said" in one.what for one in loaded.warnings if "dcid" in one.path] == [True]


def test_a_state_directory_that_cannot_be_written_is_a_warning(linode: Fake, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no directory")
    file = tmp_path / "floatip.toml"
    file.write_text(TEXT)
    loaded = daemon._load(file, None, None, None)
    (warning,) = [one for one in loaded.warnings if "dcid" in one.path]
    assert warning.what.startswith("the data centre is not remembered for the next start: ")


def test_check_names_the_data_centre_that_was_found(linode: Fake, tmp_path: Path) -> None:
    file = tmp_path / "floatip.toml"
    file.write_text(TEXT)
    status, text = floatip("check", str(file))
    assert status == 0, text
    assert "Newark (6): 4 route servers" in text


def test_check_changes_nothing(linode: Fake, tmp_path: Path) -> None:
    file = tmp_path / "floatip.toml"
    file.write_text(TEXT)
    floatip("check", str(file))
    assert not (tmp_path / "state").exists()


def test_plan_needs_no_service(linode: Fake, tmp_path: Path) -> None:
    unreachable(linode)
    nodes = "".join(f'[[node]]\nname = "n{n}"\naddress = "192.0.2.{n}"\n' for n in (1, 2))
    file = tmp_path / "floatip.toml"
    file.write_text(TEXT.replace('static = "primary"\n', nodes))
    status, text = floatip("plan", str(file))
    assert status == 0, text
    assert "n1" in text


def test_the_front_end_of_keepalived_takes_auto_from_the_command_line_and_from_its_drop_in(
    linode: Fake, tmp_path: Path
) -> None:
    conf = tmp_path / "keepalived.conf"
    conf.write_text(KEEPALIVED)
    assert dcid(reading.read(conf, MACHINE, "auto").model) == 6
    (tmp_path / "floatip.toml").write_text('[linode]\ndcid = "auto"\n')
    assert dcid(reading.read(conf, MACHINE).model) == 6
    assert not reading.read(conf, MACHINE, "auto").problems
    (problem,) = reading.read(conf, MACHINE, 6).problems
    assert problem.what == '"auto" is not 6, which --dcid says'


def test_the_command_line_takes_a_number_or_auto(linode: Fake, tmp_path: Path) -> None:
    file = tmp_path / "floatip.toml"
    file.write_text(TEXT.replace('dcid = "auto"', ""))
    for text, said in (("auto", "Newark (6)"), ("10", "Frankfurt (10)")):
        assert said in floatip("check", str(file), "--dcid", text)[1]
    for wrong in ("Auto", "0", "10000", "-1", "auto ", "99999999999999999999"):
        status, text = floatip("check", str(file), f"--dcid={wrong}")
        assert (status, f"'{wrong}' is not a whole number from 1 to 9999" in text) == (2, True), text


def test_convert_writes_the_number(linode: Fake, tmp_path: Path) -> None:
    conf = tmp_path / "keepalived.conf"
    conf.write_text(KEEPALIVED)
    assert "dcid = 6" in convert.written(conf, reading.read(conf, MACHINE, "auto"))


def test_init_writes_auto_and_says_where_that_is(linode: Fake, tmp_path: Path) -> None:
    host, answers = Played(tmp_path), GUIDE | {"dcid": "auto"}
    assert ended(lambda: init.init(host, answers, FILE)) == 0
    text = host.text(FILE)
    assert tomllib.loads(text)["linode"] == {"dcid": "auto"}
    assert "Newark (us-east)" in text


def test_init_refuses_auto_where_no_service_answers(
    linode: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unreachable(linode)
    host, answers = Played(tmp_path), GUIDE | {"dcid": "auto"}
    assert ended(lambda: init.init(host, answers, FILE)) == 2
    assert '--dcid: "auto" is not known' in capsys.readouterr().err
    assert not host.at(FILE).exists()


def test_a_daemon_that_needs_no_region_loads_none_of_this() -> None:
    code = (
        "import sys; import floatip.host.daemon; print([one for one in sys.modules if 'linode' in one or one == 'h11'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
