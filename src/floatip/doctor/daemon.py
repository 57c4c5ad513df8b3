"""The daemon: whether it answers, what it says of the other nodes, and what its process may do."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import floatip
from floatip.commands import Refusal
from floatip.core.problems import Code as Named
from floatip.core.problems import Severity
from floatip.doctor.context import Context
from floatip.doctor.finding import Code, Finding, note, problem, unseen, warning, well
from floatip.doctor.host import Unseen
from floatip.history import read_history
from floatip.history_command import directory as history_directory
from floatip.host.ask import NobodyAnswers, NotAllowed
from floatip.text import span

CAPABILITIES = {12: "CAP_NET_ADMIN", 13: "CAP_NET_RAW"}
"""capabilities(7): to hold addresses, and to speak VRRP."""
ELSEWHERE = {Named.NODE_SILENT, Named.NODE_DEAF, Named.NO_SESSION}
"""Problems that other parts of the doctor name."""
READ = {("daemon", "started"), ("configuration", "reloaded")}
"""The changes in the history with which the daemon has read its file."""


def daemon(context: Context) -> Iterator[Finding]:
    status, error = context.status, context.no_status
    if status is None:
        if isinstance(error, NotAllowed):
            hint = "sudo floatip doctor"
            yield unseen(Code.DAEMON, "floatip", "this user may not ask the daemon", error.what, hint)
        elif isinstance(error, NobodyAnswers) and context.has_file:
            what, *facts = error.what.split("\n")
            yield problem(Code.DAEMON, "floatip", what, facts, error.hint)
        elif isinstance(error, NobodyAnswers):
            yield note(Code.DAEMON, "floatip", "no floatip daemon runs")
        else:
            said = error.what if isinstance(error, Refusal) else "its answer is of another version"
            yield problem(Code.DAEMON, "floatip", f"the daemon: {said}", (), "systemctl restart floatip")
        return
    what = f"the daemon runs: pid {status.pid}, version {status.version}, up {span(status.uptime)}"
    yield well(Code.DAEMON, "floatip", what, "floatip status")
    if status.version != floatip.__version__:
        what = f"the daemon runs version {status.version}, and {floatip.__version__} is installed"
        yield warning(Code.VERSIONS, "floatip", what, "floatip status", "systemctl restart floatip")
    named = [one for one in status.problems if one.severity == Severity.PROBLEM and one.code not in ELSEWHERE]
    for one in named:
        yield problem(Code.DAEMON, one.subject, f"floatip status: {one.what}", f"code {one.code}", one.hint)
    yield from _reload(context)


def _reload(context: Context) -> Iterator[Finding]:
    """Whether the file is newer than what the daemon runs with."""
    assert context.status
    try:
        changed = datetime.fromtimestamp(context.file.stat().st_mtime, UTC)
        now = datetime.now(UTC)
        started = now - timedelta(seconds=context.status.uptime)
        history = read_history(history_directory(), since=started)
    except OSError:
        return
    times = [datetime.fromisoformat(one.time) for one in history if (one.what, one.value) in READ]
    last = max([started, *times])
    shown = f"stat {context.file}: changed {changed:%H:%M:%S}; floatip history: read {last:%H:%M:%S} UTC"
    if changed > last + timedelta(seconds=1):
        what = f"{context.file} was changed {span((now - changed).total_seconds())} ago, and the daemon has not read it"
        hint = "floatip check && systemctl reload floatip"
        yield warning(Code.RELOAD_PENDING, str(context.file), what, shown, hint)
    else:
        yield well(Code.RELOAD_PENDING, str(context.file), "the daemon runs with the file as it is", shown)


def nodes(context: Context) -> Iterator[Finding]:
    """The link, both ways, and what differs between the nodes."""
    status = context.status
    if not status or not status.nodes:
        return
    for node in status.nodes:
        if node.own:
            continue
        name, shown = node.name, f"floatip nodes: {node.name} {node.state}"
        where = f"{name} ({node.address})"
        if node.state != "alive":
            hint = f"on {name}: systemctl status floatip; here: tcpdump -ni any udp and host {node.address}"
            what = f"this node does not hear {where}: {node.why or node.state}"
            yield problem(Code.LINK_HEARD, name, what, shown, hint)
            continue
        if node.hears_us is None:
            hint = f"on {name}: floatip doctor, which reads its firewall"
            yield problem(
                Code.LINK_HEARD, name, f"{where} does not hear this node, and this node hears it", shown, hint
            )
        else:
            heard = (
                f"heard {node.heard:.1f} s ago, hears us {node.hears_us:.1f} s ago" if node.heard is not None else ""
            )
            yield well(Code.LINK_HEARD, name, f"{where} and this node hear each other", f"{shown}, {heard}")
        if node.version and node.version != status.version:
            what = f"{name} runs floatip {node.version}, and this node {status.version}"
            yield warning(Code.VERSIONS, name, what, "floatip nodes", "upgrade the older one")
        elif node.version:
            yield well(Code.VERSIONS, name, f"{name} runs floatip {node.version}, as this node", "floatip nodes")
        if node.same_configuration is False:
            hint = f"scp -p {context.file} root@{node.address}:{context.file}, then there: systemctl reload floatip"
            yield warning(Code.VERSIONS, name, f"the configuration of {name} is another one", "floatip nodes", hint)


def process(context: Context) -> Iterator[Finding]:
    status = context.status
    if not status or not status.pid:
        return
    path = f"/proc/{status.pid}/status"
    try:
        text = context.host.text(path)
        (line,) = (one for one in text.splitlines() if one.startswith("CapEff:"))
        effective = int(line.split()[1], 16)
    except (Unseen, ValueError, IndexError) as error:
        yield unseen(Code.CAPABILITIES, "floatip", f"the capabilities of the daemon are not known: {error}")
    else:
        missing = [name for bit, name in CAPABILITIES.items() if not effective >> bit & 1]
        if missing:
            what = f"the daemon lacks {' and '.join(missing)}: it cannot hold addresses or speak VRRP"
            hint = "systemctl cat floatip: AmbientCapabilities= must name CAP_NET_ADMIN and CAP_NET_RAW"
            yield problem(Code.CAPABILITIES, "floatip", what, f"{path}: {line}", hint)
        else:
            yield well(Code.CAPABILITIES, "floatip", f"the daemon has {' and '.join(CAPABILITIES.values())}", path)
    scheduling = status.scheduling
    if scheduling is None:
        return
    if scheduling.policy not in ("rr", "fifo"):
        what = f"the daemon is not real-time (policy {scheduling.policy}): a busy machine delays what it sends"
        hint = f"chrt --rr --reset-on-fork --pid 10 {status.pid}  # many containers refuse it"
        yield warning(Code.SCHEDULING, "floatip", what, "floatip status --json: scheduling", hint)
    else:
        what = f"the daemon is real-time: {scheduling.policy}, priority {scheduling.priority}"
        yield well(Code.SCHEDULING, "floatip", what, "floatip status --json: scheduling")
