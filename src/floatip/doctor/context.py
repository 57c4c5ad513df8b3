"""What all parts of the doctor look at, read once: the configuration, the daemon's status, this machine's addresses."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from threading import Lock
from typing import Any

from floatip import DEFAULT_CONFIG
from floatip.commands import Refusal
from floatip.core import settings
from floatip.core.addresses import Address, InterfaceAddress
from floatip.core.state import Status, read
from floatip.doctor.dialling import PORT, Result, dial
from floatip.doctor.host import Host, Unseen
from floatip.doctor.listening import sockets
from floatip.host.ask import ControlError, NobodyAnswers, ask, socket_path
from floatip.linode.accounts import Metadata, Shares
from floatip.model import Here, Model
from floatip.reading import ConfigError, ConfigErrors, ConfigWarning, judged, look_around, machine
from floatip.reading import read as read_file
from floatip.reading.machine import Machine
from floatip.reading.rules import nodes


@dataclass(slots=True)
class Context:
    host: Host
    file: Path = Path(DEFAULT_CONFIG)
    model: Model | None = None
    """None: there is none, or it cannot be used."""
    here: Here | None = None
    """Which of the nodes this machine is."""
    has_file: bool = False
    errors: tuple[ConfigError, ...] = ()
    """Why the configuration cannot be used."""
    warnings: tuple[ConfigWarning, ...] = ()
    machine: Machine | None = None
    """None: the kernel did not say."""
    status: Status | None = None
    no_status: Exception | None = None
    """Why the daemon's status is not known."""
    observers: tuple[Address, ...] = ()
    """Those that this node is to reach for a drill."""
    metadata: Callable[[], Metadata] | None = None
    """Raises Refusal. None: it is not asked."""
    shares: Callable[[int], Shares] | None = None
    """Of a Linode, by the API. Raises Refusal. None: there is no token."""
    dials: bool = False
    """Whether route servers may be connected to, where no daemon has a session."""
    _routes: dict[Address, "Route | Unseen"] = field(default_factory=dict)
    _said: "list[Metadata | Refusal | None]" = field(default_factory=list)
    _results: "list[dict[Address, Result]]" = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)
    """The parts of the doctor run side by side, and what they share is asked once."""

    @property
    def instances(self) -> tuple[settings.Instance, ...]:
        return self.model.instances if self.model else ()

    @property
    def other_nodes(self) -> tuple[settings.Node, ...]:
        own = self.here.node.name if self.here else ""
        return tuple(node for node in self.model.nodes if node.name != own) if self.model else ()

    @property
    def floating(self) -> dict[InterfaceAddress, settings.Instance]:
        return {address: one for one in self.instances for address in one.addresses}

    def route(self, target: Address) -> "Route":
        """Raises `Unseen`."""
        with self._lock:
            if target not in self._routes:
                try:
                    self._routes[target] = _route(self.host, target)
                except Unseen as error:
                    self._routes[target] = error
        found = self._routes[target]
        if isinstance(found, Unseen):
            raise found
        return found

    def ask_metadata(self) -> Metadata | None:
        """None: it is not asked. Raises Refusal."""
        with self._lock:
            if not self._said:
                try:
                    self._said.append(self.metadata() if self.metadata else None)
                except Refusal as error:
                    self._said.append(error)
        if isinstance(found := self._said[0], Refusal):
            raise found
        return found

    def dialled(self) -> "dict[Address, Result]":
        """How each route server answers; none where a daemon or another announcer may have the session."""
        with self._lock:
            if not self._results:
                self._results.append(self._dial() if self.dials and not self.status else {})
        return self._results[0]

    def _dial(self) -> "dict[Address, Result]":
        network = self.model.network if self.model else None
        if not network or not isinstance(self.no_status, NobodyAnswers):
            return {}
        with suppress(Unseen):
            if any(one.peer_port == PORT and one.peer in network.profile.peers for one in sockets(self.host)):
                return {}  # another announcer's
        own = self.machine.first_ipv4(one.ip for one in self.floating) if self.machine else None
        speaker = network.speak(own or IPv4Address("192.0.2.1"))
        with ThreadPoolExecutor(len(speaker.peers) or 1) as pool:
            results = pool.map(lambda peer: dial(peer, speaker), speaker.peers)
            return dict(zip(speaker.peers, results, strict=True))


@dataclass(frozen=True, slots=True)
class Route:
    interface: str
    source: str
    gateway: str
    mtu: int | None
    shown: str
    """For the evidence."""


def _route(host: Host, target: Address) -> Route:
    try:
        (found,) = json.loads(host.run("ip", "-json", "route", "get", str(target)))
        metrics: list[dict[str, Any]] = found.get("metrics", [])
        mtu = next((int(one["mtu"]) for one in metrics if "mtu" in one), None)
        interface, source = str(found["dev"]), str(found.get("prefsrc", ""))
    except (ValueError, KeyError, TypeError):
        raise Unseen(f"ip route get {target}: its answer is not understood") from None
    gateway = str(found.get("gateway", ""))
    way = f"via {gateway} " if gateway else ""
    shown = f"ip route get {target}: {way}dev {interface}" + (f" src {source}" if source else "")
    return Route(interface, source, gateway, mtu, shown)


def gather(host: Host, file: Path, observers: tuple[Address, ...] = ()) -> Context:
    """What is not there or cannot be read is left out; the parts say so."""
    context = Context(host, _file_of_unit(file), observers=observers)
    user = machine.daemons_user()
    try:
        context.machine = look_around(user)
    except OSError:
        context.machine = None
    _configuration(context, user)
    try:
        context.status = read(Status, ask(socket_path(), {"cmd": "status"}))
    except NobodyAnswers as error:
        from floatip.absent import explained  # noqa: PLC0415

        context.no_status = explained(error)
    except (ControlError, KeyError, TypeError, ValueError) as error:
        context.no_status = error
    return context


def _file_of_unit(file: Path) -> Path:
    """The one that the unit runs, where the usual one is asked for and is not there (`floatip adopt --replace`)."""
    if str(file) != DEFAULT_CONFIG or file.exists():
        return file
    for command in reversed(machine.unit_settings("ExecStart")):
        _, run, rest = command.partition("floatip run ")
        if run and (words := [word for word in rest.split() if word.startswith("/")]):
            return Path(words[0])
    return file


def _configuration(context: Context, user: str) -> None:
    try:
        context.has_file = context.file.exists()
    except OSError:
        context.has_file = True
    if not context.has_file:
        return
    try:
        given = read_file(context.file, context.machine)
    except ConfigErrors as refused:
        context.errors = tuple(refused.errors)
        return
    try:
        loaded = judged(given, user, context.file, context.machine)
    except ConfigErrors as refused:
        context.errors, context.warnings = tuple(refused.errors), tuple(refused.warnings)
        # What the machine lacks for now leaves the file's own meaning whole.
        if refused.may_mend and not any(isinstance(one, ConfigError) for one in given.problems):
            _without_keys(context, given.model)
        return
    except OSError:
        return
    context.model, context.here, context.warnings = loaded.model, loaded.here, loaded.warnings


def _without_keys(context: Context, model: Model) -> None:
    own = nodes.here(model, context.machine) if context.machine else []
    context.model = model
    if context.machine and len(own) == 1:
        interface = context.machine.interface_of(own[0].address)
        context.here, context.model = Here(own[0], interface), model.on(interface)
