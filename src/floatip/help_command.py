"""`floatip help WORD`: what the documents say of a code, a command, a key or a keyword, in the terminal."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from floatip.commands import COMMANDS, Refusal, overview
from floatip.core.refusals import Why
from floatip.reading.words import closest
from floatip.text import columns, folded

HERE = Path(__file__).parent
INSTALLED = Path("/usr/share/doc/floatip")
PLACES = (HERE / "docs", HERE.parents[1] / "docs", INSTALLED)
"""In a wheel, beside the sources, and where the packages have them."""
OF_CODES = ("troubleshooting.md", "refusals.md")
WIDEST = 100
"""Columns; longer lines are hard to read."""
SEPARATOR = re.compile(r"\|[-| ]+\|")


@dataclass(slots=True)
class Section:
    page: str
    level: int
    title: str
    lines: list[str] = field(default_factory=list)
    """With the headings of those below it."""


def tell(word: str) -> int:
    """The exit status. Raises `Refusal`."""
    if not word:
        print(overview())
        return 0
    sections = list(_sections())
    found = [one for one in sections if _bare(one.title) == word]
    if word in COMMANDS:
        _help(word)
        print("\n" if found else "", end="")
    elif not found:
        found = list(_rows(sections, word))
    if not found and word not in COMMANDS:
        raise Refusal(f"there is no help on {word!r}", _instead(word, sections), Why.NO_HELP)
    width = min(columns(), WIDEST)
    for number, one in enumerate(found):
        print(f"{chr(10) if number else ''}{_plain(one.title)}  ({one.page})\n")
        print("\n".join(_drawn(one.lines, width)).strip("\n"))
    return 0


def _help(command: str) -> None:
    from floatip.arguments import Parser  # noqa: PLC0415

    if command in ("lelastic", "notify"):  # they take their arguments as they are
        COMMANDS[command].run("--help")
    else:
        Parser(COMMANDS[command]).print_help()


def _instead(word: str, sections: list[Section]) -> str:
    known = {*COMMANDS, *(_bare(one.title) for one in sections), *(row[0] for row in _keys(sections))}
    close = closest(word, [name for name in known if " " not in name])
    return (
        f"did you mean {close}?"
        if close
        else "give a code of a message, a command, a key of floatip.toml, or a keyword"
    )


def pages() -> Path:
    """The directory of the documents. Raises `Refusal`."""
    for directory in PLACES:
        if (directory / "operate").is_dir():
            return directory
    what = f"the documents are missing: minimal systems leave out {INSTALLED.parent}"
    raise Refusal(what, "read them in the source of floatip, or install the package on a full system", Why.NO_HELP)


def _sections() -> Iterator[Section]:
    directory = pages()
    paths = (*directory.glob("operate/*.md"), *directory.glob("reference/*.md"))
    for path in sorted(paths, key=lambda path: (path.name not in OF_CODES, path)):
        open_sections: list[Section] = []
        is_code = False
        for line in path.read_text().splitlines():
            is_code ^= line.startswith("```")
            heading = re.match(r"(#+) (.*)", line) if not is_code else None
            if heading:
                level = len(heading[1])
                yield from (one for one in open_sections if one.level >= level)
                open_sections = [one for one in open_sections if one.level < level]
            for one in open_sections:
                one.lines.append(line)
            if heading:
                open_sections.append(Section(str(path.relative_to(directory)), level, heading[2]))
        yield from open_sections


def _keys(sections: list[Section]) -> Iterator[tuple[str, Section, list[str]]]:
    """Each name that begins a row of a table, where it is, and the table's head and the row."""
    for one in sections:
        head: list[str] = []
        for line in one.lines:
            if line.startswith("#"):
                break  # what is below has a section of its own
            if not line.startswith("|"):
                head = []
            elif not head:
                head = [line]
            elif not SEPARATOR.fullmatch(line):
                for name in re.findall(r"`([^`]+)`", _cells(line)[0]):
                    yield name, one, [*head, "|---|", line]


def _rows(sections: list[Section], word: str) -> Iterator[Section]:
    for name, one, lines in _keys(sections):
        if name == word:
            yield Section(one.page, one.level, one.title, lines)


def _drawn(lines: list[str], width: int) -> Iterator[str]:
    """Markdown as text: paragraphs are folded, a row of a table is a block with the names of its columns."""
    paragraph: list[str] = []
    head: list[str] = []
    is_code = False

    def flush() -> Iterator[str]:
        if paragraph:
            text = _plain(" ".join(part.strip() for part in paragraph))
            yield from folded(text, width, 2 if text.startswith(("* ", "- ")) else 0)
            paragraph.clear()

    for line in lines:
        begins = re.match(r"(\*|-|\d+\.) ", line)
        if is_code or line.startswith(("```", "|", "#")) or not line.strip() or begins:
            yield from flush()
        if line.startswith("```"):
            is_code = not is_code
        elif is_code:
            yield f"    {line}"
        elif line.startswith("|"):
            if not head:
                head = [_plain(cell) for cell in _cells(line)]
            elif not SEPARATOR.fullmatch(line) and line != "|---|":
                yield from _row(head, [_plain(cell) for cell in _cells(line)], width)
            continue
        elif line.startswith("#"):
            yield _plain(line.lstrip("# "))
        elif line.strip():
            paragraph.append(line)
        else:
            yield ""
        head = []
    yield from flush()


def _row(head: list[str], cells: list[str], width: int) -> Iterator[str]:
    yield from folded(cells[0], width, 2)
    for name, cell in zip(head[1:], cells[1:], strict=False):
        if cell:
            yield from folded(f"  {name}: {cell}" if name else f"  {cell}", width, 4)


def _cells(line: str) -> list[str]:
    return [cell.replace("\\|", "|").strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def _plain(text: str) -> str:
    """Without links and bold letters. What is code keeps its quotes."""
    return re.sub(r"\*\*(.+?)\*\*", r"\1", re.sub(r"\[([^\]]+|`[^`]*`)\]\([^)]+\)", r"\1", text))


def _bare(title: str) -> str:
    return title.replace("`", "").strip("[]")
