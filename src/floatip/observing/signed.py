"""The bytes between a drill and an observer. Sans I/O. docs/reference/observe.md draws them.

The observer greets first, the drill greets back; each greeting has a nonce, so no two connections are alike. Then both
send messages: JSON objects, each signed with the link's key over both nonces, the direction and the place in the order.
A message that was repeated, left out, sent back or taken from another connection has a wrong signature. Nothing is
encrypted. The drill signs with its first key, and the observer answers with the key that it found to be used.
"""

import hmac
import json
import struct
from typing import Any

MAGIC = b"floatip observe"
"""No datagram of the link, signed with the same key, begins like this."""
FORMAT = 1
NONCE = 32
TAG = 32
GREETING = struct.Struct(f"!{len(MAGIC)}sB{NONCE}s")
LENGTH = struct.Struct("!I")
HEAD = LENGTH.size + TAG
COUNTER = struct.Struct("!cQ")
FROM_OBSERVER, FROM_DRILL = b"O", b"D"
LONGEST_HELLO = 1024
"""Octets of the first message: its sender has not proved yet that it has the key."""
LONGEST_REQUEST = 4096
"""Octets of a message to the observer."""
LONGEST_ANSWER = 1 << 20
"""Octets of a message to the drill."""

Message = dict[str, Any]


class Untrusted(Exception):
    """What came is not of the other side, or not of this protocol: close the connection."""


class OtherFormat(Untrusted):
    pass


class OtherKey(Untrusted):
    pass


class Conversation:
    """One end of one connection. After `Untrusted` it is not to be used."""

    def __init__(self, keys: tuple[bytes, ...], nonce: bytes, *, observes: bool) -> None:
        """`nonce`: `NONCE` random octets, for this connection alone."""
        self.greeting = GREETING.pack(MAGIC, FORMAT, nonce)
        self.is_greeted = False
        self.is_trusted = False
        """Whether the other end has proved that it has the key."""
        self._nonce, self._observes = nonce, observes
        # Only the drill may choose: the observer could not know which of the two keys the drill has already.
        self._keys = keys if observes else keys[:1]
        self._ours, self._theirs = (FROM_OBSERVER, FROM_DRILL) if observes else (FROM_DRILL, FROM_OBSERVER)
        self._session = b""
        self._sent = self._received = 0
        self._waiting = bytearray()

    def pack(self, message: Message) -> bytes:
        return self.pack_text(json.dumps(message, allow_nan=False).encode())

    def pack_text(self, body: bytes) -> bytes:
        """`body`: the JSON of an object."""
        tag = self._tag(self._keys[0], self._ours, self._sent, body)
        self._sent += 1
        return LENGTH.pack(len(body)) + tag + body

    def receive(self, data: bytes) -> list[Message]:
        """The messages that are whole now. Raises `Untrusted`."""
        self._waiting += data
        if not self.is_greeted and not self._greet():
            return []
        messages = []
        while len(self._waiting) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._waiting)
            if length > self._longest:
                raise Untrusted(f"a message of {length} octets, and {self._longest} are the most")
            if len(self._waiting) < HEAD + length:
                break
            tag, body = bytes(self._waiting[LENGTH.size : HEAD]), bytes(self._waiting[HEAD : HEAD + length])
            del self._waiting[: HEAD + length]
            messages.append(self._believed(tag, body))
        return messages

    @property
    def _longest(self) -> int:
        if not self.is_trusted:
            return LONGEST_HELLO
        return LONGEST_REQUEST if self._observes else LONGEST_ANSWER

    def _greet(self) -> bool:
        start = bytes(self._waiting[: len(MAGIC)])
        if not MAGIC.startswith(start):
            raise Untrusted("it speaks another protocol")
        if len(self._waiting) > len(MAGIC) and self._waiting[len(MAGIC)] != FORMAT:
            what = f"it speaks format {self._waiting[len(MAGIC)]} and this floatip format {FORMAT}"
            raise OtherFormat(what)
        if len(self._waiting) < GREETING.size:
            return False
        _, _, nonce = GREETING.unpack_from(self._waiting)
        del self._waiting[: GREETING.size]
        self._session = self._nonce + nonce if self._observes else nonce + self._nonce
        self.is_greeted = True
        return True

    def _believed(self, tag: bytes, body: bytes) -> Message:
        tags = [(key, self._tag(key, self._theirs, self._received, body)) for key in self._keys]
        used = [key for key, right in tags if hmac.compare_digest(tag, right)]
        if not used:
            if self.is_trusted:
                raise Untrusted("a message with a wrong signature: it was changed or repeated on its way")
            raise OtherKey("it signs with another key")
        self._keys, self.is_trusted = (used[0],), True
        self._received += 1
        try:
            message = json.loads(body)
        except (ValueError, RecursionError):
            raise Untrusted("a message is not JSON") from None
        if not isinstance(message, dict):
            raise Untrusted("a message is not a JSON object")
        return message

    def _tag(self, key: bytes, direction: bytes, number: int, body: bytes) -> bytes:
        head = MAGIC + bytes((FORMAT,)) + self._session + COUNTER.pack(direction, number)
        return hmac.digest(key, head + body, "sha256")
