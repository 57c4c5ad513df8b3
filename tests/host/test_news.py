"""The feed of news."""

from collections.abc import Callable

from floatip.core.events import Became
from floatip.host.news import AT_ONCE, News


def test_news_are_told_a_few_at_a_time_and_in_their_order() -> None:
    told: list[str] = []
    turns: list[Callable[[], None]] = []
    news = News([lambda item: told.append(item.name)], turns.append)
    names = [f"VI_{number}" for number in range(255)]
    news.add([Became("role", name, "master", "because") for name in names], at=7)
    assert not told, "the doing comes first"
    while turns:
        before = len(told)
        turns.pop()()
        assert len(told) <= before + AT_ONCE
    assert told == names
