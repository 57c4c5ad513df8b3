"""The glue of the guide's setup: what a notify script does, and the sudo rule that lets it.

Judged by what is known to be harmless. A script with any other command in it does something that its owner wants, and
stays.
"""

import re

SILENT = {
    *(":", "true", "echo", "printf", "logger", "date", "cat", "test", "[", "[["),
    *("exit", "return", "shift", "local", "set", "umask"),
    *("then", "else", "fi", "do", "done", "esac", "{", "}"),
}
HERE_DOCUMENT = re.compile(r"<<-?\s*(['\"]?)(\w+)\1([^\n]*)\n(.*?)^\t*\2$", re.M | re.S)
SUBSTITUTION = re.compile(r"\$\(([^()]*)\)|`([^`]*)`")
QUOTED = re.compile(r"'[^']*'|\"(?:\\.|[^\"\\])*\"")
FUNCTION = re.compile(r"^\s*(?:function\s+(\w+)(?:\s*\(\))?|(\w+)\s*\(\))\s*\{?", re.M)
REDIRECTION = re.compile(r"(?:\d|&)?(?:>>\s*\S+|>\s*/dev/null|>&\d)|<\s*/dev/null")
PATTERN = re.compile(r"(^|;;|\bin\b)[ \t]*[\w*.?\[\]-]+(?:[ \t]*\|[ \t]*[\w*.?\[\]-]+)*[ \t]*\)", re.M)
"""Of a `case`."""
PREFIXES = re.compile(
    r"^(?:(?:if|elif|then|else|do|while|until|!|\{|sudo(?:\s+-n)?|(?:local|export|readonly)\s+\w+=\S*)\s+|\w+=\S*\s*)+"
)
LELASTIC = re.compile(
    r"(?:\S*/)?systemctl(?:\s+(?:-\S+|start|stop|restart|reload|try-restart|lelastic(?:\.service)?))+"
)


def only_switches_lelastic(script: str) -> bool:
    """Whether this shell script does nothing but log, and start or stop lelastic."""
    if script.startswith("#!") and not re.match(r"#!\s*\S*/(?:env\s+)?(?:ba|da)?sh\b", script):
        return False
    inner: list[str] = []

    def lift(found: re.Match[str]) -> str:
        inner.append(found[1] or found[2] or "")
        return "_"

    def lift_document(found: re.Match[str]) -> str:
        SUBSTITUTION.sub(lift, found[4])
        return f"{found[3]}\n"

    text = re.sub(r"^\s*#.*$|\s#\s.*$", "", script.replace("\\\n", " "), flags=re.M)
    text = HERE_DOCUMENT.sub(lift_document, text)
    while SUBSTITUTION.search(text):
        text = SUBSTITUTION.sub(lift, text)
    functions = {match[1] or match[2] for match in FUNCTION.finditer(text)}
    text = PATTERN.sub(r"\1\n", FUNCTION.sub("", QUOTED.sub("_", text)))
    return all(
        _is_harmless(command, functions)
        for part in (text, *(QUOTED.sub("_", part) for part in inner))
        for command in re.split(r"[;\n|]|(?<!>)&(?!\d)", REDIRECTION.sub("", part))
    )


def _is_harmless(command: str, functions: set[str]) -> bool:
    command = command.strip()
    if command.startswith("case "):
        return True
    command = PREFIXES.sub("", command).strip()
    if ">" in command or "<" in command:
        return False
    if not command:
        return True
    name = command.split(None, 1)[0].rpartition("/")[2]
    return name in SILENT or name in functions or bool(LELASTIC.fullmatch(command))


def without_rule(sudoers: str, user: str) -> tuple[str, list[str], list[str]]:
    """Without the lines that let `user` run systemctl on lelastic and nothing else; those lines; and those that let
    it do more, which stay."""
    kept: list[str] = []
    gone: list[str] = []
    mixed: list[str] = []
    for line in re.split(r"(?<=\n)(?<!\\\n)", sudoers):
        rule = line.replace("\\\n", " ").strip()
        if not rule.startswith(f"{user} ") and not rule.startswith(f"{user}\t"):
            kept.append(line)
            continue
        granted = re.sub(r"^.*?=\s*(?:\([^)]*\))?(?:\s*[A-Z_]+:)*", "", rule)
        commands = [re.sub(r"^(?:\s*[A-Z_]+:)*\s*", "", command).strip() for command in granted.split(",")]
        of_lelastic = [bool(LELASTIC.fullmatch(command)) for command in commands]
        (gone if all(of_lelastic) else kept).append(line)
        if any(of_lelastic) and not all(of_lelastic):
            mixed.append(rule)
    return "".join(kept), [line.strip() for line in gone], mixed
