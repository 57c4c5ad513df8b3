"""`floatip notify`: tells the daemon what keepalived said; a drop-in for the notify.sh of Linode's guide, without sudo.

It takes that script's `Master`, `Backup` and `Fault` (in any case), `Stop`, and the four arguments that keepalived
gives to `notify`. It imports little: keepalived runs it at every change, and gives `notify_stop` one second.
"""

import sys
import syslog
import time
from collections.abc import Sequence

from floatip.commands import Misused
from floatip.host.ask import ControlError, NobodyAnswers, Record, ask, socket_path

WAIT = 5.0
"""Seconds to wait for a daemon that is being restarted."""
RETRY_INTERVAL = 0.1
STATES = ("MASTER", "BACKUP", "FAULT", "STOP")
ALSO = {"MASTER_RX_LOWER_PRI": "MASTER", "DELETED": "STOP"}
"""What keepalived says too, for `notify_master_rx_lower_pri` and after a reload without the instance."""
USAGE = """\
usage: floatip notify Master|Backup|Fault|Stop
       floatip notify INSTANCE|GROUP NAME MASTER|BACKUP|FAULT|STOP [PRIORITY]
Tell the floatip daemon on this machine the new state of keepalived.

exit status:
  0   the daemon has received it
  1   the daemon has not received it
  2   the arguments are wrong"""


def main(arguments: Sequence[str]) -> int:
    if arguments and arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    if len(arguments) > 2 and arguments[2].upper().endswith("_PRIORITY"):
        return 0  # no change of state: keepalived says BACKUP_PRIORITY also of an instance in FAULT
    try:
        request = parse(arguments)
    except Misused as error:
        _complain(f"error: {error}", f"\n{USAGE}")
        return 2
    try:
        _deliver(request, time.monotonic() + WAIT)
    except ControlError as error:
        _complain(f"error: {' '.join(arguments)} was not delivered: {error.coded}\nhint: {error.hint}")
        return 1
    return 0


def parse(arguments: Sequence[str]) -> Record:
    match arguments:
        case [state]:
            return {"cmd": "notify", "state": _state(state)}
        case [kind, name, state] | [kind, name, state, _] if kind.upper() in ("INSTANCE", "GROUP"):
            return {"cmd": "notify", "kind": kind.upper(), "name": name, "state": _state(state)}
        case []:
            raise Misused("no state is given", "")
        case _:
            raise Misused(f"not understood: {' '.join(arguments)}", "")


def _state(word: str) -> str:
    state = ALSO.get(word.upper(), word.upper())
    if state not in STATES:
        raise Misused(f"{word} is not a state", "")
    return state


def _deliver(request: Record, give_up_at: float) -> None:
    while True:
        try:
            ask(socket_path(), request, timeout=max(RETRY_INTERVAL, give_up_at - time.monotonic()))
            return
        except NobodyAnswers:
            if time.monotonic() >= give_up_at:
                raise
            time.sleep(RETRY_INTERVAL)


def _complain(message: str, usage: str = "") -> None:
    """keepalived gives its scripts no standard error; the journal is where one would look."""
    if sys.stderr:
        print(message + usage, file=sys.stderr)
    if not sys.stderr or not sys.stderr.isatty():
        syslog.openlog("floatip-notify", syslog.LOG_PID, syslog.LOG_DAEMON)
        for line in message.splitlines():
            syslog.syslog(syslog.LOG_ERR, line)
