"""What to do about a file that cannot be read, or is not TOML."""

import errno
import re

KEEPALIVED = re.compile(
    r"^\s*(vrrp_instance|vrrp_script|vrrp_sync_group|virtual_server|global_defs|static_ipaddress)\b[^=]*$", re.MULTILINE
)
SECRET = re.compile(r"md5|pass|key|secret", re.IGNORECASE)
LONGEST = 100
GENERAL = 'a line is a key and a value, as in name = "VI_1", or a [table]'


def unreadable(file: str, number: int | None) -> str:
    if number == errno.ENOENT:
        return "make it: floatip init, or floatip adopt where keepalived runs"
    if number == errno.EACCES:
        return f"let user floatip read it: chown root:floatip {file} && chmod 640 {file}"
    return "give the path of a TOML file"


def not_toml(text: str, error: str) -> tuple[int, str, str]:
    """The line, what is wrong and a hint, from what `tomllib` says."""
    what, _, place = error.partition(" (at ")
    what = f"{what[0].lower()}{what[1:]}"
    lines = text.rstrip("\n").split("\n")
    found = re.match(r"line (\d+), column (\d+)", place)
    number, column = (int(found[1]), int(found[2])) if found else (len(lines), len(lines[-1]) + 1)
    line = lines[number - 1] if number <= len(lines) else ""
    if KEEPALIVED.search(text):
        hint = "this is a keepalived.conf: floatip adopt takes it over"
    else:
        hint = _hint(what, line.rstrip(), column, number < len(lines))
    return number, f"not TOML: {what} at column {column}{_quoted(line.strip())}", hint


def _quoted(line: str) -> str:
    """A password has no place in a journal."""
    if not line or SECRET.search(line):
        return ""
    return f": {line if len(line) <= LONGEST else line[: LONGEST - 1] + '…'}"


def _hint(what: str, line: str, column: int, goes_on: bool) -> str:
    rest = line[column - 1 :].strip().partition("#")[0].strip()
    key, _, value = (part.strip() for part in line.partition("="))
    word = re.match(r"[\w./:-]*", value)
    bare = word[0] if word else ""
    match what:
        case "unclosed array" | "unclosed inline table":
            close = "]" if what == "unclosed array" else "}"
            return (
                f"a comma is missing before {rest}" if rest else f"a comma or {close} is missing at the end of the line"
            )
        case "invalid value" | "expected newline or end of document after a statement" if bare:
            if bare.lower() in ("yes", "no", "on", "off", "true", "false"):
                is_true = bare.lower() in ("yes", "on", "true")
                return f"write {key} = {'true' if is_true else 'false'}: there are true and false, in lower case"
            return f'strings stand in quotes: {key} = "{bare}"' if not SECRET.search(key) else "strings stand in quotes"
        case "invalid value" if not goes_on:
            return "close what is open: a list ends with ], a table with }"
        case "unterminated string":
            return "close the string with a quote"
        case "cannot overwrite a value":
            return f"{key} is there twice: keep one of them"
        case _ if what.startswith("cannot declare"):
            return "the table is there twice: join them; several checks or instances have two brackets: [[check]]"
    return GENERAL
