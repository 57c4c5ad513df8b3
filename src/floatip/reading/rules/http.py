"""The listener for browsers and Prometheus: who can reach it, and what proves who may.

What is wrong with its files is a warning: a start without a page is better than none, and the status says it.
"""

from collections.abc import Iterator
from pathlib import Path

from floatip.model import Listener, Model
from floatip.reading import regular, secrets
from floatip.reading.machine import Machine
from floatip.reading.place import Places, Problem
from floatip.web.token import LONGEST, MAKE, SHORTEST, is_token

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
        path = getattr(model.http, key)
        if path and (doubt := secrets.unreadable(path, machine, is_secret=key != "client_ca")):
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


def _unusable(http: Listener, places: Places) -> Iterator[Problem]:
    """The content of files that can be read."""
    if http.token and not is_token(regular.read(http.token).strip()):
        what = f"{http.token} is not one word of {SHORTEST} to {LONGEST} characters"
        yield places.warning(("http", "token"), what, f"make another: {MAKE}")
    if not http.tls_certificate:
        return
    keys = {"certificate": "tls_certificate", "key": "tls_key", "ca": "client_ca"}
    for key, doubt in secrets.tls(http.tls_certificate, http.tls_key, http.client_ca, is_server=True):
        yield places.warning(("http", keys[key]), doubt.what, doubt.hint)


def _first_port() -> int:
    try:
        return int(FIRST_UNPRIVILEGED.read_text())
    except (OSError, ValueError):
        return 1024


RULES = (reach,)
ON_MACHINE = (files, ports)
