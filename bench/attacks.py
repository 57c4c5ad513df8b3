"""Attacks on a real pair: what traffic, adverts and KEEPALIVEs notice of each, beside the same time without it.

python -m bench.attacks [--only newlines,again,status,flood-standby,...] [--json FILE]

newlines        60 connections to the control socket of the master, 12 MB of newlines each
again           the same, and each connection is opened again as soon as it is closed
status          60 clients of the control socket ask for the status without a pause
flood-standby   200,000 adverts a second of an unknown node, to the standby; flood-master: to the master
delete-standby  1,000 deletions of the address a second on the standby; delete-master: on the master
hang            a check script that ignores SIGTERM and never ends
dead-disk       the script is on a file system that never answers: exec hangs
slow-...        one run of the check is 0.3 s slower than its timeout, on both nodes at the same moment, `fall = 2`

The checks run as the daemon's user, so the clients of the control socket do, too. The daemons have the scheduling that
the unit gives them (SCHED_RR, priority 10), where the machine allows that. A lateness "of our making" is what stays
after the time for which the machine did not run the daemon is subtracted. Everything happens in namespaces that end
with this process. The exit status is 1 if anything is not as it must be.
"""

import argparse
import ctypes
import json
import math
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.pairs import cpu_of, rss
from bench.wire import Tap, Watch
from floatip.lab.namespaces import LabError, enter
from floatip.lab.network import FLOATING, NODES, OBSERVER
from floatip.lab.record import Record, RunOptions
from floatip.lab.run import Run
from floatip.lab.scenes import MASTER, STANDBY
from floatip.observing.summary import KINDS

SECONDS = 12.0
SETTLE = 3.0
ADVERT_INTERVAL, KEEPALIVE_INTERVAL = 0.1, 1.0
CLIENTS, EACH = 60, 12_000_000
FLOOD, DELETIONS = 200_000, 1_000
SLOWER_BY = 0.3
TIMEOUTS = (0.5, 1.0, 1.5, 2.0)
"""With a run each second."""
MOST_GROWTH = 10.0
"""MB."""
LATE_AT_MOST = 0.02
"""Seconds, of our making: a fifth of the advert interval, as `bench.scale` demands."""
P99_MORE_AT_MOST = 0.005
MOST_CPU = 50.0
"""Percent of a core: the kernel throttles real-time threads that take nearly all of one."""
HANDED_OVER_WITHIN = 0.5
"""Seconds after the first deletion; what is lost later, the standby could have served."""
NEVER_DOWN = "fall = 1000"
UNIT_PRIORITY = 10


@dataclass(frozen=True, slots=True)
class Lateness:
    """Of messages that are due at an interval: seconds by which one came later than that after the one before."""

    count: int
    p99: float
    longest: float
    ours: float

    @classmethod
    def of(cls, sent: Iterable[tuple[str, Sequence[float]]], interval: float, window: "Window") -> "Lateness":
        """`sent`: by node, when the messages of one sender left it."""
        found = []
        for node, times in sent:
            here = [at for at in times if window.since <= at < window.until]
            for before, after in pairwise(here):
                late = max(0.0, after - before - interval)
                found.append((late, late - window.watch.held_up(node, before + interval, after) if late else 0.0))
        late_times = sorted(late for late, _ in found)
        if not late_times:
            return cls(0, math.inf, math.inf, math.inf)
        p99 = late_times[math.ceil(0.99 * len(late_times)) - 1]
        return cls(len(found), p99, late_times[-1], max(ours for _, ours in found))


@dataclass(frozen=True, slots=True)
class Window:
    since: float
    until: float
    watch: Watch
    growth: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one window."""

    adverts: Lateness
    keepalives: Lateness
    growth: float
    """MB at most, of the daemon that grew most."""
    lost: int
    """Of all echoes and requests."""
    lost_for: float
    """Seconds from the beginning of the attack to the last of them."""
    sent: int
    moves: int
    """Of the traffic, as the router's route says."""
    roles: int
    """Changes of role of both nodes."""
    cpu: float
    """Percent of a core, of the daemon that took most."""


@dataclass(frozen=True, slots=True)
class Finding:
    holds: bool
    text: str


@dataclass(frozen=True, slots=True)
class Result:
    name: str
    without: Figures
    under: Figures
    did: str
    findings: Sequence[Finding]


Play = Callable[[Run], str]
"""Returns when the attack is over, and says what it did."""


@dataclass(frozen=True, slots=True)
class Attack:
    play: Play
    check: str = ""
    seconds: float = SECONDS
    """Of the time without; the attack takes what it takes."""
    hands_over: bool = False
    """Whether the master must hand over, once."""
    p99_as_without: bool = False


# The attacks


def attack(run: Run, host: str, *argv: object) -> dict[str, float]:
    began = time.monotonic()
    process = run.network.run(host, [sys.executable, "-m", "bench.attackers", *map(str, argv)])
    output, _ = process.communicate(timeout=SECONDS + 60)
    if process.returncode:
        raise LabError(f"the attacker failed: {output.decode()[-1000:]}", "this is an error of the benchmark")
    told: dict[str, float] = json.loads(output)
    run.record.fault_at = told["began"]
    return {**told, "took": time.monotonic() - began}


def nothing(run: Run, seconds: float) -> str:
    time.sleep(seconds)
    return ""


def clients(run: Run, line: str, again: bool) -> str:
    began = time.monotonic()
    path = run.nodes[MASTER].socket
    told = attack(run, MASTER, "clients", path, line, CLIENTS, EACH, SECONDS, "again" if again else "once")
    time.sleep(max(0.0, began + SECONDS - time.monotonic()))
    return (
        f"{told['connections']:.0f} connections; the daemon let them send {told['sent'] / 1e6:.1f} MB; {_share(told)}"
    )


def flood(run: Run, node: str) -> str:
    target = next(host.ipv4 for host in NODES if host.name == node)
    assert target
    before, softirqs = _received(run, node), _softirqs()
    told = attack(run, OBSERVER.name, "flood", target.ip, FLOOD, SECONDS)
    arrived = (_received(run, node) - before) / SECONDS
    softly = 100 * (_softirqs() - softirqs) / SECONDS
    reached = f"{told['a_second']:,.0f} packets/s sent, {arrived:,.0f}/s reached the node"
    return f"{reached}; {_share(told)}; softirqs took {softly:.0f} % of a core"


def _softirqs() -> float:
    """Seconds of all CPUs so far (proc(5))."""
    return int(Path("/proc/stat").read_text().split(maxsplit=8)[7]) / os.sysconf("SC_CLK_TCK")


def _received(run: Run, node: str) -> int:
    with run.network.inside(node):
        table = Path("/proc/thread-self/net/snmp").read_text()
    names, values = (line.split() for line in table.splitlines() if line.startswith("Ip:"))
    return int(values[names.index("InReceives")])


def delete(run: Run, node: str) -> str:
    told = attack(run, node, "delete", FLOATING, DELETIONS, SECONDS)
    return f"{told['asked']:,.0f} deletions, the address was there {told['deleted']:,.0f} times; {_share(told)}"


def _share(told: Mapping[str, float]) -> str:
    return f"the attacker took {100 * told['cpu'] / told['took']:.0f} % of a core"


def hang(run: Run) -> str:
    for daemon in run.nodes.values():
        (daemon.socket.parent / "hang").touch()
    return f"{_runs_of(run):.0f} runs of the check began and failed, on both nodes together"


def _runs_of(run: Run) -> int:
    def failed() -> int:
        checks = [check for daemon in run.nodes.values() for check in daemon.status()["checks"]]
        return sum(check["runs"] for check in checks if not check["last_result"].startswith("exit status 0"))

    time.sleep(2)
    before = failed()
    time.sleep(SECONDS - 2)
    return failed() - before


def dead_disk(run: Run, directory: Path) -> str:
    with dead(directory):
        return f"{_runs_of(run):.0f} runs of the check began and failed, on both nodes together"


@contextmanager
def dead(directory: Path) -> Iterator[None]:
    """A file system over the directory that nobody serves (fuse(4)): whoever goes there waits until it is gone."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
        if libc.mount(b"dead", os.fsencode(directory), b"fuse", 0, options.encode()):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    except OSError as error:
        raise LabError(f"cannot mount a FUSE file system: {error}", "leave out dead-disk: --only ...") from None
    try:
        yield
    finally:
        os.close(device)
        libc.umount2(os.fsencode(directory), 2)  # MNT_DETACH


def slow(run: Run) -> str:
    flags = [daemon.socket.parent / "slow" for daemon in run.nodes.values()]
    for flag in flags:
        flag.touch()
    run.wait_for(lambda: not any(flag.exists() for flag in flags), "a run of each check to be slow")
    time.sleep(max(TIMEOUTS) + SLOWER_BY + 1)
    ended = [flag for flag in flags if flag.with_name("ended").exists()]
    if ended:
        raise LabError(f"{len(ended)} slow runs were not ended at their timeout", "this is an error of the benchmark")
    return "one run was ended at its timeout on each node"


SCRIPT = """\
#!/bin/sh
# Of the node that runs it.
slow=$RUNTIME_DIRECTORY/slow
if [ -e "$slow" ]; then rm "$slow"; sleep $1; touch "$RUNTIME_DIRECTORY/ended"; fi
if [ -e "$RUNTIME_DIRECTORY/hang" ]; then trap "" TERM; exec sleep 1000; fi
"""


def attacks(directory: Path) -> dict[str, Attack]:
    script = directory / "check.sh"
    script.write_text(SCRIPT)
    script.chmod(0o755)

    def check(timeout: float, fall: str) -> str:
        return f'script = ["{script}", "{timeout + SLOWER_BY}"]\ninterval = 1\ntimeout = {timeout}\n{fall}'

    found = {
        "newlines": Attack(partial(clients, line="\n", again=False)),
        "again": Attack(partial(clients, line="\n", again=True)),
        "status": Attack(partial(clients, line='{"cmd": "status"}\n', again=True)),
        "flood-standby": Attack(partial(flood, node=STANDBY)),
        "flood-master": Attack(partial(flood, node=MASTER)),
        "delete-standby": Attack(partial(delete, node=STANDBY)),
        "delete-master": Attack(partial(delete, node=MASTER), hands_over=True),
        "hang": Attack(hang, check(1.0, NEVER_DOWN), p99_as_without=True),
        "dead-disk": Attack(partial(dead_disk, directory=directory), check(1.0, NEVER_DOWN), p99_as_without=True),
    }
    for timeout in TIMEOUTS:
        found[f"slow-{timeout:g}s"] = Attack(slow, check(timeout, "fall = 2"), seconds=5.0)
    return found


# What is measured


def play(name: str, attack: Attack) -> Result:
    options = RunOptions(advert_interval=ADVERT_INTERVAL, check=attack.check)
    with ExitStack() as exits:
        run = exits.enter_context(Run(options))
        run.start()
        for node in run.nodes.values():
            schedule_as_the_unit(node.pid)
        tap = exits.enter_context(Tap(run.network, run.nodes))
        watch = exits.enter_context(Watch({host: node.pid for host, node in run.nodes.items()}))
        time.sleep(SETTLE)
        windows, did = [], ""
        for what in (partial(nothing, seconds=attack.seconds), attack.play):
            for node in run.nodes.values():
                Path(f"/proc/{node.pid}/clear_refs").write_text("5")  # the peak starts here
            pids = [node.pid for node in run.nodes.values()]
            memory, cpu = [rss(pid) for pid in pids], [cpu_of(pid) for pid in pids]
            since = run.fault(name)
            did = what(run)
            until = time.monotonic()
            growth = max(_peak(pid) - before for pid, before in zip(pids, memory, strict=True))
            took = max(cpu_of(pid) - before for pid, before in zip(pids, cpu, strict=True))
            windows.append(Window(since, until, watch, growth, 100 * took / (until - since)))
        tap.settle()
        record = run.finish()
        without, under = (_figures(record, tap, window) for window in windows)
    return Result(name, without, under, did, list(judge(attack, without, under)))


def schedule_as_the_unit(pid: int) -> None:
    """As chrt in debian/floatip.service."""
    try:
        os.sched_setscheduler(pid, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(UNIT_PRIORITY))
    except PermissionError:
        log("this machine refuses real-time scheduling: the daemons run without")


def _peak(pid: int) -> float:
    """MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0]) / 1e6


def _figures(record: Record, tap: Tap, window: Window) -> Figures:
    seen = record.seen.between(window.since, window.until)
    began = max(window.since, record.fault_at)
    adverts = Lateness.of(tap.adverts.items(), ADVERT_INTERVAL, window)
    keepalives = ((node, times) for (node, _), times in tap.keepalives.items())
    changes = (change for change in record.routes["router"] if window.since <= change.at < window.until)
    roles = (event for event in record.events if event.what == "role" and window.since <= event.at < window.until)
    return Figures(
        adverts,
        Lateness.of(keepalives, KEEPALIVE_INTERVAL, window),
        window.growth,
        sum(seen.lost(kind) for kind in KINDS),
        max((probe.at - began for probe in seen.probes if not probe.ok), default=0.0),
        sum(seen.sent(kind) for kind in KINDS),
        sum(1 for _ in changes),
        sum(1 for _ in roles),
        window.cpu,
    )


def judge(attack: Attack, without: Figures, under: Figures) -> Iterator[Finding]:
    yield Finding(under.growth <= MOST_GROWTH, f"RSS grew by {under.growth:.1f} MB (limit {MOST_GROWTH:g} MB)")
    yield Finding(under.cpu <= MOST_CPU, f"a daemon took {under.cpu:.0f} % of a core (limit {MOST_CPU:g} %)")
    for what, figures in (("adverts", under.adverts), ("KEEPALIVEs", under.keepalives)):
        text = f"{what} at most {1000 * figures.ours:.1f} ms late of our making (limit {1000 * LATE_AT_MOST:g} ms)"
        yield Finding(figures.ours <= LATE_AT_MOST, text)
    if attack.hands_over:
        yield Finding(under.moves == 1, f"the traffic moved {under.moves} times, not once")
        text = f"the last probe lost {under.lost_for:.3f} s after the first deletion (limit {HANDED_OVER_WITHIN:g} s)"
        yield Finding(under.lost_for <= HANDED_OVER_WITHIN, text)
    else:
        yield Finding(not under.moves and not under.roles, f"{under.moves} moves, {under.roles} changes of role")
        yield Finding(not under.lost, f"{under.lost} of {under.sent} probes lost")
    if attack.p99_as_without:
        more = under.adverts.p99 - without.adverts.p99
        text = f"p99 of the adverts {1000 * more:.1f} ms later than without (limit {1000 * P99_MORE_AT_MOST:g} ms)"
        yield Finding(more <= P99_MORE_AT_MOST, text)


# The table


def table(results: Sequence[Result]) -> str:
    lines = [
        f"{'':22}{'adverts late, ms':>18}{'KEEPALIVEs, ms':>16}{'RSS':>6}{'CPU':>5}",
        f"{'attack':22}{'p99':>6}{'max':>6}{'ours':>6}{'p99':>8}{'max':>8}{'MB':>6}{'%':>5}{'lost':>5}{'moves':>6}",
    ]
    for result in results:
        for name, figures in ((f"{result.name}, before", result.without), (result.name, result.under)):
            adverts, keepalives = figures.adverts, figures.keepalives
            late = (adverts.p99, adverts.longest, adverts.ours, keepalives.p99, keepalives.longest)
            p99, longest, ours, *beats = (f"{1000 * each:.1f}" for each in late)
            lines.append(
                f"{name:22}{p99:>6}{longest:>6}{ours:>6}{beats[0]:>8}{beats[1]:>8}"
                f"{figures.growth:>+6.1f}{figures.cpu:>5.0f}{figures.lost:>5}{figures.moves:>6}"
            )
    return "\n".join(lines)


def details(results: Sequence[Result]) -> str:
    lines = []
    for result in results:
        lost = f"; lost in the first {result.under.lost_for:.3f} s" if result.under.lost else ""
        lines.append(textwrap.fill(f"{result.name}: {result.did}{lost}", 80, subsequent_indent="  "))
        lines += [f"  NOT AS IT MUST BE: {finding.text}" for finding in result.findings if not finding.holds]
    return "\n".join(lines)


def log(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def measure() -> list[dict[str, Any]]:
    """In a process of its own, which can enter namespaces; prints the table. Empty: it could not be measured."""
    with tempfile.TemporaryDirectory(prefix="floatip-bench-") as directory:
        found = Path(directory, "attacks.json")
        subprocess.run([sys.executable, "-m", "bench.attacks", "--json", str(found)], check=False)
        return list(json.loads(found.read_text())) if found.exists() else []


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.attacks")
    parser.add_argument("--only", help="names of attacks, with commas between them")
    parser.add_argument("--json", type=Path, help="all figures")
    options = parser.parse_args()
    try:
        enter([sys.executable, "-m", "bench.attacks", *sys.argv[1:]])
        with tempfile.TemporaryDirectory(prefix="attacks-", dir="/run") as directory:
            known = attacks(Path(directory))
            names = options.only.split(",") if options.only else list(known)
            if unknown := set(names) - known.keys():
                parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
            results = []
            for name in names:
                log(f"{name} ...")
                results.append(play(name, known[name]))
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"load of the machine at the end: {os.getloadavg()[0]:.1f}\n{table(results)}\n\n{details(results)}")
    holds = [all(finding.holds for finding in result.findings) for result in results]
    if options.json:
        found = [{**asdict(result), "holds": ok} for result, ok in zip(results, holds, strict=True)]
        options.json.write_text(json.dumps(found, indent=1))
    return 0 if all(holds) else 1


if __name__ == "__main__":
    sys.exit(main())
