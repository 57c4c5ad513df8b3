"""The namespaces of the lab: `enter` starts the command again in its own, `Namespace` is one host's network.

A namespace has no name. It is a descriptor of this process and ends with it.
"""

import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from floatip.commands import Refusal
from floatip.core.refusals import Why

CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 0x1000, 0x4000, 0x40000
CLONE_NEWNET = 0x40000000
MNT_DETACH = 2
ENTERED = "FLOATIP_LAB_PID"
"""Set in the lab: the pid of its `unshare`, as the machine outside counts."""
_libc = ctypes.CDLL(None, use_errno=True)


class LabError(Refusal):
    """The lab cannot go on."""

    code = Why.NO_LAB

    status = 2


def enter(argv: Sequence[str]) -> None:
    """Run `argv`, the current command, again in namespaces that end with it; returns only in there."""
    if ENTERED in os.environ:
        _prepare()
        return
    is_root = os.geteuid() == 0
    namespaces = ["--net", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc"]
    # Root in a container may be refused what a user is allowed.
    ways = [[], ["--user", "--map-root-user"]] if is_root else [["--user", "--map-root-user"]]
    for way in ways:
        unshare = ["unshare", *way, *namespaces, "--"]
        attempt = subprocess.run([*unshare, "true"], capture_output=True, text=True, check=False)
        if attempt.returncode == 0:
            os.execvpe("unshare", [*unshare, *argv], os.environ | {ENTERED: str(os.getpid())})
    if not is_root and shutil.which("sudo"):
        os.execvp("sudo", ["sudo", "--", *argv])
    raise LabError(
        f"the kernel refuses network namespaces: {attempt.stderr.strip()}",
        "run as root, or allow user namespaces: sysctl kernel.unprivileged_userns_clone=1"
        " kernel.apparmor_restrict_unprivileged_userns=0",
    )


def is_entered() -> bool:
    return ENTERED in os.environ


def _prepare() -> None:
    # Daemons leave their sockets and pid files in /run.
    _check(_libc.mount(b"tmpfs", b"/run", b"tmpfs", 0, None), "mount a tmpfs on /run")
    # This process is pid 1 here, and the kernel delivers no signal to pid 1 that it has no handler for.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def _check(result: int, what: str) -> None:
    if result != 0:
        error = os.strerror(ctypes.get_errno())
        raise LabError(f"cannot {what}: {error}", "run as root, or with `floatip lab`, which enters its own namespaces")


def find_program(name: str, package: str) -> str:
    # Debian keeps daemons and nft in sbin, which is not on a user's PATH.
    program = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise LabError(f"the lab needs {name}, which is not installed", f"apt install {package}")
    return program


def allow_files(count: int) -> None:
    """To be open at once in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if count <= soft:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, max(count, hard)))
    except (PermissionError, ValueError) as problem:
        hint = "use fewer connections, or raise the limit with ulimit -Hn as root"
        raise LabError(f"{count} open files are needed, {hard} allowed", hint) from problem


class Closes:
    """Its `close` is called where the `with` block ends."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        raise NotImplementedError


def see(source: Path, *, at: Path) -> None:
    """From now on this thread, and what it starts, see the directory `source` in place of `at`."""
    _check(_libc.unshare(CLONE_NEWNS), "make a mount namespace")
    _check(_libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "keep mounts to itself")
    _check(_libc.mount(bytes(source), bytes(at), None, MS_BIND, None), f"mount {source}")


@contextmanager
def in_memory(directory: Path) -> Iterator[Path]:
    """A new directory whose files take only what is written to them: tmpfs gives etcd all that it reserves, 0.4 GB."""
    directory.mkdir()
    _check(_libc.mount(b"ramfs", bytes(directory), b"ramfs", 0, None), f"mount a ramfs on {directory}")
    try:
        yield directory
    finally:
        # What still writes there keeps it until it ends.
        _check(_libc.umount2(bytes(directory), MNT_DETACH), f"unmount {directory}")


class Namespace:
    """A new network namespace."""

    def __init__(self) -> None:
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _check(_libc.unshare(CLONE_NEWNET), "make a network namespace")
            try:
                self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            finally:
                _check(_libc.setns(self._home, CLONE_NEWNET), "leave a namespace")
        except BaseException:
            os.close(self._home)
            raise

    @contextmanager
    def inside(self) -> Iterator[None]:
        """This thread is in the namespace: what it starts and the sockets that it opens stay there."""
        _check(_libc.setns(self.fd, CLONE_NEWNET), "enter a namespace")
        try:
            yield
        finally:
            _check(_libc.setns(self._home, CLONE_NEWNET), "leave a namespace")

    @property
    def path(self) -> str:
        """For programs that enter it themselves."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    def processes(self) -> Iterator[int]:
        """All that are in it, but for this one."""
        inode = os.fstat(self.fd).st_ino
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "ns/net").stat().st_ino == inode and int(process.name) != os.getpid():
                    yield int(process.name)
            except OSError:  # it ended, or is another user's
                continue

    def close(self) -> None:
        for fd in (self.fd, self._home):
            os.close(fd)
