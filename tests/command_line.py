"""The command line as a person uses it, in this process."""

import io
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout

from floatip import cli


def floatip(*arguments: str) -> tuple[int, str]:
    """The exit status, and what goes to stdout and stderr."""
    shown = io.StringIO()
    with redirect_stdout(shown), redirect_stderr(shown):
        return _status(arguments), shown.getvalue()


def _status(arguments: Sequence[str]) -> int:
    try:
        return cli.main(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
