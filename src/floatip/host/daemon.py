"""The daemon: gives the core its events, does what it answers, and decides nothing.

One loop, one queue, one timer. Events that arise while effects are performed wait for their turn; after each
batch the timer is set to the core's deadline, and it is believed only after all that other nodes have sent was heard.
Whatever goes wrong in our own code ends the process (exit status 70): asyncio alone would note it and go on deaf.
"""

import asyncio
import errno
import gc
import math
import os
import signal
import socket
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from shlex import join
from typing import Any

import floatip
from floatip import DEFAULT_CONFIG
from floatip.commands import Refusal, with_code
from floatip.core.addresses import Placed
from floatip.core.differences import differences
from floatip.core.etcd import AskEtcd, WatchEtcd
from floatip.core.events import (
    Arrange,
    Became,
    ClockMoved,
    Close,
    Dial,
    Effect,
    Event,
    Exit,
    Fence,
    Garp,
    Held,
    Hold,
    Install,
    KeepOrders,
    LinkChanged,
    Measure,
    Probe,
    Reloaded,
    SendAdvert,
    SendBytes,
    SendDatagram,
    Started,
    StopGarp,
    StopRequested,
    Ticked,
    TookOver,
)
from floatip.core.node import LEAVE_TIME, Node
from floatip.core.refusals import Why
from floatip.core.settings import Settings
from floatip.core.snapshot import describe_frame, view
from floatip.host import keepalived, privileges, starts, wiring
from floatip.host.answer import Answers
from floatip.host.ask import Record, socket_path, state_directory
from floatip.host.checks import Probes
from floatip.host.control import Command, Control
from floatip.host.disk import Disk, Memory, boot_id
from floatip.host.drill import Drills
from floatip.host.entries import Entries
from floatip.host.errors import in_words
from floatip.host.etcd import Etcd
from floatip.host.explain import Explain
from floatip.host.failures import Failures
from floatip.host.figures import Counters
from floatip.host.history import History
from floatip.host.hooks import HOOKS_TIMEOUT, Hooks, emptied, role_change
from floatip.host.loads import Loads
from floatip.host.log import ERROR, WARNING, Log
from floatip.host.membership import Membership
from floatip.host.network.adverts import Adverts
from floatip.host.network.kernel import Kernel
from floatip.host.network.link import Link
from floatip.host.network.peers import Peers
from floatip.host.news import Item, News
from floatip.host.orders import Orders
from floatip.host.reload import Outcome, Read, Reload
from floatip.host.restart import Restart
from floatip.host.scheduling import scheduling
from floatip.host.second_chance import SecondChance, in_a_line
from floatip.host.state_log import StateLog
from floatip.host.systemd import Systemd
from floatip.host.teller import Teller
from floatip.host.web import Web
from floatip.host.workers import Workers
from floatip.reading import ConfigError, ConfigErrors, ConfigWarning, Loaded, fleet, load, render
from floatip.reading.fleet import Known
from floatip.reading.patience import told_when_slow
from floatip.reading.place import as_warning
from floatip.reading.toml.document import Document

DISK_TIMEOUT = 1.0
"""How long an end waits for the last files."""
SWITCH_INTERVAL = 0.0005
"""Seconds for which a thread that computes, as one that reads the configuration, keeps the loop waiting."""
CLOCK_TOLERANCE = 0.01
"""Seconds by which the time of day may go astray before the core is told."""
SAYS_WHAT_IS_LEFT = 1.0
"""Seconds between two words to systemd of a stop that waits for open connections."""
ORDERS, FLEET = "orders", "fleet"
MEMORIES = ("held", "virtuals", "keepalived", "starts", ORDERS, FLEET)
OUR_BUG = 70
OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
NOT_NOW = 75
"""The next start may succeed; after a 2 it would not."""
NOT_NOW_DELAY = 5.0

Follow = Callable[[Settings, frozenset[Placed]], Settings]
"""Fits the settings to the permanent addresses that the kernel has, whenever those change."""


def run(config_path: str | Path, dcid: int | str | None = None) -> int:
    file = os.path.abspath(config_path)
    check = ["floatip", "check", *([] if file == DEFAULT_CONFIG else [file])]
    check += [] if dcid is None else ["--dcid", str(dcid)]
    return serve(Reading(config_path, dcid), file=file, check=join(check))


@dataclass(frozen=True, slots=True)
class Reading:
    """The configuration of a node, and what it knows of its fleet."""

    config_path: str | Path
    dcid: int | str | None

    def __call__(self, known: Known | None = None, local: Document | None = None) -> Loaded:
        """`known`: of the fleet; None: what was kept. `local`: the file, if it is not to be read again.

        Without what was kept, if that cannot be used: etcd may have a better one.
        """
        try:
            return _load(self.config_path, self.dcid, known, local)
        except ConfigErrors as error:
            kept = fleet.recall()
            if known or not kept.row or any(not fleet.is_of_fleet(one, kept) for one in error.errors):
                raise
            loaded = self(replace(kept, row=""))
            return loaded._replace(warnings=(*map(as_warning, error.errors), *error.warnings, *loaded.warnings))


def _load(config_path: str | Path, dcid: int | str | None, known: Known | None, local: Document | None) -> Loaded:
    loaded = load(config_path, "", dcid, known, local)
    if region := sys.modules.get("floatip.linode.region"):  # dcid = "auto"
        try:
            region.keep()
        except OSError as error:
            what = f"the data centre is not remembered for the next start: {in_words(error.errno)}"
            kept = ConfigWarning(str(config_path), 0, "linode.dcid", what, "ls -ld /var/lib/floatip/daemon")
            return loaded._replace(warnings=(*loaded.warnings, kept))
    return loaded


def serve(
    read: Read,
    log: Log | None = None,
    follow: Follow | None = None,
    file: str = DEFAULT_CONFIG,
    check: str = "floatip check",
) -> int:
    """Serve until told to stop; the exit status. With `follow` nothing is held, so no privilege is needed."""
    try:
        with _of_the_kernel():
            if not follow:
                privileges.need()
            with told_when_slow(file):
                loaded = read()
        privileges.keep_from_children()
        runner = asyncio.Runner()
        with _of_the_kernel():
            runner.get_loop()
        with runner:
            return runner.run(_serve(loaded, read, log or Log(), follow, check))
    except _Refused as error:
        print(error, file=sys.stderr)
        return _not_now()
    except ConfigErrors as error:
        print(render(error.errors, error.warnings), file=sys.stderr)
        return _not_now() if error.may_mend else 2
    except Refusal as error:
        print(f"{error.coded}\n  hint: {error.hint}", file=sys.stderr)
        return 1
    except Exception:
        traceback.print_exc()
        return OUR_BUG


class _Refused(Exception):
    """The kernel refuses what a start needs, as the user is to read it."""


@contextmanager
def _of_the_kernel() -> Iterator[None]:
    """What it refuses now it may give in a moment; once the daemon runs, its parts see to that."""
    try:
        yield
    except OSError as error:
        hint = "see what the kernel says: ip address; ip route; journalctl -k"
        if error.errno == errno.EMFILE:
            hint = "allow more open files: systemctl edit floatip, and below [Service]: LimitNOFILE=1024"
        elif error.errno in OUT_OF_RESOURCES:
            hint = "find out what uses the memory, or the files of the whole system: free -m; cat /proc/sys/fs/file-nr"
        what = f"floatip cannot start: the kernel refuses what it needs: {in_words(error.errno)}"
        raise _Refused(f"{with_code(what, Why.KERNEL_REFUSES)}\n  hint: {hint}") from None


async def _serve(loaded: Loaded, read: Read, log: Log, follow: Follow | None, check: str) -> int:
    return await Daemon(loaded, read, log, follow, check).serve()


class Daemon:
    def __init__(self, loaded: Loaded, read: Read, log: Log, follow: Follow | None, check: str) -> None:
        self._loaded = loaded
        self._follow = follow
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._loop.set_exception_handler(self._die)
        self._systemd = Systemd()
        self._answers = Answers(self._loop.call_soon, self._loop.time)
        self._counters = Counters()
        self._queue: deque[Event] = deque()
        self._busy = True
        self._timer: asyncio.TimerHandle | None = None
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._stopping = self._is_hurried = False
        self._clock_ahead = 0.0
        self._seed = int.from_bytes(os.urandom(4))
        self._boot = int.from_bytes(os.urandom(8)) or 1
        self._failures = Failures("daemon", self.report)
        self._read = read
        reread, refused = self._read_again, self._say_refused
        self._reload = Reload(reread, self._apply, self._failures, log, self._systemd, check, refused)
        self._restart = Restart(read, self._failures, check)
        self._disk = Disk(self.report)
        memories = {
            name: Memory(self._disk, state_directory() / f"{name}.json", across_boots=name in (ORDERS, FLEET))
            for name in MEMORIES
        }
        self._memories, self._starts = memories.values(), memories["starts"]
        follower = keepalived.Keepalived(self.report, memories["keepalived"])
        self._orders = Orders(lambda: self._node, self.report, memories[ORDERS])
        drills = Drills(lambda: self._node, self.report, self._loop.time)
        etcd, of_fleet = Etcd(self.report), Failures("fleet", self.report)
        self._membership = Membership(etcd, self._read_for_fleet, of_fleet, memories[FLEET], boot_id())
        orders = self._orders.commands(time.time)
        commands = orders | {
            **drills.commands(),
            **self._membership.commands(orders["undrain"]),
            "status": Command(self._status, "ask for the status", prepare=self._prepare_status),
            "figures": Command(self._figures, "ask for the figures"),
            "loads": Loads(lambda: self._node, self._loop.call_soon).command,
            "explain": Explain(lambda: self._node, self._loop, Workers()).command,
            "notify": Command(follower.notified, "notify", is_for_notifiers=True, prepare=follower.look),
        }
        self._entries = Entries(log)
        self._history_disk = Disk(self.report, "history")
        self._history = History(self._history_disk, state_directory())
        subscribers = [self._publish, self._tell_role, self._tell_systemd]
        if not follow:  # an announcer alone has no state directory
            subscribers.append(self._history.note)
        self._news = News(subscribers, self._loop.call_soon, self._entries.write)
        self._parts = wiring.Parts(
            Adverts(self.report),
            Link(self.report),
            Peers(self.report),
            Hooks(self.report),
            Teller(self.report),
            StateLog(self._disk),
            Probes(self.report),
            Kernel(self.report, *((None, None) if follow else (memories["held"], memories["virtuals"]))),
            follower,
            Control(socket_path(), commands, lambda: [item.record for item in self._news.history], self._no_client),
            Web(self.report, socket_path(), state_directory()),
            etcd,
            SecondChance(self.report),
        )

    async def serve(self) -> int:
        sys.setswitchinterval(SWITCH_INTERVAL)
        await asyncio.gather(self._history.load(), *(memory.load() for memory in self._memories))
        with _of_the_kernel():
            await self._parts.kernel.start()
            # Once: a session does not survive another router id, and addresses come and go.
            self._router_id = wiring.first_ipv4(self._loaded.model)
        settings = self._settings()
        self._node = Node(settings, self._loop.time())
        # Where another daemon runs, this refuses, before anything is touched.
        try:
            await self._parts.control.start()
        except OSError as error:
            what = f"no control socket at {self._parts.control.path}: {in_words(error.errno)}"
            self._log.write(WARNING, f"{what}\n  hint: set RUNTIME_DIRECTORY to a directory that can be written")
        self._listen_to_signals()
        self._configure(settings)
        barred_for = 0.0 if self._follow else await starts.note(self._starts, self._loop.time())
        self._look_at_the_clock()
        self._recall_orders()
        self._queue.append(Started(barred_for))
        configuration = f"configuration {self._loaded.model.digest.hex()}"
        what = ", ".join(filter(None, (f"version {floatip.__version__}", configuration, self._history.unclean)))
        self._say("daemon", "floatip", "started", what)
        self._pump()
        watching = asyncio.create_task(self._parts.kernel.run())
        watching.add_done_callback(_raise)
        self._systemd.ready()
        self._systemd.feed_watchdog()
        # What lives now lives long: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        status = await self._ended
        self._say("daemon", "floatip", "stopped", self._node.stopping)
        self._news.flush()
        disks = self._disk.finish(DISK_TIMEOUT), self._history_disk.finish(DISK_TIMEOUT)
        await asyncio.gather(
            self._parts.hooks.finish(HOOKS_TIMEOUT),
            self._parts.teller.finish(),
            *disks,
            self._parts.second_chance.finish(),
        )
        watching.cancel()
        self._close()
        return status

    # Events in, effects out

    def report(self, event: Event) -> None:
        self._queue.append(event)
        if not self._busy:
            self._pump()

    def _pump(self) -> None:
        self._busy = True
        while self._queue:
            event = self._queue.popleft()
            if isinstance(event, LinkChanged):
                self._parts.adverts.link(event)
            now = self._loop.time()
            self._perform(self._node.handle(event, now), now)
            if self._follow and isinstance(event, Held):
                now = self._loop.time()
                self._perform(self._node.handle(Reloaded(self._settings()), now), now)
        self._busy = False
        self._arm()

    def _arm(self) -> None:
        deadline = self._node.deadline
        if self._timer:
            if self._timer.when() == deadline:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._tick) if deadline < math.inf else None

    def _tick(self) -> None:
        if self._timer:
            self._counters.woke(self._timer.when(), self._loop.time())
        self._timer = None
        self._busy = True
        self._parts.adverts.drain()
        self._parts.link.drain()
        self._look_at_the_clock()
        self._queue.append(Ticked())
        self._pump()

    def _look_at_the_clock(self) -> None:
        ahead = time.time() - self._loop.time()
        if abs(ahead - self._clock_ahead) > CLOCK_TOLERANCE:
            self._clock_ahead = ahead
            self._queue.append(ClockMoved(ahead))

    def _perform(self, effects: Iterable[Effect], decided_at: float) -> None:
        news: list[Became] = []
        for effect in effects:
            match effect:
                case AskEtcd() | WatchEtcd():
                    self._parts.etcd.perform(effect)
                case SendAdvert():
                    self._parts.adverts.send(effect)
                case SendDatagram():
                    self._parts.link.send(effect)
                case SendBytes():
                    self._parts.peers.send(effect)
                case Probe():
                    self._parts.probes.run(effect)
                case Hold():
                    self._parts.kernel.hold(effect)
                case Fence():
                    self._parts.kernel.fence(effect)
                case Install():
                    self._parts.kernel.install(effect)
                case Arrange():
                    self._parts.second_chance.perform(effect)
                case Garp():
                    self._parts.kernel.garp(effect)
                case StopGarp():
                    self._parts.kernel.stop_garp(effect)
                case KeepOrders():
                    self._orders.keep(effect)
                case Dial():
                    self._parts.peers.dial(effect)
                case Close():
                    self._parts.peers.close(effect)
                case Measure():
                    self._parts.peers.measure(effect)
                case Became():
                    news.append(effect)
                case TookOver():
                    self._history.took_over(effect)
                    self._counters.took_over(*astuple(effect.phases))
                case Exit() if not self._ended.done():
                    self._ended.set_result(0)
        if news:
            self._news.add(news, decided_at)

    # News

    def _publish(self, item: Item) -> None:
        self._parts.control.publish(item.record)

    def _tell_role(self, item: Item) -> None:
        if change := role_change(item, self._node.instances):
            self._parts.state_log.write(change.instance, change.role)
            self._parts.hooks.notify(change)
        if gone := emptied(item):
            self._parts.hooks.notify(gone)
        self._parts.teller.note(item, self._node.instances)

    def _say(self, what: str, name: str, value: str, reason: str) -> None:
        self._news.add([Became(what, name, value, reason)], self._loop.time())

    def _say_refused(self, errors: list[ConfigError]) -> None:
        more = f"; and {len(errors) - 1} more" if len(errors) > 1 else ""
        self._say("configuration", "floatip", "refused", str(errors[0]).partition("\n")[0] + more)

    def _tell_systemd(self, item: Item) -> None:
        if item.what in ("role", "rank"):
            self._systemd.status(", ".join(self._in_a_word(name) for what, name in self._news.latest if what == "rank"))

    def _in_a_word(self, name: str) -> str:
        role = self._news.latest.get(("role", name), "")
        return " ".join(filter(None, (name, role, f"at rank {self._news.latest['rank', name]}")))

    def _prepare_status(self, ready: Callable[[], None]) -> None:
        self._answers.prepare(self._node, ready)

    def _status(self, request: Record, pid: int) -> str:
        now = self._loop.time()
        known = describe_frame(self._node, self._answers.problems(self._node, now), now)
        status = replace(
            known,
            problems=(*known.problems, *(view(problem, now) for problem in self._parts.control.problems(now))),
            pid=os.getpid(),
            version=floatip.__version__,
            host=socket.gethostname(),
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            monotonic=now,
            uptime=now - self._started,
            recent=self._history.recent,
            etcd=replace(known.etcd, prefix=etcd.prefix) if known.etcd and (etcd := self._loaded.model.etcd) else None,
            network=self._loaded.model.network.view if self._loaded.model.network else None,
            log_lines_dropped=self._log.dropped,
            hooks_dropped=self._parts.hooks.dropped + self._parts.teller.dropped,
            control_requests_rejected=self._parts.control.rejected,
            scheduling=scheduling(),
            sockets=(*self._parts.adverts.sockets(), *self._parts.link.sockets(), *self._parts.peers.sockets()),
        )
        return self._answers.text(status, self._node, now)

    def _figures(self, request: Record, pid: int) -> Record:
        return self._counters.answer(self._node)

    # Configuration

    def _settings(self) -> Settings:
        settings = self._loaded.model.settings(self._seed, self._router_id, self._loaded.here, self._boot, boot_id())
        return self._follow(settings, self._parts.kernel.permanent) if self._follow else settings

    def _configure(self, settings: Settings) -> None:
        self._log.as_json = self._loaded.model.log == "json"
        self._entries.configure(settings.instances)
        for warning in self._loaded.warnings:
            self._log.write(WARNING, str(warning))
        wiring.connect(self._parts, self._loaded, settings)
        self._membership.configure(self._loaded)
        self._history.node = settings.link.own if settings.link else socket.gethostname()

    def _read_again(self) -> Loaded:
        if isinstance(self._read, Reading) and self._loaded.model.member:
            return self._read(self._loaded.known)
        return self._read()

    def _read_for_fleet(self, known: Known, outcome: Outcome) -> None:
        """What is new at etcd, with the file as it was read last: an edit in it waits for its SIGHUP."""
        if isinstance(self._read, Reading):
            self._reload.also(partial(self._read, known, self._loaded.local), outcome)

    def _apply(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._busy = True
        before, settings = self._node.config, self._settings()
        self._configure(settings)
        now = self._loop.time()
        changed = f"{differences(before, settings)}; configuration {loaded.model.digest.hex()}"
        self._say("configuration", "floatip", "reloaded", changed)
        self._perform(self._node.handle(Reloaded(settings), now), now)
        self._recall_orders()  # a reload that took the nodes away may have forgotten them
        self._pump()
        self._news.forget(lambda what, name: what in ("role", "rank") and name not in self._node.instances)

    def _recall_orders(self) -> None:
        if recalled := self._orders.recalled():
            self._queue.append(recalled)

    # The end

    def _listen_to_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop, number)
        self._loop.add_signal_handler(signal.SIGHUP, self._reload.begin)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))

    def _stop(self, number: signal.Signals) -> None:
        if self._stopping:
            if self._is_hurried or not self._node.waits_for_connections(self._loop.time()):
                os._exit(128 + number)
            self._is_hurried = True  # all is released in order, and no connection waited for
            self.report(StopRequested(f"asked to stop again ({number.name})"))
            return
        self._stopping = self._entries.is_stopping = True
        self._reload.close()
        self._restart.close()
        if not self._follow:
            starts.forget(self._starts)
        self._systemd.stopping(self._time_to_stop())
        self.report(StopRequested(f"asked to stop ({number.name})"))
        self._say_what_is_left()

    def _say_what_is_left(self) -> None:
        """Again and again, to systemd."""
        if self._ended.done():
            return
        now, moves = self._loop.time(), self._node.moves
        if moves and self._node.waits_for_connections(now) and (left := in_a_line(moves.kept, now)):
            self._systemd.status(f"stopping: {left}")
        self._loop.call_later(SAYS_WHAT_IS_LEFT, self._say_what_is_left)

    def _time_to_stop(self) -> float:
        settings = self._node.config
        leaving = LEAVE_TIME if settings.link else 0.0
        graceful = settings.speaker.graceful_shutdown if settings.speaker else 0.0
        kept = settings.second_chance.limit if settings.second_chance else 0.0
        return leaving + kept + settings.release_delay + graceful + self._parts.teller.time_to_stop

    def _close(self) -> None:
        self._busy = True  # nobody hears what the parts say now
        if self._timer:
            self._timer.cancel()
        self._parts.probes.close()
        self._parts.peers.close_all()
        self._parts.adverts.close()
        self._parts.link.close()
        self._parts.keepalived.close()
        self._parts.web.close()
        self._membership.close()
        self._parts.etcd.close()
        self._parts.second_chance.close()
        self._parts.control.close()
        self._parts.kernel.close()
        self._disk.close()
        self._history_disk.close()
        self._systemd.close()

    def _no_client(self, error: OSError) -> None:
        hint = "find out who holds so many connections: ss -xp | grep floatip"
        self._failures.set("control socket", f"no client accepted: {in_words(error.errno)}", hint, lasts=60.0)

    def _die(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        trace = "".join(traceback.format_exception(error)) if error else ""
        self._log.write(ERROR, f"a bug in floatip: {context['message']}\n{trace}")
        os._exit(OUR_BUG)


def _raise(task: asyncio.Task[None]) -> None:
    """A task keeps its exception for whoever asks; a callback gives it to the loop's handler."""
    if not task.cancelled():
        task.result()


def _not_now() -> int:
    """This machine may become what the file needs. systemd starts us again at once, so wait a little before that."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    if "INVOCATION_ID" in os.environ:
        time.sleep(NOT_NOW_DELAY)
    return NOT_NOW
