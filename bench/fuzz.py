"""Mutated messages: nothing but `Malformed` may be raised.

    python -m bench.fuzz [bgp|link] [--messages 1000000] [--seed 1]

Octets are flipped, cut and inserted. `bgp`: the messages of `tests/captures` and our own, through the parser and into
sessions in every state; a session that they have closed is replaced by a new one. `link`: datagrams of the link, three
of four signed again. Prints the rate, the memory, and how often each answer came: it shows how deep they got.
"""

import argparse
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from bench.pairs import rss
from floatip.core.bgp import wire
from floatip.core.bgp.notification import Notification, explain
from floatip.core.bgp.session import Session, State
from floatip.core.events import Became, Effect, SendBytes
from floatip.core.link import wire as link_wire
from floatip.core.malformed import Malformed
from tests.core import test_link_wire as datagrams
from tests.core.test_bgp_wire import LELASTIC, MESSAGES, REACTIONS, mutations
from tests.core.test_session import ACTIVE, KEEPALIVE, STANDBY, V4, V6, established, open_confirm, open_sent, theirs

SEEDS = [*MESSAGES, *(bytes.fromhex(row["hex"]) for row in REACTIONS), theirs(), KEEPALIVE, wire.pack(LELASTIC)]
STATES = (open_sent, open_confirm, established)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz")
    parser.add_argument("what", nargs="?", choices=("bgp", "link"), default="bgp")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    play = {"bgp": bgp, "link": link}[options.what]
    counts: Counter[str] = Counter()
    begun, memory = time.monotonic(), rss(os.getpid())
    for answer in play(options.messages, options.seed):
        counts[answer] += 1
    spent = time.monotonic() - begun
    for what, count in sorted(counts.items()):
        print(f"{count:9}  {what}")
    print(f"{options.messages} messages, {options.messages / spent:.0f} a second, nothing raised but Malformed")
    print(f"RSS {memory:.1f} MB before, {rss(os.getpid()):.1f} MB after")
    return 0


def bgp(messages: int, seed: int) -> Iterator[str]:
    draw = random.Random(seed)
    sessions = [make() for make in STATES]
    for number, message in enumerate(mutations(SEEDS, messages, seed)):
        which = draw.randrange(len(STATES))
        with shown(f"message {number}, in state {sessions[which].state.value}", message):
            yield parsed(message)
            yield heard(sessions[which], message, draw)
        if sessions[which].state is State.IDLE:
            sessions[which] = STATES[which]()
            sessions[which].announce({V4: ACTIVE, V6: STANDBY}, 0)


def link(messages: int, seed: int) -> Iterator[str]:
    for number, (data, is_signed) in enumerate(datagrams.mutations(messages, seed)):
        with shown(f"datagram {number}", data):
            try:
                read = link_wire.parse(data, (datagrams.KEY,))
                assert is_signed
                assert all(text.isprintable() for text in datagrams.shown(read))
                yield "a datagram"
            except Malformed as error:
                yield error.what


@contextmanager
def shown(which: str, data: bytes) -> Iterator[None]:
    """If it raises."""
    try:
        yield
    except Exception:
        print(f"{which}: {data.hex()}", file=sys.stderr)
        raise


def parsed(message: bytes) -> str:
    try:
        for whole in [*wire.split(bytearray(message)), message]:
            found = wire.parse(whole, four_octet_asn=len(message) % 2 > 0)
            if isinstance(found, Notification):
                assert explain(found).isprintable()
    except Malformed as error:
        return f"parser: {error.code}/{error.subcode}"
    return "parser: a message"


def heard(session: Session, message: bytes, draw: random.Random) -> str:
    """By the session, cut in two anywhere."""
    state = session.state.value
    at = draw.randrange(len(message) + 1)
    effects: list[Effect] = []
    for piece in (message[:at], message[at:]):
        effects += session.received(piece, 0.5)
        effects += session.writable() if session.is_connected else []
    assert all(effect.reason.isprintable() for effect in effects if isinstance(effect, Became))
    if session.state.value == state:
        return f"session {state}: stays"
    said = [wire.parse(each) for e in effects if isinstance(e, SendBytes) for each in wire.split(bytearray(e.data))]
    answers = [f"answers {each.code}/{each.subcode}" for each in said if isinstance(each, Notification)]
    return f"session {state}: {''.join(answers) or f'goes to {session.state.value}'}"


if __name__ == "__main__":
    sys.exit(main())
