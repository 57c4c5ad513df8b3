"""A pair of floatip alone that announces by BGP: nodes that know each other, and the VRRP pair that they were before;
and the faults of the nodes.
"""

from functools import partial
from ipaddress import IPv4Interface

from floatip.lab.network import FLOATING, NODES
from tests.systemd import guide
from tests.systemd.faults import Fault, shell
from tests.systemd.machines import Machine, on_each, wait_for
from tests.systemd.pair import Pair
from tests.systemd.stacks import (
    SETTLE_TIMEOUT,
    Stack,
    claims,
    install_package,
    is_announced,
    next_package,
    status,
)

FLOATIP_TOML, KEY = "/etc/floatip/floatip.toml", "/etc/floatip/key"
DETECTED = 0.45
"""Seconds in which a node that vanished has lost the traffic."""
WATCHED = 1.0
"""Seconds after the end of a command in which one node alone must be seen to answer."""
WATCHDOG, STARTED = 3.0, 1.7
"""Seconds after which systemd kills a floatip that hangs, and in which it has started another one."""
CHECK_AND_RELOAD = "floatip check && systemctl reload floatip"
REPAIR = "systemctl kill --signal=CONT floatip; systemctl start haproxy floatip"

HEAD = """\
[linode]
dcid = 6

"""
CHECK = """\
[[check]]
name = "haproxy"
process = "haproxy"

"""
INSTANCE = f"""\
[[instance]]
name = "web"
addresses = ["{FLOATING}"]
checks = ["haproxy"]
"""


def nodes_toml() -> str:
    return HEAD + _tables() + CHECK + INSTANCE


def _tables() -> str:
    return "".join(f'[[node]]\nname = "{host.name}"\naddress = "{_ipv4(host.ipv4)}"\n\n' for host in NODES)


def vrrp_toml(node: Machine, *, with_nodes: bool = False) -> str:
    me, peer = (_ipv4(host.ipv4) for host in guide.hosts(node))
    vrrp = f"""
[instance.vrrp]
interface = "eth0"
vrid = 51
priority = 50
preempt = false
source = "{me}"
peers = ["{peer}"]
"""
    return HEAD + (_tables() if with_nodes else "") + CHECK + INSTANCE + vrrp


def _ipv4(address: IPv4Interface | None) -> str:
    assert address
    return str(address.ip)


class _Alone(Stack):
    announcer = "floatip"
    repair = REPAIR

    def install(self, pair: Pair) -> None:
        install_package(pair)
        on_each(pair.nodes, guide.install_service)
        self.configure(pair)
        on_each(pair.nodes, lambda node: node.run("systemctl enable floatip && systemctl restart floatip"))

    def configure(self, pair: Pair) -> None:
        raise NotImplementedError

    def masters(self, pair: Pair) -> list[Machine]:
        return [node for node in pair.nodes if self.claims(node)]

    def prepare(self, pair: Pair, master: Machine) -> None:
        for node in pair.nodes:
            wait_for(partial(self._is_ready, node), f"{node.name} to be ready", SETTLE_TIMEOUT)

    def _is_ready(self, node: Machine) -> bool:
        told = status(node)
        ready = all(each["state"] in ("this node", "alive") and each["healthy"] for each in told["nodes"])
        return ready and is_announced(told) and not any(each["drained"] for each in told["nodes"])

    def claims(self, node: Machine) -> bool:
        return claims(status(node))


class Nodes(_Alone):
    name = "floatip's nodes"
    repair = f"{REPAIR}; floatip undrain"

    def configure(self, pair: Pair) -> None:
        for node in pair.nodes:
            node.write(FLOATIP_TOML, nodes_toml())
        share_key(pair)


class VrrpPair(_Alone):
    name = "floatip's VRRP pair"

    def configure(self, pair: Pair) -> None:
        for node in pair.nodes:
            node.run(f"rm -f {KEY}")
            node.write(FLOATIP_TOML, vrrp_toml(node))


VRRP_PAIR, NODES_STACK = VrrpPair(), Nodes()


def share_key(pair: Pair) -> None:
    """As `floatip key` says: the lines of scp, which no host has, by hand."""
    first, second = pair.nodes
    first.run(f"rm -f {KEY} && floatip key")
    second.write(KEY, first.run(f"cat {KEY}", quiet=True), 0o640)
    second.run(f"chgrp floatip {KEY}")


def season(pair: Pair) -> None:
    """Until route servers believe both nodes: no handover is refused for that."""
    for node in pair.nodes:
        wait_for(partial(_is_seasoned, node), f"the sessions of {node.name} to be old enough", SETTLE_TIMEOUT)


def _is_seasoned(node: Machine) -> bool:
    sessions = status(node)["sessions"]
    return bool(sessions) and not any(each["young"] for each in sessions)


def _knows_nodes(node: Machine) -> bool:
    return bool(status(node)["nodes"])


def _start_afresh(pair: Pair) -> None:
    """A node that has crashed twice within a minute stays standby after the third time; a stop forgets that."""
    for node in pair.nodes:
        node.run("systemctl restart floatip")


def _drain_reboot_undrain(pair: Pair, stack: Stack, master: Machine) -> None:
    master.run("floatip drain --reason 'a new kernel'")
    master.reboot()
    wait_for(partial(_knows_nodes, master), f"floatip on {master.name}", SETTLE_TIMEOUT)
    (own,) = (node for node in status(master)["nodes"] if node["own"])
    assert (own["drained"], own["reason"]) == (True, "a new kernel"), "a drain outlives a reboot"
    master.run("floatip undrain")


def _vanish(pair: Pair, stack: Stack, master: Machine) -> None:
    pair.network.faults.cut(master.name)


def _next_package(pair: Pair) -> None:
    next_package(pair.directory)


def _upgrade(pair: Pair, stack: Stack, master: Machine) -> None:
    master.install(next_package(pair.directory))


def _both_drained(pair: Pair, stack: Stack, master: Machine) -> None:
    """The last one goes on until it may leave."""
    other = pair.other(master)
    other.run("floatip drain")
    refused = master.run("floatip drain 2>&1", check=False)
    assert f"no other node could take over web: {other.name} is drained" in refused
    assert "web stays here until another node is ready" in master.run("floatip drain --force")
    assert stack.claims(master)
    other.run("floatip undrain")
    wait_for(lambda: stack.claims(other), f"{other.name} to take over", SETTLE_TIMEOUT)
    master.run("floatip undrain")


def _kill_peer_and_hand_over(pair: Pair, stack: Stack, master: Machine) -> None:
    other = pair.other(master)
    other.run("systemctl kill --signal=KILL haproxy")
    not_healthy = f"{other.name} is not healthy: check haproxy"
    wait_for(lambda: not_healthy in refusal(master), "the handover to be refused for the check", SETTLE_TIMEOUT)
    other.run("systemctl stop floatip")
    wait_for(
        lambda: f"{other.name} is not there: its daemon has stopped" in refusal(master),
        "why: it has stopped",
        SETTLE_TIMEOUT,
    )
    other.run("systemctl start haproxy floatip")
    wait_for(lambda: "younger than 30 s" in refusal(master), "why: young sessions", SETTLE_TIMEOUT)


def refusal(node: Machine) -> str:
    """Of a handover that must be refused."""
    told = node.run("floatip handover 2>&1; echo exit status $?", check=False)
    assert told.endswith("exit status 1\n"), told
    return told


FAULTS = (
    Fault("handover", shell("floatip handover"), moves=True, within=WATCHED, prepare=season),
    Fault("drain, reboot, undrain", _drain_reboot_undrain, moves=True, within=WATCHED, prepare=season),
    Fault("handover refused", _kill_peer_and_hand_over, moves=False, within=WATCHED),
    Fault("both drained", _both_drained, moves=True, within=WATCHED),
    Fault("systemctl stop", shell("systemctl stop floatip"), moves=True, within=WATCHED),
    Fault("systemctl restart", shell("systemctl restart floatip"), moves=True, within=WATCHED),
    Fault("systemctl reload", shell("systemctl reload floatip"), moves=False, within=WATCHED),
    Fault("systemctl reboot", lambda pair, stack, master: master.reboot(), moves=True, within=WATCHED),
    Fault("package upgrade", _upgrade, moves=True, within=WATCHED, prepare=_next_package),
    Fault(
        "SIGKILL",
        shell("systemctl kill --signal=KILL floatip"),
        moves=None,
        within=WATCHED + STARTED,
        prepare=_start_afresh,
    ),
    Fault(
        "SIGSTOP: it hangs",
        shell("systemctl kill --signal=STOP floatip"),
        moves=True,
        within=WATCHED + WATCHDOG + STARTED,
        prepare=_start_afresh,
    ),
    Fault("the machine vanishes", _vanish, moves=True, within=WATCHED, lost_at_most=DETECTED),
    Fault(
        "SIGKILL: HAProxy",
        shell("systemctl kill --signal=KILL haproxy"),
        moves=True,
        within=WATCHED,
        lost_at_most=0.05,
    ),
)


def from_vrrp_to_nodes(pair: Pair, stack: Stack, master: Machine) -> None:
    """The steps of docs/operate/vrrp.md."""
    share_key(pair)
    for node in pair.nodes:
        node.write(FLOATIP_TOML, vrrp_toml(node, with_nodes=True))
        node.run(CHECK_AND_RELOAD)
    for node in pair.nodes:
        wait_for(partial(_hears, node), f"{node.name} to hear the other, and to be heard", SETTLE_TIMEOUT)
    for node in (pair.other(master), master):
        node.write(FLOATIP_TOML, nodes_toml())
        node.run(CHECK_AND_RELOAD)
    for node in pair.nodes:
        wait_for(partial(_has_no_problems, node), f"{node.name} to have no problems", SETTLE_TIMEOUT)


def _hears(node: Machine) -> bool:
    return node.succeeds("floatip nodes")


def _has_no_problems(node: Machine) -> bool:
    return node.succeeds("floatip status && floatip nodes")
