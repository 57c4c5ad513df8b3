"""The daemon's side and the real process, beside a real etcd."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from floatip.core.etcd import (
    Answer,
    AskEtcd,
    Compare,
    Delete,
    EtcdAnswered,
    EtcdChanged,
    EtcdMembers,
    EtcdTrouble,
    EtcdUnwatched,
    Grant,
    Granted,
    Put,
    Question,
    Range,
    Row,
    Rows,
    Txn,
    TxnDone,
    Unknown,
    WatchEtcd,
)
from floatip.core.events import Event
from floatip.host import etcd as host_etcd
from floatip.host.etcd import Etcd
from floatip.model import Etcd as Configured
from tests.etcd_cluster import Cluster

LIMIT = 60.0
"""Seconds after which a test gives up."""
T = TypeVar("T")


class Beside:
    """The part of the daemon, and what it has reported."""

    def __init__(self, configured: Configured) -> None:
        self.events: list[Event] = []
        self.etcd = Etcd(self.events.append)
        self.etcd.configure(configured)
        self._number = 0

    async def until(self, condition: Callable[[], T]) -> T:
        async with asyncio.timeout(LIMIT):
            while not (found := condition()):
                await asyncio.sleep(0.01)
        return found

    async def ask(self, question: Question) -> Answer:
        self._number += 1
        number = self._number
        self.etcd.perform(AskEtcd(number, question))
        (answer,) = await self.until(lambda: [e.answer for e in self.answered if e.number == number])
        return answer

    async def sure(self, question: Question) -> Answer:
        """Until etcd answers: the process starts."""
        while isinstance(answer := await self.ask(question), Unknown):
            await asyncio.sleep(0.05)
        return answer

    async def put(self, key: str, value: str) -> int:
        answer = await self.sure(Txn((), (Put(key, value),)))
        assert isinstance(answer, TxnDone)
        return answer.revision

    @property
    def answered(self) -> list[EtcdAnswered]:
        return [event for event in self.events if isinstance(event, EtcdAnswered)]

    @property
    def values(self) -> list[str]:
        return [row.value for event in self.events if isinstance(event, EtcdChanged) for row in event.rows]

    @property
    def trouble(self) -> EtcdTrouble | None:
        return next((event for event in reversed(self.events) if isinstance(event, EtcdTrouble)), None)

    @property
    def pid(self) -> int:
        """Of the process."""
        child = self.etcd._process._child
        return child._child.pid if child and child._child else 0  # type: ignore[attr-defined]


@asynccontextmanager
async def beside(configured: Configured) -> AsyncIterator[Beside]:
    part = Beside(configured)
    try:
        yield part
    finally:
        part.etcd.close()
        await part.until(lambda: part.etcd.is_gone)


def test_what_the_core_asks_is_answered_and_what_it_watches_is_told(cluster: Cluster) -> None:
    async def story() -> None:
        async with beside(Configured(cluster.endpoints, "/process/", request_timeout=10.0)) as part:
            granted = await part.sure(Grant(60))
            assert isinstance(granted, Granted)
            first = await part.put("owners/large", "ü" * 15_000)
            answer = await part.ask(Range("owners/"))
            assert isinstance(answer, Rows)
            assert [row.key for row in answer.rows] == ["owners/large"]
            part.etcd.perform(WatchEtcd(("owners/",), first))
            many = tuple(Put(f"owners/{n:03}", f'{{"node": "a", "n": {n}}}') for n in range(120))
            written = await part.ask(Txn((Compare("owners/000", 0),), many))
            assert isinstance(written, TxnDone)
            await part.until(lambda: part.values)
            (told,) = [event for event in part.events if isinstance(event, EtcdChanged)]
            assert told.revision == written.revision
            assert told.rows == tuple(Row(put.key, put.value, written.revision) for put in many)
            deleted = await part.ask(Txn((), tuple(Delete(put.key) for put in many)))
            assert isinstance(deleted, TxnDone)
            gone = await part.until(
                lambda: [e for e in part.events if isinstance(e, EtcdChanged) and e.revision == deleted.revision]
            )
            assert gone == [EtcdChanged(deleted.revision, (), tuple(put.key for put in many))]
            assert part.trouble == EtcdTrouble("")
            (*_, members) = [event for event in part.events if isinstance(event, EtcdMembers)]
            assert [(one.url, one.reason) for one in members.endpoints] == [(url, "") for url in cluster.endpoints]
            assert members.endpoints[0].in_use

    asyncio.run(story())


def test_a_value_of_several_packets_arrives_whole(cluster: Cluster) -> None:
    text = "".join(f"line {n} ü\n" for n in range(60_000))

    async def story() -> None:
        cluster_value = {"key": _b64(b"/long/config"), "value": _b64(text.encode())}
        await asyncio.to_thread(cluster.post, cluster.endpoints[0], "/v3/kv/put", cluster_value)
        async with beside(Configured(cluster.endpoints, "/long/", request_timeout=10.0)) as part:
            answer = await part.sure(Range("config"))
            assert isinstance(answer, Rows)
            assert [row.value for row in answer.rows] == [text]
            too_large = await part.ask(Txn((), (Put("config", text),)))
            assert too_large == Unknown("the question is too large")

    asyncio.run(story())


def _b64(octets: bytes) -> str:
    from base64 import b64encode  # noqa: PLC0415

    return b64encode(octets).decode()


def test_whoever_follows_a_prefix_has_all_of_its_rows_beside_the_core(cluster: Cluster) -> None:
    async def story() -> None:
        async with beside(Configured(cluster.endpoints, "/follow/", request_timeout=10.0)) as part:
            members: list[dict[str, str]] = []
            part.etcd.follow("members/", lambda rows: members.append({key: row.value for key, row in rows.items()}))
            await part.until(lambda: members == [{}])
            began = await part.put("members/a", "1")
            await part.until(lambda: members[-1:] == [{"members/a": "1"}])
            part.etcd.perform(WatchEtcd(("owners/",), began))
            await part.put("owners/x", "{}")
            await part.put("members/b", "2")
            await part.ask(Txn((), (Delete("members/a"),)))
            await part.until(lambda: members[-1:] == [{"members/b": "2"}])
            await part.until(lambda: part.values == ["{}"])  # its watch may begin later

            # A gap: the follower reads again, and the core is told.
            await part.until(lambda: part.pid)
            latest = await part.put("members/b", "3")
            await part.until(lambda: members[-1:] == [{"members/b": "3"}])
            os.kill(part.pid, signal.SIGSTOP)
            key = {"key": _b64(b"/follow/members/c"), "value": _b64(b"4")}
            for _ in range(3):
                answer = await asyncio.to_thread(cluster.post, cluster.endpoints[0], "/v3/kv/put", key)
            os.kill(part.pid, signal.SIGKILL)
            await asyncio.to_thread(cluster.ctl, "compact", answer["header"]["revision"])
            await part.until(lambda: members[-1:] == [{"members/b": "3", "members/c": "4"}])
            assert latest
            assert [event for event in part.events if isinstance(event, EtcdUnwatched)]

    asyncio.run(story())


def test_where_the_core_finds_an_older_store_whoever_follows_reads_again(tmp_path: Path) -> None:
    """With the cluster and the term of before, as where etcd was made again: only the revision tells."""

    async def story(cluster: Cluster) -> None:
        members: list[dict[str, str]] = []
        async with beside(Configured(cluster.endpoints, "/older/", request_timeout=10.0)) as part:
            part.etcd.follow("members/", lambda rows: members.append({key: row.value for key, row in rows.items()}))
            for number in range(10):
                revision = await part.put("members/a", str(number))
            part.etcd.perform(WatchEtcd(("owners/",), revision))
            await part.until(lambda: members and members[-1] == {"members/a": "9"})
            [member] = cluster.members
            member.kill()
            shutil.rmtree(member.directory)
            member.start()
            await asyncio.to_thread(cluster.wait)
            found = await part.sure(Range("owners/"))
            assert isinstance(found, Rows)
            assert found.revision < revision
            part.etcd.perform(WatchEtcd(("owners/",), found.revision))
            await part.until(lambda: members[-1] == {})
            await part.put("members/b", "1")
            await part.until(lambda: members[-1] == {"members/b": "1"})

    with Cluster(tmp_path, 1) as cluster:
        asyncio.run(story(cluster))


def test_a_process_that_is_killed_is_started_again_and_the_watch_goes_on(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with beside(Configured(cluster.endpoints, "/killed/", request_timeout=10.0)) as part:
            part.etcd.perform(WatchEtcd(("a",), await part.put("a", "1")))
            await part.put("a", "2")
            await part.until(lambda: part.values == ["2"])
            os.kill(part.pid, signal.SIGKILL)
            killed = await part.until(lambda: part.trouble if part.trouble and part.trouble.reason else None)
            assert killed == EtcdTrouble(f"{host_etcd.NAME} ended: killed by signal 9", host_etcd.HINT)
            assert isinstance(await part.ask(Range("a")), Unknown)
            await part.put("a", "3")
            await part.until(lambda: part.values == ["2", "3"])
            assert part.trouble == EtcdTrouble("")

    asyncio.run(story())


def test_a_process_that_stands_still_is_unknown_in_time_and_replaced(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_etcd, "HANGS_AFTER", 1.0)

    async def story() -> None:
        async with beside(Configured(cluster.endpoints, "/still/", request_timeout=0.5)) as part:
            await part.put("a", "1")
            first = part.pid
            os.kill(first, signal.SIGSTOP)
            loop = asyncio.get_running_loop()
            asked_at = loop.time()
            assert await part.ask(Range("a")) == Unknown(f"{host_etcd.NAME} does not answer")
            assert loop.time() - asked_at >= 0.5
            assert isinstance(await part.ask(Range("a")), Unknown)
            await part.put("a", "2")
            assert part.pid != first

    asyncio.run(story())


def test_a_process_that_a_busy_machine_keeps_waiting_is_not_replaced(cluster: Cluster) -> None:
    async def story() -> None:
        async with beside(Configured(cluster.endpoints, "/busy/", request_timeout=0.3)) as part:
            await part.put("a", "1")
            first = part.pid
            assert first
            os.kill(first, signal.SIGSTOP)
            for _ in range(6):
                assert isinstance(await part.ask(Range("a")), Unknown)
            os.kill(first, signal.SIGCONT)
            await part.sure(Range("a"))
            assert part.pid == first

    asyncio.run(story())


def test_another_etcd_by_a_reload_is_a_gap_and_is_asked_from_then_on(cluster: Cluster) -> None:
    async def story() -> None:
        async with beside(Configured(("http://127.0.0.1:1",), "/reload/", request_timeout=10.0)) as part:
            part.etcd.perform(WatchEtcd(("a",), 1))
            await part.until(lambda: part.trouble and "refuses the connection" in part.trouble.reason)
            part.etcd.configure(Configured(cluster.endpoints, "/reload/", request_timeout=10.0))
            assert [event for event in part.events if isinstance(event, EtcdUnwatched)]
            written = await part.put("a", "1")
            part.etcd.perform(WatchEtcd(("a",), written - 1))
            await part.until(lambda: part.values == ["1"])
            assert part.trouble == EtcdTrouble("")
            part.etcd.configure(None)
            await part.until(lambda: part.etcd.is_gone)
            assert isinstance(await part.ask(Range("a")), Unknown)

    asyncio.run(story())


def test_without_its_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "httpx.py").write_text("raise ImportError(\"No module named 'httpx'\")")
    monkeypatch.syspath_prepend(tmp_path)

    async def story() -> None:
        async with beside(Configured(("http://127.0.0.1:1",))) as part:
            told = await part.until(lambda: part.trouble)
            assert told
            assert told.reason == "floatip speaks with etcd by httpx: No module named 'httpx'"
            assert told.hint.startswith("apt install python3-httpx")
            assert isinstance(await part.ask(Range("a")), Unknown)

    asyncio.run(story())
