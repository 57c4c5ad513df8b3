"""Writes the completion of floatip for a shell, from the commands in the code: completion.py LIBRARY bash|zsh|fish.

It is static, so that TAB does not start Python, and the build writes it, so that it is never out of date.
"""

import sys

sys.path.insert(0, sys.argv[1])

from collections.abc import Iterable
from dataclasses import dataclass, fields

import floatip.cli  # noqa: F401 (it fills the table)
from floatip.commands import COMMANDS, Command, Option
from floatip.lab.scenes import SCENES
from floatip.lelastic import Flags

FILES = {"FILE", "[FILE]"}
WORDS = {"SCENE": ["all", "shell", *SCENES]}
"""What can stand for a value of this name."""
ABOUT = {"--help": "Show this help", "--version": "Show the version"}


@dataclass
class Offer:
    """An option with its names, or an argument without any."""

    names: list[str]
    about: str
    value: str = ""
    """How the help calls its value; empty: it takes none."""
    words: list[str] | None = None
    files: bool = False
    repeats: bool = False


def offer(option: Option) -> Offer:
    settings = option.settings
    about = " ".join(str(settings["help"]).replace("%%", "%").split())
    if settings.get("action") == "store_true":
        return Offer(option.names, about)
    value = str(settings["metavar"])
    words = settings["choices"] or WORDS.get(value)
    # `explain` takes the path of a keepalived.conf in place of an instance.
    files = value in FILES or "path of a keepalived.conf" in about
    return Offer(option.names, about, value, words, files, settings.get("action") == "append")


def offers(command: Command) -> list[Offer]:
    help = Offer(["-h", "--help"], ABOUT["--help"])
    return FLAGS if command.name == "lelastic" else [*map(offer, command.options), help]


FLAGS = [
    Offer([f"-{flag.name}"], flag.metadata["about"], "" if isinstance(flag.default, bool) else "value")
    for flag in fields(Flags)
]
OFFERS = {name: offers(command) for name, command in COMMANDS.items()}
ABOUTS = {name: command.about.removesuffix(".") for name, command in COMMANDS.items()}


def bash() -> Iterable[str]:
    def long(each: Offer) -> list[str]:
        return each.names if each.names[:1] != ["-h"] else ["--help"]

    def names(each: list[Offer]) -> str:
        return " ".join(name for one in each for name in long(one))

    yield "_floatip()\n{\n\tlocal words\n\tcase $COMP_CWORD:${COMP_WORDS[1]}:${COMP_WORDS[COMP_CWORD - 1]} in"
    yield f'\t1:*) words="{" ".join([*COMMANDS, *ABOUT])}" ;;'
    for command, given in OFFERS.items():
        for one in given:
            if one.value and one.names:
                # Nothing is offered: then bash completes files.
                before = "|".join(f"*:{command}:{name}" for name in one.names)
                yield f'\t{before}) words="{" ".join(one.words or [])}" ;;'
        arguments = [word for one in given if not one.names for word in one.words or []]
        yield f'\t*:{command}:*) words="{" ".join([names(given), *arguments])}" ;;'
    yield '\tesac\n\tCOMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))\n}'
    yield f'complete -o default -F _floatip floatip\ncomplete -W "{names(FLAGS)}" floatip-lelastic'


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def zsh() -> Iterable[str]:
    def escaped(text: str) -> str:
        return "".join(f"\\{letter}" if letter in "\\[]:" else letter for letter in text)

    def spec(one: Offer, number: int) -> str:
        values = f"({' '.join(one.words)})" if one.words else "_files" if one.files else " "
        value = f":{escaped(one.value.strip('[]'))}:{values}" if one.value else ""
        if not one.names:
            return quoted(f"{number}{value}")
        others = "*" if one.repeats else f"({' '.join(one.names)})" if len(one.names) > 1 else ""
        tail = quoted(f"[{escaped(one.about)}]{value}")
        if len(one.names) == 1:
            return quoted(f"{others}{one.names[0]}[{escaped(one.about)}]{value}")
        return f"{quoted(others)}{{{','.join(one.names)}}}{tail}"

    def arguments(given: list[Offer]) -> str:
        number = 0
        specs = []
        for one in given:
            number += not one.names
            specs.append(spec(one, number))
        return " \\\n\t\t".join(["_arguments", *specs])

    yield "#compdef floatip floatip-lelastic\n_floatip()\n{"
    yield "\tlocal curcontext=$curcontext state line\n\tlocal -A opt_args\n\tlocal -a commands"
    yield f"\tif [[ $service == floatip-lelastic ]]; then\n\t\t{arguments(FLAGS)}\n\t\treturn\n\tfi"
    yield "\tcommands=("
    yield from (f"\t\t{quoted(f'{name}:{escaped(about)}')}" for name, about in ABOUTS.items())
    first = [quoted(f"(- *){name}[{escaped(about)}]") for name, about in ABOUT.items()]
    yield f"\t)\n\t_arguments -C {' '.join(first)} '1:command:->command' '*::argument:->argument' && return"
    yield "\tif [[ $state == command ]]; then\n\t\t_describe command commands\n\t\treturn\n\tfi"
    yield "\tcurcontext=${curcontext%:*:*}:floatip-$words[1]:\n\tcase $words[1] in"
    yield from (f"\t{name})\n\t\t{arguments(given)}\n\t\t;;" for name, given in OFFERS.items())
    yield '\tesac\n}\n_floatip "$@"'


def fish() -> Iterable[str]:
    def escaped(text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    def rules(program: str, given: list[Offer]) -> Iterable[str]:
        for one in given:
            kinds = [("-l", name[2:]) if name.startswith("--") else ("-s", name[1:]) for name in one.names]
            # lelastic's flags are words behind one dash.
            kinds = [("-o", word) if kind == "-s" and len(word) > 1 else (kind, word) for kind, word in kinds]
            parts = [program, *(f"{kind} {word}" for kind, word in kinds)]
            if one.words:
                parts.append(f"-a {escaped(' '.join(one.words))}")
            if one.names and one.value:
                parts.append("-r -F" if one.files else "-x")
            elif one.files:
                parts.append("-F")
            if one.names:
                parts.append(f"-d {escaped(one.about)}")
            if one.names or one.words or one.files:
                yield " ".join(parts)

    yield "function __floatip_command\n\tset -l words (commandline -opc)"
    yield '\ttest "$words[2]" = "$argv[1]"\nend'
    yield "complete -c floatip -f\ncomplete -c floatip-lelastic -f"
    for name, about in ABOUTS.items():
        yield f"complete -c floatip -n '__floatip_command \"\"' -a {name} -d {escaped(about)}"
    for name, about in ABOUT.items():
        yield f"complete -c floatip -n '__floatip_command \"\"' -l {name[2:]} -d {escaped(about)}"
    for name, given in OFFERS.items():
        yield from rules(f"complete -c floatip -n '__floatip_command {name}'", given)
    yield from rules("complete -c floatip-lelastic", FLAGS)


print("\n".join({"bash": bash, "zsh": zsh, "fish": fish}[sys.argv[2]]()))
