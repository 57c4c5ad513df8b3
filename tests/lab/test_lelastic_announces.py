"""`floatip lelastic` in the guide's network: its bytes beside lelastic's, how fast it follows, who gets the traffic."""

import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from ipaddress import IPv6Network
from pathlib import Path
from threading import Condition, Thread
from typing import Any

import pytest

from floatip.core.bgp.notification import Notification
from floatip.core.bgp.update import Update
from floatip.core.bgp.wire import Keepalive, Open, pack, parse, split
from floatip.host.ask import ask
from floatip.lab.network import FLOATING, HAPROXY1, HAPROXY2, ROUTE_SERVERS, ROUTER, LabHost, Network
from floatip.lab.programs.bird import BirdFabric, BirdRouteServer
from floatip.lab.programs.builtin import BuiltInFabric, BuiltInRouteServer
from floatip.lab.programs.program import Program
from floatip.lab.routes import RouteWatch
from floatip.rtnetlink import Netlink, addition, deletion
from tests.lab.arrivals import arrival

CAPTURE = Path(__file__).parents[1] / "captures" / "lelastic.hex"
CAPTURED = [
    (sender, bytes.fromhex(message))
    for sender, message in (line.split() for line in CAPTURE.read_text().splitlines() if not line.startswith("#"))
]
FLOATING_RANGE = "2001:db8:e001:1b8c::1/64"
RANGE = IPv6Network("2001:db8:e001:1b8c::/64")
HOSTS_OWN = IPv6Network("2600:3c03:0:1::/64")
FEW_SECONDS = 60.0
LO = 1
"""Its index, in every network namespace."""


class Lelastic(Program):
    """As the guide's unit starts it: an environment with nothing in it but PATH, and a /run of its own."""

    name = "lelastic"

    def __init__(self, network: Network, host: str, *flags: str) -> None:
        super().__init__(network, host)
        self._flags = flags

    def command(self) -> Sequence[str]:
        program = Path(sys.executable).with_name("floatip-lelastic")
        start = f'mount -t tmpfs tmpfs /run && exec env -i PATH="$PATH" {program} {" ".join(self._flags)}'
        return ["unshare", "--mount", "sh", "-c", start]

    def status(self) -> dict[str, Any]:
        return ask(Path(f"/proc/{self.pid}/root/run/floatip/floatip.sock"), {"cmd": "status"})


class Recorder:
    """A route server that answers as BIRD did in the capture, and keeps each message with its time of arrival."""

    def __init__(self, network: Network) -> None:
        self.messages: list[tuple[float, bytes]] = []
        self._arrived = Condition()
        wait_for(lambda: is_usable(network, ROUTE_SERVERS[0]), "the route server's address to be usable")
        with network.inside(ROUTE_SERVERS[0].name):
            self._listener = socket.create_server((str(ROUTE_SERVERS[0].ipv6), 179), family=socket.AF_INET6)
        self.thread = Thread(target=self._serve, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        theirs = next(message for sender, message in CAPTURED if sender == "bird")
        buffer = bytearray()
        # A daemon that is killed resets its connection; one that never came leaves the listener to be shut.
        with suppress(OSError), self._listener.accept()[0] as connection:
            connection.sendall(theirs)
            while data := connection.recv(65536):
                now = time.monotonic()
                buffer += data
                for message in split(buffer):
                    if isinstance(parse(message), Open | Keepalive):
                        connection.sendall(pack(Keepalive()))
                    with self._arrived:
                        self.messages.append((now, message))
                        self._arrived.notify_all()

    def wait_for(self, fits: Callable[[Any], bool]) -> tuple[float, bytes]:
        """The first message that fits; it is taken off, with all before it."""
        found: list[int] = []

        def look() -> bool:
            found[:] = [n for n, (_, message) in enumerate(self.messages) if fits(parse(message))]
            return bool(found)

        with self._arrived:
            assert self._arrived.wait_for(look, FEW_SECONDS), [parse(message) for _, message in self.messages]
            one = self.messages[found[0]]
            del self.messages[: found[0] + 1]
            return one


def announces(prefix: Any) -> Callable[[Any], bool]:
    return lambda message: isinstance(message, Update) and prefix in message.announced


def withdraws(prefix: Any) -> Callable[[Any], bool]:
    return lambda message: isinstance(message, Update) and prefix in message.withdrawn


def lelastics_update(prefix: Any, role: str) -> bytes:
    """As captured but for the order: MP_REACH_NLRI first."""
    community = {"primary": (65000, 1), "secondary": (65000, 2)}[role]
    [(message, _)] = [
        (message, update)
        for sender, message in CAPTURED
        if sender == "lelastic" and isinstance(update := parse(message), Update) and prefix in update.announced
        if update.attributes and update.attributes.communities == (community,)
    ]
    reach = message.index(b"\x80\x0e", 23)
    return message[:23] + message[reach:] + message[23:reach]


@pytest.fixture
def network() -> Iterator[Network]:
    assert os.geteuid() == 0, "the lab's tests need root: sudo .venv/bin/python -m pytest tests/lab"
    with tempfile.TemporaryDirectory() as directory, Network(Path(directory)) as network:
        yield network


@pytest.fixture
def recorder(network: Network) -> Iterator[Recorder]:
    it = Recorder(network)
    yield it
    it.close()


def address(network: Network, host: str, command: str) -> float:
    """When `ip` was called."""
    with network.inside(host):
        began = time.monotonic()
        subprocess.run(["ip", "address", *command.split()], check=True)
        return began


def is_usable(network: Network, host: LabHost) -> bool:
    """The kernel takes an address for tentative until a worker of its own has seen the carrier."""
    with network.inside(host.name), socket.socket(socket.AF_INET6) as probe, suppress(OSError):
        probe.bind((str(host.ipv6), 0))
        return True
    return False


def waited_for_cpu(tasks: Sequence[str]) -> float:
    """The kernel's run delay (schedstat, second field, ns), all together; 0 where it keeps none."""
    try:
        return sum(int(Path(f"/proc/{task}/schedstat").read_text().split()[1]) for task in tasks) / 1e9
    except FileNotFoundError:
        return 0.0


def wait_for(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + FEW_SECONDS
    while not true():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


@pytest.mark.parametrize(("role", "options"), [("primary", ()), ("secondary", ("-send56",))])
def test_each_update_is_lelastics_for_the_same_prefix(
    network: Network, recorder: Recorder, role: str, options: tuple[str, ...]
) -> None:
    address(network, HAPROXY2.name, f"add {FLOATING} dev lo")
    Lelastic(network, HAPROXY2.name, "-dcid", "6", f"-{role}", *options).start()
    _, theirs = recorder.wait_for(announces(FLOATING.network))
    assert theirs == lelastics_update(FLOATING.network, role)
    address(network, HAPROXY2.name, f"add {FLOATING_RANGE} dev lo")
    _, theirs = recorder.wait_for(announces(RANGE))
    assert theirs == lelastics_update(RANGE, role)


def test_with_allifs_what_is_on_eth0_is_announced_unless_it_has_a_lifetime(
    network: Network, recorder: Recorder
) -> None:
    Lelastic(network, HAPROXY2.name, "-dcid", "6", "-secondary", "-allifs").start()
    _, theirs = recorder.wait_for(announces(HOSTS_OWN))
    assert theirs == lelastics_update(HOSTS_OWN, "secondary")
    address(network, HAPROXY2.name, f"change {HAPROXY2.ipv6}/128 dev eth0 valid_lft 3600 preferred_lft 3600")
    recorder.wait_for(withdraws(HOSTS_OWN))


def test_the_open_offers_what_lelastics_does(network: Network, recorder: Recorder) -> None:
    Lelastic(network, HAPROXY2.name, "-dcid", "6", "-primary").start()
    _, ours = recorder.wait_for(lambda message: isinstance(message, Open))
    [theirs] = [each for s, m in CAPTURED if s == "lelastic" and isinstance(each := parse(m), Open)]
    capabilities = replace(theirs.capabilities, hostname=socket.gethostname())
    assert HAPROXY2.ipv4
    assert ours == pack(replace(theirs, router_id=HAPROXY2.ipv4.ip, capabilities=capabilities))


def test_what_appears_is_announced_and_what_goes_is_withdrawn_within_50_ms(
    network: Network, recorder: Recorder
) -> None:
    announcer = Lelastic(network, HAPROXY2.name, "-dcid", "6", "-primary")
    announcer.start()
    wait_for(lambda: "session 2600:3c0f:6:34::1 up" in announcer.log.read_text(), "the session")
    everybody = (str(announcer.pid), f"self/task/{recorder.thread.native_id}", "thread-self")
    changes = {
        "announced": (addition(LO, FLOATING, 0), announces(FLOATING.network)),
        "withdrawn": (deletion(LO, FLOATING), withdraws(FLOATING.network)),
    }
    waits: dict[str, list[float]] = {what: [] for what in changes}
    with network.inside(HAPROXY2.name):
        netlink = Netlink()
    with closing(netlink):
        for _ in range(20):
            for what, (request, fits) in changes.items():
                waited, began = waited_for_cpu(everybody), time.monotonic()
                assert netlink.request([request]) == [0]
                arrived, _ = recorder.wait_for(fits)
                waits[what].append(arrived - began - (waited_for_cpu(everybody) - waited))
    for what, seconds in waits.items():
        median, worst = statistics.median(seconds) * 1e3, max(seconds) * 1e3
        print(f"{what} {median:.1f} ms (median), {worst:.1f} ms (worst), at the peer, less what was waited for a CPU")
        assert median < 50


def test_hup_changes_nothing_and_sigterm_withdraws_ceases_and_leaves_the_address(
    network: Network, recorder: Recorder
) -> None:
    address(network, HAPROXY2.name, f"add {FLOATING} dev lo")
    announcer = Lelastic(network, HAPROXY2.name, "-dcid", "6", "-primary", "-allifs")
    announcer.start()
    recorder.wait_for(announces(FLOATING.network))
    assert announcer.status()["instances"][0]["rank"]["value"] == "active"
    recorder.wait_for(lambda message: message == Keepalive())
    os.kill(announcer.pid, signal.SIGHUP)
    for _ in range(2):
        _, said = recorder.wait_for(lambda message: True)
        assert parse(said) == Keepalive()
    announcer.stop()
    recorder.wait_for(withdraws(FLOATING.network))
    _, last = recorder.wait_for(lambda message: isinstance(message, Notification))
    assert (parse(last).code, parse(last).subcode) == (6, 2)  # type: ignore[union-attr]
    assert announcer.wait() == 0
    address(network, HAPROXY2.name, f"del {FLOATING} dev lo")


def provider(network: Network, kind: str) -> list[Program]:
    names = [each.name for each in ROUTE_SERVERS]
    if kind == "built-in":
        return [BuiltInFabric(network), *(BuiltInRouteServer(network, name) for name in names)]
    return [
        BirdFabric(network),
        *(BirdRouteServer(network, name) for name in names),
    ]


@pytest.mark.parametrize("kind", ["built-in", "bird"])
def test_the_traffic_goes_where_the_address_is_and_the_primary_first(network: Network, kind: str) -> None:
    for daemon in provider(network, kind):
        daemon.start()
    primary = Lelastic(network, HAPROXY1.name, "-dcid", "6", "-primary", "-allifs")
    secondary = Lelastic(network, HAPROXY2.name, "-dcid", "6", "-secondary")
    address(network, HAPROXY2.name, f"add {FLOATING} dev lo")
    address(network, HAPROXY2.name, f"add {FLOATING_RANGE} dev lo")
    primary.start()
    secondary.start()
    ipv4, ipv6 = (RouteWatch(network, ROUTER, str(prefix)) for prefix in (FLOATING.network, RANGE))
    with ipv4, ipv6:
        assert arrival(ipv4, HAPROXY2.ipv6, FEW_SECONDS)
        assert arrival(ipv6, HAPROXY2.ipv6, FEW_SECONDS)
        address(network, HAPROXY1.name, f"add {FLOATING} dev eth0")
        address(network, HAPROXY1.name, f"add {FLOATING_RANGE} dev eth0 nodad")
        assert arrival(ipv4, HAPROXY1.ipv6, FEW_SECONDS)
        assert arrival(ipv6, HAPROXY1.ipv6, FEW_SECONDS)
        began = address(network, HAPROXY1.name, f"del {FLOATING} dev eth0")
        moved_at = arrival(ipv4, HAPROXY2.ipv6, FEW_SECONDS)
        assert moved_at
        print(f"{kind}: the fabric follows {(moved_at - began) * 1e3:.0f} ms after the address has gone")
        assert ipv6.next_hop == HAPROXY1.ipv6
        began = time.monotonic()
        primary.stop()
        moved_at = arrival(ipv6, HAPROXY2.ipv6, FEW_SECONDS)
        assert moved_at
        print(f"{kind}: the fabric follows {(moved_at - began) * 1e3:.0f} ms after SIGTERM")
        assert primary.wait() == 0
