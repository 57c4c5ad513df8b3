"""FIFOs that floatip writes to: whether its user may, before it starts. As root, since another user is looked at."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from floatip.model import DAEMON, RunAs
from floatip.reading.files import RUN, own_fifo
from floatip.reading.machine import Machine


def nobody() -> Machine:
    """It remembers what it has looked at."""
    return Machine({}, user="nobody")


@pytest.fixture
def directory() -> Iterator[Path]:
    """Everybody may look into it, only root may write."""
    with TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_a_fifo_that_the_user_cannot_make_is_named_with_the_line_for_tmpfiles(directory: Path) -> None:
    [doubt] = own_fifo(directory / "fifo", RunAs("daemon"), nobody())
    assert doubt.what == f"{directory}/fifo cannot be made by user nobody: it may not write to {directory}"
    assert f"echo 'p {directory}/fifo 0660 daemon floatip' > /etc/tmpfiles.d/fifo.conf" in doubt.hint
    assert not doubt.is_error


def test_a_fifo_without_its_directory_says_so(directory: Path) -> None:
    [doubt] = own_fifo(directory / "no/fifo", DAEMON, nobody())
    assert doubt.what == f"{directory}/no/fifo cannot be made: there is no directory {directory}/no"


def test_a_fifo_of_somebody_else_is_doubtful_until_the_user_may_read_and_write_it(directory: Path) -> None:
    path = directory / "fifo"
    os.mkfifo(path, 0o600)
    [doubt] = own_fifo(path, DAEMON, nobody())
    assert doubt.what == f"{path} cannot be written by user nobody"
    path.chmod(0o666)
    assert not [*own_fifo(path, DAEMON, nobody())]


def test_a_file_in_place_of_a_fifo_is_named(directory: Path) -> None:
    (directory / "fifo").touch()
    [doubt] = own_fifo(directory / "fifo", DAEMON, nobody())
    assert (doubt.what, doubt.hint) == (f"{directory}/fifo is not a FIFO", f"rm {directory}/fifo")


def test_what_the_user_can_make_is_well(directory: Path) -> None:
    directory.chmod(0o777)
    assert not [*own_fifo(directory / "fifo", DAEMON, nobody())]
    assert not [*own_fifo(RUN / "fifo", DAEMON, nobody())], "systemd makes it when it starts floatip"
    assert not [*own_fifo(directory / "fifo", DAEMON, Machine({}))]
