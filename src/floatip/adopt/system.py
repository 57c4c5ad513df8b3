"""The machine that `adopt` and `init` work on: its files below a root, and the programs that they run there.

All they read from the outside passes here, so that a test can give them another system.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from floatip.core.addresses import Placed
from floatip.host.ask import ControlError, Record, ask, socket_path
from floatip.reading import regular

FOR_EVER = 0xFFFFFFFF


class AdoptError(Exception):
    """Why nothing more is done, and what to do about it."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


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
    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

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
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        except FileNotFoundError:
            return CommandResult(127, "", f"{command[0]}: not found")
        except subprocess.TimeoutExpired:
            return CommandResult(124, "", f"{' '.join(command)}: did not end within two minutes")
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
        """None: systemd does not know it."""
        shown = self.run("systemctl", "show", name, "-p", "LoadState,UnitFileState,ActiveState,MainPID").stdout
        values = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
        if values.get("LoadState", "not-found") == "not-found":
            return None
        active = values.get("ActiveState") in ("active", "activating", "reloading")
        return UnitState(values.get("UnitFileState") == "enabled", active, int(values.get("MainPID") or 0))

    def tell(self, request: Record) -> None:
        """The daemon. Raises `ControlError`."""
        ask(socket_path(), request)

    def addresses(self, *, leased: bool = False) -> tuple[Placed, ...]:
        """The kernel's that somebody configured; with `leased` those of SLAAC and DHCP too. Raises `AdoptError`."""
        shown = self.run("ip", "-json", "address", "show")
        try:
            links = json.loads(shown.stdout or "[]") if not shown.status else None
        except ValueError:
            links = None
        if links is None:
            what = f"the addresses of this machine are not known: ip -json address show: {shown.output or 'no JSON'}"
            raise AdoptError(what, "apt install iproute2; then run ip -json address show")
        return tuple(
            Placed(link["ifname"], ip_interface(f"{info['local']}/{info['prefixlen']}"))
            for link in links
            for info in link.get("addr_info", ())
            if "local" in info and (leased or info.get("valid_life_time", FOR_EVER) == FOR_EVER)
        )

    def group(self, name: str) -> int | None:
        """Its number; None: there is no such group."""
        lines = (line.split(":") for line in self.text("/etc/group").splitlines())
        return next(
            (int(line[2]) for line in lines if line[0] == name and len(line) == 4 and line[2].isdecimal()), None
        )

    def has_open(self, pid: int, path: str) -> bool:
        with suppress(OSError):
            return path in {os.readlink(link) for link in self.at(f"/proc/{pid}/fd").iterdir()}
        return False
