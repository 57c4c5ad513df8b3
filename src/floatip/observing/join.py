"""`floatip observe --join`: waits for drills of the nodes, and records for them what this machine sees.

A drill connects by TCP and proves that it has the link's key (`signed`). One drill records at a time. The recording
goes on while its node cannot reach this machine, and is kept until the drill has fetched it.
"""

import asyncio
import errno
import json
import os
import secrets
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import floatip
from floatip.commands import Misused
from floatip.core.state import Status, read
from floatip.drill import said
from floatip.host.ask import ControlError, NobodyAnswers, NotAllowed, ask, socket_path
from floatip.observing.meeting import PORT, CannotMeet, in_words, keys_of, place_of
from floatip.observing.recording import Recording, Unfit, has, target_of
from floatip.observing.signed import NONCE, Conversation, Message, Untrusted
from floatip.text import printable, show, span

KEPT_FOR = 600.0
"""Seconds for which a finished recording waits for its drill."""
MOST_KEPT = 3
PROVED_WITHIN = 5.0
"""Seconds that a connection has to prove that it has the key."""
MOST_UNPROVED = 16
MOST_PROVED = 8
IDLE = 900.0
"""Seconds after which a connection that asks for nothing is closed: longer than anybody reads what a drill will do."""
TOLD_EVERY = 0.5
"""Seconds between two messages that tell a drill how many probes were sent and lost."""
UNANSWERED = 60.0
"""Seconds after which a connection is lost whose other end acknowledges nothing (TCP_USER_TIMEOUT, tcp(7))."""
FREE_AFTER, ENDS_AFTER = 5.0, 30.0
"""Seconds that a drill has to come back whose end has closed the connection, as it does where it is killed: until
another drill may begin, and until its recording ends in any case. One that is cut off closes nothing.
"""
KERNEL_BUFFER = 1 << 17
"""Octets, which the kernel doubles (socket(7)): of each connection, in each direction."""
MOST_REFUSALS = 5
"""Lines a second."""
LONGEST_NAME = 64
LARGEST_PART = 1 << 18
"""Octets of one part of a recording."""


@dataclass(slots=True, eq=False)
class Connection:
    host: str
    conversation: Conversation
    writer: asyncio.StreamWriter
    drill: str = ""
    """The node on which it runs."""
    recording: Recording | None = None

    @property
    def who(self) -> str:
        return f"{self.drill} ({self.host})" if self.drill else self.host


@dataclass(slots=True, eq=False)
class Kept:
    recording: Recording
    who: str
    since: float
    """Unix time."""
    connection: Connection | None
    """Of the drill; None: it is lost."""
    closed_at: float | None = None
    """When the drill's end closed the connection, seconds of the monotonic clock; None: it did not."""


class Observer:
    def __init__(self, keys: tuple[bytes, ...], name: str, daemon: Path | None, say: Callable[[str], None]) -> None:
        """`daemon`: the control socket of the one on this machine; None: none is asked."""
        self.keys, self.name, self.daemon, self._say = keys, name, daemon, say
        self._connections: dict[Connection, None] = {}
        """In the order of their coming."""
        self._kept: dict[str, Kept] = {}
        self._recording: set[asyncio.Task[None]] = set()
        self._meetings: set[asyncio.Task[Any]] = set()
        self._refusals_since, self._refusals, self._last_refusal = 0.0, 0, ""

    async def serve(self, listener: socket.socket, stop: asyncio.Event) -> None:
        """Until `stop`."""
        server = await asyncio.start_server(self._meet, sock=listener, limit=8192)
        telling = asyncio.create_task(self._tell())
        try:
            await stop.wait()
        finally:
            telling.cancel()
            server.close()
            for connection in list(self._connections):
                connection.writer.transport.abort()
            for kept in self._kept.values():
                kept.recording.abandon()
            await asyncio.gather(*self._recording, *self._meetings)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        host = str(peer[0]).removeprefix("::ffff:") if peer else "?"
        connection = Connection(host, Conversation(self.keys, secrets.token_bytes(NONCE), observes=True), writer)
        self._connections[connection] = None
        task = asyncio.current_task()
        assert task
        self._meetings.add(task)
        self._make_room()
        is_closed = False
        try:
            _watch_over(writer)
            await self._converse(connection, reader)
            is_closed = True
        except ConnectionResetError:
            is_closed = True
        except Untrusted as error:
            self._refuse(host, str(error))
        except TimeoutError:
            if not connection.conversation.is_trusted:
                self._refuse(host, f"it did not prove within {PROVED_WITHIN:g} s that it has the key")
        except OSError:
            pass
        finally:
            self._connections.pop(connection, None)
            self._meetings.discard(task)
            writer.transport.abort()
            self._lost(connection, is_closed)

    async def _converse(self, connection: Connection, reader: asyncio.StreamReader) -> None:
        conversation, writer = connection.conversation, connection.writer
        async with asyncio.timeout(PROVED_WITHIN) as limit:
            writer.write(conversation.greeting)
            while data := await reader.read(4096):
                for message in conversation.receive(data):
                    limit.reschedule(None)
                    writer.write(conversation.pack_text(await self._answer(connection, message)))
                    limit.reschedule(_now() + UNANSWERED)
                    await writer.drain()
                if conversation.is_trusted:
                    limit.reschedule(_now() + IDLE + (connection.recording.most if connection.recording else 0.0))

    def _make_room(self) -> None:
        """Of the host that has the most connections, the oldest is closed: who has the key proves it at once."""
        for trusted, most in ((False, MOST_UNPROVED), (True, MOST_PROVED)):
            alike = [one for one in self._connections if one.conversation.is_trusted == trusted and not one.recording]
            if len(alike) > most:
                hosts = Counter(one.host for one in alike)
                oldest = max(alike, key=lambda one: hosts[one.host])  # the first of several
                self._refuse(oldest.host, f"more than {most} connections that ask for nothing")
                oldest.writer.transport.abort()
                del self._connections[oldest]

    # What a drill asks for

    async def _answer(self, connection: Connection, message: Message) -> bytes:
        """The JSON of an object."""
        asked = message.get("ask")
        try:
            if not connection.drill and asked != "hello":
                raise Unfit("the first message is not hello", "use the same version of floatip on both machines")
            match asked:
                case "hello":
                    answer = self._hello(connection, message)
                case "clock":
                    answer = {"at": time.monotonic()}
                case "has":
                    answer = {"has": has(str(message.get("address")))}
                case "begin":
                    answer = await self._begin(connection, message)
                case "attach":
                    answer = self._attach(connection, message)
                case "finish":
                    answer = await self._finish(connection)
                case "fetch":
                    return self._fetch(connection, message)
                case "done":
                    answer = self._done(connection)
                case _:
                    raise Unfit("the observer does not know this request", "update floatip on the observer's machine")
        except Unfit as refusal:
            self._refuse(connection.who, refusal.what)
            answer = {"error": refusal.what, "hint": refusal.hint}
        return json.dumps({"answer": asked if isinstance(asked, str) else "", **answer}).encode()

    def _hello(self, connection: Connection, message: Message) -> Message:
        name, version = (str(message.get(key, ""))[:LONGEST_NAME] for key in ("name", "version"))
        if connection.drill:
            raise Unfit("hello was said before", "use the same version of floatip on both machines")
        connection.drill = name or connection.host
        if not message.get("again"):
            self._say(f"{connection.who} has joined, floatip {version}")
        return {"name": self.name, "version": floatip.__version__, "has_daemon": self.daemon is not None}

    async def _begin(self, connection: Connection, message: Message) -> Message:
        target, most = target_of(message.get("target"), message.get("most"))
        if target and has(target.address):
            what = f"the observer's machine has {target.address} itself, and would answer its own probes"
            raise Unfit(what, "run floatip observe --join on a machine that is no node")
        self._forget_old()
        for kept in [one for one in self._kept.values() if one.recording.ended_at is None]:
            if kept.closed_at is None or _now() - kept.closed_at < FREE_AFTER:
                left = kept.recording.began + kept.recording.most - time.monotonic()
                since, ends = _clock(kept.since), _clock(time.time() + max(left, 0.0))
                what = f"another drill is running: {kept.who} records since {since}"
                raise Unfit(what, f"wait until it ends, at {ends} at the latest, and begin again")
            self._end(kept)
        recording = Recording(target, most, self.daemon)
        kept = self._kept[recording.id] = Kept(recording, connection.who, time.time(), None)
        self._connect(kept, connection)
        what = "records what the daemon here says" if self.daemon else "records nothing: no daemon runs here"
        if target:
            what = f"probes {in_words(target.address, target.port)} every {target.interval:g} s"
            what += f" ({target.request})" if target.request != "none" else ""
        self._say(f"{connection.who} {what}, for {span(most)} at most")
        task = asyncio.create_task(self._record(kept))
        self._recording.add(task)
        task.add_done_callback(self._recording.discard)
        await recording.has_begun.wait()
        if recording.failed and not recording.probes:
            self._kept.pop(recording.id, None)
            connection.recording = None
            raise Unfit(
                f"the observer cannot probe: {recording.failed}", "on the observer's machine, try floatip observe"
            )
        return {"recording": recording.id, "kept": KEPT_FOR}

    def _attach(self, connection: Connection, message: Message) -> Message:
        self._forget_old()
        kept = self._kept.get(str(message.get("recording")))
        if not kept:
            what = "the observer does not have the recording: it was stopped meanwhile, or the time to fetch is over"
            raise Unfit(what, "look at what floatip observe --join printed there")
        self._connect(kept, connection)
        self._say(f"{connection.who} is back")
        return _progress(kept.recording)

    def _connect(self, kept: Kept, connection: Connection) -> None:
        """A drill has one connection, and a connection one recording."""
        if kept.connection and kept.connection is not connection:
            kept.connection.recording = None
            kept.connection.writer.transport.abort()
        for other in self._kept.values():
            if other.connection is connection:
                other.connection = None
        kept.connection, kept.closed_at, connection.recording = connection, None, kept.recording

    async def _finish(self, connection: Connection) -> Message:
        recording = _recording(connection)
        recording.stop()
        await recording.has_ended.wait()
        return {**_progress(recording), "failed": recording.failed}

    def _fetch(self, connection: Connection, message: Message) -> bytes:
        """A part of what there is, from there on where the drill has it already."""
        recording = _recording(connection)
        probes, seen = message.get("probes"), message.get("seen")
        if type(probes) is not int or type(seen) is not int or min(probes, seen) < 0:
            raise Unfit("what to fetch is not two numbers", "use the same version of floatip on both machines")
        results = _that_fit(iter(recording.probes[probes : probes + LARGEST_PART // 64]))
        words = _that_fit(json.dumps(asdict(one)).encode() for one in recording.seen[seen : seen + LARGEST_PART // 64])
        return b'{"answer": "fetch", "probes": [%b], "seen": [%b], "of": [%d, %d]}' % (
            b", ".join(results),
            b", ".join(words),
            len(recording.probes),
            len(recording.seen),
        )

    def _done(self, connection: Connection) -> Message:
        """The drill has all that it wants."""
        recording = _recording(connection)
        recording.stop()
        self._kept.pop(recording.id, None)
        connection.recording = None
        fetched = recording.ended_at is not None
        self._say(f"{connection.who} has {'fetched its recording' if fetched else 'ended without fetching'}")
        return {}

    # What happens meanwhile

    async def _record(self, kept: Kept) -> None:
        recording = kept.recording
        await recording.run()
        if recording.id not in self._kept:
            return
        sent = len(recording.probes)
        why = f", too early: {recording.failed}" if recording.failed else ""
        self._say(f"ended{why}" + (f": {sent} probes sent, {recording.lost} lost" if recording.target else ""))
        if not kept.connection:
            self._say(f"kept for {kept.who} for {span(KEPT_FOR)}")

    async def _tell(self) -> None:
        """The drill, how many probes were sent and lost; this terminal, each second in which some were lost."""
        told: dict[str, tuple[float, int]] = {}
        while True:
            await asyncio.sleep(TOLD_EVERY)
            self._forget_old()
            self._say_refusals()
            for kept in list(self._kept.values()):
                recording, connection = kept.recording, kept.connection
                told_at, told_lost = told.setdefault(recording.id, (0.0, 0))
                if recording.lost > told_lost and _now() - told_at >= 1.0:
                    told[recording.id] = _now(), recording.lost
                    self._say(f"{recording.lost} of {len(recording.probes)} probes lost so far")
                if connection and recording.has_begun.is_set():
                    transport = connection.writer.transport
                    if not transport.get_write_buffer_size() and not transport.is_closing():
                        transport.write(connection.conversation.pack({"news": "progress", **_progress(recording)}))
            for id_ in told.keys() - self._kept.keys():
                del told[id_]

    def _lost(self, connection: Connection, is_closed: bool) -> None:
        recording = connection.recording
        kept = self._kept.get(recording.id) if recording else None
        if not recording or not kept or kept.connection is not connection:
            return
        kept.connection, kept.closed_at = None, _now() if is_closed else None
        until = _clock(time.time() + recording.began + recording.most - time.monotonic())
        what = "has closed the connection" if is_closed else "is cut off"
        goes_on = f"the recording goes on until {until} at the latest" if recording.ended_at is None else "it is kept"
        self._say(f"{kept.who} {what}: {goes_on}")

    def _end(self, kept: Kept) -> None:
        self._say(f"{kept.who} has not come back: its recording ends")
        kept.recording.stop()
        del self._kept[kept.recording.id]

    def _forget_old(self) -> None:
        now = time.monotonic()
        for kept in list(self._kept.values()):
            if kept.closed_at is not None and kept.recording.ended_at is None and now - kept.closed_at > ENDS_AFTER:
                self._end(kept)
        over = [one for one in self._kept.values() if one.recording.ended_at is not None and not one.connection]
        late = [one for one in over if now - (one.recording.ended_at or now) > KEPT_FOR]
        for kept in late + [one for one in over if one not in late][: max(0, len(self._kept) - len(late) - MOST_KEPT)]:
            del self._kept[kept.recording.id]
            self._say(f"{kept.who} did not fetch its recording: it is dropped")

    def _refuse(self, who: str, why: str) -> None:
        """Nobody fills the terminal: a few lines a second, and of the others how many they were."""
        self._say_refusals()
        self._refusals += 1
        self._last_refusal = f"{who}: {why}"
        if self._refusals <= MOST_REFUSALS:
            self._say(f"refused {who}: {why}")

    def _say_refusals(self) -> None:
        if _now() - self._refusals_since < 1.0:
            return
        if (more := self._refusals - MOST_REFUSALS) > 0:
            self._say(f"refused {more} more, the last of them {self._last_refusal}")
        self._refusals_since, self._refusals = _now(), 0


def _recording(connection: Connection) -> Recording:
    if not connection.recording:
        raise Unfit("nothing is recorded for this drill", "begin the drill again")
    return connection.recording


def _progress(recording: Recording) -> Message:
    return {"sent": len(recording.probes), "lost": recording.lost}


def _that_fit(parts: Iterable[bytes]) -> list[bytes]:
    """The first ones, and one at least."""
    taken, room = list[bytes](), LARGEST_PART
    for part in parts:
        if taken and len(part) > room:
            break
        taken.append(part)
        room -= len(part) + 2
    return taken


def _watch_over(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        connection: Any = writer.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNANSWERED * 1000))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BUFFER)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, int(UNANSWERED))


def _now() -> float:
    return asyncio.get_running_loop().time()


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


# The command


def join(where: str, key_file: Path, name: str | None) -> int:
    """Until Ctrl-C or SIGTERM. `where`: the address and the port to listen on; empty: all addresses, `PORT`."""
    try:
        host, port = place_of(where, least=0)
    except ValueError as error:
        raise Misused(f"{where!r} is not {error}", "floatip observe --help") from None
    keys = keys_of(key_file)
    listener = _listen(host, port)
    daemon, node, about = _daemon_here()
    own = (name or node or socket.gethostname())[:LONGEST_NAME]
    say = _Terminal()
    port = listener.getsockname()[1]
    show(printable(f"waiting for drills as {own}, on TCP port {port}, until Ctrl-C"))
    place = in_words(host, port) if host else f"ADDRESS-OF-THIS-MACHINE{'' if port == PORT else f':{port}'}"
    show(printable(f"on a node, now: floatip drill --observer {place}"))
    show(printable(about))
    try:
        asyncio.run(_until_asked(Observer(keys, own, daemon, say), listener, say))
    finally:
        listener.close()
    return 0


class _Terminal:
    """Prints lines; a reader that has gone ends the command."""

    def __init__(self) -> None:
        self.error: OSError | None = None
        self.stop = asyncio.Event()

    def __call__(self, line: str) -> None:
        try:
            show(f"{_clock(time.time())} {printable(line)}", 9)
        except OSError as error:
            self.error = error
            self.stop.set()


async def _until_asked(observer: Observer, listener: socket.socket, terminal: _Terminal) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, terminal.stop.set)
    await observer.serve(listener, terminal.stop)
    if terminal.error:
        raise terminal.error


def _listen(host: str, port: int) -> socket.socket:
    """Raises `CannotMeet`."""
    if not host:
        both = socket.has_dualstack_ipv6()
        place: Any = ("", port)
        family = socket.AF_INET6 if both else socket.AF_INET
    else:
        both = False
        try:
            family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        except (OSError, UnicodeError):
            raise CannotMeet(f"cannot resolve {host}", "give an address of this machine: ip -br address") from None
    try:
        return socket.create_server(place, family=family, dualstack_ipv6=both)
    except OSError as error:
        hint = "give an address of this machine: ip -br address"
        if error.errno == errno.EADDRINUSE:
            hint = f"another observer may run here: ss -tlnp sport = :{port}; or give another port: --join :PORT"
        elif error.errno == errno.EACCES:
            hint = "give a port from 1024 up: --join :PORT"
        what = in_words(host, port) if host else f"port {port}"
        raise CannotMeet(f"cannot listen on {what}: {os.strerror(error.errno or 0).lower()}", hint) from None


def _daemon_here() -> tuple[Path | None, str, str]:
    """Its control socket, the name of its node, and what to say of it."""
    path = socket_path()
    try:
        node = said.name_of(read(Status, ask(path, {"cmd": "status"})))
    except NotAllowed:
        return None, "", "you may not ask the floatip daemon here: only what the prober sees is recorded"
    except NobodyAnswers:
        return None, "", "no floatip daemon runs here: only what the prober sees is recorded"
    except (ControlError, KeyError, TypeError, ValueError) as error:
        what = error.what if isinstance(error, ControlError) else "it is of another version"
        return None, "", f"the floatip daemon here cannot be asked ({what}): only what the prober sees is recorded"
    return path, node, f"what the floatip daemon of {node} says is recorded too"
