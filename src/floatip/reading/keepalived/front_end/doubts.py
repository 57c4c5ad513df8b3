"""What keepalived accepts in silence and users then suffer from: each named with its line, and what follows from it."""

import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from floatip.reading.keepalived import Group, Instance, keywords
from floatip.reading.keepalived.front_end.instances import Reading
from floatip.reading.keepalived.front_end.sheet import Sheet
from floatip.reading.keepalived.front_end.values import in_range, within
from floatip.reading.keepalived.lint import commands, instances, scripts, takeover
from floatip.reading.keepalived.lint.facts import Finding, gather
from floatip.reading.keepalived.syntax import Statement
from floatip.reading.keepalived.vrrp import HEAVIEST, REVERSED
from floatip.reading.machine import Machine
from floatip.reading.rights import users
from floatip.reading.words import closest

GROUPS = {"floatip sends no mail": "mail", "floatip has no SNMP": "SNMP", "floatip is not on D-Bus": "D-Bus"}
REPLACED = {
    "vrrp_instance": ("priority", "virtual_router_id", "advert_int", "version"),
    "vrrp_script": ("weight", "interval", "timeout", "rise", "fall"),
    "vrrp_track_process": ("weight",),
    "track_file": ("weight",),
    "vrrp_track_file": ("weight",),
    "global_defs": ("vrrp_version",),
}
"""Numbers that `vrrp.py` reads."""
SOURCES = ("unicast_src_ip", "mcast_src_ip")
UNICAST_OR_MULTICAST = "remove it, and give all nodes of the instance unicast_peer; or remove unicast_peer on all"
SAID = ("long-password", "auth-header")
"""Findings that are named elsewhere."""
IP = re.compile(
    r"(?:(?<=//)|(?<=@)|(?<![\w.:/]))\[?(\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7})(?![\w.])"
)


def doubts(reading: Reading) -> None:
    conf, sheet = reading.conf, reading.sheet
    sheet.places.given.add(("instance",))  # said here
    if not any(one.keyword == "vrrp_instance" for one in conf.statements):
        hint = "add one; virtual_server stays keepalived's: run keepalived -C"
        sheet.error(conf.place, "there is no vrrp_instance", hint)
    for place, what, hint in conf.left_out:
        sheet.warning(place, what, hint)
    _keywords(conf.statements, "", "", reading)
    for owner in conf.owners:
        for line, why, hint in owner.tracking.ignored:
            sheet.warning(line, f"{owner.statement}: '{line}' does not count, as with keepalived: {why}", hint)
        _weights_that_are_none(owner, sheet)
    for statement in conf.statements:
        if statement.keyword == "vrrp_sync_group":
            _members(statement, reading)
    for statement in reading.checks.unused():
        sheet.note(statement, f"{statement}: nothing tracks it, so it does not run", "track it, or remove it")
    for finding in _findings(reading):
        sheet.warning(finding.place, finding.what, finding.hint)
    for one in conf.instances:
        _instance(one, reading)
        _advert_interval(one, reading)
        _words(one, reading)
    if reading.machine:
        _far_checks(reading, reading.machine)


def _keywords(statements: Iterable[Statement], block: str, owner: str, reading: Reading) -> None:
    known, sheet = keywords.of_block(block), reading.sheet
    for statement in statements:
        keyword = known.get(statement.keyword)
        named = f"{owner} {statement}".strip()
        if not keyword:
            if not (block == "vrrp_instance" and statement.block is not None):  # said already
                close = closest(statement.keyword.lower(), known)
                hint = f"did you mean {close}?" if close else "remove it"
                if block == "vrrp_sync_group" and statement.keyword in {one.name for one in reading.conf.instances}:
                    hint = "write group { and } around it, one instance a line"
                sheet.warning(statement, f"{named}: keepalived has no such keyword, so the line does not count", hint)
            continue
        _effect(statement, keyword, named, reading)
        if keyword.name in REPLACED.get(block, ()) and in_range(keyword, statement.argument()) is None:
            what = f"{named}: not a number from {keyword.numbers}, {_counts(statement, reading)}"
            sheet.warning(statement, what, f"correct {keyword.name}")
        inner = statement.keyword
        if statement.block is not None and inner not in keywords.LINES and keywords.of_block(inner):
            _keywords(statement.block, inner, owner if block else str(statement), reading)


def _effect(statement: Statement, keyword: keywords.Keyword, named: str, reading: Reading) -> None:
    sheet, effect = reading.sheet, keyword.effect
    if keyword.name == "use_vmac":
        around = [one for one in reading.conf.instances if any(each is statement for each in one.statement.block or ())]
        effect = "warning" if any(one.peers for one in around) else effect
    if effect == "error":
        sheet.error(statement, f"{named}: floatip cannot do this", keyword.note)
    elif effect == "warning":
        sheet.warning(statement, f"{named}: floatip does not do this", keyword.note)
    elif group := next((name for begins, name in GROUPS.items() if keyword.note.startswith(begins)), ""):
        what, _, where = keyword.note.partition("; ")
        if not any(problem.what.startswith(f"{group}: ") for problem in sheet.problems):
            sheet.note(statement, f"{group}: {what}", where or "use notify, or monitor the status: floatip status")


def _weights_that_are_none(owner: Instance | Group, sheet: Sheet) -> None:
    for one in owner.tracking.tracked:
        words, most = one.statement.words[2:], HEAVIEST[one.kind]
        if words and not (re.fullmatch("[+-]?[0-9]{1,9}", words[0]) and abs(int(words[0])) <= most):
            counts = f"{one.weight:+d} counts" if one.weight else "0 counts: a failure is a fault"
            what = f"{owner.statement}: {one.statement}: not a weight from -{most} to {most}, and {counts}"
            sheet.warning(one.statement, what, f"correct the weight of {one.name}")
        if unknown := [word for word in words[1:] if word not in REVERSED]:
            what = f"{owner.statement}: {one.statement}: '{unknown[0]}' does not count"
            sheet.warning(one.statement, what, "remove it; behind a weight stands reverse, noreverse or nothing")


def _members(group: Statement, reading: Reading) -> None:
    """Instances that are named and do not exist."""
    known = [one.name for one in reading.conf.instances]
    lines = [line for block in group.all("group") for line in block.block or ()]
    missing = [(line, name) for line in lines for name in line.words if name not in known]
    for line, name in missing:
        close = closest(name, known)
        hint = f"did you mean {close}?" if close else f"define it, or remove {name}"
        what = f"{group}: there is no vrrp_instance {name}, so the group goes on without it"
        reading.sheet.warning(line, what, hint)
    if len(group.words) != 2 or not any(name in known for line in lines for name in line.words):
        why = "no instance in it" if len(group.words) == 2 else "not one name"
        what = f"{group}: {why}, so it does not count, nor what it tracks and notifies"
        reading.sheet.warning(group, what, f"write {group.keyword} NAME {{ group {{, one instance a line, and }} }}")


def _counts(statement: Statement, reading: Reading) -> str:
    """The value that counts in place of one that does not."""
    for one in reading.conf.instances:
        if any(each is statement for each in one.statement.block or ()):
            numbers = {"priority": one.priority, "virtual_router_id": one.vrid, "version": one.version}
            return f"so the line does not count, and {numbers.get(statement.keyword, one.advert_interval):g} does"
    for script in reading.conf.scripts:
        if any(each is statement for each in script.statement.block or ()):
            number = getattr(script, statement.keyword)
            counts = f"{within(number) if statement.keyword == 'weight' else number:g}"
            is_part = number and statement.argument().lstrip("+").startswith(f"{number:g}")  # as strtol has it
            return f"and {counts} counts" if is_part else f"so the line does not count, and {counts} does"
    return "so the line does not count"


def _findings(reading: Reading) -> Iterator[Finding]:
    """Those of `adopt` that hold without keepalived too."""
    conf = reading.conf
    facts = gather(conf, users(), services=False) if reading.machine else None
    yield from instances.lines(conf.statements)
    for one in conf.instances:
        yield from instances.checksums(one)
        yield from (finding for finding in instances.authentication(one) if finding.code not in SAID)
    if not facts:
        return
    for command in commands.commands(conf, facts):
        if finding := commands.shell_syntax(command, floatip=True):
            yield finding
        texts = [facts.files[path].text for path in command.paths if path in facts.files]
        if reading.has_bgp and not command.is_check and any("lelastic" in text for text in (command.text, *texts)):
            what = f"{command.statement}: it switches lelastic, and route servers accept one session per node"
            yield Finding("switches-lelastic", "danger", command.statement.place, what, "remove it: floatip announces")
    yield from takeover.what_others_can_change(conf, facts)
    yield from takeover.shared_directories(conf, facts)
    yield from scripts.check(conf, facts)


def _instance(one: Instance, reading: Reading) -> None:
    sheet, statement = reading.sheet, one.statement
    if not one.peers:
        given = statement.last("unicast_peer") or statement.last("unicast_src_ip")
        if given:
            what = f"{statement}: {given.keyword} and no peer, so adverts are multicast"
            sheet.warning(given, what, "add the other nodes to unicast_peer, or remove the line")
        elif reading.has_bgp:
            what = f"{statement}: no unicast_peer: clouds drop multicast, and then each node becomes master"
            sheet.warning(statement, what, "add unicast_peer { the other nodes' private addresses }")
    elif given := statement.last("mcast_dst_ip"):
        what = f"{given}: adverts go to unicast_peer, so the line does not count: a node that only"
        sheet.warning(given, f"{what} listens to multicast hears none, and becomes master too", UNICAST_OR_MULTICAST)
    elif len(sources := {each.keyword for each in statement.block or () if each.keyword in SOURCES}) > 1:
        given = statement.last("mcast_src_ip") or statement
        what = f"{statement}: {' and '.join(sorted(sources))}: the last one, {one.source}, is the source of all adverts"
        sheet.warning(given, what, "remove mcast_src_ip: adverts go to unicast_peer")
    if not statement.last("priority"):
        then = "where other nodes have none either, the greater source address decides"
        if one.priority == 255:
            then = "it takes over whenever it is back, and no weight changes it"
        what = f"{statement}: no priority, so {one.priority} counts: {then}"
        sheet.warning(statement, what, "add priority, a different one on each node")
    for state in statement.all("state"):
        if state.argument() not in ("MASTER", "BACKUP"):
            what = f"{statement}: {state}: neither MASTER nor BACKUP, so {one.state} counts"
            sheet.warning(state, what, "write MASTER or BACKUP, in capitals")
    if not one.addresses and not one.excluded and not statement.last("no_virtual_ipaddress"):
        what = f"{statement}: no address, so it only elects and notifies"
        sheet.warning(statement, what, "add virtual_ipaddress, or no_virtual_ipaddress if this is meant")
    if (nopreempt := statement.last("nopreempt")) and one.preempt and not statement.last("preempt"):
        why = "with state MASTER" if one.state == "MASTER" and one.priority != 255 else "with priority 255"
        what = f"{statement}: nopreempt does not count {why}: this node takes over when it comes back"
        sheet.warning(nopreempt, what, "write state BACKUP on all nodes, and a priority below 255")
    if (delay := statement.last("preempt_delay")) and (one.state == "MASTER" or not one.preempt):
        why = "state MASTER" if one.state == "MASTER" else "nopreempt"
        sheet.warning(delay, f"{statement}: preempt_delay does not count beside {why}", "remove one of the two")
    if one.auth_type == "AH":
        place = next(statement.all("authentication")).place
        what = f"{statement}: auth_type AH: floatip cannot send or understand such adverts"
        sheet.error(place, what, "use auth_type PASS, or none, on all nodes")
    _weights(one, reading)


def _words(one: Instance, reading: Reading) -> None:
    """What stands behind addresses and peers."""
    for name, option in (
        ("virtual_ipaddress", "virtual_ipaddress option"),
        ("virtual_ipaddress_excluded", "virtual_ipaddress option"),
        ("unicast_peer", "unicast_peer option"),
    ):
        known = keywords.of_block(option)
        for line in (line for block in one.statement.all(name) for line in block.block or ()):
            words = iter(line.words[1:])
            for word in words:
                keyword = known.get(word)
                if not keyword:
                    what = f"{one.statement}: {line}: keepalived does not know '{word}' here, so it does not count"
                    reading.sheet.warning(line, what, f"remove it; the words here are {', '.join(known)}")
                elif keyword.effect == "error" and not (word == "use_vmac" and one.peers):
                    reading.sheet.error(line, f"{one.statement}: {line}: {keyword.note}", f"remove {word}")
                elif keyword.effect == "error":
                    reading.sheet.warning(line, f"{one.statement}: {line}: {keyword.note}", f"remove {word}")
                if keyword and keyword.value != "flag":
                    next(words, "")


def _weights(one: Instance, reading: Reading) -> None:
    groups = [group for group in reading.conf.groups if one.name in group.members]
    lines = one.tracking.tracked if not groups else groups[0].tracking.tracked
    for line in lines:
        if not line.weight or one.priority == 255 or line.kind == "track_file":
            continue
        named = f"{one.statement}: {line.name} weighs {line.weight:+d}"
        if not one.preempt:
            continue  # the rules say it
        # The other node's priority is between this one's with the check, and that without it.
        up, down = one.priority, one.priority + line.weight
        if line.weight > 0:
            up, down = min(254, one.priority + line.weight), one.priority
        low, high = max(1, down) + 1, up - 1
        hint = "use a weight larger than the difference of the priorities, or none: then a failure is a fault"
        if low > high:
            reading.sheet.warning(line.statement, f"{named}: a failure can never move the address", hint)
        else:
            range_ = f"from {low} to {high}" if low < high else f"{low}"
            what = f"{named}: a failure moves the address only if the other node's priority is {range_}"
            reading.sheet.note(line.statement, what, hint)


def _advert_interval(one: Instance, reading: Reading) -> None:
    given = one.statement.last("advert_int")
    number = in_range(keywords.of_block("vrrp_instance")["advert_int"], given.argument()) if given else None
    if given and number is not None and abs(number - one.advert_interval) > 1e-9:
        what = f"{one.statement}: {given}: version {one.version} cannot say it, so {one.advert_interval:g} s counts"
        limits = "whole seconds" if one.version == 2 else "0.01 to 40.95"
        reading.sheet.warning(given, what, f"write {limits}, the same on all nodes")


def _far_checks(reading: Reading, machine: Machine) -> None:
    """A check of something that is not on this node fails on all nodes at once."""
    floating = {each.address.ip for one in reading.conf.instances for each in (*one.addresses, *one.excluded)}
    tracked = {line.name for owner in reading.conf.owners for line in owner.tracking.tracked if not line.weight}
    for script in reading.conf.scripts:
        if script.name not in tracked:
            continue
        for text in IP.findall(script.text):
            try:
                address = ip_address(text)
            except ValueError:
                continue
            if address.is_loopback or address.is_unspecified or address in floating or machine.has(address):
                continue
            what = (
                f"{script.statement}: asks {address}, which is not this node: where it fails on all nodes, all are in"
            )
            what += " FAULT, and no node has the address"
            reading.sheet.warning(script.statement, what, "give it a weight, or check what runs on this node")
