"""What to do about a file that cannot be read, or is not TOML."""

import errno
import re

KEEPALIVED = re.compile(
    r"^\s*(vrrp_instance|vrrp_script|vrrp_sync_group|virtual_server|global_defs)\b[^=\n]*$", re.MULTILINE
)
SECRET = re.compile(r"md5|pass|secret", re.IGNORECASE)
LONGEST = 100
GENERAL = 'write a key and a value, as in name = "VI_1", or a [table]'
HINTS = {
    "unclosed array": "end the list with ], or add a comma",
    "unclosed inline table": "end it with } on this line, or write it below a [header]",
    "unterminated string": "end the string with a quote",
    "cannot overwrite a value": "the same key is there twice: keep one of the two",
    "cannot declare": "join the two tables; several checks or instances have two brackets each: [[check]]",
}
"""By the beginning of what `tomllib` says."""
BOOLEANS = dict.fromkeys(("yes", "on", "true"), "true") | dict.fromkeys(("no", "off", "false"), "false")


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
    if what in ("invalid value", "expected newline or end of document after a statement"):
        return _for_value(line, column, goes_on=goes_on, is_secret=is_secret)
    if what == "invalid initial character for a key part" and rest.startswith("}"):
        return "remove the comma before }"
    if what.startswith("unclosed") and rest:
        return f"a comma is missing before {rest}"
    return next((hint for begins, hint in HINTS.items() if what.startswith(begins)), GENERAL)


def _for_value(line: str, column: int, *, goes_on: bool, is_secret: bool) -> str:
    found = re.search(r"([\w.-]+)\s*=\s*[^=,{[\s]*$", line[: column - 1])
    key = f"{found[1]} = " if found else ""
    begins = line.rindex("=", 0, column) + 1 if found else column - 1
    value = (re.match(r"\s*([^\s,\]}#\"']*)", line[begins:]) or ("", ""))[1]
    if not value:
        return GENERAL if goes_on else "end what is open: a list ends with ], a table with }"
    if boolean := BOOLEANS.get(value.lower()):
        return f"write true or false, in lower case: {key}{boolean}"
    if re.fullmatch(r"[\d.]+(ms|s|sec|m|min)", value):
        return "write seconds without a unit; half a second is 0.5"
    return "write strings in quotes" if is_secret else f'write strings in quotes: {key}"{value}"'
