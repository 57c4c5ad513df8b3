"""The parts of the host that decide something, run as they are, in the world's time: only children are played."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from floatip.core.events import Event
from floatip.host.checks import Probes
from floatip.host.checks.kind import Means
from floatip.host.child import Ended
from floatip.model import Script

T = TypeVar("T")

RUN_TIME = 0.003
REAP_TIME = 0.02
"""From SIGTERM until nothing is left of a child that hangs."""


class Process(Protocol):
    """The process of a daemon, as its host parts see the world through it."""

    def now(self) -> float: ...

    def later(self, delay: float, happen: Callable[[], None], *, is_timer: bool) -> None:
        """While it hangs nothing happens. When it wakes, what descriptors tell comes first, then timers."""

    def report(self, event: Event) -> None: ...


@dataclass(eq=False)
class _Timer:
    callback: Callable[[], object] | None

    def fire(self) -> None:
        if self.callback:
            self.callback()

    def cancel(self) -> None:
        self.callback = None


class Loop:
    def __init__(self, process: Process) -> None:
        self._process = process

    def time(self) -> float:
        return self._process.now()

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: Any) -> _Timer:
        timer = _Timer(partial(callback, *arguments))
        self._process.later(delay, timer.fire, is_timer=True)
        return timer


class Child:
    """Ends by itself with the service's verdict, or, while the service hangs, only when it is told to."""

    def __init__(self, process: Process, service: str, timeout: float, ended: Ended, gone: Callable[[], None]) -> None:
        self._process = process
        self._ended = ended
        self._gone = gone
        self.running = True
        self._is_told_to_end = False
        self._timer = Loop(process).call_later(timeout, self._timed_out, timeout)
        if service != "hanging":
            process.later(RUN_TIME, partial(self._exit, service == "ok"), is_timer=False)

    def terminate(self) -> None:
        if self.running and not self._is_told_to_end:
            self._is_told_to_end = True
            self._process.later(REAP_TIME, partial(self._exit, False), is_timer=False)

    def _timed_out(self, timeout: float) -> None:
        self.terminate()
        self._tell(False, f"timed out after {timeout:g} s")

    def _exit(self, passed: bool) -> None:
        if self.running:
            self.running = False
            self._timer.cancel()
            self._tell(passed, "exit status 0" if passed else "exit status 1")
            self._gone()

    def _tell(self, passed: bool, reason: str) -> None:
        ended, self._ended = self._ended, _to_nobody
        ended(passed, reason)


def _to_nobody(passed: bool, reason: str) -> None:
    """It is told once."""


def checks(process: Process, service: Callable[[], str], name: str) -> Probes:
    """The runner of the checks with one script, which is well when the service is."""

    def start(
        argv: Sequence[str],
        timeout: float,
        ended: Ended,
        gone: Callable[[], None],
        environment: Mapping[str, str] | None = None,
    ) -> Child:
        return Child(process, service(), timeout, ended, gone)

    nothing: Any = None
    probes = Probes(process.report, Means(Loop(process), nothing, start, nothing))
    probes.configure({name: Script(("/check",))})
    return probes


class Memory:
    """As `disk.Memory`, on a disk that never hangs. It outlives the daemon."""

    def __init__(self) -> None:
        self._state: dict[str, Any] | None = None

    def recall(self, read: Callable[[dict[str, Any]], T]) -> T | None:
        return read(self._state) if self._state else None

    def remember(self, state: dict[str, Any]) -> None:
        self._state = state
