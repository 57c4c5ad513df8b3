"""etcd, asked from here: each endpoint, its version and alarms, its certificate, its clock, and whose prefix it is."""

import asyncio
import http.client
import json
import ssl
import time
from collections.abc import Iterator
from dataclasses import asdict
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from floatip import model
from floatip.certificate import SOON, ending
from floatip.core.arbiter import FLEET, FORMAT
from floatip.core.etcd import Answer, EtcdEndpoint, EtcdMembers, Range, Rows, Unknown
from floatip.doctor.context import Context
from floatip.doctor.finding import Code, Finding, note, problem, unseen, warning, well

CLOCKS = 2.0
"""Seconds by which the clocks may differ: the header has whole seconds, and the way takes time."""


def etcd(context: Context) -> Iterator[Finding]:
    config = context.model.etcd if context.model else None
    if not context.model or not config:
        return
    try:
        import httpx  # noqa: F401, PLC0415
    except ModuleNotFoundError:
        hint = "apt install python3-httpx, and: systemctl restart floatip"
        yield problem(Code.ETCD, "etcd", "floatip cannot ask etcd: Python's library httpx is missing", (), hint)
        return
    if config.certificate:
        yield _own_certificate(config.certificate)
    endpoints, answer, hint = asyncio.run(_ask(config))
    bad = [one for one in endpoints if one.answers is False]
    majority = len(endpoints) // 2 + 1
    for one in endpoints:
        if one.reason:
            is_fatal = isinstance(answer, Unknown) or len(endpoints) - len(bad) < majority or one.answers
            make = problem if is_fatal else warning
            yield make(Code.ETCD, one.url, one.reason, f"asked {one.url}/v3/maintenance/status", one.hint)
        else:
            yield well(Code.ETCD, one.url, f"{one.url} answers, etcd {one.version}", "/v3/maintenance/status")
        if one.answers:
            yield from _connection(one.url, config)
    if isinstance(answer, Unknown) and not (endpoints and len(bad) == len(endpoints)):
        what = f"etcd does not answer a read of {config.prefix}: {answer.reason}"
        yield problem(Code.ETCD, "etcd", what, "asked /v3/kv/range", hint)
    elif isinstance(answer, Rows):
        yield from _fleet(context, config, answer)


async def _ask(config: model.Etcd) -> tuple[tuple[EtcdEndpoint, ...], Answer, str]:
    """How each endpoint is, what a read of the row of the fleet gives, and the hint if it gives nothing."""
    from floatip.etcd.client import Client  # noqa: PLC0415
    from floatip.etcd.settings import read  # noqa: PLC0415

    told: list[EtcdEndpoint] = []
    hints = [""]

    def report(event: object) -> None:
        if isinstance(event, EtcdMembers):
            told[:] = event.endpoints
        else:
            hints.append(getattr(event, "hint", ""))

    given = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(config).items()}
    client = Client(read(given), report)
    try:
        answer = await client.ask(Range(FLEET))
        await client.look()
    finally:
        await client.close()
    return tuple(told), answer, hints[-1]


def _connection(url: str, config: model.Etcd) -> Iterator[Finding]:
    """Its certificate and its clock."""
    parts = urlsplit(url)
    host, timeout = parts.hostname or "", config.request_timeout
    try:
        if parts.scheme == "https":
            tls = ssl.create_default_context(cafile=config.ca)
            if config.certificate:
                tls.load_cert_chain(config.certificate, config.key, password="")
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, parts.port, timeout=timeout, context=tls
            )
        else:
            connection = http.client.HTTPConnection(host, parts.port, timeout=timeout)
        try:
            connection.connect()
            certificate = connection.sock.getpeercert() if isinstance(connection.sock, ssl.SSLSocket) else None
            before = time.time()
            connection.request("GET", "/version")
            date = connection.getresponse().getheader("Date")
            after = time.time()
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        yield unseen(Code.ETCD_CLOCK, url, f"certificate and clock of {url} are not seen: {error}")
        return
    if certificate:
        yield from _certificate(url, str(certificate.get("notAfter", "")))
    if date:
        yield from _clock(url, date, before, after)


def _own_certificate(path: Path) -> Finding:
    evidence = f"openssl x509 -noout -dates -in {path}"
    if how := ending(path, time.time()):
        hint = "put a new one in its place, with its key"
        return warning(Code.ETCD_CERTIFICATE, str(path), f"our certificate {path} {how}", evidence, hint)
    return well(Code.ETCD_CERTIFICATE, str(path), f"our certificate {path} does not end soon", evidence)


def _certificate(url: str, end: str) -> Iterator[Finding]:
    left = ssl.cert_time_to_seconds(end) - time.time()
    evidence, what = f"notAfter={end}", f"the certificate of {url} ends in {left / 86400:.0f} days"
    if left < SOON:
        hint = "renew it before; then nothing answers floatip there, and exclusive instances leave all nodes"
        yield warning(Code.ETCD_CERTIFICATE, url, what, evidence, hint)
    else:
        yield well(Code.ETCD_CERTIFICATE, url, what, evidence)


def _clock(url: str, date: str, before: float, after: float) -> Iterator[Finding]:
    try:
        theirs = parsedate_to_datetime(date).timestamp()
    except ValueError:
        return
    ahead = max(before - theirs - 1, theirs - after, 0.0)
    evidence = f"Date: {date}"
    if ahead > CLOCKS:
        what = f"the clocks of {url} and of this machine are {ahead:.0f} s apart"
        yield warning(Code.ETCD_CLOCK, url, what, evidence, "compare on both machines: timedatectl")
    else:
        yield well(Code.ETCD_CLOCK, url, f"the clock of {url} is that of this machine", evidence)


def _fleet(context: Context, config: model.Etcd, answer: Rows) -> Iterator[Finding]:
    """Whose prefix it is."""
    row = next((row for row in answer.rows if row.key == FLEET), None)
    if row is None:
        what = f"no fleet has used the prefix {config.prefix} yet"
        yield note(Code.ETCD_PREFIX, config.prefix, what, "asked /v3/kv/range", "start floatip on a node")
        return
    evidence = f"the row {config.prefix}{FLEET}: {row.value[:200]}"
    hint = "compare prefix in [etcd], sha256sum /etc/floatip/key and floatip --version on all nodes"
    try:
        found = json.loads(row.value)
        form, key = found["format"], found["key"]
    except (ValueError, TypeError, KeyError, RecursionError):
        what = f"the prefix {config.prefix} is used by another program"
        yield problem(Code.ETCD_PREFIX, config.prefix, what, evidence, hint)
        return
    keys = context.here.keys if context.here else ()
    if form != FORMAT:
        what = f"the rows below {config.prefix} have format {str(form)[:20]}, and this floatip knows {FORMAT}"
        yield problem(Code.ETCD_PREFIX, config.prefix, what, evidence, hint)
    elif not keys:
        what = f"whether the prefix {config.prefix} is this fleet's is not known: the key of the nodes is not readable"
        yield unseen(Code.ETCD_PREFIX, config.prefix, what, evidence, "sudo floatip doctor")
    elif key != model.fingerprint(keys[0]):
        what = f"the prefix {config.prefix} belongs to a fleet with another key"
        yield problem(Code.ETCD_PREFIX, config.prefix, what, evidence, hint)
    else:
        yield well(Code.ETCD_PREFIX, config.prefix, f"the prefix {config.prefix} is this fleet's", evidence)
