"""Ansible's way into a host of the tests: nsenter, as machines.py does.

`host_pid`: the pid of the host's init. `host_gone`: while this file exists, the host cannot be reached.
"""

import subprocess
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure  # type: ignore[import-not-found]
from ansible.plugins.connection import ConnectionBase  # type: ignore[import-not-found]

DOCUMENTATION = """
    name: host
    short_description: a host of the tests
    description: Runs commands in a systemd-nspawn host by nsenter.
    options:
      host_pid:
        description: the pid of the host's init
        vars: [{name: host_pid}]
      host_gone:
        description: a file
        vars: [{name: host_gone}]
"""


class Connection(ConnectionBase):  # type: ignore[misc]
    transport = "host"
    has_pipelining = True

    def _connect(self) -> "Connection":
        self._connected = True
        return self

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        return self._run(["sh", "-c", cmd], in_data or b"")

    def put_file(self, in_path: str, out_path: str) -> None:
        self._run(["sh", "-c", 'cat >"$1"', "sh", out_path], Path(in_path).read_bytes())

    def fetch_file(self, in_path: str, out_path: str) -> None:
        _, content, _ = self._run(["cat", in_path], b"")
        Path(out_path).write_bytes(content)

    def close(self) -> None:
        self._connected = False

    def _run(self, command: list[str], content: bytes) -> tuple[int, bytes, bytes]:
        options: Any = self.get_options()
        if Path(options["host_gone"]).exists():
            raise AnsibleConnectionFailure("the test took this host away")
        inside = ["nsenter", f"--target={options['host_pid']}", "--all", "--wdns=/root", "--"]
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
        environment = {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8"}
        done = subprocess.run([*inside, *command], input=content, capture_output=True, env=environment, check=False)
        return done.returncode, done.stdout, done.stderr
