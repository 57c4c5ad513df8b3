"""Walks a document along the tables of `tables.py`. What is refused is named with its place and left out."""

import json
from collections.abc import Iterator
from typing import Any

from floatip.reading.place import Places, Problem, Thing
from floatip.reading.toml.document import Document
from floatip.reading.toml.tables import KEEPALIVEDS, WHERE, Items, Kind, Short, Table
from floatip.reading.toml.values import KEY, NotNow, Wrong
from floatip.reading.words import closest, shown

REFUSED: Any = object()


class Walk:
    def __init__(self, document: Document) -> None:
        self.places = Places(document.place, document.path)
        self.problems: list[Problem] = []

    def table(self, table: Table, data: dict[str, Any], at: Thing) -> dict[str, Any]:
        """The values that are accepted, by key; of the keys that must be there, something always."""
        read: dict[str, Any] = {}
        meant: set[str] = set()
        for key, value in data.items():
            self.places.given.add((*at, key))
            if key in table.keys:
                read[key] = self._value(table.keys[key].kind, value, (*at, key))
            else:
                meant.add(self._unknown(table, key, at))
        read = {key: value for key, value in read.items() if value is not REFUSED}
        for name, known in table.keys.items():
            if known.example is not None and name not in read:
                read[name] = known.absent
                self.places.spoil((*at, name))
                if name not in data and name not in meant:
                    example = f"add it, for example {name} = {json.dumps(known.example)}"
                    self.problems.append(self.places.error((*at, name), "missing", example))
        self.problems += self._exclusive(table, data, at)
        return read

    def _value(self, kind: Kind, value: Any, at: Thing) -> Any:
        match kind:
            case Short(_, table) if isinstance(value, dict):
                read = self.table(table, value, at)
                return read if self.places.is_whole((*at, next(iter(table.keys)))) else REFUSED
            case Short():
                return self._value(kind.value, value, at)
            case Table() if isinstance(value, dict):
                return self.table(kind, value, at)
            case Table():
                for key in kind.keys:
                    self.places.spoil((*at, key))
                if value and isinstance(value, list) and isinstance(value[0], dict):
                    header = ".".join(key for key in at if isinstance(key, str))
                    hint = f"write the header with one pair of brackets: [{header}]"
                    return self._refuse(at, "a list of tables, where one table belongs", hint)
                hint = "write a table: in braces, { key = value }, or below a [header]"
                return self._refuse(at, f"{shown(value)} is not a table", hint)
            case Items():
                return self._items(kind, value, at)
        try:
            return kind(value)
        except Wrong as wrong:
            is_machines = isinstance(wrong, NotNow)
            return self._refuse(at, wrong.what, wrong.hint.replace(KEY, str(at[-1])), is_machines=is_machines)

    def _items(self, items: Items, value: Any, at: Thing) -> Any:
        if not isinstance(value, list) and isinstance(items.kind, Table):
            header = f"write the header with two brackets: [[{at[-1]}]]"
            hint = header if len(at) == 1 else f"write a list, also of one: {at[-1]} = [{{ ... }}]"
            return self._refuse(at, "not a list of tables", hint)
        if not isinstance(value, list):
            return self._refuse(at, f"{shown(value)} is not a list", f"write a list: [{shown(value)}]")
        if len(value) < items.least:
            return self._refuse(at, "the list is empty", "name at least one")
        if len(value) > items.most:
            return self._refuse(at, f"{len(value)} are more than {items.most}", items.why_most)
        read = [self._value(items.kind, item, (*at, index)) for index, item in enumerate(value)]
        kept = [index for index, item in enumerate(read) if item is not REFUSED]
        if len(kept) < len(read):
            self.places.kept[at] = kept
        return tuple(read[index] for index in kept)

    def _refuse(self, at: Thing, what: str, hint: str, *, is_machines: bool = False) -> Any:
        self.places.spoil(at)
        refused = self.places.on_machine if is_machines else self.places.error
        self.problems.append(refused(at, what, hint))
        return REFUSED

    def _unknown(self, table: Table, key: str, at: Thing) -> str:
        """Which key was meant, if that can be told; else nothing."""
        plain = key.removeprefix("notify_").removeprefix("garp_")
        meant, remark = ("", f"write {plain}") if plain in table.keys else KEEPALIVEDS.get(key, ("", ""))
        hint = f"keepalived's {key} is {meant}{remark} here" if meant else remark
        if meant and meant not in table.keys:
            hint += f", in {WHERE[meant]}"
        elif not hint and len(at) < 3 and key in WHERE and at[:1] != ("check",):
            hint = f"move it into {WHERE[key]}"
        elif not hint:
            meant = closest(key, table.keys)
            hint = f'did you mean "{meant}"?' if meant else f"the keys here are {', '.join(table.keys)}"
        self._refuse((*at, key), "unknown key", hint)
        if meant in table.keys:
            self.places.spoil((*at, meant))
        return meant

    def _exclusive(self, table: Table, data: dict[str, Any], at: Thing) -> Iterator[Problem]:
        if table.exactly_one and not any(key in data for key in table.exactly_one):
            *first, last = table.exactly_one
            yield self.places.error(at, f"has no {', '.join(first)} or {last}", "give exactly one of them")
        for keys in (table.exactly_one, *table.at_most_one):
            given = [key for key in keys if key in data]
            for key in given[1:]:
                what, hint = f"cannot stand beside {given[0]}", f"keep one of {' and '.join(given)}"
                yield self.places.error((*at, key), what, hint)
