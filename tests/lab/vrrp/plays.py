"""A play: routers of one kind, each a program of its own, and what happens to them one after the other.

After each step exactly one host must have all addresses, and it must be the one that the rules of VRRP say. What the
step cost is noted: how long nobody had an address, and how long two hosts had it. A host that crashed counts as one
without addresses.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from floatip.lab.scheduling import Delay, DelayWatch
from tests.lab.vrrp.kinds import Kind
from tests.lab.vrrp.recorder import Recorder
from tests.lab.vrrp.routers import PROGRAMS, Router
from tests.lab.vrrp.segment import Segment

TOO_FAST_TO_BE_STEADY = 0.02
"""Advert interval: a machine with other work does not keep it, and the master may change until it does."""
CONVERGES_WITHIN = 60.0
"""Seconds, on a machine that has much other work."""
TALLEST_LOG = 40


class Broken(AssertionError):
    """Not exactly one master, or another one than the rules say."""


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    leaves: str
    """The program of the host that it happened to."""
    takes: str
    """That of the master after it."""
    took: float
    """Seconds until the new master had all addresses; 0: nothing moved."""
    since_last_advert: float
    """The same from the last advert of the old master on."""
    gap: float
    """Seconds for which nobody had an address, the mean of the addresses."""
    overlap: float
    """Seconds for which more than one host had it."""
    masters: int
    """How many hosts had it meanwhile: 1 if nothing moved."""


@dataclass(slots=True)
class Play:
    kind: Kind
    programs: tuple[str, ...]
    """One for each host of the kind."""
    steps: list[Step] = field(default_factory=list)

    @property
    def title(self) -> str:
        return f"{self.kind.name}: {' over '.join(self.programs)}"

    def run(self) -> "Play":
        with ExitStack() as stage:
            directory = Path(stage.enter_context(TemporaryDirectory(prefix="vrrp-")))
            segment = stage.enter_context(Segment(directory, self.kind.hosts))
            hosts = self.kind.hosts
            recorder = stage.enter_context(Recorder(segment, hosts, self.kind.all_addresses))
            routers = {
                host: PROGRAMS[program](segment, self.kind, host)
                for host, program in zip(hosts, self.programs, strict=True)
            }
            delays: list[Delay] = []
            stage.callback(DelayWatch(lambda: [pid for one in routers.values() for pid in one.pids()], delays).close)
            _Stage(self, segment, recorder, routers, delays).play()
        return self


class _Stage:
    def __init__(
        self, play: Play, segment: Segment, recorder: Recorder, routers: dict[str, Router], delays: list[Delay]
    ) -> None:
        self._play, self._segment, self._recorder, self._routers = play, segment, recorder, routers
        self._delays = delays
        self.kind = play.kind
        self._down: dict[str, float] = {}
        """Hosts that crashed, and when."""
        self._out: set[str] = set()
        """Hosts that cannot be master now."""
        self._master = ""

    def play(self) -> None:
        self._start()
        if self.kind.check:
            self._check()
        self._stop()
        self._crash()
        self._split()

    # What happens

    def _start(self) -> None:
        began = time.monotonic()
        for router in self._routers.values():
            router.start()
        for router in self._routers.values():
            router.join()
        best = self.kind.best(self.kind.hosts)
        # Who was first stays, where the best may not preempt.
        wanted = self.kind.hosts if self.kind.equal or not self.kind.preempt else (best,)
        self._expect("start", began, best, wanted)

    def _check(self) -> None:
        host = self._master
        began = time.monotonic()
        self._routers[host].fail()
        self._out.add(host)
        self._expect("check fails", began, host, [self._next()])
        began = time.monotonic()
        self._routers[host].mend()
        self._out.discard(host)
        self._expect("check works", began, host, [self._after_return(host)])

    def _stop(self) -> None:
        host = self._master
        self._out.add(host)
        began = time.monotonic()
        self._routers[host].stop()
        self._expect("stop", began, host, [self._next()])
        self._return(host)

    def _crash(self) -> None:
        host = self._master
        self._out.add(host)
        began = time.monotonic()
        self._routers[host].kill()
        self._down[host] = began
        self._routers[host].forget()
        self._expect("crash", began, host, [self._next()])
        self._recorder.wait(lambda: not any(host in self._recorder.holders(a) for a in self.kind.all_addresses), 10)
        del self._down[host]
        self._return(host)

    def _return(self, host: str) -> None:
        began = time.monotonic()
        router = self._routers[host]
        router.start()
        self._out.discard(host)
        router.join()
        self._expect("return", began, host, [self._after_return(host)])

    def _split(self) -> None:
        """The hosts do not hear each other until each is master; then they do."""
        first, *others = self.kind.hosts
        for other in others:
            self._segment.faults.cut_pair(first, other)
        wanted = {first, self.kind.best(others)}
        self._wait(
            lambda: all(self._holders(a) >= wanted for a in self.kind.all_addresses), "each half to have a master"
        )
        began = time.monotonic()
        for other in others:
            self._segment.faults.heal_pair(first, other)
        self._expect("two masters meet", began, first, [self.kind.best(self.kind.hosts)])

    # What must follow

    def _next(self) -> str:
        return self.kind.best([host for host in self.kind.hosts if host not in self._out])

    def _after_return(self, host: str) -> str:
        best = self._next()
        kind = self.kind
        if best != host or kind.priority(host) == kind.priority(self._master) or not kind.preempt:
            return self._master
        return host

    def _expect(self, name: str, began: float, host: str, wanted: Sequence[str]) -> None:
        before = self._master

        def is_so() -> bool:
            holders = [self._holders(address) for address in self.kind.all_addresses]
            return any(all(each == {one} for each in holders) for one in wanted)

        self._stay(name, is_so, wanted, moves=before not in wanted)
        self._play.steps.append(self._step(name, began, host, before))

    def _stay(self, name: str, is_so: Callable[[], bool], wanted: Sequence[str], moves: bool) -> None:
        """It becomes so, and stays so; where nothing moves, for as long as a wrong move would take."""
        kind = self.kind
        seconds = 3 * kind.interval + 0.5 if moves else kind.master_down() + kind.preempt_delay + 1.0
        deadline = time.monotonic() + CONVERGES_WITHIN
        while True:
            began = time.monotonic()
            self._wait(is_so, f"{name}: only {' or '.join(wanted)} to have the addresses")
            self._master = next(iter(self._holders(self.kind.all_addresses[0])))
            fault = "the master changed again" if self._recorder.wait(lambda: not is_so(), seconds) else self._senders()
            if not fault:
                return
            is_of_the_machine = kind.interval <= TOO_FAST_TO_BE_STEADY or self._was_held_up(began)
            if not is_of_the_machine or time.monotonic() > deadline:
                raise Broken(f"{self._play.title}: {name}: {fault}\n{self._account()}")

    def _was_held_up(self, since: float) -> bool:
        """Whether the machine did not run a router for so long that the others, or itself, must think it gone."""
        return any(one.until > since and one.until - one.since >= 2 * self.kind.interval for one in self._delays)

    def _senders(self) -> str:
        """What is wrong with who sends adverts now: it must be the master, and nobody else."""
        self._recorder.settle()
        since = time.monotonic() - 2 * self.kind.interval - 0.3
        for vrid in self.kind.vrids:
            senders = {sent.host for sent in self._recorder.adverts if sent.at > since and sent.vrid == vrid}
            if senders != {self._master}:
                return f"adverts from {senders or 'nobody'}, not {self._master}"
        return ""

    def _wait(self, true: Callable[[], bool], what: str) -> None:
        if not self._recorder.wait(true, CONVERGES_WITHIN):
            raise Broken(f"{self._play.title}: waited {CONVERGES_WITHIN:g} s for {what}\n{self._account()}")

    def _holders(self, address: str) -> set[str]:
        return self._recorder.holders(address) - self._down.keys()

    def _account(self) -> str:
        changes = [f"{c.at:.3f} {c.host} {'has' if c.has else 'lost'} {c.address}" for c in self._recorder.changes]
        logs = []
        for host, router in self._routers.items():
            logs += [f"-- {host}, {router.name}", *router.log().splitlines()[-TALLEST_LOG:]]
        return "\n".join([f"steps: {[step.name for step in self._play.steps]}", *changes[-30:], *logs])

    # What it cost

    def _step(self, name: str, began: float, host: str, before: str) -> Step:
        names = dict(zip(self.kind.hosts, self._play.programs, strict=True))
        gap = overlap = 0.0
        masters: set[str] = set()
        for address in self.kind.all_addresses:
            for (at, holders), (until, _) in pairwise([*self._history(address, began), (time.monotonic(), set())]):
                gap += (until - at) if not holders else 0.0
                overlap += (until - at) if len(holders) > 1 else 0.0
                masters |= holders
        count = len(self.kind.all_addresses)
        first = self._first_time(began)
        last = max(
            (sent.at for sent in self._recorder.adverts if sent.host == before and sent.at < first), default=began
        )
        return Step(
            name,
            names[host],
            names[self._master],
            first - began,
            first - last,
            gap / count,
            overlap / count,
            len(masters),
        )

    def _first_time(self, since: float) -> float:
        """When the master of now had the last address."""
        got = [c.at for c in self._recorder.changes if c.at > since and c.host == self._master and c.has]
        return max(got, default=since)

    def _history(self, address: str, since: float) -> Iterator[tuple[float, set[str]]]:
        """Who had the address from when on."""
        holders: set[str] = set()
        is_past = True
        for change in [*self._recorder.changes]:
            if change.address != address:
                continue
            if change.at > since and is_past:
                yield since, holders - self._dead(since)
                is_past = False
            (holders.add if change.has else holders.discard)(change.host)
            if not is_past:
                yield change.at, holders - self._dead(change.at)
        if is_past:
            yield since, holders - self._dead(since)

    def _dead(self, at: float) -> set[str]:
        return {host for host, since in self._down.items() if since <= at}
