"""Holds what the core wants: adds what is missing, releases what floatip added before and nobody wants any more.

Addresses that we add are marked (IFA_PROTO) where the kernel can do that (Linux 5.18), and remembered in the state
file: a successor adopts them. Where the kernel cannot, they wait for the file. An address that someone else added is
used but never released.
Work is done in slices, between which the loop runs; a newer desired set replaces the one that is in work.
"""

import asyncio
import errno
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_interface
from itertools import islice
from typing import Any

from floatip import rtnetlink
from floatip.core.addresses import Placed
from floatip.core.events import Event, Failure
from floatip.core.problems import Code
from floatip.core.settings import AddressOptions
from floatip.host.disk import Memory
from floatip.host.errors import in_words
from floatip.host.failures import Failures
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

    def start(self) -> None:
        """Raises OSError."""
        self._requests = Netlink()
        self._left = (self._memory.recall(_held) if self._memory else None) or frozenset()

    def close(self) -> None:
        if self._requests:
            self._requests.close()

    def look_at(self, tables: Tables) -> None:
        self._tables = tables

    def configure(self, named: frozenset[Placed], options: Mapping[Placed, AddressOptions]) -> None:
        """All addresses of the configuration. The first time, what a predecessor left is adopted.

        Options count for what is added from now on: an address that is there keeps its label.
        """
        self._named, self._options = named, options
        if self._left is not None and self._memory:
            self._ours, self._left = {one: _row(one) for one in self._left_by_a_predecessor(self._left)}, None

    def hold(self, desired: frozenset[Placed]) -> None:
        self._desired = desired
        self._asked.set()

    def gone(self, placed: Placed) -> None:
        """Should it come back, it is someone else's, unless we add it again."""
        was_ours = self._ours.pop(placed, None) is not None
        self.returning.discard(placed)
        link = self._tables.link(placed.interface)
        missed = was_ours and link and link.up and placed in (self._desired or ())
        if missed and self._is_removed_again(placed) and not self._add([placed]):
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
        is_marked = self._tables.knows_marks and missing.keys() <= self._named
        over = self._remember([*self._ours.values(), *missing.values()]) if missing else None
        if over and not is_marked:
            await asyncio.wait([over], timeout=WRITE_TIMEOUT)
        refused = await self._perform(missing, self._add)
        refused += await self._perform(await self._releasable(surplus), self._delete)
        if not self._asked.is_set():
            self._failures.replace(refused)
            self._remember([*self._ours.values()])

    async def _perform(
        self, addresses: Iterable[Placed], change: Callable[[list[Placed]], list[Failure]]
    ) -> list[Failure]:
        part, rest, refused = Slice(), iter(addresses), list[Failure]()
        while (batch := list(islice(rest, BATCH))) and not self._asked.is_set():
            refused += change(batch)
            if part.is_over:
                await part.next()
        return refused

    def _add(self, batch: list[Placed]) -> list[Failure]:
        refused = []

        def form(index: int, one: Placed) -> tuple[int, int, bytes]:
            return rtnetlink.addition(index, one.address, OURS, self._options.get(one))

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
        self, batch: list[Placed], form: Callable[[int, Placed], tuple[int, int, bytes]]
    ) -> list[tuple[Placed, int]]:
        """Each with 0 or the errno with which the kernel answered."""
        found = [(placed, self._tables.index(placed.interface)) for placed in batch]
        here = [(placed, form(index, placed)) for placed, index in found if index is not None]
        codes = self._requests.request([request for _, request in here]) if here and self._requests else []
        nowhere = [(placed, errno.ENODEV) for placed, index in found if index is None]
        return nowhere + [(placed, code) for (placed, _), code in zip(here, codes, strict=True)]

    # What may be released

    def _is_anothers(self, placed: Placed) -> bool:
        entry = self._tables.entry(placed)
        return entry is not None and entry.proto != OURS and self._tables.knows_marks

    async def _releasable(self, surplus: set[Placed]) -> list[Placed]:
        """Without what someone has put in the place of ours, and so that nobody else's address goes along."""
        part, ours = Slice(), list[Placed]()
        for placed in surplus:
            if part.is_over:
                await part.next()
            # One that is not in the tables yet has been added a moment ago.
            if self._is_anothers(placed):
                self._ours.pop(placed, None)
            else:
                ours.append(placed)
        shared = [one for one in ours if one.address.version == 4 and one.address.network.prefixlen < 32]
        for interface in {placed.interface for placed in shared}:
            self._keep_others(interface, surplus)
        return ours

    def _keep_others(self, interface: str, surplus: set[Placed]) -> None:
        """Else the kernel deletes with the first IPv4 address of a network all others of that network."""
        index = self._tables.index(interface)
        others = any(entry.placed not in surplus for entry in self._tables.on(interface))
        if others and index is not None and index not in self._promoted and self._requests:
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


def _row(placed: Placed) -> list[str]:
    return [placed.interface, str(placed.address)]


def _held(state: dict[str, Any]) -> frozenset[Placed]:
    return frozenset(Placed(str(interface), ip_interface(address)) for interface, address in state["held"])


def _failure(verb: str, placed: Placed, code: int) -> Failure:
    hint = ""
    if verb == "add" and code == errno.EACCES and placed.address.version == 6:
        hint = f"enable IPv6 on {placed.interface}: sysctl net.ipv6.conf.{placed.interface}.disable_ipv6=0"
    if code == errno.ENODEV:
        hint = "see which interfaces there are: ip -br link"
    return Failure(f"{verb} {placed.address} on {placed.interface}", in_words(code), hint)
