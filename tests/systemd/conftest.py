"""Three hosts for all tests of this directory, what the guide's stack does meanwhile, and the table of both."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.systemd.machines import Rack
from tests.systemd.pair import Pair
from tests.systemd.table import TABLE

RUNS = int(os.environ.get("RUNS", "1"))
CHECKOUT = Path(__file__).parents[2]
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
    measuring = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def figures() -> list[dict[str, Any]]:
        out, story = measuring.communicate()
        print(story)
        assert measuring.returncode == 0
        return [json.loads(line) for line in out.splitlines()]

    yield figures
    measuring.kill()
    measuring.communicate()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    pair = getattr(item, "funcargs", {}).get("pair")
    if report.failed and pair:
        report.sections += [(f"journal of {node.name}", node.journal()) for node in pair.nodes]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if TABLE.rows:
        terminalreporter.section("faults on real hosts")
        terminalreporter.write_line(str(TABLE))
