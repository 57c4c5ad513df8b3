"""The checks: one file a kind, with the runner of that kind of `floatip.model`; `runner.KINDS` joins the two."""

from floatip.host.checks.runner import Probes

__all__ = ["Probes"]
