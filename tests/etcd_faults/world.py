"""Three nodes and three members of etcd, each in a network namespace of its own, joined by a bridge."""

import json
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from floatip.host.ask import ControlError, ask
from floatip.lab.namespaces import Namespace
from floatip.rtnetlink import Netlink, attribute
from tests.etcd_cluster import Cluster
from tests.etcd_faults.daemon import DOUBLE
from tests.etcd_faults.plan import MEMBERS, NODES

RTM_NEWNSID, NETNSA_NSID, NETNSA_FD = 88, 1, 3
EXCLUSIVE = ("192.0.2.10", "192.0.2.11")
ADDRESSES = (*EXCLUSIVE, "192.0.2.20")
INSTANCES = ("database", "license", "web")
LEASE_TIME = 4
DISK = "160m"
"""Of each member: it can become full. etcd writes 64 MB in advance."""
CONFIG = """\
[link]
interval = 0.1

{nodes}
[etcd]
endpoints = [{endpoints}]
lease_time = {lease_time}
keepalive_interval = 0.5
request_timeout = 0.7

{instances}"""
MOST_ENDS = 3
"""Of a daemon, that nobody asked for. Then the run is over."""
RAFT = "--heartbeat-interval", "100", "--election-timeout", "1000"


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
    return done.stdout


def name_namespace(namespace: Namespace, number: int) -> None:
    """By this number the kernel tells of it in this namespace."""
    netlink = Netlink()
    names = attribute(NETNSA_NSID, struct.pack("=i", number)) + attribute(NETNSA_FD, struct.pack("=I", namespace.fd))
    (code,) = netlink.request([(RTM_NEWNSID, 0, struct.pack("=Bxxx", socket.AF_UNSPEC) + names)])
    netlink.close()
    assert code == 0, os.strerror(code)


class Host:
    def __init__(self, name: str, number: int) -> None:
        self.name, self.address = name, f"10.0.0.{number}"
        self.namespace = Namespace()
        self._cuts: dict[str, int] = {}
        name_namespace(self.namespace, number)  # before it is joined, which would give it any name
        run("ip", "link", "add", f"p{number}", "type", "veth", "peer", "name", "eth0", "netns", self.namespace.path)
        run("ip", "link", "set", f"p{number}", "master", "bridge", "up")
        with self.namespace.inside():
            run("ip", "link", "set", "lo", "up")
            run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
            run("ip", "link", "set", "eth0", "up")
            rules = "add chain inet cut in { type filter hook input priority 0; ip saddr @from drop; }"
            run("nft", f"add table inet cut; add set inet cut from {{ type ipv4_addr; }}; {rules}")

    def cut(self, other: "Host") -> None:
        """It does not hear the other one any more. Cuts are counted: two that overlap end with the later one."""
        self._cuts[other.address] = self._cuts.get(other.address, 0) + 1
        self._apply()

    def mend(self, other: "Host") -> None:
        self._cuts[other.address] -= 1
        self._apply()

    def _apply(self) -> None:
        deaf = [address for address, count in self._cuts.items() if count]
        adds = f"; add element inet cut from {{ {', '.join(deaf)} }}" if deaf else ""
        with self.namespace.inside():
            run("nft", f"flush set inet cut from{adds}")


class Node(Host):
    def __init__(self, number: int, directory: Path) -> None:
        super().__init__(f"node{number}", number)
        self.number = number
        self.directory = directory / self.name
        self.directory.mkdir()
        self.file, self.log, self.history, self.clock = (
            self.directory / name for name in ("floatip.toml", "log", "history", "clock")
        )
        self.clock.write_bytes(DOUBLE.pack(0.0))
        self.socket = self.directory / "run" / "floatip.sock"
        self.process: subprocess.Popen[bytes] | None = None
        self.ends: list[str] = []
        """Exit statuses that nobody asked for."""

    def start(self) -> None:
        environment = os.environ | {
            "RUNTIME_DIRECTORY": str(self.socket.parent),
            "STATE_DIRECTORY": str(self.directory / "state"),
        }
        (self.directory / "state" / "starts.json").unlink(missing_ok=True)  # who starts so often would be barred
        program = [sys.executable, "-m", "tests.etcd_faults.daemon"]
        with self.namespace.inside(), self.log.open("ab") as log:
            arguments = [str(self.file), str(self.history), str(self.clock)]
            self.process = subprocess.Popen([*program, *arguments], env=environment, stdout=log, stderr=log)

    def signal(self, number: signal.Signals) -> None:
        if self.process:
            self.process.send_signal(number)

    def kill(self) -> None:
        if self.process:
            self._note_end()
            self.process.kill()
            self.process.wait()
            self.process = None

    def look_after(self) -> None:
        """What systemd does: a daemon that has ended is started again."""
        if self.process and self.process.poll() is not None:
            self._note_end()
            self.start()

    def _note_end(self) -> None:
        if self.process and self.process.poll() is not None:
            self.ends.append(f"{self.name}: the daemon exited with status {self.process.returncode}")

    def step_clock(self, seconds: float) -> None:
        with self.clock.open("r+b") as opened, mmap.mmap(opened.fileno(), DOUBLE.size) as ahead:
            (now,) = DOUBLE.unpack_from(ahead)
            DOUBLE.pack_into(ahead, 0, now + seconds)

    def status(self) -> dict[str, Any]:
        try:
            return ask(self.socket, {"cmd": "status"}, timeout=5)
        except ControlError:
            return {"instances": [], "nodes": [], "problems": []}

    def held(self) -> set[str]:
        with self.namespace.inside():
            found = json.loads(run("ip", "-json", "address", "show"))
        return {address["local"] for link in found for address in link["addr_info"]} & set(ADDRESSES)


class World:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for words in ("link set lo up", "link add bridge type bridge", "link set bridge up"):
            run("ip", *words.split())
        run("ip", "address", "add", "10.0.0.254/24", "dev", "bridge")
        self.nodes = {number: Node(number, directory) for number in NODES}
        self.hosts = {number: Host(f"etcd{number}", 10 + number) for number in MEMBERS}
        places = [self.hosts[number].address for number in MEMBERS]
        self.cluster = Cluster(directory / "etcd", options=RAFT, addresses=places, wrap=self._in_namespace)
        for member in self.cluster.members:
            member.directory.mkdir()
            run("mount", "-t", "tmpfs", "-o", f"size={DISK},mode=700", "tmpfs", str(member.directory))
        self._configure()

    def _in_namespace(self, number: int, argv: Any) -> list[str]:
        # Each has a machine of its own in the field: here the daemons, which run so too, shall not keep them waiting.
        return ["nsenter", f"--net={self.hosts[number].namespace.path}", "chrt", "--rr", "5", *argv]

    def _configure(self) -> None:
        nodes = "".join(f'[[node]]\nname = "{one.name}"\naddress = "{one.address}"\n\n' for one in self.nodes.values())
        instances = "".join(
            f'[[instance]]\nname = "{name}"\naddresses = ["{address}/32"]\nplacement = "master"\n'
            + ("exclusive = true\n" if address in EXCLUSIVE else "")
            + "\n"
            for name, address in zip(INSTANCES, ADDRESSES, strict=True)
        )
        endpoints = ", ".join(f'"{url}"' for url in self.cluster.endpoints)
        for node in self.nodes.values():
            key = node.directory / "key"
            key.write_text(f"{0xE7CD:064x}\n")
            key.chmod(0o600)
            text = CONFIG.format(nodes=nodes, endpoints=endpoints, lease_time=LEASE_TIME, instances=instances)
            node.file.write_text(text.replace("[link]\n", f'[link]\nkey = "{key}"\n'))

    def start(self) -> None:
        self.cluster.start()
        for node in self.nodes.values():
            node.start()

    def holders(self) -> dict[str, list[int]]:
        held = {number: node.held() for number, node in self.nodes.items()}
        return {address: [number for number, them in held.items() if address in them] for address in ADDRESSES}

    def is_whole(self) -> bool:
        """Each address is on one node."""
        return all(len(numbers) == 1 for numbers in self.holders().values())

    def wait(self, timeout: float) -> bool:
        """Until it is whole; whether it is."""
        deadline = time.monotonic() + timeout
        while not self.is_whole():
            if time.monotonic() > deadline:
                return False
            for node in self.nodes.values():
                node.look_after()
                assert len(node.ends) < MOST_ENDS, f"{node.ends[-1]}:\n{node.log.read_text()[-2000:]}"
            time.sleep(0.1)
        return True

    def close(self) -> None:
        for node in self.nodes.values():
            node.signal(signal.SIGCONT)
            node.kill()
        self.cluster.close()
        for member in self.cluster.members:
            run("umount", str(member.directory))
