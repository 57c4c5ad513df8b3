"""The fake is what the official clients expect of Linode: they drive it here."""

import json
import math
from collections.abc import Iterator
from typing import Any

import linode_api4
import linode_metadata
import pytest
import requests
from linode_api4.errors import ApiError

from tests.linode_fake.account import ALL, Account, Linode
from tests.linode_fake.clients import TOKEN, fake
from tests.linode_fake.server import Api, Fault, MetadataService

Fake = tuple[Account, Api, MetadataService]
RANGE = "2001:db8:3c4d:15::"


@pytest.fixture(name="linode")
def linode_fixture() -> Iterator[Fake]:
    with fake(here=1002) as found:
        yield found


def client(api: Api, token: str = TOKEN, **options: Any) -> Any:
    return linode_api4.LinodeClient(token, base_url=api.url, retry_rate_limit_interval=0.01, **options)


def shared(one: Any, number: int) -> list[str]:
    return [address.address for address in linode_api4.Instance(one, number).ips.ipv4.shared]


def test_what_is_shared_replaces_what_was_shared_before(linode: Fake) -> None:
    one = client(linode[1])
    one.networking.ip_addresses_share(["192.0.2.100", RANGE], 1002)
    assert shared(one, 1002) == ["192.0.2.100"]
    one.networking.ip_addresses_share(["192.168.223.158"], 1002)
    assert shared(one, 1002) == ["192.168.223.158"]
    assert not linode_api4.IPv6Range(one, RANGE).is_bgp
    one.networking.ip_addresses_share([], 1002)
    assert shared(one, 1002) == []


def test_both_paths_share(linode: Fake) -> None:
    one = client(linode[1])
    assert one.post("/networking/ipv4/share", data={"linode_id": 1002, "ips": ["192.0.2.100"]}) == {}
    assert shared(one, 1002) == ["192.0.2.100"]


def test_only_the_answer_about_one_range_says_who_shares_it(linode: Fake) -> None:
    one = client(linode[1])
    listed = one.get("/networking/ipv6/ranges")["data"][0]
    assert listed == {"range": RANGE, "prefix": 64, "region": "us-east", "route_target": "2001:db8::f03c:91ff:fe00:1"}
    before = linode_api4.IPv6Range(one, RANGE)
    assert (before.is_bgp, before.linodes) == (False, [1001])
    one.networking.ip_addresses_share([RANGE], 1001)
    one.networking.ip_addresses_share([RANGE], 1002)
    after = one.load(linode_api4.IPv6Range, RANGE)
    assert (after.is_bgp, after.linodes, after.prefix) == (True, [1001, 1002], 64)


def test_addresses_say_whose_they_are(linode: Fake) -> None:
    one = client(linode[1])
    assert [(ip.address, ip.linode_id) for ip in one.networking.ips()][:2] == [
        ("192.0.2.11", 1001),
        ("192.0.2.100", 1001),
    ]
    assert linode_api4.Instance(one, 1001).ips.ipv6.ranges[0].range == RANGE
    assert [instance.label for instance in one.linode.instances()] == ["haproxy1", "haproxy2"]
    assert [region.id for region in one.regions()][:1] == ["us-east"]


def test_lists_come_in_pages(linode: Fake) -> None:
    account, api, _ = linode
    for number in range(1003, 1010):
        account.add(Linode(number, f"web{number}", public=[f"192.0.2.{number - 900}"]))
    api.page_sizes = (1, 2)
    assert [one.id for one in client(api, page_size=2).linode.instances()] == list(range(1001, 1010))
    assert api.count("GET /linode/instances") == 5


REFUSED = {
    "an unknown token": ("nobody's", [], 1002, 401, "Invalid Token"),
    "a token that may only read": ("reader", ["192.0.2.100"], 1002, 401, "not authorized"),
    "a user without a grant": ("guest", ["192.0.2.100"], 1002, 403, "Unauthorized"),
    "an unknown Linode": (TOKEN, ["192.0.2.100"], 7, 404, "Not found"),
    "another account's address": (TOKEN, ["198.51.100.1"], 1002, 400, "on your account"),
    "another account's range": (TOKEN, ["2001:db8:99::"], 1002, 400, "on your account"),
    "an address of its own": (TOKEN, ["192.0.2.12"], 1002, 400, "assigned to this Linode"),
    "a range with its length": (TOKEN, [f"{RANGE}/64"], 1002, 400, "not a valid IP address"),
    "another region": (TOKEN, ["192.0.2.100"], 1003, 400, "same region"),
    "1:1 NAT": (TOKEN, ["192.0.2.11"], 1002, 400, "1:1 NAT"),
}


@pytest.mark.parametrize(("token", "ips", "number", "status", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_linode_refuses_is_refused(
    linode: Fake, token: str, ips: list[str], number: int, status: int, reason: str
) -> None:
    account, api, _ = linode
    account.tokens |= {"reader": "ips:read_only linodes:read_only", "guest": ALL}
    account.grantless.add("guest")
    account.add(Linode(1003, "far", region="eu-central", public=["203.0.113.1"]))
    account.linodes[1001].nat_1_1.append("192.0.2.11")
    with pytest.raises(ApiError) as refused:
        client(api, token).networking.ip_addresses_share(ips, number)
    assert refused.value.status == status
    assert reason in refused.value.errors[0]
    assert not account.writes


def test_a_busy_linode_is_no_error_that_the_official_client_tries_again(linode: Fake) -> None:
    account, api, _ = linode
    api.faults.append(Fault("POST /networking/ips/share", 400, "Linode busy."))
    with pytest.raises(ApiError, match="Linode busy"):
        client(api).networking.ip_addresses_share(["192.0.2.100"], 1002)
    assert not account.writes


def test_too_many_requests_are_tried_again_by_the_official_client(linode: Fake) -> None:
    account, api, _ = linode
    api.faults.append(Fault("POST .*", 429, "Too many requests", {"Retry-After": "0"}, times=2))
    client(api).networking.ip_addresses_share(["192.0.2.100"], 1002)
    assert account.writes == [(1002, ["192.0.2.100"])]


def test_a_write_is_seen_later(linode: Fake) -> None:
    account, api, _ = linode
    account.visible_after = math.inf
    one = client(api)
    one.networking.ip_addresses_share(["192.0.2.100"], 1002)
    assert shared(one, 1002) == []
    account.linode(1002).visible_at = 0.0
    assert shared(one, 1002) == ["192.0.2.100"]


def test_another_writer_comes_in_between(linode: Fake) -> None:
    account, api, _ = linode
    one = client(api)
    account.before_write.append(lambda: account.share({"linode_id": 1002, "ips": ["192.168.223.158"]}))
    one.networking.ip_addresses_share(["192.0.2.100"], 1002)
    assert shared(one, 1002) == ["192.0.2.100"]
    assert [ips for _, ips in account.writes] == [["192.168.223.158"], ["192.0.2.100"]]


# The metadata service


def official(service: MetadataService, **options: Any) -> Any:
    return linode_metadata.MetadataClient(base_url=service.url, **options)


def test_the_official_metadata_client_reads_it(linode: Fake) -> None:
    account, _, service = linode
    account.share({"linode_id": 1002, "ips": ["192.0.2.100", RANGE]})
    with official(service) as one:
        about, network = one.get_instance(), one.get_network()
    assert (about.id, about.label, about.region) == (1002, "haproxy2", "us-east")
    assert (network.ipv4.public, network.ipv4.private) == (["192.0.2.12/32"], ["192.168.143.241/32"])
    assert network.ipv4.shared == ["192.0.2.100/32"]
    assert network.ipv6.shared_ranges == ["2001:db8:3c4d:15::/64"]
    assert network.ipv6.link_local == "fe80::1/128"


def test_it_has_the_names_of_the_older_guide_too(linode: Fake) -> None:
    account, _, service = linode
    account.share({"linode_id": 1002, "ips": ["192.0.2.100", RANGE]})
    service.old_keys = True
    headers = {"Metadata-Token": token_of(service), "Accept": "application/json"}
    answer = requests.get(f"{service.url}/network", headers=headers, timeout=5).json()
    assert answer["ipv4"]["elastic"] == ["192.0.2.100/32"]
    assert answer["ipv6"]["elastic-ranges"] == ["2001:db8:3c4d:15::/64"]
    assert "link-local" in answer["ipv6"]


def test_it_speaks_plain_text_unless_asked_for_json(linode: Fake) -> None:
    service = linode[2]
    answer = requests.get(f"{service.url}/instance", headers={"Metadata-Token": token_of(service)}, timeout=5)
    assert answer.headers["Content-Type"] == "text/plain"
    assert "region: us-east" in answer.text.splitlines()
    as_json = requests.put(
        f"{service.url}/token",
        headers={"Metadata-Token-Expiry-Seconds": "60", "Accept": "application/json"},
        timeout=5,
    )
    assert len(json.loads(as_json.text)) == 1


def test_it_wants_a_token_and_its_lifetime(linode: Fake) -> None:
    service = linode[2]
    assert requests.get(f"{service.url}/instance", timeout=5).status_code == 401
    assert requests.put(f"{service.url}/token", timeout=5).status_code == 400
    assert requests.get(f"{service.url}/token", timeout=5).status_code == 405
    headers = {"Metadata-Token": token_of(service)}
    assert requests.get(f"{service.url}/instance", headers=headers, timeout=5).status_code == 200
    service.tokens[headers["Metadata-Token"]] = 0.0
    assert requests.get(f"{service.url}/instance", headers=headers, timeout=5).status_code == 401


def token_of(service: MetadataService) -> str:
    headers = {"Metadata-Token-Expiry-Seconds": "60"}
    return str(requests.put(f"{service.url}/token", headers=headers, timeout=5).text)
