"""What keepalived runs, as which user, and which of it keepalived drops."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from floatip.reading.keepalived import KeepalivedConf, Statement
from floatip.reading.keepalived.lint.facts import Finding, MachineFacts, in_path, paths_of, taken_back
from floatip.reading.keepalived.syntax import WORD
from floatip.reading.rights import ROOT, User

SCRIPT_USER = "keepalived_script"
SHELL_SYNTAX = re.compile(r"\||&&|^&|^;|;$|^\d?[<>]|>[/&]|`|\$[\w({]|^/.*\*")
BUILT_IN = re.compile(
    r"cd|if|for|while|until|case|export|source|exit|exec|eval|set|unset|command|type|trap|read|ulimit|umask|wait"
    r"|[.!:({]|\[\[|~.*|\$.*|[A-Za-z_]\w*=.*"
)


@dataclass(frozen=True, slots=True)
class ScriptCommand:
    """A check or a notify script, and who runs it."""

    statement: Statement
    words: tuple[str, ...]
    user: User
    is_check: bool
    text: str
    """As it is written, with its quotes."""

    @property
    def use(self) -> str:
        return "check" if self.is_check else "notify script"

    @property
    def loss(self) -> str:
        return "its instances run without this check" if self.is_check else "nobody is told"

    @property
    def paths(self) -> list[Path]:
        return paths_of(self.words)


def default_user(conf: KeepalivedConf, facts: MachineFacts) -> str:
    """Who runs the scripts that name nobody."""
    if named := conf.option("script_user"):
        return named.argument()
    # With script security keepalived insists on this user, and without falls back to its own.
    is_needed = SCRIPT_USER in facts.users or conf.option("enable_script_security")
    return SCRIPT_USER if is_needed else ROOT


def commands(conf: KeepalivedConf, facts: MachineFacts) -> Iterator[ScriptCommand]:
    default = default_user(conf, facts)

    def user(name: str) -> User:
        # Who is not in passwd has nobody's rights.
        return facts.users.get(name or default) or User(name or default, -1)

    tracked = {name for owner in conf.owners for name, _ in owner.tracking.scripts}
    for script in conf.scripts:
        if script.name in tracked:
            yield ScriptCommand(script.statement, script.command, user(script.user), True, script.text)
    for owner in conf.owners:
        for notify in owner.notifies:
            if notify.command:
                yield ScriptCommand(
                    notify.statement, notify.command, user(notify.user), False, notify.statement.argument()
                )


def script_users(conf: KeepalivedConf, facts: MachineFacts) -> list[User]:
    """All but root."""
    users = {command.user.name: command.user for command in commands(conf, facts) if command.user.uid > 0}
    return list(users.values())


def check(conf: KeepalivedConf, facts: MachineFacts) -> Iterator[Finding]:
    secure = conf.option("enable_script_security") is not None
    found = [*commands(conf, facts)]
    for command in found:
        if trouble := _dropped(command, facts, secure=secure):
            why, hint = trouble
            what = f"{command.statement}: {why}, so keepalived drops it and {command.loss}"
            yield Finding("command-dropped", "danger", command.statement.place, what, hint)
        elif finding := shell_syntax(command):
            yield finding
    if found and not secure:
        what = "no enable_script_security: keepalived runs as root also what others can change"
        blocks = [statement.place for statement in conf.statements if statement.keyword == "global_defs"]
        place = blocks[0] if blocks else conf.place
        yield Finding("no-script-security", "wrong", place, what, "put enable_script_security into global_defs")


def _dropped(command: ScriptCommand, facts: MachineFacts, *, secure: bool) -> tuple[str, str] | None:
    """Why, and what helps."""
    words, user = command.words, command.user
    if not words:
        return "no script", 'for example script "/etc/keepalived/check.sh"'
    if user.uid < 0:
        hint = 'name a user that exists; a command with arguments stands in quotes: notify "/path arguments" user'
        if user.name == SCRIPT_USER:
            hint = f"useradd --system --no-create-home --shell /usr/sbin/nologin {SCRIPT_USER}"
        return f"there is no user {user.name}", hint
    if words[0].startswith("</"):  # the check is whether the file can be opened
        return None
    if BUILT_IN.fullmatch(words[0]):
        hint = "put the line into a script that begins with #!/bin/sh, and name the script here"
        return f"keepalived runs no shell, and '{words[0]}' is no program", hint
    if not words[0].startswith("/"):
        found = [path for path in in_path(words[0]) if path in facts.files]
        if not found:
            return f"{words[0]} is not in keepalived's PATH", "install it, or give its path"
        if user.uid:
            why = f"keepalived looks up {words[0]} in its PATH for root only, not for {user.name}"
            return why, f"give its path: {found[0]}"
        return None
    return _unrunnable(Path(words[0]), user, facts, secure=secure)


def _unrunnable(path: Path, user: User, facts: MachineFacts, *, secure: bool) -> tuple[str, str] | None:
    seen = facts.files.get(path)
    if not seen:
        return f"{path} is not there", "put it there, or remove the line"
    if seen.is_directory or not seen.may(user, os.X_OK):
        return f"{user.name} cannot execute {path}", f"chmod 755 {path}"
    if secure and user.uid == 0:
        for part in (path, *path.parents):
            if part in facts.files and not facts.files[part].is_roots_alone:
                why = f"it runs as root, and not only root can change {part}"
                return why, taken_back(path, part, facts.files[part])
    return None


def shell_syntax(command: ScriptCommand, *, floatip: bool = False) -> Finding | None:
    """`floatip`: it runs the command, and not keepalived."""
    hint = "put the line into a script that begins with #!/bin/sh, and name the script here"
    use, who = f"{command.use} {' '.join(command.words)}", "floatip" if floatip else "keepalived"
    if floatip and command.words and BUILT_IN.fullmatch(command.words[0]):
        what = f"{use}: {who} runs no shell, and '{command.words[0]}' is no program"
    elif syntax := _shell_syntax(command.text):
        what = f"{use}: {who} runs no shell, and '{syntax}' is an argument"
    else:
        return None
    return Finding("shell-syntax", "danger", command.statement.place, what, hint)


def _shell_syntax(text: str) -> str:
    """The first word that only a shell understands; what is quoted is meant as it stands."""
    words = [re.sub(r"""'[^']*'|"[^"]*"|\\.""", "", word) for word in WORD.findall(text)]
    return next((word for word in words[1:] if SHELL_SYNTAX.search(word)), "")
