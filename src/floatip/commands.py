"""What a command of the command line is. Imports little: the daemon and `floatip notify` load it."""

import errno
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from floatip.core.refusals import Why

Run = Callable[..., int]
CANNOT_WRITE = 74
"""The exit status of every command whose output is lost; EX_IOERR in sysexits.h."""
WRITING = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What only writing fails with."""
ABOUT = "Keep a floating IP on a machine that can serve it, on clouds where addresses\nmove by BGP."


class Refusal(Exception):
    """Why a command does nothing more, and what to do next; empty hint: `what` says that too."""

    status = 1
    """The exit status of the command."""
    code: Why | None = None
    """Its section in docs/operate/refusals.md. Each has one: of its class, or of its own."""

    def __init__(self, what: str, hint: str, code: Why | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.code = code or self.code

    @property
    def coded(self) -> str:
        """What is refused, with the code at the end of its first line."""
        return with_code(self.what, self.code)

    def __str__(self) -> str:
        return f"{self.coded}\nhint: {self.hint}" if self.hint else self.coded


class Misused(Refusal):
    """The arguments are wrong."""

    status = 2
    code = Why.USAGE


def with_code(what: str, code: str | None) -> str:
    first, *rest = what.split("\n")
    return "\n".join([f"{first} [{code}]" if code else first, *rest])


def again_as_root() -> str:
    """The hint that repeats this command line."""
    from shlex import join  # noqa: PLC0415

    return join(["sudo", "floatip", *sys.argv[1:]])


class Number:
    """Reads a number in a range. Raises ValueError with what the text must be."""

    def __init__(self, kind: type[int] | type[float], least: float, most: float) -> None:
        self.kind, self.least, self.most = kind, least, most
        self.range = f"{least} to {most}"

    def __call__(self, text: str) -> float:
        with suppress(ValueError):
            if self.least <= (number := self.kind(text)) <= self.most:
                return number
        raise ValueError(f"a {'whole number' if self.kind is int else 'number'} from {self.range}")


class Option:
    """What `ArgumentParser.add_argument` takes.

    Made from "-w --watch", "--port PORT", "--request http|tcp", "FILE", "[FILE]" if it may be missing, or "[FILE...]"
    for any number.
    """

    def __init__(
        self, form: str, about: str, read: Callable[[str], object] = str, default: object = None, **settings: object
    ) -> None:
        words = form.split()
        value = words[-1].strip("[.]")
        self.names = [word for word in words if word.startswith("-")]
        self.read = read
        notes = [read.range] if isinstance(read, Number) else []
        notes += [f"default: {default}"] if default else []
        self.settings = settings | {"help": f"{about} ({'; '.join(notes)})" if notes else about}
        if value in self.names:
            self.settings["action"] = "store_true"
            return
        self.settings |= {"metavar": value, "default": default, "choices": value.split("|") if "|" in value else None}
        if not self.names:
            many = "*" if "..." in form else "?"
            self.settings |= {"dest": value.lower(), "nargs": many if default or "[" in form else None}


class Command:
    """Decorates the function that takes the options by name and returns the exit status; its docstring is the help.

    `takes`: whether the function gets these arguments as they are, so that argparse is not loaded.
    """

    def __init__(
        self,
        group: str,
        exits: dict[int, str],
        *options: Option,
        takes: Callable[[Sequence[str]], bool] = lambda arguments: False,
    ) -> None:
        self.group = group
        self.exits = exits
        self.options = options
        self.takes = takes

    def __call__(self, run: Run) -> Run:
        self.run = run
        self.name = run.__name__
        self.about, _, self.details = (run.__doc__ or "").partition("\n")
        COMMANDS[self.name] = self
        return run


COMMANDS: dict[str, Command] = {}
"""By name, in the order of the help."""


def overview() -> str:
    lines = ["usage: floatip COMMAND [ARGUMENT...]", "", ABOUT]
    group = ""
    for command in COMMANDS.values():
        if command.group != group:
            lines += ["", f"{command.group}:"]
        group = command.group
        lines.append(f"  {command.name:12}{command.about.removesuffix('.')}")
    lines += ["", "options:", "  -h, --help  Show this help", "  --version   Show the version"]
    lines += ["", "floatip COMMAND --help shows the options and exit statuses of a command."]
    lines += ["floatip help CODE explains the code that ends a message, as in [no-session]."]
    return "\n".join(lines)
