"""The status tells the truth: every situation of a node, and whether "no problems" is said.

Monitoring looks at the exit status alone. So it may be 0 only where this node is a master that serves, or a standby
that could; and whatever is said names the next step.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Any

import pytest

from floatip.carrier import THIS_NODE, carriers
from floatip.core.addresses import Placed
from floatip.core.diagnosis import diagnose
from floatip.core.election.elector import Role
from floatip.core.events import Disconnected, Held, KeepalivedFound, KeepalivedSaid, LinkChanged, Started
from floatip.core.explain import explain
from floatip.core.foresight import names
from floatip.core.health import Health
from floatip.core.problems import Code, Problem, Severity
from floatip.core.settings import Election, Keepalived, Static
from floatip.core.snapshot import describe
from tests.core.host import CONFIG, PEER, RS, RS2, SICK, US, VRRP, WEB, WELL, A, Host, advert

SESSIONS = ("no BGP", "up", "one of two", "down", "cut off")
PEERS = ("never heard", "a better master", "a worse master", "fell silent", "handed over")
KEEPALIVED = Keepalived("VI_1", "eth0", 51, 50, US, (PEER,))
ELECTIONS: dict[str, Election] = {
    "vrrp": VRRP,
    "keepalived": KEEPALIVED,
    "primary": Static("primary"),
    "secondary": Static("secondary"),
}


@dataclass(frozen=True)
class Situation:
    election: str
    placement: Any
    health: str
    link: bool
    held: bool
    sessions: str
    peer: str
    word: str = ""
    """What keepalived says; "gone": it does not run."""
    has_address: bool = False
    """Whether keepalived has put the address on its interface."""


def situations() -> Iterator[Situation]:
    rest: Any
    healths, both = ("up", "down", "unknown"), (True, False)
    for rest in product(("all", "master"), healths, both, both, SESSIONS, PEERS):
        yield Situation("vrrp", *rest)
    words = ("gone", "", "MASTER", "BACKUP", "FAULT")
    for rest in product(("all",), ("up", "down"), both, both, SESSIONS[1:4], PEERS[:4], words, both):
        yield Situation("keepalived", *rest)
    for rest in product(
        ("primary", "secondary"), ("all", "master", "found"), healths, (True,), both, SESSIONS, PEERS[:1]
    ):
        yield Situation(*rest)


class World(Host):
    """One node in that situation, after some seconds of it."""

    def __init__(self, situation: Situation) -> None:
        assert CONFIG.speaker is not None
        speaker = replace(CONFIG.speaker, peers=(RS, RS2)) if situation.sessions != "no BGP" else None
        is_found = situation.placement == "found"
        addresses = () if is_found and not situation.held else (A,)
        instance = replace(
            WEB, addresses=addresses, election=ELECTIONS[situation.election], placement=situation.placement
        )
        super().__init__(replace(CONFIG, instances=(instance,), speaker=speaker), start=False)
        self.situation = situation
        self.kernel_answers = False
        self.dialling_works = situation.sessions != "down"
        self._report()
        if situation.election == "keepalived":
            self.tell(KeepalivedFound(situation.word != "gone", "process 7"))
        self.tell(LinkChanged("eth0", True, ""), Started())
        if situation.health != "unknown":
            self.tell(WELL if situation.health == "up" else SICK)
        if situation.word not in ("", "gone"):
            self.tell(KeepalivedSaid("INSTANCE", "VI_1", situation.word))  # type: ignore[arg-type]
        self._live()

    def _report(self) -> None:
        ours = {Placed("lo", A)} if self.situation.held else set()
        keepalived = {Placed("eth0", A)} if self.situation.has_address else set()
        self.tell(Held(frozenset(ours | keepalived)))

    def _live(self) -> None:
        peer = self.situation.peer
        self.adverts_from_peer = {
            "a better master": 100,
            "a worse master": 10,
            "fell silent": 100,
            "handed over": 100,
        }.get(peer)
        self.run(10)
        if peer in ("fell silent", "handed over"):
            self.adverts_from_peer = None
            if peer == "handed over":
                self.tell(advert(0))
            self.run(20)
        if not self.situation.link:
            self.tell(LinkChanged("eth0", False, "eth0 is down"))
            self.run(self.now + 1)
        if self.situation.sessions == "one of two":
            self.dialling_works = False
            self.tell(Disconnected(RS2, "reset"))
        if self.situation.sessions == "cut off":
            self.acknowledging = False
            self.run(self.now + 6)

    @property
    def found(self) -> list[Problem]:
        return diagnose(self.node, self.now)

    @property
    def is_well(self) -> bool:
        """A master that serves, or a standby that could; by what is there, not by what the node says of itself."""
        instance, situation = self.node.instances["VI_1"], self.situation
        is_reached = situation.sessions in ("no BGP", "up", "one of two")
        if situation.health != "up" or instance.health is not Health.UP or not is_reached:
            return False
        if instance.role is Role.MASTER:
            is_told = not self.node.sessions or any(each.announced for each in self.node.sessions.values())
            return situation.held and is_told
        return instance.role is Role.BACKUP and situation.held is (situation.placement != "master")


@cache
def worlds() -> dict[Situation, World]:
    return {situation: World(situation) for situation in situations()}


def codes(world: World, severity: Severity | None = None) -> set[Code]:
    return {problem.code for problem in world.found if severity in (None, problem.severity)}


def test_no_problems_is_said_only_of_a_master_that_serves_or_a_standby_that_could() -> None:
    wrong = [each for each, world in worlds().items() if not codes(world, Severity.PROBLEM) and not world.is_well]
    assert not wrong, wrong[:5]


def test_a_fault_is_always_a_problem() -> None:
    faulty = {each: world for each, world in worlds().items() if world.role is Role.FAULT}
    assert len(faulty) > 100
    assert not [each for each, world in faulty.items() if not codes(world, Severity.PROBLEM)]


def test_every_problem_names_the_next_step() -> None:
    problems = {(one.code, one.what): one for world in worlds().values() for one in world.found}
    assert not [one for one in problems.values() if not one.hint]


def test_nothing_is_cried_about_a_node_that_is_well_among_nodes_that_are() -> None:
    """Where keepalived elects, it says BACKUP and hears a master."""
    calm = [(each, world) for each, world in worlds().items() if world.is_well and each.link and not each.has_address]
    calm = [(each, world) for each, world in calm if each.peer != "a worse master"]
    by_keepalived = [(each, world) for each, world in calm if (each.word, each.peer) == ("BACKUP", "a better master")]
    calm = [(each, world) for each, world in calm if each.election != "keepalived"] + by_keepalived
    assert by_keepalived
    assert not [each for each, world in calm if codes(world, Severity.PROBLEM)]


def test_a_virtual_router_without_a_master_says_that_nobody_may_serve() -> None:
    host = Host(replace(CONFIG, speaker=None), start=False)
    host.tell(LinkChanged("eth0", True, ""), Started(), WELL)
    (listening,) = [one for one in diagnose(host.node, host.now) if one.code is Code.NOBODY_SERVES]
    assert listening.what == "VI_1: no better master is heard; this node becomes master in 3.8 s unless it hears one"
    assert listening.severity is Severity.WARNING
    host.tell(advert(100))
    assert Code.NOBODY_SERVES not in {one.code for one in diagnose(host.node, host.now)}


def test_explain_and_status_name_the_same_carrier() -> None:
    """The status does not know whether a lower master, or one that a node in FAULT hears, has the traffic."""
    for situation, world in worlds().items():
        known = names(world.node, "haproxy1")
        told = explain(world.node, world.node.instances["VI_1"], known, world.now)
        shown = carriers(describe(world.node, world.now))["VI_1"].node
        assert (told.carrier == known.own) is (shown == THIS_NODE), situation
        assert shown in ("", THIS_NODE, told.carrier), situation


def masters_by(election: str) -> list[tuple[Situation, World]]:
    return [(e, world) for e, world in worlds().items() if world.role is Role.MASTER and e.election == election]


def test_a_master_says_what_it_hears_of_the_other_node() -> None:
    expected = {
        "never heard": (Code.PEER_UNHEARD, Severity.NOTE),
        "fell silent": (Code.PEER_UNHEARD, Severity.WARNING),
        "a worse master": (Code.SECOND_MASTER, Severity.PROBLEM),
        "handed over": None,
    }
    masters = [
        (each, world) for each, world in worlds().items() if world.role is Role.MASTER and each.election == "vrrp"
    ]
    assert {each.peer for each, _ in masters} == expected.keys()
    for each, world in masters:
        said = [(one.code, one.severity) for one in world.found if one.code in (Code.PEER_UNHEARD, Code.SECOND_MASTER)]
        wanted = expected[each.peer]
        assert said == ([wanted] if wanted else []), each


def test_a_master_by_keepalived_says_that_no_other_node_is_heard() -> None:
    masters = masters_by("keepalived")
    assert {each.peer for each, _ in masters} >= {"never heard", "fell silent"}
    for each, world in masters:
        is_doubted = Code.KEEPALIVED_DOUBTED in codes(world)
        assert (Code.PEER_UNHEARD in codes(world)) is (not is_doubted), each


@pytest.mark.parametrize("role", [Role.MASTER, Role.BACKUP, Role.FAULT, Role.INIT])
def test_the_situations_reach_every_role(role: Role) -> None:
    assert any(world.role is role for world in worlds().values())
