"""Which packets must pass, and whether this machine's own firewall lets them."""

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address
from urllib.parse import urlsplit

from floatip.core import settings
from floatip.core.addresses import Address
from floatip.doctor.context import Context
from floatip.doctor.finding import Code, Finding, Grade, note, problem, unseen, warning, well
from floatip.doctor.firewall.front_end import front_end, kept, mending
from floatip.doctor.firewall.load import load
from floatip.doctor.firewall.packet import ICMP6, TCP, UDP, VRRP, Answer, Packet, Verdict
from floatip.doctor.firewall.rules import Table, evaluate
from floatip.doctor.host import Unseen
from floatip.doctor.listening import listeners
from floatip.observing.meeting import PORT as OBSERVER_PORT

BGP_PORT, ETCD_PORT = 179, 2379
EPHEMERAL = 40000
"""A port as the kernel chooses one (net.ipv4.ip_local_port_range)."""
SHOWN = 3
MOST_PORTS = 10
GROUPS = {4: "224.0.0.18", 6: "ff02::12"}
CLIENTS = {4: ip_address("203.0.113.1"), 6: ip_address("2001:db8::1")}
"""Of the documentation's networks: somebody far away."""
DEVICE, HTTPS = "floatip-sc", 443
ACK = frozenset({"ack"})
SYN, ANSWER = frozenset({"syn"}), frozenset({"syn", "ack"})


@dataclass(frozen=True, slots=True)
class Flow:
    """Packets that floatip needs, in one direction."""

    code: Code
    subject: str
    name: str
    """As "the link from haproxy2 at 192.168.143.241"."""
    packet: Packet
    ours: Packet | None = None
    """Of which connection tracking takes it for an answer, where the firewall lets that out."""
    given: Packet | None = None
    """It is needed only where the firewall lets this pass."""


def firewall(context: Context) -> Iterator[Finding]:
    flows: list[Flow] = []
    for name, make in _wanted(context):
        try:
            flows += make()
        except Unseen as error:
            yield unseen(Code.FIREWALL, name, f"the way of {name} is not known, so neither is its firewall: {error}")
    try:
        tables, unread = load(context.host)
    except Unseen as error:
        hint = "sudo floatip doctor" if not context.host.is_root else ""
        yield unseen(Code.FIREWALL, "this machine", f"the firewall of this machine is not seen: {error}", (), hint)
        return
    rules = sum(len(chain.rules) for table in tables for chain in table.chains.values())
    sources = sorted({table.source for table in tables}) or ["nft list ruleset"]
    for what in unread:
        yield unseen(Code.FIREWALL, "this machine", what, (), "apt install nftables")
    if not flows:
        yield note(Code.FIREWALL, "this machine", f"the firewall has {rules} rules; nothing here needs to pass yet")
        return
    yield well(Code.FIREWALL, "this machine", f"the firewall was read: {rules} rules", ", ".join(sources))
    below: dict[str, frozenset[str]] = {}
    for flow in dict.fromkeys(flows):
        for name in {one.interface for one in (flow.packet, flow.given) if one} - below.keys():
            below[name] = _below(context, name)
        packet, ours, given = (
            one and replace(one, below=below[one.interface]) for one in (flow.packet, flow.ours, flow.given)
        )
        assert packet
        if given and evaluate(tables, given).verdict in (Verdict.DROP, Verdict.REJECT):
            continue
        found = _judged(replace(flow, packet=packet, ours=ours), tables)
        yield _milder(context, found) if flow.code is Code.FIREWALL_TUNNEL else found


def _milder(context: Context, found: Finding) -> Finding:
    """Without the second chance floatip does its work as well: a planned move resets connections then."""
    if found.grade is Grade.WELL:
        return found
    config = context.model.second_chance if context.model else None
    return replace(found, grade=Grade.WARNING if config and config.mode == "on" else Grade.NOTE)


def _below(context: Context, interface: str) -> frozenset[str]:
    """All that carries it, as a VLAN on a bond on two cards."""
    found: set[str] = set()
    left = [interface]
    while left:
        with suppress(Unseen):
            names = context.host.names(f"/sys/class/net/{left.pop()}")
            new = {name.removeprefix("lower_") for name in names if name.startswith("lower_")} - found
            found |= new
            left += new
    return frozenset(found)


def _judged(flow: Flow, tables: list[Table]) -> Finding:
    answer = evaluate(tables, flow.packet)
    evidence = [str(one) for one in answer.because[:SHOWN]]
    which = _described(flow.packet)
    match answer.verdict:
        case Verdict.ACCEPT:
            return well(flow.code, flow.subject, f"the firewall lets through {flow.name} ({which})", evidence)
        case Verdict.UNKNOWN:
            left = len(answer.because) - SHOWN
            evidence += [f"and {left} more rules"] if left > 0 else []
            what = f"whether the firewall lets through {flow.name} ({which}) is not known: these rules decide, and"
            return unseen(flow.code, flow.subject, f"{what} floatip does not understand them", evidence, _try(flow))
    hint = _hint(flow.packet, answer, tables)
    if flow.ours and all(
        evaluate(tables, one).verdict is Verdict.ACCEPT
        for one in (flow.ours, replace(flow.packet, state="established"))
    ):
        what = (
            f"the firewall lets through {flow.name} ({which}) only as an answer to our own datagrams, so not before "
            "this node has sent some"
        )
        return warning(flow.code, flow.subject, what, evidence, hint)
    verb = "drops" if answer.verdict is Verdict.DROP else "rejects"
    return problem(flow.code, flow.subject, f"the firewall {verb} {flow.name} ({which})", evidence, hint)


def _hint(packet: Packet, answer: Answer, tables: list[Table]) -> str:
    because = answer.because[0]
    keep = kept(front_end(because, tables))
    return mending(packet, because, tables) + (f"  # {keep}" if keep else "")


def _try(flow: Flow) -> str:
    packet = flow.packet
    if packet.protocol == TCP:
        is_answer = packet.direction == "in"
        end = (packet.source, packet.source_port) if is_answer else (packet.target, packet.target_port)
        return f"try it: timeout 3 bash -c '</dev/tcp/{end[0]}/{end[1]}' && echo open"
    what = f"udp port {packet.target_port}" if packet.protocol == UDP else f"ip proto {packet.protocol}"
    return f"see what arrives on the other side: tcpdump -ni any {what}"


def _described(packet: Packet) -> str:
    names = {TCP: "TCP", UDP: "UDP", ICMP6: "ICMPv6", VRRP: "IP protocol 112"}
    is_answer = packet.direction == "in" and packet.state == "established"
    port = (packet.source_port if is_answer else None) or packet.target_port
    return f"{names[packet.protocol]}{f' port {port}' if port else ''}, {packet.direction} by {packet.interface}"


# What must pass


Make = Callable[[], Iterator[Flow]]


def _wanted(context: Context) -> Iterator[tuple[str, Make]]:
    """What each is for, and its flows, which raise `Unseen` where there is no way."""
    model = context.model
    if not model:
        return
    if context.here:
        own, port = context.here.node.address, model.link.port
        for node in context.other_nodes:
            yield f"the link with {node.name}", partial(_link, context, own, node, port)
            if model.second_chance and model.second_chance.mode != "off":
                yield f"the tunnel to {node.name}", partial(_tunnel, context, own, node, model.second_chance.port)
    for one in model.instances:
        if isinstance(one.election, settings.Vrrp | settings.Keepalived):
            yield f"the adverts of {one.name}", partial(_adverts, context, one.name, one.election)
    if model.network:
        for peer in model.network.profile.peers:
            yield f"BGP with {peer}", partial(_bgp, context, peer, model.network.speaker.source)
    for endpoint in model.etcd.endpoints if model.etcd else ():
        yield f"etcd at {endpoint}", partial(_etcd, context, endpoint)
    for observer in context.observers:
        yield f"the observer {observer}", partial(_observer, context, observer)


def _link(context: Context, own: Address, node: settings.Node, port: int) -> Iterator[Flow]:
    interface = context.route(node.address).interface
    comes = Packet("in", node.address, own, UDP, interface, port, port, way_back=interface)
    goes = Packet("out", own, node.address, UDP, interface, port, port)
    where = f"{node.name} at {node.address}"
    yield Flow(Code.FIREWALL_LINK, node.name, f"the link from {where}", comes, goes)
    yield Flow(Code.FIREWALL_LINK, node.name, f"the link to {where}", goes)


def _tunnel(context: Context, own: Address, node: settings.Node, port: int) -> Iterator[Flow]:
    """The kernel chooses another source port for each connection, so none is an answer to another."""
    interface = context.route(node.address).interface
    comes = Packet("in", node.address, own, UDP, interface, EPHEMERAL, port, way_back=interface)
    goes = Packet("out", own, node.address, UDP, interface, EPHEMERAL, port)
    where = f"{node.name} at {node.address}"
    yield Flow(Code.FIREWALL_TUNNEL, node.name, f"the tunnel of the second chance from {where}", comes)
    yield Flow(Code.FIREWALL_TUNNEL, node.name, f"the tunnel of the second chance to {where}", goes)
    for address, instance in context.floating.items():
        if instance.may_have_second_chance:
            yield from _through_tunnel(context, address.ip)


def _through_tunnel(context: Context, address: Address) -> Iterator[Flow]:
    """Of each service that clients reach."""
    client, uplink = CLIENTS[address.version], ""
    with suppress(Unseen):
        uplink = context.route(client).interface
    name = f"connections to {address} that come through the tunnel"
    for port in _ports(context, address):
        begins = Packet("in", client, address, TCP, uplink, EPHEMERAL, port, flags=SYN, way_back=uplink)
        # The policy rule of the answers sends what goes to the client back through the tunnel.
        inner = Packet("in", client, address, TCP, DEVICE, None, port, "established", ACK, way_back=DEVICE)
        yield Flow(Code.FIREWALL_TUNNEL, str(address), name, inner, given=begins if uplink else None)


def _ports(context: Context, address: Address) -> list[int]:
    """Where this machine listens at the address; nobody knows: that of HTTPS."""
    found = set[int]()
    with suppress(Unseen):
        there = listeners(context.host)
        found = {one.port for one in there if one.address == address or one.address.is_unspecified}
    return sorted(found)[:MOST_PORTS] or [HTTPS]


def _adverts(context: Context, name: str, election: settings.Vrrp | settings.Keepalived) -> Iterator[Flow]:
    """A backup sends none, so none is an answer."""
    own = election.source
    group = election.group if isinstance(election, settings.Vrrp) else None
    for peer in election.peers:
        interface = context.route(peer).interface
        comes = Packet("in", peer, own, VRRP, interface, way_back=interface, ttl=None)
        yield Flow(Code.FIREWALL_VRRP, name, f"adverts from {peer}", comes)
        yield Flow(Code.FIREWALL_VRRP, name, f"adverts to {peer}", Packet("out", own, peer, VRRP, interface))
    if not election.peers:
        target = group or ip_address(GROUPS[own.version])
        goes = Packet("out", own, target, VRRP, election.interface, ttl=255)
        yield Flow(Code.FIREWALL_VRRP, name, f"adverts to the group {target}", goes)
        # Who sends them is not known before: somebody in the same network.
        comes = Packet("in", own, target, VRRP, election.interface, way_back=election.interface, ttl=255)
        yield Flow(Code.FIREWALL_VRRP, name, f"adverts of others to the group {target}", comes)


def _bgp(context: Context, peer: Address, source: Address | None) -> Iterator[Flow]:
    route = context.route(peer)
    if not source and not route.source:
        raise Unseen(f"{route.shown} names no source")
    own = source or ip_address(route.source)
    goes = Packet("out", own, peer, TCP, route.interface, EPHEMERAL, BGP_PORT, flags=SYN)
    comes = Packet("in", peer, own, TCP, route.interface, BGP_PORT, EPHEMERAL, "established", ANSWER)
    comes = replace(comes, way_back=route.interface)
    yield Flow(Code.FIREWALL_BGP, str(peer), f"BGP to {peer}", goes)
    yield Flow(Code.FIREWALL_BGP, str(peer), f"the answers of {peer}", comes)
    if peer.version == 6 and route.gateway:
        gateway = ip_address(route.gateway)
        # Without its answers this machine never learns the hardware address of the router.
        found = Packet("in", gateway, own, ICMP6, route.interface, state="untracked", icmp_type=136, ttl=255)
        found = replace(found, way_back=route.interface)
        yield Flow(Code.FIREWALL_NDP, str(gateway), f"neighbour discovery of the router {gateway}", found)


def _etcd(context: Context, endpoint: str) -> Iterator[Flow]:
    parts = urlsplit(endpoint)
    port = parts.port or ETCD_PORT
    try:
        address = ip_address(parts.hostname or "")
    except ValueError:
        try:
            address = ip_address(socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)[0][4][0])
        except (OSError, ValueError) as error:
            raise Unseen(f"its name has no address: {error}") from None
    if address.is_loopback:
        return
    route = context.route(address)
    own = ip_address(route.source)
    goes = Packet("out", own, address, TCP, route.interface, EPHEMERAL, port, flags=SYN)
    comes = Packet("in", address, own, TCP, route.interface, port, EPHEMERAL, "established", ANSWER)
    yield Flow(Code.FIREWALL_ETCD, endpoint, f"etcd at {endpoint}", goes)
    answers = replace(comes, way_back=route.interface)
    yield Flow(Code.FIREWALL_ETCD, endpoint, f"the answers of etcd at {endpoint}", answers)


def _observer(context: Context, observer: Address) -> Iterator[Flow]:
    route = context.route(observer)
    own = ip_address(route.source)
    goes = Packet("out", own, observer, TCP, route.interface, EPHEMERAL, OBSERVER_PORT, flags=SYN)
    comes = Packet("in", observer, own, TCP, route.interface, OBSERVER_PORT, EPHEMERAL, "established", ANSWER)
    yield Flow(Code.FIREWALL_OBSERVER, str(observer), f"floatip observe --join on {observer}", goes)
    yield Flow(
        Code.FIREWALL_OBSERVER,
        str(observer),
        f"the answers of {observer}",
        replace(comes, way_back=route.interface),
    )


def cloud_firewall(context: Context) -> Iterator[Finding]:
    """That of the provider stands before this machine, where nothing of it can be read."""
    network = context.model.network if context.model else None
    if not network or not network.profile.dcid:
        return
    vrrp = [one.name for one in context.instances if isinstance(one.election, settings.Vrrp | settings.Keepalived)]
    what = "a Linode Cloud Firewall cannot be seen from here"
    if vrrp:
        what += (
            f"; it has no rule for protocol 112, which {', '.join(vrrp)} needs: its inbound policy must be ACCEPT, "
            "or let the nodes elect over UDP"
        )
    ports = f"port {context.model.link.port}" if context.model else ""
    if context.model and context.model.second_chance and context.model.second_chance.mode != "off":
        ports = f"ports {context.model.link.port} and {context.model.second_chance.port}"
    hint = "Cloud Manager, Firewalls: " + (
        "inbound policy ACCEPT" if vrrp else f"inbound UDP {ports} from the other nodes"
    )
    yield note(Code.CLOUD_FIREWALL, "Linode", what, (), hint)
