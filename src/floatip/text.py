"""Text for a terminal: columns and ages."""

from collections.abc import Sequence

MINUTE, HOUR, DAY = 60, 3600, 86400


def aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def age(seconds: float) -> str:
    """Two units are enough: 3d 4h, 12m 5s, 0.4s."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    for unit, smaller, name, smaller_name in ((DAY, HOUR, "d", "h"), (HOUR, MINUTE, "h", "m"), (MINUTE, 1, "m", "s")):
        if seconds >= unit:
            return f"{seconds // unit:.0f}{name} {seconds % unit // smaller:.0f}{smaller_name}"
    return f"{seconds:.0f}s"
