"""Somebody asks by a row of etcd that the owner of an instance hands it over."""

import json

import pytest

from tests.core.arbitrated import LEASE_TIME, WEB, World


@pytest.mark.parametrize(("to", "carrier"), [("n2", "n2"), ("n22", "n1")])
def test_an_ask_that_names_no_node_moves_nothing(to: str, carrier: str) -> None:
    world = World((WEB,))
    world.run(8 * LEASE_TIME)
    assert world.carriers() == {"web": "n1"}
    world.put("asks/web", json.dumps({"to": to, "by": "root@n1", "id": "1"}))
    world.run(1.0)
    assert world.carriers() == {"web": carrier}
