"""An instance of the core, with the defaults that depend on its election and on the network."""

from typing import Literal

from floatip.core import settings as core
from floatip.core.addresses import InterfaceAddress

Placement = Literal["all", "master"]
PRIORITY = 100


def instance(
    name: str,
    addresses: tuple[InterfaceAddress, ...],
    election: core.Vrrp | core.Keepalived | core.Static,
    *,
    has_bgp: bool,
    placement: Placement | None = None,
    interface: str | None = None,
    **others: object,
) -> core.Instance:
    """Without BGP only the master can hold an address, and it does so on the interface where the nodes elect."""
    placement = placement or ("all" if has_bgp else "master")
    default = election.interface if placement == "master" and isinstance(election, core.Vrrp) else "lo"
    interface = interface or default
    return core.Instance(
        name,
        addresses,
        election,
        placement=placement,
        interface=interface,
        **others,  # type: ignore[arg-type]
    )
