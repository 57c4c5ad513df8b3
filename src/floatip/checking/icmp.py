"""One echo request, from a socket that needs no right where the kernel has it so (icmp(7), ping_group_range)."""

import asyncio
import itertools
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import icmplib  # type: ignore[import-untyped]

from floatip.checking.look import Look, Verdict

if TYPE_CHECKING:
    from floatip.model import Icmp

LONGEST = 60.0
"""Seconds that a thread waits for an answer that nobody needs any more."""
_threads = ThreadPoolExecutor(64, "icmp")
_numbers = itertools.count()
NO_RIGHT = "not allowed: it needs CAP_NET_RAW, or this user's group in the sysctl net.ipv4.ping_group_range"


class Check(Look):
    def __init__(self, kind: "Icmp") -> None:
        self._kind = kind
        self._is_privileged = not may_ping()

    async def look(self) -> Verdict:
        number = next(_numbers)
        return await asyncio.get_running_loop().run_in_executor(_threads, self._ask, number)

    def _ask(self, number: int) -> Verdict:
        of_family = icmplib.ICMPv6Socket if ":" in self._kind.host else icmplib.ICMPv4Socket
        try:
            opened = of_family(address=self._kind.source or None, privileged=self._is_privileged)
        except icmplib.SocketPermissionError:
            return False, NO_RIGHT
        with closing(opened):
            # One process may have many checks of one host: the identifier tells their answers apart.
            identifier = (os.getpid() + number * 7919) & 0xFFFF
            request = icmplib.ICMPRequest(self._kind.host, identifier, number & 0xFFFF)
            opened.send(request)
            reply = opened.receive(request, LONGEST)
        try:
            reply.raise_for_status()
        except icmplib.ICMPLibError as error:
            return False, str(error).rstrip(".").lower()
        return True, f"answered after {(reply.time - request.time) * 1e3:.1f} ms"


def may_ping() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP).close()
    except OSError:
        return False
    return True
