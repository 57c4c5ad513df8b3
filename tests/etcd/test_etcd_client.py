"""The client beside a real etcd of three members: each question, the watch, and what happens to members."""

import asyncio
from pathlib import Path

from floatip.core.etcd import (
    Answer,
    Compare,
    Delete,
    Done,
    EtcdUnwatched,
    Grant,
    Granted,
    KeepAlive,
    Put,
    Range,
    Revoke,
    Row,
    Rows,
    Txn,
    TxnDone,
    Unknown,
)
from floatip.etcd.failed import Failed, several
from floatip.etcd.settings import Settings
from tests.certificates import Pair
from tests.etcd.asking import Asking, asking, play
from tests.etcd_cluster import Cluster, Member


async def put(client: Asking, key: str, value: str, lease: int = 0) -> int:
    answer = await client.ask(Txn((), (Put(key, value, lease),)))
    assert isinstance(answer, TxnDone), answer
    assert answer.succeeded
    return answer.revision


async def read(client: Asking, prefix: str, newer_than: int = 0) -> Rows:
    answer = await client.ask(Range(prefix, newer_than))
    assert isinstance(answer, Rows), answer
    return answer


def test_every_question_is_answered(cluster: Cluster) -> None:
    async def story() -> None:
        async with asking(Settings(cluster.endpoints, "/every/", request_timeout=10.0)) as client:
            granted = await client.ask(Grant(60))
            assert isinstance(granted, Granted)
            assert granted.lease
            assert granted.ttl == 60
            assert await client.ask(KeepAlive(granted.lease)) == granted
            first = await put(client, "alive/a", "umlaut ü", granted.lease)
            second = await put(client, "owners/x", "{}")
            await put(client, "owners", "no owner")
            row = Row("owners/x", "{}", second)
            assert (await read(client, "owners/")).rows == (row,)
            assert (await read(client, "alive/")).rows == (Row("alive/a", "umlaut ü", first, granted.lease),)
            assert {one.key for one in (await read(client, "")).rows} == {"alive/a", "owners", "owners/x"}
            assert (await read(client, "owners/", second - 1)).rows == (row,)
            assert (await read(client, "owners/", second)).rows == ()
            assert (await read(client, "owners/")).revision == second + 1

            lost = Txn((Compare("owners/x", 0),), (Put("owners/x", "mine"),), ("owners/x", "owners/none", "alive/a"))
            answer = await client.ask(lost)
            assert isinstance(answer, TxnDone)
            assert not answer.succeeded
            assert answer.rows == (row, Row("alive/a", "umlaut ü", first, granted.lease))
            won = Txn((Compare("owners/x", second), Compare("y", 0)), (Put("y", ""), Delete("owners/x")))
            assert await client.ask(won) == TxnDone(True, second + 2)
            assert (await read(client, "y")).rows == (Row("y", "", second + 2),)
            assert (await read(client, "owners/")).rows == ()

            assert await client.ask(Revoke(granted.lease)) == Done()
            assert (await read(client, "alive/")).rows == ()
            assert await client.ask(KeepAlive(granted.lease)) == Granted(granted.lease, 0)
            assert await client.ask(Revoke(granted.lease)) == Done()
            assert not client.trouble.reason
            over = await client.ask(Txn((), (Put("alive/a", "1", granted.lease),)))
            assert over == Unknown("the lease is over")

    play(story)


def test_what_is_no_text_is_a_row_that_says_nothing_or_is_left_out(cluster: Cluster) -> None:
    async def story() -> None:
        async with asking(Settings(cluster.endpoints, "/octets/", request_timeout=10.0)) as client:
            for key, value in ((b"/octets/a", b"\xff\xfe"), (b"/octets/\xff", b"1")):
                body = {"key": b64(key), "value": b64(value)}
                await asyncio.to_thread(cluster.post, cluster.endpoints[0], "/v3/kv/put", body)
            rows = (await read(client, "")).rows
            assert [(row.key, row.value) for row in rows] == [("a", "\N{REPLACEMENT CHARACTER}" * 2)]
            client.watch(("",), rows[0].revision - 1)
            await put(client, "end", "")
            await client.until(lambda: "end" in [row.key for row in client.rows])
            assert [row.key for row in client.rows] == ["a", "end"]

    play(story)


def b64(octets: bytes) -> str:
    from base64 import b64encode  # noqa: PLC0415

    return b64encode(octets).decode()


def test_a_lease_that_nobody_keeps_ends_and_the_watch_tells_it(cluster: Cluster) -> None:
    async def story() -> None:
        async with asking(Settings(cluster.endpoints, "/lease/", request_timeout=10.0)) as client:
            granted = await client.ask(Grant(1))
            assert isinstance(granted, Granted)
            client.watch(("alive/",), await put(client, "other", ""))
            await put(client, "alive/a", "1", granted.lease)
            await put(client, "others", "not watched")
            await client.until(lambda: client.deleted)
            assert client.values == ["1"]
            assert client.deleted == ["alive/a"]
            assert await client.ask(KeepAlive(granted.lease)) == Granted(granted.lease, 0)

    play(story)


def test_the_watch_tells_each_change_in_order_and_what_one_transaction_wrote_at_once(cluster: Cluster) -> None:
    async def story() -> None:
        async with asking(Settings(cluster.endpoints, "/order/", request_timeout=10.0)) as client:
            began = await put(client, "a", "0")
            for number in range(1, 4):
                await put(client, "a", str(number))
            large = [tuple(Put(f"b/{t}/{n:02}", "x" * 12000) for n in range(100)) for t in range(3)]
            for puts in large:
                written = await client.ask(Txn((), (Delete("a"), *puts, Put("c", "1"))))
                assert isinstance(written, TxnDone), written
            await put(client, "a", "4")
            client.watch(("a", "b/"), began)  # all of it lies behind: it comes in fragments
            await client.until(lambda: client.values[-1:] == ["4"])
            assert [row.value for row in client.rows if row.key == "a"] == ["1", "2", "3", "4"]
            revisions = [change.revision for change in client.changes]
            assert revisions == sorted(set(revisions))
            for puts in large:
                told = [
                    row.key for change in client.changes for row in change.rows if row.key in {one.key for one in puts}
                ]
                assert told == [one.key for one in puts]
            of_a_txn = {row.revision for row in client.rows if row.key.startswith("b/")}
            for revision in of_a_txn:
                assert sum(any(row.revision == revision for row in change.rows) for change in client.changes) == 1

    play(story)


def test_more_than_etcd_takes_is_unknown_with_its_reason(cluster: Cluster) -> None:
    async def story() -> None:
        async with asking(Settings(cluster.endpoints, "/large/", request_timeout=10.0)) as client:
            answer = await client.ask(Txn((), (Put("a", "x" * 1_800_000),)))
            assert isinstance(answer, Unknown)
            assert answer.reason.endswith("answers: etcdserver: request is too large")
            assert client.trouble.reason == answer.reason
            await put(client, "a", "x")
            assert not client.trouble.reason

    play(story)


async def compact(cluster: Cluster, revision: int) -> None:
    await asyncio.to_thread(cluster.ctl, "compact", str(revision))


def member_of(cluster: Cluster, client: Asking) -> Member:
    return next(member for member in cluster.members if member.url == client.used.url)


def test_the_watch_goes_on_without_a_gap_when_members_stand_still_or_are_killed(tmp_path: Path) -> None:
    """One story, because each cluster takes seconds to start."""

    async def story(cluster: Cluster) -> None:
        settings = Settings(cluster.endpoints, "/members/", request_timeout=3.0)
        async with asking(settings) as client, asking(settings) as writer:
            written = 0

            async def write() -> None:
                nonlocal written
                written += 1
                async with asyncio.timeout(60):
                    while not isinstance(await writer.ask(Txn((), (Put("count", str(written)),))), TxnDone):
                        await asyncio.sleep(0.05)  # an election takes a second

            async def told() -> None:
                await client.until(lambda: client.values[-1:] == [str(written)])

            await write()
            client.watch(("count",), (await read(client, "")).revision - 1)
            await told()
            used = member_of(cluster, client)
            used.stop()
            async with asyncio.timeout(60):
                while not isinstance(await client.ask(Range("count")), Rows):
                    await asyncio.sleep(0.05)  # the one that stands still was the leader: an election
            assert member_of(cluster, client) is not used
            assert "does not answer" in next(one.reason for one in client.endpoints if one.url == used.url)
            await write()
            await told()
            used.cont()

            leader = await asyncio.to_thread(cluster.leader)
            leader.kill()
            await write()
            await told()
            leader.restart()
            await asyncio.to_thread(cluster.wait)

            used = member_of(cluster, client)
            used.kill()
            await write()
            await told()
            assert member_of(cluster, client) is not used
            revisions = [row.revision for row in client.rows]
            assert revisions == sorted(set(revisions)), "a change was told twice"
            assert not [event for event in client.events if isinstance(event, EtcdUnwatched)]

    with Cluster(tmp_path) as cluster:
        play(lambda: story(cluster))


def test_where_etcd_has_users_the_certificate_must_have_no_common_name(tmp_path: Path) -> None:
    with Cluster(tmp_path, size=1, tls=True, auth=True) as cluster:
        cluster.add_user("floatip", "secret", "/floatip/")
        assert cluster.authority
        (password := tmp_path / "password").write_text("secret\n")
        ca, user = str(cluster.authority.ca), "floatip"

        async def answer_to(pair: Pair) -> Answer:
            shown = str(pair.certificate), str(pair.key)
            settings = Settings(cluster.endpoints, "/floatip/", ca, *shown, user, str(password), request_timeout=10.0)
            async with asking(settings) as client:
                return await client.ask(Range("owners/"))

        refused = asyncio.run(answer_to(cluster.authority.sign("named")))
        assert isinstance(refused, Unknown)
        assert "takes no certificate with a common name (CN)" in refused.reason
        assert isinstance(asyncio.run(answer_to(cluster.authority.sign("nameless", has_name=False))), Rows)


def test_a_watch_that_lost_revisions_to_a_compaction_says_so(cluster: Cluster) -> None:
    async def story() -> None:
        async with asking(Settings(cluster.endpoints, "/gap/", request_timeout=10.0)) as client:
            began = await put(client, "a", "1")
            await put(client, "a", "2")
            latest = await put(client, "a", "3")
            await asyncio.to_thread(cluster.ctl, "compact", str(latest))
            client.watch(("a",), began)
            await client.until(lambda: any(isinstance(event, EtcdUnwatched) for event in client.events))
            assert not client.rows
            client.watch(("a",), latest)
            await put(client, "a", "4")
            await client.until(lambda: client.values == ["4"])
            assert not client.trouble.reason

    play(story)


def test_a_silent_stream_is_begun_again_elsewhere_when_another_answer_knows_more(cluster: Cluster) -> None:
    proxy = cluster.members[0].proxy()

    async def story() -> None:
        urls = (proxy.url, cluster.endpoints[1])
        async with asking(Settings(urls, "/silent/", request_timeout=2.0)) as client:
            client.watch(("a",), await put(client, "a", "1"))
            await put(client, "a", "2")
            await client.until(lambda: client.values == ["2"])
            proxy.drop()
            async with asking(Settings(cluster.endpoints[1:], "/silent/")) as other:
                await put(other, "a", "3")
            # Nothing but what this client reads can tell it, and the read moves the watch with it.
            assert [row.value for row in (await read(client, "a")).rows] == ["3"]
            await client.until(lambda: client.values == ["2", "3"])

    play(story)


def test_what_several_endpoints_say_is_said_once_and_always_in_the_same_order() -> None:
    urls = [f"http://10.0.0.{number}:2379" for number in (1, 2, 3)]
    refused = {url: Failed(f"{url[7:]} refuses the connection", "start it") for url in reversed(urls)}
    assert (
        several(refused, urls).reason
        == "no endpoint of etcd answers: 10.0.0.1:2379 refuses the connection (and 2 more)"
    )
    mixed = {**refused, urls[1]: Failed("10.0.0.2:2379 does not answer within 1.5 s", "ask it", weight=1)}
    said = several(mixed, urls)
    assert said.reason == (
        "no endpoint of etcd answers: 10.0.0.1:2379 refuses the connection (and 1 more); "
        "10.0.0.2:2379 does not answer within 1.5 s"
    )
    assert said.hint == "ask it"
    alike = {url: Failed("etcd wants to know the user", "set user") for url in urls}
    assert several(alike, urls) is alike[urls[0]]
