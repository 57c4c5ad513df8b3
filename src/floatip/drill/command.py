"""`floatip drill`: a failover of this node's own, rehearsed, watched, and undone whatever happens."""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from types import FrameType

import floatip
from floatip.commands import Refusal, again_as_root
from floatip.core.problems import Code
from floatip.core.refusals import Why
from floatip.core.state import InstanceView, Status, read
from floatip.drill import files, verdict
from floatip.drill.as_json import to_json
from floatip.drill.faults import CannotDrill, Check, CutOff, Fault, Handover, Hold, Stop, unit_of
from floatip.drill.lifeline import Lifeline
from floatip.drill.method import method
from floatip.drill.observation import Observation, Observer, Target
from floatip.drill.report import Done, Finding, Probes, Report, Seen, Step
from floatip.drill.text import draw
from floatip.drill.watching import Watch
from floatip.host.ask import ControlError, Record, ask, socket_path
from floatip.host.drill import LONGEST
from floatip.prompts import confirm
from floatip.screen import shown
from floatip.text import columns, folded, printable, terminal_width

LASTS = {"check": 10.0, "stop": 10.0, "handover": 5.0, "cut": 12.0}
"""Seconds: longer than the hold time of a route server where that shows what follows."""
BASELINE = 3.0
"""Seconds that are watched before the fault, in which another drill would be seen."""
AFTER = 3.0
"""Seconds that are watched after all is as before."""
RESTORED_WITHIN = 60.0
FETCHED_WITHIN = 30.0
SLACK, SLACK_OF_OBSERVER = 20.0, 30.0
"""Seconds that the daemon grants a drill beyond its fault, for what comes before and after."""
INTERRUPTED = 130


class Refused(CannotDrill):
    """All that stands against the drill is named already."""

    def __str__(self) -> str:
        return self.coded


@dataclass(frozen=True, slots=True)
class Wishes:
    instance: str | None
    fault: str
    check: str | None
    lasts: float | None
    to: str | None
    observers: tuple[str, ...]
    key: Path
    target: Target
    reports: tuple[Path, ...]
    as_json: bool
    dry_run: bool
    yes: bool
    force: bool


def drill(wishes: Wishes) -> int:
    """The exit status. Raises `Refusal`."""
    if os.geteuid() != 0:
        raise CannotDrill("a drill needs root: it makes a node fail", again_as_root(), Why.NOT_ALLOWED)
    for path in wishes.reports:
        try:
            files.check(path)
        except Refusal as refusal:
            raise CannotDrill(refusal.what, refusal.hint, refusal.code) from None
    return Rehearsal(wishes).play()


def convert(source: Path, reports: Sequence[Path], *, as_json: bool) -> int:
    """The same report again, from its JSON."""
    report = files.read(source)
    for path in reports:
        files.write(report, path)
    print(to_json(report) if as_json else shown(draw(report, columns())))
    return 0 if report.holds else 1


class Rehearsal:
    def __init__(self, wishes: Wishes) -> None:
        self._wishes = wishes
        self._stop = Event()
        """Somebody wants it to end."""
        self._hurry = Event()
        """Again, or after the fault was undone: nothing more is waited for."""
        self._is_undone = False
        self._signal = ""
        self._done: list[Done] = []
        self._notes: list[str] = []
        self._hold: Hold | None = None
        self._began = 0.0
        """Monotonic: when the fault began; 0: it has not."""
        self._observers: list[Observer] = []
        self._observations: list[Observation] = []
        self._missing: list[Finding] = []
        """Of what an observer was asked for."""

    def play(self) -> int:
        status = self._status()
        instance, check = self._instance(status), ""
        if self._wishes.fault == "check":
            check = self._wishes.check or self._first_check(instance)
        lasts = LASTS[self._wishes.fault] if self._wishes.lasts is None else self._wishes.lasts
        unit = unit_of(status) if self._wishes.fault == "stop" else ""
        slack = SLACK + SLACK_OF_OBSERVER * len(self._wishes.observers)
        self._request: Record = {"cmd": "drill", "instance": instance.name, "fault": self._wishes.fault}
        self._request |= {"check": check, "for": min(lasts + slack, LONGEST), "force": self._wishes.force}
        self._request |= {"to": self._wishes.to or ""}
        answer = self._dry(self._request)
        moved = [one.name for one in status.instances if one.role.value == "master"]
        if self._wishes.fault in ("check", "handover"):
            counts = answer.get("counts_for")
            moved = [name for name in moved if isinstance(counts, list) and name in counts]
        to, others = self._wishes.to or "", [name for name in moved if name != instance.name]
        self._method = method(status, instance, self._wishes.fault, check, unit, lasts, to, others)
        before = list(verdict.before(status, instance))
        self._show_method(before)
        self._judge(answer)
        self._join()
        if self._wishes.dry_run:
            self._say("nothing was done: --dry-run")
            return 0
        if not self._wishes.yes:
            if not sys.stdin.isatty():
                raise CannotDrill("stdin is not a terminal, so nobody can be asked", "add --yes if it may go ahead")
            is_wanted = False
            with suppress(KeyboardInterrupt, EOFError):
                is_wanted = confirm("Begin the drill?")
            if not is_wanted:
                self._say("")
                raise CannotDrill("nothing was done", "")
        fault = self._fault(instance, check, unit, lasts)
        with _Signals(self._interrupt):
            return self._rehearse(fault, instance, lasts, before)

    # Before

    def _status(self) -> Status:
        return read(Status, ask(socket_path(), {"cmd": "status"}))

    def _instance(self, status: Status) -> InstanceView:
        known = ", ".join(one.name for one in status.instances) or "none"
        name = self._wishes.instance
        carried = [one for one in status.instances if one.role.value == "master"]
        if name is None:
            if len(status.instances) == 1:
                return status.instances[0]
            if len(carried) == 1:
                return carried[0]
            which = ", ".join(one.name for one in carried)
            what = f"this node carries {which or 'nothing'}: which instance is meant is not clear"
            raise CannotDrill(what, f"name one: floatip drill {carried[0].name if carried else 'INSTANCE'}")
        if (found := verdict.instance_of(status, name)) is None:
            raise CannotDrill(f"there is no instance {name}", f"the instances are: {known}", Why.UNKNOWN_NAME)
        return found

    def _first_check(self, instance: InstanceView) -> str:
        """Of the instance, as the daemon names them in its objection."""
        checks = self._dry({"cmd": "drill", "instance": instance.name, "fault": "check", "for": 1}).get("checks")
        return str(checks[0]) if isinstance(checks, list) and checks else ""

    def _dry(self, request: Record) -> Record:
        hold = Hold(request | {"dry": True})
        hold.close()
        if "error" in hold.answer:
            hint = "restart the daemon, if it is older than this command: systemctl restart floatip"
            raise ControlError(f"the daemon does not know of drills: {hold.answer['error']}", hint)
        return hold.answer

    def _judge(self, answer: Record) -> None:
        """Says all that stands against the drill. Raises `Refused` where it hinders."""
        said = answer.get("objections")
        found = [one for one in said if isinstance(one, dict)] if isinstance(said, list) else []
        hindering = [one for one in found if not (one.get("may_force") and self._wishes.force)]
        for one in found:
            word = "refused" if one in hindering else "forced"
            self._say(f"{word}: {one.get('what')}", f"hint: {one.get('hint')}" if one in hindering else "")
        if hindering:
            reasons = "1 reason" if len(hindering) == 1 else f"{len(hindering)} reasons"
            raise Refused(f"nothing was done, for {reasons}, named above", "")
        self._notes = [f"forced, although {one.get('what')}" for one in found]

    def _fault(self, instance: InstanceView, check: str, unit: str, lasts: float) -> Fault:
        match self._wishes.fault:
            case "check":
                return Check(check, lasts, self._held, self._release)
            case "stop":
                return Stop(unit, lasts)
            case "handover":
                return Handover(instance.name, self._wishes.to or "", self._wishes.force)
        return CutOff()

    # The drill

    def _rehearse(self, fault: Fault, instance: InstanceView, lasts: float, before: list[Finding]) -> int:
        was = self._status()
        self._watch = watch = Watch(instance.name, was)
        starts = time.monotonic()
        restored: list[Finding] = []
        trouble: Refusal | None = None
        try:
            watch.start()
            self._note("before", "the daemon knows of the drill, and tells the others")
            self._hold = Hold(self._request)
            if self._hold.answer.get("began") is not True:
                self._judge(self._hold.answer)
                raise CannotDrill("the daemon refuses the drill", "see: floatip status")
            self._begin_observing(instance, lasts)
            fault.prepare()
            self._note("before", "what undoes the fault stands ready")
            if why := self._await(BASELINE, lambda: self._hindrance(was)):
                raise CannotDrill(why, "see how they are: floatip nodes; then begin again")
            self._must_be_answered()
            if not self._stop.is_set():
                self._began = time.monotonic()
                self._note("fault", fault.begins)
                fault.begin()
                self._note("watch", "the fault is made")
                if why := self._await(lasts, Lifeline(fault, instance, self._observers, self._watch).broken):
                    raise CannotDrill(why, "see how the nodes are: floatip nodes")
        except Refusal as refusal:
            trouble = refusal
            self._note("watch", f"the drill cannot go on: {refusal.what}")
        finally:
            undone = self._undo(fault)
        if self._began:
            restored = [*undone, *self._restored(was, instance.name), *self._restarted(was)]
            self._await(AFTER)
        watch.close()
        if self._began:
            self._finish_observing()
        for observer in self._observers:
            observer.close()
        if not self._began:
            if trouble:
                raise trouble
            self._say("nothing was done: stopped before the fault")
            return INTERRUPTED
        if trouble:
            what = f"the drill could not go on, and the fault was undone early: {trouble.what}"
            restored.insert(0, Finding(False, what, trouble.hint))
        report = self._report(starts, was, instance, before, restored, lasts)
        is_kept = self._give(report)
        if self._stop.is_set():
            return INTERRUPTED
        return 0 if report.holds and is_kept else 1

    def _undo(self, fault: Fault) -> list[Finding]:
        """Whatever goes wrong, all of it is tried."""
        found: list[Finding] = []
        self._note("restore", fault.ends if self._began else "no fault was made")
        try:
            fault.end()
        except Refusal as refusal:
            found.append(Finding(False, refusal.what, refusal.hint))
        self._release()
        if not self._began:
            return found
        self._note("restore", "undone")
        self._is_undone = True
        return [*found, *fault.leftovers()]

    def _restored(self, was: Status, name: str) -> list[Finding]:
        deadline = time.monotonic() + RESTORED_WITHIN
        while True:
            status = self._watch.status
            found = verdict.restored(was, status, name)
            missing = sum(not one.holds for one in found)
            damped = status is not None and any(one.code == Code.DAMPED for one in status.problems)
            if not missing or (missing == 1 and damped) or time.monotonic() > deadline or self._hurry.is_set():
                break  # to be damped takes minutes
            self._hurry.wait(0.5)
            self._tick(deadline - time.monotonic())
        self._note("after", "all is as before" if all(one.holds for one in found) else "not all is as before")
        return found

    def _restarted(self, was: Status) -> list[Finding]:
        status = self._watch.status
        if self._wishes.fault == "stop" or status is None or status.pid == was.pid:
            return []
        what = f"the daemon ended during the drill, and another one runs: pid {was.pid}, then {status.pid}"
        return [Finding(False, what, "see why: floatip history; journalctl -u floatip")]

    def _hindrance(self, was: Status) -> str:
        return verdict.hindrance(was, self._watch.status, self._method.instance)

    def _must_be_answered(self) -> None:
        """Where no probe is answered before the fault, none can show what it does."""
        told = {one.name: one.probes_so_far() for one in self._observers if one.is_probing}
        if (deaf := [name for name, (sent, lost) in told.items() if sent == lost > 0]) and not self._wishes.force:
            hint = f"on {deaf[0]}, see that the service answers: floatip observe ADDRESS; or add --force"
            raise CannotDrill(f"no probe of {', '.join(deaf)} was answered before the fault", hint)

    def _held(self) -> Hold:
        assert self._hold
        return self._hold

    def _release(self) -> None:
        if self._hold:
            self._hold.close()
            self._hold = None

    def _await(self, seconds: float, until: Callable[[], str] = lambda: "") -> str:
        """Says once a second how it stands; what `until` says ends it, and so does whoever wants it to end."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self._stop.is_set():
            if said := until():
                return said
            self._tick(left)
            self._stop.wait(min(left, 0.1))
        return ""

    # The observers

    def _join(self) -> None:
        if not self._wishes.observers:
            return
        from floatip.observing.joined import joined  # noqa: PLC0415

        for where in self._wishes.observers:
            self._observers.append(joined(where, self._wishes.key, self._method.node))
            self._say(f"ok: {self._observers[-1].name} is ready to observe")

    def _begin_observing(self, instance: InstanceView, lasts: float) -> None:
        target = replace(self._wishes.target, address=instance.addresses[0].address.partition("/")[0])
        most = BASELINE + lasts + RESTORED_WITHIN + AFTER + FETCHED_WITHIN
        for observer in self._observers:
            observer.begin(target, most)
            probes = f"probes {target.address} every {target.interval:g} s"
            self._note("before", f"{observer.name} {probes if observer.is_probing else 'records what its daemon says'}")

    def _finish_observing(self) -> None:
        for observer in self._observers:
            self._say(f"fetching what {observer.name} saw, for {FETCHED_WITHIN:g} s at most")
            try:
                self._observations.append(observer.finish(0.0 if self._hurry.is_set() else FETCHED_WITHIN))
            except Refusal as refusal:
                self._missing.append(
                    Finding(False, f"what {observer.name} saw is missing: {refusal.what}", refusal.hint)
                )
                self._say(f"warning: {self._missing[-1].text}")

    # The report

    def _report(
        self,
        starts: float,
        was: Status,
        instance: InstanceView,
        before: list[Finding],
        restored: list[Finding],
        lasts: float,
    ) -> Report:
        shown = self._watch.status
        seen = tuple(replace(one, at=one.at - self._began) for one in self._all_seen())
        probes = tuple(self._probes(one, instance) for one in self._observations if one.probes)
        findings = list(self._verdict(seen, probes, shown or was, instance, lasts))
        if not probes and not self._missing:
            self._notes.append(f"nothing was probed, so what clients notice is not known: {verdict.OBSERVE}")
        if self._signal:
            self._notes.append(f"the drill was ended early, by {self._signal}")
        return Report(
            title=f"Drill: {self._method.fault} on {self._method.node}, {instance.name}",
            made_by=f"floatip {floatip.__version__}",
            kind="drill",
            began=time.time() - (time.monotonic() - self._began),
            starts=starts - self._began,
            ends=time.monotonic() - self._began,
            method=self._method,
            nodes=self._nodes(was, seen),
            before=tuple(before),
            done=tuple(replace(one, at=one.at - self._began) for one in self._done),
            seen=seen,
            probes=probes,
            verdict=tuple(findings),
            restored=tuple(restored),
            notes=tuple(self._notes),
        )

    def _nodes(self, was: Status, seen: Sequence[Seen]) -> tuple[str, ...]:
        known = [node.name for node in was.nodes] or [self._method.node]
        return tuple(dict.fromkeys([*known, *(one.node for one in seen if one.what == "role")]))

    def _all_seen(self) -> list[Seen]:
        """What an observer's daemon said of itself is more exact than what was heard over the link."""
        first_hand = [one for observation in self._observations for one in observation.seen]
        nodes = {one.node for one in first_hand}
        own = [one for one in self._watch.seen if not (one.source and one.node in nodes)]
        return sorted([*own, *first_hand], key=lambda one: one.at)

    def _probes(self, one: Observation, instance: InstanceView) -> Probes:
        target = self._wishes.target
        results = tuple(replace(probe, at=probe.at - self._began) for probe in one.probes)
        address = instance.addresses[0].address.partition("/")[0]
        return Probes(one.observer, address, target.port, target.interval, results, one.uncertainty)

    def _verdict(
        self, seen: Sequence[Seen], probes: Sequence[Probes], now: Status, instance: InstanceView, lasts: float
    ) -> list[Finding]:
        found = [*self._missing]
        if instance.election != "keepalived" or self._method.fault == "cut":
            found.append(
                verdict.took_over(
                    seen, self._method.node, instance, self._method.fault, lasts, is_linked=bool(now.nodes)
                )
            )
        else:
            self._notes.append("keepalived elects: whether another node took over, only probes can tell")
        for one in probes:
            found += verdict.probed(one, instance, self._method.fault)
        return [*found, verdict.one_after(seen, now, instance.name)]

    def _give(self, report: Report) -> bool:
        """Whether it is in all files."""
        is_kept = True
        for path in self._wishes.reports:
            try:
                files.write(report, path)
                self._say(f"report: {path}")
            except Refusal as refusal:
                is_kept = False
                self._say(f"error: {refusal.what}", f"hint: {refusal.hint}")
        if self._wishes.as_json:
            print(to_json(report))
        else:
            with suppress(OSError, ValueError):
                print(f"\n{shown(draw(report, columns()))}", flush=True)
        return is_kept

    # The terminal

    def _interrupt(self, name: str) -> None:
        if self._stop.is_set() or self._is_undone:
            self._hurry.set()
        if not self._stop.is_set():
            self._signal = name
            self._stop.set()

    def _note(self, step: Step, text: str) -> None:
        now = time.monotonic()
        self._done.append(Done(now, step, text))
        at = f"{now - self._began:+.1f} s" if self._began else ""
        self._say(f"{at:>8}  {step:<8} {text}", indent=19)

    _ticked = 0.0

    def _tick(self, left: float) -> None:
        now = time.monotonic()
        if now - self._ticked < 1.0:
            return
        self._ticked = now
        at = f"{now - self._began:+.1f} s" if self._began else ""
        self._say(f"{at:>8}  {self._how_it_stands()}", indent=10)

    def _how_it_stands(self) -> str:
        status, name = self._watch.status, self._method.instance
        words = ["this node's daemon does not answer"]
        if status and (instance := verdict.instance_of(status, name)):
            words = [f"{instance.role.value} here"]
            for node in status.nodes:
                if not node.own:
                    rank = next((one.rank for one in node.carries if one.instance == name), "none")
                    words.append(f"{node.name} {rank if node.state == 'alive' else node.state}")
        for observer in self._observers:
            sent, lost = observer.probes_so_far()
            words.append(f"{sent} probes, {lost} lost")
        return ", ".join(words)

    def _show_method(self, before: Sequence[Finding]) -> None:
        for sentence in self._method.sentences:
            self._say(sentence)
        self._say("")
        for one in before:
            self._say(f"ok: {one.text}")

    def _say(self, *lines: str, indent: int = 4) -> None:
        """Of the drill's course; on stderr where stdout is for a program."""
        for line in filter(None, lines) if len(lines) > 1 else lines:
            self._print(line, indent)

    def _print(self, text: str, indent: int = 4) -> None:
        """The terminal may be gone: the drill goes on to its end."""
        stream = sys.stderr if self._wishes.as_json else sys.stdout
        with suppress(OSError, ValueError):
            for line in folded(printable(text), terminal_width(), indent):
                print(line, file=stream, flush=True)


class _Signals:
    """What would end this process asks for an end, and lets it undo the fault first."""

    def __init__(self, asked: Callable[[str], None]) -> None:
        self._asked = asked
        self._before = {}  # type: ignore[var-annotated]

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                self._before[number] = signal.signal(number, self._handle)

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._asked(signal.Signals(number).name)
