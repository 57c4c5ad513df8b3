"""`floatip drain`, `undrain`, `handover`, `pause` and `resume`: ask the daemon, and wait until it is true.

The daemon does it, also after this command has ended; the same request again only asks how it stands.
"""

import re
import time

from floatip.commands import Refusal
from floatip.core.link.wire import LONGEST_REASON
from floatip.core.refusals import Why
from floatip.host.ask import Declined, Record, ask, socket_path
from floatip.text import printable, say

LIMIT = 30.0
INTERVAL = 0.1
"""Seconds between two questions."""
TAKE_BACK = {
    "drain": "floatip undrain",
    "undrain": "floatip drain",
    "handover": "floatip handover, on the node that carries it then",
    "pause": "floatip resume",
    "resume": "floatip pause",
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


def carry_out(verb: str, **options: object) -> int:
    """The exit status. Raises `Refusal` if the daemon refuses, does not answer, or is not done in time."""
    began = time.monotonic()
    try:
        answer = _until_done({"cmd": verb, **options}, verb, began)
    except KeyboardInterrupt:
        say(f"\nstopped waiting; the daemon goes on. Take it back: {TAKE_BACK[verb]}\nSee how it stands: floatip nodes")
        return 130
    result = answer.get("result")
    print(printable(f"done in {time.monotonic() - began:.2f} s" + (f": {result}" if result else "")))
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


def _sentences(waiting: object) -> list[str]:
    return [str(sentence) for sentence in waiting] if isinstance(waiting, list) else []
