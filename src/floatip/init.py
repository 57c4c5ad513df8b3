"""`floatip init`: a few answers become the configuration of all nodes, and their key. Nothing is overwritten.

The file is the same on all nodes: each finds itself by its address. Where keepalived runs already, use `floatip adopt`.
"""

import errno
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any, TypeVar

from floatip import DEFAULT_CONFIG, key, prompts, reading
from floatip.adopt.beside import beside
from floatip.adopt.files import Change, private, write
from floatip.adopt.system import AdoptError, System
from floatip.commands import Misused, again_as_root
from floatip.core.addresses import Address, InterfaceAddress
from floatip.core.refusals import Why
from floatip.core.settings import LINK_PORT, SECOND_CHANCE_PORT, Node
from floatip.providers import LINODE_REGIONS
from floatip.reading.key import NAME
from floatip.reading.key import read as read_key
from floatip.reading.machine import Machine, daemons_user
from floatip.reading.toml import values
from floatip.reading.toml.document import parse
from floatip.reading.toml.reader import accepted
from floatip.reading.toml.writer import document, table
from floatip.reading.words import listed
from floatip.text import say

Given = Mapping[str, Any]
"""What the options say, by their names in `floatip.cli`; None, or no node: it is asked."""
Answers = dict[str, Any]
T = TypeVar("T")
REQUIRED = {"dcid": "--dcid", "nodes": "--node", "addresses": "--address", "check": "--check"}
NONE = "none"
FORM = "haproxy1=192.0.2.1"


def init(system: System, given: Given, file: Path) -> int:
    """Raises `Refusal`."""
    if system.at(file).exists():
        raise AdoptError(f"{file} exists", "edit it, or move it away", Why.FILE_EXISTS)
    machine = replace(system.machine(), user=daemons_user())
    of_key = file.with_name(NAME)
    has_key = _has_key(system, of_key, machine)
    answers = Interview(machine, given).answers
    text = _file(answers)
    warnings = reading.checked(text, machine)
    texts = {file: text} if has_key else {of_key: key.new(), file: text}
    made = [] if system.at(file.parent).exists() else [file.parent]
    _write(system, file, texts)
    for directory in made:
        say(f"{directory}: did not exist, and was made")
    say(f"{of_key}: {'is there already, and is used' if has_key else 'written, a new key'}")
    own = next(node for node in answers["nodes"] if machine.has(node.address))
    nodes = [f"{node.name} {node.address}{' (this node)' * (node == own)}" for node in answers["nodes"]]
    say(f"{file}: written, the same for all nodes: {listed(nodes)}")
    for warning in (*warnings, *beside(*accepted(parse(str(file), text.encode())), system)):
        say(f"warning: {warning.text}\n  hint: {warning.hint}")
    say("\n".join(("", *_next(answers, own, file))))
    return 0


def _has_key(system: System, file: Path, machine: Machine) -> bool:
    """Raises `AdoptError`: one that cannot be used."""
    if not system.at(file).exists():
        return False
    _, doubts = read_key(system.at(file), machine)
    if doubts:
        raise AdoptError(doubts[0].what, doubts[0].hint)
    return True


def _write(system: System, file: Path, texts: Mapping[Path, str]) -> None:
    try:
        list(write(system, [Change(path, None, private(system, text)) for path, text in texts.items()]))
    except OSError as error:
        is_denied = error.errno in (errno.EACCES, errno.EPERM)
        hint = again_as_root() if is_denied else "choose another path: --file"
        raise AdoptError(
            f"{error.filename or file} cannot be written: {error.strerror}", hint, Why.FILE_UNWRITABLE
        ) from None


# The answers


class Interview:
    """Asks for what the options do not say. Each answer is such that `floatip check` accepts the file with it."""

    def __init__(self, machine: Machine, given: Given) -> None:
        """Raises `Misused`: an option is wrong, or one is missing and there is nobody to ask."""
        self._machine = machine
        self._given = given
        self.answers: Answers = {}
        missing = [option for name, option in REQUIRED.items() if not given.get(name)]
        if missing and not sys.stdin.isatty():
            what = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing, and stdin is not a terminal"
            raise Misused(what, "floatip init --help")
        self._learn("dcid", "Linode's data centre: auto, 6, us-east or newark; none for no BGP", self._dcid)
        self._learn_nodes()
        self._learn("addresses", "Floating address, or several separated by commas", self._addresses)
        self._learn("check", "What to check: tcp:127.0.0.1:80, process:haproxy, script:/path or none", self._check)
        names = ", ".join(node.name for node in self.answers["nodes"])
        prefer = f"Which node carries it at first: {names}; none: any, and whichever carries it keeps it"
        self._learn("prefer", prefer, self._prefer, NONE, given.get("prefer") or (None if missing else NONE))

    def _learn(
        self, name: str, question: str, read: Callable[[str], Any], default: str = "", given: str | None = None
    ) -> None:
        option = REQUIRED.get(name, f"--{name}")
        given = given or self._given.get(name)
        self.answers[name] = self._answer(option, question, read, default, given)

    def _answer(self, option: str, question: str, read: Callable[[str], T], default: str, given: str | None) -> T:
        while True:
            text = prompts.ask(question, default) if given is None else given
            try:
                return read(text.strip())
            except values.Wrong as wrong:
                if given is not None:
                    raise Misused(f"{option}: {wrong.what}", wrong.hint) from None
                say(f"  {wrong.what}\n  hint: {wrong.hint}")

    def _learn_nodes(self) -> None:
        given = self._given.get("nodes") or []
        nodes: list[Node] = []
        for text in given:
            nodes.append(self._answer("--node", "", lambda text: self._node(text, nodes), "", text))
        if not any(self._machine.has(node.address) for node in nodes):
            nodes.insert(0, self._own(nodes, is_asked=not given))
        if given:
            self._answer("--node", "", lambda _: self._tried("nodes", nodes), "", "")
        else:
            self._ask_others(nodes)
        self.answers["nodes"] = nodes

    def _own(self, others: list[Node], *, is_asked: bool) -> Node:
        """This machine's node, which the options may leave out."""
        name = socket.gethostname().partition(".")[0]
        usable = [one for one in _usable(self._machine) if not others or one.version == others[0].address.version]
        for other in others:
            if other.name == name:
                raise Misused(f"--node: {_not_here(other, self._machine)}", f"give this machine's own: {name}=ADDRESS")
        default = f"{name}={usable[0]}" if usable else ""
        if not (is_asked or default):
            hint = f"bring its network up, or add --node {name}=ADDRESS"
            raise Misused("--node: none is this machine, which has no address of that kind", hint)
        given = None if is_asked else default
        return self._answer("--node", "This node, as NAME=ADDRESS", self._node_here, default, given)

    def _ask_others(self, nodes: list[Node]) -> None:
        question, default = "Another node, as NAME=ADDRESS", ""
        while found := self._answer("--node", question, lambda text: self._another(text, nodes), default, None):
            nodes.append(found)
            question, default = "One more node, as NAME=ADDRESS, or none", NONE

    def _another(self, text: str, nodes: list[Node]) -> Node | None:
        if text == NONE and len(nodes) > 1:
            return None
        node = self._node(text, nodes)
        self._tried("nodes", [*nodes, node])
        return node

    def _node(self, text: str, others: Iterable[Node]) -> Node:
        name, _, address = text.replace("=", " ").strip().rpartition(" ")
        if not name:
            raise values.Wrong(f"{text} is not a name and an address", f"write {FORM}")
        node = Node(values.node_name(name.strip()), values.link_address(address))
        if any(other.name == node.name for other in others):
            raise values.Wrong(f"{node.name} is there already", "give each node a name of its own")
        return node

    def _node_here(self, text: str) -> Node:
        node = self._node(text, ())
        if not self._machine.has(node.address):
            raise values.Wrong(_not_here(node, self._machine), "give the address by which the other nodes reach it")
        return node

    def _dcid(self, text: str) -> int | str | None:
        if text == NONE:
            return None
        if text == values.AUTO:
            values.dcid(text)
            return text
        if text.isdecimal():
            return values.dcid(int(text[:9]))
        named = {region.place.casefold(): region.slug for region in LINODE_REGIONS}
        return values.dcid(named.get(text.casefold(), text.casefold()))

    def _addresses(self, text: str) -> list[str]:
        found = [_floating(word) for word in text.replace(",", " ").split()]
        nodes = {node.address: node.name for node in self.answers["nodes"]}
        for one in found:
            if one.ip in nodes:
                raise values.Wrong(f"{one.ip} is the address of {nodes[one.ip]}", "give the floating address")
            if place := next((at for at in self._machine.placed(leased=True) if at.address.ip == one.ip), None):
                if place in self._machine.added:
                    continue
                hint = f"remove it there, floatip adds it: ip address del {place.address} dev {place.interface}"
                raise values.Wrong(f"{one.ip} is an address of this machine, on {place.interface}", hint)
        return self._tried("addresses", list(dict.fromkeys(map(str, found))))

    def _check(self, text: str) -> dict[str, str]:
        kind, _, value = text.partition(":")
        if text == NONE:
            return {}
        if kind not in ("tcp", "process", "script") or not value:
            raise values.Wrong(f"{text} is no check", "write tcp:127.0.0.1:80, process:haproxy, script:/path or none")
        name = value if kind == "process" else Path(value).stem if kind == "script" else "tcp"
        return self._tried("check", {"name": name, kind: value})

    def _prefer(self, text: str) -> str:
        names = [node.name for node in self.answers["nodes"]]
        if text != NONE and text not in names:
            raise values.Wrong(f"there is no node {text}", f"the nodes are {listed(names)}; or write none")
        return "" if text == NONE else text

    def _tried(self, name: str, value: T) -> T:
        """Raises `Wrong` if a file with this answer is refused."""
        answers = {"addresses": [_unused(value if name == "nodes" else [])], "check": {}, "prefer": ""}
        try:
            reading.checked(_file(answers | self.answers | {name: value}), self._machine)
        except reading.ConfigErrors as refused:
            raise values.Wrong(refused.errors[0].what, refused.errors[0].hint) from None
        return value


def _floating(word: str) -> InterfaceAddress:
    try:
        word = str(ip_interface(word))
    except ValueError:
        raise values.Wrong(f"{word} is not an IP address", "write an address, such as 192.0.2.10") from None
    return values.interface_address(word)


def _unused(nodes: Any) -> str:
    """A floating address for a file that is only tried."""
    used = {node.address for node in nodes}
    return next(f"{one}/32" for one in ip_network("192.0.2.0/24") if one not in used)


def _not_here(node: Node, machine: Machine) -> str:
    has = [str(one) for one in _usable(machine)]
    return f"{node.address} is not an address of this machine, which has {listed(has) or 'none'}"


def _usable(machine: Machine) -> Iterator[Address]:
    """The addresses by which another node may reach this one; the likeliest first."""
    here = [
        (name not in ("", machine.default_interface), one)
        for name, all_ in machine.interfaces.items()
        for one in all_
        if name not in machine.bridges and not (one.is_loopback or one.is_link_local or one.is_unspecified)
    ]
    # An address that moves is a /32 as a rule. Nodes of a pair talk by their private network.
    here.sort(key=lambda at: (at[1].version, at[1].network.num_addresses == 1, not at[1].is_private, at[0], at[1].ip))
    return (one.ip for _, one in here)


# What is written, and what comes next


def _file(answers: Answers) -> str:
    dcid, check, prefer = answers["dcid"], answers["check"], answers["prefer"]
    number = values.dcid(dcid) if dcid else 0
    places = [f": {region.place} ({region.slug})" for region in LINODE_REGIONS if region.dcid == number]
    linode = table(
        "[linode]",
        {"dcid": dcid} if dcid else {},
        f"The data centre, which decides the route servers{''.join(places)}.",
    )
    nodes = [
        table("[[node]]", {"name": node.name, "address": node.address}, *comments)
        for node, comments in zip(answers["nodes"], (("The nodes.",), *[()] * len(answers["nodes"])), strict=False)
    ]
    # Only where all nodes hold the address can the one that had it go on with its connections.
    second_chance = {"mode": "auto"} if dcid else {}
    instance = {"name": "web", "addresses": answers["addresses"]}
    instance |= {"checks": [check["name"]]} if check else {}
    instance |= {"prefer": [prefer]} if prefer else {}
    instance |= {} if dcid else {"placement": "master"}
    return document(
        [
            f"Written by `floatip init` on {socket.gethostname()}.",
            "Every key: /usr/share/doc/floatip/reference/configuration.md",
            "The same file is on all nodes: each finds itself by its address.",
        ],
        {},
        [
            linode,
            *nodes,
            table("[second_chance]", second_chance, "Open connections survive a planned move, where that works."),
            table("[[check]]", check, "While this fails, a node does not carry the address."),
            table("[[instance]]", instance, "The floating address. The node that carries it keeps it while it can."),
        ],
    )


def _next(answers: Answers, own: Node, file: Path) -> Iterator[str]:
    others = [node.address for node in answers["nodes"] if node != own]
    config, of_key = Path(DEFAULT_CONFIG), Path(DEFAULT_CONFIG).with_name(NAME)
    if file.absolute() != config:
        yield "Move both files to where floatip reads them:"
        yield f"  mv {file} {config} && mv {file.with_name(NAME)} {of_key}"
    yield "Install floatip on the other nodes, and copy both files there:"
    for address in others:
        host = f"[{address}]" if address.version == 6 else str(address)
        yield f"  scp -p {config} {of_key} root@{host}:{config.parent}/"
        yield f"  ssh root@{address} chgrp floatip {config} {of_key}"
    ports = [LINK_PORT, *([SECOND_CHANCE_PORT] if answers["dcid"] else [])]
    named = f"UDP port{'s' * (len(ports) > 1)} {listed([*map(str, ports)])}"
    yield f"On each node, let {named} in from the other nodes. Here:"
    yield from _firewall(others, ports)
    out = f"{named} to the other nodes"
    out += ", TCP port 179 (BGP) to the route servers" if answers["dcid"] else ""
    yield f"  Outgoing, if you filter that: {out}"
    yield "Then on each node:"
    yield "  floatip check --run"
    yield "  systemctl enable --now floatip"
    yield "  floatip nodes"


def _firewall(others: list[Address], ports: list[int]) -> Iterator[str]:
    family = "ip6" if others[0].version == 6 else "ip"
    rule = f"{family} saddr {_nft_set(others)} udp dport {_nft_set(ports)} accept"
    yield "  nftables:  nft insert rule inet filter input " + (f"'{rule}'" if "{" in rule else rule)
    for address in others:
        yield f"  ufw:       ufw allow proto udp from {address} to any port {','.join(map(str, ports))}"
    sources = ", ".join(str(ip_interface(address)) for address in others)
    named = f"port{'s' * (len(ports) > 1)} {', '.join(map(str, ports))}"
    yield f"  Linode Cloud Firewall, an inbound rule: UDP, {named}, sources {sources}, ACCEPT"


def _nft_set(values: Sequence[object]) -> str:
    return str(values[0]) if len(values) == 1 else "{ " + ", ".join(map(str, values)) + " }"
