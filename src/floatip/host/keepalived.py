"""The user's keepalived: whether it runs (pid files, pidfds) and what it says (its notify FIFO).

Nothing is decided here. Its processes are looked for while there are none, and watched without polling while there
are; before the end of one is reported, whatever it still had to say is read. Words of no living process are dropped.
It says nothing twice, so what it said is remembered together with the process, for a successor of this daemon.

Traps of the FIFO (keepalived 2.2): a line is lost when it is full; one that keepalived makes by itself is root's alone,
and a reload makes it anew, which the reader sees as an end; nothing is said after a reload. One that was made
beforehand keeps its inode, and what keepalived writes while nobody reads waits in it.
"""

import asyncio
import errno
import fcntl
import os
import re
import select
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from floatip.core.events import Event, Failed, KeepalivedFound, KeepalivedSaid, Mended
from floatip.host.ask import Record
from floatip.host.disk import Memory
from floatip.host.errors import in_words
from floatip.host.inotify import Inotify

LOOK_INTERVAL = 0.1
"""Seconds between two looks for a keepalived that does not run."""
OPEN_INTERVAL = 1.0
WRITER_PATIENCE = 2.0
"""Seconds after its start, or after a reload, within which keepalived opens the FIFO."""
LONGEST_LINE = 4096
LINE = re.compile(r'(INSTANCE|GROUP) "(.*)" (MASTER|BACKUP|FAULT|STOP|DELETED|MASTER_RX_LOWER_PRI) \d+')
"""Not so: virtual and real servers, and changes of priority: of a sick instance keepalived says BACKUP_PRIORITY."""
STILL_MASTER = "MASTER_RX_LOWER_PRI"
STATES = ("MASTER", "BACKUP", "FAULT", "STOP")


@dataclass(frozen=True, slots=True)
class Paths:
    fifo: Path
    pid_files: tuple[Path, ...]
    """Of the main process and of the one for VRRP."""


class Keepalived:
    def __init__(self, report: Callable[[Event], None], memory: Memory) -> None:
        self._report = report
        self._memory = memory
        self._loop = asyncio.get_running_loop()
        self._paths: Paths | None = None
        self._pidfds: dict[int, str] = {}
        self._found: KeepalivedFound | None = None
        self._process = ""
        """Which keepalived the remembered words are of."""
        self._process_began = 0
        self._said: dict[tuple[str, str], KeepalivedSaid] = {}
        self._instances: tuple[str, ...] = ()
        self._groups: tuple[str, ...] = ()
        self._told_by: dict[tuple[str, str], tuple[int, int]] = {}
        """When the process began that told of it last by `floatip notify`, and its pid."""
        self._fifo = -1
        self._rest = b""
        self._by_fifo = False
        """Whether the FIFO is the way by which it tells us."""
        self._inotify: Inotify | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._opening: asyncio.TimerHandle | None = None
        self._doubting: asyncio.TimerHandle | None = None
        self._failure = ""

    def configure(self, paths: Paths | None, instances: tuple[str, ...] = (), groups: tuple[str, ...] = ()) -> None:
        """Which of its instances and groups are followed; None: none is."""
        self._instances, self._groups = instances, groups
        if paths == self._paths:
            return
        self.close()
        self._paths = paths
        if paths:
            self._look()
            self._inotify = Inotify([paths.fifo], self._open)
            self._open(is_old=True)

    def close(self) -> None:
        for timer in (self._looking, self._opening, self._doubting):
            if timer:
                timer.cancel()
        if self._inotify:
            self._inotify.close()
            self._inotify = None
        self._close_fifo()
        self._forget_processes()
        self._said.clear()
        self._mend()
        self._paths = self._found = None

    def notified(self, request: Record, pid: int) -> Record:
        """`floatip notify` in place of the FIFO; the answer to it."""
        kind, name, state = request.get("kind", "INSTANCE"), request.get("name"), request.get("state")
        known = self._instances if kind == "INSTANCE" else self._groups
        if not self._instances:
            return _refusal("no instance follows keepalived", "give one keepalived = { ... } in the configuration")
        if state not in STATES or not isinstance(kind, str):
            return _refusal("a notify request without a state", "floatip notify Master|Backup|Fault|Stop")
        if name is None and len(self._instances) > 1:
            hint = f"floatip notify INSTANCE {self._instances[0]} {state}"
            return _refusal(f"{len(self._instances)} instances follow keepalived, and none is named", hint)
        name = self._instances[0] if name is None else name
        if not isinstance(name, str) or name not in known:
            return _refusal(f"no instance follows {kind} {name}", f"those that do: {', '.join(known) or 'none'}")
        self._look()
        if not self._pidfds and state != "STOP":
            hint = "[keepalived] pid_file and vrrp_pid_file say by which files it is known"
            return _refusal(f"keepalived does not run: {self._found.reason if self._found else ''}", hint)
        if self._is_news(kind, name, pid):
            self._by_fifo = False
            self._hear([KeepalivedSaid(kind, name, state)])  # type: ignore[arg-type]
        return {"heard": f"{kind} {name} {state}"}

    def _is_news(self, kind: str, name: str, pid: int) -> bool:
        """keepalived runs its scripts side by side: what was begun last is true, and nothing from before its start."""
        began = _began(pid), pid
        if not began[0]:
            return True  # nobody knows
        is_news = began[0] >= self._process_began and began >= self._told_by.get((kind, name), (0, 0))
        if is_news:
            self._told_by[kind, name] = began
        return is_news

    # Its processes

    def _look(self) -> None:
        assert self._paths
        if self._looking:
            self._looking.cancel()
            self._looking = None
        if self._pidfds:
            return
        try:
            for path in self._paths.pid_files:
                pidfd, pid = _open_process(path)
                self._pidfds[pidfd] = f"its process {pid} has ended"
                self._loop.add_reader(pidfd, self._died, pidfd)
        except _NotThere as reason:
            self._forget_processes()
            self._tell_found(False, str(reason))
            self._looking = self._loop.call_later(LOOK_INTERVAL, self._look)
            return
        self._process_began = _began(pid)
        # Not the pid alone: that may be another process's later.
        self._process = f"{pid} {self._process_began}"
        self._recall()
        self._tell_found(True, f"process {pid}", _clock(self._process_began))
        self._doubt()

    def _died(self, pidfd: int) -> None:
        self._drain()  # its last words
        reason = self._pidfds[pidfd]
        self._forget_processes()
        self._tell_found(False, reason)
        self._said.clear()
        self._look()

    def _forget_processes(self) -> None:
        for pidfd in self._pidfds:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)
        self._pidfds.clear()

    def _tell_found(self, running: bool, reason: str, since: float | None = None) -> None:
        found = KeepalivedFound(running, reason, since)
        # Why it is not there now says less than why it ended.
        if self._found is None or self._found.running is not running or running:
            self._found = found
            self._report(found)

    # Its FIFO

    def _open(self, is_old: bool = False) -> None:
        """`is_old`: what waits in it was written while nobody listened."""
        assert self._paths
        if self._opening:
            self._opening.cancel()
            self._opening = None
        if self._fifo >= 0 and _is_same(self._fifo, self._paths.fifo):
            return
        self._drain()  # the one that is replaced
        self._close_fifo()
        try:
            self._fifo = _open_fifo(self._paths.fifo)
        except OSError as error:
            if is_old or error.errno != errno.ENOENT:  # a reload makes it anew in a moment
                self._refused(error)
            self._opening = self._loop.call_later(OPEN_INTERVAL, self._open, True)
            return
        self._mend()
        self._loop.add_reader(self._fifo, self._read)
        self._drain(is_old)
        self._doubt()

    def _refused(self, error: OSError) -> None:
        assert self._paths
        reason = str(error.strerror) if error.errno is None else in_words(error.errno)
        if error.errno in (errno.EACCES, errno.ENOENT):
            reason += f"\n  hint: floatip must be allowed to read it: {_make_anew(self._paths.fifo)}"
        if error.errno == errno.ELOOP:
            reason += f"\n  hint: no symbolic link is followed: {_make_anew(self._paths.fifo)}"
        self._fail(reason)

    def _fail(self, reason: str) -> None:
        if self._failure != reason:
            self._failure = reason
            self._report(Failed(self._fifo_name, reason, lasts=True))

    def _mend(self) -> None:
        if self._failure:
            self._failure = ""
            self._report(Mended(self._fifo_name))

    def _doubt(self) -> None:
        """Soon look whether it is open for writing at all: a FAULT that is not heard is as good as none."""
        if self._doubting:
            self._doubting.cancel()
        self._doubting = self._loop.call_later(WRITER_PATIENCE, self._judge)

    def _judge(self) -> None:
        self._doubting = None
        if self._fifo < 0 or not self._pidfds:
            return
        assert self._paths
        if self._drain() and (self._by_fifo or not self._said):
            hint = f"keepalived.conf: vrrp_notify_fifo {self._paths.fifo} root; then systemctl reload keepalived"
            self._fail(f"keepalived does not have it open, so what it says is not heard\n  hint: {hint}")
            self._doubt()
        else:
            self._mend()

    @property
    def _fifo_name(self) -> str:
        assert self._paths
        return f"notify FIFO {self._paths.fifo}"

    def _read(self) -> None:
        if self._drain():
            self._close_fifo()
            self._open()

    def _drain(self, is_old: bool = False) -> bool:
        """Whether it came to an end: nobody has it open for writing any more."""
        lines: list[bytes] = []
        has_ended = False
        while self._fifo >= 0 and not has_ended:
            try:
                data = os.read(self._fifo, 65536)
            except BlockingIOError:
                break
            has_ended = not data
            *more, self._rest = (self._rest + data).split(b"\n")
            self._rest = self._rest[-LONGEST_LINE:]
            lines += more
        if lines:
            self._look()
            self._by_fifo = True
            self._hear(_latest(lines, self._loop.time()) if is_old else _parsed(lines))
        return has_ended

    def _close_fifo(self) -> None:
        if self._fifo >= 0:
            self._loop.remove_reader(self._fifo)
            os.close(self._fifo)
        self._fifo, self._rest = -1, b""

    # What is remembered

    def _hear(self, said: Iterable[KeepalivedSaid]) -> None:
        if not self._pidfds:
            return
        for one in said:
            known = self._said.pop((one.kind, one.name), None)  # a group and its members: the order counts
            at = known.at if known and known.state == one.state else self._loop.time()
            self._said[one.kind, one.name] = replace(one, at=at if one.at is None else one.at)
            self._report(one)
        said_by = [[one.kind, one.name, one.state, one.at] for one in self._said.values()]
        self._memory.remember({"process": self._process, "by_fifo": self._by_fifo, "said": said_by})

    def _recall(self) -> None:
        for one in self._memory.recall(self._said_by_this_one) or ():
            self._said[one.kind, one.name] = one
            self._report(one)

    def _said_by_this_one(self, state: dict[str, Any]) -> Iterable[KeepalivedSaid]:
        if state["process"] != self._process:
            return ()
        self._by_fifo = bool(state["by_fifo"])
        return [KeepalivedSaid(kind, name, word, True, float(at)) for kind, name, word, at in state["said"]]


def _refusal(what: str, hint: str) -> Record:
    return {"error": what, "hint": hint}


class _NotThere(Exception):
    """Why a process cannot be watched, in words."""


def _open_process(pid_file: Path) -> tuple[int, int]:
    """A pidfd and the pid, of a process that is keepalived's."""
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
        pidfd = os.pidfd_open(pid)
    except FileNotFoundError:
        raise _NotThere(f"{pid_file} does not exist") from None
    except (ValueError, OverflowError):
        raise _NotThere(f"{pid_file} names no process") from None
    except ProcessLookupError:
        raise _NotThere(f"process {pid} of {pid_file} has ended") from None
    except OSError as error:
        raise _NotThere(f"{pid_file}: {in_words(error.errno)}") from None
    try:
        name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
        if Path(f"/proc/{pid}").stat().st_uid:
            name = "somebody else's"  # a pid file stays when its process is killed, and anybody may get the pid
    except OSError:  # hidden from us
        name = "keepalived"
    if not name.startswith("keepalived"):
        os.close(pidfd)
        raise _NotThere(f"process {pid} of {pid_file} is {name} now")
    if _has_ended(pidfd):  # and nobody has reaped it
        os.close(pidfd)
        raise _NotThere(f"process {pid} of {pid_file} has ended")
    return pidfd, pid


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _began(pid: int) -> int:
    """Clock ticks since boot (proc(5), field 22 of stat); 0: it has ended, or is hidden from us."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except OSError:
        return 0


def _clock(ticks: int) -> float | None:
    """Since when by our clock, which stands still while the machine sleeps."""
    slept = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    return ticks / os.sysconf("SC_CLK_TCK") - slept if ticks else None


def _make_anew(fifo: Path) -> str:
    # keepalived removes one that it made itself when it ends.
    return f"systemctl stop keepalived; rm -f {fifo}; systemd-tmpfiles --create; systemctl start keepalived"


def _open_fifo(path: Path) -> int:
    fifo = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISFIFO(os.fstat(fifo).st_mode):
            raise OSError(None, f"not a FIFO\n  hint: {_make_anew(path)}")
        # Two readers would take each other's lines.
        fcntl.flock(fifo, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fifo)
        raise OSError(None, "another process reads it\n  hint: two daemons cannot follow one keepalived") from None
    except OSError:
        os.close(fifo)
        raise
    return fifo


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _parsed(lines: list[bytes], at: float | None = None) -> Iterator[KeepalivedSaid]:
    """`at`: now, for lines that had been waiting: they tell of changes since a predecessor of this daemon read."""
    for line in lines:
        if found := LINE.fullmatch(line.decode(errors="replace")):
            kind, name, state = found.groups()
            word = {"DELETED": "STOP", STILL_MASTER: "MASTER"}.get(state, state)
            began_at = None if state == STILL_MASTER else at
            yield KeepalivedSaid(kind, name, word, at is not None, began_at)  # type: ignore[arg-type]


def _latest(lines: list[bytes], now: float) -> Iterable[KeepalivedSaid]:
    """Of what had been waiting only the last of each subject counts, in the order in which those were said."""
    latest: dict[tuple[str, str], KeepalivedSaid] = {}
    for said in _parsed(lines, now):
        before = latest.pop((said.kind, said.name), said)
        latest[said.kind, said.name] = replace(said, at=before.at) if said.at is None else said
    return latest.values()
