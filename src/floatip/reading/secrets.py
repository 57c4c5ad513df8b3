"""Files with a secret or a certificate: who can read them, whether TLS can use them. No message shows any of one."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from floatip.certificate import ending
from floatip.reading import regular
from floatip.reading.files import Doubt, closed_above
from floatip.reading.machine import DAEMON, Machine

LARGEST = 1 << 20


def unreadable(path: Path, machine: Machine, *, is_secret: bool) -> Doubt | None:
    share = f"chown root:{machine.user or DAEMON} {path} && chmod 640 {path}"
    try:
        with regular.looked_at(path) as descriptor:
            mode = os.fstat(descriptor).st_mode
            text = regular.read_from(descriptor, LARGEST)
    except OSError as error:
        return Doubt(f"{path} cannot be read: {str(error.strerror).lower()}", _mend(path, machine, share))
    if machine.user and not machine.may(path, os.R_OK):
        return Doubt(f"user {machine.user}, who runs the daemon, cannot read {path}", _mend(path, machine, share))
    has_secret = (is_secret and b"-----BEGIN CERTIFICATE" not in text) or b"PRIVATE KEY-----" in text
    if has_secret and mode & 0o007:
        return Doubt(f"every user of this machine can use {path}: its mode is {mode & 0o777:o}", share)
    return None


def _mend(path: Path, machine: Machine, share: str) -> str:
    if os.path.exists(path) and not os.path.isfile(path):  # a directory that root alone may enter would be worse
        return "correct the path: it names no file"
    if closed := closed_above(path, machine):
        return f"copy it to /etc/floatip, where user {machine.user or DAEMON} can read it: {closed} is closed"
    return share if os.path.exists(path) else "correct the path, or make the file"


def tls(certificate: Path | None, key: Path | None, ca: Path | None, *, is_server: bool) -> Iterator[tuple[str, Doubt]]:
    """What is wrong with the content of files that can be read, by "certificate", "key" or "ca"."""
    import ssl  # noqa: PLC0415

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
    at = "key" if key else "certificate"
    try:
        if certificate:
            context.load_cert_chain(certificate, key, password="")
        at = "ca"
        if ca:
            context.load_verify_locations(ca)
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or str(error)
        hint = "give a certificate in PEM with those that it needs, its key without a passphrase, and the CA in PEM"
        yield at, Doubt(f"cannot be used for TLS: {str(why).replace('_', ' ').lower()}", hint)
        return
    for at, path in (("certificate", certificate), ("ca", ca)):
        if path and (how := ending(path, time.time())):
            hint = f"put a new one in its place; see it: openssl x509 -noout -dates -in {path}"
            yield at, Doubt(f"{path} {how}", hint)
