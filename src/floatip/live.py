"""`floatip status --watch` on a terminal: one screen, drawn by `rich`, which puts the terminal back at the end."""

import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from rich.console import Console
from rich.live import Live
from rich.text import Text

from floatip.host.ask import ControlError, NotAllowed
from floatip.screen import BAD, DIM, Line
from floatip.status import silence
from floatip.text import printable


def watch_screen(draw: Callable[[], list[Line]], interval: float) -> NoReturn:
    """Until Ctrl-C, also while the daemon is restarted. `interval`: seconds between two looks."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the terminal is put back then too
    console = Console(highlight=False, markup=False, emoji=False)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        silent_since = ""
        while True:
            try:
                lines, silent_since = draw(), ""
            except NotAllowed:
                raise
            except ControlError as error:
                silent_since = silent_since or time.strftime("%H:%M:%S")
                first, *rest = silence(error, silent_since).split("\n")
                lines = [[(printable(first), BAD)], *([(printable(line), "")] for line in rest)]
            live.update(_text(lines, console.height), refresh=True)
            time.sleep(interval)


def _text(lines: list[Line], height: int) -> Text:
    """What does not fit is said, not lost."""
    if len(lines) > height:
        lines = [*lines[: height - 1], [(f"... {len(lines) - height + 1} more lines: floatip status", DIM)]]
    text = Text(no_wrap=True, overflow="crop", end="")
    for number, line in enumerate(lines):
        text.append("\n" if number else "")
        for part, style in line:
            text.append(part, style)
    return text
