"""What the doctor found: one thing that it looked at, how that is, from what it knows so, and what mends it. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Grade(StrEnum):
    PROBLEM = "problem"
    """It keeps floatip from doing its work now, or in the failover that it is there for."""
    WARNING = "warning"
    """It works, and a fault, a reboot or a colleague may end that."""
    UNSEEN = "unseen"
    """It could not be looked at, or nobody can tell from here."""
    NOTE = "note"
    WELL = "well"


WORST_FIRST = tuple(Grade)


class Code(StrEnum):
    """Each has its place in docs/operate/doctor.md."""

    CONFIGURATION = "config-check"
    FILE_RIGHTS = "file-rights"
    RELOAD_PENDING = "reload-pending"
    UNWATCHED = "unwatched"
    ADDRESS_PLACED = "address-placed"
    ADDRESS_PREFIX = "address-prefix"
    RP_FILTER = "rp-filter"
    ARP_ANSWERS = "arp-answers"
    NONLOCAL_BIND = "nonlocal-bind"
    FIREWALL = "firewall"
    FIREWALL_LINK = "firewall-link"
    FIREWALL_TUNNEL = "firewall-tunnel"
    FIREWALL_VRRP = "firewall-vrrp"
    FIREWALL_BGP = "firewall-bgp"
    FIREWALL_NDP = "firewall-ndp"
    FIREWALL_OBSERVER = "firewall-observer"
    CLOUD_FIREWALL = "cloud-firewall"
    FIREWALL_ETCD = "firewall-etcd"
    ETCD = "etcd"
    ETCD_CERTIFICATE = "etcd-certificate"
    ETCD_CLOCK = "etcd-clock"
    ETCD_PREFIX = "etcd-prefix"
    ROUTE_SERVER = "route-server"
    ROUTE_SERVER_ANSWERS = "route-server-answers"
    TTL = "ttl"
    DATA_CENTRE = "data-centre"
    IP_SHARE = "ip-share"
    OTHER_ANNOUNCER = "other-announcer"
    OTHER_ELECTOR = "other-elector"
    DAEMON = "daemon"
    UNIT = "unit"
    LINK_HEARD = "link-heard"
    LINK_PATH = "link-path"
    SECOND_CHANCE = "second-chance"
    TUNNEL = "tunnel"
    VERSIONS = "versions"
    CAPABILITIES = "capabilities"
    SCHEDULING = "scheduling"
    CLOCK = "clock"
    JOURNAL = "journal"
    LOOKER = "looker"
    """A part of the doctor itself did not come to an end."""


@dataclass(frozen=True, slots=True)
class Finding:
    grade: Grade
    code: Code
    subject: str
    """Which address, node, file or unit."""
    what: str
    """A sentence."""
    evidence: tuple[str, ...] = ()
    """What was read, and where: `/proc/sys/net/ipv4/conf/eth0/rp_filter: 1`."""
    hint: str = ""
    """The command that mends it, or the next step."""


def problem(code: Code, subject: str, what: str, evidence: Iterable[str] | str = (), hint: str = "") -> Finding:
    return _made(Grade.PROBLEM, code, subject, what, evidence, hint)


def warning(code: Code, subject: str, what: str, evidence: Iterable[str] | str = (), hint: str = "") -> Finding:
    return _made(Grade.WARNING, code, subject, what, evidence, hint)


def unseen(code: Code, subject: str, what: str, evidence: Iterable[str] | str = (), hint: str = "") -> Finding:
    return _made(Grade.UNSEEN, code, subject, what, evidence, hint)


def note(code: Code, subject: str, what: str, evidence: Iterable[str] | str = (), hint: str = "") -> Finding:
    return _made(Grade.NOTE, code, subject, what, evidence, hint)


def well(code: Code, subject: str, what: str, evidence: Iterable[str] | str = ()) -> Finding:
    return _made(Grade.WELL, code, subject, what, evidence, "")


def _made(grade: Grade, code: Code, subject: str, what: str, evidence: Iterable[str] | str, hint: str) -> Finding:
    lines = (evidence,) if isinstance(evidence, str) else tuple(evidence)
    return Finding(grade, code, subject, what, tuple(line for line in lines if line), hint)


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda one: WORST_FIRST.index(one.grade))
