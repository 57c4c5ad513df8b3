"""What a rule is given: users, files and their owners, sudo rules, addresses, what runs. What it gives: findings."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from floatip.core.addresses import Placed
from floatip.reading import regular
from floatip.reading.keepalived import KeepalivedConf, Place
from floatip.reading.rights import ROOT, SeenFile, User, seen

SERVICES = ("haproxy", "nginx", "apache2", "httpd", "envoy", "traefik", "caddy", "varnishd", "postgres", "mysqld")
INTERPRETERS = re.compile(
    r"(?P<shell>(ba|da|z|k)?sh|python[\d.]*)|(?P<perl>(perl|ruby)[\d.]*)|env|sudo|timeout|flock|nice"
)
CODE = {"shell": re.compile(r"-\w*[cm]"), "perl": re.compile(r"-\w*e")}
"""The option of an interpreter that has the code itself behind it, and no script."""
ROOTS_OWN = ("/etc", "/usr", "/bin", "/sbin", "/lib")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""systemd's, for its services."""

Severity = Literal["danger", "wrong", "note"]
"""It loses traffic or gives away root; it does not do what is written; good to know."""
SEVERITIES: tuple[Severity, ...] = ("danger", "wrong", "note")


@dataclass(frozen=True, slots=True)
class MachineFacts:
    users: Mapping[str, User] = field(default_factory=lambda: {ROOT: User(ROOT, 0)})
    files: Mapping[Path, SeenFile] = field(default_factory=dict)
    """The configuration, the scripts, and the directories above them, also above what links lead to."""
    real: Mapping[Path, Path] = field(default_factory=dict)
    """Those of them that are links, or lie behind one."""
    sudo: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What sudo lets a user run as root without a password."""
    addresses: tuple[Placed, ...] = ()
    """Those of the kernel that somebody configured."""
    services: frozenset[str] = frozenset()
    """Programs that run here and may be what the floating address is for: haproxy, nginx..."""


@dataclass(frozen=True, slots=True)
class Finding:
    code: str
    """Which rule it is; what code may ask for."""
    severity: Severity
    place: Place
    what: str
    hint: str
    """What to do. It may contain names that others chose: make it printable before you show it."""


def gather(
    conf: KeepalivedConf,
    users: Mapping[str, User],
    root: Path = Path("/"),
    addresses: Iterable[Placed] = (),
    *,
    services: bool = True,
) -> MachineFacts:
    """`services`: whether to look at all processes for them."""
    commands = [script.command for script in conf.scripts]
    commands += [notify.command for owner in conf.owners for notify in owner.notifies]
    wanted = {*conf.files, *(path for command in commands for path in paths_of(command))}
    real = {path: target for path in wanted if (target := _real(root, path)) not in (None, path)}
    wanted |= set(real.values())
    wanted |= {directory for path in wanted for directory in path.parents}
    wanted |= {path for command in commands if command for path in in_path(command[0])}
    files = {path: found for path in wanted if (found := seen(root / path.relative_to("/")))}
    running = frozenset(_services(root)) if services else frozenset[str]()
    return MachineFacts(users, files, real, addresses=tuple(addresses), services=running)


def paths_of(command: tuple[str, ...]) -> list[Path]:
    """The program, and behind an interpreter the first path, which is its script. Other words are only data."""
    if not command:
        return []
    program = [Path(command[0])] if command[0].startswith("/") else []
    interpreter = INTERPRETERS.fullmatch(Path(command[0]).name)
    named = [number for number, word in enumerate(command) if number and word.startswith("/")]
    if interpreter and interpreter[0] == "flock":
        del named[:1]  # the lock
    if not interpreter or not named:
        return program
    has_code = CODE[interpreter.lastgroup].fullmatch if interpreter.lastgroup else lambda _: None
    return program if any(map(has_code, command[1 : named[0]])) else program + paths_of(command[named[0] :])


def taken_back(path: Path, part: Path, seen: SeenFile) -> str:
    """What to do when others can change a part of a path."""
    if seen.is_directory and not any(map(part.is_relative_to, ROOTS_OWN)) and part != Path("/"):
        # A chown would stop the service or the person whose directory it is.
        return f"move {path} to a directory that only root can write, such as /etc/keepalived"
    return f"setfacl -b {part}" if seen.has_acl else f"chown root:root {part} && chmod go-w {part}"


def in_path(program: str) -> list[Path]:
    """Where keepalived looks for a program without a path."""
    return [] if program.startswith("/") else [Path(directory) / program for directory in PATH.split(":")]


def _real(root: Path, path: Path) -> Path | None:
    with suppress(OSError, RuntimeError, ValueError):  # a loop of links; a link that leaves `root`
        return Path("/") / (root / path.relative_to("/")).resolve().relative_to(root.resolve())
    return None


def _services(root: Path) -> Iterator[str]:
    for directory in root.glob("proc/[0-9]*"):
        with suppress(OSError):
            name = regular.read(directory / "comm").decode(errors="replace").strip()
            if name in SERVICES:
                yield name
