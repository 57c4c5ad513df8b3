"""The commands. What a command does lives elsewhere and is imported when the command is given.

This module imports little: the daemon and `floatip notify` begin here.
"""

import errno
import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from floatip import DEFAULT_CONFIG
from floatip.commands import CANNOT_WRITE, COMMANDS, WRITING, Command, Misused, Number, Option, Refusal

DAILY, SET_UP, STARTED, LEARN = "every day", "set up a node", "started by systemd and keepalived", "learn and try"
FILE = Option("FILE", "The configuration", Path, Path(DEFAULT_CONFIG))


class _DataCentre(Number):
    def __call__(self, text: str) -> float | str:  # type: ignore[override]
        return text if text == "auto" else super().__call__(text)


DCID = Option(
    "--dcid N",
    "Linode's data centre, if the configuration names none; or auto: as the metadata service says",
    _DataCentre(int, 1, 9999),
)
JSON = Option("--json", "Print JSON", dest="as_json")
WATCH = Option("-w --watch", "Repeat every second, also while no daemon answers, until Ctrl-C")


VERB_EXITS = {
    0: "done",
    1: "refused, or not done within 30 s",
    3: "no daemon answers",
    4: "this user may not ask the daemon",
    130: "stopped by Ctrl-C; the daemon goes on",
}


def _duration(text: str) -> float:
    from floatip.verbs import seconds  # noqa: PLC0415

    return seconds(text)


def _reason(text: str) -> str:
    from floatip.verbs import reason  # noqa: PLC0415

    return reason(text)


WAIT = Option("--wait", "Then wait until no open connection goes on here", dest="waits")
REASON = Option("--reason TEXT", "Why; shown in the status of all nodes", _reason, "")


def main(arguments: Sequence[str]) -> int:
    """The exit status. A command's `--help` raises SystemExit."""
    return ended(lambda: _main(arguments))


def ended(command: Callable[[], int]) -> int:
    """Its exit status, once it is said what it refuses and what cannot be written."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # others chose names and outputs, and not the locale
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            return command()
        except Refusal as refusal:
            from floatip.text import say  # noqa: PLC0415

            say(f"error: {refusal}")
            return refusal.status
        except EOFError:
            print("\nAborted.", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
        finally:
            if sys.stdout:
                sys.stdout.flush()
    except OSError as error:
        if error.errno not in WRITING:
            raise
        # Python flushes stdout again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno != errno.EPIPE:
            with suppress(OSError):
                print(f"error: cannot write: {str(error.strerror).lower()}", file=sys.stderr)
        return CANNOT_WRITE


def _main(arguments: Sequence[str]) -> int:
    command = COMMANDS.get(arguments[0]) if arguments else None
    if command and command.takes(arguments[1:]):
        return command.run(*arguments[1:])
    from floatip.arguments import run  # noqa: PLC0415

    return run(*arguments)


@Command(
    DAILY,
    {0: "all is well", 1: "the daemon names problems", 3: "no daemon answers", 4: "this user may not ask the daemon"},
    Option("[INSTANCE]", "Show only this instance (default: all)"),
    Option("--all", "Show each instance, check and problem, also where many are alike", dest="everything"),
    Option("--brief", "Print one line for a monitoring plug-in: exit status 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN"),
    JSON,
    Option(
        "-w --watch", "Show it until Ctrl-C, also while no daemon answers; into a pipe, print a line for each change"
    ),
)
def status(instance: str | None, everything: bool, brief: bool, as_json: bool, watch: bool) -> int:
    """Show what the daemon on this machine does, since when and why.

    Problems come first, each with its code, which floatip help CODE explains; then
    who has the traffic of each instance. Of more than four instances, those that
    are alike share a block.
    """
    from floatip import status as shown  # noqa: PLC0415

    if brief:
        others = (("--json", as_json), ("--watch", watch), ("INSTANCE", instance is not None))
        if given := [name for name, is_given in others if is_given]:
            raise Misused(f"--brief and {given[0]} exclude each other", "floatip status --brief prints one line")
        return shown.brief()
    display = shown.watch if watch else shown.show
    return display(instance, everything=everything, as_json=as_json)


@Command(
    DAILY,
    {
        0: "all nodes are alive and hear this one",
        1: "a node is silent, deaf or refused, or no nodes are configured",
        3: "no daemon answers",
        4: "this user may not ask the daemon",
    },
    JSON,
    WATCH,
)
def nodes(as_json: bool, watch: bool) -> int:
    """Show all nodes: who is alive, what each carries, which are drained."""
    from floatip import nodes as shown  # noqa: PLC0415

    return shown.watch(as_json=as_json) if watch else shown.show(as_json=as_json)


def _since(text: str) -> object:
    from floatip.history_command import since  # noqa: PLC0415

    return since(text)


@Command(
    DAILY,
    {0: "shown", 1: "there is no history", 4: "this user may not read it"},
    Option("--since WHEN", "From then on: 90s, 2h, 7d, 14:30, 2026-11-29, '2026-11-29 14:30'", _since),
    Option("--instance NAME", "Only what concerns this instance alone"),
    JSON,
    Option("--tsv", "Print a table with tabs between the columns"),
)
def history(**options: object) -> int:
    """Show what changed on this node, when, and why, the latest last.

    Reads the file that the daemon writes, also while no daemon runs. Times are
    local; in JSON and TSV they are UTC.
    """
    from floatip import history_command  # noqa: PLC0415

    show: Callable[..., int] = history_command.show
    return show(**options)


@Command(
    DAILY,
    {
        0: "answered",
        1: "there is no such instance, node or check",
        2: "the file is refused",
        3: "no daemon answers",
        4: "this user may not ask the daemon",
    },
    Option("[INSTANCE]", "The instance (default: all); or the path of a keepalived.conf: what each of its lines means"),
    Option("--if-down NODE", "What would happen if this node went down", dest="down"),
    Option("--if-check-fails CHECK", "The same if this check of this node failed", dest="fails"),
    Option("--if-drained NODE", "The same if this node were drained", dest="drained"),
    JSON,
)
def explain(instance: str | None, down: str | None, fails: str | None, drained: str | None, as_json: bool) -> int:
    """Show why a node carries an instance, and what would change it.

    Names the rule that decided. A question is played on a copy of what the daemon
    knows: nothing happens to the nodes. What this node cannot know, it says.
    """
    if instance and "/" in instance:
        from floatip import explain_file  # noqa: PLC0415

        if as_json or not down is fails is drained is None:
            raise Misused("a file has no --json and no --if-...", f"floatip explain {instance}")
        if instance.endswith(".toml"):
            raise Misused("explain reads a keepalived.conf, or asks the daemon", f"floatip check {instance}")
        return explain_file.explain(Path(instance))
    from floatip import explain as explaining  # noqa: PLC0415

    return explaining.show(instance, down, fails, drained, as_json=as_json)


@Command(
    DAILY,
    VERB_EXITS,
    REASON,
    Option("--for TIME", "Undrain after this time: 90s, 30m, 2h, 1h30m", _duration, dest="seconds"),
    Option("--withdraw", "Also announce nothing as a standby, once others carry it"),
    WAIT,
    Option("--force", "Also if no other node is ready, or its sessions are young"),
)
def drain(reason: str, seconds: float | None, withdraw: bool, waits: bool, force: bool) -> int:
    """Hand over all that this node carries, and keep it out of elections.

    Waits until the other nodes carry it. The node stays drained until floatip
    undrain, also when it restarts. Repeating the command shows how it stands.
    """
    from floatip.verbs import carry_out  # noqa: PLC0415

    return carry_out(
        "drain", "wait" if waits else "", reason=reason, **{"for": seconds}, withdraw=withdraw, force=force
    )


@Command(DAILY, VERB_EXITS)
def undrain() -> int:
    """Let this node take part in elections again."""
    from floatip.verbs import carry_out  # noqa: PLC0415

    return carry_out("undrain")


@Command(
    DAILY,
    VERB_EXITS,
    Option("[INSTANCE]", "The instance (default: all that this node carries)"),
    Option("--to NODE", "The node that takes over (default: the best that is ready)"),
    WAIT,
    Option("--force", "Also if the sessions of the node that takes over are young"),
)
def handover(instance: str | None, to: str | None, waits: bool, force: bool) -> int:
    """Hand an instance over to another node that is ready.

    Run it on the node that carries the instance.
    """
    from floatip.verbs import carry_out  # noqa: PLC0415

    return carry_out("handover", "wait" if waits else "", instance=instance, to=to, force=force)


@Command(
    DAILY,
    {
        0: "done, or nothing to do",
        1: "refused, or not all was moved",
        2: "the configuration is wrong; nothing was moved",
        3: "no daemon answers, or etcd does not",
        4: "this user may not ask the daemon",
        130: "stopped by Ctrl-C",
    },
    Option("--dry-run", "Show what would move, and move nothing"),
    Option("--yes", "Do not ask on the terminal"),
    Option("--file FILE", "This node's configuration, which names etcd", Path, Path(DEFAULT_CONFIG)),
)
def rebalance(dry_run: bool, yes: bool, file: Path) -> int:
    """Move the fewest instances so that each node has its share.

    Shows the plan and asks. Then one instance after the other is handed over by
    the node that carries it. Stops at the first that does not arrive. Without
    etcd it moves only what this node carries.
    """
    from floatip import rebalance as rebalancing  # noqa: PLC0415

    return rebalancing.command(file, dry_run=dry_run, yes=yes)


@Command(
    DAILY,
    VERB_EXITS,
    Option("--for TIME", "Resume after this time: 90s, 30m, 2h, 1h30m", _duration, dest="seconds"),
    REASON,
)
def pause(seconds: float | None, reason: str) -> int:
    """Freeze the elections of this node; checks still count."""
    from floatip.verbs import carry_out  # noqa: PLC0415

    return carry_out("pause", **{"for": seconds}, reason=reason)


@Command(DAILY, VERB_EXITS)
def resume() -> int:
    """Let this node elect again after a pause."""
    from floatip.verbs import carry_out  # noqa: PLC0415

    return carry_out("resume")


@Command(
    DAILY,
    {
        0: "the configuration can be used",
        1: "with --run: a check failed; with --strict: there are warnings",
        2: "it cannot be used",
    },
    FILE,
    DCID,
    Option("--strict", "Exit with status 1 if there are warnings"),
    Option("--run", "Then run each check once, as the daemon would: as user floatip, without capabilities"),
    Option("--as PATH", "Judge FILE as if it were PATH already, with the key that is there", Path, dest="becomes"),
)
def check(file: Path, dcid: int | str | None, run: bool, strict: bool, becomes: Path | None) -> int:
    """Report every mistake in the configuration and on this machine.

    FILE is a floatip.toml or a keepalived.conf, or - for a floatip.toml from
    stdin. As root, look with the rights of user floatip, who runs the daemon, and
    report where keepalived.conf says something else than floatip.toml.
    """
    from floatip import check as checking  # noqa: PLC0415

    return checking.check(file, dcid, run=run, strict=strict, becomes=becomes)


@Command(
    DAILY,
    {0: "nothing is wrong", 1: "there are problems", 2: "no problem was found, and something could not be looked at"},
    FILE,
    Option("--all", "Show what is well too, each with what was read", dest="everything"),
    JSON,
    Option(
        "--observer ADDRESS",
        "Also ask whether TCP port 9113 to this observer passes the firewall; may be repeated",
        dest="observers",
        action="append",
    ),
    Option(
        "--support [PATH]",
        "Write a file to send to others, without secrets, and list what is in it",
        nargs="?",
        const="",
    ),
)
def doctor(**options: object) -> int:
    """Find what is wrong with this machine, its firewall and its network.

    Each finding has what was read, and the command that mends it. Nothing is
    changed. Without a daemon or a configuration it says what it can; as another
    user than root it says what it could not see.
    """
    from floatip.doctor import command  # noqa: PLC0415

    examine: Callable[..., int] = command.doctor
    return examine(**options)


@Command(
    DAILY,
    {0: "shown", 2: "the configuration cannot be used, or has no such node"},
    FILE,
    Option("--without NODE", "Show only what happens without this node; may be repeated", action="append"),
    JSON,
)
def plan(file: Path, without: list[str] | None, as_json: bool) -> int:
    """Show which node carries which instance, and who takes over from it.

    First with all nodes ready, then without each of them in turn. Reads only the
    file, on any machine; "floatip nodes" shows what the nodes do now.
    """
    from floatip import plan as planning  # noqa: PLC0415

    return planning.plan(file, without or [], as_json=as_json)


def _fleet_verb(text: str) -> str:
    if text in FLEET_VERBS:
        return text
    raise ValueError(f"{', '.join([*FLEET_VERBS][:-1])} or {[*FLEET_VERBS][-1]}")


FLEET_VERBS = {
    "apply": ("--dry-run", "--yes"),
    "get": ("--version", "--json"),
    "diff": (),
    "plan": ("--json",),
    "versions": ("--json",),
    "members": ("--json",),
    "leave": ("--force",),
    "join": (),
    "forget": (),
}
"""And the options of each."""


@Command(
    DAILY,
    {
        0: "done; with diff: no difference; with members: all are alive",
        1: "refused, or not done; with diff: a difference; with members: one is silent",
        2: "the configuration or the arguments are wrong; nothing was done",
        3: "etcd or the daemon does not answer",
        4: "this user may not ask the daemon",
        130: "stopped by Ctrl-C",
    },
    Option("VERB", "What to do, see above", _fleet_verb),
    Option("[ARGUMENT]", "With apply, diff and plan: FILE, or - for stdin; with forget: NAME"),
    Option("--version N", "With get: this version, not the one in force", Number(int, 1, 10**12)),
    Option("--dry-run", "With apply: show what would change, and change nothing"),
    Option("--yes", "With apply: do not ask on the terminal"),
    Option("--force", "With leave: also if no other node is ready, or its sessions are young"),
    JSON,
    Option("--file FILE", "This node's configuration, which names etcd", Path, Path(DEFAULT_CONFIG)),
)
def fleet(verb: str, argument: str | None, file: Path, **options: object) -> int:
    """Change the configuration of all nodes at etcd; show its members.

    apply FILE     check the configuration, show what changes, and put it in force
    get            print the configuration
    diff FILE      compare it with a file
    plan FILE      show which instances would move with it
    versions       list the versions that are kept; get --version N prints one
    members        list the nodes of the fleet, and which of them are alive
    leave, join    take this node out of the fleet, after it has handed over all
                   that it carries; and let it in again
    forget NAME    remove a member that does not exist any more
    """
    given = {f"--{name.replace('as_json', 'json').replace('_', '-')}" for name, value in options.items() if value}
    if wrong := given - set(FLEET_VERBS[verb]):
        raise Misused(f"{min(wrong)} means nothing for fleet {verb}", "floatip fleet --help")
    if argument is not None and verb not in ("apply", "diff", "plan", "forget"):
        raise Misused(f"fleet {verb} takes no argument", "floatip fleet --help")
    if verb in ("leave", "join"):
        from floatip.fleet import leaving  # noqa: PLC0415

        return leaving.carry_out(verb, force=bool(options["force"]))
    from floatip.fleet import command  # noqa: PLC0415

    version, dry_run, yes, as_json = (options[name] for name in ("version", "dry_run", "yes", "as_json"))
    wishes = command.Wishes(argument, file, int(str(version or 0)), bool(dry_run), bool(yes), bool(as_json))
    return command.fleet_command(verb, wishes)


@Command(
    DAILY,
    {0: "nothing was lost; with --join: asked to stop", 1: "something was lost", 2: "floatip cannot observe"},
    Option("[ADDRESS]", "The floating IP, or a name, which is resolved once"),
    Option("--port PORT", "Port of the service", Number(int, 1, 65535), 80),
    Option("--interval SECONDS", "Time between two probes", Number(float, 0.002, 3600), 0.1),
    # Below the 131 s in which the sequence numbers of echoes come round at the shortest interval.
    Option("--timeout SECONDS", "Time after which a probe without an answer is lost", Number(float, 0.001, 60), 1.0),
    Option("--duration SECONDS", "Stop after this time, not at Ctrl-C", Number(float, 0.002, 604800)),
    Option("--count N", "Stop after N probes, not at Ctrl-C", Number(int, 1, 1000000000)),
    Option("--request http|tcp|none", "Request sent with each echo, to learn which node answers", str, "http"),
    Option("--path PATH", "Path of the HTTP request", str, "/"),
    JSON,
    Option("--probes", "With --json: also print each probe"),
    Option(
        "--join [ADDRESS:PORT]",
        "Wait for drills of the nodes, and record for them (default: on all addresses, port 9113)",
        nargs="?",
        const="",
    ),
    Option("--key FILE", "With --join: the key of the nodes, /etc/floatip/key if not given", Path),
    Option("--name NAME", "With --join: the name in the report (default: that of this machine)"),
)
def observe(address: str | None, join: str | None, key: Path | None, name: str | None, **options: object) -> int:
    """Probe the floating IP from a third machine and show what is lost.

    Also shows which node answers. The service must name its node: in the header
    X-Node, in X-Served-By, or in the first line of the page. If that line begins
    like any page, the header Server is shown.

    haproxy.cfg: http-response set-header X-Node %[hostname]
    nginx.conf:  add_header X-Node $hostname always;

    With --join it waits until a drill on a node asks it to probe, so that the
    report has what a third machine saw.
    """
    if join is not None:
        return _join(join, key, name, {"address": address, **options})
    if given := [option for option, value in (("--key", key), ("--name", name)) if value is not None]:
        raise Misused(f"{given[0]} is only for --join", "floatip observe --help")
    if address is None:
        raise Misused("the floating IP is missing", "give it, or --join to wait for drills: floatip observe --help")
    from floatip.observing import prober  # noqa: PLC0415

    probe: Callable[..., int] = prober.observe
    return probe(address, **options)


def _join(where: str, key: Path | None, name: str | None, others: dict[str, object]) -> int:
    options = {option.settings.get("dest", option.names[0][2:]): option for option in COMMANDS["observe"].options[1:]}
    for dest, value in others.items():
        option = options.get(dest)
        if value not in (None, False) and not (option and value == option.settings.get("default")):
            hint = "the drill says what to probe: floatip observe --join [ADDRESS:PORT]"
            raise Misused(f"{option.names[0] if option else 'ADDRESS'} means nothing beside --join", hint)
    from floatip.observing import join  # noqa: PLC0415

    return join.join(where, key or Path(DEFAULT_CONFIG).with_name("key"), name)


@Command(
    DAILY,
    {
        0: "the failover went as the documentation says, and all is as before",
        1: "it did not, or the report could not be written",
        2: "refused, or the options are wrong; nothing was done",
        3: "no daemon answers",
        4: "this user may not ask the daemon",
        130: "stopped by Ctrl-C or another signal; the fault is undone",
    },
    Option("[INSTANCE]", "The instance (default: the one that this node carries)"),
    Option("--fault check|stop|handover|cut", "What happens to this node", str, "check"),
    Option("--check NAME", "With --fault check: which check fails (default: the first one of the instance)"),
    Option("--to NODE", "With --fault handover: the node that takes over"),
    Option(
        "--for SECONDS",
        "How long the fault lasts (default: 10; handover 5, cut 12)",
        Number(float, 3, 120),
        dest="lasts",
    ),
    Option("--observer HOST", "HOST or HOST:PORT, where floatip observe --join runs; may be repeated", action="append"),
    Option("--key FILE", "With --observer: the key of the nodes", Path, Path(DEFAULT_CONFIG).with_name("key")),
    Option("--port PORT", "Port of the service that observers probe", Number(int, 1, 65535), 80),
    Option("--request http|tcp|none", "What they send with each echo", str, "http"),
    Option("--path PATH", "Path of their HTTP request", str, "/"),
    Option("--interval SECONDS", "Time between two probes", Number(float, 0.002, 10), 0.02),
    Option("--report FILE", "Write a report: FILE ends in .html or .json; may be repeated", action="append"),
    JSON,
    Option("--dry-run", "Say what would be done, and what stands against it"),
    Option("--yes", "Do not ask for confirmation"),
    Option("--force", "Also where the readiness of the other node is not known, sessions are young, or problems exist"),
    Option(
        "--from FILE",
        "Show the report of a drill again, from its JSON; with --report, write it again",
        Path,
        dest="source",
    ),
)
def drill(
    instance: str | None,
    fault: str,
    check: str | None,
    to: str | None,
    lasts: float | None,
    observer: list[str] | None,
    key: Path,
    port: int,
    request: str,
    path: str,
    interval: float,
    report: list[str] | None,
    as_json: bool,
    source: Path | None,
    **how: bool,
) -> int:
    """Rehearse a failover on this node, and report how it went.

    Run it on the node that carries the instance. It says what it will do, asks,
    makes the fault, watches, undoes it, and checks that all is as before. The
    fault ends also if this command is killed.
    """
    from floatip.drill import command  # noqa: PLC0415
    from floatip.drill.observation import Target  # noqa: PLC0415

    reports = tuple(map(Path, report or ()))
    if source:
        return command.convert(source, reports, as_json=as_json)
    for name, value, of in (("--check", check, "check"), ("--to", to, "handover")):
        if value is not None and fault != of:
            raise Misused(f"{name} is only for --fault {of}", "floatip drill --help")
    target = Target("", port, request, interval, path)
    observers = tuple(observer or ())
    return command.drill(
        command.Wishes(instance, fault, check, lasts, to, observers, key, target, reports, as_json=as_json, **how)
    )


@Command(
    SET_UP,
    {0: "done, or nothing to do", 1: "not done", 2: "keepalived.conf cannot be read, or the options are wrong"},
    Option("--config FILE", "Path to keepalived.conf (default: the one that keepalived uses)"),
    Option("--dcid N", "Number of the data centre, if not as in lelastic's unit", Number(int, 2, 9999)),
    Option("--instance NAME", "Adopt only this vrrp_instance; may be repeated", action="append"),
    Option("--notify", "Have keepalived run floatip notify instead of writing to a FIFO"),
    Option("--replace", "Put floatip in keepalived's place: it runs keepalived.conf as it is"),
    Option("--root", "With --replace: run floatip as root, without the sandbox of its unit, for scripts that need it"),
    Option("--dry-run", "Show everything and change nothing"),
    Option("--yes", "Do not ask for confirmation"),
    Option("--undo", "Restore what the last adoption changed"),
    Option(
        "--force",
        "Continue even if this overwrites a changed file, stops announcing an address, "
        "or others can write what root reads",
    ),
)
def adopt(config: str | None, dcid: int | None, instance: list[str] | None, undo: bool, **options: bool) -> int:
    """Replace lelastic and scripts of keepalived, or keepalived as well.

    Without --replace keepalived stays and elects. With it, floatip runs
    keepalived.conf in its place. Each change is shown before you are asked.
    """
    from floatip.adopt import command  # noqa: PLC0415
    from floatip.adopt.plan import Wishes  # noqa: PLC0415
    from floatip.adopt.system import System  # noqa: PLC0415

    notify, force = options.pop("notify"), options.pop("force")
    replaces, as_root = options.pop("replace"), options.pop("root")
    if undo:
        others = {"--config": config, "--dcid": dcid, "--instance": instance, "--notify": notify}
        others |= {"--replace": replaces, "--root": as_root}
        if given := [name for name, value in others.items() if value not in (None, False)]:
            what = f"--undo restores what the last adoption changed: {given[0]} means nothing beside it"
            raise Misused(what, "floatip adopt --undo takes only --dry-run, --yes and --force")
        return command.undo(System(), force=force, **options)
    wishes = Wishes(dcid, tuple(instance or ()), notify, force, as_root)
    file = str(Path(config).absolute()) if config else None
    if replaces and (notify or instance):
        what = (
            "--replace runs all of keepalived.conf without keepalived: --instance and --notify mean nothing beside it"
        )
        raise Misused(what, "floatip adopt --replace --help")
    if as_root and not replaces:
        raise Misused("--root means nothing without --replace", "floatip adopt --help")
    if replaces:
        return command.replace_keepalived(System(), wishes, config=file, **options)
    return command.adopt(System(), wishes, config=file, **options)


@Command(
    SET_UP,
    {0: "printed", 2: "the keepalived.conf cannot be used"},
    Option("FILE", "The keepalived.conf", Path, Path("/etc/keepalived/keepalived.conf")),
    DCID,
)
def convert(file: Path, dcid: int | str | None) -> int:
    """Print the floatip.toml that runs the same as a keepalived.conf.

    Passwords and keys are printed too. Warnings and notes are in comments, and with
    hints on stderr.
    """
    from floatip import convert as converting  # noqa: PLC0415

    return converting.convert(file, dcid)


@Command(
    SET_UP,
    {0: "written", 1: "not written", 2: "the answers make no valid configuration"},
    Option("--dcid WHERE", "Linode's data centre: auto, 6, us-east or newark; none for no BGP"),
    Option(
        "--node NAME=ADDRESS",
        "A node and its own address; repeat it for each. This machine's may be left out",
        dest="nodes",
        action="append",
    ),
    Option("--address IP", "The floating IP; several separated by commas", dest="addresses"),
    Option("--check WHAT", "What to check: tcp:127.0.0.1:80, process:haproxy, script:/path or none"),
    Option("--prefer NODE", "The node that carries the address at first; none: any"),
    Option("--file FILE", "Write the configuration there, and the key beside it", Path, Path(DEFAULT_CONFIG)),
)
def init(file: Path, **answers: object) -> int:
    """Write the configuration of all nodes and their key.

    For nodes without keepalived. Asks for what no option says. Overwrites nothing.
    """
    from floatip import init as fleet  # noqa: PLC0415
    from floatip.adopt.system import System  # noqa: PLC0415

    return fleet.init(System(), answers, file)


@Command(
    SET_UP,
    {0: "written", 1: "not written", 2: "the options exclude each other"},
    Option("FILE", "The file of the key", Path, Path(DEFAULT_CONFIG).with_name("key")),
    Option("--next", "Add a second key, which is believed and does not sign yet", dest="add_next"),
    Option("--use-next", "Let the second key sign; the first is still believed"),
    Option("--drop-old", "Remove the key that signs no more"),
)
def key(file: Path, add_next: bool, use_next: bool, drop_old: bool) -> int:
    """Make the key with which the nodes sign what they tell each other.

    All nodes have the same file. Without options, make the first one. To replace
    the key without a gap: --next, --use-next, --drop-old, and after each of them
    copy the file to all nodes and reload floatip there, as the output says.
    """
    from floatip import key as keys  # noqa: PLC0415

    asked = {"--next": add_next, "--use-next": use_next, "--drop-old": drop_old}
    given = [name for name, is_given in asked.items() if is_given]
    if len(given) > 1:
        raise Misused(f"{given[0]} and {given[1]} exclude each other", "give one, copy the file to all nodes, reload")
    return keys.write(file.absolute(), given[0] if given else "")


@Command(
    SET_UP,
    {
        0: "done, or nothing to do",
        1: "refused, not done, or not seen within 60 s",
        2: "the arguments or the configuration are wrong",
        130: "stopped by Ctrl-C; what is written stays",
    },
    Option("[ADDRESS...]", "What to share (default: the addresses of the configuration)"),
    Option(
        "--with NODE",
        "Share to this node, or to the Linode of this number; repeat it for each (default: all nodes)",
        dest="receivers",
        action="append",
    ),
    Option(
        "--linode NUMBER",
        "The Linode that this machine is (default: as the metadata service says)",
        Number(int, 1, 10**12 - 1),
    ),
    Option("--remove ADDRESS", "Do not share it any longer; repeat it for each", action="append"),
    Option("--dry-run", "Show what would change, and change nothing"),
    Option("--yes", "Do not ask"),
    Option("--token-file FILE", "File with the token, or - (default: $LINODE_TOKEN or $LINODE_CLI_TOKEN)", Path),
    Option("--file FILE", f"The configuration (default: {DEFAULT_CONFIG})", Path),
    JSON,
)
def share(file: Path | None, **asked: object) -> int:
    """Let Linodes announce each other's addresses, by Linode's API.

    Linode's route servers close the session of a Linode to which nothing is shared.
    Reads what is shared, shows what would change, asks, adds it, and waits until it
    is seen. What is shared already stays. The token needs the scopes
    ips:read_write and linodes:read_write.
    """
    from floatip import share as sharing  # noqa: PLC0415

    return sharing.share(sharing.wishes(file, asked))


@Command(
    STARTED,
    {
        0: "asked to stop",
        1: "no permission, or another floatip runs",
        2: "the configuration is wrong",
        70: "a bug",
        75: "this machine is not ready, and may be later",
    },
    FILE,
    DCID,
    takes=lambda arguments: len(arguments) <= 1 and not any(argument.startswith("-") for argument in arguments),
)
def run(file: Path | str = DEFAULT_CONFIG, dcid: int | str | None = None) -> int:
    """Run the daemon until SIGTERM. SIGHUP reloads the configuration.

    FILE is a floatip.toml or a keepalived.conf.
    """
    import signal  # noqa: PLC0415

    # Until it listens to them they wait: an early stop must release what a predecessor left.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    from floatip.host import daemon  # noqa: PLC0415

    return daemon.run(file, dcid)


@Command(STARTED, {}, takes=lambda arguments: True)
def lelastic(*arguments: str) -> int:
    """Run a drop-in replacement for lelastic, with its flags."""
    from floatip import lelastic as announcer  # noqa: PLC0415

    return announcer.main(arguments)


@Command(STARTED, {}, takes=lambda arguments: True)
def notify(*arguments: str) -> int:
    """Tell the daemon the new state of keepalived."""
    from floatip import notify as messenger  # noqa: PLC0415

    return messenger.main(arguments)


@Command(
    LEARN,
    {0: "as expected", 1: "not as expected", 2: "the lab cannot run here"},
    Option("SCENE", "A scene, all, or shell", str, "check"),
    Option("HOST", "With shell: the host", str, "haproxy1"),
    Option("--route-server built-in|bird", "Program that runs as the provider's route servers", str, "built-in"),
    Option("--hold-time SECONDS", "Hold time of the BGP sessions", Number(int, 3, 65535), 9),
    Option(
        "--advert-interval SECONDS",
        "Of VRRP: time between two adverts; whole ones: version 2",
        Number(float, 0.01, 40),
        1.0,
    ),
    Option("--delay MS", "Of the network between the observer and the router, each way", Number(float, 0, 1000), 0.0),
    Option(
        "--connections N",
        "Long connections in the scenes that have them, and as many short ones a second, 500 at most",
        Number(int, 1, 20000),
        500,
    ),
    Option("--second-chance off|on", "Whether open connections survive a planned move", str, "off"),
    Option("--answers tunnel|auto", "How their answers reach the observer then", str, "tunnel"),
    Option("--runs N", "Play each scene N times, each time in a new lab", Number(int, 1, 1000), 1),
    JSON,
    Option("--report FILE", "Write a report with a picture: FILE ends in .html or .json", Path),
    Option("--keep", "Keep the lab running after the scene, for shells in it"),
    Option("--list", "List the scenes", dest="show_scenes"),
)
def lab(
    scene: str,
    host: str,
    show_scenes: bool,
    route_server: str,
    hold_time: int,
    advert_interval: float,
    delay: float,
    connections: int,
    second_chance: str,
    answers: str,
    runs: int,
    report: Path | None,
    **how: object,
) -> int:
    """Play a failover on this machine, with real daemons in namespaces.

    Shows what an observer sees. "floatip lab shell HOST" opens a shell in a host
    of a lab that was started with --keep. With --report, each of several scenes or
    runs has a file of its own: FILE-crash.html, FILE-crash-2.html.
    """
    from floatip.lab import runner, shell  # noqa: PLC0415
    from floatip.lab.namespaces import enter  # noqa: PLC0415
    from floatip.lab.record import RunOptions  # noqa: PLC0415
    from floatip.lab.scenes import SCENES  # noqa: PLC0415

    if show_scenes:
        print("\n".join(f"{name:18} {one.about}" for name, one in SCENES.items()))
        return 0
    names = list(SCENES) if scene == "all" else [scene]
    if scene == "shell":
        shell.open_shell(host)
    if missing := [name for name in names if name not in SCENES]:
        raise Misused(f"there is no scene {missing[0]!r}", "floatip lab --list shows the scenes")
    if report:
        runner.check_report(report, names, runs)
    enter([sys.executable, "-m", "floatip", *sys.argv[1:]])
    options = RunOptions(
        bird=route_server == "bird",
        hold_time=hold_time,
        advert_interval=advert_interval,
        connections=connections,
        second_chance="on" if second_chance == "on" else "off",
        answers="auto" if answers == "auto" else "tunnel",
        delay=delay / 1000,
    )
    play: Callable[..., int] = runner.play
    return play(names, options, runs=runs, report=report, **how)


@Command(
    LEARN,
    {0: "shown", 1: "nothing is known of it"},
    Option("[WORD]", "A code as the brackets show it, a command, a key of floatip.toml, a keyword of keepalived.conf"),
)
def help(word: str | None) -> int:
    """Explain a code that a message names, a command or a key.

    A message ends with its code in brackets, as in [no-session]: floatip help
    no-session says what it means and what to do.
    """
    from floatip import help_command  # noqa: PLC0415

    return help_command.tell(word or "")


@Command(LEARN, {})
def providers() -> int:
    """Show what floatip knows of each provider.

    That is AS numbers, peers, how a rank looks there, and Linode's regions.
    """
    from floatip.provider_table import draw_providers  # noqa: PLC0415

    print(draw_providers())
    return 0
