"""keepalived, which elects in the nodes where floatip follows it."""

import os
from collections.abc import Sequence
from contextlib import suppress

from floatip.lab.namespaces import find_program
from floatip.lab.network import Hosts
from floatip.lab.programs.program import Program


class KeepalivedProgram(Program):
    """`FIFO` in the text of its configuration becomes the path of a FIFO that root alone may write."""

    name = "keepalived"

    def __init__(self, network: Hosts, host: str, config_text: str) -> None:
        super().__init__(network, host)
        self.fifo = self.directory / "fifo"
        os.mkfifo(self.fifo, 0o600)
        self.pid_file, self.vrrp_pid_file = self.directory / "pid", self.directory / "vrrp_pid"
        self.config = self.write("keepalived.conf", config_text.replace("FIFO", str(self.fifo)))

    @property
    def pids(self) -> list[int]:
        """Of the main process and of the one for VRRP."""
        return [int(path.read_text()) for path in (self.pid_file, self.vrrp_pid_file)]

    def wait(self, timeout: float = 10.0) -> int:
        status = super().wait(timeout)
        # As pid 1 this process must reap the orphan, or a new keepalived takes it for one that still runs.
        with suppress(FileNotFoundError, ChildProcessError):
            os.waitpid(int(self.vrrp_pid_file.read_text()), 0)
        return status

    def command(self) -> Sequence[str]:
        files = {"pid": self.pid_file, "vrrp_pid": self.vrrp_pid_file, "checkers_pid": self.directory / "checkers_pid"}
        pids = [f"--{which}={path}" for which, path in files.items()]
        program = find_program("keepalived", "keepalived")
        return [program, "--dont-fork", "--log-console", "--log-detail", f"--use-file={self.config}", *pids]
