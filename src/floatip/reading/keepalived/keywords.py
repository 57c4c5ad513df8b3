"""Which blocks and values keepalived 2.2.7 expects where, and what floatip does with each keyword.

At the `}` of a block that it does not expect, keepalived ends the block around it too, and ignores what follows. For a
block that does not begin it takes the lines up to the next `}`. Without a value that it needs it does not start. Such a
file means something else than it seems to.
"""

from dataclasses import dataclass
from typing import Literal, cast

from floatip.reading.keepalived.keyword_table import TABLE
from floatip.reading.keepalived.syntax import Doubts, Statement
from floatip.reading.words import closest

Effect = Literal["done", "accepted", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Keyword:
    block: str
    """Where it stands, as the table has it."""
    name: str
    effect: Effect
    value: str
    note: str

    @property
    def range(self) -> tuple[float, float] | None:
        """Of a number."""
        low, dots, high = self.value.rstrip("?").partition("..")
        return (float(low), float(high)) if dots else None

    @property
    def numbers(self) -> str:
        return "{:g} to {:g}".format(*self.range) if self.range else ""

    @property
    def is_whole(self) -> bool:
        return "." not in self.value.replace("..", "")

    @property
    def needs_value(self) -> bool:
        return self.value not in ("-", "flag", "switch", "block") and not self.value.endswith("?")


def _table() -> dict[str, dict[str, Keyword]]:
    found: dict[str, dict[str, Keyword]] = {}
    block = ""
    for line in TABLE.strip().splitlines():
        if line.startswith("["):
            block = line.strip("[]")
            found[block] = {}
        elif line:
            name, effect, value, note = line.split(" | ", 3)
            found[block][name] = Keyword(block, name, cast(Effect, effect), value, note)
    return found


KEYWORDS = _table()
"""By block and name."""
IN_TABLE = {"": "top", "authentication": "vrrp_instance/authentication", "auth_hmac": "vrrp_instance/auth_hmac"}
"""What the table calls a block, where that is not its keyword."""


def of_block(block: str) -> dict[str, Keyword]:
    """The keywords of a block; "": of the file."""
    return KEYWORDS.get(IN_TABLE.get(block, block), {})


TRACKING = {"track_interface", "track_script", "track_process", "track_file", "track_bfd"}
ADDRESSES = {"unicast_peer", "virtual_ipaddress", "virtual_ipaddress_excluded"}
NEWER = {"auth_hmac"}
"""Blocks that keepalived 2.2 does not know."""
LINES = {"group", *ADDRESSES, *TRACKING}
"""Blocks of lines that do not begin with a keyword."""
READ = ("global_defs", "vrrp_script", "vrrp_track_process", "vrrp_sync_group", "vrrp_instance", "authentication")
BLOCKS = {
    **{block: {name for name, one in of_block(block).items() if one.value == "block"} - NEWER for block in READ},
    **{block: set[str]() for block in LINES},
}
"""By block, the blocks in it. Of other blocks nothing is known."""
NEEDS_VALUE = {
    block: [name for name, one in of_block(block).items() if one.needs_value] for block in ("", *READ, *NEWER)
}
FLAGS = {block: {name for name, one in of_block(block).items() if one.value == "flag"} for block in READ}
"""They take no value."""


def check(
    statements: tuple[Statement, ...],
    doubts: Doubts,
    outer: Statement | None = None,
    newer: frozenset[str] = frozenset(),
) -> None:
    """`newer`: blocks that are known besides."""
    block = outer.keyword if outer else ""
    inner = BLOCKS.get(block) if outer else None
    if inner and block == "vrrp_instance":
        inner = inner | newer
    for statement in statements:
        place, keyword = statement.place, statement.keyword
        if keyword in NEEDS_VALUE.get(block, ()) and len(statement.words) == 1:
            what = f"{keyword} has no value, and keepalived does not start"
            doubts.errors.append((place, what, f"give {keyword} its value, or remove the line"))
        elif inner is not None and keyword not in inner and statement.block is not None:
            what = f"{statement} {{: keepalived 2.2 expects no block here, and ends {outer} at its }}"
            close = closest(keyword, inner)
            hint = f"remove the block: keepalived ignores what follows it in {outer}"
            doubts.left_out.append((place, what, f"did you mean {close}? If not, {hint}" if close else hint))
        elif inner and keyword in inner and statement.block is None:
            what = f"{statement}: no {{, and keepalived ignores all up to the next }}"
            doubts.errors.append((place, what, f"{keyword} {{, one entry a line, and }}"))
        elif keyword in BLOCKS or keyword in newer:
            check(statement.block or (), doubts, statement, newer)
