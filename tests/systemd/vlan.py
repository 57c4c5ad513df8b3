"""A pair without BGP, on one layer 2: floatip alone with placement `master`, and keepalived alone; and their faults.

keepalived has its usual configuration: it adds the address itself, and a script looks for HAProxy each second.
"""

import subprocess
import time

from floatip.lab.network import FLOATING, ROUTER, LabHost
from tests.systemd import guide
from tests.systemd.faults import MASTER_DOWN, Fault, shell
from tests.systemd.machines import Machine, on_each
from tests.systemd.pair import Pair
from tests.systemd.stacks import Stack, install_package

SKEW = MASTER_DOWN - 3
MARGIN = 0.1
"""Seconds that a takeover may take beyond the timer that it waits for."""
PUT_BACK = 0.05
WATCHDOG, STARTED = 3.0, 1.7
"""Seconds after which systemd kills a floatip that hangs, and in which it has started another one."""
CONFIG = {"keepalived": "/etc/keepalived/keepalived.conf", "floatip": "/etc/floatip/floatip.toml"}


def keepalived_conf(me: LabHost, peer: LabHost) -> str:
    assert me.ipv4
    assert peer.ipv4
    return f"""\
global_defs {{
  script_user root
  enable_script_security
}}

vrrp_script chk_haproxy {{
  script "/usr/bin/killall -0 haproxy"
  interval 1
}}

vrrp_instance VI_1 {{
  state BACKUP
  nopreempt
  interface eth0
  virtual_router_id 51
  priority 50
  advert_int 1
  unicast_src_ip {me.ipv4.ip}
  unicast_peer {{
    {peer.ipv4.ip}
  }}
  virtual_ipaddress {{
    {FLOATING}
  }}
  track_script {{
    chk_haproxy
  }}
}}
"""


def floatip_toml(me: LabHost, peer: LabHost) -> str:
    assert me.ipv4
    assert peer.ipv4
    return f"""\
[[check]]
name = "haproxy"
process = "haproxy"

[[instance]]
name = "VI_1"
addresses = ["{FLOATING}"]
checks = ["haproxy"]
placement = "master"

[instance.vrrp]
preempt = false
interface = "eth0"
vrid = 51
priority = 50
version = 2
source = "{me.ipv4.ip}"
peers = ["{peer.ipv4.ip}"]
"""


class Vlan(Stack):
    """One daemon does it all."""

    def __init__(self, daemon: str) -> None:
        self.name = f"{daemon} alone"
        self.announcer = daemon
        self.repair = f"systemctl kill --signal=CONT {daemon}; systemctl start haproxy {daemon}"

    def install(self, pair: Pair) -> None:
        install_package(pair)
        on_each(pair.nodes, self._install)

    def _install(self, node: Machine) -> None:
        text = {"keepalived": keepalived_conf, "floatip": floatip_toml}[self.announcer](*guide.hosts(node))
        node.write(CONFIG[self.announcer], text)
        guide.install_service(node)
        (other,) = CONFIG.keys() - {self.announcer}
        node.run(f"systemctl disable --now {other}; systemctl enable --now {self.announcer}")

    def claims(self, node: Machine) -> bool:
        return f" {FLOATING} " in node.run("ip -4 address show eth0", quiet=True)


KEEPALIVED, FLOATIP = Vlan("keepalived"), Vlan("floatip")


def _vanish(pair: Pair, stack: Stack, master: Machine) -> None:
    pair.network.faults.cut(master.name)


def _switch_port_down(pair: Pair, stack: Stack, master: Machine) -> None:
    for state, seconds in (("down", 6), ("up", 0)):
        with pair.network.inside(ROUTER):
            subprocess.run(["ip", "link", "set", master.name, state], check=True)
        time.sleep(seconds)


FAULTS = (
    Fault(
        "SIGKILL: HAProxy",
        shell("systemctl kill --signal=KILL haproxy"),
        moves=True,
        within=SKEW + MARGIN,
        lost_at_most=SKEW + MARGIN,
    ),
    Fault("systemctl stop", shell("systemctl stop {announcer}"), moves=True, within=MARGIN),
    Fault("systemctl restart", shell("systemctl restart {announcer}"), moves=True, within=MARGIN),
    Fault("SIGKILL", shell("systemctl kill --signal=KILL {announcer}"), moves=None, within=MASTER_DOWN + STARTED),
    Fault(
        "SIGSTOP: it hangs",
        shell("systemctl kill --signal=STOP {announcer}"),
        moves=None,
        within=WATCHDOG + STARTED + MASTER_DOWN,
    ),
    Fault("systemctl reload", shell("systemctl reload {announcer}"), moves=False, within=MARGIN),
    Fault("systemctl reboot", lambda pair, stack, master: master.reboot(), moves=True, within=MARGIN),
    Fault(
        "the machine vanishes",
        _vanish,
        moves=True,
        within=MASTER_DOWN + MARGIN,
        lost_at_most=MASTER_DOWN + MARGIN,
    ),
    Fault(
        "its switch port is down for 6 s",
        _switch_port_down,
        moves=True,
        within=MARGIN,
        lost_at_most=MASTER_DOWN + MARGIN,
    ),
    Fault(
        "the address is deleted by hand",
        shell(f"ip address del {FLOATING} dev eth0"),
        moves=False,
        within=MARGIN,
        lost_at_most=PUT_BACK,
    ),
)
