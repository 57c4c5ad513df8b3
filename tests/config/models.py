"""Models of all kinds, for tests: each field of each type is drawn, within what a configuration may say."""

from dataclasses import fields
from ipaddress import ip_interface
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from floatip import model as m
from floatip.core import settings as core
from floatip.core.addresses import InterfaceAddress
from floatip.core.bgp.attributes import Origin
from floatip.core.bgp.rank import Rank
from floatip.providers import GENERIC, PROVIDERS, linode

T = TypeVar("T")


def of(kind: type[T], /, **drawn: SearchStrategy[Any]) -> SearchStrategy[T]:
    """Every field is named, or this fails: what is added to the model is drawn here too."""
    assert drawn.keys() == {one.name for one in fields(kind)}, kind  # type: ignore[arg-type]
    return st.builds(kind, **drawn)


def maybe(default: object, drawn: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return st.one_of(st.just(default), drawn)


def seconds(least: float, most: float) -> SearchStrategy[float]:
    return st.one_of(st.integers(int(least) + 1, int(most)).map(float), st.floats(least, most))


def some(drawn: SearchStrategy[T], least: int = 0) -> SearchStrategy[tuple[T, ...]]:
    return st.lists(drawn, min_size=least, max_size=3).map(tuple)


NAMES = st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" "), min_size=1, max_size=12)
PATHS = NAMES.map(lambda name: Path("/") / name.strip("/").replace("/", "-").replace("..", "-"))
ARGUMENTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
COMMANDS = st.tuples(PATHS.map(str), some(ARGUMENTS)).map(lambda parts: (parts[0], *parts[1]))
RUN_AS = maybe(m.DAEMON, of(m.RunAs, user=maybe("", NAMES), group=maybe("", NAMES)))
BOOLEANS = st.booleans()
IPV4 = st.ip_addresses(v=4, network="198.18.0.0/15")
IPV6 = st.ip_addresses(v=6, network="2001:db8::/32")
ADDRESSES = st.one_of(IPV4, IPV6)


@st.composite
def _interface_addresses(draw: st.DrawFn) -> InterfaceAddress:
    address = draw(ADDRESSES)
    return ip_interface((address, draw(st.integers(1, address.max_prefixlen))))


INTERFACE_ADDRESSES = _interface_addresses()
DELAYS = maybe(0.0, seconds(0, 3600))
PERIODS = seconds(0.01, 10**6)
OCTETS = st.integers(0, 255)


# Checks


HOSTS = ADDRESSES.map(str)
VALUES = st.sampled_from(["x", 'text/plain; q="1"', "a\\b"])
HEADERS = st.dictionaries(st.sampled_from(["X-A", "Accept", "!odd"]), VALUES, max_size=2).map(
    lambda one: tuple(one.items())
)
STATUS = st.tuples(st.integers(100, 599), st.integers(0, 99)).map(lambda one: (one[0], min(one[0] + one[1], 599)))
KINDS = (
    of(m.Script, argv=COMMANDS, run_as=RUN_AS),
    of(m.Tcp, host=HOSTS, port=st.integers(1, 65535)),
    of(m.File, path=PATHS, fail_when=st.sampled_from(["present", "absent"])),
    of(m.Value, path=PATHS, initial=maybe(None, st.integers(-(2**31), 2**31 - 1)), overwrite=BOOLEANS).filter(
        lambda one: one.initial is not None or not one.overwrite
    ),
    of(
        m.Process,
        process=NAMES,
        quorum=maybe(1, st.integers(1, 65535)),
        quorum_max=maybe(None, st.integers(0, 65535)),
        command=maybe((), some(NAMES, 1)),
        param_match=st.sampled_from(["exact", "initial", "partial"]),
    ).filter(lambda one: one.command or one.param_match == "exact"),
    of(
        m.Http,
        url=st.sampled_from(["http://127.0.0.1/", "https://example.org:8443/health?x=1"]),
        address=maybe("", HOSTS),
        method=st.sampled_from(["GET", "HEAD"]),
        headers=HEADERS,
        status=st.lists(STATUS, min_size=1, max_size=3).map(tuple),
        body=maybe("", st.sampled_from(["ok", "a|b", '"\\d+"'])),
        header=HEADERS.map(lambda one: tuple((name, "^x$") for name, _ in one)),
        verify=BOOLEANS,
        ca=maybe(None, PATHS),
        certificate_days=maybe(0, st.integers(1, 3650)),
    ),
    of(
        m.Dns,
        server=HOSTS,
        name=st.sampled_from([".", "example.org"]),
        type=st.sampled_from(["SOA", "A", "AAAA"]),
        port=maybe(53, st.integers(1, 65535)),
        answer=maybe("", st.sampled_from(["192.0.2.1", "example.net"])),
    ),
    of(m.Icmp, host=HOSTS, source=maybe("", HOSTS)),
    of(m.Interface, name=st.sampled_from(["eth0", "bond0.7"])),
    of(m.Haproxy, socket=PATHS, backend=st.sampled_from(["web", "be_1"]), servers=maybe(1, st.integers(1, 4096))),
    of(m.Bgp, sessions=st.integers(1, 64)),
    of(m.Systemd, unit=st.sampled_from(["nginx.service", "a@b.socket"])),
    of(m.Quorum, of=some(NAMES, 1), quorum=st.integers(1, 65535)),
)
UNTIMED = (*m.WATCHED, m.Quorum, m.Bgp)


@st.composite
def _checks(draw: st.DrawFn, name: str) -> m.Check:
    kind: Any = draw(st.one_of(*KINDS))
    times, repeats = maybe(0.0, PERIODS), st.integers(1, 1000)
    policy = {
        "inverted": BOOLEANS,
        "initial": st.sampled_from(["unknown", "up", "down"]),
        "rise_delay": DELAYS,
        "fall_delay": DELAYS,
    }
    if not isinstance(kind, UNTIMED):
        policy |= {"interval": PERIODS, "timeout": PERIODS, "fast_interval": times, "rise": repeats, "fall": repeats}
        policy |= {"master_rise": maybe(0, repeats), "master_fall": maybe(0, repeats)}
    return m.check(name, kind, **draw(st.fixed_dictionaries(policy)))


# Elections

TRACKS = of(core.Track, check=NAMES, weight=maybe(0, st.integers(-(2**31) + 1, 2**31 - 1)), reverse=BOOLEANS)
REPEATS = maybe(5, st.integers(0, 10**6))
GARPS = of(
    core.Garps,
    repeat=REPEATS,
    delay=maybe(5.0, seconds(0, 3600)),
    lower_repeat=REPEATS,
    lower_delay=maybe(5.0, seconds(0, 3600)),
    refresh=maybe(0.0, seconds(0, 4294)),
    refresh_repeat=maybe(1, REPEATS),
    interval=maybe(0.0, seconds(0, 4294)),
    gna_interval=maybe(0.0, seconds(0, 4294)),
)
HMAC = of(
    core.Hmac,
    keys=some(st.tuples(OCTETS, st.binary(min_size=32, max_size=64)), 1),
    active=OCTETS,
    mode=st.sampled_from(["receive-only", "permissive", "enforce"]),
    window=maybe(0.0, seconds(1, 300)),
    monotonic=BOOLEANS,
)
INTERVALS = maybe(1.0, st.floats(0.01, 255))


def _vrrp(source: SearchStrategy[Any], groups: str) -> SearchStrategy[core.Vrrp]:
    version: Literal[4, 6] = 4 if source is IPV4 else 6
    return of(
        core.Vrrp,
        interface=NAMES,
        vrid=st.integers(1, 255),
        priority=maybe(m.PRIORITY, st.integers(1, 255)),
        source=source,
        peers=some(source),
        version=st.sampled_from([2, 3]),
        advert_interval=INTERVALS,
        preempt=BOOLEANS,
        preempt_delay=DELAYS,
        auth_pass=maybe("", NAMES),
        min_ttl=maybe(0, OCTETS),
        max_ttl=maybe(255, OCTETS),
        ttl=maybe(255, OCTETS),
        group=maybe(None, st.ip_addresses(v=version, network=groups)),
        begins_as_master=BOOLEANS,
        down_timer_adverts=maybe(3, st.integers(1, 100)),
        startup_delay=maybe(0.0, seconds(0, 1000)),
        tracks_interface=BOOLEANS,
        sends_before_yielding=BOOLEANS,
        answers_lower=BOOLEANS,
        owner_ignores_adverts=BOOLEANS,
        checksum_as_v2=BOOLEANS,
        checks_source=BOOLEANS,
        hmac=maybe(None, HMAC),
        garps=maybe(core.Garps(), GARPS),
    ).filter(lambda one: not (one.peers and one.group))


VRRP = st.one_of(_vrrp(IPV4, "224.0.0.0/4"), _vrrp(IPV6, "ff02::/16"))
FOLLOWED = of(
    core.Keepalived,
    instance=NAMES,
    interface=NAMES,
    vrid=st.integers(1, 255),
    priority=maybe(m.PRIORITY, st.integers(1, 255)),
    source=IPV4,
    peers=some(IPV4),
    sync_group=maybe("", NAMES),
    version=st.sampled_from([2, 3]),
    advert_interval=INTERVALS,
)
NODES = of(
    core.Nodes,
    prefer=some(NAMES),
    together=maybe("", NAMES),
    apart=maybe("", NAMES),
    preempt=BOOLEANS,
    preempt_delay=DELAYS,
    exclusive=BOOLEANS,
    on_arbiter_loss=st.sampled_from(["hold", "release"]),
)
STATIC = of(core.Static, role=st.sampled_from(["primary", "secondary"]))


# Instances, groups, and who is told

WORDS = some(st.text(st.sampled_from("abcdef0123456789.:/"), min_size=1, max_size=12), 1)
VIRTUALS = of(core.Virtual, kind=st.sampled_from(["route", "rule"]), words=WORDS, is_tracked=BOOLEANS)


@st.composite
def _options(draw: st.DrawFn, address: InterfaceAddress) -> core.AddressOptions:
    return draw(
        of(
            core.AddressOptions,
            address=st.just(address),
            interface=maybe("", NAMES),
            label=maybe("", NAMES),
            scope=maybe(None, OCTETS),
            is_advertised=BOOLEANS,
            is_tracked=BOOLEANS,
            preferred_lft=maybe(None, st.one_of(st.integers(0, 2**32 - 2), st.just(2**32 - 1))),
        )
    )


@st.composite
def _instances(draw: st.DrawFn, name: str, *, has_bgp: bool, has_nodes: bool) -> core.Instance:
    election = draw(st.one_of(VRRP, FOLLOWED, STATIC, *([NODES] if has_nodes else [])))
    addresses = draw(st.lists(INTERFACE_ADDRESSES, max_size=3, unique=True))
    options = [draw(_options(one)) for one in addresses if draw(BOOLEANS)]
    virtuals = draw(some(VIRTUALS))
    one = m.instance(
        name,
        tuple(addresses),
        election,
        has_bgp=has_bgp,
        placement=draw(st.sampled_from([None, "all", "master"])),
        interface=draw(maybe(None, NAMES)),
        checks=draw(some(NAMES)),
        last_resort=draw(BOOLEANS),
        tracks=draw(some(TRACKS)),
        options=tuple(one for one in options if one != core.AddressOptions(one.address)),
        virtuals=tuple(sorted(virtuals, key=lambda one: one.kind)),
        is_announced=draw(BOOLEANS),
    )
    assert len(fields(one)) == 11, "a field of an instance is not drawn"
    return one


def _told(kind: str, name: str) -> SearchStrategy[list[m.Told]]:
    def one(event: str) -> SearchStrategy[Any]:
        return of(
            m.Told,
            kind=st.just(kind),
            name=st.just(name),
            event=st.just(event),
            command=COMMANDS,
            run_as=RUN_AS,
            timeout=maybe(0.0, PERIODS),
        )

    events = get_args(m.NotifyEvent)
    return st.lists(st.sampled_from(events), max_size=3, unique=True).flatmap(
        lambda given: st.tuples(*(one(event) for event in events if event in given)).map(list)
    )


FIFOS = of(m.Fifo, path=PATHS, owner=RUN_AS, script=maybe((), COMMANDS), run_as=RUN_AS, on_reload=BOOLEANS)


# The rest

COMMUNITIES = some(
    st.one_of(
        st.tuples(*[st.integers(0, 65535)] * 2),
        st.tuples(*[st.integers(0, 2**32 - 1)] * 3),
    )
)
RANKS: st.SearchStrategy[dict[Rank, m.RankMarks]] = st.dictionaries(
    st.sampled_from([rank for rank in Rank if rank is not Rank.NONE]),
    of(
        m.RankMarks,
        communities=maybe(None, COMMUNITIES),
        origin=maybe(None, st.sampled_from(Origin)),
        prepend=maybe(None, st.integers(0, 10)),
    ),
)
NEXT_HOPS: st.SearchStrategy[m.NextHop] = st.one_of(
    st.sampled_from(["session", "ipv4", "ipv6"]), st.tuples(IPV4), st.tuples(IPV6), st.tuples(IPV4, IPV6)
)
NUMBERS = st.integers(1, 2**32 - 1)


@st.composite
def _networks(draw: st.DrawFn) -> m.Network:
    provider = draw(st.one_of(st.sampled_from([GENERIC, *PROVIDERS.values()]), st.integers(2, 9999).map(linode)))
    source, interface = draw(st.one_of(st.tuples(st.none(), NAMES), st.tuples(maybe(None, ADDRESSES), st.just(""))))
    min_ttl = draw(maybe(0, st.integers(1, 255)))
    return m.network(
        provider,
        router_id=draw(maybe(None, IPV4)),
        next_hop=draw(NEXT_HOPS),
        communities=draw(COMMUNITIES),
        ranks=draw(RANKS),
        peers=draw(maybe(None, some(ADDRESSES, 1))),
        asn=draw(maybe(None, NUMBERS)),
        peer_asn=draw(maybe(None, NUMBERS)),
        hold_time=draw(maybe(None, st.integers(3, 65535))),
        multihop_ttl=None if min_ttl else draw(maybe(None, st.integers(1, 255))),
        retry_interval=draw(maybe(1.0, seconds(0.1, 3600))),
        source=source,
        interface=interface,
        min_ttl=min_ttl,
        md5=draw(maybe("", NAMES)),
        med=draw(st.one_of(st.sampled_from(["election", None]), st.integers(0, 2**32 - 1))),
        graceful_shutdown=draw(DELAYS),
    )


LINKS = of(
    m.Link,
    interval=maybe(0.1, st.floats(0.02, 10)),
    port=maybe(core.LINK_PORT, st.integers(1, 65535)),
    key=maybe(None, PATHS),
)
SECONDS = st.integers(2, 3600).map(float)
ETCD = of(
    m.Etcd,
    endpoints=some(st.sampled_from(["https://192.0.2.1:2379", "http://[::1]:2379", "https://etcd1:1234"]), 1),
    prefix=maybe("/floatip/", NAMES.map(lambda name: f"{name}/")),
    ca=maybe(None, PATHS),
    certificate=maybe(None, PATHS),
    key=maybe(None, PATHS),
    user=maybe("", NAMES),
    password=maybe(None, PATHS),
    lease_time=maybe(10.0, SECONDS),
    keepalive_interval=maybe(1.0, seconds(0.05, 600)),
    request_timeout=maybe(1.5, seconds(0.05, 600)),
)
MEMBERS = of(m.Member, name=maybe("", NAMES), address=maybe(None, ADDRESSES), weight=maybe(1.0, seconds(0, 1000)))
SECOND_CHANCES = of(
    m.SecondChance,
    mode=st.sampled_from(["off", "on", "auto"]),
    port=maybe(core.SECOND_CHANCE_PORT, st.integers(1, 65535)),
    limit=maybe(600.0, seconds(1, 86400)),
    answers=st.sampled_from(["tunnel", "auto"]),
)
LOCAL_KEEPALIVEDS = of(
    m.LocalKeepalived,
    fifo=PATHS,
    pid_file=PATHS,
    vrrp_pid_file=PATHS,
    script_user=maybe("", NAMES),
    other_vrids=some(st.integers(1, 255)),
)
LISTENERS = of(
    m.Listener,
    listen=some(st.tuples(ADDRESSES.map(str), st.integers(1, 65535)), 1),
    token=maybe(None, PATHS),
    tls_certificate=maybe(None, PATHS),
    tls_key=maybe(None, PATHS),
    client_ca=maybe(None, PATHS),
    hosts=some(st.sampled_from(["a", "status.example.org"])),
)


def _named(most: int) -> SearchStrategy[list[str]]:
    return st.lists(NAMES, min_size=1, max_size=most, unique=True)


@st.composite
def models(draw: st.DrawFn) -> m.Model:
    network = draw(maybe(None, _networks()))
    node = of(core.Node, name=NAMES, address=ADDRESSES, weight=maybe(1.0, seconds(0, 1000)))
    nodes = draw(st.lists(node, max_size=3))
    etcd = draw(maybe(None, ETCD))
    member = draw(MEMBERS) if etcd and not nodes else None
    names, group_names = draw(_named(3)), draw(_named(2))
    instances = [draw(_instances(name, has_bgp=network is not None, has_nodes=bool(nodes or etcd))) for name in names]
    group = [
        of(
            core.SyncGroup,
            name=st.just(name),
            members=some(NAMES, 1),
            checks=some(NAMES),
            tracks=some(TRACKS),
            members_have_weights=BOOLEANS,
        )
        for name in group_names
    ]
    told = [one for name in names for one in draw(_told("INSTANCE", name))]
    told += [one for name in group_names for one in draw(_told("GROUP", name))]
    return draw(
        of(
            m.Model,
            checks=st.just(tuple(draw(_checks(name)) for name in draw(_named(3)))),
            instances=st.just(tuple(instances)),
            sync_groups=st.tuples(*group),
            network=st.just(network),
            nodes=st.just(tuple(nodes)),
            link=maybe(m.Link(), LINKS),
            etcd=st.just(etcd),
            member=st.just(member),
            second_chance=maybe(None, SECOND_CHANCES),
            keepalived=maybe(m.LocalKeepalived(), LOCAL_KEEPALIVEDS),
            notify=maybe(None, of(m.Notify, command=COMMANDS, drained=maybe((), COMMANDS), timeout=PERIODS)),
            told=st.just(tuple(told)),
            fifos=some(FIFOS),
            tells_priorities=st.frozensets(st.sampled_from(names)),
            log=st.sampled_from(["text", "json"]),
            http=maybe(None, LISTENERS),
            state_log=maybe(None, PATHS),
            release_delay=maybe(1.0, seconds(0, 3600)),
        )
    )
