"""What the daemon will do with a model, one line an instance and a sync group."""

from collections.abc import Iterator, Sequence

from floatip.core.addresses import Address
from floatip.core.settings import Instance, Keepalived, Node, Nodes, Static, SyncGroup, Track, Vrrp
from floatip.model import Here, Model, Network
from floatip.providers import LINODE_REGIONS
from floatip.reading.words import few, listed

MOST = 3


def will(model: Model, here: Here | None = None) -> Iterator[str]:
    """`here`: which of the nodes this machine is.

    As `VI_1 192.0.2.1/32, vrid 51 on eth0 from .227 to .241, check haproxy, Newark (6): 4 route servers`.
    """
    nodes = _nodes(model.nodes, here)
    for instance in model.instances:
        addresses = few([str(address) for address in instance.addresses], " ", MOST) or "without an address"
        network = _network(model.network) if instance.is_announced or not model.network else "not announced"
        has_group = any(instance.name in group.members for group in model.sync_groups)
        checks = _checks(instance) or ("" if has_group else _no_check(instance))
        election = _election(instance, nodes, has_etcd=model.etcd is not None)
        parts = (f"{instance.name} {addresses}", election, _virtuals(instance), checks, network)
        yield ", ".join(filter(None, parts))
    for group in model.sync_groups:
        members = listed(group.members)
        yield ", ".join(filter(None, (f"{group.name}: {members} change state together", _checks(group) or "no check")))


def _nodes(nodes: Sequence[Node], here: Here | None) -> str:
    return listed([f"{node.name} (this node)" if here and node == here.node else node.name for node in nodes])


def _election(instance: Instance, nodes: str, *, has_etcd: bool) -> str:
    one = instance.election
    match one:
        case Vrrp():
            source, *peers = _short([one.source, *one.peers])
            whom = f"to {few(peers, ' ', MOST)}" if peers else "by multicast"
            return f"vrid {one.vrid} on {one.interface} from {source} {whom}"
        case Keepalived():
            return f"keepalived elects {one.instance}, vrid {one.vrid} on {one.interface}"
        case Nodes():
            how = "exclusive by etcd: " if one.exclusive else "with etcd: " if has_etcd else ""
            return f"{how}{nodes} elect" + (f", {' then '.join(one.prefer)} first" if one.prefer else "")
        case Static():
            return f"always {one.role}"


def _short(addresses: list[Address]) -> list[str]:
    """Nodes of one /24 differ in the last number."""
    heads = {str(address).rpartition(".")[0] for address in addresses}
    is_one_net = len(heads) == 1 and len(addresses) > 1 and addresses[0].version == 4
    return [f".{str(address).rpartition('.')[2]}" if is_one_net else str(address) for address in addresses]


def _checks(one: Instance | SyncGroup) -> str:
    """As `checks haproxy web -20`, with the weight behind the check that has one."""
    names = [*one.checks, *map(_track, one.tracks)]
    return f"check{'s' * (len(names) > 1)} {few(names, ' ', MOST)}" if names else ""


def _track(track: Track) -> str:
    weight = f" {track.weight:+d}" if track.weight else ""
    return f"{track.check}{' reversed' * track.reverse}{weight}"


def _no_check(instance: Instance) -> str:
    return "keepalived checks" if isinstance(instance.election, Keepalived) else "no check"


def _virtuals(instance: Instance) -> str:
    counts = [(sum(one.kind == kind for one in instance.virtuals), kind) for kind in ("route", "rule")]
    return listed([f"{count} {kind}{'s' * (count != 1)}" for count, kind in counts if count])


def _network(network: Network | None) -> str:
    if not network:
        return "no BGP"
    count, dcid = len(network.profile.peers), network.profile.dcid
    servers = f"{count} route server{'s' * (count != 1)}"
    region = next((region for region in LINODE_REGIONS if region.dcid == dcid), None)
    if region:
        return f"{region.place} ({dcid}): {servers}"
    return f"data centre {dcid}: {servers}" if dcid else f"AS {network.profile.peer_asn}: {servers}"
