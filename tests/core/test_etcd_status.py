"""What the status on a terminal says of etcd: whether it answers, who owns what, and whether that is who serves."""

from dataclasses import replace

import pytest

from floatip import screen
from floatip.core.state import EndpointView, Status
from floatip.nodes import _drawn
from floatip.view import Shown, draw_status
from tests.core.test_view import section
from tests.web.views import ETCD, OWNED, arbitrated, etcd_lost, hostile, instance


def lines(status: Status, width: int = 80) -> list[str]:
    return screen.plain(draw_status(status, Shown(width))).splitlines()


def owner(**changes: object) -> str:
    """The row of `db`, owned by this node but for the changes."""
    status = arbitrated()
    one = replace(status.instances[0], etcd=replace(OWNED, **changes))  # type: ignore[arg-type]
    shown = lines(replace(status, instances=(one,)), 200)
    return next(line for line in shown if line.startswith("  owner")).removeprefix("  owner      ")


def test_where_all_is_well_the_status_names_owners_and_members() -> None:
    shown = lines(arbitrated())
    assert "  owner      this node for 2h 0m, as etcd says; exclusive" in shown
    assert "  owner      haproxy2 for 2h 0m, as etcd says" in shown
    assert section(shown, "etcd") == [
        "  answers 3d 4h  3 of 3 endpoints answer; lease of this node 4.2 s of 5 s; alive",
        "                 there: haproxy1, haproxy2",
    ]


def test_where_etcd_is_gone_the_status_says_since_when_why_and_what_follows() -> None:
    shown = lines(etcd_lost())
    assert shown[2:5] == [
        "! etcd has not answered for 2.1 s (no endpoint answers: connection refused): db",
        "  leaves this node within 2.4 s [etcd-lost]",
        "  hint: ask it: etcdctl --endpoints=https://10.0.0.1:2379 endpoint status",
    ]
    assert "  owner      haproxy2 for 2h 0m, as etcd said 2.1s ago" in shown
    assert section(shown, "etcd") == [
        "                 SILENT 2.1s  no endpoint answers: connection refused",
        "  10.0.0.1:2379  silent 2.1s  connection refused",
        "  10.0.0.2:2379  silent 2.1s  connection refused",
        "  10.0.0.3:2379  silent 2.1s  connection refused",
    ]


def test_one_endpoint_that_is_silent_is_named() -> None:
    one, *rest = ETCD.endpoints
    etcd = replace(ETCD, endpoints=(EndpointView(one.url, False, 12.0, "timed out"), *rest))
    assert section(lines(replace(arbitrated(), etcd=etcd)), "etcd")[1:] == [
        "                                4.2 s of 5 s; alive there: haproxy1, haproxy2",
        "  10.0.0.1:2379  silent 12s     timed out",
    ]


def test_what_an_endpoint_said_does_not_repeat_its_name() -> None:
    one, *rest = ETCD.endpoints
    etcd = replace(ETCD, endpoints=(EndpointView(one.url, False, 12.0, "10.0.0.1:2379 refuses the connection"), *rest))
    status = replace(arbitrated(), etcd=etcd)
    assert section(lines(status), "etcd")[-1] == "  10.0.0.1:2379  silent 12s     refuses the connection"
    assert _drawn({}, status, as_json=False).splitlines()[-1] == "  10.0.0.1:2379 silent 12s: refuses the connection"


def test_the_first_line_names_the_node_and_the_machine_where_that_has_another_name() -> None:
    status = arbitrated()
    assert lines(status)[0].startswith(f"haproxy1  OK  floatip {status.version}, up ")
    assert lines(replace(status, host="vm-17"), 120)[0].startswith(
        f"haproxy1  OK  floatip {status.version} on vm-17, up "
    )


def test_backups_of_an_exclusive_instance_have_no_traffic() -> None:
    status = arbitrated()
    db, web = status.instances
    backup = replace(db, role=replace(db.role, value="backup"), rank=replace(db.rank, value="standby"))
    backup = replace(backup, addresses=tuple(replace(one, announced_to=0) for one in db.addresses))
    one, two = status.nodes
    three = replace(two, name="haproxy3")
    nodes = (replace(one, carries=tuple(replace(each, rank="standby") for each in one.carries)), two, three)
    shown = lines(replace(status, instances=(backup, web), nodes=nodes), 120)
    assert "  traffic    goes to nobody: no node announces it" in shown


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"own": False, "owner": "", "epoch": 0}, "nobody, as etcd says; exclusive"),
        ({"own": False, "owner": "haproxy2"}, "haproxy2 for 2h 0m, as etcd says; exclusive; but this node serves"),
        (
            {"own": False, "owner": "haproxy2", "alive": False, "exclusive": False, "asked": True},
            "haproxy2 for 2h 0m, which is gone, as etcd says; this node has asked for it; but this node serves",
        ),
        ({"released": True}, "nobody: this node has let go, as etcd says; exclusive"),
        (
            {"free_at": 1003.25, "waits_for": "haproxy2"},
            "this node for 2h 0m, as etcd says; exclusive; waits 3.2 s until haproxy2 surely has let go",
        ),
        (
            {"free_at": 1003.25},
            "this node for 2h 0m, as etcd says; exclusive; waits 3.2 s until any other node surely has let go",
        ),
        ({"free_at": 999.0}, "this node for 2h 0m, as etcd says; exclusive"),
        ({"free_at": 1003.25, "exclusive": False}, "this node for 2h 0m, as etcd says"),
        (
            {"epoch": OWNED.epoch + 7_295_000},
            "this node, from a clock 1m 35s ahead of this one, as etcd says; exclusive",
        ),
    ],
)
def test_an_owner_is_named_with_what_is_special(changes: dict[str, object], said: str) -> None:
    assert owner(**changes) == said


def test_an_exclusive_instance_says_when_it_leaves_and_that_it_has_left() -> None:
    assert any("leaves this node within 2.4 s" in line for line in lines(etcd_lost(2.1), 200))
    assert any("has left this node" in line for line in lines(etcd_lost(60.0), 200))


def test_instances_that_are_alike_share_a_block_whatever_the_time_of_their_takeover() -> None:
    many = tuple(
        replace(instance(f"db{number}"), etcd=replace(OWNED, epoch=OWNED.epoch - 1000 * number)) for number in range(9)
    )
    shown = lines(replace(arbitrated(), instances=many))
    assert "9 instances  MASTER for 2d 7h" in shown
    assert "  owner      this node, as etcd says; exclusive" in shown


def test_the_table_of_nodes_ends_with_etcd_and_says_where_it_sees_another_node_than_the_link() -> None:
    shown = _drawn({}, etcd_lost(), as_json=False).splitlines()
    assert "  still has its lease at etcd" in shown
    assert shown[-4:] == [
        "etcd  SILENT 2.1s: no endpoint answers: connection refused",
        "  10.0.0.1:2379 silent 2.1s: connection refused",
        "  10.0.0.2:2379 silent 2.1s: connection refused",
        "  10.0.0.3:2379 silent 2.1s: connection refused",
    ]
    one, two = arbitrated().nodes
    gone = replace(arbitrated(), nodes=(replace(one, etcd="gone"), replace(two, etcd="other")))
    shown = _drawn({}, gone, as_json=False).splitlines()
    assert "  has no lease at etcd" in shown
    assert "  another machine has its name at etcd" in shown


@pytest.mark.parametrize("width", [40, 80, 132])
def test_lines_fit_and_nothing_that_others_wrote_to_etcd_is_a_command_to_the_terminal(width: int) -> None:
    for status in (arbitrated(), etcd_lost(), hostile()):
        for line in lines(status, width):
            assert line.isprintable()
        if status.host != hostile().host:
            assert all(len(line) <= width for line in lines(status, width))
    assert all(line.isprintable() for line in _drawn({}, hostile(), as_json=False).splitlines())
