"""Whom keepalived tells of changes: commands and FIFOs."""

from collections.abc import Iterator
from pathlib import Path

from floatip.model import Fifo, RunAs, Told
from floatip.reading.keepalived import Instance, KeepalivedConf
from floatip.reading.keepalived.front_end.checks import command_of, resolved
from floatip.reading.keepalived.front_end.settings import run_as
from floatip.reading.keepalived.front_end.sheet import Sheet
from floatip.reading.keepalived.front_end.values import Values


def told(conf: KeepalivedConf, default: RunAs, sheet: Sheet) -> Iterator[Told]:
    number = 0
    for owner in conf.owners:
        kind = "INSTANCE" if isinstance(owner, Instance) else "GROUP"
        for notify in owner.notifies:
            if notify.command:
                sheet.put(("told", number), notify.statement, f"{owner.statement} {notify.statement.keyword}")
                number += 1
                as_whom = run_as(notify.statement, 2, default)
                yield Told(kind, owner.name, notify.event, resolved(notify.command), as_whom)  # type: ignore[arg-type]


def fifos(conf: KeepalivedConf, default: RunAs, sheet: Sheet) -> Iterator[Fifo]:
    values = Values(conf.global_defs, "global_defs", sheet)
    on_reload = values.switch("fifo_write_vrrp_states_on_reload", default=False)
    number = 0
    for name in ("notify_fifo", "vrrp_notify_fifo"):
        given, script = values.last(name), values.last(f"{name}_script")
        if not (given and given.argument()):
            continue
        sheet.put(("fifo", number), given, name)
        number += 1
        yield Fifo(
            Path(given.argument()),
            run_as(given, 2, default),
            command_of(script.argument()) if script else (),
            run_as(script, 2, default) if script else default,
            on_reload,
        )
