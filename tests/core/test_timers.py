"""Deadlines by key: always what a plain dictionary of them would say."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from floatip.core.timers import Timers

TIMES = st.sampled_from([0.0, 1.0, 1.5, 2.0, 3.0, 5.0, math.inf])
STEPS = st.one_of(
    st.tuples(st.just("set"), st.sampled_from("abcd"), TIMES),
    st.tuples(st.just("due"), st.just(""), TIMES.filter(math.isfinite)),
)


@settings(deadline=None)
@given(st.lists(STEPS, max_size=60))
def test_it_knows_the_earliest_deadline_and_who_is_due(steps: list[tuple[str, str, float]]) -> None:
    timers, plain = Timers(), dict[str, float]()
    for step, key, at in steps:
        if step == "set":
            timers.set(key, at)
            plain[key] = at
        else:
            due = [each for each in plain if plain[each] <= at]
            found = timers.due(at)
            assert sorted(map(str, found)) == sorted(due)
            assert [plain[str(each)] for each in found] == sorted(plain[each] for each in due)
            for each in due:
                del plain[each]
        assert timers.earliest == min(plain.values(), default=math.inf)


def test_a_deadline_that_moves_on_and_on_leaves_nothing_behind() -> None:
    timers = Timers()
    for at in range(10_000):
        timers.set("advert", at)
        timers.set("other", at / 2)
        assert timers.earliest == at / 2
    assert len(timers._heap) == 2
