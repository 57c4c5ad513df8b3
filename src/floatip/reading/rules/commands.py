"""Programs that the daemon runs, files that it reads and writes, and the time that its stop may take."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from floatip.core.settings import Keepalived
from floatip.model import File, Model, Process, RunAs, Script, Value
from floatip.reading import files
from floatip.reading.files import Doubt
from floatip.reading.machine import Machine
from floatip.reading.place import Places, Problem, Thing, as_warning
from floatip.reading.rights import user_id
from floatip.reading.rules import parts
from floatip.reading.rules import run_as as rights
from floatip.reading.rules.parts import elections
from floatip.reading.words import shown


def commands(model: Model, places: Places, machine: Machine) -> Iterator[Problem]:
    for at, check in places.each(("check",), model.checks):
        match check.kind:
            case Script(argv, run_as):
                yield from _at(places, (*at, "script"), files.command(argv, rights.seen_by(run_as, machine)))
                yield from _at(places, (*at, "user" if run_as.user else "group"), rights.become(run_as, machine))
            case File(path, fail_when):
                doubts = [*files.watched(path, machine), *files.presence(path, fail_when, machine)]
                yield from _at(places, (*at, "file"), doubts)
            case Value(path):
                yield from _at(places, (*at, "value"), files.watched(path, machine))
            case Process(path, command=()) if path.startswith("/"):
                yield from _at(places, (*at, "process"), files.watched(Path(path), machine))
    if model.notify and not (model.notify.command or model.notify.drained) and places.is_whole(("notify",)):
        hint = 'name what runs at each change of role: command = "/etc/floatip/notify.sh"; or remove the table'
        yield places.error(("notify",), "it has no command", hint)
    for key in ("command", "drained") if model.notify else ():
        if argv := getattr(model.notify, key):
            yield from _at(places, ("notify", key), files.command(argv, machine))
    for at, told in parts.told(model, places):
        problems = _run_as(places, at, told.command, told.run_as, machine)
        # keepalived runs without a command that it cannot run, and nobody is told.
        yield from map(as_warning, problems) if places.is_keepaliveds else problems
    for at, fifo in places.each(("fifo",), model.fifos):
        if fifo.path:  # else it is wrong, and said to be
            yield from _at(places, (*at, "path"), files.own_fifo(fifo.path, fifo.owner, machine))
        if fifo.script:
            yield from _run_as(places, (*at, "script"), fifo.script, fifo.run_as, machine)


def _run_as(places: Places, thing: Thing, argv: tuple[str, ...], run_as: RunAs, machine: Machine) -> Iterator[Problem]:
    doubts = list(rights.become(run_as, machine))
    if argv and not any(doubt.is_error for doubt in doubts):
        doubts += files.command(argv, rights.seen_by(run_as, machine))
    yield from _at(places, thing, doubts)


def fifos(model: Model, places: Places) -> Iterator[Problem]:
    seen: dict[Path, Thing] = {model.keepalived.fifo: ("keepalived",)}
    for at, fifo in places.each(("fifo",), model.fifos):
        if (first := seen.setdefault(fifo.path, at)) != at:
            what = f"{fifo.path} is taken by {places.path(first) or 'keepalived'}"
            yield places.error((*at, "path"), what, "give each FIFO a path of its own")


def _at(places: Places, thing: Thing, doubts: Iterable[Doubt]) -> Iterator[Problem]:
    for what, hint, is_error in doubts:
        yield places.on_machine(thing, what, hint) if is_error else places.warning(thing, what, hint)


def state_log(model: Model, places: Places, machine: Machine) -> Iterator[Problem]:
    if model.state_log:
        yield from _at(places, ("state_log",), files.log_file(model.state_log, machine))


def keepalived(model: Model, places: Places, machine: Machine) -> Iterator[Problem]:
    first = next((at for at, one in elections(model, places) if isinstance(one, Keepalived)), None)
    if first is None:
        return
    thing: Thing = ("keepalived", "fifo")
    yield from _at(places, thing if thing in places.given else first, files.fifo(model.keepalived.fifo, machine))
    user = model.keepalived.script_user
    if user and user_id(user) is None:
        hint = "name the user that keepalived runs its scripts as: useradd --system --no-create-home keepalived_script"
        yield places.warning(("keepalived", "script_user"), f"there is no user {shown(user)}", hint)


def stop_time(model: Model, places: Places, machine: Machine) -> Iterator[Problem]:
    graceful = model.network.speaker.graceful_shutdown if model.network else 0.0
    takes = graceful + model.release_delay
    if takes >= machine.stop_limit:
        thing: Thing = ("bgp", "graceful_shutdown") if graceful else ("release_delay",)
        what = f"stopping takes {takes:g} s, and systemd kills floatip after {machine.stop_limit:g} s"
        yield places.warning(
            thing, what, f"systemctl edit floatip, and below [Service]: TimeoutStopSec={takes + 5:.0f}"
        )


RULES = (fifos,)
ON_MACHINE = (commands, state_log, keepalived, stop_time)
