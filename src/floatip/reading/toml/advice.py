"""What to do about a file that cannot be read, or is not TOML."""

import errno
import re

KEEPALIVED = re.compile(
    r"^\s*(vrrp_instance|vrrp_script|vrrp_sync_group|virtual_server|global_defs)\b[^=\n]*$", re.MULTILINE
)
SECRET = re.compile(r"md5|pass|secret|hmac|\bkey\s*=|[0-9a-f]{64}", re.IGNORECASE)
LONGEST = 100
GENERAL = 'write a key and a value, as in name = "VI_1", or a [table]'
ONE_LINE = "end it with } on this line, or write its keys below a [header]"
CLOSE_STRING = "end the string with a quote"
TWICE = "the same key is there twice: keep one of the two"
PLAIN = 'use plain quotes, as in name = "VI_1"'
BACKSLASH = "double the backslash, or write the string in single quotes"
HINTS = {
    "unclosed array": "end the list with ], or add a comma",
    "unclosed inline table": ONE_LINE,
    "unterminated string": CLOSE_STRING,
    "illegal character '\\n'": CLOSE_STRING,
    "found invalid character '\\n'": CLOSE_STRING,
    "expected \"'": CLOSE_STRING,
    "illegal character": "remove the character, which is not printable",
    "found invalid character": "remove the character, which is not printable",
    "unescaped '\\'": BACKSLASH,
    "invalid hex value": BACKSLASH,
    "escaped character": BACKSLASH,
    "cannot overwrite a value": TWICE,
    "duplicate inline table key": TWICE,
    "cannot declare": "join the two tables; several checks or instances have two brackets each: [[check]]",
    "cannot mutate": "add these keys where the table is written out above",
    "cannot redefine": "write all keys of the table in one place",
    "expected ']": "write one name between the brackets, as in [linode] or [[instance]]",
    "invalid date": "write strings in quotes",
    "exceeds the limit": "write a number of fewer digits",
}
"""By the beginning of what `tomllib` says; the first that fits."""
KEY = re.compile(r"""("[^"]*"|'[^']*'|[\w.-]+)\s*=""")
HEADER = re.compile(r"\s*(\[{1,2}[\w.\s-]+\]{1,2})\s*(#.*)?")
CURLY = re.compile("[“”„‘’]")  # noqa: RUF001
CLOSED_CURLY = re.compile(r"[\"'][^\"']*[“”„‘’][^\"']*$")  # noqa: RUF001
SWALLOWED = re.compile(r"""(?:"([^",]*),(?:[^"]*[=\[,])?\s*"|'([^',]*),(?:[^']*[=\[,])?\s*')\s*$""")
"""A string that ends where the next one should begin: it holds a comma and the key or bracket behind it."""
UNIT = re.compile(r"(ms|s|secs?|seconds?|m|mins?|minutes?)\b")
WITHOUT_UNIT = "write seconds without a unit; half a second is 0.5"
BOOLEANS = dict.fromkeys(("yes", "on", "true"), "true") | dict.fromkeys(("no", "off", "false"), "false")


FOR_NOW = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE)
"""It is the machine that refuses, and not the file that is wrong."""


def unreadable(file: str, number: int | None) -> str:
    is_keepaliveds = file.endswith(".conf")
    if number == errno.ENOENT and is_keepaliveds:
        return "look for it: ls -l /etc/keepalived"
    if number == errno.ENOENT:
        return "make it: floatip init, or floatip adopt where keepalived runs"
    if number == errno.EACCES:
        return f"let user floatip read it: chown root:floatip {file} && chmod 640 {file}"
    if number in FOR_NOW:
        return "see what is short, or broken: free -m; cat /proc/sys/fs/file-nr; journalctl -k"
    if number == errno.EFBIG:
        return "is it the right file? It may include others" if is_keepaliveds else "is it the right file?"
    return f"give the path of a {'keepalived.conf' if is_keepaliveds else 'TOML file'}"


def not_toml(text: str, error: str) -> tuple[int, str, str]:
    """The line, what is wrong and a hint, from what `tomllib` says."""
    what, _, place = error.partition(" (at ")
    what = f"{what[0].lower()}{what[1:]}"
    lines = text.rstrip("\n").split("\n")
    found = re.match(r"line (\d+), column (\d+)", place)
    number, column = (int(found[1]), int(found[2])) if found else (len(lines), len(lines[-1]) + 1)
    line = lines[number - 1] if number <= len(lines) else ""
    if KEEPALIVED.search(text):
        hint = "this is a keepalived.conf: give it a name that ends in .conf, or see floatip convert"
    else:
        hint = _hint(what, line.rstrip(), column, goes_on=number < len(lines))
    return number, f"not TOML: {what} at column {column}{_quoted(line.strip())}", hint


def _quoted(line: str) -> str:
    """A password has no place in a journal."""
    if not line or SECRET.search(line):
        return ""
    return f": {line if len(line) <= LONGEST else line[: LONGEST - 1] + '…'}"


def _hint(what: str, line: str, column: int, *, goes_on: bool) -> str:
    is_secret = bool(SECRET.search(line))
    rest = "" if is_secret else line[column - 1 :].partition("#")[0].strip()[:40]
    key, begun, value = _value(line, column)
    if CURLY.match(line, column - 1):
        return PLAIN
    if what.startswith("unclosed") and (swallowed := SWALLOWED.search(line[: column - 1])):
        return (
            "a quote is not closed" if is_secret else f'a quote is not closed: write "{swallowed[1] or swallowed[2]}"'
        )
    if what.startswith("unclosed") and begun:
        return _for_value(key, value, is_secret=is_secret)
    if what == "invalid value" and not value:
        return GENERAL if goes_on else "end what is open: a list ends with ], a table with }"
    if what == "invalid value":
        return _in_list(line, rest) or _for_value(key, value, is_secret=is_secret)
    if what == "expected newline or end of document after a statement":
        return _behind_value(key, begun, value, rest, is_secret=is_secret)
    if what == "invalid statement" and rest[:1] in ("]", "}"):
        return f"remove {rest[0]}: nothing is open here"
    if what == "invalid initial character for a key part" and rest[:1] in ("", "}"):
        return "remove the comma before }" if rest else ONE_LINE
    if what.startswith("expected '='") and rest.startswith(":"):
        return "write = instead of the colon"
    if what.startswith("unclosed") and rest:
        return _in_list(line, rest) or f"a comma is missing before {rest}"
    hint = next((hint for begins, hint in HINTS.items() if what.startswith(begins)), GENERAL)
    return PLAIN if hint is CLOSE_STRING and CLOSED_CURLY.search(line) else hint


def _value(line: str, column: int) -> tuple[str, str, str]:
    """Of the value without quotes at the column: its key and an equals sign, what stands before the column, all of it.

    All are empty where it is in quotes or brackets, or where a space follows.
    """
    before = re.search(r"(?:([\w.-]+)\s*=|[\[,]|^)\s*([^=,{[\s\"'\]}#]*)$", line[: column - 1][-LONGEST:])
    if not before:
        return "", "", ""
    after = re.match(r"[^\s,\]}#\"']*", line[column - 1 :])
    return f"{before[1]} = " if before[1] else "", before[2], f"{before[2]}{after[0] if after else ''}"


def _in_list(line: str, rest: str) -> str:
    """Where a list is still open, and the next key or header comes; empty: it does not come."""
    if (key := KEY.match(rest)) and line.lstrip().startswith(rest):
        return f"end the list with ] before {key[1]}"
    header = HEADER.fullmatch(line)
    return f"end the list with ] before {header[1]}" if header else ""


def _behind_value(key: str, begun: str, value: str, rest: str, *, is_secret: bool) -> str:
    """A value is complete, and the line goes on."""
    if is_secret:
        return "write one value in quotes, and nothing behind it"
    if next_key := KEY.match(rest):
        return f"start a new line before {next_key[1]}"
    if rest.startswith("["):
        return f"start a new line before {rest}"
    if begun and (decimals := re.match(r",(\d+)", rest)):
        return f"write a point: {key}{begun}.{decimals[1]}"
    if rest[:1] in (",", ";", "]", "}"):
        return f"remove {rest[0]} behind the value"
    if begun:
        return _for_value(key, value, is_secret=False)
    return WITHOUT_UNIT if UNIT.match(rest) else f"remove {rest or 'what follows'}, or write it between the quotes"


def _for_value(key: str, value: str, *, is_secret: bool) -> str:
    if boolean := BOOLEANS.get(value.lower()):
        return f"write true or false, in lower case: {key}{boolean}"
    if value.lower() in ("null", "none", "nil"):
        return "remove the key: without it, the default counts"
    if re.fullmatch(r"0[0-9]{1,9}", value):
        return f"write the number without a zero in front: {key}{int(value)}"
    if re.fullmatch(r"\.[0-9]{1,9}|[0-9]{1,9}\.", value):
        return f"write digits on both sides of the point: {key}{float(value)}"
    if re.fullmatch(r"[\d.]+" + UNIT.pattern, value):
        return WITHOUT_UNIT
    is_shown = not is_secret and len(value) <= LONGEST
    return f'write strings in quotes: {key}"{value}"' if is_shown else "write strings in quotes"
