"""What the daemon on this machine says during a drill: of its own node as it happens, and of the others by the link."""

import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock, Thread

from floatip.core.state import NodeView, Status, read
from floatip.drill import said
from floatip.drill.report import Seen, What
from floatip.host.ask import ControlError, NobodyAnswers, ask, changes, socket_path

INTERVAL = 0.1
"""Seconds between two looks at the other nodes."""
AGAIN = 0.1


class Watch:
    """From `start` to `close`. Survives the end of the daemon, and goes on with the next one."""

    def __init__(self, instance: str, status: Status) -> None:
        self._instance = instance
        self._name = said.name_of(status)
        self._over = Event()
        self._lock = Lock()
        self._since = status.monotonic
        self._seen = list(said.at_the_start(status, status.monotonic))
        self._known: dict[tuple[str, str], str] = {}
        self._heard: dict[str, float] = {}
        """When each other node last said how the instance is. One that is heard again has not done so yet."""
        self.status: Status | None = status
        """The latest; None: no daemon answers now."""
        self._note_others(status)
        self._threads = [Thread(target=target, daemon=True) for target in (self._follow, self._poll)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._over.set()

    @property
    def seen(self) -> tuple[Seen, ...]:
        with self._lock:
            return tuple(sorted(self._seen, key=lambda seen: seen.at))

    def wait_for(self, true: Callable[[Status], bool], within: float, stop: Event) -> bool:
        """Whether the status became so; not after `stop`."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline and not stop.is_set():
            if (status := self.status) and true(status):
                return True
            stop.wait(INTERVAL / 2)
        return False

    def _follow(self) -> None:
        """A daemon tells a new watcher what it said before: what is known of that is passed over."""
        latest = self._since
        while not self._over.is_set():
            with suppress(ControlError):
                known = latest
                for record in changes(socket_path(), 0.5):
                    if self._over.is_set():
                        return
                    seen = said.change(record, self._name) if record else None
                    if seen and seen.at > known:
                        with self._lock:
                            self._seen.append(seen)
                        latest = max(latest, seen.at)
            self._over.wait(AGAIN)

    def _poll(self) -> None:
        while not self._over.wait(INTERVAL):
            try:
                self.status = read(Status, ask(socket_path(), {"cmd": "status"}))
            except (NobodyAnswers, ControlError, KeyError, TypeError, ValueError):
                self.status = None
                continue
            self._note_others(self.status)

    def _note_others(self, status: Status) -> None:
        for node in status.nodes:
            if not node.own and node.state == "alive":
                self._note_other(node, status.monotonic)

        if not status.nodes:  # the adverts that this node hears name the master
            for instance in status.instances:
                if instance.name == self._instance and instance.master and instance.role.value != "master":
                    self._note(status.monotonic, instance.master, "role", "master")

    def _note_other(self, node: NodeView, now: float) -> None:
        for one in node.carries:
            if one.instance != self._instance:
                continue
            role, at = "backup", now
            if one.master_since is not None:
                role, at = "master", self._since_when(node.name, one.master_since, now)
            self._note(at, node.name, "role", role)
            self._note(now, node.name, "rank", one.rank)
            self._heard[node.name] = now - (node.heard or 0.0)

    def _since_when(self, node: str, epoch: float, now: float) -> float:
        """By the clock of the node, if that can be: it was not heard while this one was cut off."""
        at = epoch - (time.time() - time.monotonic())
        return at if self._heard.get(node, now) <= at <= now else now

    def _note(self, at: float, node: str, what: What, value: str) -> None:
        if self._known.get((node, what)) != value:
            self._known[node, what] = value
            with self._lock:
                self._seen.append(Seen(at, node, what, self._instance, value, source=self._name))
