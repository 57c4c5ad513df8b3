"""What was measured, one line a fault and one column a stack; printed when all tests have run."""

from collections import Counter
from dataclasses import dataclass, field

from floatip.text import aligned


@dataclass
class Table:
    columns: tuple[str, ...]
    rows: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def add(self, fault: str, stack: str, text: str) -> None:
        self.rows.setdefault(fault, {}).setdefault(stack, []).append(text)

    def __str__(self) -> str:
        lines: list[tuple[str, ...]] = [("fault on the master", *self.columns)]
        for fault, cells in self.rows.items():
            lines.append((fault, *(_cell(cells.get(name, ["-"])) for name in self.columns)))
        return "\n".join(aligned(lines))


def _cell(texts: list[str]) -> str:
    return "; ".join(text if times == 1 else f"{times} times {text}" for text, times in Counter(texts).items())


TABLE = Table(("the guide's stack", "floatip beside keepalived"))
VLAN_TABLE = Table(("keepalived alone", "floatip alone"))
NODES_TABLE = Table(("floatip's nodes",))
