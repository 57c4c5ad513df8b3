"""Four independent implementations of BGP as route servers, behind one set of methods.

They listen, take routes from both nodes and send none. A class writes its program's configuration and asks the program
what it has; it judges nothing. What a program cannot do is not imitated: GoBGP and ExaBGP install no routes in the
kernel, and ExaBGP chooses no best path, so it has no `winners`.
"""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from floatip.core.bgp.attributes import Attributes, Code, Origin, Prefix
from floatip.core.events import Address
from floatip.lab.cast import Daemon, Router, router_id
from floatip.lab.net import NODES, ROUTE_SERVERS, Host, LabError, Network, find_program
from floatip.lab.route_server_process import ASN, CLIENT_ASN

NODE_NAMES = {str(node.ipv6): node.name for node in NODES}
CONTROL_TIMEOUT = 10.0
FRR_DIRECTORY = "/usr/lib/frr"
GOBGP_ESTABLISHED = 6
ADMINISTRATIVE_RESET = 4  # RFC 4486


@dataclass(frozen=True, slots=True)
class Rules:
    """How a route server treats its peers."""

    hold_time: int = 30
    weighs_communities: bool = True
    """Local preference 200 for `65000:1`, as Linode's; else communities mean nothing."""
    only_bare_path: bool = False
    """Takes no AS path but the one AS of the peer."""
    multipath: bool = False
    password: str = ""
    """MD5 (RFC 2385)."""
    max_hops: int = 0
    """GTSM (RFC 5082): packets must have a TTL of at least 256 minus this; 0: any TTL. Not in ExaBGP over IPv6."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A route as the route server has it from one of the nodes."""

    node: str
    attributes: Attributes


Winners = dict[str, set[str]]
"""Prefix to the names of the nodes that its traffic goes to."""


class Speaker(Router):
    package: str
    """Debian's."""
    protocol = ""
    """What its routes in the kernel are called there; empty: it installs none."""
    selects = True
    """Whether it chooses best paths."""

    def __init__(self, network: Network, host: str, rules: Rules) -> None:
        super().__init__(network, host)
        self.rules = rules
        (self.address,) = (each.ipv6 for each in ROUTE_SERVERS if each.name == host)

    def session_up(self, node: Host) -> bool:
        raise NotImplementedError

    def routes(self, prefix: Prefix) -> list[Heard]:
        raise NotImplementedError

    def winners(self) -> Winners:
        raise NotImplementedError

    def best(self, prefix: Prefix) -> set[str]:
        return self.winners().get(str(prefix), set())

    def notify_close(self, node: Host) -> None:
        """End the session by a NOTIFICATION; the program takes a new one when it likes."""
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
        # A program that is only just starting answers with an excuse, or nothing.
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


def _attributes(
    next_hop: str, origin: str, as_path: Iterable[int], med: int | None, communities: Iterable[Iterable[int]]
) -> Attributes:
    pairs = tuple((asn, value) for asn, value in communities)
    return Attributes(ip_address(next_hop), Origin[origin.upper()], tuple(as_path), med, pairs)


class Bird(Speaker):
    name = "bird"
    package = "bird2"
    protocol = "bird"

    def command(self) -> Sequence[str]:
        config = self._write("bird.conf", self._config())
        return [find_program("bird", self.package), "-f", "-c", config, "-s", str(self.directory / "ctl")]

    def _config(self) -> str:
        rules = ["if (65000, 1) ~ bgp_community then bgp_local_pref = 200;"] if self.rules.weighs_communities else []
        if self.rules.only_bare_path:
            rules.append(f"if bgp_path !~ [= {CLIENT_ASN} =] then reject;")
        merge = "merge paths on;" if self.rules.multipath else ""
        return f"""
log stderr all;
router id {router_id(self.host)};
protocol device {{ }}
protocol direct {{ ipv6; }}
protocol static {{ ipv6; {" ".join(f'route {node.ipv6}/128 via "eth0";' for node in NODES)} }}
protocol kernel {{ {merge} ipv4 {{ export where source = RTS_BGP; }}; }}
protocol kernel {{ {merge} ipv6 {{ export where source = RTS_BGP; }}; }}
filter incoming {{ {" ".join(rules)} accept; }}
{"".join(map(self._session, NODES))}"""

    def _session(self, node: Host) -> str:
        hops = f"ttl security on; multihop {self.rules.max_hops};" if self.rules.max_hops else "multihop;"
        password = f'password "{self.rules.password}";' if self.rules.password else ""
        return f"""
protocol bgp {node.name} {{
  local {self.address} as {ASN};
  neighbor {node.ipv6} as {CLIENT_ASN};
  passive;
  {hops} {password}
  hold time {self.rules.hold_time};
  error wait time 1, 1;
  graceful restart off;
  ipv4 {{ extended next hop; import filter incoming; export none; }};
  ipv6 {{ import filter incoming; export none; }};
}}
"""

    def _birdc(self, *command: str) -> str:
        return self.ask("birdc", "-s", str(self.directory / "ctl"), *command)

    def session_up(self, node: Host) -> bool:
        return "Established" in self._birdc("show", "protocols", node.name)

    def routes(self, prefix: Prefix) -> list[Heard]:
        answer = self._birdc("show", "route", str(prefix), "all")
        blocks = re.split(r"^.* unicast \[(\w+) .*$", answer, flags=re.MULTILINE)[1:]
        return [Heard(node, self._read(block)) for node, block in zip(blocks[::2], blocks[1::2], strict=True)]

    def _read(self, block: str) -> Attributes:
        said = dict(re.findall(r"^\tBGP\.(\w+): (.*)$", block, re.MULTILINE))
        communities = [map(int, pair) for pair in re.findall(r"\((\d+),(\d+)\)", said.get("community", ""))]
        med = int(said["med"]) if "med" in said else None
        return _attributes(said["next_hop"], said["origin"], map(int, said["as_path"].split()), med, communities)

    def winners(self) -> Winners:
        return self._kernel_winners()

    def notify_close(self, node: Host) -> None:
        self._birdc("restart", node.name)


class Zebra(Daemon):
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


class Frr(Speaker):
    name = "bgpd"
    package = "frr"
    protocol = "bgp"

    def __init__(self, network: Network, host: str, rules: Rules) -> None:
        super().__init__(network, host, rules)
        self._zebra = Zebra(network, host)

    def start(self) -> None:
        self._zebra.zserv.unlink(missing_ok=True)
        self._zebra.start()
        _wait_for(
            self._zebra.zserv.exists, "zebra to listen"
        )  # a bgpd that does not find it looks again after ten seconds
        super().start()

    def kill(self) -> None:
        self._zebra.stop()  # takes its routes, which are made of nexthop objects, out of the kernel
        self._zebra.wait()
        super().kill()

    def command(self) -> Sequence[str]:
        own = ["-f", self._write("bgpd.conf", "\n".join(self._config())), "-l", str(self.address)]
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

    def session_up(self, node: Host) -> bool:
        found = self._vtysh_json(f"show bgp neighbors {node.ipv6}")
        return any(session.get("bgpState") == "Established" for session in found.values())

    def routes(self, prefix: Prefix) -> list[Heard]:
        found = self._vtysh_json(f"show bgp ipv{prefix.version} unicast {prefix}")
        return [Heard(NODE_NAMES[path["peer"]["peerId"]], self._read(path)) for path in found.get("paths", [])]

    def _read(self, path: Mapping[str, Any]) -> Attributes:
        communities = [map(int, word.split(":")) for word in path.get("community", {}).get("list", [])]
        (next_hop,) = (each["ip"] for each in path["nexthops"] if each["scope"] == "global")
        as_path = map(int, path["aspath"]["string"].split())
        return _attributes(next_hop, path["origin"], as_path, path.get("metric"), communities)

    def winners(self) -> Winners:
        return self._kernel_winners()

    def notify_close(self, node: Host) -> None:
        self.ask(*self._vtysh(f"clear bgp {node.ipv6}"))


class GoBgpMonitor(Daemon):
    """It writes down the best paths of a prefix whenever they change, all of them under multipath."""

    name = "monitor"

    def command(self) -> Sequence[str]:
        return [find_program("gobgp", "gobgpd"), "monitor", "global", "rib", "-j"]

    def read(self) -> list[Any]:
        lines = self.log.read_text().splitlines(keepends=True) if self.log.exists() else []
        return [json.loads(line) for line in lines if line.startswith("[{") and line.endswith("\n")]


class GoBgp(Speaker):
    name = "gobgpd"
    package = "gobgpd"

    def __init__(self, network: Network, host: str, rules: Rules) -> None:
        super().__init__(network, host, rules)
        self._monitor = GoBgpMonitor(network, host)

    def start(self) -> None:
        super().start()
        self._monitor.log.unlink(missing_ok=True)
        if self.rules.multipath:
            _wait_for(lambda: bool(self._gobgp("global")), "gobgpd to answer")
            self._monitor.start()
            _wait_for(self._monitor_hears, "gobgp monitor to hear of changes")

    def _monitor_hears(self) -> bool:
        """It says nothing of paths that were there before it listened, so one comes and goes until it does."""
        for verb in ("add", "del"):
            self.ask("gobgp", "global", "rib", verb, "203.0.113.255/32", "aspath", str(CLIENT_ASN))
        return bool(self._monitor.read())

    def kill(self) -> None:
        super().kill()
        if self._monitor.running:
            self._monitor.kill()

    def command(self) -> Sequence[str]:
        config = self._write("gobgpd.json", json.dumps(self._config(), indent=1))
        return [find_program("gobgpd", self.package), "-t", "json", "-f", config, "-p", "--pprof-disable"]

    def _config(self) -> dict[str, Any]:
        statements = []
        if self.rules.only_bare_path:
            condition = {"match-as-path-set": {"as-path-set": "bare", "match-set-options": "invert"}}
            statements.append(_statement("longer paths", condition, {"route-disposition": "reject-route"}))
        if self.rules.weighs_communities:
            condition = {"match-community-set": {"community-set": "primary"}}
            statements.append(_statement("primary", condition, {"bgp-actions": {"set-local-pref": 200}}))
        bare = {"as-path-set-name": "bare", "as-path-list": [f"^{CLIENT_ASN}$"]}
        primary = {"community-set-name": "primary", "community-list": ["65000:1"]}
        own = {"as": ASN, "router-id": router_id(self.host), "local-address-list": [str(self.address)]}
        policy = {"import-policy-list": ["incoming"], "default-import-policy": "accept-route"}
        return {
            "global": {
                "config": own,
                "use-multiple-paths": {"config": {"enabled": self.rules.multipath}},
                "apply-policy": {"config": policy | {"default-export-policy": "reject-route"}},
            },
            "neighbors": [self._neighbor(node) for node in NODES],
            "defined-sets": {"bgp-defined-sets": {"as-path-sets": [bare], "community-sets": [primary]}},
            "policy-definitions": [{"name": "incoming", "statements": statements}],
        }

    def _neighbor(self, node: Host) -> dict[str, Any]:
        rules = self.rules
        timers = {"hold-time": rules.hold_time, "keepalive-interval": rules.hold_time / 3}
        if rules.max_hops:
            ttl = {"ttl-security": {"config": {"enabled": True, "ttl-min": 256 - rules.max_hops}}}
        else:
            ttl = {"ebgp-multihop": {"config": {"enabled": True, "multihop-ttl": 16}}}
        families = [{"config": {"afi-safi-name": f"{family}-unicast"}} for family in ("ipv4", "ipv6")]
        peer = {"neighbor-address": str(node.ipv6), "peer-as": CLIENT_ASN, "auth-password": rules.password}
        return {
            "config": peer,
            "transport": {"config": {"passive-mode": True, "local-address": str(self.address)}},
            "timers": {"config": timers},
            "afi-safis": families,
            **ttl,
        }

    def _gobgp(self, *command: str) -> Any:
        return self._ask_json("gobgp", "-j", *command)

    def session_up(self, node: Host) -> bool:
        state = self._gobgp("neighbor", str(node.ipv6)).get("state", {})
        return bool(state.get("session_state") == GOBGP_ESTABLISHED)

    def routes(self, prefix: Prefix) -> list[Heard]:
        return [Heard(_node(path), self._read(path)) for path in self._rib(prefix.version).get(str(prefix), [])]

    def _rib(self, version: int) -> dict[str, Any]:
        rib: dict[str, Any] = self._gobgp("global", "rib", "-a", f"ipv{version}")
        return rib

    def _read(self, path: Mapping[str, Any]) -> Attributes:
        said = {attribute["type"]: attribute for attribute in path["attrs"]}
        communities = [divmod(each, 1 << 16) for each in said.get(Code.COMMUNITIES, {}).get("communities", [])]
        as_path = [asn for segment in said[Code.AS_PATH]["as_paths"] for asn in segment["asns"]]
        origin, med = Origin(said[Code.ORIGIN]["value"]).name, said.get(Code.MED, {}).get("metric")
        return _attributes(said[Code.MP_REACH_NLRI]["nexthop"], origin, as_path, med, communities)

    def winners(self) -> Winners:
        # The table shows one best path; what is shared is told only to those who listen.
        shared = {paths[0]["nlri"]["prefix"]: paths for paths in self._monitor.read()}
        found: Winners = {}
        for prefix, paths in (self._rib(4) | self._rib(6)).items():
            best = shared.get(prefix) or [path for path in paths if path.get("best")]
            found[prefix] = {_node(path) for path in best}
        return found

    def notify_close(self, node: Host) -> None:
        # A reset would refuse the peer for half a minute.
        self.ask("gobgp", "neighbor", str(node.ipv6), "disable")
        self.ask("gobgp", "neighbor", str(node.ipv6), "enable")


def _statement(name: str, condition: Mapping[str, Any], actions: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "conditions": {"bgp-conditions": condition}, "actions": actions}


def _node(path: Mapping[str, Any]) -> str:
    return NODE_NAMES[path["neighbor-ip"]]


class ExaBgp(Speaker):
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
        script = self._write("talk", _TALK.format(heard=self._heard, commands=self._commands))
        Path(script).chmod(0o755)
        process = f"process talk {{\n  run {script};\n  encoder json;\n}}\n"
        config = self._write("exabgp.conf", process + "".join(map(self._neighbor, NODES)))
        return [find_program("exabgp", self.package), config]

    def environment(self) -> Mapping[str, str]:
        return {
            "exabgp_daemon_user": "root",
            "exabgp_api_ack": "false",
            "exabgp_api_cli": "false",
            "exabgp_log_destination": "stderr",
        }

    def _neighbor(self, node: Host) -> str:
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

    def session_up(self, node: Host) -> bool:
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
        return _attributes(next_hop, said["origin"], said["as-path"], said.get("med"), said.get("community", []))

    def notify_close(self, node: Host) -> None:
        with self._commands.open("a") as commands:
            commands.write(f"neighbor {node.ipv6} teardown {ADMINISTRATIVE_RESET}\n")


# The script ends with ExaBGP, whatever ended that: `cat` at the end of its input, and `tail` with it.
_TALK = """#!/bin/sh
tail -n +1 -f --pid=$$ {commands} &
exec cat > {heard}
"""


def _wait_for(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + CONTROL_TIMEOUT
    while not true():
        if time.monotonic() > deadline:
            raise LabError(f"waited {CONTROL_TIMEOUT:g} s in vain for {what}", "see its log")
        time.sleep(0.01)
