"""`floatip history`: the changes on this node, from the file, whether or not a daemon runs."""

import json
import os
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from floatip.commands import Misused, Refusal, again_as_root
from floatip.core.refusals import Why
from floatip.history import NAME, PHASES, Change, read_history
from floatip.text import folded, printable, say, terminal_width

OF_AN_INSTANCE = "role", "rank", "health", "takeover", "network", "owner"
COLUMNS = "time", "what", "name", "before", "value", "reason", *PHASES, "node", "boot", "monotonic"
ONE_LINE = 110
"""Columns of a terminal from which the cause stands beside its change."""
LEFT = len("2026-11-29 16:55:43  ")
WHENS = "a duration such as 90s, 2h or 7d, or a time such as 14:30, 2026-11-29 or '2026-11-29 14:30'"
UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


class NotReadable(Refusal):
    status = 4
    code = Why.NOT_ALLOWED


def since(text: str) -> datetime:
    """Raises ValueError with what the text must be."""
    now = datetime.now().astimezone()
    try:
        if text and re.fullmatch(r"(\d{1,6}d)?(\d{1,6}h)?(\d{1,6}m)?(\d{1,9}s)?", text, re.ASCII):
            parts = re.findall(r"(\d+)([dhms])", text)
            return now - timedelta(seconds=sum(int(number) * UNITS[unit] for number, unit in parts))
        if re.fullmatch(r"\d{1,2}:\d\d(:\d\d)?", text, re.ASCII):
            clock = datetime.strptime(text, "%H:%M:%S" if text.count(":") == 2 else "%H:%M").time()
            at = datetime.combine(now.date(), clock).astimezone()
            return at if at <= now else datetime.combine(now.date() - timedelta(days=1), clock).astimezone()
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise ValueError(WHENS) from None


def directory() -> Path:
    """The daemon's state directory: the packaged unit's, unless the environment names another."""
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])
    packaged = Path("/var/lib/floatip/daemon")
    return packaged if os.path.isdir(packaged) else packaged.parent


def show(*, since: datetime | None, instance: str | None, as_json: bool, tsv: bool) -> int:
    if as_json and tsv:
        raise Misused("--json and --tsv exclude each other", "floatip history --help")
    changes = _read(since)
    if instance is not None:
        changes = [one for one in changes if one.name == instance and one.what in OF_AN_INSTANCE]
    if as_json:
        lines = [json.dumps(one.data) for one in changes]
    elif tsv:
        lines = ["\t".join(COLUMNS), *map(_tabbed, changes)]
    else:
        lines = drawn(changes, terminal_width())
    for line in lines:
        print(line)
    if not changes:
        say("nothing changed" + (f" of instance {instance}" if instance else "") + (" since then" if since else ""))
    return 0


def _read(since: datetime | None) -> Sequence[Change]:
    path = directory() / NAME
    try:
        changes = read_history(path.parent, since)
        if not changes and not path.exists():
            raise Refusal(
                f"there is no history at {path}", "the daemon writes it: systemctl status floatip", Why.NO_HISTORY
            )
    except PermissionError:
        hint = f"{again_as_root()}; or join the group: sudo usermod -aG floatip $USER, and log in again"
        raise NotReadable(f"not allowed to read {path}", hint) from None
    except OSError as error:
        what = f"cannot read {error.filename or path}: {str(error.strerror).lower()}"
        raise Refusal(what, f"ls -l {path.parent}", Why.FILE_UNREADABLE) from None
    return changes


def drawn(changes: Sequence[Change], width: int) -> list[str]:
    """Where there is room, a line each; else the cause below its change."""
    rows = [
        (
            _local(one),
            printable(one.what if one.what == one.name else f"{one.what} {one.name}"),
            printable(_change(one)),
            printable(one.reason),
        )
        for one in changes
    ]
    if width >= ONE_LINE:
        things, moves = (min(max((len(row[at]) for row in rows), default=0), most) for at, most in ((1, 32), (2, 26)))
        lines = [f"{at}  {thing:{things}}  {move:{moves}}  {why}" for at, thing, move, why in rows]
        left = LEFT + things + moves + 4
        return [part for line in lines for part in folded(line, width, left)]
    lines = []
    for at, thing, move, why in rows:
        for part in (f"{at}  {thing}  {move}", " " * LEFT + why):
            lines += folded(part, width, LEFT)
    return lines


def _local(change: Change) -> str:
    return datetime.fromisoformat(change.time).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _change(change: Change) -> str:
    before = change.before if change.before != change.value else ""
    move = f"{before} -> {change.value}" if before else change.value
    took = [seconds for seconds in (change.took or {}).values() if seconds is not None]
    return f"{move} in {sum(took):.2f} s" if took else move


def _tabbed(change: Change) -> str:
    fields = change.data | (change.took or dict.fromkeys(PHASES))
    cells = ["" if fields[name] is None else str(fields[name]) for name in COLUMNS]
    return "\t".join(printable(cell).replace("\t", "\\t") for cell in cells)
