"""Runs checks in a real helper process, as the daemon does."""

from collections.abc import Mapping

from floatip.core.events import CheckDone, Probe
from floatip.host.checks import Probes
from floatip.model import Kind
from tests.host.reports import Reports, close

SLOW = 20.0
"""Seconds, longer than anything takes on a busy machine."""
Verdicts = dict[str, tuple[bool, str]]


async def verdicts(kinds: Mapping[str, Kind], timeout: float = SLOW) -> Verdicts:
    """Of one run of each, at the same time."""
    reports = Reports()
    probes = Probes(reports)
    probes.configure(kinds)
    try:
        for name in kinds:
            probes.run(Probe(name, 1, timeout))
        await reports.next(CheckDone, len(kinds))
        return {one.check: (one.passed, one.reason) for one in reports.of(CheckDone)}
    finally:
        await close(probes)


class Asked:
    """Some checks that are asked again and again."""

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        self.reports = Reports()
        self.probes = Probes(self.reports)
        self.probes.configure(kinds)
        self._runs = 0

    async def run(self, name: str, timeout: float = SLOW) -> tuple[bool, str]:
        self._runs += 1
        before = len(self.reports.of(CheckDone))
        self.probes.run(Probe(name, self._runs, timeout))
        answer = await self.reports.next(CheckDone, before + 1)
        assert (answer.check, answer.run) == (name, self._runs)
        return answer.passed, answer.reason

    async def close(self) -> None:
        await close(self.probes)
