"""The scenes with open connections: what a planned move does to them, with the second chance and without.

A client holds long connections to the address and opens short ones all the while; an upload and a download last over
the move (`connections`). Without the second chance the node that takes over resets all that were open. With it none is
reset, and none notices more than a short stall.
"""

import time

from floatip.lab.connections import HANG, RESET, Connections, ends
from floatip.lab.network import HAPROXY1, HAPROXY2
from floatip.lab.record import Record
from floatip.lab.run import Run
from floatip.lab.verdicts import AGREEMENT, Verdict, ends_as, limit, moved_to, no_loss, was_done

MASTER, STANDBY = HAPROXY1.name, HAPROXY2.name
STALL = 0.4
"""Seconds that the echo of a message may take at most."""
BEFORE, AFTER = 2.0, HANG + 2.0
"""Seconds for which the connections are open before the move and after it: who hangs is seen."""
EXIT_WITHIN = 30.0
UNTIL_DIRECT = 7.0
"""Seconds after a move until answers leave directly, where they may: the routes have changed, and a probe has come."""
WATCHED = 2.0
"""Seconds for which they are counted then."""
FEW = 0.1
"""The part of the packets of clients whose answers may still come through the tunnel."""


def handover(run: Run) -> list[Verdict]:
    run.wait_until_seasoned(STANDBY)
    opened(run)
    at = run.fault(f"{MASTER} hands over")
    done = run.ask(MASTER, "handover")
    stay(run)
    run.close_connections()
    record = run.finish()
    return [was_done(done), *went_on(record, at), ends_as(record, MASTER, "backup"), ends_as(record, STANDBY, "master")]


def drain(run: Run) -> list[Verdict]:
    run.wait_until_seasoned(STANDBY)
    opened(run)
    run.foresee("drained", MASTER)
    at = run.fault(f"{MASTER} is drained")
    done = run.ask(MASTER, "drain", "--reason", "kernel upgrade")
    stay(run)
    run.close_connections()
    record = run.finish()
    return [was_done(done), *went_on(record, at), ends_as(record, MASTER, "backup"), ends_as(record, STANDBY, "master")]


def stop(run: Run) -> list[Verdict]:
    """As `systemctl stop` does it. With the second chance the daemon lives until its connections have ended."""
    opened(run)
    run.foresee("down", MASTER)
    daemon = run.nodes[MASTER]
    at = run.fault(f"stop floatip on {MASTER} (SIGTERM)")
    daemon.stop()
    run.wait_for_role(STANDBY, "master")
    stay(run)
    run.close_connections()
    run.wait_for(lambda: not daemon.running, f"floatip on {MASTER} to exit", EXIT_WITHIN)
    status = daemon.wait()
    run.mark(f"floatip on {MASTER} has exited with status {status}")
    released = not run.holds_address(MASTER)
    record = run.finish()
    return [
        *went_on(record, at),
        ends_as(record, STANDBY, "master"),
        Verdict(status == 0, f"floatip exited with status {status}"),
        Verdict(released, f"the address was {'removed from' if released else 'left on'} {MASTER}"),
    ]


def opened(run: Run) -> None:
    run.open_connections()
    time.sleep(BEFORE)


def stay(run: Run) -> None:
    """The connections go on after the move."""
    if run.options.second_chance == "off":
        time.sleep(AFTER)
        return
    time.sleep(UNTIL_DIRECT if run.options.answers == "auto" else AFTER - WATCHED)
    run.count_passed_on(STANDBY)
    time.sleep(WATCHED)
    run.count_passed_on(STANDBY)


def went_on(record: Record, at: float) -> list[Verdict]:
    """What the move at `at` did to the probes and to the connections."""
    taken = record.first(STANDBY, "role", "master", at)
    since = taken.at if taken else at
    moved = moved_to(record, STANDBY, since, "the takeover", within=AGREEMENT)
    is_on = record.options.second_chance == "on"
    became = [*survived(record), way_of_answers(record)] if is_on else were_reset(record)
    return [*no_loss(record), moved, begun_at(record, STANDBY, since), *became, no_hang(record)]


def begun_at(record: Record, node: str, at: float) -> Verdict:
    """New connections are for the node that has taken over at `at`, and are not passed on."""
    after = at + AGREEMENT
    begun = [one for one in record.connections.short if one.at >= after + record.delayed(at, one.at) and not one.end]
    others = sum(one.who != node for one in begun)
    text = f"{node} answered {len(begun) - others} of {len(begun)} connections that began after the takeover"
    return Verdict(bool(begun) and not others, text)


def survived(record: Record, stall: float = STALL) -> list[Verdict]:
    """`stall`: seconds that the echo of a message may take."""
    found = record.connections
    torn = len(record.torn)
    return [
        *none_failed(found),
        Verdict(not torn, f"{torn} requests of the observer were reset by the move"),
        stalled(record, stall),
    ]


def way_of_answers(record: Record) -> Verdict:
    """At the end: through the tunnel, except where they may leave directly, and the network lets them."""
    if len(record.passed_on) < 2:
        return Verdict(False, "nothing was counted at the node that took over")
    first, last = record.passed_on[-2:]
    forwarded, answers = last.forwarded - first.forwarded, last.answers - first.answers
    is_direct = answers <= FEW * forwarded
    wanted = record.options.answers == "auto" and not record.options.strict
    way = "directly" if is_direct else "through the tunnel"
    text = f"{STANDBY} passed on {last.forwarded} packets, and {last.answers} answers; at the end they went {way}"
    return Verdict(forwarded > 0 and is_direct == wanted, f"{text} ({forwarded} packets, {answers} answers)")


def none_failed(found: Connections) -> list[Verdict]:
    verdicts = []
    for name, some in (("long connections", found.long), ("short connections", found.short)):
        failed = ends(some)
        why = f": {in_words(failed)}" if failed else ""
        verdicts.append(Verdict(bool(some) and not failed, f"{sum(failed.values())} of {len(some)} {name} failed{why}"))
    return [*verdicts, *(Verdict(not one.end, f"the {one.way} {one.end or 'was whole'}") for one in found.transfers)]


def were_reset(record: Record) -> list[Verdict]:
    """All that were open, and nothing else was done to any."""
    found = record.connections
    longs, shorts = ends(found.long), ends(found.short)
    return [
        Verdict(
            longs == {RESET: len(found.long)},
            f"{longs.get(RESET, 0)} of {len(found.long)} long connections were reset{others(longs)}",
        ),
        Verdict(
            bool(found.short) and shorts.keys() <= {RESET},
            f"{shorts.get(RESET, 0)} of {len(found.short)} short connections were reset{others(shorts)}",
        ),
        *(Verdict(one.end == RESET, f"the {one.way}: {one.end or 'was whole'}") for one in found.transfers),
    ]


def no_hang(record: Record) -> Verdict:
    found = record.connections
    waits = [one.waited for one in found.hung]
    hung = sum(until - since > HANG + record.delayed(since, until) for since, until in waits)
    text = f"{hung} of {len(found.all)} connections had no answer for {HANG:g} s"
    if len(waits) > hung:
        text += f", except {len(waits) - hung} while the lab had no CPU"
    if slowest := found.slowest:
        text += f"; the slowest short one that was answered took {slowest.took:.3f} s"
    return Verdict(not hung, text)


def stalled(record: Record, most: float) -> Verdict:
    longest = record.connections.longest
    if longest is None:
        return Verdict(False, "there was no long connection")
    delayed = record.delayed(longest.stall_at, longest.stall_at + longest.stall)
    text = f"the echo of a message took {longest.stall:.3f} s at most ({limit(most, delayed)})"
    return Verdict(longest.stall <= most + delayed, text)


def others(found: dict[str, int]) -> str:
    rest = {end: count for end, count in found.items() if end != RESET}
    return f"; others: {in_words(rest)}" if rest else ""


def in_words(found: dict[str, int]) -> str:
    return ", ".join(f"{count} {end}" for end, count in found.items())
