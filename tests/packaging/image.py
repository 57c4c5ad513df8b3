"""The container image, built by buildah from a Debian of debootstrap, and two nodes of it: as root,
`python -m tests.packaging.image`.

There is no container runtime in this: the files of the image are unpacked, and its entry runs as process 1 of
namespaces, in a chroot, with the capabilities that packaging/oci names and no others.
"""

import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from floatip.lab.namespaces import find_program
from floatip.lab.network import NODES, ROUTE_SERVERS, Network
from floatip.lab.programs.builtin import BuiltInFabric, BuiltInRouteServer
from tests.packaging.suites import TRIXIE
from tests.packaging.trees import ENTER, Layer
from tests.systemd.machines import debian, proxies, wait_for
from tests.systemd.nodes import nodes_toml
from tests.systemd.stacks import package

OCI = Path(__file__).parents[2] / "packaging/oci"
HOSTS_GROUP = 4242
"""The group of the key on the host, which the image does not know."""
NET_ADMIN, NET_RAW = 12, 13
OK_TIMEOUT = 60.0
# What buildah mounts vanishes with the namespace.
BUILD = """
buildah() { command buildah --root="$STORE/root" --runroot="$STORE/run" "$@"; }
base=$(buildah from scratch)
cp --archive "$TREE/." "$(buildah mount "$base")"
buildah commit --quiet "$base" localhost/base
buildah bud --isolation=chroot --network=host --format=docker --pull-never --build-arg=BASE=localhost/base \\
  --tag=floatip --file="$OCI/Containerfile" .
cp --archive "$(buildah mount "$(buildah from --pull-never localhost/floatip)")/." "$IMAGE"
"""


def build(directory: Path) -> Path:
    """The unpacked files of the image."""
    find_program("buildah", "buildah")
    image = directory / "image"
    image.mkdir()
    settings = {"STORE": str(directory / "store"), "IMAGE": str(image), "OCI": str(OCI), "TREE": str(minimal())}
    command = ["unshare", "--mount", "sh", "-ec", BUILD]
    subprocess.run(command, cwd=OCI.parents[1], env=os.environ | proxies() | settings, check=True)
    return image


def minimal() -> Path:
    """What Debian's own image holds, nearly."""
    return debian(TRIXIE.name, ("ca-certificates",))


def capabilities() -> str:
    """Those that the quadlet adds, as setpriv names them; compose.yaml must add the same."""
    (quadlet,) = re.findall(r"^AddCapability=(.*)$", (OCI / "floatip.container").read_text(), re.M)
    (compose,) = re.findall(r"cap_add: \[(.*)\]", (OCI / "compose.yaml").read_text())
    assert quadlet.split() == compose.split(", ")
    return ",".join(["-all", *(f"+{name.lower()}" for name in quadlet.split())])


class Container:
    def __init__(self, layer: Layer, network: Network, name: str, directory: Path) -> None:
        self.layer = layer
        bounded = f"setpriv --bounding-set={capabilities()} --inh-caps=-all"
        argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec"]
        argv += [f"cd {layer.directory}; {ENTER}", "sh"]
        argv.append("exec /usr/lib/floatip/start run")
        log = directory / f"{name}.log"
        environment = layer.environment | {"CHROOT": f"chroot root {bounded}"}
        self.outer = network.run(name, argv, log=log, env=environment)
        self.log = log

    @property
    def pid(self) -> int:
        return int(Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children").read_text().split()[0])

    def inside(self, command: str) -> int:
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--net", "--root", "--wdns=/", "--"]
        clean = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        done = subprocess.run([*enter, *clean, "sh", "-c", command], capture_output=True, text=True, check=False)
        print(f"# {command}\n{done.stdout}{done.stderr}", end="", flush=True)
        return done.returncode


def main() -> int:
    package()
    begun = time.monotonic()
    with TemporaryDirectory(prefix="floatip-oci-") as temporary, ExitStack() as exits:
        directory = Path(temporary)
        directory.chmod(0o755)
        image = build(directory)
        print(f"built in {time.monotonic() - begun:.0f} s")
        network = exits.enter_context(Network(directory))
        for daemon in (BuiltInFabric(network), *(BuiltInRouteServer(network, host.name) for host in ROUTE_SERVERS)):
            daemon.start()
        containers = []
        key = ""
        for host in NODES:
            layer = Layer(directory / host.name, str(image))
            layer.write(
                "/etc/floatip/floatip.toml", nodes_toml().replace('process = "haproxy"', 'script = "/bin/true"')
            )
            if key:
                layer.write("/etc/floatip/key", key)
            else:
                layer.run("floatip key 2>/dev/null")
                key = (layer.directory / "upper/etc/floatip/key").read_text()
            layer.run(f"chown root:{HOSTS_GROUP} /etc/floatip/*; chmod 640 /etc/floatip/*")
            containers.append(Container(layer, network, host.name, directory))
        try:
            for each in containers:
                wait_for(
                    partial(lambda each: each.inside("floatip status") == 0, each), "a container to say OK", OK_TIMEOUT
                )
            for each in containers:
                examine(each)
        finally:
            for each in containers:
                print(each.log.read_text())
    print(f"the image runs; {time.monotonic() - begun:.0f} s")
    return 0


def examine(container: Container) -> None:
    state = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{container.pid}/status").read_text().splitlines() if ":\t" in line
    )
    both = f"{1 << NET_ADMIN | 1 << NET_RAW:016x}"
    assert {state[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {both}, state
    assert state["NoNewPrivs"] == "1"
    assert "0" not in state["Uid"].split()
    assert set(state["Groups"].split()) == {state["Gid"].split()[0], str(HOSTS_GROUP)}
    assert os.sched_getscheduler(container.pid) == os.SCHED_RR | os.SCHED_RESET_ON_FORK
    (health,) = re.findall(r"^\s+CMD (.*)$", (OCI / "Containerfile").read_text(), re.M)
    assert container.inside(health) == 0
    os.kill(container.pid, 19)  # SIGSTOP: nobody answers
    assert container.inside(health) == 1
    os.kill(container.pid, 18)
    os.kill(container.pid, 15)
    assert container.outer.wait(30) == 0


if __name__ == "__main__":
    sys.exit(main())
