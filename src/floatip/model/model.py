"""All of it: what a configuration says, and the core's settings that follow from it.

Durations are seconds.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from floatip.core import settings as core
from floatip.model.checks import Check
from floatip.model.network import Network


@dataclass(frozen=True, slots=True)
class LocalKeepalived:
    """The keepalived of this machine, whichever instances follow it."""

    fifo: Path = Path("/run/keepalived/floatip")
    pid_file: Path = Path("/run/keepalived.pid")
    vrrp_pid_file: Path = Path("/run/vrrp.pid")
    script_user: str = ""
    """Who besides root may run `floatip notify`; empty: nobody."""
    other_vrids: tuple[int, ...] = ()
    """Of instances that keepalived has and none here follows."""


@dataclass(frozen=True, slots=True)
class Notify:
    command: tuple[str, ...]
    timeout: float = 5.0


@dataclass(frozen=True, slots=True)
class Model:
    checks: tuple[Check, ...] = ()
    instances: tuple[core.Instance, ...] = ()
    network: Network | None = None
    """None: nothing is announced by BGP."""
    keepalived: LocalKeepalived = LocalKeepalived()
    notify: Notify | None = None
    state_log: Path | None = None
    release_delay: float = core.Settings().release_delay

    def settings(self, seed: int = 0, router_id: IPv4Address | None = None, hostname: str = "") -> core.Settings:
        """What the core needs. `router_id` is an IPv4 address of this machine, used when the file has none."""
        return core.Settings(
            checks=tuple(check.policy for check in self.checks),
            instances=self.instances,
            speaker=self.network.speak(self.source or router_id, hostname) if self.network else None,
            other_vrids=frozenset(self.keepalived.other_vrids),
            release_delay=self.release_delay,
            seed=seed,
        )

    @property
    def source(self) -> IPv4Address | None:
        """The first with which an instance takes part in an election."""
        elections = (instance.election for instance in self.instances)
        return next((election.source for election in elections if not isinstance(election, core.Static)), None)
