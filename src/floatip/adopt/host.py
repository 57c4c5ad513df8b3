"""The machine that is adopted: its files below a root, and the programs that are asked of it.

Whatever adopt does to the world outside passes here, so that a test can give it another machine.
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

from floatip.core.events import Placed
from floatip.host.ask import ControlError, Record, ask
from floatip.keepalived_conf.syntax import contents

FOR_EVER = 0xFFFFFFFF


class AdoptError(Exception):
    """Why it goes no further, and what to do."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Result:
    status: int
    output: str
    """Both streams."""


@dataclass(frozen=True, slots=True)
class UnitState:
    enabled: bool
    active: bool
    pid: int = 0


class Host:
    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def at(self, path: str | Path) -> Path:
        """Where the path that a person names is found."""
        return self.root / str(path).lstrip("/")

    def real(self, path: Path) -> Path:
        """Without links, as a person names it."""
        return Path("/") / self.at(path).resolve().relative_to(self.root.resolve())

    def text(self, path: str | Path) -> str:
        """Empty when it cannot be read: what is not there says nothing."""
        try:
            return contents(self.at(path)).decode(errors="replace")
        except OSError:
            return ""

    def files(self, directory: str, pattern: str) -> Iterator[Path]:
        """As a person names them."""
        return (Path("/") / path.relative_to(self.root) for path in sorted(self.at(directory).glob(pattern)))

    def run(self, *command: str) -> Result:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        except FileNotFoundError:
            return Result(127, f"{command[0]}: not found")
        except subprocess.TimeoutExpired:
            return Result(124, f"{' '.join(command)}: did not end within two minutes")
        return Result(done.returncode, (done.stdout + done.stderr).strip())

    def status(self) -> dict[str, Any] | None:
        """The daemon's; None: it does not answer."""
        try:
            return ask(Path("/run/floatip/floatip.sock"), {"cmd": "status"})
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
        shown = self.run("systemctl", "show", name, "-p", "LoadState,UnitFileState,ActiveState,MainPID").output
        values = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
        if values.get("LoadState", "not-found") == "not-found":
            return None
        active = values.get("ActiveState") in ("active", "activating", "reloading")
        return UnitState(values.get("UnitFileState") == "enabled", active, int(values.get("MainPID") or 0))

    def tell(self, request: Record) -> None:
        """The daemon. Raises `ControlError`."""
        ask(Path("/run/floatip/floatip.sock"), request)

    def addresses(self, *, leased: bool = False) -> tuple[Placed, ...]:
        """Those of the kernel that belong to somebody who configured them; `leased`: those of SLAAC and DHCP too."""
        links = json.loads(self.run("ip", "-json", "address", "show").output or "[]")
        return tuple(
            Placed(link["ifname"], ip_interface(f"{info['local']}/{info['prefixlen']}"))
            for link in links
            for info in link.get("addr_info", ())
            if "local" in info and (leased or info.get("valid_life_time", FOR_EVER) == FOR_EVER)
        )

    def has_open(self, pid: int, path: str) -> bool:
        with suppress(OSError):
            return path in {os.readlink(link) for link in self.at(f"/proc/{pid}/fd").iterdir()}
        return False
