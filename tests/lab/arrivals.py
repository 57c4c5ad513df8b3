import time

from floatip.core.addresses import Address
from floatip.lab.routes import RouteWatch


def arrival(watch: RouteWatch, next_hop: Address | None, timeout: float) -> float | None:
    """Since when the prefix has had this next hop; None if it does not get it within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while watch.next_hop != next_hop:
        if time.monotonic() > deadline:
            return None
        time.sleep(0.005)
    return watch.changes[-1].at
