"""The harness of the other tests: what it says that happens to a member happens."""

from pathlib import Path

import pytest

from tests.etcd_cluster import Cluster


def test_a_cluster_outlives_its_leader_and_takes_it_back(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        first = cluster.leader()
        cluster.ctl("put", "a", "1")
        first.kill()
        second = cluster.leader()
        assert second is not first
        assert cluster.ctl("get", "a", "--print-value-only") == "1\n"
        first.restart()
        assert cluster.leader() is second
        second.stop()
        assert second.status(0.1) is None
        second.cont()
        assert cluster.wait() in cluster.members


def test_a_proxy_forwards_delays_drops_and_cuts(tmp_path: Path) -> None:
    with Cluster(tmp_path, size=1) as cluster:
        proxy = cluster.members[0].proxy()

        def ask(timeout: float = 30.0) -> None:
            assert cluster.post(proxy.url, "/v3/maintenance/status", {}, timeout)["version"]

        ask()
        assert proxy.octets
        proxy.delay = 0.2
        with pytest.raises(TimeoutError):
            ask(0.1)
        proxy.delay = 0.0
        proxy.drop()
        with pytest.raises(TimeoutError):
            ask(0.1)
        proxy.cut()
        with pytest.raises(OSError, match="refused"):
            ask()
        proxy.mend()
        ask()


def test_a_locked_cluster_with_tls_serves_its_users(tmp_path: Path) -> None:
    with Cluster(tmp_path, size=1, tls=True, auth=True) as cluster:
        cluster.add_user("floatip", "secret", "/floatip/")
        cluster.ctl("put", "/floatip/a", "1", user="floatip:secret")
        assert cluster.ctl("get", "/floatip/a", "--print-value-only") == "1\n"
        with pytest.raises(AssertionError, match="permission denied"):
            cluster.ctl("put", "/b", "1", user="floatip:secret")
