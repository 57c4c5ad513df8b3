"""A file that must be there, or must not: reported at each change, by inotify where that works, else within a second.

An event source is not the truth: inotify says nothing of a mount over the directory, of the target of a link, of /sys
and of network file systems.
"""

from floatip.host.checks.kind import Means, Report, Unasked, Verdict
from floatip.model import File


class FileRunner(Unasked[Verdict]):
    def __init__(self, kind: File, report: Report, means: Means) -> None:
        self._file = kind
        super().__init__(kind.path, report, means)

    def _see(self) -> Verdict:
        path, fail_when = self._file.path, self._file.fail_when
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return fail_when != "absent", f"{path} does not exist"
        return fail_when != "present", f"{path} exists"

    def _found(self, found: Verdict) -> None:
        self._say(found)
