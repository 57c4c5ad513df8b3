"""The table [http]: who can reach the listener, and the files that it names."""

import subprocess
from pathlib import Path
from pwd import getpwnam
from tempfile import TemporaryDirectory

import pytest

from floatip import reading
from floatip.model import HTTP_PORT, Listener

STATIC = """\
[linode]
dcid = 6
[[instance]]
name = "VI_1"
addresses = ["192.0.2.10/32"]
static = "primary"
"""
OPEN = 'listen = ["0.0.0.0:8179"]\n'


def said(directory: Path, text: str, user: str = "") -> list[str]:
    """Of [http], errors and warnings, each without its place."""
    try:
        warnings, errors = list(read(directory, text, user).warnings), []
    except reading.ConfigErrors as refused:
        warnings, errors = refused.warnings, refused.errors
    about = [*(f"error: {one.text}" for one in errors), *(f"warning: {one.text}" for one in warnings)]
    return [one.replace(f"{directory}/", "") for one in about if ": http" in one]


def read(directory: Path, text: str, user: str = "") -> reading.Loaded:
    file = directory / "floatip.toml"
    file.write_text(f"{STATIC}[http]\n{text.format(at=directory)}")
    return reading.load(file, user)


def write(path: Path, text: str, mode: int = 0o640) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_an_empty_table_listens_on_the_loopback(tmp_path: Path) -> None:
    assert read(tmp_path, "").model.http == Listener((("127.0.0.1", HTTP_PORT),))
    assert said(tmp_path, "") == []


def test_every_key_reaches_the_model(tmp_path: Path) -> None:
    write(tmp_path / "token", "0123456789abcdef")
    text = (
        'listen = ["localhost:8080", "[0:0::1]:8080"]\ntoken = "{at}/token"\nhosts = ["Status.example.org.", "::5"]\n'
    )
    http = read(tmp_path, text).model.http
    assert http == Listener(
        (("127.0.0.1", 8080), ("::1", 8080)), tmp_path / "token", None, None, None, ("status.example.org", "::5")
    )
    assert said(tmp_path, text) == []


def test_the_table_may_differ_from_node_to_node(tmp_path: Path) -> None:
    with_page = read(tmp_path, "").model
    (tmp_path / "floatip.toml").write_text(STATIC)
    assert with_page._alike() == reading.load(tmp_path / "floatip.toml").model._alike()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (OPEN, "error: http.listen: other machines reach 0.0.0.0:8179, and nothing says who may"),
        ('listen = ["[::]:8179"]\n', "error: http.listen: other machines reach [::]:8179, and nothing says who may"),
        ('client_ca = "/ca"\n', "error: http.client_ca: means nothing without tls_certificate"),
        ('tls_key = "/key"\n', "error: http.tls_key: means nothing without tls_certificate"),
        ('listen = ["127.0.0.1:8179", "localhost:8179"]\n', "error: http.listen: 127.0.0.1:8179 is there twice"),
        ('listen = ["example.org:80"]\n', 'error: http.listen: "example.org:80" is not host:port'),
        ('listen = ["127.0.0.1"]\n', 'error: http.listen: "127.0.0.1" is not host:port'),
        ('hosts = ["a.example:80"]\n', 'error: http.hosts: "a.example:80" is not the name of a host'),
        ('listen = ["127.0.0.1:80"]\n', "warning: http.listen: only root may listen on port 80"),
        ('token = "{at}/none"\n', "warning: http.token: none cannot be read: no such file or directory"),
        (
            'tls_certificate = "{at}/none"\n',
            "warning: http.tls_certificate: none cannot be read: no such file or directory",
        ),
    ],
)
def test_what_is_wrong_is_named(text: str, expected: str, tmp_path: Path) -> None:
    assert expected in said(tmp_path, text)


def test_a_token_without_tls_is_a_warning_where_others_can_listen(tmp_path: Path) -> None:
    write(tmp_path / "token", "0123456789abcdef")
    token = 'token = "{at}/token"\n'
    expected = "warning: http.listen: the token travels readable to 0.0.0.0:8179, without TLS"
    assert said(tmp_path, OPEN + token) == [expected]
    assert said(tmp_path, token) == []


@pytest.mark.parametrize(
    ("content", "mode", "expected"),
    [
        ("0123456789abcdef\n", 0o640, []),
        ("0123456789abcde\n", 0o640, ["warning: http.token: token is not one word of 16 to 512 characters"]),
        ("0123456789 abcdef\n", 0o640, ["warning: http.token: token is not one word of 16 to 512 characters"]),
        ("", 0o640, ["warning: http.token: token is not one word of 16 to 512 characters"]),
        (
            "0123456789abcdef\n",
            0o644,
            ["warning: http.token: every user of this machine can use token: its mode is 644"],
        ),
    ],
)
def test_a_token_is_one_long_word_that_others_cannot_read(
    content: str, mode: int, expected: list[str], tmp_path: Path
) -> None:
    write(tmp_path / "token", content, mode)
    assert said(tmp_path, 'token = "{at}/token"\n') == expected


def test_the_daemons_user_must_be_able_to_read_the_files() -> None:
    nobody = getpwnam("nobody").pw_name
    with TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        write(directory / "token", "0123456789abcdef", 0o600)
        told = said(directory, 'token = "{at}/token"\n', nobody)
    assert told == [f"warning: http.token: user {nobody}, who runs the daemon, cannot read token"]


def test_a_certificate_and_its_key_belong_together(tmp_path: Path) -> None:
    for name in ("one", "two"):
        new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        files = ["-keyout", f"{tmp_path}/{name}.key", "-out", f"{tmp_path}/{name}.pem"]
        subprocess.run([*new, "-subj", "/CN=h1", *files], check=True, capture_output=True)
        (tmp_path / f"{name}.key").chmod(0o640)
    text = 'tls_certificate = "{at}/one.pem"\ntls_key = "{at}/%s.key"\n'
    assert said(tmp_path, text % "one") == []
    assert said(tmp_path, text % "two") == ["warning: http.tls_key: cannot be used for TLS: key values mismatch"]
    (tmp_path / "one.key").chmod(0o644)
    told = said(tmp_path, text % "one")
    assert told == ["warning: http.tls_key: every user of this machine can use one.key: its mode is 644"]
    (tmp_path / "one.key").chmod(0o640)
    write(tmp_path / "ca.pem", "nonsense")
    [told_of_ca] = said(tmp_path, text % "one" + 'client_ca = "{at}/ca.pem"\n' + OPEN)
    assert told_of_ca.startswith("warning: http.client_ca: cannot be used for TLS: ")
