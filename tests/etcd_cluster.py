"""A real etcd on the loopback interface, for tests: three members, and what can happen to each of them.

    with Cluster(tmp_path) as cluster:
        cluster.leader().kill()

Each cluster has addresses of its own in 127.0.0.0/8, so that clusters of tests that run side by side do not meet and a
member that comes back finds its port free. The members are killed when the thread that started them ends.
"""

import contextlib
import json
import os
import random
import select
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from tests.certificates import Authority, Pair

FAST = ("--heartbeat-interval", "50", "--election-timeout", "500")
"""Options of etcd: a leader is missed after 0.5 s to 1 s, and the smallest lease is 1 s."""
LIMIT = 60.0
"""Seconds after which a test gives up."""
POLL = 0.02
ATTEMPTS = 3
"""Of etcdctl. etcd 3.4 leaves a request of a user without an answer now and then, on a busy machine."""
ROOT_PASSWORD = "root's password"

Wrap = Callable[[int, Sequence[str]], Sequence[str]]
"""Of a member's number and its command, one that runs elsewhere: `["ip", "netns", "exec", f"n{number}", *argv]`."""


class Member:
    def __init__(self, cluster: "Cluster", number: int, address: str) -> None:
        self._cluster = cluster
        self.number = number
        self.name = f"etcd{number}"
        self.address = address
        self.port, self.peer_port = cluster.ports
        scheme = "https" if cluster.authority else "http"
        self.url = f"{scheme}://{address}:{self.port}"
        self.peer_url = f"http://{address}:{self.peer_port}"
        self.directory = cluster.data / self.name
        self.log = cluster.directory / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._proxies: list[Proxy] = []

    @property
    def pid(self) -> int:
        assert self._process, f"{self.name} does not run"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def has_exited(self) -> bool:
        """Although nobody asked it to."""
        return self._process is not None and self._process.poll() is not None

    def start(self) -> None:
        argv = ["setpriv", "--pdeathsig", "KILL", "etcd", *self._cluster.arguments(self)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._cluster.wrap(self.number, argv), stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def kill(self) -> None:
        """SIGKILL, also if it is stopped. Its data stay."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def terminate(self) -> None:
        """As systemd ends it: it hands its leadership over first."""
        if self._process:
            self._process.terminate()
            self._process.wait(LIMIT)
            self._process = None

    def restart(self) -> None:
        """Start it again with its data, after `kill` or `terminate`; `Cluster.wait` waits until it serves."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """SIGSTOP: it keeps its connections, and does nothing."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)  # on a busy machine it goes on for a moment

    def cont(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def status(self, timeout: float = 1.0) -> dict[str, Any] | None:
        """What it says of itself (maintenance/status); None: it does not answer."""
        if not self.is_running:
            return None
        try:
            answer = self._cluster.post(self.url, "/v3/maintenance/status", {}, timeout)
        except OSError:
            return None
        return answer if isinstance(answer, dict) else None

    def proxy(self) -> "Proxy":
        """Another way to it, which a test can disturb. It ends with the cluster."""
        proxy = Proxy((self.address, self.port), self.url.partition(":")[0])
        self._proxies.append(proxy)
        return proxy

    def close(self) -> None:
        for proxy in self._proxies:
            proxy.close()
        self.kill()


class Cluster:
    def __init__(
        self,
        directory: Path,
        size: int = 3,
        options: Iterable[str] = FAST,
        *,
        tls: bool = False,
        auth: bool = False,
        addresses: Sequence[str] = (),
        wrap: Wrap = lambda number, argv: argv,
    ) -> None:
        """`options`: more of etcd's, for each member. `addresses`: of the members, in place of those on loopback.

        `tls`: members ask for a client's certificate too: `client`, signed by `authority`. `auth`: users must say who
        they are, and `add_user` adds one.
        """
        for program in ("etcd", "etcdctl"):
            if not shutil.which(program):
                pytest.fail(f"{program} is not installed: make test-needs")
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        in_memory = Path("/dev/shm")
        self.data = Path(tempfile.mkdtemp(dir=in_memory if os.access(in_memory, os.W_OK) else directory))
        """Of the members. A disk that other tests keep busy holds up each write of etcd for seconds."""
        self.options = tuple(options)
        self.wrap = wrap
        chance = random.SystemRandom()
        # Below the ports that the kernel gives to clients: no connection takes them while a member is away.
        first = chance.randrange(20000, 30000, 2)
        self.ports = first, first + 1
        net = f"127.{chance.randrange(1, 255)}.{chance.randrange(256)}"
        addresses = addresses or [f"{net}.{number}" for number in range(1, size + 1)]
        self._has_auth = auth
        self.authority = Authority(directory) if tls else None
        self._server = self.authority.sign("server", names=tuple(addresses)) if self.authority else None
        self.client: Pair | None = self.sign_client() if self.authority else None
        self._is_locked = False
        self.members = [Member(self, number, address) for number, address in enumerate(addresses, 1)]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """And wait until each member serves."""
        try:
            for member in self.members:
                member.start()
            self.wait()
            if self._has_auth:
                self.ctl("user", "add", f"root:{ROOT_PASSWORD}")
                self.ctl("auth", "enable")
                self._is_locked = True
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for member in self.members:
            member.close()
        shutil.rmtree(self.data, ignore_errors=True)

    def sign_client(self, days: int = 9) -> Pair:
        """Where etcd has users, its gateway refuses a client's certificate with a common name."""
        assert self.authority
        return self.authority.sign("client", days, has_name=not self._has_auth)

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(member.url for member in self.members)

    def wait(self, timeout: float = LIMIT) -> Member:
        """Until all members that run know the same leader, which it returns."""
        deadline = time.monotonic() + timeout
        while True:
            said = [(member, member.status() or {}) for member in self.members if member.is_running]
            leaders = {one.get("leader", "0") for _, one in said}
            if len(leaders) == 1:
                for member, one in said:
                    if "leader" in one and one["header"]["member_id"] == one["leader"]:
                        return member
            if any(member.has_exited for member in self.members):
                pytest.fail(f"a member of etcd exited: {self._last_lines()}")
            if time.monotonic() > deadline:
                pytest.fail(f"no leader of etcd after {timeout:.0f} s: {said}: {self._last_lines()}")
            time.sleep(POLL)

    def leader(self) -> Member:
        return self.wait()

    def followers(self) -> list[Member]:
        leader = self.leader()
        return [member for member in self.members if member is not leader and member.is_running]

    def ctl(self, *arguments: str, user: str = "") -> str:
        """What `etcdctl` prints, asked of all members that run."""
        urls = ",".join(member.url for member in self.members if member.is_running)
        argv = ["etcdctl", "--endpoints", urls, "--command-timeout", "10s", *self._flags()]
        if user or self._is_locked:
            argv += ["--user", user or f"root:{ROOT_PASSWORD}"]
        environment = os.environ | {"ETCDCTL_API": "3"}
        number = next(member.number for member in self.members if member.is_running)
        command = self.wrap(number, [*argv, *arguments])
        for attempt in range(ATTEMPTS):
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False)
            if done.returncode == 0 or (attempt and "already exist" in done.stderr):
                return done.stdout
            if "deadline exceeded" not in done.stderr:
                break
        raise AssertionError(f"etcdctl {' '.join(arguments)}: {done.stderr or done.stdout}")

    def add_user(self, name: str, password: str, prefix: str) -> None:
        """A user that may read and write below the prefix."""
        self.ctl("user", "add", f"{name}:{password}")
        self.ctl("role", "add", name)
        self.ctl("role", "grant-permission", name, "readwrite", prefix, "--prefix=true")
        self.ctl("user", "grant-role", name, name)

    def post(self, url: str, path: str, body: dict[str, Any], timeout: float = 5.0) -> Any:
        """One question to the gateway. Raises OSError."""
        request = urllib.request.Request(url + path, json.dumps(body).encode(), method="POST")
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self._context())
        )
        with opener.open(request, timeout=timeout) as answer:
            return json.load(answer)

    def arguments(self, member: Member) -> list[str]:
        # fmt: off
        peers = ",".join(f"{one.name}={one.peer_url}" for one in self.members)
        given = [
            "--name", member.name, "--data-dir", str(member.directory), "--logger", "zap", "--log-level", "warn",
            "--listen-client-urls", member.url, "--advertise-client-urls", member.url,
            "--listen-peer-urls", member.peer_url, "--initial-advertise-peer-urls", member.peer_url,
            "--initial-cluster", peers, "--initial-cluster-token", f"floatip-{self.ports[0]}",
        ]
        if self.authority and self._server:
            given += [
                "--cert-file", str(self._server.certificate), "--key-file", str(self._server.key),
                "--trusted-ca-file", str(self.authority.ca), "--client-cert-auth",
            ]
        # fmt: on
        return [*given, *self.options]

    def _flags(self) -> list[str]:
        if not (self.authority and self.client):
            return []
        files = self.authority.ca, self.client.certificate, self.client.key
        return [str(part) for pair in zip(("--cacert", "--cert", "--key"), files, strict=True) for part in pair]

    def _context(self) -> ssl.SSLContext | None:
        if not (self.authority and self.client):
            return None
        context = ssl.create_default_context(cafile=str(self.authority.ca))
        context.load_cert_chain(self.client.certificate, self.client.key)
        return context

    def _last_lines(self) -> str:
        return "; ".join(member.log.read_text().strip().rpartition("\n")[2][-300:] for member in self.members)


Ends = tuple[socket.socket, socket.socket]


class Proxy:
    """Forwards connections, as long as a test lets it. For members on loopback: it listens in this network namespace.

    `delay`: seconds by which it holds back all that it forwards. `drop()`: it forwards nothing, and takes connections,
    as a firewall without an answer; `mend()` forwards what has waited. `cut()`: its connections are closed and others
    refused.
    """

    def __init__(self, to: tuple[str, int], scheme: str = "http") -> None:
        self._to = to
        self._lock = threading.Lock()
        self._pairs: set[Ends] = set()
        """Both directions are open."""
        self.delay = 0.0
        self.octets = 0
        """That it has forwarded."""
        self._flows = threading.Event()
        self._flows.set()
        self._listener: socket.socket | None = None
        self._port = 0
        self._listen()
        self.url = f"{scheme}://{to[0]}:{self._port}"

    def drop(self) -> None:
        self._flows.clear()

    def cut(self) -> None:
        self._unlisten()
        self.disconnect()

    def mend(self) -> None:
        self._flows.set()
        if not self._listener:
            self._listen()

    def disconnect(self) -> None:
        """The connections that there are now; others are taken."""
        with self._lock:
            for pair in self._pairs:
                _shut(pair)

    def close(self) -> None:
        self.cut()
        self._flows.set()

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self._to[0], self._port))  # the member's address: its certificate names it
        listener.listen(64)
        self._port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _unlisten(self) -> None:
        if self._listener:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._to)
            except OSError:
                client.close()
                continue
            pair = client, server
            with self._lock:
                self._pairs.add(pair)
            for source, sink in (pair, pair[::-1]):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._forward, args=(source, sink, pair), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, pair: Ends) -> None:
        with contextlib.suppress(OSError):
            while True:
                select.select([source], [], [])
                data = source.recv(65536)
                if self.delay:
                    time.sleep(self.delay)
                self._flows.wait()
                if not data:
                    break
                sink.sendall(data)
                self.octets += len(data)
        with self._lock:
            _shut(pair)
            if pair in self._pairs:
                self._pairs.discard(pair)
            else:  # the other direction has ended too
                for end in pair:
                    end.close()


def _shut(pair: Ends) -> None:
    for end in pair:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
