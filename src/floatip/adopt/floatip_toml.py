"""The floatip.toml that an adoption writes, and where an existing one differs from keepalived.conf."""

from collections.abc import Iterator
from dataclasses import fields
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any

from floatip import DEFAULT_CONFIG
from floatip.adopt.setup import Setup, floating
from floatip.adopt.system import AdoptError
from floatip.core import settings as core
from floatip.core.addresses import Address, InterfaceAddress
from floatip.core.settings import Keepalived
from floatip.lelastic import Flags
from floatip.model import LocalKeepalived, Model, network
from floatip.providers import linode
from floatip.reading import ConfigErrors, ConfigWarning, Places
from floatip.reading.keepalived import Instance, KeepalivedConf
from floatip.reading.keepalived.lint.instances import may_be_source
from floatip.reading.toml import writer
from floatip.reading.toml.document import parse
from floatip.reading.toml.reader import accepted
from floatip.reading.toml.tables import KEEPALIVEDS

STATE_LOG = "/var/log/floatip/state"
HINT = "edit the wrong one and reload it: systemctl reload floatip, or keepalived; "
HINT += f"or: floatip adopt --force, which rewrites {DEFAULT_CONFIG}"
KEYWORDS = {ours: theirs for theirs, (ours, _) in reversed(KEEPALIVEDS.items())}
"""What keepalived.conf calls a key of floatip.toml that has another name there; of several words the usual one."""


def text(setup: Setup, instances: tuple[Instance, ...], dcid: int, *, by_scripts: bool, log: bool) -> str:
    """`by_scripts`: keepalived tells by running floatip; `log`: a script wrote a state log so far."""
    model = Model(
        instances=tuple(_instance(instance, setup) for instance in instances),
        network=network(linode(dcid), **_route_servers(setup, dcid), source=_source_of_sessions(setup)),
        keepalived=LocalKeepalived(
            pid_file=Path(setup.call.pid_file),
            vrrp_pid_file=Path(setup.call.vrrp_pid_file),
            script_user=setup.script_user if by_scripts and setup.script_user != "root" else "",
            other_vrids=tuple(sorted({one.vrid for one in setup.conf.instances} - {one.vrid for one in instances})),
        ),
        state_log=Path(STATE_LOG) if log else None,
    )
    comment = (
        f"Written by `floatip adopt` from {setup.call.config}: keepalived elects, floatip announces.",
        "Edit it as you like; check it with `floatip check`, and apply it with `systemctl reload floatip`.",
    )
    return writer.text(model, comment)


def beside_conf(setup: Setup, dcid: int) -> str:
    """The file beside a keepalived.conf that floatip itself runs: what lelastic was told."""
    announced = network(linode(dcid), **_route_servers(setup, dcid), source=_source_of_sessions(setup))
    comment = (
        f"Written by `floatip adopt --replace`: what {setup.call.config} has no words for.",
        f"Check both with `floatip check {setup.call.config}`, and apply them with `systemctl reload floatip`.",
    )
    return writer.text(Model(network=announced), comment)


def _instance(instance: Instance, setup: Setup) -> core.Instance:
    source = instance.source if isinstance(instance.source, IPv4Address) else _first_address(setup, instance)
    return core.Instance(instance.name, _addresses(instance), _followed(instance, setup.conf, source))


def meaning_of(written: str) -> tuple[int, list[object], Path, Path] | None:
    """What adopt decides: the data centre, who follows what, and keepalived's pid files."""
    try:
        model, _ = accepted(parse("", written.encode(errors="surrogateescape")))
    except ConfigErrors:
        return None
    followed = [one for one in model.instances if isinstance(one.election, Keepalived)]
    instances = [(one.name, one.addresses, one.election) for one in sorted(followed, key=lambda one: one.name)]
    dcid = model.network.profile.dcid if model.network else 0
    return (dcid, [*instances], model.keepalived.pid_file, model.keepalived.vrrp_pid_file) if dcid else None


def _followed(instance: Instance, conf: KeepalivedConf, source: Address) -> Keepalived:
    """The election of an instance of keepalived as floatip takes part in it."""
    return Keepalived(
        instance=instance.name,
        interface=instance.interface,
        vrid=instance.vrid,
        priority=instance.priority,
        source=source,
        peers=tuple(peer for peer in instance.peers if peer.version == 4),
        sync_group=next((group.name for group in conf.groups if instance.name in group.members), ""),
        version=instance.version,
        advert_interval=instance.advert_interval,
    )


def _addresses(instance: Instance) -> tuple[InterfaceAddress, ...]:
    return tuple(dict.fromkeys(one.address for one in floating(instance) if one.address.version == 4))


def _first_address(setup: Setup, instance: Instance) -> IPv4Address:
    own = [one.address.ip for one in setup.own if one.interface == instance.interface and one.address.version == 4]
    if not own:
        what = f"{instance.name} has no source, and {instance.interface} no IPv4 address"
        raise AdoptError(what, "add unicast_src_ip to the instance")
    return own[0]


def _source_of_sessions(setup: Setup) -> Address | None:
    """Where the kernel might take an address that keepalived moves, which route servers refuse."""
    taken = {virtual.interface for instance in setup.conf.instances for virtual in may_be_source(instance)}
    own = (p.address.ip for p in setup.own if p.interface in taken and p.address.version == 6 and p.address.is_global)
    speaks_ipv6 = all(":" in announcer.flags.neighborpattern for announcer in setup.announcers)
    return next(own, None) if speaks_ipv6 else None


def _route_servers(setup: Setup, dcid: int) -> dict[str, Any]:
    """Flags of lelastic that are not its defaults."""
    flags = next((announcer.flags for announcer in setup.announcers), Flags())
    values: dict[str, Any] = {}
    if flags.neighborpattern != Flags().neighborpattern:
        pattern = flags.neighborpattern.replace("%d", "{}")
        try:
            values["peers"] = tuple(ip_address(pattern.format(dcid, number)) for number in range(1, 5))
        except (ValueError, IndexError):
            what = f"lelastic's neighborpattern {flags.neighborpattern} gives no addresses of route servers"
            raise AdoptError(what, "correct it in the unit of lelastic") from None
    if flags.multihopttl != Flags().multihopttl:
        values["multihop_ttl"] = flags.multihopttl
    return values


def differences(model: Model, places: Places, conf: KeepalivedConf) -> Iterator[ConfigWarning]:
    """Where an instance that follows keepalived is not what keepalived.conf says."""
    named = {instance.name: instance for instance in conf.instances}
    for here, instance in places.each(("instance",), model.instances):
        ours = instance.election
        if not isinstance(ours, Keepalived):
            continue
        if not (other := named.get(ours.instance)):
            what = f"{conf.files[0]} has no vrrp_instance {ours.instance}; those there are {', '.join(named) or 'none'}"
            yield places.warning((*here, "keepalived"), what, HINT)
            continue
        source = other.source if isinstance(other.source, IPv4Address) else ours.source
        theirs = _followed(other, conf, source)
        keys = [((*here, "keepalived", field.name), field.name) for field in fields(ours)]
        pairs = [(thing, getattr(ours, key), getattr(theirs, key)) for thing, key in keys]
        addresses = tuple(one for one in instance.addresses if one.version == 4)
        for thing, was, now in [((*here, "addresses"), addresses, _addresses(other)), *pairs]:
            if set(was) != set(now) if isinstance(was, tuple) else was != now:
                key = str(thing[-1])
                word = KEYWORDS.get(key, key)
                said = other.statement.last(key) or other.statement.last(word) or conf.option(word) or other.statement
                yield places.warning(thing, f"{_shown(was)} here, and {_shown(now)} at {said.place}", HINT)


def _shown(value: Any) -> str:
    return (", ".join(map(str, value)) if isinstance(value, tuple) else str(value)) or "none"
