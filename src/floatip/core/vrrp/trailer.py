"""Signed adverts: the trailer of draft-cassen-vrrp-auth-hmac, as keepalived 2.4 sends and checks it.

     0               1               2               3               4
     +---------------+---------------+---------------+---------------+
     |    type: 1    |    key id     |          reserved: 0          |
     +---------------+---------------+---------------+---------------+
     |                    seconds since the epoch                    |
     +-------------------------------+-------------------------------+
     |     fraction, 1/65536 s       |            counter            |
     +-------------------------------+-------------------------------+
     |          the first 16 octets of the HMAC with SHA-256         |
     +---------------------------------------------------------------+

The HMAC is that of 20 octets (IP version, VRRP version, vrid, 0, source), the message with a checksum of 0, the trailer
up to its HMAC, and 16 zeros. The destination is not in it: one signature serves all peers. Seconds, fraction and
counter are one sequence number of 64 bits, which grows with each advert and follows the sender's clock.
"""

import hmac
import struct
from dataclasses import dataclass

from floatip.core.addresses import Address
from floatip.core.counters import Refused
from floatip.core.settings import Vrrp

LENGTH = 28
SENDERS = 4
"""Of multicast, whose sequence numbers are remembered; those of all unicast peers are."""
WINDOW_AT_LEAST, WINDOW_AT_MOST = 5.0, 300.0

_SHA256 = 1
_PREFIX = struct.Struct("!BBHQ")
_MAC_LENGTH = 16
_LATEST = 1 << 64


@dataclass(frozen=True, slots=True)
class Trailer:
    kind: int
    key_id: int
    reserved: int
    sequence: int
    mac: bytes
    signed: bytes
    """The message, without its checksum, and what comes before the HMAC."""


def parse(message: bytes, trailer: bytes) -> Trailer:
    kind, key_id, reserved, sequence = _PREFIX.unpack_from(trailer)
    signed = without_checksum(message) + trailer[: _PREFIX.size]
    return Trailer(kind, key_id, reserved, sequence, trailer[_PREFIX.size :], signed)


def without_checksum(message: bytes) -> bytes:
    return message[:6] + b"\0\0" + message[8:]


class Signer:
    """Of one virtual router: signs its adverts, and checks those of the others. `clock`: seconds since the epoch."""

    def __init__(self, config: Vrrp, predecessor: "Signer | None" = None) -> None:
        """`predecessor`: before a reload."""
        assert config.hmac is not None
        self._config, self._hmac = config, config.hmac
        self._keys = dict(config.hmac.keys)
        derived = min(max(3 * config.advert_interval, WINDOW_AT_LEAST), WINDOW_AT_MOST)
        self.window = config.hmac.window or derived
        self.signs = config.hmac.mode != "receive-only"
        self._pseudo = self._pseudo_header(config.source)
        self._sent: int = predecessor._sent if predecessor else 0
        self._heard: dict[Address, int] = dict(predecessor._heard) if predecessor else {}
        """The latest sequence number of each sender, the latest sender last."""

    def trailer(self, message: bytes, clock: float) -> bytes:
        """Of the next advert."""
        self._sent = self._next(clock)
        prefix = _PREFIX.pack(_SHA256, self._hmac.active, 0, self._sent)
        key = self._keys[self._hmac.active]
        return prefix + _mac(key, self._pseudo + without_checksum(message) + prefix)

    def _next(self, clock: float) -> int:
        now = int(clock * 65536) << 16
        if _is_after(now, self._sent):
            return now % _LATEST
        if not self._hmac.monotonic and -_age(self._sent, clock) > self.window:
            return now % _LATEST  # the clock was put back, and nobody would believe us
        return (self._sent + 1) % _LATEST

    def objection(self, trailer: Trailer | None, source: Address, clock: float) -> tuple[Refused, str] | None:
        """Why an advert is not believed; None: it is. What is cheap is looked at first."""
        if trailer is None:
            if self._hmac.mode != "enforce":
                return None
            return Refused.UNSIGNED, f"not signed, from {source}"
        if trailer.kind != _SHA256 or trailer.reserved:
            return Refused.SIGNATURE, f"signed in an unknown way, from {source}"
        if not self._hmac.monotonic and abs(_age(trailer.sequence, clock)) > self.window:
            return Refused.STALE, f"its clock and ours are more than {self.window:g} s apart, from {source}"
        if (key := self._keys.get(trailer.key_id)) is None:
            return Refused.SIGNATURE, f"signed with key {trailer.key_id}, which is not configured, from {source}"
        mac = _mac(key, self._pseudo_header(source) + trailer.signed)
        if not hmac.compare_digest(mac, trailer.mac):
            return Refused.SIGNATURE, f"a wrong signature (another key?), from {source}"
        return self._objection_to_sequence(trailer.sequence, source, clock)

    def _objection_to_sequence(self, sequence: int, source: Address, clock: float) -> tuple[Refused, str] | None:
        """Only what is signed gets here, so nobody else moves the marks."""
        mark = self._heard.pop(source, None)
        if mark is not None and not self._hmac.monotonic and abs(_age(mark, clock)) > self.window:
            mark = None  # the sender's clock was put right
        is_new = mark is None or _is_after(sequence, mark)
        if len(self._heard) >= max(SENDERS, len(self._config.peers)):
            del self._heard[next(iter(self._heard))]
        self._heard[source] = sequence if is_new or mark is None else mark
        return None if is_new else (Refused.REPLAYED, f"sent before, from {source}")

    def _pseudo_header(self, source: Address) -> bytes:
        return bytes((source.version, self._config.version, self._config.vrid, 0)) + source.packed.ljust(16, b"\0")


def _mac(key: bytes, signed: bytes) -> bytes:
    return hmac.digest(key, signed + bytes(_MAC_LENGTH), "sha256")[:_MAC_LENGTH]


def _is_after(one: int, other: int) -> bool:
    """RFC 1982 section 3.2."""
    return 0 < (one - other) % _LATEST < _LATEST >> 1


def _age(sequence: int, clock: float) -> int:
    """In whole seconds; below 0: it is of the future."""
    return (int(clock) - (sequence >> 32) + (1 << 31)) % (1 << 32) - (1 << 31)
