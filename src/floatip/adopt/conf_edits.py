"""keepalived.conf, edited by line numbers, so that comments and layout stay."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from floatip.reading.keepalived import Statement

CLOSING = re.compile(r"\s*\}\s*([!#].*)?")
CONDITION = re.compile(r"\s*@\S*\s+")


class ConfText:
    """The text of one file. Whatever is edited, its lines keep the numbers that they had."""

    def __init__(self, text: str) -> None:
        # Not splitlines: keepalived ends lines at a line feed only.
        self.lines: list[str] = re.findall(r"[^\n]*\n|[^\n]+", text)
        self.original = tuple(self.lines)
        self.ending = "\r\n" if text.partition("\n")[0].endswith("\r") else "\n"

    def __str__(self) -> str:
        return "".join(self.lines)

    def line(self, number: int) -> str:
        return self.original[number - 1].rstrip("\r\n")

    def remove(self, number: int) -> None:
        self.lines[number - 1] = ""

    def insert(self, number: int, *new: str) -> None:
        """Before the line of this number, or behind the last one."""
        if number > len(self.lines):
            if self.lines and not self.lines[-1].endswith("\n"):
                self.lines[-1] += self.ending
            self.lines.append("")
        self.lines[number - 1] = "".join(line + self.ending for line in new) + self.lines[number - 1]

    def has_alone(self, statement: Statement, everything: Iterable[Statement]) -> bool:
        """Whether the statement stands on a line of its own, and not in a definition, so that the line can go."""
        line = self.line(statement.place.line)
        on_it = [other for other in everything if other.place == statement.place]
        begins = CONDITION.sub("", line, count=1).lstrip().startswith(statement.keyword)
        return begins and len(on_it) == 1 and not re.search(r"[{}]", line)

    def append_to(self, block: Statement, line: str) -> bool:
        """As the last line of a block. False: its closing brace does not stand on a line of its own."""
        closing = self.line(block.end_line)
        if block.end_line <= block.place.line or not CLOSING.fullmatch(closing):
            return False
        inside = [child for child in block.block or () if child.place.file == block.place.file]
        model = self.line(inside[-1].place.line) if inside else f"    {closing}"
        self.insert(block.end_line, model[: len(model) - len(model.lstrip())] + line)
        return True


def every(statements: Iterable[Statement]) -> Iterator[Statement]:
    for statement in statements:
        yield statement
        yield from every(statement.block or ())


def tree(statements: Iterable[Statement], counts: Callable[[Statement], bool]) -> tuple[Any, ...]:
    """What they say, wherever it stands."""
    found = []
    for statement in filter(counts, statements):
        inner = None if statement.block is None else tree(statement.block, counts)
        if inner or statement.keyword != "global_defs":
            found.append((statement.words, inner))
    return tuple(found)
