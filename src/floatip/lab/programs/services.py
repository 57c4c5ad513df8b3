"""What the nodes serve on port 80: every answer is the node's name."""

import sys
from collections.abc import Sequence

from floatip.lab.programs.program import Program


class Service(Program):
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
