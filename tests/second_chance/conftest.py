from tests.host.conftest import namespace

__all__ = ["namespace"]
