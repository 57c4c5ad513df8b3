"""BIRD, configured as in the lab, and asked by birdc."""

import re
from collections.abc import Sequence

from floatip.core.bgp.attributes import Attributes, Prefix
from floatip.lab.network import LabHost
from floatip.lab.programs.bird import BirdRouteServer
from tests.lab.interop.route_server import Heard, OtherRouteServer, Winners, attributes_of


class Bird(OtherRouteServer):
    name = "bird"
    package = "bird2"
    protocol = "bird"

    def command(self) -> Sequence[str]:
        return BirdRouteServer(self.network, self.host, self.rules, feeds_fabric=False).command()

    def _birdc(self, *command: str) -> str:
        return self.ask("birdc", "-s", str(self.directory / "ctl"), *command)

    def session_up(self, node: LabHost) -> bool:
        return "Established" in self._birdc("show", "protocols", node.name)

    def routes(self, prefix: Prefix) -> list[Heard]:
        answer = self._birdc("show", "route", str(prefix), "all")
        blocks = re.split(r"^.* unicast \[(\w+) .*$", answer, flags=re.MULTILINE)[1:]
        return [Heard(node, self._read(block)) for node, block in zip(blocks[::2], blocks[1::2], strict=True)]

    def _read(self, block: str) -> Attributes:
        said = dict(re.findall(r"^\tBGP\.(\w+): (.*)$", block, re.MULTILINE))
        communities = [map(int, pair) for pair in re.findall(r"\((\d+),(\d+)\)", said.get("community", ""))]
        med = int(said["med"]) if "med" in said else None
        return attributes_of(said["next_hop"], said["origin"], map(int, said["as_path"].split()), med, communities)

    def winners(self) -> Winners:
        return self._kernel_winners()

    def notify_close(self, node: LabHost) -> None:
        self._birdc("restart", node.name)
