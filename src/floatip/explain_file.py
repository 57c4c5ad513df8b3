"""`floatip explain FILE`: what each line of a keepalived.conf means to floatip."""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from floatip import reading
from floatip.reading import keepalived
from floatip.reading.keepalived import NotUnderstood, Statement
from floatip.reading.keepalived.front_end import refused
from floatip.reading.keepalived.keywords import LINES, of_block
from floatip.text import folded, printable, show

WORDS = {"done": "", "accepted": "no effect: ", "warning": "not done: ", "error": "refused: "}
NUMBER, STEP = 6, 2
"""Columns of the number of a line, and of each block around it."""


def explain(file: Path) -> int:
    """The exit status."""
    try:
        conf = keepalived.read(file, strict=False)
    except NotUnderstood as error:
        show(reading.render(refused(error.errors).errors, []))
        return 2
    width = shutil.get_terminal_size().columns
    print(
        "\n".join(line for text, indent in _lines(conf.statements) for line in folded(printable(text), width, indent))
    )
    print(f"\nWhat is wrong with it, and what floatip makes of it: floatip check {printable(str(file))}")
    return 0


def _lines(statements: Iterable[Statement]) -> Iterator[tuple[str, int]]:
    """Each with the column where what does not fit goes on."""
    file: Path | None = None
    for statement, block, depth in _walk(statements):
        if statement.place.file != file:
            file = statement.place.file
            yield str(file), NUMBER
        indent = NUMBER + STEP * depth
        yield f"{statement.place.line:{NUMBER - STEP}}{'':{STEP * (depth + 1)}}{statement}", indent + 2 * STEP
        keyword = of_block(block).get(statement.keyword)
        if keyword:
            yield f"{'':{indent + STEP}}{WORDS[keyword.effect]}{keyword.note}", indent + STEP
        elif block not in LINES and of_block(block):
            yield f"{'':{indent + STEP}}no effect: neither keepalived nor floatip knows this word", indent + STEP


def _walk(statements: Iterable[Statement], block: str = "", depth: int = 0) -> Iterator[tuple[Statement, str, int]]:
    for statement in statements:
        yield statement, block, depth
        yield from _walk(statement.block or (), statement.keyword, depth + 1)
