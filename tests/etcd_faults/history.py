"""What the daemons asked of etcd, as `tests.linearizable` takes it."""

import re
from math import inf
from pathlib import Path

from floatip.core import etcd
from floatip.core.etcd import Unknown
from tests.linearizable import Asked

LINE = re.compile(r"\((\d+), '(asked|answered)', (\d+), ([\d.e+]+)\) (.*)")
NAMES = {name: getattr(etcd, name) for name in dir(etcd) if isinstance(getattr(etcd, name), type)}


def read(files: list[Path]) -> list[Asked]:
    """A question without an answer: what came of it is unknown. A daemon that is killed leaves some."""
    open_questions: dict[tuple[str, str, str], tuple[object, float]] = {}
    found = list[Asked]()
    for file in files:
        for line in file.read_text().splitlines():
            if not (parts := LINE.fullmatch(line)):
                continue  # the last one of a daemon that was killed
            pid, kind, number, at, what = parts.groups()
            key = file.name, pid, number
            value = eval(what, {"__builtins__": {}}, NAMES)
            if kind == "asked":
                open_questions[key] = value, float(at)
            elif key in open_questions:
                question, began = open_questions.pop(key)
                found.append(Asked(f"{file.stem} {pid}", question, value, began, float(at)))  # type: ignore[arg-type]
    for (name, pid, _), (question, began) in open_questions.items():
        found.append(Asked(f"{Path(name).stem} {pid}", question, Unknown("killed"), began, inf))  # type: ignore[arg-type]
    return found
