"""What the nodes serve on port 80."""

import sys
from collections.abc import Sequence

from floatip.lab.namespaces import find_program
from floatip.lab.programs.program import Program


class HAProxy(Program):
    """The service of a node: every answer is the node's name."""

    name = "haproxy"

    def command(self) -> Sequence[str]:
        config = self.write("haproxy.cfg", haproxy_config(self.host))
        return [find_program("haproxy", "haproxy"), "-db", "-f", config]


def haproxy_config(answer: str) -> str:
    return f"""
defaults
  mode http
  timeout client 5s
frontend web
  bind :::80 v4v6
  http-request return status 200 content-type text/plain string "{answer}"
"""


class PlainService(Program):
    """The same where HAProxy is not installed."""

    name = "service"
    _SCRIPT = """
import asyncio, sys
async def answer(reader, writer):
    try:
        await reader.readuntil(b"\\r\\n\\r\\n")
        body = sys.argv[1].encode()
        writer.write(b"HTTP/1.0 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (len(body), body))
    except (OSError, asyncio.IncompleteReadError):
        pass
    writer.close()
async def serve():
    async with await asyncio.start_server(answer, None, 80) as server:
        await server.serve_forever()
asyncio.run(serve())
"""

    def command(self) -> Sequence[str]:
        return [sys.executable, "-c", self._SCRIPT, self.host]
