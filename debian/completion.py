"""Writes the bash completion of floatip: its commands and their options, read from the code in the given directory.

It is static, so that TAB does not start Python, and the build writes it, so that it is never out of date.
"""

import sys

sys.path.insert(0, sys.argv[1])

from dataclasses import fields

from typer.main import get_command

from floatip.cli import app
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

commands = get_command(app).commands
options = {
    name: ["--help", *(option for one in command.params if one.param_type_name == "option" for option in one.opts)]
    for name, command in commands.items()
}
flags = options["lelastic"] = [f"-{flag.name}" for flag in fields(Flags)]
words = {"1:*": [*commands, "--help", "--version"]} | {f"*:{name}": options[name] for name in commands}
cases = [f'\t{pattern}) words="{" ".join(offered)}" ;;' for pattern, offered in words.items()]
print(SCRIPT % ("\n".join(cases), " ".join(flags)))
