"""A rolling migration under traffic: two keepaliveds, one floatip, two floatips, then nodes that know each other.

Each node runs keepalived.conf as it is; the announcer's data centre goes beside it.
"""

import re

from floatip.lab.network import NODES
from tests.systemd import guide
from tests.systemd.machines import Machine, wait_for
from tests.systemd.nodes import FLOATIP_TOML, KEY, share_key
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

CONF = "/etc/keepalived/keepalived.conf"
DROP_IN = "/etc/systemd/system/floatip.service.d/keepalived-conf.conf"
NODE_TABLES = "".join(f'\n[[node]]\nname = "{host.name}"\naddress = "{host.ipv4.ip}"\n' for host in NODES if host.ipv4)


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
        master.run(f"rm {guide.STATE_LOG}")
        master.run("floatip adopt --replace --root --yes")
        wait_for(lambda: is_announced(status(master)), "both to be announced", SETTLE_TIMEOUT)
    nothing_is_lost(two)
    assert [role(node) for node in (other, master)] == ["master", "backup"]
    users = [node.run("ps -o user= -p $(systemctl show --value -p MainPID floatip)").strip() for node in pair.nodes]
    assert sorted(zip((node is master for node in pair.nodes), users, strict=True)) == [
        (False, "floatip"),
        (True, "root"),
    ]
    wait_for(lambda: "Now Backup" in master.run(f"cat {guide.STATE_LOG}", check=False), "its script", SETTLE_TIMEOUT)
    assert guide.SCRIPT_USER in master.run(f"ls -l {guide.STATE_LOG}"), "as its user, with its sudo rule"
    for node, options in ((other, ""), (master, "--root")):
        assert "Nothing to do" in node.run(f"floatip adopt --replace {options} --yes")
        enabled = node.run("systemctl is-enabled keepalived lelastic floatip", check=False)
        assert enabled.split() == ["disabled", "disabled", "enabled"]
        node.run("systemctl start keepalived lelastic", check=False)
        assert not node.succeeds("systemctl is-active keepalived || systemctl is-active lelastic"), "a script may try"

    with pair.observed() as three:
        become_nodes(pair)
    nothing_is_lost(three)
    assert sorted(role(node) for node in pair.nodes) == ["backup", "master"]

    for node in sorted(pair.nodes, key=role):
        node.run("floatip adopt --undo --yes --force")  # the drop-in of its unit is gone
        node.run(f"rm {FLOATIP_TOML} {KEY}")
    assert [everything_of_the_guide(node) for node in pair.nodes] == before
    pair.stack = GUIDE
    settle(pair, GUIDE)


def become_nodes(pair: Pair) -> None:
    """The steps of docs/operate/from-keepalived.md, after which the nodes elect among themselves."""
    share_key(pair)
    for node in sorted(pair.nodes, key=role):
        text = node.run(f"floatip convert {CONF}", quiet=True) + NODE_TABLES
        node.write(FLOATIP_TOML, text, 0o640)
        node.run(f"chgrp floatip {FLOATIP_TOML} && rm {DROP_IN} && systemctl daemon-reload && floatip check")
        node.run("systemctl restart floatip")
        wait_for(lambda node=node: is_announced(status(node)), f"{node.name} to be announced", SETTLE_TIMEOUT)  # type: ignore[misc]
    for node in pair.nodes:
        wait_for(lambda node=node: hears(node), f"{node.name} to hear the other", SETTLE_TIMEOUT)  # type: ignore[misc]
    for node in sorted(pair.nodes, key=role):
        text = node.run(f"cat {FLOATIP_TOML}", quiet=True)
        node.write(FLOATIP_TOML, re.sub(r"\[instance\.vrrp\]\n(?:\w.*\n)*", "", text), 0o640)
        node.run("floatip check && systemctl reload floatip")
    for node in pair.nodes:
        wait_for(lambda node=node: agrees(node), f"{node.name} to be one of the nodes", SETTLE_TIMEOUT)  # type: ignore[misc]
        node.run("floatip nodes")


def hears(node: Machine) -> bool:
    return all(one["state"] in ("this node", "alive") and one["healthy"] for one in status(node)["nodes"])


def agrees(node: Machine) -> bool:
    told = status(node)
    same = [one["same_configuration"] for one in told["nodes"] if not one["own"]]
    return same == [True] and told["instances"][0]["election"] == "nodes" and is_announced(told)


def role(node: Machine) -> str:
    roles = [one["role"]["value"] for one in status(node)["instances"]]
    return str(roles[0]) if roles else ""
