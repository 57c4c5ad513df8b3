"""What Linode's API and its metadata service say, as values, whoever asked. Pure."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Network


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the metadata service says of the machine that asks."""

    linode_id: int
    label: str
    region: str
    """As `us-east`; `providers` has the number of the data centre."""
    public: tuple[IPv4Address, ...]
    private: tuple[IPv4Address, ...]
    shared: tuple[IPv4Address, ...]
    """Shared to this Linode; on the owner the address is in `public`."""
    ranges: tuple[IPv6Network, ...]
    shared_ranges: tuple[IPv6Network, ...]


@dataclass(frozen=True, slots=True)
class Shares:
    """What a Linode may announce although another one owns it; ranges are shared to their owner too."""

    linode_id: int
    ipv4: tuple[IPv4Address, ...]
    ranges: tuple[IPv6Network, ...]
