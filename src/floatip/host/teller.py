"""Tells commands and FIFOs of changes, as keepalived's `notify` keywords ask for it.

keepalived tells a removed instance DELETED if it has `notify_deleted`, and FAULT otherwise; of an instance that a
reload leaves as it was, it tells nothing. Priorities go to FIFOs only.
"""

import asyncio
from collections.abc import Callable, Mapping

from floatip.core.events import Event
from floatip.core.instance import Instance
from floatip.host.hooks import ROLES
from floatip.host.news import Item
from floatip.host.notify_commands import Change, Commands, Subject
from floatip.host.notify_fifo import Fifos
from floatip.model import Model

END_TIMEOUT = 5.0
"""Seconds in which the last commands must be through."""


class Teller:
    def __init__(self, report: Callable[[Event], None]) -> None:
        self._commands = Commands(report)
        self._fifos = Fifos(report)
        self._model = Model()
        self._subjects: set[Subject] = set()
        self._last: dict[Subject, Change] = {}
        """The last state that was told."""

    @property
    def dropped(self) -> int:
        return self._commands.dropped + self._fifos.dropped

    @property
    def time_to_stop(self) -> float:
        """Seconds that `finish` may take."""
        return END_TIMEOUT if self._model.told or self._model.fifos else 0.0

    def configure(self, model: Model) -> None:
        subjects: set[Subject] = {("GROUP", group.name) for group in model.sync_groups}
        subjects |= {("INSTANCE", instance.name) for instance in model.instances}
        for subject in self._subjects - subjects:
            self._remove(subject)
        self._model, self._subjects = model, subjects
        self._commands.configure(model.told)
        self._fifos.configure(model.fifos, [change.line for change in self._last.values()])

    def note(self, item: Item, instances: Mapping[str, Instance]) -> None:
        change = self._change(item, instances)
        if change and change.subject in self._subjects:
            self._tell_states(change)

    async def finish(self) -> None:
        await asyncio.gather(self._commands.finish(END_TIMEOUT), self._fifos.finish(END_TIMEOUT))

    def _change(self, item: Item, instances: Mapping[str, Instance]) -> Change | None:
        subject: Subject = ("GROUP" if item.what == "group" else "INSTANCE", item.name)
        last = self._last.get(subject)
        match item.what:
            case "role" if item.is_new:
                return Change(subject, ROLES[item.value], _priority(item, instances), item.reason, item.rank)
            case "group":
                return Change(subject, ROLES[item.value], 0, item.reason)
            case "advert" if item.value == "lower":
                return Change(subject, "MASTER_RX_LOWER_PRI", _priority(item, instances), item.reason)
            case "priority":
                if last and last.word in ("MASTER", "BACKUP") and item.name in self._model.tells_priorities:
                    return Change(subject, f"{last.word}_PRIORITY", int(item.value), item.reason)
        return None

    def _tell_states(self, change: Change) -> None:
        kind, name = change.subject
        if change.word == "STOP" and kind == "INSTANCE":
            for group in self._model.sync_groups:
                if name in group.members:
                    self._tell(Change(("GROUP", group.name), "STOP", 0, change.reason))
        self._tell(change)

    def _tell(self, change: Change) -> None:
        if change.word in ROLES.values():
            last = self._last.get(change.subject)
            if last and last.word == change.word:
                return
            self._last[change.subject] = change
        self._commands.tell(change)
        self._fifos.write(change.line)

    def _remove(self, subject: Subject) -> None:
        last = self._last.pop(subject, None)
        if last is None or subject[0] == "GROUP":
            return
        word = "DELETED" if self._commands.tells_deleted(subject) else "FAULT"
        if last.word != word:
            change = Change(subject, word, last.priority, "removed by a reload", is_removed=True)
            self._commands.tell(change)
            self._fifos.write(change.line)


def _priority(item: Item, instances: Mapping[str, Instance]) -> int:
    """The effective one, as it is now."""
    instance = instances.get(item.name)
    preference = instance.elector.preference if instance else None
    return preference[0] if preference else 0
