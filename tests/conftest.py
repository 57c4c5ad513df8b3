"""Shares out the tests among processes, and prints the tables that they fill in.

`make test` runs the tests in several processes (pytest-xdist), because tests of daemons mostly wait. A group of tests
runs in one process, one after another. A file is a group unless it is listed here.
"""

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.tables import TABLES

TOGETHER = ("tests/systemd/",)
"""Directories that are one group each: their tests share hosts."""
ALONE = (
    "tests/systemd/test_ansible_role.py",
    "tests/systemd/test_doctor_on_hosts.py",
    "tests/systemd/test_drill_on_hosts.py",
    "tests/systemd/test_firewalls_on_hosts.py",
    "tests/systemd/test_nodes_on_hosts.py",
    "tests/systemd/test_second_chance_on_hosts.py",
    "tests/systemd/test_vlan.py",
)
"""Files of such a directory that have hosts of their own."""
APART = ("tests/lab/test_beside_keepalived.py", "tests/lab/test_scenes.py", "tests/sim/test_storms.py")
"""Files in which each test is a group: it makes its own network or world, and takes long."""
LONG = (
    "tests/etcd_faults/test_etcd_faults.py",
    "tests/drill/test_drill_killed.py",
    "tests/drill/test_drill.py",
    "tests/lab/test_interop.py",
    "tests/lab/test_vrrp_interop.py",
    "tests/lab/test_second_chance_among_firewalls.py",
    "tests/lab/test_second_chance_blocked.py",
    "tests/lab/test_second_chance_cut.py",
    "tests/host/test_two_daemons.py",
    "tests/host/test_hangs.py",
    "tests/web/test_page_in_browser.py",
)
ORDER = ("tests/systemd/", *LONG, *APART[:2], "tests/web/", "tests/lab/", "tests/sim/", "tests/host/")
"""What takes long starts first. Whatever starts last is short, so that no process runs alone at the end."""


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # no type of it is known
    """Own groups: pytest-xdist 3.8 ignores the mark xdist_group under pytest 9.2."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    return Scheduling(config, log)


def group(nodeid: str) -> str:
    file = nodeid.partition("::")[0]
    if file in APART:
        return nodeid
    if file in ALONE:
        return file
    return next((directory for directory in TOGETHER if file.startswith(directory)), file)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    return next((turn for turn, first in enumerate(ORDER) if item.nodeid.startswith(first)), len(ORDER))


# Tables that tests fill in, in whichever process they run


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["tables"] = {title: str(table) for title, table in TABLES.items()}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    TABLES.update(getattr(node, "workeroutput", {}).get("tables", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for title, table in TABLES.items():
        terminalreporter.section(title)
        terminalreporter.write_line(str(table))
