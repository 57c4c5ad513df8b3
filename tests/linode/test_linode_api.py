"""Linode's API as floatip asks it, over HTTP: what it reads, what it refuses, and that the token is never shown."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from floatip.commands import Refusal
from floatip.linode import api, token
from floatip.linode.accounts import Shares
from tests.host.test_http_checks import certificate
from tests.linode_fake.account import Account, Linode
from tests.linode_fake.clients import TOKEN, fake
from tests.linode_fake.server import Api, Fault

RANGE = IPv6Network("2001:db8:3c4d:15::/64")
VIP = IPv4Address("192.0.2.100")
Tell = list[str]
Fake = tuple[Account, Api]


@pytest.fixture(name="linode")
def linode_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    with fake() as (account, server, _):
        monkeypatch.setenv(api.VARIABLE, server.url)
        monkeypatch.setenv("LINODE_TOKEN", TOKEN)
        yield account, server


def account_of(told: Tell | None = None, patience: float = 5.0) -> api.Account:
    return api.Account(token.find(None), (told if told is not None else []).append, patience)


def test_linodes_are_read_over_several_pages(linode: Fake) -> None:
    account, server = linode
    for number in range(1003, 1008):
        account.add(Linode(number, f"web{number}", public=[f"192.0.2.{number - 900}"]))
    server.page_sizes = (1, 2)
    found = account_of().linodes()
    assert [one.id for one in found] == list(range(1001, 1008))
    assert found[0].ipv4[0] == IPv4Address("192.0.2.11")
    assert found[0].ipv6 == IPv6Address("2001:db8::f03c:91ff:fe00:1")
    assert found[2].ipv6 is None


def test_a_list_that_changes_between_two_pages_is_not_taken_for_whole(linode: Fake) -> None:
    account, server = linode
    for number in range(1003, 1008):
        account.add(Linode(number, f"web{number}"))
    server.page_sizes = (1, 2)
    one = account_of()
    get = one._client.get

    def and_then_one_more(path: str) -> Any:
        answer = get(path)
        account.add(Linode(900 + len(account.linodes), "new"))
        return answer

    one._client.get = and_then_one_more
    with pytest.raises(api.Unclear, match="changed while it was read"):
        one.linodes()


def test_what_is_shared_is_read_from_addresses_and_ranges(linode: Fake) -> None:
    account, _ = linode
    account.add(Linode(1003, "far", region="eu-central"), "2001:db8:99::/56")
    one = account_of()
    one.share(1002, [VIP, RANGE])
    assert api.shares(1002, token.find(None)) == Shares(1002, (VIP,), (RANGE,))
    assert one.shares(1001) == Shares(1001, (), (RANGE,))  # the API does not tell an owner from those that share it
    assert account.writes == [(1002, ["192.0.2.100", "2001:db8:3c4d:15::"])]
    assert one.held(1002).own == (IPv4Address("192.0.2.12"), IPv4Address("192.168.143.241"))


def test_a_linode_without_ipv6_has_shares_too(linode: Fake) -> None:
    account, _ = linode
    account.linodes[1002].slaac = ""
    assert account_of().shares(1002) == Shares(1002, (), ())


# Refusals

REFUSALS: dict[str, tuple[Fault, type[api.ApiError], str, str]] = {
    "a token that is not known": (
        Fault(".*", 401, "Invalid Token"),
        api.ApiError,
        "the API refuses the token",
        "$LINODE_TOKEN; make one at https://cloud.linode.com/profile/tokens, with the scopes ips:read_write",
    ),
    "a token without the scopes": (
        Fault(".*", 401, "Your OAuth token is not authorized to use this endpoint."),
        api.ApiError,
        "not authorized to use this endpoint",
        "ips:read_write and linodes:read_write",
    ),
    "a user without grants": (
        Fault(".*", 403, "Unauthorized"),
        api.ApiError,
        "the user of the token may not do this",
        "ask the owner of the account",
    ),
    "no such Linode": (Fault(".*", 404, "Not found"), api.ApiError, "does not exist in this token's account", "cloud."),
    "the wrong version": (Fault(".*", 405, "Method Not Allowed"), api.ApiError, "does not have the call", api.VARIABLE),
    "another region": (Fault(".*", 400, "ips: other region"), api.ApiError, "other region", "within its region"),
    "busy": (Fault(".*", 400, "Linode busy."), api.Again, "busy with another job", "reads first"),
    "too many requests": (
        Fault(".*", 429, "Too many requests", {"Retry-After": "7"}),
        api.Again,
        "too many requests",
        "run the same command again",
    ),
    "an error of theirs": (Fault(".*", 500, "Internal Server Error"), api.Again, "has trouble", "status.linode.com"),
    "maintenance": (Fault(".*", 503, "Service unavailable"), api.Again, "HTTP 503", "status.linode.com"),
    "a page of a proxy": (Fault(".*", 502, body=b"<html>Bad Gateway"), api.Again, "HTTP 502", "status.linode.com"),
    "teapot": (Fault(".*", 418, "x"), api.ApiError, "HTTP 418", "run the same command again"),
    "an empty refusal": (Fault(".*", 400, body=b""), api.ApiError, "without a reason", "within its region"),
    "a refusal of another form": (Fault(".*", 400, body=b'{"errors": 5}'), api.Unclear, "not understood", "newer"),
    "a refusal without a reason": (Fault(".*", 400, body=b'{"errors": [{}]}'), api.Unclear, "reason", "newer"),
    "a redirect": (Fault(".*", 302, "x", {"Location": "http://192.0.2.1/"}), api.ApiError, "redirect", "curl"),
    "no JSON": (Fault(".*", 200, body=b"<html>"), api.Unclear, "is no JSON", "newer linode-api4"),
    "JSON of another form": (Fault(".*", 200, body=b"[]"), api.Unclear, "not understood", "newer linode-api4"),
    "deep JSON": (Fault(".*", 200, body=b"[" * 100000), api.Unclear, "not understood", "newer linode-api4"),
    "a hostile reason": (Fault(".*", 400, "\x1b[2J\r\n" + TOKEN), api.ApiError, r"\x1b[2J (the token)", "region"),
    "a long reason": (Fault(".*", 400, "x" * 5000), api.ApiError, "x" * 200, "region"),
    "no HTTP": (Fault(".*", raw=b"SSH-2.0\r\n"), api.Again, "cannot be asked", "run the same command again"),
    "a closed connection": (Fault(".*", raw=b""), api.Again, "cannot be asked", "run the same command again"),
}


@pytest.mark.parametrize("call", ["read", "write"])
@pytest.mark.parametrize(("fault", "kind", "what", "hint"), REFUSALS.values(), ids=REFUSALS)
def test_each_refusal_says_in_words_what_to_do(
    linode: Fake, fault: Fault, kind: type[api.ApiError], what: str, hint: str, call: str
) -> None:
    account, server = linode
    one = account_of(patience=0.0)
    server.faults.append(Fault(**vars(fault)))
    calls: dict[str, Callable[[], object]] = {"read": lambda: one.held(1002), "write": lambda: one.share(1002, [VIP])}
    if call == "write" and fault.status == 200 and fault.body == b"[]":
        calls[call]()  # what a successful write answers does not matter: it is read again
        return
    with pytest.raises(api.ApiError) as refused:
        calls[call]()
    error = refused.value
    assert type(error) is kind, error
    assert what in error.what
    assert hint in error.hint
    assert error.what.isprintable()
    assert len(error.what) < 500
    assert TOKEN not in f"{error.what}{error.hint}"
    assert not account.writes


def test_a_reading_waits_as_long_as_the_api_says_and_says_so(linode: Fake) -> None:
    _, server = linode
    server.faults.append(Fault("GET .*", 429, "Too many requests", {"Retry-After": "0.2"}, times=2))
    told: Tell = []
    began = time.monotonic()
    assert account_of(told).held(1002).shared == ()
    assert time.monotonic() - began > 0.35
    assert len(told) == 2
    assert all(line.endswith("trying again in 0.2 s") for line in told)


@pytest.mark.parametrize(("said", "waits"), [("7", 7.0), ("99999", 30.0), ("-5", 0.1), ("soon", 15.0), ("nan", 15.0)])
def test_a_wait_that_the_api_asks_for_has_limits(linode: Fake, said: str, waits: float) -> None:
    linode[1].faults.append(Fault(".*", 429, "x", {"Retry-After": said}))
    with pytest.raises(api.Again) as refused:
        account_of(patience=0.0).held(1002)
    assert refused.value.wait == waits


def test_a_silent_api_is_given_up(linode: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "READ", 0.3)
    linode[1].faults.append(Fault(".*", 200, seconds=60))
    with pytest.raises(api.Again, match="does not answer GET"):
        account_of(patience=0.0).held(1002)


def test_an_api_that_answers_octet_by_octet_is_given_up(linode: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "WHOLE", 0.3)
    linode[1].faults.append(Fault(".*", 200, body=b" " * 5000, drip=0.05))
    with pytest.raises(api.Again, match="does not answer GET"):
        account_of(patience=0.0).held(1002)


def test_a_redirect_is_named_and_no_token_follows_it(linode: Fake) -> None:
    with fake() as (_, other, _):
        linode[1].faults.append(Fault(".*", 302, headers={"Location": f"{other.url}/linode/instances"}))
        with pytest.raises(api.ApiError, match="a redirect, and a token is sent to nobody else"):
            account_of().held(1002)
        assert not other.requests


def test_an_answer_has_a_limit(linode: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "LARGEST", 1000)
    linode[1].faults.append(Fault(".*", 200, body=b" " * 5000))
    with pytest.raises(api.ApiError, match="larger than"):
        account_of().held(1002)


def test_where_nothing_listens_it_says_what_the_kernel_says(linode: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv(api.VARIABLE, f"http://127.0.0.1:{port}/v4")
    with pytest.raises(api.ApiError) as refused:
        account_of().linodes()
    assert refused.value.what.endswith("(GET /linode/instances): connection refused")
    assert not isinstance(refused.value, api.Again)


ODD: dict[str, tuple[str, Any]] = {
    "an address that is none": ("/linode/instances/1002/ips", {"ipv4": {"public": [{"address": "x"}], "shared": []}}),
    "an address of another type": ("/linode/instances/1002/ips", {"ipv4": {"shared": [{"address": 5}]}}),
    "no list of what is shared": ("/linode/instances/1002/ips", {"ipv4": {"public": []}}),
    "IPv6 as IPv4": ("/linode/instances/1002/ips", {"ipv4": {"shared": [{"address": "2001:db8::1"}]}}),
    "ranges of another form": ("/networking/ipv6/ranges", {"data": [{"range": "x"}], "pages": 1, "results": 1}),
    "pages without end": ("/networking/ipv6/ranges", {"data": [], "pages": 10**9, "results": 0}),
    "fewer than it says": ("/networking/ipv6/ranges", {"data": [], "pages": 1, "results": 3}),
    "a range that is shared perhaps": (
        "/networking/ipv6/ranges/2001:db8:3c4d:15::",
        {"range": "2001:db8:3c4d:15::", "prefix": 64, "region": "us-east", "is_bgp": "yes", "linodes": [1002]},
    ),
    "Linodes that are texts": (
        "/networking/ipv6/ranges/2001:db8:3c4d:15::",
        {"range": "2001:db8:3c4d:15::", "prefix": 64, "region": "us-east", "is_bgp": True, "linodes": ["1002"]},
    ),
    "an id that is no number": ("/linode/instances/1002", {"id": "x", "label": "a", "region": "b", "ipv4": []}),
}


@pytest.mark.parametrize(("path", "answer"), ODD.values(), ids=ODD)
def test_an_answer_of_other_types_is_never_taken_for_nothing_shared(linode: Fake, path: str, answer: Any) -> None:
    linode[1].faults.append(Fault(f"GET {re.escape(path)}", 200, body=json.dumps(answer).encode()))
    with pytest.raises(api.Unclear, match=f"GET {re.escape(path)}"):
        account_of(patience=0.0).shares(1002)


# The token

FILES: dict[str, tuple[bytes, int, str]] = {
    "that others may read": (TOKEN.encode(), 0o644, "(mode 644)"),
    "that the group may read": (TOKEN.encode(), 0o640, "(mode 640)"),
    "that is empty": (b" \n", 0o600, "it is empty"),
    "of two words": (f"{TOKEN} {TOKEN}".encode(), 0o600, "one word of printable ASCII"),
    "of two lines": (f"{TOKEN}\nX-Other: 1".encode(), 0o600, "one word of printable ASCII"),
    "with a control character": (f"{TOKEN}\x1b".encode(), 0o600, "one word of printable ASCII"),
    "that is no ASCII": (f"{TOKEN}é".encode(), 0o600, "one word of printable ASCII"),
    "that is long": (b"x" * 5000, 0o600, "one word of printable ASCII"),
}


@pytest.mark.parametrize(("content", "mode", "why"), FILES.values(), ids=FILES)
def test_a_file_is_refused_without_showing_it(tmp_path: Path, content: bytes, mode: int, why: str) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    file.chmod(mode)
    with pytest.raises(Refusal) as refused:
        token.find(file)
    assert why in refused.value.what
    assert refused.value.hint
    assert TOKEN not in str(refused.value)


def test_a_file_comes_before_the_environment_and_one_variable_before_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in token.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Refusal, match="no token for Linode's API"):
        token.find(None)
    monkeypatch.setenv("LINODE_CLI_TOKEN", "c")
    assert token.find(None) == token.Token("c", "$LINODE_CLI_TOKEN")
    monkeypatch.setenv("LINODE_TOKEN", "b")
    assert token.find(None) == token.Token("b", "$LINODE_TOKEN")
    file = tmp_path / "token"
    file.write_text("a\n")
    file.chmod(0o600)
    assert token.find(file) == token.Token("a", str(file))


@pytest.mark.parametrize("name", ["missing", "."])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refusal, match=r"no such file|is a directory|is no file"):
        token.find(tmp_path / name)


def test_the_command_that_makes_a_token_file_private_runs_as_it_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "my token; $(id)"
    file.write_text(TOKEN)
    file.chmod(0o644)
    with pytest.raises(Refusal) as refused:
        token.find(file)
    subprocess.run(["sh", "-ec", refused.value.hint.partition("; then")[0]], check=True)
    assert token.find(file).value == TOKEN


def test_no_form_of_a_token_shows_it() -> None:
    one = token.Token(TOKEN, "$LINODE_TOKEN")
    assert TOKEN not in f"{one!r} {one}"


def test_a_netrc_does_not_replace_the_token(linode: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("default login a password b\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    one = account_of()
    one._client.session.trust_env = True  # as for the true API
    one.linodes()
    assert linode[1].requests[-1][2]["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1/v4", "http://localhost/v4", "https://a:b@api.linode.com", "ftp://x", "x", "http://"]
)
def test_a_token_leaves_this_machine_by_tls_only(linode: Fake, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv(api.VARIABLE, url)
    with pytest.raises(api.ApiError, match="sent only by https"):
        account_of()


def test_a_token_is_sent_only_to_whom_this_machine_trusts(
    linode: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, context = certificate(tmp_path, 9)
    server = linode[1]
    server.socket = context.wrap_socket(server.socket, server_side=True)
    monkeypatch.setenv(api.VARIABLE, server.url.replace("http:", "https:"))
    before = len(server.requests)
    with pytest.raises(api.ApiError) as refused:
        account_of().linodes()
    assert "shows a certificate that this machine does not trust: self-signed certificate" in refused.value.what
    assert "ca-certificates" in refused.value.hint
    assert len(server.requests) == before
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca))
    assert [one.id for one in account_of().linodes()] == [1001, 1002]


def test_the_true_api_is_asked_by_tls() -> None:
    assert api.URL == "https://api.linode.com/v4"


# The package

LOAD = """
import sys
sys.path.insert(0, sys.argv[1])
from floatip.linode import api, token
api.LIBRARY = sys.argv[2]
try:
    api.Account(token.Token("x", "y"))
    print("ok", api.LIBRARY in sys.path)
except api.ApiError as error:
    print(error)
"""
PARTS = (
    "linode_api4",
    "requests",
    "urllib3",
    "idna",
    "certifi",
    "charset_normalizer",
    "polling",
    "deprecated",
    "wrapt",
)


def test_a_floatip_of_a_debian_package_finds_it_where_pip_is_told_to_put_it(tmp_path: Path) -> None:
    """The package's floatip runs in Python's isolated mode, without site: nothing of pip is on its path."""
    source = str(Path(api.__file__).parents[2])
    command = [sys.executable, "-IS", "-c", LOAD, source, str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    missing = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "linode-api4 is missing" in missing.stdout
    assert f"pip install --target {api.LIBRARY} linode-api4" in missing.stdout
    assert "pip install 'floatip[linode]'" in missing.stdout
    site = Path(sys.modules["requests"].__file__ or "").parents[1]
    for part in site.iterdir():
        if part.name.partition("-")[0].partition(".")[0].lower() in PARTS:
            (tmp_path / part.name).symlink_to(part)
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert found.stdout == "ok True\n", found.stderr
