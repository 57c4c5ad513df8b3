"""The Ansible collection of deploy/ansible, installed as a user does, and `ansible-playbook` against hosts."""

import json
import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from floatip.lab.namespaces import find_program
from tests.systemd.machines import Machine
from tests.systemd.stacks import CHECKOUT

SOURCE = CHECKOUT / "deploy/ansible"
TIMEOUT = 400.0
"""Seconds for a playbook; an upgrade waits twice for sessions that are 30 s old."""
RECAP = re.compile(r"^(\S+) +: ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Played:
    status: int
    output: str
    seconds: float

    @property
    def changed(self) -> dict[str, int]:
        return {name: int(changed) for name, _, changed, _, _ in RECAP.findall(self.output)}

    @property
    def unreachable(self) -> list[str]:
        return [name for name, _, _, unreachable, _ in RECAP.findall(self.output) if unreachable != "0"]

    @property
    def failed(self) -> list[str]:
        return [name for name, _, _, _, failed in RECAP.findall(self.output) if failed != "0"]


class Controller:
    """Where `ansible-playbook` runs: with the collection as it is built, an inventory, and the variables of a group."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        # Else that of this machine counts.
        (directory / "ansible.cfg").write_text("[defaults]\ncallback_result_format = yaml\n")
        galaxy = find_program("ansible-galaxy", "ansible-core")
        self._run([galaxy, "collection", "build", "--output-path", str(directory), str(SOURCE)])
        (self.archive,) = directory.glob("floatip-floatip-*.tar.gz")
        self._run([galaxy, "collection", "install", "-p", str(directory / "collections"), str(self.archive)])
        self.variables: dict[str, Any] = {}
        self._nodes: dict[str, dict[str, object]] = {}

    def add(self, node: Machine, address: str) -> None:
        self._nodes[node.name] = {
            "ansible_connection": "host",
            "ansible_python_interpreter": "/usr/bin/python3",
            "floatip_node_address": address,
            "host_pid": node.leader,
            "host_gone": str(self.gone(node)),
        }

    def gone(self, node: Machine) -> Path:
        """While this file exists, the node cannot be reached."""
        return self.directory / f"{node.name}.gone"

    def play(self, playbook: str, *options: str, quiet: bool = False) -> Played:
        inventory = {"floatip": {"hosts": self._nodes, "vars": self.variables}}
        (self.directory / "inventory.yml").write_text(json.dumps(inventory, indent=1))
        return self.command("-i", "inventory.yml", f"floatip.floatip.{playbook}", *options, quiet=quiet)

    def command(self, *options: str, quiet: bool = False) -> Played:
        command = [find_program("ansible-playbook", "ansible-core"), *options]
        print(f"$ {' '.join(['ansible-playbook', *command[1:]])}", flush=True)
        began = time.monotonic()
        done = self._run(command, check=False)
        seconds = time.monotonic() - began
        output = done.stdout + done.stderr
        if not quiet:
            print(f"{output}-- after {seconds:.1f} s: exit status {done.returncode}", flush=True)
        return Played(done.returncode, output, seconds)

    def _run(self, command: list[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {
            "ANSIBLE_COLLECTIONS_PATH": str(self.directory / "collections"),
            "ANSIBLE_CONNECTION_PLUGINS": str(Path(__file__).with_name("connection_plugins")),
            "ANSIBLE_LOCAL_TEMP": str(self.directory / "tmp"),
            "ANSIBLE_HOME": str(self.directory / "home"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_NOCOWS": "1",
            "ANSIBLE_CONFIG": str(self.directory / "ansible.cfg"),
            "LC_ALL": "C.UTF-8",
        }
        # Those of the virtual environment are not ansible's, which is Debian's.
        environment.pop("PYTHONPATH", None)
        done = subprocess.run(
            command, cwd=self.directory, capture_output=True, text=True, env=environment, timeout=TIMEOUT, check=False
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done
