"""What each fault costs with the guide's stack, measured on hosts of its own: `python -m tests.systemd.guide_figures`.

A program, because most of the time it waits for what does not come back: the tests of floatip run beside it. A line of
JSON for each fault goes to stdout, the story to stderr.
"""

import json
import sys
from contextlib import ExitStack, redirect_stdout

from tests.systemd.faults import FAULTS, play
from tests.systemd.machines import Rack
from tests.systemd.pair import Pair
from tests.systemd.stacks import GUIDE, settle, use


def main(runs: int) -> None:
    with ExitStack() as exits:
        rack = Rack()
        exits.callback(rack.close)
        pair = Pair(rack, exits)
        use(pair, GUIDE)
        for fault in (fault for fault in FAULTS if not fault.only_beside for _ in range(runs)):
            fault.prepare(pair)
            outcome = play(pair, GUIDE, fault, settle(pair, GUIDE))
            print(outcome.report(), flush=True)
            figures = {"fault": fault.name, "cost": outcome.cost, "longest": outcome.record.longest_outage}
            print(json.dumps(figures), file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):
        main(int(sys.argv[1]))
