"""The rules in the kernel's nftables that carry packets of connections."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from floatip.core.addresses import Address
from floatip.second_chance.flow import Flow
from floatip.second_chance.surroundings import Route
from floatip.second_chance.tunnel import Tunnel


@dataclass(frozen=True, slots=True)
class Counts:
    """Packets since `open`."""

    forwarded: int
    """From the uplinks into the tunnel."""
    answers: int
    """From the tunnel to the uplinks."""
    accepted: int
    """Out of the tunnel to the sockets of this machine: no filter dropped them."""


class Rules:
    """Every method is one transaction, and raises Cannot."""

    @classmethod
    def open(cls, tunnel: Tunnel, port: int, timeout: float) -> "Rules":
        """Makes the tables; connections that a killed predecessor left in them go on.

        `timeout`: seconds after which the kernel forgets a connection, if nobody is there to remove it.
        """
        raise NotImplementedError

    def adopted(self) -> dict[Flow, str]:
        """The connections that a killed predecessor left as moved, and the node of each."""
        raise NotImplementedError

    def adopted_here(self) -> frozenset[Flow]:
        """Those that it let in through the tunnel."""
        raise NotImplementedError

    def uplinks(self, names: Iterable[str]) -> None:
        """The whole set of devices by which packets of connections come (`Seen.uplinks`)."""

    def routes(self, routes: Iterable[Route]) -> None:
        """The whole table of how answers go on to the clients (`Seen.routes`)."""

    def peers(self, addresses: Iterable[Address]) -> None:
        """The whole set of those whose packets may come into the tunnel: the nodes' addresses on the link."""

    def moved(self, add: Mapping[Flow, str], remove: Iterable[Flow]) -> None:
        """Packets of these connections go to that node. Answers that it sends back go on to the client."""

    def here(self, add: Iterable[Flow], remove: Iterable[Flow]) -> None:
        """Packets of these connections may come in through the tunnel; frames of ours may, and nothing else."""

    def hold(self, addresses: Iterable[Address]) -> None:
        """The whole set of addresses that keep quiet about packets of connections that they do not have."""

    def counts(self) -> Counts:
        """Where another program removed the tables, it makes them again first."""
        raise NotImplementedError

    def close(self) -> None:
        """Removes everything."""
