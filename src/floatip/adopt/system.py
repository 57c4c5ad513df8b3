"""The machine that `adopt` and `init` work on: its files below a root, and the programs that they run there.

All they read from the outside passes here, so that a test can give them another system.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from floatip.commands import Refusal
from floatip.core.refusals import Why
from floatip.host.ask import ControlError, Record, ask, socket_path
from floatip.reading import regular, rights
from floatip.reading.machine import Machine, look_around
from floatip.reading.patience import note_path
from floatip.reading.rights import User

TIMED_OUT = 124
"""The status of `CommandResult` where a program did not end, as of timeout(1)."""


class AdoptError(Refusal):
    """Of `floatip adopt` or `floatip init`."""

    code = Why.NOT_ADOPTED


@dataclass(frozen=True, slots=True)
class CommandResult:
    status: int
    stdout: str
    stderr: str = ""

    @property
    def output(self) -> str:
        """Both streams."""
        return (self.stdout + self.stderr).strip()


@dataclass(frozen=True, slots=True)
class UnitState:
    enabled: bool
    active: bool
    pid: int = 0


class System:
    def __init__(self, root: Path = Path("/"), patience: float = 120.0) -> None:
        """`patience`: seconds for which a program may run."""
        self.root = root
        self._patience = patience

    def at(self, path: str | Path) -> Path:
        """Where the path that a person names is found. Relative paths are relative to the working directory."""
        return self.root / Path(path).absolute().relative_to("/")

    def real(self, path: Path) -> Path:
        """Without links, as a person names it."""
        return Path("/") / self.at(path).resolve().relative_to(self.root.resolve())

    def text(self, path: str | Path) -> str:
        """Empty when it cannot be read: what is not there says nothing."""
        try:
            return regular.read(self.at(path)).decode(errors="replace")
        except OSError:
            return ""

    def files(self, directory: str, pattern: str) -> Iterator[Path]:
        """As a person names them."""
        return (Path("/") / path.relative_to(self.root) for path in sorted(self.at(directory).glob(pattern)))

    def run(self, *command: str) -> CommandResult:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=self._patience, check=False)
        except FileNotFoundError:
            return CommandResult(127, "", f"{command[0]}: not found")
        except subprocess.TimeoutExpired:
            return CommandResult(TIMED_OUT, "", f"{' '.join(command)}: did not end within {self._patience:g} s")
        return CommandResult(done.returncode, done.stdout, done.stderr)

    def status(self) -> dict[str, Any] | None:
        """The daemon's; None: it does not answer."""
        try:
            return ask(socket_path(), {"cmd": "status"})
        except ControlError:
            return None

    def wait(self, is_so: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.1)
        return True

    def unit(self, name: str) -> UnitState | None:
        """None: systemd does not know it. Raises `AdoptError`."""
        note_path("systemctl")
        shown = self.run("systemctl", "show", name, "-p", "LoadState,UnitFileState,ActiveState,MainPID")
        if shown.status == TIMED_OUT:
            raise AdoptError(f"systemd does not answer: {shown.output}", "see what keeps it: journalctl -b _PID=1")
        values = dict(line.split("=", 1) for line in shown.stdout.splitlines() if "=" in line)
        if values.get("LoadState", "not-found") == "not-found":
            return None
        active = values.get("ActiveState") in ("active", "activating", "reloading")
        return UnitState(values.get("UnitFileState") == "enabled", active, int(values.get("MainPID") or 0))

    def tell(self, request: Record) -> None:
        """The daemon. Raises `ControlError`."""
        ask(socket_path(), request)

    def machine(self) -> Machine:
        return look_around()

    def users(self) -> dict[str, User]:
        return rights.users()

    def daemons_group(self) -> int | None:
        """Its number; None: there is no such group."""
        return rights.group_id("floatip")

    def has_open(self, pid: int, path: str) -> bool:
        with suppress(OSError):
            return path in {os.readlink(link) for link in self.at(f"/proc/{pid}/fd").iterdir()}
        return False
