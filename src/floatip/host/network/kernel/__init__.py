"""Addresses, links, routes: reports what the kernel has, holds what the core wants, tells the neighbours.

What the kernel's own notifications say is the only truth; our own requests change nothing but the kernel.
"""

import asyncio
import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from floatip.core.addresses import Address, Placed
from floatip.core.events import Event, Fence, Garp, Held, Hold, Install, LinkChanged, StopGarp
from floatip.core.settings import AddressOptions, Garps, Virtual
from floatip.host.disk import Memory
from floatip.host.errors import in_words
from floatip.host.failures import Failures
from floatip.host.network.kernel.holder import Holder
from floatip.host.network.kernel.neighbours import Neighbours
from floatip.host.network.kernel.tables import Tables
from floatip.host.network.kernel.virtuals import Virtuals
from floatip.host.network.slices import Slice
from floatip.rtnetlink import GETADDR, GETLINK, GROUPS, Interrupted, LinkMessage, Netlink

READ_AGAIN_INTERVAL = 0.01
"""Between two readings of everything, while more is lost."""
RETRY_INTERVAL = 1.0
"""Between two readings that the kernel refuses."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the configuration says of interfaces and addresses."""

    sources: Mapping[str, frozenset[Address]] = field(default_factory=dict)
    """The interfaces to watch, each with the sources that it must carry."""
    named: frozenset[Placed] = frozenset()
    """All addresses that may be held."""
    options: Mapping[Placed, AddressOptions] = field(default_factory=dict)
    garps: Mapping[Placed, Garps] = field(default_factory=dict)
    greeting: frozenset[tuple[str, Address]] = frozenset()
    """Sources of unicast adverts: when the interface is back, the neighbours learn of them once."""
    virtuals: frozenset[Virtual] = frozenset()
    exclusive: frozenset[Placed] = frozenset()
    """Of the named ones, those that need a `Fence`."""


class Kernel:
    def __init__(
        self, report: Callable[[Event], None], memory: Memory | None, of_virtuals: Memory | None = None
    ) -> None:
        """Without a memory it must not be asked to hold anything, and leaves a predecessor's addresses alone."""
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._tables = Tables()
        self._wanted = Wanted()
        self._links_told: dict[str, LinkChanged] = {}
        self._changes_told = -1
        self._telling = False
        self._lost = asyncio.Event()
        self._failures = Failures("netlink", report)
        self._holder = Holder(report, memory, self._listen)
        self._neighbours = Neighbours(report)
        self._virtuals = Virtuals(report, of_virtuals)
        self._sockets: list[Netlink] = []

    def configure(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._holder.configure(wanted.named, wanted.options, wanted.exclusive)
        self._neighbours.configure(wanted.garps)
        self._virtuals.configure(wanted.virtuals)
        self._tell()

    async def start(self) -> None:
        """Raises OSError."""
        self._monitor, self._reader = Netlink(GROUPS), Netlink()
        self._sockets = [self._monitor, self._reader]
        self._holder.start()
        await self._read_everything()

    async def run(self) -> None:
        self._loop.add_reader(self._monitor.socket, self._listen)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._make_good())
            tasks.create_task(self._holder.run())
            tasks.create_task(self._virtuals.run())

    def close(self) -> None:
        """Cancel `run` before."""
        for netlink in self._sockets:
            self._loop.remove_reader(netlink.socket)
            netlink.close()
        self._holder.close()
        self._neighbours.close()
        self._virtuals.close()

    @property
    def addresses(self) -> frozenset[Address]:
        return frozenset(placed.address.ip for placed in self._tables.usable)

    @property
    def permanent(self) -> frozenset[Placed]:
        """Those of the usable addresses that somebody configured."""
        usable = self._tables.usable
        return frozenset(e.placed for e in self._tables.entries() if e.permanent and e.placed in usable)

    def hold(self, hold: Hold) -> None:
        self._holder.hold(hold.addresses)

    def fence(self, fence: Fence) -> None:
        self._holder.fence(fence)

    def install(self, install: Install) -> None:
        self._virtuals.install(install.virtuals)

    def garp(self, garp: Garp) -> None:
        self._neighbours.tell(garp.addresses, after_lower=garp.after_lower)

    def stop_garp(self, stop: StopGarp) -> None:
        for placed in stop.addresses:
            self._neighbours.forget(placed)

    # What the kernel has

    def _listen(self) -> bool:
        """Take in what has arrived, for one slice; whether there may be more."""
        part = Slice()
        try:
            while not part.is_over:
                for message in self._monitor.receive():
                    if gone := self._tables.take(message):
                        self._forget(gone)
                    while self._tables.renamed:
                        self._holder.renamed(*self._tables.renamed.pop(0))
        except BlockingIOError:
            return False
        except OSError:
            self._lost.set()  # ENOBUFS, or worse
            return False
        finally:
            self._tell_soon()
        return True

    def _forget(self, placed: Placed) -> None:
        self._holder.gone(placed)
        self._neighbours.forget(placed)

    async def _make_good(self) -> None:
        """Messages were lost: what the kernel has is read as a whole."""
        while True:
            await self._lost.wait()
            self._loop.remove_reader(self._monitor.socket)
            try:
                await self._read_everything()
            except OSError as error:
                self._lost.set()
                self._failures.set("read addresses and links", in_words(error.errno))
                await asyncio.sleep(RETRY_INTERVAL)
                continue
            self._failures.clear("read addresses and links")
            self._loop.add_reader(self._monitor.socket, self._listen)
            self._tell_soon()
            await asyncio.sleep(READ_AGAIN_INTERVAL)

    async def _read_everything(self) -> None:
        """What changes meanwhile waits in the monitor's socket."""
        self._lost.clear()
        part = Slice()
        while True:
            tables = Tables()
            self._drop_what_waits()
            try:
                for kind in (GETLINK, GETADDR):
                    for message in self._reader.read(kind):
                        tables.take(message)
                        if part.is_over:
                            await part.next()
            except Interrupted:
                await part.next()
                continue
            break
        tables.changes += self._tables.changes + 1
        for entry in list(self._tables.entries()):
            if not tables.entry(entry.placed):
                self._forget(entry.placed)
        self._tables = tables
        self._holder.look_at(tables)
        self._neighbours.look_at(tables)

    def _drop_what_waits(self) -> None:
        """It is older than what is about to be read. The kernel sends nothing more until all is taken."""
        while True:
            try:
                for _ in self._monitor.receive():
                    pass
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise  # for `_make_good`

    def _tell_soon(self) -> None:
        """A burst of messages is told once."""
        if not self._telling:
            self._telling = True
            self._loop.call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = False
        before, self._links_told = self._links_told, {name: self._link_state(name) for name in self._wanted.sources}
        for interface, state in self._links_told.items():
            if (old := before.get(interface)) != state:
                if old and state.up and not old.up:
                    self._greet(interface)  # before the first advert, which the master may answer
                self._report(state)
        # Whoever follows `permanent` must hear of each change, even if the usable addresses are the same.
        if self._changes_told != self._tables.changes:
            self._changes_told = self._tables.changes
            self._virtuals.look_again()
            self._holder.look_again()
            usable, returning = self._tables.usable, self._holder.returning
            returning -= usable
            self._report(Held(frozenset(usable | returning if returning else usable)))

    def _greet(self, interface: str) -> None:
        """The neighbours may have given this node up while its link was down."""
        for where, source in self._wanted.greeting:
            if where == interface:
                self._neighbours.greet(interface, source)

    def _link_state(self, interface: str) -> LinkChanged:
        lacking = frozenset[Address]()
        match self._tables.link(interface):
            case None:
                reason = f"{interface} does not exist"
            case LinkMessage(up=False):
                reason = f"{interface} is down"
            case LinkMessage(carrier=False):
                reason = f"{interface} has no carrier"
            case _:
                reason, lacking = self._lacking(interface)
        index = self._tables.index(interface)
        return LinkChanged(interface, not reason, reason or f"{interface} is up", index, lacking)

    def _lacking(self, interface: str) -> tuple[str, frozenset[Address]]:
        """Which of its sources it cannot send from, in words and as they are; empty: none."""
        lacking = frozenset(one for one in self._wanted.sources[interface] if not self._tables.can_use(interface, one))
        missing = sorted(str(one) for one in lacking if not self._tables.has(interface, one))
        if missing:
            return f"{interface} does not have {', '.join(missing)}", lacking
        if lacking:
            which = ", ".join(sorted(map(str, lacking)))
            return f"{interface} cannot use {which} yet: duplicate address detection", lacking
        return "", lacking
