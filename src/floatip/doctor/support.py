"""`floatip doctor --support`: one text file to send, with what is asked for first, and without secrets.

One plain text and no archive: an administrator reads it before sending, and whoever gets it needs no tool.
"""

import json
import os
import platform
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import floatip
from floatip.commands import Misused, Refusal
from floatip.core.refusals import Why
from floatip.core.settings import Keepalived
from floatip.doctor import secrets
from floatip.doctor.context import Context
from floatip.doctor.host import Host, Unseen
from floatip.doctor.secrets import Secrets
from floatip.history import tail
from floatip.history_command import directory
from floatip.host.ask import ask, socket_path
from floatip.reading import key, regular
from floatip.text import say

CHANGES = 1000
"""Of the history."""
LONGEST = 2 << 20
"""Characters of one part; of more, the last ones."""
VARIABLES = ("TOKEN", "PASS", "_PWD", "SECRET", "KEY", "CREDENTIAL")
"""In the names of environment variables."""
KEEPALIVED_CONF = "/etc/keepalived/keepalived.conf"
JOURNAL = ("journalctl", "--no-pager", "--output=short-iso-precise")
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "journal of floatip": ("journalctl", "--no-pager", "--output=short-iso-precise", "--unit=floatip", "--lines=2000"),
    "journal of keepalived": (
        "journalctl",
        "--no-pager",
        "--output=short-iso-precise",
        "--unit=keepalived",
        "--lines=300",
    ),
    "unit": ("systemctl", "cat", "floatip.service"),
    "state of the unit": ("systemctl", "show", "floatip.service"),
    "addresses": ("ip", "-details", "address", "show"),
    "links": ("ip", "-statistics", "link", "show"),
    "routes": ("ip", "route", "show", "table", "all"),
    "IPv6 routes": ("ip", "-6", "route", "show", "table", "all"),
    "rules": ("ip", "rule", "show"),
    "neighbours": ("ip", "neigh", "show"),
    "listening sockets": ("ss", "--tcp", "--udp", "--listening", "--numeric"),
    "firewall: nftables": ("nft", "list", "ruleset"),
    "firewall: iptables": ("iptables-save",),
    "firewall: ip6tables": ("ip6tables-save",),
    "clock": ("timedatectl", "show"),
}


def destination(given: str) -> Path:
    """Where it is written. Raises `Refusal` where something is there already."""
    name = f"floatip-support-{socket.gethostname()}-{time.strftime('%Y%m%d-%H%M%S')}.txt"
    path = Path(given or name)
    if path.is_dir():
        path /= name
    if path.exists() or path.is_symlink():
        what = f"{path} is there already, and nothing is overwritten"
        raise Misused(what, "give another name, or move it away", Why.FILE_EXISTS)
    if not path.parent.is_dir():
        raise Misused(f"there is no directory {path.parent}", f"mkdir -p {path.parent}", Why.FILE_UNWRITABLE)
    return path


def write(path: Path, report: dict[str, object], context: Context) -> str:
    """Writes it, for its owner alone; what to say of it. Raises `Refusal`."""
    say("collecting; this takes some seconds")
    parts = list(collected(report, context))
    text = rendered(parts)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
    except OSError as error:
        what = f"{path} cannot be written: {(error.strerror or '').lower()}"
        raise Refusal(what, "floatip doctor --support FILE", Why.FILE_UNWRITABLE) from None
    sizes = [f"  {name}: {_size(content)}" for name, content in parts]
    head = f"{path} is written, mode 600, {len(text.encode()) >> 10} KiB. In it:"
    tail_ = [
        f"What is known or looks like a password, key or token is replaced by {secrets.MASK}.",
        "It has addresses, host names and log lines: read it before you send it.",
    ]
    return "\n".join([head, *sizes, *tail_])


def rendered(parts: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"======== {name} ========\n{content.rstrip()}\n" for name, content in parts)


def _size(content: str) -> str:
    lines = content.count("\n") + 1
    return f"{lines} lines" if lines > 1 else content.strip()[:60] or "empty"


def collected(report: dict[str, object], context: Context) -> Iterator[tuple[str, str]]:
    """The parts, each without secrets."""
    known = known_secrets(context)
    for name, content in _parts(report, context):
        try:
            text = content()
        except Unseen as error:
            text = f"(not seen: {error})"
        except Refusal as error:
            text = f"(not seen: {error.what})"
        except OSError as error:
            text = f"(not seen: {(error.strerror or '').lower()})"
        yield name, known.mask(text[-LONGEST:])


def _parts(report: dict[str, object], context: Context) -> Iterator[tuple[str, Callable[[], str]]]:
    host = context.host
    yield "versions", lambda: _versions(host)
    yield "doctor", lambda: json.dumps(report, indent=1)
    yield "status", lambda: json.dumps(ask(socket_path(), {"cmd": "status"}), indent=1)
    yield "figures", lambda: json.dumps(ask(socket_path(), {"cmd": "figures"}), indent=1)
    yield "history", lambda: "\n".join(json.dumps(one.data) for one in tail(directory(), CHANGES)) or "(empty)"
    for path in _configurations(context):
        yield f"configuration {path}", lambda path=path: shown(path)  # type: ignore[misc]
    for name, command in COMMANDS.items():
        yield name, lambda command=command: host.run(*command)  # type: ignore[misc]


def _versions(host: Host) -> str:
    lines = [f"floatip {floatip.__version__}", f"Python {platform.python_version()}", f"kernel {platform.release()}"]
    for command in (("keepalived", "--version"), ("nft", "--version"), ("ip", "-V"), ("systemctl", "--version")):
        with suppress(Unseen):
            lines.append(host.run(*command).split("\n")[0])
    with suppress(Unseen):
        lines += [line for line in host.text("/etc/os-release").splitlines() if line.startswith(("PRETTY", "VERSION"))]
    return "\n".join(line for line in lines if line)


# The configuration


def _configurations(context: Context) -> list[Path]:
    """The file itself, and the keepalived.conf that elects or is run."""
    found = [context.file] if context.has_file else []
    follows = any(isinstance(one.election, Keepalived) for one in context.instances)
    theirs = Path(KEEPALIVED_CONF)
    if (follows or not found) and theirs.exists():
        found.append(theirs)
    return [*found, *(path for one in found if one.suffix == ".conf" for path in _included(one) if path not in found)]


def _included(path: Path) -> list[Path]:
    """What a keepalived.conf includes, as far as it is understood."""
    from floatip.reading import keepalived  # noqa: PLC0415

    try:
        return list(keepalived.read(path, strict=False).files[1:])
    except (keepalived.NotUnderstood, OSError):
        return []


def _text(path: Path) -> str:
    """Without the zeros of UTF-16, which stand between the letters of a secret too. Raises OSError."""
    return regular.read(path).decode(errors="replace").replace("\0", "")


def shown(path: Path) -> str:
    """Raises OSError."""
    text = _text(path)
    return secrets.keepalived_conf(text) if is_keepaliveds(path, text) else _toml(text)


def _toml(text: str) -> str:
    return secrets.without_variables(text)


def is_keepaliveds(path: Path, text: str) -> bool:
    return path.suffix != ".toml" and ("{" in text or path.suffix == ".conf")


def known_secrets(context: Context) -> Secrets:
    """Those of the configuration, of the files that it names, and of the environment."""
    found: list[str | bytes] = []
    for path in _configurations(context):
        with suppress(OSError):
            text = _text(path)
            found += secrets.of_keepalived(text) if is_keepaliveds(path, text) else secrets.of_toml(text)
    for path in _secret_files(context):
        with suppress(OSError):
            content = regular.read(path)
            found += [line.partition(b"#")[0].strip() for line in content.split(b"\n")]
            for line in content.split(b"\n"):
                with suppress(ValueError):
                    found.append(bytes.fromhex(line.partition(b"#")[0].strip().decode()))
    if context.here:
        found += context.here.keys
    found += [value for name, value in os.environ.items() if any(word in name.upper() for word in VARIABLES)]
    return secrets.collect(found)


def _secret_files(context: Context) -> list[Path]:
    """Whatever a configuration names as a file with a key or a token; also of one that cannot be used."""
    found = [context.file.absolute().with_name(key.NAME)]
    model = context.model
    if model:
        found += [path for path in (model.link.key,) if path]
        if model.http:
            found += [path for path in (model.http.token, model.http.tls_key, model.http.tls_certificate) if path]
    for path in _configurations(context):
        with suppress(OSError):
            found += map(Path, secrets.paths(_text(path)))
    return list(dict.fromkeys(found))
