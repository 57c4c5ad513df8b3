"""The command line as a person uses it, in this process."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout, suppress
from unittest.mock import patch

from floatip import cli


def floatip(*arguments: str) -> tuple[int, str]:
    """The exit status, and what goes to stdout and stderr."""
    shown = io.StringIO()
    argv = patch.object(sys, "argv", ["floatip", *arguments])
    with argv, redirect_stdout(shown), redirect_stderr(shown), suppress(SystemExit):
        return cli.main(arguments), shown.getvalue()
    return 0, shown.getvalue()  # --help
