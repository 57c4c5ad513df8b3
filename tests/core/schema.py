"""The JSON Schema of `floatip status --json` (draft 2020-12), made from the types of `core/state.py`, and its checker.

python -m tests.core.schema   writes docs/reference/status.schema.json
"""

import ast
import inspect
import json
import types
import typing
from dataclasses import fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from floatip.core.problems import Code, Severity
from floatip.core.state import Status

FILE = Path(__file__).parents[2] / "docs" / "reference" / "status.schema.json"
VALUES: dict[tuple[str, str], type[StrEnum]] = {("ProblemView", "severity"): Severity, ("ProblemView", "code"): Code}
NAMES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def schema() -> dict[str, Any]:
    kinds: dict[str, Any] = {}
    _define(Status, kinds)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "floatip status --json",
        "description": "Times are seconds. Later versions add members and codes: ignore what you do not know.",
        "$ref": "#/$defs/Status",
        "$defs": dict(sorted(kinds.items())),
    }


def text() -> str:
    return json.dumps(schema(), indent=2) + "\n"


def _define(kind: Any, kinds: dict[str, Any]) -> None:
    kinds[kind.__name__] = {}
    hints, told = typing.get_type_hints(kind), _docstrings(kind)
    members = {}
    for field in fields(kind):
        key = field.name.rstrip("_")
        member = _form(hints[field.name], kinds)
        if allowed := VALUES.get((kind.__name__, field.name)):
            member["enum"] = [value.value for value in allowed]
        if field.name in told:
            member["description"] = told[field.name]
        members[key] = member
    kinds[kind.__name__] = {"type": "object", "required": list(members), "properties": members}
    if about := told.get(""):
        kinds[kind.__name__]["description"] = about


def _form(kind: Any, kinds: dict[str, Any]) -> dict[str, Any]:
    arguments = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        return {"anyOf": [_form(each, kinds) for each in arguments]}
    if typing.get_origin(kind) is tuple:
        return {"type": "array", "items": _form(arguments[0], kinds)}
    if typing.get_origin(kind) is dict:
        return {"type": "object", "additionalProperties": _form(arguments[1], kinds)}
    if is_dataclass(kind):
        assert isinstance(kind, type)
        if kind.__name__ not in kinds:
            _define(kind, kinds)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    return {"type": NAMES[kind]}


def _docstrings(kind: type) -> dict[str, str]:
    """Of the class, and what stands below each of its fields."""
    (body,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(body, ast.ClassDef)
    told = {"": " ".join((ast.get_docstring(body) or "").split())}
    for field, below in zip(body.body, body.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(about))):
                told[name] = " ".join(about.split())
    return told


def faults(value: Any, form: dict[str, Any], whole: dict[str, Any], where: str = "$") -> list[str]:
    """Where the value is not as the schema has it. Knows the keywords that `schema` uses, and refuses others."""
    unknown = form.keys() - {"type", "required", "properties", "items", "additionalProperties", "anyOf", "enum", "$ref"}
    assert unknown <= {"description", "title", "$schema", "$defs"}, unknown
    found: list[str] = []
    if "$ref" in form:
        found += faults(value, whole["$defs"][form["$ref"].removeprefix("#/$defs/")], whole, where)
    if "anyOf" in form and all(faults(value, each, whole, where) for each in form["anyOf"]):
        found.append(f"{where}: {value!r} is none of {form['anyOf']}")
    if "type" in form and form["type"] not in _types(value):
        return [*found, f"{where}: {value!r} is no {form['type']}"]
    if "enum" in form and value not in form["enum"]:
        found.append(f"{where}: {value!r} is none of {form['enum']}")
    if isinstance(value, list) and "items" in form:
        found += [
            fault for n, each in enumerate(value) for fault in faults(each, form["items"], whole, f"{where}[{n}]")
        ]
    if isinstance(value, dict):
        members = form.get("properties", {})
        found += [f"{where}: has no {key}" for key in form.get("required", ()) if key not in value]
        for key, each in value.items():
            if inner := members.get(key, form.get("additionalProperties")):
                found += faults(each, inner, whole, f"{where}.{key}")
    return found


def _types(value: Any) -> set[str]:
    names = {NAMES.get(type(value), "array" if isinstance(value, list) else "object")}
    return names | {"number"} if "integer" in names or (isinstance(value, float) and value.is_integer()) else names


if __name__ == "__main__":
    FILE.write_text(text())
