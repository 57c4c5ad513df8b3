"""Checks of each kind: what is contradictory, and what this machine lacks for them.

Programs and watched files are in `commands`, names in `names`.
"""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from floatip.checking.libraries import EXTRA, NEEDS, PACKAGES
from floatip.model import Bgp, Check, Haproxy, Http, Interface, Kind, Model, Process, Quorum, Systemd
from floatip.reading.files import closed_above
from floatip.reading.machine import DAEMON, Machine
from floatip.reading.place import Places, Problem, Thing
from floatip.reading.words import listed, shown

SYSTEMD = Path("/run/systemd/system")
"""It is there where systemd runs (sd_booted(3))."""


def _checks(model: Model, places: Places) -> Iterator[tuple[Thing, Check, Kind]]:
    for at, check in places.each(("check",), model.checks):
        if check.kind:
            yield at, check, check.kind


def contradictions(model: Model, places: Places) -> Iterator[Problem]:
    for at, _, kind in _checks(model, places):
        match kind:
            case Http():
                yield from _http(kind, places, at)
            case Process():
                yield from _process(kind, places, at)
            case Quorum(of, quorum):
                yield from _quorum(model, of, quorum, places, at)
            case Bgp(sessions):
                peers = len(model.network.speaker.peers) if model.network else 0
                if not model.network:
                    what = "there are no BGP sessions: neither [linode] nor [bgp] is there"
                    yield places.error((*at, "bgp"), what, "add [linode] or [bgp], or remove the check")
                elif peers and sessions > peers:
                    what = f"{sessions} sessions can never be up: there are {peers} peers"
                    yield places.error((*at, "bgp"), what, f"write at most {peers}")


def _http(kind: Http, places: Places, at: Thing) -> Iterator[Problem]:
    url = urlsplit(kind.url)
    if not kind.address and url.hostname != "localhost" and not _is_address(url.hostname or ""):
        what = f"{shown(url.hostname)} is a name, and a check must not hang on a name server"
        hint = 'add address = "127.0.0.1" to connect to; the name is sent as Host, and for TLS'
        yield places.error((*at, "http"), what, hint)
    for key in ("verify", "ca", "certificate_days"):
        if url.scheme != "https" and (*at, key) in places.given:
            yield places.error(
                (*at, key), "means nothing without https", f'write http = "https{kind.url[4:]}", or remove it'
            )
    if kind.ca and not kind.verify:
        yield places.warning((*at, "ca"), "means nothing beside verify = false", "remove one of the two")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _process(kind: Process, places: Places, at: Thing) -> Iterator[Problem]:
    if kind.quorum_max is not None and kind.quorum_max < kind.quorum and (*at, "quorum") in places.given:
        what = f"at most {kind.quorum_max} and at least {kind.quorum} can never be"
        yield places.error((*at, "quorum_max"), what, f"write quorum_max = {kind.quorum} or more, or remove quorum")
    if kind.process.startswith("/") and not kind.command:
        for key in ("quorum", "quorum_max"):
            if (*at, key) in places.given:
                what = "means nothing for a pid file, which names one process"
                yield places.error((*at, key), what, "remove it, or write the name of the process in place of the file")


def _quorum(model: Model, of: tuple[str, ...], quorum: int, places: Places, at: Thing) -> Iterator[Problem]:
    if len(set(of)) < len(of):
        yield places.error((*at, "of"), "a check is there twice", "name each check once")
    if quorum > len(of) and places.is_whole((*at, "of")):
        what = f"{quorum} of {len(of)} can never be up"
        yield places.error((*at, "quorum"), what, f"write at most {len(of)}")
    nested = [one.name for one in model.checks if isinstance(one.kind, Quorum) and one.name in of]
    if nested:
        what = f"{listed(nested)} counts other checks too"
        yield places.error((*at, "of"), what, "name checks that look at something")


def libraries(model: Model, places: Places, machine: Machine) -> Iterator[Problem]:
    for at, _, kind in _checks(model, places):
        key = type(kind).__name__.lower()
        wanted = [((*at, key), NEEDS[key])] if key in NEEDS else []
        if isinstance(kind, Http) and kind.certificate_days:
            wanted.append(((*at, "certificate_days"), "cryptography"))
        for thing, module in wanted:
            if not find_spec(module):
                hint = f"apt install {PACKAGES[module]}; where floatip came by pip: pip install '{EXTRA}'"
                yield places.on_machine(thing, f"needs {PACKAGES[module]}, which is not installed", hint)


def surroundings(model: Model, places: Places, machine: Machine) -> Iterator[Problem]:
    for at, _, kind in _checks(model, places):
        match kind:
            case Interface(name) if name not in machine.interfaces:
                what = f"this machine has no interface {shown(name)}, so the check is down until it has"
                yield places.warning((*at, "interface"), what, "see their names: ip -brief link")
            case Systemd() if not SYSTEMD.exists():
                yield places.warning((*at, "systemd"), "systemd does not run here", 'write process = "NAME" instead')
            case Haproxy(path):
                yield from _socket(path, (*at, "haproxy"), places, machine)
            case Http(ca=Path() as ca) if not machine.may(ca, os.R_OK):
                what = f"{ca} is not there, or user {machine.user or DAEMON} cannot read it"
                yield places.warning((*at, "ca"), what, f"correct the path, or: chmod a+r {ca}")


def _socket(path: Path, thing: Thing, places: Places, machine: Machine) -> Iterator[Problem]:
    user = machine.user or DAEMON
    if (closed := closed_above(path, machine)) or (path.exists() and not machine.may(path, os.W_OK)):
        what = f"user {user} cannot connect to {path}{f': {closed} is closed' if closed else ''}"
        hint = f"usermod -aG haproxy {user} && systemctl restart floatip; in haproxy.cfg: stats socket {path} mode 660"
        yield places.warning(thing, what, hint)
    elif not path.exists():
        hint = f"in global of haproxy.cfg: stats socket {path} mode 660 level user"
        yield places.warning(thing, f"{path} does not exist, so the check is down until HAProxy makes it", hint)


RULES = (contradictions,)
ON_MACHINE = (libraries, surroundings)
