"""The guide, step by step and as it is written, on hosts that run a real systemd, keepalived, HAProxy and sudo."""

from floatip.lab.network import FLOATING
from tests.systemd import guide
from tests.systemd.machines import Machine, wait_for
from tests.systemd.pair import ADDRESS, Pair
from tests.systemd.stacks import GUIDE, SETTLE_TIMEOUT, settle, use


def says(node: Machine, state: str) -> bool:
    """Whether the last entry of the guide's log is this state."""
    lines = node.run(f"cat {guide.STATE_LOG}", quiet=True, check=False).split("\n")
    return [line for line in lines if line.startswith("[INFO]")][-1:] == [f"[INFO] Now {state}"]


def test_the_failover_of_the_guide_goes_as_the_guide_says(pair: Pair) -> None:
    use(pair, GUIDE)
    master = settle(pair, GUIDE)
    other = pair.other(master)
    master.run(f"cat {guide.STATE_LOG}")
    assert says(master, "Master")
    assert says(other, "Backup")
    pair.haproxy3.run(f"ping -c 2 {ADDRESS}")
    assert pair.haproxy3.run(f"curl -s http://{ADDRESS}/") == master.name

    with pair.observed() as observation:
        master.run(f"touch {guide.TRIGGER}")
        wait_for(lambda: says(other, "Master"), "the other node to be master", SETTLE_TIMEOUT)
        wait_for(lambda: other.name in observation.latest_answers(0.5), "the other node to answer", SETTLE_TIMEOUT)
    print(f"lost while the traffic moved: {observation.record.seen.windows('echo')}")
    assert len(observation.record.seen.windows("echo")) == 1, "the guide promises a small blip, and then resumes"

    master.run(f"systemctl status keepalived --no-pager; cat {guide.STATE_LOG}")
    assert says(master, "Fault")
    other.run(f"cat {guide.STATE_LOG}")
    assert str(FLOATING) in other.run("ip a | grep inet")
    assert str(FLOATING) not in master.run("ip a | grep inet")
    assert pair.haproxy3.run(f"curl -s http://{ADDRESS}/") == other.name

    master.run(f"rm {guide.TRIGGER}")
    wait_for(lambda: says(master, "Backup"), "the first node to be backup again", SETTLE_TIMEOUT)
    assert pair.masters() == [other], "nopreempt: a healthy master stays"
