"""Where an observer and a drill meet, and the key that they share: that of the link."""

import stat
from ipaddress import ip_address
from pathlib import Path

from floatip.commands import Refusal, again_as_root
from floatip.core.refusals import Why
from floatip.reading.key import read
from floatip.reading.machine import Machine

PORT = 9113
"""TCP, at the observer."""


class CannotMeet(Refusal):
    code = Why.NO_OBSERVER
    status = 2


def keys_of(file: Path) -> tuple[bytes, ...]:
    """The first one signs, each is believed. Raises `CannotMeet`."""
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        hint = f"copy it from a node: scp -p root@NODE:/etc/floatip/key {file}"
        raise CannotMeet(
            f"{file} is missing: the observer and the nodes prove by it who they are", hint, Why.KEY_UNUSABLE
        ) from None
    except PermissionError:
        raise CannotMeet(f"{file} cannot be read: permission denied", again_as_root(), Why.KEY_UNUSABLE) from None
    except (OSError, ValueError) as error:
        raise CannotMeet(
            f"{file} cannot be read: {error}", "give the file of the key: --key FILE", Why.KEY_UNUSABLE
        ) from None
    if not stat.S_ISREG(mode):
        raise CannotMeet(f"{file} is no regular file", "give the file of the key: --key FILE", Why.KEY_UNUSABLE)
    if mode & 0o007:
        what = f"every user of this machine can use {file}, and speak as a node: its mode is {mode & 0o777:o}"
        raise CannotMeet(what, f"chmod o-rwx {file}", Why.KEY_UNUSABLE)
    keys, doubts = read(file, Machine({}))
    if doubts:
        raise CannotMeet(*doubts[0][:2], Why.KEY_UNUSABLE)
    return keys


def place_of(text: str, least: int = 1) -> tuple[str, int]:
    """A host, which may be empty, and a port: of `192.0.2.9:9113`, `[2001:db8::9]:9113`, `2001:db8::9`, `:9113`.

    `least`: 0 where any free port will do. Raises ValueError, with what the text must be.
    """
    host, port = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port = rest[1:]
        if not bracket or not _is_ipv6(host) or (rest and not (rest.startswith(":") and port)):
            raise ValueError("an IPv6 address in brackets, as in [2001:db8::9]:9113")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
        if not port:
            raise ValueError("a host and a port, as in observer.example.com:9113")
    elif ":" in text and not _is_ipv6(text):
        raise ValueError("an IPv6 address; with a port in brackets, as in [2001:db8::9]:9113")
    if port and not (port.isascii() and port.isdigit() and len(port) <= 5 and least <= int(port) <= 65535):
        raise ValueError("a host with a port from 1 to 65535")
    if not host.isprintable() or " " in host or "/" in host:
        raise ValueError("a host: its name or address, without a prefix length")
    return host, int(port) if port else PORT


def in_words(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_ipv6(text: str) -> bool:
    try:
        return ip_address(text).version == 6
    except ValueError:
        return False
