"""Ctrl-C after the fault was undone: the drill waits for nothing more, and says what is not as before."""

from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import cast

import pytest

from floatip.drill.command import Rehearsal, Wishes
from floatip.drill.faults import Fault
from floatip.drill.observation import Target
from floatip.drill.report import Method
from floatip.drill.watching import Watch
from tests.web.views import PAIR

WISHES = Wishes(
    instance="web",
    fault="check",
    check=None,
    lasts=None,
    to=None,
    observers=(),
    key=Path("key"),
    target=Target("192.0.2.10", 80, "http", 0.02),
    reports=(),
    as_json=False,
    dry_run=False,
    yes=True,
    force=False,
)
UNDONE = cast(Fault, SimpleNamespace(begins="", ends="the check counts as it is", end=lambda: None, leftovers=list))


@pytest.mark.parametrize("signals", [("SIGINT",), ("SIGINT", "SIGINT")], ids=["once, after it", "twice"])
def test_nothing_more_is_waited_for(signals: tuple[str, ...]) -> None:
    drill = Rehearsal(WISHES)
    drill._watch = cast(Watch, SimpleNamespace(status=None))
    drill._method = Method("check", "haproxy1", "web", (), ())
    drill._began = 1.0
    if len(signals) == 2:  # the first one ended the fault
        drill._interrupt(signals[0])
    drill._undo(UNDONE)
    waiting = Thread(target=drill._restored, args=(PAIR, "web"), daemon=True)
    waiting.start()
    drill._interrupt(signals[-1])
    waiting.join(30)
    assert not waiting.is_alive()
    assert drill._done[-1].text == "not all is as before"
