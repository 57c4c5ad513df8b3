"""`floatip status`: what the daemon answers, once or again and again. Raises `ControlError` where it shows nothing."""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import NoReturn

from floatip.carrier import THIS_NODE, carriers
from floatip.commands import Misused
from floatip.core.problems import Severity
from floatip.core.refusals import Why
from floatip.core.state import Status, read
from floatip.host.ask import ControlError, NobodyAnswers, NotAllowed, Record, ask, changes, socket_path
from floatip.screen import Line, is_terminal, shown
from floatip.text import columns, printable
from floatip.view import Shown, draw_status

INTERVAL = 1.0
IDLE = 5.0
"""Seconds without a change after which the daemon is asked whether it hangs."""
ANOTHER_VERSION = "the daemon is of another version, and its answer cannot be read"
OK, WARNING, CRITICAL, UNKNOWN = range(4)
"""Exit statuses of monitoring plug-ins."""
NAMED = 3
"""How many instances and kinds of problems the one line names; more are counted."""
LONGEST_LINE = 500


class Unreadable(ControlError):
    """The answer is of another version."""

    code = Why.OTHER_DAEMON_VERSION


def show(instance: str | None, *, everything: bool, as_json: bool) -> int:
    answer, status = answered()
    _find(instance, status)
    print(_as_json(answer, instance) if as_json else shown(_drawn(status, instance, everything)))
    return 1 if status.needs_a_person else 0


def watch(instance: str | None, *, everything: bool, as_json: bool) -> NoReturn:
    def known() -> tuple[Record, Status]:
        answer, status = answered()
        _find(instance, status)
        return answer, status

    if as_json:
        repeat(lambda: _as_json(known()[0], instance), as_json=True)
    if is_terminal(sys.stdout):
        from floatip.live import watch_screen  # noqa: PLC0415

        watch_screen(lambda: _drawn(known()[1], instance, everything), INTERVAL)
    _follow(instance)


def _find(instance: str | None, status: Status) -> None:
    known = [one.name for one in status.instances]
    if instance is not None and instance not in known:
        raise Misused(f"this node has no instance {instance}", f"it has {_few(known)}", Why.UNKNOWN_NAME)


def _few(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _drawn(status: Status, instance: str | None, everything: bool) -> list[Line]:
    return draw_status(status, Shown(columns(), everything, instance))


def _as_json(answer: Record, instance: str | None) -> str:
    if instance is not None:
        every = answer["instances"]
        assert isinstance(every, list)
        answer = {**answer, "instances": [one for one in every if one["name"] == instance]}
    return json.dumps(answer, indent=2)


# One line for a monitoring plug-in


def brief() -> int:
    """Prints one line, whatever happens, as Nagios reads it; its exit status."""
    try:
        code, text, figures = _in_brief(_asked()[1])
    except (NotAllowed, Unreadable) as error:
        code, text, figures = UNKNOWN, error.what, ""
    except ControlError as error:
        code, text, figures = CRITICAL, error.what, ""
    word = ("OK", "WARNING", "CRITICAL", "UNKNOWN")[code]
    print(_one_line(f"FLOATIP {word} - {text}") + (f" | {figures}" if figures else ""))
    return code


def _in_brief(status: Status) -> tuple[int, str, str]:
    counts = Counter(problem.severity for problem in status.problems)
    wrong, warnings = counts[Severity.PROBLEM], counts[Severity.WARNING]
    kinds: dict[str, list[str]] = {}
    for problem in status.problems:
        if problem.severity != Severity.NOTE:
            kinds.setdefault(problem.code, []).append(problem.what)
    what = [
        f"{first}{f' and {len(more)} more like this' if more else ''} [{code}]"
        for code, (first, *more) in kinds.items()
    ]
    named = [*what[:NAMED], *([f"{len(what) - NAMED} other kinds"] if len(what) > NAMED else [])]
    up = sum(session.state == "established" for session in status.sessions)
    masters = sum(instance.role.value == "master" for instance in status.instances)
    figures = (
        f"problems={wrong};;0;0 warnings={warnings};0;;0 instances={len(status.instances)};;;0 master={masters};;;0"
    )
    if status.sessions:
        figures += f" route_servers={up};;;0;{len(status.sessions)}"
    if status.etcd:
        figures += f" etcd_unanswered={0 if status.etcd.answers else status.etcd.for_:.0f}s;0;;0"
    code = CRITICAL if wrong else WARNING if warnings else OK
    return code, "; ".join([*named, _roles(status)]), figures


def _roles(status: Status) -> str:
    if len(status.instances) > NAMED:
        counts = Counter(instance.role.value for instance in status.instances)
        return ", ".join(f"{count} {role.upper()}" for role, count in counts.items())
    carrying = carriers(status)
    return ", ".join(
        f"{one.name} {one.role.value.upper()}" + (f" ({node} serves)" if node not in ("", THIS_NODE) else "")
        for one in status.instances
        for node in [carrying[one.name].node]
    )


def _one_line(text: str) -> str:
    """What stands behind the first "|" would be figures."""
    text = printable(text).replace("|", "\\x7c").replace("\t", "\\t")
    return text if len(text) <= LONGEST_LINE else text[: LONGEST_LINE - 4] + " ..."


# Again and again


def repeat(draw: Callable[[], str], *, as_json: bool) -> NoReturn:
    """Until Ctrl-C, also while the daemon is restarted."""
    silent_since = ""
    while True:
        try:
            text, silent_since = draw(), ""
        except NotAllowed:
            raise  # which time does not change
        except ControlError as error:
            silent_since = silent_since or time.strftime("%H:%M:%S")
            text = silence(error, silent_since)
        if is_terminal(sys.stdout):
            print("\033[H\033[2J", end="")
        # With --json, stdout has nothing but JSON.
        print(text, file=sys.stderr if silent_since and as_json else sys.stdout, flush=True)
        time.sleep(INTERVAL)


def silence(error: ControlError, since: str) -> str:
    what = "no daemon answers" if isinstance(error, NobodyAnswers) else error.what
    return f"{what} since {since}\nhint: {error.hint}"


def _follow(instance: str | None) -> NoReturn:
    """A line for each change: where nobody looks at a screen, a screen a second is noise."""
    begins, is_silent = time.monotonic(), False
    while True:
        try:
            status = answered()[1]
            _find(instance, status)
            print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {_one_line(_in_brief(status)[1])}", flush=True)
            is_silent = False
            for change in changes(socket_path(), IDLE):
                if change is None:
                    _asked()
                    continue
                at = change["at"]
                if isinstance(at, float) and at >= begins and instance in (None, change["name"]):
                    begins = at
                    print(_told(change), flush=True)
        except (KeyError, ValueError) as error:
            raise Unreadable(ANOTHER_VERSION, "systemctl restart floatip") from error
        except NotAllowed:
            raise
        except ControlError as error:
            if not is_silent:
                print(silence(error, time.strftime("%Y-%m-%d %H:%M:%S")).replace("\n", "; "), flush=True)
            is_silent = True
        time.sleep(INTERVAL)


def _told(change: Record) -> str:
    from datetime import datetime  # noqa: PLC0415

    when = datetime.fromisoformat(str(change["time"])).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    what = change["what"] if change["what"] == change["name"] else f"{change['what']} {change['name']}"
    return printable(f"{when} {what} {change['value']}: {change['reason']}")


def answered() -> tuple[Record, Status]:
    """Why nobody answers is found out, which may take seconds."""
    try:
        return _asked()
    except NobodyAnswers as error:
        from floatip.absent import explained  # noqa: PLC0415

        raise explained(error) from None


def _asked() -> tuple[Record, Status]:
    try:
        answer = ask(socket_path(), {"cmd": "status"})
        return answer, read(Status, answer)
    except (KeyError, TypeError, ValueError):
        raise Unreadable(ANOTHER_VERSION, "systemctl restart floatip") from None
