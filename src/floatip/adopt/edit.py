"""Small edits of a text by line numbers, so that the comments and the layout of a user's file stay.

Where a statement does not stand on lines of its own there is no edit (None), and a person has to make it.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from floatip.keepalived_conf import Statement


@dataclass(frozen=True, slots=True)
class Edit:
    file: Path
    first: int
    """From 1."""
    last: int
    """`first - 1`: nothing is taken away."""
    lines: tuple[str, ...] = ()


def apply(text: str, edits: Iterable[Edit]) -> str:
    lines = text.splitlines(keepends=True)
    for edit in sorted(edits, key=lambda edit: (edit.first, edit.last), reverse=True):
        lines[edit.first - 1 : edit.last] = [f"{line}\n" for line in edit.lines]
    return "".join(lines)


def every(statements: Iterable[Statement]) -> Iterator[Statement]:
    for statement in statements:
        yield statement
        yield from every(statement.block or ())


def without(text: str, statement: Statement, everything: Iterable[Statement]) -> Edit | None:
    line = text.splitlines()[statement.place.line - 1].lstrip()
    on_it = [other for other in everything if other.place == statement.place]
    alone = line.startswith(statement.keyword) and len(on_it) == 1 and not re.search(r"[{}]", line)
    return Edit(statement.place.file, statement.place.line, statement.place.line) if alone else None


def moved(text: str, statement: Statement, interface: str) -> Edit | None:
    """`dev lo` becomes `dev eth0`."""
    line = text.splitlines()[statement.place.line - 1]
    new, count = re.subn(r"(?<=\bdev)(\s+)lo\b", rf"\g<1>{interface}", line)
    return Edit(statement.place.file, statement.place.line, statement.place.line, (new,)) if count == 1 else None


def last_in(text: str, block: Statement, line: str) -> Edit | None:
    """`line` as the last of the block."""
    lines = text.splitlines()
    closing = lines[block.end_line - 1]
    if block.end_line <= block.place.line or not closing.lstrip().startswith("}"):
        return None
    inside = [child for child in block.block or () if child.place.file == block.place.file]
    model = lines[inside[-1].place.line - 1] if inside else f"    {closing}"
    indent = model[: len(model) - len(model.lstrip())]
    return Edit(block.place.file, block.end_line, block.end_line - 1, (indent + line,))
