"""`floatip lab shell HOST`: a shell in a host of the lab that `floatip lab --keep` left running.

The lab prepares one script for all hosts in its own /run; from outside, the shell enters the lab's namespaces and runs
it. Shells end with the lab, as everything in it does.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from floatip.lab.namespaces import ENTERED, LabError
from floatip.lab.network import HOSTS, OBSERVER, ROUTER, WITNESSES
from floatip.lab.programs.floatip import KEY
from floatip.lab.run import DIRECTORY, Run

SHELL_HOSTS = (*(host.name for host in (*HOSTS, *WITNESSES)), ROUTER)
SCRIPT = DIRECTORY / "shell"
LOOK_AT = ("haproxy3", "router", "rs1")
"""Beside the nodes."""


def prepare(run: Run) -> None:
    """Write what `open_shell` runs."""
    bin_directory = run.network.directory / "bin"
    bin_directory.mkdir()
    program = bin_directory / "floatip"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m floatip "$@"\n')
    program.chmod(0o755)
    cases = []
    etcd = run.etcd.environment if run.etcd else {}
    for host in SHELL_HOSTS:
        if host not in run.network:
            continue
        variables = {**etcd, **(run.nodes[host].environment() if host in run.nodes else {})}
        exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
        cases.append(f"{host}) net={run.network.path_of(host)}; set -- {exports};;")
    key = run.network.directory / "key"
    key.touch(0o600)
    key.write_text(KEY)
    rc = run.network.directory / "bashrc"
    rc.write_text("PS1='\\[\\e[1m\\]'$LAB_HOST'\\[\\e[0m\\]:\\w# '\n")
    SCRIPT.write_text(f"""\
export LAB_HOST=$1 PATH={bin_directory}:$PATH:/usr/sbin:/sbin
case $1 in
{chr(10).join(cases)}
*) echo "error: this lab has no etcd: only scenes with etcd have $1" >&2; exit 2;;
esac
cd {run.network.directory}
exec nsenter --net=$net env -u {ENTERED} "$@" bash --rcfile {rc}
""")


def commands(run: Run) -> list[str]:
    """One for each host that is worth a look, as it is typed outside."""
    program = "floatip"
    if not shutil.which(program):
        beside = Path(sys.executable).with_name(program)
        program = os.path.relpath(beside) if beside.exists() else f"{sys.executable} -m floatip"
    sudo = "sudo " if "SUDO_USER" in os.environ else ""
    more = list(run.etcd.members)[:1] if run.etcd else []
    return [f"{sudo}{program} lab shell {host}" for host in (*run.nodes, *LOOK_AT, *more)]


def a_drill() -> list[str]:
    """What is typed in two of these shells, for a drill with an observer."""
    assert OBSERVER.ipv4
    return [
        f"{OBSERVER.name}: floatip observe --join --key key --name {OBSERVER.name}",
        f"the node that is master: floatip drill --observer {OBSERVER.ipv4.ip} --key key",
    ]


def open_shell(host: str) -> NoReturn:
    """In the lab that was kept last."""
    if host not in SHELL_HOSTS:
        raise LabError(f"the lab has no host {host!r}", f"give one of {', '.join(SHELL_HOSTS)}")
    labs = sorted(_kept_labs())
    if not labs:
        hint = "start one with floatip lab --keep and wait until its scene is over; use sudo for both or for none"
        raise LabError("no lab is kept running here for you", hint)
    _, lab = labs[-1]
    same_user = os.stat(f"/proc/{lab}/ns/user").st_ino == os.stat("/proc/self/ns/user").st_ino
    user = [] if same_user else ["--user", "--preserve-credentials"]
    os.execvp("nsenter", ["nsenter", f"--target={lab}", *user, "--mount", "--pid", "sh", str(SCRIPT), host])


def _kept_labs() -> Iterator[tuple[float, int]]:
    """When each was ready for shells, and the pid of the process that is pid 1 in there."""
    marked = f"{ENTERED}=".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended, or is another user's
            variables = (process / "environ").read_bytes().split(b"\0")
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
            if marked + parent.encode() in variables:
                yield Path(f"{process}/root{SCRIPT}").stat().st_mtime, int(process.name)
