"""Text to statements: comments, conditions, definitions, includes, blocks, quotes.

A line is a statement, and a brace ends a line. keepalived continues after an error and ignores the line; here an
unbalanced file is refused. Not supported: `${_RANDOM}`.
"""

import errno
import glob
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from floatip.reading import regular
from floatip.reading.keepalived.repeats import alternatives, rounds


@dataclass(frozen=True, slots=True)
class Place:
    """Where a statement begins."""

    file: Path
    line: int
    """0: the file as a whole."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else str(self.file)


@dataclass(frozen=True, slots=True)
class Statement:
    """A keyword, its arguments, and its block if it has one."""

    place: Place
    words: tuple[str, ...]
    block: tuple["Statement", ...] | None = field(default=None, repr=False)
    end_line: int = 0
    """The last line of the statement, in the file where it begins (that of the closing brace)."""
    is_secret: bool = False
    """It stands in a block of passwords or keys, and also a misspelt line of it may hold one."""

    @property
    def keyword(self) -> str:
        return self.words[0]

    def all(self, keyword: str) -> Iterator["Statement"]:
        return (statement for statement in self.block or () if statement.keyword == keyword)

    def first(self, keyword: str) -> "Statement | None":
        """The one that counts where keepalived ignores a second line."""
        return next(self.all(keyword), None)

    def last(self, keyword: str) -> "Statement | None":
        """The one that counts where keepalived lets a later line override an earlier one."""
        return next((statement for statement in reversed(self.block or ()) if statement.keyword == keyword), None)

    def argument(self, number: int = 1) -> str:
        return self.words[number] if number < len(self.words) else ""

    def __str__(self) -> str:
        return _without_secret(self.words) if self.is_secret else shown(" ".join(self.words))


Errors = list[tuple[Place, str, str]]


@dataclass(slots=True)
class Doubts:
    """Of what the statements mean."""

    errors: Errors = field(default_factory=list)
    """What the file means is not clear, or keepalived does not start with it."""
    left_out: Errors = field(default_factory=list)
    """keepalived runs without it, or with another value."""


class NotUnderstood(Exception):
    """All that stands in the way of using the file, each with its place."""

    def __init__(self, errors: Errors) -> None:
        super().__init__("\n".join(f"{place}: {what}\n  hint: {hint}" for place, what, hint in errors))
        self.errors = errors


Line = tuple[Place, str]

# What keepalived runs is split as a shell would: both kinds of quotes, and the escapes of $'...'.
COMMANDS = re.compile(r"(\w+_)?script|notify(_(master|backup|fault|stop|deleted|master_rx_lower_pri))?")
ESCAPE = r"\\(?:x[0-9A-Fa-f]+|[0-7]{1,3}|c.|.)"
ESCAPED = dict(zip("abEfnrtv", "\a\b\x1b\f\n\r\t\v", strict=True))
PIECE = rf""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|{ESCAPE}|[^\s"'\\]"""
WORD = re.compile(f"(?:{PIECE})+")
# In other statements only double quotes count, and a quote also ends a word.
PLAIN_WORD = re.compile(r'"([^"]*)"|([^\s"]+)')
# Single quotes protect neither comments nor braces, as in keepalived.
DOUBLE_QUOTED = r'"(?:\\.|[^"\\])*"|".*$|\\.|\\$'
# keepalived removes comments twice: the first time takes the backslash from \#, so the second cuts there.
UNCOMMENTED = re.compile(rf'(?:(?!\\[!#])(?:{DOUBLE_QUOTED})|[^"\\!#])*')
CONTINUED = re.compile(r"(.*(?<!\\)(?:\\\\)*)\\\r?")
# Here a backslash protects nothing.
BRACES = re.compile(r'[{}]|(?:"[^"]*"|"[^"]*$|[^"{}])+')
CONDITION = re.compile(r"@(\^?)(\S*)\s*(.*)")
DEFINITION = re.compile(r"\$([A-Za-z_]\w*)=\s*(.*)", re.ASCII)
USE = re.compile(r"\$([A-Za-z_]\w*)(?=[\s,)]|$)|\$\{([A-Za-z_]\w*)\}", re.ASCII)
INCLUDE = re.compile(r"include([rmwba]?)\s+(\S+)")
UNSUPPORTED = re.compile(r"\$\{_(RANDOM|ENV)\b[^}]*\}")
ENVIRONMENT = re.compile(r"\$\{_ENV\s+([A-Za-z_]\w*)\s*\}", re.ASCII)
INCLUDE_CHECK = re.compile(r"include_check\b\s*(.*)")
CHECKS = {"readable", "match", "wildcard_match", "brace_match"}
OF_KIND = {"m": {"match"}, "w": {"match", "wildcard_match"}, "b": {"brace_match"}, "a": CHECKS}
"""What `includem` and its like check."""
TEMPLATE = re.compile(r"(?!~|include).*(\{\{.*\}\}|\{%.*%\})")
"""Of Jinja, Go or Helm, outside of double quotes."""
DEEPEST = 50
MOST_LINES = 100_000
MOST_FILES = 1_000
LONGEST_LINE = 1022
"""Bytes: keepalived reads what follows as a line of its own."""
OUTERMOST = ("global_defs", "vrrp_script", "vrrp_sync_group", "vrrp_instance", "virtual_server")


SECRET_BLOCK = re.compile(r"auth", re.IGNORECASE)
"""How a block begins that holds passwords or keys, also where its name is misspelt."""
NO_SECRETS = ("auth_type", "active_key", "mode", "time_window", "anti_replay")
SECRET = re.compile(r"((?:^|\s)(?:auth_?p\w*|\w*pass\w*|key\s+\S+))[\s=:].+", re.IGNORECASE)


def shown(text: str) -> str:
    """Without what may be a password or a key."""
    return SECRET.sub(r"\1 ...", text)


def _without_secret(words: tuple[str, ...]) -> str:
    if words[0] in NO_SECRETS:
        return " ".join(words[:2])
    keyword = re.sub(r"\W.*", "", words[0])
    return keyword if words == (keyword,) else f"{keyword} ..."


def split(text: str) -> tuple[str, ...]:
    """The words of a command: quotes keep white space together and disappear."""
    words = (re.sub(PIECE, lambda piece: _unquoted(piece[0]), word) for word in WORD.findall(text))
    return tuple(word.partition("\0")[0] for word in words)


def _words(text: str) -> tuple[str, ...] | None:
    """The words of a statement; None: a quote is not closed."""
    keyword = text.split(None, 1)[0]
    if COMMANDS.fullmatch(keyword):
        words = split(text)
        # The command is split once more when it is run.
        return None if any(WORD.sub("", part).strip() for part in (text, *words[1:2])) else words
    if text.count('"') % 2:
        return None
    return tuple(quoted or plain for quoted, plain in PLAIN_WORD.findall(text))


def _unquoted(piece: str) -> str:
    return re.sub(ESCAPE, lambda escape: _meaning(escape[0][1:]), piece[1:-1] if piece[0] in "\"'" else piece)


def _meaning(escape: str) -> str:
    if escape[0] in "xc" and len(escape) > 1:
        return chr(int(escape[1:], 16) & 0xFF if escape[0] == "x" else ord(escape[1]) & 0x1F)
    return chr(int(escape, 8) & 0xFF) if escape[0] in "01234567" else ESCAPED.get(escape, escape)


@dataclass(slots=True)
class Reader:
    root: Path
    config_id: str
    texts: Mapping[Path, str] = field(default_factory=dict)
    """Read in place of the files."""
    files: list[Path] = field(default_factory=list)
    errors: Errors = field(default_factory=list)
    _open: list[Path] = field(default_factory=list)
    _definitions: dict[str, list[str]] = field(default_factory=dict)
    environment: Mapping[str, str] | None = None
    """What `${_ENV NAME}` stands for, which keepalived 2.2 does not know; None: it is not supported."""
    _include_checks: set[str] = field(default_factory=set)
    _lines: int = 0
    _opened: int = 0

    def statements(self, path: Path) -> tuple[Statement, ...]:
        self._definitions = {"_INSTANCE": [self.config_id], "_HASH": ["#"], "_BANG": ["!"]}
        found: list[Statement] = []
        opened: list[tuple[Statement, list[Statement]]] = []
        """The statements whose blocks are open, each with the list that it will be put in."""
        for place, text in self._pieces(path):
            match text:
                case "{" if found and found[-1].block is None:
                    if opened and found[-1].keyword in OUTERMOST:
                        what = f"{found[-1]} {{: inside of {opened[-1][0]}"
                        self._error(place, what, "add the } that is missing above it")
                    opened.append((found.pop(), found))
                    found = []
                case "{":
                    hint = "a block begins with its keyword: vrrp_script chk {"
                    self._error(place, "a { that follows no keyword", hint)
                case "}" if opened:
                    statement, outer = opened.pop()
                    end_line = place.line if place.file == statement.place.file else statement.place.line
                    outer.append(replace(statement, block=tuple(found), end_line=end_line))
                    found = outer
                case "}":
                    self._error(place, "a } that closes nothing", "remove it, or look above it for a { that is missing")
                case _:
                    is_secret = any(SECRET_BLOCK.match(each.keyword) for each, _ in opened)
                    if words := _words(text):
                        found.append(Statement(place, words, end_line=place.line, is_secret=is_secret))
                    else:
                        named = _without_secret(tuple(text.split())) if is_secret else shown(text)
                        self._error(place, f"{named}: a quote that is not closed", "close it on the same line")
        for statement, _ in opened:
            self._error(statement.place, f"{statement} {{: never closed", "add the } that is missing")
        return tuple(found)

    def _error(self, place: Place, what: str, hint: str) -> None:
        self.errors.append((place, what, hint))

    def _pieces(self, path: Path) -> Iterator[Line]:
        for place, text in self._file(path, Place(path, 0)):
            for piece in BRACES.findall(text):
                if piece.strip():
                    yield place, piece.strip()

    def _file(self, path: Path, included: Place) -> Iterator[Line]:
        self._opened += 1
        if self._opened > MOST_FILES:
            what = f"more than {MOST_FILES} files are included"
            raise NotUnderstood([*self.errors, (included, what, "look for files that include each other")])
        if path in self._open:
            return self._error(included, f"{path} includes itself", "remove the include")
        if path not in self.files:
            self.files.append(path)
        try:
            text = self.texts.get(path) or regular.read(self._real(path)).decode(errors="surrogateescape")
        except OSError as error:
            what = f"{path} cannot be read" if included.line else "cannot be read"
            hint = "give the path of the file that keepalived reads, as root"
            if error.errno == errno.EFBIG:
                hint = "is it the right file? It may include others"
            return self._error(included, f"{what}: {error.strerror}", hint)
        if strange := _no_conf(text):
            number, what, hint = strange
            return self._error(Place(path, number), what, hint)
        self._open.append(path)
        checks = self._include_checks
        lines = (
            (place, _uncommented(line))
            for number, line in enumerate(text.split("\n"), 1)
            if self._is_short(place := Place(path, number), line)
        )
        self._count(included, text.count("\n"))
        for line in lines:
            yield from self._expanded(line, lines)
        self._include_checks = checks
        self._open.pop()

    def _expanded(self, line: Line, following: Iterator[Line], depth: int = 0) -> Iterator[Line]:
        place, text = line
        self._count(place, 1 if depth else 0)
        if not self._is_short(place, text):
            return
        if condition := CONDITION.match(text):
            negated, name, text = condition.groups()
            if (name == self.config_id) == bool(negated):
                return
        if definition := DEFINITION.match(text):
            self._definitions[definition[1]] = _continued(definition[2], following)
        elif text.startswith("~"):
            yield from self._repeated(place, text, following, depth)
        elif (replaced := self._replaced(text)) and depth < DEEPEST:
            lines = iter([(place, text) for text in replaced])
            for inner in lines:
                yield from self._expanded(inner, lines, depth + 1)
        elif replaced:
            self._error(place, f"{shown(text)}: a definition that contains itself", "define it by other names")
        elif include := INCLUDE.fullmatch(text):
            yield from self._included(place, *include.groups())
        elif strictness := INCLUDE_CHECK.fullmatch(text):
            self._include_checks = _include_checks(strictness[1].split(), self._include_checks)
        elif unsupported := UNSUPPORTED.search(text):
            self._error(place, f"{shown(text)}: {unsupported[0]} is not supported", "write out what it stands for")
        elif unknown := re.search(r"\$\{\w+\}", re.sub(DOUBLE_QUOTED, "", text)):
            self._error(place, f"{shown(text)}: {unknown[0]} is not defined", f"above it: ${unknown[0][2:-1]}=VALUE")
        elif text.strip("\\"):  # a comment that ends in a backslash leaves that alone
            yield place, text

    def _repeated(self, place: Place, text: str, following: Iterator[Line], depth: int) -> Iterator[Line]:
        found = rounds(text) if depth < DEEPEST else None
        if found is None:
            hint = "for example ~SEQ(N, 1, 4) 192.0.2.${N}, or ~LST(N, 1, 4) 192.0.2.${N}"
            return self._error(place, f"{shown(text)}: not as ~SEQ and ~LST are written", hint)
        for variables, rest in found:
            self._definitions |= {name: [value] for name, value in variables.items()}
            yield from self._expanded((place, _uncommented(rest)), following, depth + 1)

    def _replaced(self, text: str) -> list[str] | None:
        """With the first definition that is used put in; a definition of many lines makes many."""
        if self.environment is not None and (named := ENVIRONMENT.search(text)):
            value = self.environment.get(named[1], "").partition("\n")[0]
            return [_uncommented(text[: named.start()] + value + text[named.end() :])]
        for use in USE.finditer(text):
            name = use[1] or use[2]
            lines = [str(self._open[-1].parent)] if name == "_PWD" else self._definitions.get(name)
            if lines is not None:
                first, *others = lines or [""]
                return [_uncommented(text[: use.start()] + first + text[use.end() :]), *others]
        return None

    def _is_short(self, place: Place, line: str) -> bool:
        length = len(line.encode(errors="surrogateescape"))
        if length > LONGEST_LINE:
            self._error(
                place, f"a line of {length} bytes", f"keepalived cuts lines at {LONGEST_LINE}: use shorter ones"
            )
        return length <= LONGEST_LINE

    def _count(self, place: Place, lines: int) -> None:
        """A file that includes or defines itself many times over must end. Raises `NotUnderstood`."""
        self._lines += lines
        if self._lines > MOST_LINES:
            what = f"more than {MOST_LINES} lines with all includes and definitions"
            raise NotUnderstood([*self.errors, (place, what, "look for files and definitions that include each other")])

    def _included(self, place: Place, kind: str, pattern: str) -> Iterator[Line]:
        checks = self._include_checks | OF_KIND.get(kind, set())
        expanded = alternatives(pattern)
        for one in expanded:
            found = sorted(glob.glob(str(self._real(place.file.parent / one))))
            for name in (name for name in found if not os.path.isdir(name)):
                yield from self._file(Path("/") / os.path.relpath(name, self.root), place)
            # `include` and `includer` make do without; the others keep keepalived from starting.
            needed = {"wildcard_match" if glob.has_magic(one) else "match", *(["brace_match"] * (len(expanded) > 1))}
            if not found and needed & checks:
                self._error(place, f"include{kind} {one}: no such file", "put the file there, or remove the line")

    def _real(self, path: Path) -> Path:
        return self.root / path.relative_to("/")


def _no_conf(text: str) -> tuple[int, str, str] | None:
    """What the whole file is instead: its line, what is wrong, and a hint; of each line there would be one more."""
    if text.count("\0") >= max(2, text.count("\n")):  # UTF-16, or a program
        return 0, "not a text file", "is it the right file? keepalived.conf is plain text, in UTF-8"
    for number, line in enumerate(text.split("\n"), 1):
        if TEMPLATE.match(re.sub('"[^"]*"', "", _uncommented(line))):
            return number, "a template, with {{ }} or {% %} that nothing has filled in", "give the file made from it"
    return None


def _uncommented(line: str) -> str:
    # A backslash at the end continues a definition, also behind a comment.
    continued = CONTINUED.fullmatch(line)
    match = UNCOMMENTED.match(continued[1] if continued else line)
    return (match[0].strip() if match else "") + "\\" * bool(continued)


def _include_checks(words: list[str], before: set[str]) -> set[str]:
    if not words:
        return CHECKS
    sign, found = "", set(before) if words[0][0] in "+-" else set[str]()
    for word in words:
        sign, name = (word[0], word[1:]) if word[0] in "+-" else (sign, word)
        found = found - {name} if sign == "-" else found | {name}
    return found


def _continued(first: str, following: Iterator[Line]) -> list[str]:
    """The lines of a definition; all but the last end in a backslash."""
    lines = [first]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1].strip()
        lines.append(next(following, (None, ""))[1])
    return [line for line in lines if line]
