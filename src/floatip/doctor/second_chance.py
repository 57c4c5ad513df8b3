"""The second chance: whether this node can take part, the tunnel to each other node, what of it is in the kernel."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress

from floatip.core.state import SecondChanceView, ThroughView
from floatip.doctor.addresses import CONF, STRICT, conf
from floatip.doctor.context import Context
from floatip.doctor.finding import Code, Finding, note, unseen, warning, well
from floatip.doctor.host import Missing, Unseen

DEVICE, TABLE = "floatip-sc", "floatip_sc"
TABLES = (("inet", TABLE), ("netdev", TABLE))
MODULES = ("vxlan", "nft_fwd_netdev", "tcp_diag")
OWNER, PERSIST = "owner", "persist"
SHOWN = "floatip status --json: second_chance"
Make = Callable[..., Finding]


def second_chance(context: Context) -> Iterator[Finding]:
    config = context.model.second_chance if context.model else None
    if not config or config.mode == "off":
        yield from _left_over(context)
        return
    known = context.status.second_chance if context.status else None
    if not context.status:
        yield from _modules(context)
        return
    if not known:
        what = "the daemon does not use the second chance that the configuration has"
        yield warning(Code.SECOND_CHANCE, "floatip", what, SHOWN, "systemctl reload floatip; floatip check")
        return
    make = warning if known.mode == "on" else note
    if known.usable:
        what = f"this node can take part in the second chance (UDP port {known.port}, limit {known.limit:g} s)"
        yield well(Code.SECOND_CHANCE, "floatip", what, SHOWN)
    else:
        what = f"this node cannot take part in the second chance, so a planned move resets connections: {known.why}"
        yield make(Code.SECOND_CHANCE, "floatip", what, SHOWN, known.hint or "journalctl -u floatip")
        return
    for one in known.nodes:
        yield _tunnel(context, known, one, make)
    for out in known.without:
        what = f"connections of {out.instance} are reset by a planned move: {out.why}"
        yield make(Code.SECOND_CHANCE, out.instance, what, SHOWN, "see what listens: ss -Htlnp")
    yield from _reverse_path(context, make)
    yield from _tables(context)


def _tunnel(context: Context, known: SecondChanceView, one: ThroughView, make: Make) -> Finding:
    assert context.status
    name = one.node
    node = next((each for each in context.status.nodes if each.name == name), None)
    where = f"{name} ({node.address})" if node else name
    if one.works:
        return well(Code.TUNNEL, name, f"the tunnel to {where} and back works", SHOWN)
    if node and node.state != "alive":
        return note(Code.TUNNEL, name, f"the tunnel to {where} does not work, as {name} is {node.state}", SHOWN)
    dump = f"tcpdump -ni any udp port {known.port}"
    hint = {
        "unheard": f"let UDP port {known.port} from {where} pass; see what arrives: {dump}",
        "large": f"let fragments of UDP port {known.port} from {where} pass, also in the cloud's firewall",
        "deaf": f"on {name}: let UDP port {known.port} from this node pass; see what arrives there: {dump}",
    }.get(one.fault, f"on {name}: floatip doctor")
    return make(Code.TUNNEL, name, f"the tunnel between {where} and this node does not work: {one.why}", SHOWN, hint)


def _modules(context: Context) -> Iterator[Finding]:
    """Where no daemon has tried."""
    for name in MODULES:
        try:
            context.host.run("modprobe", "--dry-run", name)
        except Missing:
            return  # nobody knows without modprobe
        except Unseen as error:
            what = f"the kernel seems to have no {name}, which the second chance needs"
            yield note(Code.SECOND_CHANCE, name, what, f"modprobe --dry-run {name}: {error}", f"modprobe {name}")


def _reverse_path(context: Context, make: Make) -> Iterator[Finding]:
    """The kernel takes the larger value of `all` and of the device."""
    paths = [f"{CONF}/{name}/rp_filter" for name in ("all", DEVICE)]
    try:
        values = [int(context.host.text(path)) for path in paths]
    except (Unseen, ValueError) as error:
        yield unseen(Code.RP_FILTER, DEVICE, f"whether {DEVICE} drops packets by their way back is not known: {error}")
        return
    shown = [f"{path}: {value}" for path, value in zip(paths, values, strict=True)]
    if max(values) == STRICT:
        what = f"{DEVICE} drops the packets of connections that go on here: rp_filter is strict"
        yield make(Code.RP_FILTER, DEVICE, what, shown, f"sysctl -w {conf(4, DEVICE)}.rp_filter=2")
    else:
        yield well(Code.RP_FILTER, DEVICE, f"{DEVICE} drops no packet by its way back", shown)


def _tables(context: Context) -> Iterator[Finding]:
    """Those that carry the packets, and whether other programs can take them away."""
    if not context.host.is_root:
        yield unseen(Code.SECOND_CHANCE, TABLE, "only root may see the tables of nftables", (), "sudo floatip doctor")
        return
    try:
        there = context.host.nft_tables()
    except Unseen as error:
        yield unseen(Code.SECOND_CHANCE, TABLE, f"whether its tables are there is not known: {error}")
        return
    if missing := [" ".join(one) for one in TABLES if one not in there]:
        what = f"the table {' and '.join(missing)} of nftables is not there: another program has removed it"
        hint = "floatip makes it again within 5 s; find out who removes it: nft monitor"
        yield warning(Code.SECOND_CHANCE, TABLE, what, "nft list tables", hint)
        return
    flags = _flags(context)
    if flags is None:
        yield well(Code.SECOND_CHANCE, TABLE, "the tables of the second chance are there", "nft list tables")
    elif OWNER in flags:
        what = "the tables of the second chance are there, and no other program can change them"
        yield well(Code.SECOND_CHANCE, TABLE, what, f"nft -j list tables: {', '.join(sorted(flags))}")
    else:
        what = "the tables of the second chance are not protected: nft flush ruleset in a move resets its connections"
        hint = "Linux 6.9 protects them; until then, reload only your own tables"
        yield note(Code.SECOND_CHANCE, TABLE, what, "nft -j list tables: no flag owner", hint)


def _flags(context: Context) -> set[str] | None:
    """Of the table; None: nft is not there, or is too old to say."""
    with suppress(Unseen, ValueError, KeyError, TypeError, AttributeError):
        for one in json.loads(context.host.run("nft", "-j", "list", "tables"))["nftables"]:
            table = one.get("table", {})
            if (table.get("family"), table.get("name")) == TABLES[-1]:
                flags = table.get("flags", [])
                return {flags} if isinstance(flags, str) else set(flags)
    return None


def _left_over(context: Context) -> Iterator[Finding]:
    """Of a daemon that was killed, and that has no second chance now."""
    with suppress(Unseen):
        if DEVICE in context.host.names("/sys/class/net") and not (context.status and context.status.second_chance):
            what = f"{DEVICE} is left of a floatip that was killed, and nothing uses it"
            hint = f"ip link del {DEVICE}; nft delete table netdev {TABLE}; nft delete table inet {TABLE}"
            yield note(Code.SECOND_CHANCE, DEVICE, what, f"/sys/class/net/{DEVICE}", hint)
