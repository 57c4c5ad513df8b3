"""`floatip doctor`: looks, shows what it found, problems first, and says how to mend it."""

import json
import os
import socket
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import floatip
from floatip.commands import Misused
from floatip.core.addresses import Address
from floatip.doctor.context import Context, gather
from floatip.doctor.examination import examine, lookers
from floatip.doctor.finding import Finding, Grade, worst_first
from floatip.doctor.host import ThisMachine
from floatip.linode.accounts import Shares
from floatip.screen import BAD, BOLD, DIM, GOOD, WARN, Line, shown, under
from floatip.text import columns

FORMAT = 1
PATIENCE = 5.0
"""Seconds for which Linode's API is asked again where it is busy."""
STYLES = {Grade.PROBLEM: BAD, Grade.WARNING: WARN, Grade.UNSEEN: WARN, Grade.NOTE: DIM, Grade.WELL: GOOD}
WORDS = {Grade.UNSEEN: "not seen", Grade.WELL: "well"}
INDENT = 10
"""Columns of the grade before each finding."""


def doctor(file: Path, observers: list[str] | None, support: str | None, *, as_json: bool, everything: bool) -> int:
    """The exit status. Raises `Refusal`."""
    if support is not None:
        from floatip.doctor import support as sending  # noqa: PLC0415

        path = sending.destination(support)
    context = gather(ThisMachine(), file, tuple(map(_address, observers or ())))
    _ask_linode(context)
    findings = examine(context, lookers())
    report = as_data(findings)
    if support is not None:
        print(sending.write(path, report, context))
    elif as_json:
        print(json.dumps(report, indent=2))
    else:
        print(shown(draw(findings, columns(), everything=everything)))
    return exit_status(findings)


def _address(text: str) -> Address:
    """Raises `Misused`."""
    try:
        return ip_address(text)
    except ValueError:
        raise Misused(f"--observer: {text!r} is not an IP address", "floatip doctor --observer 192.0.2.9") from None


def exit_status(findings: list[Finding]) -> int:
    grades = {finding.grade for finding in findings}
    return 1 if Grade.PROBLEM in grades else 2 if Grade.UNSEEN in grades else 0


def _ask_linode(context: Context) -> None:
    """The parts that need it ask; what is not on Linode asks nobody."""
    network = context.model.network if context.model else None
    context.dials = True
    if not network or not network.profile.dcid:
        return
    from floatip.linode import metadata, token  # noqa: PLC0415

    context.metadata = metadata.ask
    if not any(os.environ.get(name) for name in token.VARIABLES):
        return
    context.shares = _shares


def _shares(linode_id: int) -> Shares:
    """Raises Refusal."""
    from floatip.linode import api, token  # noqa: PLC0415

    return api.Account(token.find(None), patience=PATIENCE).shares(linode_id)


def as_data(findings: list[Finding]) -> dict[str, object]:
    """As docs/reference/doctor.md has it."""
    counts = Counter(finding.grade for finding in findings)
    return {
        "format": FORMAT,
        "version": floatip.__version__,
        "host": socket.gethostname(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "user": os.geteuid(),
        "counts": {grade.value: counts[grade] for grade in Grade},
        "findings": [asdict(finding) for finding in worst_first(findings)],
    }


def draw(findings: list[Finding], width: int, *, everything: bool = False) -> list[Line]:
    """Problems first; what is well is counted, or shown too with `everything`."""
    counts = Counter(finding.grade for finding in findings)
    lines: list[Line] = [_headline(counts)]
    shown_ones = [one for one in worst_first(findings) if one.grade is not Grade.WELL or everything]
    for alike in _grouped(shown_ones):
        lines += [[], *_drawn(alike, width)]
    if counts[Grade.WELL] and not everything:
        lines += [[], *under([], f"{counts[Grade.WELL]} things are well (floatip doctor --all names them)", width, DIM)]
    return lines


def _headline(counts: Counter[Grade]) -> Line:
    names = {Grade.PROBLEM: "problem", Grade.WARNING: "warning", Grade.UNSEEN: "thing not seen", Grade.NOTE: "note"}
    plural = {Grade.UNSEEN: "things not seen"}
    parts = []
    for grade, name in names.items():
        if count := counts[grade]:
            parts.append(f"{count} {name if count == 1 else plural.get(grade, name + 's')}")
    worst = next((grade for grade in (Grade.PROBLEM, Grade.WARNING, Grade.UNSEEN) if counts[grade]), None)
    said = ", ".join(parts) or "all is well"
    return [(f"{socket.gethostname()}  ", BOLD), (said, STYLES[worst] if worst else GOOD)]


def _grouped(findings: list[Finding]) -> list[list[Finding]]:
    """Those that say the same of different subjects, as of four route servers, are shown together."""
    groups: dict[object, list[Finding]] = {}
    for one in findings:
        parts = [one.grade, one.code, *(each.replace(one.subject, "") for each in (one.what, *one.evidence))]
        groups.setdefault(tuple(parts), []).append(one)
    return list(groups.values())


def _drawn(alike: list[Finding], width: int) -> list[Line]:
    finding, *more = alike
    word = WORDS.get(finding.grade, finding.grade.value)
    head: Line = [(f"{word:{INDENT}}", STYLES[finding.grade])]
    same = f"; the same for {', '.join(one.subject for one in more)}" if more else ""
    lines = under(head, f"{finding.what}{same} [{finding.code}]", width, indent=INDENT)
    hints = dict.fromkeys(one.hint for one in alike if one.hint)
    for label, texts in (("read: ", finding.evidence), ("hint: ", tuple(hints))):
        for number, text in enumerate(texts):
            before: Line = [(" " * INDENT, ""), (label if number == 0 else "      ", DIM)]
            lines += under(before, text, width, DIM if label == "read: " else "", indent=INDENT + 8)
    return lines
