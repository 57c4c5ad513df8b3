"""When a certificate ends. Python's `ssl` says it only of a peer's, and of an authority's."""

import ssl
from datetime import UTC, datetime
from pathlib import Path

SOON = 14 * 86400.0
"""Seconds before its end in which it is a warning."""
LARGEST = 1 << 20
MARK = "-----END CERTIFICATE-----"
UTC_TIME, GENERALIZED_TIME, VERSION = 0x17, 0x18, 0xA0
"""Tags of ASN.1 (X.690)."""


def ends_at(path: str | Path) -> float:
    """Of the first one in a file of PEM: seconds since the Unix epoch. Raises `OSError` and `ValueError`."""
    with open(path, "rb") as file:
        text = file.read(LARGEST).decode("ascii", "replace")
    first, mark, _ = text.partition(MARK)
    _, begin, body = first.rpartition("-----BEGIN CERTIFICATE-----")
    try:
        return _not_after(ssl.PEM_cert_to_DER_cert(begin + body + mark))
    except (IndexError, ValueError):
        raise ValueError("it is no certificate") from None


def ending(path: str | Path, now: float) -> str:
    """That it has ended or ends soon, as a predicate; empty: it does not, or cannot be read."""
    try:
        end = ends_at(path)
    except (OSError, ValueError):
        return ""
    date = f"{datetime.fromtimestamp(end, UTC):%Y-%m-%d %H:%M} UTC"
    if end <= now:
        return f"has expired: it ended at {date}"
    days = round((end - now) / 86400)
    return f"ends in {days} day{'s' * (days != 1)}: at {date}" if end - now < SOON else ""


def _not_after(der: bytes) -> float:
    """RFC 5280 4.1: in the certificate, in what is signed, behind version, serial, algorithm and issuer."""
    at = _open(der, _open(der, 0)[0])[0]
    if der[at] == VERSION:
        at = _open(der, at)[1]
    for _ in ("serial", "algorithm", "issuer"):
        at = _open(der, at)[1]
    at, _ = _open(der, at)  # validity
    at = _open(der, at)[1]  # not before
    start, end = _open(der, at)
    if der[at] not in (UTC_TIME, GENERALIZED_TIME):
        raise ValueError("it has no end")
    text = der[start:end].decode("ascii")
    if der[at] == UTC_TIME:
        text = ("20" if text < "50" else "19") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _open(der: bytes, at: int) -> tuple[int, int]:
    """Where the content of the value at `at` begins, and ends."""
    length, start = der[at + 1], at + 2
    if length & 0x80:
        octets = length & 0x7F
        length = int.from_bytes(der[start : start + octets], "big")
        start += octets
    return start, start + length
