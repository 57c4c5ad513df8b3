"""Processes that somebody else started, watched by pidfds: an end is told at once.

By name or command line: so many of the oldest as must run are watched, because a child that is about to execute
something else still has its parent's name. When one ends others are looked for at once (a reload of HAProxy replaces
its worker). While more would change the answer, the kernel tells of each that begins (`started`), or they are looked
for twice a second.

By pid file: the file is looked at once a second. After the process in a pid file has ended, the check stays down until
the pid file is rewritten: the pid may be another process's by now.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from floatip.host import pidfd
from floatip.host.checks.kind import Means, Report, Runner, Unasked, Verdict
from floatip.model import Process

LOOK_AGAIN_INTERVAL = 0.5
REST_INTERVAL = 10.0
"""Seconds between two looks where everything that matters is told: a process may have taken another name."""
MOST_WATCHED = 256
PID_MAX = 1 << 22
LONGEST_COMMAND = 1 << 16

Written = tuple[bytes, int, int]
"""The content of a file, its inode and its mtime: written again, it differs."""


def process_runner(kind: Process, report: Report, means: Means) -> Runner:
    is_file = kind.process.startswith("/") and not kind.command
    return (PidFileRunner if is_file else NamedRunner)(kind, report, means)


@dataclass(frozen=True, slots=True)
class _Seen:
    count: int
    oldest: int
    pidfds: dict[int, int]
    """Of those that are to be watched, by pid; -1: that one is watched already."""
    hidden: bool
    """/proc hides the processes of others."""


class NamedRunner(Unasked[_Seen]):
    def __init__(self, kind: Process, report: Report, means: Means) -> None:
        self._kind = kind
        self._watches: dict[int, pidfd.Watch] = {}
        self._watched: frozenset[int] = frozenset()
        self._began: set[int] = set()
        """Processes that are to be looked at."""
        self._is_asking = False
        super().__init__(None, report, means)

    def close(self) -> None:
        super().close()
        self._means.started.unsubscribe(self._begun)
        self._watch_only({})

    def _see(self) -> _Seen:
        watched = self._watched
        pids = _oldest_first(pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if self._fits(pid))
        most = MOST_WATCHED if self._kind.quorum_max is not None else min(self._kind.quorum, MOST_WATCHED)
        pidfds: dict[int, int] = {}
        ended = 0
        try:
            for pid in pids:
                if len(pidfds) == most:
                    break
                try:
                    pidfds[pid] = -1 if pid in watched else pidfd.open_pidfd(pid)
                except ProcessLookupError:  # or nobody has reaped it
                    ended += 1
        except OSError:
            _close(pidfds)
            raise
        hidden = not pidfds and not os.path.exists("/proc/1/comm")
        return _Seen(len(pids) - ended, next(iter(pidfds), 0), pidfds, hidden)

    def _fits(self, pid: int) -> bool:
        # It may end meanwhile, or be hidden.
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if self._kind.command:
                return fits(_read(f"/proc/{pid}/cmdline", LONGEST_COMMAND)[0], self._kind)
            return _read(f"/proc/{pid}/comm")[0] == self._kind.process.encode() + b"\n"
        return False

    def _found(self, found: _Seen) -> None:
        self._watch_only(found.pidfds)
        self._say(self._judge(found))
        kind, started = self._kind, self._means.started
        if found.count >= kind.quorum and kind.quorum_max is None:
            started.unsubscribe(self._begun)
            self._later(REST_INTERVAL, self._look)
        else:
            started.subscribe(self._begun)
            self._later(REST_INTERVAL if started.tells else LOOK_AGAIN_INTERVAL, self._look)

    def _judge(self, found: _Seen) -> Verdict:
        kind, count = self._kind, found.count
        name = kind.process
        if found.hidden and kind.quorum:
            return False, f"no process named {name} can be seen: /proc hides those of other users (hidepid)"
        passed = count >= kind.quorum and (kind.quorum_max is None or count <= kind.quorum_max)
        if kind.quorum_max == 0:
            return not count, f"{count or 'no'} process{_are(count)} named {name}"
        if kind.quorum > 1 or kind.quorum_max is not None:
            wanted = f"at least {kind.quorum}" + (f", at most {kind.quorum_max}" if kind.quorum_max is not None else "")
            return passed, f"{count} process{_are(count)} named {name}, and it must be {wanted}"
        if not count:
            return False, f"no process is named {name}"
        return True, f"{name} runs (pid {found.oldest})"

    def _watch_only(self, pidfds: dict[int, int]) -> None:
        for pid in self._watches.keys() - pidfds.keys():
            self._watches.pop(pid).close()
        for pid, descriptor in pidfds.items():
            if descriptor >= 0:
                self._watches[pid] = pidfd.Watch(descriptor, partial(self._ended, pid))
        self._watched = frozenset(self._watches)

    def _ended(self, pid: int) -> None:
        self._watches.pop(pid).close()
        self._watched = frozenset(self._watches)
        self._look()

    def _begun(self, pids: frozenset[int] | None) -> None:
        if pids is None:
            self._look()
            return
        self._began |= pids
        if not self._is_asking:
            self._ask()

    def _ask(self) -> None:
        """Whether one of those that began is one of ours: else nothing has changed."""
        began, self._began = self._began, set()
        self._is_asking = True
        self._means.jobs.do(lambda: any(map(self._fits, began)), self._asked)

    def _asked(self, outcome: bool | OSError) -> None:
        self._is_asking = False
        if self._closed:
            return
        if outcome:  # also where it could not be seen
            self._look()
        if self._began:
            self._ask()

    def _discard(self, found: _Seen) -> None:
        _close(found.pidfds)

    def _cannot_look(self, reason: str) -> None:
        if len(self._watches) < self._kind.quorum:
            super()._cannot_look(reason)


def _are(count: int) -> str:
    return " is" if count == 1 else "es are"


def _close(pidfds: dict[int, int]) -> None:
    for descriptor in pidfds.values():
        if descriptor >= 0:
            os.close(descriptor)


def fits(cmdline: bytes, kind: Process) -> bool:
    """`cmdline`: of /proc, each word ended by a NUL byte. A program that is named without a path may be in any."""
    name, *wanted = map(os.fsencode, kind.command)
    first, *given = cmdline.removesuffix(b"\0").split(b"\0")
    if first != name and (b"/" in name or os.path.basename(first) != name):
        return False
    match kind.param_match:
        case "exact":
            return given == wanted
        case "partial":
            return given[: len(wanted)] == wanted
    *before, last = wanted or [b""]
    ours = given[: len(wanted)]
    return not wanted or (ours[:-1] == before and len(ours) == len(wanted) and ours[-1].startswith(last))


@dataclass(frozen=True, slots=True)
class _Found:
    passed: bool
    reason: str
    pidfd: int = -1
    """Of a process that was not watched so far."""
    written: Written | None = None
    """The pid file that names it; without a pidfd: one that names a process that has ended."""


class PidFileRunner(Unasked[_Found]):
    def __init__(self, kind: Process, report: Report, means: Means) -> None:
        self._watch: pidfd.Watch | None = None
        self._named: Written | None = None
        """The pid file that named the process that is watched."""
        self._past: Written | None = None
        """The one that named a process that has ended."""
        self._file = Path(kind.process)
        super().__init__(self._file, report, means)

    def close(self) -> None:
        super().close()
        self._let_go()

    def _see(self) -> _Found:
        path, named = self._file, self._named
        try:
            content, status = _read(path)
        except FileNotFoundError:
            return _Found(False, f"{path} does not exist")
        first = content.split(maxsplit=1)[:1]
        pid = int(first[0]) if first and first[0].isdigit() else 0
        if not 0 < pid <= PID_MAX:
            return _Found(False, f"{path} names no process")
        written = content, status.st_ino, status.st_mtime_ns
        if written == named:
            return _Found(True, f"pid {pid} of {path} runs")  # if it did not, its pidfd would have told
        try:
            if written == self._past:
                raise ProcessLookupError
            return _Found(True, f"pid {pid} of {path} runs", pidfd.open_pidfd(pid), written)
        except ProcessLookupError:
            return _Found(False, f"pid {pid} of {path} has ended", written=written)

    def _found(self, found: _Found) -> None:
        if found.pidfd >= 0:
            self._let_go()
            self._watch = pidfd.Watch(found.pidfd, self._ended)
            self._named = found.written
        elif not found.passed and found.written:
            self._past = found.written
        elif found.passed and not self._watch:
            self._look()  # it has ended since
            return
        # A process that is watched and lives is given up only for another one that lives.
        if not self._watch or found.passed:
            self._say((found.passed, found.reason))
        elif self._verdict:
            self._say(self._verdict)
        if not self._watch:
            self._later(LOOK_AGAIN_INTERVAL, self._look)

    def _discard(self, found: _Found) -> None:
        if found.pidfd >= 0:
            os.close(found.pidfd)

    def _cannot_look(self, reason: str) -> None:
        if not self._watch:
            super()._cannot_look(reason)

    def _ended(self) -> None:
        self._let_go()
        self._past, self._named = self._named, None
        self._look()

    def _let_go(self) -> None:
        if self._watch:
            self._watch.close()
            self._watch = None


def _oldest_first(pids: Iterable[int]) -> list[int]:
    return [pid for _, pid in sorted((pidfd.began(pid), pid) for pid in pids)]


def _read(path: str | Path, most: int = 4096) -> tuple[bytes, os.stat_result]:
    # A FIFO in its place must not hang us.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(descriptor, most), os.fstat(descriptor)
    finally:
        os.close(descriptor)
