"""Where each thing of the model was read from, and what is wrong there, as a `Problem`."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple, TypeVar

from floatip.text import printable

Thing = tuple[str | int, ...]
"""A thing of the model, by keys and indices from its top, as in ("instance", 0, "vrrp", "peers", 1)."""
T = TypeVar("T")


class Place(NamedTuple):
    file: str
    line: int
    """0: the file as a whole."""


@dataclass(frozen=True, slots=True)
class Problem:
    file: str
    line: int
    """0: the file as a whole."""
    path: str
    what: str
    hint: str
    label: ClassVar[str] = ""

    @property
    def text(self) -> str:
        """Without the line of the file."""
        return f"{self.path}: {self.what}" if self.path else self.what

    @property
    def head(self) -> str:
        """Without the hint."""
        where = f"{self.file}:{self.line}" if self.line else self.file
        return printable(f"{where}: {self.label}{self.text}")

    def __str__(self) -> str:
        return f"{self.head}\n{printable(f'  hint: {self.hint}')}"


class ConfigError(Problem):
    """The file cannot be used as it is."""


class MachineError(ConfigError):
    """This machine is not as the file needs it now, which may mend without a change to the file."""


class ConfigWarning(Problem):
    """The file can be used; it may not do what is wanted."""

    label = "warning: "


class ConfigNote(ConfigWarning):
    """Good to know; nothing needs to change."""

    label = "note: "


def as_warning(problem: Problem) -> ConfigWarning:
    return ConfigWarning(problem.file, problem.line, problem.path, problem.what, problem.hint)


class ConfigErrors(Exception):
    """All that is wrong with one file."""

    def __init__(self, errors: list[ConfigError], warnings: list[ConfigWarning] | None = None) -> None:
        super().__init__("\n".join(map(str, errors)))
        self.errors = errors
        self.warnings = warnings or []

    @property
    def may_mend(self) -> bool:
        """Whether the same file may be accepted later."""
        return all(isinstance(error, MachineError) for error in self.errors)


@dataclass(slots=True)
class Places:
    """Kept by a reader. What was refused is absent from the model, and known here."""

    place: Callable[[Thing], Place]
    """Of the thing, or of the nearest that it is part of."""
    path: Callable[[Thing], str]
    """As a person says it: `instance "VI_1" vrrp.priority`."""
    given: set[Thing] = field(default_factory=set)
    """The keys that the file has, accepted or not."""
    spoiled: set[Thing] = field(default_factory=set)
    """What was refused or is missing, and what that is part of."""
    kept: dict[Thing, list[int]] = field(default_factory=dict)
    """For a list with refused items: where the others stood in the file."""
    files: dict[Thing, Path] = field(default_factory=dict)
    """Where a key names a file in place of its value."""
    is_keepaliveds: bool = False
    """The file is a keepalived.conf, and hints name its keywords."""

    def either(self, ours: str, keepaliveds: str) -> str:
        """For a hint, in the words of the file."""
        return keepaliveds if self.is_keepaliveds else ours

    def error(self, thing: Thing, what: str, hint: str) -> ConfigError:
        return ConfigError(*self.place(thing), self.path(thing), what, hint)

    def on_machine(self, thing: Thing, what: str, hint: str) -> MachineError:
        return MachineError(*self.place(thing), self.path(thing), what, hint)

    def warning(self, thing: Thing, what: str, hint: str) -> ConfigWarning:
        return ConfigWarning(*self.place(thing), self.path(thing), what, hint)

    def each(self, thing: Thing, items: Iterable[T]) -> Iterator[tuple[Thing, T]]:
        """The items of a list, each with its place."""
        kept = self.kept.get(thing)
        for index, item in enumerate(items):
            yield (*thing, kept[index] if kept else index), item

    def spoil(self, thing: Thing) -> None:
        self.spoiled.update(thing[:length] for length in range(len(thing) + 1))

    def is_whole(self, thing: Thing) -> bool:
        return thing not in self.spoiled
