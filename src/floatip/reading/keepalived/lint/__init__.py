"""What in a keepalived.conf is unsafe or does not work, with the machine that it is for. Pure: facts in, findings out.

Each file holds one family of rules. A finding says what is wrong, why it matters, and what to do.
"""

from collections.abc import Callable, Iterator

from floatip.reading.keepalived import KeepalivedConf
from floatip.reading.keepalived.lint import commands, instances, scripts, takeover, tracking
from floatip.reading.keepalived.lint.facts import SEVERITIES, Finding, MachineFacts

__all__ = ["Finding", "MachineFacts", "lint"]

RULES: tuple[Callable[[KeepalivedConf, MachineFacts], Iterator[Finding]], ...] = (
    commands.check,
    takeover.check,
    scripts.check,
    tracking.check,
    instances.check,
)


def lint(conf: KeepalivedConf, facts: MachineFacts) -> list[Finding]:
    """The worst first."""
    found = dict.fromkeys(finding for rule in RULES for finding in rule(conf, facts))
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))
