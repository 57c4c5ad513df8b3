"""The token: one word in a file of its own. The rules of the configuration use this too: it imports nothing large."""

import os

SHORTEST, LONGEST = 16, 512
"""Bytes."""
MAKE = "tr -dc a-z0-9 </dev/urandom | head -c 40 | install -m 640 -g floatip /dev/stdin /etc/floatip/http-token"


def read_token(path: str) -> bytes:
    """Raises OSError or ValueError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        token = os.read(descriptor, LONGEST + 2).strip()
    finally:
        os.close(descriptor)
    if not is_token(token):
        raise ValueError(f"its content is not one word of {SHORTEST} to {LONGEST} characters")
    return token


def is_token(token: bytes) -> bool:
    return SHORTEST <= len(token) <= LONGEST and all(32 < octet < 127 for octet in token)
