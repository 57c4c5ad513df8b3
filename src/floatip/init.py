"""`floatip init`: a few answers become the configurations of both nodes of a pair. Nothing is overwritten.

Where keepalived runs already, use `floatip adopt`.
"""

import errno
import socket
import sys
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any, NamedTuple

from floatip import DEFAULT_CONFIG, prompts, reading
from floatip.adopt import toml_writer as toml
from floatip.adopt.beside import beside
from floatip.adopt.files import Change, private, write
from floatip.adopt.system import AdoptError, System
from floatip.commands import Misused, again_as_root
from floatip.providers import LINODE_REGIONS
from floatip.reading.toml.document import parse
from floatip.reading.toml.reader import accepted
from floatip.text import say

PRIORITIES = {"this": (150, 100), "other": (100, 150), "neither": (100, 100)}
"""This node's and the other's, by which of them is preferred."""
Answers = dict[str, Any]


Given = Mapping[str, str | None]
"""What the flags say, by the names of `QUESTIONS`; None: it is asked."""


class Question(NamedTuple):
    text: str
    read: Callable[[str, System, Answers], Any]
    """The answer as a value, with those before it. Raises `ValueError` with what is wrong."""
    placeholder: Any
    """Stands for the value while an earlier answer is tried."""
    default: Callable[[System, Answers], str] = lambda *_: ""
    """Empty: there is none."""


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) < 9


def _own_addresses(system: System, interface: str) -> list[Any]:
    return [one.ip for one in system.machine().interfaces[interface] if one.version == 4]


def _default_source(system: System, answers: Answers) -> str:
    """The private address if there is one: nodes of a pair talk by it."""
    floating = {ip_interface(address).ip for address in answers["addresses"]}
    here = [ip for ip in _own_addresses(system, answers["interface"]) if ip not in floating]
    return str(min(here, key=lambda ip: not ip.is_private)) if here else ""


def _dcid(text: str, system: System, answers: Answers) -> int | str | None:
    if text == "none" or _is_number(text):
        return None if text == "none" else int(text)
    named = {region.place.lower(): region.slug for region in LINODE_REGIONS}
    slug = named.get(text.lower(), text.lower())
    if slug not in named.values():
        raise ValueError(f"{text} is no region; `floatip providers` lists names and numbers")
    return slug


def _addresses(text: str, system: System, answers: Answers) -> list[str]:
    found = [str(ip_interface(word)) for word in text.replace(",", " ").split()]
    if not found:
        raise ValueError("at least one address is needed")
    return list(dict.fromkeys(found))


def _interface(text: str, system: System, answers: Answers) -> str:
    names = system.machine().interfaces
    if text not in names:
        raise ValueError(f"{text} is not an interface of this machine; it has {', '.join(sorted(names))}")
    if text == "lo":
        raise ValueError("lo leads to no other node")
    return text


def _source(text: str, system: System, answers: Answers) -> str:
    own = _own_addresses(system, answers["interface"])
    if ip_address(text) not in own:
        there = ", ".join(map(str, own)) or "no IPv4 address"
        raise ValueError(f"{text} is not an address of this machine's {answers['interface']}, which has {there}")
    return _between_nodes(text, system, answers)


def _between_nodes(text: str, system: System, answers: Answers) -> str:
    if ip_address(text) in {ip_interface(one).ip for one in answers["addresses"]}:
        raise ValueError(f"{text} is a floating address; give the node's own")
    return text


def _vrid(text: str, system: System, answers: Answers) -> int | str:
    return int(text) if _is_number(text) else text


def _prefer(text: str, system: System, answers: Answers) -> str:
    if text not in PRIORITIES:
        raise ValueError(f"{text} is not this, other or neither")
    return text


def _check(text: str, system: System, answers: Answers) -> dict[str, str]:
    kind, _, value = text.partition(":")
    if text == "none":
        return {}
    if kind not in ("tcp", "process", "script") or not value:
        raise ValueError(f"{text} is not tcp:127.0.0.1:80, process:haproxy, script:/path or none")
    name = value if kind == "process" else Path(value).stem if kind == "script" else "tcp"
    return {"name": name, kind: value}


QUESTIONS = {
    "dcid": Question("Linode's data centre: a number, a region such as us-east, or none (no BGP)", _dcid, None),
    "addresses": Question("Floating address, or several separated by commas", _addresses, ["192.0.2.10/32"]),
    "interface": Question(
        "Interface to the other node", _interface, "lo", lambda system, _: system.machine().default_interface
    ),
    "source": Question("This node's private address", _source, "192.0.2.1", _default_source),
    "peer": Question("The other node's private address", _between_nodes, "192.0.2.2"),
    "vrid": Question("Virtual router id, the same on both nodes, different for each pair", _vrid, 51, lambda *_: "51"),
    "prefer": Question(
        "Which node is master when both are healthy: this, other or neither", _prefer, "neither", lambda *_: "neither"
    ),
    "check": Question("What to check: tcp:127.0.0.1:80, process:haproxy, script:/path or none", _check, {}),
}


def init(system: System, given: Given, file: Path, output: Path | None) -> int:
    """Raises `Refusal`."""
    _is_new(system, file, "edit it, or move it away")
    if output and system.at(output).exists() and not system.at(output).is_dir():
        hint = "give --output a directory: the other node's file is written into it"
        raise AdoptError(f"{output} is not a directory", hint)
    answers = _answers(system, given)
    ours, others = pair(answers)
    warnings = toml.checked(ours)
    texts = {file: ours}
    if output:
        _is_new(system, output / f"{answers['peer']}.toml", "move it away, or give --output another directory")
        texts = {output / f"{answers['peer']}.toml": others, **texts}
    missing = [path.parent for path in texts if not system.at(path.parent).exists()]
    try:
        list(write(system, [Change(path, None, private(system, text)) for path, text in texts.items()]))
    except OSError as error:
        is_denied = error.errno in (errno.EACCES, errno.EPERM)
        hint = again_as_root() if is_denied else "choose another path: --file and --output"
        raise AdoptError(f"{error.filename or file} cannot be written: {error.strerror}", hint) from None
    for directory in missing:
        say(f"{directory}: did not exist, and was made")
    say(f"{file}: written, for this node")
    for warning in (*warnings, *beside(*accepted(parse(str(file), ours.encode())), system)):
        say(f"warning: {warning.text}\n  hint: {warning.hint}")
    if output:
        say(f"{output / answers['peer']}.toml: written, for the other node; copy it there to {file}")
    else:
        say(f"{file} of the other node:")
        print(others, flush=True)
    say(_next(answers, file))
    return 0


def _is_new(system: System, file: Path, hint: str) -> None:
    if system.at(file).exists():
        raise AdoptError(f"{file} exists", hint)


def _next(answers: Answers, file: Path) -> str:
    lines = [
        "Open the firewall of both nodes:",
        f"  IP protocol 112 (VRRP) between {answers['source']} and {answers['peer']}",
    ]
    if answers["dcid"]:
        lines.append("  TCP port 179 (BGP) to the route servers (floatip providers), and the replies")
    lines += ["Then on each node:", f"  floatip check {file}"]
    if file.absolute() != Path(DEFAULT_CONFIG):
        lines.append(f"  mv {file} {DEFAULT_CONFIG}    # the unit reads only this file")
    return "\n".join([*lines, "  systemctl enable --now floatip"])


def _answers(system: System, given: Given) -> Answers:
    missing = [name for name in QUESTIONS if given.get(name) is None]
    if missing and not sys.stdin.isatty():
        names = ", ".join(f"--{name.removesuffix('es')}" for name in missing)
        what = f"{names} {'is' if len(missing) == 1 else 'are'} missing, and stdin is not a terminal"
        raise Misused(what, "floatip init --help")
    answers: Answers = {}
    for name, question in QUESTIONS.items():
        value = given.get(name)
        while name not in answers:
            text = prompts.ask(question.text, default=question.default(system, answers)) if value is None else value
            try:
                answers[name] = _tried(name, text.strip(), system, answers)
            except ValueError as error:
                if value is not None:
                    raise Misused(f"--{name.removesuffix('es')}: {error}", "floatip init --help") from None
                say(f"  {error}")
    return answers


def _tried(name: str, text: str, system: System, answers: Answers) -> Any:
    """The value of an answer with which `floatip check` accepts the file. Raises `ValueError`."""
    value = QUESTIONS[name].read(text, system, answers)
    placeholders = {other: question.placeholder for other, question in QUESTIONS.items()}
    if "192.0.2.2" in map(str, {**answers, name: value}.values()):
        placeholders["peer"] = "192.0.2.3"
    try:
        for file in pair(placeholders | answers | {name: value}):
            toml.checked(file)
    except reading.ConfigErrors as refused:
        problem = refused.errors[0]
        raise ValueError(f"{problem.what} ({problem.hint})") from None
    return value


def pair(answers: Answers) -> tuple[str, str]:
    """This node's file, and the other's."""
    here, there = answers["source"], answers["peer"]
    ours, others = PRIORITIES[answers["prefer"]]
    return _file(answers, here, there, ours), _file(answers, there, here, others)


def _file(answers: Answers, source: str, peer: str, priority: int) -> str:
    vrrp = {"interface": answers["interface"], "vrid": answers["vrid"], "priority": priority}
    if answers["prefer"] == "neither":
        vrrp["preempt"] = False
    vrrp |= {"source": source, "peers": [peer]}
    check = answers["check"]
    instance = {"name": f"VI_{answers['vrid']}", "addresses": answers["addresses"]}
    instance |= {"checks": [check["name"]]} if check else {}
    dcid = answers["dcid"]
    instance |= {} if dcid else {"placement": "master"}
    linode = toml.table("[linode]", {"dcid": dcid} if dcid else {}, "The data centre, which decides the route servers.")
    checks = toml.table("[[check]]", check, "The node is not master while this fails.")
    about = (
        "The higher priority is master while both are healthy; with equal ones and preempt = false the master stays."
    )
    instances = toml.table("[[instance]]", instance | {"vrrp": vrrp}, "The floating addresses.", about)
    comment = f"Written by `floatip init` on {socket.gethostname()}, for the node with {source}; the other has {peer}."
    return toml.document([comment, "Every key: docs/reference/configuration.md."], {}, [linode, checks, instances])
