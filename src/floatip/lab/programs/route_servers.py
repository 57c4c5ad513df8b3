"""The programs that play the provider's route servers: the lab's own, which needs nothing else, and BIRD 2.

Both fill the main table of their host. BIRD's dialect is written here and nowhere else.
"""

import sys
from collections.abc import Sequence

from pyroute2 import IPRoute

from floatip.lab.namespaces import find_program
from floatip.lab.network import NODES, ROUTE_SERVERS, LabHost, Network, router_id
from floatip.lab.programs.program import Program
from floatip.lab.route_server_process import ASN, CLIENT_ASN, RTPROT_BGP

RTPROT_BIRD = 12


class RouteServerProgram(Program):
    def __init__(self, network: Network, host: str, hold_time: int = 9) -> None:
        super().__init__(network, host)
        (self.address,) = (each.ipv6 for each in ROUTE_SERVERS if each.name == host)
        self.hold_time = hold_time

    def kill(self) -> None:
        super().kill()
        # The kernel keeps the routes of a program that is killed, and a new BIRD stumbles over them.
        with self.network.inside(self.host), IPRoute() as ip:
            for protocol in (RTPROT_BIRD, RTPROT_BGP):
                ip.flush_routes(proto=protocol)


class BuiltInRouteServer(RouteServerProgram):
    name = "route-server"

    def command(self) -> Sequence[str]:
        process = "floatip.lab.route_server_process"
        return [sys.executable, "-m", process, router_id(self.host), str(self.hold_time)]


class BirdRouteServer(RouteServerProgram):
    name = "bird"
    merge_paths = ""
    """Of the kernel protocol."""
    filters = "if (65000, 1) ~ bgp_community then bgp_local_pref = 200;"
    """Local preference by community, as Linode's do."""
    security = "multihop;"

    def command(self) -> Sequence[str]:
        path = self.write("bird.conf", self._globals() + "".join(map(self._session, NODES)))
        return [find_program("bird", "bird2"), "-f", "-c", path, "-s", str(self.directory / "ctl")]

    def _globals(self) -> str:
        # Next hops are reached directly, so that the kernel's routes name the node itself.
        ways = " ".join(f'route {node.ipv6}/128 via "eth0";' for node in NODES)
        export = "import none; export where source = RTS_BGP;"
        return f"""
log stderr all;
router id {router_id(self.host)};
protocol device {{ }}
protocol static {{ ipv6; {ways} }}
protocol kernel {{ {self.merge_paths} ipv4 {{ {export} }}; }}
protocol kernel {{ {self.merge_paths} ipv6 {{ {export} }}; }}
filter incoming {{ {self.filters} accept; }}
"""

    def _session(self, node: LabHost) -> str:
        routes = "import filter incoming; export none;"
        return f"""
protocol bgp {node.name} {{
  local {self.address} as {ASN};
  neighbor {node.ipv6} as {CLIENT_ASN};
  passive;
  {self.security}
  hold time {self.hold_time};
  error wait time 1, 1;
  graceful restart off;
  deterministic med on;
  ipv4 {{ extended next hop; {routes} }};
  ipv6 {{ {routes} }};
}}
"""
