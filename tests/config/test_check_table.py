"""[[check]]: each kind with its keys, read into the model and written again, and what is refused."""

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from floatip import model as m
from floatip import reading
from floatip.checking import libraries
from floatip.reading.rules import checks as rules
from floatip.reading.toml import checks, document, reader

HEAD = '[linode]\ndcid = 6\n[[instance]]\nname = "a"\naddresses = ["192.0.2.10/32"]\nstatic = "primary"\n'
HERE = reading.machine.Machine({"eth0": (), "lo": ()})


def problems(text: str, top: str = HEAD, more: str = "") -> list[str]:
    """Of the check, and of no other thing."""
    read = document.parse("f", f'{top}checks = ["c"]\n[[check]]\nname = "c"\n{text}\n{more}'.encode())
    try:
        loaded = reading.judged(reading.Read(*reader.model_of(read)), machine=HERE)
    except reading.ConfigErrors as refused:
        found: list[Any] = [*refused.errors, *refused.warnings]
    else:
        found = list(loaded.warnings)
    return [
        f"{problem.label}{problem.text}; {problem.hint}".replace('check "c" ', "", 1)
        for problem in sorted(found, key=lambda one: one.line)
        if '"c"' in problem.path
    ]


KINDS: dict[str, m.Kind] = {
    'script = "/bin/true"': m.Script(("/bin/true",)),
    'script = ["/bin/grep", "-q", "x", "/etc/passwd"]\nuser = "nobody"\ngroup = "daemon"': m.Script(
        ("/bin/grep", "-q", "x", "/etc/passwd"), m.RunAs("nobody", "daemon")
    ),
    'tcp = "[::1]:80"': m.Tcp("::1", 80),
    'file = "/run/x"\nfail_when = "absent"': m.File(Path("/run/x"), "absent"),
    'value = "/run/x"\ninit = 7\noverwrite = true': m.Value(Path("/run/x"), 7, True),
    'value = "/run/x"': m.Value(Path("/run/x")),
    'process = "haproxy"\nquorum = 2\nquorum_max = 4\ncommand = ["/usr/sbin/haproxy", "-W"]\nparam_match = "partial"': (
        m.Process("haproxy", 2, 4, ("/usr/sbin/haproxy", "-W"), "partial")
    ),
    'http = "http://127.0.0.1:8080/health"': m.Http("http://127.0.0.1:8080/health"),
    """http = "https://shop.example.org/health"
address = "localhost"
method = "HEAD"
headers = { Authorization = "Basic eA==" }
status = [200, "300-302"]
body = "o[k]"
header = { Server = "nginx" }
verify = false
certificate_days = 7""": m.Http(
        "https://shop.example.org/health",
        address="127.0.0.1",
        method="HEAD",
        headers=(("Authorization", "Basic eA=="),),
        status=((200, 200), (300, 302)),
        body="o[k]",
        header=(("Server", "nginx"),),
        verify=False,
        certificate_days=7,
    ),
    'dns = { server = "::1", name = "example.org", type = "A", port = 5353, answer = "192.0.2.1" }': m.Dns(
        "::1", "example.org", "A", 5353, "192.0.2.1"
    ),
    'dns = { server = "127.0.0.1" }': m.Dns("127.0.0.1"),
    'icmp = "192.0.2.1"\nsource = "192.0.2.2"': m.Icmp("192.0.2.1", "192.0.2.2"),
    'haproxy = "/run/haproxy/admin.sock"\nbackend = "web"\nservers = 2': m.Haproxy(
        Path("/run/haproxy/admin.sock"), "web", 2
    ),
    'interface = "eth0"': m.Interface("eth0"),
    'systemd = "nginx.service"': m.Systemd("nginx.service"),
    "bgp = 2": m.Bgp(2),
    'of = ["a", "b"]\nquorum = 1': m.Quorum(("a", "b"), 1),
}


@pytest.mark.parametrize("text", KINDS)
def test_each_kind_is_read_and_written_again(text: str) -> None:
    policy = 'inverted = true\ninitial = "up"\nrise_delay = 1\nfall_delay = 2.5\n'
    if not isinstance(KINDS[text], checks.NOT_ASKED):
        policy += (
            "interval = 0.01\ntimeout = 3\nfast_interval = 0.02\nrise = 2\nfall = 3\nmaster_rise = 4\nmaster_fall = 5\n"
        )
    for given in ("", policy):
        read = document.parse("f", f'[[check]]\nname = "c"\n{text}\n{given}'.encode())
        model, _, found = reader.model_of(read)
        assert not found
        assert model.checks[0].kind == KINDS[text]
        assert checks.values_of(model.checks[0]) == {**read.data["check"][0], **changed(read.data["check"][0])}


def changed(table: dict[str, Any]) -> dict[str, Any]:
    """What is written otherwise than it stands there."""
    return {"address": "127.0.0.1"} if table.get("address") == "localhost" else {}


def test_the_policy_of_a_check_goes_to_the_core() -> None:
    text = 'tcp = "127.0.0.1:80"\ninterval = 0.01\nfast_interval = 0.02\nmaster_fall = 5\n'
    text += 'inverted = true\ninitial = "down"'
    model, _, _ = reader.model_of(document.parse("f", f'[[check]]\nname = "c"\n{text}\nrise_delay = 2'.encode()))
    policy = model.checks[0].policy
    assert (policy.interval, policy.timeout, policy.fast_interval, policy.rise_delay) == (0.01, 0.01, 0.02, 2.0)
    assert (policy.master_fall, policy.inverted, policy.initial, policy.pushed) == (5, True, "down", False)


BELONGS = 'tcp = "127.0.0.1:80"\n'
WRONG = {
    'http = "http://example.org/"': 'http: "example.org" is a name, and a check must not hang on a name server; '
    'add address = "127.0.0.1" to connect to; the name is sent as Host, and for TLS',
    'http = "ftp://127.0.0.1/"': 'http: "ftp://127.0.0.1/" is not a URL of HTTP; '
    'write "http://127.0.0.1:8080/health", or https',
    'http = "http://a:b@127.0.0.1/"': "http: a URL with a user or password; "
    'write it into headers = { Authorization = "..." }',
    'http = "http://127.0.0.1/"\nverify = false': "verify: means nothing without https; "
    'write http = "https://127.0.0.1/", or remove it',
    'http = "http://127.0.0.1/"\nstatus = "2xx"': 'status: "2xx" is not a status of HTTP; '
    'write status = 200, "200-299" or [200, "301-302"]',
    'http = "http://127.0.0.1/"\nbody = "("': 'body: "(" is not a regular expression: missing ), unterminated '
    "subpattern at position 0; put a backslash before . * + ? ( ) [ ] { } where the character itself is meant",
    'http = "http://127.0.0.1/"\nheaders = { A = "x\\r\\nB: y" }': "headers: the value of A is not a string of ASCII "
    "characters; write it in quotes, on one line",
    'dns = { name = "example.org" }': 'dns.server: missing; add it, for example server = "127.0.0.1"',
    'dns = { server = "127.0.0.1", name = "a b" }': 'dns.name: "a b" is not a domain name; write name = "example.org"',
    'icmp = "example.org"': 'icmp: "example.org" is not an IP address; write an address; names are not resolved',
    'haproxy = "/x"': 'backend: missing; add it, for example backend = "web"',
    'haproxy = "/x"\nbackend = "a;b"': 'backend: "a;b" is not the name of a backend; '
    "use the name behind the word backend or listen in haproxy.cfg",
    'interface = "a-name-that-is-too-long"': 'interface: "a-name-that-is-too-long" is not the name of an interface; '
    "see their names: ip -brief link",
    'systemd = "nginx"': 'systemd: "nginx" has no type; write systemd = "nginx.service"',
    "bgp = 5": "bgp: 5 sessions can never be up: there are 4 peers; write at most 4",
    'of = ["c", "d"]\nquorum = 1': "of: the check counts itself; name others of the checks: ",
    'of = ["d"]': "quorum: missing; add it, for example quorum = 2",
    'process = "x"\nquorum = 3\nquorum_max = 2': "quorum_max: at most 2 and at least 3 can never be; "
    "write quorum_max = 3 or more, or remove quorum",
    'process = "/run/x.pid"\nquorum = 2': "quorum: means nothing for a pid file, which names one process; "
    "remove it, or write the name of the process in place of the file",
    'process = "x"\nparam_match = "partial"': "param_match: means nothing without command; "
    'add command = ["/usr/sbin/haproxy", "-W"]',
    'value = "/run/x"\noverwrite = true': "overwrite: means nothing without init; add init = 0: it is what is written",
    f'{BELONGS}user = "nobody"': "user: means nothing without script; remove it, or give script in place of tcp",
    f"{BELONGS}quorum = 2": "quorum: means nothing without process or of; "
    "remove it, or give process or of in place of tcp",
    'interface = "eth0"\ninterval = 2': "warning: interval: means nothing beside interface; "
    "remove it: an interface is watched, not asked, and each change counts at once",
    'interface = "eth9"': 'warning: interface: this machine has no interface "eth9", so the check is down '
    "until it has; see their names: ip -brief link",
    'script = "/bin/true"\nuser = "nobody-knows-it"': 'user: there is no user "nobody-knows-it"; '
    "name a user of this machine: getent passwd",
    'script = "/bin/true"\ngroup = "nobody-knows-it"': 'group: there is no group "nobody-knows-it"; '
    "name a group of this machine: getent group",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_said_with_what_to_do(text: str) -> None:
    assert WRONG[text] in problems(text)


def test_a_quorum_that_can_never_be_is_refused() -> None:
    other = '[[check]]\nname = "d"\ntcp = "127.0.0.1:80"\n'
    assert problems('of = ["d"]\nquorum = 2', more=other) == ["quorum: 2 of 1 can never be up; write at most 1"]
    assert problems('of = ["d"]\nquorum = 1', more=other) == []
    nested = f'{other}[[check]]\nname = "e"\nof = ["d"]\nquorum = 1'
    assert problems('of = ["e"]\nquorum = 1', more=nested) == [
        "of: e counts other checks too; name checks that look at something"
    ]


def test_a_check_of_sessions_needs_some() -> None:
    top = HEAD.partition("[[")[1] + HEAD.partition("[[")[2].replace('static = "primary"', 'placement = "master"')
    vrrp = 'vrrp = { interface = "eth0", vrid = 1, source = "192.0.2.1", peers = ["192.0.2.2"] }\n'
    assert [one.partition(";")[0] for one in problems("bgp = 1", top + vrrp)] == [
        "bgp: there are no BGP sessions: neither [linode] nor [bgp] is there"
    ]


@pytest.mark.parametrize("key", [*libraries.NEEDS, "certificate_days"])
def test_a_library_that_is_missing_is_named_with_its_package(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = libraries.NEEDS.get(key, "cryptography")
    monkeypatch.setattr(rules, "find_spec", lambda name: None if name == missing else object())
    monkeypatch.setattr(rules, "SYSTEMD", Path("/"))
    text = {
        "dns": 'dns = { server = "127.0.0.1" }',
        "icmp": 'icmp = "127.0.0.1"',
        "systemd": 'systemd = "nginx.service"',
        "certificate_days": 'http = "https://127.0.0.1/"\ncertificate_days = 3',
    }[key]
    package = libraries.PACKAGES[missing]
    hint = f"apt install {package}; where floatip came by pip: pip install 'floatip[checks]'"
    assert problems(text) == [f"{key}: needs {package}, which is not installed; {hint}"]


def test_a_user_that_the_daemon_cannot_become_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'script = "/bin/true"\nuser = "root"'
    assert problems(text) == []  # root asks, and there is no other user of the daemon
    monkeypatch.setitem(globals(), "HERE", replace(HERE, user="nobody", _access={}))
    [warning] = problems(text)
    assert warning.startswith("warning: user: it runs as user nobody and not as user root: only root may change")
    assert "User=root" in warning
    assert problems('script = "/bin/true"\nuser = "nobody"') == []


def test_the_examples_of_the_reference_are_accepted() -> None:
    text = (Path(__file__).parents[2] / "docs/reference/configuration.md").read_text()
    for example in text.split("## `[[check]]`")[1].split("## `[[instance]]`")[0].split("```toml\n")[1:]:
        [table] = tomllib.loads(example.partition("```")[0])["check"]
        lines = example.partition("```")[0].splitlines()[2:]
        assert table["name"]
        assert problems("\n".join(lines)) == []
