from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.conftest import namespace
from tests.second_chance.sc_rig import Floatip, World, running

__all__ = ["namespace"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as it:
        yield it


@pytest.fixture
def pair(world: World) -> Iterator[tuple[Floatip, Floatip]]:
    with running(world) as it:
        yield it
