"""Whether a notify script is the one of Linode's guide, which floatip replaces. Any other script stays.

Each line must be one of the guide's, up to white space, comments, names and the path of its log. No shell is parsed:
a line that is not known means that the script does something else too.
"""

import re
from collections.abc import Iterable

SWITCH = r"(?:sudo\s+)?(?:/usr/bin/|/bin/)?systemctl\s+(?:start|stop|restart)\s+lelastic(?:\.service)?"
STATE = r"(?:Master|Backup|Fault)"
WORD = r"[A-Za-z_]\w*"
LINES = re.compile(
    "|".join(
        (
            rf"{WORD}=(['\"]?)/(?:tmp|var/log)/[\w.-]+\1",
            r"local\s+state=(?:\$1|\"\$1\")",
            rf"cat\s*<<\s*EOF\s*>>\s*\${WORD}",
            r"=+|EOF|else|fi|esac|\}|\*\)|;;",
            r"Date:\s+\$\(date\s+\+'[^']*'\)",
            r"\[INFO\] Now \$state",
            rf"if\s+\[\[?\s+\"\$state\"\s+==?\s+\"{STATE}\"\s+\]\]?\s*;\s*then",
            rf"{SWITCH}(?:\s*;;)?",
            r"case\s+\"?\$(?:state|1)\"?\s+in",
            rf"{STATE}(?:\|{STATE})*\)",
            r"echo\s+\"[\w\s.\[\]]*\"",
        )
    )
)
FUNCTION = re.compile(rf"(?:function\s+({WORD})(?:\s*\(\))?|({WORD})\s*\(\))\s*\{{")
CALL = re.compile(rf"({WORD})\s+(?:{STATE}|\$1|\"\$1\")(?:\s*;;)?")


def only_switches_lelastic(command: str, script: str) -> bool:
    """Of a notify line: its command, and the text of the script that it names (empty: it names none)."""
    if not script.startswith("#!"):
        return bool(re.fullmatch(SWITCH, command.strip()))
    if not re.match(r"#!\s*\S*/(?:env\s+)?(?:ba|da)?sh\s*\n", script):
        return False
    lines = [line.strip() for line in script.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    functions = {match[1] or match[2] for match in map(FUNCTION.fullmatch, lines) if match}
    return any(re.match(SWITCH, line) for line in lines) and all(_is_known(line, functions) for line in lines)


def _is_known(line: str, functions: Iterable[str]) -> bool:
    if LINES.fullmatch(line) or FUNCTION.fullmatch(line):
        return True
    call = CALL.fullmatch(line)
    return bool(call and call[1] in functions)
