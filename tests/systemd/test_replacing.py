"""A rolling migration under traffic: two keepaliveds, one floatip, two floatips, then nodes that know each other.

Each node runs keepalived.conf as it is; the announcer's data centre goes beside it.
"""

from tests.systemd.machines import Machine, wait_for
from tests.systemd.pair import Pair
from tests.systemd.stacks import (
    GUIDE,
    SETTLE_TIMEOUT,
    begin_to_build,
    install_package,
    is_announced,
    settle,
    status,
    use,
)
from tests.systemd.test_adoption import belongs_to_root, everything_of_the_guide, nothing_is_lost

CONF, BESIDE = "/etc/keepalived/keepalived.conf", "/etc/keepalived/floatip.toml"


def test_two_keepaliveds_become_two_floatips_and_then_nodes_without_a_loss(pair: Pair) -> None:
    begin_to_build()
    use(pair, GUIDE)
    master = settle(pair, GUIDE)
    other = pair.other(master)
    install_package(pair)
    for node in pair.nodes:
        belongs_to_root(node)
    before = [everything_of_the_guide(node) for node in pair.nodes]
    pair.stack = None

    refused = master.run("floatip adopt --replace --yes 2>&1", check=False)
    assert "this node is MASTER of VI_1: replace the keepalived of the other node first" in refused
    steps = "systemctl stop lelastic.service && systemctl stop keepalived.service"
    assert steps in " ".join(refused.split())
    with pair.observed() as one:
        other.run("floatip adopt --replace --dry-run")
        other.run("floatip adopt --replace --yes")
        wait_for(lambda: role(other) == "backup" and is_announced(status(other)), "a standby", SETTLE_TIMEOUT)
    nothing_is_lost(one)
    assert pair.masters() == [master], "keepalived is master, and floatip hears it"

    with pair.observed() as two:
        master.run(steps)
        wait_for(lambda: role(other) == "master", "the first floatip to take over", SETTLE_TIMEOUT)
        master.run("floatip adopt --replace --yes")
        wait_for(lambda: is_announced(status(master)), "both to be announced", SETTLE_TIMEOUT)
    nothing_is_lost(two)
    assert [role(node) for node in (other, master)] == ["master", "backup"]
    for node in pair.nodes:
        assert "Nothing to do" in node.run("floatip adopt --replace --yes")
        enabled = node.run("systemctl is-enabled keepalived lelastic floatip", check=False)
        assert enabled.split() == ["disabled", "disabled", "enabled"]
        node.run("systemctl start keepalived lelastic")
        assert not node.succeeds("systemctl is-active keepalived || systemctl is-active lelastic"), "a script may try"

    for node in (master, other):
        node.run("floatip adopt --undo --yes")
    assert [everything_of_the_guide(node) for node in pair.nodes] == before
    pair.stack = GUIDE
    settle(pair, GUIDE)


def role(node: Machine) -> str:
    roles = [one["role"]["value"] for one in status(node)["instances"]]
    return str(roles[0]) if roles else ""
