"""What the daemon says of the listener: the table [http] of its file, and where its control socket is."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    listen: tuple[tuple[str, int], ...]
    token: Path | None
    tls_certificate: Path | None
    tls_key: Path | None
    client_ca: Path | None
    hosts: frozenset[str]
    control: Path


def read(line: bytes) -> Settings:
    given = json.loads(line)
    paths = {name: Path(given[name]) if given[name] else None for name in PATHS}
    listen = tuple((str(host), int(port)) for host, port in given["listen"])
    return Settings(listen=listen, hosts=frozenset(given["hosts"]), control=Path(given["control"]), **paths)


PATHS = "token", "tls_certificate", "tls_key", "client_ca"
