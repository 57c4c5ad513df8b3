"""The drill's side of `floatip observe --join`: an `Observer` on another machine.

The connection goes from the node to the observer, because the node may be cut off meanwhile: the recording goes on over
there, and is fetched once the observer can be reached again.
"""

import errno
import os
import secrets
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, get_args

import floatip
from floatip.commands import Refusal
from floatip.drill.observation import Observation, Target
from floatip.drill.report import Seen, What
from floatip.observing.meeting import PORT, CannotMeet, in_words, keys_of, place_of
from floatip.observing.recording import STARTS_WITHIN
from floatip.observing.signed import NONCE, Conversation, Message, OtherFormat, Untrusted
from floatip.observing.summary import KINDS, ProbeResult

CONNECTS_WITHIN = 5.0
"""Seconds; while a cut is waited out, less: then a packet that was dropped must not delay the next attempt."""
RECONNECTS_WITHIN = 1.0
AGAIN = 0.2
SILENT_FOR = 5.0
"""Seconds without an octet after which a connection is lost. While it records, the observer tells twice a second."""
STALE = 2.0
"""Seconds after which a connection is not relied on that has told nothing."""
ROUND_TRIPS = 16
"""By which the observer's clock is compared with ours; the shortest one counts."""
RECEIVED_AT_ONCE = 1 << 16


class NotReached(CannotMeet):
    """The observer could not be reached, or not any more. A later attempt may succeed."""


class Closed(NotReached):
    """The observer's end closed the connection."""


class NotObserved(CannotMeet):
    """The observer refuses, or cannot do it."""


@dataclass(frozen=True, slots=True)
class Clock:
    """What the observer's clock was ahead of ours, by one measurement."""

    at: float
    """By the observer's clock."""
    ahead: float
    doubt: float
    """Half of the round trip: the answer was made at some time in it."""


class Joined:
    """An `Observer`. `close` ends its recording, if there is one, and drops it."""

    def __init__(self, where: str, keys: tuple[bytes, ...], node: str) -> None:
        """Connects. `where`: `place_of`; `node`: the name of this node. Raises `CannotMeet`."""
        try:
            self._host, self._port = place_of(where)
        except ValueError as error:
            raise CannotMeet(f"{where!r} is not {error}", "name the observer's machine") from None
        if not self._host:
            raise CannotMeet(f"{where!r} names no machine", f"name the observer's machine, as in haproxy3:{PORT}")
        self._keys, self._node = keys, node
        self._where = in_words(self._host, self._port)
        self._recording = ""
        self._before: Clock | None = None
        self._progress = 0, 0
        self.is_probing = False
        """Whether it probes the target too."""
        self._attempt: Thread | None = None
        self._attempts: SimpleQueue[_Line] = SimpleQueue()
        """What it has connected."""
        self._line: _Line | None = None
        self._line = self._connect(CONNECTS_WITHIN)
        self._host = self._line.address  # a name may not be resolved while this node is cut off
        self.name = self._line.name
        self.has_daemon = self._line.has_daemon
        """Whether it records what a daemon on its machine says."""

    def begin(self, target: Target | None, most: float) -> None:
        """On a node that has the address itself: as without a target, because it would answer its own probes."""
        line = self._usable()
        try:
            self._before = _compare(line)
        except NotReached:  # it was closed while somebody read what the drill will do
            self._drop()
            line = self._usable()
            self._before = _compare(line)
        if target and self.has_daemon and self.has(target.address):
            target = None
        self.is_probing = target is not None
        asked: Message = {"ask": "begin", "target": asdict(target) if target else None, "most": most}
        self._recording = str(line.ask(asked, STARTS_WITHIN + SILENT_FOR)["recording"])

    def has(self, address: str) -> bool:
        """Whether the observer's machine has this address, and so cannot probe it."""
        return self._usable().ask({"ask": "has", "address": address}, SILENT_FOR).get("has") is True

    def probes_so_far(self) -> tuple[int, int]:
        self._read()
        if self._recording and self._is_stale and not (self._attempt and self._attempt.is_alive()):
            self._attempt = Thread(target=self._try_again, daemon=True)
            self._attempt.start()
        return self._progress

    def finish(self, within: float) -> Observation:
        """The time limit does not count while the recording is being fetched."""
        until = time.monotonic() + within
        probes: list[Any] = []
        seen: list[Any] = []
        while True:
            try:
                return self._fetched(self._usable(), probes, seen)
            except NotReached as error:
                self._drop()
                if time.monotonic() >= until:
                    raise _not_fetched(error) from None
                time.sleep(AGAIN)

    def close(self) -> None:
        if self._line and self._recording:
            with suppress(CannotMeet, OSError):
                self._line.ask({"ask": "done"}, SILENT_FOR)
        self._drop()

    @property
    def _is_stale(self) -> bool:
        return not self._line or time.monotonic() - self._line.heard_at > STALE

    def _read(self) -> None:
        """What has come meanwhile, by the newest connection."""
        with suppress(Empty):
            newest = self._attempts.get_nowait()
            self._drop()
            self._line = newest
        if self._line:
            try:
                self._line.read_what_is_there()
            except CannotMeet:
                self._drop()

    def _usable(self) -> "_Line":
        """A connection that has told something of late, or a new one."""
        if self._attempt:
            self._attempt.join()
            self._attempt = None
        self._read()
        if self._recording and self._is_stale:
            self._drop()
        if not self._line:
            self._line = self._connect(RECONNECTS_WITHIN if self._recording else CONNECTS_WITHIN)
        return self._line

    def _try_again(self) -> None:
        """In a thread: after a cut, TCP lets an old connection wait for as long as the cut was."""
        with suppress(CannotMeet, OSError):
            self._attempts.put(self._connect(RECONNECTS_WITHIN))

    def _connect(self, within: float) -> "_Line":
        line = _Line(self._host, self._port, self._keys, within, self._note)
        try:
            line.meet(self._node, again=bool(self._recording))
            if self._recording:
                line.ask({"ask": "attach", "recording": self._recording}, SILENT_FOR)
        except BaseException:
            line.close()
            raise
        return line

    def _note(self, news: Message) -> None:
        sent, lost = news.get("sent"), news.get("lost")
        if type(sent) is int and type(lost) is int:
            self._progress = sent, lost

    def _drop(self) -> None:
        if self._line:
            self._line.close()
            self._line = None

    def _fetched(self, line: "_Line", probes: list[Any], seen: list[Any]) -> Observation:
        """`probes`, `seen`: what was fetched already; what this fetches is added to them."""
        if not self._before:
            raise NotObserved("nothing is recorded", "begin the recording first")
        after = _compare(line)
        failed = str(line.ask({"ask": "finish"}, SILENT_FOR)["failed"])
        if failed:
            hint = f"on {self.name}, see what floatip observe --join says"
            raise NotObserved(f"the observer {self.name} stopped probing too early: {failed}", hint)
        while True:
            part = line.ask({"ask": "fetch", "probes": len(probes), "seen": len(seen)}, SILENT_FOR)
            try:
                new = len(part["probes"]) + len(part["seen"])
                probes += part["probes"]
                seen += part["seen"]
                is_all = [len(probes), len(seen)] == part["of"]
            except (KeyError, TypeError):
                raise _unreadable(self.name) from None
            if is_all:
                break
            if not new:
                raise _unreadable(self.name)
        local = _translation(self._before, after)
        try:
            observation = Observation(
                self.name,
                tuple(sorted((_probe(one, local) for one in probes), key=lambda probe: probe.at)),
                tuple(_seen(one, local) for one in seen),
                max(self._before.doubt, after.doubt) + abs(after.ahead - self._before.ahead) / 2,
            )
        except (KeyError, TypeError, ValueError):
            raise _unreadable(self.name) from None
        self._note({"sent": len(probes), "lost": sum(not probe.ok for probe in observation.probes)})
        with suppress(NotReached):  # we have it, and it is dropped there after a while
            line.ask({"ask": "done"}, SILENT_FOR)
        self._recording = ""
        return observation


def joined(where: str, key_file: Path, node: str) -> Joined:
    """Connects to `floatip observe --join` there. Raises `CannotMeet`."""
    return Joined(where, keys_of(key_file), node)


class _Line:
    """One connection; one question after the other. All raise `NotReached`, `NotObserved` or another `CannotMeet`."""

    def __init__(
        self, host: str, port: int, keys: tuple[bytes, ...], within: float, news: Callable[[Message], None]
    ) -> None:
        self._where, self._news = in_words(host, port), news
        self._conversation = Conversation(keys, secrets.token_bytes(NONCE), observes=False)
        self._answers: list[Message] = []
        self.name, self.has_daemon = host, False
        self.heard_at = time.monotonic()
        try:
            self._socket = socket.create_connection((host, port), within)
        except (socket.gaierror, UnicodeError) as error:
            reason = (error.strerror if isinstance(error, OSError) else "") or "not a host name"
            hint = "give its address, or a name that this node can resolve: getent hosts NAME"
            raise CannotMeet(f"cannot resolve the observer {host}: {reason.lower()}", hint) from None
        except ConnectionRefusedError:
            hint = "start it on that machine: floatip observe --join; its firewall may refuse TCP port {port} too"
            raise NotReached(f"no observer listens at {self._where}", hint.format(port=port)) from None
        except OSError as error:
            why = os.strerror(error.errno).lower() if error.errno else "no answer"
            hint = (
                f"start floatip observe --join there, and let TCP port {port} in from this node:"
                " docs/operate/firewall.md"
            )
            raise NotReached(f"the observer at {self._where} cannot be reached: {why}", hint) from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self.address = socket.getnameinfo(self._socket.getpeername(), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]

    def meet(self, node: str, *, again: bool) -> None:
        """Both sides prove that they have the key."""
        until = time.monotonic() + SILENT_FOR
        while not self._conversation.is_greeted:
            if not self._receive(until):
                hint = f"see which program listens there: ss -tlnp sport = :{self._where.rpartition(':')[2]}"
                raise NotReached(f"{self._where} does not greet as an observer does", hint)
        self._send(self._conversation.greeting, until)
        hello = {"ask": "hello", "name": node, "version": floatip.__version__, "again": again}
        try:
            answer = self.ask(hello, SILENT_FOR)
        except Closed:
            if self._conversation.is_trusted:
                raise
            hint = "compare it with the nodes': sha256sum /etc/floatip/key"
            raise CannotMeet(
                f"the observer at {self._where} does not believe this node: its key is another", hint
            ) from None
        self.name = str(answer.get("name") or self.name)
        self.has_daemon = answer.get("has_daemon") is True

    def ask(self, question: Message, within: float) -> Message:
        """The answer. `within`: seconds in which something must come."""
        until = time.monotonic() + within
        self._send(self._conversation.pack(question), until)
        while not self._answers:
            if not self._receive(max(until, self.heard_at + within)):
                raise Closed(f"the observer at {self._where} has closed the connection", "see what it says there")
        answer = self._answers.pop(0)
        if "error" in answer:
            raise NotObserved(f"the observer at {self._where} refuses: {answer['error']}", str(answer.get("hint", "")))
        if answer.get("answer") != question["ask"]:
            raise _unreadable(self._where)
        return answer

    def read_what_is_there(self) -> None:
        while select.select([self._socket], [], [], 0)[0]:
            if not self._receive(0.0):
                raise Closed(f"the observer at {self._where} has closed the connection", "see what it says there")

    def close(self) -> None:
        self._socket.close()

    def _receive(self, until: float) -> bool:
        """Whether something came; else it is over."""
        if not select.select([self._socket], [], [], max(0.0, until - time.monotonic()))[0]:
            hint = "see whether it runs there, and whether this node reaches that machine"
            raise NotReached(f"the observer at {self._where} does not answer", hint)
        try:
            data = self._socket.recv(RECEIVED_AT_ONCE)
        except OSError as error:
            raise self._broken(error) from None
        try:
            messages = self._conversation.receive(data)
        except OtherFormat as error:
            hint = "install the same version of floatip on both machines: floatip --version"
            raise CannotMeet(f"the observer at {self._where} is of another version: {error}", hint) from None
        except Untrusted as error:
            if self._conversation.is_trusted:
                raise self._broken(ConnectionAbortedError(errno.ECONNABORTED, str(error))) from None
            hint = "see what listens there, and that it has the same key: ss -tlnp; sha256sum /etc/floatip/key"
            raise CannotMeet(f"{self._where} is not believed to be an observer: {error}", hint) from None
        if data:
            self.heard_at = time.monotonic()
        for message in messages:
            if "news" in message:
                self._news(message)
            else:
                self._answers.append(message)
        return bool(data)

    def _send(self, data: bytes, until: float) -> None:
        """Small enough for the kernel's buffer, unless the path is cut."""
        while data:
            if not select.select([], [self._socket], [], max(0.0, until - time.monotonic()))[1]:
                hint = "see whether it runs there, and whether this node reaches that machine"
                raise NotReached(f"the observer at {self._where} takes nothing", hint)
            try:
                data = data[self._socket.send(data) :]
            except OSError as error:
                raise self._broken(error) from None

    def _broken(self, error: OSError) -> NotReached:
        why = str(error.strerror or error).lower()
        kind = Closed if isinstance(error, ConnectionError) else NotReached
        return kind(f"the connection to the observer at {self._where} broke: {why}", "see what it says there")


def _compare(line: _Line) -> Clock:
    """Both clocks, as NTP does it: of the shortest round trip."""
    best: Clock | None = None
    for _ in range(ROUND_TRIPS):
        asked_at = time.monotonic()
        at: Any = line.ask({"ask": "clock"}, SILENT_FOR).get("at")
        took = time.monotonic() - asked_at
        if not _is_number(at):
            raise _unreadable(line.name)
        if best is None or took / 2 < best.doubt:
            best = Clock(float(at), at - (asked_at + took / 2), took / 2)
    assert best
    return best


def _translation(before: Clock, after: Clock) -> Callable[[float], float]:
    """From the observer's clock to ours. Between the two measurements the clocks drift evenly."""
    span = after.at - before.at
    drift = (after.ahead - before.ahead) / span if span > 0 else 0.0
    return lambda at: at - before.ahead - drift * (at - before.at)


def _probe(data: Any, local: Callable[[float], float]) -> ProbeResult:
    """Raises KeyError, TypeError or ValueError."""
    probe = ProbeResult.from_json(data)
    numbers = [probe.at, probe.late, *([] if probe.rtt is None else [probe.rtt])]
    words = [probe.kind, probe.named_by, *(word for word in (probe.who, probe.error) if word is not None)]
    if probe.kind not in KINDS or type(probe.ok) is not bool or not all(map(_is_number, numbers)):
        raise ValueError("no result of a probe")
    if not all(isinstance(word, str) for word in words):
        raise TypeError("no words")
    return ProbeResult(
        probe.kind, local(probe.at), probe.ok, probe.rtt, probe.who, probe.error, probe.late, probe.named_by
    )


def _seen(data: Any, local: Callable[[float], float]) -> Seen:
    """Raises KeyError, TypeError or ValueError."""
    words = [data[key] for key in ("node", "what", "name", "value", "reason", "source")]
    if not _is_number(data["at"]) or not all(isinstance(word, str) for word in words):
        raise TypeError("nothing that was seen")
    if data["what"] not in get_args(What):
        raise ValueError("nothing that is known")
    return Seen(local(data["at"]), *words)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and isfinite(value)


def _unreadable(where: str) -> CannotMeet:
    hint = "install the same version of floatip on both machines: floatip --version"
    return CannotMeet(f"the answer of the observer {where} cannot be read", hint)


def _not_fetched(error: Refusal) -> NotReached:
    return NotReached(f"the recording could not be fetched: {error.what}", error.hint)
