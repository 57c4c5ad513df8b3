"""The lab's pair with a drill on it: what the drill says, and what the network and the kernel say of what it left."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from floatip.drill.cut import TABLE
from floatip.host.ask import Record, ask
from floatip.lab.network import FLOATING, OBSERVER
from floatip.lab.record import RunOptions
from floatip.lab.run import Run
from floatip.observing.summary import read_http

CHECK = 'file = "/nowhere/trigger"'
"""Of both nodes: what differs between them is a problem, and that stands against a drill."""
WHOLE_WITHIN = 10.0
NODES = ("haproxy1", "haproxy2")
QUESTION = b"GET / HTTP/1.0\r\n\r\n"


class Rig:
    def __init__(self, run: Run) -> None:
        self.run = run
        self.drills: list[Drill] = []
        run.start(observed=False)

    def master(self) -> str:
        (name,) = [host for host in NODES if self.instance(host)["role"]["value"] == "master"]
        return name

    def status(self, host: str) -> dict[str, Any]:
        return self.run.nodes[host].status()

    def instance(self, host: str) -> dict[str, Any]:
        one: dict[str, Any] = self.status(host)["instances"][0]
        return one

    def problems(self, host: str) -> dict[str, str]:
        return {one["code"]: one["what"] for one in self.status(host)["problems"]}

    def drill(self, host: str, *words: str) -> "Drill":
        self.drills.append(Drill(self.run, host, words))
        return self.drills[-1]

    def objections(self, host: str) -> list[str]:
        """Against another drill now, at once: a command takes a while to start."""
        request: Record = {
            "cmd": "drill",
            "instance": "VI_1",
            "fault": "check",
            "check": "trigger",
            "for": 5,
            "dry": True,
        }
        answer: dict[str, Any] = ask(self.run.nodes[host].socket, request)
        return [one["what"] for one in answer["objections"]]

    def wait_until_whole(self, within: float = WHOLE_WITHIN) -> float:
        """Seconds until the network is whole, by its own word."""
        began = time.monotonic()
        wrong = self.wrong()
        while wrong and time.monotonic() < began + within:
            time.sleep(0.1)
            wrong = self.wrong()
        assert not wrong, f"after {within:g} s: {wrong}"
        return time.monotonic() - began

    def wrong(self) -> str:
        """What the kernels, the daemons and the clients say against it; empty: nothing."""
        for host in NODES:
            with self.run.network.inside(host):
                tables = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
            if TABLE in tables and "elements" in tables:
                return f"{host} is cut: {tables}"
            if not self.run.holds_address(host):
                return f"{host} does not hold the address"
        try:
            roles = sorted(
                (self.instance(host)["role"]["value"], self.instance(host)["rank"]["value"]) for host in NODES
            )
            drills = [self.status(host)["drill"] for host in NODES]
        except Exception as error:  # no daemon, or one that has just been killed
            return f"a daemon does not answer: {error}"
        if drills != [None, None]:
            return f"a drill runs: {drills}"
        if [role for role, _ in roles] != ["backup", "master"] or roles[0][1] != "standby":
            return f"not one master and one standby: {roles}"
        for host in NODES:
            (peer,) = [node for node in self.status(host)["nodes"] if not node["own"]]
            if peer["state"] != "alive" or peer["sessions_up"] != 4 or peer["drill"]:
                return f"{host} sees {peer}"
            if not self.run.connected(host):
                return f"{host} has lost sessions"
        answers = {self.answer() for _ in range(5)}
        return "" if answers == {self.master()} else f"{answers} answered, {self.master()} is master"

    def answer(self) -> str:
        """Who answers a client on the observer's machine; empty: nobody."""
        data = b""
        with suppress(OSError), self.run.network.inside(OBSERVER.name):
            client = socket.create_connection((str(FLOATING.ip), 80), timeout=1)
            with client:
                client.sendall(QUESTION)
                while chunk := client.recv(4096):
                    data += chunk
        answer = read_http(data, ended=True)
        return (answer and answer.who) or ""


class Drill:
    """`floatip drill` on a node."""

    def __init__(self, run: Run, host: str, words: tuple[str, ...]) -> None:
        daemon = run.nodes[host]
        command = [sys.executable, "-u", "-m", "floatip", "drill", *words]
        with run.network.inside(host):
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **daemon.environment()},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self.said: list[str] = []

    def wait_for(self, words: str) -> None:
        """A line that has them."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.said.append(line)
            if words in line:
                return
        raise AssertionError(f"it never said {words!r}: {''.join(self.said)}")

    def end(self, timeout: float = 120.0) -> tuple[int, str]:
        rest, _ = self.process.communicate(timeout=timeout)
        return self.process.returncode, "".join(self.said) + rest

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()


@contextmanager
def rig(**options: Any) -> Iterator[Rig]:
    with Run(RunOptions(**{"election": "nodes", "check": CHECK, **options})) as run:
        made = Rig(run)
        yield made
        for drill in made.drills:
            drill.kill()


def report(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(path.read_text())
    return read


def wait(true: Callable[[], Any], what: str, within: float = 60.0) -> None:
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline, f"waited {within:g} s for {what}"
        time.sleep(0.05)
