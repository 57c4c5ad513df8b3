"""One cluster for the tests that disturb nothing, each below a prefix of its own."""

from collections.abc import Iterator

import pytest

from tests.etcd_cluster import Cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster
