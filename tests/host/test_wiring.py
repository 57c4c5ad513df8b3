"""What each part of the host is configured with, from a model read from a file."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_interface
from pathlib import Path
from typing import Any, cast

import pytest

from floatip import reading
from floatip.core.addresses import Address, Placed
from floatip.core.settings import AddressOptions, Garps, Instance, Link, Node, Settings, Virtual, Vrrp
from floatip.core.vrrp.wire import GROUP, GROUP_IPV6
from floatip.host import keepalived, wiring
from floatip.host.network.adverts import Listening
from floatip.host.network.kernel import Wanted
from floatip.host.network.packet_filter import Known
from floatip.host.network.peers import Options
from floatip.model import File, Listener, Process, Script, Tcp

ROOT = 0
CONFIG = """
state_log = "{dir}/state"
[linode]
dcid = 6
[bgp]
source = "2001:db8::1"
min_ttl = 254
md5 = "k"
[keepalived]
script_user = "root"
pid_file = "/run/other.pid"
[http]
hosts = ["a.example"]

[notify]
command = ["/bin/true", "-v"]
drained = ["/bin/true", "drained"]
timeout = 3
[[check]]
name = "script"
script = "/bin/true"
[[check]]
name = "tcp"
tcp = "[::1]:80"
[[check]]
name = "file"
file = "/run/trigger"
fail_when = "absent"
[[check]]
name = "process"
process = "haproxy"
[[instance]]
name = "A"
addresses = ["192.0.2.10/32"]
checks = ["script", "tcp", "file", "process"]
vrrp = { interface = "eth0", vrid = 1, source = "10.0.0.1", peers = ["10.0.0.2"] }
[[instance]]
name = "B"
addresses = ["192.0.2.11/32"]
vrrp = { interface = "eth0", vrid = 2, source = "10.0.0.3", peers = ["10.0.0.2"] }
[[instance]]
name = "C"
addresses = ["192.0.2.12/32"]
keepalived = { interface = "eth1", vrid = 3, source = "10.1.0.1", sync_group = "G", instance = "VI_C" }
"""


class Recorder:
    def __init__(self, told: dict[str, Any], name: str) -> None:
        self._told, self._name = told, name

    def configure(self, *arguments: Any, **options: Any) -> None:
        values = [list(one) if hasattr(one, "__next__") else one for one in arguments]
        self._told[self._name] = (*values, options) if options else tuple(values)

    allow = configure


def connected(
    text: str, directory: Path, fit: Callable[[Settings], Settings] = lambda as_read: as_read
) -> dict[str, Any]:
    file = directory / "floatip.toml"
    file.write_text(text.replace("{dir}", str(directory)))
    loaded = reading.load(file)
    told: dict[str, Any] = {}
    parts = wiring.Parts(*(cast(Any, Recorder(told, name)) for name in wiring.Parts.__dataclass_fields__))
    wiring.connect(parts, loaded, fit(loaded.model.settings()))
    return told


def loaded_settings(directory: Path) -> Settings:
    return reading.load(directory / "floatip.toml").model.settings()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path


def test_each_part_gets_what_the_file_says(directory: Path) -> None:
    sources: dict[str, frozenset[Address]] = {
        "eth0": frozenset({IPv4Address("10.0.0.1"), IPv4Address("10.0.0.3")}),
        "eth1": frozenset({IPv4Address("10.1.0.1")}),
    }
    told = connected(CONFIG, directory)
    placed = frozenset(Placed("lo", ip_interface(f"192.0.2.{host}/32")) for host in (10, 11, 12))
    (options,) = told.pop("peers")
    assert told.pop("second_chance") == (loaded_settings(directory),)
    assert options == Options(
        ip_address("2001:db8::1"), options.ttl, "", 254, "k", frozenset(p.address.ip for p in placed)
    )
    listening = {
        ("eth0", 4): Listening(known=Known(frozenset({IPv4Address("10.0.0.2")}))),
        ("eth1", 4): Listening(frozenset({GROUP}), Known(open_vrids=frozenset({3}))),
    }
    assert told == {
        "adverts": (listening,),
        "link": (None,),
        "etcd": (None,),
        "hooks": (("/bin/true", "-v"), 3, ("/bin/true", "drained")),
        "teller": (reading.load(directory / "floatip.toml").model,),
        "state_log": (directory / "state", 3),
        "probes": (
            {
                "script": Script(("/bin/true",)),
                "tcp": Tcp("::1", 80),
                "file": File(Path("/run/trigger"), "absent"),
                "process": Process("haproxy"),
            },
        ),
        "kernel": (
            Wanted(
                sources,
                placed,
                garps={Placed("lo", ip_interface(f"192.0.2.{host}/32")): Garps() for host in (10, 11)},
                greeting=frozenset((("eth0", IPv4Address("10.0.0.1")), ("eth0", IPv4Address("10.0.0.3")))),
            ),
        ),
        "keepalived": (
            keepalived.Paths(Path("/run/keepalived/floatip"), (Path("/run/other.pid"), Path("/run/vrrp.pid"))),
            ("VI_C",),
            ("G",),
        ),
        "control": (frozenset({ROOT}),),
        "web": (Listener(hosts=("a.example",)),),
    }


def test_where_no_keepalived_is_followed_nobody_else_may_speak_for_it(directory: Path) -> None:
    told = connected(CONFIG[: CONFIG.rindex("[[instance]]")], directory)
    assert told["keepalived"] == (None, (), ())
    assert told["control"] == (frozenset(),)
    told = connected("[[instance]]" + CONFIG.split("[[instance]]")[2], directory)
    assert told["hooks"] == ((), 0)
    assert told["web"] == (None,)
    assert "peers" not in told


def test_the_link_is_bound_to_the_own_node_and_knows_the_others(directory: Path) -> None:
    nodes = tuple(Node(f"n{number}", ip_address(f"10.0.0.{number}")) for number in (1, 2, 3))
    link = Link(nodes, "n2", (bytes(32),), bytes(8), port=1234)
    told = connected(CONFIG, directory, lambda settings: replace(settings, link=link))
    assert told["link"] == (ip_address("10.0.0.2"), 1234, (ip_address("10.0.0.1"), ip_address("10.0.0.3")))


def test_virtual_routers_of_one_interface_have_their_ways_together(directory: Path) -> None:
    four, six = ip_address("10.0.0.1"), ip_address("fe80::1")
    other, group = ip_address("10.0.0.2"), ip_address("224.0.0.99")
    vip, vip6 = ip_interface("192.0.2.10/24"), ip_interface("2001:db8::10/128")
    special = AddressOptions(vip, interface="eth1", label="eth1:vip")
    virtual, garps = Virtual("route", ("192.0.2.0/24", "dev", "eth1")), Garps(repeat=1)
    elections = {
        "multicast": Vrrp("eth0", 1, 100, four, ()),
        "own group": Vrrp("eth0", 2, 100, four, (), group=group),
        "unicast": Vrrp("eth0", 3, 100, four, (other,), garps=garps),
        "unicast from anywhere": Vrrp("eth0", 4, 100, four, (other,), checks_source=False),
        "IPv6": Vrrp("eth0", 1, 100, six, (), version=3),
    }
    instances = tuple(
        Instance(
            name,
            {"unicast": (vip,), "IPv6": (vip6,)}.get(name, ()),
            election,
            placement="master",
            interface="eth0",
            options=(special,) if name == "unicast" else (),
            virtuals=(virtual,) if name == "unicast" else (),
        )
        for name, election in elections.items()
    )
    told = connected(CONFIG, directory, lambda settings: replace(settings, instances=instances))
    assert told["adverts"] == (
        {
            ("eth0", 4): Listening(frozenset({GROUP, group}), Known(frozenset({other}), frozenset({1, 2, 4}))),
            ("eth0", 6): Listening(frozenset({GROUP_IPV6}), Known(open_vrids=frozenset({1}))),
        },
    )
    placed, placed6 = Placed("eth1", vip), Placed("eth0", vip6)
    wanted = Wanted(
        {"eth0": frozenset({four, six})},
        frozenset({placed, placed6}),
        {placed: special},
        {placed: garps, placed6: Garps()},
        frozenset({("eth0", four)}),
        frozenset({virtual}),
    )
    assert told["kernel"] == (wanted,)
