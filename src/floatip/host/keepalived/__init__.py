"""The user's keepalived: whether it runs (`processes`), its notify FIFO (`fifo`), and what it said (`words`)."""

from floatip.host.keepalived.elector import WRITER_PATIENCE, Keepalived, Paths

__all__ = ["WRITER_PATIENCE", "Keepalived", "Paths"]
