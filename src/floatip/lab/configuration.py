"""How the two nodes are configured, as in the guide: floatip.toml, and keepalived.conf where keepalived elects."""

from pathlib import Path

from floatip.lab.network import FLOATING, NODES
from floatip.lab.programs.keepalived import KeepalivedProgram
from floatip.lab.record import PRIORITY, RunOptions


def _addresses(host: str) -> tuple[str, str]:
    """Of this node and of the other."""
    me, other = NODES if host == NODES[0].name else reversed(NODES)
    assert me.ipv4 is not None
    assert other.ipv4 is not None
    return str(me.ipv4.ip), str(other.ipv4.ip)


def floatip_toml(options: RunOptions, host: str, trigger: Path, elector: KeepalivedProgram | None) -> str:
    """`elector`: keepalived, if it elects."""
    me, other = _addresses(host)
    check = f"""\
[[check]]
name = "trigger"
{options.check or f'file = "{trigger}"'}
"""
    election = """\
[instance.vrrp]
preempt = false
"""
    if elector:
        check = ""  # keepalived checks
        election = f"""\
[keepalived]
fifo = "{elector.fifo}"
pid_file = "{elector.pid_file}"
vrrp_pid_file = "{elector.vrrp_pid_file}"

[instance.keepalived]
"""
    bgp = "" if options.shared_layer2 else f"[linode]\ndcid = 6\n\n[bgp]\nhold_time = {options.hold_time}\n"
    return f"""\
{bgp}
{check}
[[instance]]
name = "VI_1"
addresses = ["{FLOATING}"]
checks = [{'"trigger"' if check else ""}]

{election}interface = "eth0"
vrid = 51
priority = {PRIORITY}
version = {options.vrrp_version}
advert_interval = {options.advert_interval:g}
source = "{me}"
peers = ["{other}"]
"""


def keepalived_conf(options: RunOptions, host: str, trigger: Path) -> str:
    me, other = _addresses(host)
    return f"""\
global_defs {{
  vrrp_notify_fifo FIFO root
  vrrp_version {options.vrrp_version}
  script_user root
  enable_script_security
}}
vrrp_script chk_trigger {{
  script "/usr/bin/test ! -e {trigger}"
  interval 1
  fall 2
  rise 2
}}
vrrp_instance VI_1 {{
  state BACKUP
  nopreempt
  interface eth0
  virtual_router_id 51
  priority {PRIORITY}
  advert_int {options.advert_interval:g}
  track_script {{
    chk_trigger
  }}
  unicast_src_ip {me}
  unicast_peer {{
    {other}
  }}
  virtual_ipaddress {{
    {FLOATING}
  }}
}}
"""
