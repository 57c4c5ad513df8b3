"""Lines for a terminal, with a style for each part, so that one drawing serves a terminal, a pipe and `rich`.

The few styles are written here: importing `rich` takes longer than everything else that `floatip status` does.
"""

import os
import re
import sys
import textwrap
from collections.abc import Iterable
from typing import TextIO

from floatip.text import FILLER, cells, printable, spaced

Part = tuple[str, str]
"""A text and its style; no style: as usual."""
Line = list[Part]
GOOD, WARN, BAD, BOLD, DIM = "green", "yellow", "bold red", "bold", "dim"
"""As `rich` names them."""
CODES = {GOOD: "32", WARN: "33", BAD: "1;31", BOLD: "1", DIM: "2"}
"""ECMA-48 section 8.3.117, SGR."""
MIN_COLUMN = 20
UNIT = r"(?<=\d) (?=(s|min|h|d)\b)"
"""The space between a number and its unit: no line ends there."""


def under(head: Line, text: str, width: int, style: str = "", indent: int | None = None) -> list[Line]:
    """The text behind the head, in at most `width` columns, and what follows below it.

    `indent`: where it goes on; where there is no room beside the head, it stands below. The head is printable.
    """
    at = sum(cells(part) for part, _ in head)
    text, indent = printable(text), at if indent is None else indent
    if not text:
        return [_trimmed(head)]
    if width - indent < MIN_COLUMN:
        indent = min(4, at)
    if width - at < min(MIN_COLUMN, cells(text)):
        return [_trimmed(head), *([(line, style)] for line in _wrapped(text, width, indent, indent))]
    first, *rest = _wrapped(text, width, at, indent) or [""]
    return [[*head, (first[at:], style)], *([(line, style)] for line in rest)]


def _wrapped(text: str, width: int, first: int, indent: int) -> list[str]:
    lines = textwrap.wrap(
        re.sub(UNIT, "\0", spaced(text)),
        width - (not text.isascii()),  # a line may end between a character and its filler
        initial_indent=" " * first,
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
    )
    return [line.replace("\0", " ").replace(FILLER, "") for line in lines]


def _trimmed(line: Line) -> Line:
    *before, (text, style) = line
    return [*before, (text.rstrip(), style)]


def plain(lines: Iterable[Line]) -> str:
    return "\n".join("".join(text for text, _ in line).rstrip() for line in lines)


def coloured(lines: Iterable[Line]) -> str:
    return "\n".join("".join(_coded(*part) for part in line) for line in lines)


def _coded(text: str, style: str) -> str:
    return f"\033[{CODES[style]}m{text}\033[0m" if style and text else text


def has_colour(stream: TextIO | None) -> bool:
    """No colour where nobody sees it, or nobody wants it (no-color.org)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def is_terminal(stream: TextIO | None) -> bool:
    """One that can do more than print line after line. None: it is closed."""
    return stream is not None and stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "")


def shown(lines: Iterable[Line]) -> str:
    return coloured(lines) if has_colour(sys.stdout) else plain(lines)
