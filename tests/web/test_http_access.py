"""Who may ask: the host that is meant, the token, and pages of other sites."""

import base64
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.web.process import LIMIT, PORT, Answered, Web, connect, raw, request

TOKEN = "correct-horse-battery"
OTHER = "10.9.8.7"
"""An address of this machine that others could reach."""
RIGHT = f"Bearer {TOKEN}"
SAME = f"http://localhost:{PORT}"


@pytest.fixture
def with_token(web: Web) -> Web:
    subprocess.run(["ip", "address", "add", OTHER, "dev", "lo"], check=True)
    listen = [("127.0.0.1", PORT), (OTHER, PORT), ("::1", PORT)]
    assert web.tell(token=web.make_token(TOKEN), listen=listen, hosts=["status.example.org"]) == []
    return web


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1234", "127.0.0.1:8179", "[::1]:8179", "Status.Example.org."])
def test_it_may_be_asked_by_its_names(with_token: Web, host: str) -> None:
    assert request("/healthz", Host=host).status == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", OTHER, "", "[", "::1"),
        *("localhost:80@evil.example", "[::1].evil.example", "localhost:x", "[localhost", "localhost:1:2"),
    ],
)
def test_a_name_that_leads_here_is_not_enough(with_token: Web, host: str) -> None:
    answered = raw(f"GET /status HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert answered.status in (400, 421)
    assert b"VI_1" not in answered.body


def test_two_hosts_are_refused_and_so_is_none(with_token: Web) -> None:
    assert raw(b"GET /status HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n").status == 400
    assert raw(b"GET /status HTTP/1.1\r\n\r\n").status == 400
    assert raw(b"GET /status HTTP/1.0\r\n\r\n").status == 421


def test_the_host_in_the_target_counts(with_token: Web) -> None:
    def get(target: str, host: str) -> int:
        return raw(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()).status

    assert get("http://localhost/healthz", "localhost") == 200
    assert get("http://evil.example/healthz", "evil.example") == 421
    assert get("http://evil.example/healthz", "localhost") == 400
    assert get("http://localhost@evil.example/healthz", "localhost") == 400
    assert get("ftp://localhost/healthz", "localhost") == 400
    assert get("localhost:80", "localhost") == 400


def test_who_comes_over_the_network_needs_the_token(with_token: Web) -> None:
    def get(**headers: str) -> Answered:
        return request("/status", to=OTHER, Host=OTHER, **headers)

    assert get().status == 401
    assert get().headers["www-authenticate"].startswith("Basic ")
    assert get(Authorization=RIGHT).status == 200
    password = base64.b64encode(f"anybody:{TOKEN}".encode()).decode()
    assert get(Authorization=f"Basic {password}").status == 200
    for wrong in ("Bearer", "Bearer ", "Bearer x", f"Bearer {TOKEN}x", "Basic !!!", f"Digest {TOKEN}"):
        assert get(Authorization=wrong).status == 401, wrong


def test_wrong_tokens_are_counted_for_each_address(with_token: Web) -> None:
    def get(token: str, to: str = OTHER) -> Answered:
        return request("/status", to=to, Host=to, Authorization=f"Bearer {token}")

    answers = [get(f"guess {number}").status for number in range(12)]
    assert answers[:10] == [401] * 10
    assert answers[-1] == 429
    refused = get(TOKEN)  # not even looked at
    assert refused.status == 429
    assert 0 < int(refused.headers["retry-after"]) < 60
    assert request("/drain", "POST", Authorization=RIGHT).status == 200  # from another address


def test_orders_need_the_token_on_the_loopback_too(with_token: Web) -> None:
    assert request("/drain", "POST", Origin=SAME).status == 401
    assert request("/drain", "POST", Authorization="Bearer wrong").status == 401
    assert with_token.daemon.asked == []
    assert request("/drain", "POST", Authorization=RIGHT).status == 200
    assert with_token.daemon.asked == [{"cmd": "drain"}]


def test_without_a_token_in_the_file_there_are_no_orders(web: Web) -> None:
    answered = request("/drain", "POST", Authorization=RIGHT, Origin=SAME)
    assert answered.status == 403
    assert b"none is configured" in answered.body
    assert web.daemon.asked == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:8000"},
        {"Origin": SAME, "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_a_page_of_another_site_orders_nothing_even_with_the_token(with_token: Web, headers: dict[str, str]) -> None:
    assert request("/drain", "POST", Authorization=RIGHT, **headers).status == 403
    assert with_token.daemon.asked == []


def test_a_browser_says_where_its_form_comes_from(with_token: Web) -> None:
    def post(**headers: str) -> int:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        return request("/drain", "POST", f"token={TOKEN}&reason=new+kernel%21".encode(), **form | headers).status

    assert post() == 403
    assert post(Sec_Fetch_Site="same-origin") == 200
    assert post(Origin=SAME) == 200
    assert with_token.daemon.asked == [{"cmd": "drain", "reason": "new kernel!"}] * 2


def test_a_form_passes_a_proxy_that_sends_its_own_password_along(with_token: Web) -> None:
    own = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": "Basic bWU6c2VjcmV0"}
    assert request("/drain", "POST", f"token={TOKEN}".encode(), Origin=SAME, **own).status == 200
    wrong = request("/drain", "POST", b"token=wrong", Origin=SAME, **own)
    assert wrong.status == 401
    assert wrong.headers["www-authenticate"].startswith("Bearer ")  # no browser asks for a password then
    assert request("/drain", "POST", f"token={TOKEN}".encode(), **own).status == 403


@pytest.mark.parametrize("query", ["chek=1", "dry-run=1", "check=1&now=1", "%63heck=1"])
def test_a_misspelt_check_is_no_order(with_token: Web, query: str) -> None:
    assert request(f"/drain?{query}", "POST", Authorization=RIGHT).status == 400
    assert with_token.daemon.asked == []


def test_an_order_that_gets_no_answer_is_not_said_to_be_refused(with_token: Web) -> None:
    go_on = threading.Event()

    def hang(request: dict[str, Any]) -> dict[str, Any]:
        go_on.wait(LIMIT)
        return {"done": True}

    with_token.daemon.order = hang
    try:
        answered = request("/drain", "POST", Authorization=RIGHT)
    finally:
        go_on.set()
    assert answered.status == 503
    assert b"may be done later, or done already" in answered.body


def test_what_has_no_utf_8_is_refused_in_words(with_token: Web) -> None:
    for body in (b'{"\\ud800": 1}', b'{"for": "\\ud800"}', b'{"force": "\\ud800"}'):
        assert request("/drain", "POST", body, Authorization=RIGHT).status == 400
    assert request("/handover", "POST", b'{"instance": "\\ud800"}', Authorization=RIGHT).status == 200
    with_token.daemon.order = lambda request: {"error": f"there is no {request['instance']}"}
    assert request("/handover", "POST", b'{"instance": "\\ud800"}', Authorization=RIGHT).status == 503


def test_what_the_daemon_refuses_is_said(with_token: Web) -> None:
    refusal = {"done": False, "refused": "no other node could take over VI_1", "hint": "mend that node first"}
    with_token.daemon.order = lambda request: refusal
    answered = request("/handover", "POST", Authorization=RIGHT)
    assert (answered.status, answered.data) == (409, refusal)


def test_a_check_is_no_order(with_token: Web) -> None:
    assert request("/drain?check=1", "POST", b'{"for": 60, "force": true}', Authorization=RIGHT).status == 200
    assert with_token.daemon.asked == [{"cmd": "drain", "check": True, "for": 60, "force": True}]


@pytest.mark.parametrize(
    "body", [b"[]", b"{", b'{"cmd": "status"}', b'{"to": "h2"}', b'{"force": "maybe"}', b'{"reason": 1}']
)
def test_an_order_that_is_not_understood_reaches_no_daemon(with_token: Web, body: bytes) -> None:
    assert request("/drain", "POST", body, Authorization=RIGHT).status == 400
    assert with_token.daemon.asked == []


def test_a_token_that_cannot_be_used_is_told_and_lets_nobody_in(web: Web) -> None:
    [failing] = web.tell(token=web.make_token("short"))
    assert "is not one word of 16 to 512 characters" in failing[1]
    assert request("/drain", "POST", Authorization="Bearer short").status == 403
    assert request("/healthz").status == 200


# TLS


def _made(directory: Path, name: str, *more: str) -> tuple[Path, Path]:
    key, certificate = directory / f"{name}.key", directory / f"{name}.pem"
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*new, *subject, "-keyout", key, "-out", certificate, *more], check=True, capture_output=True)
    return certificate, key


def _get(context: ssl.SSLContext, host: str = "127.0.0.1") -> Answered:
    return Answered(_octets(context, host))


def _octets(context: ssl.SSLContext, host: str) -> bytes:
    with context.wrap_socket(connect(host=host), server_hostname="localhost") as client:
        client.sendall(b"GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b""
        while data := client.recv(65536):
            answer += data
    return answer


def _is_sent_away(context: ssl.SSLContext) -> bool:
    """In TLS 1.3 a client learns it after its handshake, or sees only the end."""
    try:
        return _octets(context, "127.0.0.1") == b""
    except OSError:
        return True


@pytest.fixture
def tls(unconfigured: Web, tmp_path: Path) -> Callable[..., ssl.SSLContext]:
    """Configures it with TLS; gives what a client trusts."""
    subprocess.run(["ip", "address", "add", OTHER, "dev", "lo"], check=True)
    certificate, key = _made(tmp_path, "server")

    def configured(**more: Any) -> ssl.SSLContext:
        files = {"tls_certificate": certificate, "tls_key": key, "listen": [("127.0.0.1", PORT), (OTHER, PORT)]}
        assert unconfigured.tell(**files | more) == []
        return ssl.create_default_context(cafile=certificate)

    return configured


def test_it_speaks_tls(tls: Callable[..., ssl.SSLContext]) -> None:
    assert _get(tls()).status == 200
    assert _get(tls(), OTHER).status == 401


def test_who_has_a_certificate_of_the_ca_may_read(tls: Callable[..., ssl.SSLContext], tmp_path: Path) -> None:
    certificate, key = _made(tmp_path, "client")
    context = tls(client_ca=certificate)
    assert _is_sent_away(context)
    context.load_cert_chain(certificate, key)
    assert _get(context, OTHER).status == 200
    foreign = ssl.create_default_context(cafile=tmp_path / "server.pem")
    foreign.load_cert_chain(*_made(tmp_path, "stranger"))
    assert _is_sent_away(foreign)


def test_without_its_certificate_nothing_listens(unconfigured: Web, tmp_path: Path) -> None:
    [failing] = unconfigured.tell(tls_certificate=tmp_path / "missing.pem")
    assert failing[0] == "http TLS"
    assert "no such file" in failing[1].lower()
    with pytest.raises(ConnectionRefusedError):
        connect()


def test_a_broken_ca_opens_nothing(tls: Callable[..., ssl.SSLContext], unconfigured: Web, tmp_path: Path) -> None:
    context = tls()
    broken = tmp_path / "broken.pem"
    broken.write_text("nonsense")
    files = {"tls_certificate": tmp_path / "server.pem", "tls_key": tmp_path / "server.key", "client_ca": broken}
    told = unconfigured.tell(**files, listen=[("127.0.0.1", PORT), (OTHER, PORT)])
    assert [name for name, _, _ in told] == ["http TLS"]
    assert _get(context, OTHER).status == 401
