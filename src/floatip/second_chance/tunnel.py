"""The VXLAN device between the nodes: frames of ours, packets of connections, and the way of the answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from floatip.core.addresses import Address

DEVICE = "floatip-sc"
ETHERTYPE = 0x88B5


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    address: Address
    """Its address on the link."""


class Tunnel:
    index: int
    """Of the device."""

    @classmethod
    def open(cls, own: Node, peers: Sequence[Node], port: int, vni: int) -> "Tunnel":
        """Makes the device, or adopts the one that a killed predecessor left. Raises Cannot."""
        raise NotImplementedError

    def configure(self, peers: Sequence[Node]) -> None:
        """The whole set of the other nodes. Raises Cannot."""

    def send(self, name: str, payload: bytes) -> None:
        """One frame of at most 1500 octets to a peer. It may be lost. Raises Cannot where the device is gone."""

    def receive(self) -> list[tuple[str, bytes]]:
        """Frames that arrived, from peers only, at most `BATCH`: (name, payload). Raises Cannot where it is gone.

        A payload of less than 46 octets may come with zero octets behind it.
        """
        raise NotImplementedError

    def fileno(self) -> int:
        """Readable when a frame is there."""
        raise NotImplementedError

    def answer_by(self, routes: Mapping[Address, str]) -> None:
        """The whole set: what leaves with this source address goes through the tunnel to this node. Raises Cannot."""

    def close(self) -> None:
        """Removes the device, the policy rules and their routing tables."""
