"""keepalived.conf as a front end of the model: what keepalived would do with the file, floatip does.

`model_of` gives what the TOML reader gives: the model, where each thing of it stands, and what is wrong.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from floatip.model import Model
from floatip.reading import keepalived, regular
from floatip.reading.keepalived import NotUnderstood
from floatip.reading.keepalived.front_end import drop_in
from floatip.reading.keepalived.front_end.checks import Checks
from floatip.reading.keepalived.front_end.doubts import doubts
from floatip.reading.keepalived.front_end.instances import Reading, groups, instances, priorities
from floatip.reading.keepalived.front_end.notify import fifos, told
from floatip.reading.keepalived.front_end.settings import settings
from floatip.reading.keepalived.front_end.sheet import Sheet
from floatip.reading.keepalived.syntax import COMMANDS, Errors, Statement
from floatip.reading.keepalived.syntax import Place as Line
from floatip.reading.machine import Machine
from floatip.reading.place import ConfigError, ConfigErrors, Place, Places, Problem, Thing
from floatip.reading.toml import document


def model_of(
    path: Path, machine: Machine | None = None, dcid: int | str | None = None, config_id: str = ""
) -> tuple[Model, Places, list[Problem]]:
    """`machine`: None where the file need not fit this machine. Raises `ConfigErrors`.

    `config_id` decides about lines that begin with @; without it the host's name does.
    """
    try:
        regular.beginning(path)
    except OSError as error:
        raise document.unreadable(str(path), error) from None
    base, of_drop_in, problems = drop_in.read(path, dcid)
    try:
        conf = keepalived.read(path, config_id=config_id, strict=False)
    except NotUnderstood as error:
        raise refused(error.errors) from None
    if unreadable := [*_unreadable(conf.statements)]:
        raise refused(unreadable)
    sheet = Sheet(str(path))
    defaults = settings(conf, sheet)
    checks = Checks(conf, defaults.run_as, sheet)
    reading = Reading(conf, defaults, checks, sheet, machine, base.network is not None)
    model = replace(
        base,
        instances=tuple(instances(reading)),
        sync_groups=tuple(groups(reading)),
        checks=tuple(checks.found),
        told=tuple(told(conf, defaults.run_as, sheet)),
        fifos=tuple(fifos(conf, defaults.run_as, sheet)),
        tells_priorities=priorities(reading),
    )
    doubts(reading)
    return model, _together(sheet.places, of_drop_in), problems + sheet.problems


def refused(errors: Errors) -> ConfigErrors:
    return ConfigErrors([ConfigError(str(at.file), at.line, "", what, hint) for at, what, hint in errors])


def _unreadable(statements: Iterable[Statement]) -> Iterator[tuple[Line, str, str]]:
    """What no name, address or path has."""
    for statement in statements:
        is_command = COMMANDS.fullmatch(statement.keyword)
        if not all(word.isprintable() or (is_command and "\0" not in word) for word in statement.words):
            what = f"{statement.keyword}: a character that is not UTF-8 or cannot be printed"
            is_mark = statement.keyword.startswith("\ufeff")
            hint = f"remove the byte order mark: sed -i '1s/^\\xEF\\xBB\\xBF//' {statement.place.file}"
            yield statement.place, what, hint if is_mark else "write the line again, in UTF-8"
        yield from _unreadable(statement.block or ())


def _together(of_conf: Places, of_drop_in: Places) -> Places:
    def part(thing: Thing) -> Places:
        return of_drop_in if thing and thing[0] in drop_in.TABLES else of_conf

    def place(thing: Thing) -> Place:
        return part(thing).place(thing)

    return Places(
        place,
        lambda thing: part(thing).path(thing),
        of_conf.given | of_drop_in.given,
        of_conf.spoiled | (of_drop_in.spoiled - {()}),
        of_conf.kept | of_drop_in.kept,
        is_keepaliveds=True,
    )
