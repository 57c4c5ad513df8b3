"""Every key of floatip.toml: how its value is read, and an example where it must be there. Defaults are the model's."""

from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Any, get_args

from floatip.core.bgp.rank import Rank
from floatip.core.settings import MOST_INSTANCES, MOST_NODES
from floatip.model import NotifyEvent
from floatip.providers import PROVIDERS
from floatip.reading.toml import values as v
from floatip.reading.toml.values import Parse


@dataclass(frozen=True, slots=True)
class Items:
    """A list; of tables: [[name]]."""

    kind: "Parse | Table | Short"
    least: int = 0
    most: int = 1 << 20
    why_most: str = ""


@dataclass(frozen=True, slots=True)
class Key:
    kind: "Kind"
    example: Any = None
    """The key must be there."""
    absent: Any = None
    """Stands in the model for a key that must be there, and is missing or refused; the rules pass it over."""
    field: str = ""
    """Of the model, where that has another name."""


@dataclass(frozen=True, slots=True)
class Table:
    keys: dict[str, Key]
    exactly_one: tuple[str, ...] = ()
    at_most_one: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Short:
    """A value alone, or a table that says more; there the value is the first key, and must be there."""

    value: Parse
    table: Table


Kind = Parse | Items | Table | Short

NAME = Key(v.string)
PERIOD = Key(v.number(0.01, 10**6, "write seconds; 0.5 is half a second"))
DELAY = Key(v.number(0, 3600, "write seconds; 0 is no delay"))
TIMES = Key(v.whole(1, 10**6, "write how many results in a row count; 1 acts on the first"))
COMMUNITIES = Key(Items(v.community, most=32, why_most="an UPDATE must have room for prefixes"))
LARGEST_ASN = 2**32 - 1
VRID = v.whole(1, 255, "choose another number, the same on all nodes of the instance")
NOBODY = IPv4Address(0)

NODE = Table(
    {
        "name": Key(v.node_name, example="haproxy1", absent=""),
        "address": Key(v.link_address, example="192.0.2.1", absent=NOBODY),
        "weight": Key(v.number(0, 1000, "1 is usual; a node with 2 carries twice as much, with 0 nothing")),
    }
)
LINK = Table(
    {
        "interval": Key(v.number(0.02, 10, "write seconds; 0.1 is usual")),
        "port": Key(v.whole(1, 65535, "choose a UDP port that no other program uses, the same on all nodes")),
        "key": Key(v.secret_path),
    }
)
ETCD = Table(
    {
        "endpoints": Key(
            Items(v.etcd_endpoint, least=1, most=16, why_most="etcd has 3 or 5 members, rarely 7"),
            example=["https://192.0.2.1:2379"],
            absent=(),
        ),
        "prefix": Key(v.etcd_prefix),
        "ca": Key(v.path),
        "certificate": Key(v.path),
        "key": Key(v.secret_path),
        "user": NAME,
        "password": Key(v.secret_path),
        "lease_time": Key(v.whole_seconds(2, 3600, "write whole seconds from 2 on: so etcd and the kernel count them")),
        "keepalive_interval": Key(v.number(0.05, 600, "write seconds; 1 is usual")),
        "request_timeout": Key(v.number(0.05, 600, "write seconds; 1.5 is usual")),
    }
)
MEMBER = Table(
    {
        "name": Key(v.node_name),
        "address": Key(v.link_address),
        "weight": NODE.keys["weight"],
    }
)
SECOND_CHANCE = Table(
    {
        "mode": Key(v.one_of("off", "on", "auto")),
        "port": LINK.keys["port"],
        "limit": Key(v.number(1, 86400, "write seconds; 600 is usual")),
        "answers": Key(v.one_of("tunnel", "auto")),
    }
)
LINODE = Table({"dcid": Key(v.dcid, example=6, absent=0)})
MARKS = Table(
    {
        "communities": COMMUNITIES,
        "origin": Key(v.origin),
        "prepend": Key(v.whole(0, 10, "write how many times more our AS stands in the path")),
    }
)
RANKS = Table({rank.name.lower(): Key(MARKS) for rank in Rank if rank is not Rank.NONE})
BGP = Table(
    {
        "provider": Key(v.one_of(*PROVIDERS)),
        "peers": Key(Items(v.address, least=1)),
        "asn": Key(v.whole(1, LARGEST_ASN, "give this node's AS number: 65001 on Linode")),
        "peer_asn": Key(v.whole(1, LARGEST_ASN, "give the route servers' AS number: 65000 on Linode")),
        "router_id": Key(v.router_id),
        "hold_time": Key(v.whole(3, 65535, "write seconds (RFC 4271 section 4.2)")),
        "retry_interval": Key(v.number(0.1, 3600, "write seconds; half a second is 0.5")),
        "source": Key(v.address),
        "interface": NAME,
        "multihop_ttl": Key(v.whole(1, 255, "the TTL of a packet has 8 bits")),
        "min_ttl": Key(v.whole(1, 255, "write 255 for a peer on the same link, one less for each hop")),
        "md5": Key(v.md5_key),
        "next_hop": Key(v.next_hop),
        "communities": COMMUNITIES,
        "med": Key(v.med),
        "graceful_shutdown": DELAY,
        "ranks": Key(RANKS),
    },
    at_most_one=(("source", "interface"), ("multihop_ttl", "min_ttl")),
)
QUESTION = Table(
    {
        "server": Key(v.host, example="127.0.0.1", absent=""),
        "name": Key(v.domain_name),
        "type": Key(v.record_type),
        "port": Key(v.whole(1, 65535, "53 is usual")),
        "answer": NAME,
    }
)
CHECK_KINDS: dict[str, tuple[Key, dict[str, Key]]] = {
    "script": (Key(v.command), {"user": NAME, "group": NAME}),
    "tcp": (Key(v.endpoint), {}),
    "http": (
        Key(v.url),
        {
            "address": Key(v.host),
            "method": Key(v.method),
            "headers": Key(v.headers),
            "status": Key(v.status),
            "body": Key(v.pattern),
            "header": Key(v.patterns),
            "verify": Key(v.boolean),
            "ca": Key(v.path),
            "certificate_days": Key(v.whole(1, 3650, "write for how many days more the certificate must be valid")),
        },
    ),
    "dns": (Key(QUESTION), {}),
    "icmp": (Key(v.host), {"source": Key(v.address)}),
    "haproxy": (
        Key(v.path),
        {
            "backend": Key(v.backend),
            "servers": Key(v.whole(1, 4096, "write how many servers must be up at least")),
        },
    ),
    "file": (Key(v.path), {"fail_when": Key(v.one_of("present", "absent"))}),
    "process": (
        NAME,
        {
            "quorum": Key(v.whole(1, 65535, "write how many must run at least")),
            "quorum_max": Key(v.whole(0, 65535, "write how many may run at most; 0: none may")),
            "command": Key(Items(v.string, least=1)),
            "param_match": Key(v.one_of("exact", "initial", "partial")),
        },
    ),
    "value": (
        Key(v.path),
        {"init": Key(v.whole(-(2**31), 2**31 - 1, "0 passes")), "overwrite": Key(v.boolean)},
    ),
    "interface": (Key(v.interface), {}),
    "systemd": (Key(v.unit), {}),
    "bgp": (Key(v.whole(1, 64, "write how many BGP sessions must be up at least")), {}),
    "of": (
        Key(Items(v.string, least=1)),
        {"quorum": Key(v.whole(1, 65535, "write how many of the checks must be up at least"))},
    ),
}
"""What a check looks at, by its key, and the keys that belong to it."""
CHECK_POLICY = {
    "interval": PERIOD,
    "timeout": PERIOD,
    "fast_interval": PERIOD,
    "rise": TIMES,
    "fall": TIMES,
    "master_rise": TIMES,
    "master_fall": TIMES,
    "inverted": Key(v.boolean),
    "initial": Key(v.one_of("unknown", "up", "down")),
    "rise_delay": DELAY,
    "fall_delay": DELAY,
}
CHECK = Table(
    {"name": Key(v.string, example="haproxy", absent="")}
    | {kind: key for kind, (key, _) in CHECK_KINDS.items()}
    | {name: key for _, keys in CHECK_KINDS.values() for name, key in keys.items()}
    | CHECK_POLICY,
    exactly_one=tuple(CHECK_KINDS),
)
ELECTION = {
    "interface": Key(v.string, example="eth0", absent=""),
    "vrid": Key(VRID, example=51, absent=0),
    "priority": Key(v.whole(1, 255, "the higher priority becomes master; 100 is usual")),
    "version": Key(v.one_of(2, 3)),
    "advert_interval": Key(v.advert_interval),
}
REPEAT = v.whole(0, 10**6, "write how many packets; 5 is usual")
GARP_DELAY = v.number(0, 4294, "write seconds; 0 sends no second set")
PAUSE = Key(v.number(0, 4294, "write seconds between two packets; 0 is no pause"))
GARP = Table(
    {
        "master_repeat": Key(REPEAT, field="repeat"),
        "master_delay": Key(GARP_DELAY, field="delay"),
        "lower_prio_repeat": Key(REPEAT, field="lower_repeat"),
        "lower_prio_delay": Key(GARP_DELAY, field="lower_delay"),
        "master_refresh": Key(v.number(0, 4294, "write seconds; 0 is no refresh"), field="refresh"),
        "master_refresh_repeat": Key(REPEAT, field="refresh_repeat"),
        "interval": PAUSE,
        "gna_interval": PAUSE,
    }
)
HMAC_KEY = Table(
    {
        "id": Key(v.whole(0, 255, "number the keys, on all nodes alike"), example=1, absent=-1),
        "key": Key(v.hmac_key),
        "file": Key(v.path),
    },
    exactly_one=("key", "file"),
)
HMAC = Table(
    {
        "keys": Key(
            Items(HMAC_KEY, least=1, most=16, why_most="two are enough: the one that signs, and the next one"),
            example=[{"id": 1, "file": "/etc/floatip/vrrp.key"}],
            absent=(),
        ),
        "active_key": Key(v.whole(0, 255, "write the id of the key that signs"), field="active"),
        "mode": Key(v.one_of("receive-only", "permissive", "enforce")),
        "time_window": Key(v.number(1, 300, "write seconds by which the clocks may differ"), field="window"),
        "anti_replay": Key(v.Words({"time": False, "monotonic": True}), field="monotonic"),
    }
)
VRRP = Table(
    ELECTION
    | {
        "source": Key(v.vrrp_address, example="192.0.2.1", absent=NOBODY),
        "peers": Key(Items(v.vrrp_address)),
        "mcast_group": Key(v.multicast_group, field="group"),
        "state": Key(v.Words({"BACKUP": False, "MASTER": True}), field="begins_as_master"),
        "preempt": Key(v.boolean),
        "preempt_delay": DELAY,
        "auth_pass": Key(v.secret),
        "auth_hmac": Key(HMAC, field="hmac"),
        "min_ttl": Key(v.whole(0, 255, "0 accepts any TTL; 255 only neighbours")),
        "max_ttl": Key(v.whole(0, 255, "255 accepts any TTL")),
        "unicast_ttl": Key(v.whole(0, 255, "255 is usual: peers may check it"), field="ttl"),
        "check_unicast_src": Key(v.boolean, field="checks_source"),
        "down_timer_adverts": Key(v.whole(1, 100, "write how many adverts are missed before a master is gone")),
        "startup_delay": Key(v.number(0, 1000, "write seconds; 0 is no delay")),
        "track_primary": Key(v.boolean, field="tracks_interface"),
        "higher_prio_send_advert": Key(v.boolean, field="sends_before_yielding"),
        "lower_prio_no_advert": Key(v.opposite, field="answers_lower"),
        "owner_ignore_adverts": Key(v.boolean, field="owner_ignores_adverts"),
        "v3_checksum_as_v2": Key(v.boolean, field="checksum_as_v2"),
        "garp": Key(GARP, field="garps"),
    },
    at_most_one=(("peers", "mcast_group"),),
)
FOLLOWED = Table(
    ELECTION
    | {
        "source": Key(v.node_address, example="192.0.2.1", absent=NOBODY),
        "instance": NAME,
        "peers": Key(Items(v.node_address)),
        "sync_group": NAME,
    }
)
USER = {"user": NAME, "group": NAME}
COMMAND = Table({"command": Key(v.command, example="/etc/floatip/notify.sh", absent=())} | USER | {"timeout": PERIOD})
TOLD = Table(
    {event: Key(Short(v.command, COMMAND)) for event in get_args(NotifyEvent)}
    | USER
    | {"timeout": PERIOD, "priority_changes": Key(v.boolean)}
)
"""What an instance or a group tells whom. `user`, `group` and `timeout` are for the commands without their own."""
TRACK = Table(
    {
        "check": Key(v.string, example="haproxy", absent=""),
        "weight": Key(
            v.whole(
                1 - 2**31,
                2**31 - 1,
                "write what is added while it is up, or taken off while it is down: 20, -20",
            )
        ),
        "reverse": Key(v.boolean),
    }
)
ADDRESS = Table(
    {
        "address": Key(v.interface_address, example="192.0.2.10/32"),
        "interface": NAME,
        "label": NAME,
        "scope": Key(v.scope),
        "advertised": Key(v.boolean, field="is_advertised"),
        "tracked": Key(v.boolean, field="is_tracked"),
        "preferred_lft": Key(v.lifetime),
    }
)


def _virtuals(kind: str, example: str) -> Key:
    return Key(Items(Short(v.words, Table({kind: Key(v.words, example=example), "tracked": Key(v.boolean)}))))


ELECTIONS = "vrrp", "keepalived", "static"
"""An instance without any of them is elected by the nodes."""
INSTANCE = Table(
    {
        "name": Key(v.string, example="VI_1", absent=""),
        "addresses": Key(Items(Short(v.interface_address, ADDRESS)), example=["192.0.2.10/32"], absent=()),
        "checks": Key(Items(v.string)),
        "tracks": Key(Items(TRACK)),
        "routes": _virtuals("route", "192.0.2.0/24 via 198.51.100.1 dev eth0"),
        "rules": _virtuals("rule", "from 192.0.2.10 table 100"),
        "announce": Key(v.boolean, field="is_announced"),
        "vrrp": Key(VRRP),
        "keepalived": Key(FOLLOWED),
        "static": Key(v.one_of("primary", "secondary")),
        "placement": Key(v.one_of("all", "master")),
        "interface": NAME,
        "last_resort": Key(v.boolean),
        "prefer": Key(Items(v.string)),
        "together": NAME,
        "apart": NAME,
        "preempt": Key(v.boolean),
        "preempt_delay": DELAY,
        "exclusive": Key(v.boolean),
        "on_arbiter_loss": Key(v.one_of("hold", "release")),
        "notify": Key(TOLD),
    },
    at_most_one=(ELECTIONS,),
)
NODES = ("prefer", "together", "apart", "preempt", "preempt_delay", "exclusive", "on_arbiter_loss")
"""Keys of an instance for the election of the nodes."""
SYNC_GROUP = Table(
    {
        "name": Key(v.string, example="G1", absent=""),
        "members": Key(Items(v.string, least=1), example=["VI_1", "VI_2"], absent=()),
        "checks": Key(Items(v.string)),
        "tracks": Key(Items(TRACK)),
        "members_have_weights": Key(v.boolean),
        "notify": Key(replace(TOLD, keys={name: key for name, key in TOLD.keys.items() if name != "priority_changes"})),
    }
)
FIFO = Table(
    {
        "path": Key(v.path, example="/run/floatip/notify"),
        "user": NAME,
        "group": NAME,
        "script": Key(v.command),
        "script_user": NAME,
        "script_group": NAME,
        "on_reload": Key(v.boolean),
    }
)
KEEPALIVED = Table(
    {
        "fifo": Key(v.path),
        "pid_file": Key(v.path),
        "vrrp_pid_file": Key(v.path),
        "script_user": NAME,
        "other_vrids": Key(Items(VRID)),
    }
)
NOTIFY = Table({"command": Key(v.command), "drained": Key(v.command), "timeout": PERIOD})
HTTP = Table(
    {
        "listen": Key(Items(v.listener, least=1, most=16, why_most="one address of each family is usual")),
        "token": Key(v.secret_path),
        "tls_certificate": Key(v.path),
        "tls_key": Key(v.secret_path),
        "client_ca": Key(v.path),
        "hosts": Key(Items(v.host_name, most=64, why_most="name only what stands in the address line of a browser")),
    }
)
SHARE_OUT = "make groups of nodes, each with its own instances and a file of its own"
TOP = Table(
    {
        "linode": Key(LINODE),
        "bgp": Key(BGP),
        "node": Key(Items(NODE, least=1, most=MOST_NODES, why_most=SHARE_OUT)),
        "link": Key(LINK),
        "etcd": Key(ETCD),
        "member": Key(MEMBER),
        "second_chance": Key(SECOND_CHANCE),
        "check": Key(Items(CHECK)),
        "instance": Key(Items(INSTANCE, least=1, most=MOST_INSTANCES, why_most=SHARE_OUT)),
        "sync_group": Key(Items(SYNC_GROUP)),
        "fifo": Key(Items(FIFO)),
        "keepalived": Key(KEEPALIVED),
        "notify": Key(NOTIFY),
        "log": Key(v.one_of("text", "json")),
        "http": Key(HTTP),
        "state_log": Key(v.path),
        "release_delay": DELAY,
    }
)
KEEPALIVEDS = {
    "virtual_router_id": ("vrid", ""),
    "unicast_src_ip": ("source", ""),
    "mcast_src_ip": ("source", ""),
    "unicast_peer": ("peers", ""),
    "advert_int": ("advert_interval", ""),
    "vrrp_version": ("version", ""),
    "virtual_ipaddress": ("addresses", ""),
    "virtual_ipaddress_excluded": ("addresses", ' = [{ address = "...", advertised = false }]'),
    "virtual_routes": ("routes", ""),
    "virtual_rules": ("rules", ""),
    "track_script": ("checks", ""),
    "track_process": ("checks", ""),
    "track_file": ("tracks", ""),
    "track_interface": ("checks", ""),
    "nopreempt": ("preempt", " = false"),
    "dont_track_primary": ("track_primary", " = false"),
    "authentication": ("auth_pass", ' = "..."'),
    "vrrp_mcast_group4": ("mcast_group", ""),
    "vrrp_mcast_group6": ("mcast_group", ""),
    "vrrp_startup_delay": ("startup_delay", ""),
    "vrrp_notify_fifo": ("fifo", ""),
    "notify_fifo": ("fifo", ""),
    "vrrp_sync_group": ("sync_group", ""),
    "sync_group_tracking_weight": ("members_have_weights", ""),
    "weight": ("", 'write it where the check is tracked: tracks = [{ check = "haproxy", weight = -20 }]'),
    "no_track": ("tracked", " = false"),
    "dev": ("interface", ""),
}
KEEPALIVEDS |= {f"notify_{event}": ("notify", f" = {{ {event} = ... }}") for event in TOLD.keys if event != "any"}
KEEPALIVEDS |= {f"garp_{key}": ("garp", f" = {{ {key} = ... }}") for key in GARP.keys if "interval" not in key}
"""Keepalived's words; ours for the same, and a remark."""
WHERE = dict.fromkeys(TOP.keys, "the top level of the file") | dict.fromkeys(SYNC_GROUP.keys, "[[sync_group]]")
WHERE |= dict.fromkeys(ADDRESS.keys, "a table of addresses") | dict.fromkeys(INSTANCE.keys, "[[instance]]")
WHERE |= dict.fromkeys(VRRP.keys, "vrrp of an instance")
