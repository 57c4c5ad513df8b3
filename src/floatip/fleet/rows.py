"""The rows of a fleet at etcd that are no business of the core: members, the configuration, and its versions.

Others wrote them, so whatever a row may hold, `Odd` says what is wrong with it, and nothing else is raised.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from floatip.core.addresses import Address
from floatip.core.link.wire import LONGEST_NAME
from floatip.core.settings import Node

CONFIG, MEMBERS, VERSIONS = "config", "members/", "versions/"
KEPT = 50
"""Versions of the configuration."""
LARGEST_ROW = 1 << 20
"""Characters. etcd itself refuses more than 1.5 MiB in one question."""
LARGEST_MEMBER = 1 << 12
LARGEST_TOML = 1 << 19
"""Octets of the configuration, as of a file."""
LARGEST_NUMBER = 10**12
LONGEST_WORD = 256
EXCLUSIVE = "exclusive"
CAPABILITIES = (EXCLUSIVE,)
"""What this version of floatip can do in a fleet."""


class Odd(ValueError):
    """What is wrong with a row, as a predicate: `is no JSON`."""


@dataclass(frozen=True, slots=True)
class Config:
    """The configuration of the fleet: the row `config`, or one of `versions/`."""

    version: int
    by: str
    at: str
    """In UTC, as 2026-11-30T14:07:12Z."""
    toml: str


@dataclass(frozen=True, slots=True)
class Member:
    """A row of `members/`."""

    node: Node
    version: str = ""
    """Of floatip."""
    capabilities: tuple[str, ...] = ()
    since: str = ""
    """When it registered, in UTC."""


def config(value: str) -> Config:
    """Raises `Odd`."""
    row = _object(value)
    toml = row.get("toml")
    if not isinstance(toml, str) or not _is_text(toml):
        raise Odd("has no text under toml")
    if len(toml.encode()) > LARGEST_TOML:
        raise Odd(f"has a configuration of more than {LARGEST_TOML >> 10} KiB")
    version = row.get("version")
    if type(version) is not int or not 0 < version < LARGEST_NUMBER:
        raise Odd("has no number under version")
    return Config(version, _word(row, "by"), _word(row, "at"), toml)


def version_of(value: str) -> int:
    """Of the row `config`; 0: it is none of ours."""
    try:
        return config(value).version
    except Odd:
        return 0


def config_row(one: Config) -> str:
    return _row(version=one.version, by=one.by, at=one.at, toml=one.toml)


def member(name: str, value: str) -> Member:
    """Raises `Odd`."""
    if not is_name(name):
        raise Odd("has no name of a node in its key")
    row = _object(value, LARGEST_MEMBER)
    weight, capabilities = row.get("weight", 1.0), row.get("capabilities", [])
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1000:
        raise Odd("has no weight from 0 to 1000")
    if not isinstance(capabilities, list) or not all(isinstance(one, str) for one in capabilities):
        raise Odd("has no list of words under capabilities")
    node = Node(name, _address(row.get("address")), float(weight))
    return Member(node, _word(row, "version"), tuple(capabilities), _word(row, "since"))


def member_row(one: Member) -> str:
    weight = one.node.weight
    weight = int(weight) if weight == int(weight) else weight
    return _row(
        address=str(one.node.address),
        weight=weight,
        version=one.version,
        capabilities=list(one.capabilities),
        since=one.since,
    )


def is_name(name: str) -> bool:
    return bool(name) and name.isprintable() and len(name.encode(errors="replace")) <= LONGEST_NAME


def machine_of(alive: str) -> str:
    """Of a row of `alive/`; empty: it is none of ours."""
    try:
        found = _object(alive, LARGEST_MEMBER).get("machine")
    except Odd:
        return ""
    return found if isinstance(found, str) else ""


def key_of(fleet: str, form: int) -> str:
    """The fingerprint in the row `fleet`; empty: it is none of ours, or of another format."""
    try:
        found = _object(fleet, LARGEST_MEMBER)
    except Odd:
        return ""
    key = found.get("key")
    return key if isinstance(key, str) and found.get("format") == form else ""


def alike(members: Iterable[Member]) -> dict[Address, list[str]]:
    """Addresses of more than one member, with the names of those."""
    names: dict[Address, list[str]] = {}
    for one in members:
        names.setdefault(one.node.address, []).append(one.node.name)
    return {address: each for address, each in names.items() if len(each) > 1}


def _object(value: str, largest: int = LARGEST_ROW) -> dict[str, Any]:
    if len(value) > largest:
        raise Odd(f"is larger than {largest >> 10} KiB")
    try:
        row = json.loads(value)
    except (ValueError, RecursionError):
        raise Odd("is no JSON") from None
    if not isinstance(row, dict):
        raise Odd("is no JSON object")
    return row


def _row(**row: object) -> str:
    return json.dumps(row, ensure_ascii=False)


def _address(value: object) -> Address:
    try:
        found = ip_address(value if isinstance(value, str) else "")
    except ValueError:
        raise Odd("has no IP address under address") from None
    if found.is_unspecified or found.is_multicast or found.is_loopback or (found.version == 6 and found.is_link_local):
        raise Odd(f"has {found} as its address, which no other node can reach")
    return found


def _word(row: dict[str, Any], key: str) -> str:
    value = row.get(key, "")
    if not isinstance(value, str) or not _is_text(value):
        raise Odd(f"has no text under {key}")
    return value[:LONGEST_WORD]


def _is_text(value: str) -> bool:
    """Half of a surrogate pair, which JSON lets pass, is none."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
