"""Keys in files of their own. No message shows any of one.

The key with which the nodes sign what they tell each other: one in its file, or two while a new one is rolled out. The
first key signs, each is believed. And the keys of `auth_hmac`, each in a file.
"""

import errno
import os
import re
from dataclasses import replace
from pathlib import Path

from floatip import DEFAULT_CONFIG
from floatip.core.settings import Hmac, Vrrp
from floatip.model import Model
from floatip.reading import regular
from floatip.reading.files import Doubt, closed_above
from floatip.reading.machine import DAEMON, Machine
from floatip.reading.place import Places, Problem, Thing

NAME = "key"
"""Beside the configuration."""
DEFAULT = str(Path(DEFAULT_CONFIG).with_name(NAME))
LARGEST = 1 << 12
OCTETS = 32
MOST = 2
DIGITS = re.compile(f"[0-9a-fA-F]{{{2 * OCTETS}}}")
DIGITS_OF_VRRP = re.compile("(?:[0-9a-fA-F]{2}){32,64}")


def read(path: Path, machine: Machine) -> tuple[tuple[bytes, ...], list[Doubt]]:
    """The keys, and what is wrong with the file; then it is not to be used."""
    share = f"chown root:{machine.user or DAEMON} {path} && chmod 640 {path}"
    try:
        with regular.looked_at(path) as descriptor:
            mode = os.fstat(descriptor).st_mode
            text = regular.read_from(descriptor, LARGEST).decode(errors="replace")
    except OSError as error:
        return (), [_unreadable(path, error, _opened(path, machine) or share)]
    if mode & 0o007:
        what = f"every user of this machine can use {path}, and sign as a node: its mode is {mode & 0o777:o}"
        return (), [Doubt(what, share)]
    if machine.user and not machine.may(path, os.R_OK):
        what = f"user {machine.user}, who runs the daemon, cannot read {path}"
        return (), [Doubt(what, _opened(path, machine) or share)]
    return parse(path, text)


def of_vrrp(model: Model, places: Places, machine: Machine) -> tuple[Model, list[Problem]]:
    """The model with the keys of `auth_hmac` that stand in files."""
    problems: list[Problem] = []
    instances = []
    for at, one in places.each(("instance",), model.instances):
        if isinstance(one.election, Vrrp) and one.election.hmac:
            thing = (*at, "vrrp", "auth_hmac", "keys")
            hmac = _with_files(one.election.hmac, thing, places, machine, problems)
            one = replace(one, election=replace(one.election, hmac=hmac))  # noqa: PLW2901
        instances.append(one)
    return replace(model, instances=tuple(instances)), problems


def _with_files(hmac: Hmac, thing: Thing, places: Places, machine: Machine, problems: list[Problem]) -> Hmac:
    keys = []
    for at, (number, value) in places.each(thing, hmac.keys):
        if path := places.files.get((*at, "file")):
            value, doubts = _read_one(path, machine)  # noqa: PLW2901
            for what, hint, is_error in doubts:
                say = places.on_machine if is_error else places.warning
                problems.append(say((*at, "file"), what, hint))
        keys.append((number, value))
    return replace(hmac, keys=tuple(keys))


def _read_one(path: Path, machine: Machine) -> tuple[bytes, list[Doubt]]:
    share = f"chown root:{machine.user or DAEMON} {path} && chmod 640 {path}"
    make = f"make it on one node, and copy it to the others: floatip key {path}"
    try:
        with regular.looked_at(path) as descriptor:
            mode = os.fstat(descriptor).st_mode
            text = regular.read_from(descriptor, LARGEST).decode(errors="replace")
    except OSError as error:
        hint = make if error.errno == errno.ENOENT else _opened(path, machine) or share
        return b"", [Doubt(f"{path} cannot be read: {error.strerror}", hint)]
    if machine.user and not machine.may(path, os.R_OK):
        what = f"user {machine.user}, who runs the daemon, cannot read {path}"
        return b"", [Doubt(what, _opened(path, machine) or share)]
    lines = [line.partition("#")[0].strip() for line in text.split("\n")]
    given = [line for line in lines if line]
    if len(given) != 1 or not DIGITS_OF_VRRP.fullmatch(given[0]):
        return b"", [Doubt(f"{path} is not one line of 64 to 128 hex digits", make)]
    what = f"every user of this machine can read {path}, and sign adverts"
    return bytes.fromhex(given[0]), [Doubt(what, share, is_error=False)] if mode & 0o004 else []


def parse(path: Path, text: str) -> tuple[tuple[bytes, ...], list[Doubt]]:
    hint = f"copy the file from a node that has the right one, or move it away and make another: {command(path)}"
    lines = [line.partition("#")[0].strip() for line in text.split("\n")]
    given = {number: line for number, line in enumerate(lines, 1) if line}
    wrong = [_wrong(line, f"line {number} of {path}") for number, line in given.items() if not DIGITS.fullmatch(line)]
    if not given:
        wrong.append(f"{path} has no key")
    if len(given) > MOST:
        wrong.append(f"{path} has {len(given)} keys, and {MOST} are the most: the one that signs, and one beside it")
    if wrong:
        return (), [Doubt(what, hint) for what in wrong]
    return tuple(map(bytes.fromhex, given.values())), []


def command(path: Path) -> str:
    return "floatip key" if str(path) == DEFAULT else f"floatip key {path}"


def _opened(path: Path, machine: Machine) -> str:
    """What opens the directories above it; empty: they are open."""
    closed = closed_above(path, machine)
    return f"chmod o+x {closed}" if closed else ""


def _wrong(line: str, where: str) -> str:
    if len(line) != 2 * OCTETS:
        return f"{where} has {len(line)} characters, and a key has {2 * OCTETS} hex digits"
    return f"{where} has characters that are not hex digits"


def _unreadable(path: Path, error: OSError, share: str) -> Doubt:
    if error.errno == errno.ENOENT:
        hint = f"make it on one node, and copy it to the others: {command(path)}"
        return Doubt(f"{path} is missing: the nodes sign what they tell each other", hint)
    hint = share if error.errno == errno.EACCES else f"move it away, and make another: {command(path)}"
    return Doubt(f"{path} cannot be read: {error.strerror}", hint)
