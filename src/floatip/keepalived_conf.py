"""keepalived.conf, as keepalived 2.2 reads it: includes, definitions and conditions resolved, each word with its place.

Only reading. What is unsafe in it, or will not work, is for `adopt` to say.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from floatip.core.events import Address, InterfaceAddress


@dataclass(frozen=True, slots=True)
class Place:
    """Where a statement begins."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Statement:
    """A keyword, its arguments, and its block if it has one."""

    place: Place
    words: tuple[str, ...]
    block: tuple["Statement", ...] | None = None
    end_line: int = 0
    """The last line of the statement, in the file where it begins (that of the closing brace)."""

    @property
    def keyword(self) -> str:
        return self.words[0]

    def all(self, keyword: str) -> Iterator["Statement"]:
        return (statement for statement in self.block or () if statement.keyword == keyword)


@dataclass(frozen=True, slots=True)
class Script:
    """`vrrp_script`"""

    statement: Statement
    name: str
    command: tuple[str, ...]
    interval: float = 1.0
    timeout: float = 0.0
    """0: as `interval`."""
    rise: int = 1
    fall: int = 1
    weight: int = 0
    user: str = ""


@dataclass(frozen=True, slots=True)
class VirtualAddress:
    statement: Statement
    address: InterfaceAddress
    interface: str
    """The instance's own unless `dev` names another."""


@dataclass(frozen=True, slots=True)
class Notify:
    """One of the `notify...` statements of an instance or a group."""

    statement: Statement
    event: Literal["master", "backup", "fault", "stop", "deleted", "master_rx_lower_pri", "any"]
    """`notify` alone is "any"."""
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Instance:
    """`vrrp_instance`, with keepalived's defaults for what is not given."""

    statement: Statement
    name: str
    interface: str
    vrid: int
    priority: int
    state: Literal["MASTER", "BACKUP"]
    version: Literal[2, 3]
    advert_interval: float
    preempt: bool
    source: Address | None
    """`unicast_src_ip` or `mcast_src_ip`; None: keepalived takes the interface's first address."""
    peers: tuple[Address, ...]
    """Empty: multicast."""
    addresses: tuple[VirtualAddress, ...]
    tracked: tuple[tuple[str, int], ...]
    """Names and weights of the tracked scripts; 0: a failure is a fault."""
    notifies: tuple[Notify, ...]
    auth_pass: str = ""

    @property
    def address_list(self) -> tuple[InterfaceAddress, ...]:
        return tuple(virtual.address for virtual in self.addresses)


@dataclass(frozen=True, slots=True)
class Group:
    """`vrrp_sync_group`"""

    statement: Statement
    name: str
    members: tuple[str, ...]
    notifies: tuple[Notify, ...] = ()


@dataclass(frozen=True, slots=True)
class KeepalivedConf:
    files: tuple[Path, ...]
    """The main file first, then what it includes."""
    statements: tuple[Statement, ...]
    instances: tuple[Instance, ...]
    groups: tuple[Group, ...]
    scripts: tuple[Script, ...]
    global_defs: tuple[Statement, ...]
    """The block of `global_defs`, all of them together."""

    def option(self, keyword: str) -> Statement | None:
        """The last `keyword` of `global_defs`."""
        found = [statement for statement in self.global_defs if statement.keyword == keyword]
        return found[-1] if found else None


class NotUnderstood(Exception):
    """All that stands in the way of using the file, each with its place."""

    def __init__(self, errors: list[tuple[Place, str, str]]) -> None:
        super().__init__("\n".join(f"{place}: {what}\n  hint: {hint}" for place, what, hint in errors))
        self.errors = errors


def read(path: Path, root: Path = Path("/")) -> KeepalivedConf:
    """`root` is put before every path that is opened, and before no path that is shown. Raises `NotUnderstood`."""
    raise NotImplementedError
