"""What else announces or elects on this machine: processes, listening ports, and units that start at the next boot."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from floatip.core import settings
from floatip.doctor.context import Context
from floatip.doctor.finding import Code, Finding, note, problem, unseen, warning, well
from floatip.doctor.host import Host, Unseen
from floatip.doctor.listening import ESTABLISHED, LISTEN, sockets
from floatip.host.ask import NobodyAnswers

ANNOUNCERS = {
    "lelastic": "lelastic.service",
    "gobgpd": "gobgpd.service",
    "bird": "bird.service",
    "bird6": "bird6.service",
    "bgpd": "frr.service",
    "exabgp": "exabgp.service",
    "openbgpd": "openbgpd.service",
}
"""Programs that speak BGP, and the units that start them."""
ELECTORS = {
    "keepalived": "keepalived.service",
    "vrrpd": "frr.service",
    "pacemakerd": "pacemaker.service",
    "corosync": "corosync.service",
    "ucarp": "ucarp.service",
}
GOBGP_PORT, BGP_PORT = 50051, 179
LELASTIC_MODE = "floatip-lelastic.service"


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    name: str
    words: tuple[str, ...]

    @property
    def shown(self) -> str:
        return f"/proc/{self.pid}/cmdline: {' '.join(self.words)[:200]}"


def others(context: Context) -> Iterator[Finding]:
    try:
        processes = list(_processes(context.host))
    except Unseen as error:
        yield unseen(Code.OTHER_ANNOUNCER, "processes", f"what runs here is not seen: {error}")
        return
    found = list(_announcers(context, processes))
    yield from found
    if context.model and context.model.network and not found:
        yield well(Code.OTHER_ANNOUNCER, "BGP", f"nothing else speaks BGP here: {len(processes)} processes", "/proc")
    electors = list(_electors(context, processes))
    yield from electors
    if context.model and not electors:
        yield well(Code.OTHER_ELECTOR, "election", "nothing else elects here", "/proc")


def _processes(host: Host) -> Iterator[Process]:
    """Of this network namespace, as far as it can be seen."""
    own = ""
    with suppress(Unseen):
        own = host.link("/proc/thread-self/ns/net")
    for name in host.names("/proc"):
        if not name.isdigit():
            continue
        with suppress(Unseen):
            if own and host.link(f"/proc/{name}/ns/net") != own:
                continue  # a container's, with route servers and addresses of its own
        with suppress(Unseen):
            words = tuple(word for word in host.text(f"/proc/{name}/cmdline").split("\0") if word)
            yield Process(int(name), host.text(f"/proc/{name}/comm").strip(), words)


def _announcers(context: Context, processes: list[Process]) -> Iterator[Finding]:
    matters = bool(context.model and context.model.network)
    own = context.status.pid if context.status else 0
    units = {}
    for one in processes:
        if one.name in ANNOUNCERS:
            unit = ANNOUNCERS[one.name]
            units[unit] = one
            what = f"{one.name} runs here (pid {one.pid})"
            if matters:
                what += ": route servers accept one session per machine, so it and floatip refuse each other"
                yield problem(Code.OTHER_ANNOUNCER, one.name, what, one.shown, f"systemctl disable --now {unit}")
            else:
                yield note(Code.OTHER_ANNOUNCER, one.name, f"{what} and announces", one.shown)
        elif _is_floatip(one, "run") and own and one.pid != own:
            what = f"a second floatip runs here (pid {one.pid}; the one that answers is pid {own})"
            yield problem(Code.OTHER_ANNOUNCER, "floatip", what, one.shown, f"kill {one.pid}")
        elif _is_floatip(one, "lelastic") and matters:
            what = f"floatip runs here in lelastic mode too (pid {one.pid})"
            yield problem(Code.OTHER_ANNOUNCER, "floatip", what, one.shown, f"systemctl disable --now {LELASTIC_MODE}")
    if matters:
        for unit in (*dict.fromkeys(ANNOUNCERS.values()), LELASTIC_MODE):
            if unit not in units and _is_enabled(context.host, unit):
                what = f"{unit} is enabled: at the next boot it starts beside floatip"
                shown = f"systemctl is-enabled {unit}: enabled"
                yield warning(Code.OTHER_ANNOUNCER, unit, what, shown, f"systemctl disable {unit}")
        yield from _ports(context, known=bool(units))


def _is_floatip(one: Process, verb: str) -> bool:
    words = one.words
    return any(re.fullmatch(r"(.*/)?floatip", words[at]) and words[at + 1] == verb for at in range(len(words) - 1)) or (
        verb == "lelastic" and any(word.endswith("/floatip-lelastic") for word in words[:2])
    )


def _ports(context: Context, *, known: bool) -> Iterator[Finding]:
    """A program by another name, or in a container that shares the network."""
    try:
        every = list(sockets(context.host))
    except Unseen:
        return
    peers = context.model.network.profile.peers if context.model and context.model.network else ()
    for one in every:
        if one.state == LISTEN and one.port in (BGP_PORT, GOBGP_PORT) and not known:
            what = f"something listens on TCP port {one.port} of {one.address}: another announcer?"
            hint = f"ss -tlnp 'sport = :{one.port}'"
            yield warning(
                Code.OTHER_ANNOUNCER, f"port {one.port}", what, f"/proc/net/tcp: {one.address}:{one.port}", hint
            )
        is_bgp = one.state == ESTABLISHED and one.peer_port == BGP_PORT and one.peer in peers
        # A daemon that may not be asked has sessions too.
        if is_bgp and not known and isinstance(context.no_status, NobodyAnswers):
            what = f"something here has a connection to the route server {one.peer}, and no floatip answers"
            hint = "ss -tnp 'dport = :179'"
            yield warning(Code.OTHER_ANNOUNCER, str(one.peer), what, f"/proc/net/tcp: {one.peer}:179", hint)


def _electors(context: Context, processes: list[Process]) -> Iterator[Finding]:
    follows = any(isinstance(one.election, settings.Keepalived) for one in context.instances)
    running: dict[str, Process] = {}
    for one in processes:
        running.setdefault(one.name, one)
    for name, unit in ELECTORS.items():
        is_followed = name == "keepalived" and follows
        process = running.get(name)
        if is_followed and process:
            yield well(Code.OTHER_ELECTOR, name, f"keepalived elects, and floatip follows it (pid {process.pid})")
        elif is_followed:
            what = "keepalived elects for floatip, and does not run"
            yield problem(Code.OTHER_ELECTOR, name, what, "/proc", f"systemctl start {unit}")
        elif process and context.model:
            hint = f"floatip check says whether it elects for the same address; systemctl disable --now {unit}"
            what = f"{name} runs here too (pid {process.pid}), and elects: for one address both would be master"
            yield warning(Code.OTHER_ELECTOR, name, what, process.shown, hint)
        elif process:
            what = f"{name} runs here (pid {process.pid})"
            yield note(Code.OTHER_ELECTOR, name, what, process.shown, "floatip adopt")
        elif context.model and name != "vrrpd" and _is_enabled(context.host, unit):
            what = f"{unit} is enabled: at the next boot it elects beside floatip"
            shown = f"systemctl is-enabled {unit}: enabled"
            yield warning(Code.OTHER_ELECTOR, name, what, shown, f"systemctl disable {unit}")


def _is_enabled(host: Host, unit: str) -> bool:
    """Without systemd: no."""
    with suppress(Unseen):
        return host.run("systemctl", "is-enabled", unit).strip() == "enabled"
    return False
