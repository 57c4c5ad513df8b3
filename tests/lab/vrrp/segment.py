"""One layer 2 with some hosts on it: a bridge, and a namespace for each host.

The names of the hosts are also those of their ports on the bridge.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from floatip.lab.faults import Faults
from floatip.lab.namespaces import Namespace
from floatip.lab.network import ROUTER, Hosts, wait_until_usable, write_sysctls


def number_of(host: str) -> int:
    return int(host.removeprefix("r"))


def ipv4_of(host: str) -> IPv4Address:
    return IPv4Address(f"10.0.0.{number_of(host)}")


def ipv6_of(host: str) -> IPv6Address:
    return IPv6Address(f"fd00::{number_of(host)}")


class Segment(Hosts):
    """The switch is the host `router`, as in the lab's other networks."""

    def __init__(self, directory: Path, hosts: Sequence[str]) -> None:
        """`hosts`: "r1", "r2" and so on."""
        super().__init__(directory)
        try:
            for name in (ROUTER, *hosts):
                self._namespaces[name] = Namespace()
            self.faults = Faults(self._namespaces[ROUTER], self._namespaces, "bridge")
            self.ip(ROUTER, ["link add bridge type bridge mcast_snooping 0", "link set bridge up"])
            for host in hosts:
                self._connect(host)
            for host in hosts:
                with self.inside(host):
                    wait_until_usable(host)
        except BaseException:
            self.close()
            raise

    def _connect(self, host: str) -> None:
        mac = f"02:00:00:00:03:{number_of(host):02x}"
        with self.inside(host):
            write_sysctls(router=False)
        peer = f"name eth0 address {mac} netns {self.path_of(host)}"
        self.ip(ROUTER, [f"link add {host} type veth peer {peer}", f"link set {host} master bridge up"])
        addresses = [f"address add {address} dev eth0" for address in (f"{ipv4_of(host)}/24", f"{ipv6_of(host)}/64")]
        self.ip(host, ["link set lo up", "link set eth0 up", *addresses])
