"""The floatip.toml that an adoption writes, and what adopt would decide in one that exists."""

from pathlib import Path

from floatip.adopt import toml_writer as toml
from floatip.adopt.setup import Setup, floating
from floatip.adopt.system import AdoptError
from floatip.core.addresses import Address
from floatip.core.settings import Keepalived
from floatip.lelastic import Flags
from floatip.model import LocalKeepalived
from floatip.reading import ConfigErrors
from floatip.reading.keepalived import Instance
from floatip.reading.keepalived.lint.instances import may_be_source
from floatip.reading.toml.document import parse
from floatip.reading.toml.reader import accepted

STATE_LOG = "/var/log/floatip/state"


def text(setup: Setup, instances: tuple[Instance, ...], dcid: int, *, by_scripts: bool, log: bool) -> str:
    """`by_scripts`: keepalived tells by running floatip; `log`: a script wrote a state log so far."""
    keepalived: dict[str, object] = {"pid_file": setup.call.pid_file, "vrrp_pid_file": setup.call.vrrp_pid_file}
    if by_scripts and setup.script_user != "root":
        keepalived["script_user"] = setup.script_user
    defaults = LocalKeepalived()
    changed = {key: value for key, value in keepalived.items() if value != str(getattr(defaults, key))}
    if others := {one.vrid for one in setup.conf.instances} - {one.vrid for one in instances}:
        changed["other_vrids"] = sorted(others)
    tables = [
        toml.table("[linode]", {"dcid": dcid}),
        toml.table("[bgp]", _route_servers(setup, dcid) | _source_of_sessions(setup)),
        toml.table("[keepalived]", changed),
    ]
    for instance in instances:
        addresses = list(dict.fromkeys(str(one.address) for one in floating(instance) if one.address.version == 4))
        values = {"name": instance.name, "addresses": addresses, "keepalived": _followed(setup, instance)}
        tables.append(toml.table("[[instance]]", values))
    comment = (
        f"Written by `floatip adopt` from {setup.call.config}: keepalived elects, floatip announces.",
        "Edit it as you like; check it with `floatip check`, and apply it with `systemctl reload floatip`.",
    )
    return toml.document(comment, {"state_log": STATE_LOG} if log else {}, tables)


def dcid_of(written: str) -> int | None:
    meaning = meaning_of(written)
    return meaning[0] if meaning else None


def meaning_of(written: str) -> tuple[int, list[object], Path, Path] | None:
    """What adopt decides: the data centre, keepalived's pid files, and who follows what."""
    try:
        model, _ = accepted(parse("", written.encode()))
    except ConfigErrors:
        return None
    followed = [one for one in model.instances if isinstance(one.election, Keepalived)]
    instances = [(one.name, one.addresses, one.election) for one in sorted(followed, key=lambda one: one.name)]
    pid_files = model.keepalived.pid_file, model.keepalived.vrrp_pid_file
    dcid = model.network.profile.dcid if model.network else 0
    return (dcid, [*instances], *pid_files) if dcid else None


def _followed(setup: Setup, instance: Instance) -> dict[str, object]:
    own = [p.address.ip for p in setup.own if p.interface == instance.interface and p.address.version == 4]
    source: Address | None = instance.source or next(iter(own), None)
    if source is None:
        what = f"{instance.name} has no source, and {instance.interface} no IPv4 address"
        raise AdoptError(what, "add unicast_src_ip to the instance")
    followed: dict[str, object] = {"interface": instance.interface, "vrid": instance.vrid}
    followed |= {"priority": instance.priority, "source": str(source), "peers": list(map(str, instance.peers))}
    if group := next((group.name for group in setup.conf.groups if instance.name in group.members), ""):
        followed["sync_group"] = group
    if instance.version != 2:
        followed["version"] = instance.version
    if instance.advert_interval != 1:
        followed["advert_interval"] = instance.advert_interval
    return followed


def _source_of_sessions(setup: Setup) -> dict[str, object]:
    """Where the kernel might take an address that keepalived moves, which route servers refuse."""
    taken = {virtual.interface for instance in setup.conf.instances for virtual in may_be_source(instance)}
    own = (p.address.ip for p in setup.own if p.interface in taken and p.address.version == 6 and p.address.is_global)
    source = next(own, None)
    speaks_ipv6 = all(":" in announcer.flags.neighborpattern for announcer in setup.announcers)
    return {"source": str(source)} if source and speaks_ipv6 else {}


def _route_servers(setup: Setup, dcid: int) -> dict[str, object]:
    """Flags of lelastic that are not its defaults."""
    flags = next((announcer.flags for announcer in setup.announcers), Flags())
    values: dict[str, object] = {}
    if flags.neighborpattern != Flags().neighborpattern:
        values["peers"] = [flags.neighborpattern.replace("%d", "{}").format(dcid, number) for number in range(1, 5)]
    if flags.multihopttl != Flags().multihopttl:
        values["multihop_ttl"] = flags.multihopttl
    return values
