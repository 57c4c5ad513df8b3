"""`floatip key`: makes the key of the nodes, and replaces it without a gap.

Each step leaves every node believing what the others sign, whether they have the file of this step or of the one
before it: --next adds a key, --use-next lets it sign, --drop-old removes the other.
"""

import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from floatip import DEFAULT_CONFIG
from floatip.adopt.files import Change, FileState, private, state
from floatip.adopt.files import write as write_files
from floatip.adopt.system import System
from floatip.commands import Refusal, again_as_root
from floatip.core.refusals import Why
from floatip.core.settings import Node
from floatip.reading import ConfigErrors, document, reader
from floatip.reading.key import OCTETS, command, read
from floatip.reading.machine import Machine, look_around
from floatip.text import say

CONFIG = Path(DEFAULT_CONFIG).name
Keys = tuple[bytes, ...]
HEAD = "# The nodes sign with the first key, and believe each. The same on all nodes; secret. See: floatip key --help\n"
DONE = {
    "": "written, a new key",
    "--next": "a second key is added, which is believed and does not sign yet",
    "--use-next": "the second key signs now, and the first is still believed",
    "--drop-old": "one key is left, and the old one is removed",
}
THEN = {"--next": "--use-next", "--use-next": "--drop-old"}


def write(file: Path, step: str) -> int:
    """`step`: an option of the command; empty: the first key. Raises `Refusal`."""
    system = System()
    try:
        before = state(system, file)
        after = _after(before, private(system, _text(_keys(file, step))))
        list(write_files(system, [Change(file, before, after)]))
    except OSError as error:
        is_denied = error.errno in (errno.EACCES, errno.EPERM)
        hint = again_as_root() if is_denied else "give the path of a file in a directory that can be written"
        raise Refusal(f"{file} cannot be written: {str(error.strerror).lower()}", hint, Why.FILE_UNWRITABLE) from None
    say(f"{file}: {DONE[step]}")
    say("\n".join(_next(file, THEN.get(step, ""))))
    return 0


def _keys(file: Path, step: str) -> Keys:
    if not step:
        if os.path.lexists(file):
            raise Refusal(
                f"{file} exists", f"to replace the key without a gap: {command(file)} --next", Why.FILE_EXISTS
            )
        return (_drawn(),)
    keys, doubts = read(file, Machine({}))
    if doubts:
        raise Refusal(*doubts[0][:2], code=Why.KEY_UNUSABLE)
    if step == "--next":
        if len(keys) > 1:
            hint = f"finish the last replacement first: {command(file)} --use-next, or --drop-old if that was done"
            raise Refusal(f"{file} has two keys already", hint, Why.KEY_STEP)
        return (*keys, _drawn())
    if len(keys) == 1:
        raise Refusal(f"{file} has only one key", f"add the next one: {command(file)} --next", Why.KEY_STEP)
    return keys[::-1] if step == "--use-next" else keys[:1]


def new() -> str:
    """The text of a file with a first key."""
    return _text((_drawn(),))


def _drawn() -> bytes:
    return secrets.token_bytes(OCTETS)


def _text(keys: Keys) -> str:
    return "".join((HEAD, *(f"{key.hex()}\n" for key in keys)))


def _after(before: FileState | None, new: FileState) -> FileState:
    """With the owner and the mode that the file had."""
    return FileState(before.mode, before.uid, before.gid, new.content) if before else new


def _next(file: Path, then: str) -> Iterator[str]:
    yield "Next, copy it to the other nodes:"
    for host in _others(file.with_name(CONFIG)):
        copied = f"[{host}]" if ":" in host else host
        yield f"  scp -p {file} root@{copied}:{file} && ssh root@{host} chgrp floatip {file}"
    yield "Then on each node, this one too:"
    yield "  systemctl reload floatip"
    if then:
        yield "When all nodes have reloaded, here:"
        yield f"  {command(file)} {then}"


def _others(config: Path) -> list[str]:
    """The addresses of the other nodes, as far as the configuration can be read."""
    try:
        nodes = reader.model_of(document.read(str(config)))[0].nodes
        machine = look_around()
    except (ConfigErrors, OSError):
        return ["NODE"]
    return [str(node.address) for node in nodes if _is_other(node, machine)] or ["NODE"]


def _is_other(node: Node, machine: Machine) -> bool:
    return not (machine.has(node.address) or node.address.is_unspecified)
