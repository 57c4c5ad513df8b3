"""What is tracked, as checks: programs, processes, files, interfaces."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal, cast

from floatip.core.settings import Track
from floatip.model import Check, File, Interface, Kind, Process, RunAs, Value, check
from floatip.model import Script as Program
from floatip.reading.keepalived import Group, Instance, KeepalivedConf
from floatip.reading.keepalived.front_end.settings import run_as
from floatip.reading.keepalived.front_end.sheet import Sheet
from floatip.reading.keepalived.front_end.values import Values, within
from floatip.reading.keepalived.lint.facts import in_path
from floatip.reading.keepalived.syntax import Statement, split
from floatip.reading.keepalived.vrrp import DEFINITIONS, Script, Tracked, TrackKind

LABELS: dict[TrackKind, str] = {
    "track_script": "script",
    "track_process": "process",
    "track_file": "file",
    "track_interface": "interface",
}


@dataclass(slots=True)
class Checks:
    conf: KeepalivedConf
    run_as: RunAs
    sheet: Sheet
    found: list[Check] = field(default_factory=list)
    _names: dict[tuple[TrackKind, str], str] = field(default_factory=dict)

    def of(
        self,
        owner: Instance | Group,
        *,
        own: str = "",
        is_owner: bool = False,
        is_grouped: bool = False,
        used: Mapping[str, Statement] = MappingProxyType({}),
    ) -> tuple[list[str], list[Track]]:
        """Names of the checks whose failure is a fault, and what else is tracked.

        `own`: the interface of the instance. `is_owner`: of priority 255, which never changes. `is_grouped`: in a sync
        group whose members have no weights of their own. `used`: other interfaces, with what needs them and is tracked:
        without one of them the instance is in FAULT, whatever weight it has elsewhere, as keepalived's is.
        """
        faults, tracks = list[str](), list[Track]()
        for one in owner.tracking.tracked:
            if one.kind == "track_interface" and one.name == own:
                self.sheet.note(one.statement, f"{one.name}: the state of {own} counts in any case", "remove the line")
                continue
            if one.kind == "track_interface" and one.name in used:
                if one.weight or one.reverse:
                    what = f"{one.statement}: {used[one.name]} needs {one.name}, so its failure is a fault"
                    self.sheet.warning(one.statement, what, f"remove the line, or write no_track: {used[one.name]}")
                continue
            weight: int | None = within(one.weight) if one.kind == "track_script" else one.weight
            if weight and (is_owner or is_grouped):
                weight = self._unweighted(one, owner, is_grouped=is_grouped)
            if weight is None or not (name := self._name(one)):
                continue
            if weight or one.reverse:
                tracks.append(Track(name, weight, one.reverse))
            else:
                faults.append(name)
        needed = [Tracked(statement, "track_interface", name, 0) for name, statement in used.items()]
        return faults + [self._name(one) for one in needed], tracks

    def _unweighted(self, one: Tracked, owner: Instance | Group, *, is_grouped: bool) -> int | None:
        """What keepalived makes of a weight that cannot count; None: the line does not count."""
        why = "priority 255 has no weights"
        hint = "use no weight: then a failure is a fault"
        if is_grouped:
            why = "weights of an instance in a sync group do not count"
            hint = "track it in the group, or write sync_group_tracking_weight into the group"
        is_fault = (one.kind == "track_interface" and is_grouped) or (one.kind == "track_file" and one.weight == 1)
        what = "a failure is a fault" if is_fault else "the line does not count"
        self.sheet.warning(
            one.statement, f"{owner.statement}: {one.name} weighs {one.weight:+d}, but {why}: {what}", hint
        )
        return 0 if is_fault else None

    def unused(self) -> Iterator[Statement]:
        """Definitions that nothing tracks."""
        for kind, definitions in DEFINITIONS.items():
            for statement in self.conf.statements:
                if statement.keyword in definitions and (kind, statement.argument()) not in self._names:
                    yield statement

    def _name(self, one: Tracked) -> str:
        """Of the check; it is made where it is tracked for the first time. Empty: it cannot be made."""
        key = one.kind, one.name
        if key not in self._names:
            taken = {known.name for known in self.found}
            name = one.name if one.kind != "track_interface" else f"interface {one.name}"
            name = f"{LABELS[one.kind]} {one.name}" if name in taken else name
            made, statement = self._made(one, name)
            self._names[key] = name if made else ""
            if made:
                self.sheet.put(("check", len(self.found)), statement, str(statement))
                self.found.append(made)
        return self._names[key]

    def _made(self, one: Tracked, name: str) -> tuple[Check | None, Statement]:
        if one.kind == "track_interface":
            return check(name, Interface(one.name)), one.statement
        if one.kind == "track_script":
            script = next(script for script in self.conf.scripts if script.name == one.name)
            return self._script(script, name), script.statement
        definitions = DEFINITIONS[one.kind]
        given = [each for each in self.conf.statements if each.keyword in definitions and each.argument() == one.name]
        statement = given[0]
        return (self._process if one.kind == "track_process" else self._file)(statement, name), statement

    def _script(self, script: Script, name: str) -> Check | None:
        statement, command = script.statement, script.command
        values = Values(statement.block or (), "vrrp_script", self.sheet)
        if not command:
            self.sheet.warning(statement, f"{statement}: no script, so the check does not count", 'add script "/path"')
            return None
        timing = {"rise": script.rise, "fall": script.fall, "interval": script.interval}
        if command[0].startswith("</"):
            return check(
                name,
                File(Path(command[0][1:]), "absent"),
                rise_delay=(script.rise - 1) * script.interval,
                fall_delay=(script.fall - 1) * script.interval,
            )
        user = values.last("user")
        kind = Program(resolved(command), run_as(user, 1, self.run_as) if user else self.run_as)
        initial = "down" if values.flag("init_fail") else "unknown"
        return check(name, kind, timeout=script.timeout or script.interval, initial=initial, **timing)

    def _process(self, statement: Statement, name: str) -> Check | None:
        values = Values(statement.block or (), "vrrp_track_process", self.sheet)
        given = next(iter(values.all("process")), None)
        if not given:
            self.sheet.warning(statement, f"{statement}: no process, so the check does not count", "add process NAME")
            return None
        match = values.last("param_match")
        words = given.words[1:]
        has_command = len(words) > 1 or values.flag("full_command") or match is not None
        kinds = {"initial": "initial", "partial": "partial"}
        param_match = kinds.get(match.argument(), "exact") if match else "exact"
        delay = values.number("delay", 0)
        most = values.whole("quorum_max", -1) if values.last("quorum_max") else -1
        kind: Kind = Process(
            Path(words[0]).name if has_command else words[0],
            quorum=values.whole("quorum", 1),
            quorum_max=most if most >= 0 else None,
            command=words if has_command else (),
            param_match=cast(Literal["exact", "initial", "partial"], param_match),
        )
        rise_delay, fall_delay = values.number("fork_delay", delay), values.number("terminate_delay", delay)
        return check(name, kind, rise_delay=rise_delay, fall_delay=fall_delay)

    def _file(self, statement: Statement, name: str) -> Check | None:
        values = Values(statement.block or (), statement.keyword, self.sheet)
        given = values.last("file")
        if not given:
            self.sheet.warning(statement, f"{statement}: no file, so the check does not count", 'add file "/path"')
            return None
        initial, overwrite = None, False
        if made := values.last("init_file"):
            initial, overwrite = 0, "overwrite" in made.words[1:]
            for word in made.words[1:]:
                with suppress(ValueError):
                    initial = int(word)
        return check(name, Value(Path(given.argument()), initial, overwrite))


def resolved(command: tuple[str, ...]) -> tuple[str, ...]:
    """With the path of the program where it has none."""
    found = next((path for path in in_path(command[0]) if path.is_file()), None)
    return (str(found), *command[1:]) if found else command


def command_of(text: str) -> tuple[str, ...]:
    words = split(text)
    return resolved(words) if words else ()
