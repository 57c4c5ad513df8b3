"""What nodes tell each other of their checks and problems: when it is said, when it is shown, when it is forgotten."""

import math
from dataclasses import replace
from ipaddress import IPv4Interface
from itertools import pairwise
from random import Random

import pytest

from floatip.core import settings
from floatip.core.events import (
    CheckDone,
    DatagramReceived,
    Effect,
    Event,
    Held,
    Hold,
    LinkChanged,
    Reloaded,
    SendDatagram,
    Started,
    Ticked,
)
from floatip.core.link import wire
from floatip.core.link.report import MOST_CHECKS, MOST_PROBLEMS, REPORT_INTERVAL, Content, Hearing
from floatip.core.link.wire import Datagram, HelloFlag, Report
from floatip.core.node import Node
from floatip.core.problems import Severity
from floatip.core.report import LOOK_INTERVAL, SLICE
from floatip.core.snapshot import describe
from floatip.core.state import CheckBrief, NodeView, ProblemBrief
from tests.core.test_link import ONE, TWO, Pair
from tests.core.test_link_wire import HELLO

KEY = b"k" * 32
UP, DOWN = CheckBrief("web", "up", "connected"), CheckBrief("web", "down", "connection refused")
PROBLEM = ProblemBrief("unhealthy", "problem", "web", "web is not healthy", "repair the service")
WELL, SICK = Content((UP,)), Content((DOWN,), 0, (PROBLEM,))
LARGE = Content(
    tuple(CheckBrief(f"{n:064}", "down", "x" * 160) for n in range(MOST_CHECKS)),
    7,
    tuple(ProblemBrief("c" * 32, "warning", f"{n:064}", "x" * 200, "x" * 200) for n in range(MOST_PROBLEMS)),
    9,
)


# The link


def heard(pair: Pair) -> Content | None:
    """By the second node, of the first."""
    return pair.links["haproxy2"].peers["haproxy1"].report.content


def alive() -> Pair:
    pair = Pair()
    pair.run(1)
    assert heard(pair) is None
    return pair


def test_a_report_is_heard_whole_and_replaced_whole() -> None:
    pair = alive()
    for content in (WELL, SICK, LARGE, Content(), WELL):
        pair.links["haproxy1"].report.say(content, pair.now)
        before = heard(pair)
        while heard(pair) != content:
            assert heard(pair) == before
            pair.run(0.01)
    assert pair.links["haproxy1"].peers["haproxy2"].report.content is None, "it has said nothing"


def test_a_part_that_was_lost_comes_with_the_repetition() -> None:
    pair = alive()
    pair.loss = 0.3
    for _ in range(30):
        pair.links["haproxy1"].report.say(LARGE, pair.now)
        pair.run(5)
        if heard(pair) == LARGE:
            return
    pytest.fail("it never came")


def test_a_report_is_stale_when_it_is_not_repeated() -> None:
    pair = alive()
    one = pair.links["haproxy1"]
    for _ in range(5):
        one.report.say(SICK, pair.now)
        pair.run(REPORT_INTERVAL)
        assert heard(pair) == SICK
    pair.run(12)
    assert heard(pair) is None
    one.report.say(SICK, pair.now)
    pair.run(0.2)
    assert heard(pair) == SICK


def test_a_report_is_forgotten_when_its_node_restarts() -> None:
    pair = alive()
    pair.links["haproxy1"].report.say(SICK, pair.now)
    pair.run(1)
    assert heard(pair) == SICK
    pair.begin(ONE)
    pair.run(0.3)
    assert pair.links["haproxy2"].peers["haproxy1"].alive
    assert heard(pair) is None


def test_a_report_of_before_a_silence_is_not_believed_after_it() -> None:
    pair = alive()
    pair.links["haproxy1"].report.say(SICK, pair.now)
    pair.run(1)
    pair.is_cut = True
    pair.run(1)
    pair.is_cut = False
    pair.run(0.3)
    assert pair.links["haproxy2"].peers["haproxy1"].alive
    assert heard(pair) is None


def test_a_report_that_was_overtaken_is_not_shown() -> None:
    pair = alive()
    two = pair.links["haproxy2"]
    peer, now = two.peers["haproxy1"], pair.now

    def hear(report: Report, *checks: CheckBrief, sequence: int) -> None:
        one = pair.links["haproxy1"]
        said = Datagram(
            one.identity, one.boot, peer.last + sequence, 100, HelloFlag(0), two.boot, receiver=two.identity
        )
        data = wire.pack(replace(said, report=report, checks=checks), KEY)
        two.received(ONE.address, data, now, now)

    hear(Report(8, 0, 1, 1, 0), DOWN, sequence=2)
    hear(Report(7, 0, 1, 1, 0), UP, sequence=-1)
    assert heard(pair) == Content((DOWN,))
    hear(Report(9, 0, wire.MOST_PARTS + 1, 1, 0), UP, sequence=1)
    assert heard(pair) == Content((DOWN,))
    assert peer.alive, "a report that is too large makes nobody unreadable"
    hear(Report(9, 0, 1, 0, 0), *[CheckBrief("", "up", "")] * 100, sequence=1)
    assert heard(pair) == Content((CheckBrief("", "up", ""),) * MOST_CHECKS), (
        "what it says in all is less than what it lists"
    )


def test_whatever_is_reported_no_more_is_kept_than_a_report_may_have() -> None:
    draw, hearing, shown = Random(1), Hearing(), 0
    for turn in range(20_000):
        parts = draw.randint(1, 40)
        report = Report(turn // 50, draw.randrange(parts), parts, draw.randrange(300), draw.randrange(300))
        checks, problems = (UP,) * draw.randrange(54), (PROBLEM,) * draw.randrange(20)
        hearing.hear(replace(HELLO, report=report, checks=checks, problems=problems), float(turn))
        if hearing.content:
            shown += 1
            assert len(hearing.content.checks) <= MOST_CHECKS
            assert len(hearing.content.problems) <= MOST_PROBLEMS
            assert min(hearing.content.more_checks, hearing.content.more_problems) >= 0
    assert shown > 1000


def test_no_report_rides_with_a_change_of_state_or_makes_a_datagram_too_large() -> None:
    pair = alive()
    one = pair.links["haproxy1"]
    pair.tell(one, wire.Role.BACKUP)
    one.report.say(LARGE, pair.now)
    parts, plain = 0, 0
    while one.report:
        pair.tell(one, wire.Role.MASTER if parts % 2 else wire.Role.BACKUP)
        pair.now += 0.01
        effects, _ = one.tick(pair.now)
        said = datagrams(effects)
        assert all(not (each.report and (each.node or each.instances or each.heard)) for each in said)
        assert not any(each.report for each in said[:-1]), "the state goes first"
        parts += sum(each.report is not None for each in said)
        plain += bool(said)
    assert 0 < parts == plain <= wire.MOST_PARTS


def test_a_report_costs_no_more_datagrams_where_there_is_nothing_else_to_say() -> None:
    pair = alive()
    one = pair.links["haproxy1"]
    counts = []
    for content in (None, WELL, LARGE):
        pair.run(0.05)
        if content:
            one.report.say(content, pair.now)
        sent = 0
        for _ in range(80):
            pair.now += 0.01
            effects, _ = one.tick(pair.now)
            sent += sum("heard" not in each for each in kinds(effects))
        counts.append(sent)
    assert max(counts) - min(counts) <= 1


def datagrams(effects: list[Effect]) -> list[Datagram]:
    return [wire.parse(effect.data, [KEY]) for effect in effects if isinstance(effect, SendDatagram)]


def kinds(effects: list[Effect]) -> list[set[str]]:
    return [{name for name in ("heard", "report") if getattr(each, name)} for each in datagrams(effects)]


# The node


class Nodes:
    """Two of them, which hear each other without delay."""

    def __init__(self, instances: int = 1, checks: tuple[str, ...] = ("web",)) -> None:
        self.now = 0.0
        self.nodes: dict[str, Node] = {}
        self.reports: list[tuple[float, Report]] = []
        """What haproxy1 said to haproxy2, and when."""
        made = tuple(
            settings.Instance(
                f"VI_{n}",
                (IPv4Interface(f"192.0.2.{n}/32"),),
                settings.Nodes(),
                checks,
                placement="master",
                interface="eth0",
            )
            for n in range(1, instances + 1)
        )
        for boot, one in enumerate((ONE, TWO), 1):
            config = settings.Settings(
                tuple(settings.Check(name, pushed=True) for name in checks),
                made,
                link=settings.Link((ONE, TWO), one.name, (KEY,), bytes(8)),
                boot=boot,
            )
            self.nodes[one.name] = Node(config, 0.0)
        for name in self.nodes:
            self.tell(name, LinkChanged("eth0", True, ""), *(CheckDone(c, 0, True, "connected") for c in checks))
        for name in self.nodes:
            self.tell(name, Started())

    def tell(self, name: str, *events: Event) -> None:
        for event in events:
            for effect in self.nodes[name].handle(event, self.now):
                if isinstance(effect, Hold):
                    self.tell(name, Held(effect.addresses))
                elif isinstance(effect, SendDatagram):
                    self._deliver(name, effect)

    def _deliver(self, name: str, effect: SendDatagram) -> None:
        source, other = (ONE, TWO.name) if name == ONE.name else (TWO, ONE.name)
        if source is ONE and (report := wire.parse(effect.data, [KEY]).report):
            self.reports.append((self.now, report))
        self.tell(other, DatagramReceived(source.address, effect.data, self.now))

    def run(self, seconds: float, every: float = math.inf, check: str = "") -> None:
        """Meanwhile `check` of haproxy1 passes again and again, with other words each time, and other things change."""
        until, beat = self.now + seconds, self.now
        while (deadline := min(beat, *(node.deadline for node in self.nodes.values()))) < until:
            self.now = max(self.now, deadline)
            if self.now >= beat:
                beat += every
                if check:
                    self.nodes["haproxy1"].reporter.is_marked = True
                    self.tell("haproxy1", CheckDone(check, 0, True, f"connected at {self.now:g}"))
            for name, node in self.nodes.items():
                if node.deadline <= self.now:
                    self.tell(name, Ticked())
        self.now = until

    def view(self, of: str = "haproxy1", by: str = "haproxy2") -> NodeView:
        return next(one for one in describe(self.nodes[by], self.now).nodes if one.name == of)

    def numbers(self, since: float) -> list[float]:
        """When each report began."""
        return [at for at, report in self.reports if at >= since and report.part == 0]


def test_a_node_shows_the_checks_and_problems_of_another_within_two_seconds() -> None:
    nodes = Nodes()
    nodes.run(8)
    assert nodes.view().checks == (UP,)
    assert nodes.view().problems == ()
    nodes.tell("haproxy1", CheckDone("web", 0, False, "connection refused"))
    nodes.run(2)
    view = nodes.view()
    assert view.checks == (DOWN,)
    assert "unhealthy" in [problem.code for problem in view.problems]
    assert [problem.severity for problem in view.problems] == sorted(
        (problem.severity for problem in view.problems), key=list(map(str, Severity)).index
    )
    assert view.reported is not None
    assert view.reported < REPORT_INTERVAL
    own = nodes.view(by="haproxy1")
    assert (own.checks, own.problems, own.reported) == (view.checks, view.problems, 0.0)
    nodes.tell("haproxy1", CheckDone("web", 0, True, "connected"))
    nodes.run(2)
    assert nodes.view().checks == (UP,)
    assert nodes.view().problems == ()


def test_a_check_whose_words_change_all_the_time_adds_no_report() -> None:
    nodes = Nodes()
    nodes.run(10)
    began = nodes.now
    nodes.run(60, every=0.1, check="web")
    assert 8 <= len(nodes.numbers(began)) <= 12, "one in five seconds, and a little more"
    assert nodes.view().checks[0].last_result.startswith("connected at ")


def test_a_check_that_flaps_is_told_at_most_once_a_second() -> None:
    nodes = Nodes()
    nodes.run(10)
    began = nodes.now
    for turn in range(200):
        nodes.tell("haproxy1", CheckDone("web", 0, turn % 3 > 0, "flaps"))
        nodes.run(0.17)
    at = nodes.numbers(began)
    assert all(b - a > 0.99 * LOOK_INTERVAL for a, b in pairwise(at))
    assert len(at) > 5


def test_what_a_silent_node_reported_is_not_shown() -> None:
    nodes = Nodes()
    nodes.run(8)
    assert nodes.view().reported is not None
    del nodes.nodes["haproxy1"]
    nodes.tell = lambda name, *events: None if name not in nodes.nodes else Nodes.tell(nodes, name, *events)  # type: ignore[method-assign]
    nodes.run(2)
    view = nodes.view()
    assert (view.state, view.reported, view.checks, view.problems) == ("silent", None, (), ())
    assert "node-silent" in [problem.code for problem in nodes.view(of="haproxy2").problems], "its own says so"


def test_of_many_checks_and_problems_the_worst_are_told_and_the_others_counted() -> None:
    names = tuple(f"check{n}" for n in range(100))
    nodes = Nodes(instances=40, checks=names)
    nodes.run(8)
    nodes.tell("haproxy1", CheckDone("check99", 0, False, "exit status 1"))
    nodes.run(6)
    view = nodes.view()
    assert (len(view.checks), view.more_checks) == (MOST_CHECKS, 100 - MOST_CHECKS)
    assert view.checks[0] == CheckBrief("check99", "down", "exit status 1")
    assert (len(view.problems), view.more_problems) == (MOST_PROBLEMS, 40 - MOST_PROBLEMS)


def test_a_look_is_taken_in_slices_and_outlives_a_reload() -> None:
    nodes = Nodes(instances=5 * SLICE)
    node = nodes.nodes["haproxy1"]
    nodes.run(8)
    node.reporter.is_marked = True
    looked: list[int] = []
    while not looked or looked[-1]:
        nodes.run(0.01)
        left = node.reporter.left
        if left is not None and (not looked or looked[-1] != len(left)):
            looked.append(len(left))
    assert looked == [5 * SLICE, 4 * SLICE, 3 * SLICE, 2 * SLICE, SLICE, 0]
    node.reporter.is_marked = True
    while not node.reporter.left:
        nodes.run(0.01)
    nodes.tell("haproxy1", settings_of_fewer(node))
    nodes.run(6)
    assert nodes.view().reported is not None


def settings_of_fewer(node: Node) -> Event:
    return Reloaded(replace(node.config, instances=node.config.instances[:1]))
