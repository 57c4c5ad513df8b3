"""Chains and rules in one form, whoever wrote them, and how a packet goes through them. Pure.

A condition is true, false, or not understood. Where it is not understood, the packet is followed both ways: only if
both end alike is there an answer, so a rule that nobody here understands matters only where it decides.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from floatip.doctor.firewall.packet import Answer, Because, Packet, Verdict

NEXT, RETURN, JUMP, GOTO = "next", "return", "jump", "goto"
DEEPEST = 64
"""The kernel allows 16 jumps in nftables; iptables' own bound is higher."""


@dataclass(slots=True)
class Touched:
    """What of the packet earlier rules may have changed, so that later ones see another value than we know."""

    things: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Effect:
    kind: str
    """accept, drop, reject, unknown; or next, return, jump, goto."""
    chain: str = ""


ACCEPT, DROP, REJECT, UNKNOWN = (Effect(one.value) for one in Verdict)
GO_ON, GO_BACK = Effect(NEXT), Effect(RETURN)
Step = Callable[[Packet, Touched], "bool | tuple[Effect, ...] | None"]
"""True: go on in the rule. False: the rule does not match. None: not understood. Effects: one of them happens."""


@dataclass(frozen=True, slots=True)
class Rule:
    text: str
    steps: tuple[Step, ...]


@dataclass(slots=True)
class Chain:
    name: str
    rules: list[Rule] = field(default_factory=list)
    kind: str = ""
    """filter, nat or route, of a chain that a hook calls."""
    hook: str = ""
    priority: int = 0
    policy: str = "accept"
    device: tuple[str, ...] = ()
    """Of ingress and egress."""


@dataclass(slots=True)
class Table:
    source: str
    family: str
    """ip, ip6, inet, netdev, ..."""
    name: str
    chains: dict[str, Chain] = field(default_factory=dict)

    def label(self, chain: str) -> str:
        return f"{self.family} {self.name} {chain}"


HOOKS: Mapping[str, tuple[str, ...]] = {
    "in": ("ingress", "prerouting", "input"),
    "out": ("output", "postrouting", "egress"),
}


CONNTRACK = -200
"""The priority of connection tracking, in prerouting and output (NF_IP_PRI_CONNTRACK)."""


def evaluate(tables: Iterable[Table], packet: Packet) -> Answer:
    """Each chain of each hook on the packet's way must let it through."""
    tables = list(tables)
    touched = Touched()
    doubts: list[Because] = []
    for hook in HOOKS[packet.direction]:
        here = [
            (chain.priority, table, chain)
            for table in tables
            for chain in table.chains.values()
            if chain.hook == hook and _applies(table, chain, packet)
        ]
        for _, table, chain in sorted(here, key=lambda one: one[0]):
            walk = _Walk(table, chain, _as_seen(chain, packet), touched)
            ends = walk.ends()
            if (chain.kind == "nat" and Verdict.ACCEPT not in ends) or not _is_followed(table, chain, packet):
                # The kernel calls chains of nat only where something else has it track connections.
                ends = {Verdict.UNKNOWN: next(iter(ends.values()))}
            if Verdict.UNKNOWN in ends:
                doubts += [ends.pop(Verdict.UNKNOWN), *walk.doubts]
                ends.setdefault(Verdict.ACCEPT, doubts[-1])
            elif len(ends) > 1:
                doubts += walk.doubts
            if Verdict.ACCEPT not in ends:
                kind, why = next(iter(ends.items()))
                return Answer(Verdict(kind), (why,))
    if doubts:
        return Answer(Verdict.UNKNOWN, tuple(dict.fromkeys(doubts)))
    return Answer(Verdict.ACCEPT)


def _applies(table: Table, chain: Chain, packet: Packet) -> bool:
    if table.family == "bridge":
        return bool(packet.below)
    if table.family not in ("inet", "netdev", "ip" if packet.version == 4 else "ip6"):
        return False
    if chain.device and not {packet.interface, *packet.below} & set(chain.device):
        return False
    # Only the first packet of a connection goes through them.
    return chain.kind != "nat" or packet.state == "new"


def _is_followed(table: Table, chain: Chain, packet: Packet) -> bool:
    """Below the interface packets look otherwise, as with the tag of a VLAN."""
    has_device = table.family == "bridge" or chain.hook in ("ingress", "egress")
    is_below = has_device and packet.interface not in chain.device
    return not is_below or (not chain.rules and chain.policy == "accept")


def _as_seen(chain: Chain, packet: Packet) -> Packet:
    return replace(packet, state="invalid") if is_early(chain) else packet


def is_early(chain: Chain) -> bool:
    """Before connection tracking."""
    return chain.hook == "ingress" or (chain.hook in ("prerouting", "output") and chain.priority < CONNTRACK)


class _Walk:
    """One packet through one chain of a hook."""

    def __init__(self, table: Table, base: Chain, packet: Packet, touched: Touched) -> None:
        self._table = table
        self._base = base
        self._packet = packet
        self._touched = touched
        self.doubts: list[Because] = []

    def ends(self) -> dict[str, Because]:
        """Which verdicts are possible, and where each is spoken."""
        found = self._through(self._base.name, ())
        if back := found.pop(RETURN, None):
            policy = self._base.policy
            found.setdefault(policy, self._because(back.path, self._base.name, f"policy {policy}"))
        return found

    def _through(self, name: str, path: tuple[str, ...]) -> dict[str, Because]:
        chain = self._table.chains.get(name)
        path = (*path, name)
        if not chain or len(path) > DEEPEST:
            return {Verdict.UNKNOWN: self._because(path, name, "there is no such chain")}
        found: dict[str, Because] = {}
        for rule in chain.rules:
            happens, surely = self._of_rule(rule, path, name)
            goes_on = happens.pop(NEXT, None)
            # Where a rule that is understood ends the same, it is the better evidence.
            found = found | happens if surely else happens | found
            if surely and not goes_on:
                return found
        found.setdefault(RETURN, self._because(path, name, "the end of the chain"))
        return found

    def _of_rule(self, rule: Rule, path: tuple[str, ...], name: str) -> tuple[dict[str, Because], bool]:
        """What it may do, and whether it matches for sure."""
        because = self._because(path, name, rule.text)
        surely = True
        for step in rule.steps:
            result = step(self._packet, self._touched)
            if result is True:
                continue
            if result is False:
                return {}, False
            if result is None:
                surely = False
                continue
            happens: dict[str, Because] = {}
            for effect in result:
                for kind, why in self._of_effect(effect, because, path).items():
                    happens.setdefault(kind, why)
            if len(result) > 1 or (not surely and set(happens) != {NEXT}):
                self.doubts.append(because)
            return happens, surely
        return {NEXT: because}, surely

    def _of_effect(self, effect: Effect, because: Because, path: tuple[str, ...]) -> dict[str, Because]:
        if effect.kind not in (JUMP, GOTO):
            return {effect.kind: because}
        found = self._through(effect.chain, path)
        if effect.kind == JUMP and RETURN in found:
            found[NEXT] = found.pop(RETURN)
        return found

    def _because(self, path: tuple[str, ...], chain: str, rule: str) -> Because:
        table = self._table
        return Because(table.source, table.label(chain), rule, table.label(self._base.name), path)
