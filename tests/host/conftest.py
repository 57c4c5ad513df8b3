"""A network namespace of its own for each test that asks for one, entered by this thread and left again."""

import ctypes
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.reports import Reports

CLONE_NEWNET = 0x40000000


@pytest.fixture
def namespace() -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.fail("this test makes a network namespace and needs root: sudo make test")
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net") as home:
        if libc.unshare(CLONE_NEWNET) != 0:
            pytest.fail(f"cannot make a network namespace: {os.strerror(ctypes.get_errno())}")
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            assert libc.setns(home.fileno(), CLONE_NEWNET) == 0


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """One that others can enter, which pytest's own are not."""
    if os.geteuid() != 0:
        pytest.fail("this test looks with the eyes of other users and needs root: sudo make test")
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)
