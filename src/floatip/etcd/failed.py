"""Why an endpoint did not answer a question: for people, and whether what was asked may have been done."""

import errno
import os
import ssl
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx

from floatip.core.etcd_wire import Refused, Says
from floatip.etcd.settings import Settings
from floatip.text import printable

HEDGE = 0.3
"""Of the request timeout: then the next endpoint is asked too, and to connect takes no longer."""
NOT_DONE = {
    Says.TOKEN,
    Says.NO_USER,
    Says.COMMON_NAME,
    Says.PASSWORD,
    Says.NO_LEADER,
    Says.NO_GATEWAY,
    Says.PLAIN,
    Says.COMMON_NAME,
}
"""Such an answer says that the question was not even looked at."""
LASTING = {Says.TOKEN, Says.NO_USER, Says.COMMON_NAME, Says.PASSWORD, Says.DENIED, Says.NO_SPACE, Says.NO_LEASE}
"""It concerns one kind of question: another kind that is answered does not end it."""
EXPIRED, WRONG_NAME, WRONG_ADDRESS = 10, 62, 64
"""Of OpenSSL (X509_V_ERR_...)."""


class Failed(Exception):
    def __init__(self, reason: str, hint: str, *, done: bool = True, says: Says | None = None, weight: int = 0) -> None:
        """`done`: whether what was asked may have been done. `weight`: of several, the heaviest gives the hint."""
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.may_be_done = done
        self.says = says
        self.weight = weight

    @property
    def lasts(self) -> bool:
        return self.says in LASTING


def name(endpoint: str) -> str:
    """Short, for sentences."""
    return printable(urlsplit(endpoint).netloc or endpoint)


def late(endpoint: str, seconds: float) -> Failed:
    hint = f"ask it by hand: etcdctl --endpoints {endpoint} endpoint status"
    return Failed(f"{name(endpoint)} does not answer within {seconds:g} s", hint)


def several(failures: Mapping[str, Failed], endpoints: Sequence[str]) -> Failed:
    """What no endpoint answered, in the order configured. Where only the name differs, the first one is named."""
    in_order = [(one, failures[one]) for one in endpoints if one in failures]
    if len({failure.reason for _, failure in in_order}) == 1:
        return in_order[0][1]
    alike: dict[str, list[Failed]] = {}
    for endpoint, failure in in_order:
        alike.setdefault(failure.reason.removeprefix(name(endpoint)), []).append(failure)
    heaviest = max((failure for _, failure in in_order), key=lambda failure: failure.weight)
    done = any(failure.may_be_done for _, failure in in_order)
    said = [same[0].reason + (f" (and {len(same) - 1} more)" if len(same) > 1 else "") for same in alike.values()]
    reason = f"no endpoint of etcd answers: {'; '.join(said[:3])}"
    return Failed(reason, heaviest.hint, done=done, says=heaviest.says, weight=heaviest.weight)


def of_answer(refused: Refused, endpoint: str, settings: Settings, right: str = "read and write") -> Failed:
    """It answered, and not what was asked for. `right`: what the question needs below the prefix."""
    who, text = name(endpoint), printable(refused.text)
    user = printable(settings.user)
    match refused.says:
        case Says.NO_GATEWAY:
            reason = f"{who} answers 404: its gRPC gateway is off, or it is not etcd 3.3 or later"
            hint = "start etcd with --enable-grpc-gateway (the default of etcd)"
        case Says.PLAIN:
            reason, hint = f"{who} speaks TLS", f"write https:// in endpoints of [etcd]: https://{who}"
        case Says.COMMON_NAME:
            reason = f"{who} takes no certificate with a common name (CN), because it has users"
            hint = f"make {settings.certificate} again without a CN: openssl req ... -subj /O=floatip"
        case Says.NO_USER:
            reason = "etcd wants to know the user"
            hint = "set user and password in [etcd]"
        case Says.PASSWORD:
            reason = f"etcd does not accept the user {user} with the password in {settings.password}"
            hint = f"try it by hand: etcdctl --endpoints {endpoint} --user {user} get {settings.prefix} --prefix"
        case Says.DENIED:
            whom = f"the user {user}" if user else "floatip without a user"
            reason = f"etcd does not let {whom} {right} below {settings.prefix}"
            allow = f"allow it: etcdctl role grant-permission ROLE readwrite {settings.prefix} --prefix=true"
            hint = allow if user else "set user and password in [etcd]"
        case Says.TOKEN:
            reason, hint = f"{who} does not accept the token that it gave", "see the log of etcd"
        case Says.NO_LEADER:
            reason = f"{who} has no leader: most members of etcd do not reach each other"
            hint = "see which members answer: etcdctl endpoint status --cluster"
        case Says.NO_SPACE:
            reason = "etcd is out of space and takes no writes (alarm NOSPACE)"
            hint = "compact and defragment etcd, then: etcdctl alarm disarm"
        case Says.NO_LEASE:
            reason, hint = "the lease is over", ""
        case Says.GARBAGE:
            reason = f"{who} {_unlike_etcd(refused.status)}" + f": {text[:60]}" * bool(text.strip())
            hint = f"check that it is etcd, and no proxy: curl -i {endpoint}/version"
        case _:
            reason, hint = f"{who} answers: {text[:120]}", "see the log of etcd: journalctl -u etcd"
    heavy = refused.says not in (Says.OTHER, Says.GARBAGE)
    return Failed(reason, hint, done=refused.says not in NOT_DONE, says=refused.says, weight=2 if heavy else 1)


def _unlike_etcd(status: int) -> str:
    if status == HTTPStatus.OK:
        return "does not answer as etcd does"
    try:
        meaning = f" ({HTTPStatus(status).phrase})"
    except ValueError:
        meaning = ""
    return f"answers with status {status}{meaning}, as etcd does not"


def of_connection(error: Exception, endpoint: str, settings: Settings) -> Failed:
    """There was no answer, or half of one."""
    who = name(endpoint)
    done = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    if isinstance(error, httpx.ConnectTimeout):
        reason = f"{who} takes no connection within {settings.request_timeout * HEDGE:.2g} s"
        hint = f"check that the machine is up, and that no firewall drops it: nc -vz {who.replace(':', ' ')}"
        return Failed(reason, hint, done=False)
    if isinstance(error, httpx.TimeoutException):
        failure = late(endpoint, settings.request_timeout)
        return Failed(failure.reason, failure.hint, done=done)
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            reason, hint = _of_tls(cause, who, endpoint, settings)
            return Failed(reason, hint, done=done, weight=2)
    code = next((cause.errno for cause in causes if isinstance(cause, OSError) and cause.errno), None)
    running = "check that etcd runs there: systemctl status etcd"
    if code == errno.ECONNREFUSED or "All connection attempts failed" in str(error):
        return Failed(f"{who} refuses the connection", running, done=done)
    if code is not None and code < 0:  # of getaddrinfo
        reason = f"the name of {who} is not known to the resolver"
        return Failed(reason, f"getent hosts {urlsplit(endpoint).hostname}", done=done)
    is_it = f"check that it is etcd: curl {endpoint}/version"
    if endpoint.startswith("http:"):
        is_it = f"if etcd speaks TLS, write https://{who} in endpoints of [etcd]; else {is_it}"
    if code in (errno.EPIPE, errno.ECONNRESET):
        reason, hint = f"{who} closed the connection: {os.strerror(code).lower()}", is_it
        if endpoint.startswith("https:"):
            # A server of TLS 1.3 looks at our certificate when we believe to be connected.
            ours = settings.certificate or "none was given"
            reason = f"{who} closed the connection; perhaps it does not accept our certificate ({ours})"
            hint = "check certificate and key in [etcd]; see the log of etcd: journalctl -u etcd"
        return Failed(reason, hint, done=done)
    if code:
        reason = f"{who} cannot be reached: {os.strerror(code).lower()}"
        return Failed(reason, f"ping {urlsplit(endpoint).hostname}", done=done)
    if isinstance(error, httpx.RemoteProtocolError) and done:
        reason = f"{who} closed the connection without a whole answer: {printable(str(error))[:60]}"
        return Failed(reason, is_it)
    return Failed(f"{who}: {printable(str(error) or type(error).__name__)[:120]}", running, done=done)


def _of_tls(error: ssl.SSLError, who: str, endpoint: str, settings: Settings) -> tuple[str, str]:
    show = "openssl x509 -noout -dates -subject -ext subjectAltName"
    look = f"look at it: openssl s_client -connect {who} </dev/null | {show}"
    if isinstance(error, ssl.SSLCertVerificationError):
        match error.verify_code:
            case code if code == EXPIRED:
                return f"the certificate of {who} has expired", f"give etcd a new one; {look}"
            case code if code in (WRONG_NAME, WRONG_ADDRESS):
                return f"the certificate of {who} is for another name", f"name the endpoint as it does; {look}"
        ca = settings.ca or "the system's authorities"
        return (
            f"the certificate of {who} is not trusted: {ca} did not sign it",
            "set ca in [etcd] to the file of its CA",
        )
    said = (error.reason or str(error)).lower().replace("_", " ")
    if "wrong version number" in said or "record layer failure" in said or "http request" in said:
        return f"{who} does not speak TLS", f"write http:// in endpoints of [etcd]: http://{who}"
    if "unexpected eof" in said:
        reason = f"{who} closed the connection when TLS began; perhaps it does not speak TLS"
        return reason, f"if etcd speaks no TLS, write http://{who} in endpoints of [etcd]; else {look}"
    if "alert" in said:
        ours = settings.certificate or "none was given"
        return f"{who} does not accept our certificate ({ours}): {said}", "check certificate and key in [etcd]"
    return f"TLS with {who} failed: {said}", look


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """And what is in groups, as of several addresses of a name."""
    seen = 0
    while error and seen < 10:
        yield error
        if isinstance(error, BaseExceptionGroup):
            yield from error.exceptions
        error, seen = error.__cause__ or error.__context__, seen + 1
