"""The route servers together: the sessions with them, what all are to be told, and whether any of them still hears us.

A node is *cut off* when no route server has acknowledged anything for as long as it takes to notice a silent master:
another node may be master by now, and this one cannot know.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from floatip.core.addresses import Address
from floatip.core.bgp import session as bgp
from floatip.core.bgp.attributes import Prefix
from floatip.core.bgp.session import Route, Session
from floatip.core.events import Became, Effect, Failure
from floatip.core.settings import Speaker

GRACEFUL_SHUTDOWN = (65535, 0)
"""The community (RFC 8326 section 5)."""


class Network:
    def __init__(self, speaker: Speaker | None, seed: int, now: float) -> None:
        self.speaker = speaker
        """The one in force: a reload changes no router id, and a node that drains adds a community."""
        self.sessions: dict[Address, Session] = {}
        self.began_at = math.inf
        """When this node started; it is given time from then on."""
        self.cut_off = False
        self.cut_off_time = math.inf
        """Seconds without an acknowledgement from any route server after which this node must not be master."""
        self.drains = False
        """Whether all that is announced is everybody's last choice."""
        self._seed = seed
        self._has_announced = False
        """Whether all sessions know all routes."""
        self._make_sessions(now)

    def _make_sessions(self, now: float) -> None:
        if self.speaker is not None:
            for peer in self.speaker.peers:
                self.sessions.setdefault(peer, Session(peer, self.speaker, self._seed, now))

    def reconfigure(self, new: Speaker | None, now: float) -> tuple[list[Effect], frozenset[Failure]]:
        """Sessions go on where nothing changes that they were opened with."""
        old, failures = self.speaker, frozenset[Failure]()
        if old is not None and new is not None and new.router_id != old.router_id:
            what = f"a new router id would end every session, so it stays {old.router_id} until the next start"
            hint = "to change it now: systemctl restart floatip"
            failures = frozenset({Failure(f"router id {new.router_id}", what, hint)})
            new = replace(new, router_id=old.router_id)
        same = old is not None and new is not None and old.opening == new.opening
        effects: list[Effect] = []
        heard_at = max((session.acknowledged_at for session in self.sessions.values()), default=now)
        for peer, session in list(self.sessions.items()):
            if new is None or peer not in new.peers:
                effects += session.stop(bgp.PEER_REMOVED, "removed by a reload", now)
            elif not same:
                effects += session.stop(bgp.CONFIGURATION_CHANGE, "changed by a reload", now)
            else:
                continue
            del self.sessions[peer]
        self._speak_as(_drained(new) if self.drains and new is not None else new)
        self._make_sessions(now)
        for session in self.sessions.values():
            session.acknowledged_at = max(session.acknowledged_at, heard_at)  # a reload is no cut
        return effects, failures

    def _speak_as(self, speaker: Speaker | None) -> None:
        self.speaker = speaker
        for session in self.sessions.values():
            session.speaker = speaker or session.speaker
        self._has_announced = False  # so that new sessions are told too, and new marks to the old

    def announce(
        self, changes: Mapping[Prefix, Route | None], all_routes: Callable[[], Mapping[Prefix, Route]], now: float
    ) -> list[Effect]:
        """`changes`: what is different since the last time."""
        sessions = self.sessions.values()
        if self._has_announced:
            return [effect for session in sessions for effect in session.change(changes)] if changes else []
        self._has_announced = True
        routes = all_routes()
        return [effect for session in sessions for effect in session.announce(routes, now)]

    def review(self, now: float) -> list[Effect]:
        """Whether this node is cut off from all of them."""
        cut_off = now >= self.cut_off_at
        if cut_off is self.cut_off:
            return []
        self.cut_off = cut_off
        if cut_off:
            reason = f"none has acknowledged anything for {self.cut_off_time:.1f} s"
            return [Became("network", "route servers", "cut-off", reason)]
        return [Became("network", "route servers", "connected", "at least one answers")]

    @property
    def acknowledged_at(self) -> float:
        """When a route server acknowledged something last, or this node began."""
        return max([self.began_at, *[session.acknowledged_at for session in self.sessions.values()]])

    @property
    def cut_off_at(self) -> float:
        """When this node must take itself for cut off unless a route server acknowledges something before."""
        return self.acknowledged_at + self.cut_off_time if self.sessions else math.inf

    @property
    def hold_time(self) -> float:
        """The longest time, in seconds, for which a route server may keep a route of a silent node."""
        up = [session.hold_time for session in self.sessions.values() if session.is_up]
        if up or self.speaker is None:
            return max(up, default=0)
        return self.speaker.hold_time

    @property
    def drain_time(self) -> float:
        """Seconds for which a stopping node goes on announcing, as everybody's last choice; 0: it does not."""
        return self.speaker.graceful_shutdown if self.speaker else 0.0

    def drain(self) -> None:
        """What is announced from now on is everybody's last choice, and still there (RFC 8326)."""
        self.drains = True
        if self.speaker:
            self._speak_as(_drained(self.speaker))

    def stop(self, reason: str, now: float) -> list[Effect]:
        return [effect for each in self.sessions.values() for effect in each.stop(bgp.SHUTDOWN, reason, now)]


def _drained(speaker: Speaker) -> Speaker:
    marks = {r: replace(m, communities=(*m.communities, GRACEFUL_SHUTDOWN)) for r, m in speaker.marks.items()}
    return replace(speaker, marks=marks)
