"""What was tried with which implementation, and how it ended. What was not tried is never shown as passed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

Cell = tuple[str, str]
"""The implementation and the case."""


class Table:
    def __init__(self, implementations: Sequence[str], cases: Sequence[str], untested: Mapping[Cell, str]) -> None:
        self._implementations = implementations
        self._cases = cases
        self._untested = untested
        """Why."""
        self._results: dict[Cell, str] = {}

    @contextmanager
    def trial(self, implementation: str, case: str) -> Iterator[Callable[[str], None]]:
        """Failed until its end is reached; what the trial says beside that is printed with the result."""
        assert case in self._cases, case
        cell, notes = (implementation, case), list[str]()
        failed_before = self._results.get(cell) == "FAILED"
        self._results[cell] = "FAILED"
        yield notes.append
        if not failed_before:
            self._results[cell] = " ".join(["ok", *notes])

    @property
    def holes(self) -> list[Cell]:
        """Neither tried nor excused."""
        cells = [(implementation, case) for case in self._cases for implementation in self._implementations]
        return [cell for cell in cells if cell not in self._results and cell not in self._untested]

    def __str__(self) -> str:
        reasons = list(dict.fromkeys(self._untested.values()))
        rows = [["case", *self._implementations]]
        rows += [[case, *(self._text((each, case), reasons) for each in self._implementations)] for case in self._cases]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, *(f"({n}) {reason}" for n, reason in enumerate(reasons, 1))])

    def _text(self, cell: Cell, reasons: Sequence[str]) -> str:
        if cell in self._results:
            return self._results[cell]
        return f"not tested ({reasons.index(self._untested[cell]) + 1})" if cell in self._untested else "not tested"
