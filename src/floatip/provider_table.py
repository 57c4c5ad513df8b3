"""What is known of each network, as a person reads it."""

from floatip.core.bgp.rank import Marks
from floatip.providers import LINODE_REGIONS, PROVIDERS, Provider, linode
from floatip.text import aligned


def draw_providers() -> str:
    """What each profile gives; "-" is for the configuration to say."""
    profiles = [linode(LINODE_REGIONS[0].dcid), *PROVIDERS.values()]
    regions = [("region", "dcid", "place"), *((r.slug, str(r.dcid), r.place) for r in LINODE_REGIONS)]
    return "\n\n".join([*map(_provider, profiles), "\n".join(aligned(regions))])


def _provider(profile: Provider) -> str:
    peers = ", ".join(map(str, profile.peers)).replace(f":{LINODE_REGIONS[0].dcid}:", ":DCID:")
    rows = [
        ("our AS", str(profile.asn or "-")),
        ("their AS", str(profile.peer_asn or "-")),
        ("peers", peers or "-"),
        ("hold time", f"{profile.hold_time} s"),
        ("TTL", str(profile.multihop_ttl)),
        *((rank.label, _marks(marks)) for rank, marks in sorted(profile.marks.items(), reverse=True)),
        ("sources", profile.sources or "-"),
        ("unconfirmed", profile.unconfirmed or "-"),
    ]
    return "\n".join([profile.name, *(f"  {line}" for line in aligned(rows))])


def _marks(marks: Marks) -> str:
    communities = "".join(f", community {':'.join(map(str, community))}" for community in marks.communities)
    return f"path x{marks.path_length}, origin {marks.origin.name.lower()}{communities}"
