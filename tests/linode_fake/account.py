"""What an account has, and what becomes of it. No HTTP."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Network, ip_address
from typing import Any

ALL = "ips:read_write linodes:read_write"


class Refused(Exception):
    def __init__(self, status: int, reason: str, where: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.errors = [{"reason": reason} | ({"field": where} if where else {})]


@dataclass
class Linode:
    id: int
    label: str
    region: str = "us-east"
    public: list[str] = field(default_factory=list)
    private: list[str] = field(default_factory=list)
    slaac: str = ""
    nat_1_1: list[str] = field(default_factory=list)
    """Those of its public addresses that are translated to an address in a VPC."""
    shared: list[str] = field(default_factory=list)
    """IPv4 addresses and ranges that it may use although another Linode owns them; ranges also of its own."""
    seen: list[str] = field(default_factory=list)
    """What reading shows until `visible_at`."""
    visible_at: float = 0.0

    def shows(self) -> list[str]:
        return self.shared if time.monotonic() >= self.visible_at else self.seen


@dataclass
class Range:
    network: IPv6Network
    owner: int
    region: str

    @property
    def name(self) -> str:
        return str(self.network.network_address)


@dataclass
class Account:
    linodes: dict[int, Linode] = field(default_factory=dict)
    ranges: dict[str, Range] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    """The scopes of each."""
    grantless: set[str] = field(default_factory=set)
    """Tokens of users without a grant for anything."""
    visible_after: float = 0.0
    """Seconds until a write can be read."""
    before_write: list[Callable[[], None]] = field(default_factory=list)
    """Done once each, after a write has come and before it counts: another writer."""
    after_write: list[Callable[[], None]] = field(default_factory=list)
    writes: list[tuple[int, list[str]]] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def add(self, linode: Linode, *ranges: str) -> Linode:
        self.linodes[linode.id] = linode
        for text in ranges:
            one = Range(IPv6Network(text), linode.id, linode.region)
            self.ranges[one.name] = one
        return linode

    def linode(self, number: int) -> Linode:
        if number not in self.linodes:
            raise Refused(404, "Not found")
        return self.linodes[number]

    def owner(self, address: str) -> Linode | None:
        return next((one for one in self.linodes.values() if address in (*one.public, *one.private)), None)

    def share(self, body: Any) -> None:
        """The whole list: what was shared to this Linode before, and is not in it, is no more."""
        if not isinstance(body, dict) or type(number := body.get("linode_id")) is not int:
            raise Refused(400, "linode_id is required", "linode_id")
        if not isinstance(ips := body.get("ips"), list) or not all(isinstance(one, str) for one in ips):
            raise Refused(400, "ips must be a list of addresses", "ips")
        while self.before_write:
            self.before_write.pop(0)()
        with self.lock:
            receiver = self.linode(number)
            for one in ips:
                self._judge(receiver, one)
            receiver.seen, receiver.shared = list(receiver.shows()), list(dict.fromkeys(map(_plain, ips)))
            receiver.visible_at = time.monotonic() + self.visible_after
            self.writes.append((number, list(ips)))
        while self.after_write:
            self.after_write.pop(0)()

    def _judge(self, receiver: Linode, text: str) -> None:
        try:
            address = ip_address(text)
        except ValueError:
            raise Refused(400, f"{text} is not a valid IP address", "ips") from None
        if address.version == 6:
            found = self.ranges.get(str(address))
            if not found:
                raise Refused(400, f"{text} is not an IPv6 range on your account", "ips")
            region = found.region
        else:
            owner = self.owner(text)
            if not owner:
                raise Refused(400, f"{text} is not an IP address on your account", "ips")
            if owner is receiver:
                raise Refused(400, f"{text} is assigned to this Linode", "ips")
            if text in owner.nat_1_1:
                raise Refused(400, f"{text} is used for 1:1 NAT and cannot be shared", "ips")
            region = owner.region
        if region != receiver.region:
            raise Refused(400, f"{text} is not in the same region as the Linode", "ips")

    # As the API shows things

    def instance(self, one: Linode) -> dict[str, Any]:
        return {
            "id": one.id,
            "label": one.label,
            "region": one.region,
            "status": "running",
            "type": "g6-standard-1",
            "image": "linode/debian12",
            "ipv4": [*one.public, *one.private],
            "ipv6": f"{one.slaac}/128" if one.slaac else None,
            "tags": [],
            "host_uuid": f"{one.id:032x}",
        }

    def ip(self, address: str) -> dict[str, Any]:
        owner = self.owner(address)
        if not owner:
            raise Refused(404, "Not found")
        nat = {"address": "10.0.0.2", "subnet_id": 1, "vpc_id": 1} if address in owner.nat_1_1 else None
        return {
            "address": address,
            "gateway": None,
            "subnet_mask": "255.255.255.0",
            "prefix": 24,
            "type": "ipv4",
            "public": address in owner.public,
            "rdns": None,
            "linode_id": owner.id,
            "interface_id": None,
            "region": owner.region,
            "reserved": False,
            "assigned_entity": None,
            "vpc_nat_1_1": nat,
        }

    def ips(self, one: Linode) -> dict[str, Any]:
        shared = [self.ip(text) for text in one.shows() if ":" not in text and self.owner(text)]
        link_local = {"address": "fe80::1", "type": "ipv6", "region": one.region, "linode_id": one.id}
        slaac = {"address": one.slaac, "type": "ipv6", "region": one.region, "linode_id": one.id, "prefix": 64}
        ranges = [self.range(each) for each in self.ranges.values() if each.owner == one.id]
        return {
            "ipv4": {
                "public": [self.ip(text) for text in one.public],
                "private": [self.ip(text) for text in one.private],
                "shared": shared,
                "reserved": [],
                "vpc": [],
            },
            "ipv6": {"slaac": slaac, "link_local": link_local, "global": ranges} if one.slaac else None,
        }

    def range(self, one: Range, *, whole: bool = False) -> dict[str, Any]:
        """Only the answer about one range says who shares it."""
        owner = self.linodes[one.owner]
        about = {"range": one.name, "prefix": one.network.prefixlen, "region": one.region}
        if not whole:
            return about | {"route_target": owner.slaac}
        sharing = [each.id for each in self.linodes.values() if one.name in each.shows()]
        return about | {"is_bgp": bool(sharing), "linodes": sorted({*sharing, one.owner})}


def _plain(text: str) -> str:
    return str(ip_address(text))


def pair() -> Account:
    """The guide's two Linodes: the first owns the addresses that are to float, and nothing is shared yet."""
    account = Account(tokens={"t0ken-of-the-fake-account": ALL})
    account.add(
        Linode(
            1001, "haproxy1", public=["192.0.2.11", "192.0.2.100"], private=["192.168.143.227", "192.168.223.158"],
            slaac="2001:db8::f03c:91ff:fe00:1",
        ),
        "2001:db8:3c4d:15::/64",
    )  # fmt: skip
    account.add(
        Linode(1002, "haproxy2", public=["192.0.2.12"], private=["192.168.143.241"], slaac="2001:db8::f03c:91ff:fe00:2")
    )
    return account
