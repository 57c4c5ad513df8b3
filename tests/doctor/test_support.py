"""The file to send has what is asked for, and no secret, whichever way a program wrote it."""

import base64
import html
import json
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floatip.commands import Misused
from floatip.doctor import secrets, support
from floatip.doctor.command import as_data
from floatip.doctor.context import Context, gather
from floatip.doctor.finding import Code, problem
from tests.doctor.recorded import Recorded

SECRETS = {
    "md5": "mD5-of-the-Peer",
    "auth_pass": "vrrpPW77",
    "inline hmac": "ab12" * 16,
    "hmac in a file": "cd34" * 16,
    "key of the nodes": "ef56" * 16,
    "second key of the nodes": "0a9b" * 16,
    "header": "Bearer-4b5c6d7e8f",
    "basic": "pa55-of-basic",
    "token of [http]": "httpToken-9x8y7z",
    "variable of a script": "pgSecret!42",
    "flag of a script": "flagSecret#7",
    "user of a URL": "url%40Secret",
    "token of Linode": "lin0de-t0ken-0123456789abcdef",
    "notify": "notifySecret5",
}
TOML = """
[bgp]
peers = ["192.0.2.254"]
asn = 65001
peer_asn = 65000
md5 = "{md5}"

[http]
listen = ["127.0.0.1:8179"]
token = "{directory}/http-token"

[[node]]
name = "haproxy1"
address = "192.0.2.1"

[[check]]
name = "web"
http = "http://127.0.0.1:80/"
headers = {{ Authorization = "Bearer {header}", X-Other = "{header}" }}

[[check]]
name = "basic"
http = "http://127.0.0.1:81/"
headers = {{ Authorization = "Basic {basic_encoded}" }}

[[check]]
name = "database"
script = "env PGPASSWORD={variable of a script} psql --password {flag of a script} http://monitor:{user of a URL}@db/"

[[instance]]
name = "one"
addresses = ["192.0.2.10/32"]
[instance.vrrp]
interface = "eth0"
vrid = 51
source = "192.0.2.1"
peers = ["192.0.2.2"]
auth_pass = "{auth_pass}"

[[instance]]
name = "two"
addresses = ["192.0.2.11/32"]
[instance.vrrp]
interface = "eth0"
vrid = 52
version = 3
[instance.vrrp.auth_hmac]
keys = [{{ id = 1, key = "{inline hmac}" }}, {{ id = 2, file = "{directory}/vrrp-key" }}]

[notify]
command = "/usr/local/bin/tell --token={notify} --chat 5"
"""
KEEPALIVED = """
global_defs {{
    smtp_server 127.0.0.1
}}
vrrp_script db {{
    script "PGPASSWORD={variable of a script} psql --password {flag of a script} http://monitor:{user of a URL}@db/"
}}
vrrp_instance VI_1 {{
    authentication {{
        auth_type PASS
        auth_pass {auth_pass}
    }}
    virtual_ipaddress {{ 192.0.2.10/32 }}
    notify "/usr/local/bin/tell --token={notify}"
}}
vrrp_instance VI_2 {{
    authentication {{ auth_type PASS
      auth_pass {md5} }}
}}
vrrp_instance VI_3 {{
    auth_hmac {{
        key 1 hex:{inline hmac}
        key 2 file:{directory}/vrrp-key
        kay 3 {header}
        key=4 {basic}
    }}
}}
"""
OF_TOML = frozenset(SECRETS)
OF_KEEPALIVED = frozenset(SECRETS) - {"token of [http]"}


def forms(secret: str) -> Iterator[str]:
    data = secret.encode()
    yield from (secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], html.escape(secret), quote(secret, safe=""))
    yield from (data.hex(), data.hex().upper(), data.hex(":"))
    yield from (base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode())
    for before in ("", "x", "xy"):
        yield inside(before, secret, base64.b64encode(f"{before}{secret}!".encode()).decode())


def inside(before: str, secret: str, code: str) -> str:
    """The characters of base64 that come from the secret alone."""
    first, last = len(before.encode()), len(before.encode()) + len(secret.encode())
    return code[-(-8 * first // 6) : 8 * last // 6]


def journal() -> str:
    """What scripts and programs print, to whom nobody has said that it is a secret."""
    lines = []
    for name, secret in SECRETS.items():
        data = secret.encode()
        lines += [f"check {name}: tried {secret} and failed", f'argv=["x", {json.dumps(secret)}]']
        lines += [f"sent {base64.b64encode(data).decode()}", f"sent {base64.b64encode(b'user:' + data).decode()}"]
        lines += [f"sent {base64.b64encode(b'ab' + data + b'cd').decode()}", f"dump {data.hex()} {data.hex(':')}"]
        lines += [f"GET /?q={quote(secret, safe='')}", f"<a>{html.escape(secret)}</a>", repr(data)]
    return "\n".join(f"2026-11-29T23:00:00 haproxy1 floatip[1]: {line}" for line in lines)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LINODE_TOKEN", SECRETS["token of Linode"])
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    (tmp_path / "key").write_text(f"{SECRETS['key of the nodes']}  # new\n{SECRETS['second key of the nodes']}\n")
    (tmp_path / "vrrp-key").write_text(f"{SECRETS['hmac in a file']}\n")
    (tmp_path / "http-token").write_text(f"{SECRETS['token of [http]']}\n")
    for name in ("key", "vrrp-key", "http-token"):
        (tmp_path / name).chmod(0o600)
    return tmp_path


def context_of(file: Path, name: str, text: str) -> Context:
    path = file / name
    encoded = base64.b64encode(f"monitor:{SECRETS['basic']}".encode()).decode()
    path.write_text(text.format(directory=file, basic_encoded=encoded, **SECRETS))
    host = Recorded(outputs={command: journal() for command in support.COMMANDS.values()})
    return gather(host, path)


@pytest.mark.parametrize(
    ("name", "text", "known"),
    [
        ("floatip.toml", TOML, OF_TOML),
        ("keepalived.conf", KEEPALIVED, OF_KEEPALIVED),
        ("broken.toml", f"{TOML}\n[[[", OF_TOML),
        ("broken.conf", KEEPALIVED.replace("}}\n}}", "}}", 1), OF_KEEPALIVED),
    ],
)
def test_no_secret_is_in_the_file(directory: Path, name: str, text: str, known: frozenset[str]) -> None:
    context = context_of(directory, name, text)
    report = as_data([problem(Code.LOOKER, "x", f"saw {SECRETS['md5']}", journal().split("\n"))])
    path = directory / "support.txt"
    support.write(path, report, context)
    written = path.read_bytes().decode()
    for secret in known:
        for form in forms(SECRETS[secret]):
            place = written.find(form)
            assert place < 0, f"{secret}: {written[max(0, place - 200) : place + 60]}"
    assert "192.0.2.10/32" in written
    assert "vrid = 51" in written or "vrrp_instance VI_1" in written
    assert written.count("floatip[1]: check") > 10, "the lines stay, without what is secret in them"


def test_what_is_in_it_is_listed_and_only_its_owner_reads_it(directory: Path) -> None:
    context = context_of(directory, "floatip.toml", TOML)
    path = directory / "support.txt"
    said = support.write(path, as_data([]), context)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    written = path.read_text()
    listed = [line.strip().partition(": ")[0] for line in said.splitlines() if line.startswith("  ")]
    assert all(f"======== {name}" in written for name in listed)
    assert {"versions", "doctor", "status", "figures", "history", "journal of floatip"} <= set(listed)
    assert "firewall" in {name.partition(":")[0] for name in listed}
    assert json.loads(written.partition("======== doctor ========\n")[2].partition("\n\n========")[0])["format"] == 1


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("mine")
    with pytest.raises(Misused, match="is there already"):
        support.destination(str(there))
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(Misused, match="is there already"):
        support.destination(str(tmp_path / "link"))
    with pytest.raises(Misused, match="no directory"):
        support.destination(str(tmp_path / "a" / "b"))
    assert there.read_text() == "mine"


def test_without_a_name_it_is_named_by_host_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert support.destination("").name.startswith(f"floatip-support-{socket.gethostname()}-")
    assert support.destination(str(tmp_path)).parent == tmp_path


@given(st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=6, max_size=40), st.text(max_size=20))
def test_a_known_secret_is_masked_in_any_text(secret: str, around: str) -> None:
    known = secrets.collect([secret])
    for form in forms(secret):
        if len(form) >= 6:
            assert form not in known.mask(f"{around}{form}{around}") or form in around or form in secrets.MASK


@pytest.mark.parametrize(
    "line",
    [
        "check web passed: HTTP 200 in 3 ms",
        "192.0.2.1 dev eth0 src 192.0.2.2",
        'token = "/etc/floatip/token"',
        "ExecStart=/usr/bin/floatip run",
        "haproxy1: MASTER at rank takeover: haproxy2 is silent",
        "key id 5 was not used",
    ],
)
def test_what_is_no_secret_stays(line: str) -> None:
    assert secrets.by_place(line) == line


def test_the_environment_of_a_unit_is_left_out() -> None:
    assert secrets.by_place("Environment=DB=geheim") == "Environment=(secret)"
    assert os.environ  # the test's own is untouched


PASSWORD = "Zq9!xK7mP2wL"
PLACES = [
    f'[bgp\npassword = """\n{PASSWORD}"""\n',
    f"[bgp\npassword = '''\n{PASSWORD}\n'''\n",
    f'[link\nkey = "{PASSWORD}"\n',
    f'[link]\nkey = "{PASSWORD}"\n',
    f'[instance.vrrp.auth_hmac\n1 = "{PASSWORD}"\n',
    f"[bgp]\n# the password is {PASSWORD}\n",
    f'[[check]]\nhttp = "http://user:{PASSWORD}/x@127.0.0.1/"\n',
    f'[[check]]\nhttp = "http://user:a@{PASSWORD}@127.0.0.1/"\n',
    f'[[check]]\nhttp = "http://127.0.0.1/?a=1&key={PASSWORD}"\n',
    f'[notify]\ncommand = "curl https://hooks.slack.com/services/T000/B000/{PASSWORD}"\n',
    f'[notify]\ncommand = ["curl", "-u", "admin:{PASSWORD}", "http://x"]\n',
    f'[notify]\ncommand = "curl --user admin:{PASSWORD} http://x"\n',
    f'[notify]\ncommand = ["curl", "-H", "Authorization: Bearer {PASSWORD}"]\n',
    f'[[check]]\ncommand = "mysqladmin -uroot -p{PASSWORD} ping"\n',
    f'[[check]]\ncommand = ["mysqladmin", "-p{PASSWORD}", "ping"]\n',
    f'[[check]]\ncommand = ["redis-cli", "-a", "{PASSWORD}", "ping"]\n',
    f'[[check]]\ncommand = ["x", "--password", "{PASSWORD}"]\n',
    f'[bgp]\npasswort = "{PASSWORD}"\n',
    f'[instance.vrrp]\nauth = "{PASSWORD}"\n',
    f'[bgp]\npassword = "{PASSWORD}\n',
]


@pytest.mark.parametrize("text", PLACES)
def test_a_secret_is_hidden_where_a_configuration_has_it_and_wherever_it_is_seen_again(text: str) -> None:
    known = secrets.collect(secrets.of_toml(text))
    assert PASSWORD not in known.mask(secrets.without_variables(text))
    is_said_only_in_words = "the password is" in text or "slack" in text
    assert PASSWORD not in known.mask(f"journal: {PASSWORD}") or is_said_only_in_words


@pytest.mark.parametrize(
    "text",
    [
        f"#  auth_pass {PASSWORD}",
        f"Keepalived: auth_pass {PASSWORD}",
        f"@node1 auth_pass {PASSWORD}",
        f'script "/usr/bin/mysqladmin -p{PASSWORD} ping"',
        f"curl -u admin:{PASSWORD} http://x",
        f"sshpass -p {PASSWORD} ssh x",
        f"bearer: {PASSWORD}",
        f"api-key={PASSWORD}",
        f"neighbor 192.0.2.1 password {PASSWORD}",
        f'{{"line": "password=\\"{PASSWORD}\\""}}',
        "jwt eyJhbGciOiJIUzI1NiJ9.Zq9!xK7mP2wL".replace("!", "_"),
    ],
)
def test_a_secret_of_others_is_hidden_by_its_place(text: str) -> None:
    shown = secrets.by_place(text)
    assert PASSWORD not in shown
    assert "eyJ" not in shown


def test_a_file_in_utf_16_hides_no_secret_from_the_search(tmp_path: Path) -> None:
    file = tmp_path / "floatip.toml"
    file.write_text(f'[bgp]\npassword = "{PASSWORD}"\n', encoding="utf-16")
    known = support.known_secrets(gather(Recorded(), file))
    assert PASSWORD not in known.mask(support.shown(file)).replace("\0", "")


def test_the_numbers_of_a_firewall_stay() -> None:
    for text in (
        "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT",
        "ip saddr . tcp dport { 192.0.2.1 . 443 }",
        "-u floatip",
    ):
        assert secrets.by_place(text) == text


@pytest.mark.parametrize("text", ["a" * 50_000, "mysql " * 10_000, "http://" + "a:" * 20_000, 'password="""x ' * 2000])
def test_no_text_holds_the_search_up(text: str) -> None:
    began = time.process_time()
    secrets.by_place(text)
    assert time.process_time() - began < 5
