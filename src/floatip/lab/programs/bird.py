"""BIRD 2 as a route server and as the fabric; all its configuration is written here.

It takes one session a peer, so four route servers are four processes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address

from floatip.lab.namespaces import find_program
from floatip.lab.network import FABRIC, ROUTE_SERVERS, ROUTER, THREE_NODES, LabHost, Network, router_id
from floatip.lab.programs.program import RoutingProgram
from floatip.lab.route_server_process import ASN, CLIENT_ASN, FABRIC_HOLD_TIME

EXPORT = "export where source = RTS_BGP;"


@dataclass(frozen=True, slots=True)
class Rules:
    """How a route server treats its peers."""

    hold_time: int = 30
    weighs_communities: bool = True
    """Local preference 200 for `65000:1`, as Linode's do; otherwise communities mean nothing."""
    only_bare_path: bool = False
    """Takes no AS path but the one AS of the peer."""
    multipath: bool = False
    password: str = ""
    """MD5 (RFC 2385)."""
    max_hops: int = 0
    """GTSM (RFC 5082): packets must have a TTL of at least 256 minus this; 0: any TTL. Not in ExaBGP over IPv6."""


def _write_globals(host: str, rules: Rules) -> str:
    """Next hops are reached directly, so that the kernel's routes name the node itself."""
    ways = " ".join(f'route {node.ipv6}/128 via "{node.name if host == ROUTER else "eth0"}";' for node in THREE_NODES)
    accepted = ["if (65000, 1) ~ bgp_community then bgp_local_pref = 200;"] if rules.weighs_communities else []
    accepted += [f"if bgp_path !~ [= {CLIENT_ASN} =] then reject;"] if rules.only_bare_path else []
    merge = "merge paths on; " if rules.multipath else ""
    return f"""
log stderr all;
router id {router_id(host)};
protocol device {{ }}
protocol static {{ ipv6; {ways} }}
protocol kernel {{ {merge}ipv4 {{ import none; {EXPORT} }}; }}
protocol kernel {{ {merge}ipv6 {{ import none; {EXPORT} }}; }}
filter incoming {{ {" ".join(accepted)} accept; }}
"""


def _write_session(local: IPv6Address, peer: LabHost, asn: int, rules: Rules, *, onward: bool = False) -> str:
    """`onward`: tell the peer the best routes and take none; otherwise the other way round."""
    routes = f"import none; {EXPORT} next hop keep;" if onward else "import filter incoming; export none;"
    # BIRD is patient by default: five seconds to the first dial, a minute after an error. And when it dialled,
    # 2.0.12 keeps its first UPDATE back until the next KEEPALIVE is due.
    options = ["keepalive time 1"] if onward else ["passive"]
    options += [f"ttl security on; multihop {rules.max_hops}"] if rules.max_hops else ["multihop"]
    options += [f'password "{rules.password}"'] if rules.password else []
    return f"""
protocol bgp {peer.name} {{
  local {local} as {ASN};
  neighbor {peer.ipv6} as {asn};
  {"; ".join(options)};
  hold time {rules.hold_time};
  connect delay time 1;
  connect retry time 1;
  error wait time 1, 1;
  graceful restart off;
  deterministic med on;
  ipv4 {{ extended next hop; {routes} }};
  ipv6 {{ {routes} }};
}}
"""


def _command(program: RoutingProgram, config: Iterable[str]) -> Sequence[str]:
    path = program.write("bird.conf", "".join(config))
    return [find_program("bird", "bird2"), "-f", "-c", path, "-s", str(program.directory / "ctl")]


LINODE_RULES = Rules(hold_time=9)


class BirdFabric(RoutingProgram):
    name = "bird"

    def __init__(self, network: Network) -> None:
        super().__init__(network, ROUTER)

    def command(self) -> Sequence[str]:
        rules = Rules(hold_time=FABRIC_HOLD_TIME)
        sessions = [_write_session(FABRIC, server, ASN, rules) for server in ROUTE_SERVERS]
        return _command(self, [_write_globals(ROUTER, rules), *sessions])


class BirdRouteServer(RoutingProgram):
    name = "bird"

    def __init__(self, network: Network, host: str, rules: Rules = LINODE_RULES, *, feeds_fabric: bool = True) -> None:
        super().__init__(network, host)
        self._rules = rules
        (self.address,) = (each.ipv6 for each in ROUTE_SERVERS if each.name == host)
        self._feeds_fabric = feeds_fabric

    def command(self) -> Sequence[str]:
        config = [_write_globals(self.host, self._rules)]
        config += [_write_session(self.address, node, CLIENT_ASN, self._rules) for node in THREE_NODES]
        if self._feeds_fabric:
            rules, fabric = Rules(hold_time=FABRIC_HOLD_TIME), LabHost("fabric", FABRIC)
            config.append(_write_session(self.address, fabric, ASN, rules, onward=True))
        return _command(self, config)
