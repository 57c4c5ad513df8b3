"""Writing floatip.toml, for `adopt` and `init`: in the order and the layout in which the documentation shows it."""

import json
from collections.abc import Iterable, Mapping

from floatip import reading
from floatip.reading.machine import Machine, daemons_user
from floatip.reading.toml.document import parse
from floatip.reading.toml.reader import model_of

Values = Mapping[str, object]


def table(header: str, values: Values, *comments: str) -> list[str]:
    """Its lines; none for a table without values."""
    lines = [*(f"# {comment}" for comment in comments), header]
    return ["", *lines, *(f"{key} = {_value(value)}" for key, value in values.items())] if values else []


def document(comment: Iterable[str], top: Values, tables: Iterable[list[str]]) -> str:
    lines = [f"# {line}" for line in comment]
    lines += [f"{key} = {_value(value)}" for key, value in top.items()]
    return "\n".join([*lines, *(line for one in tables for line in one)]) + "\n"


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key} = {_value(inner)}' for key, inner in value.items())} }}"
    return json.dumps(value, ensure_ascii=False, default=str)


def checked(text: str, machine: Machine | None = None) -> tuple[reading.ConfigWarning, ...]:
    """What `floatip check` warns of; on this machine, unless another is given. Raises `ConfigErrors`."""
    read = reading.Read(*model_of(parse("floatip.toml", text.encode(errors="surrogateescape"))))
    return reading.judged(read, daemons_user(), machine=machine).warnings
