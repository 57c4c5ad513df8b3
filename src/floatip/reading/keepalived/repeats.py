"""Lines that keepalived repeats: `~SEQ` with each number, `~LST` with each word of a list; and braces of an include."""

import re
from collections.abc import Iterator

SEQUENCE = re.compile(r"~SEQ(x?)\s*\(\s*([A-Za-z_]\w*)\s*,([^)]*)\)\s*(.*)", re.ASCII | re.DOTALL)
LIST = re.compile(r"~LST\s*\(\s*(\{[^{}]*\}|[A-Za-z_]\w*)\s*,\s*([^)]*)\)\s*(.*)", re.ASCII | re.DOTALL)
ITEM = re.compile(r"\{([^{}]*)\}|([^,{}]+)")
NUMBER = re.compile(r"[+-]?(0[xX][0-9a-fA-F]{1,15}|[0-9]{1,18})")
BRACES = re.compile(r"\{([^{}]*)\}")
MOST_BRACES = 1_000

Round = tuple[dict[str, str], str]
"""What the variables are, and the rest of the line."""


def rounds(text: str) -> Iterator[Round] | None:
    """None: it is neither, or not as keepalived has it."""
    if found := SEQUENCE.fullmatch(text):
        is_hex, name, figures, rest = found.groups()
        numbers = _numbers(figures.split(","))
        if numbers is None or (is_hex and min(numbers[0], numbers[-1]) < 0):
            return None
        return (({name: f"{number:x}" if is_hex else str(number)}, rest) for number in numbers)
    if found := LIST.fullmatch(text):
        names = [name.strip() for name in found[1].strip("{}").split(",")]
        items = [(item[1] if item[1] is not None else item[2]) for item in ITEM.finditer(found[2])]
        values = [[word.strip() for word in item.split(",")] for item in items if item.strip()]
        if not values or any(len(words) > len(names) for words in values):
            return None
        blank = [""] * len(names)
        return ((dict(zip(names, [*words, *blank], strict=False)), found[3]) for words in values)
    return None


def _numbers(figures: list[str]) -> range | None:
    texts = [figure.strip() for figure in figures]
    if not all(map(NUMBER.fullmatch, texts)) or len(texts) > 3:
        return None
    given = [_number(text) for text in texts]
    first, step, last = given[0], 0, given[-1]
    if len(given) == 1:
        first = -1 if last < 0 else 1
    if len(given) == 3:
        step = given[1]
        if not step or (last - first) * step < 0:
            return None
    step = step or (1 if first <= last else -1)
    return range(first, last + (1 if step > 0 else -1), step)


def _number(text: str) -> int:
    """As strtol has it, which takes a leading 0 for octal."""
    digits = text.lstrip("+-")
    base = 16 if digits[:2] in ("0x", "0X") else 8 if digits[0] == "0" and re.fullmatch("[0-7]+", digits) else 10
    return int(digits, base) * (-1 if text[0] == "-" else 1)


def alternatives(pattern: str) -> list[str]:
    """A pattern without its braces, as a shell expands them."""
    found = [pattern]
    while any(map(BRACES.search, found)) and len(found) < MOST_BRACES:
        found = [each for one in found for each in _first_braces(one)]
    return found[:MOST_BRACES]


def _first_braces(pattern: str) -> list[str]:
    braces = BRACES.search(pattern)
    if not braces:
        return [pattern]
    return [pattern[: braces.start()] + each + pattern[braces.end() :] for each in braces[1].split(",")]
