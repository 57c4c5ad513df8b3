"""Servers that are no etcd, or a bad one: each question is Unknown with a reason for people, never lost or won."""

import asyncio
import json
import socket
from typing import Any

import pytest

from floatip.core.etcd import (
    Compare,
    EtcdTrouble,
    EtcdUnwatched,
    Grant,
    Granted,
    KeepAlive,
    Put,
    Question,
    Range,
    Revoke,
    Row,
    Rows,
    Txn,
    TxnDone,
    Unknown,
)
from floatip.etcd.client import Seen
from floatip.etcd.settings import Settings
from tests.etcd.asking import asking
from tests.etcd.hostile import HEADER, Respond, always, answer, endless, never, said, server

PREFIX = "/floatip/"
READ, KEEP = Range("a"), KeepAlive(7)
CLAIM = Txn((Compare("a", 1),), (Put("a", "x"),), ("a",))
QUESTIONS: tuple[Question, ...] = (READ, KEEP, CLAIM, Grant(5), Revoke(7))


def error(status: int, message: str, code: int) -> bytes:
    return answer(status, json.dumps({"error": message, "message": message, "code": code}).encode())


def newer_error(status: int, message: str, code: int) -> bytes:
    """As etcd 3.6 writes it."""
    return answer(status, json.dumps({"code": code, "message": message, "details": []}).encode())


def in_stream(message: str) -> bytes:
    return answer(200, json.dumps({"error": {"grpc_code": 14, "http_code": 503, "message": message}}).encode())


ERRORS = {
    "gateway off": (
        answer(404, b"404 page not found\n", "text/plain"),
        "404: its gRPC gateway is off",
        "--enable-grpc",
    ),
    "401": (
        answer(401, b"Unauthorized", "text/plain"),
        "answers with status 401 (Unauthorized), as etcd does not: Unauthorized",
        "curl -i",
    ),
    "who": (error(400, "etcdserver: user name is empty", 3), "etcd wants to know the user", "set user and password"),
    "denied": (
        error(403, "etcdserver: permission denied", 7),
        "does not let floatip without a user",
        "set user",
    ),
    "a proxy": (answer(403, b'{"detail": "no"}'), "answers with status 403 (Forbidden), as etcd does not", "curl -i"),
    "a redirect": (answer(302, b""), "answers with status 302 (Found), as etcd does not", "curl -i"),
    "no status of HTTP": (answer(799, b""), "answers with status 799, as etcd does not", "curl -i"),
    "500": (
        answer(500, b"<h1>\x1b[31mInternal</h1>", "text/html"),
        "answers with status 500 (Internal Server Error), as etcd does not: <h1>\\x1b[31mInternal</h1>",
        "curl -i",
    ),
    "full": (error(429, "etcdserver: mvcc: database space exceeded", 8), "alarm NOSPACE", "etcdctl alarm disarm"),
    "no leader": (error(503, "etcdserver: no leader", 14), "has no leader", "endpoint status --cluster"),
    "no leader, 3.6": (newer_error(503, "etcdserver: no leader", 14), "has no leader", "endpoint status --cluster"),
    "no leader, in a stream": (in_stream("etcdserver: no leader"), "has no leader", "endpoint status --cluster"),
    "unforeseen": (error(503, "etcdserver: the moon is wrong", 99), "answers: etcdserver: the moon is wrong", "log"),
    "TLS": (answer(400, b"Client sent an HTTP request to an HTTPS server.\n", "text/plain"), "speaks TLS", "https://"),
    "a page": (answer(200, b"<html>Welcome to nginx</html>"), "does not answer as etcd does: <html>", "/version"),
    "half": (answer(200, b'{"header": {"cluster_id"'), "does not answer as etcd does", "/version"),
    "nothing": (answer(200, b""), "does not answer as etcd does", "/version"),
    "hangs up": (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", "", ""),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "without a whole answer", "/version"),
}
GARBAGE = {
    "other JSON": answer(200, b'{"a": 1}'),
    "a list": answer(200, b"[]"),
    "deep": answer(200, b'{"kvs": ' + b"[" * 100_000),
    "no header": answer(200, b'{"kvs": []}'),
    "a header that is none": answer(200, b'{"header": 7, "ID": "7", "TTL": "5", "succeeded": true}'),
    "no cluster": answer(200, b'{"header": {"revision": "3"}, "ID": "7", "TTL": "5", "succeeded": true}'),
    "negative": said(ID="-7", TTL="-1", kvs=[{"key": "", "mod_revision": "-1"}], responses=[{}], succeeded="yes"),
    "huge": said(ID="9" * 5000, kvs=[{"mod_revision": "9" * 5000}], responses=[]),
    "a number": said(ID=7.5, TTL=[], kvs={"key": 1}, responses="x"),
    "infinite": answer(200, b'{"header": {"cluster_id": Infinity, "member_id": NaN}}'),
    "no base64": said(ID="0", kvs=[{"key": "%%%"}], responses=[{"response_range": {"kvs": [{"key": "%%%"}]}}]),
    "foreign keys": said(kvs=[{"key": "YQ=="}], responses=[{"response_range": {"kvs": [{"key": "YQ=="}]}}]),
    "part": said(more=True, kvs=[]),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_is_unknown_with_its_reason_and_the_next_step(case: str) -> None:
    octets, reason, hint = ERRORS[case]

    async def once(path: str, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        writer.write(octets)
        if case == "hangs up":
            writer.close()

    async def story() -> None:
        async with server(once) as url, asking(Settings((url,), PREFIX, request_timeout=10.0)) as client:
            for question in QUESTIONS:
                given = await client.ask(question)
                assert isinstance(given, Unknown)
                assert reason in given.reason
                assert given.reason.isprintable()
            assert reason in client.trouble.reason
            assert hint in client.trouble.hint
            (endpoint,) = client.endpoints
            assert endpoint.answers is False
            assert endpoint.reason

    asyncio.run(story())


@pytest.mark.parametrize("case", GARBAGE)
def test_garbage_is_unknown(case: str) -> None:
    async def story() -> None:
        async with (
            server(always(GARBAGE[case])) as url,
            asking(Settings((url,), PREFIX, request_timeout=10.0)) as client,
        ):
            for question in (READ, KEEP, Grant(5), CLAIM):
                given = await client.ask(question)
                assert isinstance(given, Unknown), (question, given)
                assert "does not answer as etcd does" in given.reason

    asyncio.run(story())


def test_no_answer_and_an_answer_without_end_are_unknown_in_time() -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        async with server(never) as silent, server(endless) as flood:
            for question in QUESTIONS:
                async with asking(Settings((silent,), PREFIX, request_timeout=0.2)) as client:
                    began = loop.time()
                    given = await client.ask(question)
                    assert given == Unknown(f"{silent.removeprefix('http://')} does not answer within 0.2 s")
                    assert loop.time() - began >= 0.2
            async with asking(Settings((flood,), PREFIX, request_timeout=30.0)) as client:
                given = await client.ask(CLAIM)
                assert given == Unknown(f"{flood.removeprefix('http://')} answers more than 16 MB")

    asyncio.run(story())


def test_many_answers_without_end_take_no_more_room_than_two() -> None:
    """Each of them may be long, and a daemon asks several times a second."""

    async def story() -> None:
        loop = asyncio.get_running_loop()
        most = 0
        async with server(endless) as flood, asking(Settings((flood,), PREFIX, request_timeout=30.0)) as client:
            asked = [loop.create_task(client.ask(question)) for question in (READ, CLAIM) * 10]
            while not all(task.done() for task in asked):
                most = max(most, client._held)
                await asyncio.sleep(0)
            assert all("answers more than" in str(task.result()) for task in asked)
        assert most <= 33 << 20
        assert client._held == 0

    asyncio.run(story())


def test_a_server_without_tls_that_hangs_up_is_told_from_a_broken_one() -> None:
    async def story() -> None:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(5)
            writer.close()

        listener = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        who = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        async with listener, asking(Settings((f"https://{who}",), PREFIX, request_timeout=10.0)) as client:
            given = await client.ask(READ)
        assert isinstance(given, Unknown)
        assert given.reason == f"{who} closed the connection when TLS began; perhaps it does not speak TLS"
        assert f"write http://{who}" in client.trouble.hint

    asyncio.run(story())


def test_an_address_without_a_machine_takes_no_connection_within_a_part_of_the_timeout() -> None:
    async def story() -> None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        who = f"127.0.0.1:{listener.getsockname()[1]}"
        taken = [socket.socket() for _ in range(3)]
        for one in taken:  # they fill the backlog: the kernel drops who comes then
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        async with asking(Settings((f"http://{who}",), PREFIX, request_timeout=1.0)) as client:
            assert await client.ask(READ) == Unknown(f"{who} takes no connection within 0.3 s")
            assert f"nc -vz {who.replace(':', ' ')}" in client.trouble.hint
        for one in (*taken, listener):
            one.close()

    asyncio.run(story())


def test_whoever_is_not_there_is_named() -> None:
    async def story() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            refused = f"127.0.0.1:{taken.getsockname()[1]}"
            async with asking(Settings((f"http://{refused}", "http://host.invalid:2379"), PREFIX)) as client:
                given = await client.ask(READ)
        assert isinstance(given, Unknown)
        assert f"{refused} refuses the connection" in given.reason
        assert "the name of host.invalid:2379 is not known to the resolver" in given.reason
        assert "systemctl status etcd" in client.trouble.hint

    asyncio.run(story())


def test_one_bad_endpoint_among_good_ones_is_no_trouble_and_is_told() -> None:
    async def story() -> None:
        for bad in (always(ERRORS["gateway off"][0]), always(ERRORS["no leader"][0]), never):
            async with (
                server(bad) as first,
                server(good()) as second,
                asking(Settings((first, second), PREFIX, request_timeout=5.0)) as client,
            ):
                assert await client.ask(READ) == Rows(10, ())
                assert client.trouble == EtcdTrouble("")
                one, two = client.endpoints
                assert one.answers is False
                assert one.reason
                assert not one.in_use
                assert (two.answers, two.reason, two.in_use) == (True, "", True)

    asyncio.run(story())


def good(asked: list[str] | None = None, **header: str) -> Respond:
    """A member that has no rows, gives the lease 7, and lets every claim win."""

    async def respond(path: str, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        if asked is not None:
            asked.append(path)
        fields: dict[str, Any] = {"header": HEADER | header}
        if path.endswith("txn"):
            fields |= {"succeeded": True}
        if "lease" in path:
            fields |= {"ID": "7", "TTL": "5"}
        writer.write(said(**fields))

    return respond


def test_a_transaction_that_may_have_been_done_is_asked_nowhere_else() -> None:
    async def story() -> None:
        async def takes_it(path: str, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
            writer.close()

        for bad in (takes_it, always(ERRORS["500"][0]), never):
            asked: list[str] = []
            async with (
                server(bad) as first,
                server(good(asked)) as second,
                asking(Settings((first, second), PREFIX, request_timeout=0.5)) as client,
            ):
                assert isinstance(await client.ask(CLAIM), Unknown)
                assert asked == []
                assert client.used.url == second
                assert isinstance(await client.ask(CLAIM), TxnDone)

    asyncio.run(story())


def test_a_transaction_that_was_not_looked_at_is_asked_at_the_next_endpoint() -> None:
    async def story() -> None:
        async with server(always(ERRORS["no leader"][0])) as first, server(good()) as second:
            urls = ("http://127.0.0.1:1", first, second)
            async with asking(Settings(urls, PREFIX, request_timeout=10.0)) as client:
                assert await client.ask(CLAIM) == TxnDone(True, 10)
                assert client.used.url == second

    asyncio.run(story())


def test_reads_and_keepalives_do_not_wait_for_a_slow_endpoint() -> None:
    async def story() -> None:
        for question, expected in ((READ, Rows(10, ())), (KEEP, Granted(7, 5))):
            async with (
                server(never) as first,
                server(good()) as second,
                asking(Settings((first, second), PREFIX, request_timeout=2.0)) as client,
            ):
                began = asyncio.get_running_loop().time()
                assert await client.ask(question) == expected
                assert asyncio.get_running_loop().time() - began >= 2.0 * 0.3

    asyncio.run(story())


def test_answers_of_another_cluster_do_not_count() -> None:
    async def story() -> None:
        async with server(good()) as ours, server(good(cluster_id="9")) as other:
            for question in QUESTIONS:
                async with asking(Settings((other,), PREFIX, request_timeout=10.0), Seen(1, 5, ours)) as client:
                    given = await client.ask(question)
                    assert isinstance(given, Unknown)
                    assert "belong to two clusters of etcd" in given.reason
            async with asking(Settings((ours, other), PREFIX, request_timeout=10.0)) as both:
                both.look_after()
                assert await both.ask(READ) == Rows(10, ())
                await both.until(lambda: both.endpoints[1].reason)
                assert "belong to two clusters of etcd" in both.endpoints[1].reason

    asyncio.run(story())


def test_most_endpoints_of_another_cluster_are_a_gap_and_used_after_that() -> None:
    """So it is after a restore from a snapshot, which makes another cluster, with one machine still down."""

    async def story() -> None:
        async with server(good(cluster_id="9", raft_term="2")) as one, server(good(cluster_id="9")) as two:
            urls = (one, two, "http://127.0.0.1:1")
            async with asking(Settings(urls, PREFIX, request_timeout=10.0), Seen(1, 5, one)) as client:
                client.watch(("a",), 3)
                given = await client.ask(READ)
                assert isinstance(given, Unknown)
                assert "belongs to another cluster of etcd than before, so what it says does not count" in given.reason
                assert [event.reason for event in client.events if isinstance(event, EtcdUnwatched)] == [
                    "etcd was made again or restored: it is another cluster"
                ]
                assert await client.ask(READ) == Rows(10, ())
                assert await client.ask(CLAIM) == TxnDone(True, 10)

    asyncio.run(story())


def test_answers_that_need_no_quorum_and_a_minority_do_not_make_it_another_cluster() -> None:
    async def story() -> None:
        async with server(good(cluster_id="9")) as other, server(good()) as ours:
            async with asking(Settings((other,), PREFIX, request_timeout=10.0), Seen(1, 5, ours)) as client:
                for question in (KEEP, Grant(5), Revoke(7), KEEP):
                    assert isinstance(await client.ask(question), Unknown)
                assert client.seen.cluster == 1
            async with asking(Settings((other, ours), PREFIX, request_timeout=10.0), Seen(1, 5, ours)) as client:
                for _ in range(3):
                    assert await client.ask(READ) == Rows(10, ())
                assert client.used.url == ours

    asyncio.run(story())


def test_a_member_that_is_cut_off_does_not_count_and_is_left() -> None:
    async def story() -> None:
        async with server(good(raft_term="4")) as stale, server(good(raft_term="5")) as fresh:
            seen = Seen(1, 5, fresh)
            async with asking(Settings((stale, fresh), PREFIX, request_timeout=10.0), seen) as client:
                assert isinstance(await client.ask(CLAIM), Unknown)
                assert client.used.url == fresh
                assert await client.ask(CLAIM) == TxnDone(True, 10)
                assert "its term is 4, and 5 was seen" in client.endpoints[0].reason
            async with asking(Settings((stale,), PREFIX, request_timeout=10.0), Seen(1, 5, fresh)) as client:
                for question in (KEEP, CLAIM, Grant(5)):
                    assert isinstance(await client.ask(question), Unknown)

    asyncio.run(story())


def test_an_etcd_that_was_made_again_is_a_gap_and_is_used_after_that() -> None:
    async def story() -> None:
        async with (
            server(good(raft_term="2")) as one,
            server(good(raft_term="2")) as two,
            asking(Settings((one, two), PREFIX, request_timeout=10.0), Seen(1, 5, one)) as client,
        ):
            client.watch(("a",), 3)
            assert isinstance(await client.ask(READ), Unknown)
            assert [type(event) for event in client.events].count(EtcdUnwatched) == 1
            assert await client.ask(READ) == Rows(10, ())

    asyncio.run(story())


def test_etcd_3_3_is_asked_at_its_own_path() -> None:
    async def old(path: str, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        if path == "/version":
            writer.write(answer(200, b'{"etcdserver":"3.3.25","etcdcluster":"3.3.0"}'))
        elif path.startswith("/v3beta/"):
            await good()(path, body, writer)
        else:
            writer.write(answer(404, b"404 page not found\n", "text/plain"))

    async def story() -> None:
        async with server(old) as url, asking(Settings((url,), PREFIX, request_timeout=10.0)) as client:
            assert await client.ask(READ) == Rows(10, ())
            assert await client.ask(CLAIM) == TxnDone(True, 10)

    asyncio.run(story())


WATCHED = {
    "garbage": b"<html>",
    "an error": json.dumps({"error": {"message": "etcdserver: no leader"}}).encode(),
    "cancelled": json.dumps({"result": {"header": HEADER, "canceled": True, "cancel_reason": "the moon"}}).encode(),
    "backwards": b"\n".join(
        json.dumps(
            {"result": {"header": HEADER, "events": [{"kv": {"key": "L2Zsb2F0aXAvYQ==", "mod_revision": n}}]}}
        ).encode()
        for n in ("4", "2")
    ),
    "the end": b"",
}


@pytest.mark.parametrize("case", WATCHED)
def test_a_watch_that_breaks_is_begun_again_after_what_it_has_told(case: str) -> None:
    begun: list[int] = []

    async def broken(path: str, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        begun.append(int(body["create_request"]["start_revision"]))
        lines: list[dict[str, Any]] = [{"header": HEADER, "created": True}]
        if len(begun) == 1:
            lines.append({"header": HEADER, "events": [{"kv": {"key": "L2Zsb2F0aXAvYQ==", "mod_revision": "3"}}]})
        octets = b"".join(json.dumps({"result": line}).encode() + b"\n" for line in lines) + WATCHED[case]
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + octets)
        await writer.drain()
        writer.close()

    async def story() -> None:
        async with server(broken) as url, asking(Settings((url,), PREFIX, request_timeout=10.0)) as client:
            client.watch(("a",), 2)
            await client.until(lambda: client.rows)
            async with asyncio.timeout(30):
                while len(begun) < 3:
                    await asyncio.sleep(0.01)
            assert begun[:2] == [3, 5 if case == "backwards" else 4]
            assert client.rows[0] == Row("a", "", 3)

    asyncio.run(story())
