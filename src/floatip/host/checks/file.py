"""A file that must be there, or must not: reported at each change, by inotify where that works, else within a second.

An event source is not the truth: inotify says nothing of a mount over the directory, of the target of a link, of /sys
and of network file systems.
"""

from floatip.host.checks.kind import LOOK_TIMEOUT, Lookout, Means, Report
from floatip.host.errors import in_words
from floatip.model import File

LOOK_INTERVAL = 1.0


class FileRunner:
    def __init__(self, kind: File, report: Report, means: Means) -> None:
        self._path = kind.path
        self._fail_when = kind.fail_when
        self._report = report
        self._verdict: tuple[bool, str] | None = None
        self._closed = False
        self._lookout = Lookout(means, kind.path, self._look, self._found, self._timed_out)
        self._lookout.look()

    def run(self, run: int, timeout: float) -> None:
        if self._verdict:
            self._report(run, *self._verdict)

    def tell(self) -> None:
        self._verdict = None
        self._lookout.look()

    def close(self) -> None:
        self._closed = True
        self._lookout.close()

    def _look(self) -> tuple[bool, str]:
        """In a thread."""
        try:
            self._path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return self._fail_when != "absent", f"{self._path} does not exist"
        return self._fail_when != "present", f"{self._path} exists"

    def _found(self, outcome: tuple[bool, str] | OSError) -> None:
        if self._closed:
            return
        if isinstance(outcome, OSError):
            outcome = False, f"cannot look at {self._path}: {in_words(outcome.errno)}"
        self._tell(outcome)
        self._lookout.look_in(LOOK_INTERVAL)

    def _timed_out(self) -> None:
        self._tell((False, f"cannot look at {self._path}: no answer after {LOOK_TIMEOUT:g} s"))

    def _tell(self, verdict: tuple[bool, str]) -> None:
        if verdict != self._verdict:
            self._verdict = verdict
            self._report(0, *verdict)
