"""Text in HTML and SVG. Others chose names, reasons and what checks print: nothing in them is markup."""

from html import escape

from floatip.text import printable


def text(value: object) -> str:
    """For an element and for a quoted attribute. Characters that no screen shows are spelled out."""
    shown = str(value)
    return escape(shown if shown.isprintable() else printable(shown))


def few(names: list[str], most: int) -> str:
    """The first of them, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names) if rest <= 0 else f"{', '.join(names[:most])} and {rest} more"
