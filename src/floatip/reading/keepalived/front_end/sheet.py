"""What the front end has written down so far: where each thing of the model stands, and what is wrong."""

from floatip.reading.keepalived.syntax import Place as Line
from floatip.reading.keepalived.syntax import Statement
from floatip.reading.place import (
    ConfigError,
    ConfigNote,
    ConfigWarning,
    MachineError,
    Place,
    Places,
    Problem,
    Thing,
)


class Sheet:
    def __init__(self, file: str) -> None:
        self._known: dict[Thing, tuple[Place, str]] = {(): (Place(file, 0), "")}
        self.places = Places(lambda thing: self._nearest(thing)[0], lambda thing: self._nearest(thing)[1])
        self.problems: list[Problem] = []

    def put(self, thing: Thing, statement: Statement, path: str) -> None:
        """`path`: what a person calls the thing."""
        self._known[thing] = Place(str(statement.place.file), statement.place.line), path
        self.places.given.add(thing)

    def error(self, at: Statement | Line, what: str, hint: str) -> None:
        self._add(ConfigError, at, what, hint)

    def on_machine(self, at: Statement | Line, what: str, hint: str) -> None:
        self._add(MachineError, at, what, hint)

    def warning(self, at: Statement | Line, what: str, hint: str) -> None:
        self._add(ConfigWarning, at, what, hint)

    def note(self, at: Statement | Line, what: str, hint: str) -> None:
        self._add(ConfigNote, at, what, hint)

    def _add(self, kind: type[Problem], at: Statement | Line, what: str, hint: str) -> None:
        line = at.place if isinstance(at, Statement) else at
        problem = kind(str(line.file), line.line, "", what, hint)
        if problem not in self.problems:
            self.problems.append(problem)

    def _nearest(self, thing: Thing) -> tuple[Place, str]:
        while thing not in self._known:
            thing = thing[:-1]
        return self._known[thing]
