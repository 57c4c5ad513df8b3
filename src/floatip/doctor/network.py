"""The way to the route servers and the other nodes, and what Linode says of this machine."""

from collections.abc import Iterator
from ipaddress import ip_address

from floatip.commands import Refusal
from floatip.core.bgp.trouble import Trouble
from floatip.core.link.wire import LARGEST
from floatip.doctor.addresses import conf
from floatip.doctor.context import Context, Route
from floatip.doctor.finding import Code, Finding, note, problem, unseen, warning, well
from floatip.doctor.host import Unseen
from floatip.model import Network
from floatip.providers import LINODE_REGIONS

LEAST_TTL = 16
"""lelastic's default since 0.2.0: with 10 sessions did not open in some data centres."""
HEADERS = {4: 28, 6: 48}
"""Of IP and UDP."""


def routes(context: Context) -> Iterator[Finding]:
    model = context.model
    if not model:
        return
    for peer in model.network.profile.peers if model.network else ():
        name = f"route server {peer}"
        try:
            route = context.route(peer)
        except Unseen as error:
            hint = "ip -6 route show default; ip -6 address" if peer.version == 6 else "ip route show default"
            yield problem(Code.ROUTE_SERVER, str(peer), f"this machine has no way to the {name}: {error}", (), hint)
            continue
        assert model.network
        yield from _source(context, route, str(peer), model.network)
    for node in context.other_nodes:
        try:
            route = context.route(node.address)
        except Unseen as error:
            yield problem(Code.LINK_PATH, node.name, f"this machine has no way to {node.name}: {error}", (), "ip route")
            continue
        yield from _path(context, route, node.name, LARGEST + HEADERS[node.address.version])
    if model.network and model.network.profile.dcid:
        yield from _ttl(model.network)


def _source(context: Context, route: Route, peer: str, network: Network) -> Iterator[Finding]:
    shown = [route.shown]
    if network.speaker.source and network.speaker.source.version == ip_address(peer).version:
        source, why = network.speaker.source, "[bgp] source"
        if context.machine and not context.machine.has(source):
            hint = "set [bgp] source to an address that ip address shows"
            yield problem(Code.ROUTE_SERVER, peer, f"[bgp] source {source} is no address of this machine", shown, hint)
            return
    elif not route.source:
        yield unseen(Code.ROUTE_SERVER, peer, f"which source the kernel takes to {peer} is not known", shown)
        return
    else:
        source, why = ip_address(route.source), "the kernel's choice"
    floating = {address.ip for address in context.floating}
    temporary = {one.address.ip for one in context.machine.temporary} if context.machine else set()
    if source in floating:
        what = f"the kernel leaves for {peer} from the floating address {source}: sessions would end when it moves"
        hint = "set [bgp] source to an address of this machine that does not float"
        yield problem(Code.ROUTE_SERVER, peer, what, shown, hint)
    elif source in temporary:
        what = (
            f"the kernel's first choice as source to {peer} is {source}, a temporary address; floatip asks for another "
            "one, and other programs do not"
        )
        hint = f"sysctl -w {conf(6, route.interface)}.use_tempaddr=0"
        yield note(Code.ROUTE_SERVER, peer, what, [*shown, f"ip -6 address show temporary: {source}"], hint)
    else:
        yield well(Code.ROUTE_SERVER, peer, f"{peer} is reached by {route.interface} from {source} ({why})", shown)


def _path(context: Context, route: Route, name: str, largest: int) -> Iterator[Finding]:
    """Whether the largest datagram of the link passes in one piece."""
    mtu, file = route.mtu, f"/sys/class/net/{route.interface}/mtu"
    try:
        mtu = mtu or int(context.host.text(file))
    except (Unseen, ValueError) as error:
        yield unseen(Code.LINK_PATH, name, f"the MTU on the way to {name} is not known: {error}")
        return
    shown = [route.shown, f"{file}: {mtu}"]
    if mtu < largest:
        what = f"the MTU to {name} is {mtu}: the link's datagrams of up to {largest} octets are fragmented, or lost"
        yield warning(Code.LINK_PATH, name, what, shown, f"ip link set {route.interface} mtu 1500")
    else:
        what = f"{name} is reached by {route.interface}, MTU {mtu}: the link needs {largest}"
        yield well(Code.LINK_PATH, name, what, shown)


def _ttl(network: Network) -> Iterator[Finding]:
    ttl = network.speaker.ttl
    if ttl < LEAST_TTL:
        what = f"BGP leaves with TTL {ttl}: in some of Linode's data centres route servers are further away"
        yield warning(Code.TTL, "BGP", what, "[bgp] multihop_ttl", f"remove multihop_ttl: the default is {LEAST_TTL}")
    else:
        yield well(Code.TTL, "BGP", f"BGP leaves with TTL {ttl}", "the configuration")


# Sessions


def route_servers(context: Context) -> Iterator[Finding]:
    """How each session is, by the daemon; where none runs, how each connection ends."""
    model = context.model
    if not model or not model.network:
        return
    if context.status:
        for session in context.status.sessions:
            shown = f"floatip status: {session.peer} {session.state}"
            if session.state == "established":
                what = f"{session.peer} is connected, hold time {session.hold_time} s"
                yield well(Code.ROUTE_SERVER_ANSWERS, session.peer, what, shown)
            else:
                why = session.reason or session.lost_because
                what = f"{session.peer} is not connected: {why}"
                yield problem(Code.ROUTE_SERVER_ANSWERS, session.peer, what, shown, session.hint)
        return
    # A daemon that may not be asked may have sessions, and route servers accept one per machine.
    for address, result in context.dialled().items():
        peer = str(address)
        if result.trouble is None:
            yield well(Code.ROUTE_SERVER_ANSWERS, peer, f"{peer} answers: {result.what}", f"TCP to {peer} port 179")
        else:
            hint = model.network.profile.hints.get(result.trouble, "floatip status")
            what = f"{peer} does not open a session: {result.what}"
            yield problem(Code.ROUTE_SERVER_ANSWERS, peer, what, f"TCP to {peer} port 179", hint)


# What Linode says


def share(context: Context) -> Iterator[Finding]:
    """Without a share, Linode's route servers close each connection in answer to the OPEN."""
    model = context.model
    if not model or not model.network or not model.network.profile.dcid:
        return
    refused_hint = model.network.profile.hints[Trouble.OPEN_REJECTED]
    sessions = context.status.sessions if context.status else ()
    if any(one.state == "established" for one in sessions):
        up = [one.peer for one in sessions if one.state == "established"]
        what = "an IP share is registered: Linode's route servers keep no session without one"
        yield well(Code.IP_SHARE, "Linode", what, f"floatip status: connected to {', '.join(up)}")
    elif any(one.hint == refused_hint for one in sessions) or any(
        one.trouble is Trouble.OPEN_REJECTED for one in (context.dialled().values() if not context.status else ())
    ):
        what = (
            "the route servers close each connection in answer to our OPEN: no IP share is registered for this Linode"
        )
        yield problem(Code.IP_SHARE, "Linode", what, "how the sessions end", f"floatip share; {refused_hint}")
    yield from _shared_here(context)


def _shared_here(context: Context) -> Iterator[Finding]:
    """By the metadata service, and by the API with a token."""
    try:
        if not (said := context.ask_metadata()):
            return
    except Refusal:  # which `metadata` says
        return
    known = {*said.shared, *said.public, *said.private}
    ranges = {*said.shared_ranges, *said.ranges}
    try:
        if shares := context.shares(said.linode_id) if context.shares else None:
            known |= set(shares.ipv4)
            ranges |= set(shares.ranges)
    except Refusal as error:
        yield unseen(Code.IP_SHARE, "API", f"Linode's API does not say what is shared: {error.what}", (), error.hint)
    for address, instance in context.floating.items():
        if not instance.is_announced:
            continue
        shown = f"metadata service: Linode {said.linode_id} ({said.label}), shared {', '.join(map(str, said.shared))}"
        is_known = address.ip in known or any(address.ip in one for one in ranges)
        if is_known:
            yield well(Code.IP_SHARE, str(address.ip), f"{address.ip} is this Linode's own or shared to it", shown)
        else:
            what = f"{address.ip} is neither this Linode's nor shared to it: route servers drop its routes silently"
            yield problem(Code.IP_SHARE, str(address.ip), what, shown, f"floatip share {address.ip}")


def metadata(context: Context) -> Iterator[Finding]:
    """The data centre, against what the metadata service says of the region."""
    model = context.model
    if not model or not model.network or not (dcid := model.network.profile.dcid):
        return
    try:
        if not (said := context.ask_metadata()):
            return
    except Refusal as error:
        what = f"the data centre cannot be compared: {error.what}"
        yield note(Code.DATA_CENTRE, "metadata", what, (), error.hint)
        return
    shown = f"metadata service: region {said.region}"
    region = next((one for one in LINODE_REGIONS if one.slug == said.region), None)
    if region is None:
        what = f"the number of region {said.region} is not known here, so dcid {dcid} cannot be compared"
        hint = "compare it with the table of regions in Linode's failover guide"
        yield unseen(Code.DATA_CENTRE, "dcid", what, shown, hint)
    elif region.dcid != dcid:
        what = f"dcid is {dcid}, and this Linode is in {said.region} ({region.place}), which is {region.dcid}"
        yield problem(Code.DATA_CENTRE, "dcid", what, shown, f"set [linode] dcid = {region.dcid} on all nodes")
    else:
        yield well(Code.DATA_CENTRE, "dcid", f"dcid {dcid} is {said.region} ({region.place}), as here", shown)
