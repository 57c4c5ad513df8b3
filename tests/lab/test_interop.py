"""floatip with BIRD, FRR, GoBGP, ExaBGP and OpenBGPD, each as route server in a place of its own of one network.

The ranks are announced by the core's own session on a plain socket, because a rank must stand still to be compared;
all else by two daemons that elect. The table of implementation and case is printed after all tests.
"""

import itertools
import os
import select
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Network, IPv6Interface
from pathlib import Path
from typing import Any, TypeVar

import pytest

from floatip.core.addresses import Address
from floatip.core.bgp.attributes import Attributes, Prefix
from floatip.core.bgp.rank import Marks, Rank, med
from floatip.core.bgp.session import Route, Session
from floatip.core.events import Close, Dial, Effect, SendBytes
from floatip.core.settings import Speaker as SpeakerSettings
from floatip.host.ask import ControlError
from floatip.lab.network import FLOATING, HAPROXY1, HAPROXY2, NODES, LabHost, Network
from floatip.lab.programs.bird import Rules
from floatip.lab.programs.floatip import FloatipDaemon
from floatip.providers import GENERIC_MARKS, LINODE_MARKS
from tests.lab.interop.bird import Bird
from tests.lab.interop.exabgp import ExaBgp
from tests.lab.interop.frr import Frr
from tests.lab.interop.gobgp import GoBgp
from tests.lab.interop.openbgpd import OpenBgpd
from tests.lab.interop.route_server import GUEST, PLACES, OtherRouteServer, Winners
from tests.lab.interop.table import Table
from tests.tables import TABLES

TIMEOUT = 60.0
SPEAKERS: dict[str, type[OtherRouteServer]] = {
    "BIRD": Bird,
    "FRR": Frr,
    "GoBGP": GoBgp,
    "ExaBGP": ExaBgp,
    "OpenBGPD": OpenBgpd,
}
IPV6_ADDRESSES = (IPv6Interface("2001:db8:64::1/64"), IPv6Interface("2001:db8:56:100::1/56"))


@dataclass(frozen=True, slots=True)
class Ladder:
    """Which marks meet which rules."""

    marks: Mapping[Rank, Marks]
    rules: Rules

    def __str__(self) -> str:
        name = "ranks by communities" if self.rules.weighs_communities else "ranks without communities"
        name += ", only path 65001" if self.rules.only_bare_path else ""
        return name + (", multipath" if self.rules.multipath else "")


LADDERS = [
    Ladder(
        LINODE_MARKS if communities else GENERIC_MARKS,
        # An hour: the announcers keep nothing alive once they have announced.
        Rules(hold_time=3600, weighs_communities=communities, only_bare_path=only, multipath=multipath),
    )
    for communities, only, multipath in itertools.product((True, False), (False, True), (False, True))
]
PLAIN_LADDERS = [ladder for ladder in LADDERS if not ladder.rules.only_bare_path and not ladder.rules.multipath]

SESSION = "session over IPv6"
SESSION4 = "session over IPv4"
IPV4 = "IPv4 /32 with an IPv6 next hop"
KERNEL = "IPv4 /32 and IPv6 in the kernel"
IPV6 = "IPv6 /64 and /56"
ROLE = "role change, no flap"
RESTART = "peer killed and started"
WITHDRAWN = "withdrawn, announced again, withdrawn at a stop"
NOTIFICATION = "peer sends a NOTIFICATION"
HOLD = "hold time 3"
STOPS_READING = "peer stops reading for 8 s"
MARKS = "marks of all ranks as sent"
GTSM = "GTSM, both check"
OUR_GTSM = "GTSM, only floatip checks"
MD5 = "MD5"
CASES = [SESSION, SESSION4, IPV4, IPV6, KERNEL, ROLE, WITHDRAWN, RESTART, NOTIFICATION, HOLD, STOPS_READING, MARKS]
CASES += [*map(str, LADDERS), MD5, GTSM, OUR_GTSM]

UNTESTED: dict[tuple[str, str], str] = {}
for name, speaker in SPEAKERS.items():
    if not speaker.protocol:
        UNTESTED[name, KERNEL] = "it installs nothing in the kernel by itself"
    if speaker.extended_next_hop:
        UNTESTED[name, SESSION4] = "its sessions run over IPv6"
    else:
        why = "this version takes no IPv4 with an IPv6 next hop (RFC 8950), so its sessions run over IPv4"
        UNTESTED |= {(name, SESSION): why, (name, IPV4): why}
    if not speaker.selects:
        UNTESTED |= {(name, str(ladder)): "it chooses no best path" for ladder in LADDERS}
UNTESTED["ExaBGP", GTSM] = "it checks the TTL of IPv4 only"


def able(case: str) -> list[str]:
    return [name for name in SPEAKERS if (name, case) not in UNTESTED]


T = TypeVar("T")


def settled(read: Callable[[], T], wanted: T, timeout: float = TIMEOUT) -> T:
    """What `read` says once it is as wanted, or at the end of the time."""
    deadline = time.monotonic() + timeout
    while (found := read()) != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    assert os.geteuid() == 0, "the lab's tests need root: sudo .venv/bin/python -m pytest tests/lab"
    with tempfile.TemporaryDirectory() as directory, Network(Path(directory), [GUEST]) as network:
        yield network


@pytest.fixture(scope="module")
def stage() -> Iterator[ExitStack]:
    """What plays now. Each scene clears it first: they use the same hosts, and fixtures would stay to the end."""
    with ExitStack() as stage:
        yield stage


@pytest.fixture(scope="module")
def table() -> Table:
    table = TABLES["floatip with other BGP implementations"] = Table(list(SPEAKERS), CASES, UNTESTED)
    return table


def start_speakers(network: Network, stage: ExitStack, rules: Rules) -> dict[str, OtherRouteServer]:
    stage.close()
    speakers = {
        name: kind(network, place.name, rules) for place, (name, kind) in zip(PLACES, SPEAKERS.items(), strict=True)
    }
    for speaker in speakers.values():
        speaker.start()
        stage.callback(speaker.kill)
        stage.callback(speaker.resume)
    return speakers


# Two daemons that elect


class Scene:
    """haproxy1 is the master while its trigger file is absent."""

    def __init__(
        self,
        network: Network,
        stage: ExitStack,
        rules: Rules,
        *,
        hold_time: int = 9,
        options: Sequence[str] = ("", ""),
        last_resort: bool = True,
    ) -> None:
        """`options`: further lines of the nodes' `[bgp]`."""
        self.network = network
        self._last_resort = last_resort
        self.speakers = start_speakers(network, stage, rules)
        self.trigger = network.directory / "trigger"
        lines = [f"hold_time = {hold_time}\n{option}" for option in options]
        texts = [self._config(HAPROXY1, HAPROXY2, 150, lines[0]), self._config(HAPROXY2, HAPROXY1, 100, lines[1])]
        self.nodes = {
            node.name: FloatipDaemon(network, node.name, text) for node, text in zip(NODES, texts, strict=True)
        }
        for node in self.nodes.values():
            node.start()
            stage.callback(stop, node)
        for node in self.nodes.values():
            assert settled(partial(answers, node), True), node.log.read_text()

    def _config(self, me: LabHost, other: LabHost, priority: int, bgp: str) -> str:
        assert me.ipv4
        assert other.ipv4
        trigger = self.trigger if me is HAPROXY1 else f"{self.trigger}2"
        addresses = [str(address) for address in (FLOATING, *IPV6_ADDRESSES)]
        peers = [str(speaker.address) for speaker in self.speakers.values()]
        return f"""
[linode]
dcid = 6

[bgp]
peers = {peers}
next_hop = ["{me.ipv6}"]
{bgp}

[[check]]
name = "trigger"
file = "{trigger}"

[[instance]]
name = "VI_1"
addresses = {addresses}
checks = ["trigger"]
last_resort = {str(self._last_resort).lower()}

[instance.vrrp]
interface = "eth0"
vrid = 51
version = 3
advert_interval = 0.1
priority = {priority}
source = "{me.ipv4.ip}"
peers = ["{other.ipv4.ip}"]
"""

    def session(self, node: str, implementation: str) -> dict[str, Any]:
        peer = str(self.speakers[implementation].address)
        sessions: list[dict[str, Any]] = self.nodes[node].status()["sessions"]
        return next(session for session in sessions if session["peer"] == peer)

    def states(self, implementation: str) -> dict[str, str]:
        return {node: self.session(node, implementation)["state"] for node in self.nodes}

    def times_established(self) -> dict[tuple[str, str], int]:
        return {(n, i): self.session(n, i)["times_established"] for n in self.nodes for i in self.speakers}

    def rank(self, node: str) -> Rank:
        label: str = self.nodes[node].status()["instances"][0]["rank"]["value"]
        return Rank[label.upper().replace("-", "_")]

    def disagreement(self, implementation: str) -> str:
        """Between what the nodes announce and what the peer has, or chose; empty: none."""
        speaker = self.speakers[implementation]
        ranks = {node: self.rank(node) for node in self.nodes}
        wanted = {node: marks_of(LINODE_MARKS[rank]) for node, rank in ranks.items() if rank is not Rank.NONE}
        heard = {heard.node: marks_as_heard(heard.attributes) for heard in speaker.routes(FLOATING.network)}
        if heard != wanted:
            return f"the peer has {heard}, announced is {wanted}"
        best = max(ranks, key=lambda node: ranks[node])
        if speaker.selects and (chosen := speaker.best(FLOATING.network)) != {best}:
            return f"the peer chose {chosen}, best is {best} of {ranks}"
        return ""

    def change_roles(self, master: str) -> None:
        if master == HAPROXY1.name:
            self.trigger.unlink()
        else:
            self.trigger.touch()
        assert settled(lambda: self.rank(master) >= Rank.ACTIVE, True), self.account(f"{master} did not become master")

    def account(self, failure: str) -> str:
        logs = "\n".join(f"{name}:\n{node.log.read_text()}" for name, node in self.nodes.items())
        return f"{failure}\n{logs}"


def stop(node: FloatipDaemon) -> None:
    """Not killed: who dies three times in a minute may not be master (design, rule 4)."""
    if node.running:
        node.stop()
        node.wait()


def answers(node: FloatipDaemon) -> bool:
    try:
        return bool(node.status())
    except ControlError:
        return False


def marks_of(marks: Marks) -> tuple[Any, ...]:
    return marks.origin, (65001,) * marks.path_length, marks.communities


def marks_as_heard(attributes: Attributes) -> tuple[Any, ...]:
    return attributes.origin, attributes.as_path, attributes.communities


@pytest.fixture(scope="module")
def scene(network: Network, stage: ExitStack) -> Scene:
    scene = Scene(network, stage, Rules(multipath=True))
    # Or a session that comes up only now would be taken for one that came up again.
    assert settled(lambda: min(scene.times_established().values()) > 0, True)
    return scene


@pytest.mark.parametrize("implementation", SPEAKERS)
def test_both_nodes_have_a_session(scene: Scene, table: Table, implementation: str) -> None:
    speaker = scene.speakers[implementation]
    with table.trial(implementation, SESSION if speaker.address.version == 6 else SESSION4):
        assert settled(lambda: all(map(speaker.session_up, NODES)), True)
        established = dict.fromkeys(scene.nodes, "established")
        assert settled(lambda: scene.states(implementation), established) == established


def heard_from(speaker: OtherRouteServer, prefix: Prefix) -> dict[str, str]:
    return {heard.node: str(heard.attributes.next_hop) for heard in speaker.routes(prefix)}


EVERY_NODE = {node.name: str(node.ipv6) for node in NODES}


@pytest.mark.parametrize("implementation", able(IPV4))
def test_an_ipv4_address_arrives_with_the_ipv6_next_hop_of_its_node(
    scene: Scene, table: Table, implementation: str
) -> None:
    with table.trial(implementation, IPV4):
        speaker = scene.speakers[implementation]
        assert settled(lambda: heard_from(speaker, FLOATING.network), EVERY_NODE) == EVERY_NODE


@pytest.mark.parametrize("implementation", SPEAKERS)
def test_ipv6_prefixes_arrive_as_64_and_56(scene: Scene, table: Table, implementation: str) -> None:
    with table.trial(implementation, IPV6):
        speaker = scene.speakers[implementation]
        for address in IPV6_ADDRESSES:
            assert settled(partial(heard_from, speaker, address.network), EVERY_NODE) == EVERY_NODE


@pytest.mark.parametrize("implementation", able(KERNEL))
def test_the_kernel_of_the_route_server_sends_the_traffic_to_the_master(
    scene: Scene, table: Table, implementation: str
) -> None:
    with table.trial(implementation, KERNEL):
        speaker = scene.speakers[implementation]
        prefixes: list[Prefix] = [FLOATING.network, *(address.network for address in IPV6_ADDRESSES)]
        for prefix in prefixes:
            wanted: set[Address] = {HAPROXY1.ipv6}
            assert settled(partial(speaker.kernel_next_hops, prefix), wanted) == wanted


@pytest.mark.parametrize("implementation", SPEAKERS)
def test_a_role_change_moves_the_route_and_no_session_flaps(scene: Scene, table: Table, implementation: str) -> None:
    with table.trial(implementation, ROLE):
        before = scene.times_established()
        for master in (HAPROXY2.name, HAPROXY1.name):
            scene.change_roles(master)
            assert settled(lambda: scene.disagreement(implementation), "") == ""
        assert scene.times_established() == before


@pytest.mark.parametrize("implementation", SPEAKERS)
def test_a_peer_that_was_killed_has_the_routes_again_and_the_others_notice_nothing(
    scene: Scene, table: Table, implementation: str
) -> None:
    with table.trial(implementation, RESTART) as note:
        before = scene.times_established()
        began = time.monotonic()
        scene.speakers[implementation].restart()
        assert settled(lambda: scene.disagreement(implementation), "") == ""
        note(f"{time.monotonic() - began:.1f} s")
        after = {cell: n + (cell[1] == implementation) for cell, n in before.items()}
        assert scene.times_established() == after


CLOSES_WITH = {
    "BIRD": "Cease: Administrative Reset",
    "FRR": "Cease: Administrative Reset",
    "GoBGP": "Cease: Administrative Shutdown",
    "ExaBGP": "Cease: Administrative Reset",
    "OpenBGPD": "Cease: Administrative Reset",
}


@pytest.mark.parametrize("implementation", SPEAKERS)
def test_a_notification_of_the_peer_is_named_and_the_session_comes_back(
    scene: Scene, table: Table, implementation: str
) -> None:
    with table.trial(implementation, NOTIFICATION) as note:
        node, speaker = scene.nodes[HAPROXY1.name], scene.speakers[implementation]
        count = scene.session(HAPROXY1.name, implementation)["times_established"]
        began = time.monotonic()
        speaker.notify_close(HAPROXY1)
        wanted = count + 1
        assert settled(lambda: scene.session(HAPROXY1.name, implementation)["times_established"], wanted) == wanted
        note(f"{time.monotonic() - began:.1f} s")
        down = f"session {speaker.address} down: the peer sent {CLOSES_WITH[implementation]}"
        assert settled(lambda: down in node.log.read_text(), True)
        assert settled(lambda: scene.disagreement(implementation), "") == ""


def test_what_is_withdrawn_is_gone_and_comes_again_and_a_stop_withdraws_and_disturbs_nobody(
    network: Network, stage: ExitStack, table: Table
) -> None:
    """With all at once: OpenBGPD refuses a node for minutes that ends its sessions again and again."""
    prefixes: list[Prefix] = [FLOATING.network, *(address.network for address in IPV6_ADDRESSES)]
    with ExitStack() as trials:
        for name in SPEAKERS:
            trials.enter_context(table.trial(name, WITHDRAWN))
        scene = Scene(network, stage, Rules(), last_resort=False)

        def announcers() -> dict[str, list[set[str]]]:
            return {
                name: [{heard.node for heard in speaker.routes(prefix)} for prefix in prefixes]
                for name, speaker in scene.speakers.items()
            }

        both, other = (
            {name: [set(nodes)] * len(prefixes) for name in SPEAKERS} for nodes in (scene.nodes, [HAPROXY2.name])
        )
        assert settled(announcers, both) == both
        established = scene.times_established()
        scene.trigger.touch()
        assert settled(announcers, other) == other
        scene.trigger.unlink()
        assert settled(announcers, both) == both
        assert scene.times_established() == established
        stop(scene.nodes.pop(HAPROXY1.name))
        assert settled(announcers, other) == other
        assert scene.times_established().items() <= established.items()


# A short and a long hold time


@pytest.fixture(scope="module")
def hasty_scene(network: Network, stage: ExitStack) -> Scene:
    return Scene(network, stage, Rules(), hold_time=3)


@pytest.mark.parametrize("implementation", SPEAKERS)
def test_a_hold_time_of_three_seconds_is_kept_by_both_sides(
    hasty_scene: Scene, table: Table, implementation: str
) -> None:
    scene, speaker = hasty_scene, hasty_scene.speakers[implementation]
    with table.trial(implementation, HOLD) as note:

        def kept() -> bool:
            """For more than twice the hold time. Not from the first on: a machine that pauses may end that one."""
            session = scene.session(HAPROXY1.name, implementation)
            return (session["state"], session["hold_time"]) == ("established", 3) and session["for"] > 7

        assert settled(kept, True)
        network, began = scene.network, time.monotonic()
        network.faults.cut_pair(HAPROXY1.name, speaker.host)
        assert settled(lambda: speaker.session_up(HAPROXY1), False) is False
        took = time.monotonic() - began
        network.faults.heal_pair(HAPROXY1.name, speaker.host)
        note(f"(cut: {took:.1f} s)")
        # Counted from a KEEPALIVE of up to a second before the cut. The peer's own hold time is 30 s.
        assert 0.5 < took < 15
        assert settled(lambda: speaker.session_up(HAPROXY1), True)


@pytest.fixture(scope="module")
def patient_scene(network: Network, stage: ExitStack) -> Scene:
    # Longer than the peers are stopped on any machine.
    return Scene(network, stage, Rules(hold_time=180), hold_time=180)


@pytest.mark.parametrize("stopped", [("BIRD", "GoBGP"), ("FRR", "ExaBGP", "OpenBGPD")], ids="+".join)
def test_peers_that_stop_reading_disturb_nobody_and_are_told_the_latest_when_they_read_again(
    patient_scene: Scene, table: Table, stopped: tuple[str, ...]
) -> None:
    scene = patient_scene
    with ExitStack() as trials, ExitStack() as pauses:
        notes = [trials.enter_context(table.trial(each, STOPS_READING)) for each in stopped]
        everybody = dict.fromkeys(SPEAKERS, "")
        assert settled(lambda: {each: scene.disagreement(each) for each in SPEAKERS}, everybody) == everybody
        count, memory = scene.times_established(), resident_memory(scene.nodes[HAPROXY1.name].pid)
        for each in stopped:
            scene.speakers[each].pause()
            pauses.callback(scene.speakers[each].resume)
        paused_at = time.monotonic()
        others = {each: "" for each in SPEAKERS if each not in stopped}
        for master in itertools.islice(itertools.cycle((HAPROXY2.name, HAPROXY1.name)), 3):
            scene.change_roles(master)
            assert settled(lambda: {each: scene.disagreement(each) for each in others}, others) == others
        time.sleep(max(0, paused_at + 8 - time.monotonic()))
        grown = resident_memory(scene.nodes[HAPROXY1.name].pid) - memory
        pauses.close()
        assert settled(lambda: {each: scene.disagreement(each) for each in SPEAKERS}, everybody) == everybody
        assert scene.times_established() == count
        assert grown < 1 << 20
        scene.change_roles(HAPROXY1.name)
        notes[0](f"(RSS {grown / 1024:+.0f} KB)")


def resident_memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# The ranks


@dataclass(frozen=True, slots=True)
class Bid:
    rank: Rank
    since: float = 1.8e9
    """When the node became master, in seconds since the epoch."""


BIDS = [
    Bid(Rank.LAST_RESORT),
    Bid(Rank.STANDBY),
    Bid(Rank.ACTIVE),
    Bid(Rank.TAKEOVER),
    Bid(Rank.TAKEOVER, 1.8e9 + 4),
    Bid(Rank.TAKEOVER_AGAIN),
    Bid(Rank.TAKEOVER_AGAIN, 1.8e9 + 4),
]
"""From worst to best."""
TIE = IPv4Network("198.18.1.0/32")
"""Announced alike by both nodes: what multipath shares, and a test that cannot see two winners would not notice."""


@dataclass(frozen=True, slots=True)
class Duel:
    """What each node bids for a prefix."""

    prefix: IPv4Network
    bids: Mapping[str, Bid]
    priorities: Mapping[str, int]

    def route(self, node: LabHost) -> Route:
        assert node.ipv4
        bid, priority = self.bids[node.name], self.priorities[node.name]
        return Route(bid.rank, med(priority, node.ipv4.ip, bid.rank, bid.since))

    def attributes(self, node: LabHost, next_hop: Address, marks: Mapping[Rank, Marks]) -> Attributes:
        route = self.route(node)
        mark = marks[route.rank]
        return Attributes(next_hop, mark.origin, (65001,) * mark.path_length, route.med, mark.communities)

    def won_by(self, chosen: Winners, ladder: Ladder) -> bool:
        """Whether the right one was chosen, and nobody beside it."""
        heard = [
            node
            for node, bid in self.bids.items()
            if ladder.marks[bid.rank].path_length == 1 or not ladder.rules.only_bare_path
        ]
        best = max(heard, key=self._order, default=None)
        return chosen.get(str(self.prefix), set()) == ({best} if best else set())

    def _order(self, name: str) -> tuple[int, int]:
        """Of two that took over in one moment the greater address wins, else the higher priority."""
        (host,) = (node for node in NODES if node.name == name)
        assert host.ipv4
        bid = self.bids[name]
        return BIDS.index(bid), int(host.ipv4.ip) if bid.rank >= Rank.TAKEOVER else self.priorities[name]


def all_duels() -> Iterator[Duel]:
    names = [node.name for node in NODES]
    pairs = itertools.product(BIDS, BIDS, ((150, 100), (100, 150)))
    for number, (*bids, priorities) in enumerate(pairs):
        prefix = IPv4Network(f"198.18.0.{number}/32")
        yield Duel(prefix, dict(zip(names, bids, strict=True)), dict(zip(names, priorities, strict=True)))


DUELS = list(all_duels())


class Announcer:
    """The core's session on a plain socket."""

    def __init__(self, network: Network, node: LabHost, peer: Address, marks: Mapping[Rank, Marks]) -> None:
        assert node.ipv4
        self._network = network
        self._node = node
        self._family = socket.AF_INET6 if peer.version == 6 else socket.AF_INET
        self._local: Address = node.ipv6 if peer.version == 6 else node.ipv4.ip
        self._socket = socket.socket(self._family)
        speaker = SpeakerSettings(65001, 65000, node.ipv4.ip, (peer,), marks, hold_time=3600)
        self.session = Session(peer, speaker, 0, time.monotonic())

    def announce(self, routes: Mapping[Prefix, Route]) -> None:
        self._perform(self.session.announce(routes, time.monotonic()))

    def run_once(self) -> None:
        self._perform(self.session.tick(time.monotonic()))
        if self.session.is_connected and select.select([self._socket], [], [], 0)[0]:
            try:
                data = self._socket.recv(65536)
            except ConnectionError:
                data = b""
            now = time.monotonic()
            self._perform(self.session.received(data, now) if data else self.session.disconnected("closed", now))

    def _perform(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Dial():
                    self._dial(effect)
                case SendBytes():
                    self._socket.sendall(effect.data)
                    self._perform(self.session.writable())
                case Close():
                    self._socket.close()

    def _dial(self, dial: Dial) -> None:
        self._socket.close()
        with self._network.inside(self._node.name):
            self._socket = socket.socket(self._family)
        self._socket.settimeout(dial.timeout)
        try:
            self._socket.connect((str(dial.peer), 179))
        except OSError as error:
            self._perform(self.session.disconnected(str(error), time.monotonic()))
        else:
            self._perform(self.session.connected(self._local, time.monotonic()))

    def close(self) -> None:
        self._socket.close()


def run(announcers: Sequence[Announcer], true: Callable[[], bool], timeout: float = TIMEOUT) -> bool:
    deadline = time.monotonic() + timeout
    while not true():
        if time.monotonic() > deadline:
            return False
        for announcer in announcers:
            announcer.run_once()
        time.sleep(0.005)
    return True


class LadderScene:
    def __init__(self, network: Network, stage: ExitStack, ladder: Ladder) -> None:
        self.ladder = ladder
        self.speakers = start_speakers(network, stage, ladder.rules)
        self._announcers = []
        for node in NODES:
            routes: dict[Prefix, Route] = {duel.prefix: duel.route(node) for duel in DUELS}
            routes[TIE] = Route(Rank.ACTIVE, 7)
            for speaker in self.speakers.values():
                self._announcers.append(Announcer(network, node, speaker.address, ladder.marks))
                self._announcers[-1].announce(routes)
                stage.callback(self._announcers[-1].close)
        assert run(self._announcers, lambda: all(each.session.announced for each in self._announcers))


@pytest.fixture(scope="module")
def ladder_scene(network: Network, stage: ExitStack, request: pytest.FixtureRequest) -> LadderScene:
    return LadderScene(network, stage, request.param)


@pytest.mark.parametrize("ladder_scene", LADDERS, indirect=True, ids=str)
@pytest.mark.parametrize("implementation", able(str(LADDERS[0])))
def test_the_higher_rank_wins_and_between_equal_ranks_the_lower_med(
    ladder_scene: LadderScene, table: Table, implementation: str
) -> None:
    ladder, speaker = ladder_scene.ladder, ladder_scene.speakers[implementation]
    with table.trial(implementation, str(ladder)):

        def mistakes() -> str:
            chosen = speaker.winners()
            wrong = (duel for duel in DUELS if not duel.won_by(chosen, ladder))
            return "\n".join(f"{duel}: {chosen.get(str(duel.prefix))}" for duel in wrong)

        assert settled(mistakes, "") == ""
        wanted = 2 if ladder.rules.multipath else 1
        assert settled(lambda: len(speaker.best(TIE)), wanted) == wanted


@pytest.mark.parametrize("ladder_scene", PLAIN_LADDERS, indirect=True, ids=str)
@pytest.mark.parametrize("implementation", SPEAKERS)
def test_the_marks_of_every_rank_arrive_as_they_were_sent(
    ladder_scene: LadderScene, table: Table, implementation: str
) -> None:
    with table.trial(implementation, MARKS):
        speaker, marks = ladder_scene.speakers[implementation], ladder_scene.ladder.marks
        for duel in DUELS:
            if len(set(duel.bids.values())) == 1:
                wanted = {node.name: duel.attributes(node, speaker.far_end(node), marks) for node in NODES}
                assert settled(partial(attributes_at, speaker, duel.prefix), wanted) == wanted


def attributes_at(speaker: OtherRouteServer, prefix: Prefix) -> dict[str, Attributes]:
    return {heard.node: heard.attributes for heard in speaker.routes(prefix)}


# What guards the TCP connection


@dataclass(frozen=True, slots=True)
class Guard:
    """How the peers guard their sessions, and the options of the node that passes and of the one that does not."""

    case: str
    rules: Rules
    good: str
    bad: str


SECONDS_FOR_THE_BAD = 4.0
"""In which the node with the wrong options could have a session and must not."""
GUARDS = [
    Guard(MD5, Rules(password="lab-secret"), 'md5 = "lab-secret"', 'md5 = "lab-mistake"'),
    # The router between the hosts takes one off each TTL.
    Guard(GTSM, Rules(max_hops=2), "min_ttl = 254", "multihop_ttl = 16"),
    Guard(OUR_GTSM, Rules(), "", "min_ttl = 254"),
]


class GuardedScene(Scene):
    def __init__(self, network: Network, stage: ExitStack, guard: Guard) -> None:
        super().__init__(network, stage, guard.rules, options=(guard.good, guard.bad))
        self.guard = guard
        for name in able(guard.case):
            assert settled(partial(self.speakers[name].session_up, HAPROXY1), True), self.account(f"no session: {name}")
        time.sleep(SECONDS_FOR_THE_BAD)


@pytest.fixture(scope="module")
def guarded() -> list[GuardedScene]:
    """The one that plays now: pytest would make a new one for each implementation."""
    return []


@pytest.fixture
def guarded_scene(
    network: Network, stage: ExitStack, guarded: list[GuardedScene], request: pytest.FixtureRequest
) -> GuardedScene:
    if not guarded or guarded[0].guard is not request.param:
        guarded[:] = [GuardedScene(network, stage, request.param)]
    return guarded[0]


@pytest.mark.parametrize(
    ("guarded_scene", "case", "implementation"),
    [(guard, guard.case, name) for guard in GUARDS for name in able(guard.case)],
    indirect=["guarded_scene"],
    ids=[f"{guard.case}-{name}" for guard in GUARDS for name in able(guard.case)],
)
def test_a_guarded_session_comes_up_with_the_right_options_and_not_with_others(
    guarded_scene: GuardedScene, table: Table, case: str, implementation: str
) -> None:
    with table.trial(implementation, case):
        speaker = guarded_scene.speakers[implementation]
        assert speaker.session_up(HAPROXY1)
        assert guarded_scene.states(implementation)[HAPROXY1.name] == "established"
        assert not speaker.session_up(HAPROXY2)
        assert guarded_scene.session(HAPROXY2.name, implementation)["times_established"] == 0


def test_every_case_was_tried_or_says_why_not(table: Table) -> None:
    assert not table.holes
