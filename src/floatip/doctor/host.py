"""What the doctor reads of this machine: files and the output of programs. It changes nothing, and waits for little."""

import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from typing import Protocol

from floatip.host.errors import in_words
from floatip.rtnetlink import DONE, ERROR, F_DUMP, F_REQUEST, HEADER, attributes

TIMEOUT = 5.0
"""Seconds for a program."""
LARGEST = 16 << 20
"""Bytes of an answer."""
PIECE = 1 << 16
NETLINK_NETFILTER, GETTABLE, NAME = 12, 10 << 8 | 1, 1
FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
"""NFPROTO_..., as nft names them."""
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Debian keeps nft and iptables in sbin, which is not on a user's PATH."""


class Unseen(Exception):
    """Why something could not be read, as a part of a sentence."""


class Missing(Unseen):
    """There is no such file or program."""


class Host(Protocol):
    is_root: bool

    def text(self, path: str) -> str:
        """Raises `Unseen`."""

    def names(self, directory: str) -> list[str]:
        """Raises `Unseen`."""

    def link(self, path: str) -> str:
        """Where a symbolic link leads. Raises `Unseen`."""

    def run(self, *command: str) -> str:
        """What it prints. Raises `Unseen`, also where it fails."""

    def nft_tables(self) -> list[tuple[str, str]]:
        """Family and name of each table of nftables, by the kernel. Raises `Unseen`."""


class ThisMachine:
    def __init__(self) -> None:
        self.is_root = os.geteuid() == 0

    def text(self, path: str) -> str:
        try:
            with open(path, "rb", buffering=0) as file:
                data = b""
                # The kernel makes room for as much of a setting as is asked for.
                while len(data) < LARGEST and (part := file.read(PIECE)):
                    data += part
            return data.decode(errors="replace")
        except OSError as error:
            raise _unseen(path, error) from None

    def names(self, directory: str) -> list[str]:
        try:
            return sorted(os.listdir(directory))
        except OSError as error:
            raise _unseen(directory, error) from None

    def link(self, path: str) -> str:
        try:
            return os.readlink(path)
        except OSError as error:
            raise _unseen(path, error) from None

    def run(self, *command: str) -> str:
        environment = os.environ | {"LC_ALL": "C", "PATH": f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"}
        program = " ".join(command[:2])
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT,
                env=environment,
                check=False,
            )
        except FileNotFoundError:
            raise Missing(f"{command[0]} is not installed") from None
        except subprocess.TimeoutExpired:
            raise Unseen(f"{program} did not end within {TIMEOUT:g} s") from None
        except OSError as error:
            raise Unseen(f"{program}: {in_words(error.errno)}") from None
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().split("\n")[0]
            raise Unseen(f"{program} failed: {said or f'exit status {done.returncode}'}")
        return done.stdout[:LARGEST].decode(errors="replace")

    def nft_tables(self) -> list[tuple[str, str]]:
        try:
            return list(_nft_tables())
        except OSError as error:
            raise Unseen(
                f"the kernel does not say which tables of nftables there are: {in_words(error.errno)}"
            ) from None


def _nft_tables() -> Iterator[tuple[str, str]]:
    """NFT_MSG_GETTABLE (linux/netfilter/nf_tables.h). Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netlink:
        netlink.settimeout(TIMEOUT)
        netlink.send(struct.pack("=IHHIIBBH", 20, GETTABLE, F_REQUEST | F_DUMP, 1, 0, 0, 0, 0))
        while True:
            data, at = netlink.recv(1 << 16), 0
            while at + HEADER.size <= len(data):
                length, kind, *_ = HEADER.unpack_from(data, at)
                if kind == DONE or length < HEADER.size:
                    return
                if kind == ERROR:
                    raise OSError(-struct.unpack_from("=i", data, at + HEADER.size)[0], "")
                family = FAMILIES.get(data[at + HEADER.size], "?")
                found = attributes(memoryview(data)[at : at + length], HEADER.size + 4)
                yield family, bytes(found.get(NAME, b"")).rstrip(b"\0").decode(errors="replace")
                at += length + 3 & ~3


def _unseen(path: str, error: OSError) -> Unseen:
    kind = Missing if isinstance(error, FileNotFoundError) else Unseen
    return kind(f"{path}: {in_words(error.errno)}")
