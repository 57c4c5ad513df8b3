"""OpenBGPD, the route server of several internet exchanges. It is a family of processes."""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from floatip.core.bgp.attributes import Attributes, Prefix
from floatip.lab.namespaces import find_program
from floatip.lab.network import NODES, LabHost
from floatip.lab.route_server_process import ASN, CLIENT_ASN
from tests.lab.interop.route_server import NODE_NAMES, Heard, OtherRouteServer, Winners, attributes_of


class OpenBgpd(OtherRouteServer):
    name = "openbgpd"
    package = "openbgpd"
    extended_next_hop = False

    def command(self) -> Sequence[str]:
        config = self.write("bgpd.conf", "\n".join(self._config()))
        Path(config).chmod(0o600)  # it refuses a file that others can read
        # It changes its root to a directory in /run. A session of its own: its processes are stopped together.
        bgpd = find_program("bgpd", self.package)
        start = f"mount -t tmpfs tmpfs /run && mkdir /run/openbgpd && exec {bgpd} -d -f {config}"
        return ["setsid", "unshare", "--mount", "sh", "-c", start]

    def kill(self) -> None:
        os.killpg(self.pid, signal.SIGKILL)
        self.wait()

    def pause(self) -> None:
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self.pid, signal.SIGCONT)

    @property
    def _control(self) -> Path:
        return self.directory / "control"

    def _config(self) -> Iterator[str]:
        yield from [f"AS {ASN}", "router-id 10.0.34.105", f'socket "{self._control}"', f"listen on {self.address}"]
        yield from [f"holdtime {self.rules.hold_time}", "holdtime min 3"]
        for node in NODES:
            yield f"neighbor {self.far_end(node)} {{"
            yield from self._neighbor()
            yield "}"
        yield "allow from any"
        if self.rules.only_bare_path:
            yield "deny from any max-as-len 1"  # a path that is longer
        if self.rules.weighs_communities:
            yield "match from any community 65000:1 set localpref 200"

    def _neighbor(self) -> Iterator[str]:
        yield from [f"remote-as {CLIENT_ASN}", "passive", "announce IPv4 unicast", "announce IPv6 unicast"]
        yield f"multihop {self.rules.max_hops or 16}"
        if self.rules.max_hops:
            yield "ttl-security yes"
        if self.rules.password:
            yield f'tcp md5sig password "{self.rules.password}"'

    def _bgpctl(self, *command: str) -> Any:
        return self._ask_json("bgpctl", "-s", str(self._control), "-j", *command)

    def session_up(self, node: LabHost) -> bool:
        found = self._bgpctl("show", "neighbor", str(self.far_end(node))).get("neighbors", [])
        return [each["state"] for each in found] == ["Established"]

    def _rib(self, *which: str) -> Sequence[Mapping[str, Any]]:
        routes: Sequence[Mapping[str, Any]] = self._bgpctl("show", "rib", *which).get("rib", [])
        return routes

    def routes(self, prefix: Prefix) -> list[Heard]:
        return [Heard(_node(each), self._read(each)) for each in self._rib("detail", str(prefix))]

    def _read(self, said: Mapping[str, Any]) -> Attributes:
        communities = [map(int, word.split(":")) for word in said.get("communities", [])]
        as_path = map(int, said["aspath"].split())
        return attributes_of(said["exit_nexthop"], said["origin"], as_path, said["metric"], communities)

    def winners(self) -> Winners:
        found: Winners = {}
        for each in self._rib():
            if each.get("best") or (self.rules.multipath and each.get("ecmp")):
                found.setdefault(each["prefix"], set()).add(_node(each))
        return found

    def notify_close(self, node: LabHost) -> None:
        self._bgpctl("neighbor", str(self.far_end(node)), "clear")


def _node(route: Mapping[str, Any]) -> str:
    return NODE_NAMES[route["neighbor"]["remote_addr"]]
