"""floatip.toml says all that keepalived.conf can: each key reaches the model, and what cannot work is named."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from pathlib import Path

import pytest

from floatip import reading
from floatip.core.settings import AddressOptions, Garps, Hmac, SyncGroup, Track, Virtual, Vrrp
from floatip.model import Fifo, Model, RunAs, Told
from floatip.reading.machine import Machine

HERE = Machine(
    {
        "eth0": (IPv4Interface("198.18.0.1/17"), IPv6Interface("fe80::1/64"), IPv6Interface("2001:db8::1/64")),
        "eth1": (IPv4Interface("198.18.128.1/17"),),
        "lo": (),
    }
)
KEY = "5a" * 32
FULL = """
[[check]]
name = "web"
tcp = "127.0.0.1:80"

[[check]]
name = "db"
tcp = "127.0.0.1:5432"

[[instance]]
name = "front"
addresses = [
    "198.18.0.10/17",
    { address = "198.18.0.11/17", interface = "eth1", label = "eth1:web", scope = "link", advertised = false },
    { address = "2001:db8::10/128", tracked = false, preferred_lft = "forever" },
]
checks = ["web"]
routes = ["203.0.113.0/24 via 198.18.0.254 dev eth0", { route = "203.0.114.0/24 dev eth0", tracked = false }]
rules = ["from 198.18.0.10 table 100"]

[instance.notify]
backup = "/bin/true"
master = { command = ["/bin/echo", "m"], user = "root" }
timeout = 7
priority_changes = true

[instance.vrrp]
interface = "eth0"
vrid = 51
priority = 101
source = "198.18.0.1"
mcast_group = "224.0.0.19"
version = 3
advert_interval = 0.1
state = "MASTER"
preempt_delay = 3
down_timer_adverts = 4
startup_delay = 2
track_primary = false
higher_prio_send_advert = true
lower_prio_no_advert = true
owner_ignore_adverts = true
v3_checksum_as_v2 = true

[instance.vrrp.auth_hmac]
keys = [{ id = 3, key = "%s" }, { id = 4, file = "{dir}/vrrp.key" }]
active_key = 4
mode = "permissive"
time_window = 9
anti_replay = "monotonic"

[instance.vrrp.garp]
master_repeat = 2
master_delay = 3
lower_prio_repeat = 4
lower_prio_delay = 6
master_refresh = 60
master_refresh_repeat = 7
interval = 0.1
gna_interval = 0.2

[[instance]]
name = "back"
addresses = []
tracks = [{ check = "db", weight = -20 }, { check = "web", reverse = true }]

[instance.vrrp]
interface = "eth1"
vrid = 52
source = "198.18.128.1"
peers = ["198.18.128.2"]
auth_pass = "secret12"
min_ttl = 200
max_ttl = 250
unicast_ttl = 64
check_unicast_src = false

[[instance]]
name = "six"
addresses = ["2001:db8::20/128"]
vrrp = { interface = "eth0", vrid = 51, source = "fe80::1" }

[[sync_group]]
name = "G"
members = ["front", "six"]
checks = ["web"]
tracks = [{ check = "db", weight = 10 }]
members_have_weights = true
notify = { any = "/bin/true" }

[[fifo]]
path = "/run/floatip/fifo"
user = "root"
script = "/bin/cat"
script_group = "root"
on_reload = true
""".replace("%s", KEY)


def given(text: str, directory: Path) -> Path:
    (directory / "vrrp.key").write_text(f"# of both nodes\n{KEY.upper()}\n")
    (directory / "vrrp.key").chmod(0o640)
    path = directory / "floatip.toml"
    path.write_text(text.replace("{dir}", str(directory)))
    path.chmod(0o640)
    return path


@pytest.fixture(autouse=True)
def a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "look_around", lambda user: replace(HERE, user=user))


def test_every_key_reaches_the_model(tmp_path: Path) -> None:
    loaded = reading.load(given(FULL, tmp_path))
    said = [warning.what for warning in loaded.warnings if "only root may change" not in warning.what]
    assert said == ["there is no [linode] and no [bgp]: nothing is announced by BGP"]
    model: Model = loaded.model
    front, back, six = model.instances
    assert front.election == Vrrp(
        "eth0",
        51,
        101,
        IPv4Address("198.18.0.1"),
        (),
        version=3,
        advert_interval=0.1,
        preempt_delay=3,
        group=IPv4Address("224.0.0.19"),
        begins_as_master=True,
        down_timer_adverts=4,
        startup_delay=2,
        tracks_interface=False,
        sends_before_yielding=True,
        answers_lower=False,
        owner_ignores_adverts=True,
        checksum_as_v2=True,
        hmac=Hmac(((3, bytes.fromhex(KEY)), (4, bytes.fromhex(KEY))), 4, "permissive", 9, monotonic=True),
        garps=Garps(2, 3, 4, 6, 60, 7, 0.1, 0.2),
    )
    assert (front.placement, front.interface) == ("master", "eth0")
    link, plain = IPv4Interface("198.18.0.11/17"), IPv6Interface("2001:db8::10/128")
    assert front.addresses == (IPv4Interface("198.18.0.10/17"), link, plain)
    assert front.options == (
        AddressOptions(link, "eth1", "eth1:web", 253, is_advertised=False),
        AddressOptions(plain, is_tracked=False, preferred_lft=2**32 - 1),
    )
    assert front.virtuals == (
        Virtual("route", ("203.0.113.0/24", "via", "198.18.0.254", "dev", "eth0")),
        Virtual("route", ("203.0.114.0/24", "dev", "eth0"), is_tracked=False),
        Virtual("rule", ("from", "198.18.0.10", "table", "100")),
    )
    assert back.tracks == (Track("db", -20), Track("web", reverse=True))
    peers = (IPv4Address("198.18.128.2"),)
    assert back.election == Vrrp(
        *("eth1", 52, 100, IPv4Address("198.18.128.1"), peers),
        auth_pass="secret12",
        min_ttl=200,
        max_ttl=250,
        ttl=64,
        checks_source=False,
    )
    assert six.election == Vrrp("eth0", 51, 100, IPv6Address("fe80::1"), (), version=3)
    assert model.sync_groups == (
        SyncGroup("G", ("front", "six"), ("web",), (Track("db", 10),), members_have_weights=True),
    )
    assert model.told == (
        Told("INSTANCE", "front", "master", ("/bin/echo", "m"), RunAs("root"), 7),
        Told("INSTANCE", "front", "backup", ("/bin/true",), timeout=7),
        Told("GROUP", "G", "any", ("/bin/true",)),
    )
    assert model.tells_priorities == {"front"}
    fifo = Path("/run/floatip/fifo")
    assert model.fifos == (Fifo(fifo, RunAs("root"), ("/bin/cat",), RunAs(group="root"), on_reload=True),)


def test_check_says_what_groups_weights_and_multicast_there_are(tmp_path: Path) -> None:
    lines = list(reading.will(reading.load(given(FULL, tmp_path)).model))
    assert lines == [
        "front 198.18.0.10/17 198.18.0.11/17 2001:db8::10/128, vrid 51 on eth0 from 198.18.0.1 by multicast, "
        "2 routes and 1 rule, check web, no BGP",
        "back without an address, vrid 52 on eth1 from .1 to .2, checks db -20 web reversed, no BGP",
        "six 2001:db8::20/128, vrid 51 on eth0 from fe80::1 by multicast, no BGP",
        "G: front and six change state together, checks web db +10",
    ]


CHANGES = {
    'check = "db", weight = -20': (
        'check = "bd", weight = 300',
        'instance "back" tracks.check: there is no check "bd"',
        'instance "back" tracks.weight: 300 is not between -253 and 253',
    ),
    'members = ["front", "six"]': (
        'members = ["front", "sex", "front"]',
        'sync_group "G" members: there is no instance "sex"',
        'sync_group "G" members: front is there twice',
    ),
    'label = "eth1:web"': (
        'label = "eth1:a-long-label"',
        'instance "front" addresses.label: "eth1:a-long-label" is longer than 15 octets, as the kernel has labels',
    ),
    '"fe80::1"': (
        '"2001:db8::1"',
        'instance "six" vrrp.source: 2001:db8::1 is not link-local, and adverts to a multicast group have a '
        "link-local source",
    ),
    'vrid = 51, source = "fe80::1"': (
        'vrid = 51, source = "fe80::1", peers = ["198.18.0.2"]',
        'instance "six" vrrp.peers: 198.18.0.2 is IPv4, and the source fe80::1 is IPv6',
    ),
    "active_key = 4": (
        "active_key = 5",
        'instance "front" vrrp.auth_hmac.active_key: there is no key 5',
    ),
    "{ id = 3": (
        "{ id = 4",
        'instance "front" vrrp.auth_hmac.keys.id: 4 is the id of another key',
    ),
    "owner_ignore_adverts = true": (
        'auth_pass = "x"',
        'instance "front" vrrp.auth_pass: cannot stand beside auth_hmac',
    ),
    "{dir}/vrrp.key": (
        "{dir}/none",
        'instance "front" vrrp.auth_hmac.keys.file: {dir}/none cannot be read: No such file or directory',
    ),
    "203.0.113.0/24 via 198.18.0.254": (
        "203.0.113.0/24 via next",
        'instance "front" routes: route 203.0.113.0/24 via next dev eth0: via next: not an address',
    ),
    'backup = "/bin/true"': (
        'notify_backup = "/bin/true"',
        'instance "front" notify.notify_backup: unknown key',
    ),
    '["2001:db8::20/128"]': (
        "[]",
        'instance "six" addresses: 0 IPv6 addresses do not fit an advert, which names 1 to 255',
    ),
    'path = "/run/floatip/fifo"': (
        'path = "/run/keepalived/floatip"',
        "fifo number 1 path: /run/keepalived/floatip is taken by keepalived",
    ),
}


@pytest.mark.parametrize(("old", "new"), [(old, new) for old, (new, *_) in CHANGES.items()], ids=range(len(CHANGES)))
def test_what_cannot_work_is_named(old: str, new: str, tmp_path: Path) -> None:
    assert old in FULL
    with pytest.raises(reading.ConfigErrors) as refused:
        reading.load(given(FULL.replace(old, new), tmp_path))
    said = [error.text.replace(str(tmp_path), "{dir}") for error in refused.value.errors]
    assert said == list(CHANGES[old][1:])


DOUBTS = {
    'label = "eth1:web"': (
        'label = "web"',
        'instance "front" addresses.label: "web" does not begin with eth1:, so `ip` and ifconfig may not find it',
    ),
    "weight = -20": (
        "weight = 0",
        'instance "back" tracks: moves no priority without a weight: while the check is down, the instance is in FAULT',
    ),
    "priority = 101": (
        "priority = 255",
        'sync_group "G" tracks.weight: does not count: a priority of 255 is never changed',
    ),
    'members = ["front", "six"]': (
        'members = ["back"]',
        'sync_group "G" members: back alone is no group: nothing changes with it',
    ),
    "members_have_weights = true": (
        'members_have_weights = false\n[[sync_group]]\nname = "H"\nmembers = ["back"]',
        'sync_group "H" members: back alone is no group: nothing changes with it',
        'instance "back" tracks.weight: does not count: back is in sync group H, which changes state as a whole',
    ),
    "startup_delay = 2": (
        "min_ttl = 255",
        'instance "front" vrrp.min_ttl: means nothing without peers',
    ),
}


@pytest.mark.parametrize(("old", "new"), [(old, new) for old, (new, *_) in DOUBTS.items()], ids=range(len(DOUBTS)))
def test_what_may_not_do_what_is_wanted_is_a_warning(old: str, new: str, tmp_path: Path) -> None:
    assert old in FULL
    warnings = reading.load(given(FULL.replace(old, new, 1), tmp_path)).warnings
    said = {warning.text for warning in warnings}
    assert said >= set(DOUBTS[old][1:])


@pytest.mark.parametrize(("mode", "is_open"), [(0o644, True), (0o640, False)])
def test_a_key_of_adverts_that_everybody_can_read_is_warned_of(mode: int, is_open: bool, tmp_path: Path) -> None:
    path = given(FULL, tmp_path)
    (tmp_path / "vrrp.key").chmod(mode)
    said = [warning.what for warning in reading.load(path).warnings]
    assert (f"every user of this machine can read {tmp_path}/vrrp.key, and sign adverts" in said) == is_open


def test_a_file_that_holds_a_key_of_adverts_is_a_secret(tmp_path: Path) -> None:
    path = given(FULL.replace('auth_pass = "secret12"\n', ""), tmp_path)
    path.chmod(0o644)
    warning = "holds a password, and every user of this machine can read it"
    assert warning in [one.what for one in reading.load(path).warnings]


@pytest.mark.parametrize("text", ["", "zz" * 32, f"{KEY}\n{KEY}", KEY[:-2]], ids=["none", "no hex", "two", "short"])
def test_a_file_that_is_no_key_of_adverts_is_named_and_not_shown(text: str, tmp_path: Path) -> None:
    path = given(FULL, tmp_path)
    (tmp_path / "vrrp.key").write_text(text)
    with pytest.raises(reading.ConfigErrors) as refused:
        reading.load(path)
    (error,) = refused.value.errors
    assert error.what == f"{tmp_path}/vrrp.key is not one line of 64 to 128 hex digits"
    assert not text or text not in str(error)
    assert refused.value.may_mend


def test_a_user_of_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    text = FULL.replace('user = "root"', 'user = "nobody-knows-it"', 1)
    with pytest.raises(reading.ConfigErrors) as refused:
        reading.load(given(text, tmp_path))
    assert [error.text for error in refused.value.errors] == [
        'instance "front" notify.master: there is no user "nobody-knows-it"'
    ]


ALIKE = {
    "a weight": ("weight = -20", "weight = -30"),
    "a check of a group": ('checks = ["web"]\ntracks', 'checks = ["db"]\ntracks'),
    "members": ('members = ["front", "six"]', 'members = ["front", "back"]'),
    "an address that adverts do not name": (", advertised = false", ""),
    "what is announced": ('name = "six"', 'name = "six"\nannounce = false'),
}
APART = {
    "a priority": ("priority = 101", "priority = 90"),
    "a label": ("eth1:web", "eth1:w"),
    "a route": ("203.0.113.0/24", "203.0.112.0/24"),
    "a command": ("/bin/true", "/bin/false"),
    "a FIFO": ("/run/floatip/fifo", "/run/floatip/other"),
}


def test_the_digest_tells_what_must_be_alike_and_nothing_else(tmp_path: Path) -> None:
    def digest(old: str = "", new: str = "") -> bytes:
        assert old in FULL
        return reading.load(given(FULL.replace(old, new, 1) if old else FULL, tmp_path)).model.digest

    assert {digest(*change) for change in APART.values()} == {digest()}
    assert len({digest(), *(digest(*change) for change in ALIKE.values())}) == 1 + len(ALIKE)
