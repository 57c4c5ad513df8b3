"""etcd: three members on hosts of their own, as Debian's etcd-server has them, with etcd's default times.

Clients reach them over plain HTTP. What is asked here is asked through the JSON gateway, as floatip does it.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from floatip.lab.namespaces import LabError, find_program
from floatip.lab.network import WITNESSES, Hosts, LabHost
from floatip.lab.programs.program import Program

CLIENTS, PEERS = 2379, 2380
PACKAGE = (
    "etcd-server; on a machine with systemd that starts an etcd of its own on loopback, which the lab does not use:"
    " systemctl disable --now etcd stops it"
)
ANSWERS_WITHIN = 1.0
READY_WITHIN = 60.0


class EtcdMember(Program):
    name = "etcd"

    def __init__(self, network: Hosts, host: LabHost, data: Path) -> None:
        super().__init__(network, host.name)
        self._data = data / host.name
        assert host.ipv4
        self.address = str(host.ipv4.ip)
        self.endpoint = f"http://{self.address}:{CLIENTS}"
        find_program("etcd", PACKAGE)

    def command(self) -> Sequence[str]:
        members = ",".join(f"{each.name}={_peer(each)}" for each in WITNESSES)
        options = {
            "name": self.host,
            "data-dir": self._data,
            "listen-client-urls": self.endpoint,
            "advertise-client-urls": self.endpoint,
            "listen-peer-urls": f"http://{self.address}:{PEERS}",
            "initial-advertise-peer-urls": f"http://{self.address}:{PEERS}",
            "initial-cluster": members,
            "initial-cluster-state": "new",
            "initial-cluster-token": "floatip-lab",
        }
        return [find_program("etcd", PACKAGE), *(f"--{name}={value}" for name, value in options.items())]

    def get(self, path: str) -> bytes:
        """Raises OSError."""
        return self._ask("GET", path)

    def post(self, path: str) -> dict[str, Any]:
        """The answer to an empty question. Raises OSError."""
        found: dict[str, Any] = json.loads(self._ask("POST", path, b"{}"))
        return found

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        connection = HTTPConnection(self.address, CLIENTS, timeout=ANSWERS_WITHIN)
        try:
            with self.network.inside(self.host):  # where a fault of the network does not matter
                connection.connect()
            connection.request(method, path, body)
            return connection.getresponse().read()
        except (HTTPException, ValueError) as error:
            raise OSError(f"{self.host}: {error}") from error
        finally:
            connection.close()

    @property
    def is_healthy(self) -> bool:
        """Whether it answers, and has a leader."""
        try:
            return self.running and bool(json.loads(self.get("/health")).get("health") == "true")
        except (OSError, ValueError):
            return False


class Etcd:
    """All its members."""

    def __init__(self, network: Hosts, data: Path) -> None:
        """`data`: a directory for what they store."""
        self.members = {host.name: EtcdMember(network, host, data) for host in WITNESSES}

    @property
    def endpoints(self) -> list[str]:
        return [member.endpoint for member in self.members.values()]

    @property
    def environment(self) -> Mapping[str, str]:
        """For etcdctl."""
        return {"ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": ",".join(self.endpoints)}

    def start(self) -> None:
        """Those that do not run; returns when all are healthy."""
        for member in self.members.values():
            if not member.running:
                member.start()
        self.wait_for(self._is_healthy, "all members to be healthy")

    def _is_healthy(self) -> bool:
        for member in self.members.values():
            if not member.running:
                raise LabError(f"etcd ended on {member.host}", f"its log:\n{member.log.read_text()[-1500:]}")
        return all(member.is_healthy for member in self.members.values())

    def kill(self) -> None:
        """All at once, so that none of them can say a last word."""
        for member in self.members.values():
            member.kill()

    def leader(self) -> str:
        """The host of the member that leads, as most of them have it."""
        found = ""

        def agreed() -> bool:
            nonlocal found
            said = [self._led_by(member) for member in self.members.values() if member.running]
            found = max(said, key=said.count, default="")
            return bool(found) and said.count(found) > len(self.members) // 2

        self.wait_for(agreed, "a leader")
        return found

    def _led_by(self, member: EtcdMember) -> str:
        try:
            leader = member.post("/v3/maintenance/status").get("leader", "0")
            listed = member.post("/v3/cluster/member/list")["members"]
        except (OSError, ValueError, KeyError):
            return ""
        return next((str(each["name"]) for each in listed if each["ID"] == leader), "")

    def wait_for(self, true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + READY_WITHIN
        while not true():
            if time.monotonic() > deadline:
                logs = "\n".join(member.log.read_text()[-500:] for member in self.members.values())
                raise LabError(f"etcd: timed out after {READY_WITHIN:g} s waiting for {what}", f"its logs:\n{logs}")
            time.sleep(0.02)


def _peer(host: LabHost) -> str:
    assert host.ipv4
    return f"http://{host.ipv4.ip}:{PEERS}"
