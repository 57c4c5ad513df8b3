"""One command a node turns the guide's setup into floatip beside keepalived, and one turns it back."""

import re
import time

import pytest

from floatip.lab.network import FLOATING, ROUTER
from tests.systemd import guide
from tests.systemd.conftest import Figures
from tests.systemd.faults import starved
from tests.systemd.machines import Machine, wait_for
from tests.systemd.pair import ADDRESS, Observation, Pair
from tests.systemd.stacks import BESIDE, GUIDE, SETTLE_TIMEOUT, begin_to_build, install_package, settle, use

SUDO_RULE = f"/etc/sudoers.d/{guide.SCRIPT_USER}"
STATE_LOG = "/var/log/floatip/state"


@pytest.mark.parametrize("way", ["--notify", ""], ids=["notify", "fifo"])
def test_the_setup_of_the_guide_is_adopted_fails_over_and_is_given_back(
    guide_figures: Figures, pair: Pair, way: str
) -> None:
    begin_to_build()
    use(pair, GUIDE)
    master = settle(pair, GUIDE)
    other = pair.other(master)
    install_package(pair)
    for node in pair.nodes:
        belongs_to_root(node)
    before = [everything_of_the_guide(node) for node in pair.nodes]

    with pair.observed() as adopting:
        for node in (other, master):
            node.run(f"floatip adopt {way} --yes")
        time.sleep(2)
    pair.stack = BESIDE
    nothing_is_lost(adopting)
    assert settle(pair, BESIDE) is master
    for node in pair.nodes:
        assert "Nothing to do" in node.run("floatip adopt --yes")
        node.run(f"mv {SUDO_RULE} /root/sudo-rule")  # which adopt asks its administrator to do
        node_needs_no_privileges(node)

    with pair.observed() as failing:
        master.run(f"touch {guide.TRIGGER}")
        taken_over = "the other node to be master"
        wait_for(lambda: pair.led_to == other.name and pair.masters() == [other], taken_over, SETTLE_TIMEOUT)
        wait_for(lambda: says(other, "Master"), "the other node to note it", SETTLE_TIMEOUT)
        master.run(f"cat {STATE_LOG}; floatip status", check=False)
        other.run(f"cat {STATE_LOG}; ip a | grep inet; floatip status")
        assert pair.haproxy3.run(f"curl -s http://{ADDRESS}/") == other.name
        master.run(f"rm {guide.TRIGGER}")
        wait_for(lambda: says(master, "Backup"), "the first node to be backup again", SETTLE_TIMEOUT)
    nothing_is_lost(failing)
    assert says(other, "Master")
    assert pair.masters() == [other], "nopreempt: a healthy master stays"

    for node in (other, master):
        node.run(f"mv /root/sudo-rule {SUDO_RULE}")
        node.run("floatip adopt --undo --yes")
        wait_for(lambda node=node: GUIDE.claims(node) or pair.led_to == other.name, "it to announce", SETTLE_TIMEOUT)  # type: ignore[misc]
    pair.stack = GUIDE
    settle(pair, GUIDE)
    assert [everything_of_the_guide(node) for node in pair.nodes] == before


def belongs_to_root(node: Machine) -> None:
    """The guide gives keepalived's directory to the script user: adopt refuses, and says which commands help."""
    node.run(f"chown -R {guide.SCRIPT_USER}:{guide.SCRIPT_USER} /etc/keepalived")
    refused = node.run("floatip adopt --yes 2>&1", check=False)
    commands = re.findall(r"^  (chown .*)$", refused, re.M)
    assert [command.split(" && ")[0] for command in commands] == [
        "chown root:root /etc/keepalived",
        "chown root:root /etc/keepalived/keepalived.conf",
    ]
    for command in commands:
        node.run(command)


def nothing_is_lost(observation: Observation) -> None:
    record = observation.record
    lost = [probe for probe in record.seen.probes if not probe.ok]
    print(f"{len(lost)} of {len(record.seen.probes)} probes lost, {len(record.torn)} torn by the move")
    print("the fabric's moves:", [(change.at, str(change.next_hop)) for change in record.routes[ROUTER]])
    for probe in lost:
        print(f"{probe.kind} at {probe.at:.3f}: {probe.error}")
        assert starved(record, probe), probe


def says(node: Machine, state: str) -> bool:
    """Whether the last entry of the log in the guide's format is this state."""
    return node.run(f"grep INFO {STATE_LOG} | tail -n 1", check=False, quiet=True) == f"[INFO] Now {state}\n"


def node_needs_no_privileges(node: Machine) -> None:
    assert "not allowed" in node.run(f"sudo -l -U {guide.SCRIPT_USER}", check=False)
    assert not node.succeeds("systemctl is-active lelastic")
    status = node.run("cat /proc/$(systemctl show --value --property=MainPID floatip)/status")
    assert node.run("id -u floatip").strip() in status.split("Uid:")[1].split("\n")[0]
    assert f"CapBnd:\t{1 << 12 | 1 << 13:016x}" in status, "more than CAP_NET_ADMIN and CAP_NET_RAW"
    assert str(FLOATING) in node.run("ip address show lo")


def everything_of_the_guide(node: Machine) -> str:
    """Its files with their contents, owners and modes, and which units are enabled."""
    where = "/etc/keepalived /etc/sudoers.d /etc/systemd/system /usr/local/bin"
    files = node.run(f"find {where} -printf '%p %u:%g %m %l\\n' | sort; find {where} -type f | sort | xargs sha256sum")
    return files + node.run("systemctl is-enabled keepalived lelastic haproxy", check=False)
