"""Hosts that run a real systemd: one Debian 12 made by debootstrap, and `systemd-nspawn --boot` over it.

A host has a network namespace of the lab and a layer of its own on disk, so that what is installed survives its
reboots. Everything lives in one directory and one cgroup, and a process that outlives the tests removes both, however
they end.
"""

import fcntl
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp

from floatip.lab.namespaces import LabError, find_program
from floatip.lab.network import FLOATING, Network

SUITE = "bookworm"
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "iproute2", "procps", "psmisc", "python3", "sudo", "curl", "iputils-ping"),
    *("keepalived", "haproxy", "gobgpd", "python3-h11", "python3-rich", "ufw"),
)
UNWANTED = (
    *("gobgpd.service", "keepalived.service", "haproxy.service"),
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer"),
)
"""Units that Debian enables at install: here the tests enable what they use."""
DPKG_OPTIONS = "force-unsafe-io\n"  # a host does not outlive the machine, so nothing must reach its disk
BOOT_TIMEOUT = 180.0
COMMAND_TIMEOUT = 180.0
"""A boot takes a second, the longest command (`dpkg -i`) three; where it is reached something hangs."""
REBOOTS = 133
"""systemd-nspawn's exit status when its host asks to be booted again."""
CGROUPS = Path("/sys/fs/cgroup")

JANITOR = """
cat >/dev/null                                      # ends with the tests, however they end
attempts=0
for cgroup in $CGROUPS; do
  # What is killed takes its time to die, and a host that was just starting may have come in after the last kill.
  while [ -e "$cgroup" ] && [ "$attempts" -lt 600 ]; do
    for each in $CGROUPS; do
      if [ -e "$each/cgroup.kill" ]; then echo 1 >"$each/cgroup.kill"; fi
    done
    find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
    attempts=$((attempts + 1))
  done
done
rm -rf "$DIRECTORY"
"""
# The mounts are made in a namespace of the host's own and vanish with it; /run is where nspawn leaves traces.
BOOT = """
for cgroup in $CGROUPS; do echo 0 >"$cgroup/cgroup.procs"; done
mount -t tmpfs tmpfs /run
mount -t overlay overlay -o lowerdir="$TREE",upperdir=upper,workdir=work root
exec "$@"
"""


def debian(
    suite: str = SUITE, packages: Sequence[str] = PACKAGES, options: Sequence[str] = (), script: str = ""
) -> Path:
    """The tree that all hosts share; made once for each list of packages. `options`, `script`: debootstrap's."""
    key = sha256(" ".join((suite, *packages, *UNWANTED, DPKG_OPTIONS)).encode()).hexdigest()[:12]
    tree = _cache() / f"debian-{key}"
    with _becoming(tree) as new:
        if not new:
            return tree
        print(f"making {tree} by debootstrap, which takes a minute or two", flush=True)
        program = find_program("debootstrap", "debootstrap")
        command = [program, "--variant=minbase", *options, f"--include={','.join(packages)}", suite, str(new)]
        command += ["", script] if script else _mirror(suite)  # empty: the mirror that the script names
        made = subprocess.run(command, capture_output=True, text=True, env=os.environ | proxies(), check=False)
        if made.returncode != 0:
            raise LabError("debootstrap failed", f"its last words: {made.stdout[-500:]}{made.stderr[-500:]}")
        units = new / "usr/lib/systemd/system"
        there = [unit for unit in UNWANTED if (units / unit).exists() or (new / "lib/systemd/system" / unit).exists()]
        disable = ["systemctl", f"--root={new}", "disable", *there]
        subprocess.run(disable, capture_output=True, check=True)
        (new / "etc/dpkg/dpkg.cfg.d/tests").write_text(DPKG_OPTIONS)
        new.chmod(0o755)
    return tree


@contextmanager
def _becoming(tree: Path) -> Iterator[Path | None]:
    """A new directory, which is then that tree; None: it is there. Other processes of the tests wait for it."""
    tree.parent.mkdir(parents=True, exist_ok=True)
    with tree.with_name(f"{tree.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if tree.exists():
            yield None
            return
        new = Path(mkdtemp(prefix=f"{tree.name}.", dir=tree.parent))
        try:
            yield new
            new.rename(tree)
        finally:
            shutil.rmtree(new, ignore_errors=True)


def debian_with(*packages: str) -> Path:
    """The same tree with packages that debootstrap cannot configure, by the tree's own apt. Their units are off."""
    base = debian()
    tree = base.with_name("-".join((base.name, *packages)))
    with _becoming(tree) as new:
        if not new:
            return tree
        subprocess.run(["cp", "--archive", f"{base}/.", str(new)], check=True)
        policy = new / "usr/sbin/policy-rc.d"  # nothing is started
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
            made = subprocess.run(
                ["chroot", str(new), "apt-get", "--quiet", *command],
                capture_output=True,
                text=True,
                env=os.environ | proxies() | {"DEBIAN_FRONTEND": "noninteractive"},
                check=False,
            )
            if made.returncode != 0:
                raise LabError(
                    f"apt-get {command[0]} failed", f"its last words: {made.stdout[-500:]}{made.stderr[-500:]}"
                )
        policy.unlink()
        subprocess.run(["systemctl", f"--root={new}", "disable", *packages], capture_output=True, check=True)
    return tree


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return Path(home, "floatip") if home else Path(__file__).parents[2] / ".cache"


def _mirror(suite: str) -> list[str]:
    """Where this machine's apt gets the suite, if it does; else debootstrap knows a place."""
    wanted = ["Created-By: Packages", f"Codename: {suite}", "Component: main"]
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()[:1]


def proxies() -> dict[str, str]:
    """Those of this machine's apt, which debootstrap does not ask."""
    command = ["apt-config", "shell", "http_proxy", "Acquire::http::Proxy", "https_proxy", "Acquire::https::Proxy"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return dict(line.split("=", 1) for line in shlex.split(told))


class Rack:
    """Where hosts run: a directory and a cgroup for each, and the janitor who removes them."""

    def __init__(self, tree: str = "") -> None:
        self.tree = tree or str(debian())
        self.directory = Path(mkdtemp(prefix="floatip-hosts-"))
        # systemd-nspawn uses both hierarchies where a machine has them.
        roots = [root for root in (CGROUPS / "unified", CGROUPS / "systemd") if root.is_dir()] or [CGROUPS]
        self.cgroups = [root / self.directory.name for root in roots]
        for cgroup in self.cgroups:
            cgroup.mkdir()
        environment = {"CGROUPS": " ".join(map(str, self.cgroups)), "DIRECTORY": str(self.directory)}
        self._janitor = subprocess.Popen(
            ["sh", "-c", JANITOR],
            stdin=subprocess.PIPE,
            env=os.environ | environment,
            start_new_session=True,
        )
        self.booted: list[subprocess.Popen[bytes]] = []

    def adopt(self, pid: int) -> None:
        """The process ends with the rack too."""
        for cgroup in self.cgroups:
            (cgroup / "cgroup.procs").write_text(str(pid))

    def close(self) -> None:
        assert self._janitor.stdin
        self._janitor.stdin.close()
        self._janitor.wait()
        for process in self.booted:
            process.wait()


class Machine:
    """A host. What is typed on it and what it answers is printed, so that the log of a test reads like the guide."""

    def __init__(self, rack: Rack, network: Network, name: str) -> None:
        self.name = name
        self._rack = rack
        self._network = network
        self._directory = rack.directory / name
        self._units = rack.cgroups[0] / name / "payload/system.slice"
        for part in ("upper/etc", "work", "root"):
            (self._directory / part).mkdir(parents=True)
        # sudo asks for its host's name, and waits long for a name server that no host reaches.
        etc = self._directory / "upper/etc"
        (etc / "hostname").write_text(f"{name}\n")
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {name}\n")
        (etc / "resolv.conf").touch()
        self.log = self._directory / "console"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def start(self) -> None:
        """Returns before it has booted, so that hosts boot side by side: `wait_until_booted`."""
        cgroups = [cgroup / self.name for cgroup in self._rack.cgroups]
        for cgroup in cgroups:
            cgroup.mkdir(exist_ok=True)
        nspawn = [find_program("systemd-nspawn", "systemd-container"), "--quiet", "--boot", "--console=pipe"]
        nspawn += ["--register=no", "--keep-unit", "--capability=all", "--resolv-conf=off"]
        nspawn += [f"--machine={self.name}", "--directory=root"]
        nspawn += [f"--network-namespace-path={self._network.path_of(self.name)}"]
        environment = {
            "CGROUPS": " ".join(map(str, cgroups)),
            "TREE": self._rack.tree,
            "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
            "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
        }
        with self.log.open("ab") as log:
            self._nspawn = subprocess.Popen(
                ["unshare", "--mount", "--", "sh", "-ec", BOOT, "sh", *nspawn],
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | environment,
            )
        self._rack.booted.append(self._nspawn)

    @property
    def leader(self) -> int:
        """The pid of its init, as this machine counts."""
        return self._leader

    def wait_until_booted(self) -> None:
        wait_for(self._booted, f"{self.name} to boot", BOOT_TIMEOUT)

    def _booted(self) -> bool:
        assert self._nspawn
        if self._nspawn.poll() is not None:
            raise LabError(f"systemd-nspawn of {self.name} ended", self.log.read_text(errors="replace")[-2000:])
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        leaders = [int(child) for child in children if _is_init(int(child))]
        if not leaders:
            return False
        (self._leader,) = leaders
        state = self._enter("systemctl is-system-running").stdout.strip()
        return state in ("running", "degraded")

    def run(self, command: str, *, check: bool = True, quiet: bool = False) -> str:
        """What the command, a line of shell, prints."""
        done = self._enter(command)
        if not quiet:
            print(f"root@{self.name}:~# {command}\n{done.stdout}{done.stderr}", end="", flush=True)
        assert not check or done.returncode == 0, (
            f"{self.name}: {command}: exit status {done.returncode}: {done.stdout}{done.stderr}"
        )
        return done.stdout

    def journal(self) -> str:
        """The last of it, for a test that failed."""
        commands = "journalctl --no-pager --output=short-precise --lines=60; floatip status"
        return self.run(commands, check=False, quiet=True)

    def pids_of(self, unit: str) -> list[int]:
        """As this machine counts them."""
        with suppress(OSError):
            return [int(pid) for pid in (self._units / unit / "cgroup.procs").read_text().split()]
        return []

    def threads_of(self, unit: str) -> list[int]:
        with suppress(OSError):
            return [int(thread.name) for pid in self.pids_of(unit) for thread in Path(f"/proc/{pid}/task").iterdir()]
        return []

    def succeeds(self, command: str) -> bool:
        return self._enter(command).returncode == 0

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        print(f"root@{self.name}:~# vim {path}", flush=True)
        self.put(path, text.encode(), mode)

    def put(self, path: str, content: bytes, mode: int = 0o644) -> None:
        name = shlex.quote(path)
        new = f"{name}.new"  # a script that runs cannot be written
        command = f'mkdir -p "$(dirname {name})" && cat >{new} && chmod {mode:o} {new}'
        command += f" && {{ [ ! -e {name} ] || chown --reference={name} {new}; }} && mv {new} {name}"
        done = self._enter(command, content)
        assert done.returncode == 0, done.stderr

    def install(self, package: Path) -> None:
        """By dpkg, since a host has no way to the archive."""
        self.put(f"/root/{package.name}", package.read_bytes())
        self.run(f"DEBIAN_FRONTEND=noninteractive dpkg -i /root/{package.name}")

    def reboot(self, *, pause: float = 2.0) -> None:
        """`systemctl reboot`; `pause`: for how long it is off the network between two boots."""
        self.run("systemctl reboot", check=False)
        assert self._nspawn
        status = self._nspawn.wait(BOOT_TIMEOUT)
        assert status == REBOOTS, f"{self.name} did not reboot: systemd-nspawn's exit status is {status}"
        self._network.faults.cut(self.name)
        # The namespace outlives the host, the addresses that were added to a kernel do not.
        with self._network.inside(self.name):
            for interface in ("lo", "eth0"):
                delete = ["ip", "address", "del", str(FLOATING), "dev", interface]
                subprocess.run(delete, capture_output=True, check=False)
        time.sleep(pause)
        self._network.faults.heal(self.name)
        self.start()
        self.wait_until_booted()

    def _enter(self, command: str, content: bytes | None = None) -> subprocess.CompletedProcess[str]:
        inside = ["nsenter", f"--target={self._leader}", "--all", "--wdns=/root", "--", "bash", "-c", command]
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
        done = subprocess.run(
            inside,
            input=content,
            stdin=subprocess.DEVNULL if content is None else None,
            capture_output=True,
            env={"PATH": path, "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb", "SYSTEMD_PAGER": ""},
            timeout=COMMAND_TIMEOUT,
            check=False,
        )
        texts = (each.decode(errors="replace") for each in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(command, done.returncode, *texts)


def _is_init(pid: int) -> bool:
    """Whether it is pid 1 of namespaces of its own: before that nspawn's children are still on the tests' machine."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    pids = status.partition("NSpid:")[2].partition("\n")[0].split()
    return len(pids) > 1 and pids[-1] == "1"


def boot(machines: Iterable[Machine]) -> None:
    together = list(machines)
    for machine in together:
        machine.start()
    for machine in together:
        machine.wait_until_booted()


def on_each(machines: Iterable[Machine], do: Callable[[Machine], object]) -> None:
    """Side by side."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(do, machines))


def wait_for(true: Callable[[], bool], what: str, timeout: float) -> float:
    """When it became true."""
    deadline = time.monotonic() + timeout
    while True:
        asked_at = time.monotonic()
        if true():
            return time.monotonic()
        assert asked_at < deadline, f"timed out after {timeout:g} s waiting for {what}"
        # What it costs to ask is missing to those that are waited for.
        time.sleep(max(0.02, time.monotonic() - asked_at))
