"""`floatip status`: what the daemon answers, once or every second. Raises `ControlError` where it shows nothing."""

import json
import shutil
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from floatip.core.state import Status, read
from floatip.host.ask import ControlError, NobodyAnswers, NotAllowed, Record, ask, socket_path
from floatip.view import draw_status

INTERVAL = 1.0


def show(*, as_json: bool) -> int:
    answer, status = answered()
    print(_drawn(answer, status, as_json=as_json))
    return 1 if status.needs_a_person else 0


def watch(*, as_json: bool) -> NoReturn:
    repeat(lambda: _drawn(*answered(), as_json=as_json), as_json=as_json)


def repeat(draw: Callable[[], str], *, as_json: bool) -> NoReturn:
    """Until Ctrl-C, also while the daemon is restarted."""
    silent_since = ""
    while True:
        try:
            text, silent_since = draw(), ""
        except NotAllowed:
            raise
        except ControlError as error:
            silent_since = silent_since or time.strftime("%H:%M:%S")
            what = "no daemon answers" if isinstance(error, NobodyAnswers) else error.what
            text = f"{what} since {silent_since}\nhint: {error.hint}"
        if sys.stdout.isatty():
            print("\033[H\033[2J", end="")
        # With --json, stdout has nothing but JSON.
        print(text, file=sys.stderr if silent_since and as_json else sys.stdout, flush=True)
        time.sleep(INTERVAL)


def answered() -> tuple[Record, Status]:
    try:
        answer = ask(socket_path(), {"cmd": "status"})
        return answer, read(Status, answer)
    except (KeyError, TypeError, ValueError):
        what = "the daemon is of another version, and its answer cannot be read"
        raise ControlError(what, "systemctl restart floatip") from None
    except NobodyAnswers as error:
        from floatip.absent import explained  # noqa: PLC0415

        raise explained(error) from None


def _drawn(answer: Record, status: Status, *, as_json: bool) -> str:
    return json.dumps(answer, indent=2) if as_json else draw_status(status, shutil.get_terminal_size().columns)
