"""A node as it was recorded, for the parts of the doctor that only read."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Network, ip_interface
from pathlib import Path
from typing import Any

from floatip import __version__
from floatip.core.addresses import Placed
from floatip.core.state import SchedulingView, Status
from floatip.doctor.context import Context
from floatip.doctor.finding import Finding, Grade
from floatip.model import Here, Model
from floatip.reading.machine import Machine
from floatip.reading.toml import document, reader
from tests.doctor.recorded import Recorded
from tests.web.views import PAIR, instance, node, session

NODES = """
[linode]
dcid = 6
[[node]]
name = "haproxy1"
address = "192.168.143.227"
[[node]]
name = "haproxy2"
address = "192.168.143.241"
[[check]]
name = "haproxy"
process = "haproxy"
[[instance]]
name = "web"
addresses = ["192.168.223.158/32"]
checks = ["haproxy"]
"""
ROUTES = {
    "192.168.143.241": '[{"dst": "192.168.143.241", "dev": "eth0", "prefsrc": "192.168.143.227", "flags": []}]',
    **{
        f"2600:3c0f:6:34::{number}": f'[{{"dst": "2600:3c0f:6:34::{number}", "gateway": "fe80::1", "dev": "eth0", '
        '"prefsrc": "2600:3c03::f03c:1", "flags": []}]'
        for number in range(1, 5)
    },
}
ADDRESSES = {
    "lo": ("127.0.0.1/8", "192.168.223.158/32"),
    "eth0": ("192.168.143.227/17", "2600:3c03::f03c:1/64"),
}
CONF = "/proc/sys/net/ipv4/conf"
FILES = {
    **{f"{CONF}/{name}/rp_filter": "0\n" for name in ("all", "default", "lo", "eth0")},
    "/proc/sys/net/ipv4/ip_nonlocal_bind": "0\n",
    "/sys/class/net/eth0/mtu": "1500\n",
    "/proc/1/comm": "systemd\n",
    "/proc/1/cmdline": "/sbin/init\0",
}
DEFAULT = "default via 192.168.128.1 dev eth0 proto static\n"


def model(text: str = NODES) -> Model:
    made, _, problems = reader.model_of(document.parse("floatip.toml", text.encode()))
    assert not problems, problems
    return made


def context(
    text: str = NODES,
    *,
    addresses: Mapping[str, Sequence[str]] | None = None,
    files: Mapping[str, str] | None = None,
    outputs: Mapping[Any, str] | None = None,
    status: Status | None = None,
    is_root: bool = True,
    **machine: Any,
) -> Context:
    """As haproxy1 has it."""
    made = model(text)
    routes: dict[Sequence[str], str] = {
        ("ip", "-json", "route", "get", address): said for address, said in ROUTES.items()
    }
    routes["ip", "-4", "route", "show", "default"] = DEFAULT
    host = Recorded(FILES | dict(files or {}), routes | dict(outputs or {}), is_root=is_root)
    interfaces = {name: tuple(map(ip_interface, each)) for name, each in (addresses or ADDRESSES).items()}
    here = Here(made.nodes[0], "eth0") if made.nodes else None
    return Context(
        host,
        Path("/etc/floatip/floatip.toml"),
        model=made.on("eth0"),
        here=here,
        has_file=True,
        machine=Machine(interfaces, default_interface="eth0", **machine),
        status=status,
    )


def running(**changes: Any) -> Status:
    """The daemon of a master, of this version."""
    status = replace(
        PAIR,
        version=__version__,
        pid=99,
        instances=(instance("web"),),
        sessions=tuple(session(f"2600:3c0f:6:34::{number}") for number in range(1, 5)),
        nodes=(node("haproxy1", {}, own=True), replace(node("haproxy2", {}), version=__version__)),
        scheduling=SchedulingView("rr", 10, True),
    )
    return replace(status, **changes)


def graded(findings: Sequence[Finding], grade: Grade) -> dict[str, Finding]:
    """By code."""
    return {str(one.code): one for one in findings if one.grade is grade}


def placed(name: str, address: str) -> Placed:
    return Placed(name, ip_interface(address))


def subnet(name: str, network: str) -> tuple[str, IPv4Network]:
    return name, IPv4Network(network)
