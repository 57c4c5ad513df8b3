"""The floating addresses: whether they are here, where, and as what; and what the kernel does with their packets."""

from collections.abc import Iterator
from contextlib import suppress

from floatip.core import settings as core
from floatip.core.addresses import InterfaceAddress, Placed
from floatip.doctor.context import Context
from floatip.doctor.finding import Code, Finding, note, problem, unseen, warning, well
from floatip.doctor.host import Unseen
from floatip.doctor.listening import listeners

STRICT = 1
"""Of rp_filter (ip-sysctl.rst): a packet is dropped unless its source would be answered by the same interface."""
CONF = "/proc/sys/net/ipv4/conf"


def placed(context: Context) -> Iterator[Finding]:
    if not context.instances:
        return
    if not context.machine:
        yield unseen(Code.ADDRESS_PLACED, "addresses", "the kernel did not say which addresses this machine has")
        return
    for address, instance in context.floating.items():
        found = [one for one in context.machine.placed(leased=True) if _is_of(one.address, address)]
        yield from _place(context, address, instance, found)
        holds = instance.placement != "master" or _role(context, instance) == "master"
        every = list(context.machine.placed(leased=True))
        yield from _prefixes(address, found, every, is_announced=instance.is_announced, holds=holds)


def _is_of(one: InterfaceAddress, floating: InterfaceAddress) -> bool:
    """Of a range any address is enough."""
    return one.ip == floating.ip or (
        floating.version == 6 and floating.network.prefixlen < 128 and one.ip in floating.network
    )


def _role(context: Context, instance: core.Instance) -> str:
    views = context.status.instances if context.status else ()
    return next((one.role.value for one in views if one.name == instance.name), "")


def _place(
    context: Context, address: InterfaceAddress, instance: core.Instance, found: list[Placed]
) -> Iterator[Finding]:
    shown = [f"ip address: {one.address} on {one.interface}" for one in found]
    name = str(address.ip)
    wanted = next((each.interface for each in instance.options if each.address == address and each.interface), "")
    interface = wanted or instance.interface
    right = [one for one in found if one.interface == interface and one.address.network.prefixlen >= 32]
    role = _role(context, instance)
    if right:
        what = f"{address} of {instance.name} is on {interface}"
        yield well(Code.ADDRESS_PLACED, name, what, shown)
    elif instance.placement == "master" and role != "master":
        if found:
            yield well(Code.ADDRESS_PLACED, name, f"{address} of {instance.name} is on {found[0].interface}", shown)
        else:
            yield well(Code.ADDRESS_PLACED, name, f"{address} is not here: this node is not master of {instance.name}")
    elif instance.placement == "found":
        if not found:
            what = f"{address} of {instance.name} is on no interface, and floatip does not add it"
            yield problem(Code.ADDRESS_PLACED, name, what, (), f"ip addr add {address} dev {interface}")
    elif found:
        if {one.interface for one in found} != {interface}:
            what = f"{address} of {instance.name} is on {found[0].interface} only, and floatip holds it on {interface}"
            yield warning(Code.ADDRESS_PLACED, name, what, shown, f"ip addr add {address} dev {interface}")
    elif context.status:
        what = f"{address} of {instance.name} is on no interface, so nothing answers on it here"
        yield problem(Code.ADDRESS_PLACED, name, what, "ip address", f"floatip status; ip addr show to {address.ip}")
    else:
        what = f"{address} of {instance.name} is on no interface: the daemon adds it when it runs"
        yield note(Code.ADDRESS_PLACED, name, what, "ip address")


def conf(version: int, interface: str) -> str:
    """As sysctl(8) takes it: the name of a VLAN has a dot."""
    return f"net.ipv{version}.conf.{interface.replace('.', '/')}"


def _prefixes(
    address: InterfaceAddress, found: list[Placed], everywhere: list[Placed], *, is_announced: bool, holds: bool
) -> Iterator[Finding]:
    """`holds`: this machine has the address now.

    Linode's Network Helper adds shared addresses to eth0 as /24, at each boot."""
    longest = 32 if address.version == 4 else 128
    for one in found:
        length = one.address.network.prefixlen
        if one.address.ip == address.ip and length < longest and address.network.prefixlen == longest:
            what = (
                f"{address.ip} is on {one.interface} as /{length}, so this machine takes {one.address.network} for "
                f"directly connected, and may leave from {address.ip}"
            )
            hint = f"ip addr del {one.address} dev {one.interface}"
            if holds and not any(each.address.network.prefixlen == longest for each in found):
                hint = f"ip addr add {address} dev {one.interface} && {hint}"
            if address.version == 4 and any(
                each.interface == one.interface
                and each.address.ip != address.ip
                and each.address.network == one.address.network
                for each in everywhere
            ):
                # Else the kernel takes the machine's own address of that network away with it.
                hint = f"sysctl -w {conf(4, one.interface)}.promote_secondaries=1 && {hint}"
            if address.version == 4 and length == 24 and is_announced:
                hint += (
                    "  # on Linode, Network Helper adds it at each boot: switch that off in the configuration profile"
                )
            shown = f"ip address: {one.address} on {one.interface}"
            yield problem(Code.ADDRESS_PREFIX, str(address.ip), what, shown, hint)


# What the kernel does


def settings(context: Context) -> Iterator[Finding]:
    if not context.instances:
        return
    yield from _rp_filter(context)
    yield from _arp(context)
    yield from _nonlocal_bind(context)


def _number(context: Context, path: str) -> int:
    """Raises `Unseen`."""
    try:
        return int(context.host.text(path))
    except ValueError:
        raise Unseen(f"{path} is no number") from None


def _rp_filter(context: Context) -> Iterator[Finding]:
    """The kernel takes the larger value of `all` and of the interface."""
    try:
        default = context.host.run("ip", "-4", "route", "show", "default")
        names = [name for name in context.host.names(CONF) if name not in ("all", "default", "lo")]
        of_all = _number(context, f"{CONF}/all/rp_filter")
    except Unseen as error:
        yield unseen(
            Code.RP_FILTER, "rp_filter", f"whether packets are dropped by their way back is not known: {error}"
        )
        return
    ways = {words[words.index("dev") + 1] for line in default.splitlines() if "dev" in (words := line.split())}
    strict = []
    for name in names:
        with suppress(Unseen):  # the interface has just gone
            if max(of_all, _number(context, f"{CONF}/{name}/rp_filter")) == STRICT:
                strict.append(name)
    # The answer to a client leaves by the first default route: what came by another way is dropped.
    first = default.split()[default.split().index("dev") + 1] if "dev" in default.split() else ""
    floating4 = [address for address in context.floating if address.version == 4]
    risky = [name for name in strict if name in ways and name != first]
    for name in risky if floating4 else []:
        what = (
            f"{name} drops packets for {floating4[0].ip} whose answer would leave by {first}: rp_filter is strict, "
            "and both have a default route"
        )
        shown = [f"{CONF}/all/rp_filter: {of_all}", f"{CONF}/{name}/rp_filter: {STRICT}", *default.splitlines()]
        yield warning(Code.RP_FILTER, name, what, shown, f"sysctl -w {conf(4, name)}.rp_filter=2")
    if not risky:
        said = (
            f"strict on {', '.join(strict)}, and only {first or 'no interface'} leads to clients" if strict else "off"
        )
        yield well(Code.RP_FILTER, "rp_filter", f"rp_filter drops nothing of the address: {said}", default.splitlines())


def _arp(context: Context) -> Iterator[Finding]:
    """With placement all, both nodes have the address: on a shared layer 2 none of them may answer for it."""
    if not context.machine:
        return
    everywhere = [a for a, one in context.floating.items() if a.version == 4 and one.placement == "all"]
    for address in everywhere:
        answering = [name for name, network in context.machine.answering if address.ip in network]
        for name in answering:
            what = (
                f"{address.ip} is in a network of {name}, and this machine answers ARP for it there, as each node "
                "with the address does"
            )
            hint = f"sysctl -w {conf(4, name)}.arp_ignore=1 {conf(4, name)}.arp_announce=2"
            shown = [f"{CONF}/{name}/arp_ignore: 0", f"{CONF}/all/arp_ignore: 0"]
            yield warning(Code.ARP_ANSWERS, name, what, shown, hint)
        if not answering:
            yield well(Code.ARP_ANSWERS, str(address.ip), f"no interface answers ARP for {address.ip} from its network")


def _nonlocal_bind(context: Context) -> Iterator[Finding]:
    """A service that names the address cannot start where the address is not yet."""
    for address, instance in context.floating.items():
        if instance.placement != "master":
            continue
        key = f"/proc/sys/net/ipv{address.version}/ip_nonlocal_bind"
        try:
            value = _number(context, key)
            bound = [one for one in listeners(context.host) if one.address == address.ip]
        except Unseen as error:
            yield unseen(Code.NONLOCAL_BIND, str(address.ip), f"{error}")
            continue
        name = key.removeprefix("/proc/sys/").replace("/", ".")
        if value:
            yield well(Code.NONLOCAL_BIND, str(address.ip), "a service may bind to an address before it is here", key)
        elif bound:
            ports = ", ".join(str(one.port) for one in bound)
            what = (
                f"a service here listens on {address.ip} itself (port {ports}): on a node that is not master it cannot "
                "start, because the address is not there"
            )
            hint = f"sysctl -w {name}=1  # and in /etc/sysctl.d; or let it listen on all addresses"
            yield warning(Code.NONLOCAL_BIND, str(address.ip), what, f"{key}: {value}", hint)
        else:
            what = f"no service binds to {address.ip} alone, so {name} = 0 does no harm here"
            yield well(Code.NONLOCAL_BIND, str(address.ip), what, f"{key}: {value}")
