"""keepalived.conf, as keepalived 2.2 reads it: includes, definitions and conditions resolved, each word with its place.

Only reading. `keepalived.lint` says what in it is unsafe or does not work.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from floatip.reading.keepalived import keywords, vrrp
from floatip.reading.keepalived.syntax import Doubts, Errors, NotUnderstood, Place, Reader, Statement
from floatip.reading.keepalived.vrrp import Group, Instance, Notify, Script, Tracking, VirtualAddress

__all__ = [
    "Group",
    "Instance",
    "KeepalivedConf",
    "NotUnderstood",
    "Notify",
    "Place",
    "Script",
    "Statement",
    "Tracking",
    "VirtualAddress",
    "read",
]


@dataclass(frozen=True, slots=True)
class KeepalivedConf:
    files: tuple[Path, ...]
    """The main file first, then what it includes."""
    statements: tuple[Statement, ...]
    instances: tuple[Instance, ...]
    groups: tuple[Group, ...]
    scripts: tuple[Script, ...]
    global_defs: tuple[Statement, ...]
    """The block of `global_defs`, all of them together."""
    left_out: tuple[tuple[Place, str, str], ...] = ()
    """What keepalived runs without, or with another value."""

    @property
    def place(self) -> Place:
        return Place(self.files[0], 0)

    @property
    def owners(self) -> tuple[Instance | Group, ...]:
        """Whatever can track scripts and notify."""
        return (*self.instances, *self.groups)

    def option(self, keyword: str) -> Statement | None:
        """The last `keyword` of `global_defs`."""
        found = [statement for statement in self.global_defs if statement.keyword == keyword]
        return found[-1] if found else None


def read(
    path: Path,
    root: Path = Path("/"),
    config_id: str = "",
    texts: Mapping[Path, str] | None = None,
    *,
    strict: bool = True,
) -> KeepalivedConf:
    """`root` is put before every path that is opened, and before no path that is shown. Raises `NotUnderstood`.

    `config_id` is what `keepalived -i` was given; without it, the host's name decides about lines that begin with @.
    `texts` are read in place of the files that they are to become. `strict`: what keepalived leaves out is refused too.
    """
    environment = None if strict else os.environ
    reader = Reader(root, config_id or os.uname().nodename.partition(".")[0], texts or {}, environment=environment)
    statements = reader.statements(Path(os.path.abspath(path)))
    if reader.errors:  # what the lines mean is a guess until they hold together
        raise NotUnderstood(reader.errors)
    global_defs = tuple(
        option for statement in statements if statement.keyword == "global_defs" for option in statement.block or ()
    )
    doubts = Doubts()
    keywords.check(statements, doubts, newer=frozenset() if strict else frozenset(keywords.NEWER))
    instances = vrrp.instances(statements, global_defs, doubts)

    def ordered(found: Errors) -> Errors:
        return sorted(found, key=lambda error: (reader.files.index(error[0].file), error[0].line))

    if errors := [*doubts.errors, *(doubts.left_out if strict else ())]:
        raise NotUnderstood(ordered(errors))
    return KeepalivedConf(
        files=tuple(reader.files),
        statements=statements,
        instances=instances,
        groups=vrrp.groups(statements, instances),
        scripts=vrrp.scripts(statements),
        global_defs=global_defs,
        left_out=tuple(ordered(doubts.left_out)),
    )
