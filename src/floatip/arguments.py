"""Runs a command with what argparse reads from its arguments. The daemon does not import this."""

from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import takewhile
from textwrap import dedent
from typing import Any, NoReturn

import floatip
from floatip.commands import COMMANDS, Command, Misused, overview


class Parser(ArgumentParser):
    """Of one command. Its help is at most 80 columns wide."""

    def __init__(self, command: Command) -> None:
        super().__init__(
            f"floatip {command.name}",
            description=f"{command.about}\n{dedent(command.details)}".rstrip(),
            formatter_class=partial(RawDescriptionHelpFormatter, width=80, max_help_position=28),
            allow_abbrev=False,
            add_help=False,
        )
        self.exits = command.exits
        arguments, options = self.add_argument_group("arguments"), self.add_argument_group("options")
        for option in command.options:
            add: Callable[..., object] = (options if option.names else arguments).add_argument
            given = {name: value for name, value in option.settings.items() if value is not None}
            if "action" not in given:
                given["type"] = partial(_read, option.read)
            add(*option.names, **given)
        options.add_argument("-h", "--help", action="help", help="Show this help")

    def format_help(self) -> str:
        exits = "".join(f"  {status:<4}{meaning}\n" for status, meaning in self.exits.items())
        return super().format_help() + (f"\nexit status:\n{exits}" if exits else "")

    def print_help(self, file: object = None) -> None:
        """argparse passes over what cannot be written."""
        print(self.format_help(), end="")

    def error(self, message: str) -> NoReturn:
        raise Misused(message.removeprefix("argument "), f"{self.prog} --help")


def run(name: str = "", *arguments: str) -> int:
    """The exit status. Raises `Refusal`, and SystemExit after a command's `--help`."""
    if name in ("", "-h", "--help"):
        print(overview())
        return 0 if name else 2
    if name == "--version":
        print(f"floatip {floatip.__version__}")
        return 0
    if name not in COMMANDS:
        kind = "option" if name.startswith("-") else "command"
        _unknown(kind, name, [*COMMANDS, "--help", "--version"], "floatip --help")
    return COMMANDS[name].run(**parse(COMMANDS[name], arguments))


def parse(command: Command, arguments: Sequence[str]) -> dict[str, Any]:
    """The options by name."""
    parser = Parser(command)
    known = ["--help", *(name for option in command.options for name in option.names)]
    for argument in takewhile(lambda argument: argument != "--", arguments):
        name = argument.partition("=")[0]
        if name.startswith("--") and name not in known:
            _unknown("option", name, known, f"{parser.prog} --help")
    return vars(parser.parse_intermixed_args(arguments))


def _unknown(kind: str, word: str, known: Iterable[str], hint: str) -> NoReturn:
    from floatip.reading.words import closest  # noqa: PLC0415

    close = closest(word, known)
    raise Misused(f"unknown {kind} {word}", f"did you mean {close}? See: {hint}" if close else hint)


def _read(read: Callable[[str], object], text: str) -> object:
    try:
        return read(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not {error}") from None
