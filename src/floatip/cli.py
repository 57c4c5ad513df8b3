"""The command line. What a command does lives elsewhere and is imported when the command is given."""

import json
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

import floatip
from floatip import DEFAULT_CONFIG

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


@app.command()
def check(file: ConfigFile = Path(DEFAULT_CONFIG)) -> None:
    """Say everything that is wrong with FILE. Exit status 0: usable, 2: not."""
    from floatip import config  # noqa: PLC0415

    try:
        warnings = config.load(file).warnings()
    except config.ConfigErrors as refused:
        print(config.render(refused.errors, refused.warnings))
        raise typer.Exit(2) from None
    print(config.render([], warnings))


@app.command()
def providers() -> None:
    """What is known of each network: AS numbers, peers, how a rank looks there, Linode's regions."""
    from floatip.view import draw_providers  # noqa: PLC0415

    print(draw_providers())


@app.command()
def status(
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Again every second, until Ctrl-C.")] = False,
) -> None:
    """What the daemon on this machine does, since when and why.

    Exit status 0: all is well, 1: it names problems, 3: no daemon answers.
    """
    from floatip.host import control  # noqa: PLC0415
    from floatip.view import draw_status  # noqa: PLC0415

    while True:
        try:
            answer = control.ask(control.socket_path(), {"cmd": "status"})
        except control.ControlError as error:
            _fail(error.what, error.hint, 3)
        if watch and sys.stdout.isatty():
            print("\033[H\033[2J", end="")
        print(json.dumps(answer, indent=2) if as_json else draw_status(answer), flush=True)
        if not watch:
            raise typer.Exit(1 if answer["problems"] else 0)
        time.sleep(1)


@app.command()
def observe(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="The floating IP.")],
    port: Annotated[int, typer.Option(help="Where the service listens.")] = 80,
    interval: Annotated[float, typer.Option(help="Seconds between two probes; 0.002 at least.")] = 0.1,
    timeout: Annotated[float, typer.Option(help="Seconds after which a probe without an answer is lost.")] = 1.0,
    duration: Annotated[float | None, typer.Option(help="Seconds; without it until Ctrl-C.")] = None,
    count: Annotated[int | None, typer.Option(help="Probes of each kind; without it until Ctrl-C.")] = None,
    request: Annotated[
        Request, typer.Option(help="What goes with each echo to learn which node answers.")
    ] = Request.HTTP,
    path: Annotated[str, typer.Option(help="What the HTTP request asks for.")] = "/",
    as_json: Json = False,
    probes: Annotated[bool, typer.Option("--probes", help="With --json: each probe, not only what changed.")] = False,
) -> None:
    """Probe the floating IP from a third machine: what is lost, for how long, and which node answers.

    Exit status 0: nothing lost, 1: something lost, 2: could not observe.
    """
    from floatip.lab.observer import observe as look  # noqa: PLC0415

    code = look(
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
    scene: Annotated[str, typer.Argument(metavar="SCENE", help="One of the scenes, or all.")] = "check",
    route_server: Annotated[RouteServers, typer.Option(help="Who plays the provider.")] = RouteServers.BUILT_IN,
    hold_time: Annotated[int, typer.Option(help="Seconds; of the BGP sessions.")] = 9,
    advert_interval: Annotated[float, typer.Option(help="Seconds; below 1 it is VRRP version 3.")] = 1.0,
    runs: Annotated[int, typer.Option(help="Play each scene so often, each time from scratch.")] = 1,
    as_json: Json = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave it standing, and say how to get a shell in each host.")
    ] = False,
    show_scenes: Annotated[bool, typer.Option("--list", help="Say which scenes there are.")] = False,
) -> None:
    """Play a failover on this machine, in network namespaces, with real daemons, and show what an observer sees.

    Exit status 0: as expected, 1: not as expected, 2: the lab cannot run here.
    """
    from floatip.lab import play, scenes  # noqa: PLC0415
    from floatip.lab.net import LabError, enter  # noqa: PLC0415
    from floatip.lab.stage import Options  # noqa: PLC0415

    if show_scenes:
        print("\n".join(f"{name:13} {one.about}" for name, one in scenes.SCENES.items()))
        return
    names = list(scenes.SCENES) if scene == "all" else [scene]
    if unknown := [name for name in names if name not in scenes.SCENES]:
        _fail(f"there is no scene {unknown[0]!r}", f"one of: {', '.join(scenes.SCENES)}, all", 2)
    try:
        enter([sys.executable, "-m", "floatip", *sys.argv[1:]])
        options = Options(bird=route_server is RouteServers.BIRD, hold_time=hold_time, advert_interval=advert_interval)
        raise typer.Exit(play.play(names, options, runs=runs, as_json=as_json, keep=keep))
    except LabError as error:
        _fail(str(error), error.hint, 2)


def _fail(what: str, hint: str, code: int) -> NoReturn:
    print(f"error: {what}\nhint: {hint}", file=sys.stderr)
    raise typer.Exit(code)
