"""What a rule finds."""

from dataclasses import dataclass
from typing import Literal

from floatip.reading.keepalived import Place

Severity = Literal["danger", "wrong", "note"]
"""It loses traffic or gives away root; it does not do what is written; good to know."""
SEVERITIES: tuple[Severity, ...] = ("danger", "wrong", "note")


@dataclass(frozen=True, slots=True)
class Finding:
    code: str
    """Which rule it is; what code may ask for."""
    severity: Severity
    place: Place
    what: str
    hint: str
    """What to do. It may contain names that others chose: make it printable before you show it."""
