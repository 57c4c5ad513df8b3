"""The kinds of fault: what is done, how it ends, and how long traffic may be lost for it in each placement.

A fault is done to `node`, which is the master or the backup when it begins. When its function returns, the fault is
over, and the pair must become calm without help. Bounds are those of the lab's scenes.
"""

import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from floatip.core.node import LINK_PATIENCE
from floatip.lab.network import FLOATING, NODES, OBSERVER, ROUTER
from floatip.lab.verdicts import TAKEOVER_MARGIN
from tests.soak.world import CHECK_INTERVAL, OPTIONS, World, add_addresses, add_gateways

NONE = 0.0
BLINK = 0.05
"""An address that was deleted is put back in milliseconds; one or two probes may fall into that."""
SILENT = OPTIONS.master_down_interval + TAKEOVER_MARGIN
HANDOVER = OPTIONS.master_down_interval - 3 * OPTIONS.advert_interval + TAKEOVER_MARGIN
"""The master says that it goes (priority 0): the skew time."""
LINK_FAULT = LINK_PATIENCE + TAKEOVER_MARGIN
"""A node in FAULT is the last standby."""
NOTICED = 2 * CHECK_INTERVAL + TAKEOVER_MARGIN
"""A service that has died is noticed by the next run of its check."""
ALL_DOWN = 6.0
LISTEN_AGAIN = 5.0
"""Until restarted route servers listen and have the routes."""

Play = Callable[[World, str], None]


@dataclass(frozen=True, slots=True)
class Kind:
    about: str
    play: Play
    all: float | None
    """Seconds for which traffic may be lost where both nodes hold the address; None: not played there."""
    master: float | None
    """Where the master alone holds it."""
    of: str = "master"
    """The node that has the fault."""
    starts: bool = False
    """Whether the daemon is started again after a crash: a third start in a minute bars the node."""

    def bound(self, placement: str) -> float | None:
        return self.all if placement == "all" else self.master


def kill(world: World, node: str, pause: float) -> None:
    world.nodes[node].kill()
    time.sleep(pause)
    world.nodes[node].start()


def stop(world: World, node: str, pause: float) -> None:
    world.nodes[node].stop()
    world.nodes[node].wait(20)
    time.sleep(pause)
    world.nodes[node].start()


def hang(world: World, node: str) -> None:
    world.nodes[node].pause()
    time.sleep(8)
    world.nodes[node].resume()


def hang_both(world: World, node: str) -> None:
    """As where the clock of the whole cluster stands still."""
    for daemon in world.nodes.values():
        daemon.pause()
    time.sleep(6)
    for daemon in world.nodes.values():
        daemon.resume()


def reload(world: World, node: str) -> None:
    os.kill(world.nodes[node].pid, signal.SIGHUP)
    time.sleep(2)


def reload_broken(world: World, node: str) -> None:
    daemon = world.nodes[node]
    text = world.toml[node]
    daemon.write("floatip.toml", text + "chekc = 1\n")
    os.kill(daemon.pid, signal.SIGHUP)
    time.sleep(2)
    daemon.write("floatip.toml", text)
    os.kill(daemon.pid, signal.SIGHUP)
    time.sleep(1)


def check_fails(world: World, node: str) -> None:
    world.trigger(node).touch()
    time.sleep(4)
    world.trigger(node).unlink()


def check_hangs(world: World, node: str) -> None:
    flag = world.slow_script(node).with_suffix(".script.hang")
    flag.touch()
    time.sleep(5)
    flag.unlink()


def service_dies(world: World, node: str) -> None:
    world.services[node].kill()
    time.sleep(4)
    world.services[node].start()


def delete_address(world: World, node: str) -> None:
    interface = "lo" if world.has_bgp else "eth0"
    world.run(node, "ip", "address", "del", str(FLOATING), "dev", interface)
    time.sleep(2)


def interface_down(world: World, node: str) -> None:
    (host,) = (each for each in NODES if each.name == node)
    world.run(node, "ip", "link", "set", "eth0", "down")
    time.sleep(6)
    world.run(node, "ip", "link", "set", "eth0", "up")
    with world.network.inside(node):
        add_addresses(host)
        if world.has_bgp:
            add_gateways()


def carrier(world: World, node: str) -> None:
    world.run(ROUTER, "ip", "link", "set", node, "down")
    time.sleep(6)
    world.run(ROUTER, "ip", "link", "set", node, "up")


def source_blinks(world: World, node: str) -> None:
    (host,) = (each for each in NODES if each.name == node)
    world.run(node, "ip", "address", "del", str(host.ipv4), "dev", "eth0")
    time.sleep(2)
    with world.network.inside(node):
        add_addresses(host)
        if world.has_bgp:
            add_gateways()


def cut(world: World, node: str) -> None:
    world.network.faults.cut(node)
    time.sleep(7)
    world.network.faults.heal(node)


def drop_vrrp(world: World, node: str, by: str) -> None:
    """`by`: adverts of this node, of the other, or of both vanish, or a third of them."""
    others = [each for each in world.nodes if each != node]
    senders = {"own": [node], "other": others, "both": [*world.nodes], "some": [*world.nodes]}[by]
    match = "ip protocol 112" + (" numgen random mod 3 == 0" if by == "some" else "")
    world.drop((sender, match) for sender in senders)
    time.sleep(8)
    world.drop(())


def flood(world: World, node: str) -> None:
    """Of adverts of nobody: another virtual router, a wrong version, a wrong length."""
    (host,) = (each for each in NODES if each.name == node)
    assert host.ipv4
    with world.network.inside(OBSERVER.name), socket.socket(socket.AF_INET, socket.SOCK_RAW, 112) as raw:
        for number in range(3000):
            raw.sendto(bytes([0x21 + number % 3, 99]) + os.urandom(number % 40), (str(host.ipv4.ip), 0))


def netlink_burst(world: World, node: str) -> None:
    changes = [f"address {do} 10.99.{n // 250}.{n % 250 + 1}/32 dev lo" for do in ("add", "del") for n in range(1500)]
    batch = world.directory / "batch"
    batch.write_text("\n".join(changes) + "\n")
    world.run(node, "ip", "-batch", str(batch))


def garbage(world: World, node: str) -> None:
    for text in (b"\xff\x00\n", b"[]\n", b"{}\n", b'{"cmd": 7}\n', b"[" * 5000 + b"\n", b"x" * 200_000):
        world.ask_garbage(node, text)


def server_restarts(world: World, node: str) -> None:
    world.servers["rs1"].kill()
    time.sleep(3)
    world.servers["rs1"].start()


def server_cut(world: World, node: str) -> None:
    world.network.faults.cut("rs2")
    time.sleep(OPTIONS.hold_time + 3)
    world.network.faults.heal("rs2")


def pair_cut(world: World, node: str) -> None:
    for server in ("rs2", "rs3", "rs4"):
        world.network.faults.cut_pair(node, server)
    time.sleep(OPTIONS.hold_time + 3)
    for server in ("rs2", "rs3", "rs4"):
        world.network.faults.heal_pair(node, server)


def servers_down(world: World, node: str) -> None:
    for server in world.servers.values():
        server.kill()
    time.sleep(ALL_DOWN)
    for server in world.servers.values():
        server.start()


KINDS = {
    "kill": Kind("floatip is killed and started at once", partial(kill, pause=0.1), NONE, BLINK, starts=True),
    "kill-long": Kind("floatip is killed and started 5 s later", partial(kill, pause=5.0), NONE, BLINK, starts=True),
    "kill-backup": Kind("floatip is killed", partial(kill, pause=0.1), NONE, NONE, "backup", starts=True),
    "stop": Kind("floatip is stopped and started 3 s later", partial(stop, pause=3.0), NONE, BLINK),
    "stop-backup": Kind("floatip is stopped", partial(stop, pause=3.0), NONE, NONE, "backup"),
    "restart": Kind("floatip is restarted", partial(stop, pause=0.0), NONE, BLINK),
    "hang": Kind("floatip hangs for 8 s", hang, NONE, BLINK),
    "hang-backup": Kind("floatip hangs for 8 s", hang, NONE, NONE, "backup"),
    "hang-both": Kind("both hang for 6 s", hang_both, NONE, BLINK),
    "reload": Kind("SIGHUP", reload, NONE, NONE),
    "reload-backup": Kind("SIGHUP", reload, NONE, NONE, "backup"),
    "reload-broken": Kind("SIGHUP with an error in the file", reload_broken, NONE, NONE),
    "check-fails": Kind("a check fails", check_fails, NONE, HANDOVER),
    "check-fails-backup": Kind("a check fails", check_fails, NONE, NONE, "backup"),
    "check-hangs": Kind("a check hangs", check_hangs, NONE, HANDOVER),
    "service-dies": Kind("the service is killed", service_dies, NOTICED, NOTICED + HANDOVER),
    "delete": Kind("the floating IP is deleted", delete_address, BLINK, BLINK),
    "interface": Kind("eth0 goes down for 6 s", interface_down, SILENT, SILENT),
    "interface-backup": Kind("eth0 goes down for 6 s", interface_down, NONE, NONE, "backup"),
    "carrier": Kind("the carrier is lost for 6 s", carrier, None, SILENT),
    # With the last IPv4 address of a link the kernel drops all IPv4 routes over it.
    "source-blinks": Kind("the source address is deleted for 2 s", source_blinks, LINK_FAULT, SILENT),
    "cut": Kind("cut off for 7 s", cut, SILENT, SILENT),
    "cut-backup": Kind("cut off for 7 s", cut, NONE, NONE, "backup"),
    "deaf": Kind("it does not hear the other's adverts", partial(drop_vrrp, by="other"), NONE, NONE),
    "mute": Kind("the other does not hear its adverts", partial(drop_vrrp, by="own"), NONE, HANDOVER),
    "split": Kind("no advert arrives", partial(drop_vrrp, by="both"), NONE, HANDOVER),
    "lossy": Kind("a third of the adverts is lost", partial(drop_vrrp, by="some"), NONE, HANDOVER),
    "adverts-flood": Kind("3000 adverts of strangers", flood, NONE, NONE),
    "netlink-burst": Kind("1500 addresses come and go on lo", netlink_burst, NONE, NONE),
    "garbage": Kind("garbage on the control socket", garbage, NONE, NONE),
    "server-restarts": Kind("rs1 is killed and started", server_restarts, NONE, None),
    "server-cut": Kind("rs2 is cut off", server_cut, NONE, None),
    "pair-cut": Kind("it loses three of four route servers", pair_cut, NONE, None),
    "servers-down": Kind("all route servers are killed", servers_down, ALL_DOWN + LISTEN_AGAIN, None),
}


def draw(seed: int, placement: str) -> Iterator[str]:
    """Without end: all kinds of the placement in an order of the seed, then all in another order, and so on."""
    chance = random.Random(f"{seed} {placement}")
    names = [name for name, kind in KINDS.items() if kind.bound(placement) is not None]
    while True:
        yield from chance.sample(names, len(names))
