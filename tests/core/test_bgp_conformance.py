"""A session in a given state and one message of somebody's test suite: our answer beside BIRD's and GoBGP's.

`tests/captures/bgp-reactions.jsonl` says what those two did, as the active side, with each message. Ours must be one of
theirs, or the one for which the row has a reason; what differs beyond that is in `DIFFERENCES`, with its reason.
"""

import json
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from floatip.core.bgp.attributes import IPV4_UNICAST, IPV6_UNICAST
from floatip.core.bgp.notification import Notification
from floatip.core.bgp.rank import Marks, Rank
from floatip.core.bgp.session import Session, State
from floatip.core.bgp.wire import Capabilities, Keepalive, Open, pack, parse
from floatip.core.events import Close, SendBytes
from floatip.core.settings import Speaker

ROWS = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "captures" / "bgp-reactions.jsonl").read_text().splitlines()
]
PEER, LOCAL = IPv4Address("192.0.2.254"), IPv4Address("192.0.2.1")
PEER_ASN = 65001  # of the suites' own peer
CAPABILITIES = Capabilities(frozenset({IPV4_UNICAST, IPV6_UNICAST}), route_refresh=True, four_octet_asn=True)

DROPPED_UNREAD = "routes are dropped unread, so what is wrong inside them does no harm"
HEADER_FIRST = "RFC 4271 6.1: the header comes before the state, and an UPDATE has at least 23 octets"
NO_ANSWER = "RFC 4271 6.4: what is wrong with a NOTIFICATION is not answered"
DIFFERENCES = {
    "framework/MH-010 opensent": ("NOTIFICATION 1/2", HEADER_FIRST),
    "framework/MH-012 opensent": ("closes", NO_ANSWER),
    "framework/MH-012 established": ("closes", NO_ANSWER),
    "exabgp/106 established": ("survives", DROPPED_UNREAD),
    "exabgp/107 established": ("survives", DROPPED_UNREAD),
    "exabgp/108 established": ("survives", DROPPED_UNREAD),
}


def open_sent() -> Session:
    speaker = Speaker(65010, PEER_ASN, LOCAL, (PEER,), dict.fromkeys(Rank, Marks()))
    session = Session(PEER, speaker, seed=0, now=0)
    session.tick(0)
    session.connected(LOCAL, 0)
    session.writable()
    return session


def established() -> Session:
    session = open_sent()
    session.received(pack(Open(PEER_ASN, 90, PEER, CAPABILITIES)) + pack(Keepalive()), 0)
    session.writable()
    assert session.is_up
    return session


MAKE: dict[str, Callable[[], Session]] = {"opensent": open_sent, "established": established}


def answer(row: dict[str, Any]) -> str:
    """In the words of the rows."""
    session = MAKE[row["state"]]()
    effects = session.received(bytes.fromhex(row["hex"]), 0.1)
    said = [parse(effect.data) for effect in effects if isinstance(effect, SendBytes)]
    if session.state is not State.IDLE:
        return "survives"
    assert Close(PEER) in effects
    notifications = [message for message in said if isinstance(message, Notification)]
    return "".join(f"NOTIFICATION {each.code}/{each.subcode}" for each in notifications) or "closes"


def name(row: dict[str, Any]) -> str:
    return f"{row['id']} {row['state']}"


def theirs(row: dict[str, Any]) -> set[str]:
    return {row[speaker].split(" data=")[0] for speaker in ("bird 2.0.12", "gobgp 3.10.0")}


@pytest.mark.parametrize("row", ROWS, ids=name)
def test_the_answer_is_one_of_theirs_or_has_a_reason(row: dict[str, Any]) -> None:
    if name(row) in DIFFERENCES:
        assert answer(row) == DIFFERENCES[name(row)][0] not in theirs(row)
    else:
        assert answer(row) in theirs(row) | {row.get("floatip")}
