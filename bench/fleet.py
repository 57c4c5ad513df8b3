"""Nodes that elect over the link, on the lab's network."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Interface, IPv6Address
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

from bench.attacks import schedule_as_the_unit
from bench.pairs import STARTED_WITHIN, cpu_of, rss, wait_for
from floatip.lab.namespaces import ENTERED, LabError
from floatip.lab.network import OBSERVER, THREE_NODES, LabHost, Network
from floatip.lab.programs.floatip import FloatipDaemon

GUESTS = tuple(
    LabHost(f"haproxy{n}", IPv6Address(f"2600:3c03:0:1::{n}"), IPv4Interface(f"192.168.143.{240 + n}/17"))
    for n in range(5, 9)
)
MOST = (*THREE_NODES, OBSERVER, *GUESTS)


@contextmanager
def stage(more: Sequence[LabHost] = ()) -> Iterator[Network]:
    """The lab's hosts with room for eight nodes, and `more`; its files are in memory where /run is our own."""
    parent = "/run" if ENTERED in os.environ else None
    with (
        TemporaryDirectory(prefix="floatip-bench-", dir=parent) as directory,
        Network(Path(directory), [*GUESTS, *more]) as made,
    ):
        yield made


def addresses_of(instances: int) -> list[str]:
    return [f"192.168.{200 + number // 250}.{number % 250 + 1}" for number in range(instances)]


def configuration(nodes: Sequence[LabHost], addresses: Sequence[str], interval: float, *, bgp: bool = False) -> str:
    """An instance for each address."""
    named = "".join(f'[[node]]\nname = "{host.name}"\naddress = "{ipv4_of(host)}"\n' for host in nodes)
    placement = "" if bgp else 'placement = "master"\n'
    instances = "".join(
        f'[[instance]]\nname = "VI_{number}"\naddresses = ["{address}/32"]\n{placement}'
        for number, address in enumerate(addresses, 1)
    )
    header = "release_delay = 0\n" + ("[linode]\ndcid = 6\n" if bgp else "")
    return f"{header}[link]\ninterval = {interval:g}\n{named}{instances}"


def ipv4_of(host: LabHost) -> str:
    assert host.ipv4
    return str(host.ipv4.ip)


class Fleet:
    """The first of the nodes that the lab has room for. Without BGP they hold addresses as master only."""

    def __init__(
        self,
        network: Network,
        nodes: int,
        instances: int,
        interval: float = 0.1,
        more: str = "",
        *,
        bgp: bool = False,
    ) -> None:
        """`more`: at the end of the configuration."""
        self.network = network
        self.hosts = MOST[:nodes]
        self._names = {f"VI_{number}" for number in range(1, instances + 1)}
        text = configuration(self.hosts, addresses_of(instances), interval, bgp=bgp) + more
        self.nodes = {host.name: FloatipDaemon(network, host.name, text) for host in self.hosts}
        self.news: list[dict[str, Any]] = []
        """Of all nodes; each has its `host`."""

    def start(self) -> None:
        """Returns when each instance has one master, and all nodes hear each other."""
        for host, node in self.nodes.items():
            node.start()
            Thread(target=self._follow, args=(host,), daemon=True).start()
        wait_for(self._is_elected, "the nodes to elect", STARTED_WITHIN)

    def _follow(self, host: str) -> None:
        schedule_as_the_unit(0)  # the daemons have it, and send away a reader that is too slow for them
        for each in self.nodes[host].watch():
            self.news.append({"host": host, **each})

    def _is_elected(self) -> bool:
        for host, node in self.nodes.items():
            if not node.running:
                raise LabError(f"floatip ended on {host}", f"its log: {node.log.read_text()[-2000:]}")
        news = self.news.copy()
        roles = {(each["host"], each["name"]): each["value"] for each in news if each["what"] == "role"}
        masters = [name for (_, name), role in roles.items() if role == "master"]
        heard = [each for each in news if each["what"] == "node" and each["value"] == "alive"]
        pairs = len(self.nodes) * (len(self.nodes) - 1)
        return sorted(masters) == sorted(self._names) and len(heard) >= pairs

    def carries(self, host: str) -> int:
        return sum(each["role"]["value"] == "master" for each in self.nodes[host].status()["instances"])

    def since(self, began: float, what: str) -> list[dict[str, Any]]:
        return [each for each in self.news.copy() if each["at"] >= began and each["what"] == what]

    @property
    def pids(self) -> dict[str, int]:
        return {host: node.pid for host, node in self.nodes.items()}

    def cpu(self) -> dict[str, float]:
        """Seconds so far."""
        return {host: cpu_of(pid) for host, pid in self.pids.items()}

    def rss(self) -> float:
        """MB, of the largest."""
        return max(rss(pid) for pid in self.pids.values())
