"""`floatip init`: a few answers become the configurations of both nodes of a pair. Nothing is overwritten.

Where keepalived runs already, `floatip adopt` is the way.
"""

import os
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from ipaddress import IPv4Interface, ip_address
from pathlib import Path
from typing import Any, Literal, NamedTuple

import typer

from floatip import reading
from floatip.adopt import toml
from floatip.adopt.found import configuration
from floatip.adopt.host import AdoptError, Host
from floatip.keepalived_conf import NotUnderstood
from floatip.providers import LINODE_REGIONS

PREFERRED, OTHER = 150, 100


@dataclass(frozen=True, slots=True)
class Given:
    """What the flags say; None: it is asked."""

    dcid: str | None = None
    addresses: str | None = None
    interface: str | None = None
    source: str | None = None
    peer: str | None = None
    vrid: str | None = None
    prefer: str | None = None
    check: str | None = None


class Question(NamedTuple):
    text: str
    default: Callable[[Host, dict[str, Any]], str | None]
    read: Callable[[str], Any]


def _none(host: Host, answers: dict[str, Any]) -> None:
    return None


def _interface(host: Host, answers: dict[str, Any]) -> str | None:
    routes = (line.split() for line in host.text("/proc/net/route").splitlines()[1:])
    return next((name for name, destination, *_ in routes if destination == "00000000"), None)


def _source(host: Host, answers: dict[str, Any]) -> str | None:
    """The private address if there is one: nodes of a pair talk by it."""
    placed = host.addresses(leased=True)
    here = [p.address.ip for p in placed if p.interface == answers["interface"] and p.address.version == 4]
    return str(min(here, key=lambda ip: not ip.is_private)) if here else None


def _dcid(text: str) -> int | str | None:
    if text == "none":
        return None
    if text.isdecimal():
        return int(text)
    if text not in {region.slug for region in LINODE_REGIONS}:
        raise ValueError(f"{text} is no region; `floatip providers` lists them, and their numbers")
    return text


def _addresses(text: str) -> list[str]:
    return [str(IPv4Interface(address)) for address in text.replace(",", " ").split()]


def _vrid(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 255:
        raise ValueError(f"{text} is not a number from 1 to 255")
    return int(text)


def _prefer(text: str) -> Literal["this", "other", "neither"]:
    if text not in ("this", "other", "neither"):
        raise ValueError(f"{text} is not this, other or neither")
    return text  # type: ignore[return-value]


def _check(text: str) -> dict[str, str]:
    kind, _, value = text.partition(":")
    if text == "none":
        return {}
    if kind not in ("tcp", "process", "script") or not value:
        raise ValueError(f"{text} is not tcp:127.0.0.1:80, process:haproxy, script:/path or none")
    name = value if kind == "process" else Path(value).stem if kind == "script" else "tcp"
    return {"name": name, kind: value}


QUESTIONS = {
    "dcid": Question("Linode's data centre: a number, a region such as us-east, or none (no BGP)", _none, _dcid),
    "addresses": Question("Floating address, or several with commas", _none, _addresses),
    "interface": Question("Interface on which the nodes hear each other", _interface, str),
    "source": Question("This node's private address", _source, lambda text: str(ip_address(text))),
    "peer": Question("The other node's private address", _none, lambda text: str(ip_address(text))),
    "vrid": Question("Virtual router id, the same on both and one of its own each pair", lambda *_: "51", _vrid),
    "prefer": Question(
        "Which node is master when both are well: this, other or neither", lambda *_: "neither", _prefer
    ),
    "check": Question("What to check: tcp:127.0.0.1:80, process:haproxy, script:/path or none", _none, _check),
}


def init(host: Host, given: Given, file: Path, output: Path | None) -> int:
    try:
        _init(host, given, file, output)
    except AdoptError as error:
        print(f"error: {error.what}\nhint: {error.hint}", file=sys.stderr)
        return 1
    except reading.ConfigErrors as refused:
        said = [f"error: {problem.path}: {problem.what}\nhint: {problem.hint}" for problem in refused.errors]
        print("\n".join(said), file=sys.stderr)
        return 2
    return 0


def _init(host: Host, given: Given, file: Path, output: Path | None) -> None:
    if host.at(file).exists():
        raise AdoptError(f"{file} is there already", "edit it, or move it away")
    answers = _answers(host, given)
    _beside_keepalived(host, answers["vrid"])
    ours, others = pair(answers)
    _judge(others)
    warnings = _judge(ours)
    _write(host.at(file), ours)
    _say(f"{file}: this node's, written")
    for warning in warnings:
        _say(f"warning: {warning.path}: {warning.what}\n  hint: {warning.hint}")
    if output:
        _write(output / f"{answers['peer']}.toml", others)
        _say(f"{output / answers['peer']}.toml: the other node's, written; copy it there to {file}")
    else:
        _say(f"the other node's {file}:")
        print(others)
    _say("then on each node: systemctl enable --now floatip, and: floatip status")


def _beside_keepalived(host: Host, vrid: int) -> None:
    """Two electors of one virtual router on one machine would both be master."""
    unit = host.unit("keepalived.service")
    if not (unit and unit.active):
        return
    try:
        instances = configuration(host).instances
    except (AdoptError, NotUnderstood):
        return
    for instance in (one for one in instances if one.vrid == vrid):
        _say(f"warning: keepalived runs here, and elects for virtual router {vrid} too: {instance.statement.place}")
        _say("  hint: floatip adopt keeps it; or another --vrid, or systemctl disable --now keepalived first")


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _answers(host: Host, given: Given) -> dict[str, Any]:
    flags = {field.name: getattr(given, field.name) for field in fields(given)}
    missing = [name for name, value in flags.items() if value is None]
    if missing and not sys.stdin.isatty():
        options = ", ".join(f"--{name.removesuffix('es')}" for name in missing)
        raise AdoptError(f"nobody is there to be asked, and {options} is missing", "floatip init --help")
    answers: dict[str, Any] = {}
    for name, question in QUESTIONS.items():
        value = flags[name]
        while name not in answers:
            text = typer.prompt(question.text, default=question.default(host, answers)) if value is None else value
            try:
                answers[name] = question.read(text)
            except ValueError as error:
                if value is not None:
                    raise AdoptError(f"--{name.removesuffix('es')}: {error}", "floatip init --help") from None
                print(error, file=sys.stderr)
    return answers


def pair(answers: dict[str, Any]) -> tuple[str, str]:
    """This node's file, and the other's."""
    here, there = answers["source"], answers["peer"]
    if answers["prefer"] == "neither":
        return _file(answers, here, there, OTHER), _file(answers, there, here, OTHER)
    ours, others = (PREFERRED, OTHER) if answers["prefer"] == "this" else (OTHER, PREFERRED)
    return _file(answers, here, there, ours), _file(answers, there, here, others)


def _file(answers: dict[str, Any], source: str, peer: str, priority: int) -> str:
    vrrp = {"interface": answers["interface"], "vrid": answers["vrid"], "priority": priority}
    if answers["prefer"] == "neither":
        vrrp["preempt"] = False
    vrrp |= {"source": source, "peers": [peer]}
    check = answers["check"]
    instance = {"name": f"VI_{answers['vrid']}", "addresses": answers["addresses"]}
    instance |= {"checks": [check["name"]]} if check else {}
    dcid = answers["dcid"]
    tables = [toml.table("[linode]", {"dcid": dcid} if dcid else {}), toml.table("[[check]]", check)]
    tables += [toml.table("[[instance]]", instance | {"vrrp": vrrp})]
    comment = f"Written by `floatip init` on {socket.gethostname()}, for the node with {source}; the other has {peer}."
    return toml.document([comment], {}, tables)


def _judge(text: str) -> tuple[reading.ConfigWarning, ...]:
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(text)
        file.flush()
        return reading.load(file.name).warnings


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644), "w") as file:
            file.write(text)
    except OSError as error:
        raise AdoptError(f"{path} cannot be written: {error.strerror}", "as root, and not over another file") from None
