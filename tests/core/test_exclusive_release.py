"""A node says that it is free of what is exclusive only when its kernel is."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from floatip.core.election.elector import Role
from floatip.core.events import Event, Held, Hold
from floatip.core.foresight import Kind
from tests.core.arbitrated import DB, LEASE_TIME, World


class Refusing(World):
    """The kernel of n1 does not remove anything."""

    refuses = False

    def done(self, name: str, effect: object) -> Iterator[tuple[str, Event]]:
        if not (self.refuses and name == "n1" and isinstance(effect, Hold)):
            yield from super().done(name, effect)

    def is_master(self, name: str) -> bool:
        return self.nodes[name].instances["db"].role is Role.MASTER


@pytest.mark.parametrize(("kind", "of"), [("drained", "n1"), ("check-fails", "check")])
def test_no_owner_is_free_of_it_before_its_kernel_is(kind: Kind, of: str) -> None:
    world = Refusing((replace(DB, checks=("check",)),))
    world.run(4 * LEASE_TIME)
    assert world.carriers() == {"db": "n1"}
    world.refuses = True
    world.do(kind, "n1", of)
    world.run(LEASE_TIME / 2)
    assert not world.is_master("n1")
    assert not world.is_master("n2")
    world.tell("n1", Held(frozenset()))
    world.run(0.2)
    assert world.is_master("n2")
