"""Which program made a rule, and the command of that program that lets a packet through. Pure."""

import re
from collections.abc import Iterable
from typing import Literal

from floatip.doctor.firewall.packet import TCP, UDP, VRRP, Because, Packet
from floatip.doctor.firewall.rules import Table, is_early

FrontEnd = Literal["ufw", "firewalld", "iptables", "iptables-legacy", "nft"]
NAMES = {TCP: "tcp", UDP: "udp", VRRP: "vrrp"}


def front_end(because: Because, tables: Iterable[Table]) -> FrontEnd:
    """Whose rules they are: what is written past a front end is gone at its next reload."""
    tables = list(tables)
    if " firewalld " in f" {because.chain} ":
        return "firewalld"
    if because.source.endswith("-save"):
        of_source = [table for table in tables if table.source == because.source]
        if any(name.startswith("ufw") for table in of_source for name in table.chains):
            return "ufw"
        if any(name == "INPUT_direct" or name.startswith("IN_public") for t in of_source for name in t.chains):
            return "firewalld"
        return "iptables-legacy" if "legacy" in because.source else "iptables"
    return "nft"


def mending(packet: Packet, because: Because, tables: Iterable[Table]) -> str:
    """The command that lets such packets through."""
    tables = list(tables)
    name = front_end(because, tables)
    out = packet.direction == "out"
    end, port = "dport", packet.target_port
    if packet.state == "established":
        if name not in ("nft", "iptables", "iptables-legacy") or not _is_early(because, tables):
            return _for_answers(name, because, packet)
        end, port = "sport", packet.source_port
    protocol = NAMES.get(packet.protocol, str(packet.protocol))
    match name:
        case "ufw":
            way = f"to {packet.target}" if out else f"from {packet.source}"
            to_port = "" if port is None else f" port {port}" if out else f" to any port {port}"
            return f"ufw allow {'out ' if out else ''}proto {protocol} {way}{to_port}"
        case "firewalld" if not out:
            what = f'port port="{port}" protocol="{protocol}"' if port is not None else f'protocol value="{protocol}"'
            rule = f'rule family="ipv{packet.version}" source address="{packet.source}" {what} accept'
            return _now_and_kept(f"{_zone(because)} --add-rich-rule='{rule}'")
        case "firewalld":
            way, wanted = f"-d {packet.target} -p {protocol}", "" if port is None else f" --dport {port}"
            rule = f"ipv{packet.version} filter OUTPUT 0 {way}{wanted} -j ACCEPT"
            return _now_and_kept(f" --direct --add-rule {rule}")
        case "iptables" | "iptables-legacy":
            tool = _tool(name, packet)
            chain, way = ("OUTPUT", f"-d {packet.target}") if out else ("INPUT", f"-s {packet.source}")
            to_port = "" if port is None else f" --{end} {port}"
            return f"{tool} -I {_chain(because, chain)} -p {protocol} {way}{to_port} -j ACCEPT"
    address = (
        f"{'ip' if packet.version == 4 else 'ip6'} {f'daddr {packet.target}' if out else f'saddr {packet.source}'}"
    )
    what = f"{protocol} {end} {port}" if port is not None else f"meta l4proto {packet.protocol}"
    return f"nft insert rule {because.base} {address} {what} accept"


def _now_and_kept(what: str) -> str:
    """Without a reload, which takes away what was allowed only until then, as ssh may be."""
    return f"firewall-cmd{what} && firewall-cmd --permanent{what}"


def _is_early(because: Because, tables: Iterable[Table]) -> bool:
    """No chain before connection tracking knows what is an answer."""
    return any(
        is_early(chain)
        for table in tables
        if table.source == because.source
        for chain in table.chains.values()
        if table.label(chain.name) == because.base
    )


def _for_answers(name: FrontEnd, because: Because, packet: Packet) -> str:
    if name == "ufw":
        return "compare /etc/ufw/before.rules and before6.rules with those of the package: they let answers in"
    if name == "firewalld":
        return "firewall-cmd --reload"
    if name == "nft":
        return f"nft insert rule {because.base} ct state established,related accept"
    return f"{_tool(name, packet)} -I {_chain(because, 'INPUT')} -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"


def _tool(name: FrontEnd, packet: Packet) -> str:
    tool = "iptables" if packet.version == 4 else "ip6tables"
    return f"{tool}-legacy" if name == "iptables-legacy" else tool


def _chain(because: Because, usual: str) -> str:
    """With its table, where that is not `filter`."""
    _, table, chain = because.base.split(" ", 2)
    return chain if table == "filter" else f"{chain} -t {table}" if chain else usual


def _zone(because: Because) -> str:
    """Of firewalld, by the chains that the packet went through."""
    for name in reversed(because.path):
        if match := re.fullmatch(r"(?:filter_IN|IN)_([^_]+)(?:_\w+)?", name):
            return f" --zone={match[1]}"
    return ""


def kept(name: FrontEnd) -> str:
    """How it outlives a reboot."""
    return {
        "nft": "write it into /etc/nftables.conf too",
        "iptables": "netfilter-persistent save keeps it over a reboot",
        "iptables-legacy": "netfilter-persistent save keeps it over a reboot",
    }.get(name, "")
