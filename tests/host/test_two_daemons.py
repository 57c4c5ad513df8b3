"""Daemons of several nodes, each in a network namespace of its own, joined by a bridge in that of the test."""

import asyncio
import inspect
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from floatip import verbs  # noqa: F401  # other users may not import it
from floatip.host.ask import ControlError, ask
from tests.command_line import floatip
from tests.core.schema import faults, schema
from tests.host.conftest import CLONE_NEWNET, entered
from tests.host.users import as_user

PAUSES = "no node that hears this one takes over or yields until: floatip resume"
CONFIG = """\
[link]
interval = 0.2

[[node]]
name = "haproxy1"
address = "10.0.0.1"

[[node]]
name = "haproxy2"
address = "10.0.0.2"

[[instance]]
name = "web"
addresses = ["192.0.2.10/32"]
placement = "master"

[[instance]]
name = "mail"
addresses = ["192.0.2.11/32"]
placement = "master"
"""
WEB, MAIL = "192.0.2.10", "192.0.2.11"
API = """
[[instance]]
name = "api"
addresses = ["192.0.2.12/32"]
placement = "master"
"""
THIRD = """
[[node]]
name = "haproxy3"
address = "10.0.0.3"
"""
VRRP = (
    'placement = "master"\n'
    'vrrp = { interface = "eth0", vrid = 51, priority = 100, source = "10.0.0.1", peers = ["10.0.0.2"] }'
)
GROUP = 64130
"""Of the daemon, and so of its socket."""


PROGRAM = """
import contextlib, os, sys
from floatip.host.daemon import run
with contextlib.suppress(PermissionError):
    os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(10))
{before}
sys.exit(run({file!r}))
"""
"""As the unit runs it: on a busy machine another node must not seem silent."""


class Host:
    """A machine: a network namespace, a directory, and the daemon in them."""

    def __init__(self, directory: Path, number: int) -> None:
        self.name, self.address = f"haproxy{number}", f"10.0.0.{number}"
        self.directory = directory / self.name
        self.directory.mkdir()
        self.file, self.key, self.log = (self.directory / name for name in ("floatip.toml", "key", "log"))
        self.socket = self.directory / "run" / "floatip.sock"
        self.orders = self.directory / "state" / "orders.json"
        self.process: subprocess.Popen[bytes] | None = None
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notified.bind(str(self.directory / "notified"))
        with entered("net", CLONE_NEWNET):
            self.namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        path = f"/proc/{os.getpid()}/fd/{self.namespace}"
        self.inside = ["nsenter", f"--net={path}"]
        run("ip", "link", "add", f"port{number}", "type", "veth", "peer", "name", "eth0", "netns", path)
        run("ip", "link", "set", f"port{number}", "master", "bridge", "up")
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "RUNTIME_DIRECTORY": str(self.socket.parent),
            "STATE_DIRECTORY": str(self.orders.parent),
            "NOTIFY_SOCKET": str(self.directory / "notified"),
        }

    def run(self, *command: str) -> str:
        return run(*self.inside, *command)

    # The daemon

    def start(self, before: str = "pass") -> None:
        program = PROGRAM.format(before=before, file=str(self.file))
        command = [*self.inside, "setpriv", f"--regid={GROUP}", "--clear-groups", sys.executable, "-c", program]
        self._forget_notified()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=self.environment, stderr=log)

    def reload(self, config: str | None = None) -> None:
        """Ends when the daemon says that it has read the file."""
        if config is not None:
            self.file.write_text(config)
        self._forget_notified()
        self.signal(signal.SIGHUP)
        while b"READY=1" not in self.notified.recv(4096):
            pass

    def _forget_notified(self) -> None:
        """No more than ten may wait, and what finds no room is not said."""
        self.notified.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self.notified.recv(4096)
        self.notified.settimeout(60)

    def signal(self, number: int) -> None:
        assert self.process
        self.process.send_signal(number)

    def stop(self) -> None:
        self.signal(signal.SIGTERM)
        assert self.process
        assert self.process.wait(60) == 0

    def kill(self) -> None:
        if self.runs():
            assert self.process
            self.process.kill()
            self.process.wait()

    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    # What is asked of it

    def command(self, *words: str) -> tuple[int, str]:
        """The exit status, and all that it says."""
        process = self.begin(*words)
        said, _ = process.communicate(timeout=60)
        return process.returncode, said

    def begin(self, *words: str) -> subprocess.Popen[str]:
        command = [*self.inside, sys.executable, "-m", "floatip", *words]
        pipe, out = subprocess.PIPE, subprocess.STDOUT
        return subprocess.Popen(command, env=self.environment, stdout=pipe, stderr=out, text=True)

    def ask(self, cmd: str, **fields: Any) -> dict[str, Any]:
        return ask(self.socket, {"cmd": cmd, **fields}, timeout=60)

    def status(self) -> dict[str, Any]:
        try:
            return self.ask("status")
        except ControlError:
            return {"instances": [], "nodes": [], "problems": []}

    def roles(self) -> dict[str, str]:
        return {one["name"]: one["role"]["value"] for one in self.status()["instances"]}

    def is_master(self, *instances: str) -> bool:
        roles = self.roles()
        return all(roles.get(name) == "master" for name in instances or ("web", "mail"))

    def carries_nothing(self) -> bool:
        return "master" not in self.roles().values() and not self.held()

    def problems(self) -> set[str]:
        return {one["code"] for one in self.status()["problems"]}

    def problem(self, code: str) -> str:
        """What it says of it; empty: there is none."""
        return "; ".join(one["what"] for one in self.status()["problems"] if one["code"] == code)

    def sees(self) -> dict[str, str]:
        return {one["name"]: one["state"] for one in self.status()["nodes"]}

    def view(self, name: str) -> dict[str, Any]:
        """What it knows of a node."""
        return next(one for one in self.status()["nodes"] if one["name"] == name)

    def held(self) -> set[str]:
        links = json.loads(self.run("ip", "-json", "-4", "address", "show"))
        return {address["local"] for link in links for address in link["addr_info"]} - {"127.0.0.1", self.address}

    def news(self, *what: str) -> list[str]:
        """Of its log since the last `forget_news`."""
        lines = self.log.read_text()[self._known :].splitlines()
        return [line[9:] for line in lines if line[9:].startswith(what)]

    _known = 0

    def forget_news(self) -> None:
        self._known = len(self.log.read_text())

    def deafen(self, address: str) -> None:
        self.run(
            "nft", f"table inet deaf {{ chain in {{ type filter hook input priority 0; ip saddr {address} drop; }}; }}"
        )

    def undeafen(self) -> None:
        self.run("nft", "delete table inet deaf")


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def wait(true: Callable[[], Any], timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, f"waited {timeout:g} s for: {inspect.getsource(true).strip()}"
        time.sleep(0.02)


class Lan:
    def __init__(self, directory: Path) -> None:
        self.one, self.two = self.hosts = [Host(directory, number) for number in (1, 2)]
        assert self.one.command("key", str(self.one.key))[0] == 0
        self.key = self.one.key.read_text()

    def make_whole(self) -> None:
        """As it is when nothing has happened, whatever the test before has left."""
        for host in self.hosts:
            if not host.runs():
                shutil.rmtree(host.orders.parent, ignore_errors=True)  # it would remember how often it was killed
            is_changed = not host.file.exists() or (host.file.read_text(), host.key.read_text()) != (CONFIG, self.key)
            host.file.write_text(CONFIG)
            host.key.write_text(self.key)
            host.key.chmod(0o640)
            if not host.runs():
                host.start()
            elif is_changed:
                host.reload()
        wait(lambda: all(set(host.sees().values()) == {"this node", "alive"} for host in self.hosts))
        for host in self.hosts:
            host.ask("undrain")
            host.ask("resume")
        wait(lambda: not any(host.problems() for host in self.hosts))
        wait(lambda: sorted([*self.one.held(), *self.two.held()]) == [WEB, MAIL])
        for host in self.hosts:
            host.forget_news()

    def settled(self) -> bool:
        return not any(host.problems() for host in self.hosts)

    def on_one(self) -> None:
        """Both instances."""
        if self.two.is_master("web") or self.two.is_master("mail"):
            wait(lambda: "refused" not in self.two.ask("handover"))  # the other one has yet to say how it is
        wait(lambda: self.one.held() == {WEB, MAIL} and self.two.held() == set())
        wait(self.settled)
        for host in self.hosts:
            host.forget_news()


@pytest.fixture(scope="module")
def switch() -> Iterator[Lan]:
    with tempfile.TemporaryDirectory() as directory, entered("net", CLONE_NEWNET):
        Path(directory).chmod(0o755)
        for words in ("link set lo up", "link add bridge type bridge", "link set bridge up"):
            run("ip", *words.split())
        lan = Lan(Path(directory))
        yield lan
        for host in lan.hosts:
            host.kill()
            os.close(host.namespace)
            host.notified.close()


@pytest.fixture
def lan(switch: Lan) -> Iterator[Lan]:
    """Haproxy1 carries both instances, and nothing is wrong."""
    switch.make_whole()
    switch.on_one()
    yield switch
    for host in switch.hosts:
        print(host.name, *host.news(""), sep="\n")


@contextmanager
def watched(host: Host) -> Iterator[list[dict[str, Any]]]:
    """What happens there meanwhile, all of it after the end."""
    records: list[dict[str, Any]] = []
    with socket.socket(socket.AF_UNIX) as watcher:
        watcher.settimeout(60)
        watcher.connect(str(host.socket))
        watcher.sendall(b'{"cmd": "watch"}\n')
        begins = time.monotonic()
        with watcher.makefile() as lines:
            yield records
            watcher.shutdown(socket.SHUT_WR)
            records += [one for one in map(json.loads, lines) if one["at"] >= begins]


def at(records: list[dict[str, Any]], what: str, name: str, value: str) -> float:
    return next(float(one["at"]) for one in records if (one["what"], one["name"], one["value"]) == (what, name, value))


# All is well


def test_the_answers_of_real_nodes_are_as_the_schema_says(lan: Lan) -> None:
    for host in lan.hosts:
        answer = host.ask("status")
        assert faults(answer, schema(), schema()) == []
        assert (answer["host"], answer["network"]) == (socket.gethostname(), None)
        assert [len(node["carries"]) for node in answer["nodes"]] == [2, 2]


def test_two_nodes_know_each_other_and_one_carries_each_instance(lan: Lan) -> None:
    wait(lambda: not any(node["problems"] for host in lan.hosts for node in host.status()["nodes"]))
    for host in lan.hosts:
        status, said = host.command("nodes")
        assert status == 0
        lines = [line.split() for line in said.splitlines()]
        assert lines[2] == ["10.0.0.1", "web,", "mail", "at", "active"]
        assert lines[4] == ["10.0.0.2", "web,", "mail", "at", "standby"]
        status, said = host.command("status")
        assert (status, said.splitlines()[0].split()[1]) == (0, "OK")


CHECKED = (
    CONFIG.replace('name = "mail"', 'name = "mail"\nchecks = ["app"]')
    + """
[[check]]
name = "app"
tcp = "127.0.0.1:8080"
interval = 0.2
"""
)
SERVICE = """
import socket
server = socket.create_server(("127.0.0.1", 8080))
print("listens", flush=True)
while True:
    server.accept()[0].close()
"""


def test_each_node_shows_the_checks_and_problems_of_the_other(lan: Lan) -> None:
    services = [
        subprocess.Popen([*host.inside, sys.executable, "-c", SERVICE], stdout=subprocess.PIPE) for host in lan.hosts
    ]
    try:
        for service in services:
            assert service.stdout
            assert service.stdout.readline() == b"listens\n"
        for host in lan.hosts:
            host.reload(CHECKED)
        wait(lambda: all(_told(lan, host, "app", "up", set()) for host in lan.hosts))
        services[1].kill()
        wait(lambda: _told(lan, lan.two, "app", "down", {"unhealthy"}))
        status, said = lan.one.command("nodes", "--json")
        assert status == 0, "it lives, and hears this node"
        view = next(node for node in json.loads(said) if node["name"] == "haproxy2")
        (check,) = view["checks"]
        assert (check["name"], check["value"], check["last_result"]) == ("app", "down", "connection refused")
        (problem,) = (one for one in view["problems"] if one["code"] == "unhealthy")
        assert (problem["severity"], problem["subject"]) == ("problem", "mail")
        assert problem["what"] == "mail is not healthy: check app: connection refused"
        assert problem["hint"]
        assert 0 <= view["reported"] < 20
        assert "\n  problems: unhealthy\n" in lan.one.command("nodes")[1] + "\n"
        lan.one.signal(signal.SIGSTOP)
        wait(lambda: lan.two.view("haproxy1")["state"] == "silent")
        silent = lan.two.view("haproxy1")
        assert (silent["reported"], silent["checks"], silent["problems"]) == (None, [], [])
        lan.one.signal(signal.SIGCONT)
        wait(lambda: _told(lan, lan.one, "app", "up", {"no-standby"}))
    finally:
        for service in services:
            service.kill()
            service.communicate()


def _told(lan: Lan, host: Host, check: str, value: str, problems: set[str]) -> bool:
    """Whether both nodes, asked for this one, say that of its check and its problems."""
    views = [each.view(host.name) for each in lan.hosts]
    return all(
        [(one["name"], one["value"]) for one in view["checks"]] == [(check, value)]
        and {one["code"] for one in view["problems"]} == problems
        for view in views
    )


# A node ends


def test_a_node_that_is_killed_is_replaced_and_takes_nothing_back(lan: Lan) -> None:
    lan.one.kill()
    wait(lambda: lan.two.held() == {WEB, MAIL})
    wait(lambda: lan.two.problems() == {"node-silent", "no-standby"})
    assert lan.two.command("nodes")[0] == lan.two.command("status")[0] == 1
    assert [line.split(":")[0] for line in lan.two.news("node", "web", "mail")] == [
        "node haproxy1 gone",
        "web",
        "mail",
    ]
    assert all(": MASTER at rank active: " in line for line in lan.two.news("web", "mail"))
    lan.one.forget_news()
    lan.one.start()
    wait(lambda: lan.one.sees().get("haproxy2") == "alive" and lan.settled())
    assert [line.partition(",")[0] for line in lan.one.news("web", "mail")] == [
        "web: BACKUP at rank standby",
        "mail: BACKUP at rank standby",
    ]
    assert lan.two.held() == {WEB, MAIL}


def test_a_failover_is_in_the_histories_of_both_nodes_and_its_steps_add_up(lan: Lan) -> None:
    began = time.time()
    lan.one.signal(signal.SIGSTOP)
    frozen_at = time.monotonic()
    wait(lambda: lan.two.is_master("web"))
    lan.one.signal(signal.SIGCONT)
    wait(lambda: lan.one.carries_nothing() and lan.settled())
    since = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(began))
    histories = []
    for host in lan.hosts:
        status, said = host.command("history", "--json", "--since", since)
        assert status == 0
        records = [json.loads(line) for line in said.splitlines()]
        assert {record["node"] for record in records} == {host.name}
        histories.append([record for record in records if record["monotonic"] > frozen_at])
    one, two = histories

    def found(records: list[dict[str, Any]], *key: str) -> dict[str, Any]:
        return next(each for each in records if (each["what"], each["name"], each["value"]) == key)

    role, takeover = found(two, "role", "web", "master"), found(two, "takeover", "web", "complete")
    assert (role["before"], role["reason"]) == ("backup", "haproxy1, which was master, is silent")
    assert found(two, "node", "haproxy1", "gone")["reason"].startswith("silent for ")
    yielded = found(one, "role", "web", "backup")
    assert (yielded["before"], yielded["reason"]) == ("master", "haproxy2 took over")
    assert yielded["time"] > role["time"]
    took = takeover["took"]
    assert took["wire"] is None, "there is no BGP"
    assert 0.6 <= took["detected"] <= takeover["monotonic"] - frozen_at + 0.25, "the last hello was before the freeze"
    # Each step begins where the one before it ends, and the last one ends with this line.
    assert role["monotonic"] + took["acknowledged"] == pytest.approx(takeover["monotonic"], abs=1e-5)
    gone = found(two, "node", "haproxy1", "gone")["monotonic"]
    assert gone + took["decided"] == pytest.approx(role["monotonic"], abs=1e-5)
    wait(lambda: len(lan.two.status()["recent"]) == 3)
    shown = {(each["what"], each["name"]) for each in lan.two.status()["recent"]}
    assert ("node", "haproxy1") in shown
    assert lan.two.command("history", "--instance", "web")[1].count("takeover web") >= 1


def test_a_node_that_was_suspended_finds_that_it_was_replaced(lan: Lan) -> None:
    lan.one.signal(signal.SIGSTOP)
    wait(lambda: lan.two.held() == {WEB, MAIL})
    lan.one.signal(signal.SIGCONT)
    wait(lambda: lan.one.held() == set() and lan.settled())
    assert lan.two.held() == {WEB, MAIL}
    assert not [line for line in lan.two.news("web", "mail") if "BACKUP" in line], "it stays with it"


def test_a_node_that_is_stopped_hands_over_first(lan: Lan) -> None:
    with watched(lan.two) as of_two:
        with watched(lan.one) as of_one:
            lan.one.stop()
        wait(lan.two.is_master)
    for name in ("web", "mail"):
        assert at(of_two, "role", name, "master") < at(of_one, "role", name, "backup")
    assert at(of_one, "node", "haproxy1", "leaving") < at(of_two, "role", "web", "master")
    reasons = {one["reason"] for one in of_two if one["value"] == "master"}
    assert reasons == {"haproxy1 hands over: it is stopping"}
    wait(lambda: lan.two.held() == {WEB, MAIL})


# Orders


def test_drain_and_undrain(lan: Lan) -> None:
    status, said = lan.one.command("drain", "--reason", "kernel 6.12", "--for", "2h")
    assert status == 0
    assert said.splitlines()[-1].endswith(" s: haproxy2 carries web; haproxy2 carries mail")
    wait(lambda: lan.two.held() == {WEB, MAIL} and lan.one.held() == set())
    wait(lambda: lan.two.view("haproxy1")["drained"])
    for host in lan.hosts:
        seen = host.view("haproxy1")
        assert (seen["reason"], seen["paused"], 7100 < seen["until"] <= 7200) == ("kernel 6.12", False, True)
        assert "drained for 2 h more: kernel 6.12" in host.command("nodes")[1].replace("1 h 59 min", "2 h")
    wait(lambda: lan.one.problems() == {"drained"} and lan.two.problems() == {"no-standby"})
    assert "web: MASTER at rank active: haproxy1 hands over: it is drained: kernel 6.12" in lan.two.news("web")
    assert lan.one.command("drain")[0] == 0, "it says how it stands"
    status, said = lan.one.command("undrain")
    assert (status, said.split(": ")[1]) == (0, "haproxy1 is in service, and ready to take over\n")
    wait(lan.settled)
    assert lan.two.held() == {WEB, MAIL}, "nothing moves back"


def test_what_a_check_of_an_order_foresees_is_what_the_order_does(lan: Lan) -> None:
    rest = "haproxy1 takes over nothing until: floatip undrain"
    assert lan.one.ask("handover", instance="web", check=True)["would"] == ["haproxy2 takes over web"]
    moves = ["haproxy2 takes over web", "haproxy2 takes over mail"]
    assert lan.one.ask("drain", check=True)["would"] == [*moves, rest]
    assert lan.two.ask("handover", instance="mail", check=True)["refused"] == "this node does not carry mail"
    assert lan.one.held() == {WEB, MAIL}, "nothing is done"
    assert not lan.one.view("haproxy1")["drained"]
    assert lan.one.command("drain")[0] == 0
    wait(lambda: lan.two.held() == {WEB, MAIL})
    assert lan.one.ask("drain", check=True)["would"] == ["haproxy1 carries nothing, so no traffic moves", rest]
    assert lan.one.ask("undrain", check=True)["would"] == ["haproxy1 takes part in elections again"]
    assert lan.one.ask("pause", check=True)["would"] == [PAUSES]


def test_a_drained_node_announces_nothing_if_asked_to_withdraw(lan: Lan) -> None:
    def ranks() -> set[str]:
        return {one["rank"]["value"] for one in lan.one.status()["instances"]}

    assert lan.one.command("drain")[0] == 0
    wait(lambda: lan.two.held() == {WEB, MAIL} and ranks() == {"standby"})
    assert lan.one.command("drain", "--withdraw")[0] == 0
    wait(lambda: ranks() == {"none"})
    assert lan.one.status()["instances"][0]["rank"]["reason"] == "drained, and asked to withdraw"
    lan.one.stop()
    lan.one.start()
    wait(lambda: lan.one.status()["instances"] and ranks() == {"none"} and lan.one.roles()["web"] == "backup")
    assert lan.one.command("undrain")[0] == 0
    wait(lambda: ranks() == {"standby"})


def test_a_drain_ends_when_its_time_is_over(lan: Lan) -> None:
    assert lan.one.command("drain", "--for", "1s")[0] == 0
    wait(lambda: lan.one.news("node haproxy1 in service"))
    wait(lan.settled)
    wait(lambda: json.loads(lan.one.orders.read_text())["drained"] is None)  # another thread writes it


def test_a_drain_outlives_a_reload_that_takes_the_nodes_away(lan: Lan) -> None:
    assert lan.one.command("drain", "--reason", "kernel")[0] == 0
    alone = CONFIG.partition("[[instance]]")[2]
    vrrp = "[[instance]]" + alone.replace('placement = "master"', VRRP).replace("51", "52", 1)
    lan.one.reload(vrrp)
    assert lan.one.status()["nodes"] == []
    lan.one.reload(CONFIG)
    wait(lambda: lan.one.view("haproxy1")["drained"] and lan.one.view("haproxy1")["reason"] == "kernel")
    assert "master" not in lan.one.roles().values()


def test_a_drain_outlives_the_daemon_and_the_boot(lan: Lan) -> None:
    assert lan.one.command("drain", "--reason", "kernel")[0] == 0
    lan.one.stop()
    lan.one.start("from pathlib import Path; from floatip.host import disk; disk._boot = lambda: 'another'")
    wait(lambda: lan.two.view("haproxy1")["state"] == "alive" and lan.two.view("haproxy1")["drained"])
    assert lan.one.view("haproxy1")["reason"] == "kernel"
    assert "master" not in lan.one.roles().values()
    lan.one.stop()
    lan.one.orders.write_text('{"boot": "any", "drained": {"reason": "kernel", "until": Infinity}, "paused": null}')
    lan.one.start()
    wait(lambda: lan.one.sees().get("haproxy2") == "alive")
    assert "not understood, so ignored: an end is not a time" in lan.one.problem("failure")
    assert not lan.one.view("haproxy1")["drained"]


def test_handover_of_one_instance_and_of_all(lan: Lan) -> None:
    status, said = lan.one.command("handover", "mail", "--to", "haproxy2")
    assert (status, said.splitlines()[-1].split(": ")[1]) == (0, "haproxy2 carries mail")
    wait(lambda: (lan.one.held(), lan.two.held()) == ({WEB}, {MAIL}))
    status, said = lan.one.command("handover")
    assert (status, said.splitlines()[-1].split(": ")[1]) == (0, "haproxy2 carries web")
    wait(lambda: (lan.one.held(), lan.two.held()) == (set(), {WEB, MAIL}))
    wait(lan.settled)


def test_pause_keeps_both_nodes_from_moving_anything(lan: Lan) -> None:
    status, said = lan.two.command("pause", "--reason", "switch work", "--for", "1h")
    assert (status, said.split(": ", 1)[1]) == (0, f"{PAUSES}\n")
    wait(lambda: lan.one.view("haproxy2")["paused"])
    refused = "no node takes over now: haproxy2 has paused the election [election-paused]\n"
    refused += "hint: on haproxy2: floatip resume\n"
    for verb in ("drain", "handover"):
        assert lan.one.command(verb) == (1, f"error: {verb} refused: {refused}")
    lan.one.kill()
    wait(lambda: lan.two.sees()["haproxy1"] == "silent")
    wait(lambda: "nobody-serves" in lan.two.problems())
    assert lan.two.held() == set()
    shown = " ".join(lan.two.command("status")[1].split())
    assert "master, and no node takes over (paused: switch work) [nobody-serves] hint: let the nodes elect" in shown
    assert "state does not take over: paused for 59 min more: switch work" in shown
    assert lan.two.command("explain", "web")[1].startswith("web: no node that is heard carries it\n")
    assert lan.two.command("resume")[0] == 0
    wait(lambda: lan.two.held() == {WEB, MAIL})


def test_what_is_refused_says_why_and_changes_nothing(lan: Lan) -> None:
    unknown, others = "[unknown-name]", "hint: the others are: haproxy2"
    refusals = {
        "handover api": f"there is no instance api {unknown}\nhint: the instances are: web, mail",
        "handover web --to haproxy9": f"haproxy9 is no node of the configuration {unknown}\n{others}",
        "handover web --to haproxy1": f"haproxy1 is this node {unknown}\n{others}",
    }
    for words, why in refusals.items():
        assert lan.one.command(*words.split()) == (1, f"error: handover refused: {why}\n")
    here = "this node does not carry web [carried-elsewhere]\nhint: haproxy1 does; run it there"
    assert lan.two.command("handover", "web") == (1, f"error: handover refused: {here}\n")
    nothing = "this node carries nothing [carried-elsewhere]\nhint: see who does: floatip nodes"
    assert lan.two.command("handover") == (1, f"error: handover refused: {nothing}\n")
    assert lan.one.news("web", "mail", "node") == lan.two.news("web", "mail", "node") == []


def test_the_last_node_refuses_to_drain_unless_forced_and_leaves_as_soon_as_it_can(lan: Lan) -> None:
    assert lan.two.command("drain")[0] == 0
    wait(lambda: lan.one.view("haproxy2")["drained"])
    for verb in ("drain", "handover"):
        status, said = lan.one.command(verb)
        assert (status, said.splitlines()[0]) == (
            1,
            f"error: {verb} refused: no other node could take over web: haproxy2 is drained [nobody-ready]",
        )
    status, said = lan.one.command("drain", "--force")
    assert (status, said.split(": ", 1)[1]) == (0, "web, mail stays here until another node is ready\n")
    assert lan.one.held() == {WEB, MAIL}
    assert lan.two.command("undrain")[0] == 0
    wait(lambda: (lan.one.held(), lan.two.held()) == (set(), {WEB, MAIL}))


def test_nothing_is_handed_over_to_a_node_that_is_gone(lan: Lan) -> None:
    lan.two.kill()
    wait(lambda: lan.one.sees()["haproxy2"] == "silent")
    status, said = lan.one.command("drain")
    assert (status, said.splitlines()[0]) == (
        1,
        "error: drain refused: no other node could take over web: haproxy2 is silent [nobody-ready]",
    )
    assert lan.one.held() == {WEB, MAIL}


def test_a_target_that_freezes_meanwhile_leaves_all_as_it_was(lan: Lan) -> None:
    lan.two.signal(signal.SIGSTOP)
    status, said = lan.one.command("handover", "web")
    assert lan.one.is_master("web", "mail")
    lan.two.signal(signal.SIGCONT)
    assert status == 1
    assert "haproxy2 is silent" in said
    wait(lambda: sorted([*lan.one.held(), *lan.two.held()]) == [WEB, MAIL] and lan.settled())


def test_what_the_nodes_do_not_elect_is_not_handed_over(lan: Lan) -> None:
    lan.one.reload(CONFIG + f'[[instance]]\nname = "old"\naddresses = ["192.0.2.13/32"]\n{VRRP}\n')
    status, said = lan.one.command("handover", "old")
    assert status == 1
    assert said.startswith("error: handover refused: VRRP elects the master of old: ")
    alone = CONFIG[CONFIG.index("[[instance]]") : CONFIG.index('[[instance]]\nname = "mail"')]
    lan.one.reload(alone.replace('placement = "master"', VRRP))
    for verb in ("drain", "undrain", "pause", "resume", "handover"):
        status, said = lan.one.command(verb)
        assert status == 1
        assert said.startswith(
            f"error: {verb} refused: no [[node]] is configured: this node knows no others [no-nodes]\n"
        )
    assert lan.one.command("nodes")[0] == 1


# The key


def test_another_key_is_refused_on_both_nodes_and_named(lan: Lan) -> None:
    lan.two.key.write_text("ab" * 32 + "\n")
    lan.two.reload()
    for host, other in ((lan.one, "haproxy2"), (lan.two, "haproxy1")):
        wait(lambda host=host: "node-refused" in host.problems())  # type: ignore[misc]
        assert host.problem("node-refused") == f"what {other} says is refused: signed with another key"
        assert host.command("nodes")[0] == 1
    lan.two.key.write_text(lan.key)
    lan.two.reload()
    wait(lan.settled)
    wait(lambda: sorted([*lan.one.held(), *lan.two.held()]) == [WEB, MAIL])


def test_the_key_is_replaced_without_a_gap(lan: Lan) -> None:
    for step in ("--next", "--use-next", "--drop-old"):
        assert lan.one.command("key", str(lan.one.key), step)[0] == 0
        for host in (lan.one, lan.two):
            host.key.write_text(lan.one.key.read_text())
            host.reload()
            wait(lan.settled)
    assert lan.one.key.read_text() != lan.key
    assert lan.one.news("web", "mail", "node") == lan.two.news("web", "mail", "node") == []
    lan.key = lan.one.key.read_text()


# What is wrong between them


@pytest.mark.parametrize("deaf_is_master", [False, True])
def test_loss_in_one_direction_is_named_where_it_can_be_known(deaf_is_master: bool, lan: Lan) -> None:
    deaf, heard = (lan.one, lan.two) if deaf_is_master else (lan.two, lan.one)
    deaf.deafen(heard.address)
    wait(lambda: "node-silent" in deaf.problems() and "node-deaf" in heard.problems())
    assert heard.problem("node-deaf") == f"{deaf.name} does not hear this node, and this node hears it"
    assert "node-deaf" not in deaf.problems()
    assert deaf.command("nodes")[0] == heard.command("nodes")[0] == 1
    wait(lambda: len(lan.one.held()) + len(lan.two.held()) == 2)
    deaf.undeafen()
    wait(lambda: sorted([*lan.one.held(), *lan.two.held()]) == [WEB, MAIL] and lan.settled())


def test_a_stranger_is_named(lan: Lan) -> None:
    run("ip", "address", "add", "10.0.0.9/24", "dev", "bridge")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"x", ("10.0.0.1", 9112))
        wait(lambda: "link-stranger" in lan.one.problems())
    assert lan.one.problem("link-stranger").startswith("10.0.0.9 sends to the port of the link")
    assert lan.one.command("nodes")[0] == 0
    lan.one.kill()  # it would be told for minutes


def test_swapped_addresses_are_refused_on_both_nodes(lan: Lan) -> None:
    lan.two.reload(CONFIG.replace("haproxy1", "x").replace("haproxy2", "haproxy1").replace("x", "haproxy2", 1))
    for host in lan.hosts:
        wait(lambda host=host: "says that it is another node" in host.problem("node-refused"))  # type: ignore[misc]
    lan.two.reload(CONFIG)
    wait(lan.settled)
    wait(lambda: sorted([*lan.one.held(), *lan.two.held()]) == [WEB, MAIL])


# Reloads


def test_an_instance_is_added_on_one_node_and_then_on_the_other(lan: Lan) -> None:
    lan.two.reload(CONFIG + API)
    for host in lan.hosts:
        wait(lambda host=host: "other-configuration" in host.problems())  # type: ignore[misc]
    wait(lambda: lan.two.held() == {"192.0.2.12"})
    wait(lambda: lan.two.problem("no-standby") == "api: no other node could take over: haproxy1 has no instance api")
    lan.one.reload(CONFIG + API)
    wait(lan.settled)
    assert (lan.one.held(), lan.two.held()) == ({WEB, MAIL}, {"192.0.2.12"})
    assert [line.partition(",")[0] for line in lan.one.news("web", "mail", "api")] == ["api: BACKUP at rank standby"]
    for host in lan.hosts:
        host.reload(CONFIG)
    wait(lambda: lan.two.held() == set() and lan.settled())


def test_a_node_is_added_and_removed(lan: Lan) -> None:
    for host in lan.hosts:
        host.reload(CONFIG + THIRD)
    wait(
        lambda: all(host.sees().get("haproxy3") == "unheard" and "node-silent" in host.problems() for host in lan.hosts)
    )
    for host in lan.hosts:
        host.reload(CONFIG)
    wait(lan.settled)
    without_two = CONFIG.replace('[[node]]\nname = "haproxy2"\naddress = "10.0.0.2"\n', THIRD)
    lan.one.reload(without_two)
    wait(lambda: lan.two.sees()["haproxy1"] == "silent")
    wait(lambda: "link-stranger" in lan.one.problems())
    lan.one.reload(CONFIG)
    wait(lambda: lan.one.sees()["haproxy2"] == lan.two.sees()["haproxy1"] == "alive")
    wait(lan.settled)


def test_interval_and_port_are_changed_on_one_node_after_the_other(lan: Lan) -> None:
    slower = CONFIG.replace("interval = 0.2", "interval = 0.4")
    for host in lan.hosts:
        host.reload(slower)
        wait(lambda: all(set(each.sees().values()) == {"this node", "alive"} for each in lan.hosts))
    wait(lan.settled)
    assert lan.one.news("web", "mail", "node") == lan.two.news("web", "mail", "node") == []
    other = slower.replace("[link]", "[link]\nport = 9113")
    lan.one.reload(other)
    wait(lambda: "node-silent" in lan.one.problems() and "node-silent" in lan.two.problems())
    lan.two.reload(other)
    wait(lan.settled)
    wait(lambda: sorted([*lan.one.held(), *lan.two.held()]) == [WEB, MAIL])


# Who may


def test_orders_are_for_root_and_the_group_of_the_socket(lan: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(lan.one.socket.parent))
    words = "drain", "undrain", "handover", "pause", "resume"
    for verb in words:
        status, said = json.loads(asyncio.run(as_user(lambda verb=verb: json.dumps(floatip(verb)))))  # type: ignore[misc]
        assert (status, said.split("\n")[0]) == (4, f"error: not allowed to use {lan.one.socket} [not-allowed]")
    assert lan.one.news("web", "mail", "node") == []
    assert asyncio.run(as_user(lambda: str(floatip("drain")[0]), groups=[GROUP])) == "0"
    assert asyncio.run(as_user(lambda: str(floatip("undrain")[0]), gid=GROUP)) == "0"


# Whoever means ill, or is clumsy


def test_odd_requests_change_nothing(lan: Lan) -> None:
    values: list[Any] = [
        float("nan"),
        float("inf"),
        1e308,
        -1,
        10**400,
        True,
        "x",
        "\ud800",
        "a\nb",
        [[]],
        {"a": {}},
        "",
    ]
    for verb in ("drain", "pause", "handover"):
        for field in ("reason", "for", "force", "instance", "to"):
            for value in values:
                is_ignored = (field in ("instance", "to")) == (verb != "handover") or (field, value) in FINE
                if not is_ignored:
                    assert "refused" in lan.one.ask(verb, **{field: value}), (verb, field, value)
    assert lan.one.news("") == []
    assert lan.settled()


FINE: list[tuple[str, Any]] = [("reason", "x"), ("reason", ""), ("force", True)]


def test_many_clients_and_a_reload_and_a_stop_amid_their_drains(lan: Lan) -> None:
    ends = threading.Event()
    failed: list[BaseException] = []

    def clamour(host: Host) -> None:
        try:
            while not ends.is_set():
                for verb in ("drain", "undrain", "handover", "pause", "resume", "verb-status"):
                    host.ask(verb)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=clamour, args=(host,)) for host in lan.hosts for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        lan.one.reload(CONFIG + API)
        lan.two.reload(CONFIG)
        lan.one.reload(CONFIG)
    ends.set()
    for thread in threads:
        thread.join()
    assert failed == []
    for host in lan.hosts:
        host.ask("undrain")
        host.ask("resume")
    wait(lambda: sorted([*lan.one.held(), *lan.two.held()]) == [WEB, MAIL] and lan.settled())
    carrier = lan.one if lan.one.is_master("web") else lan.two
    drain = carrier.begin("drain")
    carrier.stop()
    drain.communicate(timeout=60)
    assert drain.returncode in (0, 3)
    wait(lambda: sorted([*lan.one.held(), *lan.two.held()]) == [WEB, MAIL])


def test_both_nodes_drained_at_the_same_moment(lan: Lan) -> None:
    drains = [host.begin("drain", "--force") for host in lan.hosts]
    for drain in drains:
        drain.communicate(timeout=60)
    assert all(host.view(host.name)["drained"] for host in lan.hosts)
    wait(lambda: sorted([*lan.one.held(), *lan.two.held()]) == [WEB, MAIL])
    for host in lan.hosts:
        assert host.command("undrain")[0] == 0
    wait(lan.settled)


def test_handovers_in_both_directions_at_the_same_moment(lan: Lan) -> None:
    lan.one.ask("handover", instance="mail")
    wait(lambda: (lan.one.held(), lan.two.held()) == ({WEB}, {MAIL}))
    handovers = [lan.one.begin("handover", "web"), lan.two.begin("handover", "mail")]
    said = [each.communicate(timeout=60)[0] for each in handovers]
    assert [each.returncode for each in handovers] == [0, 0], said
    wait(lambda: (lan.one.held(), lan.two.held()) == ({MAIL}, {WEB}))
    wait(lan.settled)
