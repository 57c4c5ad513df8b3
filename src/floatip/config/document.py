"""The file as data in which each key knows its line, and what can be wrong with it as a `Problem`.

It refuses what is not TOML; what a value may be is judged elsewhere.
"""

import copy
import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

Location = tuple[str | int, ...]
"""Keys and indices from the top of the document, as pydantic names them."""


@dataclass(frozen=True, slots=True)
class Problem:
    file: str
    line: int
    """0: the file as a whole."""
    path: str
    what: str
    hint: str
    label: ClassVar[str] = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.label}{f'{self.path}: ' if self.path else ''}{self.what}\n  hint: {self.hint}"


class ConfigError(Problem):
    """The file cannot be used as it is."""


class ConfigWarning(Problem):
    """The file can be used; it may not do what is wanted."""

    label = "warning: "


class ConfigErrors(Exception):
    """All that is wrong with one file."""

    def __init__(self, errors: list[ConfigError], warnings: list[ConfigWarning] | None = None) -> None:
        super().__init__("\n".join(map(str, errors)))
        self.errors = errors
        self.warnings = warnings or []


def shown(value: object) -> str:
    text = "a table" if isinstance(value, dict) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"


def closest(word: str, words: Iterable[str], otherwise: str) -> str:
    close = difflib.get_close_matches(word, list(words), 1)
    return f'did you mean "{close[0]}"?' if close else otherwise


@dataclass(frozen=True, slots=True)
class Document:
    """The file as data, and the line of each key that is written in it."""

    file: str
    data: dict[str, Any]
    lines: dict[Location, int]

    def error(self, location: Location, what: str, hint: str) -> ConfigError:
        return ConfigError(self.file, self.line(location), self.path(location), what, hint)

    def warning(self, location: Location, what: str, hint: str) -> ConfigWarning:
        return ConfigWarning(self.file, self.line(location), self.path(location), what, hint)

    def line(self, location: Location) -> int:
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)

    def path(self, location: Location) -> str:
        """As a person says it: `instance "VI_1" vrrp.priority`."""
        match location:
            case ("check" | "instance" as kind, int(index), *keys):
                table = self.data[kind][index]
                name = table.get("name") if isinstance(table, dict) else None
                table_name = f"{kind} {shown(name) if name else f'number {index + 1}'}"
                return f"{table_name} {_dotted(keys)}" if keys else table_name
            case keys:
                return _dotted(keys)

    def tables(self, kind: str) -> Iterator[tuple[Location, dict[str, Any]]]:
        for index, table in enumerate(self.data.get(kind, ())):
            if isinstance(table, dict):
                yield (kind, index), table

    def without(self, locations: Iterable[Location]) -> "Document":
        """Items of lists leave a None behind, so that the others keep their place."""
        data = copy.deepcopy(self.data)
        for location in locations:
            parent: Any = data
            for key in location[:-1]:
                parent = parent[key]
            if isinstance(parent, dict):
                parent.pop(location[-1], None)
            else:
                parent[location[-1]] = None
        return replace(self, data=data)


def _dotted(keys: Iterable[str | int]) -> str:
    return ".".join(key for key in keys if isinstance(key, str))


def read(file: str) -> Document:
    def refused(line: int, what: str, hint: str) -> ConfigErrors:
        return ConfigErrors([ConfigError(file, line, "", what, hint)])

    try:
        text = Path(file).read_text(encoding="utf-8")
        return Document(file, tomllib.loads(text), _locate(text))
    except OSError as error:
        raise refused(0, f"cannot be read: {error.strerror}", "give the path of a TOML file") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise refused(line, "not UTF-8", "save the file as UTF-8") from None
    except (ValueError, RecursionError) as error:  # not only TOMLDecodeError: a number of 5,000 digits, 1,000 brackets
        what, _, place = str(error).partition(" (at ")
        number = re.match(r"line (\d+)", place)
        line = int(number[1]) if number else len(text.splitlines())
        what = f"not TOML: {what[0].lower()}{what[1:]}"
        raise refused(line, what, 'a line is a key and a value, as in name = "VI_1", or a [table]') from None


def _locate(text: str) -> dict[Location, int]:
    """The line on which each table, key and list item begins; `tomllib`, which has accepted the text, keeps none.

    Lines are gathered until they parse by themselves, which makes one statement: a header, or a key and its value.
    """
    lines: dict[Location, int] = {}
    sizes: dict[Location, int] = {}
    table: Location = ()
    statement: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        statement.append(line)
        # What closes a value of many lines. Without this a long list would be parsed once for each of its lines.
        if len(statement) > 1 and not any(mark in line for mark in ("]", '"""', "'''")):
            continue
        try:
            data = tomllib.loads("\n".join(statement))
        except tomllib.TOMLDecodeError:
            continue
        if statement[0].lstrip().startswith("["):
            table = _table(data, sizes)
            locations = [table[:length] for length in range(1, len(table) + 1)]
        else:
            locations = list(_keys(table, data))
        for location in locations:
            lines.setdefault(location, number - len(statement) + 1)
        statement.clear()
    return lines


def _table(header: Any, sizes: dict[Location, int]) -> Location:
    """Where the keys below a header belong; `sizes` counts the `[[tables]]` of each name so far."""
    table: Location = ()
    while header:
        ((key, header),) = header.items()
        table = (*table, key)
        if isinstance(header, list):
            sizes[table] = sizes.get(table, 0) + 1
            header = header[0]
        if table in sizes:
            table = (*table, sizes[table] - 1)
    return table


def _keys(location: Location, value: Any) -> Iterator[Location]:
    yield location
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from _keys((*location, key), item)
