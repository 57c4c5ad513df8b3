"""Planted bugs. Each kind of fault that was ever found here is planted again, in the list of its room."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    bug: str
    file: str
    old: str
    new: str
    test: str = ""
    """The narrowest one that must fail, below `tests/`. Empty: a story of the simulation, or else a storm."""
