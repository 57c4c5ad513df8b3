"""A configuration file in, the model out: `load`. What is wrong is said all at once, each with its line and a hint.

A front end (`toml`, `keepalived.front_end`) judges each value by itself and gives the model, and where each thing of it
stands. The `rules` judge the model as a whole and on this machine, whichever file it was read from. What may be wrong
only for now, because the machine can change, is a warning, or a `MachineError` where it is dangerous: the same file may
be accepted later.
"""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from floatip.commands import with_code
from floatip.core.refusals import Why
from floatip.model import Here, Model
from floatip.reading import fleet, key, regular
from floatip.reading.files import closed_above
from floatip.reading.machine import Machine, daemons_user, look_around
from floatip.reading.place import ConfigError, ConfigErrors, ConfigNote, ConfigWarning, MachineError, Places, Problem
from floatip.reading.rights import user_id
from floatip.reading.rules import judge, members, nodes
from floatip.reading.toml import document, reader
from floatip.reading.will import will

__all__ = [
    "ConfigError",
    "ConfigErrors",
    "ConfigWarning",
    "Loaded",
    "MachineError",
    "Places",
    "Problem",
    "Read",
    "checked",
    "judged",
    "load",
    "look_around",
    "read",
    "read_text",
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
    local: document.Document | None = None
    """The file of this node, where it is a floatip.toml."""
    known: fleet.Known = fleet.NOTHING
    """Of its fleet, where it is a member."""


class Read(NamedTuple):
    """What a front end gives."""

    model: Model
    places: Places
    problems: list[Problem]
    local: document.Document | None = None
    known: fleet.Known = fleet.NOTHING


def load(
    path: str | Path,
    user: str = "",
    dcid: int | str | None = None,
    known: fleet.Known | None = None,
    local: document.Document | None = None,
) -> Loaded:
    """Raises `ConfigErrors`, and nothing else for anything that a file can hold.

    `user` runs the daemon, where root asks for it. `dcid`: Linode's data centre, where the file names none, or "auto".
    `known`: of the fleet of a member; None: what was kept. `local`: the file, if it is not to be read again.
    """
    machine = look_around(user)
    given = _of_toml(local, dcid, known) if local else read(path, machine, dcid, known)
    return judged(given, user, Path(path), machine)


def read(
    path: str | Path,
    machine: Machine | None = None,
    dcid: int | str | None = None,
    known: fleet.Known | None = None,
) -> Read:
    """By no rule yet. `machine`: None where the file need not fit this machine. Raises `ConfigErrors`."""
    if is_keepalived_conf(path):
        from floatip.reading.keepalived.front_end import model_of  # noqa: PLC0415

        return Read(*model_of(Path(path), machine, dcid))
    given = _of_toml(document.read(str(path)), dcid, known)
    if machine is None:
        return given._replace(problems=[one for one in given.problems if not isinstance(one, MachineError)])
    return given


def read_text(name: str, text: bytes, dcid: int | str | None = None) -> Read:
    """Of a floatip.toml that is not written yet; `name`: what the problems call it. Raises `ConfigErrors`."""
    return _of_toml(document.parse(name, text), dcid)


def _of_toml(local: document.Document, dcid: int | str | None, known: fleet.Known | None = None) -> Read:
    data, seam, known = fleet.whole(local, known)
    with_dcid, problems = reader.with_dcid(data, dcid)
    model, places, of_values = reader.model_of(with_dcid)
    if model.member and known.has_left:
        model = replace(model, instances=(), nodes=())
    elif model.member:
        model = replace(model, nodes=known.members)
    return Read(model, places, [*seam, *problems, *of_values], local, known)


def is_keepalived_conf(path: str | Path) -> bool:
    """By its name; a file with another ending, by what is in it."""
    suffix = Path(path).suffix
    if suffix in (".toml", ".conf"):
        return suffix == ".conf"
    with suppress(OSError):
        return bool(OF_KEEPALIVED.search(regular.read(Path(path)).decode(errors="replace")))
    return False


OF_KEEPALIVED = re.compile(
    r"^\s*(vrrp_instance|global_defs|vrrp_script|vrrp_sync_group|vrrp_track_process|track_file|virtual_server"
    r"|include[rmwba]?\s)",
    re.MULTILINE,
)


def judged(
    given: Read,
    user: str = "",
    path: Path | None = None,
    machine: Machine | None = None,
    becomes: Path | None = None,
) -> Loaded:
    """Raises `ConfigErrors`.

    `path`: where it was read, unless it is not written yet. `becomes`: where it is to be copied; the key is beside
    that, and who may read the file is not known yet.
    """
    model, places, problems = given.model, given.places, [*given.problems]
    machine = machine or look_around(user)
    model = members.with_own(model, machine)
    here = _here(model, machine)
    model = model.on(here.interface) if here else model
    problems += judge(model, places, machine)
    if path and not becomes:
        problems += _closed(path, places, machine)
    if beside := becomes or path:
        keys, of_key = _keys(model, beside, places, machine)
        problems += of_key
        here = here and replace(here, keys=keys)
    model, of_vrrp = key.of_vrrp(model, places, machine)
    problems += of_vrrp
    file = places.place(()).file
    problems.sort(key=lambda problem: (problem.file != file, problem.file, problem.line))
    warnings = [problem for problem in problems if isinstance(problem, ConfigWarning)]
    if errors := [problem for problem in problems if isinstance(problem, ConfigError)]:
        raise ConfigErrors(errors, warnings)
    user_name = model.keepalived.script_user
    script_user = user_id(user_name) if user_name else None
    return Loaded(model, tuple(warnings), script_user, here, given.local, given.known)


def checked(text: str, machine: Machine | None = None) -> tuple[ConfigWarning, ...]:
    """What there is to warn of in a file that is not written yet; on this machine, unless another is given.

    Raises `ConfigErrors`.
    """
    data = document.parse("floatip.toml", text.encode(errors="surrogateescape"))
    return judged(Read(*reader.model_of(data)), daemons_user(), machine=machine).warnings


def _here(model: Model, machine: Machine) -> Here | None:
    """Which node this machine is; the rules say it where none is, or more than one."""
    match nodes.here(model, machine):
        case [node]:
            return Here(node, machine.interface_of(node.address))
    return None


def _keys(model: Model, path: Path, places: Places, machine: Machine) -> tuple[tuple[bytes, ...], list[Problem]]:
    if not model.nodes and not model.member:
        return (), []
    keys, doubts = key.read(model.link.key or path.absolute().with_name(key.NAME), machine)
    return keys, [places.on_machine(("link", "key"), doubt.what, doubt.hint) for doubt in doubts]


def _closed(path: Path, places: Places, machine: Machine) -> Iterable[Problem]:
    if machine.user and not machine.may(path.absolute(), os.R_OK):
        closed = closed_above(path.absolute(), machine)
        hint = f"chmod o+x {closed}" if closed else f"chown root:{machine.user} {path} && chmod 640 {path}"
        yield places.on_machine((), f"user {machine.user}, who runs the daemon, cannot read it", hint)


def render(errors: Iterable[ConfigError], warnings: Iterable[ConfigWarning]) -> str:
    errors = list(errors)
    notes, warnings = partitioned(warnings)
    files = {problem.file: number for number, problem in enumerate([*errors, *warnings, *notes])}
    problems = sorted([*errors, *warnings, *notes], key=lambda problem: (files[problem.file], problem.line))
    counts = [_count(errors, "error"), _count(warnings, "warning"), *([_count(notes, "note")] if notes else [])]
    return "\n".join([*map(str, problems), with_code(", ".join(counts), _code(errors))])


def _code(errors: list[ConfigError]) -> Why | None:
    if not errors:
        return None
    return Why.MACHINE_NOT_READY if ConfigErrors(errors).may_mend else Why.CONFIGURATION


def partitioned(warnings: Iterable[ConfigWarning]) -> tuple[list[ConfigWarning], list[ConfigWarning]]:
    """Notes, and what may not do what is wanted."""
    warnings = list(warnings)
    notes: list[ConfigWarning] = [one for one in warnings if isinstance(one, ConfigNote)]
    return notes, [one for one in warnings if one not in notes]


def _count(things: list[Any], name: str) -> str:
    return f"{len(things) or 'no'} {name}{'' if len(things) == 1 else 's'}"
