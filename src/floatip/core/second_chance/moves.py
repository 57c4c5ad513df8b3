"""The daemon's part of the second chance: what it wants of each instance, and which planned moves wait for it.

A master that is to leave says so to the others only when another node has all it needs (`Phase.OFFERS`). A backup that
is preferred takes over when it has all it needs itself (`Phase.ASKS`). Both wait for `PREPARE_TIME` at most, and not at
all where the tunnel does not work: the move goes on as it would without a second chance.
"""

import math
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from floatip.core import settings
from floatip.core.counters import Cause
from floatip.core.election.elector import Role
from floatip.core.events import Arrange, Became, Effect
from floatip.core.instance import Instance
from floatip.core.second_chance.terms import End, Over, Phase, Standing, Stream, Wish

PREPARE_TIME = 1.0
"""Seconds for which a move waits."""
TOLD_WITHIN = 1.0
"""Seconds after a move within which the process says how many connections are kept."""
SUCCEEDED_WITHIN = 3.0
"""Seconds within which a process that follows one that was killed says what is kept."""
PLANNED = frozenset((Cause.HANDOVER, Cause.PREFERRED))
NOT_STARTED = Standing("the process of the second chance has said nothing yet")


@dataclass(slots=True)
class Preparation:
    phase: Phase
    nodes: tuple[str, ...]
    since: float
    is_done: bool = False


class Moves:
    def __init__(self, config: settings.SecondChance, now: float) -> None:
        self.config = config
        self.standing = NOT_STARTED
        self.since: dict[str, float] = {"": now}
        """Since when it works with each of the others, or does not; "": since when this node can take part, or not."""
        self._preparations: dict[str, Preparation] = {}
        self._moved_at: dict[str, float | None] = {}
        """Of each instance of which this node is master: when it took over by a plan; None: otherwise."""
        self._kept_until = -math.inf
        """A move has just begun, and the process has not said yet what is kept."""
        self._wishes: dict[str, Wish] = {}
        """By instance, as the process knows them."""
        self._is_arranged = False
        self.ended: dict[tuple[str, bool], tuple[float, Over]] = {}
        """The last stream of each node and way that ended, and when."""
        self.useless: dict[str, tuple[float, Over]] = {}
        """By node: the last stream to it, if it led nowhere though its tunnel works, and when it ended."""
        self.ends: Counter[End] = Counter()
        """How many streams have ended, by why."""
        self.cut = 0
        """Connections that were left when their stream ended."""
        self.forwarded = self.accepted = 0
        """Packets: those that this node has forwarded, and those that came through the tunnel to its sockets."""
        self._closed: set[str] = set()
        """By which nodes connections of this one went on, until the process has just said why they do not."""
        self._distrust: dict[str, str] = {}
        """Why answers do not leave directly any more, by the carrier of each stream, as it was told."""
        self._told: dict[tuple[str, bool], float] = {}
        """The streams whose begin was told, as there were connections in them, and when each was seen last."""

    @property
    def preparations(self) -> Mapping[str, Preparation]:
        """The moves that wait, by instance."""
        return {name: one for name, one in self._preparations.items() if not one.is_done}

    @property
    def kept_until(self) -> float:
        """Until when connections may be kept of which the process has not said anything yet."""
        return self._kept_until

    @property
    def deadline(self) -> float:
        waiting = (one.since + PREPARE_TIME for one in self._preparations.values() if not one.is_done)
        return min(waiting, default=math.inf)

    def works_with(self, node: str) -> bool:
        return not self.standing.why_not and any(one.node == node and one.works for one in self.standing.through)

    def can_move(self, instance: Instance) -> bool:
        """Whether connections of it can be moved at all."""
        name = instance.config.name
        return instance.config.may_have_second_chance and all(name != one for one, _ in self.standing.without)

    def waits(self, name: str) -> bool:
        """Whether a planned move of the instance is prepared, and goes on later."""
        preparation = self._preparations.get(name)
        return preparation is not None and not preparation.is_done

    def has_to_prepare(self, instance: Instance, carrier: str) -> bool:
        """Whether this node may not take over yet from that one, which is well."""
        known = self._preparations.get(instance.config.name)
        if known and known.phase is Phase.ASKS:
            return not known.is_done
        return self.can_move(instance) and self.works_with(carrier)

    def prepare(self, instance: Instance, phase: Phase, nodes: Iterable[str], now: float) -> list[Effect]:
        """Before a planned move. `nodes`: who may take over, or from whom."""
        name = instance.config.name
        known = self._preparations.get(name)
        if known and known.phase is phase:
            return self._go_on(name, known, now)
        heirs = tuple(nodes)
        if not instance.config.may_have_second_chance or not heirs:
            self._preparations.pop(name, None)
            return []
        works = tuple(one for one in heirs if self.works_with(one)) if self.can_move(instance) else ()
        self._preparations[name] = Preparation(phase, works, now, is_done=not works)
        return [] if works else [self._not_moved(name, self._why_none_works(name, heirs))]

    def _why_none_works(self, name: str, nodes: Iterable[str]) -> str:
        without = dict(self.standing.without)
        if why := without.get(name) or self.standing.why_not:
            return why
        whys = {one.node: one.why for one in self.standing.through}
        return "; ".join(whys.get(one, "") or f"the tunnel to {one} does not work" for one in nodes)

    def _not_moved(self, name: str, why: str, so: str = "open connections are reset") -> Became:
        return Became("connections", name, "not moved", f"{why}: {so}", "floatip status; floatip doctor")

    def forget(self, name: str) -> None:
        """No move is planned, or it is made."""
        self._preparations.pop(name, None)

    def _go_on(self, name: str, preparation: Preparation, now: float) -> list[Effect]:
        if preparation.is_done:
            return []
        wanted = preparation.nodes if preparation.phase is Phase.OFFERS else ("",)
        left = [one for one in wanted if (name, one) not in self.standing.ready]
        is_offered = preparation.phase is Phase.OFFERS
        broken = [one for one in preparation.nodes if not self.works_with(one)]
        if left and not broken and now < preparation.since + PREPARE_TIME:
            return []
        preparation.is_done = True
        ready = [one for one in wanted if one not in left and one not in broken] if is_offered else []
        if ready or (is_offered and not left):
            self._kept_until = now + TOLD_WITHIN + PREPARE_TIME
        if not left:
            return []
        if broken:
            why = self._why_none_works(name, broken)
        elif is_offered:
            asked = [one for one in left if (name, one) in self.standing.asked]
            unasked = [one for one in left if one not in asked]
            whys = [f"{_listed(unasked)} did not ask for connections within {PREPARE_TIME:g} s"] if unasked else []
            were = "was" if len(asked) == 1 else "were"
            whys += [f"{_listed(asked)} {were} not ready within {PREPARE_TIME:g} s"] if asked else []
            why = "; ".join(whys)
        else:
            why = f"the connections of {_listed(preparation.nodes)} were not known here within {PREPARE_TIME:g} s"
        if not ready:
            return [self._not_moved(name, why)]
        return [self._not_moved(name, why, f"open connections go on if {_listed(ready, 'or')} takes over")]

    def take(self, standing: Standing, now: float) -> tuple[set[str] | None, list[Effect]]:
        """What the process says. Returns whose moves may go on by that; None: of any instance."""
        kept = {one.node: one.connections for one in self.kept}
        before, self.standing = self.standing, standing
        # Only what has come with the move says of it: other streams may go on from earlier ones.
        if any(one.connections > kept.get(one.node, -1) for one in self.kept):
            self._kept_until = -math.inf
        if {one for one in kept if kept[one]} - {one.node for one in self.kept} - self._closed:
            self._kept_until = now + SUCCEEDED_WITHIN
        self._closed.clear()
        works, worked = ({"": not one.why_not} | {each.node: each.works for each in one.through}
                         for one in (standing, before))  # fmt: skip
        self.since = {name: self.since[name] if worked.get(name) is is_so and name in self.since else now
                      for name, is_so in works.items()}  # fmt: skip
        self._told |= {key: now for one in before.streams if (key := (one.node, one.forwards)) in self._told}
        if not standing.why_not and now >= self.since[""] + SUCCEEDED_WITHIN:  # else a process has yet to find them
            # For a moment, at each move of another instance, nobody says that the stream goes on.
            self._told = {key: at for key, at in self._told.items() if now < at + SUCCEEDED_WITHIN}
        waiting = set(self.preparations) if standing.ready != before.ready else set()
        return (waiting if _what_works(standing) == _what_works(before) else None), self._count(standing.streams, now)

    def _count(self, streams: Iterable[Stream], now: float) -> list[Effect]:
        effects: list[Effect] = []
        before, self._distrust = self._distrust, {one.node: one.distrust for one in streams if one.distrust}
        for node in self._distrust.keys() - before.keys():
            why = f"answers go through the tunnel again, not directly: {self._distrust[node]}"
            effects.append(Became("connections", node, "by tunnel", why))
        for one in streams:
            if one.forwards:
                self.forwarded = one.forwarded
                self._note_use(one)
            else:
                self.accepted = one.accepted
            key = one.node, one.forwards
            if one.connections and key not in self._told:
                self._told[key] = now
                whose, where = (one.node, "there") if one.forwards else ("this node", "here")
                by = "this node" if one.forwards else one.node
                reason = f"{_many(one.connections)} of {whose} {'goes' if one.connections == 1 else 'go'} on {where}"
                reason += f"; {by} passes the packets on, for at most {self.config.limit:g} s"
                effects.append(Became("connections", one.node, "kept", reason))
        return effects

    def _note_use(self, stream: Stream) -> None:
        """Of a move that leads somewhere: its packets are accepted, which those of the last one were not."""
        known = self.useless.get(stream.node)
        if known and known[1].end is End.UNACCEPTED and stream.accepted:
            del self.useless[stream.node]

    def over(self, over: Over, now: float) -> list[Effect]:
        self.ended[over.node, over.forwards] = now, over
        if over.forwards:
            self.useless.pop(over.node, None)
            if over.end in (End.UNACCEPTED, End.UNANSWERED):
                self.useless[over.node] = now, over
        self.ends[over.end] += 1
        self.cut += over.reset
        if not over.forwards and over.end is not End.MOVED_ON:
            self._closed.add(over.node)
        key = over.node, over.forwards
        if key not in self._told and not over.connections:
            return []
        self._told.pop(key, None)
        whose = over.node if over.forwards else "this node"
        if not over.reset:
            reason = f"no connection of {whose} is left"
            if over.connections:
                reason = f"{over.reason}, with {_many(over.connections)} of {whose}"
            return [Became("connections", over.node, "ended", reason)]
        verb = "is" if over.connections == 1 else "are"
        reason = f"{_many(over.reset)} of {whose} {verb} reset: {over.reason}"
        return [Became("connections", over.node, "cut off", reason)]

    def is_keeping(self, now: float) -> bool:
        """Whether connections of this node go on by another one, which is master."""
        return now < self._kept_until or any(not one.forwards and one.connections for one in self.standing.streams)

    @property
    def kept(self) -> list[Stream]:
        return [one for one in self.standing.streams if not one.forwards]

    def keep(self, instances: Container[str]) -> None:
        """A reload has removed the others."""
        for known in (self._preparations, self._moved_at, self._wishes):
            for name in [name for name in known if name not in instances]:
                del known[name]
                self._is_arranged = False

    def arrange(self, marked: Iterable[Instance], now: float) -> list[Effect]:
        """What the process is to know, if that is something else than before. The others are as they were."""
        for instance in marked:
            name, is_known = instance.config.name, instance.config.name in self._wishes
            wish = self._wish(instance, now) if instance.config.may_have_second_chance else None
            if wish is None and is_known:
                del self._wishes[name]
            elif wish and self._wishes.get(name) != wish:
                self._wishes[name] = wish
            else:
                continue
            self._is_arranged = False
        if self._is_arranged:
            return []
        self._is_arranged = True
        return [Arrange(tuple(self._wishes.values()))]

    def _wish(self, instance: Instance, now: float) -> Wish:
        name = instance.config.name
        addresses = frozenset(target.ip for target in instance.targets)
        preparation = self._preparations.get(name)
        if instance.role is not Role.MASTER:
            self._moved_at.pop(name, None)
            if preparation and preparation.phase is Phase.ASKS:
                return Wish(name, addresses, Phase.ASKS, preparation.nodes)
            return Wish(name, addresses, Phase.REST)
        if name not in self._moved_at:
            self._moved_at[name] = now if instance.elector.cause in PLANNED else None
        if preparation and preparation.phase is Phase.OFFERS:
            return Wish(name, addresses, Phase.OFFERS, preparation.nodes)
        return Wish(name, addresses, Phase.CARRIES, (), self._moved_at[name])


def _listed(names: Iterable[str], word: str = "and") -> str:
    return f" {word} ".join(names)


def _many(count: int) -> str:
    return f"{count} connection{'s' * (count != 1)}"


def _what_works(standing: Standing) -> tuple[object, ...]:
    return standing.why_not, standing.without, tuple(one for one in standing.through if one.works)
