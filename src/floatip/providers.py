"""What floatip knows of the networks that it announces to: figures, nothing that acts.

A rank is made of what the route servers are known to weigh. On Linode that is two communities, used by lelastic and by
the FRR guide, so `ACTIVE` and `STANDBY` are lelastic's bytes; a network without communities gets prepends in their
place. No rank that must be heard depends on a prepend there, and only the takeover rungs on ORIGIN.

Where the figures come from stands in `sources`, and in `unconfirmed` what nobody has stated. Linode's regions: those of
its failover guide as linode-cloud-controller-manager had them in November 2024; no API has them, so a number that is
not here is allowed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from floatip.core.addresses import Address
from floatip.core.bgp.attributes import Origin
from floatip.core.bgp.rank import Marks, Rank
from floatip.core.bgp.trouble import Trouble


@dataclass(frozen=True, slots=True)
class Provider:
    name: str
    marks: Mapping[Rank, Marks]
    hints: Mapping[Trouble, str]
    """What to try when a session is down."""
    asn: int = 0
    """Ours. 0, which is no AS (RFC 7607): the configuration names it."""
    peer_asn: int = 0
    peers: tuple[Address, ...] = ()
    hold_time: int = 9
    multihop_ttl: int = 16
    first_repeat: float = 30.0
    repeat_interval: float = 300.0
    dcid: int = 0
    """Linode's data centre; 0: none."""
    sources: str = ""
    unconfirmed: str = ""


PRIMARY = ((65000, 1),)
SECONDARY = ((65000, 2),)

LINODE_MARKS = {
    Rank.TAKEOVER_AGAIN: Marks(Origin.IGP, communities=PRIMARY),
    Rank.TAKEOVER: Marks(Origin.EGP, communities=PRIMARY),
    Rank.ACTIVE: Marks(communities=PRIMARY),
    Rank.STANDBY: Marks(communities=SECONDARY),
    Rank.LAST_RESORT: Marks(path_length=2, communities=SECONDARY),
}

GENERIC_MARKS = {
    Rank.TAKEOVER_AGAIN: Marks(Origin.IGP),
    Rank.TAKEOVER: Marks(Origin.EGP),
    Rank.ACTIVE: Marks(),
    Rank.STANDBY: Marks(path_length=2),
    Rank.LAST_RESORT: Marks(path_length=3),
}

HINTS = {
    Trouble.OPEN_REJECTED: "compare the peer's configuration with our AS, our address and `peers`",
    Trouble.ERROR_WAIT: "wait: a peer may refuse a node for a minute after it has lost the session",
    Trouble.REFUSED: "nothing listens for BGP there, or a firewall refuses: compare `peers` with the provider's",
    Trouble.TIMED_OUT: "a firewall drops TCP port 179, the peer is down, or its MD5 key or TTL is not ours",
    Trouble.UNREACHABLE: "check the route: ip route get ADDRESS, with the peer's address",
    Trouble.NO_SOURCE: "set [bgp] source to an address of this machine",
    Trouble.FLOATING_SOURCE: "set [bgp] source to an address of this machine that does not float",
    Trouble.NO_INTERFACE: "set [bgp] interface to an interface that exists",
    Trouble.BAD_PEER_AS: "compare `asn` with the peer's configuration",
    Trouble.WRONG_PEER_AS: "compare `peer_asn` with the peer's configuration",
    Trouble.BGP_IDENTIFIER: "give each node a `router_id` of its own",
    Trouble.HOLD_TIME_REFUSED: "try a longer `hold_time`",
    Trouble.HOLD_TIME_ZERO: "ask the peer's operator for a hold time of at least 3 s",
    Trouble.ROLE_MISMATCH: "ask the peer's operator to allow sessions without a BGP role (RFC 9234)",
    Trouble.PREFIX_LIMIT: "announce fewer addresses, or ask the peer's operator for more",
    Trouble.HOLD_TIMER: "see whether the peer answers: the next dial says more. Where TCP works and BGP does not, "
    "compare the TTL (`min_ttl`, `multihop_ttl`) on both sides",
    Trouble.PEERS_HOLD_TIMER: "check the firewall and the load: our packets did not arrive, or this machine was "
    "suspended",
    Trouble.COLLISION: "look for another announcer on this machine (lelastic, gobgpd, a second floatip); if there is "
    "none, wait for the hold time: the session of one that crashed has not expired yet",
    Trouble.CEASE: "ask the peer's operator if it stays so: the session was closed or removed there",
}
"""What to try, by what is wrong."""

GENERIC = Provider("generic", GENERIC_MARKS, HINTS)

VULTR = Provider(
    "vultr",
    GENERIC_MARKS,
    HINTS
    | {
        Trouble.OPEN_REJECTED: "check that BGP is enabled for the instance, and that `asn` is the one from Vultr",
        Trouble.TIMED_OUT: "check that BGP is enabled for the instance, and that `md5` is the BGP password",
    },
    peer_asn=64515,  # of virtual machines; bare metal: 20473 and 169.254.1.1
    peers=(IPv4Address("169.254.169.254"),),
    multihop_ttl=2,
    sources='Vultr\'s "High Availability on Vultr with Floating IP and BGP", July 2024',
    unconfirmed="hold_time; an IPv6 peer; that the longer of two paths loses, rather than sharing the load",
)

PROVIDERS = {"generic": GENERIC, "vultr": VULTR}


def linode(dcid: int) -> Provider:
    """The profile of one data centre. Its number stands in the peers' addresses in decimal digits."""
    return Provider(
        "linode",
        LINODE_MARKS,
        HINTS
        | {
            Trouble.OPEN_REJECTED: "no IP share is registered for this Linode (floatip share registers it), "
            f"another announcer runs on it, or it is in another data centre than dcid {dcid}",
            Trouble.TIMED_OUT: f"a firewall drops TCP port 179, or this Linode is in another region than dcid {dcid}",
            Trouble.UNREACHABLE: "check that this Linode has an IPv6 address and a default route for it",
        },
        asn=65001,
        peer_asn=65000,
        dcid=dcid,
        peers=tuple(IPv6Address(f"2600:3c0f:{dcid}:34::{number}") for number in range(1, 5)),
        sources='lelastic 0.2.0; Linode\'s guide "Configure failover on a Compute Instance"',
        unconfirmed="the hold time that the route servers offer; what they do with MED, ORIGIN and prepends",
    )


class Region(NamedTuple):
    slug: str
    dcid: int
    place: str


LINODE_REGIONS = (
    Region("us-central", 2, "Dallas"),
    Region("us-west", 3, "Fremont"),  # without IP sharing by BGP when last listed ("undergoing network upgrades")
    Region("us-southeast", 4, "Atlanta"),
    Region("us-east", 6, "Newark"),
    Region("eu-west", 7, "London"),
    Region("ap-south", 9, "Singapore"),
    Region("eu-central", 10, "Frankfurt"),
    Region("ap-northeast", 11, "Tokyo 2"),
    Region("ap-west", 14, "Mumbai"),
    Region("ca-central", 15, "Toronto"),
    Region("ap-southeast", 16, "Sydney"),
    Region("us-iad", 17, "Washington DC"),
    Region("us-ord", 18, "Chicago"),
    Region("fr-par", 19, "Paris"),
    Region("us-sea", 20, "Seattle"),
    Region("br-gru", 21, "Sao Paulo"),
    Region("nl-ams", 22, "Amsterdam"),
    Region("se-sto", 23, "Stockholm"),
    Region("es-mad", 24, "Madrid"),
    Region("in-maa", 25, "Chennai"),
    Region("jp-osa", 26, "Osaka"),
    Region("it-mil", 27, "Milan"),
    Region("us-mia", 28, "Miami"),
    Region("id-cgk", 29, "Jakarta"),
    Region("us-lax", 30, "Los Angeles"),
    Region("gb-lon", 44, "London 2"),
    Region("au-mel", 45, "Melbourne"),
    Region("in-bom-2", 46, "Mumbai 2"),
    Region("de-fra-2", 47, "Frankfurt 2"),  # of one user's configuration of December 2025, which cites the guide
    Region("sg-sin-2", 48, "Singapore 2"),
)
