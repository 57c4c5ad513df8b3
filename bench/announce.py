"""The same thousand prefixes to four route servers by floatip, GoBGP and ExaBGP, in turns on one machine.

Three instants, to the one when the last route server has the last prefix:

    start        the program is started, the route servers listen
    established  it has all the routes; four KEEPALIVEs, held back until then, establish all sessions at once
    order        all sessions are established and nothing is announced; it is told to announce everything, by its own
                 means: a check's file (floatip), the routes from a fifth peer (GoBGP), one line to its API (ExaBGP)

`established` compares the speakers alone. All of them must send lelastic's attributes; the addresses stand on lo before
any of them starts, as floatip announces nothing that is not there.
"""

import json
import os
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv6Interface, IPv6Network
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.receiver import HOLD_TIME, Receiver, all_told_at, all_withdrawn_at, establish
from floatip.core.bgp.attributes import Attributes
from floatip.core.bgp.wire import pack_routes
from floatip.lab.namespaces import find_program
from floatip.lab.network import HAPROXY1, OBSERVER, ROUTE_SERVERS, LabHost, Network, router_id
from floatip.lab.programs.floatip import FloatipDaemon
from floatip.lab.programs.program import Program

PREFIXES = [IPv6Network((0x20010DB8 << 96 | number << 64, 64)) for number in range(1, 1001)]
OWN_ASN, PEER_ASN = 65001, 65000
MARKS = Attributes(HAPROXY1.ipv6, as_path=(OWN_ASN,), communities=((PEER_ASN, 1),))
LOAD_TIME = 0.5
"""What GoBGP gets to take the routes in before the sessions come up."""
MEASURES = ("start", "established", "order")


class FloatipAnnouncer(FloatipDaemon):
    def __init__(self, network: Network) -> None:
        self.trigger = network.directory / "trigger"
        addresses = ", ".join(f'"{IPv6Interface((prefix[1], 64))}"' for prefix in PREFIXES)
        super().__init__(network, HAPROXY1.name, _FLOATIP.format(trigger=self.trigger, addresses=addresses))

    def load(self) -> None:
        """The addresses are its routes."""

    def withdraw(self) -> None:
        self.trigger.touch()

    def announce(self) -> None:
        self.trigger.unlink()


_FLOATIP = f"""
[linode]
dcid = 6

[bgp]
hold_time = {HOLD_TIME}

[[check]]
name = "trigger"
file = "{{trigger}}"

[[instance]]
name = "all"
addresses = [{{addresses}}]
checks = ["trigger"]
static = "primary"
"""


class GoBgpAnnouncer(Program):
    """It passes on what an internal peer tells it: its command line needs a process a route, or loses the last ones."""

    name = "gobgpd"
    network: Network

    def command(self) -> Sequence[str]:
        peers = [(server, PEER_ASN) for server in ROUTE_SERVERS] + [(OBSERVER, OWN_ASN)]
        own = {"as": OWN_ASN, "router-id": router_id(HAPROXY1.name), "port": -1}
        config = {"global": {"config": own}, "neighbors": [self._neighbour(*peer) for peer in peers]}
        path = self.write("gobgpd.json", json.dumps(config))
        return [find_program("gobgpd", "gobgpd"), "-t", "json", "-f", path, "--pprof-disable", "-l", "warn"]

    def _neighbour(self, host: LabHost, asn: int) -> dict[str, Any]:
        return {
            "config": {"neighbor-address": str(host.ipv6), "peer-as": asn},
            "ebgp-multihop": {"config": {"enabled": asn != OWN_ASN, "multihop-ttl": 16}},
            "timers": {"config": {"hold-time": HOLD_TIME}},
            "afi-safis": [{"config": {"afi-safi-name": "ipv6-unicast"}}],
        }

    def start(self) -> None:
        self._source = Receiver(self.network, OBSERVER, OWN_ASN)
        super().start()

    def kill(self) -> None:
        super().kill()
        self._source.close()

    def load(self) -> None:
        establish([self._source])
        self.announce()
        time.sleep(LOAD_TIME)

    def withdraw(self) -> None:
        self._source.send(b"".join(pack_routes((), PREFIXES)))

    def announce(self) -> None:
        marks = replace(MARKS, next_hop=OBSERVER.ipv6, as_path=())
        self._source.send(b"".join(pack_routes([(prefix, marks) for prefix in PREFIXES], ())))


class ExaBgpAnnouncer(Program):
    name = "exabgp"

    def start(self) -> None:
        self._pipe = self.directory / "orders"
        self._pipe.unlink(missing_ok=True)
        os.mkfifo(self._pipe)
        # Both ends: it can be opened before there is a reader, and the reader ends when this is closed.
        self._orders = os.open(self._pipe, os.O_RDWR)
        super().start()

    def kill(self) -> None:
        super().kill()
        os.close(self._orders)

    def command(self) -> Sequence[str]:
        marks = f"next-hop {HAPROXY1.ipv6} origin incomplete community {PEER_ASN}:1"
        self._order = f"attributes {marks} nlri {' '.join(map(str, PREFIXES))}\n"
        routes = "".join(f"    route {prefix} {marks};\n" for prefix in PREFIXES)
        neighbours = "".join(
            f"""
neighbor {server.ipv6} {{
  router-id {router_id(HAPROXY1.name)};
  local-address {HAPROXY1.ipv6};
  local-as {OWN_ASN};
  peer-as {PEER_ASN};
  hold-time {HOLD_TIME};
  family {{ ipv6 unicast; }}
  api {{ processes [ orders ]; }}
  static {{
{routes}  }}
}}
"""
            for server in ROUTE_SERVERS
        )
        reader = self.write("read", f"#!/bin/sh\nexec cat {self._pipe}\n")
        Path(reader).chmod(0o755)
        process = f"process orders {{\n  run {reader};\n  encoder text;\n}}\n"
        return [find_program("exabgp", "exabgp"), self.write("exabgp.conf", process + neighbours)]

    def environment(self) -> Mapping[str, str]:
        return {
            "exabgp_daemon_user": "root",
            "exabgp_api_ack": "false",
            "exabgp_api_cli": "false",
            "exabgp_log_level": "WARNING",
            "exabgp_log_destination": "stderr",
        }

    def load(self) -> None:
        """The routes stand in its configuration."""

    def withdraw(self) -> None:
        os.write(self._orders, f"withdraw {self._order}".encode())

    def announce(self) -> None:
        os.write(self._orders, f"announce {self._order}".encode())


Announcer = FloatipAnnouncer | GoBgpAnnouncer | ExaBgpAnnouncer


def measure(runs: int = 5) -> dict[str, dict[str, list[float]]]:
    """Seconds, by program and measure."""
    print(f"announce: {len(PREFIXES)} IPv6 /64 to {len(ROUTE_SERVERS)} route servers, median (and all) of {runs} runs")
    with TemporaryDirectory(prefix="floatip-bench-") as directory, Network(Path(directory)) as network:
        _add_addresses(network)
        announcers: list[Announcer] = [
            FloatipAnnouncer(network),
            GoBgpAnnouncer(network, HAPROXY1.name),
            ExaBgpAnnouncer(network, HAPROXY1.name),
        ]
        found: dict[str, dict[str, list[float]]] = {
            announcer.name: {each: [] for each in MEASURES} for announcer in announcers
        }
        for _ in range(runs):
            for announcer in announcers:
                for name, took in _run(network, announcer):
                    found[announcer.name][name].append(took)
    for line in _lines(found):
        print(line)
    return found


def _add_addresses(network: Network) -> None:
    lines = "".join(f"address add {prefix[1]}/64 dev lo nodad\n" for prefix in PREFIXES)
    with network.inside(HAPROXY1.name):
        subprocess.run([find_program("ip", "iproute2"), "-batch", "-"], input=lines, text=True, check=True)


def _run(network: Network, announcer: Announcer) -> Iterator[tuple[str, float]]:
    with ExitStack() as stage:
        servers = [stage.enter_context(Receiver(network, server)) for server in ROUTE_SERVERS]
        started_at = time.monotonic()
        announcer.start()
        stage.callback(announcer.kill)
        announcer.load()
        established_at = establish(servers)
        told_at = all_told_at(servers, PREFIXES, established_at)
        yield "start", told_at - started_at
        yield "established", told_at - established_at
        ordered_at = time.monotonic()
        announcer.withdraw()
        all_withdrawn_at(servers, PREFIXES, ordered_at)
        ordered_at = time.monotonic()
        announcer.announce()
        yield "order", all_told_at(servers, PREFIXES, ordered_at) - ordered_at
        heard = {update.attributes for server in servers for _, update in server.updates() if update.announced}
        assert heard == {MARKS}, f"{announcer.name} announced {heard}"


def _lines(found: dict[str, dict[str, list[float]]]) -> Iterator[str]:
    medians = {name: {each: statistics.median(times[each]) for each in MEASURES} for name, times in found.items()}
    for name, times in found.items():
        for each in MEASURES:
            all_of_them = " ".join(f"{1000 * took:.0f}" for took in sorted(times[each]))
            ratio = medians[name][each] / medians["floatip"][each]
            yield f"  {name:8} {each:12} {1000 * medians[name][each]:8.1f} ms ({all_of_them})  {ratio:5.2f} x floatip"


if __name__ == "__main__":
    measure()
