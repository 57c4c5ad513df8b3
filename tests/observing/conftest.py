"""Networks of their own."""

from tests.host.conftest import elsewhere, namespace

__all__ = ["elsewhere", "namespace"]
