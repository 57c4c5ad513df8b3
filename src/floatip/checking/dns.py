"""One question to a name server by UDP, and by TCP where the answer is cut off (RFC 1035 section 4.2)."""

import asyncio
import socket
from typing import TYPE_CHECKING

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype

from floatip.checking.look import Look, Verdict

if TYPE_CHECKING:
    from floatip.model import Dns

LARGEST = 65535
ANSWERS = dns.rcode.NOERROR, dns.rcode.NXDOMAIN


class Check(Look):
    def __init__(self, kind: "Dns") -> None:
        self._kind = kind

    async def look(self) -> Verdict:
        query = dns.message.make_query(self._kind.name, self._kind.type)
        answer = await self._ask(query)
        if answer.flags & dns.flags.TC:
            answer = await dns.asyncquery.tcp(query, self._kind.server, port=self._kind.port)
        return self._judge(answer)

    async def _ask(self, query: dns.message.Message) -> dns.message.Message:
        # A connected socket hears that nobody listens. The library's own one would wait.
        family = socket.AF_INET6 if ":" in self._kind.server else socket.AF_INET
        loop = asyncio.get_running_loop()
        with socket.socket(family, socket.SOCK_DGRAM) as connected:
            connected.setblocking(False)
            connected.connect((self._kind.server, self._kind.port))
            connected.send(query.to_wire())
            while True:
                data = await loop.sock_recv(connected, LARGEST)
                try:
                    answer = dns.message.from_wire(data)
                except dns.exception.DNSException:
                    continue
                if query.is_response(answer):
                    return answer

    def _judge(self, answer: dns.message.Message) -> Verdict:
        code, asked = answer.rcode(), f"{self._kind.type} of {self._kind.name}"
        if code not in ANSWERS:
            return False, f"the server answers {dns.rcode.to_text(code)} for {asked}"
        found = [one.to_text() for rrset in answer.answer for one in rrset if rrset.rdtype == self._type]
        said = ", ".join(found[:3]) or ("no such name" if code == dns.rcode.NXDOMAIN else "none")
        if not self._kind.answer or _plain(self._kind.answer) in map(_plain, found):
            return True, f"{asked}: {said}"
        return False, f"{asked}: {said}; not {self._kind.answer}"

    @property
    def _type(self) -> dns.rdatatype.RdataType:
        return dns.rdatatype.from_text(self._kind.type)


def _plain(text: str) -> str:
    return text.lower().rstrip(".").strip('"')
