"""Checks by HTTP and HTTPS, against servers on the loopback interface."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from floatip.model import Http
from tests.host.checking import Asked, verdicts

NAME = "shop.example.org"
Respond = Callable[[str, list[str], asyncio.StreamWriter], Awaitable[None]]


async def respond(target: str, heads: list[str], writer: asyncio.StreamWriter) -> None:
    body = b"all is \xff well; " + " ".join(heads).encode()
    match target:
        case "/never":
            await asyncio.sleep(3600)
        case "/endless":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            for _ in range(3600):
                writer.write(b"x" * 10)
                await asyncio.sleep(0.01)
        case "/large":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 65536 + b"behind")
        case "/zip":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nall is not zipped")
        case "/nonsense":
            writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        case "/hangup":
            pass
        case _:
            status = target.removeprefix("/")
            head = (
                f"HTTP/1.1 {status} x\r\nX-Kind: \x1b[31mred\r\nLocation: /never\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)


@asynccontextmanager
async def server(tls: ssl.SSLContext | None = None, *, greets: bool = False) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if greets:
                writer.write(b"220 mail.example.org ESMTP\r\n")
                return
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            method, target, _ = head[0].split(" ")
            await respond(target, [method, *head[1:]], writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


def test_an_answer_is_judged_by_status_body_and_header() -> None:
    async def story() -> None:
        async with server() as port:
            ok = Http(f"http://127.0.0.1:{port}/200")
            found = await verdicts(
                {
                    "ok": ok,
                    "redirect": replace(ok, url=f"http://127.0.0.1:{port}/302"),
                    "only 200": replace(ok, url=f"http://127.0.0.1:{port}/302", status=((200, 200),)),
                    "ranges": replace(ok, url=f"http://127.0.0.1:{port}/404", status=((200, 200), (400, 404))),
                    "503": replace(ok, url=f"http://localhost:{port}/503"),
                    "body": replace(ok, body="all is . well"),
                    "other body": replace(ok, body="all was well"),
                    "header": replace(ok, header=(("x-kind", "r.d$"),)),
                    "other header": replace(ok, header=(("X-Kind", "blue"),)),
                    "no header": replace(ok, header=(("X-Sort", "blue"),)),
                    "large": replace(ok, url=f"http://127.0.0.1:{port}/large", body="behind"),
                    "zip": replace(ok, url=f"http://127.0.0.1:{port}/zip", body="not zipped"),
                    "nonsense": replace(ok, url=f"http://127.0.0.1:{port}/nonsense"),
                    "hangup": replace(ok, url=f"http://127.0.0.1:{port}/hangup"),
                    "refused": Http("http://127.0.0.1:1/"),
                }
            )
        assert found["ok"] == (True, "HTTP 200 OK")
        assert found["redirect"] == (True, "HTTP 302 Found")
        assert found["only 200"] == (False, "HTTP 302 Found")
        assert found["ranges"] == (True, "HTTP 404 Not Found")
        assert found["503"] == (False, "HTTP 503 Service Unavailable")
        assert found["body"] == (True, "HTTP 200 OK")
        other = "HTTP 200 OK, and 'all was well' is not in the body, which begins with 'all is "
        assert found["other body"][1].startswith(other)
        assert found["header"] == (True, "HTTP 200 OK")
        assert found["other header"] == (False, r"HTTP 200 OK, and the header X-Kind is '\x1b[31mred'")
        assert found["no header"] == (False, "HTTP 200 OK, without the header X-Sort")
        assert not found["large"][0], "only the first 64 KiB are looked at"
        assert found["zip"] == (True, "HTTP 200 OK")
        assert not found["nonsense"][0]
        assert found["nonsense"][1].startswith("the answer is not HTTP: ")
        assert found["hangup"] == (False, "the connection was closed without an answer")
        assert found["refused"] == (False, "connection refused")

    asyncio.run(story())


def test_method_headers_and_the_name_of_the_host_are_sent() -> None:
    async def story() -> None:
        async with server() as port:
            url = f"http://{NAME}:{port}/200"
            plain = Http(url, address="127.0.0.1", method="POST", headers=(("Authorization", "Basic x"),))
            found = await verdicts(
                {
                    "sent": replace(plain, body=f"POST (?=.*Authorization: Basic x).*Host: {NAME}:{port}"),
                    "own host": replace(plain, headers=(("Host", "other"),), body="POST .*Host: other"),
                    "once": replace(plain, headers=(("Host", "other"),), body="Host:.*Host:"),
                }
            )
        assert (found["sent"], found["own host"], found["once"][0]) == ((True, "HTTP 200 OK"),) * 2 + (False,)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("path", "reason"), [("never", "connected, and no answer"), ("endless", "the answer does not end")]
)
def test_a_server_that_does_not_answer_has_failed_at_the_timeout_and_comes_back(path: str, reason: str) -> None:
    async def story() -> None:
        async with server() as port:
            silent = Http(f"http://127.0.0.1:{port}/{path}", body="y")
            asked = Asked({"a": silent, "b": Http(f"http://127.0.0.1:{port}/200")})
            assert await asked.run("b") == (True, "HTTP 200 OK")  # by now the helper runs
            assert await asked.run("a", 0.5) == (False, f"timed out after 0.5 s: {reason}")
            assert await asked.run("b") == (True, "HTTP 200 OK")
            await asked.close()

    asyncio.run(story())


def certificate(directory: Path, days: int, name: str = NAME) -> tuple[Path, ssl.SSLContext]:
    """Its own CA, valid for so many days more."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=100))
        .not_valid_after(now + timedelta(days=days, hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    ca, keys = directory / f"{days}.pem", directory / f"{days}.key"
    ca.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    keys.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca, keys)
    return ca, context


def test_a_certificate_must_be_valid_for_the_name_and_for_days_to_come(tmp_path: Path) -> None:
    ca, tls = certificate(tmp_path, 9)
    _, expired = certificate(tmp_path, -3)

    async def story() -> None:
        async with server(tls) as port, server(expired) as old, server(greets=True) as plain:
            url = f"https://{NAME}:{port}/200"
            ok = Http(url, address="127.0.0.1", ca=ca)
            found = await verdicts(
                {
                    "ok": ok,
                    "by address": replace(ok, url=f"https://127.0.0.1:{port}/200", address=""),
                    "enough": replace(ok, certificate_days=9),
                    "too few": replace(ok, certificate_days=10),
                    "not asked to verify": replace(ok, verify=False, ca=None, certificate_days=10),
                    "other name": replace(ok, url=f"https://other.example.org:{port}/200"),
                    "not trusted": replace(ok, ca=None),
                    "not verified": replace(ok, ca=None, verify=False),
                    "expired": replace(ok, url=f"https://{NAME}:{old}/200", ca=tmp_path / "-3.pem"),
                    "expired, not verified": Http(f"https://127.0.0.1:{old}/200", verify=False, certificate_days=1),
                    "no TLS": replace(ok, url=f"https://{NAME}:{plain}/200"),
                    "no CA": replace(ok, ca=tmp_path / "missing"),
                }
            )
        assert found["ok"] == found["by address"] == (True, "HTTP 200 OK")
        assert found["enough"] == (True, "HTTP 200 OK; the certificate is valid for 9 days more")
        assert found["too few"] == (False, "the certificate is valid for 9 days more")
        assert found["not asked to verify"] == (False, "the certificate is valid for 9 days more")
        assert not found["other name"][0]
        assert "certificate is not valid for 'other.example.org'" in found["other name"][1]
        assert found["not trusted"] == (False, "the certificate is not valid: self-signed certificate")
        assert found["not verified"] == (True, "HTTP 200 OK")
        assert found["expired"] == (False, "the certificate is not valid: certificate has expired")
        until = (datetime.now(UTC) + timedelta(days=-3, hours=1)).date()
        assert found["expired, not verified"] == (False, f"the certificate is not valid since {until}")
        assert not found["no TLS"][0]
        assert found["no TLS"][1].startswith("TLS: ")
        assert found["no CA"] == (False, "no such file or directory")

    asyncio.run(story())
