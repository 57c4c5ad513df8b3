"""What is claimed, measured, with peers beside it where there are any.

python -m bench [PART] [--runs 5] [--scenes check,crash,...] [--out FILE]

announce  a thousand prefixes to four route servers, beside GoBGP and ExaBGP
role      from the cause of a role change to the UPDATE on the wire, a thousand times
flood     a route server that sends 200,000 routes
idle      what an idle daemon costs beside keepalived
interop   routers of VRRP, each of them keepalived or floatip: what each change of master costs
fleet-sim  fifty nodes with a thousand instances in virtual time: CPU, the longest turn, memory, a crash, the plan
scale     many groups and many addresses, beside keepalived; `python -m bench.scale --help` has more options
attacks   misuse of the control socket, floods, deletions, checks that hang: what adverts and traffic notice
checks    500 script checks a second, beside keepalived: CPU, and adverts that are late
status    `floatip status` with 255 instances and 1,000 prefixes: the daemon's answer, and the whole command
link      the link between nodes: its cost beside keepalived, false alarms, a flood, a hundred instances handed over
web       the HTTP listener: what its readers cost the hellos, its memory, leaks
fleet     eight nodes with 200 addresses, etcd decides: a node crashes; requests to etcd, CPU, memory
scrape    what a scrape of /metrics costs, beside the exporters of others
etcd      a crash of the carrier where etcd decides, and one of etcd, beside vip-manager; `python -m bench.etcd --help`
second-chance  what a planned move does to open connections: without the second chance, with it, keepalived, conntrackd
second-chance-load  what the second chance costs: 10,000 connections, floods, a packet, one flow, an idle process
scenes    every scene on each kind of route server; one line a scene and kind: what each run lost, and the loss in a
          crash beside the time of detection
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench import (
    announce,
    attacks,
    checks,
    etcd,
    fleet_sim,
    flood,
    idle,
    interop,
    link,
    on_etcd,
    role,
    scale,
    scrape,
    second_chance,
    second_chance_load,
    status,
    web,
)
from floatip.lab.scenes import SCENES

VARIANTS: dict[str, Sequence[str]] = {
    "built-in": (),
    "bird": ("--route-server", "bird"),
    "hold 90": ("--hold-time", "90"),
    "v3 100 ms": ("--advert-interval", "0.1"),
}
OF_SECOND_CHANCE = ("second-chance", "second-chance-load")
JUDGED = (
    "fleet-sim",
    "scale",
    "interop",
    "attacks",
    "link",
    "status",
    "web",
    "scrape",
    "fleet",
    "second-chance",
    "second-chance-load",
)
"""Parts whose figures have limits."""
CRASHES = ("crash", "crash-settled", "crash-again")
"""Hold time, and by VRRP the advert interval, matter where a master vanishes."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("what", nargs="?", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--scenes", default=",".join(SCENES))
    parser.add_argument("--only", default=",".join(scale.PARTS), help="parts of scale")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long scale and link measure at each interval")
    parser.add_argument("--out", type=Path, help="all results as JSON")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for part in PARTS if options.what == "all" else [options.what]:
        print(f"load of the machine before {part}: {os.getloadavg()[0]:.1f}")
        results[part] = PARTS[part](options)
        print(flush=True)
    if options.out:
        options.out.write_text(json.dumps(results))
    judged = [run["holds"] for run in results.get("scenes", [])]
    judged += [row["holds"] is not False for part in JUDGED for row in results.get(part, [])]
    return 0 if all(judged) and all(results.get(part, True) for part in JUDGED) else 1


def scenes(names: Sequence[str], count: int) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    print(f"{'scene':19}{'variant':11}as expected  lost echoes, longest outage of each run (detection)  first route")
    for scene in names:
        for variant, arguments in VARIANTS.items():
            if variant in variants_of(scene):
                runs = play(scene, arguments, count)
                results += [{**run, "variant": variant} for run in runs]
                print(line(scene, variant, runs), flush=True)
    return results


def variants_of(scene: str) -> set[str]:
    more = {"hold 90"} if is_crash(scene) else set()
    more |= {"v3 100 ms"} if scene.startswith("vrrp-") and more else set()
    return {"built-in", "bird"} | more


def is_crash(scene: str) -> bool:
    return scene.removeprefix("vrrp-") in CRASHES


def play(scene: str, arguments: Sequence[str], runs: int) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "floatip", "lab", scene, "--json", "--runs", str(runs), *arguments]
    played = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    found: list[dict[str, Any]] = json.loads(played.stdout or "[]")
    for run in found:
        for finding in run["findings"]:
            if not finding["holds"]:
                print(f"  {scene}: NOT {finding['text']}", file=sys.stderr)
    return found


def line(scene: str, variant: str, runs: list[dict[str, Any]]) -> str:
    holds = sum(run["holds"] for run in runs)
    lost = "  ".join(f"{run['observed']['lost']['echo']:4d} {run['longest_outage']:5.3f} s" for run in runs)
    bound = f"({runs[0]['detection_time']:.3f})" if is_crash(scene) and runs else ""
    first = sorted(run["start_to_first_route"] for run in runs)
    return f"{scene:19}{variant:11}{holds} of {len(runs)}       {lost} {bound}  {first[len(first) // 2]:.2f} s"


PARTS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "announce": lambda options: announce.measure(options.runs),
    "role": lambda options: role.measure(),
    "flood": lambda options: flood.measure(),
    "fleet-sim": lambda options: fleet_sim.measure(),
    "idle": lambda options: idle.measure(),
    "interop": lambda options: interop.measure(options.runs),
    "scale": lambda options: scale.measure(options.only, options.seconds, options.runs),
    "attacks": lambda options: attacks.measure(),
    "link": lambda options: link.measure(options.seconds),
    "fleet": lambda options: on_etcd.measure(options.seconds),
    "web": lambda options: web.measure(options.seconds),
    "checks": lambda options: checks.measure(options.seconds),
    "status": lambda options: status.measure(30),
    "scrape": lambda options: scrape.run(),
    "second-chance": lambda options: second_chance.measure(options.runs),
    "second-chance-load": lambda options: second_chance_load.measure(),
    "etcd": lambda options: etcd.measure(options.runs),
    "scenes": lambda options: scenes(options.scenes.split(","), options.runs),
}

if __name__ == "__main__":
    sys.exit(main())
