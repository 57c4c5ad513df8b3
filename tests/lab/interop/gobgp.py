"""GoBGP, the engine of lelastic."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from floatip.core.bgp.attributes import Attributes, Code, Origin, Prefix
from floatip.lab.namespaces import find_program
from floatip.lab.network import NODES, LabHost, Network, router_id
from floatip.lab.programs.bird import Rules
from floatip.lab.programs.program import Program
from floatip.lab.route_server_process import ASN, CLIENT_ASN
from tests.lab.interop.route_server import NODE_NAMES, Heard, OtherRouteServer, Winners, attributes_of, wait_for

GOBGP_ESTABLISHED = 6


class GoBgpMonitor(Program):
    """It writes down the best paths of a prefix whenever they change, all of them under multipath."""

    name = "monitor"

    def command(self) -> Sequence[str]:
        return [find_program("gobgp", "gobgpd"), "monitor", "global", "rib", "-j"]

    def read(self) -> list[Any]:
        lines = self.log.read_text().splitlines(keepends=True) if self.log.exists() else []
        return [json.loads(line) for line in lines if line.startswith("[{") and line.endswith("\n")]


class GoBgp(OtherRouteServer):
    name = "gobgpd"
    package = "gobgpd"

    def __init__(self, network: Network, host: str, rules: Rules) -> None:
        super().__init__(network, host, rules)
        self._monitor = GoBgpMonitor(network, host)

    def start(self) -> None:
        super().start()
        self._monitor.log.unlink(missing_ok=True)
        if self.rules.multipath:
            wait_for(lambda: bool(self._gobgp("global")), "gobgpd to answer")
            self._monitor.start()
            wait_for(self._monitor_hears, "gobgp monitor to hear of changes")

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
        config = self.write("gobgpd.json", json.dumps(self._config(), indent=1))
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

    def _neighbor(self, node: LabHost) -> dict[str, Any]:
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

    def session_up(self, node: LabHost) -> bool:
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
        return attributes_of(said[Code.MP_REACH_NLRI]["nexthop"], origin, as_path, med, communities)

    def winners(self) -> Winners:
        # The table shows one best path; what is shared is told only to those who listen.
        shared = {paths[0]["nlri"]["prefix"]: paths for paths in self._monitor.read()}
        found: Winners = {}
        for prefix, paths in (self._rib(4) | self._rib(6)).items():
            best = shared.get(prefix) or [path for path in paths if path.get("best")]
            found[prefix] = {_node(path) for path in best}
        return found

    def notify_close(self, node: LabHost) -> None:
        # A reset would refuse the peer for half a minute.
        self.ask("gobgp", "neighbor", str(node.ipv6), "disable")
        self.ask("gobgp", "neighbor", str(node.ipv6), "enable")


def _statement(name: str, condition: Mapping[str, Any], actions: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "conditions": {"bgp-conditions": condition}, "actions": actions}


def _node(path: Mapping[str, Any]) -> str:
    return NODE_NAMES[path["neighbor-ip"]]
