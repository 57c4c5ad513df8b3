"""`floatip drain`, `undrain`, `handover`, `pause` and `resume`: ask the daemon, and wait until it is true.

The daemon does it, also after this command has ended; the same request again only asks how it stands.
"""

import re
import sys
import time
from typing import Literal

from floatip.commands import Refusal
from floatip.core.link.wire import LONGEST_REASON
from floatip.core.refusals import Why
from floatip.host.ask import Declined, Record, ask, socket_path
from floatip.text import cells, columns, padded, printable, say, span

LIMIT = 30.0
INTERVAL = 0.1
"""Seconds between two questions."""
KEPT_INTERVAL, SAID_INTERVAL = 0.5, 10.0
"""Seconds between two questions for the connections that are left, and between two lines about them in a pipe."""
TAKE_BACK = {
    "drain": "floatip undrain",
    "undrain": "floatip drain",
    "handover": "floatip handover, on the node that carries it then",
    "pause": "floatip resume",
    "resume": "floatip pause",
}
LEFT = {
    "drain": "to wait for them: floatip drain --wait",
    "handover": "floatip status says how many are left",  # another handover would be refused, or move more
}


def seconds(text: str) -> float:
    """Of a duration."""
    parts = re.fullmatch(r"(?:(\d{1,4})h)?(?:(\d{1,4})m)?(?:(\d{1,6})s)?", text, re.ASCII)
    hours, minutes, rest = (int(part or 0) for part in parts.groups()) if parts else (0, 0, 0)
    if total := 3600 * hours + 60 * minutes + rest:
        return float(total)
    raise ValueError("a duration such as 90s, 30m, 2h or 1h30m")


def reason(text: str) -> str:
    if len(text.encode(errors="surrogateescape")) <= LONGEST_REASON and text.isprintable():
        return text
    raise ValueError(f"one line of at most {LONGEST_REASON} bytes of UTF-8")


def carry_out(verb: str, then: Literal["", "wait"] = "", /, **options: object) -> int:
    """The exit status. Raises `Refusal` if the daemon refuses, does not answer, or is not done in time.

    `then` "wait": until no open connection goes on here.
    """
    began = time.monotonic()
    goes_on = "the daemon goes on"
    try:
        answer = _until_done({"cmd": verb, **options}, verb, began)
        result = answer.get("result")
        print(printable(f"done in {time.monotonic() - began:.2f} s" + (f": {result}" if result else "")), flush=True)
        goes_on = f"the {verb} goes on, and so do the connections"
        if then:
            _until_gone(answer, verb, began)
        elif left := _left(answer):
            print(printable(f"{left}; {LEFT[verb]}"))
    except KeyboardInterrupt:
        say(f"\nstopped waiting; {goes_on}. Take it back: {TAKE_BACK[verb]}\nSee how it stands: floatip status")
        return 130
    return 0


def _until_done(request: Record, verb: str, began: float) -> Record:
    shown: set[str] = set()
    while True:
        answer = ask(socket_path(), request)
        if answer.get("refused"):
            raise Declined(answer, f"{verb} refused: ")
        waiting = _sentences(answer.get("waiting"))
        for sentence in waiting:
            if sentence not in shown:
                print(printable(sentence), flush=True)
        shown.update(waiting)
        if answer.get("done"):
            return answer
        if time.monotonic() - began > LIMIT:
            why = f"; the daemon waits for: {'; '.join(waiting)}" if waiting else ""
            hint = f"the daemon goes on: floatip nodes shows how it stands; to take it back: {TAKE_BACK[verb]}"
            raise Refusal(f"{verb} is not done after {LIMIT:g} s{why}", hint, Why.NOT_DONE_YET)
        time.sleep(INTERVAL)
        request = {"cmd": "verb-status", "order": answer.get("order")}


def _until_gone(answer: Record, verb: str, began: float) -> None:
    """Until the last connection has ended, or has been cut off."""
    is_terminal, said_at, width = sys.stdout.isatty(), -SAID_INTERVAL, 0
    while answer.get("kept"):
        if (left := _left(answer)) and is_terminal:
            line = printable(left)[: columns() - 1]
            print(f"\r{padded(line, width)}", end="", flush=True)
            width = cells(line)
        elif left and time.monotonic() >= said_at + SAID_INTERVAL:
            print(printable(left), flush=True)
            said_at = time.monotonic()
        time.sleep(KEPT_INTERVAL)
        answer = ask(socket_path(), {"cmd": "verb-status", "order": answer.get("order")})
        if answer.get("refused"):
            print("\n" * bool(width), end="", flush=True)
            raise Declined(answer, f"{verb} ended: ")
    gone = answer.get("gone") or "no connection of what has moved goes on here"
    print("\n" * bool(width) + printable(f"after {time.monotonic() - began:.2f} s: {gone}"))


def _left(answer: Record) -> str:
    """Of the connections that go on here, in words; empty: none does, or nobody knows yet."""
    match answer.get("kept"):
        case {"connections": int(count), "nodes": [*nodes], "until": float(until)}:
            many = f"{count} connection{'s go' if count > 1 else ' goes'} on here by {' and '.join(map(str, nodes))}"
            return f"{many}, for {span(max(until - time.monotonic(), 0))} at most"
    return ""


def _sentences(waiting: object) -> list[str]:
    return [str(sentence) for sentence in waiting] if isinstance(waiting, list) else []
