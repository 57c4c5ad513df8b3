"""The HTTP process, in a network namespace of its own."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.conftest import CLONE_NEWNET, entered
from tests.web.process import Web, until


@pytest.fixture
def unconfigured(tmp_path: Path) -> Iterator[Web]:
    with entered("net", CLONE_NEWNET):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        web = Web(tmp_path)
        try:
            yield web
        finally:
            web.close()


@pytest.fixture
def web(unconfigured: Web) -> Web:
    """It listens, and watches the daemon."""
    assert unconfigured.tell() == []
    until(lambda: unconfigured.daemon.is_watched)
    return unconfigured
