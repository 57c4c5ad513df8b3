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

from floatip.core.bgp.attributes import Origin
from floatip.core.bgp.rank import Marks, Rank
from floatip.core.events import Address


@dataclass(frozen=True, slots=True)
class Provider:
    name: str
    marks: Mapping[Rank, Marks]
    hints: Mapping[str, str]
    """What to try when a session fails, by a phrase of the reason; the first phrase that fits counts."""
    asn: int = 0
    """Ours. 0, which is no AS (RFC 7607): the configuration names it."""
    peer_asn: int = 0
    peers: tuple[Address, ...] = ()
    hold_time: int = 9
    multihop_ttl: int = 16
    first_repeat: float = 30.0
    repeat_interval: float = 300.0
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
    "right after our OPEN": "the peer does not want us: compare its configuration with our AS, our address and `peers`",
    "refused": "nothing listens for BGP there, or a firewall refuses: compare `peers` with the provider's",
    "timed out": "a firewall drops TCP port 179, the peer is down, or its MD5 key or TTL is not ours",
    "unreachable": "`ip route get` with the peer's address says why there is no way",
    "no route": "`ip route get` with the peer's address says why there is no way",
    "cannot assign": "`source` must be an address that this machine has",
    "no such device": "`interface` must be there",
    "Bad Peer AS": "compare `asn` with the peer's configuration",
    "the peer is AS": "compare `peer_asn` with the peer's configuration",
    "BGP Identifier": "give each node a `router_id` of its own",
    "Unacceptable Hold Time": "try a longer `hold_time`",
    "proposed hold time 0": "ask the peer's operator for a hold time of at least 3 s",
    "Prefixes Reached": "announce fewer addresses, or ask the peer's operator for more",
    "hold timer expired": "the peer or the way to it is down; the next dial says more",
    "Hold Timer Expired": "what we sent did not arrive, or this machine stood still",
    "Connection Collision": "the peer has a session with this machine already: another announcer runs here (lelastic, "
    "gobgpd, a second floatip), or one ended without a word and its hold time has not",
    "Cease": "the peer's operator has closed the session or removed it: ask there if it stays so",
}

GENERIC = Provider("generic", GENERIC_MARKS, HINTS)

VULTR = Provider(
    "vultr",
    GENERIC_MARKS,
    HINTS
    | {
        "right after our OPEN": "is BGP enabled for this instance, and `asn` the one that Vultr assigned?",
        "timed out": "is BGP enabled for this instance, and `md5` the password of the BGP page?",
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
            "right after our OPEN": "no IP share is registered for this Linode (linode-cli networking ip-share), "
            f"another announcer runs on it, or it is in another data centre than dcid {dcid}",
            "timed out": f"a firewall drops TCP port 179, or this Linode is in another data centre than dcid {dcid}",
            "unreachable": "the route servers speak IPv6: does this Linode have an IPv6 address and a default route?",
        },
        asn=65001,
        peer_asn=65000,
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
    Region("sg-sin-2", 48, "Singapore 2"),
)
