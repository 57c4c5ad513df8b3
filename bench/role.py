"""From the cause of a role change to the UPDATE at four route servers, a thousand times in a real daemon.

A file turns a check, and the node goes from `active` to `last-resort` or back: no withdrawal, which would be damped,
and one UPDATE to each session. The end is its arrival at the last of the four. The beginning is taken twice: before
the file is touched or removed, and when the daemon decided, as it says to `watch`.
"""

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.receiver import HOLD_TIME, Receiver, all_told_at, establish
from floatip.lab.namespaces import LabError
from floatip.lab.network import FLOATING, HAPROXY1, ROUTE_SERVERS, Network
from floatip.lab.programs.floatip import FloatipDaemon

PAUSE = 0.01
TIMEOUT = 5.0


def measure(changes: int = 1000) -> dict[str, list[float]]:
    """Seconds."""
    with ExitStack() as stage:
        directory = stage.enter_context(TemporaryDirectory(prefix="floatip-bench-"))
        network = stage.enter_context(Network(Path(directory)))
        servers = [stage.enter_context(Receiver(network, server)) for server in ROUTE_SERVERS]
        trigger = Path(directory, "trigger")
        node = FloatipDaemon(network, HAPROXY1.name, _config(trigger))
        node.start()
        stage.callback(node.kill)
        all_told_at(servers, [FLOATING.network], establish(servers))
        decided_at = _watch(node)
        touched_at = [_change(trigger, servers) for _ in range(changes)]
        ends = [max(each) for each in zip(*map(_arrivals, servers), strict=True)]
        found = {
            "file touched": [end - at for end, at in zip(ends, touched_at, strict=True)],
            "decided by the daemon": [end - at for end, at in zip(ends, decided_at, strict=True)],
        }
    print(f"role: {changes} changes of rank, until the last of {len(servers)} route servers has the UPDATE")
    for beginning, times in found.items():
        p50, p99 = (1000 * statistics.quantiles(times, n=100)[n] for n in (49, 98))
        print(f"  from {beginning:20} p50 {p50:6.2f} ms  p99 {p99:6.2f} ms  max {1000 * max(times):6.2f} ms")
    return found


def _config(trigger: Path) -> str:
    return f"""
[linode]
dcid = 6

[bgp]
hold_time = {HOLD_TIME}

[[check]]
name = "trigger"
file = "{trigger}"

[[instance]]
name = "VI_1"
addresses = ["{FLOATING}"]
checks = ["trigger"]
static = "primary"
last_resort = true
"""


def _watch(node: FloatipDaemon) -> list[float]:
    """When the daemon decided each change of rank from now on; the list grows."""
    decided_at: list[float] = []
    began_at = time.monotonic()
    listening = threading.Event()

    def follow() -> None:
        for news in node.watch():
            listening.set()
            if news["what"] == "rank" and news["at"] > began_at:
                decided_at.append(news["at"])

    threading.Thread(target=follow, daemon=True).start()
    listening.wait(TIMEOUT)
    return decided_at


def _change(trigger: Path, servers: list[Receiver]) -> float:
    at = time.monotonic()
    if trigger.exists():
        trigger.unlink()
    else:
        trigger.touch()
    while any(server.quiet_since < at for server in servers):
        if time.monotonic() > at + TIMEOUT:
            raise LabError("a change of rank did not arrive", "see `floatip status`")
        time.sleep(PAUSE / 5)
    time.sleep(PAUSE)
    return at


def _arrivals(server: Receiver) -> Iterator[float]:
    """Of the changes: what is the same as before is said again for safety."""
    (_, first), *updates = server.updates()
    before = first.attributes
    for at, update in updates:
        if update.attributes and update.attributes != before:
            before = update.attributes
            yield at


if __name__ == "__main__":
    measure()
