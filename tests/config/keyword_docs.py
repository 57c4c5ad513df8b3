"""The list of keywords in docs/reference/keepalived-conf.md, made of the table that the reader has.

`python -m tests.config.keyword_docs` writes it.
"""

from pathlib import Path

from floatip.reading.keepalived.keywords import KEYWORDS, Effect

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "keepalived-conf.md"
BEGIN, END = "<!-- keywords: begin -->", "<!-- keywords: end -->"
SAID: dict[Effect, str] = {"done": "done", "accepted": "no effect", "warning": "warning", "error": "**error**"}


def listed() -> str:
    lines = [BEGIN]
    for block, known in KEYWORDS.items():
        title = (
            "Outside of blocks" if block == "top" else f"`{block}`" if block != "preprocessor" else "How lines are read"
        )
        lines += ["", f"### {title}", "", "| keyword | floatip | |", "|---|---|---|"]
        for one in known.values():
            note = one.note.replace("|", "\\|")
            lines.append(f"| `{one.name}` | {SAID[one.effect]} | {note} |")
    return "\n".join([*lines, "", END])


def page() -> str:
    """With the list as it must be."""
    text = PAGE.read_text()
    return text[: text.index(BEGIN)] + listed() + text[text.index(END) + len(END) :]


if __name__ == "__main__":
    PAGE.write_text(page())
