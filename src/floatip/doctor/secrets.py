"""Takes secrets out of text that is to be sent to others.

Two ways, and each alone would do for most: what a configuration or a file of keys holds is looked for in every text, in
the forms in which programs write it; and what looks like a secret by its place is masked whatever it is. Pure.
"""

import base64
import html
import json
import re
import tomllib
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, unquote

MASK = "(secret)"
LEAST = 3
"""Characters: shorter ones are masked by their place only, or no text would be left."""
LEAST_INSIDE = 6
"""Octets from which a secret is found inside other base64 too."""
ON_THE_WIRE = 8
"""Octets of `auth_pass` (RFC 2338): a keepalived may show these."""
NAME = (
    r"(?:[\w-]*(?:password|passwd|passphrase|secret|token|credentials?"
    r"|(?:api|private|access|routing|integration|auth|shared|signing)[_-]?key)\w*"
    r"|(?:[\w-]*[_-])?(?:pass|pwd|md5|hmac)(?![a-z]))"
)
SECRET_NAME = re.compile(NAME, re.IGNORECASE)
TABLES = frozenset({"headers", "auth_hmac", "hmac"})
"""Tables of which every value is one."""
NAMES_A_FILE = frozenset({"token", "key", "tls_key", "file", "ca"})
"""Keys whose value is a path: the content of the file is the secret."""
BLOCKS = re.compile(r"\b(auth\w*|hmac\w*|keys?)\b[^{}\n]*\{")
DIGITS = re.compile(r"(?<![0-9A-Za-z])[0-9a-fA-F]{64,}(?![0-9A-Za-z])")
PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
USER_INFO = re.compile(
    r"(?<![a-z0-9+.-])(?P<scheme>[a-z][a-z0-9+.-]*://)(?P<secret>[^\s/\"'<>]+|[^\s/@:\"'<>]+:[^\s\"'<>]{1,300})@", re.I
)
"""Up to the last @: a password may hold one, or a slash."""
HEADER = re.compile(
    r"(?P<name>(?:proxy-)?authorization|cookie|x-api-key|x-auth-token)(?P<between>[\"']?\s*[:=]\s*[\"']?)"
    r"(?P<secret>[^\"'\n,}]+)",
    re.IGNORECASE,
)
BEARER = re.compile(r"(?P<name>\b(?:bearer|basic))(?P<between>[\s:]+)(?P<secret>[^\s\"',]{6,})", re.IGNORECASE)
ASSIGNED = re.compile(
    rf"(?P<name>(?<![\w-]){NAME})(?P<between>[\"']?\s*(?:=|:(?!:))\s*)"
    r"(?P<secret>\"{3}.*?(?:\"{3}|\Z)|'{3}.*?(?:'{3}|\Z)|\\+\"[^\n]*?\\+\""
    r"|\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*'|[^\s\"',;}\]]+|[\"'][^\"'\n]+)",
    re.IGNORECASE | re.DOTALL,
)
FLAG = re.compile(rf"(?P<name>(?<![\w-])--?{NAME})(?P<between>[\s\"',]+)(?P<secret>[^\s\"',\]]+)", re.IGNORECASE)
WORD = re.compile(
    r"(?P<name>^[\s#!]*(?:@\S+[ \t]+)?(?:auth_pass|password|digest_password))(?P<between>[ \t]+)(?P<secret>\S.*?)$",
    re.MULTILINE,
)
"""A keyword of keepalived.conf, and what follows it."""
ENVIRONMENT = re.compile(
    r"^(?P<name>\s*(?:Environment|PassEnvironment|SetCredential\w*))(?P<between>=)(?P<secret>.+)$", re.M
)
VARIABLE = re.compile(r"(?P<name>(?<![\w$])[A-Z][A-Z0-9_]+)(?P<between>=)(?P<secret>\"[^\"\n]*\"|'[^'\n]*'|[^\s\"',]+)")
"""Of the environment, before a command."""
PATH = re.compile(
    r"(?:key|token|secret|pass\w*|file)\w*[\"']?\s*[= ]\s*[\"']?(?:\d+\s+)?(?:file:)?(/[^\s\"'}]+)", re.IGNORECASE
)
USER = re.compile(
    r"(?P<name>(?<![\w-])(?:-u|-U|--user|--proxy-user))(?P<between>[\s\"',=]*)(?P<secret>[^\s\"',:]+:[^\s\"',\]]+)"
)
"""curl's."""
OPTION = re.compile(
    r"(?P<name>(?:(?:mysql|mariadb)[\w-]*|sshpass)\b[^\n;|]{0,200}?[\s\"']-p|(?:redis|valkey)-cli\b[^\n;|]{0,200}?[\s\"']-a"
    r"|\bldap\w+\b[^\n;|]{0,200}?[\s\"']-w)(?P<between>[\s\"',]*)(?P<secret>[^\s\"',\]-][^\s\"',\]]*)"
)
"""Of programs that take a password by a letter."""
QUERY = re.compile(
    r"(?P<name>[?&](?:key|sig|signature|auth|code))(?P<between>=)(?P<secret>[^\s&\"'<>#]+)", re.IGNORECASE
)
HOOK = re.compile(
    r"(?P<name>hooks\.slack\.com|discord(?:app)?\.com/api/webhooks|webhook\.office\.com|api\.telegram\.org)"
    r"(?P<between>/)(?P<secret>[^\s\"'<>]+)"
)
"""Whoever has such a URL may write there."""
JWT = re.compile(r"(?P<name>(?<![\w-]))(?P<between>)(?P<secret>eyJ[\w-]{8,}\.[\w.-]+)")
BY_PLACE = (HEADER, BEARER, ASSIGNED, FLAG, WORD, ENVIRONMENT, USER, OPTION, QUERY, HOOK, JWT)
SPOKEN = re.compile(
    r"(?P<name>\b(?:password|passphrase|auth_pass))(?P<between>\s+(?:is\s+)?[\"']?)(?P<secret>[^\s\"',;]{3,})",
    re.IGNORECASE,
)
"""In a sentence or a log: what follows may be any word, so it is masked only there."""
SECTION = re.compile(r"^\s*\[+[^#\n]*?(?:headers|hmac)\b", re.IGNORECASE)
KEY = re.compile(r"""(?<![\w.-])["']?(?:key|auth|psk|pw|pass\w*)["']?\s*=\s*["']+([^"'\s]+)""", re.IGNORECASE)
"""In a TOML file; also where the name is misspelt."""


class Secrets:
    def __init__(self) -> None:
        self._forms: set[str] = set()

    def add(self, value: str | bytes) -> None:
        data = value.encode(errors="surrogateescape") if isinstance(value, str) else value
        for one in {data, data.strip()}:
            self._add(one)

    def _add(self, data: bytes) -> None:
        text = data.decode(errors="replace")
        if len(text) < LEAST or text == MASK:
            return
        self._forms.update(_forms(data, text))
        if len(data) > ON_THE_WIRE:
            self._forms.add(data[:ON_THE_WIRE].decode(errors="replace"))

    def mask(self, text: str) -> str:
        """By value, and by place."""
        text = PEM.sub(MASK, text)
        for form in sorted(self._forms, key=len, reverse=True):
            text = text.replace(form, MASK)
        return by_place(text)


def by_place(text: str) -> str:
    """What looks like a secret, in whichever text."""
    text = USER_INFO.sub(rf"\g<scheme>{MASK}@", text)
    for pattern in (*BY_PLACE, SPOKEN):
        text = pattern.sub(_masked, text)
    return DIGITS.sub(MASK, text)


def _masked(match: re.Match[str]) -> str:
    secret = match["secret"]
    if secret.strip("\"'").startswith((MASK, "/")) or not secret.strip("\"'"):
        return match[0]  # a path is no secret, and what is masked stays so
    quoted = secret[0] if secret[0] in "\"'" and secret[-1] == secret[0] else ""
    return f"{match['name']}{match['between']}{quoted}{MASK}{quoted}"


def _forms(data: bytes, text: str) -> Iterator[str]:
    """In which programs write it."""
    yield text
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield repr(text)[1:-1]
    yield repr(data)[2:-1]
    yield html.escape(text)
    yield quote(text, safe="")
    yield quote(text)
    for digits in (data.hex(), data.hex(":"), data.hex(" ")):
        if len(data) >= LEAST_INSIDE:
            yield from (digits, digits.upper())
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for code in (encode(data), encode(data + b"\n")):
            yield code.decode()
            yield code.decode().rstrip("=")
        if len(data) < LEAST_INSIDE:
            continue
        for before in range(3):
            # Inside a longer text: without the characters at both ends, which depend on the neighbours.
            code = encode(b"\0" * before + data).rstrip(b"=")
            begin = (before * 8 + 5) // 6
            end = (before + len(data)) * 8 // 6
            yield code[begin:end].decode()


# What a configuration holds


def of_toml(text: str) -> Iterator[str]:
    """The secrets of a floatip.toml; of one that is no TOML: what stands in the place of one."""
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        yield from of_lines(text)
        yield from _in_tables(text)
    else:
        yield from _of_value(data, "")
        yield from of_lines(text)  # what is commented out was good once
    yield from (value for value in KEY.findall(text) if not value.startswith("/"))


def _in_tables(text: str) -> Iterator[str]:
    """The values of tables that hold nothing else."""
    is_inside = False
    for line in text.splitlines():
        if line.lstrip().startswith("["):
            is_inside = bool(SECTION.match(line))
        elif is_inside:
            yield from re.findall(r"""["']([^"']+)["']\s*(?:[,}\]#]|$)""", line)


def _of_value(value: Any, name: str, *, is_secret: bool = False) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            inside = is_secret or name in TABLES
            yield from _of_value(inner, key, is_secret=inside and key not in ("file", "mode", "id", "active"))
    elif isinstance(value, list):
        for inner in value:
            yield from _of_value(inner, name, is_secret=is_secret)
        yield from of_lines(" ".join(one for one in value if isinstance(one, str)))  # a command, word by word
    elif isinstance(value, str):
        by_name = SECRET_NAME.search(name) and not (name in NAMES_A_FILE and value.startswith("/"))
        if is_secret or by_name:
            yield value
            for word in value.split():
                if len(word) > LEAST_INSIDE:
                    yield word
                    yield from _decoded(word)
        yield from of_lines(value)


def _decoded(word: str) -> Iterator[str]:
    """A user and password, as the header Authorization has them."""
    try:
        pair = base64.b64decode(word, validate=True).decode()
    except ValueError:
        return
    yield from (pair, pair.partition(":")[2])


def of_lines(text: str) -> Iterator[str]:
    """What stands in a place where secrets stand, line by line."""
    for match in USER_INFO.finditer(text):
        user, _, password = match["secret"].partition(":")
        yield from (match["secret"], unquote(password or user), password or user)
        yield from password.split("@")  # what others take for the host
    for pattern in (*BY_PLACE, VARIABLE):
        for match in pattern.finditer(text):
            if not (value := match["secret"].strip("\"'")).startswith("/"):
                yield value
                if pattern is USER:
                    yield value.partition(":")[2]
                for word in value.split():
                    if pattern in (HEADER, BEARER, ASSIGNED) and len(word) > LEAST_INSIDE:
                        yield word
                    yield from _decoded(word)
    yield from (match[0] for match in DIGITS.finditer(text))


def of_keepalived(text: str) -> Iterator[str]:
    yield from of_lines(text)
    for _, line in _in_blocks(text):
        words = line.replace('"', " ").split()
        for word in words[1:]:
            kind, _, value = word.rpartition(":")
            if len(word) >= LEAST and not word.startswith("/") and kind != "file":
                yield from (word, value)


def keepalived_conf(text: str) -> str:
    """As it may be shown: without what stands in a block of passwords or keys."""
    secret_lines = {number for number, _ in _in_blocks(text)}
    lines = []
    for number, line in enumerate(text.split("\n")):
        if number in secret_lines and (match := re.match(r"(\s*\S+)(\s+)(?=[^\s{])", line)):
            line = f"{match[0]}{MASK}"  # noqa: PLW2901
        lines.append(VARIABLE.sub(_masked, line))
    return "\n".join(lines)


def without_variables(text: str) -> str:
    """Without the values of the environment of commands."""
    return VARIABLE.sub(_masked, text)


PLAIN = frozenset({"auth_type", "mode", "window", "anti_replay", "active"})
"""Keywords in such a block that hold no secret."""


def _in_blocks(text: str) -> Iterator[tuple[int, str]]:
    """The lines in a block of passwords or keys, with their numbers."""
    depth, inside = 0, 0
    for number, line in enumerate(text.split("\n")):
        code = re.split(r"[#!]", line, maxsplit=1)[0]
        if not inside and BLOCKS.search(code):
            inside = depth + 1
            rest = code[code.index("{") + 1 :].replace("}", " ")
            if rest.strip():
                yield number, code.split("{")[0] + " " + rest
        elif inside and (words := code.split()) and words[0] not in PLAIN:
            yield number, code.replace("}", " ")
        depth += code.count("{") - code.count("}")
        if inside and depth < inside:
            inside = 0


def paths(text: str) -> list[str]:
    """Of files that the lines of a configuration name as one with a key or a token."""
    return PATH.findall(text)


def collect(values: Iterable[str | bytes]) -> Secrets:
    secrets = Secrets()
    for value in values:
        secrets.add(value)
    return secrets
