"""The guide's haproxy1 as a tree of files; systemd, the kernel and the daemon around it are played."""

import base64
import os
import re
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from floatip.adopt.system import CommandResult, System
from floatip.core.addresses import Placed
from floatip.reading.machine import Machine
from floatip.reading.rights import User

SCRIPT_USER = 64123
FLOATIP = 64130

KEEPALIVED_CONF = """\
! the guide's configuration
global_defs {
    router_id LVS_DBCLUSTER
    enable_script_security
}

vrrp_script chk_haproxy {
    script "/etc/keepalived/failover.sh"
    interval 1
    fall 2
    rise 2
}

vrrp_instance VI_1 {
    state BACKUP          ! both nodes
    nopreempt
    interface eth0
    virtual_router_id 51
    priority 50
    advert_int 1
    track_script {
        chk_haproxy
    }
    authentication {
        auth_type PASS
        auth_pass secret89
    }
    unicast_src_ip 192.168.143.227
    unicast_peer {
        192.168.143.241
    }
    virtual_ipaddress {
        192.168.223.158/32
    }
    notify_master "/etc/keepalived/notify.sh Master"
    notify_backup "/etc/keepalived/notify.sh Backup"
    notify_fault "/etc/keepalived/notify.sh Fault"
}
"""

NOTIFY_SH = """\
#!/bin/bash

log='/tmp/keepalived.state'
function change {
        local state=$1
        cat << EOF >> $log
===================================
Date:  $(date +'%d-%b-%Y %H:%M:%S')
[INFO] Now $state

EOF
        if [[ "$state" == "Master" ]]; then
                sudo systemctl restart lelastic
        else
                sudo systemctl stop lelastic
        fi
}

case $1 in
Master|Backup|Fault)
        change $1;;
*)
        echo "[ERR] not a state"
esac
"""

KEEPALIVED_SERVICE = """\
[Service]
EnvironmentFile=-/etc/default/keepalived
ExecStart=/usr/sbin/keepalived --dont-fork $DAEMON_ARGS
ExecReload=/bin/kill -HUP $MAINPID
"""

LELASTIC_SERVICE = """\
[Unit]
Description= Lelastic

[Service]
ExecStart=/usr/local/bin/lelastic -dcid 6 -primary -allifs
"""

SUDO_RULE = (
    "keepalived_script ALL=(ALL:ALL) NOPASSWD: /usr/bin/systemctl restart lelastic, /usr/bin/systemctl stop lelastic\n"
)

FILES = {
    "/etc/keepalived/keepalived.conf": (KEEPALIVED_CONF, 0o640),
    "/etc/keepalived/notify.sh": (NOTIFY_SH, 0o755),
    "/etc/keepalived/failover.sh": ("#!/bin/bash\n[ ! -f /etc/keepalived/trigger.file ]\n", 0o755),
    "/etc/default/keepalived": ('DAEMON_ARGS=""\n', 0o644),
    "/etc/passwd": (
        f"root:x:0:0::/root:/bin/sh\nkeepalived_script:x:{SCRIPT_USER}:{SCRIPT_USER}::/:/bin/false\n",
        0o644,
    ),
    "/etc/sudoers": ("Defaults use_pty\nroot ALL=(ALL:ALL) ALL\n", 0o440),
    "/etc/sudoers.d/keepalived": (f"# the guide's\n{SUDO_RULE}", 0o440),
    "/etc/systemd/system/lelastic.service": (LELASTIC_SERVICE, 0o644),
    "/lib/systemd/system/keepalived.service": (KEEPALIVED_SERVICE, 0o644),
}


class Haproxy1(System):
    """Plays what would otherwise be systemd, the kernel, `keepalived -t` and the daemon."""

    def __init__(self, root: Path) -> None:
        if os.geteuid() != 0:
            pytest.fail("these tests give files to other users and need root: sudo make test")
        super().__init__(root)
        self.commands: list[str] = []
        self.active = {"keepalived.service", "lelastic.service"}
        self.enabled = {"keepalived.service", "lelastic.service"}
        self.installed = {"keepalived.service", "lelastic.service", "floatip.service"}
        self.addresses_on = {"lo": ["127.0.0.1/8"], "eth0": ["192.168.143.227/17", "192.168.223.158/32"]}
        self.leased: set[str] = set()
        self.pids: dict[str, int] = {}
        self.complaint = ""
        self.sudo = ""
        self.fails: set[str] = set()
        self.connects = True
        self.role = "master"
        self.keepalived_is: dict[str, str] = {"VI_1": "MASTER"}
        """By its own word; empty: it writes none."""
        self.told: list[dict[str, object]] = []
        for path, (text, mode) in FILES.items():
            self.write(path, text, mode)
        self.root.chmod(0o755)
        self.at("/run/keepalived").mkdir(parents=True)
        os.mkfifo(self.at("/run/keepalived/floatip"), 0o640)
        self.write("/run/keepalived.pid", "811\n")
        self.write("/run/vrrp.pid", "812\n")
        self.at("/proc/811/root/tmp").mkdir(parents=True)
        self.at("/proc/812/fd").mkdir(parents=True)
        self.at("/var").mkdir()
        self.at("/etc/floatip").mkdir()

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        self.at(path).parent.mkdir(parents=True, exist_ok=True)
        self.at(path).write_text(text)
        self.at(path).chmod(mode)

    def belongs_to_the_script_user(self) -> None:
        """As the guide has it."""
        for name in ("/etc/keepalived", *(path for path in FILES if path.startswith("/etc/keepalived/"))):
            os.chown(self.at(name), SCRIPT_USER, 0)
        self.at("/etc/keepalived/failover.sh").chmod(0o700)

    def tree(self) -> dict[str, tuple[int, int, int, str]]:
        """Everything but what runs."""
        found = {}
        for path in sorted(self.at("/etc").rglob("*")):
            info = path.lstat()
            content = base64.b64encode(path.read_bytes()).decode() if path.is_file() else ""
            found[str(path.relative_to(self.root))] = (info.st_mode, info.st_uid, info.st_gid, content)
        return found

    def run(self, *command: str) -> CommandResult:
        match command:
            case ("systemctl", "show", unit, *_):
                return CommandResult(0, self._shown(unit))
            case ("sudo", "-n", "-l", "-U", _):
                return CommandResult(0, self.sudo)
            case ("unshare", _, _, _, "keepalived", "-t", *_):
                says = self.complaint if "floatip" in self.text("/etc/keepalived/keepalived.conf") else ""
                return CommandResult(4 if says else 0, says)
            case ("kill", "-s", "USR1", pid):
                return self._dumped(pid)
        self.commands.append(" ".join(command))
        if " ".join(command) in self.fails:
            return CommandResult(1, "Job failed")
        match command:
            case ("systemctl", "start" | "restart", unit):
                self.active.add(unit)
            case ("systemctl", "stop", unit):
                self.active.discard(unit)
            case ("systemctl", "enable", unit):
                self.enabled.add(unit)
            case ("systemctl", "disable", unit):
                self.enabled.discard(unit)
            case ("systemctl", "reload-or-restart", "keepalived.service"):
                self._keepalived_reads()
        return CommandResult(0, "")

    def _dumped(self, pid: str) -> CommandResult:
        instances = (
            f" VRRP Instance = {name}\n   VRRP Version = 2\n   FileState = {state}\n   Wantstate = {state}\n"
            for name, state in self.keepalived_is.items()
        )
        if self.keepalived_is:
            new = f"/proc/{pid}/root/tmp/new"
            self.write(new, f"------< VRRP Topology >------\n{''.join(instances)}")
            self.at(new).rename(self.at(f"/proc/{pid}/root/tmp/keepalived.data"))
        return CommandResult(0, "")

    def tell(self, request: dict[str, object]) -> None:
        self.told.append(request)

    def _keepalived_reads(self) -> None:
        link = self.at("/proc/812/fd/9")
        link.unlink(missing_ok=True)
        if "vrrp_notify_fifo" in self.text("/etc/keepalived/keepalived.conf"):
            link.symlink_to("/run/keepalived/floatip")

    def _shown(self, unit: str) -> str:
        if unit not in self.installed:
            return "LoadState=not-found\nUnitFileState=\nActiveState=inactive\nMainPID=0"
        enabled = "enabled" if unit in self.enabled else "disabled"
        active = "active" if unit in self.active else "inactive"
        files = [self.text(f"{directory}/{unit}") for directory in ("/etc/systemd/system", "/lib/systemd/system")]
        started = re.findall(r"^ExecStart=(.*)", "".join(files), re.M)
        command = f"ExecStart={{ path=/x ; argv[]={started[-1]} ; ignore_errors=no ; pid=0 }}\n" if started else ""
        environment = re.findall(r"^EnvironmentFile=-?(.*)", "".join(files), re.M)
        command += "".join(f"EnvironmentFiles={file} (ignore_errors=yes)\n" for file in environment)
        pid = self.pids.get(unit, 0)
        return f"{command}LoadState=loaded\nUnitFileState={enabled}\nActiveState={active}\nMainPID={pid}"

    def machine(self) -> Machine:
        interfaces = {name: tuple(map(ip_interface, addresses)) for name, addresses in self.addresses_on.items()}
        leased = (
            Placed(name, one) for name, addresses in interfaces.items() for one in addresses if str(one) in self.leased
        )
        return Machine(interfaces, leased=frozenset(leased))

    def users(self) -> dict[str, User]:
        entries = [line.split(":") for line in self.text("/etc/passwd").splitlines()]
        return {name: User(name, int(uid), frozenset({int(gid)}), name) for name, _, uid, gid, *_ in entries}

    def daemons_group(self) -> int | None:
        return FLOATIP

    def status(self) -> dict[str, Any] | None:
        if "floatip.service" not in self.active:
            return None
        connected = self.connects and "lelastic.service" not in self.active
        address = {"address": "192.168.223.158/32", "held": True, "announced_to": 4 if connected else 0}
        return {
            "instances": [
                {
                    "name": "VI_1",
                    "role": {"value": self.role, "reason": "keepalived says so"},
                    "rank": {"value": "active", "reason": "master"},
                    "addresses": [address],
                }
            ],
            "sessions": [
                {"peer": "2600:3c0f:6:34::1", "state": "established" if connected else "idle", "reason": "refused"}
            ],
        }

    def wait(self, is_so: Any, seconds: float) -> bool:
        return any(is_so() for _ in range(3))
