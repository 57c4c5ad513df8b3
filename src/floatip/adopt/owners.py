"""What of the files that keepalived reads and runs adopt gives to root."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from floatip.adopt.files import State, state
from floatip.adopt.found import Found
from floatip.adopt.host import Host
from floatip.adopt.surroundings import commands_of, paths_of

DIRECTORY = Path("/etc/keepalived")
STICKY = 0o1000


def what_keepalived_uses(host: Host, found: Found) -> Iterator[Path]:
    """What it reads, and of what it runs that which lies beside; with the directories on the way. Without links.

    Other files in there stay as they are. Outside of /etc/keepalived a directory is the script user's own, or it is
    let alone.
    """
    directory = host.real(DIRECTORY)
    read = [host.real(file) for file in found.conf.files]
    places = {file.parent for file in read}
    run = [host.real(path) for _, command in commands_of(found.conf) for path in paths_of(command)]
    run = [path for path in run if path.is_relative_to(directory) or path.parent in places]
    for file in dict.fromkeys((*read, *run)):
        if host.at(file).is_file():
            yield from (parent for parent in reversed(file.parents) if parent.is_relative_to(directory))
            if not file.is_relative_to(directory) and _is_his_own(host, file.parent, found.script_ids[0]):
                yield file.parent
            yield file


def _is_his_own(host: Host, directory: Path, uid: int) -> bool:
    seen = state(host, directory)
    return seen is not None and seen.uid == uid


def roots(one: State, ids: tuple[int, int]) -> State:
    """As it is when it belongs to root. The script user keeps what it needs: to read and to run."""
    uid, gid = ids
    if one.is_directory and one.mode & STICKY:
        return one
    if one.uid == uid:
        one = replace(one, uid=0, gid=gid, mode=(one.mode | (one.mode & 0o500) >> 3) & 0o777)
    others_write = 0o022 if one.gid == gid else 0o002
    return replace(one, mode=one.mode & ~others_write)
