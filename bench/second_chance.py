"""What a planned move does to open connections: floatip without and with the second chance, and keepalived beside it.

python -m bench.second_chance [--runs 5] [--connections 500] [--delay 20] [--only handover,keepalived] [--json FILE]
                              [--ways built-in,direct,bird]

A client holds long connections with a message each 50 ms, opens short ones, and has an upload and a download under way,
with a delay between it and the router; HAProxy in TCP mode is before the service. All rows are of one run of this
program, on one network: a client, a router, two nodes that share no layer 2.

handover, drain, stop   floatip, as the scenes connections-... of the lab play it: without the second chance, and with
                        it: answers through the tunnel with each kind of route server, and answers that leave directly
keepalived              stopped (SIGTERM), which is its planned move. Its notify script sets the router's route at once,
                        which is more than a provider's API does, and its skew time is the least that it can have
conntrackd              the same, and the connection table is at the other node before the route is
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.pairs import STARTED_WITHIN, ipv4_of, other_of, wait_for
from bench.scale import log
from floatip.lab.connections import HANG, REFUSED, RESET
from floatip.lab.namespaces import LabError, enter, find_program
from floatip.lab.network import FLOATING, NODES, OBSERVER, ROUTER, Network
from floatip.lab.programs.connections import ConnectionsProgram, services
from floatip.lab.programs.floatip import ObserverProgram
from floatip.lab.programs.keepalived import KeepalivedProgram
from floatip.lab.programs.program import Program
from floatip.lab.programs.services import HAProxy
from floatip.lab.second_chance_scenes import AFTER, BEFORE
from floatip.observing.summary import ProbeResult
from floatip.text import aligned

MOVES = ("handover", "drain", "stop")
PEERS = ("keepalived", "conntrackd")
WAYS: Mapping[str, Sequence[str]] = {
    "built-in": (),
    "direct": ("--answers", "auto"),
    "bird": ("--route-server", "bird"),
}
"""Of the second chance: with the built-in route servers or BIRD, and by which way answers go."""
MASTER, STANDBY = (node.name for node in NODES)
PRIORITY = 254
"""Of both nodes: the skew time of the backup is 2/256 s."""
PROBE_INTERVAL = 0.005
SYNC_PORT = 3780
OFF = "floatip, off"
WITHIN = 30.0


@dataclass(frozen=True, slots=True)
class Row:
    what: str
    program: str
    runs: list[dict[str, Any]] = field(default_factory=list)
    """What became of the connections in each, as `Connections.summary` has it, with `lost` and `torn`."""
    wrong: tuple[str, ...] = ()
    """What did not hold, or why it could not be played."""
    is_judged: bool = False

    @property
    def holds(self) -> bool | None:
        """None: nothing is demanded of it."""
        if self.is_judged or not self.runs:
            return not self.wrong
        return None

    def reset(self, kind: str) -> tuple[int, int]:
        """How many of how many."""
        count = sum(run[kind]["count"] for run in self.runs)
        return sum(run[kind]["ends"].get(end, 0) for run in self.runs for end in (RESET, REFUSED)), count

    def worst(self, name: str) -> float:
        """Seconds."""
        return max((run[name] or 0.0 for run in self.runs), default=0.0)

    def total(self, name: str) -> int:
        return sum(run[name] for run in self.runs)

    @property
    def transfers(self) -> str:
        """How many of them were whole."""
        all_ = [one for run in self.runs for one in run["transfers"]]
        return f"{sum(not one['end'] for one in all_)} of {len(all_)}"


# floatip


def played(move: str, second_chance: str, way: str, times: int, options: argparse.Namespace) -> Row:
    """By the lab, each run in a lab of its own."""
    command = [sys.executable, "-m", "floatip", "lab", f"connections-{move}", "--json", "--runs", str(times)]
    command += ["--connections", str(options.connections), "--delay", str(options.delay)]
    command += ["--second-chance", second_chance, *WAYS[way]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    program = f"floatip, {second_chance}" + (f", {way}" if second_chance == "on" else "")
    if not done.stdout:
        said = " ".join(done.stderr.split())
        return Row(move, program, wrong=(f"the lab did not play: {said[:300]}",), is_judged=True)
    results = json.loads(done.stdout)
    wrong = [finding["text"] for result in results for finding in result["findings"] if not finding["holds"]]
    runs = [_of(result) for result in results]
    return Row(move, program, runs, tuple(wrong), is_judged=second_chance == "on")


def _of(result: dict[str, Any]) -> dict[str, Any]:
    lost = sum(result["observed"]["lost"].values())
    return {**result["connections"], "lost": lost, "torn": result["torn"]}


# keepalived


def beside(peer: str, options: argparse.Namespace) -> Row:
    """Each run in a process of its own, which can enter namespaces."""
    runs, wrong = [], []
    for _ in range(options.runs):
        command = [sys.executable, "-m", "bench.second_chance", "--play", peer]
        command += ["--connections", str(options.connections), "--delay", str(options.delay)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            wrong.append(" ".join(done.stderr.split())[-300:])
        else:
            runs.append(json.loads(done.stdout))
    program = "keepalived" if peer == "keepalived" else "keepalived, conntrackd"
    return Row("stop", program, runs, tuple(wrong))


class Conntrackd(Program):
    name = "conntrackd"

    def __init__(self, network: Network, host: str) -> None:
        super().__init__(network, host)
        # Its own paths: a socket's may have 107 octets.
        self.config = self.write("conf", CONNTRACKD.format(directory=self.directory, **_sync(host)))
        with network.inside(host):  # without such a rule the kernel follows no connections
            rules = "table ip track {\nchain in {\ntype filter hook input priority 0\nct state invalid counter\n}\n}\n"
            subprocess.run([find_program("nft", "nftables"), "-f", "-"], input=rules, text=True, check=True)

    def command(self) -> Sequence[str]:
        return [find_program("conntrackd", "conntrackd"), "-C", self.config]

    def say(self, *words: str) -> subprocess.CompletedProcess[str]:
        program = find_program("conntrackd", "conntrackd")
        with self.network.inside(self.host):
            return subprocess.run([program, "-C", self.config, *words], capture_output=True, text=True, check=False)

    @property
    def answers(self) -> bool:
        return self.say("-s").returncode == 0

    @property
    def mirrored(self) -> int:
        """Connections of the other node that it knows."""
        return self.say("-e").stdout.count(f"dst={FLOATING.ip}")


CONNTRACKD = """
Sync {{
  Mode FTFW {{
    DisableExternalCache off
  }}
  UDP {{
    IPv4_address {me}
    IPv4_Destination_Address {other}
    Port {port}
    Interface eth0
    SndSocketBuffer 1249280
    RcvSocketBuffer 1249280
    Checksum on
  }}
}}
General {{
  HashSize 32768
  HashLimit 131072
  LogFile {directory}/log-of-its-own
  LockFile {directory}/lock
  UNIX {{
    Path {directory}/ctl
  }}
  NetlinkBufferSize 2097152
  NetlinkBufferSizeMaxGrowth 8388608
  Filter From Userspace {{
    Protocol Accept {{
      TCP
    }}
    Address Ignore {{
      IPv4_address 127.0.0.1
    }}
  }}
}}
"""


def _sync(host: str) -> dict[str, Any]:
    return {"me": ipv4_of(host), "other": ipv4_of(other_of(host)), "port": SYNC_PORT}


def keepalived_conf(host: str, script: Path) -> str:
    return f"""
global_defs {{
  script_user root
  enable_script_security
}}
vrrp_instance VI_1 {{
  state BACKUP
  nopreempt
  interface eth0
  virtual_router_id 51
  priority {PRIORITY}
  advert_int 1
  unicast_src_ip {ipv4_of(host)}
  unicast_peer {{
    {ipv4_of(other_of(host))}
  }}
  virtual_ipaddress {{
    {FLOATING}
  }}
  notify_master {script}
}}
"""


def notify_script(network: Network, host: str, tracker: Conntrackd | None) -> Path:
    """The connection table first, then the route."""
    (ipv6,) = (node.ipv6 for node in NODES if node.name == host)
    lines = ["#!/bin/sh"]
    if tracker:
        program = find_program("conntrackd", "conntrackd")
        lines += [f"{program} -C {tracker.config} {word}" for word in ("-c", "-f", "-R", "-B")]
    route = f"route replace {FLOATING} via inet6 {ipv6} dev {host}"
    lines.append(f"nsenter --net={network.path_of(ROUTER)} {find_program('ip', 'iproute2')} {route}")
    script = network.directory / f"notify-{host}"
    script.write_text("\n".join([*lines, ""]))
    script.chmod(0o700)
    return script


def play(peer: str, connections: int, delay: float) -> dict[str, Any]:
    """In namespaces. `delay`: seconds."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="floatip-bench-", dir="/run")))
        network = stack.enter_context(Network(directory, delay=delay))
        hosts = [node.name for node in NODES]
        behind: list[Program] = [HAProxy(network, host) for host in hosts]
        for host in hosts:
            behind += services(network, host, connections, proxied=True)
        trackers = {host: Conntrackd(network, host) for host in hosts if peer == "conntrackd"}
        for program in (*behind, *trackers.values()):
            program.start()
        for tracker in trackers.values():
            wait_for(lambda tracker=tracker: tracker.answers, "conntrackd to answer", WITHIN)  # type: ignore[misc]
        scripts = {host: notify_script(network, host, trackers.get(host)) for host in hosts}
        routers = {host: KeepalivedProgram(network, host, keepalived_conf(host, scripts[host])) for host in hosts}
        routers[MASTER].start()
        wait_for(lambda: _leads_to(network, MASTER), f"{MASTER} to be master", STARTED_WITHIN)
        routers[STANDBY].start()
        wait_for(routers[STANDBY].vrrp_pid_file.exists, f"{STANDBY} to take part", STARTED_WITHIN)
        observer = ObserverProgram(network, OBSERVER.name, str(FLOATING.ip), PROBE_INTERVAL)
        client = ConnectionsProgram(network, connections)
        observer.start()
        client.start()
        wait_for(lambda: client.is_ready, "the connections to be open", STARTED_WITHIN)
        time.sleep(BEFORE)
        if trackers:
            wait_for(lambda: trackers[STANDBY].mirrored >= connections, "conntrackd to mirror them", WITHIN)
        routers[MASTER].stop()
        wait_for(lambda: _leads_to(network, STANDBY), f"{STANDBY} to be master", WITHIN)
        time.sleep(AFTER)
        found = client.end()
        observer.stop()
        observer.wait()
        return {**found.summary(), **_failed(observer.new_results())}


def _leads_to(network: Network, host: str) -> bool:
    with network.inside(ROUTER):
        shown = subprocess.run(["ip", "route", "show", str(FLOATING)], capture_output=True, text=True, check=True)
    return f"dev {host} " in shown.stdout


def _failed(probes: Sequence[ProbeResult]) -> dict[str, int]:
    """`torn`: requests that were open."""
    torn = sum(probe.error == RESET for probe in probes)
    return {"lost": sum(not probe.ok for probe in probes) - torn, "torn": torn}


# The table


HEAD = ("move", "program", "long reset", "short reset", "transfers whole", "hang", "stall", "short", "lost", "torn", "")


def table(rows: Sequence[Row]) -> str:
    return "\n".join(aligned([HEAD, *map(_cells, rows)]))


def _cells(row: Row) -> tuple[str, ...]:
    verdict = {None: "", True: "ok", False: "FAILED"}[row.holds]
    if not row.runs:
        return (row.what, row.program, *["-"] * (len(HEAD) - 3), verdict)
    resets = [f"{count} of {of}" for count, of in (row.reset("long"), row.reset("short"))]
    stall = "-" if row.reset("long")[0] else f"{row.worst('longest_stall'):.3f} s"
    times = [stall, f"{row.worst('slowest_short'):.3f} s"]
    hangs, lost, torn = (str(row.total(name)) for name in ("hangs", "lost", "torn"))
    return (row.what, row.program, *resets, row.transfers, hangs, *times, lost, torn, verdict)


def ratios(rows: Sequence[Row]) -> Iterator[str]:
    """Of what was reset, beside floatip without the second chance, in each move; keepalived beside its stop."""
    without = {row.what: _share(row) for row in rows if row.program == OFF}
    for row in rows:
        share, off = _share(row), without.get(row.what)
        if row.program == OFF or not off or share is None:
            continue
        yield f"{row.what}: {row.program} resets {share / off:.2f} of what floatip without the second chance resets"


def _share(row: Row) -> float | None:
    """Of all long and short connections."""
    if not row.runs:
        return None
    resets, counts = zip(row.reset("long"), row.reset("short"), strict=True)
    return sum(resets) / sum(counts) if sum(counts) else None


def measure(runs: int) -> list[dict[str, Any]]:
    """In a process of its own; prints the table. Empty: it could not be measured."""
    with TemporaryDirectory(prefix="floatip-bench-") as directory:
        found = Path(directory, "rows.json")
        command = [sys.executable, "-m", "bench.second_chance", "--runs", str(runs), "--json", str(found)]
        subprocess.run(command, check=False)
        return list(json.loads(found.read_text())) if found.exists() else []


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.second_chance")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--runs-off", type=int, default=2, help="without the second chance, which resets all each time")
    parser.add_argument("--connections", type=int, default=500)
    parser.add_argument("--delay", type=float, default=20.0, help="ms between the client and the router, each way")
    parser.add_argument("--only", default=",".join((*MOVES, *PEERS)), help="parts, with commas between them")
    parser.add_argument("--ways", default=",".join(WAYS), help="of the second chance, with commas between them")
    parser.add_argument("--json", type=Path, help="all rows, with all runs")
    parser.add_argument("--play", choices=PEERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    parts = options.only.split(",")
    if unknown := set(parts) - {*MOVES, *PEERS}:
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}; there are {', '.join((*MOVES, *PEERS))}")
    if unknown := set(options.ways.split(",")) - WAYS.keys():
        parser.error(f"unknown ways: {', '.join(sorted(unknown))}; there are {', '.join(WAYS)}")
    if options.play:
        return _play(options)
    rows = []
    for part in parts:
        for row in _rows(part, options):
            log(f"{row.what}, {row.program}: load of the machine {os.getloadavg()[0]:.1f}")
            rows.append(row)
    runs = f"{options.runs} runs ({options.runs_off} of off)"
    print(f"{runs}, {options.connections} long connections, {options.delay:g} ms each way")
    print(f"hang: no answer for {HANG:g} s; stall: the longest wait for an echo, where none was reset")
    print("short: the slowest one that was answered; lost: probes; torn: requests of the observer that were reset\n")
    print(table(rows), *ratios(rows), sep="\n")
    for row in rows:
        for wrong in dict.fromkeys(row.wrong):
            print(f"{row.what}, {row.program}: NOT {wrong}")
    if options.json:
        options.json.write_text(json.dumps([{**asdict(row), "holds": row.holds} for row in rows], indent=1))
    return 1 if any(row.holds is False for row in rows) else 0


def _rows(part: str, options: argparse.Namespace) -> Iterator[Row]:
    if part in PEERS:
        yield beside(part, options)
    else:
        yield played(part, "off", "built-in", options.runs_off, options)
        yield from (played(part, "on", way, options.runs, options) for way in options.ways.split(","))


def _play(options: argparse.Namespace) -> int:
    try:
        enter([sys.executable, "-m", "bench.second_chance", *sys.argv[1:]])
        print(json.dumps(play(options.play, options.connections, options.delay / 1000)))
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
