"""Three hosts for all tests of this directory, what the guide's stack does meanwhile, and the table of both."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest

from tests.systemd.machines import Rack
from tests.systemd.pair import Pair
from tests.systemd.table import NODES_TABLE, TABLE, VLAN_TABLE
from tests.tables import TABLES

RUNS = int(os.environ.get("RUNS", "1"))
CHECKOUT = Path(__file__).parents[2]
MEASURING_TIMEOUT = 1200.0
"""Seconds for a run, which takes 200."""
BEGIN_WITH_THE_GUIDE = ("test_adoption.py", "test_guide.py", "test_machines.py")
Figures = Callable[[], list[dict[str, Any]]]


@pytest.fixture(scope="session")
def pair() -> Iterator[Pair]:
    assert os.geteuid() == 0, "hosts with a systemd of their own need root: sudo make test-systemd"
    with ExitStack() as exits:
        rack = Rack()
        exits.callback(rack.close)
        yield Pair(rack, exits)


@pytest.fixture(scope="session")
def guide_figures(pair: Pair) -> Iterator[Figures]:
    """Begins to measure at once; the call waits for the end. Long tests ask for it so that it begins before them."""
    command = [sys.executable, "-m", "tests.systemd.guide_figures", str(RUNS)]
    # Files: nobody would read a pipe before the end, and a full pipe stops the writer.
    with TemporaryFile("w+") as out, TemporaryFile("w+") as story:
        measuring = subprocess.Popen(command, cwd=CHECKOUT, stdout=out, stderr=story)

        def figures() -> list[dict[str, Any]]:
            try:
                status: int | str = measuring.wait(RUNS * MEASURING_TIMEOUT)
            except subprocess.TimeoutExpired:
                status = "it does not come to an end"
            for file in (out, story):
                file.seek(0)
            print(story.read())
            assert status == 0
            return [json.loads(line) for line in out]

        yield figures
        measuring.kill()
        measuring.wait()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What begins with the guide's stack comes first: it takes half a minute to put the other one in its place."""
    here = [index for index, item in enumerate(items) if item.path.parent == Path(__file__).parent]
    ours = sorted((items[index] for index in here), key=lambda item: item.path.name not in BEGIN_WITH_THE_GUIDE)
    for index, item in zip(here, ours, strict=True):
        items[index] = item


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    pair = getattr(item, "funcargs", {}).get("pair")
    if report.failed and pair:
        report.sections += [(f"journal of {node.name}", node.journal()) for node in pair.nodes]
    return report


def pytest_sessionfinish() -> None:
    tables = {
        "faults on real hosts": TABLE,
        "faults on real hosts in a VLAN": VLAN_TABLE,
        "faults on real hosts that are nodes": NODES_TABLE,
    }
    for title, table in tables.items():
        if table.rows:
            TABLES[title] = table
