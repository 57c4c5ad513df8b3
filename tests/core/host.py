"""A node among words: `Host` plays the kernel, the route servers and the clock, and tells what the node does in words.

Such words are "advert 0", "withdraw 192.0.2.10" or "hold"; a test compares lists of them, and so the order too.
"""

import json
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Address
from typing import Any

from floatip.core import settings
from floatip.core.addresses import Address, InterfaceAddress, Placed
from floatip.core.bgp.attributes import IPV4_UNICAST, IPV6_UNICAST
from floatip.core.bgp.notification import Notification
from floatip.core.bgp.rank import Marks, Rank
from floatip.core.bgp.trouble import Trouble
from floatip.core.bgp.update import Update
from floatip.core.bgp.wire import Capabilities, Keepalive, Open, pack, parse, split
from floatip.core.election.elector import Role
from floatip.core.etcd import AskEtcd, WatchEtcd
from floatip.core.events import (
    AdvertReceived,
    Arrange,
    Became,
    BytesReceived,
    CheckDone,
    Close,
    Connected,
    Dial,
    Disconnected,
    Effect,
    Event,
    Exit,
    Fence,
    Garp,
    Held,
    Hold,
    Install,
    KeepOrders,
    LinkChanged,
    Measure,
    Measured,
    Probe,
    Reloaded,
    SendAdvert,
    SendBytes,
    SendDatagram,
    Started,
    StopGarp,
    Ticked,
    TookOver,
    Writable,
)
from floatip.core.node import Node
from floatip.core.settings import Check, Settings, Speaker, Vrrp
from floatip.core.snapshot import describe, describe_frame
from floatip.core.state import as_data
from floatip.core.vrrp import wire
from floatip.core.vrrp.wire import Advert
from floatip.host.answer import Answers

US, PEER, THIRD = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"), IPv4Address("10.0.0.3")
RS, RS2 = IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2")
LOCAL = IPv6Address("2001:db8::227")
A, B = IPv4Interface("192.0.2.10/32"), IPv4Interface("192.0.2.11/32")
MARKS = {rank: Marks(communities=((65000, rank),)) for rank in Rank}
OFFERED = Capabilities(frozenset({IPV4_UNICAST, IPV6_UNICAST}), frozenset({(1, 1, 2)}), four_octet_asn=True)
VRRP = Vrrp("eth0", 51, 50, US, (PEER,))
DOWN = 3 + (256 - 50) / 256
WEB = settings.Instance("VI_1", (A,), VRRP, checks=("web",))
CONFIG = Settings(
    checks=(Check("web", pushed=True),),
    instances=(WEB,),
    speaker=Speaker(65001, 65000, US, (RS,), MARKS),
)
SICK = CheckDone("web", 0, False, "exit status 1")
WELL = CheckDone("web", 0, True, "exit status 0")


def config(speaker: dict[str, Any] | None = None, **changes: Any) -> Settings:
    """The usual one, with changes to its instance and its speaker."""
    assert CONFIG.speaker is not None
    return replace(CONFIG, instances=(replace(WEB, **changes),), speaker=replace(CONFIG.speaker, **(speaker or {})))


def elected(**changes: Any) -> Vrrp:
    return replace(VRRP, **changes)


def advert(priority: int, *, vrid: int = 51, interface: str = "eth0") -> AdvertReceived:
    said = wire.pack(Advert(2, vrid, priority, 1.0, (A.ip,)), PEER, US)
    return AdvertReceived(interface, PEER, US, 255, said)


def held(*addresses: InterfaceAddress, interface: str = "lo") -> Held:
    return Held(frozenset(Placed(interface, address) for address in addresses))


def words(effects: Iterable[Effect], peer: Address = RS) -> list[str]:
    """In order; of the sessions only the one with `peer`."""
    return [word for effect in effects for word in _words(effect, peer)]


def _words(effect: Effect, peer: Address) -> list[str]:
    match effect:
        case SendAdvert(_, source, destination, data):
            return [f"advert {wire.parse(data, source, destination).priority}"]
        case SendBytes(to, data):
            return [word for each in split(bytearray(data)) for word in _bgp_words(each)] if to == peer else []
        case Hold(addresses):
            return [" ".join(["hold", *sorted(str(placed.address.ip) for placed in addresses)])]
        case Became("session", name, value):
            return [f"session {value}"] if name == str(peer) else []
        case Became("takeover"):
            return []
        case Became(what, _, value):
            return [f"{what} {value}"]
        case Dial(to) | Close(to) | Measure(to):
            return [type(effect).__name__.lower()] if to == peer else []
        case Probe(check):
            return [f"probe {check}"]
        case TookOver():
            return []
        case Arrange() | Garp() | StopGarp() | Install() | SendDatagram() | KeepOrders() | Fence():
            return [type(effect).__name__.lower()]
        case AskEtcd() | WatchEtcd() | Exit():
            return [type(effect).__name__.lower()]


def _bgp_words(data: bytes) -> list[str]:
    match parse(data):
        case Update(announced, attributes, withdrawn):
            rank = Rank(attributes.communities[0][1]).label if attributes else ""
            return [f"withdraw {p.network_address}" for p in withdrawn] + [
                f"{rank} {p.network_address}" for p in announced
            ]
        case Notification(code, subcode):
            return [f"notification {code}/{subcode}"]
        case _:
            return []


class Host:
    """Performs effects at once, unless told otherwise; `log` is all that happened, in words."""

    def __init__(self, config: Settings = CONFIG, *, start: bool = True, kernel_answers: bool = True) -> None:
        self.node = Node(config, 0)
        self.now = 0.0
        self.kernel_answers = kernel_answers
        self.dialling_works = self.acknowledging = True
        self.silent_peers: set[Address] = set()
        """Peers that acknowledge nothing."""
        self.peers_offer = OFFERED
        self.adverts_from_peer: int | None = None
        self.log: list[tuple[float, str]] = []
        self.answers = Answers(lambda call: call(), lambda: self.now)
        self._todo: deque[Event] = deque()
        if start:
            self.tell(Started(), LinkChanged("eth0", True, ""), WELL)

    def tell(self, *events: Event, at: float | None = None) -> list[str]:
        """The node's own answer to the events; the world's answer to that follows, but is only logged."""
        self.now = self.now if at is None else at
        effects = [effect for event in events for effect in self.node.handle(event, self.now)]
        self.perform(effects)
        return words(effects)

    def reload(self, config: Settings) -> list[str]:
        return self.tell(Reloaded(config))

    def tick(self, at: float) -> list[str]:
        return self.tell(Ticked(), at=at)

    def run(self, until: float) -> "Host":
        """Let time pass; each second the route servers send a KEEPALIVE, and the peer an advert if it has any."""
        while self.now < until:
            second = float(int(self.now + 1))
            self.now = max(self.now, min(self.node.deadline, second, until))
            if self.now == second:
                self.tell(*(BytesReceived(p, pack(Keepalive())) for p, s in self.node.sessions.items() if s.is_up))
                if self.adverts_from_peer is not None:
                    self.tell(advert(self.adverts_from_peer))
            self.tell(Ticked())
        return self

    def perform(self, effects: list[Effect]) -> None:
        self.log += [(self.now, word) for word in words(effects)]
        for effect in effects:
            self._todo.extend(self._answers(effect))
        while self._todo:
            self.perform(self.node.handle(self._todo.popleft(), self.now))

    def _answers(self, effect: Effect) -> list[Event]:
        match effect:
            case Hold(addresses) if self.kernel_answers:
                return [Held(addresses)]
            case SendBytes(peer):
                return [Writable(peer)]
            case Measure(peer):
                return [Measured(peer, self.acknowledging and peer not in self.silent_peers)]
            case Dial(peer) if not self.dialling_works:
                return [Disconnected(peer, "connection refused", Trouble.REFUSED)]
            case Dial(peer):
                opened = Open(65000, 9, PEER, self.peers_offer)
                return [Connected(peer, LOCAL), BytesReceived(peer, pack(opened) + pack(Keepalive()))]
            case _:
                return []

    def when(self, word: str) -> list[float]:
        return [at for at, each in self.log if each == word]

    @property
    def role(self) -> Role:
        return self.node.instances["VI_1"].role

    @property
    def rank(self) -> Rank:
        return self.node.instances["VI_1"].decision.rank


def status(host: Host) -> dict[str, Any]:
    """As `floatip status --json` prints it. What is kept of the answer before is as if it were made again."""
    found: dict[str, Any] = json.loads(answered(host.answers, host.node, host.now))
    assert found == json.loads(json.dumps(as_data(describe(host.node, host.now)), allow_nan=False))
    return found


def answered(answers: Answers, node: Node, now: float) -> str:
    answers.prepare(node, lambda: None)
    return answers.text(describe_frame(node, answers.problems(node, now), now), node, now)


def problems(host: Host, severity: str = "problem") -> list[tuple[str, str]]:
    """Code and sentence of each."""
    return [(one["code"], one["what"]) for one in status(host)["problems"] if one["severity"] == severity]


def master(config: Settings = CONFIG) -> Host:
    """Master, settled."""
    host = Host(config).run(30)
    assert (host.role, host.rank) == (Role.MASTER, Rank.ACTIVE)
    return host


def backup(config: Settings = CONFIG, priority: int = 100) -> Host:
    host = Host(config)
    host.adverts_from_peer = priority
    host.run(30)
    assert (host.role, host.rank) == (Role.BACKUP, Rank.STANDBY)
    return host
