"""FRR: bgpd, and zebra for the way to the kernel."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from floatip.core.bgp.attributes import Attributes, Prefix
from floatip.lab.namespaces import find_program
from floatip.lab.network import NODES, LabHost, Network, router_id
from floatip.lab.programs.bird import Rules
from floatip.lab.programs.program import Program
from floatip.lab.route_server_process import ASN, CLIENT_ASN
from tests.lab.interop.route_server import NODE_NAMES, Heard, OtherRouteServer, Winners, attributes_of, wait_for

FRR_DIRECTORY = "/usr/lib/frr"


class Zebra(Program):
    """FRR's way to the kernel."""

    name = "zebra"

    def __init__(self, network: Network, host: str) -> None:
        super().__init__(network, host)
        self._program = find_program(f"{FRR_DIRECTORY}/zebra", "frr")
        # FRR insists on a user of its own, who makes the sockets.
        network.directory.chmod(0o711)
        shutil.chown(self.directory, "frr", "frr")

    def command(self) -> Sequence[str]:
        return [self._program, *self.options("zebra")]

    @property
    def zserv(self) -> Path:
        return self.directory / "zserv"

    def options(self, daemon: str) -> list[str]:
        """Those that all daemons of FRR share."""
        files = ["--vty_socket", str(self.directory), "-z", str(self.zserv), "-i", str(self.directory / daemon)]
        return [*files, "--vty_port", "0", "--log", "stdout"]


class Frr(OtherRouteServer):
    name = "bgpd"
    package = "frr"
    protocol = "bgp"

    def __init__(self, network: Network, host: str, rules: Rules) -> None:
        super().__init__(network, host, rules)
        self._zebra = Zebra(network, host)

    def start(self) -> None:
        self._zebra.zserv.unlink(missing_ok=True)
        self._zebra.start()
        wait_for(
            self._zebra.zserv.exists, "zebra to listen"
        )  # a bgpd that does not find it looks again after ten seconds
        super().start()

    def kill(self) -> None:
        self._zebra.stop()  # takes its routes, which are made of nexthop objects, out of the kernel
        self._zebra.wait()
        super().kill()

    def command(self) -> Sequence[str]:
        own = ["-f", self.write("bgpd.conf", "\n".join(self._config())), "-l", str(self.address)]
        return [find_program(f"{FRR_DIRECTORY}/bgpd", self.package), *self._zebra.options("bgpd"), *own]

    def _config(self) -> Iterator[str]:
        only = "match as-path bare" if self.rules.only_bare_path else ""
        yield from ["bgp community-list standard primary permit 65000:1"]
        yield from [f"bgp as-path access-list bare permit ^{CLIENT_ASN}$"]
        if self.rules.weighs_communities:
            yield from ["route-map incoming permit 10", only, "match community primary", "set local-preference 200"]
        yield from ["route-map incoming permit 20", only]
        yield from [f"router bgp {ASN}", f"bgp router-id {router_id(self.host)}"]
        yield from ["no bgp ebgp-requires-policy", "no bgp default ipv4-unicast"]
        yield from ["bgp graceful-restart-disable", "bgp bestpath as-path multipath-relax"]
        for node in NODES:
            yield from (f"neighbor {node.ipv6} {line}" for line in self._neighbor())
        for family in ("ipv4", "ipv6"):
            yield from [f"address-family {family} unicast", f"maximum-paths {64 if self.rules.multipath else 1}"]
            for node in NODES:
                yield from [f"neighbor {node.ipv6} activate", f"neighbor {node.ipv6} route-map incoming in"]
            yield "exit-address-family"

    def _neighbor(self) -> Iterator[str]:
        yield from [f"remote-as {CLIENT_ASN}", "passive", "capability extended-nexthop"]
        yield f"timers {self.rules.hold_time // 3} {self.rules.hold_time}"
        yield f"ttl-security hops {self.rules.max_hops}" if self.rules.max_hops else "ebgp-multihop 64"
        if self.rules.password:
            yield f"password {self.rules.password}"

    def _vtysh(self, command: str) -> list[str]:
        return ["vtysh", "--vty_socket", str(self._zebra.directory), "-d", "bgpd", "-c", command]

    def _vtysh_json(self, command: str) -> Any:
        return self._ask_json(*self._vtysh(f"{command} json"))

    def session_up(self, node: LabHost) -> bool:
        found = self._vtysh_json(f"show bgp neighbors {node.ipv6}")
        return any(session.get("bgpState") == "Established" for session in found.values())

    def routes(self, prefix: Prefix) -> list[Heard]:
        found = self._vtysh_json(f"show bgp ipv{prefix.version} unicast {prefix}")
        return [Heard(NODE_NAMES[path["peer"]["peerId"]], self._read(path)) for path in found.get("paths", [])]

    def _read(self, path: Mapping[str, Any]) -> Attributes:
        communities = [map(int, word.split(":")) for word in path.get("community", {}).get("list", [])]
        (next_hop,) = (each["ip"] for each in path["nexthops"] if each["scope"] == "global")
        as_path = map(int, path["aspath"]["string"].split())
        return attributes_of(next_hop, path["origin"], as_path, path.get("metric"), communities)

    def winners(self) -> Winners:
        return self._kernel_winners()

    def notify_close(self, node: LabHost) -> None:
        self.ask(*self._vtysh(f"clear bgp {node.ipv6}"))
