"""A network namespace of its own for each test that asks for one, entered by this thread and left again."""

import ctypes
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.host.reports import Reports

CLONE_NEWNET = 0x40000000


@contextmanager
def entered(kind: str, flag: int) -> Iterator[None]:
    """A new namespace (namespaces(7)), for this thread and for what it starts."""
    if os.geteuid() != 0:
        pytest.fail("this test makes a namespace and needs root: sudo make test")
    libc = ctypes.CDLL(None, use_errno=True)
    directory = os.getcwd()
    with open(f"/proc/thread-self/ns/{kind}") as home:
        if libc.unshare(flag) != 0:
            pytest.fail(f"cannot make a namespace: {os.strerror(ctypes.get_errno())}")
        try:
            yield
        finally:
            assert libc.setns(home.fileno(), flag) == 0
            os.chdir(directory)  # another mount namespace begins at its root


@pytest.fixture
def namespace() -> Iterator[None]:
    with entered("net", CLONE_NEWNET):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield


class Elsewhere:
    """A second network namespace. What is made while this thread is in it stays there."""

    def __init__(self) -> None:
        with entered("net", CLONE_NEWNET):
            self._file = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)

    @property
    def path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self._file}"

    @contextmanager
    def entered(self) -> Iterator[None]:
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net") as home:
            assert libc.setns(self._file, CLONE_NEWNET) == 0
            try:
                yield
            finally:
                assert libc.setns(home.fileno(), CLONE_NEWNET) == 0

    def close(self) -> None:
        os.close(self._file)


@pytest.fixture
def elsewhere(namespace: None) -> Iterator[Elsewhere]:
    it = Elsewhere()
    yield it
    it.close()


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
