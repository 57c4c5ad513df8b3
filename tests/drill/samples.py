"""Reports as a drill makes them, for tests of all that reads or shows one."""

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from itertools import pairwise

from floatip.drill.report import Done, Finding, Method, Probes, Report, Route, Seen
from floatip.observing.summary import KINDS, ProbeResult

BEGAN = 1_796_000_000.25
ONE, TWO, WATCHER = "haproxy1", "haproxy2", "client1"
ADDRESS = "192.0.2.10"
SERVERS = ("2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4")
HOSTILE = (
    "<script>alert(1)</script>",
    "\x1b[2J\x00\x07\u202e\ud800",
    "\"'>]]>&amp;<!--",
    "\u05d0\u05d1\u05d2 \u0645\u0631\u062d\u0628\u0627",
    "\u540d\u524d",
    "n" * 500,
)


def probes(
    begin: float = -20.0,
    end: float = 30.0,
    interval: float = 0.005,
    lost: Iterable[tuple[float, float]] = (),
    moved_at: float = 0.004,
    observer: str = WATCHER,
) -> Probes:
    """Of both kinds. `lost`: from when to when those are lost that are sent then."""
    windows = list(lost)
    found = []
    for number in range(round((end - begin) / interval)):
        at = round(begin + number * interval, 6)
        is_lost = any(first <= at < until for first, until in windows)
        for kind in KINDS:
            rtt = None if is_lost else round(0.0004 + 0.0001 * (number % 7) + 0.003 * (number % 97 == 0), 6)
            who = (ONE if at < moved_at else TWO) if kind == "request" and not is_lost else None
            error = "timed out" if is_lost else None
            found.append(ProbeResult(kind, at, not is_lost, rtt, who, error, 0.0002, "X-Node" if who else ""))
    return Probes(observer, ADDRESS, 80, interval, tuple(found), 0.0021)


@cache
def sample() -> Report:
    """A check of the master fails: 20,000 probes, none of them lost, and all is as it was."""
    before = [
        (ONE, "role", "web", "master"),
        (ONE, "rank", "web", "active"),
        (ONE, "check", "haproxy", "up"),
        (TWO, "role", "web", "backup"),
        (TWO, "rank", "web", "standby"),
        (TWO, "check", "haproxy", "up"),
        *((node, "session", server, "up") for node in (ONE, TWO) for server in SERVERS),
        (TWO, "node", ONE, "alive"),
    ]
    why = "check haproxy: the drill says so"
    after = [
        Seen(0.001, ONE, "check", "haproxy", "down", "the drill says so"),
        Seen(0.001, ONE, "health", "web", "down", why),
        Seen(0.001, ONE, "role", "web", "fault", why),
        Seen(0.002, ONE, "rank", "web", "none", why),
        Seen(0.003, TWO, "role", "web", "master", f"{ONE} is not master any more: {why}"),
        Seen(0.003, TWO, "rank", "web", "takeover", "took over; outranks a stale route of the old master"),
        Seen(0.023, TWO, "takeover", "web", "complete", "decided in 0.00 s, on the wire in 0.00 s"),
        Seen(10.2, ONE, "check", "haproxy", "up", "haproxy runs (pid 812)"),
        Seen(10.2, ONE, "role", "web", "backup", "the fault is gone"),
        Seen(10.2, ONE, "rank", "web", "standby", "not master"),
        Seen(20.0, TWO, "rank", "web", "active", "settled"),
    ]
    return Report(
        title=f"drill of web: a check of {ONE} fails",
        made_by="floatip 0.1.0",
        kind="drill",
        began=BEGAN,
        starts=-20.0,
        ends=30.0,
        method=Method(
            "check",
            ONE,
            "web",
            (f"{ADDRESS}/32",),
            (f"Set the check haproxy of {ONE} down for 10 s.", "Take that back, whatever happens."),
        ),
        nodes=(ONE, TWO),
        before=(
            Finding(True, f"{ONE} is master of web and healthy"),
            Finding(True, f"{TWO} is ready: 4 of 4 sessions, the youngest 3 d old"),
        ),
        done=(
            Done(-20.0, "before", "look at the steady state"),
            Done(0.0, "fault", f"the check haproxy of {ONE} is down"),
            Done(0.0, "watch", "watch for 10 s"),
            Done(10.2, "restore", f"the check haproxy of {ONE} decides again"),
            Done(30.0, "after", "look again"),
        ),
        seen=(
            *(Seen(-20.0, node, what, name, value, "as it was") for node, what, name, value in before),  # type: ignore[arg-type]
            *after,
        ),
        probes=(probes(end=30.0),),
        verdict=(
            Finding(True, f"{TWO} took over 3 ms after the fault"),
            Finding(True, "0 of 20,000 probes were lost"),
        ),
        restored=(Finding(True, f"{ONE} is backup again, and its check is up"),),
        notes=("the observer's clock was compared with this node's 20 times",),
    )


@cache
def short() -> Report:
    """The same with 200 probes."""
    return replace(sample(), probes=(probes(interval=0.5),))


@cache
def one_lost() -> Report:
    """One probe of 20,000, and the verdict says so."""
    found = list(sample().probes[0].results)
    number = next(i for i, probe in enumerate(found) if probe.kind == "request" and probe.at >= 17.33)
    found[number] = replace(found[number], ok=False, rtt=None, who=None, error="timed out", named_by="")
    whole = sample()
    verdict = (Finding(False, "1 of 20,000 probes was lost", "floatip history shows what happened then"),)
    return replace(whole, probes=(replace(whole.probes[0], results=tuple(found)),), verdict=verdict)


@cache
def crash() -> Report:
    """The master is cut off: an outage of 312 ms, and what the other node says about it."""
    whole = sample()
    gone = (
        Seen(0.3, TWO, "node", ONE, "gone", f"{ONE} is silent"),
        Seen(0.3, TWO, "role", "web", "master", f"{ONE}, which was master, is silent"),
        Seen(0.3, TWO, "rank", "web", "takeover-again", "outranks a stale route of the old master"),
        Seen(12.0, ONE, "role", "web", "backup", "another node is master", source=TWO),
    )
    starts = tuple(seen for seen in whole.seen if seen.at == whole.starts)
    return replace(
        whole,
        title=f"drill of web: {ONE} is cut off",
        seen=(*starts, *gone),
        probes=(
            probes(interval=0.02, lost=[(0.0, 0.312)], moved_at=0.312),
            probes(interval=1.0, observer="client2", moved_at=0.312),
        ),
        routes=(
            Route(-20.0, "rs1", ONE),
            Route(0.31, "rs1", TWO),
            Route(-20.0, "router", ONE),
            Route(5.0, "router", ""),
        ),
        verdict=(Finding(True, "probes were lost for 0.312 s (limit 1 s)"),),
    )


@cache
def empty() -> Report:
    """A drill that was refused: nothing was done, and nothing seen."""
    why = Finding(False, f"{TWO} is not ready: a check is down", f"floatip status on {TWO} says which")
    whole = sample()
    return replace(whole, starts=0.0, ends=0.0, before=(why,), done=(), seen=(), probes=(), verdict=(), restored=())


@cache
def hostile() -> Report:
    """Every text is one that breaks something, where it is not escaped."""
    whole = crash()
    names = iter(HOSTILE * 100)
    seen = [replace(one, name=next(names), value=next(names), reason=next(names)) for one in whole.seen]
    for number in range(6):
        at = float(number)
        seen.append(Seen(at, next(names), "role", next(names), "master"))
        seen.append(Seen(at, next(names), "rank", next(names), "none"))
        seen.append(Seen(at, next(names), "order", next(names), next(names)))
        seen.append(Seen(at, next(names), "node", next(names), next(names)))
    results = [replace(one, who=next(names)) if one.who else one for one in probes(-1.0, 1.0, 0.1).results]
    results += [replace(one, at=one.at + 3, ok=False, error=next(names)) for one in results[:10]]
    return replace(
        whole,
        title=next(names),
        made_by=next(names),
        method=Method(next(names), next(names), next(names), (next(names),), HOSTILE),
        nodes=HOSTILE,
        before=tuple(Finding(False, name, name) for name in HOSTILE),
        done=tuple(Done(float(number), "fault", name) for number, name in enumerate(HOSTILE)),
        seen=tuple(seen),
        probes=(Probes(HOSTILE[0], HOSTILE[1], 80, 0.1, tuple(results)),),
        routes=tuple(Route(float(n), name, other) for n, (name, other) in enumerate(pairwise(HOSTILE))),
        notes=HOSTILE,
    )


@cache
def many_nodes(count: int = 32) -> Report:
    """Of which two change."""
    whole = sample()
    others = tuple(f"node{number}" for number in range(3, count + 1))
    more = tuple(
        Seen(-20.0, node, what, "web", value)  # type: ignore[arg-type]
        for node in others
        for what, value in (("role", "backup"), ("rank", "standby"), ("check", "up"))
    )
    return replace(whole, probes=(probes(interval=0.05),), nodes=(*whole.nodes, *others), seen=(*whole.seen, *more))


@cache
def long_one(hours: float = 24.0) -> Report:
    """A probe every minute, and ten faults."""
    whole = sample()
    span = hours * 3600
    done = tuple(Done(number * span / 10, "fault", f"fault number {number}: a check fails") for number in range(10))
    return replace(
        whole,
        starts=-3600.0,
        ends=span,
        done=done,
        probes=(probes(-3600.0, span, 60.0, lost=[(span / 2, span / 2 + 60)]),),
    )


SAMPLES = {
    "sample": sample,
    "one lost": one_lost,
    "crash": crash,
    "empty": empty,
    "hostile": hostile,
    "many nodes": many_nodes,
    "a day": long_one,
}
