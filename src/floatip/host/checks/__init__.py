"""The checks: one file a kind, each with its dataclass and its runner; `runner.KINDS` joins the two."""

from floatip.host.checks.file import FileCheck
from floatip.host.checks.process import ProcessCheck
from floatip.host.checks.runner import Check, Probes
from floatip.host.checks.script import ScriptCheck
from floatip.host.checks.tcp import TcpCheck

__all__ = ["Check", "FileCheck", "Probes", "ProcessCheck", "ScriptCheck", "TcpCheck"]
