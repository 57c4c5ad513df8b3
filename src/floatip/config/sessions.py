"""The rules of the BGP side: sessions, next hops, and ranks that must be better one than the other."""

import json
from collections.abc import Iterator
from ipaddress import ip_address
from itertools import pairwise
from typing import Any

from pydantic import ValidationError

from floatip.config.bgp import Bgp
from floatip.config.document import Document, Problem
from floatip.config.parts import addresses, at_most_one, own_peers
from floatip.providers import LINODE_MARKS, LINODE_REGIONS, PROVIDERS


def linode(document: Document) -> Iterator[Problem]:
    dcid = document.data.get("linode", {}).get("dcid")
    if isinstance(dcid, int) and dcid not in {region.dcid for region in LINODE_REGIONS}:
        hint = "it is used as it is; compare with the table of regions in Linode's failover guide"
        yield document.warning(("linode", "dcid"), f"no data centre that we know has the number {dcid}", hint)
    if ("linode",) in document.lines and ("bgp", "provider") in document.lines:
        yield document.error(("bgp", "provider"), "cannot stand beside [linode]", "keep one of them")


def bgp(document: Document) -> Iterator[Problem]:
    bgp = document.data.get("bgp", {})
    provider = bgp.get("provider", "generic")
    if ("bgp",) in document.lines and ("linode",) not in document.lines:
        missing = "missing without [linode]" if provider == "generic" else f"missing, {provider} assigns it"
        for key in ("peers", "asn", "peer_asn"):
            if ("bgp", key) not in document.lines and not getattr(PROVIDERS[provider], key):
                example = json.dumps(Bgp.model_fields[key].examples[0])  # type: ignore[index]
                yield document.error(("bgp", key), missing, f"for example {key} = {example}")
    if "asn" in bgp and bgp["asn"] == bgp.get("peer_asn"):
        hint = "inside one AS the rules are others; ask for an AS number of your own"
        yield document.error(("bgp", "peer_asn"), f"{bgp['asn']} is our own AS too", hint)
    floating = {str(address.ip): location for location, address in addresses(document)}
    if bgp.get("router_id") in floating:
        hint = "another node would have it too; give an address that only this machine has"
        yield document.error(("bgp", "router_id"), f"{bgp['router_id']} is a floating address", hint)


def sessions(document: Document) -> Iterator[Problem]:
    bgp = document.data.get("bgp", {})
    yield from at_most_one(document, ("bgp",), ("source", "interface"))
    yield from at_most_one(document, ("bgp",), ("multihop_ttl", "min_ttl"))
    yield from own_peers(document, ("bgp",), bgp)
    yield from _source(document, bgp)
    yield from _next_hop(document, bgp)
    if bgp.get("provider") == "vultr" and ("bgp", "md5") not in document.lines:
        yield document.warning(("bgp", "md5"), "missing, and Vultr wants one", "the password of the BGP page")


def _next_hop(document: Document, bgp: dict[str, Any]) -> Iterator[Problem]:
    next_hop, peers = bgp.get("next_hop", ()), [ip_address(peer) for peer in bgp.get("peers", ()) if peer]
    if next_hop == "ipv6" and any(peer.version == 4 for peer in peers):
        hint = 'name it: next_hop = ["2001:db8::1"]'
        yield document.error(("bgp", "next_hop"), "a session over IPv4 has no IPv6 address of ours", hint)
    for address in next_hop if isinstance(next_hop, list) else ():
        if ip_address(address) in peers:
            yield document.error(("bgp", "next_hop"), f"{address} is a peer", "give an address of this machine")


def ranks(document: Document) -> Iterator[Problem]:
    """Between equal communities path and ORIGIN decide (RFC 4271 section 9.1.2.2)."""
    try:
        bgp = Bgp.model_validate(document.data.get("bgp", {}))
    except ValidationError:
        return  # said in the first pass
    marks = bgp.marks(LINODE_MARKS if ("linode",) in document.lines else PROVIDERS[bgp.provider].marks)
    for worse, better in pairwise(sorted(marks)):
        one, other = marks[worse], marks[better]
        if one.communities == other.communities and (one.path_length, one.origin) <= (other.path_length, other.origin):
            hint = (
                "without communities of its own a rank needs fewer prepends, or the better origin: igp, egp, incomplete"
            )
            what = f"{better.label} is not better than {worse.label}"
            yield document.error(("bgp", "ranks", better.name.lower()), what, hint)


def _source(document: Document, bgp: dict[str, Any]) -> Iterator[Problem]:
    """A socket of one family cannot be bound to an address of the other."""
    versions = {ip_address(peer).version for peer in bgp.get("peers", ()) if peer}
    if ("bgp", "peers") not in document.lines and ("linode",) in document.lines:
        versions = {6}
    if versions and "source" in bgp and (version := ip_address(bgp["source"]).version) not in versions:
        hint = f"give an {'IPv4' if version == 6 else 'IPv6'} address of this machine, or leave it to the kernel"
        yield document.error(("bgp", "source"), f"{bgp['source']} is IPv{version}, and no peer is", hint)
