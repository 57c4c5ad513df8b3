"""What is asked on the control socket, and what is found in the state file, however odd."""

import asyncio
import json
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any

import pytest

from floatip.core import settings
from floatip.core.events import (
    Became,
    ClockMoved,
    Drained,
    Event,
    Hold,
    KeepOrders,
    Order,
    OrdersRecalled,
    Paused,
    Started,
    Ticked,
)
from floatip.core.node import Node
from floatip.core.settings import Settings
from floatip.host.ask import Record
from floatip.host.disk import Disk, Memory
from floatip.host.orders import KEPT, LONGEST, Orders
from tests.host.reports import Reports

EPOCH = 1_800_000_000.0
LINK = settings.Link(
    tuple(settings.Node(f"haproxy{number}", IPv4Address(f"10.0.0.{number}")) for number in (1, 2)),
    "haproxy1",
    (b"k" * 32,),
    bytes(8),
)
ENDS: tuple[Any, ...] = (float("nan"), float("inf"), -1, 1e300, 10**400, "0", None, [])
"""Which are none."""
KEPT_BEFORE = {"boot": "any", "drained": {"reason": "kernel", "until": 0.0}, "paused": None}


class Asked:
    """A node that knows no instance, and whoever asks it."""

    def __init__(self, memory: Memory) -> None:
        self.node = Node(Settings(link=LINK), 0.0)
        for event in (ClockMoved(EPOCH), Started()):
            self.node.handle(event, 0.0)
        self.orders = Orders(lambda: self.node, self._tell, memory)
        self.commands = self.orders.commands(lambda: EPOCH)

    def _tell(self, event: Event) -> None:
        self.node.handle(event, 1.0)

    def __call__(self, command: str, **fields: Any) -> Record:
        request = json.loads(json.dumps({"cmd": command, **fields}))
        answer = self.commands[command].answer(request, 1)
        return json.loads(json.dumps(answer))  # type: ignore[no-any-return]

    @property
    def drained(self) -> Order | None:
        assert self.node.fleet
        return self.node.fleet.drained

    @property
    def paused(self) -> Order | None:
        assert self.node.fleet
        return self.node.fleet.paused


def play(story: Callable[[Asked], None], file: Path, reports: Reports) -> None:
    async def run() -> None:
        disk = Disk(reports)
        memory = Memory(disk, file, across_boots=True)
        async with asyncio.timeout(60):
            await memory.load()
            story(Asked(memory))
            await disk.finish(60)
        disk.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("for", 0),
        ("for", -5),
        ("for", float("nan")),
        ("for", float("inf")),
        ("for", -float("inf")),
        ("for", 1e308),
        ("for", 10**400),
        ("for", LONGEST + 1),
        ("for", True),
        ("for", "2h"),
        ("for", [7]),
        ("reason", 5),
        ("reason", ["kernel"]),
        ("reason", {"why": {}}),
        ("reason", "two\nlines"),
        ("reason", "\x1b[2K"),
        ("reason", "\ud800"),
        ("reason", "\u202e"),
        ("reason", "x" * 161),
        ("reason", "\u00e9" * 81),
        ("force", "false"),
        ("force", 1),
        ("force", []),
    ],
)
def test_a_field_that_is_odd_is_named_and_nothing_is_done(
    field: str, value: object, tmp_path: Path, reports: Reports
) -> None:
    def story(ask: Asked) -> None:
        for command in ("drain", "pause"):
            answer = ask(command, **{field: value})
            assert str(answer["refused"]).startswith(f"it is not understood: {field} is "), answer
        assert ask.drained is ask.paused is None

    play(story, tmp_path / "orders.json", reports)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("field", "value"), [("instance", ""), ("instance", 5), ("instance", ["web"]), ("to", ""), ("to", {})]
)
def test_a_name_that_is_none_does_not_mean_all(field: str, value: object, tmp_path: Path, reports: Reports) -> None:
    def story(ask: Asked) -> None:
        assert ask("handover", **{field: value})["refused"] == f"it is not understood: {field} is not a name"

    play(story, tmp_path / "orders.json", reports)


def test_each_client_is_told_of_his_own_order(tmp_path: Path, reports: Reports) -> None:
    def story(ask: Asked) -> None:
        drain, pause = ask("drain"), ask("pause")
        assert ask("verb-status", order=drain["order"]) == drain
        assert ask("verb-status", order=pause["order"]) == pause
        undrain = ask("undrain")
        assert ask("verb-status", order=undrain["order"])["done"]
        late = ask("verb-status", order=drain["order"])
        assert late["refused"] == "this node is not drained any more, by another command or by a time limit"
        ask("resume")
        ask("drain")
        late = ask("verb-status", order=undrain["order"])
        assert late["refused"] == "this node has been drained again, by another command or by a time limit"
        odd: tuple[Any, ...] = (None, 0, 10**30, True, "1", [], -1.5)
        for number in odd:
            assert ask("verb-status", order=number)["refused"] == "this daemon does not know of it"

    play(story, tmp_path / "orders.json", reports)


def test_orders_are_not_kept_for_ever(tmp_path: Path, reports: Reports) -> None:
    def story(ask: Asked) -> None:
        first = ask("undrain")["order"]
        for _ in range(KEPT):
            last = ask("resume")["order"]
        assert ask("verb-status", order=first)["refused"] == "this daemon does not know of it"
        assert ask("verb-status", order=last)["done"]

    play(story, tmp_path / "orders.json", reports)


def test_what_changes_nothing_is_no_news(tmp_path: Path, reports: Reports) -> None:
    def story(ask: Asked) -> None:
        events: list[tuple[Event, bool]] = [
            (Drained(None), False),
            (Paused(None), False),
            (Drained(Order("kernel")), True),
            (Drained(Order("kernel")), False),
        ]
        for event, is_news in events:
            effects = ask.node.handle(event, 1.0)
            assert any(isinstance(effect, Became) for effect in effects) == is_news
            assert any(isinstance(effect, KeepOrders) for effect in effects), "the file may have been spoilt"

    play(story, tmp_path / "orders.json", reports)


def test_a_time_limit_is_one_of_the_clock_on_the_wall(tmp_path: Path, reports: Reports) -> None:
    def story(ask: Asked) -> None:
        ask("drain", **{"for": 100})
        for event in (ClockMoved(EPOCH - 5000), Ticked()):
            ask.node.handle(event, 1.2)
        assert ask.drained
        for event in (ClockMoved(EPOCH + 99), Ticked()):
            ask.node.handle(event, 1.4)
        assert not ask.drained

    play(story, tmp_path / "orders.json", reports)


def test_what_is_kept_is_recalled(tmp_path: Path, reports: Reports) -> None:
    file = tmp_path / "orders.json"
    effect = KeepOrders(Order("kernel \u00e9", EPOCH + 7200), Order())
    play(lambda ask: ask.orders.keep(effect), file, reports)

    def story(ask: Asked) -> None:
        assert ask.orders.recalled() == OrdersRecalled(effect.drained, effect.paused)

    play(story, file, reports)


def test_a_start_with_orders_does_what_any_start_does() -> None:
    instance = settings.Instance("web", (IPv4Interface("192.0.2.10/32"),), settings.Nodes())
    started = []
    recalled: tuple[Event, ...]
    for recalled in ((), (OrdersRecalled(None, None),), (OrdersRecalled(Order("kernel"), None),)):
        node = Node(Settings(instances=(instance,), link=LINK), 0.0)
        effects = [each for event in (*recalled, Started()) for each in node.handle(event, 1.0)]
        started.append([effect for effect in effects if isinstance(effect, Became | Hold)])
    assert started[0] == started[1] == started[2]
    assert Became("role", "web", "backup", "started") in started[0]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "\x00",
        "[" * 100_000,
        "[]",
        "7",
        json.dumps({"boot": "any"}),
        json.dumps(KEPT_BEFORE | {"drained": 5}),
        json.dumps(KEPT_BEFORE | {"drained": "yes"}),
        json.dumps(KEPT_BEFORE | {"drained": {}}),
        json.dumps(KEPT_BEFORE | {"drained": {"reason": 7, "until": 0}}),
        json.dumps(KEPT_BEFORE | {"drained": {"reason": "x" * 161, "until": 0}}),
        json.dumps(KEPT_BEFORE | {"drained": {"reason": "a\nb", "until": 0}}),
        *(json.dumps(KEPT_BEFORE | {"paused": {"reason": "", "until": until}}) for until in ENDS),
    ],
)
def test_nonsense_in_the_state_file_is_told_and_ignored(content: str, tmp_path: Path, reports: Reports) -> None:
    file = tmp_path / "orders.json"
    file.write_text(content)

    def story(ask: Asked) -> None:
        assert ask.orders.recalled() is None

    play(story, file, reports)
    [failure] = reports.failing("disk")
    assert failure.what == f"state file {file}"
    assert failure.reason.startswith("not understood, so ignored: ")
