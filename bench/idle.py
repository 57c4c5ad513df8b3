"""What an idle pair costs: floatip beside keepalived on the same hosts, in one run, each with one check a second."""

import os
import tempfile
import time
from pathlib import Path

from floatip.lab.network import HAPROXY1, HAPROXY2, LabHost
from floatip.lab.programs.keepalived import KeepalivedProgram
from floatip.lab.programs.program import Program
from floatip.lab.record import RunOptions
from floatip.lab.run import Run

SECONDS = 30.0
SETTLE = 5.0


def measure() -> dict[str, dict[str, float]]:
    """CPU in percent of a core, RSS in MB; the sum of a program's processes, on the master."""
    with tempfile.TemporaryDirectory(prefix="floatip-bench-") as directory:
        script = Path(directory, "check.sh")
        script.write_text("#!/bin/sh\nexit 0\n")
        script.chmod(0o755)
        with Run(RunOptions(check=f'script = "{script}"')) as stage:
            stage.start(observed=False)
            keepalived = [keepalived_beside(stage, here, there, script) for here, there in _pairs()]
            for daemon in keepalived:
                daemon.start()
            time.sleep(SETTLE)
            floatip = stage.nodes["haproxy1"]
            before = {name: _cpu(daemon) for name, daemon in (("floatip", floatip), ("keepalived", keepalived[0]))}
            began = time.monotonic()
            time.sleep(SECONDS)
            took = time.monotonic() - began
            found = {
                name: {"cpu": 100 * (_cpu(daemon) - before[name]) / took, "rss": _rss(daemon)}
                for name, daemon in (("floatip", floatip), ("keepalived", keepalived[0]))
            }
    for name, cost in found.items():
        print(f"{name:10}  {cost['cpu']:5.2f} % of a core  {cost['rss']:5.1f} MB RSS")
    print(f"ratio       {found['floatip']['cpu'] / max(found['keepalived']['cpu'], 0.01):5.1f} in CPU, ", end="")
    print(f"{found['floatip']['rss'] / found['keepalived']['rss']:.1f} in RSS")
    return found


def _pairs() -> list[tuple[LabHost, LabHost]]:
    return [(HAPROXY1, HAPROXY2), (HAPROXY2, HAPROXY1)]


def keepalived_beside(stage: Run, here: LabHost, there: LabHost, script: Path) -> KeepalivedProgram:
    assert here.ipv4
    assert there.ipv4
    config = f"""
vrrp_script check {{
  script "{script}"
  interval 1
}}
vrrp_instance other {{
  state BACKUP
  interface eth0
  virtual_router_id 52
  priority 50
  advert_int 1
  unicast_src_ip {here.ipv4.ip}
  unicast_peer {{
    {there.ipv4.ip}
  }}
  virtual_ipaddress {{
    192.168.223.159/32 dev lo
  }}
  track_script {{
    check
  }}
}}
"""
    return KeepalivedProgram(stage.network, here.name, config)


def _family(daemon: Program) -> list[int]:
    children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
    return [daemon.pid, *map(int, children)]


def _cpu(daemon: Program) -> float:
    """Seconds, the ended children (checks) included."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in _family(daemon)]
    return sum(sum(map(int, each[11:15])) for each in fields) / os.sysconf("SC_CLK_TCK")


def _rss(daemon: Program) -> float:
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in _family(daemon))
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    measure()
