"""Which path answers what.

A handler gets the site and the request, and answers or raises `Refused`. To add a path, write a handler and its line
in `ROUTES`.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

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


async def page(site: Site, request: Request) -> Answer:
    from floatip.web import site_page  # noqa: PLC0415

    try:
        known = await site.source.fresh()
    except Silent as silent:
        return site_page.silent(site.source.status, str(silent))
    return site_page.drawn(known, site.source.last_day(), can_order=site.access.has_token)


async def static(site: Site, request: Request) -> Answer:
    from floatip.web import site_page  # noqa: PLC0415

    return site_page.static(request.path)


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


async def readyz(site: Site, request: Request) -> Answer:
    """Whether this node serves, or is ready to take over, all that it should."""
    status = await site.source.fresh()
    from floatip.text import printable  # noqa: PLC0415
    from floatip.web.ready import obstacles  # noqa: PLC0415

    if why := [*obstacles(status)]:
        return Response(503, "".join(f"{printable(one)}\n" for one in why).encode(errors="replace"))
    return Response(200, b"ready\n")


async def metrics(site: Site, request: Request) -> Answer:
    """For Prometheus; `?compat=keepalived`: in the names of keepalived-exporter."""
    from floatip.core.figures import read  # noqa: PLC0415
    from floatip.web.metrics import CONTENT_TYPE, render, render_as_keepalived  # noqa: PLC0415

    compat = request.query.get("compat", "")
    if compat not in ("", "keepalived"):
        raise Refused(400, "this value of compat is not known", "there is: /metrics?compat=keepalived")
    # The smaller question first: after an answer the daemon rests for nine times as long as that took.
    figures = read(json.loads(await site.source.figures()))
    status = await site.source.fresh()
    text = render_as_keepalived(status, figures) if compat else render(status, figures)
    return Response(200, text.encode(errors="replace"), CONTENT_TYPE)


def order(verb: str, **fields: Callable[[Any], object]) -> Route:
    """Asks the daemon for it, or, with `?check=1`, what would come of it."""

    async def post(site: Site, request: Request) -> Answer:
        asked = _asked(request, fields)
        # What is misspelt here must not turn a question into an order.
        if others := [name for name in request.query if name != "check"]:
            raise Refused(400, f"an order has no parameter {others[0]!r}", "there is: ?check=1")
        if request.query.get("check", "0") != "0":
            asked["check"] = True
        try:
            answer = await site.source.ask({"cmd": verb} | asked)
        except Silent as silent:
            what = f"{silent}; what was asked for may be done later, or done already"
            raise Refused(503, what, "see how it stands: floatip nodes") from None
        if "error" in answer:
            raise Refused(503, str(answer["error"]), str(answer.get("hint", "")))
        status = 409 if answer.get("refused") else 200 if answer.get("done") or "check" in asked else 202
        return Response(status, json.dumps(answer).encode() + b"\n", JSON)

    return Route(post=post)


def _asked(request: Request, fields: dict[str, Callable[[Any], object]]) -> dict[str, object]:
    """Raises `Refused`."""
    given: dict[str, Any] = request.form
    if request.body and not given:
        try:
            given = json.loads(request.body)
        except (ValueError, RecursionError):
            given = []  # type: ignore[assignment]
        if not isinstance(given, dict):
            raise Refused(400, "the body is neither a form nor a JSON object")
    asked = {}
    for name, value in given.items():
        if name == "token" or value in ("", None):
            continue
        if name not in fields:
            raise Refused(400, f"there is no field {name!r}", f"there are: {' '.join(fields) or 'none'}")
        try:
            asked[name] = fields[name](value)
        except (ValueError, TypeError) as error:
            raise Refused(400, f"{name} is not {error}") from None
    return asked


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise ValueError("a text")


def _duration(value: Any) -> object:
    """Seconds, or as `--for` has it."""
    from floatip.verbs import seconds  # noqa: PLC0415

    return seconds(value) if isinstance(value, str) else value


def _yes(value: Any) -> bool:
    if value in (True, "1", "on", "true", "yes"):
        return True
    if value in (False, "0", "off", "false", "no"):
        return False
    raise ValueError("true or false")


ROUTES = {
    "/": Route(get=page),
    "/static/page.css": Route(get=static),
    "/static/page.js": Route(get=static),
    "/static/icon.svg": Route(get=static),
    "/status": Route(get=status),
    "/events": Route(get=events),
    "/healthz": Route(get=healthz),
    "/readyz": Route(get=readyz),
    "/metrics": Route(get=metrics),
    "/handover": order("handover", instance=_text, to=_text, force=_yes),
    "/drain": order("drain", reason=_text, withdraw=_yes, force=_yes, **{"for": _duration}),
    "/undrain": order("undrain"),
    "/pause": order("pause", reason=_text, **{"for": _duration}),
    "/resume": order("resume"),
}
