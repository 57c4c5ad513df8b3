"""Text for a terminal: columns and ages."""

import os
import sys
import textwrap
from collections.abc import Sequence
from contextlib import suppress

HINT = "  hint: "
MIN_COLUMN = 20
FILLER = "\1"
MINUTE, HOUR, DAY = 60, 3600, 86400


def printable(text: str) -> str:
    """A line. Others chose names and contents of files: nothing in them reaches a terminal as a command to it."""
    if text.isprintable():
        return text
    keep = (char if char.isprintable() or char == "\t" else char.encode("unicode_escape").decode() for char in text)
    return "".join(keep)


def cells(text: str) -> int:
    """Columns of a terminal: ideographs and the like take two."""
    return len(text) if text.isascii() else len(spaced(text))


def spaced(text: str) -> str:
    """With a filler behind each character that takes two columns, so that `len` counts columns. `printable` lets no
    such filler through.
    """
    if text.isascii():
        return text
    from unicodedata import east_asian_width  # noqa: PLC0415

    return "".join(f"{char}{FILLER}" if east_asian_width(char) in "WF" else char for char in text)


def padded(text: str, width: int) -> str:
    return text + " " * (width - cells(text))


def say(text: str) -> None:
    """On stderr. What explains it stands above it, also in a pipe."""
    if sys.stdout:
        sys.stdout.flush()
    print("\n".join(map(printable, text.split("\n"))), file=sys.stderr, flush=True)


def aligned(rows: Sequence[tuple[str, ...]], width: int | None = None) -> list[str]:
    """Columns; with `width`, the last one is folded under itself."""
    widths = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    left = sum(widths[:-1]) + 2 * (len(widths) - 1)
    lines = []
    for row in rows:
        line = "  ".join(padded(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()
        lines += folded(line, width, left) if width else [line]
    return lines


def folded(line: str, width: int, indent: int) -> list[str]:
    """The line in at most `width` columns where its words, and the indent of what follows, allow that."""
    if cells(line) <= width or width <= indent + MIN_COLUMN:
        return [line]
    width -= not line.isascii()  # a line may end between a character and its filler
    line = spaced(line)
    head, rest = line[:indent], line[indent:]
    lines = textwrap.wrap(rest, width - indent, break_long_words=not line.isascii(), break_on_hyphens=False)
    return [each.replace(FILLER, "") for each in (head + lines[0], *(" " * indent + each for each in lines[1:]))]


def show(text: str, indent: int = 4) -> None:
    """On stdout. Long lines are folded; what belongs to a line stands below it, indented."""
    width = terminal_width()
    for line in text.split("\n"):
        for part in folded(line, width, len(HINT) if line.startswith(HINT) else indent):
            print(part, flush=True)


def terminal_width() -> int:
    """Columns. In a pipe, and in the journal, a line may be as long as it is."""
    return columns() if sys.stdout and sys.stdout.isatty() else sys.maxsize


def columns() -> int:
    """Of the terminal; in a pipe 80, or as COLUMNS says. (To import `shutil` for this takes 4 ms.)"""
    with suppress(ValueError):
        if (said := int(os.environ.get("COLUMNS", "0"))) > 0:
            return said
    with suppress(OSError, ValueError):
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80 if sys.__stdout__ else 80
    return 80


def span(seconds: float) -> str:
    """In a sentence, in two units at most: 1 h 58 min, 45 s."""
    for unit, smaller, name, smaller_name in ((DAY, HOUR, "d", "h"), (HOUR, MINUTE, "h", "min")):
        if seconds >= unit:
            rest = int(seconds % unit // smaller)
            return f"{seconds // unit:.0f} {name}" + (f" {rest} {smaller_name}" if rest else "")
    return f"{seconds // MINUTE:.0f} min" if seconds >= MINUTE else f"{seconds:.0f} s"


def age(seconds: float) -> str:
    """Two units are enough: 3d 4h, 12m 5s, 0.4s."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    for unit, smaller, name, smaller_name in ((DAY, HOUR, "d", "h"), (HOUR, MINUTE, "h", "m"), (MINUTE, 1, "m", "s")):
        if seconds >= unit:
            return f"{seconds // unit:.0f}{name} {seconds % unit // smaller:.0f}{smaller_name}"
    return f"{seconds:.0f}s"
