"""What is asked about this machine: interfaces, addresses, routes, users and their rights, and what systemd allows.

For `check`, `init`, `adopt` and the daemon alike; its files are looked at in `files.py`.
"""

import os
import re
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_interface
from pathlib import Path

from floatip.core.addresses import Address, InterfaceAddress, Placed
from floatip.reading.rights import may_as, user_id
from floatip.rtnetlink import GETADDR, OURS, AddressMessage, Interrupted, Netlink

DAEMON = "floatip"
"""The user of the unit."""
STOP_LIMIT = 15.0
"""TimeoutStopSec of the unit in the package, in seconds."""
UNIT_FILES = ("/lib/systemd/system", "/usr/lib/systemd/system", "/run/systemd/system", "/etc/systemd/system")
IFA_F_TEMPORARY, IFA_F_PERMANENT = 0x01, 0x80


@dataclass(frozen=True, slots=True)
class Machine:
    interfaces: Mapping[str, tuple[InterfaceAddress, ...]]
    """With their addresses."""
    answering: tuple[tuple[str, IPv4Network], ...] = ()
    """Connected subnets, and the interface on which the kernel answers ARP there for whichever address it has."""
    default_interface: str = ""
    """Of the IPv4 default route; empty: there is none."""
    bridges: frozenset[str] = frozenset()
    stop_limit: float = STOP_LIMIT
    """Seconds that systemd gives a stopping daemon."""
    user: str = ""
    """Who runs the daemon, where that is another than who asks; empty: who asks."""
    leased: frozenset[Placed] = frozenset()
    """Addresses of SLAAC and DHCP, that end with their lease."""
    temporary: frozenset[Placed] = frozenset()
    """IPv6 addresses that the kernel makes and replaces to hide this machine (RFC 8981)."""
    demoting: frozenset[str] = frozenset()
    """Interfaces on which the first IPv4 address of a network takes the others along when it goes."""
    mounts: Mapping[Path, str] = field(default_factory=dict)
    """The types of the file systems, by where they are mounted."""
    added: frozenset[Placed] = frozenset()
    """Addresses that a floatip added."""
    _access: dict[tuple[str, int], bool] = field(default_factory=dict, compare=False)

    def placed(self, *, leased: bool = False) -> tuple[Placed, ...]:
        """The addresses that somebody configured; with `leased` all of them."""
        all_ = (Placed(name, one) for name, addresses in self.interfaces.items() for one in addresses)
        return tuple(one for one in all_ if leased or one not in self.leased)

    def has(self, address: Address, interface: str = "") -> bool:
        """On that interface, or, where none is named, on any."""
        names = [interface] if interface else self.interfaces
        return any(address == one.ip for name in names for one in self.interfaces.get(name, ()))

    def interface_of(self, address: Address) -> str:
        return next((name for name, all_ in self.interfaces.items() if any(address == one.ip for one in all_)), "")

    def first_ipv4(self, floating: Iterable[Address] = ()) -> IPv4Address | None:
        """An address by which others know this machine: none that floats, and none of a bridge such as docker0."""
        avoid = set(floating)
        names = [name for name in self.interfaces if name != "lo" and name not in self.bridges]
        for candidates in ([self.default_interface], names):
            here = (one for name in candidates for one in self.interfaces.get(name, ()) if one.version == 4)
            usable = (one for one in here if one.ip not in avoid and not one.ip.is_link_local)
            # An address that moves is a /32 as a rule, also where nobody has told us of it.
            if found := min(usable, key=lambda one: (one.network.prefixlen == 32, one.ip), default=None):
                return IPv4Address(found.ip)
        return None

    def file_system(self, path: Path) -> str:
        """The type of the one on which the path is, links resolved; empty: not known."""
        real = Path(os.path.realpath(path))
        return next((self.mounts[one] for one in (real, *real.parents) if one in self.mounts), "")

    def may(self, path: Path, mode: int) -> bool:
        """Whether the daemon's user has access (`os.R_OK`, `os.X_OK`)."""
        if not self.user:
            return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)
        key = (str(path), mode)
        if key not in self._access:
            self._access[key] = may_as(self.user, path, mode)
        return self._access[key]


def look_around(user: str = "") -> Machine:
    """`user`: with whose eyes files are looked at; only root can. Raises OSError: what was not seen is not missing."""
    names = sorted(name for _, name in socket.if_nameindex())
    interfaces: dict[str, list[InterfaceAddress]] = {name: [] for name in names}
    known = _addresses()
    for one in known:
        interfaces.setdefault(one.interface, []).append(one.address)
    routes = list(_routes())
    ignores = {name: _ipv4_setting(name, "arp_ignore") for name in ("all", *names)}
    promotes = {name: _ipv4_setting(name, "promote_secondaries") for name in ("all", *names)}
    answering = tuple(
        (name, network)
        for name, network, is_connected, _ in routes
        # The kernel takes the larger of the interface's value and that of all.
        if is_connected and network.prefixlen and not ignores.get(name) and not ignores["all"]
    )
    defaults = [(metric, name) for name, network, _, metric in routes if not network.prefixlen]
    return Machine(
        interfaces={name: tuple(found) for name, found in interfaces.items()},
        answering=answering,
        default_interface=min(defaults)[1] if defaults else "",
        bridges=frozenset(name for name in names if Path(f"/sys/class/net/{name}/bridge").exists()),
        stop_limit=stop_limit(),
        user=user,
        leased=frozenset(one for one, said in known.items() if not said.flags & IFA_F_PERMANENT),
        temporary=frozenset(
            one for one, said in known.items() if said.flags & IFA_F_TEMPORARY and one.address.version == 6
        ),
        demoting=frozenset(name for name in names if not promotes[name] and not promotes["all"]),
        mounts=_mounts(),
        added=frozenset(one for one, said in known.items() if said.proto == OURS),
    )


def source_towards(to: Address) -> Address | None:
    """The address from which the kernel would send; None: it has no route. Nothing is sent."""
    family = socket.AF_INET6 if to.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asking, suppress(OSError):
        asking.connect((str(to), 9))
        return ip_address(asking.getsockname()[0])
    return None


def daemons_user() -> str:
    """Whose eyes count when root asks; empty: the daemon runs as whoever asks."""
    if os.geteuid() != 0:
        return ""
    user = next(reversed(unit_settings("User")), DAEMON)
    return user if user_id(user) else ""


def _addresses() -> dict[Placed, AddressMessage]:
    """All addresses of the kernel. Raises OSError."""
    names = dict(socket.if_nameindex())
    with closing(Netlink()) as netlink:
        while True:
            with suppress(Interrupted):
                found = [one for one in netlink.read(GETADDR) if isinstance(one, AddressMessage) and one.packed]
                break
    return {
        Placed(names.get(one.index, str(one.index)), ip_interface((one.packed, one.prefixlen))): one for one in found
    }


def _routes() -> Iterator[tuple[str, IPv4Network, bool, int]]:
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        name, destination, gateway, _, _, _, metric, mask, *_ = line.split()
        network = IPv4Network((_host_order(destination), str(_host_order(mask))), strict=False)
        yield name, network, int(gateway, 16) == 0, int(metric)


def _host_order(digits: str) -> IPv4Address:
    return IPv4Address(int(digits, 16).to_bytes(4, sys.byteorder))


def _ipv4_setting(interface: str, key: str) -> int:
    try:
        return int(Path(f"/proc/sys/net/ipv4/conf/{interface}/{key}").read_text())
    except (OSError, ValueError):  # the interface has just gone
        return 0


def _mounts() -> dict[Path, str]:
    """From proc_pid_mountinfo(5): what is mounted last on a directory hides the others."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        directory = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), before.split()[4])
        found[Path(directory)] = after.split()[0]
    return found


def stop_limit(directories: Iterable[str] = UNIT_FILES) -> float:
    """What the unit and its drop-ins allow, in seconds; infinite where they say so or 0."""
    limit = STOP_LIMIT
    for value in unit_settings("Timeout(?:Stop)?Sec", directories):
        limit = _time_span(value, limit)
    return limit


def unit_settings(key: str, directories: Iterable[str] = UNIT_FILES) -> list[str]:
    """All that the unit and its drop-ins say of a key (a regular expression), the last one last."""
    units = [Path(directory) / "floatip.service" for directory in directories]
    drop_ins = {path.name: path for unit in units for path in unit.with_name("floatip.service.d").glob("*.conf")}
    unit = next((unit for unit in reversed(units) if unit.exists()), None)
    found = []
    for path in [*([unit] if unit else []), *(drop_ins[name] for name in sorted(drop_ins))]:
        with suppress(OSError, UnicodeDecodeError):
            found += re.findall(rf"^\s*{key}\s*=\s*(.*?)\s*$", path.read_text(), re.MULTILINE)
    return found


def _time_span(text: str, otherwise: float) -> float:
    """As systemd.time(7) writes them."""
    units = {"": 1, "s": 1, "sec": 1, "ms": 0.001, "min": 60, "m": 60, "h": 3600}
    if text == "infinity":
        return float("inf")
    parts = re.findall(r"([\d.]+)\s*([a-z]*)", text)
    try:
        return sum(float(number) * units[unit] for number, unit in parts) or float("inf") if parts else otherwise
    except (KeyError, ValueError):
        return otherwise
