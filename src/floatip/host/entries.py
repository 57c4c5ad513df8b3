"""One entry of the log for one event: what a person reads, and the same as fields for machines.

What one event made of an instance (its check, health, role and rank) is one entry, and so is what happened to several
things for the same reason. A hint is written once until the reason changes: a session that is refused again and again,
or four of them at once, need it once.
"""

from collections.abc import Iterable, Sequence

from floatip.core.bgp.rank import Rank
from floatip.core.settings import Instance
from floatip.host.journal import Field
from floatip.host.log import NOTICE, WARNING, Log
from floatip.host.news import OF_INSTANCE, Item
from floatip.text import printable

ROLE_CHANGE = "a8671897161c4b67b2c50e0f69c75f52"
"""The MESSAGE_ID of each change of role (systemd.journal-fields(7)); random."""
WARNINGS = {
    ("failure", "failed"),
    ("check", "down"),
    ("health", "down"),
    ("role", "fault"),
    ("session", "down"),
    ("node", "gone"),
    ("link", "down"),
    ("link", "unsteady"),
    ("network", "cut-off"),
    ("network", "second-master"),
    ("drill", "began"),
    ("etcd", "lost"),
    ("connections", "cut off"),
    ("connections", "not moved"),
}
PLURAL = {"connections": "connections", "address": "addresses", "priority": "priorities"}
ETCD = {"lost": "etcd does not answer", "answers": "etcd answers", "read-again": "all rows of etcd are read again"}
HEALTH = {"up": "healthy", "down": "unhealthy"}
FOLLOWS = {Rank.STANDBY.label, Rank.ACTIVE.label, Rank.TAKEOVER.label, Rank.TAKEOVER_AGAIN.label}
"""Ranks that a change of role explains."""


class Entries:
    """Where news are written to the log."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.is_stopping = False
        """Then sessions are closed on purpose."""
        self._instances: dict[Field, list[str]] = {}
        """Those that an address or a check belongs to."""
        self._hints: dict[tuple[str, str], str] = {}
        """The hint of each thing that is not well."""

    def configure(self, instances: Iterable[Instance]) -> None:
        self._hints.clear()
        self._instances = {}
        for instance in instances:
            things = [("takeover", instance.name)]
            things += [("address", str(address.ip)) for address in instance.addresses]
            for thing in [*things, *(("check", name) for name in instance.checks)]:
                self._instances.setdefault(thing, []).append(instance.name)

    def write(self, items: Sequence[Item]) -> None:
        """`items`: a group of `News`."""
        is_warning = any((item.what, item.value) in WARNINGS for item in items)
        is_warning &= not (self.is_stopping and items[0].what == "session")
        hint = self._hint_to_write(items)
        reason = "; ".join(_reasons(items))
        text = f"{_of_instance(items) if items[-1].what in OF_INSTANCE else _of_things(items)}: {reason}"
        fields = [*self._fields(items), ("REASON", reason)] + ([("HINT", hint)] if hint else [])
        text = printable(f"{text}; hint: {hint}" if hint else text)  # a line, whatever is in a reason
        self._log.write(WARNING if is_warning else NOTICE, text, fields)

    def _hint_to_write(self, items: Sequence[Item]) -> str:
        hint = ""
        for item in items:
            known = self._hints.pop((item.what, item.name), "")
            if item.hint:
                others = {told for (what, _), told in self._hints.items() if what == item.what}
                hint = item.hint if item.hint not in {known, *others} else hint
                self._hints[item.what, item.name] = item.hint
        return hint

    def _owners(self, item: Item) -> Sequence[str]:
        return [item.name] if item.what == "takeover" else self._instances.get((item.what, item.name), [])

    def _fields(self, items: Sequence[Item]) -> list[Field]:
        fields = [("WHAT", what) for what in dict.fromkeys(item.what for item in items)]
        if items[-1].what in OF_INSTANCE:
            # The role and the rank that it has now, whichever of them changed.
            now = {"ROLE": items[-1].role, "RANK": items[-1].rank}
            now |= {item.what.upper(): item.value for item in items if item.what in OF_INSTANCE}
            fields += [("INSTANCE", items[-1].name), *now.items()]
            fields += [("CHECK", item.name) for item in items if item.what == "check"]
        elif items[0].what == "owner":
            fields += [("INSTANCE", item.name) for item in items] + [("OWNER", items[0].value)]
        else:
            owners = [self._owners(item) for item in items]
            fields += [("INSTANCE", name) for name in dict.fromkeys(name for names in owners for name in names)]
            fields += [(items[0].what.upper(), item.name) for item in items]
            fields += [("VALUE", items[0].value)]
        if any(item.what == "role" and item.is_new for item in items):
            fields.append(("MESSAGE_ID", ROLE_CHANGE))
        return [(name, value) for name, value in fields if value]


def _of_instance(items: Sequence[Item]) -> str:
    """web: MASTER at rank takeover."""
    values = {item.what: item.value for item in items}
    words = []
    if role := values.get("role"):
        words.append(role.upper())
    if rank := values.get("rank"):
        words.append(f"{'at ' if role else ''}rank {rank}")
    state = " ".join(words)
    health = HEALTH.get(values.get("health", ""), "")
    return f"{items[-1].name}: {', '.join(filter(None, (state, health)))}"


def _of_things(items: Sequence[Item]) -> str:
    """address 192.0.2.10 held."""
    what = items[0].what
    if what == "etcd":
        return ETCD.get(items[0].value, f"etcd: {items[0].value}")
    if what == "owner":
        verb = "is" if len(items) == 1 else "are"
        return f"{', '.join(item.name for item in items)} {verb} owned by {items[0].value}, as etcd says"
    if what == "empty":
        return f"node {items[0].name} is empty"
    kind = what if len(items) == 1 else PLURAL.get(what, f"{what}s")
    return f"{kind} {', '.join(item.name for item in items)} {items[0].value}"


def _reasons(items: Sequence[Item]) -> list[str]:
    """Each once, the cause first."""
    if len(items) == 1:
        return [items[0].reason]
    order = {"role": 0, "health": 1, "rank": 2, "check": 3}
    has_role = any(item.what == "role" for item in items)
    told: list[str] = []
    for item in sorted(items, key=lambda item: order.get(item.what, 4)):
        follows = item.what == "rank" and has_role and item.value in FOLLOWS
        if not follows and not any(item.reason in reason for reason in told):
            told.append(item.reason)
    return told
