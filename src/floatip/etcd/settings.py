"""What the daemon says of etcd: the table [etcd] of its file. Paths are strings, here and in the whole process."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Settings:
    endpoints: tuple[str, ...]
    prefix: str = "/floatip/"
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    user: str = ""
    password: str | None = None
    request_timeout: float = 1.5

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.ca, self.certificate, self.key, self.password)))


def read(given: dict[str, Any]) -> Settings:
    """From the fields of `model.Etcd`, as JSON has them."""
    known = {name: given[name] for name in Settings.__slots__ if name in given}
    return Settings(**known | {"endpoints": tuple(given["endpoints"])})
