"""What messages about a file are made of."""

import difflib
import json
import shlex
import shutil
from collections.abc import Iterable, Sequence


def shown(value: object) -> str:
    try:
        text = "a table" if isinstance(value, dict) else json.dumps(value, default=str, ensure_ascii=False)
    except (RecursionError, ValueError):
        text = "a value of many levels"
    return text if len(text) <= 60 else text[:59] + "…"


def listed(words: Sequence[str]) -> str:
    """As `a, b and c`."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def few(words: Sequence[str], between: str, most: int) -> str:
    rest = len(words) - most
    return between.join(words[:most]) + (f" and {rest} more" if rest > 0 else "")


def closest(word: str, words: Iterable[str]) -> str:
    """Empty: none is close."""
    return next(iter(difflib.get_close_matches(word, list(words), 1)), "")


def as_list(line: str) -> str:
    """A hint for a command in one string. No shell will split it."""
    try:
        first, *rest = shlex.split(line)
    except ValueError:
        return 'write a list of the path and each argument: ["/usr/bin/pgrep", "haproxy"]'
    path = first if "/" in first else shutil.which(first) or f"/usr/bin/{first}"
    return f"write a list; no shell is involved: {json.dumps([path, *rest], ensure_ascii=False)}"
