"""The user's keepalived, as the core sees it: nothing is decided here, and no path is looked at in the loop.

Before the end of a process is reported, whatever it still had to say is read.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from floatip.core.events import Event, KeepalivedSaid
from floatip.host import pidfd
from floatip.host.ask import Record
from floatip.host.disk import Memory
from floatip.host.failures import Failures
from floatip.host.keepalived.fifo import Fifo
from floatip.host.keepalived.processes import Processes
from floatip.host.keepalived.words import Sender, Words
from floatip.host.workers import Jobs, Workers

WRITER_PATIENCE = 2.0
"""Seconds after its start, or after a reload, within which keepalived opens the FIFO."""
STATES = ("MASTER", "BACKUP", "FAULT", "STOP")


@dataclass(frozen=True, slots=True)
class Paths:
    fifo: Path
    pid_files: tuple[Path, ...]
    """Of the main process and of the one for VRRP."""


class Keepalived:
    def __init__(self, report: Callable[[Event], None], memory: Memory, workers: Callable[[], Jobs] = Workers) -> None:
        self._workers = workers
        self._loop = asyncio.get_running_loop()
        self._report = report
        self._failures = Failures("keepalived", report)
        self._words = Words(report, memory, self._loop.time)
        self._paths: Paths | None = None
        self._jobs: Jobs | None = None
        self._processes: Processes | None = None
        self._fifo: Fifo | None = None
        self._instances: tuple[str, ...] = ()
        self._groups: tuple[str, ...] = ()
        self._doubting: asyncio.TimerHandle | None = None

    def configure(self, paths: Paths | None, instances: tuple[str, ...] = (), groups: tuple[str, ...] = ()) -> None:
        """Which of its instances and groups are followed; None: none is."""
        self._instances, self._groups = instances, groups
        self._words.follow([("INSTANCE", name) for name in instances] + [("GROUP", name) for name in groups])
        if paths == self._paths:
            return
        waiting = self.close()
        self._paths = paths
        if paths:
            jobs = self._jobs = self._workers()
            fifo = self._fifo = Fifo(paths.fifo, jobs, self._hear, self._doubt, self._failures)
            told = self._report, self._begin, fifo.drain, self._words.end
            self._processes = Processes(paths.pid_files, jobs, *told)
            self._processes.look()
            self._fifo.open(is_old=True)
        # Lines that were read from the FIFO, for keepalived says nothing twice, and who runs `floatip notify`.
        for then in waiting:
            self.look(then)

    def close(self) -> list[Callable[[], None]]:
        """Returns what still waits for a look at keepalived's processes."""
        waiting: list[Callable[[], None]] = []
        if self._doubting:
            self._doubting.cancel()
        if self._fifo and self._processes and self._jobs:
            self._fifo.close()
            waiting = self._processes.close()
            self._jobs.close()
        self._words.end()
        self._failures.keep(())
        self._paths = self._fifo = self._processes = self._jobs = None
        return waiting

    def look(self, then: Callable[[], None]) -> None:
        """Before `notified`: it is about the keepalived that runs now."""
        if self._processes:
            self._processes.look(then)
        else:
            then()

    def notified(self, request: Record, pid: int) -> Record:
        """`floatip notify` in place of the FIFO; the answer to it."""
        kind, name, state = request.get("kind", "INSTANCE"), request.get("name"), request.get("state")
        known = self._instances if kind == "INSTANCE" else self._groups
        if not self._instances or not self._processes:
            return _refusal("no instance follows keepalived", "give one keepalived = { ... } in the configuration")
        if state not in STATES or not isinstance(kind, str):
            return _refusal("a notify request without a state", "floatip notify Master|Backup|Fault|Stop")
        if name is None and len(self._instances) > 1:
            hint = f"floatip notify INSTANCE {self._instances[0]} {state}"
            return _refusal(f"{len(self._instances)} instances follow keepalived, and none is named", hint)
        name = self._instances[0] if name is None else name
        if not isinstance(name, str) or name not in known:
            return _refusal(f"no instance follows {kind} {name}", f"those that do: {', '.join(known) or 'none'}")
        if not self._processes.running:
            if state == "STOP":
                return {"heard": f"{kind} {name} {state}"}  # that is known already
            hint = "check that [keepalived] pid_file and vrrp_pid_file are the files that keepalived writes"
            return _refusal(f"keepalived does not run: {self._processes.reason}", hint)
        said = KeepalivedSaid(kind, name, state)  # type: ignore[arg-type]
        if reason := self._words.notify(said, Sender(pid, pidfd.began(pid))):
            hint = "if keepalived did say so last, start floatip notify again, from a new process"
            return _refusal(f"{kind} {name} {state} is out of date: {reason}", hint)
        if self._fifo:
            self._failures.clear(self._fifo.name)  # it is not the way by which keepalived tells us
        return {"heard": f"{kind} {name} {state}"}

    def _begin(self, process: str, began: int) -> None:
        self._words.begin(process, began)
        self._doubt()

    def _hear(self, lines: list[bytes], is_old: bool) -> None:
        # Of two writers nobody can tell the lines apart: where a successor runs already, they count as its own.
        if self._processes:
            self._processes.look(partial(self._words.hear, lines, is_old))

    def _doubt(self) -> None:
        """Soon look whether it is open for writing at all: a FAULT that is not heard is as good as none."""
        if self._doubting:
            self._doubting.cancel()
        self._doubting = self._loop.call_later(WRITER_PATIENCE, self._look_for_writer)

    def _look_for_writer(self) -> None:
        self._doubting = None
        if not (self._paths and self._fifo and self._fifo.is_open and self._processes and self._processes.running):
            return
        if self._fifo.drain() and self._words.come_by_fifo:
            hint = f"keepalived.conf: vrrp_notify_fifo {self._paths.fifo} root; then systemctl reload keepalived"
            self._fifo.fail("keepalived does not have it open, so what it says is not heard", hint)
            self._doubt()
        else:
            self._failures.clear(self._fifo.name)


def _refusal(what: str, hint: str) -> Record:
    return {"error": what, "hint": hint}
