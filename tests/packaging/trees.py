"""A system on disk that programs are run in as in a chroot, and an apt repository beside it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from floatip.lab.namespaces import find_program
from tests.systemd.machines import proxies

CHECKOUT = Path(__file__).parents[2]
TIMEOUT = 600.0
LOOPBACK = "127.0.0.1"
# The mounts vanish with the namespace; what is written stays in upper/.
ENTER = """
mount -t overlay overlay -o lowerdir="$TREE",upperdir=upper,workdir=work root
mount -t proc proc root/proc
mount --rbind /dev root/dev
exec env -u TREE $CHROOT /bin/sh -c "$1"
"""


class Layer:
    """What is changed in it stays in `directory` and does not reach the tree."""

    def __init__(self, directory: Path, tree: str) -> None:
        self.directory = directory
        self._tree = tree
        for part in ("upper/etc", "work", "root"):
            (directory / part).mkdir(parents=True)
        shutil.copy("/etc/resolv.conf", directory / "upper/etc")

    @property
    def tree(self) -> str:
        """With the changes, as overlayfs names its layers."""
        return f"{self.directory / 'upper'}:{self._tree}"

    @property
    def environment(self) -> dict[str, str]:
        """What ENTER needs, but for CHROOT."""
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        own = {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        return own | proxies() | {"no_proxy": LOOPBACK, "TREE": self._tree}

    def write(self, path: str, text: str) -> None:
        file = self.directory / "upper" / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def try_to(self, command: str, *, inside: bool = True) -> tuple[int, str]:
        """The exit status of a line of shell, and what it prints. Not inside: of this machine, beside root/."""
        done = subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", ENTER, "sh", command],
            cwd=self.directory,
            env=self.environment | {"CHROOT": "chroot root" if inside else ""},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        print(f"# {command}\n{done.stdout}", end="", flush=True)
        return done.returncode, done.stdout

    def run(self, command: str, *, inside: bool = True) -> str:
        status, told = self.try_to(command, inside=inside)
        assert status == 0, f"{command}: exit status {status}: {told}"
        return told


class Key:
    """One that signs, in a keyring of its own."""

    def __init__(self, directory: Path, *options: str) -> None:
        """`options`: gpg's, for its making."""
        directory.mkdir(mode=0o700)
        self.id = "packages@example.org"
        self.environment = {"GNUPGHOME": str(directory), "KEYID": self.id}
        make = ["--quick-generate-key", f"floatip packages <{self.id}>", "ed25519", "sign", "1d"]
        self._gpg("gpg", "--batch", "--passphrase", "", *options, *make)

    def _gpg(self, program: str, *arguments: str) -> None:
        command = [find_program(program, "gpg"), *arguments]
        subprocess.run(command, env=os.environ | self.environment, capture_output=True, timeout=TIMEOUT, check=True)

    def close(self) -> None:
        """gpg leaves an agent behind."""
        self._gpg("gpgconf", "--kill", "all")


def lay_out(repository: Path, package: Path, settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """As `make apt-repo` does."""
    return subprocess.run(
        [CHECKOUT / "packaging/apt-repository", repository, package],
        env=os.environ | {"KEYID": "", "URL": ""} | settings,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        return


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """By HTTP on this machine; the address."""
    directory.mkdir(exist_ok=True)
    with ThreadingHTTPServer((LOOPBACK, 0), partial(_Quiet, directory=str(directory))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{LOOPBACK}:{server.server_port}"
        server.shutdown()
