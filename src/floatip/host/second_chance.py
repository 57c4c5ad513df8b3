"""The daemon's side of the process of the second chance (`floatip.second_chance`)."""

import asyncio
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress

from floatip.core.addresses import Address
from floatip.core.events import Arrange, Event, StandingTold, StreamOver
from floatip.core.second_chance.terms import Over, Phase, Standing, Stream, Wish
from floatip.core.settings import Settings
from floatip.host.helper_process import HelperProcess
from floatip.host.privileges import CAP_NET_ADMIN, CAP_NET_RAW
from floatip.second_chance import lines
from floatip.second_chance.answers import leave_directly
from floatip.second_chance.lines import Configured

NAME = "the process of the second chance"
FINISH_TIMEOUT = 2.0
TOLD_AGAIN = 0.01
"""Seconds until the process, which has not read what it was told before, is told again."""
HINT = "floatip starts it again; if it goes on to end, report this line"


class SecondChance:
    def __init__(self, report: Callable[[Event], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._report = report
        self._configured: Configured | None = None
        self._wishes: tuple[Wish, ...] = ()
        self._was_configured = False
        self._telling: asyncio.TimerHandle | None = None
        self._ended: asyncio.Future[None] | None = None
        rights = CAP_NET_ADMIN | CAP_NET_RAW
        self._process = HelperProcess("floatip.second_chance", self, socket.SOCK_SEQPACKET, lends=rights)

    def configure(self, settings: Settings) -> None:
        wanted = _configured(settings)
        if wanted is None and not self._was_configured:
            with suppress(OSError):  # a daemon that was killed may have had one, and then this one's answers were lost
                leave_directly()
        self._was_configured = True
        if wanted == self._configured:
            return
        self._configured = wanted
        if wanted is None:
            self._end()
            self._process.unwant()
        elif self._process.is_connected:
            self._process.send(lines.of_configured(wanted))
        else:
            self._process.want()

    def perform(self, effect: Arrange) -> None:
        before, self._wishes = {one.instance: one for one in self._wishes}, effect.wishes
        # The others are the same objects: to look at a thousand addresses each time would take too long.
        changed = [one for one in effect.wishes if one is not before.get(one.instance)]
        if taken := _carried(changed) - _carried(before[one.instance] for one in changed if one.instance in before):
            with suppress(OSError):  # what the kernel refuses here it refuses the process too, which says so
                leave_directly(taken)
        self._tell_later(0.0)

    def _tell_later(self, seconds: float) -> None:
        self._telling = self._telling or self._loop.call_later(seconds, self._tell)

    def _tell(self) -> None:
        """Only the last wishes count: where many instances move at once, the process is told of them together."""
        self._telling = None
        if self._process.is_connected and not self._process.send(lines.of_wishes(self._wishes)):
            self._tell_later(TOLD_AGAIN)

    async def finish(self) -> None:
        """What it has in the kernel is removed before this process ends: systemd kills what is left then."""
        if self._configured and self._end():
            self._configured = None
            self._ended = self._loop.create_future()
            self._process.unwant()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended, FINISH_TIMEOUT)

    def _end(self) -> bool:
        """Whether there is a process that removes all from the kernel; else its successor does, but for the answers."""
        if self._process.send(lines.END):
            return True
        with suppress(OSError):
            leave_directly()
        return False

    def close(self) -> None:
        self._configured = None
        if self._telling:
            self._telling.cancel()
        self._process.close()

    # Of the process

    def began(self) -> None:
        if self._configured:
            self._process.send(lines.of_configured(self._configured))
            self._process.send(lines.of_wishes(self._wishes))

    def heard(self, data: bytes) -> None:
        try:
            said = lines.heard(data)
        except (ValueError, TypeError, KeyError) as error:
            self.lost(f"it says what nobody understands: {error!r}"[: lines.LONGEST_TEXT])
            self._process.end()
            return
        self._report(StreamOver(said) if isinstance(said, Over) else StandingTold(said))

    def lost(self, reason: str) -> None:
        self._report(StandingTold(Standing(f"{NAME} ended: {reason}", HINT)))

    def gone(self) -> None:
        if self._ended and not self._ended.done():
            self._ended.set_result(None)


def in_a_line(kept: Iterable[Stream], now: float) -> str:
    """What a stop waits for; empty: nothing."""
    left = [one for one in kept if one.connections]
    if not left:
        return ""
    total, carriers = sum(one.connections for one in left), " and ".join(sorted(one.node for one in left))
    goes = "open connection goes" if total == 1 else "open connections go"
    return f"{total} {goes} on by {carriers}, {max(0.0, max(one.until for one in left) - now):.0f} s at most"


def _carried(wishes: Iterable[Wish]) -> frozenset[Address]:
    carried = (one.addresses for one in wishes if one.phase in (Phase.CARRIES, Phase.OFFERS))
    return frozenset[Address]().union(*carried)


def _configured(settings: Settings) -> Configured | None:
    """None: there is no second chance here."""
    wanted, link = settings.second_chance, settings.link
    if not wanted or not link or not any(one.may_have_second_chance for one in settings.instances):
        return None
    nodes = tuple((node.name, node.address) for node in link.nodes)
    return Configured(link.own, nodes, tuple(link.keys), wanted.port, wanted.limit, wanted.may_be_direct)
