"""The guide's stack on a node: keepalived, notify.sh, sudo, and an announcer in lelastic's place.

lelastic's own engine is GoBGP, so Debian's gobgpd stands in for it with the same options: hold time 9 and 3,
multihop 16, AS 65001 to 65000, IPv4 over an IPv6 next hop, community 65000:1; and as lelastic it ends when it gets
SIGHUP, which is what its unit's reload sends. Only the check is faster than the guide's, so that a test is not a
minute long.
"""

import json

from floatip.lab.network import FLOATING, NODES, ROUTE_SERVERS, LabHost
from floatip.lab.programs.services import haproxy_config
from tests.systemd.machines import Machine

CHECK = "interval 1\n  timeout 15\n  fall 2\n  rise 2"
"""The guide has 15, 4 and 2. There a check may take as long as its interval, so here it may as well."""
TRIGGER = "/etc/keepalived/trigger.file"
STATE_LOG = "/tmp/keepalived.state"
SCRIPT_USER = "keepalived_script"

LELASTIC_SERVICE = """\
[Unit]
Description=Lelastic
After=network-online.target
Wants=network-online.target

[Service]
Type=simple
ExecStart=/usr/local/bin/lelastic -dcid 6 -primary -allifs
ExecReload=/bin/kill -s HUP $MAINPID

[Install]
WantedBy=multi-user.target
"""

LELASTIC = """\
#!/bin/bash
# gobgpd in lelastic's place; the shell is the main process, and SIGHUP ends it.
gobgpd -t json -f /etc/lelastic.json -p --pprof-disable &
until gobgp global rib add {prefix} nexthop {next_hop} community 65000:1 2>/dev/null; do sleep 0.1; done
wait
"""

NOTIFY = """\
#!/bin/bash
log=/tmp/keepalived.state

function note {
  local state=$1
  cat << EOF >> $log
===================================
Date:  $(date +'%d-%b-%Y %H:%M:%S')
[INFO] Now $state

EOF
}

case $1 in
  Master)
    note Master
    sudo systemctl restart lelastic
    ;;
  Backup|Fault)
    note $1
    sudo systemctl stop lelastic
    ;;
  *)
    echo "[ERR] Provided argument is invalid"
esac
"""

FAILOVER = f"""\
#!/bin/bash
if [ -f {TRIGGER} ]; then
  exit 1
else
  exit 0
fi
"""
FAILOVER_WITH_HAPROXY = f"""\
#!/bin/bash
[ ! -f {TRIGGER} ] && curl --silent --fail --max-time 10 --output /dev/null http://127.0.0.1/
"""
SUDOERS = f"""\
{SCRIPT_USER} ALL=(root) NOPASSWD: /usr/bin/systemctl restart lelastic, /usr/bin/systemctl stop lelastic
"""


def keepalived_conf(me: LabHost, peer: LabHost) -> str:
    assert me.ipv4
    assert peer.ipv4
    return f"""\
! Configuration File for keepalived

global_defs {{
  router_id LVS_DBCLUSTER
  enable_script_security
}}

vrrp_script chk_haproxy {{
  script "/etc/keepalived/failover.sh"
  {CHECK}
}}

vrrp_instance VI_1 {{
  state BACKUP
  nopreempt
  interface eth0
  virtual_router_id 51
  priority 50
  advert_int 1
  track_interface {{
    eth0
  }}
  track_script {{
    chk_haproxy
  }}
  authentication {{
    auth_type PASS
    auth_pass twenty-characters-00
  }}
  unicast_src_ip {me.ipv4.ip}
  unicast_peer {{
    {peer.ipv4.ip}
  }}
  virtual_ipaddress {{
    {FLOATING}
  }}
  notify_master "/etc/keepalived/notify.sh Master"
  notify_backup "/etc/keepalived/notify.sh Backup"
  notify_fault "/etc/keepalived/notify.sh Fault"
}}
"""


def gobgpd_json(me: LabHost) -> str:
    def neighbor(server: LabHost) -> dict[str, object]:
        return {
            "config": {"neighbor-address": str(server.ipv6), "peer-as": 65000},
            "transport": {"config": {"local-address": str(me.ipv6)}},
            "timers": {"config": {"hold-time": 9, "keepalive-interval": 3}},
            "ebgp-multihop": {"config": {"enabled": True, "multihop-ttl": 16}},
            "afi-safis": [{"config": {"afi-safi-name": f"{family}-unicast"}} for family in ("ipv4", "ipv6")],
        }

    assert me.ipv4
    own = {"config": {"as": 65001, "router-id": str(me.ipv4.ip), "port": -1}}
    return json.dumps({"global": own, "neighbors": [neighbor(server) for server in ROUTE_SERVERS]}, indent=1)


def install_service(node: Machine) -> None:
    """HAProxy with a page that names its host."""
    node.write("/etc/haproxy/haproxy.cfg", haproxy_config(node.name))
    node.write("/etc/systemd/system/haproxy.service.d/stays-dead.conf", "[Service]\nRestart=no\n")
    node.run("systemctl daemon-reload && systemctl enable --now haproxy")


def install_announcer(node: Machine) -> None:
    """Step 1 of the guide."""
    me, _ = hosts(node)
    node.write("/etc/lelastic.json", gobgpd_json(me))
    node.write("/usr/local/bin/lelastic", LELASTIC.format(prefix=FLOATING.network, next_hop=me.ipv6), 0o755)
    node.write("/etc/systemd/system/lelastic.service", LELASTIC_SERVICE)
    node.run("systemctl daemon-reload")
    node.run("systemctl start lelastic")
    node.run("systemctl enable lelastic")


def install_keepalived(node: Machine) -> None:
    """Step 2 of the guide, and its page on script security."""
    if not node.succeeds(f"id {SCRIPT_USER}"):
        node.run(f"useradd --system --no-create-home --shell /usr/sbin/nologin {SCRIPT_USER}")
    node.write(f"/etc/sudoers.d/{SCRIPT_USER}", SUDOERS, 0o440)
    node.write("/etc/keepalived/keepalived.conf", keepalived_conf(*hosts(node)))
    node.write("/etc/keepalived/notify.sh", NOTIFY, 0o755)
    node.write("/etc/keepalived/failover.sh", FAILOVER, 0o755)
    node.run(f"chown -R {SCRIPT_USER}:{SCRIPT_USER} /etc/keepalived")
    node.run("systemctl enable keepalived")


def hosts(node: Machine) -> tuple[LabHost, LabHost]:
    """This node and the other."""
    one, other = NODES
    return (one, other) if node.name == one.name else (other, one)
