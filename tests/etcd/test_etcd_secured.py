"""Users and TLS, with a real etcd that asks for them."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from floatip.core.etcd import Grant, Granted, KeepAlive, Put, Range, Rows, Txn, TxnDone, Unknown
from floatip.etcd import client as client_module
from floatip.etcd.settings import Settings
from floatip.fleet.store import NoEtcd, Store
from floatip.model import Etcd
from tests.certificates import Authority
from tests.etcd.asking import Asking, asking
from tests.etcd_cluster import FAST, Cluster

PREFIX = "/floatip/"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Its tokens are over after two seconds without a question."""
    directory = tmp_path_factory.mktemp("locked")
    options = (*FAST, "--auth-token", "simple", "--auth-token-ttl", "2")
    with Cluster(directory, size=1, options=options, tls=True, auth=True) as cluster:
        cluster.add_user("floatip", "secret", PREFIX)
        (directory / "password").write_text("secret\n")
        (directory / "wrong").write_text("wrong\n")
        yield cluster


def settings(cluster: Cluster, **others: object) -> Settings:
    assert cluster.authority
    assert cluster.client
    known: dict[str, object] = {
        "endpoints": cluster.endpoints,
        "prefix": PREFIX,
        "ca": str(cluster.authority.ca),
        "certificate": str(cluster.client.certificate),
        "key": str(cluster.client.key),
        "user": "floatip",
        "password": str(cluster.directory / "password"),
        "request_timeout": 15.0,
    }
    return Settings(**known | others)  # type: ignore[arg-type]


def test_a_token_that_is_over_is_renewed_and_nobody_notices(locked: Cluster) -> None:
    async def story() -> None:
        async with asking(settings(locked)) as client:
            written = await client.ask(Txn((), (Put("a", "1"),)))
            assert isinstance(written, TxnDone)
            client.watch(("a",), written.revision)
            first = client._token
            while client._token == first:  # etcd forgets it
                await asyncio.sleep(3.0)
                answers = await asyncio.gather(*(client.ask(Range("a")) for _ in range(5)))
                assert all(isinstance(answer, Rows) for answer in answers)
            granted = await client.ask(Grant(5))
            assert isinstance(granted, Granted)
            assert await client.ask(KeepAlive(granted.lease)) == granted
            await asyncio.sleep(3.0)
            client._move_watch()  # it begins with a token that is over
            assert isinstance(await client.ask(Txn((), (Put("a", "2"),))), TxnDone)
            await client.until(lambda: client.values == ["2"])
            assert not [event.reason for event in client.troubles if event.reason]

    asyncio.run(story())


def test_who_may_not_is_told_why(locked: Cluster, tmp_path: Path) -> None:
    nobody = tmp_path / "none"

    async def ask(client: Asking) -> str:
        answer = await client.ask(Range("a"))
        assert isinstance(answer, Unknown), answer
        assert client.trouble.reason == answer.reason
        assert client.trouble.hint
        return answer.reason

    async def story() -> None:
        wrong = str(locked.directory / "wrong")
        async with asking(settings(locked, password=wrong)) as client:
            assert await ask(client) == f"etcd does not accept the user floatip with the password in {wrong}"
        async with asking(settings(locked, user="", password=None)) as client:
            assert await ask(client) == f"etcd does not let floatip without a user read below {PREFIX}"
            assert client.trouble.hint == "set user and password in [etcd]"
        async with asking(settings(locked, prefix="/other/")) as client:
            assert await ask(client) == "etcd does not let the user floatip read below /other/"
            client.watch(("",), 0)
            await client.until(lambda: len(client.endpoints) and client.endpoints[0].reason)
        async with asking(settings(locked, password=str(nobody))) as client:
            assert await ask(client) == f"the password file {nobody} cannot be read: No such file or directory"
            nobody.write_text("secret")  # it is read when it is needed
            assert isinstance(await client.ask(Range("a")), Rows)
            assert not client.trouble.reason

    asyncio.run(story())


def test_a_user_who_may_only_read_learns_which_right_is_missing(locked: Cluster) -> None:
    locked.ctl("user", "add", "reader:secret")
    locked.ctl("role", "add", "reader")
    locked.ctl("role", "grant-permission", "reader", "read", PREFIX, "--prefix=true")
    locked.ctl("user", "grant-role", "reader", "reader")
    locked.ctl("put", f"{PREFIX}members/gone", "{}")

    async def story() -> None:
        async with asking(settings(locked, user="reader")) as client:
            write = Txn((), (Put("a", "1"),))
            assert await client.ask(write) == Unknown(
                f"etcd does not let the user reader read and write below {PREFIX}"
            )
            assert isinstance(await client.ask(Range("a")), Rows)
            denied = f"etcd does not let the user reader write below {PREFIX}"
            assert await client.ask(write) == Unknown(denied)
            await client.look()
            assert (client.endpoints[0].answers, client.endpoints[0].reason) == (True, denied)
            locked.ctl("role", "grant-permission", "reader", "readwrite", PREFIX, "--prefix=true")
            await client.look()
            assert (client.endpoints[0].answers, client.endpoints[0].reason) == (True, "")
            locked.ctl("role", "grant-permission", "reader", "read", PREFIX, "--prefix=true")

    asyncio.run(story())
    assert locked.authority
    assert locked.client
    files = locked.authority.ca, locked.client.certificate, locked.client.key
    etcd = Etcd(locked.endpoints, PREFIX, *files, user="reader", password=locked.directory / "password")
    with Store(etcd) as store, pytest.raises(NoEtcd) as refused:
        store.forget("gone")
    assert refused.value.what == f"etcd does not let the user reader write below {PREFIX}"
    assert refused.value.hint == f"allow it: etcdctl role grant-permission ROLE readwrite {PREFIX} --prefix=true"


def test_certificates_that_do_not_fit_are_told_apart(locked: Cluster, tmp_path: Path) -> None:
    other = Authority(tmp_path, "another CA")
    foreign = other.sign("foreign")
    assert locked.authority
    port = locked.members[0].port

    async def reason(**others: object) -> str:
        async with asking(settings(locked, endpoints=locked.endpoints[:1], **others)) as client:
            answer = await client.ask(Range("a"))
            assert isinstance(answer, Unknown), answer
            assert client.trouble.hint
            return answer.reason

    async def story() -> None:
        who = locked.endpoints[0].removeprefix("https://")
        assert await reason(ca=str(other.ca)) == f"the certificate of {who} is not trusted: {other.ca} did not sign it"
        assert "our certificate (none was given)" in await reason(certificate=None, key=None)
        ours = {"certificate": str(foreign.certificate), "key": str(foreign.key)}
        assert f"our certificate ({foreign.certificate})" in await reason(**ours)
        plain = (f"http://{who}",)
        async with asking(settings(locked, endpoints=plain, user="")) as client:
            answer = await client.ask(Range("a"))
            assert isinstance(answer, Unknown)
            assert f"{who} closed the connection" in answer.reason
            assert f"https://{who}" in client.trouble.hint
        missing = str(tmp_path / "missing.pem")
        assert await reason(ca=missing) == f"the file {missing} cannot be used: No such file or directory"
        mixed = {"certificate": str(foreign.certificate), "key": str(locked.directory / "client.key")}
        assert f"the file {foreign.certificate} or its key" in await reason(**mixed)
        async with asking(settings(locked, endpoints=(f"https://localhost:{port}",))) as client:
            assert isinstance(await client.ask(Range("a")), Unknown)

    asyncio.run(story())


def test_an_expired_certificate_and_one_for_another_name_are_named_and_a_new_one_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "PROBE_INTERVAL", 0.05)

    async def story(cluster: Cluster) -> None:
        assert cluster.authority
        (member,) = cluster.members
        who = cluster.endpoints[0].removeprefix("https://")
        with_tls = settings(cluster, user="", request_timeout=10.0)
        async with asking(with_tls) as client:
            assert isinstance(await client.ask(Range("a")), Rows)
        for pair, reason in (
            (
                cluster.authority.sign("expired", days=-3, names=(member.address,)),
                f"the certificate of {who} has expired",
            ),
            (cluster.authority.sign("other", names=("192.0.2.9",)), f"the certificate of {who} is for another name"),
        ):
            # etcd reads its certificate at each connection.
            shutil.copy(pair.key, cluster.directory / "server.key")
            shutil.copy(pair.certificate, cluster.directory / "server.pem")
            async with asking(with_tls) as client:
                assert await client.ask(Range("a")) == Unknown(reason)
                assert "openssl" in client.trouble.hint

        # A client's certificate is replaced beside a client that runs.
        good = cluster.authority.sign("good", names=(member.address,))
        shutil.copy(good.key, cluster.directory / "server.key")
        shutil.copy(good.certificate, cluster.directory / "server.pem")
        expired = cluster.sign_client(days=-3)
        async with asking(settings(cluster, user="", request_timeout=10.0)) as client:
            client.look_after()
            answer = await client.ask(Range("a"))
            assert isinstance(answer, Unknown)
            assert f"our certificate ({expired.certificate})" in answer.reason
            cluster.sign_client()
            async with asyncio.timeout(60):
                while not isinstance(await client.ask(Range("a")), Rows):
                    await asyncio.sleep(0.05)

    with Cluster(tmp_path, size=1, tls=True) as cluster:
        asyncio.run(story(cluster))


def test_a_certificate_that_ends_soon_is_told_while_etcd_still_answers(locked: Cluster) -> None:
    async def story() -> None:
        async with asking(settings(locked)) as client:
            client.look_after()
            await client.until(lambda: client.endpoints and client.endpoints[0].reason)
            assert client.endpoints[0].answers
            assert f"our certificate {client.settings.certificate} ends in 9 days" in client.endpoints[0].reason
            assert not client.trouble.reason

    asyncio.run(story())


def test_a_full_etcd_says_so_and_that_it_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PROBE_INTERVAL", 0.1)

    async def story(cluster: Cluster) -> None:
        async with asking(Settings(cluster.endpoints, PREFIX, request_timeout=10.0)) as client:
            client.look_after()
            for number in range(100):  # a busy machine may have no answer to one of them for another reason
                answer = await client.ask(Txn((), (Put(f"{number}", "x" * 900_000),)))
                if not isinstance(answer, TxnDone) and client.trouble.reason:
                    break
            assert client.trouble.reason == "etcd is out of space and takes no writes (alarm NOSPACE)"
            assert "alarm disarm" in client.trouble.hint
            assert isinstance(await client.ask(Range("none")), Rows)
            assert client.trouble.reason, "a read that is answered does not end it"
            assert client.endpoints[0].answers
            await client.until(lambda: "NOSPACE" in client.endpoints[0].reason)
            for command in (
                ("del", PREFIX, "--prefix"),
                ("compact", str(number + 2)),
                ("defrag",),
                ("alarm", "disarm"),
            ):
                await asyncio.to_thread(cluster.ctl, *command)
            await client.until(lambda: not client.trouble.reason)

    with Cluster(tmp_path, size=1, options=(*FAST, "--quota-backend-bytes", str(16 << 20))) as cluster:
        asyncio.run(story(cluster))
