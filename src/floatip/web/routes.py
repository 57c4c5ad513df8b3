"""Which path answers what.

A handler gets the site and the request, and answers or raises `Refused`. To add a path, write a handler and its line
in `ROUTES`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from floatip.web.access import Access
from floatip.web.events import Events
from floatip.web.exchange import JSON, Answer, EventStream, Refused, Request, Response
from floatip.web.source import Silent, Source


@dataclass(slots=True)
class Site:
    source: Source
    events: Events
    access: Access


Handler = Callable[[Site, Request], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    get: Handler | None = None
    post: Handler | None = None

    @property
    def methods(self) -> str:
        return ", ".join([*(("GET", "HEAD") if self.get else ()), *(("POST",) if self.post else ())])


async def answer(site: Site, request: Request) -> Answer:
    """Raises `Refused`."""
    site.access.host(request)
    if request.method == "POST":
        site.access.order(request)
    else:
        site.access.read(request)
    route = ROUTES.get(request.path)
    if route is None:
        raise Refused(404, "there is no such page", f"there are: {' '.join(ROUTES)}")
    handler = route.post if request.method == "POST" else route.get if request.method in ("GET", "HEAD") else None
    if handler is None:
        raise Refused(405, f"{request.path} does not know this method", f"use {route.methods}", Allow=route.methods)
    try:
        return await handler(site, request)
    except Silent as silent:
        raise Refused(503, str(silent), "on this machine: systemctl status floatip", Retry_After="1") from None


async def status(site: Site, request: Request) -> Answer:
    return Response(200, await site.source.fresh_answer(), JSON)


async def events(site: Site, request: Request) -> Answer:
    if site.events.is_full:
        raise Refused(503, "all event streams are in use", "close a page that shows this node", Retry_After="10")
    return EventStream(request.headers.get("last-event-id", ""))


async def healthz(site: Site, request: Request) -> Answer:
    """Whether the daemon's loop answers."""
    await site.source.fresh()
    return Response(200, b"ok\n")


ROUTES = {
    "/status": Route(get=status),
    "/events": Route(get=events),
    "/healthz": Route(get=healthz),
}
