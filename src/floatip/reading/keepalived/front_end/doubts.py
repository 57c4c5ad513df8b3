"""What keepalived accepts, and users suffer from."""

from collections.abc import Iterable

from floatip.reading.keepalived import keywords
from floatip.reading.keepalived.front_end.instances import Reading
from floatip.reading.keepalived.front_end.sheet import Sheet
from floatip.reading.keepalived.syntax import Statement
from floatip.reading.words import closest

GROUPS = {"floatip sends no mail": "mail", "floatip has no SNMP": "SNMP", "floatip is not on D-Bus": "D-Bus"}


def doubts(reading: Reading) -> None:
    conf, sheet = reading.conf, reading.sheet
    sheet.places.given.add(("instance",))  # said here
    if not any(one.keyword == "vrrp_instance" for one in conf.statements):
        hint = "add one; virtual_server stays keepalived's: run keepalived -C"
        sheet.error(conf.place, "there is no vrrp_instance", hint)
    for place, what, hint in conf.left_out:
        sheet.warning(place, what, hint)
    _keywords(conf.statements, "", "", sheet, reading)
    for owner in conf.owners:
        for line, why, hint in owner.tracking.ignored:
            sheet.warning(line, f"{owner.statement}: '{line}' does not count, as with keepalived: {why}", hint)
    for statement in reading.checks.unused():
        sheet.note(statement, f"{statement}: nothing tracks it, so it does not run", "track it, or remove it")


def _keywords(statements: Iterable[Statement], block: str, owner: str, sheet: Sheet, reading: Reading) -> None:
    known = keywords.of_block(block)
    for statement in statements:
        keyword = known.get(statement.keyword)
        named = f"{owner} {statement}".strip()
        if not keyword:
            if not (block == "vrrp_instance" and statement.block is not None):  # said already
                close = closest(statement.keyword, known)
                hint = f"did you mean {close}?" if close else "remove it"
                sheet.warning(statement, f"{named}: no keyword of keepalived's, so the line does not count", hint)
            continue
        effect = keyword.effect
        if keyword.name == "use_vmac" and any(
            each.statement.block and statement in each.statement.block and each.peers for each in reading.conf.instances
        ):
            effect = "warning"
        if effect == "error":
            sheet.error(statement, f"{named}: floatip cannot do this", keyword.note)
        elif effect == "warning":
            sheet.warning(statement, f"{named}: floatip does not do this", keyword.note)
        elif group := next((name for begins, name in GROUPS.items() if keyword.note.startswith(begins)), ""):
            what, _, where = keyword.note.partition("; ")
            is_first = not any(problem.what.startswith(f"{group}: ") for problem in sheet.problems)
            if is_first:
                sheet.note(statement, f"{group}: {what}", where or "use notify, or monitor the status: floatip status")
        inner = statement.keyword
        if statement.block is not None and inner not in keywords.LINES and keywords.of_block(inner):
            _keywords(statement.block, inner, str(statement) if not block else owner, sheet, reading)
