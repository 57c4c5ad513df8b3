"""`floatip doctor` beside a real etcd: each endpoint, certificates, clocks, and whose prefix it is."""

import json
from dataclasses import replace
from pathlib import Path

from floatip import model
from floatip.doctor.context import Context
from floatip.doctor.etcd import _certificate, _clock, etcd
from floatip.doctor.finding import Code, Finding, Grade
from floatip.model import Here
from tests.doctor.contexts import context
from tests.etcd_cluster import Cluster

KEY = bytes(range(32))


def looking(cluster: Cluster, prefix: str, endpoints: tuple[str, ...] = ()) -> Context:
    authority, client = cluster.authority, cluster.client
    config = model.Etcd(
        endpoints or cluster.endpoints,
        prefix,
        authority.ca if authority else None,
        client.certificate if client else None,
        client.key if client else None,
        request_timeout=5.0,
    )
    given = context()
    assert given.model
    assert given.here
    return replace(
        given, model=replace(given.model, etcd=config), here=Here(given.here.node, given.here.interface, (KEY,))
    )


def found(given: Context, code: Code) -> list[Finding]:
    return [one for one in etcd(given) if one.code is code]


def test_without_etcd_nothing_is_asked() -> None:
    assert list(etcd(context())) == []


def test_the_doctor_asks_each_endpoint_and_names_the_one_that_is_down(cluster: Cluster) -> None:
    given = looking(cluster, "/doctor/")
    well = found(given, Code.ETCD)
    assert [(one.grade, one.subject) for one in well] == [(Grade.WELL, url) for url in cluster.endpoints]
    assert all("answers, etcd 3." in one.what for one in well)
    assert {one.grade for one in found(given, Code.ETCD_CLOCK)} == {Grade.WELL}
    dead = "http://127.0.0.1:1"
    one_is_dead = found(looking(cluster, "/doctor/", (*cluster.endpoints[:2], dead)), Code.ETCD)
    assert [one.grade for one in one_is_dead] == [Grade.WELL, Grade.WELL, Grade.WARNING]
    assert "refuses the connection" in one_is_dead[2].what
    assert one_is_dead[2].hint
    all_are_dead = found(looking(cluster, "/doctor/", (dead,)), Code.ETCD)
    assert [(one.grade, one.subject) for one in all_are_dead] == [(Grade.PROBLEM, dead)]


def test_the_doctor_says_whose_prefix_it_is(cluster: Cluster) -> None:
    def said(prefix: str, row: str) -> Finding:
        if row:
            cluster.ctl("put", f"{prefix}fleet", row)
        (only,) = found(looking(cluster, prefix), Code.ETCD_PREFIX)
        return only

    assert said("/nobody/", "").grade is Grade.NOTE
    ours = json.dumps({"format": 1, "key": model.fingerprint(KEY)})
    assert said("/ours/", ours).grade is Grade.WELL
    theirs = said("/theirs/", json.dumps({"format": 1, "key": "00" * 8}))
    assert (theirs.grade, theirs.what) == (Grade.PROBLEM, "the prefix /theirs/ belongs to a fleet with another key")
    assert "format 2" in said("/newer/", json.dumps({"format": 2, "key": "x"})).what
    assert "another program" in said("/garbage/", "hello").what


def test_the_doctor_reads_certificates_and_says_when_they_end(tmp_path: Path) -> None:
    with Cluster(tmp_path / "tls", 1, tls=True) as cluster:
        own, one = found(looking(cluster, "/tls/"), Code.ETCD_CERTIFICATE)
        assert cluster.client
        assert (own.grade, own.subject) == (Grade.WARNING, str(cluster.client.certificate))
        assert "ends in 9 days" in own.what
        assert (one.grade, one.subject) == (Grade.WARNING, cluster.endpoints[0])
        assert "ends in 9 days" in one.what
        untrusting = looking(cluster, "/tls/")
        assert untrusting.model
        assert untrusting.model.etcd
        strict = replace(untrusting.model, etcd=replace(untrusting.model.etcd, ca=None))
        (refused,) = found(replace(untrusting, model=strict), Code.ETCD)
        assert refused.grade is Grade.PROBLEM
        assert "is not trusted" in refused.what


def test_an_end_far_away_and_clocks_that_differ() -> None:
    assert next(iter(_certificate("x", "Nov 30 00:00:00 2099 GMT"))).grade is Grade.WELL
    noon = "Mon, 30 Nov 2026 12:00:00 GMT"
    at = 1796040000.0
    assert next(iter(_clock("x", noon, at, at + 0.1))).grade is Grade.WELL
    behind = next(iter(_clock("x", noon, at + 95, at + 95.1)))
    assert (behind.grade, behind.what) == (Grade.WARNING, "the clocks of x and of this machine are 94 s apart")
    assert list(_clock("x", "yesterday", at, at)) == []
