"""What the routers of a play are configured with: one keepalived.conf for all programs that read it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from floatip.core.addresses import Address
from tests.lab.vrrp.segment import ipv4_of, ipv6_of, number_of

INTERFACE = "eth0"
FIRST_VRID = 51
PRIORITIES = (150, 100, 50)
WEIGHT = -120
"""Takes the best node below the worst."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to configure the virtual routers of a play. The first host is the best, unless all are equal."""

    name: str
    version: Literal[2, 3] = 3
    family: Literal[4, 6] = 4
    multicast: bool = True
    interval: float = 0.1
    password: str = ""
    preempt: bool = True
    preempt_delay: int = 0
    equal: bool = False
    """All have the same priority, and the greatest address decides."""
    begins_as_master: bool = False
    """The first host says `state MASTER`, as most samples do."""
    owner: bool = False
    """The first host has priority 255."""
    check: Literal["", "fault", "weight"] = ""
    """What a file does that a check reads."""
    groups: int = 1
    """More than one: a sync group of all."""
    hosts: tuple[str, ...] = ("r1", "r2")

    @property
    def vrids(self) -> range:
        return range(FIRST_VRID, FIRST_VRID + self.groups)

    def priority(self, host: str) -> int:
        if self.equal:
            return PRIORITIES[1]
        return 255 if self.owner and number_of(host) == 1 else PRIORITIES[number_of(host) - 1]

    def source(self, host: str) -> Address:
        return ipv4_of(host) if self.family == 4 else ipv6_of(host)

    def addresses(self, vrid: int) -> list[str]:
        """The first of IPv6 is link-local (RFC 9568 section 5.2.9)."""
        return [f"10.0.0.{100 + vrid}"] if self.family == 4 else [f"fe80::5:{vrid}", f"fd00::5:{vrid}"]

    @property
    def all_addresses(self) -> list[str]:
        return [address for vrid in self.vrids for address in self.addresses(vrid)]

    def skew(self, priority: int) -> float:
        """Seconds (RFC 3768 section 6.1, RFC 9568 section 6.1)."""
        return (256 - priority) / 256 * (1 if self.version == 2 else self.interval)

    def master_down(self, priority: int = PRIORITIES[-1]) -> float:
        return 3 * self.interval + self.skew(priority)

    def best(self, hosts: Sequence[str]) -> str:
        return max(hosts, key=lambda host: (self.priority(host), number_of(host)))


def keepalived_conf(kind: Kind, host: str, health: str) -> str:
    """`health`: the path of the file that the check reads; what is not 0 in it is bad."""
    return "\n".join([*_globals(kind), *_check(kind, health), *_sync_group(kind), *_instances(kind, host)]) + "\n"


def _globals(kind: Kind) -> list[str]:
    return ["global_defs {", f"  vrrp_version {kind.version}", "}"]


def _check(kind: Kind, health: str) -> list[str]:
    return ["track_file health {", f"  file {health}", "}"] if kind.check else []


def _sync_group(kind: Kind) -> list[str]:
    if kind.groups == 1:
        return []
    members = [f"    VI_{vrid}" for vrid in kind.vrids]
    return ["vrrp_sync_group all {", "  group {", *members, "  }", *_track(kind), "}"]


def _track(kind: Kind) -> list[str]:
    weight = f" weight {WEIGHT}" if kind.check == "weight" else " weight 0"
    return ["  track_file {", f"    health{weight}", "  }"] if kind.check else []


def _instances(kind: Kind, host: str) -> list[str]:
    lines = []
    others = [each for each in kind.hosts if each != host]
    for vrid in kind.vrids:
        is_master = kind.owner or kind.begins_as_master
        state = "MASTER" if is_master and number_of(host) == 1 else "BACKUP"
        lines += [f"vrrp_instance VI_{vrid} {{", f"  state {state}", f"  interface {INTERFACE}"]
        lines += [f"  virtual_router_id {vrid}", f"  priority {kind.priority(host)}", f"  advert_int {kind.interval:g}"]
        if not kind.preempt:
            lines += ["  nopreempt"]
        if kind.preempt_delay:
            lines += [f"  preempt_delay {kind.preempt_delay}"]
        if kind.password:
            lines += ["  authentication {", "    auth_type PASS", f"    auth_pass {kind.password}", "  }"]
        if not kind.multicast:
            peers = [f"    {kind.source(other)}" for other in others]
            lines += [f"  unicast_src_ip {kind.source(host)}", "  unicast_peer {", *peers, "  }"]
        length = 32 if kind.family == 4 else 128
        lines += ["  virtual_ipaddress {", *(f"    {address}/{length}" for address in kind.addresses(vrid)), "  }"]
        lines += [*(_track(kind) if kind.groups == 1 else []), "}"]
    return lines
