"""Compares what keepalived 2.2.7 understands of a keepalived.conf with the model that floatip makes of it.

`python -m tests.config.compare_keepalived [FILE...]` prints a table of all differences, each with its reason; without
files over Debian's samples and the files of the tests. The exit status is 1 where a difference has no reason.
"""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface
from itertools import pairwise
from pathlib import Path
from typing import Any

from floatip.core.settings import Instance, SyncGroup, Track, Vrrp
from floatip.model import Check, File, Model, Process, Script, Value
from floatip.reading.keepalived.front_end import model_of
from floatip.reading.machine import Machine
from floatip.reading.place import ConfigError, ConfigErrors
from tests.config.keepalived_dump import DUMP, blocks, listed, run_keepalived, seconds, value, words

HERE = Path(__file__).parent
SAMPLES = Path("/usr/share/doc/keepalived/samples")
FOLDERS = (HERE / "keepalived", HERE / "keepalived" / "refused", HERE / "keepalived_minimal")
MACHINE = Machine(
    {
        "lo": (ip_interface("127.0.0.1/8"),),
        "eth0": (ip_interface("192.168.143.227/17"), ip_interface("fe80::1/64")),
        "eth1": (ip_interface("10.99.1.1/24"), ip_interface("fe80::2/64")),
    }
)
INTERFACE = re.compile(
    r"^\s*(?:interface|default_interface)\s+([\w.@-]{1,15})|\bdev\s+([\w.-]{1,15})|\b(eth\d+(?:\.\d+)?)\b", re.MULTILINE
)
FOREVER = 2**32 - 1
Things = dict[str, Any]
"""By what a person calls a thing, as in `VI_1 priority`."""


@dataclass(frozen=True)
class Difference:
    file: str
    thing: str
    theirs: object
    ours: object
    reason: str = ""


def corpus() -> list[Path]:
    assert SAMPLES.is_dir(), f"{SAMPLES} is missing: install the package keepalived with its documentation"
    ours = [path for folder in FOLDERS for path in sorted(folder.glob("*.conf"))]
    return [*sorted(SAMPLES.glob("keepalived.conf*")), *ours]


def theirs(path: Path) -> Things | None:
    """None: keepalived does not start with it."""
    text = path.read_text(errors="replace")
    if not re.search("vrrp_instance|include", text):
        return None  # keepalived runs no VRRP
    named = interfaces(text) - {"eth0", "eth1", "lo"}
    programs = set(re.findall(r"/usr/local/bin/[\w.-]+", text))
    output = run_keepalived(DUMP, path, sorted(named | programs)).stdout
    dump = "\n".join(re.findall(r"^\w{3} \w{3} [ \d]\d [\d:]+ \d{4}: ( .*)$", output, re.MULTILINE)) + "\n"
    if "Startup complete" not in output and "< Interfaces >" not in output:
        return None
    found: Things = {}
    for name, lines in blocks(dump, "VRRP Instance"):
        found |= {f"{name} {key}": what for key, what in _instance_of_dump(lines).items()}
    for name, lines in blocks(dump, "VRRP Sync Group"):
        group = name.partition(",")[0]
        found[f"{group} members"] = [line[0] for line in listed(lines, "VRRP member instances")]
        found |= {f"{group} {key}": what for key, what in _of_both(lines).items()}
    found |= dict(_checks_of_dump(dump, {thing for key in found for thing in _tracked_in(key, found)}))
    return found


def interfaces(text: str) -> set[str]:
    return {name for found in INTERFACE.findall(text) for name in found if name}


def _tracked_in(key: str, found: Things) -> list[str]:
    return [one[0] for one in found[key]] if key.endswith((" scripts", " processes", " files")) else []


def _instance_of_dump(lines: str) -> Things:
    delay = value(lines, "Preempt delay")
    return {
        "version": int(value(lines, "VRRP Version")),
        "begins as": value(lines, "Wantstate"),
        "interface": value(lines, "Interface"),
        "source": "".join(re.findall(r"src_ip = (\S+) \(from configuration\)", lines)),
        "vrid": int(value(lines, "Virtual Router ID")),
        "priority": int(value(lines, "Priority")),
        "advert interval": seconds(value(lines, "Advert interval")),
        "preempt": value(lines, "Preempt") == "enabled",
        "preempt delay": float(delay.split()[0]) if delay else 0.0,
        "password": value(lines, "Password"),
        "addresses": [_address(line) for line in listed(lines, r"Virtual IP \(")],
        "excluded": [_address(line) for line in listed(lines, "Virtual IP Excluded")],
        "peers": [line[0] for line in listed(lines, "Unicast Peer")],
        "garp": [
            float(value(lines, f"Gratuitous ARP {name}"))
            for name in (
                "repeat",
                "delay",
                "lower priority repeat",
                "lower priority delay",
                "refresh",
                "refresh repeat",
            )
        ],
        "down timer adverts": int(value(lines, "Down timer adverts")),
        "answers lower": value(lines, "Send advert after receive lower priority advert") == "true",
        "sends before yielding": value(lines, "Send advert after receive higher priority advert") == "true",
        "tells priorities": value(lines, "Notify priority changes") == "true",
        **_of_both(lines),
    }


def _address(line: list[str]) -> tuple[str, ...]:
    given = dict(pairwise(line))
    shown = [str(ip_interface(line[0])), f"dev {given['dev']}"]
    if given.get("scope", "global") != "global":
        shown.append(f"scope {given['scope']}")
    if "label" in given:
        shown.append(f"label {given['label']}")
    shown += ["no_track"] * ("no_track" in line)
    if "deprecated" in line or given.get("preferred_lft", "forever") != "forever":
        shown.append(f"preferred_lft {given.get('preferred_lft', '0')}")
    return tuple(shown)


def _of_both(lines: str) -> Things:
    """Of instances and groups."""
    events = {"Master": "master", "Backup": "backup", "Fault": "fault", "Stop": "stop", "Generic": "any"}
    events["Master rx lower pri"] = "master_rx_lower_pri"
    told = re.findall(r"^   ([\w ]+) state transition script = (.*), uid", lines, re.MULTILINE)
    return {
        "scripts": _tracked(lines, "Tracked scripts"),
        "processes": _tracked(lines, "Tracked processes"),
        "files": _tracked(lines, "Tracked files"),
        "interfaces": _tracked(lines, "Tracked interfaces"),
        "notify": {events[kind]: _run(words(command)) for kind, command in told},
    }


def _tracked(lines: str, header: str) -> list[tuple[str, int, bool]]:
    """Name, weight, reverse."""
    found = []
    for line in listed(lines, header):
        text = " ".join(line)
        weight = re.search(r"weight (-?\d+)", text)
        found.append((line[0].rstrip(",:"), int(weight[1]) if weight else 0, "reverse" in line))
    return found


def _checks_of_dump(dump: str, tracked: set[str]) -> Iterator[tuple[str, Any]]:
    for name, lines in blocks(dump, "VRRP Script"):
        if name in tracked:
            interval, timeout = (seconds(value(lines, key)) for key in ("Interval", "Timeout"))
            command = value(lines, "Command")
            yield f"{name} command", _run(words(command) or command.split())
            yield f"{name} timing", [interval, timeout or interval]
            yield f"{name} rise, fall", [int(value(lines, key)) for key in ("Rise", "Fall")]
    for name, lines in blocks(dump, "VRRP Track process"):
        if name in tracked:
            most = value(lines, "Max processes")
            yield f"{name} process", value(lines, "Process")
            yield f"{name} quorum", [int(value(lines, "Min processes")), int(most) if most.isdigit() else None]
            delays = [value(lines, f"{kind} delay").rstrip("s") for kind in ("Fork", "Terminate")]
            yield f"{name} delays", [float(text or 0) for text in delays]
    for name, lines in blocks(dump, "VRRP Track file"):
        if name in tracked:
            yield f"{name} file", value(lines, "Name") or value(lines, "File")


def ours(path: Path) -> tuple[Things | None, list[ConfigError]]:
    """What floatip makes of it, if it can be read at all, and why it is refused."""
    text = path.read_text(errors="replace")
    named = interfaces(text)
    own = (ip_interface("10.98.0.1/24"), ip_interface("fe80::9/64"))
    machine = Machine({**dict.fromkeys(sorted(named), own), **MACHINE.interfaces})
    try:
        model, _, problems = model_of(path, machine, config_id="haproxy1")
    except ConfigErrors as refused:
        return None, refused.errors
    found: Things = {}
    for one in model.instances:
        found |= {f"{one.name} {key}": what for key, what in _instance_of_model(one, model).items()}
    for group in model.sync_groups:
        found[f"{group.name} members"] = list(group.members)
        found |= {f"{group.name} {key}": what for key, what in _of_model(group, "GROUP", model).items()}
    for check in model.checks:
        found |= {f"{check.name} {key}": what for key, what in _check_of_model(check).items()}
    return found, [problem for problem in problems if isinstance(problem, ConfigError)]


def _instance_of_model(one: Instance, model: Model) -> Things:
    vrrp = one.election
    assert isinstance(vrrp, Vrrp)
    options = {option.address: option for option in one.options}
    addresses: dict[bool, list[tuple[str, ...]]] = {True: [], False: []}
    for address in one.addresses:
        option = options.get(address)
        shown = [str(address), f"dev {option.interface if option and option.interface else one.interface}"]
        if option:
            scopes = {200: "site", 253: "link", 254: "host", 255: "nowhere"}
            shown += [f"scope {scopes.get(option.scope, option.scope)}"] if option.scope else []
            shown += [f"label {option.label}"] if option.label else []
            shown += [] if option.is_tracked else ["no_track"]
            lifetime = None if option.preferred_lft == FOREVER else option.preferred_lft
            shown += [] if lifetime is None else [f"preferred_lft {lifetime}"]
        addresses[not option or option.is_advertised].append(tuple(shown))
    garps = vrrp.garps
    return {
        "version": vrrp.version,
        "begins as": "MASTER" if vrrp.begins_as_master else "BACKUP",
        "interface": vrrp.interface,
        "source": str(vrrp.source),
        "vrid": vrrp.vrid,
        "priority": vrrp.priority,
        "advert interval": vrrp.advert_interval,
        "preempt": vrrp.preempt,
        "preempt delay": vrrp.preempt_delay,
        "password": vrrp.auth_pass[:8],
        "addresses": addresses[True],
        "excluded": addresses[False],
        "peers": [str(peer) for peer in vrrp.peers],
        "garp": [
            float(number)
            for number in (
                garps.repeat,
                garps.delay,
                garps.lower_repeat,
                garps.lower_delay,
                garps.refresh,
                garps.refresh_repeat,
            )
        ],
        "down timer adverts": vrrp.down_timer_adverts,
        "answers lower": vrrp.answers_lower,
        "sends before yielding": vrrp.sends_before_yielding,
        "tells priorities": one.name in model.tells_priorities,
        **_of_model(one, "INSTANCE", model),
    }


def _of_model(one: Instance | SyncGroup, kind: str, model: Model) -> Things:
    kinds = {"script": "scripts", "process": "processes", "file": "files", "interface": "interfaces"}
    found: Things = {name: [] for name in kinds.values()}
    labels = {check.name: check.kind for check in model.checks}
    for track in (*(Track(name) for name in one.checks), *one.tracks):
        kind_of = labels[track.check]
        label = "scripts"
        label = "processes" if isinstance(kind_of, Process) else label
        label = "files" if isinstance(kind_of, Value) else label
        label = "interfaces" if track.check.startswith("interface ") else label
        name = track.check.removeprefix("interface ")
        found[label].append((name, track.weight, track.reverse))
    told = [each for each in model.told if (each.kind, each.name) == (kind, one.name)]
    found["notify"] = {each.event: _run(each.command) for each in told if each.event != "deleted"}
    return found


def _check_of_model(check: Check) -> Things:
    policy = check.policy
    match check.kind:
        case Script(argv):
            return {
                "command": _run(argv),
                "timing": [float(policy.interval), float(policy.timeout)],
                "rise, fall": [policy.rise, policy.fall],
            }
        case File(path):
            return {"command": _run([f"<{path}"]), "timing": [1.0, 1.0], "rise, fall": [1, 1]}
        case Process(process, quorum, quorum_max):
            delays = [float(policy.rise_delay), float(policy.fall_delay)]
            return {"process": process, "quorum": [quorum, quorum_max], "delays": delays}
        case Value(path):
            return {"file": str(path)}
    return {}


def _run(command: Sequence[str]) -> list[str]:
    """keepalived shows where links lead."""
    return [os.path.realpath(command[0]) if command[0].startswith("/") else command[0], *command[1:]] if command else []


UNBALANCED = "keepalived guesses where a block ends; floatip refuses the file, with the line"
ONCE = "keepalived names an address twice that is held once; floatip names it once, and warns"
STATIC = "what does not move belongs to the network configuration of the system: an error, with the line"
ENDED = "at the } of an unknown block keepalived 2.2 ends the instance; floatip reads on, and warns that it does not"
WAITS = "keepalived ends where an interface is missing; floatip waits for it"
NOT_THERE = "keepalived drops a command that it cannot run; floatip keeps it, and says that it cannot be run"
BARE = "keepalived drops a bare killall of a user who is not root; floatip looks it up in PATH for all"
NEEDED = "keepalived tracks the interfaces of addresses, routes and rules too; its dump lists them elsewhere"
REASONS: tuple[tuple[str, str, str], ...] = (
    (r"samples/.*(vrrp\.(routes|rules|static_ipaddress)|track_interface)", "the file", STATIC),
    (r"samples/.*vrrp\.lvs_syncd", "the file", "keepalived needs IPVS for it; floatip has none, and warns"),
    (r"samples/.*SSL_GET|/authentication|minimal/q19", "the file", "floatip does not speak auth_type AH: an error"),
    (r"minimal/m9e", "the file", "floatip holds no point-to-point addresses: an error"),
    (r"minimal/m42", "the file", "keepalived loses the keyword behind a byte order mark; floatip refuses the file"),
    (r"samples/.*\.vrrp$|/addresses|minimal/(m10|m9k)", "addresses|excluded", ONCE),
    (r"refused/(a_brace|braces_too|blocks_that_do_not)|minimal/(m8[012]|q09|q25)", "the file", UNBALANCED),
    (r"refused/blocks_that_end|minimal/m03", "", ENDED),
    (
        r"refused/a_line|minimal/m44",
        "the file",
        "keepalived cuts the line in two; floatip refuses it",
    ),
    (
        r"minimal/m20",
        "the file",
        "keepalived 2.2 ends without a VIP in version 3; floatip elects, and warns",
    ),
    (r"minimal/m87", "the file", WAITS),
    (
        r"minimal/m57|/comments",
        " scripts",
        "keepalived weighs a script 300; no priority has room for more than 253",
    ),
    (r"minimal/m9g", "the file", "keepalived leaves out the address; floatip refuses what must be a typo"),
    (r"minimal/q03", "the file", "a configuration that differs at each start cannot be checked: an error"),
    (r"samples/.*(track_interface|routes|rules|static_ipaddress)|/addresses", "VI_1 interfaces", NEEDED),
    (r"samples/.*conditional_conf", "the file|addresses|interface", "floatip makes no VMAC: an error without unicast"),
    (r"samples/.*localcheck", "VI_. scripts|chk_(haproxy|sshd) ", BARE),
    (r"minimal/q20", "addresses|interface", "floatip makes no VMAC: the address is on the interface itself; it warns"),
    (r"minimal/(m98|r01|m9b)", "notify", NOT_THERE),
)
"""Patterns of the file and the thing, and why they differ."""


def differences(path: Path) -> Iterator[Difference]:
    said, (read, errors) = theirs(path), ours(path)
    if said is not None and errors:
        yield _explained(path, "the file", "runs", f"{len(errors)} errors: {errors[0].text}")
    if said is None and not errors:
        yield _explained(path, "the file", "does not start", "runs")
    if said is None or read is None:
        return
    for thing in said.keys() | read.keys():
        is_default = thing.endswith(" source") and said.get(thing) == ""
        if not (is_default or _same(said.get(thing), read.get(thing))):
            yield _explained(path, thing, said.get(thing, "nothing"), read.get(thing, "nothing"))


def _same(said: object, read: object) -> bool:
    if isinstance(said, list) and isinstance(read, list):
        return sorted(map(str, said)) == sorted(map(str, read))
    return said == read or (said in ([], {}, None) and read in ([], {}, None))


def _explained(path: Path, thing: str, said: object, read: object) -> Difference:
    name = f"{path.parent.name}/{path.name}"
    reason = next((why for file, what, why in REASONS if re.search(file, name) and re.search(what, thing)), "")
    return Difference(name, thing, said, read, reason)


def main(arguments: Sequence[str]) -> int:
    unexplained = 0
    paths = [Path(argument).absolute() for argument in arguments] or corpus()
    for path in paths:
        for one in sorted(differences(path), key=lambda one: one.thing):
            unexplained += not one.reason
            print(f"{one.file}: {one.thing}\n  keepalived: {one.theirs}\n  floatip:    {one.ours}")
            print(f"  because:    {one.reason or 'NO REASON'}", flush=True)
    print(f"{len(paths)} files, {unexplained} differences without a reason")
    return int(unexplained > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
