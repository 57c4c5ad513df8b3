"""The listener for browsers and Prometheus: who can reach it, and what proves who may.

What is wrong with its files is a warning: a start without a page is better than none, and the status says it.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from floatip.model import Listener, Model
from floatip.reading import regular
from floatip.reading.files import Doubt, closed_above
from floatip.reading.machine import DAEMON, Machine
from floatip.reading.place import Places, Problem, Thing
from floatip.web.token import LONGEST, MAKE, SHORTEST, is_token

LARGEST = 1 << 20
FILES = ("token", "tls_certificate", "tls_key", "client_ca")
FIRST_UNPRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


def reach(model: Model, places: Places) -> Iterator[Problem]:
    http = model.http
    if http is None:
        return
    has_tls, has_ca = _given(places, "tls_certificate"), _given(places, "client_ca")
    for key in ("tls_key", "client_ca"):
        if _given(places, key) and not has_tls:
            yield places.error(("http", key), "means nothing without tls_certificate", "add tls_certificate")
    seen: set[tuple[str, int]] = set()
    for at, listener in places.each(("http", "listen"), http.listen):
        if listener in seen:
            yield places.error(at, f"{_shown(listener)} is there twice", "name each address once")
        seen.add(listener)
    for at, listener in places.each(("http", "listen"), http.listen):
        if listener not in http.open_listeners():
            continue
        if not _given(places, "token") and not has_ca:
            what = f"other machines reach {_shown(listener)}, and nothing says who may"
            hint = f'add token = "/etc/floatip/http-token", and make it: {MAKE}; or listen on 127.0.0.1'
            yield places.error(at, what, hint)
        elif not has_tls:
            what = f"the token travels readable to {_shown(listener)}, without TLS"
            yield places.warning(at, what, "add tls_certificate and tls_key, or use a network that you trust")


def files(model: Model, places: Places, machine: Machine) -> Iterator[Problem]:
    if model.http is None:
        return
    doubted = False
    for key in FILES:
        if (path := getattr(model.http, key)) and (doubt := _unreadable(path, machine, is_secret=key != "client_ca")):
            doubted = True
            yield places.warning(("http", key), doubt.what, doubt.hint)
    if not doubted:
        yield from _unusable(model.http, places)


def ports(model: Model, places: Places, machine: Machine) -> Iterator[Problem]:
    first = _first_port()
    for at, (_, port) in places.each(("http", "listen"), model.http.listen if model.http else ()):
        if port < first:
            yield places.warning(at, f"only root may listen on port {port}", f"choose a port from {first} on")


def _given(places: Places, key: str) -> bool:
    return ("http", key) in places.given


def _shown(listener: tuple[str, int]) -> str:
    host, port = listener
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _unreadable(path: Path, machine: Machine, *, is_secret: bool) -> Doubt | None:
    share = f"chown root:{machine.user or DAEMON} {path} && chmod 640 {path}"
    try:
        with regular.looked_at(path) as descriptor:
            mode = os.fstat(descriptor).st_mode
            text = regular.read_from(descriptor, LARGEST)
    except OSError as error:
        return Doubt(f"{path} cannot be read: {str(error.strerror).lower()}", _mend(path, machine, share))
    if machine.user and not machine.may(path, os.R_OK):
        return Doubt(f"user {machine.user}, who runs the daemon, cannot read {path}", _mend(path, machine, share))
    has_secret = (is_secret and b"-----BEGIN CERTIFICATE" not in text) or b"PRIVATE KEY-----" in text
    if has_secret and mode & 0o007:
        return Doubt(f"every user of this machine can use {path}: its mode is {mode & 0o777:o}", share)
    return None


def _mend(path: Path, machine: Machine, share: str) -> str:
    if closed := closed_above(path, machine):
        return f"copy it to /etc/floatip, where user {machine.user or DAEMON} can read it: {closed} is closed"
    return share if os.path.exists(path) else "correct the path, or make the file"


def _unusable(http: Listener, places: Places) -> Iterator[Problem]:
    """The content of files that can be read."""
    if http.token and not is_token(regular.read(http.token).strip()):
        what = f"{http.token} is not one word of {SHORTEST} to {LONGEST} characters"
        yield places.warning(("http", "token"), what, f"make another: {MAKE}")
    if not http.tls_certificate:
        return
    import ssl  # noqa: PLC0415

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    thing: Thing = ("http", "tls_key" if http.tls_key else "tls_certificate")
    try:
        context.load_cert_chain(http.tls_certificate, http.tls_key, password="")
        thing = ("http", "client_ca")
        if http.client_ca:
            context.load_verify_locations(http.client_ca)
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or str(error)
        hint = "give a certificate in PEM with those that it needs, its key without a passphrase, and the CA in PEM"
        yield places.warning(thing, f"cannot be used for TLS: {str(why).replace('_', ' ').lower()}", hint)


def _first_port() -> int:
    try:
        return int(FIRST_UNPRIVILEGED.read_text())
    except (OSError, ValueError):
        return 1024


RULES = (reach,)
ON_MACHINE = (files, ports)
