"""The instances themselves: addresses, election, peers, and statements that do not mean what they seem to."""

import re
from collections.abc import Iterable, Iterator

from floatip.reading.keepalived import Instance, KeepalivedConf, Place, Statement, VirtualAddress, keywords
from floatip.reading.keepalived.lint.facts import Finding, MachineFacts
from floatip.reading.keepalived.vrrp import OPTIONS

IP = re.compile(r"[0-9]+(\.[0-9]+){3}(/\d+)?|[0-9a-f]*:[0-9a-f:]*:[0-9a-f:.]*(/\d+)?")


def check(conf: KeepalivedConf, facts: MachineFacts) -> Iterator[Finding]:
    for option in conf.global_defs:
        if option.keyword == "vrrp_notify_fifo" and "floatip" not in option.argument():
            what = f"{option}: somebody reads this FIFO already, and a line goes to one reader only"
            hint = "leave it to its reader: floatip can be told by notify lines"
            yield Finding("fifo-taken", "note", option.place, what, hint)
    yield from lines(conf.statements)
    for instance in conf.instances:
        if not instance.addresses:
            what = f"{instance.statement}: no address"
            yield Finding("no-address", "wrong", instance.statement.place, what, "add virtual_ipaddress")
        for virtual in (*instance.addresses, *instance.excluded):
            yield from _address(instance, virtual, facts)
        yield from _sources(instance)
        yield from _election(instance)
        yield from _peers(instance)
        yield from authentication(instance)


def lines(statements: Iterable[Statement], block: str = "") -> Iterator[Finding]:
    """Of one block: what keepalived ignores of a line."""
    flags, values = keywords.FLAGS.get(block, set()), keywords.NEEDS_VALUE.get(block, [])
    known = {*flags, *values, *keywords.BLOCKS.get(block, ())}
    for statement in statements:
        place, keyword = statement.place, statement.keyword
        # The first word may be a value that looks like a keyword.
        behind = [word for word in statement.words[1 + (keyword in values) :] if word in known]
        if block in keywords.ADDRESSES:
            behind = [word for word in statement.words[1:] if IP.fullmatch(word)]
            behind = [word for word in behind if statement.words[statement.words.index(word) - 1] not in OPTIONS]
        if block and behind and not keyword.startswith("notify"):
            what = f"{statement}: keepalived reads one statement a line, and ignores {behind[0]}"
            yield Finding("two-statements", "danger", place, what, f"put {behind[0]} on a line of its own")
        if keyword in flags and statement.argument() in ("false", "no", "off", "0"):
            what = f"{statement}: it takes no value, and means {keyword}"
            yield Finding("flag-value", "wrong", place, what, f"remove the line if you do not want {keyword}")
        if keyword in keywords.BLOCKS or not block:
            yield from lines(statement.block or (), keyword)


def _address(instance: Instance, virtual: VirtualAddress, facts: MachineFacts) -> Iterator[Finding]:
    place, address = virtual.statement.place, virtual.address
    if virtual.interface == "lo":
        what = f"{virtual.statement}: on lo keepalived removes the copy that floatip holds, at each change of role"
        yield Finding("address-on-lo", "danger", place, what, f"write dev {instance.interface}")
    if address.version == 6:
        return
    if address.network.prefixlen != 32:
        yield _wide(place, f"{virtual.statement}: written as /{address.network.prefixlen}", f"write {address.ip}")
    for placed in facts.addresses:
        is_keepaliveds = (placed.interface, placed.address) == (virtual.interface, address)
        if placed.address.ip == address.ip and placed.address.network.prefixlen != 32 and not is_keepaliveds:
            hint = (
                f"turn off Network Helper, remove it from the network configuration, and "
                f"ip address del {placed.address} dev {placed.interface}"
            )
            yield _wide(place, f"{placed.address} is on {placed.interface}, put there by something else", hint)


def _wide(place: Place, what: str, hint: str) -> Finding:
    what = f"{what}: its neighbours of that network cannot be reached from here"
    return Finding("wide-prefix", "wrong", place, what, hint)


def may_be_source(instance: Instance) -> list[VirtualAddress]:
    """IPv6 addresses that the kernel may take for connections of its own; keepalived deprecates a /128 by itself."""
    return [
        virtual
        for virtual in (*instance.addresses, *instance.excluded)
        if virtual.address.version == 6
        and not virtual.address.is_link_local  # no source for what is far away
        and ("preferred_lft" in virtual.statement.words or virtual.address.network.prefixlen != 128)
        and not re.search(r"preferred_lft 0\b", " ".join(virtual.statement.words))
    ]


def _sources(instance: Instance) -> Iterator[Finding]:
    for virtual in may_be_source(instance):
        what = f"{virtual.statement}: the kernel may take it as the source of BGP sessions, which route servers refuse"
        hint = "write it as /128, which keepalived deprecates; or set [bgp] source in floatip.toml"
        yield Finding("bgp-source", "wrong", virtual.statement.place, what, hint)


def _election(instance: Instance) -> Iterator[Finding]:
    delay = instance.statement.last("preempt_delay")
    if delay and not instance.preempt:
        what = f"{delay}: without effect, because of nopreempt"
        yield Finding("preempt-delay", "note", delay.place, what, "remove one of the two")
    statement = instance.statement.last("nopreempt")
    if statement and instance.state == "MASTER":
        what = f"{instance.statement}: nopreempt with state MASTER: keepalived clears it; a returning node takes over"
        yield Finding("nopreempt-master", "wrong", statement.place, what, "use state BACKUP on both nodes")


def _peers(instance: Instance) -> Iterator[Finding]:
    place = instance.statement.place
    if not instance.peers:
        what = f"{instance.statement}: no unicast_peer: clouds drop multicast, and each node becomes master"
        hint = "add unicast_peer { the other nodes' private addresses }"
        yield Finding("multicast", "danger", place, what, hint)
    elif not instance.source:
        what = f"{instance.statement}: no unicast_src_ip: keepalived takes the interface's first address"
        hint = "add unicast_src_ip and the private address that is a peer of the others"
        yield Finding("no-source", "wrong", place, what, hint)
    yield from checksums(instance)


def checksums(instance: Instance) -> Iterator[Finding]:
    checksum = instance.statement.last("old_unicast_checksum")
    if checksum and not checksum.argument() and instance.version == 3:
        what = f"{checksum}: floatip drops adverts with this checksum, and takes a silent keepalived for dead"
        hint = "remove it on all nodes: only keepalived 1.3.6 and older need it"
        yield Finding("old-checksum", "danger", checksum.place, what, hint)


def authentication(instance: Instance) -> Iterator[Finding]:
    options = [option for block in instance.statement.all("authentication") for option in block.block or ()]
    if len(instance.auth_pass) > 8:
        what = f"{instance.statement}: auth_pass has more than 8 characters: only 8 reach the wire, in clear"
        hint = "rely on the network for secrecy, not on this password"
        yield Finding("long-password", "note", instance.statement.place, what, hint)
    if instance.auth_type == "AH":
        what = f"{instance.statement}: auth_type AH: floatip does not understand these adverts"
        yield Finding("auth-header", "danger", options[0].place, what, "use auth_type PASS, or none, on all nodes")
    elif options and not instance.auth_pass:
        what = f"{instance.statement}: keepalived ignores this authentication: it needs version 2 and auth_type PASS"
        yield Finding("no-authentication", "note", options[0].place, what, "remove the block on all nodes")
