"""A check: what is looked at, one class a kind, and the policy by which the core judges the results."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from floatip.core import settings as core


@dataclass(frozen=True, slots=True)
class Script:
    """Passes when the program exits with status 0."""

    argv: tuple[str, ...]

    @property
    def what(self) -> str:
        return shlex.join(self.argv)


@dataclass(frozen=True, slots=True)
class Tcp:
    """Passes when a connection opens."""

    host: str
    """An address, or `localhost`: a check must not hang on a name server."""
    port: int

    @property
    def what(self) -> str:
        return f"{self.host} {self.port}"


@dataclass(frozen=True, slots=True)
class File:
    """Watched: the host reports each change, the core never asks."""

    path: Path
    fail_when: Literal["present", "absent"] = "present"


@dataclass(frozen=True, slots=True)
class Process:
    """Watched. `process` is the name that `pgrep -x` finds, or the absolute path of a pid file."""

    process: str


Kind = Script | Tcp | File | Process


@dataclass(frozen=True, slots=True)
class Check:
    policy: core.Check
    kind: Kind | None
    """None: refused. Such a check is looked at by the rules and never run."""

    @property
    def name(self) -> str:
        return self.policy.name
