"""A route server that sends 200,000 routes at a daemon that wants none: what it costs, and who notices.

Told twice, in as few UPDATEs as possible and in one for each route, to a fresh daemon each time. Its memory is the
highest during the flood against that before. Its KEEPALIVEs, due every second on four sessions, are timed where they
arrive, until three seconds after the last UPDATE was read.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from ipaddress import IPv6Network
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.receiver import HOLD_TIME, Receiver, all_told_at, establish
from floatip.core.bgp.attributes import Attributes
from floatip.core.bgp.update import Update
from floatip.core.bgp.wire import Keepalive, pack, pack_routes
from floatip.lab.network import FLOATING, HAPROXY1, ROUTE_SERVERS, Network
from floatip.lab.programs.floatip import FloatipDaemon

ROUTES = 200_000
SETTLE = 3.0

CONFIG = f"""
[linode]
dcid = 6

[bgp]
hold_time = {HOLD_TIME}

[[instance]]
name = "VI_1"
addresses = ["{FLOATING}"]
static = "primary"
"""


def measure() -> dict[str, dict[str, float]]:
    """Megabytes and seconds."""
    marks = Attributes(ROUTE_SERVERS[0].ipv6, as_path=(65000, 64496, 64497))
    prefixes = [IPv6Network((0x2001 << 112 | number << 80, 48)) for number in range(ROUTES)]
    floods = {
        "packed": list(pack_routes([(prefix, marks) for prefix in prefixes], ())),
        "one by one": [pack(Update((prefix,), marks)) for prefix in prefixes],
    }
    found = {name: _run(messages) for name, messages in floods.items()}
    for name, cost in found.items():
        print(f"flood: {ROUTES} routes in {len(floods[name])} UPDATEs ({name}), read in {cost['took']:.2f} s:", end="")
        print(
            f" RSS {cost['before']:.1f} MB + {cost['growth']:.2f} MB at most, {cost['left']:.2f} MB of it stay;", end=""
        )
        print(f" longest pause between two KEEPALIVEs {cost['pause']:.2f} s")
    return found


def _run(messages: Sequence[bytes]) -> dict[str, float]:
    with ExitStack() as stage:
        directory = stage.enter_context(TemporaryDirectory(prefix="floatip-bench-"))
        network = stage.enter_context(Network(Path(directory)))
        servers = [stage.enter_context(Receiver(network, server)) for server in ROUTE_SERVERS]
        node = FloatipDaemon(network, HAPROXY1.name, CONFIG)
        node.start()
        stage.callback(node.kill)
        all_told_at(servers, [FLOATING.network], establish(servers))
        time.sleep(SETTLE)
        Path(f"/proc/{node.pid}/clear_refs").write_text("5")  # the peak starts here
        before, began_at = _memory(node, "VmRSS"), time.monotonic()
        servers[0].send(b"".join(messages))
        while node.status()["sessions"][0]["updates_received"] < len(messages):
            time.sleep(0.1)
        took = time.monotonic() - began_at
        time.sleep(SETTLE)
        return {
            "took": took,
            "before": before,
            "growth": _memory(node, "VmHWM") - before,
            "left": _memory(node, "VmRSS") - before,
            "pause": max(pause for server in servers for pause in _pauses(server, began_at)),
        }


def _memory(node: FloatipDaemon, field: str) -> float:
    status = Path(f"/proc/{node.pid}/status").read_text()
    return 1024 * int(status.split(f"{field}:")[1].split()[0]) / 1e6


def _pauses(server: Receiver, began_at: float) -> Iterator[float]:
    beats = [at for at, message in server.messages(began_at - 1) if isinstance(message, Keepalive)]
    yield from (later - earlier for earlier, later in pairwise([*beats, time.monotonic()]))


if __name__ == "__main__":
    measure()
