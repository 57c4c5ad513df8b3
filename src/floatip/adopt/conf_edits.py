"""Edits of keepalived.conf by line numbers, so that comments and layout stay.

Where a statement does not stand on lines of its own there is no edit (None), and a person has to make it.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from floatip.reading.keepalived import Statement

CLOSING = re.compile(r"\s*\}\s*([!#].*)?")
CONDITION = re.compile(r"\s*@\S*\s+")


@dataclass(frozen=True, slots=True)
class Edit:
    file: Path
    first: int
    """From 1."""
    last: int
    """`first - 1`: nothing is taken away."""
    lines: tuple[str, ...] = ()


def apply(text: str, edits: Iterable[Edit]) -> str:
    lines = _lines(text)
    for edit in sorted(edits, key=lambda edit: (edit.first, edit.last), reverse=True):
        near = lines[min(edit.first, len(lines)) - 1] if lines else ""
        ending = "\r\n" if near.endswith("\r\n") else "\n"
        if edit.lines and 1 < edit.first == len(lines) + 1 and not near.endswith("\n"):
            lines[-1] += ending
        lines[edit.first - 1 : edit.last] = [line + ending for line in edit.lines]
    return "".join(lines)


def every(statements: Iterable[Statement]) -> Iterator[Statement]:
    for statement in statements:
        yield statement
        yield from every(statement.block or ())


def without(text: str, statement: Statement, everything: Iterable[Statement]) -> Edit | None:
    line = _line(text, statement.place.line)
    on_it = [other for other in everything if other.place == statement.place]
    begins = CONDITION.sub("", line, count=1).lstrip().startswith(statement.keyword)
    alone = begins and len(on_it) == 1 and not re.search(r"[{}]", line)
    return Edit(statement.place.file, statement.place.line, statement.place.line) if alone else None


def definition(text: str, statement: Statement) -> str:
    """The `$NAME` that the statement comes from; empty: it stands there itself."""
    line = CONDITION.sub("", _line(text, statement.place.line), count=1).lstrip()
    return line.split()[0] if line.startswith("$") else ""


def moved(text: str, statement: Statement, interface: str) -> Edit | None:
    """`dev lo` becomes `dev eth0`."""
    new, count = re.subn(r"(?<=\bdev)(\s+)lo\b", rf"\g<1>{interface}", _line(text, statement.place.line))
    return Edit(statement.place.file, statement.place.line, statement.place.line, (new,)) if count == 1 else None


def last_in(text: str, block: Statement, line: str) -> Edit | None:
    """`line` as the last of the block."""
    closing = _line(text, block.end_line)
    if block.end_line <= block.place.line or not CLOSING.fullmatch(closing):
        return None
    inside = [child for child in block.block or () if child.place.file == block.place.file]
    model = _line(text, inside[-1].place.line) if inside else f"    {closing}"
    indent = model[: len(model) - len(model.lstrip())]
    return Edit(block.place.file, block.end_line, block.end_line - 1, (indent + line,))


def tree(statements: Iterable[Statement], words: Callable[[Statement], tuple[str, ...] | None]) -> tuple[Any, ...]:
    """What they say, wherever it stands; `words` of a statement that does not count are None."""
    found = []
    for statement in statements:
        inner = None if statement.block is None else tree(statement.block, words)
        said = words(statement)
        if said and (inner or statement.keyword != "global_defs"):
            found.append((said, inner))
    return tuple(found)


def _lines(text: str) -> list[str]:
    """Not splitlines: keepalived ends lines at a line feed only."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _line(text: str, number: int) -> str:
    return _lines(text)[number - 1].rstrip("\r\n")
