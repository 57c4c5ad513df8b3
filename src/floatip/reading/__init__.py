"""A configuration file in, the model out: `load`. What is wrong is said all at once, each with its line and a hint.

A reader (`toml`) judges each value by itself and gives the model, and where each thing of it stands. The `rules` judge
the model as a whole and on this machine, whichever file it was read from. What may be wrong only for now, because the
machine can change, is a warning, or a `MachineError` where it is dangerous: the same file may be accepted later.
"""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from floatip.model import Here, Model
from floatip.reading import key
from floatip.reading.files import closed_above
from floatip.reading.machine import Machine, daemons_user, look_around
from floatip.reading.place import ConfigError, ConfigErrors, ConfigWarning, MachineError, Places, Problem
from floatip.reading.rights import user_id
from floatip.reading.rules import judge, nodes
from floatip.reading.toml import document, reader
from floatip.reading.toml.document import Document
from floatip.reading.will import will

__all__ = [
    "ConfigError",
    "ConfigErrors",
    "ConfigWarning",
    "Loaded",
    "MachineError",
    "Places",
    "Problem",
    "checked",
    "judged",
    "load",
    "render",
    "will",
]


class Loaded(NamedTuple):
    model: Model
    warnings: tuple[ConfigWarning, ...] = ()
    script_user: int | None = None
    """The number of keepalived's `script_user`; None: none is named, or there is no such user."""
    here: Here | None = None
    """Where nodes know each other."""


def load(path: str | Path, user: str = "") -> Loaded:
    """Raises `ConfigErrors`, and nothing else for anything that a file can hold.

    `user` runs the daemon, where root asks for it.
    """
    return judged(document.read(str(path)), user, Path(path))


def judged(text: Document, user: str = "", path: Path | None = None, machine: Machine | None = None) -> Loaded:
    """`path`: where it was read, unless it is not written yet. Raises `ConfigErrors`."""
    model, places, problems = reader.model_of(text)
    machine = machine or look_around(user)
    here = _here(model, machine)
    model = model.on(here.interface) if here else model
    problems += judge(model, places, machine)
    if path:
        problems += _closed(path, places, machine)
        keys, of_key = _keys(model, path, places, machine)
        problems += of_key
        here = here and replace(here, keys=keys)
    model, of_vrrp = key.of_vrrp(model, places, machine)
    problems += of_vrrp
    problems.sort(key=lambda problem: problem.line)
    warnings = [problem for problem in problems if isinstance(problem, ConfigWarning)]
    if errors := [problem for problem in problems if isinstance(problem, ConfigError)]:
        raise ConfigErrors(errors, warnings)
    user_name = model.keepalived.script_user
    return Loaded(model, tuple(warnings), user_id(user_name) if user_name else None, here)


def checked(text: str, machine: Machine | None = None) -> tuple[ConfigWarning, ...]:
    """What there is to warn of in a file that is not written yet; on this machine, unless another is given.

    Raises `ConfigErrors`.
    """
    data = text.encode(errors="surrogateescape")
    return judged(document.parse("floatip.toml", data), daemons_user(), machine=machine).warnings


def _here(model: Model, machine: Machine) -> Here | None:
    """Which node this machine is; the rules say it where none is, or more than one."""
    match nodes.here(model, machine):
        case [node]:
            return Here(node, machine.interface_of(node.address))
    return None


def _keys(model: Model, path: Path, places: Places, machine: Machine) -> tuple[tuple[bytes, ...], list[Problem]]:
    if not model.nodes:
        return (), []
    keys, doubts = key.read(model.link.key or path.absolute().with_name(key.NAME), machine)
    return keys, [places.on_machine(("link", "key"), doubt.what, doubt.hint) for doubt in doubts]


def _closed(path: Path, places: Places, machine: Machine) -> Iterable[Problem]:
    if machine.user and not machine.may(path.absolute(), os.R_OK):
        closed = closed_above(path.absolute(), machine)
        hint = f"chmod o+x {closed}" if closed else f"chown root:{machine.user} {path} && chmod 640 {path}"
        yield places.on_machine((), f"user {machine.user}, who runs the daemon, cannot read it", hint)


def render(errors: Iterable[ConfigError], warnings: Iterable[ConfigWarning]) -> str:
    errors, warnings = list(errors), list(warnings)
    problems = sorted([*errors, *warnings], key=lambda problem: problem.line)
    return "\n".join([*map(str, problems), f"{_count(errors, 'error')}, {_count(warnings, 'warning')}"])


def _count(things: list[Any], name: str) -> str:
    return f"{len(things) or 'no'} {name}{'' if len(things) == 1 else 's'}"
