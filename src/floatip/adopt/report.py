"""What `floatip adopt` shows before it asks: what is here, what is unsafe, what will change. At most 80 columns."""

import textwrap
from collections.abc import Iterator, Sequence

from floatip.adopt.apply import FLOATIP, KEEPALIVED
from floatip.adopt.files import diff
from floatip.adopt.plan import TOML, Plan
from floatip.adopt.replace import Replacement
from floatip.adopt.setup import Setup, does_not_start, floating
from floatip.adopt.system import System
from floatip.reading.keepalived import Instance
from floatip.reading.keepalived.lint import Finding, lint
from floatip.text import printable

WIDTH = 80
UNWATCHED = "service-unwatched"


def wrapped(text: str, first: str = "", rest: str = "") -> str:
    """Lines of the terminal's width. Commands and paths are not broken."""
    lines = textwrap.wrap(
        printable(text),
        WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines)


def findings(system: System, setup: Setup) -> list[Finding]:
    """What floatip checks itself is not unwatched."""
    checks = "[[check]]" in system.text(TOML)
    return [finding for finding in lint(setup.conf, setup.facts) if not (checks and finding.code == UNWATCHED)]


def role(setup: Setup) -> str:
    if setup.idle:
        return f"This node has no role: {setup.idle}."
    if not setup.is_master:
        return "This node is BACKUP."
    if not setup.announcers:
        return "This node is MASTER."
    return (
        "This node is MASTER: adopt the backup first, or traffic is lost for seconds until floatip is connected. "
        "The backup is ready when its `floatip status` says BACKUP, held, announced."
    )


def what_is_here(setup: Setup) -> Iterator[str]:
    yield "1. What is here"
    state = f"runs (pid {setup.keepalived.pid})" if setup.keepalived.active else "does not run"
    yield wrapped(f"keepalived {state}, scripts run as {setup.script_user}", "   ", "   ")
    yield from (wrapped(str(file), "     ") for file in setup.conf.files)
    for instance in setup.conf.instances:
        yield from _instance(instance)
    for announcer in setup.announcers:
        kind = "primary" if announcer.flags.primary else "secondary" if announcer.flags.secondary else "no role"
        text = f"{announcer.unit} starts lelastic: dcid {announcer.flags.dcid or 'unknown'}, {kind}"
        yield wrapped(text, "   ", "     ")


def _instance(instance: Instance) -> Iterator[str]:
    yield wrapped(
        f"{instance.name}: vrid {instance.vrid} on {instance.interface}, priority {instance.priority}", "   ", "     "
    )
    for virtual in floating(instance):
        yield wrapped(f"{virtual.address} on {virtual.interface}", "     ")


def what_is_unsafe(found: Sequence[Finding], said: list[str]) -> Iterator[str]:
    """`said`: by `keepalived -t`."""
    yield "2. What is unsafe or does not work"
    if not found and not said:
        yield "   nothing"
    for number, finding in enumerate(found, 1):
        yield wrapped(f"{finding.severity}: {finding.place}", f"2.{number:<3}", "     ")
        yield wrapped(finding.what, "     ", "     ")
        yield wrapped(f"hint: {finding.hint}", "     ", "           ")
    if said:
        refuses = bool(does_not_start(said))
        head = "danger: keepalived does not start with this file; keepalived -t says:" if refuses else ""
        yield wrapped(head or "note: keepalived -t complains of this file:", f"2.{len(found) + 1:<3}", "     ")
        yield from (wrapped(line, "       ", "       ") for line in said)


def in_which_order(planned: Replacement) -> Iterator[str]:
    """Of both nodes."""
    names = ", ".join(planned.masters)
    yield wrapped(f"This node is MASTER of {names}." if names else "This node is BACKUP, or keepalived does not run.")
    stop = " && ".join(f"systemctl stop {unit.removesuffix('.service')}" for unit in (*planned.announcers, KEEPALIVED))
    steps = ["On the backup: floatip adopt --replace. It goes on when floatip hears the master."]
    if planned.announcers:
        steps.append(f"On the master: {stop}. Wait until the other node's floatip status says MASTER.")
        steps.append("There: floatip adopt --replace.")
    else:
        steps.append("On the master: floatip adopt --replace --force. It lets the other node take over first.")
    yield "The order that loses least:"
    for number, step in enumerate(steps, 1):
        yield wrapped(step, f"  {number}. ", "     ")


def what_floatip_says(planned: Replacement) -> Iterator[str]:
    yield "2. What floatip check says of it, and what floatip does otherwise"
    if not planned.warnings and not planned.notes:
        yield "   nothing"
    hints = set[str]()
    for warning in planned.warnings:
        yield wrapped(warning.head, "   ", "     ")
        if warning.hint not in hints:
            yield wrapped(f"hint: {warning.hint}", "     ", "           ")
        hints.add(warning.hint)
    for note in planned.notes:
        yield wrapped(f"note: {note}", "   ", "     ")


def what_replacing_changes(planned: Replacement) -> Iterator[str]:
    yield "3. What will change"
    for number, change in enumerate(planned.changes, 1):
        same = change.before and change.after and change.before.content == change.after.content
        what = "can be read by group floatip" if same else "changes" if change.before else "is written"
        yield wrapped(f"{change.path} {what}", f"3.{number:<3}", "     ")
        yield from (f"     {printable(line)}" for line in diff(change))
    for number, unit in enumerate((*planned.announcers, KEEPALIVED), len(planned.changes) + 1):
        yield wrapped(f"{unit} is stopped and disabled, not removed", f"3.{number:<3}", "     ")
    yield wrapped(f"{FLOATIP} is enabled and started", f"3.{len(planned.changes) + len(planned.announcers) + 2:<3}")


def what_will_change(plan: Plan) -> Iterator[str]:
    yield "3. What will change"
    for number, change in enumerate(plan.changes, 1):
        what = "changes" if change.before else "is written"
        yield wrapped(f"{change.path} {what}", f"3.{number:<3}", "     ")
        yield from (f"     {printable(line)}" for line in diff(change))
    for number, unit in enumerate(plan.announcers, len(plan.changes) + 1):
        yield wrapped(f"{unit} is stopped and disabled, not removed", f"3.{number:<3}", "     ")
    for note in plan.notes:
        lines = note.split("\n")
        yield wrapped(f"note: {lines[0]}", "     ", "     ")
        yield from (wrapped(line, "       ", "       ") for line in lines[1:])
