"""keepalived, floatip and FRR as the routers of a play, behind one set of methods."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

from floatip.lab.namespaces import LabError, find_program
from floatip.lab.programs.floatip import UNIT_PRIORITY
from floatip.lab.programs.keepalived import KeepalivedProgram
from floatip.lab.programs.program import Program
from tests.lab.vrrp.kinds import INTERFACE, Kind, keepalived_conf
from tests.lab.vrrp.segment import Segment

STARTED_WITHIN = 120.0
FRR_DIRECTORY = "/usr/lib/frr"


class Router:
    """A program that plays one host of a kind."""

    name: str

    def __init__(self, segment: Segment, kind: Kind, host: str) -> None:
        self.segment, self.kind, self.host = segment, kind, host
        self.health = segment.directory / f"{host}.health"
        self.health.write_text("0\n")

    def start(self) -> None:
        raise NotImplementedError

    def takes_part(self) -> bool:
        """Whether it hears and is heard."""
        raise NotImplementedError

    def runs(self) -> bool:
        raise NotImplementedError

    def join(self) -> None:
        """Returns when it takes part, and in real time where the program's unit does that."""
        wait_for(lambda: self.takes_part() or not self.runs(), f"{self.name} to start on {self.host}")
        if not self.runs():
            raise LabError(f"{self.name} ended on {self.host}", f"its log: {self.log()[-2000:]}")

    def pids(self) -> list[int]:
        """Its processes; none while it does not run."""
        raise NotImplementedError

    def stop(self) -> None:
        """SIGTERM; returns when it has ended."""
        raise NotImplementedError

    def kill(self) -> None:
        """SIGKILL of all its processes: no last word is said."""
        raise NotImplementedError

    def forget(self) -> None:
        """What it left in the kernel goes, as when its machine crashes."""
        addresses = [a for a in self.kind.all_addresses if a in self._shown()]
        length = 32 if self.kind.family == 4 else 128
        self.segment.ip(self.host, [f"address delete {address}/{length} dev {INTERFACE}" for address in addresses])

    def _shown(self) -> list[str]:
        with self.segment.inside(self.host):
            shown = subprocess.run(["ip", "-o", "address"], capture_output=True, text=True, check=True).stdout
        return [line.split()[3].partition("/")[0] for line in shown.splitlines()]

    def fail(self) -> None:
        self.health.write_text("1\n")

    def mend(self) -> None:
        self.health.write_text("0\n")

    def log(self) -> str:
        raise NotImplementedError


class Daemon(Router):
    """One that is one program."""

    program: Program

    def start(self) -> None:
        self.program.start()

    def runs(self) -> bool:
        return self.program.running

    def pids(self) -> list[int]:
        with suppress(OSError, ValueError):  # keepalived's files are not there yet
            return self.program.pids if self.program.was_started else []
        return []

    def stop(self) -> None:
        self.program.stop()
        self.program.wait(30)

    def kill(self) -> None:
        self.program.kill()

    def log(self) -> str:
        return self.program.log.read_text(errors="replace") if self.program.log.exists() else ""


class Keepalived(Daemon):
    name = "keepalived"

    def __init__(self, segment: Segment, kind: Kind, host: str) -> None:
        super().__init__(segment, kind, host)
        self.program: KeepalivedProgram = RealTimeKeepalived(
            segment, host, keepalived_conf(kind, host, str(self.health))
        )

    def start(self) -> None:
        for file in (self.program.pid_file, self.program.vrrp_pid_file):
            file.unlink(missing_ok=True)
        super().start()

    def takes_part(self) -> bool:
        with suppress(OSError, ValueError):
            return bool(self.program.pids)
        return False

    def kill(self) -> None:
        # Its child first: the child of a parent that ends hands over.
        parent, child = self.program.pids
        os.kill(parent, signal.SIGSTOP)
        os.kill(child, signal.SIGKILL)
        os.kill(parent, signal.SIGKILL)
        self.program.wait()


class RealTimeKeepalived(KeepalivedProgram):
    """With the place among the machine's other work that floatip's unit gives to floatip.

    Not by `vrrp_rt_priority`: that also limits the time without a wait to 10 ms, and the kernel kills it then.
    """

    def command(self) -> Sequence[str]:
        return ["chrt", "--rr", str(UNIT_PRIORITY), *super().command()]


class Floatip(Daemon):
    """It runs the same keepalived.conf."""

    name = "floatip"

    def __init__(self, segment: Segment, kind: Kind, host: str) -> None:
        super().__init__(segment, kind, host)
        self.program: FloatipProgram = FloatipProgram(segment, host)
        self.program.write("keepalived.conf", keepalived_conf(kind, host, str(self.health)))

    def takes_part(self) -> bool:
        return (self.program.directory / "run" / "floatip.sock").exists()

    def join(self) -> None:
        super().join()
        with suppress(PermissionError, ProcessLookupError):
            os.sched_setscheduler(self.program.pid, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(UNIT_PRIORITY))

    def kill(self) -> None:
        super().kill()
        (self.program.directory / "run" / "floatip.sock").unlink(missing_ok=True)


class FloatipProgram(Program):
    name = "floatip"
    config = "keepalived.conf"

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "floatip", "run", str(self.directory / self.config)]

    def environment(self) -> Mapping[str, str]:
        run, state = self.directory / "run", self.directory / "state"
        for each in (run, state):
            each.mkdir(exist_ok=True)
        return {"RUNTIME_DIRECTORY": str(run), "STATE_DIRECTORY": str(state)}


class Converted(Floatip):
    """It runs the floatip.toml that `floatip convert` makes of it."""

    def __init__(self, segment: Segment, kind: Kind, host: str) -> None:
        super().__init__(segment, kind, host)
        command = [sys.executable, "-m", "floatip", "convert", str(self.program.directory / self.program.config)]
        with segment.inside(host):
            made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise LabError("floatip convert refused the keepalived.conf", made.stderr)
        self.program.config = "floatip.toml"
        self.program.write("floatip.toml", made.stdout)


class Frr(Router):
    """vrrpd, and zebra for its way to the kernel.

    FRR never adds an address. Each virtual router has a macvlan interface with the virtual MAC and the addresses, made
    by hand, and vrrpd takes its carrier away while it is not master (protodown).
    """

    name = "frr"

    def __init__(self, segment: Segment, kind: Kind, host: str) -> None:
        super().__init__(segment, kind, host)
        for vrid in kind.vrids:
            segment.ip(host, self._interface(vrid))
        self._zebra, self._vrrpd = FrrProgram(segment, host, "zebra"), FrrProgram(segment, host, "vrrpd")
        self._vrrpd.write("vrrpd.conf", "\n".join(self._config()) + "\n")
        self._zebra.write("zebra.conf", "")

    def _interface(self, vrid: int) -> list[str]:
        name = self._device(vrid)
        mac = f"00:00:5e:00:0{1 if self.kind.family == 4 else 2}:{vrid:02x}"
        length = 32 if self.kind.family == 4 else 128
        addresses = [f"address add {address}/{length} dev {name}" for address in self.kind.addresses(vrid)]
        link = f"link add {name} link {INTERFACE} address {mac} type macvlan mode bridge"
        # Zebra ignores an IPv6 address that is tentative, and without a carrier it stays so.
        return [link, f"link set {name} up", *addresses, f"link set {name} protodown on"]

    def _device(self, vrid: int) -> str:
        return f"vrrp{self.kind.family}-{vrid}"

    def _config(self) -> Iterator[str]:
        kind = self.kind
        yield f"interface {INTERFACE}"
        for vrid in kind.vrids:
            yield f" vrrp {vrid} version {kind.version}"
            yield f" vrrp {vrid} priority {kind.priority(self.host)}"
            yield f" vrrp {vrid} advertisement-interval {round(1000 * kind.interval)}"
            for address in kind.addresses(vrid):
                yield f" vrrp {vrid} {'ip' if kind.family == 4 else 'ipv6'} {address}"
            if not kind.preempt:
                yield f" no vrrp {vrid} preempt"

    def start(self) -> None:
        if not self._zebra.running:
            self._zebra.start()
            wait_for((self._zebra.directory / "zserv").exists, "zebra to listen")
        self._vrrpd.start()

    def runs(self) -> bool:
        return self._zebra.running and self._vrrpd.running

    def pids(self) -> list[int]:
        return [self._vrrpd.pid] if self._vrrpd.was_started else []

    def takes_part(self) -> bool:
        return "Status" in self._vtysh("show vrrp")

    def stop(self) -> None:
        self._vrrpd.stop()
        self._vrrpd.wait(30)

    def kill(self) -> None:
        self._vrrpd.kill()

    def forget(self) -> None:
        self.segment.ip(self.host, [f"link set {self._device(vrid)} protodown on" for vrid in self.kind.vrids])

    def log(self) -> str:
        return self._vtysh("show vrrp") + self._vrrpd.log.read_text(errors="replace")

    def _vtysh(self, command: str) -> str:
        asked = ["vtysh", "--vty_socket", str(self._vrrpd.directory), "-d", "vrrpd", "-c", command]
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout


class FrrProgram(Program):
    def __init__(self, segment: Segment, host: str, name: str) -> None:
        self.name = name
        super().__init__(segment, host)
        self._program = find_program(f"{FRR_DIRECTORY}/{name}", "frr")
        # FRR insists on a user of its own, who makes the sockets.
        segment.directory.chmod(0o711)
        shutil.chown(self.directory, "frr", "frr")

    def command(self) -> Sequence[str]:
        files = ["--vty_socket", str(self.directory), "-i", str(self.directory / "pid"), "--log", "stdout"]
        zserv = self.directory.parent / "zebra" / "zserv"
        config = str(self.directory / f"{self.name}.conf")
        return [self._program, *files, "-z", str(zserv), "--vty_port", "0", "-f", config]


PROGRAMS: Mapping[str, Callable[[Segment, Kind, str], Router]] = {
    "keepalived": Keepalived,
    "floatip": Floatip,
    "converted": Converted,
    "frr": Frr,
}


def wait_for(true: Callable[[], bool], what: str, timeout: float = STARTED_WITHIN) -> None:
    deadline = time.monotonic() + timeout
    while not true():
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout:g} s without success for {what}", "is the machine overloaded?")
        time.sleep(0.01)
