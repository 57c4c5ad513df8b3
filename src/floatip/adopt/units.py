"""What the unit files of systemd say of keepalived and of lelastic: which program is started, and with which flags."""

import getopt
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from floatip.adopt.host import AdoptError, Host
from floatip.lelastic import BadFlag, Flags, parse

DIRECTORIES = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
SHORT = "f:PCBlDS:GgFu:XVIRndp:r:Tc:ab:xA:s:mM:ei:tvhOjk"
LONG = "use-file= vrrp check no_bfd all log-console log-detail log-facility= no-syslog log-file flush-log-file umask="
LONG += " release-vips dont-release-vrrp dont-release-ipvs dont-respawn dont-fork dump-conf pid= vrrp_pid= genhash"
LONG += " checkers_pid= address-monitoring bfd_pid= snmp snmp-agent-socket= namespace= core-dump core-dump-pattern="
LONG += " all-config config-id= signum= config-test version help"
"""keepalived's flags."""


@dataclass(frozen=True, slots=True)
class Announcer:
    """A unit that starts lelastic."""

    unit: str
    flags: Flags
    problem: str = ""
    """Why the flags are not those that are written there."""


@dataclass(frozen=True, slots=True)
class KeepalivedCall:
    """What keepalived's command line says."""

    config: str = "/etc/keepalived/keepalived.conf"
    pid_file: str = "/run/keepalived.pid"
    vrrp_pid_file: str = "/run/vrrp.pid"
    config_id: str = ""


def announcers(host: Host) -> Iterator[Announcer]:
    seen = set()
    for directory in DIRECTORIES:
        for file in host.files(directory, "*.service"):
            if file.name in seen:  # the first directory that has it counts
                continue
            seen.add(file.name)
            command = _command(host, file)
            if command and Path(command[0]).name == "lelastic":
                try:
                    yield Announcer(file.name, parse(command[1:])[0])
                except BadFlag as bad:
                    yield Announcer(file.name, Flags(), str(bad))


def keepalived_call(host: Host, pid: int) -> KeepalivedCall:
    """As it runs; as its unit would start it when it does not."""
    if pid and (running := host.text(f"/proc/{pid}/cmdline")):
        return _called(running.rstrip("\0").split("\0"))
    for directory in DIRECTORIES:
        if command := _command(host, Path(directory) / "keepalived.service"):
            return _called(command)
    return KeepalivedCall()


def _called(command: list[str]) -> KeepalivedCall:
    try:
        given = dict(getopt.gnu_getopt(command[1:], SHORT, LONG.split())[0])
    except getopt.GetoptError as error:
        raise AdoptError(f"{' '.join(command)}: {error}", "floatip knows the flags of keepalived 2.2") from None
    default = KeepalivedCall()
    return KeepalivedCall(
        given.get("-f") or given.get("--use-file") or default.config,
        given.get("-p") or given.get("--pid") or default.pid_file,
        given.get("-r") or given.get("--vrrp_pid") or default.vrrp_pid_file,
        given.get("-i") or given.get("--config-id") or default.config_id,
    )


def _command(host: Host, file: Path) -> list[str]:
    """The last ExecStart of the unit and its drop-ins, with the variables of its environment files."""
    texts = [host.text(file)]
    texts += [
        host.text(extra) for directory in DIRECTORIES for extra in host.files(f"{directory}/{file.name}.d", "*.conf")
    ]
    settings = [line.split("=", 1) for text in texts for line in text.replace("\\\n", " ").splitlines() if "=" in line]
    commands = [value.strip() for key, value in settings if key.strip() == "ExecStart"]
    variables: dict[str, str] = {}
    for key, value in settings:
        if key.strip() == "EnvironmentFile":
            variables |= _variables(host.text(value.strip().removeprefix("-")))
    try:
        words = shlex.split(commands[-1].lstrip("-@:+!")) if commands else []
        return [part for word in words for part in _expanded(word, variables)]
    except ValueError:
        return []


def _variables(text: str) -> dict[str, str]:
    lines = (line.strip().split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key: value.strip("\"'") for key, value in lines}


def _expanded(word: str, variables: dict[str, str]) -> list[str]:
    """`$NAME` becomes words, `${NAME}` one word, as systemd.service(5) has it."""
    if word.startswith("${") and word.endswith("}"):
        return [variables.get(word[2:-1], "")]
    return shlex.split(variables.get(word[1:], "")) if word.startswith("$") else [word]
