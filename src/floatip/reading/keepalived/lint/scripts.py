"""What the scripts do that keepalived runs, read in their text."""

import re
from collections.abc import Iterator

from floatip.reading.keepalived import KeepalivedConf
from floatip.reading.keepalived.lint.commands import ScriptCommand, commands
from floatip.reading.keepalived.lint.facts import Finding, MachineFacts, Severity

KILLALL = re.compile(r"\bkillall\s+(-\S+\s+)*(-0|-s\s*0)|\b(pidof|pgrep)\s")
SYSTEMCTL = re.compile(r"\bsystemctl\s+(?:-\S+\s+)*(start|stop|restart|try-restart|reload|reload-or-restart)\b")
TMP = re.compile(r"(?<![\w/.])/(?:tmp|var/tmp|dev/shm)/[\w.+-]+(?:/[\w.+-]+)*")


def check(conf: KeepalivedConf, facts: MachineFacts) -> Iterator[Finding]:
    texts: dict[str, tuple[ScriptCommand, str]] = {}
    for command in commands(conf, facts):
        for path in command.paths:
            if path in facts.files:
                texts.setdefault(str(path), (command, facts.files[path].text))
        line = " ".join(command.words)
        texts.setdefault(line, (command, line))
    for name, (command, text) in texts.items():
        code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
        for kind, severity, what, hint in _what_it_does(code, command):
            yield Finding(kind, severity, command.statement.place, f"{command.use} {name} {what}", hint)


def _what_it_does(code: str, command: ScriptCommand) -> Iterator[tuple[str, Severity, str, str]]:
    if command.user.uid and re.search(r"\bsudo\s", code):
        what = f"calls sudo: the failover depends on a rule that makes {command.user.name} root"
        yield "script-calls-sudo", "danger", what, "let floatip announce: it needs no sudo"
    if not command.is_check and SYSTEMCTL.search(code):
        what = "calls systemctl: it waits for other jobs, and two changes of role may overtake each other"
        hint = "leave the announcer running and change its routes, as floatip does"
        yield "script-calls-systemctl", "wrong", what, hint
    if command.is_check and (asked := KILLALL.search(code)):
        what = f"asks {asked[0].strip()}: yes also for a zombie, another's process of that name, or one that hangs"
        hint = "send the service a request; floatip's process check notices an exit within milliseconds"
        yield "check-by-name", "wrong", what, hint
    for file in sorted({file for file in TMP.findall(code) if "XXX" not in file}):  # mktemp's
        what = f"uses {file}: anybody can put a link or a file of their own there first"
        hint = "use a directory that only its user can write; floatip has state_log"
        yield "file-in-tmp", "danger", what, hint
