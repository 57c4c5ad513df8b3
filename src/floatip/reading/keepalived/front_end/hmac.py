"""`auth_hmac`: the keys of keepalived 2.4's signed adverts."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, cast

from floatip.core.settings import Hmac
from floatip.reading import regular
from floatip.reading.keepalived.front_end.sheet import Sheet
from floatip.reading.keepalived.front_end.values import Values
from floatip.reading.keepalived.syntax import Statement

LEAST, MOST = 32, 64
"""Octets of a key."""


def hmac(instance: Statement, sheet: Sheet) -> Hmac | None:
    block = next(instance.all("auth_hmac"), None)
    if not block:
        return None
    values = Values(block.block or (), "auth_hmac", sheet)
    keys = dict(_keys(values, sheet))
    if not keys and values.last("key"):
        return None  # what is wrong with it is said
    if not keys:
        sheet.error(block, f"{instance}: auth_hmac has no key", "add: key 1 file:/etc/keepalived/key")
        return None
    active = values.whole("active_key", next(iter(keys)))
    if active not in keys:
        sheet.error(block, f"{instance}: active_key {active} is none of the keys", f"add key {active}, or name another")
        return None
    mode = cast(Literal["receive-only", "permissive", "enforce"], values.choice("mode", "enforce"))
    window, monotonic = values.number("time_window", 0), values.choice("anti_replay", "time") == "monotonic"
    return Hmac(tuple(keys.items()), active, mode, window, monotonic)


def _keys(values: Values, sheet: Sheet) -> Iterator[tuple[int, bytes]]:
    """No message shows any of a key."""
    for line in values.all("key"):
        number = line.argument(1)
        if len(line.words) < 3 or not re.fullmatch("[0-9]{1,3}", number) or not 1 <= int(number) <= 255:
            sheet.error(line, "key: not an id from 1 to 255 and a key", "for example key 1 file:/etc/keepalived/key")
            continue
        key = _octets(line.argument(2), line, sheet)
        if key is not None and not LEAST <= len(key) <= MOST:
            what = f"key {number}: {len(key)} octets, and a key has {LEAST} to {MOST}"
            sheet.error(line, what, "openssl rand -hex 32, and write hex: before it")
        elif key is not None:
            yield int(number), key


def _octets(text: str, line: Statement, sheet: Sheet) -> bytes | None:
    if text.startswith("file:"):
        path = Path(text.removeprefix("file:"))
        try:
            text = regular.read(path).decode(errors="surrogateescape").rstrip("\r\n")
        except OSError as error:
            sheet.on_machine(line, f"key: {path} cannot be read: {error.strerror}", f"ls -l {path}")
            return None
    if not text.startswith("hex:"):
        return text.encode(errors="surrogateescape")
    try:
        return bytes.fromhex(text.removeprefix("hex:").replace(":", ""))
    except ValueError:
        sheet.error(line, "key: not hex digits behind hex:", "openssl rand -hex 32")
        return None
