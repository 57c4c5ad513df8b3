"""Writes the bash completion of floatip: its commands and their options, read from the code in the given directory.

It is static, so that TAB does not start Python, and the build writes it, so that it is never out of date.
"""

import sys

sys.path.insert(0, sys.argv[1])

from dataclasses import fields

import floatip.cli  # noqa: F401
from floatip.commands import COMMANDS
from floatip.lelastic import Flags

SCRIPT = """\
_floatip()
{
	local words
	case $COMP_CWORD:${COMP_WORDS[1]} in
%s
	esac
	COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _floatip floatip
complete -W "%s" floatip-lelastic"""

options = {
    name: ["--help", *(form for option in command.options for form in option.names)]
    for name, command in COMMANDS.items()
}
flags = options["lelastic"] = [f"-{flag.name}" for flag in fields(Flags)]
words = {"1:*": [*COMMANDS, "--help", "--version"]} | {f"*:{name}": options[name] for name in COMMANDS}
cases = [f'\t{pattern}) words="{" ".join(offered)}" ;;' for pattern, offered in words.items()]
print(SCRIPT % ("\n".join(cases), " ".join(flags)))
