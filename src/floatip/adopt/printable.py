"""Names and contents of files are written by others: nothing in them reaches a terminal as a command to it."""


def printable(text: str) -> str:
    """On one line: what cannot be shown, a line end and half a character of another encoding too, as an escape."""
    return "".join(char if char.isprintable() or char == "\t" else ascii(char)[1:-1] for char in text)


def printable_lines(text: str) -> str:
    """Of a text that has lines of ours."""
    return "\n".join(map(printable, text.split("\n")))
