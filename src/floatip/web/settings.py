"""What the daemon says of the listener: the table [http] of its file, and where its control socket and its history are.

Paths are strings, here and in the whole process: pathlib costs a megabyte.
"""

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    listen: tuple[tuple[str, int], ...]
    token: str | None
    tls_certificate: str | None
    tls_key: str | None
    client_ca: str | None
    hosts: frozenset[str]
    control: str
    history: str


def read(line: bytes) -> Settings:
    given = json.loads(line)
    listen = tuple((str(host), int(port)) for host, port in given["listen"])
    return Settings(**given | {"listen": listen, "hosts": frozenset(given["hosts"])})
