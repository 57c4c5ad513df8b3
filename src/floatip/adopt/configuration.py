"""The floatip.toml of an adoption: what it says, and what one that is there already means."""

import tomllib

from floatip.adopt import toml
from floatip.adopt.found import Found, floating
from floatip.adopt.host import AdoptError
from floatip.config import Config
from floatip.core.events import Address
from floatip.keepalived_conf import Instance
from floatip.lelastic import Flags

STATE_LOG = "/var/log/floatip/state"


def text(found: Found, instances: tuple[Instance, ...], dcid: int, *, by_scripts: bool, log: bool) -> str:
    """`by_scripts`: keepalived tells by running floatip; `log`: a script wrote a state log so far."""
    keepalived = {"pid_file": found.call.pid_file, "vrrp_pid_file": found.call.vrrp_pid_file}
    if by_scripts and found.script_user != "root":
        keepalived["script_user"] = found.script_user
    defaults = Config().keepalived
    changed = {key: value for key, value in keepalived.items() if value != str(getattr(defaults, key))}
    tables = [
        toml.table("[linode]", {"dcid": dcid}),
        toml.table("[bgp]", _route_servers(found, dcid)),
        toml.table("[keepalived]", changed),
    ]
    for instance in instances:
        addresses = [str(one.address) for one in floating(instance) if one.address.version == 4]
        values = {"name": instance.name, "addresses": addresses, "keepalived": _followed(found, instance)}
        tables.append(toml.table("[[instance]]", values))
    comment = (
        f"Written by `floatip adopt` from {found.call.config}: keepalived elects, floatip announces.",
        "It is yours to edit: `floatip check` says what is wrong with it, `systemctl reload floatip` uses it.",
    )
    return toml.document(comment, {"state_log": STATE_LOG} if log else {}, tables)


def dcid_of(written: str) -> int | None:
    meaning = meaning_of(written)
    return meaning[0] if meaning else None


def meaning_of(written: str) -> tuple[int, list[object]] | None:
    """What adopt decides: the data centre, and who follows what."""
    try:
        config = Config.model_validate(tomllib.loads(written))
    except ValueError:
        return None
    instances = sorted((one.name, one.addresses, one.keepalived) for one in config.instance if one.keepalived)
    return (config.linode.dcid, [*instances]) if config.linode else None


def _followed(found: Found, instance: Instance) -> dict[str, object]:
    moved = {one.address.ip for other in found.conf.instances for one in floating(other)}
    own = [p.address.ip for p in found.placed if p.interface == instance.interface and p.address.version == 4]
    source: Address | None = instance.source or next((ip for ip in own if ip not in moved), None)
    if source is None:
        what = f"{instance.name} has no source, and {instance.interface} no IPv4 address"
        raise AdoptError(what, "add unicast_src_ip to the instance")
    followed: dict[str, object] = {"interface": instance.interface, "vrid": instance.vrid}
    followed |= {"priority": instance.priority, "source": str(source), "peers": list(map(str, instance.peers))}
    if group := next((group.name for group in found.conf.groups if instance.name in group.members), ""):
        followed["sync_group"] = group
    if instance.version != 2:
        followed["version"] = instance.version
    if instance.advert_interval != 1:
        followed["advert_interval"] = instance.advert_interval
    return followed


def _route_servers(found: Found, dcid: int) -> dict[str, object]:
    """Flags of lelastic that are not its defaults."""
    flags = next((announcer.flags for announcer in found.announcers), Flags())
    values: dict[str, object] = {}
    if flags.neighborpattern != Flags().neighborpattern:
        values["peers"] = [flags.neighborpattern.replace("%d", "{}").format(dcid, number) for number in range(1, 5)]
    if flags.multihopttl != Flags().multihopttl:
        values["multihop_ttl"] = flags.multihopttl
    return values
