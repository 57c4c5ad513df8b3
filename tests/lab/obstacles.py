"""What may stand in the way of the second chance, and the move of a pair's address while it does."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from floatip.core.settings import LINK_PORT
from floatip.lab.namespaces import find_program
from floatip.lab.network import ROUTER
from floatip.lab.second_chance_scenes import STALL
from tests.lab.moving import Pair, until_judged

TUNNEL = 8473
TO_TUNNEL = f"udp dport {TUNNEL}"
OURS = f"udp dport {{ {LINK_PORT}, {TUNNEL} }} accept; tcp dport 179 accept"
"""What docs/operate/firewall.md says to open."""
BEFORE, LIVES, NEW_ONES = 0.5, 4.5, 1.0
"""Seconds for which connections are open before a move; for which they live after it, with new ones; for which new ones
are opened after it where the old ones are reset."""

Obstacle = Callable[[Pair, str, str], AbstractContextManager[None]]
"""Given the keeper and the carrier; it is in the way as long as the context lasts."""


def nft(pair: Pair, host: str, ruleset: str) -> None:
    with pair.network.inside(host):
        subprocess.run([find_program("nft", "nftables"), "-f", "-"], input=ruleset, text=True, check=True)


def ip(pair: Pair, host: str, command: str) -> None:
    with pair.network.inside(host):
        subprocess.run(["ip", *command.split()], check=True, capture_output=True)


def sysctl(pair: Pair, host: str, name: str, value: int) -> None:
    with pair.network.inside(host):
        Path("/proc/sys/net", name).write_text(str(value))


def filtered(at: str, chain: str) -> Obstacle:
    """By nftables; `at`: "keeper", "carrier", "both" or "router". KEEPER and CARRIER in `chain` are replaced."""

    @contextmanager
    def obstacle(pair: Pair, keeper: str, carrier: str) -> Iterator[None]:
        places = {"keeper": [keeper], "carrier": [carrier], "both": [keeper, carrier], "router": [ROUTER]}
        ruleset = chain.replace("KEEPER", keeper).replace("CARRIER", carrier)
        for host in places[at]:
            nft(pair, host, f"table inet way {{\n{ruleset}\n}}\n")
        try:
            yield
        finally:
            for host in places[at]:
                nft(pair, host, "delete table inet way")

    return obstacle


def chain(hook: str, rules: str, policy: str = "accept", priority: str = "filter") -> str:
    return f"chain way_{hook} {{ type filter hook {hook} priority {priority}; policy {policy}; {rules}; }}"


BOTH_WAYS = filtered("router", chain("forward", f"{TO_TUNNEL} drop"))
TO_KEEPER = filtered("router", chain("forward", f'oifname "KEEPER" {TO_TUNNEL} drop'))
TO_CARRIER = filtered("router", chain("forward", f'oifname "CARRIER" {TO_TUNNEL} drop'))
NO_FRAGMENTS = filtered("router", chain("forward", "ip frag-off & 0x3fff != 0 drop", priority="-1"))


@dataclass(frozen=True)
class Way:
    name: str
    before: Obstacle | None = None
    """In the way before the connections are opened."""
    opened: Obstacle | None = None
    """Once they are open, immediately before the move."""
    after: Obstacle | None = None
    """After the move."""
    after_for: float = 0.0
    """Seconds after the move at which that comes."""
    status: str = ""
    """What a status says then, before the move (a pattern)."""
    news: str = ""
    """Connections are reset: what the daemons call it. Empty: none is."""
    why: str = ""
    """The reason that they give, in their history and their status (a pattern)."""
    within: float = 2.0
    """Seconds that a connection waits for its reset."""
    stall: float = STALL
    """Seconds that the echo of a message may take, where none is reset."""
    closes: bool = False
    """The tunnel, long enough for the nodes to notice."""


def play(pair: Pair, way: Way) -> None:
    until_judged(lambda: _play_once(pair, way))


def _play_once(pair: Pair, way: Way) -> bool:
    keeper = pair.master
    carrier = pair.other(keeper)
    pair.settle()
    with ExitStack() as obstacles:
        if way.before:
            obstacles.enter_context(way.before(pair, keeper, carrier))
        if way.status:
            pair.run.wait_for(lambda: pair.says(keeper, way.status), f"the status of {keeper} to say: {way.status}")
        with pair.connected() as connected:
            time.sleep(BEFORE)
            if way.opened:
                obstacles.enter_context(way.opened(pair, keeper, carrier))
            at = since = pair.order(keeper, "handover")
            taken_at = pair.taken_over(carrier, at)
            if way.after:
                pair.run.wait_for_event(carrier, "connections", "kept", at)
                time.sleep(max(0.0, taken_at + way.after_for - time.monotonic()))
                since = pair.run.mark("the obstacle is set up")
                obstacles.enter_context(way.after(pair, keeper, carrier))
            if way.news:
                connected.wait_for_resets()
            time.sleep(max(0.0, taken_at + (NEW_ONES if way.news else LIVES) - time.monotonic()))
            pair.was_closed = way.closes
            story = connected.tell(keeper, at, taken_at)
    if way.news:
        return story.judge(story.reset(way.news, way.why, since, way.within))
    return story.judge(story.went_on(way.stall))
