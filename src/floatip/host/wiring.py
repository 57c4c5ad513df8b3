"""From the model to what each part of the host is configured with. Nothing here decides."""

from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from floatip.core.addresses import Address, Placed
from floatip.core.settings import AddressOptions, Garps, Keepalived, Nodes, Settings, Vrrp
from floatip.core.vrrp.wire import GROUP, GROUP_IPV6
from floatip.host import keepalived
from floatip.host.checks import Probes
from floatip.host.control import Control
from floatip.host.etcd import Etcd
from floatip.host.hooks import Hooks
from floatip.host.network.adverts import Adverts, Listening, Place
from floatip.host.network.kernel import Kernel, Wanted
from floatip.host.network.link import Link
from floatip.host.network.packet_filter import Known
from floatip.host.network.peers import Options, Peers
from floatip.host.second_chance import SecondChance
from floatip.host.state_log import StateLog
from floatip.host.teller import Teller
from floatip.host.web import Web
from floatip.model import Model
from floatip.reading import Loaded
from floatip.reading.machine import look_around

GROUPS: dict[int, Address] = {4: GROUP, 6: GROUP_IPV6}


@dataclass(frozen=True, slots=True)
class Parts:
    adverts: Adverts
    link: Link
    peers: Peers
    hooks: Hooks
    teller: Teller
    state_log: StateLog
    probes: Probes
    kernel: Kernel
    keepalived: keepalived.Keepalived
    control: Control
    web: Web
    etcd: Etcd
    second_chance: SecondChance


def connect(parts: Parts, loaded: Loaded, settings: Settings) -> None:
    """`settings` are those of the model, as the core has them."""
    model = loaded.model
    elections = [one.election for one in settings.instances if isinstance(one.election, Vrrp | Keepalived)]
    followed = [election for election in elections if isinstance(election, Keepalived)]
    parts.adverts.configure(_listening(elections))
    if link := settings.link:
        addresses = {node.name: node.address for node in link.nodes}
        own = addresses.pop(link.own)
        parts.link.configure(own, link.port, tuple(addresses.values()))
    else:
        parts.link.configure(None)
    kernel = _of_the_kernel(settings, elections)
    placed = kernel.named
    if s := settings.speaker:
        floating = frozenset(one.address.ip for one in placed)
        parts.peers.configure(Options(s.source, s.ttl, s.interface, s.min_ttl, s.md5, floating))
    notify = model.notify
    parts.hooks.configure(*(notify.command, notify.timeout, notify.drained) if notify else ((), 0.0))
    parts.teller.configure(model)
    parts.state_log.configure(model.state_log, len(model.instances))
    parts.probes.configure({check.name: check.kind for check in model.checks if check.kind})
    parts.kernel.configure(kernel)
    parts.web.configure(model.http)
    parts.etcd.configure(model.etcd)
    parts.second_chance.configure(settings)
    _follow(parts, loaded, followed)


def _of_the_kernel(settings: Settings, elections: list[Vrrp | Keepalived]) -> Wanted:
    sources: dict[str, frozenset[Address]] = {}
    for election in elections:
        sources[election.interface] = sources.get(election.interface, frozenset()) | {election.source}
    unicast = [one for one in elections if isinstance(one, Vrrp) and one.peers]
    wanted = Wanted(
        sources,
        greeting=frozenset((one.interface, one.source) for one in unicast),
        virtuals=frozenset(virtual for instance in settings.instances for virtual in instance.virtuals),
    )
    options: dict[Placed, AddressOptions] = {}
    garps: dict[Placed, Garps] = {}
    named: set[Placed] = set()
    exclusive: set[Placed] = set()
    for instance in settings.instances:
        if instance.placement == "found":  # they may be the machine's own
            continue
        own = {one.address: one for one in instance.options}
        for address in instance.addresses:
            placed = Placed((own[address].interface if address in own else "") or instance.interface, address)
            named.add(placed)
            if isinstance(instance.election, Nodes) and instance.election.exclusive:
                exclusive.add(placed)
            if address in own:
                options[placed] = own[address]
            if isinstance(instance.election, Vrrp):
                garps[placed] = instance.election.garps
    return replace(wanted, named=frozenset(named), exclusive=frozenset(exclusive), options=options, garps=garps)


def _listening(elections: list[Vrrp | Keepalived]) -> dict[Place, Listening]:
    wanted: dict[Place, Listening] = {}
    for election in elections:
        place = election.interface, election.source.version
        before = wanted.get(place, Listening(known=Known()))
        group, from_anywhere = None, not election.peers
        if isinstance(election, Vrrp):
            group, from_anywhere = election.group, from_anywhere or not election.checks_source
        groups = before.groups if election.peers else before.groups | {group or GROUPS[election.source.version]}
        known = (before.known or Known()).plus(election.vrid, () if from_anywhere else election.peers)
        wanted[place] = Listening(groups, known)
    return wanted


def _follow(parts: Parts, loaded: Loaded, followed: list[Keepalived]) -> None:
    of_host = loaded.model.keepalived
    paths = keepalived.Paths(of_host.fifo, (of_host.pid_file, of_host.vrrp_pid_file)) if followed else None
    groups = tuple(dict.fromkeys(election.sync_group for election in followed if election.sync_group))
    parts.keepalived.configure(paths, tuple(election.instance for election in followed), groups)
    user = loaded.script_user if followed else None
    parts.control.allow(frozenset() if user is None else frozenset({user}))


def first_ipv4(model: Model) -> IPv4Address | None:
    """An IPv4 address of this machine, for a router id or next hop that nobody has configured."""
    return look_around().first_ipv4(address.ip for instance in model.instances for address in instance.addresses)
