"""Why a session is down, as a value. The provider's profile has a hint for each; the words are for people only."""

from enum import StrEnum

from floatip.core.bgp.notification import Notification


class Trouble(StrEnum):
    OTHER = ""
    REFUSED = "refused"
    TIMED_OUT = "timed-out"
    UNREACHABLE = "unreachable"
    NO_SOURCE = "no-source"
    """The source address is not on this machine."""
    FLOATING_SOURCE = "floating-source"
    """The kernel chose a floating address as ours."""
    NO_INTERFACE = "no-interface"
    OPEN_REJECTED = "open-rejected"
    """The peer closed the connection in answer to our OPEN, without a word."""
    ERROR_WAIT = "error-wait"
    """The same, of a peer with which a session was up before."""
    WRONG_PEER_AS = "wrong-peer-as"
    BAD_PEER_AS = "bad-peer-as"
    """The peer says so of ours."""
    BGP_IDENTIFIER = "bgp-identifier"
    HOLD_TIME_REFUSED = "hold-time-refused"
    HOLD_TIME_ZERO = "hold-time-zero"
    ROLE_MISMATCH = "role-mismatch"
    PREFIX_LIMIT = "prefix-limit"
    HOLD_TIMER = "hold-timer"
    """Ours expired."""
    PEERS_HOLD_TIMER = "peers-hold-timer"
    COLLISION = "collision"
    CEASE = "cease"


_SAID = {
    (2, 2): Trouble.BAD_PEER_AS,
    (2, 3): Trouble.BGP_IDENTIFIER,
    (2, 6): Trouble.HOLD_TIME_REFUSED,
    (2, 11): Trouble.ROLE_MISMATCH,  # RFC 9234 section 5
    (6, 1): Trouble.PREFIX_LIMIT,
    (6, 7): Trouble.COLLISION,
}


def said(notification: Notification) -> Trouble:
    """What a NOTIFICATION of the peer means to us."""
    code, subcode = notification.code, notification.subcode
    if code == 4:
        return Trouble.PEERS_HOLD_TIMER
    return _SAID.get((code, subcode), Trouble.CEASE if code == 6 else Trouble.OTHER)
