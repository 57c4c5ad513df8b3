"""Holds what the core wants: adds what is missing, releases what floatip added before and nobody wants any more.

Addresses that we add are marked (IFA_PROTO) where the kernel can do that (Linux 5.18), and remembered in the state
file: a successor adopts them. Where the kernel cannot, they wait for the file. An address that someone else added is
used but never released.
Work is done in slices, between which the loop runs; a newer desired set replaces the one that is in work.
Exclusive addresses have a lifetime in the kernel, which each `Fence` renews. They go before everything else.
"""

import asyncio
import errno
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_interface
from itertools import islice
from typing import Any

from floatip import rtnetlink
from floatip.core.addresses import Placed
from floatip.core.events import Event, Failure, Fence
from floatip.core.problems import Code
from floatip.core.settings import AddressOptions
from floatip.host.disk import Memory
from floatip.host.errors import in_words
from floatip.host.failures import Failures
from floatip.host.network.kernel.fencing import Fencing
from floatip.host.network.kernel.tables import Tables
from floatip.host.network.slices import Slice
from floatip.rtnetlink import OURS, Netlink

WRITE_TIMEOUT = 0.5
"""Seconds that an address waits for the disk at most, before it is added."""
BATCH = 8
"""Requests in one datagram. The loop stands still while the kernel works it off."""
REMOVALS_TOLD, REMOVALS_WINDOW = 5, 10.0
"""How often somebody may remove an address within so many seconds before it is put back without asking the core."""
REMOVAL_MATTERS = 300.0
"""Seconds for which mastership is left to others: who does not hold the address cannot tell whether it would stay."""
GONE = frozenset({errno.EADDRNOTAVAIL, errno.ENODEV})
NO_FAILURE = frozenset({0, errno.EEXIST, errno.ETIME})


class Holder:
    def __init__(self, report: Callable[[Event], None], memory: Memory | None, catch_up: Callable[[], bool]) -> None:
        """`catch_up` takes in what the kernel has said by now; it returns whether there is more."""
        self._memory = memory
        self._catch_up = catch_up
        self._failures = Failures("addresses", report)
        self._removals: Counter[Placed] = Counter()
        self._removers = Failures("removals", report)
        self.returning: set[Placed] = set()
        """Put back at once, so that nobody needs to hear that they were gone; the kernel has not told of them yet."""
        self._tables = Tables()
        self._requests: Netlink | None = None
        self._left: frozenset[Placed] | None = None
        self._named: frozenset[Placed] = frozenset()
        self._options: Mapping[Placed, AddressOptions] = {}
        self._desired: frozenset[Placed] | None = None
        self._ours: dict[Placed, list[str]] = {}
        """Each as it is remembered."""
        self._remembered: list[list[str]] = []
        self._asked = asyncio.Event()
        self._promoted: set[int] = set()
        self._fencing = Fencing()
        self._fenced = asyncio.Event()
        self._exclusive_failures = Failures("exclusive addresses", report)

    def start(self) -> None:
        """Raises OSError."""
        self._requests = Netlink()
        self._left = (self._memory.recall(_held) if self._memory else None) or frozenset()

    def close(self) -> None:
        if self._requests:
            self._requests.close()

    def look_at(self, tables: Tables) -> None:
        self._tables = tables

    def configure(
        self,
        named: frozenset[Placed],
        options: Mapping[Placed, AddressOptions],
        exclusive: frozenset[Placed] = frozenset(),
    ) -> None:
        """All addresses of the configuration. The first time, what a predecessor left is adopted.

        Options count for what is added from now on: an address that is there keeps its label.
        """
        self._named, self._options = named, options
        self._fencing.configure(exclusive)
        self._fenced.set()
        self._asked.set()
        if self._left is not None and self._memory:
            self._ours, self._left = {one: _row(one) for one in self._left_by_a_predecessor(self._left)}, None
            for placed in self._ours:
                if (entry := self._tables.entry(placed)) and not entry.permanent:
                    self._fencing.lent(placed, 0.0)

    def hold(self, desired: frozenset[Placed]) -> None:
        self._desired = desired
        self._expel()
        self._asked.set()

    def fence(self, fence: Fence) -> None:
        self._fencing.take(fence)
        self._expel()
        self._fenced.set()
        if not fence.addresses <= self._ours.keys():
            self._asked.set()  # what is desired may be added now

    def look_again(self) -> None:
        """Addresses came or went."""
        if self._fencing.exclusive:
            self._fenced.set()

    def gone(self, placed: Placed) -> None:
        """Should it come back, it is someone else's, unless we add it again."""
        was_ours = self._ours.pop(placed, None) is not None
        self.returning.discard(placed)
        now = time.monotonic()
        is_over = self._fencing.gone(placed, now)
        link = self._tables.link(placed.interface)
        missed = was_ours and not is_over and link and link.up and placed in (self._desired or ())
        put_back = missed and self._is_removed_again(placed) and self._fencing.addable([placed], now)
        if put_back and not self._add([placed]):
            self.returning.add(placed)

    def renamed(self, before: Placed, now: Placed) -> None:
        """Its interface has another name: what is ours stays ours, and is released there if nobody wants it."""
        if self._ours.pop(before, None) is not None:
            self._ours[now] = _row(now)
            self._asked.set()

    def _is_removed_again(self, placed: Placed) -> bool:
        """And again: told one by one, that would fill the log."""
        name = f"{placed.address} on {placed.interface}"
        if not self._removals:
            asyncio.get_running_loop().call_later(REMOVALS_WINDOW, self._removals.clear)
        self._removals[placed] += 1
        if self._removals[placed] <= REMOVALS_TOLD and name not in self._removers:
            return False
        hint = "find out when with ip -timestamp monitor address, and look for another tool that manages this interface"
        reason = "something keeps removing it; floatip puts it back"
        failure = Failure(name, reason, hint, Code.ADDRESS_REMOVED, frozenset({placed}))
        self._removers.put(failure, lasts=REMOVAL_MATTERS)
        return True

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_desired())
            tasks.create_task(self._keep_fenced())

    async def _keep_desired(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            if self._desired is not None:
                await self._reconcile(self._desired)

    async def _reconcile(self, desired: frozenset[Placed]) -> None:
        part = Slice()
        while self._catch_up():
            await part.next()
        surplus = set(self._ours) - desired
        missing: dict[Placed, list[str]] = {}  # with its row
        for placed in desired:
            if part.is_over:
                await part.next()
            if not any(one not in surplus for one in self._tables.standing(placed)):
                missing[placed] = _row(placed)
        # Whatever happens in between, a successor knows them: by the kernel's mark, or by the file, written before.
        addable = self._fencing.addable(missing, time.monotonic())
        missing = {placed: row for placed, row in missing.items() if placed in addable}
        is_marked = self._tables.knows_marks and missing.keys() <= self._named
        over = self._remember([*self._ours.values(), *missing.values()]) if missing else None
        if over and not is_marked:
            await asyncio.wait([over], timeout=WRITE_TIMEOUT)
        refused = await self._perform(missing, self._add, self._asked)
        refused += await self._perform(await self._releasable(surplus), self._delete, self._asked)
        refused += await self._perform(
            self._fencing.not_any_more(self._ours) & desired, self._make_lasting, self._asked
        )
        if not self._asked.is_set():
            self._failures.replace(refused)
            self._remember([*self._ours.values()])

    async def _perform(
        self,
        addresses: Iterable[Placed],
        change: Callable[[list[Placed]], list[Failure]],
        asked: asyncio.Event,
        size: int = BATCH,
    ) -> list[Failure]:
        """Until something newer is asked for."""
        part, rest, refused = Slice(), iter(addresses), list[Failure]()
        while (batch := list(islice(rest, size))) and not asked.is_set():
            refused += change(batch)
            if part.is_over:
                await part.next()
        return refused

    def _add(self, batch: list[Placed]) -> list[Failure]:
        lent = [placed for placed in batch if placed in self._fencing.exclusive]
        refused = self._lend(lent) if lent else []
        return refused + self._set([placed for placed in batch if placed not in self._fencing.exclusive])

    def _set(self, batch: list[Placed], *, again: bool = False) -> list[Failure]:
        refused = []

        def form(index: int, one: Placed) -> tuple[int, int, bytes]:
            return rtnetlink.addition(index, one.address, OURS, self._options.get(one), again=again)

        for placed, code in self._request(batch, form):
            if code == 0:
                self._ours[placed] = _row(placed)
            elif code != errno.EEXIST:
                refused.append(_failure("add", placed, code))
        return refused

    def _delete(self, batch: list[Placed]) -> list[Failure]:
        refused = []
        for placed, code in self._request(batch, lambda index, one: rtnetlink.deletion(index, one.address)):
            if code == 0 or code in GONE:
                self._ours.pop(placed, None)
            else:
                refused.append(_failure("release", placed, code))
        return refused

    def _request(
        self, batch: list[Placed], form: Callable[[int, Placed], tuple[int, int, bytes]], by: float = math.inf
    ) -> list[tuple[Placed, int]]:
        """Each with 0 or the errno with which the kernel answered; ETIME: later than `by`, it was not asked."""
        found = [(placed, self._tables.index(placed.interface)) for placed in batch]
        here = [(placed, form(index, placed)) for placed, index in found if index is not None]
        codes = self._requests.request([request for _, request in here], by) if here and self._requests else []
        nowhere = [(placed, errno.ENODEV) for placed, index in found if index is None]
        return nowhere + [(placed, code) for (placed, _), code in zip(here, codes, strict=True)]

    # What is exclusive

    def _expel(self) -> None:
        """Exclusive addresses that may not be here any more go at once, before whatever else waits."""
        rest, part = iter(surplus := self._fencing.forbidden(self._ours, self._desired)), Slice()
        while (batch := list(islice(rest, BATCH))) and not part.is_over:
            self._delete(self._releasable_of(batch, surplus))
        if surplus:
            self._fenced.set()

    async def _keep_fenced(self) -> None:
        while True:
            await self._fenced.wait()
            self._fenced.clear()
            surplus = self._fencing.forbidden(self._ours, self._desired)

            def expel(batch: list[Placed], surplus: set[Placed] = surplus) -> list[Failure]:
                return self._delete(self._releasable_of(batch, surplus))

            refused = await self._perform(surplus, expel, self._fenced)
            if not self._fencing.exclusive:
                self._exclusive_failures.replace(refused)
                continue
            part = Slice()
            while self._catch_up():
                await part.next()
            refused += await self._look_at_exclusive()
            await part.next()
            due = self._fencing.due(self._ours, time.monotonic())
            refused += await self._perform(due, self._lend_again, self._fenced, BATCH // 2)
            if not self._fenced.is_set():
                self._exclusive_failures.replace(refused)

    async def _look_at_exclusive(self) -> list[Failure]:
        """One that has no end in the kernel is not ours, or somebody took its end away."""
        part, wrong = Slice(), list[Failure]()
        for placed in self._fencing.exclusive:
            for standing in list(self._tables.standing(placed)):
                entry = self._tables.entry(standing)
                if entry and not self._is_anothers(standing) and standing in self._fencing.named:
                    self._ours.setdefault(standing, _row(standing))  # a new lifetime added one that had just gone
                if entry and (standing not in self._ours or (entry.permanent and self._fencing.is_lent(standing))):
                    wrong.append(_unfenced(standing, is_ours=standing in self._ours))
            if part.is_over:
                await part.next()
        return wrong

    def _lend_again(self, batch: list[Placed]) -> list[Failure]:
        return self._lend([one for one in batch if not self._is_anothers(one)], again=True)

    def _lend(self, batch: list[Placed], *, again: bool = False) -> list[Failure]:
        """Give them a lifetime that ends in time. If handing it over took too long, a shorter one, or none."""
        for interface in {one.interface for one in batch if _has_secondaries(one)}:
            self._keep_others(interface, set(batch))  # the kernel may be the one that removes the first address
        refused, late = list[Failure](), set[Placed]()
        while batch and (seconds := self._fencing.lifetime(now := time.monotonic())):

            def form(index: int, one: Placed, seconds: int = seconds, again: bool = again) -> tuple[int, int, bytes]:
                return rtnetlink.addition(index, one.address, OURS, self._options.get(one), seconds, again=again)

            answers = self._request(batch, form, by := self._fencing.handed_over_by(seconds))
            refused += [_failure("add", one, code) for one, code in answers if code not in NO_FAILURE]
            if any(code == errno.ETIME for _, code in answers):
                continue  # nothing was sent
            batch, again = [one for one, code in answers if code == 0], True
            for placed in batch:
                self._ours[placed] = _row(placed)
                self._fencing.lent(placed, now + seconds)
            late |= set(batch)
            if time.monotonic() <= by:
                late -= set(batch)
                break
        return refused + self._delete(list(late))

    def _make_lasting(self, batch: list[Placed]) -> list[Failure]:
        """They are not exclusive any more."""
        self._fencing.forget(batch)
        return self._set([one for one in batch if not self._is_anothers(one)], again=True)

    # What may be released

    def _is_anothers(self, placed: Placed) -> bool:
        if placed in self._ours and placed in self._fencing.exclusive:
            return False  # whatever others have changed of it: it must go
        entry = self._tables.entry(placed)
        return entry is not None and entry.proto != OURS and self._tables.knows_marks

    async def _releasable(self, surplus: set[Placed]) -> list[Placed]:
        part, rest, found = Slice(), iter(surplus), list[Placed]()
        while batch := list(islice(rest, BATCH)):
            found += self._releasable_of(batch, surplus)
            if part.is_over:
                await part.next()
        return found

    def _releasable_of(self, batch: list[Placed], surplus: set[Placed]) -> list[Placed]:
        """Without what someone has put in the place of ours, and so that nobody else's address goes along."""
        ours = []
        for placed in batch:
            # One that is not in the tables yet has been added a moment ago.
            if self._is_anothers(placed):
                self._ours.pop(placed, None)
            else:
                ours.append(placed)
        for interface in {placed.interface for placed in ours if _has_secondaries(placed)}:
            self._keep_others(interface, surplus)
        return ours

    def _keep_others(self, interface: str, surplus: set[Placed]) -> None:
        """Else the kernel deletes with the first IPv4 address of a network all others of that network."""
        index = self._tables.index(interface)
        if index is None or index in self._promoted or not self._requests:
            return
        if any(entry.placed not in surplus for entry in self._tables.on(interface)):
            self._requests.request([rtnetlink.promotion(index)])
            self._promoted.add(index)

    def _left_by_a_predecessor(self, left: frozenset[Placed]) -> set[Placed]:
        """The file alone proves nothing: a check could have written it."""
        known = left | self._named if self._tables.knows_marks else left & self._named
        return {placed for placed in known if self._tables.entry(placed) and not self._is_anothers(placed)}

    def _remember(self, rows: list[list[str]]) -> asyncio.Future[bool] | None:
        """None: it is remembered already."""
        if not self._memory or rows == self._remembered:
            return None
        self._remembered = rows
        return self._memory.remember({"held": rows})


def _has_secondaries(placed: Placed) -> bool:
    """Whether other addresses of its network may depend on it."""
    return placed.address.version == 4 and placed.address.network.prefixlen < 32


def _row(placed: Placed) -> list[str]:
    return [placed.interface, str(placed.address)]


def _held(state: dict[str, Any]) -> frozenset[Placed]:
    return frozenset(Placed(str(interface), ip_interface(address)) for interface, address in state["held"])


def _unfenced(placed: Placed, *, is_ours: bool) -> Failure:
    where = f"{placed.address} on {placed.interface}"
    if is_ours:
        reason = "another program took away its end in the kernel: it would stay if floatip hangs"
        return Failure(f"fence {where}", reason, "find out which: ip -timestamp monitor address")
    reason = "it is exclusive, and another program added it: it stays even when this node may not have it"
    hint = f"remove it from the network configuration, and here: ip address del {placed.address} dev {placed.interface}"
    return Failure(f"fence {where}", reason, hint)


def _failure(verb: str, placed: Placed, code: int) -> Failure:
    hint = ""
    if verb == "add" and code == errno.EACCES and placed.address.version == 6:
        hint = f"enable IPv6 on {placed.interface}: sysctl net.ipv6.conf.{placed.interface}.disable_ipv6=0"
    if code == errno.ENODEV:
        hint = "see which interfaces there are: ip -br link"
    return Failure(f"{verb} {placed.address} on {placed.interface}", in_words(code), hint)
