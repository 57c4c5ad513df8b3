"""The floatip.toml of an adoption: what it says, and what one that is there already means."""

import tomllib
from pathlib import Path
from typing import Any

from floatip.adopt import toml
from floatip.adopt.findings import may_be_source
from floatip.adopt.found import Found, floating
from floatip.adopt.host import AdoptError
from floatip.core.events import Address
from floatip.core.settings import Keepalived
from floatip.keepalived_conf import Instance
from floatip.lelastic import Flags
from floatip.model import LocalKeepalived
from floatip.reading import ConfigErrors
from floatip.reading.place import Thing
from floatip.reading.toml.document import Document, parse
from floatip.reading.toml.reader import accepted

STATE_LOG = "/var/log/floatip/state"


def text(found: Found, instances: tuple[Instance, ...], dcid: int, *, by_scripts: bool, log: bool) -> str:
    """`by_scripts`: keepalived tells by running floatip; `log`: a script wrote a state log so far."""
    keepalived: dict[str, object] = {"pid_file": found.call.pid_file, "vrrp_pid_file": found.call.vrrp_pid_file}
    if by_scripts and found.script_user != "root":
        keepalived["script_user"] = found.script_user
    defaults = LocalKeepalived()
    changed = {key: value for key, value in keepalived.items() if value != str(getattr(defaults, key))}
    if others := {one.vrid for one in found.conf.instances} - {one.vrid for one in instances}:
        changed["other_vrids"] = sorted(others)
    tables = [
        toml.table("[linode]", {"dcid": dcid}),
        toml.table("[bgp]", _route_servers(found, dcid) | _source_of_sessions(found)),
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


def merged(written: str, document: Document, wanted: str) -> str:
    """What is written, with what adopt decides of `wanted`; all of `wanted` where that is not to be had.

    Whatever else its owner has put there stays: checks, a state log, comments.
    """
    try:
        text = _merged(written, document, tomllib.loads(wanted))
    except (ValueError, KeyError, TypeError):
        return wanted
    return text if meaning_of(text) == meaning_of(wanted) else wanted


def _merged(written: str, document: Document, new: dict[str, Any]) -> str:
    old, lines = document.data, document.lines
    # A region says the same by its name.
    is_same = dcid_of(written) == new["linode"]["dcid"]
    values: dict[Thing, object] = {} if is_same else {("linode", "dcid"): new["linode"]["dcid"]}
    shared, header = new.get("keepalived", {}), lines.get(("keepalived",), 0)
    added = [] if header else toml.table("[keepalived]", shared)
    known = old.get("keepalived", {})
    values |= {("keepalived", key): value for key, value in shared.items() if key in known}
    for instance in new["instance"]:
        index = _index_of(instance, old["instance"])
        if index is None:
            added += toml.table("[[instance]]", instance)
        else:
            values |= {("instance", index, key): value for key, value in instance.items()}
    text = written.split("\n")
    edits = [
        (lines[place], _end(text, lines[place]), {str(place[-1]): value})
        for place, value in values.items()
        if _at(old, place) != value
    ]
    if header:
        edits.append((header + 1, header, {key: value for key, value in shared.items() if key not in known}))
    for begin, end, statements in sorted(edits, key=lambda edit: edit[0], reverse=True):
        text[begin - 1 : end] = toml.table("", statements)[2:]
    return "\n".join(text).rstrip("\n") + "\n" + "".join(f"{line}\n" for line in added)


def _index_of(instance: dict[str, Any], old: list[dict[str, Any]]) -> int | None:
    """The one of that name; or of that virtual router, whose name was changed."""
    vrid = instance["keepalived"]["vrid"]
    names = [one.get("name") for one in old]
    if instance["name"] in names:
        return names.index(instance["name"])
    return next((index for index, one in enumerate(old) if one.get("keepalived", {}).get("vrid") == vrid), None)


def _at(data: Any, place: Thing) -> object:
    for key in place:
        data = data[key]
    return data


def _end(text: list[str], line: int) -> int:
    """The last line of the statement that begins there."""
    for end in range(line, len(text) + 1):
        try:
            tomllib.loads("\n".join(text[line - 1 : end]))
        except tomllib.TOMLDecodeError:
            continue
        return end
    raise ValueError("no statement")


def _followed(found: Found, instance: Instance) -> dict[str, object]:
    own = [p.address.ip for p in found.own if p.interface == instance.interface and p.address.version == 4]
    source: Address | None = instance.source or next(iter(own), None)
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


def _source_of_sessions(found: Found) -> dict[str, object]:
    """Where the kernel might take an address that keepalived moves, which route servers refuse."""
    taken = {virtual.interface for instance in found.conf.instances for virtual in may_be_source(instance)}
    own = (p.address.ip for p in found.own if p.interface in taken and p.address.version == 6 and p.address.is_global)
    source = next(own, None)
    speaks_ipv6 = all(":" in announcer.flags.neighborpattern for announcer in found.announcers)
    return {"source": str(source)} if source and speaks_ipv6 else {}


def _route_servers(found: Found, dcid: int) -> dict[str, object]:
    """Flags of lelastic that are not its defaults."""
    flags = next((announcer.flags for announcer in found.announcers), Flags())
    values: dict[str, object] = {}
    if flags.neighborpattern != Flags().neighborpattern:
        values["peers"] = [flags.neighborpattern.replace("%d", "{}").format(dcid, number) for number in range(1, 5)]
    if flags.multihopttl != Flags().multihopttl:
        values["multihop_ttl"] = flags.multihopttl
    return values
