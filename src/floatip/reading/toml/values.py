"""What one value may be: parsers that refuse in the words of someone who edits TOML, each with a hint."""

import re
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address, ip_address, ip_interface
from math import inf
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from floatip.core.addresses import Address, InterfaceAddress
from floatip.core.bgp.attributes import Origin
from floatip.core.link.wire import LONGEST_NAME
from floatip.model import NextHop
from floatip.providers import LINODE_REGIONS
from floatip.reading.words import as_list, closest, shown

Parse = Callable[[Any], Any]
BROADCAST = IPv4Address("255.255.255.255")
FOREVER = (1 << 32) - 1
SCOPES = {"global": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}
"""RT_SCOPE_..., as iproute2 names them."""
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110 section 5.6.2."""
AUTO = "auto"
ETCD_PORT = 2379
LONGEST_PREFIX = 256
KEY = "{key}"
"""In a hint: the key whose value is wrong."""


class Wrong(Exception):
    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.what, self.hint = what, hint


class NotNow(Wrong):
    """This machine refuses, which may mend without a change to the file."""


def string(value: object) -> str:
    if not isinstance(value, str):
        raise Wrong(f"{shown(value)} is not a string", "strings stand in quotes")
    if not value:
        raise Wrong(f"{shown(value)} is empty", "write something between the quotes")
    if not value.isprintable():
        raise Wrong(f"{shown(value)} is not printable", "remove tabs, line ends and control characters")
    return value


def secret(value: object) -> str:
    """Its messages show nothing of it."""
    try:
        return string(value)
    except Wrong as wrong:
        of_a_string = "has characters that are not printable" if value else "is empty"
        what = of_a_string if isinstance(value, str) else "is not a string"
        raise Wrong(what, wrong.hint) from None


def md5_key(value: object) -> str:
    key = secret(value)
    if (octets := len(key.encode())) > 80:
        raise Wrong(f"a key of {octets} octets is too long", "the kernel takes 80 octets")
    return key


def boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise Wrong(f"{shown(value)} is not true or false", "write true or false, without quotes")
    return value


def opposite(value: object) -> bool:
    """For a key that says what is not done."""
    return not boolean(value)


class Words:
    """Each word of a key stands for a value of the model."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def __call__(self, value: object) -> Any:
        return self.values[one_of(*self.values)(value)]

    def word(self, value: Any) -> str:
        return next(word for word, one in self.values.items() if one == value)


def whole(low: int, high: int, hint: str) -> Parse:
    def parse(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise Wrong(f"{shown(value)} is not a whole number", "write the number without quotes and without a point")
        return int(_between(value, low, high, hint))

    return parse


def whole_seconds(low: int, high: int, hint: str) -> Parse:
    """Where the model has fractions, and the world counts whole seconds."""

    def parse(value: object) -> float:
        found = float(_between(_number(value), low, high, hint))
        if not found.is_integer():
            raise Wrong(f"{shown(value)} is not a whole number of seconds", hint)
        return found

    return parse


def number(low: float, high: float, hint: str) -> Parse:
    def parse(value: object) -> float:
        return float(_between(_number(value), low, high, hint))

    return parse


def advert_interval(value: object) -> float:
    """The version of VRRP decides the range, in `rules`."""
    try:
        return float(_number(value))
    except OverflowError:
        return inf


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise Wrong(f"{shown(value)} is not a number", "write the number without quotes and without a unit")
    return value


def _between(value: Any, low: float, high: float, hint: str) -> Any:
    if not low <= value <= high:
        raise Wrong(f"{shown(value).removesuffix('.0').lower()} is not between {low} and {high}", hint)
    return value


def one_of(*words: str | int) -> Parse:
    names = [shown(word) for word in words]
    expected = " or ".join([", ".join(names[:-1]), names[-1]])

    def parse(value: object) -> object:
        if not any(value == word and type(value) is type(word) for word in words):
            meant = (shown(word) for word in words if str(value).lower() == str(word))
            raise Wrong(f"{shown(value)} is not {expected}", f"write {KEY} = {next(meant, names[0])}")
        return value

    return parse


def origin(value: object) -> Origin:
    word: str = one_of("igp", "egp", "incomplete")(value)
    return Origin[word.upper()]


def path(value: object) -> Path:
    return Path(_path(value))


def secret_path(value: object) -> Path:
    """Of a file with a secret. Somebody may write the secret itself here, so its messages show nothing of it."""
    if not isinstance(value, str) or not value.startswith("/"):
        raise Wrong("is not an absolute path", 'write the secret to a file of its own, and here its path: "/etc/..."')
    return Path(secret(value))


def _path(value: object) -> str:
    if not isinstance(value, str) or not value.startswith("/"):
        raise Wrong(f"{shown(value)} is not an absolute path", 'write a path that begins with a slash: "/etc/..."')
    return string(value)


def command(value: object) -> tuple[str, ...]:
    arguments = value if isinstance(value, list) else [value]
    if not arguments or not all(isinstance(argument, str) and "\0" not in argument for argument in arguments):
        raise Wrong(f"{shown(value)} is not a command", 'give a path or a list: ["/usr/bin/pgrep", "haproxy"]')
    if isinstance(value, str) and " " in value.strip() and not value.startswith("/"):
        raise Wrong(f"{shown(value)} is not an absolute path", as_list(value))
    return (_path(arguments[0]), *arguments[1:])


def endpoint(value: object) -> tuple[str, int]:
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    is_bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if is_bracketed else host
    with suppress(ValueError):
        version = 4 if host == "localhost" else ip_address(host).version
        if (version == 6) == is_bracketed and 1 <= int(port) <= 65535:
            return host, int(port)
    # No other name: a check must not hang on a name server.
    hint = 'give an address or localhost, and a port: "127.0.0.1:80", "[::1]:80"'
    raise Wrong(f"{shown(value)} is not host:port", hint)


def host(value: object) -> str:
    """An address or `localhost`, as text: a check must not hang on a name server."""
    if value == "localhost":
        return "127.0.0.1"
    return str(_of_one_host(_address(value), "give the address of one host, such as 192.0.2.1", loopback=True))


def url(value: object) -> str:
    text = string(value)
    hint = 'write "http://127.0.0.1:8080/health", or https'
    try:
        found = urlsplit(text)
        port = found.port
    except ValueError:
        raise Wrong(f"{shown(value)} is not a URL", hint) from None
    if found.scheme not in ("http", "https") or not found.hostname or port == 0 or not text.isascii() or " " in text:
        raise Wrong(f"{shown(value)} is not a URL of HTTP", hint)
    if found.username is not None:
        raise Wrong("a URL with a user or password", 'write it into headers = { Authorization = "..." }')
    return text.partition("#")[0]


def etcd_endpoint(value: object) -> str:
    """Of a member of etcd: scheme, host and port."""
    text = string(value)
    hint = 'write "https://192.0.2.1:2379", or http'
    try:
        found = urlsplit(text)
        port = found.port
    except ValueError:
        raise Wrong(f"{shown(value)} is not a URL", hint) from None
    if found.username is not None:
        raise Wrong("a URL with a user or password", "write user, and password: the file that holds it")
    if found.scheme not in ("http", "https") or not found.hostname or port == 0 or not text.isascii() or " " in text:
        raise Wrong(f"{shown(value)} is not a URL of etcd", hint)
    if found.path not in ("", "/") or found.query or found.fragment:
        raise Wrong(f"{shown(value)} has a path", f"write the host and the port alone: {hint.partition(' ')[2]}")
    host = f"[{found.hostname}]" if ":" in found.hostname else found.hostname
    return f"{found.scheme}://{host}:{port or ETCD_PORT}"


def etcd_prefix(value: object) -> str:
    """It ends with a slash."""
    text = string(value)
    if len(text.encode()) > LONGEST_PREFIX:
        raise Wrong(f"a prefix of {len(text.encode())} octets is too long", f"use up to {LONGEST_PREFIX} octets")
    return text if text.endswith("/") else f"{text}/"


def method(value: object) -> str:
    name = string(value)
    if not TOKEN.fullmatch(name):
        raise Wrong(f"{shown(value)} is not a method of HTTP", f'write {KEY} = "HEAD"')
    return name


def headers(value: object) -> tuple[tuple[str, str], ...]:
    """Names and values; in their messages no value is shown, it may be a password."""
    if not isinstance(value, dict):
        raise Wrong(f"{shown(value)} is not a table", f'write {KEY} = {{ Host = "www.example.org" }}')
    for name, text in value.items():
        if not TOKEN.fullmatch(name):
            raise Wrong(f"{shown(name)} is not the name of a header", "use letters, digits and hyphens")
        if not isinstance(text, str) or not text.isprintable() or not text.isascii():
            raise Wrong(f"the value of {name} is not a string of ASCII characters", "write it in quotes, on one line")
    return tuple(value.items())


def patterns(value: object) -> tuple[tuple[str, str], ...]:
    found = headers(value)
    for _, text in found:
        pattern(text)
    return found


def pattern(value: object) -> str:
    text = string(value)
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        what = f"{shown(value)} is not a regular expression: {error}"
        raise Wrong(what, "put a backslash before . * + ? ( ) [ ] { } where the character itself is meant") from None
    return text


def status(value: object) -> tuple[tuple[int, int], ...]:
    """Ranges of status codes, both ends included."""
    found = []
    for one in value if isinstance(value, list) else [value]:
        low, dash, high = str(one).partition("-")
        ends = (low, high if dash else low)
        if isinstance(one, bool) or not all(re.fullmatch("[1-5][0-9][0-9]", end) for end in ends) or ends[0] > ends[1]:
            raise Wrong(f"{shown(one)} is not a status of HTTP", f'write {KEY} = 200, "200-299" or [200, "301-302"]')
        found.append((int(ends[0]), int(ends[1])))
    if not found:
        raise Wrong("the list is empty", "name at least one status")
    return tuple(found)


def domain_name(value: object) -> str:
    name = string(value)
    labels = name.removesuffix(".").split(".") if name != "." else []
    if not all(re.fullmatch(r"[A-Za-z0-9_*-]{1,63}", label) for label in labels) or len(name) > 254:
        raise Wrong(f"{shown(value)} is not a domain name", f'write {KEY} = "example.org"')
    return name


def record_type(value: object) -> str:
    name = string(value)
    if not re.fullmatch(r"[A-Z][A-Z0-9]{0,9}", name):
        raise Wrong(f"{shown(value)} is not a type of record", f'write {KEY} = "A", "AAAA", "SOA" or "TXT"')
    return name


def backend(value: object) -> str:
    """As it goes into a command of HAProxy's stats socket."""
    name = string(value)
    if not re.fullmatch(r"[A-Za-z0-9_.:-]+", name):
        hint = "use the name behind the word backend or listen in haproxy.cfg"
        raise Wrong(f"{shown(value)} is not the name of a backend", hint)
    return name


def interface(value: object) -> str:
    name = string(value)
    if len(name.encode()) > 15 or "/" in name or " " in name:
        raise Wrong(f"{shown(value)} is not the name of an interface", "see their names: ip -brief link")
    return name


def unit(value: object) -> str:
    name = string(value)
    if "." not in name:
        raise Wrong(f"{shown(value)} has no type", f"write {KEY} = {shown(f'{name}.service')}")
    if not re.fullmatch(r"[A-Za-z0-9:_.\\@-]+", name):
        raise Wrong(f"{shown(value)} is not the name of a unit", "see their names: systemctl list-units")
    return name


def listener(value: object) -> tuple[str, int]:
    """An address in its usual form, and a port."""
    host, port = endpoint(value)
    return "127.0.0.1" if host == "localhost" else str(ip_address(host)), port


def host_name(value: object) -> str:
    """As a browser sends it in `Host`, without a port."""
    name = string(value)
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?\.?|[0-9A-Fa-f:]+", name):
        raise Wrong(f"{shown(value)} is not the name of a host", 'write a name without a port: "status.example.org"')
    return name.rstrip(".").lower()


def address(value: object) -> Address:
    """Of an end of a BGP session, which may be on this machine."""
    return _of_one_host(_address(value), "give the address of one host, such as 192.0.2.1", loopback=True)


def _address(value: object) -> Address:
    try:
        return ip_address(value if isinstance(value, str) else "")
    except ValueError:
        has_prefix = isinstance(value, str) and "/" in value
        hint = "write the address alone, without a prefix" if has_prefix else "write an address; names are not resolved"
        raise Wrong(f"{shown(value)} is not an IP address", hint) from None


def _of_one_host(found: Address, hint: str, *, loopback: bool = False) -> Address:
    what = ""
    if found.is_multicast:
        what = "a multicast address"
    elif found.is_unspecified:
        what = "the unspecified address, which no host has"
    elif found.is_loopback and not loopback:
        what = "a loopback address, which other machines cannot reach"
    elif found == BROADCAST:
        what = "the broadcast address"
    if what:
        raise Wrong(f"{found} is {what}", hint)
    return found


def vrrp_address(value: object) -> Address:
    """Of a node in an election, with either version of IP."""
    found = _address(value)
    hint = "name a node's own address, such as 192.0.2.1"
    return _of_one_host(found, hint + "; for multicast leave peers out" * found.is_multicast)


def multicast_group(value: object) -> Address:
    found = _address(value)
    if not found.is_multicast:
        raise Wrong(f"{found} is not a multicast address", "leave it out: 224.0.0.18 and ff02::12 are the usual groups")
    return found


def hmac_key(value: object) -> bytes:
    """Its messages show nothing of it."""
    try:
        found = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        found = b""
    if not 32 <= len(found) <= 64:
        raise Wrong("is not a key", "write 64 to 128 hex digits, or name a file: openssl rand -hex 32")
    return found


def router_id(value: object) -> IPv4Address:
    """Any number but 0 (RFC 6286)."""
    found = _ipv4(value)
    if found.is_unspecified:
        raise Wrong(f"{found} is not a router id", "give an IPv4 address that only this machine has")
    return found


def node_address(value: object) -> IPv4Address:
    """Of a node in an election."""
    found = _ipv4(value)
    hint = "name a node's own IPv4 address, such as 192.0.2.1"
    if found.is_multicast:
        hint = "name each node's own IPv4 address: adverts go to peers by unicast"
    _of_one_host(found, hint)
    return found


def link_address(value: object) -> Address:
    """Of a node on the link."""
    found = _of_one_host(_address(value), "name the node's own address, such as 192.0.2.1")
    if found.version == 6 and found.is_link_local:
        what = f"{found} is link-local: it means nothing without an interface, and routers do not forward it"
        raise Wrong(what, "name another IPv6 address of the node, or its IPv4 address")
    return found


def node_name(value: object) -> str:
    name = string(value)
    if (octets := len(name.encode())) > LONGEST_NAME:
        raise Wrong(f"a name of {octets} octets is too long", f"use up to {LONGEST_NAME} octets: datagrams carry it")
    return name


def _ipv4(value: object) -> IPv4Address:
    found = _address(value)
    if not isinstance(found, IPv4Address):
        raise Wrong(f"{shown(value)} is not an IPv4 address", "give an IPv4 address of a host, such as 192.0.2.1")
    return found


def interface_address(value: object) -> InterfaceAddress:
    try:
        found = ip_interface(value if isinstance(value, str) else "")
    except ValueError:
        hint = 'write an address and its prefix, such as "192.0.2.10/32"'
        raise Wrong(f"{shown(value)} is not an IP address with a prefix", hint) from None
    if "/" not in str(value):
        raise Wrong(f"{shown(value)} has no prefix", f'write "{found}"')
    _of_one_host(found.ip, "give the floating address that clients connect to")
    return found


def scope(value: object) -> int:
    """As ip-address(8) names it."""
    if isinstance(value, str) and value in SCOPES:
        return SCOPES[value]
    if type(value) is not int or not 0 <= value <= 255:
        raise Wrong(f"{shown(value)} is not a scope", f"write {', '.join(map(shown, SCOPES))}, or a number up to 255")
    return value


def lifetime(value: object) -> int:
    if value == "forever":
        return FOREVER
    if type(value) is not int or not 0 <= value < FOREVER:
        hint = 'write whole seconds, or "forever"; with 0 it is never a source'
        raise Wrong(f"{shown(value)} is not a time", hint)
    return value


def words(value: object) -> tuple[str, ...]:
    """Of a route or a rule."""
    return tuple(string(value).split())


def dcid(value: object) -> int:
    if value == AUTO:
        return _here()
    if isinstance(value, str):
        return _region(value)
    # lelastic refuses 0 and 1 too; the digits must fit one group of an IPv6 address.
    if type(value) is not int or not 2 <= value <= 9999:
        hint = 'give its number or its region: dcid = 6, dcid = "us-east"; or "auto"'
        raise Wrong(f"{shown(value)} is not the number of a data centre", hint)
    return value


def _here() -> int:
    from floatip.linode import region  # noqa: PLC0415

    try:
        return region.find().region.dcid
    except region.Unknown as error:
        raise (NotNow if error.may_mend else Wrong)(error.what, error.hint) from None


def _region(name: str) -> int:
    numbers = {region.slug: region.dcid for region in LINODE_REGIONS}
    if name in numbers:
        return numbers[name]
    for region in LINODE_REGIONS:
        if name.casefold() in (region.place.casefold(), str(region.dcid), region.slug.casefold()):
            hint = f"{region.place} is {region.slug}, {region.dcid}: write dcid = {region.dcid}"
            raise Wrong(f"{shown(name)} is not a known region", hint)
    hint = "write the number of the data centre; floatip providers lists them"
    if close := closest(name, numbers):
        hint = f'did you mean "{close}"?'
    raise Wrong(f"{shown(name)} is not a known region", hint)


def community(value: object) -> tuple[int, ...]:
    """Two numbers (RFC 1997) or three (RFC 8092)."""
    parts = value.split(":") if isinstance(value, str) else []
    hint = 'write two numbers up to 65535 as in "65000:1", or three up to 4294967295 for a large community'
    if len(parts) not in (2, 3) or not all(part.isascii() and part.isdigit() and len(part) < 20 for part in parts):
        raise Wrong(f"{shown(value)} is not a community", hint)
    numbers = tuple(map(int, parts))
    if max(numbers) >= (1 << 16 if len(parts) == 2 else 1 << 32):
        raise Wrong(f"{shown(value)} is out of range", hint)
    return numbers


def med(value: object) -> object:
    if value is False:
        return None
    if value == "election" or (type(value) is int and 0 <= value < 1 << 32):
        return value
    what = f'{shown(value)} is not false, a number from 0 to {2**32 - 1} or "election"'
    raise Wrong(what, "write false to send none")


def next_hop(value: Any) -> NextHop:
    if value in ("session", "ipv4", "ipv6"):
        return value  # type: ignore[no-any-return]
    try:
        found = [ip_address(text if isinstance(text, str) else "") for text in value]
    except (TypeError, ValueError):
        found = []
    if not found or len({one.version for one in found}) < len(found):
        hint = 'give one address of a family as in ["192.0.2.1", "2001:db8::1"], or "ipv4", "ipv6" or "session"'
        raise Wrong(f"{shown(value)} is not a next hop", hint)
    return tuple(sorted(found, key=lambda one: one.version))
