"""Answers `/`, and what the page needs: its style sheet, its script and its icon."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache

from floatip.core.state import ChangeView, Status
from floatip.web import page, timeline
from floatip.web.exchange import Response

HTML = "text/html; charset=utf-8"
KINDS = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


class Drawn:
    """The page is drawn once for all who look at the same status."""

    of: tuple[Status, ChangeView | None, bool] | None = None
    body = b""


def drawn(status: Status, changes: Sequence[ChangeView], *, can_order: bool) -> Response:
    """`changes`: oldest first."""
    of = status, changes[-1] if changes else None, can_order
    if Drawn.of is None or any(one is not other for one, other in zip(of, Drawn.of, strict=True)):
        now = timeline.moment(status.time) or datetime.now(UTC)
        Drawn.of, Drawn.body = of, page.render(status, tuple(changes), now, can_order=can_order).encode()
    return Response(200, Drawn.body, HTML)


def silent(last: Status | None, why: str) -> Response:
    """`last`: what the daemon said before."""
    name = next((node.name for node in last.nodes if node.own), last.host) if last else "this node"
    return Response(503, page.gone(name, why).encode(), HTML, (("Retry-After", "1"),))


@cache
def static(path: str) -> Response:
    """`path`: one of the routes."""
    with open(os.path.dirname(__file__) + path, "rb") as file:
        return Response(200, file.read(), KINDS[os.path.splitext(path)[1]], (("Cache-Control", "no-cache"),))
