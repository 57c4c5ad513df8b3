"""The tables of the file (pydantic), and the settings of the core that follow from them all.

What pydantic refuses is said in the words of someone who edits TOML, with a hint (`refusals`).
"""

import json
import re
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PrivateAttr, Strict, ValidationError
from pydantic_core import ErrorDetails

from floatip.config.bgp import Bgp, Linode, Marks, Ranks
from floatip.config.document import ConfigWarning, Location, closest, shown
from floatip.config.values import (
    Command,
    Delay,
    Endpoint,
    FilePath,
    Flag,
    FloatingAddress,
    Ipv4,
    Name,
    Period,
    Table,
    Times,
    between,
    some,
)
from floatip.core import settings as core
from floatip.providers import PROVIDERS, Provider, linode

Vrid = Annotated[int, Strict(), between(1, 255, "the same number on all nodes of the instance")]
Priority = Annotated[int, Strict(), between(1, 255, "the higher priority becomes master; 100 is usual")]


class Check(Table):
    name: Name = Field(examples=["haproxy"])
    script: Command | None = None
    tcp: Endpoint | None = None
    file: FilePath | None = None
    process: Name | None = None
    fail_when: Literal["present", "absent"] = "present"
    interval: Period = 1.0
    timeout: Period | None = None
    rise: Times = 1
    fall: Times = 1

    def settings(self) -> core.Check:
        if self.file or self.process:
            return core.Check(self.name, pushed=True)
        return core.Check(self.name, self.interval, self.timeout or self.interval, self.rise, self.fall)


class Vrrp(Table):
    interface: Name = Field(examples=["eth0"])
    vrid: Vrid = Field(examples=[51])
    priority: Priority = 100
    source: Ipv4 = Field(examples=["192.0.2.1"])
    peers: Annotated[tuple[Ipv4, ...], AfterValidator(some)] = Field(examples=[["192.0.2.2"]])
    version: Literal[2, 3] = 2
    advert_interval: Period = 1.0
    preempt: Flag = True
    preempt_delay: Delay = 0.0
    auth_pass: Name = ""
    min_ttl: Annotated[int, Strict(), between(0, 255, "0 accepts any TTL; 255 only neighbours")] = 0

    def settings(self) -> core.Vrrp:
        return core.Vrrp(**dict(self))


class Following(Table):
    """What an instance needs to know of the keepalived that elects for it; `floatip adopt` writes it."""

    instance: Name | None = None
    interface: Name = Field(examples=["eth0"])
    vrid: Vrid = Field(examples=[51])
    priority: Priority = 100
    source: Ipv4 = Field(examples=["192.0.2.1"])
    peers: tuple[Ipv4, ...] = ()
    sync_group: Name = ""
    version: Literal[2, 3] = 2
    advert_interval: Period = 1.0

    def settings(self, name: str) -> core.Keepalived:
        return core.Keepalived(**dict(self) | {"instance": self.instance or name})


class Instance(Table):
    name: Name = Field(examples=["VI_1"])
    addresses: Annotated[tuple[FloatingAddress, ...], AfterValidator(some)] = Field(examples=[["192.0.2.10/32"]])
    checks: tuple[Name, ...] = ()
    vrrp: Vrrp | None = None
    keepalived: Following | None = None
    static: Literal["primary", "secondary"] | None = None
    placement: Literal["all", "master"] | None = None
    interface: Name | None = None
    last_resort: Flag = False

    def settings(self, placement: Literal["all", "master"]) -> core.Instance:
        placement = self.placement or placement
        default = self.vrrp.interface if self.vrrp and placement == "master" else "lo"
        return core.Instance(
            name=self.name,
            addresses=self.addresses,
            election=self._election(),
            checks=self.checks,
            placement=placement,
            interface=self.interface or default,
            last_resort=self.last_resort,
        )

    def _election(self) -> core.Vrrp | core.Keepalived | core.Static:
        if self.static:
            return core.Static(self.static)
        if self.keepalived:
            return self.keepalived.settings(self.name)
        assert self.vrrp, "the rules let no instance without an election pass"
        return self.vrrp.settings()


class Keepalived(Table):
    """The one keepalived of this machine, whichever instances follow it."""

    fifo: FilePath = Path("/run/keepalived/floatip")
    pid_file: FilePath = Path("/run/keepalived.pid")
    vrrp_pid_file: FilePath = Path("/run/vrrp.pid")
    script_user: Name = ""
    other_vrids: tuple[Vrid, ...] = ()


class Notify(Table):
    command: Command = Field(examples=["/etc/floatip/notify.sh"])
    timeout: Period = 5.0


class Config(Table):
    linode: Linode | None = None
    bgp: Bgp | None = None
    check: tuple[Check, ...] = ()
    instance: Annotated[tuple[Instance, ...], AfterValidator(some)] = ()
    keepalived: Keepalived = Keepalived()
    notify: Notify | None = None
    state_log: FilePath | None = None
    release_delay: Delay = 1.0
    _warnings: tuple[ConfigWarning, ...] = PrivateAttr(())

    def warnings(self) -> tuple[ConfigWarning, ...]:
        return self._warnings

    @property
    def profile(self) -> Provider | None:
        """The provider's figures under those of `[bgp]`; None: nothing is announced."""
        if not self.linode and not self.bgp:
            return None
        bgp = self.bgp or Bgp()
        return bgp.over(linode(self.linode.dcid) if self.linode else PROVIDERS[bgp.provider])

    def settings(self, seed: int = 0, router_id: IPv4Address | None = None, hostname: str = "") -> core.Settings:
        """What the core needs. `router_id` is an IPv4 address of this machine, used when the file has none."""
        return core.Settings(
            checks=tuple(check.settings() for check in self.check),
            instances=tuple(instance.settings("all" if self.profile else "master") for instance in self.instance),
            speaker=self._speaker(router_id, hostname),
            other_vrids=frozenset(self.keepalived.other_vrids),
            release_delay=self.release_delay,
            seed=seed,
        )

    def _speaker(self, machine: IPv4Address | None, hostname: str) -> core.Speaker | None:
        if not (profile := self.profile):
            return None
        elections = (instance.vrrp or instance.keepalived for instance in self.instance)
        sources = (election.source for election in elections if election)
        return (self.bgp or Bgp()).speaker(profile, next(sources, machine), hostname)


TABLES: dict[Location, type[Table]] = {
    (): Config,
    ("linode",): Linode,
    ("bgp",): Bgp,
    ("bgp", "ranks"): Ranks,
    **{("bgp", "ranks", rank): Marks for rank in Ranks.model_fields},
    ("check",): Check,
    ("instance",): Instance,
    ("instance", "vrrp"): Vrrp,
    ("instance", "keepalived"): Following,
    ("keepalived",): Keepalived,
    ("notify",): Notify,
}

EXPECTED = {
    "int_type": ("a whole number", "numbers stand without quotes and without a point"),
    "float_type": ("a number", "numbers stand without quotes"),
    "bool_type": ("true or false", "these two words stand without quotes"),
    "string_type": ("a string", "strings stand in quotes"),
    "tuple_type": ("a list", 'lists stand in brackets: ["one", "two"]'),
    "model_type": ("a table", "tables stand in braces, { key = value }, or below a [header]"),
}


def refusals(data: dict[str, Any]) -> Iterator[tuple[Location, str, str]]:
    """Where, what, and a hint."""
    try:
        Config.model_validate(data)
    except ValidationError as errors:
        for error in errors.errors(include_url=False):
            yield error["loc"], *_said(error)


def _said(error: ErrorDetails) -> tuple[str, str]:
    *above, key = error["loc"]
    fields = TABLES.get(tuple(name for name in above if isinstance(name, str)), Config).model_fields
    match error["type"]:
        case "wrong":
            return error["ctx"]["what"], error["ctx"]["hint"]
        case "extra_forbidden":
            return "unknown key", closest(str(key), fields, f"the keys here are {', '.join(fields)}")
        case "missing":
            examples = fields[str(key)].examples or [""]
            return "missing", f"for example {key} = {json.dumps(examples[0])}"
        case "literal_error":
            expected = error["ctx"]["expected"].replace("'", '"')
            return f"{shown(error['input'])} is not {expected}", f"write {key} = {re.split(', | or ', expected)[0]}"
        case "tuple_type" if error["loc"] in (("check",), ("instance",)):
            return "not a list of tables", f"the header has two brackets: [[{key}]]"
        case kind:
            expected, hint = EXPECTED[kind]
            return f"{shown(error['input'])} is not {expected}", hint
