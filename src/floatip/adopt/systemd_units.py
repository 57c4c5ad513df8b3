"""How systemd starts keepalived and lelastic: with which flags."""

import getopt
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from floatip.adopt.system import AdoptError, System
from floatip.lelastic import BadFlag, Flags, parse
from floatip.reading.keepalived import KeepalivedConf
from floatip.reading.machine import UNIT_FILES

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
    """The defaults, where those of the unit cannot be read."""


@dataclass(frozen=True, slots=True)
class KeepalivedCall:
    """What keepalived's command line says."""

    config: str = "/etc/keepalived/keepalived.conf"
    pid_file: str = ""
    """Empty: keepalived.conf decides."""
    vrrp_pid_file: str = ""
    config_id: str = ""
    namespace: str = ""
    elects: bool = True
    """False: it only does IPVS (`keepalived -C`)."""


def announcers(system: System) -> Iterator[Announcer]:
    units = {file.name for directory in UNIT_FILES for file in system.files(directory, "*.service")}
    for unit in sorted(units):
        if not any("lelastic" in system.text(f"{directory}/{unit}") for directory in UNIT_FILES):
            continue
        command = _command(system, unit)
        if command and Path(command[0]).name == "lelastic":
            try:
                yield Announcer(unit, parse(command[1:])[0])
            except BadFlag:
                yield Announcer(unit, Flags())


def keepalived_call(system: System, pid: int) -> KeepalivedCall:
    """As it runs; as its unit would start it when it does not."""
    running = system.text(f"/proc/{pid}/cmdline") if pid else ""
    command = running.rstrip("\0").split("\0") if running else _command(system, "keepalived.service")
    return _called(command) if command else KeepalivedCall()


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
        given.get("-s") or given.get("--namespace") or "",
        not given.keys() & {"-C", "--check"} or bool(given.keys() & {"-P", "--vrrp"}),
    )


def settled(call: KeepalivedCall, conf: KeepalivedConf) -> KeepalivedCall:
    """With the pid files that the configuration says where no flag does."""
    said = {statement.keyword: statement for statement in reversed(conf.statements)}  # the first counts
    if call.namespace or "net_namespace" in said:
        where = str(said["net_namespace"].place) if "net_namespace" in said else f"keepalived -s {call.namespace}"
        what = f"{where}: keepalived moves the addresses in a network namespace of its own, where floatip sees nothing"
        raise AdoptError(what, "run both in the same one: NetworkNamespacePath= in both units, without net_namespace")
    for keyword in ("process_name", "vrrp_process_name"):
        if (named := conf.option(keyword)) and not named.argument().startswith("keepalived"):
            what = f"{named.place}: {named}: floatip knows keepalived's processes by a name that begins so"
            raise AdoptError(what, f"{keyword} keepalived_{named.argument()}, or remove the line; restart keepalived")
    name = said["instance"].argument() if "instance" in said else ""
    directory = "/run/keepalived" if name or "use_pid_dir" in said else "/run"
    end = f"_{name}.pid" if name else ".pid"
    return replace(
        call,
        pid_file=call.pid_file or f"{directory}/keepalived{end}",
        vrrp_pid_file=call.vrrp_pid_file or f"{directory}/vrrp{end}",
    )


def tested(system: System, call: KeepalivedCall) -> list[str]:
    """What keepalived says of its file, each line once."""
    identity = ("-i", call.config_id) if call.config_id else ()
    test = ("keepalived", "-t", "-f", call.config, *identity)
    # 2.2.7 ends itself by SIGTERM at the first script that does not run as root, and is immune to that as process 1.
    done = system.run("unshare", "--pid", "--fork", "--kill-child", *test)
    if done.output.startswith("unshare:"):
        done = system.run(*test)
    said = list(dict.fromkeys(done.output.splitlines()))
    return [*said, f"exit status {done.status}"] if done.status else said


def without_line_numbers(said: list[str]) -> list[str]:
    return [re.sub(r"\(([^()]*: )?Line \d+\)\s*", "", line) for line in said]


def _command(system: System, unit: str) -> list[str]:
    """The program that systemd starts, and its arguments, with the variables of its environment files."""
    shown = system.run("systemctl", "show", unit, "-p", "ExecStart,EnvironmentFiles").stdout
    started = re.search(r"^ExecStart=\{.*? argv\[\]=(.*?) ; ignore_errors=", shown, re.M)
    variables: dict[str, str] = {}
    for file in re.findall(r"^EnvironmentFiles=(\S+)", shown, re.M):
        variables |= _variables(system.text(file))
    try:
        words = shlex.split(started[1]) if started else []
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
