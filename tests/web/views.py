"""Views of a status as other nodes, checks and histories would give them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from floatip.core.state import (
    AddressView,
    CarriedView,
    ChangeView,
    CheckBrief,
    CheckView,
    EndpointView,
    EtcdView,
    InstanceView,
    NetworkView,
    NodeView,
    OwnerView,
    ProblemBrief,
    ProblemView,
    RowView,
    SecondChanceView,
    SessionView,
    Standing,
    Status,
    StreamView,
    ThroughView,
)

NOW = datetime(2026, 11, 12, 15, 30, tzinfo=UTC)
EVIL = """<script>alert(1)</script>"'&\x1b[2K\x00\u202e<img src=x onerror=alert(1)>"""


def instance(name: str, role: str = "master", age: float = 200000.0, master: str | None = None) -> InstanceView:
    rank = {"master": "active", "backup": "standby"}.get(role, "none")
    return InstanceView(
        name=name,
        role=Standing(role, age, "no other node carries it"),
        health=Standing("up", age, "check haproxy: exit status 0"),
        rank=Standing(rank, age, f"healthy {role}"),
        master=master,
        election="nodes",
        priority=None,
        vrid=None,
        dropped={},
        master_down_interval=None,
        addresses=(AddressView("192.0.2.10/32", "lo", True, 4),),
        route_servers=4,
    )


def node(name: str, carries: dict[str, str], *, own: bool = False, state: str = "alive") -> NodeView:
    return NodeView(
        name=name,
        address=f"10.0.0.{name[-1]}",
        own=own,
        state="this node" if own else state,
        version="0.5.0",
        same_configuration=None if own else True,
        healthy=True,
        instances_healthy=len(carries),
        instances=len(carries),
        sessions_up=4,
        sessions=4,
        carries=tuple(CarriedView(name, rank) for name, rank in carries.items()),
        heard=None if own else 0.1,
        hears_us=None if own else 0.1,
        checks=() if own else (CheckBrief("haproxy", "up", "exit status 0"),),
    )


def session(peer: str, state: str = "established") -> SessionView:
    return SessionView(peer, state, 200000.0, "it answers", False, "", "", 9, 2, 4, 0, 1, 0, "")


def change(ago: float, what: str, name: str, before: str, value: str, reason: str) -> ChangeView:
    """`ago`: seconds before NOW."""
    time = (NOW - timedelta(seconds=ago)).isoformat(timespec="milliseconds")
    return ChangeView(time, what, name, before, value, reason)


PAIR = Status(
    stopping="",
    cut_off=False,
    instances=(instance("web"), instance("mail", "backup", 41000.0, "haproxy2")),
    checks=(CheckView("haproxy", "up", 200000.0, "exit status 0", "exit status 0", 9),),
    sessions=tuple(session(f"2001:db8::{number}") for number in range(1, 5)),
    keepalived=None,
    links=(),
    dropped={},
    problems=(),
    pid=1,
    version="0.5.0",
    nodes=(
        node("haproxy1", {"web": "active", "mail": "standby"}, own=True),
        node("haproxy2", {"web": "standby", "mail": "active"}),
    ),
    host="haproxy1",
    time=NOW.isoformat(),
    uptime=200000.0,
    network=NetworkView("linode", 6, "Newark, NJ"),
)
ETCD = EtcdView(
    answers=True,
    for_=273600.0,
    reason="",
    hint="",
    lease_time=5.0,
    lease_left=4.2,
    exclusive_left=4.3,
    revision=4711,
    answered=899,
    unknown=2,
    claims_won=3,
    claims_lost=1,
    claims_unknown=0,
    alive=("haproxy1", "haproxy2"),
    prefix="/floatip/",
    endpoints=tuple(EndpointView(f"https://10.0.0.{number}:2379", True, 3600.0, "") for number in (1, 2, 3)),
)
CHANCE = SecondChanceView(
    mode="on",
    usable=True,
    for_=3600.0,
    why="",
    hint="",
    port=8473,
    limit=600.0,
    nodes=(ThroughView("haproxy2", works=True, for_=3590.0, why="", fault=""),),
    streams=(
        StreamView("haproxy2", forwards=True, connections=312, for_=12.4, left=587.6, forwarded=4711, accepted=4700),
    ),
    ends={"done": 2, "limit": 1},
    cut=5,
    forwarded=4711,
)
OWNED = OwnerView(
    exclusive=True,
    owner="haproxy1",
    own=True,
    alive=True,
    epoch=round((NOW.timestamp() - 7200) * 1000),
    released=False,
    why="haproxy2 is silent",
    asked=False,
    waits_for="",
    free_at=None,
)


def arbitrated() -> Status:
    """A pair that is well, with etcd: `db` is exclusive and here, `web` is on the other node."""
    one, two = PAIR.instances
    other = replace(OWNED, exclusive=False, owner="haproxy2", own=False)
    return replace(
        PAIR,
        monotonic=1000.0,
        etcd=ETCD,
        instances=(replace(one, name="db", etcd=OWNED), replace(two, name="web", etcd=other)),
        nodes=(
            node("haproxy1", {"db": "active", "web": "standby"}, own=True),
            node("haproxy2", {"db": "standby", "web": "active"}),
        ),
    )


def etcd_lost(seconds: float = 2.1) -> Status:
    """All its members are gone, and the link to the other node is too."""
    status, why = arbitrated(), "no endpoint answers: connection refused"
    silent = tuple(replace(each, answers=False, for_=seconds, said="connection refused") for each in ETCD.endpoints)
    left = max(4.5 - seconds, 0.0)
    etcd = replace(ETCD, answers=False, for_=seconds, reason=why, exclusive_left=left, endpoints=silent)
    what = f"etcd has not answered for {seconds:.1f} s ({why}): db leaves this node within {left:.1f} s"
    hint = "ask it: etcdctl --endpoints=https://10.0.0.1:2379 endpoint status --cluster"
    one, two = status.nodes
    gone = replace(two, state="silent", heard=3.0, why="silent", etcd="alive")
    problem = ProblemView("etcd-lost", "problem", "etcd", what, hint, seconds)
    return replace(status, etcd=etcd, problems=(problem,), nodes=(one, gone))


DAY = (
    change(50000, "role", "mail", "backup", "master", "haproxy2 is not healthy: check haproxy"),
    change(41000, "role", "mail", "master", "backup", "handed over to haproxy2: kernel update"),
    change(300, "check", "haproxy", "down", "up", "exit status 0"),
)


def troubled() -> Status:
    """A node is gone, another one has a problem, and a route server is down."""
    problems = (
        ProblemView(
            "node-silent", "problem", "haproxy3", "haproxy3 is silent", "run there: systemctl status floatip", 9
        ),
        ProblemView("drained", "warning", "floatip", "this node is drained: kernel", "floatip undrain", None),
    )
    brief = ProblemBrief("unhealthy", "problem", "web", "web is not healthy: check haproxy", "repair the service")
    one, two = PAIR.nodes
    down = replace(session("2001:db8::5", "idle"), reason="connection refused", hint="is port 179 open?", announced=0)
    return replace(
        PAIR,
        problems=problems,
        sessions=(*PAIR.sessions, down),
        nodes=(
            replace(one, drained=True, reason="kernel", until=5400.0),
            replace(
                two,
                problems=(brief,),
                healthy=False,
                instances_healthy=1,
                checks=(CheckBrief("haproxy", "down", "connection refused"),),
            ),
            replace(node("haproxy3", {"web": "standby"}, state="silent"), why="no hello for 3.2 s", heard=3.2),
        ),
    )


def hostile() -> Status:
    """Each text that others choose is one that would be markup."""
    evil = Standing(EVIL, 1.0, EVIL)
    row = InstanceView(EVIL, evil, evil, evil, EVIL, EVIL, None, None, {EVIL: 1}, None, (), 1)
    owner = replace(OWNED, owner=EVIL, own=False, alive=False, why=EVIL, waits_for=EVIL)
    row = replace(row, addresses=(AddressView(EVIL, EVIL, False, 0),), etcd=owner)
    etcd = replace(
        ETCD,
        answers=False,
        reason=EVIL,
        hint=EVIL,
        prefix=EVIL,
        alive=(EVIL,),
        rows=(RowView(EVIL, EVIL),),
        endpoints=(EndpointView(EVIL, False, 1.0, EVIL), EndpointView(f"https://{EVIL}", None, 1.0, EVIL)),
    )
    one, two = PAIR.nodes
    two = replace(
        two,
        name=EVIL,
        address=EVIL,
        version=EVIL,
        why=EVIL,
        reason=EVIL,
        drained=True,
        carries=(CarriedView(EVIL, EVIL),),
        checks=(CheckBrief(EVIL, EVIL, EVIL),),
        problems=(ProblemBrief(EVIL, EVIL, EVIL, EVIL, EVIL),),
    )
    return Status(
        stopping=EVIL,
        cut_off=False,
        instances=(row,),
        checks=(CheckView(EVIL, EVIL, 1, EVIL, EVIL, 1),),
        sessions=(SessionView(EVIL, EVIL, 1.0, EVIL, False, EVIL, EVIL, 9, 0, 0, 0, 0, 0, EVIL),),
        keepalived=None,
        links=(),
        dropped={},
        problems=(ProblemView(EVIL, EVIL, EVIL, EVIL, EVIL, None),),
        version=EVIL,
        nodes=(replace(one, name=EVIL, carries=(CarriedView(EVIL, "active"),)), two, replace(two, state=EVIL)),
        host=EVIL,
        network=NetworkView(EVIL, 1, EVIL),
        etcd=etcd,
    )


def fleet(instances: int = 255, nodes: int = 3) -> Status:
    """Spread evenly; one instance has a problem."""
    names = [f"site-{number:03}" for number in range(instances)]
    return replace(
        PAIR,
        instances=tuple(
            instance(name, "master" if number % nodes == 0 else "backup", 200000.0) for number, name in enumerate(names)
        ),
        nodes=tuple(
            node(
                f"haproxy{one + 1}",
                {name: "active" if number % nodes == one else "standby" for number, name in enumerate(names)},
                own=one == 0,
            )
            for one in range(nodes)
        ),
        problems=(ProblemView("no-standby", "problem", "site-017", "site-017: no other node", "mend that node", 9),),
    )


EVIL_DAY = tuple(
    replace(change(60 + number, EVIL, EVIL, EVIL, EVIL, EVIL), **odd)
    for number, odd in enumerate(({"what": "role"}, {}, {"time": EVIL}))
)
