"""What was measured, one line a fault and one column a stack; printed when all tests have run."""

from collections import Counter
from dataclasses import dataclass, field

COLUMNS = ("the guide's stack", "floatip beside keepalived")


@dataclass
class Table:
    rows: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def add(self, fault: str, stack: str, text: str) -> None:
        self.rows.setdefault(fault, {}).setdefault(stack, []).append(text)

    def __str__(self) -> str:
        lines = [["fault on the master", *COLUMNS]]
        for fault, cells in self.rows.items():
            lines.append([fault, *(_cell(cells.get(name, ["-"])) for name in COLUMNS)])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        rows = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
        return "\n".join("  ".join(row).rstrip() for row in rows)


def _cell(texts: list[str]) -> str:
    return "; ".join(text if times == 1 else f"{times} times {text}" for text, times in Counter(texts).items())


TABLE = Table()
