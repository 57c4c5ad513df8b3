"""What keepalived understood of a file, by its own dump, read on a host of its own."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from ipaddress import ip_interface
from pathlib import Path

TIMEOUT = 60.0

# A host of its own: network, processes, /run, /etc/keepalived and users; nothing outlives it. keepalived must be its
# process 1: elsewhere 2.2.7 ends `keepalived -t` by SIGTERM when it comes to a script that does not run as root.
HOST = r"""
set -e
mount -t tmpfs none /run
mkdir /run/etc && cd /run/etc
printf '#!/bin/sh\nexit 0\n' | tee failover.sh > notify.sh
chmod 755 *.sh
{ cat /etc/passwd; echo 'keepalived_script:x:64999:65534::/:/usr/sbin/nologin'; } > passwd
mount --bind passwd /etc/passwd
mount --bind /run/etc /etc/keepalived
for name in eth0 eth1; do
    ip link add $name type veth peer name peer-$name
    ip link set peer-$name up
    ip link set $name up
done
ip addr add 192.168.143.227/17 dev eth0
ip addr add 10.99.1.1/24 dev eth1
mount -t tmpfs none /usr/local/bin
for name in "${@:2}"; do
    case $name in
        /*) printf '#!/bin/sh\n' > "$name" && chmod 755 "$name" ;;
        *) ip link add "$name" type veth peer name "p-${name:0:12}" && ip link set "$name" up ;;
    esac
done
"""
DUMP = (
    HOST
    + r"""
keepalived --vrrp --dont-fork --log-console --no-syslog --dump-conf --config-id haproxy1 --use-file "$1" \
    > /run/log 2>&1 &
for try in $(seq 800); do
    if grep -q '< Interfaces >' /run/log || ! kill -0 $!; then break; fi
    sleep 0.05
done
cat /run/log
"""
)
CHECK = HOST + 'exec keepalived --config-test --config-id haproxy1 --use-file "$1" 2>&1'


def run_keepalived(script: str, path: Path, there: Iterable[str] = ()) -> subprocess.CompletedProcess[str]:
    """`there`: interfaces besides eth0 and eth1, and programs in /usr/local/bin."""
    assert os.geteuid() == 0, "keepalived reads its configuration in a namespace: run as root"
    assert shutil.which("keepalived"), "the package keepalived is missing"
    own = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command = [*own, "bash", "-c", script, "bash", str(path), *there]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT, check=False)


def blocks(dump: str, header: str) -> list[tuple[str, str]]:
    """Each object of a dump with the lines about it, which are indented more than its header."""
    return re.findall(rf"^ {header} = (.+)\n((?:   .*\n)*)", dump, re.MULTILINE)


def value(lines: str, name: str) -> str:
    found = re.search(rf"^   {name} = (.*)$", lines, re.MULTILINE)
    return found[1] if found else ""


def listed(lines: str, header: str) -> list[list[str]]:
    """The words of each line below a header."""
    found = re.search(rf"^   {header}.*:\n((?:     .*\n)*)", lines, re.MULTILINE)
    return [line.split() for line in found[1].splitlines()] if found else []


def placed(line: list[str]) -> tuple[str, str]:
    return str(ip_interface(line[0])), line[line.index("dev") + 1]


def seconds(text: str) -> float:
    number, unit = text.split()
    return float(number) * {"sec": 1, "milli-sec": 0.001}[unit]


def words(text: str) -> list[str]:
    return re.findall(r"'(.*?)'", text)
