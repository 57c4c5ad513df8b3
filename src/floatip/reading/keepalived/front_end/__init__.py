"""keepalived.conf as a front end of the model: what keepalived would do with the file, floatip does.

`model_of` gives what the TOML reader gives: the model, where each thing of it stands, and what is wrong.
"""

from dataclasses import replace
from pathlib import Path

from floatip.model import Model
from floatip.reading import keepalived
from floatip.reading.keepalived import NotUnderstood
from floatip.reading.keepalived.front_end import drop_in
from floatip.reading.keepalived.front_end.checks import Checks
from floatip.reading.keepalived.front_end.doubts import doubts
from floatip.reading.keepalived.front_end.instances import Reading, groups, instances, priorities
from floatip.reading.keepalived.front_end.notify import fifos, told
from floatip.reading.keepalived.front_end.settings import settings
from floatip.reading.keepalived.front_end.sheet import Sheet
from floatip.reading.machine import Machine
from floatip.reading.place import ConfigError, ConfigErrors, Place, Places, Problem, Thing


def model_of(
    path: Path, machine: Machine | None = None, dcid: int | None = None, config_id: str = ""
) -> tuple[Model, Places, list[Problem]]:
    """`machine`: None where the file need not fit this machine. Raises `ConfigErrors`.

    `config_id` decides about lines that begin with @; without it the host's name does.
    """
    base, of_drop_in, problems = drop_in.read(path, dcid)
    try:
        conf = keepalived.read(path, config_id=config_id, strict=False)
    except NotUnderstood as error:
        errors = [ConfigError(str(at.file), at.line, "", what, hint) for at, what, hint in error.errors]
        raise ConfigErrors(errors) from None
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
