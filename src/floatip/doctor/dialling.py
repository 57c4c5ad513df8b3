"""How a route server answers where no daemon has a session: connects, sends an OPEN, and says how that ends.

Announces nothing. A peer that answers with its OPEN gets a Cease.
"""

import socket
import time
from dataclasses import dataclass

from floatip.core.addresses import Address
from floatip.core.bgp import wire
from floatip.core.bgp.attributes import IPV4_UNICAST, IPV6_UNICAST
from floatip.core.bgp.notification import Notification, explain
from floatip.core.bgp.trouble import Trouble, said
from floatip.core.malformed import Malformed
from floatip.core.settings import Speaker
from floatip.host.errors import in_words, trouble

TIMEOUT = 4.0
"""Seconds for all of it."""
PORT = 179


@dataclass(frozen=True, slots=True)
class Result:
    what: str
    trouble: Trouble | None
    """None: it would open a session."""


def dial(peer: Address, speaker: Speaker, port: int = PORT) -> Result:
    deadline = time.monotonic() + TIMEOUT
    family = socket.AF_INET if peer.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT)
        try:
            level, option = (
                (socket.IPPROTO_IP, socket.IP_TTL)
                if peer.version == 4
                else (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
            )
            connection.setsockopt(level, option, speaker.ttl)
            if speaker.source and speaker.source.version == peer.version:
                connection.bind((str(speaker.source), 0))
            connection.connect((str(peer), port))
        except TimeoutError:
            return Result(f"timed out after {TIMEOUT:g} s", Trouble.TIMED_OUT)
        except OSError as error:
            return Result(in_words(error.errno), trouble(error.errno))
        try:
            return _opened(connection, speaker, deadline)
        except TimeoutError:
            return Result("connected, and no answer to our OPEN", Trouble.TIMED_OUT)
        except OSError as error:
            return Result(f"connected, and {in_words(error.errno)} in answer to our OPEN", Trouble.OPEN_REJECTED)


def _opened(connection: socket.socket, speaker: Speaker, deadline: float) -> Result:
    """Raises OSError."""
    capabilities = wire.Capabilities(frozenset({IPV4_UNICAST, IPV6_UNICAST}), frozenset({(1, 1, 2)}), True, True)
    connection.sendall(wire.pack(wire.Open(speaker.asn, speaker.hold_time, speaker.router_id, capabilities)))
    buffer = bytearray()
    while True:
        if (left := deadline - time.monotonic()) <= 0:
            raise TimeoutError
        connection.settimeout(left)
        if not (data := connection.recv(4096)):
            return Result("connected, and closed in answer to our OPEN", Trouble.OPEN_REJECTED)
        buffer += data
        try:
            for message in map(wire.parse, wire.split(buffer)):
                match message:
                    case wire.Open(asn, hold_time):
                        connection.sendall(wire.pack(Notification(6, 4)))  # Cease, administrative reset
                        return Result(f"AS {asn}, hold time {hold_time} s", None)
                    case Notification():
                        return Result(f"it answers: {explain(message)}", said(message))
        except Malformed as error:
            return Result(f"its answer is no BGP: {error}", Trouble.OTHER)
