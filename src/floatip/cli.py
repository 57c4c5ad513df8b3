"""The command line. What a command does lives elsewhere and is imported when the command is given."""

import json
import os
import shutil
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

import floatip
from floatip import DEFAULT_CONFIG

CONFIGURED_BY = (DEFAULT_CONFIG, "/etc/floatip/lelastic")
"""What the units of the package wait for."""

app = typer.Typer(
    help="Keeps a floating IP on a machine that can serve it, on clouds where addresses move by BGP.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigFile = Annotated[Path, typer.Argument(metavar="FILE", help="The configuration.")]
Json = Annotated[bool, typer.Option("--json", help="The same as data, on standard output.")]


class Request(StrEnum):
    HTTP = "http"
    TCP = "tcp"
    NONE = "none"


class RouteServers(StrEnum):
    BUILT_IN = "built-in"
    BIRD = "bird"


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"floatip {floatip.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,
) -> None:
    pass


@app.command()
def run(file: ConfigFile = Path(DEFAULT_CONFIG)) -> None:
    """Be the daemon: check, elect, announce, until SIGTERM. SIGHUP reloads FILE."""
    from floatip.host import daemon  # noqa: PLC0415

    raise typer.Exit(daemon.run(file))


@app.command(add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def lelastic(context: typer.Context) -> None:
    """Be a drop-in for lelastic, with its flags: announce what is found on lo. `floatip lelastic -h` lists them."""
    from floatip import lelastic as announcer  # noqa: PLC0415

    raise typer.Exit(announcer.main(context.args))


@app.command(add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def notify(context: typer.Context) -> None:
    """Tell the daemon what keepalived said: Master, Backup, Fault or Stop, or keepalived's own arguments."""
    from floatip import notify as messenger  # noqa: PLC0415

    raise typer.Exit(messenger.main(context.args))


@app.command()
def check(file: ConfigFile = Path(DEFAULT_CONFIG)) -> None:
    """Say everything that is wrong with FILE. Exit status 0: usable, 2: not."""
    from floatip import reading  # noqa: PLC0415
    from floatip.adopt.floatip_toml import since_adoption  # noqa: PLC0415
    from floatip.adopt.system import System  # noqa: PLC0415
    from floatip.reading.machine import daemons_user  # noqa: PLC0415

    try:
        model, warnings = reading.load(file, daemons_user())
        if file == Path(DEFAULT_CONFIG):
            warnings = (*warnings, *since_adoption(file, System()))
    except reading.ConfigErrors as refused:
        print(reading.render(refused.errors, refused.warnings))
        raise typer.Exit(2) from None
    print("\n".join(f"ok: {line}" for line in reading.will(model)) if not warnings else reading.render([], warnings))


@app.command()
def providers() -> None:
    """What is known of each network: AS numbers, peers, how a rank looks there, Linode's regions."""
    from floatip.provider_table import draw_providers  # noqa: PLC0415

    print(draw_providers())


@app.command()
def adopt(
    file: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", help="Path to keepalived.conf (default: the one that keepalived uses)."
        ),
    ] = None,
    dcid: Annotated[
        int | None, typer.Option(min=2, max=9999, help="Number of the data centre (default: from lelastic's unit).")
    ] = None,
    instance: Annotated[list[str] | None, typer.Option(help="Adopt only this vrrp_instance. May be repeated.")] = None,
    fifo: Annotated[
        bool, typer.Option("--fifo", help="Have keepalived tell floatip through a FIFO (default).")
    ] = False,
    notify: Annotated[bool, typer.Option("--notify", help="Have keepalived run floatip notify instead.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show everything and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Restore what the last adoption changed.")] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Continue even if this overwrites a changed file, stops announcing an address, "
            "or others can write what root reads.",
        ),
    ] = False,
) -> None:
    """Keep this node's keepalived, and replace its notify script, lelastic and sudo rule by floatip.

    Exit status 0: done, or nothing to do, 1: not done, 2: keepalived.conf cannot be read.
    """
    from floatip.adopt import command  # noqa: PLC0415
    from floatip.adopt.plan import Wishes  # noqa: PLC0415
    from floatip.adopt.system import System  # noqa: PLC0415

    if undo:
        raise typer.Exit(command.undo(System(), dry_run=dry_run, yes=yes, force=force))
    if fifo and notify:
        _fail("--fifo and --notify exclude each other", "give one of them, or none", 2)
    method: Literal["fifo", "notify"] | None = "fifo" if fifo else "notify" if notify else None
    wishes = Wishes(dcid, tuple(instance or ()), method, force)
    path = str(file.absolute()) if file else None
    raise typer.Exit(command.adopt(System(), wishes, config=path, dry_run=dry_run, yes=yes))


@app.command()
def init(
    dcid: Annotated[
        str | None, typer.Option(help="Linode's data centre: 6, us-east or newark; none for no BGP.")
    ] = None,
    address: Annotated[str | None, typer.Option(help="The floating IP; several separated by commas.")] = None,
    interface: Annotated[str | None, typer.Option(help="Interface to the other node.")] = None,
    source: Annotated[str | None, typer.Option(help="This node's private address.")] = None,
    peer: Annotated[str | None, typer.Option(help="The other node's private address.")] = None,
    vrid: Annotated[str | None, typer.Option(help="Virtual router id: 1 to 255, the same on both nodes.")] = None,
    prefer: Annotated[str | None, typer.Option(help="Which healthy node is master: this, other or neither.")] = None,
    check: Annotated[
        str | None, typer.Option(help="What to check: tcp:127.0.0.1:80, process:haproxy, script:/path or none.")
    ] = None,
    file: Annotated[Path, typer.Option(help="Write this node's configuration there.")] = Path(DEFAULT_CONFIG),
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the other node's configuration there (default: print it).")
    ] = None,
) -> None:
    """Write the configurations of a pair of nodes without keepalived. Asks for what no option says; overwrites nothing.

    Exit status 0: written, 1: not written, 2: the answers make no valid configuration.
    """
    from floatip import init as pair  # noqa: PLC0415
    from floatip.adopt.system import System  # noqa: PLC0415

    given = {"dcid": dcid, "addresses": address, "interface": interface, "source": source, "peer": peer}
    given |= {"vrid": vrid, "prefer": prefer, "check": check}
    raise typer.Exit(pair.init(System(), given, file, output))


@app.command()
def status(
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Again every second, until Ctrl-C.")] = False,
) -> None:
    """What the daemon on this machine does, since when and why.

    Exit status 0: all is well, 1: it names problems, 3: no daemon answers, 4: not allowed to ask it.
    """
    from floatip.core.state import Status, read  # noqa: PLC0415
    from floatip.host import ask  # noqa: PLC0415
    from floatip.view import draw_status  # noqa: PLC0415

    while True:
        try:
            answer = ask.ask(ask.socket_path(), {"cmd": "status"})
            known = read(Status, answer)
        except ask.NotAllowed as error:
            _fail(error.what, error.hint, 4)
        except ask.NobodyAnswers as error:
            begin = f"there is no {DEFAULT_CONFIG} yet: floatip adopt, or floatip init"
            _fail(error.what, error.hint if any(map(os.path.exists, CONFIGURED_BY)) else begin, 3)
        except ask.ControlError as error:
            _fail(error.what, error.hint, 3)
        if watch and sys.stdout.isatty():
            print("\033[H\033[2J", end="")
        print(
            json.dumps(answer, indent=2) if as_json else draw_status(known, shutil.get_terminal_size().columns),
            flush=True,
        )
        if not watch:
            raise typer.Exit(1 if known.needs_a_person else 0)
        time.sleep(1)


@app.command()
def observe(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="The floating IP, or a name, resolved once.")],
    port: Annotated[int, typer.Option(help="Port of the service.")] = 80,
    interval: Annotated[float, typer.Option(help="Seconds between two probes (at least 0.002).")] = 0.1,
    timeout: Annotated[float, typer.Option(help="Seconds after which a probe without an answer is lost.")] = 1.0,
    duration: Annotated[float | None, typer.Option(help="Stop after so many seconds (default: at Ctrl-C).")] = None,
    count: Annotated[int | None, typer.Option(help="Stop after so many probes (default: at Ctrl-C).")] = None,
    request: Annotated[
        Request, typer.Option(help="The request that goes with each echo, to learn which node answers.")
    ] = Request.HTTP,
    path: Annotated[str, typer.Option(help="Path of the HTTP request.")] = "/",
    as_json: Json = False,
    probes: Annotated[bool, typer.Option("--probes", help="With --json: also each probe.")] = False,
) -> None:
    """Probe the floating IP from a third machine: show what is lost, for how long, and which node answers.

    The service must name its node: in the header X-Node, in X-Served-By, or in the first line of the page.
    Where that begins as any page does, the header Server is shown.

    haproxy.cfg: http-response set-header X-Node %\\[hostname]

    nginx.conf: add_header X-Node $hostname always;

    Exit status 0: nothing lost, 1: something lost, 2: cannot observe.
    """
    from floatip.observing.prober import observe as probe  # noqa: PLC0415

    code = probe(
        address,
        port=port,
        interval=interval,
        timeout=timeout,
        duration=duration,
        count=count,
        as_json=as_json,
        probes=probes,
        request=request.value,
        path=path,
    )
    raise typer.Exit(code)


@app.command()
def lab(
    scene: Annotated[str, typer.Argument(metavar="SCENE", help="A scene, all, or shell.")] = "check",
    host: Annotated[str | None, typer.Argument(metavar="HOST", help="With shell: the host.")] = None,
    route_server: Annotated[
        RouteServers, typer.Option(help="The program that runs as the provider's route servers.")
    ] = RouteServers.BUILT_IN,
    hold_time: Annotated[int, typer.Option(help="Hold time of the BGP sessions, in seconds.")] = 9,
    advert_interval: Annotated[
        float, typer.Option(help="Seconds between two adverts (below 1: VRRP version 3).")
    ] = 1.0,
    runs: Annotated[int, typer.Option(help="Play each scene so many times, each time in a new lab.")] = 1,
    as_json: Json = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the lab running after the scene, for shells in it.")
    ] = False,
    show_scenes: Annotated[bool, typer.Option("--list", help="List the scenes.")] = False,
) -> None:
    """Play a failover on this machine, with real daemons in network namespaces, and show what an observer sees.

    floatip lab shell HOST opens a shell in a host of a lab that was started with --keep.

    Exit status 0: as expected, 1: not as expected, 2: the lab cannot run here.
    """
    from floatip.lab import runner, shell  # noqa: PLC0415
    from floatip.lab.namespaces import LabError, enter  # noqa: PLC0415
    from floatip.lab.record import RunOptions  # noqa: PLC0415
    from floatip.lab.scenes import SCENES  # noqa: PLC0415

    if show_scenes:
        print("\n".join(f"{name:13} {one.about}" for name, one in SCENES.items()))
        return
    names = list(SCENES) if scene == "all" else [scene]
    try:
        if scene == "shell":
            shell.open_shell(host or "haproxy1")
        if unknown := [name for name in names if name not in SCENES]:
            _fail(f"there is no scene {unknown[0]!r}", "floatip lab --list shows the scenes", 2)
        enter([sys.executable, "-m", "floatip", *sys.argv[1:]])
        options = RunOptions(
            bird=route_server is RouteServers.BIRD, hold_time=hold_time, advert_interval=advert_interval
        )
        raise typer.Exit(runner.play(names, options, runs=runs, as_json=as_json, keep=keep))
    except LabError as error:
        _fail(error.what, error.hint, 2)


def _fail(what: str, hint: str, code: int) -> NoReturn:
    print(f"error: {what}\nhint: {hint}", file=sys.stderr)
    raise typer.Exit(code)
