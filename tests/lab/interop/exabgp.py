"""ExaBGP: it reports each message to a script, and the routes are made from that."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from floatip.core.bgp.attributes import Attributes, Prefix
from floatip.lab.namespaces import find_program
from floatip.lab.network import NODES, LabHost, Network, router_id
from floatip.lab.programs.bird import Rules
from floatip.lab.route_server_process import ASN, CLIENT_ASN
from tests.lab.interop.route_server import NODE_NAMES, Heard, OtherRouteServer, attributes_of

ADMINISTRATIVE_RESET = 4  # RFC 4486


class ExaBgp(OtherRouteServer):
    """It reports each message to a script, which writes them to a file; the routes are made from that."""

    name = "exabgp"
    package = "exabgp"
    selects = False

    def __init__(self, network: Network, host: str, rules: Rules) -> None:
        super().__init__(network, host, rules)
        self._heard = self.directory / "heard"
        self._commands = self.directory / "commands"

    def command(self) -> Sequence[str]:
        # New files: the script of a predecessor that was killed may not have ended yet.
        for file in (self._heard, self._commands):
            file.unlink(missing_ok=True)
            file.touch()
        script = self.write("talk", _TALK.format(heard=self._heard, commands=self._commands))
        Path(script).chmod(0o755)
        process = f"process talk {{\n  run {script};\n  encoder json;\n}}\n"
        config = self.write("exabgp.conf", process + "".join(map(self._neighbor, NODES)))
        return [find_program("exabgp", self.package), config]

    def environment(self) -> Mapping[str, str]:
        return {
            "exabgp_daemon_user": "root",
            "exabgp_api_ack": "false",
            "exabgp_api_cli": "false",
            "exabgp_log_destination": "stderr",
        }

    def _neighbor(self, node: LabHost) -> str:
        password = f'md5-password "{self.rules.password}";' if self.rules.password else ""
        return f"""
neighbor {node.ipv6} {{
  router-id {router_id(self.host)};
  local-address {self.address};
  local-as {ASN};
  peer-as {CLIENT_ASN};
  passive true;
  listen 179;
  hold-time {self.rules.hold_time};
  {password}
  family {{ ipv4 unicast; ipv6 unicast; }}
  capability {{ nexthop enable; }}
  nexthop {{ ipv4 unicast ipv6; }}
  api {{ processes [ talk ]; neighbor-changes; receive {{ parsed; update; }} }}
}}
"""

    def _events(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Who said it, and what; a last line may be half written."""
        for line in self._heard.read_text().splitlines(keepends=True):
            if line.endswith("\n") and "neighbor" in (event := json.loads(line, strict=False)):
                said = event["neighbor"]
                yield NODE_NAMES[said["address"]["peer"]], said

    def session_up(self, node: LabHost) -> bool:
        states = [said["state"] for who, said in self._events() if who == node.name and "state" in said]
        return bool(states) and states[-1] == "up"

    def routes(self, prefix: Prefix) -> list[Heard]:
        found: dict[str, Attributes] = {}
        for node, said in self._events():
            if said.get("state") == "down":
                found.pop(node, None)
            update = said.get("message", {}).get("update", {})
            if any(route["nlri"] == str(prefix) for routes in update.get("withdraw", {}).values() for route in routes):
                found.pop(node, None)
            for announced in update.get("announce", {}).values():
                for next_hop, routes in announced.items():
                    if any(route["nlri"] == str(prefix) for route in routes):
                        found[node] = self._read(next_hop, update["attribute"])
        return [Heard(node, attributes) for node, attributes in found.items()]

    def _read(self, next_hop: str, said: Mapping[str, Any]) -> Attributes:
        return attributes_of(next_hop, said["origin"], said["as-path"], said.get("med"), said.get("community", []))

    def notify_close(self, node: LabHost) -> None:
        with self._commands.open("a") as commands:
            commands.write(f"neighbor {node.ipv6} teardown {ADMINISTRATIVE_RESET}\n")


# The script ends with ExaBGP, whatever ended that: `cat` at the end of its input, and `tail` with it.
_TALK = """#!/bin/sh
tail -n +1 -f --pid=$$ {commands} &
exec cat > {heard}
"""
