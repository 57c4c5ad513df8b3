"""The faults of the table, done to the master; what was lost then, and who answered."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from floatip.lab.network import ROUTER
from floatip.lab.record import Record
from floatip.lab.verdicts import Verdict, lost_less_than, moved_to, nothing_lost
from floatip.observing.summary import KINDS, ProbeResult, Summary
from tests.systemd import guide
from tests.systemd.machines import Machine
from tests.systemd.pair import Pair
from tests.systemd.stacks import KEEPALIVED_PIDS, Stack, claiming, install_package, next_package

FLOATIP_TOML = "/etc/floatip/floatip.toml"
MASTER_DOWN = 3.8
"""Seconds; for as long a daemon that has just started may listen for another master."""
MANY = 1000
"""Outages, where only the length of each counts."""
GIVEN_UP_AFTER = 20.0
"""Seconds after which nothing mends it any more."""
CALM = 0.6
"""Seconds without a loss that end the waiting."""

LONG, ENOUGH = 0.9, 0.2
"""Seconds: how long a probe is waited for, and how long without a CPU excuses that none came."""

Act = Callable[[Pair, Stack, Machine], None]


def _nothing(pair: Pair) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Fault:
    name: str
    act: Act
    moves: bool | None
    """Whether the other node must have the traffic in the end; None: either may, but one alone."""
    within: float
    """Seconds after the command's end after which one node alone answers."""
    lost_at_most: float = 0.0
    """Seconds; beside floatip."""
    prepare: Callable[[Pair], None] = _nothing
    only_beside: bool = False
    """Whether the guide's stack has no such thing."""


def starved(record: Record, probe: ProbeResult) -> bool:
    """Whether it is a request that was lost for want of a CPU: a HAProxy without one fills its queue, and a connection
    that finds it full is tried again after a second. Echoes need no HAProxy."""
    is_lost_request = probe.kind == "request" and not probe.ok
    return is_lost_request and record.delayed(probe.at - LONG, probe.at + LONG) > ENOUGH


@dataclass(frozen=True, slots=True)
class Outcome:
    fault: Fault
    master: str
    other: str
    ended_at: float
    """When the command that is the fault had ended."""
    claiming: tuple[str, ...]
    """The nodes that are announced as master at the end."""
    record: Record

    @property
    def verdicts(self) -> list[Verdict]:
        fault, record = self.fault, self.record
        moves = self.claiming[:1] == (self.other,) if fault.moves is None else fault.moves
        expected, other = (self.other, self.master) if moves else (self.master, self.other)
        served = Summary.from_probes(probe for probe in record.seen.probes if not starved(record, probe))
        lost = lost_less_than(record, fault.lost_at_most, MANY) if fault.lost_at_most else nothing_lost(served)
        claims = other in self.claiming
        return [
            *lost,
            moved_to(record, expected, self.ended_at, "the fault", within=fault.within),
            Verdict(not claims, f"{other} is {'' if claims else 'not '}announced as master at the end"),
        ]

    @property
    def cost(self) -> str:
        """For people."""
        windows = [window for kind in KINDS for window in self.record.seen.windows(kind)]
        lost = f"{self.record.longest_outage * 1000:.0f} ms lost" if windows else "0 lost"
        if any(window.next_good_at is None for window in windows):
            lost = f"down for good (over {GIVEN_UP_AFTER:g} s)"
        return f"{lost}, two masters" if len(self.claiming) > 1 else lost

    def report(self) -> str:
        record, at = self.record, self.record.fault_at
        lines = [f"{self.fault.name}: {self.cost}; {len(record.torn)} connections torn by the move"]
        lines += [f"  {'ok' if verdict.holds else 'FAILED':6}  {verdict.text}" for verdict in self.verdicts]
        moves = [f"{change.at - at:.3f}" for change in record.routes[ROUTER] if change.at > at]
        lines += [f"  the traffic moved at {', '.join(moves)}"] if moves else []
        delayed = record.delayed(at, math.inf)
        lines += [f"  the lab had no CPU for {delayed:.3f} s in all"] if delayed >= 0.1 else []
        late = sum(starved(record, probe) for probe in record.seen.probes)
        lines += [f"  {late} of the lost requests are put down to that"] if late else []
        bad = [probe for probe in record.seen.probes if not probe.ok][:20]
        lines += [f"  {probe.kind} lost at {probe.at - at:.3f}: {probe.error}" for probe in bad]
        return "\n".join(lines)


def play(pair: Pair, stack: Stack, fault: Fault, master: Machine) -> Outcome:
    with pair.observed() as observation:
        record = observation.record
        time.sleep(0.3)
        record.fault_at = time.monotonic()
        fault.act(pair, stack, master)
        ended_at = time.monotonic()
        while time.monotonic() < ended_at + GIVEN_UP_AFTER:
            looks_at = ended_at + fault.within + record.delayed(record.fault_at, math.inf) + 1
            if time.monotonic() > looks_at and observation.latest_answers(CALM):
                break
            time.sleep(0.1)
        claims = tuple(node.name for node in claiming(pair, stack))
    return Outcome(fault, master.name, pair.other(master).name, ended_at, claims, record)


def shell(command: str) -> Act:
    def act(pair: Pair, stack: Stack, master: Machine) -> None:
        master.run(command.format(announcer=stack.announcer))

    return act


def _keepalived_checks_haproxy(pair: Pair) -> None:
    for node in pair.nodes:
        node.write("/etc/keepalived/failover.sh", guide.FAILOVER_WITH_HAPROXY, 0o755)


def _floatip_checks_haproxy(pair: Pair) -> None:
    for node in pair.nodes:
        node.write("/etc/keepalived/failover.sh", guide.FAILOVER, 0o755)
        adopted = node.run(f"cat {FLOATIP_TOML}")
        if "[[check]]" not in adopted:
            check = '[[check]]\nname = "haproxy"\nprocess = "haproxy"\n\n[[instance]]\nchecks = ["haproxy"]\n'
            node.write(FLOATIP_TOML, adopted.replace("[[instance]]\n", check))


def _both_packages(pair: Pair) -> None:
    next_package(pair.directory)
    install_package(pair)


def _upgrade(pair: Pair, stack: Stack, master: Machine) -> None:
    master.install(next_package(pair.directory))


FAULTS = (
    Fault("trigger file", shell(f"touch {guide.TRIGGER}"), moves=True, within=3.5),
    Fault("systemctl stop keepalived", shell("systemctl stop keepalived"), moves=True, within=2.0),
    Fault("systemctl restart keepalived", shell("systemctl restart keepalived"), moves=True, within=3.0),
    Fault("SIGKILL: keepalived, parent", shell("kill -KILL $(cat /run/keepalived.pid)"), moves=True, within=2.0),
    Fault("SIGKILL: keepalived, child", shell("kill -KILL $(cat /run/vrrp.pid)"), moves=True, within=5.5),
    Fault("SIGKILL: keepalived, both", shell(f"kill -KILL {KEEPALIVED_PIDS}"), moves=True, within=5.0),
    Fault("restart the announcer", shell("systemctl restart {announcer}"), moves=False, within=MASTER_DOWN + 0.7),
    Fault("reload the announcer", shell("systemctl reload {announcer}"), moves=False, within=2.0),
    Fault(
        "SIGKILL: the announcer",
        shell("systemctl kill --signal=KILL {announcer}"),
        moves=False,
        within=MASTER_DOWN + 1.7,
    ),
    Fault("systemctl reboot", lambda pair, stack, master: master.reboot(), moves=True, within=6.0),
    Fault("SIGSTOP: keepalived hangs", shell(f"kill -STOP {KEEPALIVED_PIDS}"), moves=True, within=5.5),
    Fault(
        "SIGKILL: HAProxy, keepalived checks it",
        shell("systemctl kill --signal=KILL haproxy"),
        moves=True,
        within=3.0,
        lost_at_most=2 * 1.0 + 0.3,  # fall 2, interval 1, and the script's own time
        prepare=_keepalived_checks_haproxy,
    ),
    Fault(
        "SIGKILL: HAProxy, floatip watches its process",
        shell("systemctl kill --signal=KILL haproxy"),
        moves=True,
        within=0.5,
        lost_at_most=0.05,
        prepare=_floatip_checks_haproxy,
        only_beside=True,
    ),
    Fault("package upgrade", _upgrade, moves=False, within=MASTER_DOWN + 0.7, prepare=_both_packages, only_beside=True),
)
