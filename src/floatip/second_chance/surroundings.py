"""The devices and routes of this machine, as far as packets of connections come and answers leave by them."""

from dataclasses import dataclass

from floatip.core.addresses import Address
from floatip.virtuals import Network


@dataclass(frozen=True, slots=True)
class Route:
    destination: Network
    device: int
    """Its index."""
    gateway: Address | None
    """None: the destination is a neighbour."""


@dataclass(frozen=True, slots=True)
class Seen:
    uplinks: frozenset[str]
    """Devices that are up and have an address, without loopback, the tunnel, and ports of bridges and bonds."""
    routes: frozenset[Route]
    """Of the main table, the best one for each destination."""


class Surroundings:
    @classmethod
    def open(cls, tunnel: int) -> "Surroundings":
        """`tunnel`: the index of the device that is ours. Raises Cannot."""
        raise NotImplementedError

    def fileno(self) -> int:
        """Readable when a device, an address or a route has changed: then call `read`."""
        raise NotImplementedError

    def read(self) -> Seen:
        """What there is now; also takes all notifications off the socket. Raises Cannot."""
        raise NotImplementedError

    def close(self) -> None: ...
