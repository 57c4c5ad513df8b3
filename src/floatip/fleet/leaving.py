"""`floatip fleet leave` and `join`: this node's daemon does it, and the command waits until it is true."""

import time

from floatip import verbs
from floatip.commands import Refusal
from floatip.core.refusals import Why
from floatip.host.ask import Declined, ask, socket_path
from floatip.text import printable, say

LIMIT = 30.0
INTERVAL = 0.1
REASON = "it leaves the fleet"


def carry_out(verb: str, *, force: bool) -> int:
    """The exit status. Raises `Refusal`."""
    if verb == "leave":
        _until_done("fleet-leave", check=True)
        if status := verbs.carry_out("drain", reason=REASON, **{"for": None}, withdraw=True, force=force):
            return status
    _until_done(f"fleet-{verb}")
    if verb == "leave":
        say("this node is no member any more, and carries nothing; its daemon goes on, so that it can join again")
        say("hint: to stop it for good: systemctl disable --now floatip; to come back: floatip fleet join")
        return 0
    return verbs.carry_out("undrain")


def _until_done(request: str, *, check: bool = False) -> None:
    began = time.monotonic()
    said = ""
    while True:
        answer = ask(socket_path(), {"cmd": request, "check": check})
        if answer.get("refused"):
            raise Declined(answer, f"{request.replace('-', ' ')} refused: ")
        if answer.get("done") or check:
            return
        if (waiting := str(answer.get("waiting", ""))) != said:
            print(printable(waiting), flush=True)
            said = waiting
        if time.monotonic() - began > LIMIT:
            what = f"{request.replace('-', ' ')} is not done after {LIMIT:g} s: {waiting}"
            hint = "the daemon goes on; see how it stands: floatip status"
            hint += "; to let it stay a member: floatip fleet join" * (request == "fleet-leave")
            raise Refusal(printable(what), hint, Why.NOT_DONE_YET)
        time.sleep(INTERVAL)
