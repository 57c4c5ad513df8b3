"""The faults of a drill. Each ends without help: what undoes it stands ready before it is made, outside this process.

`prepare` makes nothing fail yet. `begin` makes it fail, and `end` undoes it, as often as it is called.
"""

import json
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from floatip.commands import Refusal
from floatip.core.refusals import Why
from floatip.core.state import Status
from floatip.drill import cut
from floatip.drill.report import Finding
from floatip.host.ask import NobodyAnswers, Record, ask, encode, socket_path

PATIENCE = 5.0
"""Seconds by which what undoes a fault waits longer than the drill."""
GUARD, TIMER = "floatip-drill-guard", "floatip-drill-start"
COMMAND_TIMEOUT = 60.0


class CannotDrill(Refusal):
    """The fault could not be made, or not be prepared."""

    status = 2
    code = Why.NO_DRILL


class Fault(Protocol):
    begins: str
    """What `begin` does, and `end`, for the log."""
    ends: str

    def prepare(self) -> None: ...

    def begin(self) -> None: ...

    def end(self) -> None: ...

    def leftovers(self) -> list[Finding]:
        """Whether anything of it is left, after `end`."""
        ...


class Hold:
    """The drill as the daemon knows it: it lasts as long as this connection."""

    def __init__(self, request: Record) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        try:
            self._socket.connect(str(socket_path()))
            self._lines = self._socket.makefile("rb")
            self.answer = self.ask(request)
        except BaseException:
            self._socket.close()
            raise

    def ask(self, request: Record) -> Record:
        """Raises NobodyAnswers."""
        try:
            self._socket.sendall(encode(request))
            answer = json.loads(self._lines.readline())
            assert isinstance(answer, dict)
        except (OSError, ValueError, AssertionError):
            raise NobodyAnswers(f"no floatip daemon answers at {socket_path()}", "systemctl status floatip") from None
        return answer

    def close(self) -> None:
        with suppress(OSError):
            self._lines.close()
            self._socket.close()


class Check:
    """The daemon counts a check as failed, as long as the connection of the drill is open."""

    def __init__(self, check: str, lasts: float, hold: Callable[[], Hold], release: Callable[[], None]) -> None:
        self.begins = f"check {check} counts as failed"
        self.ends = f"check {check} counts as it is"
        self._lasts, self._hold, self._release = lasts, hold, release

    def prepare(self) -> None:
        pass

    def begin(self) -> None:
        if self._hold().ask({"cmd": "drill-fails", "for": self._lasts + PATIENCE}).get("began") is not True:
            raise CannotDrill("the daemon does not know of the drill any more", "see what it says: floatip history")

    def end(self) -> None:
        self._release()

    def leftovers(self) -> list[Finding]:
        return []


class Handover:
    """The order of `floatip handover`: nothing of it lasts."""

    def __init__(self, instance: str, to: str, force: bool) -> None:
        self.begins = f"floatip handover {instance}" + (f" --to {to}" if to else "")
        self.ends = "nothing is to be undone"
        self._order: Record = {"cmd": "handover", "instance": instance, "to": to or None, "force": force}

    def prepare(self) -> None:
        pass

    def begin(self) -> None:
        answer = ask(socket_path(), self._order)
        if answer.get("refused"):
            raise CannotDrill(f"handover refused: {answer['refused']}", str(answer.get("hint", "")))

    def end(self) -> None:
        pass

    def leftovers(self) -> list[Finding]:
        return []


class Stop:
    """`systemctl stop`. Two nets start the daemon again: a unit that sees this process end, and a timer."""

    def __init__(self, unit: str, lasts: float) -> None:
        self.begins, self.ends = f"systemctl stop {unit}", f"systemctl start {unit}"
        self._unit, self._lasts = unit, lasts
        self._guard: subprocess.Popen[bytes] | None = None
        self._begun = False

    def prepare(self) -> None:
        self._clean()
        start = f"systemctl start {self._unit}"
        _must(
            *("systemd-run", "--quiet", "--collect", f"--unit={TIMER}", f"--on-active={self._lasts + PATIENCE:.0f}s"),
            *("--timer-property=AccuracySec=100ms", "systemctl", "start", self._unit),
        )
        # Not in the session of this terminal: what ends that would end it too.
        command = ["systemd-run", "--quiet", "--collect", "--pipe", f"--unit={GUARD}"]
        command += ["--property=TimeoutStopSec=60s", f"--property=RuntimeMaxSec={self._lasts + PATIENCE:.0f}s"]
        command += [f"--property=ExecStopPost={start}", "sh", "-c", "echo ready; exec cat >/dev/null"]
        pipe = subprocess.PIPE
        self._guard = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, start_new_session=True
        )
        assert self._guard.stdout
        if self._guard.stdout.readline() != b"ready\n":
            self._clean()
            raise CannotDrill(
                "systemd does not run the guard that starts the daemon again", f"systemctl status {GUARD}"
            )

    def begin(self) -> None:
        self._begun = True
        _must("systemctl", "stop", self._unit)

    def end(self) -> None:
        if self._begun:
            _must("systemctl", "start", self._unit)
            self._begun = False
        self._clean()

    def leftovers(self) -> list[Finding]:
        units = [f"{GUARD}.service", f"{TIMER}.timer", f"{TIMER}.service"]
        left = [unit for unit in units if _state(unit) not in ("inactive", "failed", "unknown")]
        if left:
            return [Finding(False, f"still there: {', '.join(left)}", f"systemctl stop {' '.join(left)}")]
        return [Finding(True, "no guard and no timer is left")]

    def _clean(self) -> None:
        if self._guard:
            assert self._guard.stdin
            self._guard.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                self._guard.wait(COMMAND_TIMEOUT)
            self._guard = None
        _run("systemctl", "stop", f"{TIMER}.timer")


class CutOff:
    """All packets of this machine vanish, but for those to itself."""

    def __init__(self) -> None:
        self.begins = "nftables drops all packets of all interfaces but lo"
        self.ends = "the tables of nftables are removed"
        self._cut: cut.Cut | None = None

    def prepare(self) -> None:
        self._cut = cut.Cut()
        self._cut.prepare()

    def begin(self) -> None:
        assert self._cut
        self._cut.begin()

    def end(self) -> None:
        if self._cut:
            self._cut.end()

    def leftovers(self) -> list[Finding]:
        return [*self._shortened(), self._remains()]

    def _shortened(self) -> list[Finding]:
        if not self._cut or not self._cut.trouble:
            return []
        what = f"the cut was not renewed, and may have ended after {cut.LASTS} s: {self._cut.trouble}"
        return [Finding(False, what, "see what changes the rules of this machine: nft monitor")]

    def _remains(self) -> Finding:
        if cut.remains():
            hint = "the kernel lets everything through after 8 s; see who has it: nft list tables"
            return Finding(False, f"nftables still has a table {cut.TABLE}", hint)
        return Finding(True, f"nftables has no table {cut.TABLE}")


def unit_of(status: Status) -> str:
    """The unit that runs the daemon. Raises CannotDrill."""
    hint = "rehearse another fault: --fault check, handover or cut"
    if not Path("/run/systemd/system").is_dir():
        raise CannotDrill("--fault stop needs systemd, and this machine does not run it", hint)
    try:
        groups = Path(f"/proc/{status.pid}/cgroup").read_text()
    except OSError:
        groups = ""
    names = [name for line in groups.splitlines() for name in line.split("/") if name.endswith(".service")]
    for unit in reversed(names):
        if _run("systemctl", "show", "--value", "--property=MainPID", unit).stdout.strip() == str(status.pid):
            return unit
    raise CannotDrill(f"no unit of systemd runs the daemon (pid {status.pid}), so nothing would start it again", hint)


def _state(unit: str) -> str:
    return _run("systemctl", "is-active", unit).stdout.strip()


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=COMMAND_TIMEOUT, check=False
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", f"{command[0]}: not found")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"did not end within {COMMAND_TIMEOUT:g} s")


def _must(*command: str) -> None:
    done = _run(*command)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[0]
        raise CannotDrill(f"{' '.join(command[:2])} failed: {why}", f"run it by hand: {' '.join(command)}")
