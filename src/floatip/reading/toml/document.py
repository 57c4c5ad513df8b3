"""A TOML file as data in which each key knows its line. What is not TOML is refused.

Nothing that a file holds may stop a daemon that reloads it: size and depth are limited before anything is parsed.
"""

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from floatip.reading import regular
from floatip.reading.place import ConfigError, ConfigErrors, MachineError, Place, Thing
from floatip.reading.toml import advice
from floatip.reading.words import shown

LARGEST = 1 << 19
"""Octets; a tenth of that is read in a tenth of a second."""
MOST_DOTS = 64
"""In a line, outside of strings and comments. tomllib takes memory with the square of the parts of a key."""
QUOTED = re.compile(r"\"(?:\\.|[^\"\\])*+\"?|'[^']*+'?|#.*")
TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"""+|\'\'\'.*?\'\'\'+|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*|\n|[\[\]{}=,]|[^\s"\'#\[\]{}=,]+',
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Document:
    file: str
    data: dict[str, Any]
    lines: dict[Thing, int]
    """On which each table, key and item of a list begins."""
    mode: int = 0o600
    """Who may read the file."""
    elsewhere: Mapping[Thing, str] = field(default_factory=dict)
    """Another file for what stands there."""

    def place(self, thing: Thing) -> Place:
        others = (self.elsewhere.get(thing[:length]) for length in range(1, len(thing) + 1))
        return Place(next(filter(None, others), self.file), self.line(thing))

    def line(self, thing: Thing) -> int:
        while thing and thing not in self.lines:
            thing = thing[:-1]
        return self.lines.get(thing, 0)

    def path(self, thing: Thing) -> str:
        """As a person says it: `instance "VI_1" vrrp.priority`."""
        match thing:
            case ("check" | "instance" | "node" | "sync_group" | "fifo" as kind, int(index), *keys):
                table = self.data[kind][index]
                name = table.get("name") if isinstance(table, dict) else None
                table_name = f"{kind} {shown(name) if name else f'number {index + 1}'}"
                return f"{table_name} {_dotted(keys)}" if keys else table_name
            case keys:
                return _dotted(keys)


def _dotted(keys: Iterable[str | int]) -> str:
    return ".".join(key for key in keys if isinstance(key, str))


def read(file: str) -> Document:
    """Raises `ConfigErrors`."""
    try:
        with regular.looked_at(file) as descriptor:
            data, mode = regular.read_from(descriptor, LARGEST), os.fstat(descriptor).st_mode
    except OSError as error:
        raise unreadable(file, error) from None
    return parse(file, data, mode)


def unreadable(file: str, error: OSError) -> ConfigErrors:
    what = f"cannot be read: {error.strerror}"
    kind = MachineError if error.errno in advice.FOR_NOW else ConfigError
    return ConfigErrors([kind(file, 0, "", what, advice.unreadable(file, error.errno))])


def parse(file: str, data: bytes, mode: int = 0o600) -> Document:
    """Raises `ConfigErrors`."""

    def refused(line: int, what: str, hint: str) -> ConfigErrors:
        return ConfigErrors([ConfigError(file, line, "", what, hint)])

    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise refused(data.count(b"\n", 0, error.start) + 1, "not UTF-8", "save the file as UTF-8") from None
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > MOST_DOTS and QUOTED.sub("", line).count(".") > MOST_DOTS:
            raise refused(number, f"a key of more than {MOST_DOTS} parts", "remove the line: no table is that deep")
    try:
        return Document(file, tomllib.loads(text), locate(text), mode)
    except (RecursionError, MemoryError):
        raise refused(0, "not TOML: nested too deeply", "remove what is nested: no key needs it") from None
    except ValueError as error:  # not only TOMLDecodeError: a number of 5,000 digits
        raise refused(*advice.not_toml(text, str(error))) from None


def locate(text: str) -> dict[Thing, int]:
    """The lines of a text that `tomllib` has accepted; it keeps none."""
    lines: dict[Thing, int] = {}
    sizes: dict[Thing, int] = {}
    table: Thing = ()
    key: Thing = ()
    words: list[str] = []
    brackets = depth = items = 0
    is_value = in_item = False
    line = 1
    for match in TOKEN.finditer(f"{text}\n"):
        token = match[0]
        if token == "\n":
            if brackets and words:
                table = _table(_parts("".join(words)), sizes, is_list=brackets == 4)
                for length in range(1, len(table) + 1):
                    lines.setdefault(table[:length], line)
            if not depth or brackets:
                words, brackets, is_value, depth = [], 0, False, 0
            line += 1
        elif token[0] == "#":
            continue
        elif not is_value:
            if token in ("[", "]"):
                brackets += 1
            elif token == "=":
                parts = _parts("".join(words))
                key = (*table, *parts)
                for length in range(len(table) + 1, len(key) + 1):
                    lines.setdefault(key[:length], line)
                is_value, in_item, items = True, False, 0
            else:
                words.append(token)
        else:
            if depth == 1 and token not in ("]", ","):
                if not in_item:
                    lines[(*key, items)] = line
                    items += 1
                in_item = True
            elif depth == 1 and token == ",":
                in_item = False
            depth += (token in ("[", "{")) - (token in ("]", "}"))
            line += token.count("\n")
    return lines


def _parts(key: str) -> list[str]:
    if '"' not in key and "'" not in key:
        return key.split(".")
    parts: list[str] = []
    data: Any = tomllib.loads(f"{key}=0")
    while isinstance(data, dict):
        ((part, data),) = data.items()
        parts.append(part)
    return parts


def _table(parts: list[str], sizes: dict[Thing, int], *, is_list: bool) -> Thing:
    """Where the keys below a header belong; `sizes` counts the `[[tables]]` of each name so far."""
    table: Thing = ()
    for number, part in enumerate(parts, 1):
        table = (*table, part)
        if is_list and number == len(parts):
            sizes[table] = sizes.get(table, 0) + 1
        if table in sizes:
            table = (*table, sizes[table] - 1)
    return table
