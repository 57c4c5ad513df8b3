from tests.systemd import guide
from tests.systemd.pair import Pair
from tests.systemd.stacks import BESIDE, GUIDE, install_package, settle, use
import time


def test_fault(guide_figures, pair: Pair) -> None:
    use(pair, GUIDE)
    master = settle(pair, GUIDE)
    other = pair.other(master)
    install_package(pair)
    other.run(f"touch {guide.TRIGGER}")
    other.run("sed -i '1i use_pid_dir' /etc/keepalived/keepalived.conf; floatip adopt --yes", check=False)
    other.run("systemctl restart keepalived; sleep 5; floatip adopt --dry-run >/dev/null", check=False)
    other.run("systemctl stop keepalived; floatip adopt --yes; systemctl start keepalived; sleep 5", check=False)
    other.run("mkdir -p /etc/systemd/system/keepalived.service.d; printf '[Service]\\nPrivateTmp=yes\\n' > /etc/systemd/system/keepalived.service.d/t.conf; systemctl daemon-reload; systemctl restart keepalived; sleep 5", check=False)
    other.run("floatip adopt --yes; floatip status | head -3", check=False)
    other.run("cat /etc/floatip/floatip.toml; sed -i 's/priority .*/priority 77/' /etc/keepalived/keepalived.conf; floatip check", check=False)
    other.run("floatip adopt --yes", check=False)
    other.run("floatip adopt --force --yes; cat /etc/floatip/floatip.toml; floatip check", check=False)
    other.run("rm /etc/keepalived/trigger.file; sleep 4; floatip status", check=False)
    master.run("floatip adopt --notify --yes; floatip status", check=False)
    for node in (other, master):
        node.run("floatip adopt --undo --yes; floatip adopt --undo --yes", check=False)
    assert False
