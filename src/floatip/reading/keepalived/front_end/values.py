"""The values of one block: which line counts, and a warning for each line that does not."""

import re
from collections.abc import Iterable
from typing import TypeVar

from floatip.reading.keepalived.front_end.sheet import Sheet
from floatip.reading.keepalived.keywords import Keyword, of_block
from floatip.reading.keepalived.syntax import Statement

SWITCH = dict.fromkeys(("", "on", "true", "yes"), True) | dict.fromkeys(("off", "false", "no"), False)
T = TypeVar("T")


class Values:
    def __init__(self, statements: Iterable[Statement], block: str, sheet: Sheet) -> None:
        self._statements = tuple(statements)
        self._keywords = of_block(block)
        self._sheet = sheet

    def number(self, name: str, default: float) -> float:
        """The last that is valid."""
        counts = default
        for statement in self.all(name):
            if (number := in_range(self._keywords[name], statement.argument())) is None:
                self._stays(statement, self._keywords[name], counts)
            else:
                counts = number
        return counts

    def whole(self, name: str, default: int) -> int:
        return int(self.number(name, default))

    def switch(self, name: str, default: bool) -> bool:
        counts = default
        for statement in self.all(name):
            if statement.argument() in SWITCH:
                counts = SWITCH[statement.argument()]
            else:
                on = "on" if counts else "off"
                what = f"{statement}: not on or off, so the line does not count, and {name} stays {on}"
                self._sheet.warning(statement, what, f"write {name} on, or {name} off")
        return counts

    def flag(self, name: str) -> bool:
        return any(True for _ in self.all(name))

    def choice(self, name: str, default: str) -> str:
        counts = default
        for statement in self.all(name):
            if statement.argument() in (known := self._keywords[name].value.split("|")):
                counts = statement.argument()
            else:
                what = f"{statement}: the line does not count, and {name} stays {counts}"
                self._sheet.warning(statement, what, f"write one of {', '.join(known)}")
        return counts

    def last(self, name: str) -> Statement | None:
        return next(reversed([*self.all(name)]), None)

    def all(self, name: str) -> Iterable[Statement]:
        return (statement for statement in self._statements if statement.keyword == name)

    def _stays(self, statement: Statement, keyword: Keyword, counts: float) -> None:
        if statement.argument() == f"{counts:g}":
            return
        what = f"{statement}: not a number from {keyword.numbers}, so the line does not count, and {counts:g} does"
        self._sheet.warning(statement, what, f"correct {keyword.name}")


def within(weight: int) -> int:
    """keepalived takes also a weight of 300 for what it is; no priority has room for more than this."""
    return max(-253, min(weight, 253))


def in_range(keyword: Keyword, text: str) -> float | None:
    low, high = keyword.range or (0, 0)
    form = r"[+-]?[0-9]{1,10}" if keyword.is_whole else r"\+?([0-9]{1,10}\.?[0-9]*|\.[0-9]+)"
    if not re.fullmatch(form, text) or not low <= (number := float(text)) <= high:
        return None
    return int(number) if keyword.is_whole else number
