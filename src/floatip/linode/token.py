"""The token of Linode's API: from a file or the environment, and never shown."""

import os
import re
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

from floatip.commands import Refusal
from floatip.core.refusals import Why

VARIABLES = ("LINODE_TOKEN", "LINODE_CLI_TOKEN")
"""The first is the one of Terraform, the SDKs and the Kubernetes controllers, the second the one of linode-cli."""
LARGEST = 4096
VALID = re.compile(rb"[\x21-\x7e]+")
"""Nothing else is sent in a header, and requests would show it in what it says of that."""
SCOPES = "ips:read_write and linodes:read_write"
NEW = f"make one at https://cloud.linode.com/profile/tokens, with the scopes {SCOPES}"


@dataclass(frozen=True, slots=True)
class Token:
    value: str = field(repr=False)
    source: str
    """As `$LINODE_TOKEN` or the path of the file."""

    def hidden(self, text: str) -> str:
        """The text without the token, which others may have echoed."""
        return text.replace(self.value, "(the token)")


def find(file: Path | None) -> Token:
    """A file comes before the environment. Raises `Refusal`."""
    if file:
        return _checked(_content(file), str(file))
    for name in VARIABLES:
        if value := os.environ.get(name):
            return _checked(os.fsencode(value), f"${name}")
    raise Refusal(
        "no token for Linode's API: neither --token-file nor $LINODE_TOKEN or $LINODE_CLI_TOKEN is given",
        f"{NEW}; then: floatip share --token-file FILE",
        Why.NO_TOKEN,
    )


def _content(file: Path) -> bytes:
    """Of a file that only its owner can read; `-` and pipes are as private as who made them. Raises `Refusal`."""
    try:
        with open(sys.stdin.fileno() if str(file) == "-" else file, "rb", closefd=str(file) != "-") as opened:
            status = os.fstat(opened.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
                what = f"other users may read or change the token file {file} (mode {status.st_mode & 0o777:o})"
                raise Refusal(
                    what,
                    f"chmod 600 {quote(str(file))}; then make a new token if others use this machine",
                    Why.NO_TOKEN,
                )
            if stat.S_ISDIR(status.st_mode) or stat.S_ISBLK(status.st_mode):
                raise Refusal(f"{file} is no file", "name the file that holds the token, alone on a line", Why.NO_TOKEN)
            return opened.read(LARGEST + 1)
    except OSError as error:
        what = f"the token file {file} cannot be read: {str(error.strerror).lower()}"
        raise Refusal(what, f"ls -l {quote(str(file))}", Why.NO_TOKEN) from None


def _checked(data: bytes, source: str) -> Token:
    """Raises `Refusal`, which does not show what is there."""
    value = data.strip()
    if not value:
        raise Refusal(f"{source} holds no token: it is empty", NEW, Why.NO_TOKEN)
    if len(data) > LARGEST or not VALID.fullmatch(value):
        what = f"{source} holds no token: a token is one word of printable ASCII characters"
        raise Refusal(what, "write the token there, alone on a line", Why.NO_TOKEN)
    return Token(value.decode(), source)
