"""Mutated BGP messages, through the parser and into sessions in every state: nothing but `Malformed` may be raised.

    python -m bench.fuzz [--messages 1000000] [--seed 1]

The messages are those of `tests/captures` and our own, with octets flipped, cut and inserted. A session that they have
closed is replaced by a new one. Prints the rate, and how often each answer came, so that one can see how deep they got.
"""

import argparse
import random
import sys
import time
import traceback
from collections import Counter

from floatip.core.bgp import wire
from floatip.core.bgp.notification import Notification, explain
from floatip.core.bgp.session import Session, State
from floatip.core.events import Became, Effect, SendBytes
from floatip.core.malformed import Malformed
from tests.core.test_bgp_wire import LELASTIC, MESSAGES, REACTIONS, mutations
from tests.core.test_session import ACTIVE, KEEPALIVE, STANDBY, V4, V6, established, open_confirm, open_sent, theirs

SEEDS = [*MESSAGES, *(bytes.fromhex(row["hex"]) for row in REACTIONS), theirs(), KEEPALIVE, wire.pack(LELASTIC)]
STATES = (open_sent, open_confirm, established)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    sessions = [make() for make in STATES]
    counts: Counter[str] = Counter()
    begun = time.monotonic()
    for number, message in enumerate(mutations(SEEDS, options.messages, options.seed)):
        which = draw.randrange(len(STATES))
        try:
            counts[parsed(message)] += 1
            counts[heard(sessions[which], message, draw)] += 1
        except Exception:
            print(f"message {number}, in state {sessions[which].state.value}: {message.hex()}", file=sys.stderr)
            traceback.print_exc()
            return 1
        if sessions[which].state is State.IDLE:
            sessions[which] = STATES[which]()
            sessions[which].announce({V4: ACTIVE, V6: STANDBY}, 0)
    spent = time.monotonic() - begun
    for what, count in sorted(counts.items()):
        print(f"{count:9}  {what}")
    print(f"{options.messages} messages, {options.messages / spent:.0f} a second, nothing raised but Malformed")
    return 0


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
