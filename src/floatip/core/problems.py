"""A problem is a value: a code that machines match on, a subject, and sentences for people that nothing matches on.

A problem goes when its cause goes. Each code has its place in docs/operate/troubleshooting.md.
"""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    PROBLEM = "problem"
    """A person should look at it now: `floatip status` exits 1."""
    WARNING = "warning"
    """Something is not whole, and still works."""
    NOTE = "note"
    """All may be well; this node cannot know."""


class Code(StrEnum):
    NO_SESSION = "no-session"
    SESSION_DOWN = "session-down"
    CUT_OFF = "cut-off"
    NOT_ACKNOWLEDGED = "not-acknowledged"
    UNHEALTHY = "unhealthy"
    INSTANCE_FAULT = "instance-fault"
    LINK_UNSTEADY = "link-unsteady"
    NOT_HELD = "not-held"
    NOT_RELEASED = "not-released"
    ADDRESS_REMOVED = "address-removed"
    PEER_UNHEARD = "peer-unheard"
    NODE_SILENT = "node-silent"
    NODE_DEAF = "node-deaf"
    NODE_REFUSED = "node-refused"
    OTHER_CONFIGURATION = "other-configuration"
    OTHER_VERSION = "other-version"
    LINK_STRANGER = "link-stranger"
    NOBODY_SERVES = "nobody-serves"
    NO_STANDBY = "no-standby"
    ETCD_LOST = "etcd-lost"
    EXCLUSIVE_LOST = "exclusive-lost"
    ETCD_MEMBER_DOWN = "etcd-member-down"
    ETCD_DISAGREES = "etcd-disagrees"
    ETCD_PREFIX = "etcd-prefix"
    ETCD_ROW = "etcd-row"
    NAME_TAKEN = "name-taken"
    NOT_AT_ETCD = "not-at-etcd"
    CLOCK_AHEAD = "clock-ahead"
    SECOND_CHANCE = "second-chance"
    DRAINED = "drained"
    PAUSED = "paused"
    DRILL = "drill-runs"
    PREFIX_REFUSED = "prefix-refused"
    KEEPALIVED_DOWN = "keepalived-down"
    KEEPALIVED_UNHEARD = "keepalived-unheard"
    KEEPALIVED_DOUBTED = "keepalived-doubted"
    KEEPALIVED_OTHER_INSTANCE = "keepalived-other-instance"
    KEEPALIVED_BACKUP_UNLED = "keepalived-backup-unled"
    SECOND_MASTER = "second-master"
    PRIORITY_LOWERED = "priority-lowered"
    ADVERTS_DROPPED = "adverts-dropped"
    VRRP_UNKNOWN = "vrrp-unknown"
    MALFORMED_MESSAGES = "malformed-messages"
    DAMPED = "damped"
    STARTING = "starting"
    START_LIMIT = "start-limit"
    STOPPING = "stopping"
    RELOAD_REFUSED = "reload-refused"
    RESTART_REFUSED = "restart-refused"
    NO_CONFIGURATION = "no-configuration"
    FLEET_OLDER = "fleet-older"
    FLEET_REFUSED = "fleet-refused"
    CONTROL_MISUSE = "control-misuse"
    FAILURE = "failure"
    """A part of the host cannot do something."""


KEEPS_CRASHING = "restarted 3 times within a minute"
UNSTEADY = f"{KEEPS_CRASHING}: stays backup until it has run for a minute"
"""Why a node must not be master."""


@dataclass(frozen=True, slots=True)
class Problem:
    code: Code
    subject: str
    """Which instance, session or part."""
    what: str
    hint: str = ""
    """The next step, in the imperative; empty: the sentence says it."""
    severity: Severity = Severity.PROBLEM
    since: float | None = None
    """Monotonic seconds; None: not known."""
