"""A child process that ends: at its exit or, with its whole group, at its timeout.

There is no shell, no thread and no `preexec_fn`: the child gets a session of its own and is waited for by pidfd (the
child watcher of Python 3.11 starts a thread a child). The verdict falls at the timeout even if the kernel cannot end
the child yet; `running` tells when it really has gone.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence

from floatip.host.errors import in_words

TAIL = 4096
LONGEST_LINE = 200


class Process:
    """Calls `ended(succeeded, reason)` exactly once, possibly before the constructor returns."""

    def __init__(
        self,
        argv: Sequence[str],
        timeout: float,
        ended: Callable[[bool, str], None],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = ended
        self._timeout = timeout
        self._tail = b""
        self._verdict = False
        self.running = False
        try:
            self._child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                start_new_session=True,
                env=environment,
            )
        except (OSError, ValueError) as error:
            self._conclude(
                False, f"cannot run {argv[0]}: {in_words(error.errno) if isinstance(error, OSError) else error}"
            )
            return
        self.running = True
        assert self._child.stdout is not None
        self._output = self._child.stdout
        os.set_blocking(self._output.fileno(), False)
        self._pidfd = os.pidfd_open(self._child.pid)
        self._loop.add_reader(self._output.fileno(), self._read)
        self._loop.add_reader(self._pidfd, self._exited)
        self._timer = self._loop.call_later(timeout, self._timed_out)

    def kill(self) -> None:
        """End the child and all that it started; not reaped yet, its group cannot be anyone else's."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)

    def _read(self) -> None:
        try:
            data = self._output.read(65536)
        except OSError:
            data = b""
        if data:
            self._tail = (self._tail + data)[-TAIL:]
        elif data is not None:
            self._loop.remove_reader(self._output.fileno())

    def _timed_out(self) -> None:
        self.kill()
        self._conclude(False, f"timed out after {self._timeout:g} s")

    def _exited(self) -> None:
        # What is left in the pipe is ours to read; a grandchild that keeps it open is not waited for.
        self._read()
        self._timer.cancel()
        self._loop.remove_reader(self._output.fileno())
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._output.close()
        status = self._child.wait()
        self.running = False
        outcome = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        line = last_line(self._tail)
        self._conclude(status == 0, f"{outcome}: {line}" if line and status else outcome)

    def _conclude(self, succeeded: bool, reason: str) -> None:
        if not self._verdict:
            self._verdict = True
            self._ended(succeeded, reason)


def last_line(output: bytes) -> str:
    """The last line with something in it, safe to print."""
    lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    return "".join(char if char.isprintable() else "?" for char in lines[-1][:LONGEST_LINE]) if lines else ""
