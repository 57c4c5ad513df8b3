"""What the daemon tells `floatip rebalance`: a letter for each instance and node."""

from collections import Counter
from collections.abc import Callable

from floatip.host.loads import Loads
from tests.core.test_link_scale import INSTANCES, _carried, _node, _play


def test_each_instance_is_carried_by_one_node_and_the_other_one_could_take_over() -> None:
    one, other = (_node(number) for number in (0, 1))
    _play(one, other, until=5.0)
    waiting: list[Callable[[], None]] = []
    loads = Loads(lambda: one, waiting.append)
    answers = []
    loads.command.prepare(lambda: answers.append(loads.command.answer({"cmd": "loads"}, 1)))
    assert not answers
    while waiting:
        waiting.pop()()
    (answer,) = answers
    assert isinstance(answer, dict)
    letters = {name: some for name, _, _, some in answer["nodes"]}  # type: ignore[attr-defined]
    assert Counter(letters["haproxy1"]) == {"C": _carried(one), "r": _carried(other)}
    pairs = Counter(zip(letters["haproxy1"], letters["haproxy2"], strict=True))
    assert pairs == {("C", "r"): _carried(one), ("r", "C"): _carried(other)}
    assert len(answer["instances"]) == INSTANCES  # type: ignore[arg-type]
