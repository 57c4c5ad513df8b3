"""What Prometheus scrapes: the status and the figures of a node as text (exposition format 0.0.4).

Pure functions. Names follow the rules of Prometheus (base units, `_total`, `_seconds`, `_info`). The name of an
instance is the label `iname`, as keepalived-exporter has it: `instance` is what Prometheus calls the scraped machine.
Labels are names of the configuration or come from small closed sets, so that nobody on the network can make more of
them. What is the same at each scrape, all but the numbers, is made once.

`render_as_keepalived` gives the names of keepalived-exporter 1.7, for dashboards and alerts made for it. It leaves out
what floatip has not: `keepalived_vrrp_excluded_state` (an advert names all addresses or none),
`keepalived_exporter_check_script_status` (a script of that exporter), `keepalived_script_state`, and
`keepalived_gratuitous_arp_delay_total` (a setting of keepalived's).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import accumulate

from floatip.core.counters import Refused
from floatip.core.figures import MESSAGES, AdvertFigures, Figures, HistogramsFigures, InstanceFigures
from floatip.core.state import InstanceView, NodeView, Status
from floatip.text import printable
from floatip.web.ready import may_take_over, of_instance, of_node

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
ROLES = ("init", "backup", "master", "fault")
"""In the order of keepalived's numbers."""
RANKS = "none", "last-resort", "standby", "active", "takeover", "takeover-again"
"""From worst to best."""
Labels = str
"""As they are written, without the braces."""


def render(status: Status, figures: Figures) -> str:
    lines: list[str] = []
    for part in (_node, _instances, _addresses, _checks, _sessions, _adverts, _times, _others, _second_chance, _etcd):
        lines.extend(part(status, figures))
    return "\n".join(lines) + "\n"


# The parts


def _node(status: Status, figures: Figures) -> Iterator[str]:
    own = _own(status)
    yield from _one("floatip_build_info", "gauge", "The version that runs.", 1, _label("version", status.version))
    started = _moment(status, figures, status.uptime)
    yield from _one("floatip_start_timestamp_seconds", "gauge", "When the daemon started.", started)
    asked = datetime.fromisoformat(status.time).timestamp() if status.time else 0
    yield from _one("floatip_status_timestamp_seconds", "gauge", "When the daemon last said how it is.", f"{asked:.3f}")
    drained, paused = own is not None and own.drained, own is not None and own.paused
    for name, is_so, what in (
        ("drained", drained, "1 while this node leaves its work to others, because an administrator said so."),
        ("paused", paused, "1 while the nodes move nothing, because an administrator said so."),
        ("stopping", status.stopping, "1 while the daemon stops."),
        ("cut_off", status.cut_off, "1 while no route server has acknowledged anything for too long."),
    ):
        yield from _one(f"floatip_{name}", "gauge", what, int(bool(is_so)))
    problems: dict[Labels, int] = {}
    for problem in status.problems:
        labels = _joined(_label("code", problem.code), _label("severity", problem.severity))
        problems[labels] = problems.get(labels, 0) + 1
    what = "What floatip status names, by code."
    yield from _family("floatip_problems", "gauge", what, sorted(problems), map(problems.get, sorted(problems)))
    queues = ('queue="log"', 'queue="notify"')
    what = "Log lines, or runs of the notify command, that were left out because the reader was too slow."
    dropped = status.log_lines_dropped, status.hooks_dropped
    yield from _family("floatip_events_dropped_total", "counter", what, queues, dropped)
    what = "Requests on the control socket that were not understood."
    rejected = status.control_requests_rejected
    yield from _one("floatip_control_requests_rejected_total", "counter", what, rejected)
    if status.keepalived:
        what, runs = "1 while the keepalived that elects runs.", int(status.keepalived.runs)
        yield from _one("floatip_keepalived_up", "gauge", what, runs)


def _instances(status: Status, figures: Figures) -> Iterator[str]:
    instances = status.instances
    names = [_label("iname", one.name) for one in instances]
    counted = {one.name: one for one in figures.instances}
    infos = [
        _joined(name, _label("election", one.election), _label("intf", _interface(one, counted)), _vrid(one))
        for name, one in zip(names, instances, strict=True)
    ]
    yield from _family("floatip_instance_info", "gauge", "How the instance elects.", infos, [1] * len(infos))
    yield from _state_set(
        "floatip_instance_state",
        "1 for the role that the instance has on this node, 0 for the other roles.",
        ((name, "state", ROLES, one.role.value) for name, one in zip(names, instances, strict=True)),
    )
    yield from _state_set(
        "floatip_instance_rank",
        "1 for the rank at which this node announces the instance, 0 for the other ranks.",
        ((name, "rank", RANKS, one.rank.value) for name, one in zip(names, instances, strict=True)),
    )
    healthy = [int(one.health.value == "up") for one in instances]
    yield from _family(
        "floatip_instance_healthy", "gauge", "1 while all checks of the instance are up.", names, healthy
    )
    what = "1 while this node serves the instance, or could serve it at once."
    yield from _family("floatip_instance_ready", "gauge", what, names, map(int, _ready(status)))
    what = "When the instance got its role."
    since = [_moment(status, figures, one.role.for_) for one in instances]
    yield from _family("floatip_role_since_timestamp_seconds", "gauge", what, names, since)
    turns = [
        (_joined(name, _label("to", to), _label("cause", cause)), count)
        for name, one in zip(names, (counted.get(one.name) for one in instances), strict=True)
        if one is not None
        for (to, cause), count in sorted((tuple(key.split()), count) for key, count in one.turns.items())
    ]
    what = "Changes of role, by the new role and the cause."
    yield from _family("floatip_role_changes_total", "counter", what, *_unzipped(turns))
    names = [_label("iname", one.name) for one in figures.instances]
    became, released = ([one[at] for one in figures.instances] for at in (3, 4))
    yield from _family("floatip_became_master_total", "counter", "How often it became master here.", names, became)
    yield from _family("floatip_released_master_total", "counter", "How often it stopped being it.", names, released)


def _ready(status: Status) -> Iterator[bool]:
    """For each instance."""
    serves, takes_over = not any(of_node(status)), may_take_over(status)
    for one in status.instances:
        may = takes_over or one.role.value == "master"
        yield serves and may and one.rank.value != RANKS[0] and not of_instance(one)


def _addresses(status: Status, figures: Figures) -> Iterator[str]:
    named = [(_label("iname", one.name), one.addresses) for one in status.instances]
    keys = [_joined(name, _label("address", one.address)) for name, addresses in named for one in addresses]
    held = [int(one.held) for _, addresses in named for one in addresses]
    yield from _family("floatip_address_held", "gauge", "1 while the kernel has the address here.", keys, held)


def _checks(status: Status, figures: Figures) -> Iterator[str]:
    names = [_label("check", one.name) for one in status.checks]
    up, runs = [int(one.value == "up") for one in status.checks], [one.runs for one in status.checks]
    yield from _family("floatip_check_up", "gauge", "1 while the check is up.", names, up)
    yield from _family("floatip_check_runs_total", "counter", "How often the check was run.", names, runs)
    what = "How long a run of the check took, as its timeout counts."
    yield from _histograms("floatip_check_duration_seconds", what, "check", figures.checks)


def _sessions(status: Status, figures: Figures) -> Iterator[str]:
    sessions, counted = status.sessions, figures.sessions
    names = [_label("peer", one.peer) for one in sessions]
    systems = {one.peer: one.peer_asn for one in counted}
    keys = [f'{name},peer_as="{systems.get(one.peer, 0)}"' for name, one in zip(names, sessions, strict=True)]
    up = [one for one in sessions if one.state == "established"]
    what = "1 while the session with the route server is Established."
    yield from _family("floatip_bgp_session_up", "gauge", what, keys, [int(one in up) for one in sessions])
    what = "When the session came up; absent while it is down."
    since = [_moment(status, figures, one.for_) for one in up]
    keys = [_label("peer", one.peer) for one in up]
    yield from _family("floatip_bgp_established_timestamp_seconds", "gauge", what, keys, since)
    what, times = "How often the session came up.", [one.times_established for one in sessions]
    yield from _family("floatip_bgp_sessions_established_total", "counter", what, names, times)
    what, malformed = "Messages that no BGP speaker may send.", [one.malformed_messages for one in sessions]
    yield from _family("floatip_bgp_malformed_messages_total", "counter", what, names, malformed)
    messages = [
        (_joined(_label("peer", one.peer), f'direction="{direction}"', f'type="{label}"'), counts[kind])
        for one in counted
        for direction, counts in (("sent", one.sent), ("received", one.received))
        for kind, label in enumerate(MESSAGES, 1)
    ]
    what = "BGP messages, by direction and type."
    yield from _family("floatip_bgp_messages_total", "counter", what, *_unzipped(messages))
    announced = [
        (_joined(_label("peer", one.peer), f'rank="{rank}"'), one.announced.get(rank, 0))
        for one in counted
        for rank in RANKS[1:]
    ]
    what = "Prefixes that the route server has been told, by rank."
    yield from _family("floatip_bgp_announced_prefixes", "gauge", what, *_unzipped(announced))


def _adverts(status: Status, figures: Figures) -> Iterator[str]:
    each = [(_label("iname", one.name), one.adverts) for one in figures.instances if one.adverts]
    names, adverts = [name for name, _ in each], [one for _, one in each]
    for at, (metric, what) in enumerate(
        (
            ("sent", "VRRP adverts sent, one for each peer."),
            ("received", "VRRP adverts that were received and used."),
            ("zero_sent", "Of the adverts sent, those with priority 0, which hand over."),
            ("zero_received", "Of the adverts received, those with priority 0."),
            ("other_addresses", "Of the adverts received, those that name other addresses."),
        )
    ):
        yield from _family(f"floatip_adverts_{metric}_total", "counter", what, names, [one[at] for one in adverts])
    refused = [
        (_joined(name, f'reason="{Refused(code).label}"'), count)
        for name, counts in (*((name, one.refused) for name, one in each), (_label("iname", ""), figures.refused))
        for code, count in enumerate(counts)
        if count
    ]
    what = "VRRP adverts that were not used, by reason; those with an empty iname are for no instance."
    yield from _family("floatip_adverts_discarded_total", "counter", what, *_unzipped(refused))
    heard = [(name, f"{one.heard_at + figures.clock_ahead:.3f}") for name, one in each if one.heard_at is not None]
    what = "When an advert of another node was last used."
    yield from _family("floatip_peer_last_advert_timestamp_seconds", "gauge", what, *_unzipped(heard))


def _times(status: Status, figures: Figures) -> Iterator[str]:
    what = "Takeovers of this node: how long each phase took."
    yield from _histograms("floatip_failover_phase_seconds", what, "phase", figures.phases)
    what = "How much later than asked for the daemon woke up. Adverts and hellos are late by as much."
    yield from _histograms("floatip_loop_lateness_seconds", what, "", figures.lateness)


def _others(status: Status, figures: Figures) -> Iterator[str]:
    others = [one for one in status.nodes if not one.own]
    names, up = [_label("node", one.name) for one in others], [int(one.state == "alive") for one in others]
    yield from _family("floatip_node_up", "gauge", "1 while the other node is heard over the link.", names, up)
    heard = [(_label("node", one.name), _moment(status, figures, one.heard)) for one in others if one.heard is not None]
    what = "When the other node was last heard."
    yield from _family("floatip_node_last_heard_timestamp_seconds", "gauge", what, *_unzipped(heard))


ENDS = "done", "limit", "silent", "unaccepted", "unanswered", "moved-on", "unable", "there"
"""`core/second_chance/terms.py` has them, and brings along what this process does not need."""


def _second_chance(status: Status, figures: Figures) -> Iterator[str]:
    known = status.second_chance
    if known is None:
        return
    names = [_label("node", one.node) for one in known.nodes]
    what = "1 while open connections can be moved between this node and the other one."
    yield from _family("floatip_second_chance_usable", "gauge", what, names, [int(one.works) for one in known.nodes])
    kept = {one.node: one for one in known.streams if not one.forwards}
    forwarded = {one.node: one for one in known.streams if one.forwards}
    counts = [[streams[one.node].connections if one.node in streams else 0 for one in known.nodes]
              for streams in (kept, forwarded)]  # fmt: skip
    what = "Open connections that go on here, while the other node is master."
    yield from _family("floatip_second_chance_kept_connections", "gauge", what, names, counts[0])
    what = "Open connections that go on at the other node, while this one is master."
    yield from _family("floatip_second_chance_forwarded_connections", "gauge", what, names, counts[1])
    what = "Packets of connections that this node has passed on to others, as of the last move."
    yield from _one("floatip_second_chance_forwarded_packets_total", "counter", what, known.forwarded)
    what = "Packets of connections that reached this node through others, as of the last move."
    yield from _one("floatip_second_chance_accepted_packets_total", "counter", what, known.accepted)
    what = "How often connections of a node no longer went on by another one, by why."
    keys = [f'reason="{end}"' for end in ENDS]
    yield from _family(
        "floatip_second_chance_ended_total", "counter", what, keys, [known.ends.get(end, 0) for end in ENDS]
    )
    what = "Connections that went on by another node, and were reset before they ended."
    yield from _one("floatip_second_chance_reset_connections_total", "counter", what, known.cut)


def _etcd(status: Status, figures: Figures) -> Iterator[str]:
    etcd = status.etcd
    if etcd is None:
        return
    yield from _one("floatip_etcd_up", "gauge", "1 while etcd answers this node.", int(etcd.answers))
    what = "For how long etcd has not answered this node; 0 while it does."
    silent = "0" if etcd.answers else f"{etcd.for_:.3f}"
    yield from _one("floatip_etcd_unanswered_seconds", "gauge", what, silent)
    asked = [one for one in etcd.endpoints if one.answers is not None]
    keys = [_label("endpoint", one.url) for one in asked]
    what = "1 while this endpoint answers; absent until it has been asked."
    yield from _family("floatip_etcd_endpoint_up", "gauge", what, keys, [int(bool(one.answers)) for one in asked])
    outcomes: Sequence[Labels] = ('outcome="answered"', 'outcome="unknown"')
    what = "Questions to etcd that are over; unknown: no answer, or one that says nothing for sure."
    yield from _family("floatip_etcd_questions_total", "counter", what, outcomes, (etcd.answered, etcd.unknown))
    outcomes = ('outcome="won"', 'outcome="lost"', 'outcome="unknown"')
    what = "How often this node asked etcd for an instance, by what came of it."
    claims = etcd.claims_won, etcd.claims_lost, etcd.claims_unknown
    yield from _family("floatip_etcd_claims_total", "counter", what, outcomes, claims)
    what = "For how long exclusive instances may stay on this node if etcd says nothing more."
    left = max(etcd.exclusive_left or 0.0, 0.0)
    yield from _one("floatip_etcd_exclusive_seconds", "gauge", what, f"{left:.3f}")
    what, revision = "Of etcd's store, as this node saw it last.", etcd.revision
    yield from _one("floatip_etcd_revision", "gauge", what, revision)
    what, rows = "Rows below the prefix that floatip cannot use.", len(etcd.rows) + etcd.more_rows
    yield from _one("floatip_etcd_foreign_rows", "gauge", what, rows)
    owned = [(_label("iname", one.name), one.etcd) for one in status.instances if one.etcd]
    names = [name for name, _ in owned]
    what = "1 while this node owns the instance, by etcd."
    yield from _family("floatip_instance_owner", "gauge", what, names, [int(each.own) for _, each in owned])
    what = "1 while a node owns the instance, by etcd, and has not let go."
    has_owner = [int((each.own or each.owner != "") and not each.released) for _, each in owned]
    yield from _family("floatip_instance_owned", "gauge", what, names, has_owner)
    what = "When its owner took it over, as that node says: the epoch, which only grows."
    since = [(name, f"{each.epoch / 1000:.3f}") for name, each in owned if each.epoch]
    yield from _family("floatip_instance_owner_since_timestamp_seconds", "gauge", what, *_unzipped(since))
    known = {"", *(one.name for one in status.nodes)}  # whoever may write to etcd chose the others
    keys = [_joined(name, _label("owner", each.owner if each.owner in known else "unknown")) for name, each in owned]
    what = "Who owns the instance, by etcd; empty: nobody."
    yield from _family("floatip_instance_owner_info", "gauge", what, keys, [1] * len(keys))


# In the names of keepalived-exporter


def render_as_keepalived(status: Status, figures: Figures) -> str:
    runs = status.keepalived is None or status.keepalived.runs
    lines = [*_one("keepalived_up", "gauge", "Status", int(runs))]
    counted = {one.name: one for one in figures.instances}
    states = [
        (_joined(_keepalived(one, interface), _label("ip_address", address)), ROLES.index(one.role.value))
        for one in status.instances
        for interface, address in [(each.interface, each.address) for each in one.addresses]
        or [(_interface(one, counted), "")]
    ]
    lines += _family("keepalived_vrrp_state", "gauge", "State of vrrp", *_unzipped(states))
    instances = [one for one in status.instances if one.name in counted]
    keys = [_keepalived(one, _interface(one, counted)) for one in instances]
    became, released = ([counted[one.name][at] for one in instances] for at in (3, 4))
    lines += _family("keepalived_become_master_total", "counter", "Became master", keys, became)
    lines += _family("keepalived_release_master_total", "counter", "Released master", keys, released)
    adverts = [(key, of) for key, one in zip(keys, instances, strict=True) if (of := counted[one.name].adverts)]
    for name, what, value in _AS_KEEPALIVED:
        values = [value(one) for _, one in adverts]
        lines += _family(f"keepalived_{name}_total", "counter", what, [key for key, _ in adverts], values)
    names, up = [_label("name", one.name) for one in status.checks], [int(one.value == "up") for one in status.checks]
    lines += _family("keepalived_script_status", "gauge", "Tracker Script Status", names, up)
    return "\n".join(lines) + "\n"


_AS_KEEPALIVED: tuple[tuple[str, str, Callable[[AdvertFigures], int]], ...] = (
    ("advertisements_received", "Advertisements received", lambda one: one.received),
    ("advertisements_sent", "Advertisements sent", lambda one: one.sent),
    ("packet_length_errors", "Packet length errors", lambda one: _refused(one, Refused.LENGTH)),
    ("advertisements_interval_errors", "Advertisement interval errors", lambda one: _refused(one, Refused.INTERVAL)),
    ("ip_ttl_errors", "TTL errors", lambda one: _refused(one, Refused.TTL)),
    ("invalid_type_received", "Invalid type errors", lambda one: _refused(one, Refused.TYPE)),
    ("address_list_errors", "Address list errors", lambda one: one.other_addresses),
    ("authentication_invalid", "Authentication invalid", lambda one: _refused(one, Refused.AUTH_TYPE)),
    # A peer without a password and one with another password are one failure here.
    ("authentication_mismatch", "Authentication mismatch", lambda one: 0),
    ("authentication_failure", "Authentication failure", lambda one: _refused(one, Refused.PASSWORD)),
    ("priority_zero_received", "Priority zero received", lambda one: one.zero_received),
    ("priority_zero_sent", "Priority zero sent", lambda one: one.zero_sent),
)


def _keepalived(one: InstanceView, interface: str) -> Labels:
    return _joined(_label("iname", one.name), _label("intf", interface), _vrid(one))


def _refused(adverts: AdvertFigures, why: Refused) -> int:
    return adverts.refused[why] if adverts.refused else 0


# Text


def _own(status: Status) -> NodeView | None:
    return next((node for node in status.nodes if node.own), None)


def _vrid(one: InstanceView) -> Labels:
    return f'vrid="{"" if one.vrid is None else one.vrid}"'


def _interface(one: InstanceView, counted: dict[str, InstanceFigures]) -> str:
    """On which it elects, or else has its addresses."""
    elects_on = counted[one.name].interface if one.name in counted else ""
    return elects_on or next((address.interface for address in one.addresses), "")


def _moment(status: Status, figures: Figures, age: float) -> str:
    """Seconds since the epoch. The same at each scrape, unless the clock is set."""
    return f"{status.monotonic - age + figures.clock_ahead:.3f}"


def _unzipped(samples: Sequence[tuple[Labels, object]]) -> tuple[list[Labels], list[object]]:
    return [labels for labels, _ in samples], [value for _, value in samples]


def _one(name: str, kind: str, what: str, value: object, labels: Labels = "") -> Iterator[str]:
    return _family(name, kind, what, [labels], [value])


def _family(name: str, kind: str, what: str, keys: Sequence[Labels], values: Iterable[object]) -> Iterator[str]:
    """One line for each of the `keys`; nothing where there are none."""
    if keys:
        yield _template(name, kind, what, tuple(keys)) % tuple(values)


def _state_set(name: str, what: str, each: Iterable[tuple[Labels, str, tuple[str, ...], str]]) -> Iterator[str]:
    """Labels of the thing, the label that has its state, all states, and the one that it has."""
    if states := [_states(name, *one) for one in each]:
        yield _heading(name, "gauge", what)
        yield from states


def _histograms(name: str, what: str, label: str, histograms: HistogramsFigures) -> Iterator[str]:
    bounds = tuple(histograms.bounds)
    if histograms.each:
        yield _heading(name, "histogram", what)
    for one in histograms.each:
        totals = tuple(accumulate(one.counts))
        labels = _label(label, one.name) if label else ""
        yield _histogram_template(name, labels, bounds) % (*totals, one.sum, totals[-1])


@lru_cache(96)
def _template(name: str, kind: str, what: str, keys: tuple[Labels, ...]) -> str:
    """A `%s` for each value."""
    lines = (f"{name}{{{key}}}" if key else name for key in keys)
    return _heading(name, kind, what) + "".join("\n" + line.replace("%", "%%") + " %s" for line in lines)


@lru_cache(4096)
def _histogram_template(name: str, labels: Labels, bounds: tuple[float, ...]) -> str:
    """A place for each running total, then for the sum and the count."""
    first, own = (f"{labels},", f"{{{labels}}}") if labels else ("", "")
    first, own = first.replace("%", "%%"), own.replace("%", "%%")
    buckets = (f'{name}_bucket{{{first}le="{bound}"}} %d' for bound in (*bounds, "+Inf"))
    return "\n".join((*buckets, f"{name}_sum{own} %.6f", f"{name}_count{own} %d"))


def _heading(name: str, kind: str, what: str) -> str:
    return f"# HELP {name} {what}\n# TYPE {name} {kind}"


@lru_cache(8192)
def _states(name: str, labels: Labels, label: str, states: tuple[str, ...], current: str) -> str:
    return "\n".join(f'{name}{{{labels},{label}="{state}"}} {int(state == current)}' for state in states)


@lru_cache(8192)
def _label(name: str, value: str) -> Labels:
    """Others chose the value: what is not printable is written out."""
    shown = printable(value.replace("\t", " "))
    return '{}="{}"'.format(name, shown.replace("\\", r"\\").replace('"', r"\""))


def _joined(*labels: Labels) -> Labels:
    return ",".join(labels)
