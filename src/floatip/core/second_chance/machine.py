"""The second chance: after a planned move the new carrier of an address passes packets of connections that are not its
own to the node that has them, until they end.

The **carrier** is the node that is master of the address. A **keeper** has connections of it from before. The carrier
*asks* a keeper again and again for a list of addresses, from before the move until the last connection has gone. The
keeper answers with the list of its connections, then with what has changed. Everything is a level and has a version, so
a frame that is lost, late or repeated delays and does no harm.

* Before the move, and for `WINDOW` seconds after it, lists are exchanged often and both ways: what begins while the
  routes change is on one of them a moment later. Meanwhile the kernel holds back the RST for a connection that this
  node does not know.
* After that, only what is on a list is forwarded: a flood or a forged packet changes nothing.
* Answers go back through the tunnel, or by the keeper's own way where that is proven (`direct`).
* A tunnel that only seems to work is worse than none, because clients would hang. So the carrier ends it where its
  packets reach no socket of the keeper, where no answers come back, or where the keeper falls silent.

It runs in a process of its own (`floatip.second_chance`). The daemon says what it wants of each instance (`Wish`).
"""

import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import sha256

from floatip.core.addresses import Address
from floatip.core.link.wire import identity
from floatip.core.second_chance.direct import NONCE, PROBE_INTERVAL, Probe, Pulse
from floatip.core.second_chance.flow import Flow, packed_address
from floatip.core.second_chance.peer import Gauge, Keeping, Peer, Sought, Taking
from floatip.core.second_chance.terms import (
    Admit,
    AnswerBy,
    CountPackets,
    Effect,
    End,
    ExpectProbes,
    Fault,
    Forward,
    HoldBack,
    ListSockets,
    Over,
    Phase,
    SendFrame,
    SendProbes,
    Standing,
    Stream,
    Tell,
    Through,
    Wish,
)
from floatip.core.second_chance.wire import (
    Ask,
    AskFlag,
    Frame,
    Hello,
    Listing,
    Message,
    Offer,
    parts_of,
    that_fit,
)

WINDOW = 3.0
"""Seconds after a move in which lists are exchanged often: TCP repeats a SYN after 1 s, and then after 2 s more."""
FAST, SLOW = 0.1, 0.5
"""Seconds between two words of each node, before a move and shortly after it, and later."""
SUSPENDED = 0.5
"""Seconds: a process that wakes up later than that was suspended, or had no CPU."""
CATCH_UP = 1.0
"""Seconds for which it then reads what others said meanwhile, and what they answer, before it believes in silence."""
LIST_SLOWLY = 1.0
"""Seconds between two lists, later; before that, each word has one."""
LISTING_SHARE = 4
"""A list is made no more often than this times as much CPU time as it took."""
SILENCE, SILENCE_UNPROVEN = 3.2, 1.0
"""Seconds after which a keeper that says nothing has gone; the second before a packet was accepted or
an answer came back."""
GOES_NOWHERE_FOR, GOES_NOWHERE_SLOWLY = 0.3, 2.0
"""Seconds for which none of many packets that were forwarded is accepted; where lists are exchanged often, and where
they are not."""
OTHERS_PATIENCE = 0.3
"""Seconds for which a node that takes over waits for the lists of keepers beside the carrier."""
HELLO_INTERVAL = 1.0
HELLO_PATIENCE = 3.0
LARGE_PATIENCE = 5.0
"""The same of large packets: one a second is sent, and what has begun ends where none comes."""
MOST_FLOWS = 200_000
TOLD_INTERVAL = 0.5
"""Seconds between two reports of figures alone."""
LARGE = "large packets of {} do not come through the tunnel: something drops fragments on the way"
MOVED_ON = "the address has moved on"
NO_PULSE = Pulse()
GOODBYES = 3
"""How often the end is said; a keeper that hears none of them notices the silence."""


class SecondChance:
    """Each method takes what happened. Do the effects that it returns, in their order, before you call the next."""

    def __init__(
        self, own: str, nodes: Iterable[str], boot: int, limit: float, now: float, secret: bytes = b""
    ) -> None:
        """`boot`: drawn at each start, not 0. `limit`: seconds after a move.

        `secret`: drawn at each start, of 16 octets; none: answers leave through the tunnel, whatever a probe proves.
        """
        self.own = own
        self.identity = identity(own)
        self.boot = boot
        self.limit = limit
        self.secret = secret
        self.began_at = now
        self.peers: dict[str, Peer] = {}
        self.configure(nodes, limit)
        self.wishes: dict[str, Wish] = {}
        self.why_not = ""
        self.hint = ""
        self.without: dict[str, str] = {}
        self.packets = (0, 0, 0)
        """Forwarded, answers, accepted."""
        self._packets_at = now
        self._accepted: Mapping[str, int] = {}
        self._accepted_at = -math.inf
        """When a packet was last seen that came through the tunnel to a socket."""
        self._now = now
        self._version = 0
        self._own_flows: frozenset[Flow] = frozenset()
        self._loaded: dict[Flow, str] = {}
        self._reconciled: tuple[object, ...] = ()
        """Of what `_loaded` was made."""
        self._adopted: dict[Flow, str] = {}
        self._adopted_here = frozenset[Flow]()
        self._to_shut_out: set[Flow] = set()
        self._held: frozenset[Address] = frozenset()
        self._held_at = -math.inf
        self._answer_by: Mapping[Address, str] = {}
        self._direct: frozenset[Address] = frozenset()
        self._adopted_answers: Mapping[Address, str] = {}
        self._speaks_from: tuple[Address, ...] = ()
        self._expected: frozenset[Probe] = frozenset()
        self._seen: frozenset[Probe] = frozenset()
        self._list_at = math.inf
        self._list_took = 0.0
        self._count_at = math.inf
        self._told: Standing | None = None
        self._told_at = -math.inf
        self._over: list[Over] = []
        self.deadline = now
        self._woken_at = -math.inf
        """When this process ran again, after it did not for a while: what others said meanwhile is still to be read."""

    def configure(self, nodes: Iterable[str], limit: float) -> None:
        """What goes on with a node that is not named any more ends with the next thing that happens."""
        self.limit = limit
        before, self.peers = self.peers, {}
        for name in before.keys() - set(nodes):
            self._end_taking(before[name], f"{name} is not configured any more", End.UNABLE)
            self._end_keeping(before[name], f"{name} is not configured any more", End.UNABLE)
        for name in nodes:
            if name != self.own:
                self.peers[name] = before.get(name) or Peer(name, identity(name))
        self._by_identity = {peer.identity: peer for peer in self.peers.values()}

    # What happens

    def adopt(self, loaded: Mapping[Flow, str], here: frozenset[Flow], answers: Mapping[Address, str]) -> None:
        """What a predecessor left in the kernel: it stays until the keepers have answered, or the carriers asked.

        Answers from an address that this node carries by now must not leave by the tunnel.
        """
        self._adopted_here = here
        self._answer_by, self._adopted_answers = answers, answers
        self._loaded = dict(loaded)
        self._reconciled = ()
        self._adopted = {flow: node for flow, node in loaded.items() if node in self.peers}

    def wish(self, wishes: Iterable[Wish], now: float) -> list[Effect]:
        """The whole set, each time."""
        before, self.wishes = self._carried(), {one.instance: one for one in wishes}
        given = before - self._carried()
        for peer in self.peers.values():
            if (keeping := peer.keeping) and given & keeping.sought:
                keeping.carries_since = min(keeping.carries_since, now)  # it is about to say so, or not to
                keeping.given_at, keeping.says_so = now, False
        return self._act(now)

    def leave_out(self, without: Mapping[str, str], now: float) -> list[Effect]:
        """Instances whose connections cannot be moved, and why: the whole set."""
        self.without = dict(without)
        return self._act(now)

    def unable(self, why: str, hint: str, now: float) -> list[Effect]:
        """The kernel does not do what it should; empty: it does."""
        if why and not self.why_not:
            for peer in self.peers.values():
                if peer.taking:
                    self._end_taking(peer, why, End.UNABLE)
                if keeping := peer.keeping:  # nothing of it is in the kernel now
                    keeping.admitted = keeping.base = frozenset()
                    keeping.version, keeping.out = 0, []
        self.why_not, self.hint = why, hint
        for peer in self.peers.values():
            peer.hello_at = -math.inf
        return self._act(now)

    def leave(self, now: float) -> list[Effect]:
        """The last words of a process that ends, and removes all from the kernel."""
        return self.unable("the second chance stops there", "", now)

    def tick(self, now: float) -> list[Effect]:
        return self._act(now)

    def speak_from(self, own: Iterable[Address], now: float) -> list[Effect]:
        """This node's addresses where packets of clients come, the best first."""
        self._speaks_from = tuple(own)
        return self._act(now)

    def counted(
        self,
        forwarded: int,
        answers: int,
        accepted: Mapping[str, int],
        now: float,
        seen: frozenset[Probe] = frozenset(),
    ) -> list[Effect]:
        """Packets so far, and which of the expected probes came in the last seconds. `accepted`: of each carrier."""
        self._seen = seen
        total = sum(accepted.values())
        if total != self.packets[2]:
            self._accepted_at = now
        self._accepted = accepted
        self.packets, self._packets_at = (forwarded, answers, total), now
        carried = [peer.taking for peer in self.peers.values() if peer.taking and peer.taking.flows]
        for taking in carried:
            taking.came_back(answers if len(carried) == 1 and taking.moved else None)
        return self._act(now)

    def heard(self, frame: Frame, now: float) -> list[Effect]:
        peer = self._by_identity.get(frame.sender)
        if peer is None or frame.receiver != self.identity or frame.boot in (0, *peer.old_boots):
            return []
        if now >= peer.was_heard_at + HELLO_PATIENCE:
            peer.known_at = now  # its large packets follow the small ones
        peer.was_heard_at = self._now = now
        is_to_us = frame.your_boot == self.boot
        if frame.boot != peer.boot:
            if not is_to_us:  # it may be a repeat of an old one: it has to repeat our boot first
                is_news, peer.unproven = peer.unproven != frame.boot, frame.boot
                return self._hellos(peer) if is_news else []
            if peer.boot:
                peer.old_boots.add(peer.boot)
            peer.boot, peer.last, peer.known_at = frame.boot, 0, now
            peer.hello_at = -math.inf
            if peer.taking:
                peer.taking.asked_at = -math.inf
        if frame.sequence <= peer.last and not isinstance(frame.message, Listing):
            return []
        peer.last = max(peer.last, frame.sequence)
        worked = self._works(peer, now) and peer.hello_at > -math.inf
        peer.heard_at = now
        if not is_to_us:
            # A carrier that has heard nothing for too long ends it, and this node may hear that.
            if isinstance(frame.message, Ask) and not frame.message.addresses:
                self._asked(peer, frame.boot, frame.message, now)
                return self._act(now)
            return []
        peer.hears_us_at = now
        is_goodbye = isinstance(frame.message, Ask) and not frame.message.addresses
        if not isinstance(frame.message, Hello) and not is_goodbye and not peer.hello.usable:
            peer.hello = Hello(True)
        match frame.message:
            case Hello():
                peer.hello = frame.message
                peer.whole_at = now if frame.message.is_large else peer.whole_at
                if worked and self._works(peer, now):
                    return []  # by far the most
            case Offer():
                peer.offers, peer.wanted_at = frame.message.addresses, now
            case Ask():
                self._asked(peer, frame.boot, frame.message, now)
            case Listing():
                if not self._told_list(peer, frame.boot, frame.message, now) and worked:
                    return []  # one of hundreds of parts
        return self._act(now)

    def listed(self, flows: frozenset[Flow], took: float, now: float, pulse: Pulse = NO_PULSE) -> list[Effect]:
        """The connections of the addresses that were asked for."""
        self._own_flows, self._list_took = flows, took
        for peer in self.peers.values():
            if keeping := peer.keeping:
                counted = self.packets[2], self._packets_at
                keeping.belief.look(pulse, len(flows), *counted, keeping.ask.nonce)
                wanted = {address.packed for address in keeping.ask.addresses}
                keeping.listed = frozenset(flow for flow in flows if packed_address(flow) in wanted)
                keeping.number = keeping.ask.number
                if not keeping.out:
                    keeping.said_at = -math.inf  # it is time to say so
        self._list_at = math.inf
        return self._act(now)

    # As the keeper

    def _asked(self, peer: Peer, boot: int, ask: Ask, now: float) -> None:
        keeping = peer.keeping
        if not ask.addresses:
            if keeping:
                end = self._end_of(peer, keeping)
                self._end_keeping(peer, ask.reason or f"{peer.name} has ended it", end)
            return
        if keeping is None or keeping.boot != boot:
            before = keeping
            keeping = peer.keeping = Keeping(boot, ask, now)
            if before:
                keeping.admitted = before.admitted
                keeping.carries_since, keeping.given_at = before.carries_since, before.given_at
                keeping.says_so, keeping.belief = before.says_so, before.belief
        if ask.number != keeping.ask.number:
            self._list_at = now
        if ask.flags & AskFlag.CARRIES:
            keeping.carries_since, keeping.says_so = min(keeping.carries_since, now), True
        elif now >= keeping.given_at + WINDOW:
            if keeping.says_so and keeping.number and not keeping.is_orphan:
                self._over.append(Over(peer.name, False, len(keeping.listed), MOVED_ON, End.MOVED_ON))
            keeping.carries_since, keeping.says_so = math.inf, False
        keeping.ask, keeping.heard_at, keeping.is_orphan = ask, now, False
        version = ask.version if ask.boot == self.boot else 0
        keeping.confirm(version)
        if not keeping.number:
            self._list_at = now

    def _end_of(self, peer: Peer, keeping: Keeping) -> End:
        """Why a carrier has ended it, as far as this node can tell."""
        if not keeping.listed:
            return End.DONE
        others = (each.keeping for each in self.peers.values() if each is not peer)
        carried = self._carried().union(*(one.sought for one in others if one and one.carries_since < math.inf))
        return End.MOVED_ON if keeping.sought <= carried else End.THERE

    def _say_list(self, peer: Peer, keeping: Keeping, now: float) -> list[Effect]:
        """What has changed, or what was not confirmed yet, or that nothing has changed."""
        if (
            not keeping.number
            or keeping.is_orphan
            or self.why_not
            or now < keeping.said_at + (FAST if keeping.is_fast or keeping.out else SLOW)
        ):
            return []
        effects: list[Effect] = []
        left, accepted, is_direct = len(keeping.listed), self._accepted.get(peer.name, 0), keeping.belief.is_used
        asked_ago = round((now - keeping.heard_at) * 1000)
        keeping.said_at = now
        is_known = keeping.version and keeping.listed == keeping.base
        if not keeping.out and not is_known and left <= MOST_FLOWS:
            self._version += 1
            add, remove = keeping.listed - keeping.base, keeping.base - keeping.listed
            pieces = parts_of(add, remove)
            keeping.out_flows = keeping.listed
            keeping.out = [
                Listing(keeping.number, 0, self._version, keeping.version, part, len(pieces), left, accepted, *piece)
                for part, piece in enumerate(pieces)
            ]
        if keeping.out:
            new = keeping.out_flows - keeping.admitted
            if new:  # before it can be forwarded
                keeping.admitted |= new
                effects.append(Admit(new, frozenset()))
            said = (replace(one, asked_ago=asked_ago, is_direct=is_direct) for one in keeping.out)
            return [*effects, *(self._frame(peer, one) for one in said)]
        self._to_shut_out |= keeping.admitted - keeping.base
        keeping.admitted &= keeping.base
        if not is_known:
            return effects
        about = keeping.number, asked_ago, keeping.version, keeping.version, 0, 1, left, accepted
        same = Listing(*about, is_direct=is_direct)
        return [*effects, self._frame(peer, same)]

    def _look_after(self, peer: Peer, keeping: Keeping, now: float) -> None:
        """Where the carrier's process falls silent, its kernel may go on: what this node admits stays."""
        if now < self._silent_at(keeping.heard_at, SILENCE):
            return
        reason = f"{peer.name} has said nothing through the tunnel for {SILENCE:g} s"
        is_over = now >= keeping.carries_since + self.limit or keeping.carries_since == math.inf
        if keeping.sought <= self._carried():
            self._end_keeping(peer, MOVED_ON, End.MOVED_ON)  # its connections are here, and so are their packets
        elif is_over or not keeping.listed:
            self._end_keeping(peer, reason, End.SILENT)
        elif not keeping.is_orphan:
            keeping.is_orphan = True
            if self._may_carry(peer, keeping):
                self._over.append(Over(peer.name, False, len(keeping.listed), reason, End.SILENT))

    def _silent_at(self, heard_at: float, patience: float) -> float:
        """When a node that was heard last then has gone."""
        return max(heard_at + patience, self._woken_at + CATCH_UP)

    def _may_carry(self, peer: Peer, keeping: Keeping) -> bool:
        """Of several nodes that asked, one becomes the carrier, and says so."""
        if not keeping.sought:
            return False
        others = (each.keeping for each in self.peers.values() if each is not peer)
        return keeping.says_so or (
            keeping.carries_since < math.inf
            and not any(one and one.says_so and one.sought & keeping.sought for one in others)
        )

    def _end_keeping(self, peer: Peer, reason: str, end: End) -> None:
        keeping, peer.keeping = peer.keeping, None
        if keeping:
            self._to_shut_out |= keeping.admitted
        if keeping and self._may_carry(peer, keeping) and not keeping.is_orphan:
            self._over.append(Over(peer.name, False, len(keeping.listed), reason, end))

    # As the carrier

    def _told_list(self, peer: Peer, boot: int, told: Listing, now: float) -> bool:
        """Whether that says something new: the list is whole, or it is as it was."""
        taking = peer.taking
        if taking is None or told.left > MOST_FLOWS or not taking.take(boot, told, now):
            return False
        self._note_heard(taking, told, now)
        return True

    def _note_heard(self, taking: Taking, told: Listing, now: float) -> None:
        # A keeper that does not hear this node is as good as silent.
        taking.heard_at = max(taking.heard_at, now - told.asked_ago / 1000)
        taking.answered = max(taking.answered, told.number)
        taking.accepts(told)
        forwarded, answers, _ = self.packets
        # The packets are counted together: of two keepers nobody knows whose they are.
        others = (one.taking for one in self.peers.values() if one.taking is not taking)
        if taking.moved and not any(one and one.flows for one in others):
            age = 3 * FAST if self._is_fast(taking, now) else LIST_SLOWLY + SLOW
            taking.there.look(forwarded, self._packets_at, told.accepted, now)
            if told.is_direct:
                taking.back = Gauge()
            else:
                taking.back.look(told.accepted, now - age, answers, now)
        else:
            taking.there, taking.back = Gauge(), Gauge()

    def _seek(self, now: float) -> None:
        """Which addresses it asks each of the others for, by what the daemon wants."""
        carried = {address: wish for wish in self.wishes.values() for address in wish.addresses}
        for peer in self.peers.values():
            wanted = {} if self.why_not else self._wanted_of(peer, carried, now)
            taking = peer.taking
            if taking is None:
                if not wanted:
                    continue
                taking = peer.taking = Taking(now)
            kept = {address: sought for address, sought in taking.sought.items() if now < sought.until}
            for address, instance in wanted.items():
                if address not in kept:
                    kept[address] = Sought(instance)
            fitting = that_fit(kept)
            if not fitting:
                is_limit = any(now >= at + self.limit for at in taking.moved)
                limit = f"the limit of {self.limit:g} s", End.LIMIT
                self._end_taking(peer, *limit if is_limit else (MOVED_ON, End.MOVED_ON))
                continue
            if fitting != taking.sought.keys():
                taking.number += 1
                taking.asked_at = -math.inf
            taking.sought = {address: sought for address, sought in kept.items() if address in fitting}
            for sought in taking.sought.values():
                if not sought.number:
                    sought.number, sought.asked_at = taking.number, now
            self._update(peer, taking, carried, now)

    def _wanted_of(self, peer: Peer, carried: Mapping[Address, Wish], now: float) -> dict[Address, str]:
        """Addresses that are to be sought there, with their instances."""
        if not self._works(peer, now):
            return {}
        asks_back = peer.keeping.asks_back if peer.keeping else frozenset[Address]()
        return {
            address: wish.instance
            for address, wish in carried.items()
            if wish.instance not in self.without  # what has begun goes on: a service may restart
            and (
                wish.phase is Phase.ASKS
                or address in asks_back
                or self._is_offered(address, wish, now)
                or self._is_to_go_on(peer, address, wish, now)
            )
        }

    def _is_offered(self, address: Address, wish: Wish | None, now: float) -> bool:
        """By its carrier; other nodes may have connections of it as well."""
        is_free = wish is not None and wish.phase is Phase.REST
        return is_free and any(address in one.offers and now < one.wanted_at + SLOW for one in self.peers.values())

    def _is_to_go_on(self, peer: Peer, address: Address, wish: Wish, now: float) -> bool:
        """Whether this process follows one that was killed."""
        if wish.phase is not Phase.CARRIES or wish.moved_at is None or (address, wish.moved_at) in peer.done:
            return False
        return now < self.began_at + WINDOW and now < wish.moved_at + self.limit

    def _update(self, peer: Peer, taking: Taking, carried: Mapping[Address, Wish], now: float) -> None:
        """How long each address is sought."""
        has_moved = bool(taking.moved)
        asks_back = peer.keeping.asks_back if peer.keeping else frozenset[Address]()
        for address, sought in taking.sought.items():
            wish = carried.get(address)
            phase = wish.phase if wish else Phase.REST
            if wish and phase is Phase.CARRIES and wish.moved_at is not None:
                if sought.moved_at != wish.moved_at:
                    taking.begin(self.packets[1] if now < self._packets_at + 2 * FAST else None)
                    taking.asked_at = -math.inf  # to say so at once
                sought.is_reverse, sought.moved_at, sought.until = False, wish.moved_at, wish.moved_at + self.limit
            elif phase is Phase.ASKS or self._is_offered(address, wish, now):
                sought.is_reverse, sought.moved_at, sought.until = False, None, math.inf
            elif address in asks_back:
                sought.is_reverse, sought.moved_at, sought.until = True, None, math.inf
            elif phase is Phase.CARRIES:
                sought.until = now  # it became master by no plan
            else:
                sought.until = min(sought.until, now + WINDOW)
        if has_moved and not taking.moved:
            self._over.append(Over(peer.name, True, len(taking.flows), MOVED_ON, End.MOVED_ON))

    def _is_fast(self, taking: Taking, now: float) -> bool:
        """Whether lists of it are exchanged often."""
        return any(one.moved_at is None or now < one.moved_at + WINDOW for one in taking.sought.values())

    def _asks_fast(self, taking: Taking, now: float) -> bool:
        """Whether the other node is to ask, too."""
        return any(
            not one.is_reverse and (one.moved_at is None or now < one.moved_at + WINDOW)
            for one in taking.sought.values()
        )

    def _watch(self, peer: Peer, taking: Taking, now: float) -> None:
        """End what does not work, or is over."""
        if not peer.hello.usable:  # also before a move: what goes there by mistake would hang
            self._end_taking(peer, f"{peer.name} says: {peer.hello.reason}", End.UNABLE)
            return
        moved = taking.moved
        if not moved:
            return
        is_fast = self._is_fast(taking, now)
        goes_on = taking.is_proven or self.began_at > max(moved)  # a predecessor may have seen it work
        patience = SILENCE if goes_on or not is_fast else SILENCE_UNPROVEN
        if now >= self._silent_at(max(taking.heard_at, self.began_at, *moved), patience):
            self._end_taking(peer, f"{peer.name} has said nothing through the tunnel for {patience:g} s", End.SILENT)
            return
        if taking.answered >= taking.number and not taking.flows and not is_fast:
            self._end_taking(peer, "no connection is left", End.DONE)
            return
        patience = GOES_NOWHERE_FOR if is_fast else GOES_NOWHERE_SLOWLY
        if taking.there.is_stuck(patience, now):
            self._end_taking(peer, f"{peer.name} accepts none of the packets that are forwarded to it", End.UNACCEPTED)
        elif taking.back.is_stuck(2 * patience, now):  # it has to hear first who carries
            self._end_taking(peer, f"no answers of {peer.name} come back through the tunnel", End.UNANSWERED)

    def _end_taking(self, peer: Peer, reason: str, end: End) -> None:
        taking, peer.taking = peer.taking, None
        peer.goodbyes, peer.last_words = GOODBYES, reason
        peer.offers = frozenset()
        if taking:
            moved = {(a, one.moved_at) for a, one in taking.sought.items() if one.moved_at is not None}
            peer.done = {one for one in peer.done if one[0] not in {a for a, _ in moved}} | moved
        if taking and taking.moved:
            self._over.append(Over(peer.name, True, len(taking.flows), reason, end))

    # Both

    def _carried(self) -> frozenset[Address]:
        """Of which this node is master."""
        own = (wish.addresses for wish in self.wishes.values() if wish.phase in (Phase.CARRIES, Phase.OFFERS))
        return frozenset[Address]().union(*own)

    def _works(self, peer: Peer, now: float) -> bool:
        is_heard = now < min(
            peer.heard_at + HELLO_PATIENCE, peer.hears_us_at + HELLO_PATIENCE, peer.whole_at + LARGE_PATIENCE
        )
        return is_heard and peer.hello.usable and not self.why_not

    def _through(self, peer: Peer, now: float) -> Through:
        if self.why_not:
            return Through(peer.name, False, self.why_not, Fault.HERE)
        if self._works(peer, now):
            return Through(peer.name, True)
        if now >= peer.was_heard_at + HELLO_PATIENCE:
            return Through(peer.name, False, f"nothing comes from {peer.name} through the tunnel", Fault.UNHEARD)
        if now >= peer.hears_us_at + HELLO_PATIENCE:
            why = f"{peer.name} hears nothing from this node through the tunnel"
            return Through(peer.name, False, why, Fault.DEAF)
        if not peer.hello.usable:
            return Through(peer.name, False, f"{peer.name} says: {peer.hello.reason}", Fault.THERE)
        return Through(peer.name, False, LARGE.format(peer.name), Fault.LARGE)

    def is_ready(self, wish: Wish, now: float) -> bool:
        """Whether all that was listed is loaded, so that this node can take over."""
        for peer in self.peers.values():
            sought = [peer.taking.sought.get(address) if peer.taking else None for address in wish.addresses]
            is_done = peer.taking is not None and all(
                one is not None and peer.taking.answered >= one.number and peer.taking.version for one in sought
            )
            if is_done:
                continue
            asked_at = min((one.asked_at for one in sought if one), default=-math.inf)
            if peer.name in wish.nodes or (asked_at > -math.inf and now < asked_at + OTHERS_PATIENCE):
                return False
        return True

    def _act(self, now: float) -> list[Effect]:
        """What follows, and when something is to be looked at again."""
        self._now = now
        if now >= self.deadline + SUSPENDED:
            self._woken_at = now
        for peer in self.peers.values():
            if peer.keeping:
                self._look_after(peer, peer.keeping, now)
        self._seek(now)
        for peer in self.peers.values():
            if peer.taking:
                self._watch(peer, peer.taking, now)
        effects = self._reconcile(now)
        effects += self._hold_back(now)
        effects += self._route_answers(now)
        effects += self._probe(now)
        effects += self._say(now)
        if now >= self.began_at + WINDOW:
            self._to_shut_out |= self._adopted_here
            self._adopted_here = frozenset()
        effects += self._shut_out()
        effects += self._look(now)
        effects += self._over
        self._over = []
        effects += self._tell(now)
        self.deadline = self._deadline(now)
        return effects

    def _reconcile(self, now: float) -> list[Effect]:
        """What is to be forwarded, against what is."""
        if self._adopted and (now >= self.began_at + WINDOW or self.why_not):
            self._adopted = {}
        seen = (
            self._adopted,
            self._own_flows,
            *(
                (peer.name, taking.version, taking.flows, [(a, one.is_reverse) for a, one in taking.sought.items()])
                for peer in self.peers.values()
                if (taking := peer.taking)
            ),
        )
        if seen == self._reconciled:
            return []
        self._reconciled = seen
        wanted = {
            flow: node
            for flow, node in self._adopted.items()
            if not ((taking := self.peers[node].taking) and taking.version)
        }
        for peer in self.peers.values():
            if not (taking := peer.taking) or not taking.flows:
                continue
            reverse = {address.packed for address, one in taking.sought.items() if one.is_reverse}
            sought = {address.packed for address in taking.sought}
            for flow in taking.flows:
                ours = packed_address(flow)
                if ours in sought and not (ours in reverse and flow in self._own_flows):
                    wanted.setdefault(flow, peer.name)
        if wanted == self._loaded:
            return []
        add = {flow: node for flow, node in wanted.items() if self._loaded.get(flow) != node}
        remove = frozenset(flow for flow in self._loaded if flow not in wanted or flow in add)
        self._loaded = wanted
        return [Forward(add, remove)]

    def _hold_back(self, now: float) -> list[Effect]:
        if self.why_not:
            self._held = frozenset()
            return []
        held = set[Address]()
        for peer in self.peers.values():
            if peer.taking and peer.taking.version and self._is_fast(peer.taking, now):
                held |= {
                    a
                    for a, one in peer.taking.sought.items()
                    if peer.taking.answered >= one.number and not self._is_given_up(a, one)
                }
            if peer.keeping and peer.keeping.is_fast and peer.keeping.is_ready:
                held |= peer.keeping.sought - self._carried()
        if held == self._held and not (held and now >= self._held_at + SLOW):
            return []
        self._held, self._held_at = frozenset(held), now
        return [HoldBack(self._held)]

    def _is_given_up(self, address: Address, sought: Sought) -> bool:
        """Whether connections of another node, which moved with it, do not go on: their clients are to know at once."""
        return any((address, sought.moved_at) in peer.done for peer in self.peers.values())

    def _route_answers(self, now: float) -> list[Effect]:
        if self.why_not:
            self._answer_by, self._direct = {}, frozenset()
            for peer in self.peers.values():
                if peer.keeping:
                    peer.keeping.belief.use(False, now)
            return []
        own = self._carried()
        found: dict[Address, tuple[float, str]] = {}
        for peer in self.peers.values():
            # Not before it says that it carries them: in a VRRP pair the routes lead here until then (skew time).
            if (keeping := peer.keeping) and keeping.says_so and self._leads_back(keeping, now):
                for address in keeping.sought - own:
                    found[address] = max(found.get(address, (-math.inf, "")), (keeping.carries_since, peer.name))
        if now >= self.began_at + WINDOW:
            self._adopted_answers = {}
        left = {address: node for address, node in self._adopted_answers.items() if address not in own}
        answer_by = left | {address: node for address, (_, node) in found.items()}
        direct = frozenset(one for one in found if one not in left and self._is_proven(found[one][1], one))
        for peer in self.peers.values():
            if peer.keeping:
                peer.keeping.belief.use(any(answer_by[address] == peer.name for address in direct), now)
        if (answer_by, direct) == (self._answer_by, self._direct):
            return []
        self._answer_by, self._direct = answer_by, direct
        return [AnswerBy(answer_by, direct)]

    # Direct answers

    def _is_proven(self, node: str, address: Address) -> bool:
        """Whether answers from there reach the clients by this node's own way, as far as that carrier can see."""
        keeping = self.peers[node].keeping
        return bool(self.secret) and keeping is not None and keeping.believes and address in keeping.ask.direct

    def _nonce(self, peer: Peer, taking: Taking) -> bytes:
        return sha256(self.secret + peer.identity + struct.pack("!d", taking.since)).digest()[:NONCE]

    def _probe_at(self) -> frozenset[Address]:
        """Where this node sees what comes by the way of the clients' packets."""
        floating = frozenset[Address]().union(*(wish.addresses for wish in self.wishes.values()))
        usable = [one for one in self._speaks_from if one not in floating]
        return frozenset(
            next(one for one in usable if one.version == version) for version in {v.version for v in usable}
        )

    def _expects(self, peer: Peer, taking: Taking, now: float) -> frozenset[Probe]:
        """Not while routes change: what is seen then is not what is."""
        if not self.secret or self.why_not or self._is_fast(taking, now):
            return frozenset()
        nonce, versions = self._nonce(peer, taking), {one.version for one in self._probe_at()}
        carried = (address for address, one in taking.sought.items() if one.moved_at is not None)
        return frozenset(Probe(nonce, address) for address in carried if address.version in versions)

    def _probe(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        expected = frozenset[Probe]()
        for peer in self.peers.values():
            if peer.taking:
                expected |= self._expects(peer, peer.taking, now)
            if (keeping := peer.keeping) and self._sends_probes(keeping):
                if now < keeping.belief.probed_at + PROBE_INTERVAL:
                    continue
                keeping.belief.probed_at = now
                for to in sorted(keeping.ask.probe_at, key=lambda one: one.version):
                    sources = {one for one in keeping.sought - self._carried() if one.version == to.version}
                    effects += [SendProbes(keeping.ask.nonce, frozenset(sources), to)] if sources else []
        if expected != self._expected:
            self._expected, self._seen = expected, self._seen & expected
            effects.append(ExpectProbes(expected))
        return effects

    def _sends_probes(self, keeping: Keeping) -> bool:
        return bool(self.secret) and not self.why_not and keeping.believes

    def _leads_back(self, keeping: Keeping, now: float) -> bool:
        """Whether answers may still reach the clients through the tunnel.

        Where the carrier's process is silent and no packet comes either, nobody takes them: the clients of downloads
        would wait for data until the limit.
        """
        return not keeping.is_orphan or now < max(self._accepted_at, keeping.heard_at) + SILENCE

    def _say(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for peer in self.peers.values():
            if now >= peer.hello_at + HELLO_INTERVAL:
                peer.hello_at = now
                effects += self._hellos(peer)
            offers = self._offers(peer, now)
            if offers and now >= peer.offered_at + FAST:
                peer.offered_at = now
                effects.append(self._frame(peer, Offer(offers)))
            if taking := peer.taking:
                peer.goodbyes = 0
                if now >= taking.asked_at + (FAST if self._is_fast(taking, now) else SLOW):
                    taking.asked_at = now
                    effects.append(self._frame(peer, self._ask(peer, taking, now)))
            elif peer.goodbyes and now >= peer.offered_at + FAST:
                peer.goodbyes, peer.offered_at = peer.goodbyes - 1, now
                effects.append(self._frame(peer, Ask(0, frozenset(), reason=peer.last_words)))
            if peer.keeping:
                effects += self._say_list(peer, peer.keeping, now)
        return effects

    def _offers(self, peer: Peer, now: float) -> frozenset[Address]:
        """What this node wants to hand over to it."""
        if not self._works(peer, now):
            return frozenset()
        offers = (one.addresses for one in self.wishes.values() if one.instance not in self.without
                  and one.phase is Phase.OFFERS and peer.name in one.nodes)  # fmt: skip
        return that_fit(frozenset[Address]().union(*offers))

    def _ask(self, peer: Peer, taking: Taking, now: float) -> Ask:
        wishes = {one.instance: self.wishes.get(one.instance) for one in taking.sought.values()}
        is_ready = bool(taking.version) and all(
            taking.answered >= one.number for one in taking.sought.values()
        ) and all(self.is_ready(wish, now) for wish in wishes.values() if wish)  # fmt: skip
        carries = any(wish and wish.phase is Phase.CARRIES for wish in wishes.values())
        flags = AskFlag.FAST * self._asks_fast(taking, now) | AskFlag.READY * is_ready | AskFlag.CARRIES * carries
        reverse = frozenset(address for address, one in taking.sought.items() if one.is_reverse)
        addresses = frozenset(taking.sought)
        ask = Ask(taking.number, addresses, reverse, flags, taking.version, taking.boot, self.packets[0])
        if not (expected := self._expects(peer, taking, now)):
            return ask
        direct = frozenset(one.source for one in expected & self._seen)
        return replace(ask, nonce=self._nonce(peer, taking), probe_at=self._probe_at(), direct=direct)

    def _shut_out(self) -> list[Effect]:
        """What nobody forwards any more."""
        gone = self._to_shut_out.difference(*(peer.keeping.admitted for peer in self.peers.values() if peer.keeping))
        self._to_shut_out = set()
        return [Admit(frozenset(), frozenset(gone))] if gone else []

    def _look(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        keepings = [peer.keeping for peer in self.peers.values() if peer.keeping]
        takings = [peer.taking for peer in self.peers.values() if peer.taking]
        if keepings:
            interval = FAST if any(one.is_fast or one.belief.is_new(now) for one in keepings) else LIST_SLOWLY
            self._list_at = min(self._list_at, now + max(interval, LISTING_SHARE * self._list_took))
            if now >= self._list_at:
                self._list_at = math.inf
                effects.append(ListSockets(frozenset[Address]().union(*(one.ask.addresses for one in keepings))))
        else:
            self._list_at = math.inf
        if keepings or takings:
            is_fast = any(one.is_fast for one in keepings) or any(self._is_fast(one, now) for one in takings)
            self._count_at = min(self._count_at, now + (FAST if is_fast else LIST_SLOWLY))
            if now >= self._count_at:
                self._count_at = math.inf
                effects.append(CountPackets())
        else:
            self._count_at = math.inf
        return effects

    def _hellos(self, peer: Peer) -> list[Effect]:
        """A small one, and then a large one: whichever overtakes the other, the large one counts."""
        why_not = self.why_not or self._lacks_large(peer)
        return [self._frame(peer, Hello(not why_not, why_not, is_large)) for is_large in (False, True)]

    def _lacks_large(self, peer: Peer) -> str:
        """Why uploads from there would hang, for its sender; empty: they come."""
        now = self._now
        is_heard = now < min(peer.heard_at, peer.hears_us_at) + HELLO_PATIENCE
        came_at = max(peer.whole_at, peer.known_at)
        if not is_heard or now < max(came_at + LARGE_PATIENCE, self._woken_at + HELLO_INTERVAL + CATCH_UP):
            return ""
        return LARGE.format(peer.name)

    def _frame(self, peer: Peer, message: Message) -> SendFrame:
        peer.sequence += 1
        # To repeat its boot says that it is heard.
        is_heard = self._now < peer.was_heard_at + HELLO_PATIENCE
        boot = (peer.boot or peer.unproven) if is_heard else 0
        return SendFrame(peer.name, Frame(self.identity, peer.identity, self.boot, boot, peer.sequence, message))

    def _tell(self, now: float) -> list[Effect]:
        standing = Standing(
            self.why_not,
            self.hint,
            tuple(self.without.items()),
            tuple(self._through(peer, now) for peer in self.peers.values()),
            frozenset(self._ready(now)),
            tuple(self._streams()),
            frozenset((instance, name) for instance, name, _ in self._asked_of()),
        )
        before = self._told
        if standing == before:
            return []
        is_urgent = before is None or _without_figures(standing) != _without_figures(before)
        if not is_urgent and now < self._told_at + TOLD_INTERVAL:
            return []
        self._told, self._told_at = standing, now
        return [Tell(standing)]

    def _ready(self, now: float) -> Iterable[tuple[str, str]]:
        for wish in self.wishes.values():
            if wish.phase is Phase.ASKS and self.is_ready(wish, now):
                yield wish.instance, ""
        yield from ((instance, name) for instance, name, keeping in self._asked_of() if keeping.is_ready)

    def _asked_of(self) -> Iterable[tuple[str, str, Keeping]]:
        """The instances that this node is to hand over, and who has asked for all of their addresses."""
        for wish in self.wishes.values():
            for name in wish.nodes if wish.phase is Phase.OFFERS else ():
                keeping = self.peers[name].keeping if name in self.peers else None
                if keeping and wish.addresses <= keeping.sought:
                    yield wish.instance, name, keeping

    def _streams(self) -> Iterable[Stream]:
        forwarded, _, accepted = self.packets
        for peer in self.peers.values():
            if (taking := peer.taking) and taking.moved:
                until = max(taking.moved) + self.limit
                figures = len(taking.flows), taking.since, until, forwarded, taking.accepted or 0
                yield Stream(peer.name, True, *figures, taking.is_direct)
            keeping = peer.keeping
            if keeping and keeping.number and keeping.says_so and not keeping.is_orphan:
                since, until = keeping.carries_since, keeping.carries_since + self.limit
                figures = len(keeping.listed), since, until, keeping.ask.forwarded, accepted
                yield Stream(peer.name, False, *figures, keeping.belief.is_used, keeping.distrust)

    def _deadline(self, now: float) -> float:
        at = min(self._list_at, self._count_at)
        if self._held:
            at = min(at, self._held_at + SLOW)
        for peer in self.peers.values():
            at = min(at, peer.hello_at + HELLO_INTERVAL)
            if peer.goodbyes or self._offers(peer, now):
                at = min(at, peer.offered_at + FAST)
            if taking := peer.taking:
                at = min(at, taking.asked_at + (FAST if self._is_fast(taking, now) else SLOW))
                at = min(at, *(one.until for one in taking.sought.values()))
            if keeping := peer.keeping:
                at = min(
                    at,
                    self._silent_at(keeping.heard_at, SILENCE)
                    if not keeping.is_orphan
                    else keeping.carries_since + self.limit,
                )
                if self._sends_probes(keeping):
                    at = min(at, keeping.belief.probed_at + PROBE_INTERVAL)
                if keeping.number and not keeping.is_orphan:
                    at = min(at, keeping.said_at + (FAST if keeping.is_fast or keeping.out else SLOW))
        return max(at, now)


def _without_figures(standing: Standing) -> Standing:
    streams = tuple(replace(one, connections=0, forwarded=0, accepted=0) for one in standing.streams)
    return replace(standing, streams=streams)
