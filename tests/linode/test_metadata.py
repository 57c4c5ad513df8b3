"""The metadata service as floatip asks it: what a Linode answers, and what anybody else might."""

import json
import os
import socket
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Network
from typing import Any

import pytest

from floatip.linode import metadata
from floatip.linode.accounts import Metadata
from tests.linode_fake.account import Account
from tests.linode_fake.clients import fake
from tests.linode_fake.server import Api, Fault, MetadataService

Fake = tuple[Account, Api, MetadataService]
RANGE = "2001:db8:3c4d:15::"
TOKEN_LIFE = 60


@pytest.fixture(name="linode")
def linode_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    with fake(here=1002) as found:
        monkeypatch.setenv(metadata.VARIABLE, found[2].url)
        yield found


@pytest.mark.parametrize("old_keys", [False, True])
def test_it_is_read_with_the_names_of_today_and_of_the_guide(linode: Fake, old_keys: bool) -> None:
    account, _, service = linode
    account.share({"linode_id": 1002, "ips": ["192.0.2.100", RANGE]})
    service.old_keys = old_keys
    assert metadata.ask() == Metadata(
        linode_id=1002,
        label="haproxy2",
        region="us-east",
        public=(IPv4Address("192.0.2.12"),),
        private=(IPv4Address("192.168.143.241"),),
        shared=(IPv4Address("192.0.2.100"),),
        ranges=(),
        shared_ranges=(IPv6Network("2001:db8:3c4d:15::/64"),),
    )
    assert metadata.region() == "us-east"


def test_the_token_is_asked_for_as_the_service_wants_it(linode: Fake) -> None:
    metadata.region()
    (put, path, headers, _), (get, instance, with_token, _) = linode[2].requests
    assert (put, path, get, instance) == ("PUT", "/token", "GET", "/instance")
    assert 1 <= int(headers["Metadata-Token-Expiry-Seconds"]) <= TOKEN_LIFE
    assert with_token["Accept"] == "application/json"
    assert with_token["Metadata-Token"] in linode[2].tokens


def test_a_token_in_json_is_read_too(linode: Fake) -> None:
    linode[2].tokens["abc"] = time.monotonic() + 60
    linode[2].faults.append(Fault("PUT /token", 200, body=b'["abc"]\n'))
    assert metadata.region() == "us-east"


def instance(**values: Any) -> bytes:
    return json.dumps({"id": 1, "label": "a", "region": "us-east"} | values).encode()


HOSTILE = {
    "no JSON": (b"region: us-east\n", "not understood"),
    "no object": (b'["us-east"]', "it is no object"),
    "not UTF-8": (b'{"region": "\xff"}', "not understood"),
    "no region": (b'{"id": 1}', "'region' is missing"),
    "a region that is no word": (instance(region="us-east\n\x1b[31m"), r"region is 'us-east\n\x1b[31m'"),
    "a number as region": (instance(region=6), "region is 6"),
    "a text as id": (instance(id="1"), "id is '1'"),
    "true as id": (instance(id=True), "id is True"),
    "a huge id": (instance(id=1 << 60), "id is"),
    "deep JSON": (b"[" * 60000, "not understood"),
    "a long answer": (instance(label="x" * 70000), "more than 64 KiB"),
}


@pytest.mark.parametrize(("body", "why"), HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_answer_is_refused_in_words(linode: Fake, body: bytes, why: str) -> None:
    linode[2].faults.append(Fault("GET /instance", 200, body=body))
    with pytest.raises(metadata.NotUnderstood) as refused:
        metadata.ask()
    assert why in refused.value.what
    assert refused.value.what.isprintable()
    assert len(refused.value.what) < 400


NETWORKS = {
    "a text for a table": b'{"ipv4": "x"}',
    "a number for an address": b'{"ipv4": {"public": [1]}}',
    "no address": b'{"ipv4": {"public": ["x"]}}',
    "IPv6 for IPv4": b'{"ipv4": {"shared": ["2001:db8::1/64"]}}',
    "a number for a list": b'{"ipv6": {"ranges": 5}}',
    "no range": b'{"ipv6": {"shared_ranges": ["2001:db8::/129"]}}',
}


@pytest.mark.parametrize("body", NETWORKS.values(), ids=NETWORKS)
def test_a_network_of_other_types_is_refused(linode: Fake, body: bytes) -> None:
    linode[2].faults.append(Fault("GET /network", 200, body=body))
    with pytest.raises(metadata.NotUnderstood, match="not understood"):
        metadata.ask()


def test_a_network_without_anything_is_read(linode: Fake) -> None:
    linode[2].faults.append(Fault("GET /network", 200, body=b'{"ipv4": null, "interfaces": []}'))
    assert metadata.ask().shared == ()


ANSWERS = {
    "a refusal with its reason": (Fault("GET /instance", 401, "Not \x07 authenticated"), r"HTTP 401: Not \x07 auth"),
    "a redirect": (Fault("PUT /token", 302, headers={"Location": "http://192.0.2.1/"}), "HTTP 302"),
    "a missing page": (Fault("PUT /token", 404, body=b"<html>"), "HTTP 404"),
    "no HTTP": (Fault("PUT /token", raw=b"SSH-2.0-OpenSSH\r\n\r\n"), "not answer in HTTP"),
    "nothing": (Fault("PUT /token", raw=b""), "closes the connection"),
    "half an answer": (Fault("GET /instance", raw=b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"), "HTTP"),
    "endless headers": (Fault("PUT /token", raw=b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20000), "HTTP"),
    "a token with a space": (Fault("PUT /token", 200, body=b"a b"), "no token"),
    "a token with a line end": (Fault("PUT /token", 200, body=b"a\r\nX: y"), "no token"),
    "an empty token": (Fault("PUT /token", 200, body=b""), "no token"),
}


@pytest.mark.parametrize(("fault", "why"), ANSWERS.values(), ids=ANSWERS)
def test_whoever_answers_there_is_not_believed(linode: Fake, fault: Fault, why: str) -> None:
    linode[2].faults.append(Fault(**vars(fault)))
    with pytest.raises(metadata.Unavailable) as refused:
        metadata.ask()
    assert why in refused.value.what
    assert refused.value.hint
    assert refused.value.what.isprintable()


SLOW = {
    "silent": Fault("GET /instance", 200, seconds=60),
    "an octet at a time": Fault("GET /instance", 200, body=b" " * 1000, drip=0.05),
}


@pytest.mark.parametrize("fault", SLOW.values(), ids=SLOW)
def test_the_whole_question_ends_in_time(linode: Fake, fault: Fault) -> None:
    linode[2].faults.append(Fault(**vars(fault)))
    began = time.monotonic()
    with pytest.raises(metadata.Unavailable, match="does not answer in time"):
        metadata.ask(timeout=0.4)
    assert 0.3 < time.monotonic() - began < 5


def test_where_nothing_listens_the_second_address_is_asked(linode: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(metadata.VARIABLE)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
    monkeypatch.setattr(metadata, "URLS", (nobody, linode[2].url))
    assert metadata.ask().linode_id == 1002
    monkeypatch.setattr(metadata, "URLS", (nobody, nobody))
    with pytest.raises(metadata.Unavailable, match="connection refused"):
        metadata.ask()


def test_the_second_address_is_asked_where_the_first_is_silent(linode: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(metadata.VARIABLE)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        first = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        monkeypatch.setattr(metadata, "URLS", (first, linode[2].url))
        assert metadata.ask(timeout=3.0).linode_id == 1002


@pytest.mark.parametrize(
    "url",
    ["http://192.0.2.1/v1", "https://127.0.0.1:1/v1", "http://localhost:1/v1", "ftp://x", "x", "http://127.0.0.1/v1"],
)
def test_only_this_machine_can_stand_in_for_the_service(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv(metadata.VARIABLE, url)
    with pytest.raises(metadata.Unavailable, match="no service on this machine"):
        metadata.ask()


def test_no_proxy_of_the_environment_is_asked(linode: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert os.environ["http_proxy"]
    assert metadata.region() == "us-east"
