"""How the two nodes are configured, as in the guide: floatip.toml, and keepalived.conf where keepalived elects."""

import json
from collections.abc import Sequence
from pathlib import Path

from floatip.lab.network import FLOATING, NODES, THREE_NODES, LabHost, floating
from floatip.lab.programs.keepalived import KeepalivedProgram
from floatip.lab.record import PRIORITY, RunOptions

LEASE_TIME = 5
"""Seconds; shorter than the default, so that a scene takes no longer than it must."""


def floatip_toml(
    options: RunOptions, host: str, trigger: Path, elector: KeepalivedProgram | None, endpoints: Sequence[str] = ()
) -> str:
    """`elector`: keepalived, if it elects. `endpoints`: of etcd, if it decides."""
    check = f"""\
[[check]]
name = "trigger"
{options.check or f'file = "{trigger}"'}
"""
    nodes = election = ""
    if elector:
        check = ""  # keepalived checks
        election = f"""\
[keepalived]
fifo = "{elector.fifo}"
pid_file = "{elector.pid_file}"
vrrp_pid_file = "{elector.vrrp_pid_file}"

[instance.keepalived]
{_virtual_router(options, host)}"""
    elif options.election == "nodes":
        nodes = "".join(map(_node, THREE_NODES if options.three else NODES))
    else:
        election = f"[instance.vrrp]\npreempt = false\n{_virtual_router(options, host)}"
    answers = f'answers = "{options.answers}"\n' if options.answers != "tunnel" else ""
    chance = f'[second_chance]\nmode = "on"\n{answers}\n' if options.second_chance == "on" else ""
    etcd = f"[etcd]\nendpoints = {json.dumps(list(endpoints))}\nlease_time = {LEASE_TIME}\n\n" if endpoints else ""
    if options.members:
        return f'{etcd}[member]\nname = "{host}"\n\n{check}'
    return f"{_bgp(options)}\n{chance}{etcd}{nodes}{check}{_instances(options, has_check=bool(check))}\n{election}"


def fleet_toml(options: RunOptions) -> str:
    """What is at etcd for all nodes."""
    return f"{_bgp(options)}{_instances(options, has_check=True)}"


def _bgp(options: RunOptions) -> str:
    return "" if options.shared_layer2 else f"[linode]\ndcid = 6\n\n[bgp]\nhold_time = {options.hold_time}\n"


def _instances(options: RunOptions, *, has_check: bool) -> str:
    more = 'placement = "master"\nexclusive = true\n' if options.exclusive else ""
    return "".join(
        f"""
[[instance]]
name = "VI_{number}"
addresses = ["{address}"]
checks = [{'"trigger"' if has_check else ""}]
{more}"""
        for number, address in enumerate(floating(options.instances), 1)
    )


def _node(host: LabHost) -> str:
    assert host.ipv4 is not None
    return f"""\
[[node]]
name = "{host.name}"
address = "{host.ipv4.ip}"

"""


def _virtual_router(options: RunOptions, host: str) -> str:
    me, other = _addresses(host)
    return f"""\
interface = "eth0"
vrid = 51
priority = {PRIORITY}
version = {options.vrrp_version}
advert_interval = {options.advert_interval:g}
source = "{me}"
peers = ["{other}"]
"""


def _addresses(host: str) -> tuple[str, str]:
    """Of this node and of the other."""
    me, other = NODES if host == NODES[0].name else reversed(NODES)
    assert me.ipv4 is not None
    assert other.ipv4 is not None
    return str(me.ipv4.ip), str(other.ipv4.ip)


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
