"""What was heard and not used: counted by reason, with the time of the latest."""

KEPT = 20
"""Reasons that are told apart; garbage of any kind makes no endless list."""


class Drops:
    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._latest: dict[str, float] = {}

    def count(self, why: str, now: float) -> None:
        if why not in self.counts and len(self.counts) >= KEPT:
            why = "for other reasons"
        self.counts[why] = self.counts.get(why, 0) + 1
        self._latest[why] = now

    def since(self, at: float) -> dict[str, int]:
        """The counts of the reasons that were met again since then."""
        return {why: number for why, number in self.counts.items() if self._latest[why] >= at}
