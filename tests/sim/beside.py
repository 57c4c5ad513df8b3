"""The world of nodes that follow a keepalived: one beside each of them, with its FIFO, its processes and its address.

The keepalived is played with the real router, changed to believe itself however late it wakes, as keepalived does. What
it does reaches floatip by four ways (FIFO, pidfd, kernel, adverts), each with a small delay of its own, so that they
come in any order. What was said is heard and remembered by the host's own `Words`; the rest of the host is played as
`host/keepalived` is written: found by looking every 0.1 s, the last words of a process before its end.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Interface
from math import inf
from typing import Any, Literal

from floatip.core import settings
from floatip.core.addresses import Placed
from floatip.core.election.elector import Obstacles, Role
from floatip.core.election.router import Router
from floatip.core.events import AdvertReceived, Became, Effect, KeepalivedFound, Reloaded, SendAdvert
from floatip.core.vrrp.wire import parse
from floatip.host.keepalived.words import Words
from tests.sim import host
from tests.sim.world import CRASHED, DEAD, FLOATING, FROZEN, INSTANCE, INTERFACE, RUNNING, Machine, World

Word = Literal["MASTER", "BACKUP", "FAULT", "STOP"]
WORDS: dict[str, Word] = {"master": "MASTER", "backup": "BACKUP", "fault": "FAULT", "init": "STOP"}
ON_ITS_INTERFACE = Placed(INTERFACE, IPv4Interface(FLOATING))
BY_NETWORK_HELPER = Placed(INTERFACE, IPv4Interface(f"{FLOATING}/24"))
DELAY = 0.003
STARTING = 0.15
"""Until a stale address is removed (2.2.7)."""
ENDING = 1.0
LOOK_INTERVAL = 0.1


class Elector(Router):
    """keepalived's election; who wakes up late believes itself, and asks nobody."""

    def _wake(self, now: float) -> list[Effect]:
        return []

    def _doubts_silence(self, now: float) -> bool:
        return False


@dataclass(slots=True, eq=False)
class Keepalived:
    """One keepalived, its FIFO, and what floatip's host knows of it."""

    config: settings.Vrrp
    router: Elector
    process: int = 0
    """How many there have been."""
    is_alive: bool = False
    is_hung: bool = False
    is_failing: bool = False
    """Its own check."""
    socket: deque[AdvertReceived] = field(default_factory=deque)
    wake_at: float = inf
    fifo: deque[Word] = field(default_factory=deque)
    fifo_size: int = 1000
    """In lines, as far as nobody reads; 0: as with a notify command, of which nothing is kept."""
    is_fifo_away: bool = False
    has_lost_words: bool = False
    """The last line found nobody that reads, and no place to wait."""
    watched: int = 0
    """The process that floatip has a pidfd of."""
    memory: host.Memory = field(default_factory=host.Memory)
    words: Words = field(init=False)
    """The host's own, of this incarnation of floatip."""

    @property
    def is_heard(self) -> bool:
        return not self.is_fifo_away and not self.has_lost_words

    @property
    def says_fault(self) -> bool:
        return self.is_alive and self.router.role is Role.FAULT

    @property
    def is_master(self) -> bool:
        return self.is_alive and self.router.role is Role.MASTER


class Beside(World):
    """Verbs on top of the world's: what happens to a keepalived, to its FIFO and to the address on its interface."""

    def __init__(self, seed: int = 0, *, fifo_size: int = 1000, **options: Any) -> None:
        self.keepaliveds: dict[str, Keepalived] = {}
        super().__init__(seed, **options)
        for name, keepalived in self.keepaliveds.items():
            keepalived.fifo_size = fifo_size
            self._start(self.nodes[name])

    def _election(self, name: str, vrrp: settings.Vrrp) -> settings.Keepalived:
        self.keepaliveds[name] = Keepalived(vrrp, Elector(name, vrrp, (FLOATING,), 0.0))
        return settings.Keepalived(
            INSTANCE,
            vrrp.interface,
            vrrp.vrid,
            vrrp.priority,
            vrrp.source,
            vrrp.peers,
            version=vrrp.version,
            advert_interval=vrrp.advert_interval,
        )

    @property
    def electors(self) -> list[str]:
        """The nodes of which keepalived is master."""
        return [name for name, each in self.keepaliveds.items() if each.is_master]

    def _is_able(self, node: Machine) -> bool:
        keepalived = self.keepaliveds[node.name]
        return super()._is_able(node) and not keepalived.says_fault and keepalived.is_heard

    # Faults and their mending

    def stop_keepalived(self, name: str) -> None:
        node, keepalived = self._strike("kp-stop", name), self.keepaliveds[name]
        if keepalived.is_alive:
            self._obey(node, keepalived.router.stop("asked to stop", self.now))
            self.at(self.now + ENDING, self._end, node, keepalived.process)

    def kill_keepalived(self, name: str) -> None:
        self._end(self._strike("kp-kill", name), self.keepaliveds[name].process)

    def start_keepalived(self, name: str) -> None:
        self._mend("kp-stop", name)
        self._mend("kp-kill", name)
        if self.nodes[name].power is not CRASHED and not self.keepaliveds[name].is_alive:
            self._start(self.nodes[name])

    def hang_keepalived(self, name: str) -> None:
        self._strike("kp-hang", name)
        self.keepaliveds[name].is_hung = True

    def wake_keepalived(self, name: str) -> None:
        self._mend("kp-hang", name)
        self.keepaliveds[name].is_hung = False
        self._catch_up(self.nodes[name])

    def fail_check(self, name: str) -> None:
        """Of keepalived; the service is well."""
        self._set_check(self._strike("kp-fault", name), is_failing=True)

    def pass_check(self, name: str) -> None:
        self._mend("kp-fault", name)
        self._set_check(self.nodes[name], is_failing=False)

    def lose_fifo(self, name: str) -> None:
        """Made anew by a reload, and not to be opened yet."""
        self._strike("kp-fifo", name)
        self.keepaliveds[name].is_fifo_away = True

    def find_fifo(self, name: str) -> None:
        """As soon as it was made, or by a later look, which takes what it finds for old."""
        self._mend("kp-fifo", name)
        self.keepaliveds[name].is_fifo_away = False
        self._read(self.nodes[name], is_old=self.random.random() < 0.5)

    def strip(self, name: str) -> None:
        """Somebody deletes keepalived's address by hand; it does not notice."""
        self._place(self._strike("kp-strip", name), ON_ITS_INTERFACE, False)

    def dress(self, name: str) -> None:
        """The same person wants it to be as keepalived left it."""
        self._mend("kp-strip", name)
        self._mend("kp-add", name)
        if self.nodes[name].power is not CRASHED:
            self._place_by_role(self.nodes[name], self.keepaliveds[name].process)

    def add_by_hand(self, name: str) -> None:
        self._place(self._strike("kp-add", name), ON_ITS_INTERFACE, True)

    def help(self, name: str) -> None:
        self._place(self._strike("helper", name), BY_NETWORK_HELPER, True)

    def unhelp(self, name: str) -> None:
        self._mend("helper", name)
        self._place(self.nodes[name], BY_NETWORK_HELPER, False)

    def reload(self, name: str) -> None:
        """floatip, with another table of its keepalived: a sync group, of which nobody speaks, comes or goes."""
        node = self._strike("reload", name)
        self._mend("reload", name)
        if node.power is not RUNNING:
            return
        config = node.node.config
        (instance,) = config.instances
        assert isinstance(instance.election, settings.Keepalived)
        election = replace(instance.election, sync_group="" if instance.election.sync_group else "VG")
        changed = replace(config, instances=(replace(instance, election=election),))
        self._handle(node, Reloaded(changed))

    def crash(self, name: str) -> None:
        keepalived = self.keepaliveds[name]
        keepalived.is_alive = keepalived.is_hung = keepalived.has_lost_words = False
        keepalived.fifo.clear()
        keepalived.socket.clear()
        super().crash(name)

    def boot(self, name: str) -> None:
        super().boot(name)
        self._start(self.nodes[name])

    def wake(self, name: str) -> None:
        super().wake(name)
        node = self.nodes[name]
        self._catch_up(node)
        # What had happened meanwhile is found in any order.
        for each in self.random.sample([self._notice, self._read], 2):
            each(node)

    # keepalived

    def runs(self, node: Machine) -> bool:
        keepalived = self.keepaliveds[node.name]
        return keepalived.is_alive and not keepalived.is_hung and node.power not in (FROZEN, CRASHED)

    def _start(self, node: Machine) -> None:
        keepalived = self.keepaliveds[node.name]
        keepalived.process += 1
        keepalived.is_alive, keepalived.wake_at = True, inf
        keepalived.socket.clear()
        keepalived.router = Elector(node.name, keepalived.config, (FLOATING,), self.now)
        self.note(node.name, "keepalived starts", f"process {keepalived.process}")
        self.at(self.now + self.random.uniform(0.01, STARTING), self._begin, node, keepalived.process)
        self.at(self.now + self.random.uniform(0.0, LOOK_INTERVAL), self._notice, node)

    def _begin(self, node: Machine, process: int) -> None:
        if self.keepaliveds[node.name].process != process or not self.keepaliveds[node.name].is_alive:
            return
        if self.runs(node):
            self._place(node, ON_ITS_INTERFACE, False)
            self._judge(node)
        else:
            self.at(self.now + STARTING, self._begin, node, process)

    def _end(self, node: Machine, process: int) -> None:
        keepalived = self.keepaliveds[node.name]
        if keepalived.process != process or not keepalived.is_alive:
            return
        keepalived.is_alive = keepalived.is_hung = keepalived.has_lost_words = False
        if node.power is DEAD:
            keepalived.fifo.clear()  # nobody has it open
        self.note(node.name, "keepalived ends", f"process {process}")
        self._soon(self._notice, node)

    def _set_check(self, node: Machine, *, is_failing: bool) -> None:
        self.keepaliveds[node.name].is_failing = is_failing
        self._judge(node)

    def _judge(self, node: Machine) -> None:
        keepalived = self.keepaliveds[node.name]
        is_stopped = keepalived.router.reason == "asked to stop"
        if self.runs(node) and not is_stopped:
            fault = "its check fails" if keepalived.is_failing else ""
            self._obey(node, keepalived.router.constrain(Obstacles(sick=fault), self.now))

    def _catch_up(self, node: Machine) -> None:
        """Adverts have waited in its socket, and its timers have run out: either may come first."""
        keepalived = self.keepaliveds[node.name]
        if not self.runs(node):
            return
        if self.random.random() < 0.5:
            self._obey(node, keepalived.router.tick(self.now))
        while keepalived.socket:
            self._hear(node, keepalived.socket.popleft())
        self._judge(node)
        self._obey(node, keepalived.router.tick(self.now))

    def _advert(self, receiver: Machine, event: AdvertReceived) -> None:
        for program in (super()._advert, self._queue_advert):
            self._soon(program, receiver, event)

    def _queue_advert(self, receiver: Machine, event: AdvertReceived) -> None:
        keepalived = self.keepaliveds[receiver.name]
        if receiver.deaf or receiver.cut or not keepalived.is_alive:
            return
        keepalived.socket.append(event)
        if self.runs(receiver):
            self._hear(receiver, keepalived.socket.popleft())

    def _hear(self, node: Machine, event: AdvertReceived) -> None:
        advert = parse(event.data, event.source, event.destination)
        self._obey(node, self.keepaliveds[node.name].router.receive(advert, event.source, event.ttl, self.now))

    def _tick_keepalived(self, node: Machine, process: int) -> None:
        keepalived = self.keepaliveds[node.name]
        if keepalived.process == process and keepalived.wake_at <= self.now:
            keepalived.wake_at = inf
            if self.runs(node):
                self._obey(node, keepalived.router.tick(self.now))

    def _obey(self, node: Machine, effects: Iterable[Effect]) -> None:
        keepalived = self.keepaliveds[node.name]
        for effect in effects:
            match effect:
                case SendAdvert():
                    self._perform(node, effect, [])
                case Became("role", _, role, reason):
                    self.note(node.name, f"keepalived {role}", reason)
                    self._soon(self._place_by_role, node, keepalived.process)
                    self._say(node, WORDS[role])
        if keepalived.router.deadline < keepalived.wake_at:
            keepalived.wake_at = max(keepalived.router.deadline, self.now)
            self.at(keepalived.wake_at, self._tick_keepalived, node, keepalived.process)

    def _place_by_role(self, node: Machine, process: int) -> None:
        keepalived = self.keepaliveds[node.name]
        if keepalived.process == process and keepalived.is_alive:
            self._place(node, ON_ITS_INTERFACE, keepalived.is_master)

    def _place(self, node: Machine, placed: Placed, is_there: bool) -> None:
        if node.power is not CRASHED and (placed in node.kernel) is not is_there:
            node.kernel ^= {placed}
            self._kernel_reports(node)

    def _say(self, node: Machine, word: Word) -> None:
        keepalived = self.keepaliveds[node.name]
        is_read = node.power is RUNNING and not keepalived.is_fifo_away
        keepalived.has_lost_words = not is_read and len(keepalived.fifo) >= keepalived.fifo_size
        if not keepalived.has_lost_words:
            keepalived.fifo.append(word)
        self._soon(self._read, node)

    # What the host of floatip learns

    def _soon(self, action: Callable[..., None], *arguments: Any) -> None:
        self.at(self.now + self.random.uniform(0.0, DELAY), action, *arguments)

    def _introduce(self, node: Machine) -> None:
        keepalived = self.keepaliveds[node.name]
        keepalived.watched = 0
        keepalived.words = Words(node.process.report, keepalived.memory, node.process.now)
        keepalived.words.follow([("INSTANCE", INSTANCE)])
        if keepalived.is_alive:
            self._look(node)
        else:
            self._deliver(node, KeepalivedFound(False, "there is none"))
        self._read(node, is_old=True)

    def _look(self, node: Machine) -> None:
        keepalived = self.keepaliveds[node.name]
        if keepalived.is_alive and not keepalived.watched:
            keepalived.watched = keepalived.process
            keepalived.words.begin(f"process {keepalived.process}", keepalived.process)
            self._deliver(node, KeepalivedFound(True, f"process {keepalived.process}"))

    def _notice(self, node: Machine) -> None:
        """A pidfd speaks, or it is time to look again."""
        keepalived = self.keepaliveds[node.name]
        if node.power is not RUNNING:
            return
        if keepalived.watched and not (keepalived.is_alive and keepalived.process == keepalived.watched):
            self._read(node)
            self._deliver(node, KeepalivedFound(False, f"its process {keepalived.watched} has ended"))
            keepalived.watched = 0
            keepalived.words.end()
        self._look(node)

    def _read(self, node: Machine, is_old: bool = False) -> None:
        keepalived = self.keepaliveds[node.name]
        if node.power is not RUNNING or keepalived.is_fifo_away or not keepalived.fifo:
            return
        lines = [f'INSTANCE "{INSTANCE}" {word} 100'.encode() for word in keepalived.fifo]
        keepalived.fifo.clear()
        self._look(node)
        keepalived.words.hear(lines, is_old)
