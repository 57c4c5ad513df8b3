"""Nodes that know each other: which one this machine is, what they must have alike, and their key."""

import os
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from pathlib import Path
from pwd import getpwnam
from tempfile import TemporaryDirectory

import pytest

from floatip import __version__, model, reading
from floatip.core.settings import Link, Node, Nodes, Settings
from floatip.reading import machine
from tests.command_line import floatip

KEY = "5a" * 32
OTHER = "C3" * 32
PAIR = """\
[linode]
dcid = 6

[[node]]
name = "haproxy1"
address = "192.168.143.227"
[[node]]
name = "haproxy2"
address = "192.168.143.241"

[[check]]
name = "haproxy"
process = "haproxy"

[[instance]]
name = "web"
addresses = ["192.168.223.158/32"]
checks = ["haproxy"]
"""
HERE = machine.Machine({"eth0": (IPv4Interface("192.168.143.227/17"), IPv6Interface("2001:db8::1/64")), "lo": ()})


@pytest.fixture(autouse=True)
def haproxy1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "look_around", lambda user: replace(HERE, user=user, _access={}))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    write(tmp_path / "key", f"{KEY}\n")
    return write(tmp_path / "floatip.toml", PAIR)


def write(path: Path, text: str, mode: int = 0o640) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def settings(config: Path, text: str = PAIR) -> Settings:
    loaded = reading.load(write(config, text))
    return loaded.model.settings(here=loaded.here, boot=7)


def link(config: Path, text: str = PAIR) -> Link:
    found = settings(config, text).link
    assert found
    return found


def refused(config: Path) -> reading.ConfigErrors:
    with pytest.raises(reading.ConfigErrors) as raised:
        reading.load(config)
    return raised.value


def test_one_file_gives_each_node_its_own_part_of_the_link(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = settings(config)
    nodes = Node("haproxy1", IPv4Address("192.168.143.227")), Node("haproxy2", IPv4Address("192.168.143.241"))
    assert ours.link
    assert ours.link == Link(nodes, "haproxy1", (bytes.fromhex(KEY),), ours.link.digest, 0.1, 9112, __version__)
    assert (ours.boot, ours.instances[0].election) == (7, Nodes())
    assert len(ours.link.digest) == 8
    there = machine.Machine({"eth0": (IPv4Interface("192.168.143.241/17"),), "lo": ()})
    monkeypatch.setattr(reading, "look_around", lambda user: there)
    assert settings(config).link == replace(ours.link, own="haproxy2")


def test_every_key_of_the_nodes_reaches_the_core(config: Path) -> None:
    write(config.parent / "other", f"{OTHER}\n")
    text = PAIR + 'prefer = ["haproxy2"]\ntogether = "a"\napart = "b"\npreempt = true\npreempt_delay = 5\n'
    text = text.replace('241"\n', '241"\nweight = 2\n')
    text += f'[link]\ninterval = 0.02\nport = 9113\nkey = "{config.parent}/other"\n'
    found = settings(config, text)
    assert found.instances[0].election == Nodes(("haproxy2",), "a", "b", True, 5.0)
    assert found.link
    assert found.link.nodes[1].weight == 2
    assert (found.link.interval, found.link.port, found.link.keys) == (0.02, 9113, (bytes.fromhex(OTHER),))


def test_without_nodes_there_is_no_link_and_no_key_is_needed(config: Path) -> None:
    (config.parent / "key").unlink()
    text = PAIR.partition("[[node]]")[0] + "[[check]]" + PAIR.partition("[[check]]")[2] + 'static = "primary"\n'
    loaded = reading.load(write(config, text))
    assert (loaded.here, loaded.model.settings(here=loaded.here).link) == (None, None)


def test_the_router_id_is_the_nodes_own_address_as_it_was_under_vrrp(config: Path) -> None:
    loaded = reading.load(config)
    speaker = loaded.model.settings(router_id=IPv4Address("192.0.2.9"), here=loaded.here).speaker
    assert speaker
    assert speaker.router_id == IPv4Address("192.168.143.227")


@pytest.mark.parametrize(
    ("keys", "interface"),
    [
        ('placement = "master"\n', "eth0"),
        ('placement = "master"\ninterface = "lo"\n', "lo"),
        ("", "lo"),
    ],
)
def test_a_master_holds_the_address_where_the_node_has_its_own(keys: str, interface: str, config: Path) -> None:
    assert settings(config, PAIR + keys).instances[0].interface == interface


SAME: dict[str, Callable[[str], str]] = {
    "a comment": lambda text: f"# of haproxy2\n{text}",
    "the order of keys": lambda text: text.replace(
        'name = "haproxy1"\naddress = "192.168.143.227"', 'address = "192.168.143.227"\nname = "haproxy1"'
    ),
    "a default": lambda text: text + "preempt = false\n[link]\ninterval = 0.1\n",
    "the router id": lambda text: text + '[bgp]\nrouter_id = "192.0.2.1"\nsource = "2001:db8::1"\n',
    "no second chance": lambda text: text + '[second_chance]\nmode = "off"\n',
    "where it logs": lambda text: f'state_log = "/var/log/floatip/state"\n{text}',
}
DIFFERENT: dict[str, Callable[[str], str]] = {
    "an address of a node": lambda text: text.replace("143.241", "143.242"),
    "a name of a node": lambda text: text.replace("haproxy2", "haproxy3"),
    "a weight": lambda text: text.replace('241"\n', '241"\nweight = 2\n'),
    "an address": lambda text: text.replace("223.158", "223.159"),
    "a name of an instance": lambda text: text.replace('"web"', '"www"'),
    "the checks of an instance": lambda text: text.replace('checks = ["haproxy"]', "checks = []"),
    "what a check looks at": lambda text: text.replace('process = "haproxy"', 'process = "nginx"'),
    "a kind of check": lambda text: text.replace('process = "haproxy"', 'tcp = "127.0.0.1:80"'),
    "the timing of a check": lambda text: text.replace('process = "haproxy"', 'tcp = "127.0.0.1:80"\nfall = 2'),
    "a preferred node": lambda text: text + 'prefer = ["haproxy1"]\n',
    "a word": lambda text: text + 'apart = "x"\n',
    "preempt": lambda text: text + "preempt = true\n",
    "the placement": lambda text: text + 'placement = "master"\n',
    "the interval": lambda text: text + "[link]\ninterval = 0.2\n",
    "a second chance": lambda text: text + "[second_chance]\n",
    "one that is wanted": lambda text: text + '[second_chance]\nmode = "on"\n',
    "its port": lambda text: text + "[second_chance]\nport = 9000\n",
    "the data centre": lambda text: text.replace("dcid = 6", "dcid = 7"),
    "how a route looks": lambda text: text + "[bgp]\nmed = 5\n",
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_the_digest_is_the_same_where_nodes_may_differ(change: Callable[[str], str], config: Path) -> None:
    assert change(PAIR) != PAIR
    assert link(config, change(PAIR)).digest == link(config).digest


def test_the_digest_is_the_same_on_all_nodes_and_with_another_key(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = PAIR + 'placement = "master"\n'
    ours = link(config, text).digest
    write(config.parent / "key", OTHER)
    there = machine.Machine({"ens3": (IPv4Interface("192.168.143.241/17"),), "lo": ()})
    monkeypatch.setattr(reading, "look_around", lambda user: there)
    assert settings(config, text).instances[0].interface == "ens3"
    assert link(config, text).digest == ours


def test_the_digest_tells_each_difference_from_every_other(config: Path) -> None:
    texts = {"": PAIR} | {name: change(PAIR) for name, change in DIFFERENT.items()}
    digests = {name: link(config, text).digest for name, text in texts.items()}
    assert len(set(digests.values())) == len(texts), digests


def test_elections_by_others_may_differ(config: Path) -> None:
    vrrp = (
        'vrrp = {{ interface = "eth0", vrid = 51, priority = {}, source = "192.168.143.227", peers = ["192.0.2.1"] }}\n'
    )
    digests = [link(config, PAIR + vrrp.format(priority)).digest for priority in (50, 100)]
    assert digests[0] == digests[1] != link(config).digest


def test_a_node_whose_address_is_not_there_yet_may_start_later(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "look_around", lambda user: machine.Machine({"lo": (IPv4Interface("127.0.0.1/8"),)}))
    error = refused(config)
    assert error.may_mend
    assert error.errors[0].text == (
        "node: none is this machine, which has no address; "
        "the nodes are haproxy1 192.168.143.227 and haproxy2 192.168.143.241"
    )


def test_a_machine_with_many_addresses_shows_some_and_none_that_floats(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = (*(IPv4Interface(f"10.0.0.{host}/8") for host in range(1, 12)), IPv4Interface("192.168.223.158/32"))
    monkeypatch.setattr(reading, "look_around", lambda user: machine.Machine({"eth0": many, "lo": ()}))
    shown = refused(config).errors[0].what.partition(";")[0]
    first = ", ".join(f"10.0.0.{host}" for host in range(1, 9))
    assert shown == f"none is this machine, which has {first} and 3 more"


def test_a_sixty_fifth_node_is_refused(config: Path) -> None:
    more = "".join(f'[[node]]\nname = "n{number}"\naddress = "10.0.0.{number}"\n' for number in range(1, 63))
    assert len(link(config, f"{PAIR}{more}").nodes) == 64
    write(config, f'{PAIR}{more}[[node]]\nname = "n63"\naddress = "10.0.0.63"\n')
    (error,) = refused(config).errors
    assert (error.text, error.hint) == (
        "node: 65 are more than 64",
        "make groups of nodes, each with its own instances and a file of its own",
    )


# The key

GOOD = {
    "one": (f"{KEY}\n", (KEY,)),
    "without a line end": (KEY, (KEY,)),
    "two": (f"{KEY}\n{OTHER}\n", (KEY, OTHER)),
    "comments and blank lines": (f"# the key\n\n  {KEY}  # of March\r\n\n# {OTHER}\n", (KEY,)),
}


@pytest.mark.parametrize(("text", "keys"), GOOD.values(), ids=GOOD)
def test_the_first_key_signs_and_each_is_believed(text: str, keys: tuple[str, ...], config: Path) -> None:
    write(config.parent / "key", text)
    assert link(config).keys == tuple(map(bytes.fromhex, keys))


AGAIN = "copy the file from a node that has the right one, or move it away and make another: floatip key {key}"
SHARE = "chown root:floatip {key} && chmod 640 {key}"
BAD = {
    "empty": ("\n# no key\n", "{key} has no key"),
    "short": (f"\n{KEY[:-1]}\n", "line 2 of {key} has 63 characters, and a key has 64 hex digits"),
    "long": (f"{KEY}0\n", "line 1 of {key} has 65 characters, and a key has 64 hex digits"),
    "not hex": (f"{KEY}\n{OTHER[:-1]}g\n", "line 2 of {key} has characters that are not hex digits"),
    "bytes.fromhex would take it": (
        f"{KEY[:-2]}  \n",
        "line 1 of {key} has 62 characters, and a key has 64 hex digits",
    ),
    "spaces within": (f"{KEY[:-3]} 5a\n", "line 1 of {key} has characters that are not hex digits"),
    "three": (
        f"{KEY}\n{OTHER}\n{KEY}\n",
        "{key} has 3 keys, and 2 are the most: the one that signs, and one beside it",
    ),
}


@pytest.mark.parametrize(("text", "what"), BAD.values(), ids=BAD)
def test_a_file_that_is_no_key_is_named_and_not_shown(text: str, what: str, config: Path) -> None:
    path = write(config.parent / "key", text)
    error = refused(config)
    assert [problem.text for problem in error.errors] == [f"link.key: {what.format(key=path)}"]
    assert error.errors[0].hint == AGAIN.format(key=path)
    assert error.may_mend, "systemd starts the daemon again, so the right file is enough"
    assert KEY[:16] not in str(error)


def test_a_key_of_octets_that_are_no_text_is_refused(config: Path) -> None:
    (config.parent / "key").write_bytes(os.urandom(64).replace(b"\n", b"\xff") + b"\xff")
    assert "link.key: line 1 of" in refused(config).errors[0].text


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o642, 0o641])
def test_a_key_that_others_can_use_is_refused(mode: int, config: Path) -> None:
    path = config.parent / "key"
    path.chmod(mode)
    (error,) = refused(config).errors
    what = f"every user of this machine can use {path}, and sign as a node: its mode is {mode:o}"
    assert (error.text, error.hint) == (f"link.key: {what}", SHARE.format(key=path))


def test_a_key_that_is_missing_is_made_on_one_node(config: Path) -> None:
    path = config.parent / "key"
    path.unlink()
    (error,) = refused(config).errors
    assert error.text == f"link.key: {path} is missing: the nodes sign what they tell each other"
    assert error.hint == f"make it on one node, and copy it to the others: floatip key {path}"


def test_a_key_that_is_no_file_is_refused_and_not_waited_for(config: Path) -> None:
    path = config.parent / "key"
    path.unlink()
    os.mkfifo(path)
    assert refused(config).errors[0].text == f"link.key: {path} cannot be read: not a regular file"
    path.unlink()
    path.mkdir()
    assert refused(config).errors[0].text == f"link.key: {path} cannot be read: not a regular file"
    path.rmdir()
    write(path, "#" * 5000)
    assert refused(config).errors[0].text == f"link.key: {path} cannot be read: larger than 4 KiB"


def test_a_key_that_the_daemons_user_cannot_read_is_refused() -> None:
    assert os.geteuid() == 0, "only root looks with the eyes of another user: run as root"
    with TemporaryDirectory() as opened:
        directory = Path(opened)
        directory.chmod(0o755)
        key = write(directory / "key", KEY)
        config = write(directory / "floatip.toml", PAIR, 0o644)
        with pytest.raises(reading.ConfigErrors) as raised:
            reading.load(config, user="nobody")
        (error,) = raised.value.errors
        assert error.text == f"link.key: user nobody, who runs the daemon, cannot read {key}"
        assert error.hint == f"chown root:nobody {key} && chmod 640 {key}"
        os.chown(key, 0, getpwnam("nobody").pw_gid)
        assert reading.load(config, user="nobody").here


def test_a_file_that_is_not_written_yet_needs_no_key() -> None:
    document = reading.document.parse("floatip.toml", PAIR.encode())
    loaded = reading.judged(reading.Read(*reading.reader.model_of(document)))
    assert loaded.here == model.Here(loaded.model.nodes[0], "eth0")


def test_check_names_the_nodes_and_which_of_them_this_one_is(config: Path) -> None:
    web = "web 192.168.223.158/32, haproxy1 (this node) and haproxy2 elect"
    tail = "check haproxy, Newark (6): 4 route servers"
    assert floatip("check", str(config)) == (0, f"ok: {web}, {tail}\n")
    write(config, f'{PAIR}prefer = ["haproxy2", "haproxy1"]\n')
    assert floatip("check", str(config)) == (0, f"ok: {web}, haproxy2 then haproxy1 first, {tail}\n")
