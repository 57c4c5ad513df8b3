"""The key with which the nodes sign what they tell each other: one in its file, or two while a new one is rolled out.

The first key signs, each is believed. No message shows any of it.
"""

import errno
import os
import re
from pathlib import Path

from floatip import DEFAULT_CONFIG
from floatip.reading import regular
from floatip.reading.files import Doubt, closed_above
from floatip.reading.machine import DAEMON, Machine

NAME = "key"
"""Beside the configuration."""
DEFAULT = str(Path(DEFAULT_CONFIG).with_name(NAME))
LARGEST = 1 << 12
OCTETS = 32
MOST = 2
DIGITS = re.compile(f"[0-9a-fA-F]{{{2 * OCTETS}}}")


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
