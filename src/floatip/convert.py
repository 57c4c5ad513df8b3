"""`floatip convert`: the floatip.toml that runs the same as a keepalived.conf."""

import io
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from floatip import reading
from floatip.commands import Misused, Refusal
from floatip.core.refusals import Why
from floatip.core.settings import Vrrp
from floatip.model import Model
from floatip.reading import machine
from floatip.reading.patience import told_when_slow
from floatip.reading.place import ConfigError, ConfigErrors, Places, Thing
from floatip.reading.toml import reader, writer
from floatip.reading.toml.document import parse
from floatip.text import printable, say

SECRETS = "the output has passwords or keys: give the file to root:floatip, mode 640"


class Unsayable(Refusal):
    """The model has what no floatip.toml can say."""

    status = 2
    code = Why.NOT_CONVERTIBLE


def convert(file: Path, dcid: int | str | None) -> int:
    """The exit status. Raises `Refusal`."""
    if not reading.is_keepalived_conf(file):
        raise Misused(f"{file} is not a keepalived.conf", "name one: floatip convert /etc/keepalived/keepalived.conf")
    user = machine.daemons_user()
    try:
        with told_when_slow(file):
            seen = reading.look_around(user)
            read = reading.read(file, seen, dcid)
            said = _judged(read, user, file, seen)
    except ConfigErrors as refused:
        say(reading.render(refused.errors, refused.warnings))
        return 2
    if said:
        say(said)
    text = written(file, read)
    if _has_secret(read.model):
        say(SECRETS)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # as TOML is, whatever the locale
    sys.stdout.write(text)
    return 0


def _judged(read: reading.Read, user: str, file: Path, seen: machine.Machine) -> str:
    """What is to be said besides. Raises `ConfigErrors`: the file itself is wrong, not this machine."""
    try:
        warnings = reading.judged(read, user, file, seen).warnings
    except ConfigErrors as refused:
        if not refused.may_mend:
            raise
        return reading.render(refused.errors, refused.warnings)
    return reading.render([], warnings) if warnings else ""


def written(file: Path, read: reading.Read) -> str:
    """Raises `Unsayable`."""
    text = writer.text(read.model, _comment(file, read), _origin(read.places))
    try:
        again, _ = reader.accepted(parse("floatip.toml", text.encode(errors="surrogateescape")))
    except ConfigErrors as refused:
        raise Unsayable(*_unsayable(file, refused.errors)) from None
    if _ordered(again) != _ordered(read.model):
        raise AssertionError("floatip.toml is read as something else than what was written")
    return text


def _comment(file: Path, read: reading.Read) -> Sequence[str]:
    lines = [f"Written by `floatip convert` from {file}. It runs the same; every key:"]
    lines.append("/usr/share/doc/floatip/reference/configuration.md")
    left_out = [problem for problem in read.problems if not isinstance(problem, ConfigError)]
    if left_out:
        lines += ["", "Warnings and notes about that file:"]
        left_out.sort(key=lambda problem: (problem.file != str(file), problem.file, problem.line))
        lines += [f"  {problem.file}:{problem.line}: {problem.text}" for problem in left_out]
    return [printable(line) for line in lines]


def _origin(places: Places) -> writer.Origin:
    def origin(thing: Thing) -> Sequence[str]:
        file, line = places.place(thing)
        return [printable(f"{file}:{line}")] if line else []

    return origin


def _unsayable(file: Path, errors: Sequence[ConfigError]) -> tuple[str, str]:
    what = "\n".join(printable(error.text) for error in errors)
    return f"floatip.toml cannot say what {file} says:\n{what}", f"change {file}, or let floatip run it as it is"


def _ordered(model: Model) -> Model:
    """It does not matter in which order the commands of different events are named."""
    return replace(model, told=tuple(sorted(model.told, key=lambda one: (one.kind, one.name, one.event))))


def _has_secret(model: Model) -> bool:
    elections = (one.election for one in model.instances)
    return any(isinstance(one, Vrrp) and (one.auth_pass or one.hmac) for one in elections)
