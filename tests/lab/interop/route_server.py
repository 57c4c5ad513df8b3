"""Other implementations of BGP as route servers, behind one set of methods.

They listen, take routes from both nodes and send none. A subclass writes its program's configuration and asks the
program what it has. What a program cannot do is not imitated: GoBGP, ExaBGP and OpenBGPD (on Linux) install no routes
in the kernel, and ExaBGP chooses no best path, so it has no `winners`.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Address, ip_address
from typing import Any

from floatip.core.addresses import Address
from floatip.core.bgp.attributes import Attributes, Origin, Prefix
from floatip.lab.namespaces import LabError, find_program
from floatip.lab.network import NODES, ROUTE_SERVERS, LabHost, Network
from floatip.lab.programs.bird import Rules
from floatip.lab.programs.program import RoutingProgram

GUEST = LabHost("rs5", IPv6Address("2600:3c0f:6:34::5"), IPv4Interface("192.168.210.5/17"))
"""The guide has four route servers, and there are five implementations."""
PLACES = (*ROUTE_SERVERS, GUEST)
NODE_NAMES = {str(address): node.name for node in NODES for address in node.addresses}
CONTROL_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Heard:
    """A route as the route server has it from one of the nodes."""

    node: str
    attributes: Attributes


Winners = dict[str, set[str]]
"""Prefix to the names of the nodes that its traffic goes to."""


class OtherRouteServer(RoutingProgram):
    network: Network
    package: str
    """Debian's."""
    protocol = ""
    """What its routes in the kernel are called there; empty: it installs none."""
    selects = True
    """Whether it chooses best paths."""
    extended_next_hop = True
    """Whether it takes IPv4 with an IPv6 next hop (RFC 8950). If not, its sessions run over IPv4."""

    def __init__(self, network: Network, host: str, rules: Rules) -> None:
        super().__init__(network, host)
        self.rules = rules
        (place,) = (each for each in PLACES if each.name == host)
        self.address = self.far_end(place)

    def far_end(self, host: LabHost) -> Address:
        """The host's address of the IP version that the sessions run over."""
        return host.addresses[0 if self.extended_next_hop else 1]

    def session_up(self, node: LabHost) -> bool:
        raise NotImplementedError

    def routes(self, prefix: Prefix) -> list[Heard]:
        raise NotImplementedError

    def winners(self) -> Winners:
        raise NotImplementedError

    def best(self, prefix: Prefix) -> set[str]:
        return self.winners().get(str(prefix), set())

    def notify_close(self, node: LabHost) -> None:
        """End the session with a NOTIFICATION; when it takes a new one is up to the program."""
        raise NotImplementedError

    def restart(self) -> None:
        """Killed, not stopped: its peers get no NOTIFICATION."""
        self.kill()
        self.start()

    def ask(self, *command: str) -> str:
        """The answer of the program's own control command."""
        program = [find_program(command[0], self.package), *command[1:]]
        with self.network.inside(self.host):
            answer = subprocess.run(program, capture_output=True, text=True, timeout=CONTROL_TIMEOUT, check=False)
        return answer.stdout

    def _ask_json(self, *command: str) -> Any:
        text = self.ask(*command)
        # A program that is still starting answers with an error, or nothing.
        return json.loads(text) if text.startswith(("{", "[")) else {}

    def kernel_next_hops(self, prefix: Prefix) -> set[Address]:
        return self._kernel().get(str(prefix), set())

    def _kernel_winners(self) -> Winners:
        return {prefix: {NODE_NAMES[str(way)] for way in ways} for prefix, ways in self._kernel().items()}

    def _kernel(self) -> dict[str, set[Address]]:
        found: dict[str, set[Address]] = {}
        for family, length in (("-4", 32), ("-6", 128)):
            for route in self._ask_json("ip", "-j", family, "route", "show", "proto", self.protocol):
                prefix = route["dst"] if "/" in route["dst"] else f"{route['dst']}/{length}"
                found[prefix] = {_gateway(way) for way in route.get("nexthops", [route])}
        return found


def _gateway(way: Mapping[str, Any]) -> Address:
    return ip_address(way["via"]["host"] if "via" in way else way["gateway"])


def attributes_of(
    next_hop: str, origin: str, as_path: Iterable[int], med: int | None, communities: Iterable[Iterable[int]]
) -> Attributes:
    pairs = tuple((asn, value) for asn, value in communities)
    return Attributes(ip_address(next_hop), Origin[origin.upper()], tuple(as_path), med, pairs)


def wait_for(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + CONTROL_TIMEOUT
    while not true():
        if time.monotonic() > deadline:
            raise LabError(f"timed out after {CONTROL_TIMEOUT:g} s: {what}", "see its log")
        time.sleep(0.01)
