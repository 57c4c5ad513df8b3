"""What one value may be, by itself: types that refuse in the words of someone who edits TOML, each with a hint."""

from contextlib import suppress
from ipaddress import IPv4Address, ip_address, ip_interface
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Strict
from pydantic_core import PydanticCustomError

from floatip.config.document import shown
from floatip.core.events import Address, InterfaceAddress


def wrong(what: str, hint: str) -> PydanticCustomError:
    return PydanticCustomError("wrong", "{what}", {"what": what, "hint": hint})


def between(low: float, high: float, hint: str) -> AfterValidator:
    def check(value: float) -> float:
        if not low <= value <= high:
            raise wrong(f"{str(value).removesuffix('.0')} is not between {low} and {high}", hint)
        return value

    return AfterValidator(check)


def _printable(value: str) -> str:
    if not value or not value.isprintable():
        raise wrong(f"{shown(value)} is not printable", "give one or more printable characters")
    return value


def _path(value: object) -> str:
    if not isinstance(value, str) or not value.startswith("/") or not value.isprintable():
        raise wrong(f"{shown(value)} is not an absolute path", 'an absolute path begins with a slash: "/etc/..."')
    return value


def _command(value: object) -> tuple[str, ...]:
    arguments = value if isinstance(value, list) else [value]
    if not arguments or not all(isinstance(argument, str) and "\0" not in argument for argument in arguments):
        raise wrong(f"{shown(value)} is not a command", 'give a path or a list: ["/usr/bin/pgrep", "haproxy"]')
    return (_path(arguments[0]), *arguments[1:])


def _endpoint(value: object) -> tuple[str, int]:
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    with suppress(ValueError):
        version = 4 if host == "localhost" else ip_address(host).version
        if (version == 6) == bracketed and 1 <= int(port) <= 65535:
            return host, int(port)
    # No other name: a check must not hang on a name server.
    hint = 'an address or localhost, and a port: "127.0.0.1:80", "[::1]:80"'
    raise wrong(f"{shown(value)} is not host:port", hint)


def _address(value: object) -> Address:
    try:
        return ip_address(value if isinstance(value, str) else "")
    except ValueError:
        raise wrong(f"{shown(value)} is not an IP address", "an address stands alone, without a prefix") from None


def _ipv4_address(value: object) -> IPv4Address:
    address = _address(value)
    if not isinstance(address, IPv4Address):
        raise wrong(f"{shown(value)} is not an IPv4 address", "give an IPv4 address of a host, such as 192.0.2.1")
    return address


def _interface_address(value: object) -> InterfaceAddress:
    try:
        address = ip_interface(value if isinstance(value, str) else "")
    except ValueError:
        hint = 'an address and its prefix, such as "192.0.2.10/32"'
        raise wrong(f"{shown(value)} is not an IP address with a prefix", hint) from None
    if "/" not in str(value):
        raise wrong(f"{shown(value)} has no prefix", f'write "{address}"')
    return address


def some(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:
        raise wrong("the list is empty", "name at least one")
    return values


Name = Annotated[str, Strict(), AfterValidator(_printable)]
FilePath = Annotated[Path, BeforeValidator(_path)]
Command = Annotated[tuple[str, ...], BeforeValidator(_command)]
Endpoint = Annotated[tuple[str, int], BeforeValidator(_endpoint)]
Ip = Annotated[Address, BeforeValidator(_address)]
Ipv4 = Annotated[IPv4Address, BeforeValidator(_ipv4_address)]
FloatingAddress = Annotated[InterfaceAddress, BeforeValidator(_interface_address)]
Flag = Annotated[bool, Strict()]
Times = Annotated[int, Strict(), between(1, 1000, "how many results in a row count; 1 acts on the first")]
Period = Annotated[float, Strict(), between(0.01, 86400, "seconds; 0.5 is half a second")]
Delay = Annotated[float, Strict(), between(0, 3600, "seconds; 0 is no delay")]


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
