"""What an observer records for one drill: the results of a prober, and what the daemon on this machine says.

The prober is `floatip observe` in a process of its own, so that nothing that happens here makes it late.
"""

import asyncio
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from floatip.core.state import Status, read
from floatip.drill import said
from floatip.drill.observation import Target
from floatip.drill.report import Seen
from floatip.reading.machine import look_around

LONGEST = 1800.0
"""Seconds."""
SHORTEST_INTERVAL, LONGEST_INTERVAL = 0.002, 10.0
MOST_PROBES = 500_000
"""Of both kinds; they take 110 MB here."""
MOST_SEEN = 10_000
TIMEOUT = 0.9
"""TCP sends a lost SYN again after a second: a request that was lost must not be saved by that."""
STOPS_WITHIN = TIMEOUT + 5.0
SUMMED_UP = 20_000
"""Probes a second: at its end the prober sums up, which nobody reads here."""
STARTS_WITHIN = 20.0
"""Until the first probe is answered or lost."""
AGAIN = 0.1
"""Seconds until a daemon that was not there is watched again."""
LONGEST_LINE = 1 << 16
LONGEST_STATUS = 1 << 24


class Unfit(Exception):
    """Why a recording does not begin, and what to do next."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.what, self.hint = what, hint


class Recording:
    def __init__(self, target: Target | None, most: float, daemon: Path | None) -> None:
        """`daemon`: the control socket of the one on this machine; None: none is asked."""
        self.id = secrets.token_hex(16)
        self.target, self.most = target, most
        self.began = time.monotonic()
        self.ended_at: float | None = None
        self.failed = ""
        """Why the prober ended too early; empty: it did not."""
        self.probes: list[bytes] = []
        """Each as the prober wrote it: a JSON object."""
        self.lost = 0
        self.seen: list[Seen] = []
        self.has_begun, self.has_ended = asyncio.Event(), asyncio.Event()
        self._stopped = asyncio.Event()
        self._daemon = daemon
        self._prober: asyncio.subprocess.Process | None = None

    def stop(self) -> None:
        """It ends soon: what was sent gets its time to be answered."""
        if not self._stopped.is_set():
            self._stopped.set()
            self._signal(signal.SIGINT)

    def abandon(self) -> None:
        """It ends now, and nobody wants it."""
        self._stopped.set()
        self._signal(signal.SIGKILL)

    async def run(self) -> None:
        watching = asyncio.create_task(self._watch(self._daemon)) if self._daemon else None
        try:
            if self.target:
                await self._probe(self.target)
            else:
                self.has_begun.set()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopped.wait(), self.most)
        except OSError as error:
            self.failed = f"the prober cannot be started: {error.strerror}"
        finally:
            self._signal(signal.SIGKILL)
            if watching:
                watching.cancel()
            self.ended_at = time.monotonic()
            self.has_begun.set()
            self.has_ended.set()

    async def _probe(self, target: Target) -> None:
        # The modules that are here, and no others: not those of the directory in which this was started.
        modules = os.pathsep.join(path for path in sys.path if os.path.isabs(path))
        self._prober = prober = await asyncio.create_subprocess_exec(
            *_command(target, self.most),
            env=os.environ | {"PYTHONPATH": modules},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C here is not for it
        )
        assert prober.stdout
        assert prober.stderr
        words = asyncio.create_task(prober.stderr.read(LONGEST_LINE))
        try:
            async with asyncio.timeout(self.most + STARTS_WITHIN) as limit:
                stopping = asyncio.create_task(self._limit_when_stopped(limit))
                try:
                    await self._read(prober.stdout)
                    status = await prober.wait()
                    text = (await words).decode(errors="replace").strip().removeprefix("error: ")
                finally:
                    stopping.cancel()
                    words.cancel()
        except TimeoutError:
            self.failed = "the prober hung"
            return
        if status not in (0, 1):
            self.failed = text or f"the prober ended with status {status}"

    async def _limit_when_stopped(self, limit: asyncio.Timeout) -> None:
        await self._stopped.wait()
        limit.reschedule(asyncio.get_running_loop().time() + STOPS_WITHIN + len(self.probes) / SUMMED_UP)

    async def _read(self, output: asyncio.StreamReader) -> None:
        rest = b""
        while data := await output.read(LONGEST_LINE):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._note(line)

    def _note(self, line: bytes) -> None:
        result = json.loads(line)
        if result["event"] != "probe" or len(self.probes) >= MOST_PROBES:
            return
        self.probes.append(line)
        self.lost += not result["ok"]
        self.has_begun.set()

    def _signal(self, number: signal.Signals) -> None:
        if self._prober and self._prober.returncode is None:
            with suppress(ProcessLookupError):
                self._prober.send_signal(number)

    async def _watch(self, path: Path) -> None:
        """Over restarts of the daemon: each time it is there again, its state is seen again."""
        name = ""
        while True:
            with suppress(OSError, EOFError, ValueError, asyncio.LimitOverrunError):
                reader, writer = await asyncio.open_unix_connection(path, limit=LONGEST_STATUS)
                try:
                    # Watched first, so that no change is lost between the two.
                    writer.write(b'{"cmd": "watch"}\n{"cmd": "status"}\n')
                    after = float("inf")
                    while True:
                        record = json.loads(await reader.readuntil(b"\n"))
                        if "error" in record:
                            return
                        if "instances" in record:
                            try:
                                status = read(Status, record)
                            except (KeyError, TypeError, ValueError):
                                return  # a daemon of another version
                            name, after = said.name_of(status), status.monotonic
                            self._see(said.at_the_start(status, after))
                        elif (change := said.change(record, name)) and change.at > after:
                            self._see((change,))
                finally:
                    writer.transport.abort()
            if name:
                self._see((Seen(time.monotonic(), name, "node", name, "gone", "its daemon does not answer"),))
                name = ""
            await asyncio.sleep(AGAIN)

    def _see(self, seen: Iterable[Seen]) -> None:
        for one in seen:
            if len(self.seen) < MOST_SEEN:
                self.seen.append(one)


def target_of(asked: Any, most: Any) -> tuple[Target | None, float]:
    """What a drill asks for. Raises `Unfit`."""
    if not _is_number(most) or not 0 < most <= LONGEST:
        raise Unfit(f"a recording lasts more than 0 and at most {LONGEST:g} s", "shorten the drill")
    if asked is None:
        return None, float(most)
    try:
        address, port, request, interval, path = (
            asked[key] for key in ("address", "port", "request", "interval", "path")
        )
        address = str(ip_address(address.strip()))  # a string, and no number
    except (AttributeError, KeyError, TypeError, ValueError):
        raise Unfit("the target is not an address with a port", "give the floating IP as the target") from None
    if type(port) is not int or not 1 <= port <= 65535:
        raise Unfit("the port of the target is not one from 1 to 65535", "give the port of the service")
    if request not in ("http", "tcp", "none"):
        raise Unfit("the request is not http, tcp or none", "give one of them")
    if not _is_number(interval) or not SHORTEST_INTERVAL <= interval <= LONGEST_INTERVAL:
        what = f"the interval is not from {SHORTEST_INTERVAL:g} to {LONGEST_INTERVAL:g} s"
        raise Unfit(what, "give another interval")
    if not isinstance(path, str) or not path.startswith("/") or not path.isascii() or len(path) > 1000:
        raise Unfit("the path of the request is not one of at most 1000 characters that begins with /", "as in /health")
    if most / interval * (1 if request == "none" else 2) > MOST_PROBES:
        what = f"{most:g} s at an interval of {interval:g} s are more than {MOST_PROBES} probes"
        raise Unfit(what, "give a longer interval, or shorten the drill")
    return Target(address, port, request, float(interval), path), float(most)


def has(address: str) -> bool:
    """Whether this machine has it, and it is not one that every machine has."""
    try:
        return not ip_address(address).is_loopback and look_around().has(ip_address(address))
    except (OSError, ValueError):
        return False


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _command(target: Target, most: float) -> Sequence[str]:
    options = {
        "--port": target.port,
        "--interval": target.interval,
        "--timeout": TIMEOUT,
        "--duration": max(most, target.interval),
        "--request": target.request,
        "--path": target.path,
    }
    words = [f"{name}={value}" for name, value in options.items()]
    return (sys.executable, "-SsPB", "-m", "floatip", "observe", *words, "--json", "--probes", "--", target.address)
