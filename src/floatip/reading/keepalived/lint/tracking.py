"""What decides about the health of an instance: ignored checks, weights, slow checks, services that nothing watches."""

import re
from collections.abc import Iterator

from floatip.reading.keepalived import Group, Instance, KeepalivedConf, Script
from floatip.reading.keepalived.lint.facts import Finding, MachineFacts, Severity, paths_of

SLOW = 5.0
"""Seconds."""
TRIVIAL = ("true", "false", "test", "[", "ls", "stat", "sh", "bash", "dash", "env")
REQUEST = re.compile(r"\b(curl|wget|nc|ncat|socat|openssl|ss|netstat|lsof|python3?|perl)\b|/dev/tcp/")
"""A script with one of these may well ask the service."""


def check(conf: KeepalivedConf, facts: MachineFacts) -> Iterator[Finding]:
    for owner in conf.owners:
        yield from _untold_stop(owner)
        yield from _ignored_checks(owner)
    for instance in conf.instances:
        yield from _weights(conf, instance)
    for script in conf.scripts:
        yield from _slowness(script)
    yield from unwatched_services(conf, facts)


def _untold_stop(owner: Instance | Group) -> Iterator[Finding]:
    told = {notify.event for notify in owner.notifies}
    if told & {"master", "backup", "fault"} and not told & {"stop", "any"}:
        what = f"{owner.statement}: no notify_stop: keepalived stops, the announcer goes on, traffic is lost"
        hint = "floatip watches keepalived itself; without it add notify_stop"
        yield Finding("no-notify-stop", "danger", owner.statement.place, what, hint)


def _ignored_checks(owner: Instance | Group) -> Iterator[Finding]:
    tracked = dict(owner.tracking.scripts)
    for line, why, hint in owner.tracking.ignored:
        severity: Severity = "note" if line.keyword in tracked else "danger"
        what = f"{owner.statement}: keepalived ignores '{line}' {why}"
        yield Finding("check-ignored", severity, line.place, what, hint)


def _weights(conf: KeepalivedConf, instance: Instance) -> Iterator[Finding]:
    groups = [group for group in conf.groups if instance.name in group.members]
    tracked = [(name, weight, bool(groups)) for name, weight in instance.tracking.scripts]
    tracked += [(name, weight, False) for group in groups for name, weight in group.tracking.scripts]
    for name, weight, is_ignored in tracked:
        if weight:
            severity, why, hint = _weighed(instance, weight, is_ignored=is_ignored)
            what = f"{instance.statement}: {name} weighs {weight:+d}: {why}"
            yield Finding("weight", severity, instance.statement.place, what, hint)


def _weighed(instance: Instance, weight: int, *, is_ignored: bool) -> tuple[Severity, str, str]:
    fault = "use no weight: then a failure is a fault, and the other node takes over"
    if is_ignored:
        return "wrong", "keepalived leaves out weighted checks of an instance in a sync group", "track it in the group"
    if not instance.preempt:
        return "wrong", "with nopreempt the other node leaves the failing master alone", fault
    lowered = max(1, instance.priority - abs(weight))
    why = f"a failure moves the address only if the other node's priority is above {lowered}"
    return "note", why, f"compare it there, or {fault}"


def _slowness(script: Script) -> Iterator[Finding]:
    longest = script.interval * script.fall
    if longest > SLOW:
        what = f"{script.statement}: a failure is noticed after {longest - script.interval:g} to {longest:g} s"
        hint = "use interval 1 and fall 2, or a check of floatip's"
        what += f" (interval {script.interval:g} s, fall {script.fall})"
        yield Finding("slow-check", "note", script.statement.place, what, hint)


def unwatched_services(conf: KeepalivedConf, facts: MachineFacts) -> Iterator[Finding]:
    """A check of a trigger file alone lets a node be master whose service is dead."""
    used = {name for owner in conf.owners for name, _ in owner.tracking.scripts}
    commands = [script.command for script in conf.scripts if script.name in used]
    texts = [
        " ".join(line.words) for block in conf.statements if "process" in block.keyword for line in block.block or ()
    ]
    for command in commands:
        seen = [(path, facts.files[path].text) for path in paths_of(command) if path in facts.files]
        if any(not text and path.name not in TRIVIAL for path, text in seen):
            return  # a program, of which nobody knows what it asks
        texts += [" ".join(command), *(text for _, text in seen)]
    code = "\n".join(line for text in texts for line in text.splitlines() if not line.lstrip().startswith("#"))
    if REQUEST.search(code):
        return
    for service in sorted(facts.services):
        if not re.search(rf"\b{service}\b", code):
            what = f"{service} runs here, and no check of keepalived's watches it"
            hint = f'add to floatip.toml: [[check]] name = "{service}", process = "{service}"'
            hint += f'; and to the instance: checks = ["{service}"]'
            yield Finding("service-unwatched", "danger", conf.place, what, hint)
