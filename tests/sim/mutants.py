"""Plants bugs in the core and in the host, one at a time, and shows that the stories or some hundred storms find each.

    python -m tests.sim.mutants [--storms 300]

A bug is one replacement in a copy of the package; a text that is not there exactly once fails, so that the list
cannot rot in silence.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import floatip

PACKAGE = Path(floatip.__file__).parent


@dataclass(frozen=True, slots=True)
class Mutant:
    bug: str
    file: str
    old: str
    new: str


ROUTER, SESSION, DECISION = "core/election/router.py", "core/bgp/session.py", "core/decision.py"
UPDATE = "core/bgp/update.py"
NODE, INSTANCE, HEALTH = "core/node.py", "core/instance.py", "core/health.py"
SCRIPT, WORDS = "host/checks/script.py", "host/keepalived/words.py"
HOOKS, NEWS = "host/hooks.py", "host/news.py"
FOLLOWER, TIMERS = "core/election/follower.py", "core/timers.py"
ELECTOR = "core/election/elector.py"
STORIES = ("tests/sim/test_stories.py", "tests/sim/test_stories_beside.py")
MUTANTS = (
    Mutant(
        "a backup ignores adverts",
        ROUTER,
        "return effects + self._receive_as_backup(",
        "return effects + [] and self._receive_as_backup(",
    ),
    Mutant("the skew time is forgotten", ELECTOR, "return (256 - self.config.priority) / 256 *", "return 0 *"),
    Mutant("master-down is twice as long", ELECTOR, "return 3 * advert_interval", "return 6 * advert_interval"),
    Mutant("a planned stop says nothing", ROUTER, "self._advertise(0) if self.role is Role.MASTER", "[] if self.role"),
    Mutant("a master never yields", ROUTER, "if advert.priority and (advert.priority, int(source)) >", "if () >"),
    Mutant(
        "equal priorities are no tie", ROUTER, "(config.priority, int(config.source)):", "(config.priority, 2**32):"
    ),
    Mutant("preempt = false is forgotten", ROUTER, "if not self.config.preempt or", "if False or"),
    Mutant("any lower advert arms the skew", ROUTER, "if source == self.master:", "if True:"),
    Mutant("a late master believes itself", ROUTER, "if late <= self.master_down_interval:", "if True:"),
    Mutant("a cut-off master stays", ROUTER, "yields = obstacles.barred or", "yields = '' or"),
    Mutant("no takeover rank", DECISION, "if now < self._settled_at:", "if False:"),
    Mutant("one takeover rung", DECISION, "if self._is_again:", "if False:"),
    Mutant("takeover never settles", DECISION, "if now < self._settled_at:", "if self._settled_at:"),
    Mutant("no damping", DECISION, "DAMPED if now < self.damped_until else", "DAMPED if False else"),
    Mutant("sick is as good as healthy", DECISION, "if facts.health is not Health.UP:", "if False:"),
    Mutant("last-resort is forgotten", DECISION, "facts.health is Health.DOWN and self.last_resort", "False"),
    Mutant("a damped node preempts", ROUTER, "preempt or self._damped:", "preempt or False:"),
    Mutant(
        "a damped master stays at standby",
        DECISION,
        "if self._held_back or facts.role is not Role.MASTER:",
        "if True:",
    ),
    Mutant("lost adverts make takeovers without end", ROUTER, "if len(gave_back) < MISTAKES", "if True"),
    Mutant(
        "nobody answers a question",
        ROUTER,
        "return [*self._advertise(config.priority), *self._rem",
        "return [*self._rem",
    ),
    Mutant(
        "a link that blinks is a link that is down",
        NODE,
        'if fault and self.running and self.links.get(interface) == "":',
        "if False:",
    ),
    Mutant(
        "a link that is down stays unnoticed",
        NODE,
        'self._timers.set(("link", interface), at)\n            return []',
        "return []",
    ),
    Mutant("whose link was down does not listen", ROUTER, "self._linked_at + LISTEN_AFTER_LINK_FAULT + spread)", "0)"),
    Mutant(
        "an address that cannot be kept is nobody's concern",
        NODE,
        "for one in known for placed in one.unkept}",
        "for one in known for placed in ()}",
    ),
    Mutant("announced before it is held", INSTANCE, "if t.ip in holding.held or t.ip in self.lost_at", ""),
    Mutant("no MED", INSTANCE, "return Route(rank, med(", "return Route(rank, 0 * med("),
    Mutant(
        "a node in FAULT is a standby like any other",
        INSTANCE,
        "in_fault = self.role is Role.FAULT",
        "in_fault = False",
    ),
    Mutant("the latest master is not the best", INSTANCE, ", rank, self.decision.master_since)", ", rank)"),
    Mutant(
        "released before withdrawn",
        NODE,
        "self._timers.set(RELEASE, now + self.config.release_delay)",
        "self._timers.set(RELEASE, now)",
    ),
    Mutant("a deleted address stays away", NODE, "        if lost:\n            self.holding.again_at = now", ""),
    Mutant(
        "a lost election changes no rank",
        NODE,
        "if any(isinstance(effect, Became) for effect in caused):",
        "if False:",
    ),
    Mutant(
        "a master that times made marks nothing", NODE, "if instance.role is not role or not is_patient:", "if False:"
    ),
    Mutant(
        "a deadline that comes nearer is missed",
        TIMERS,
        "if at < self._queued.get(key, math.inf):",
        "if not self._heap:",
    ),
    Mutant("the hold timer is ignored", SESSION, "if now >= self._hold_at:", "if False:"),
    Mutant("no keepalives", SESSION, "if now >= self._keepalive_at:", "if False:"),
    Mutant("IPv4 is withdrawn by an attribute", UPDATE, "    if family == IPV4_UNICAST:\n", "    if False:\n"),
    Mutant("a peer that flaps is dialled as any other", SESSION, "if self._short_lived > 1:", "if False:"),
    Mutant("no second dial", SESSION, "self._dial_at = max(now, ", "self._dial_at = max(math.inf, "),
    Mutant("a hanging check never fails", HEALTH, "if now >= self._give_up_at:", "if False:"),
    Mutant("one failure is enough whatever fall says", HEALTH, "self._streak < needed", "False"),
    Mutant(
        "a run whose predecessor still ends has failed",
        SCRIPT,
        "            self._next = run, self._loop.time() + timeout\n",
        '            self._report(run, False, "the previous run has not ended yet")\n',
    ),
    Mutant("a run whose predecessor still ends is forgotten", SCRIPT, "if self._next:", "if False:"),
    Mutant("two notify commands at a time", HOOKS, "if not self._current:", "if True:"),
    Mutant("the latest change of role is told first", HOOKS, "= self._queue.popleft()", "= self._queue.pop()"),
    Mutant(
        "of too many changes of role a late one is dropped",
        HOOKS,
        "            self._queue.popleft()\n",
        "            self._queue.pop()\n",
    ),
    Mutant("dropped changes are not counted", HOOKS, "self.dropped += 1", "self.dropped += 0"),
    Mutant("the same role with another reason is a change", HOOKS, "or not item.is_new", ""),
    Mutant(
        "a notify command that has ended is not followed by the next", HOOKS, "self._next, env", "lambda: None, env"
    ),
    Mutant("the latest news is told first", NEWS, "item = self._waiting.popleft()", "item = self._waiting.pop()"),
    Mutant(
        "a role that returns is no news", NEWS, "self.latest[key] = one.value", "self.latest.setdefault(key, one.value)"
    ),
    Mutant("the end waits for no notify command", HOOKS, "call_later(timeout, self._end)", "call_later(0, self._end)"),
    Mutant(
        "the words of an earlier keepalived are recalled", WORDS, 'if state["process"] != self._process:', "if False:"
    ),
    Mutant(
        "nothing is recalled", WORDS, "for one in self._memory.recall(self._said_by_this_one) or ():", "for one in ():"
    ),
    Mutant("what was said is not remembered", WORDS, "self._memory.remember(", "str("),
    Mutant(
        "words that waited are taken for new", WORDS, "if is_old else _parsed(lines)", "if False else _parsed(lines)"
    ),
    Mutant(
        "of what waited the first counts",
        WORDS,
        "before = latest.pop((said.kind, said.name), said)",
        "before = said\n        if (said.kind, said.name) in latest:\n            continue",
    ),
    Mutant(
        "what a dead keepalived said lives on",
        FOLLOWER,
        'self.word, self._claims, self._began_at = "", False, None',
        "pass",
    ),
    Mutant("a dead keepalived is as good as one that runs", FOLLOWER, "if self._lost:", "if False:"),
    Mutant("old words are believed", FOLLOWER, 'if is_old and (state == "MASTER")', 'if False and (state == "MASTER")'),
    Mutant("FAULT is ignored", FOLLOWER, 'Role.FAULT if self.word == "FAULT" and', "Role.FAULT if False and"),
    Mutant("FAULT ends with keepalived", FOLLOWER, "if self._ended_in_fault and", "if False and"),
    Mutant("a mastership goes on unheard of", FOLLOWER, "at is not None and at > max(", "False and at > max("),
    Mutant("FAULT is believed for ever", FOLLOWER, 'case "BACKUP" | "FAULT", True if', 'case "BACKUP", True if'),
    Mutant("no patience with an address", FOLLOWER, "False if now < self._differ_since + PATIENCE:", "False if False:"),
    Mutant(
        "MASTER is believed without the address",
        FOLLOWER,
        'return False, f"keepalived says MASTER',
        'return True, f"keepalived says MASTER',
    ),
    Mutant(
        "BACKUP is believed whatever the kernel has",
        FOLLOWER,
        "True if now >= self._differ_since",
        "True if now >= math.inf",
    ),
    Mutant("no contest", FOLLOWER, "if self._contested(now):", "if False:"),
    Mutant("two rivals are none", FOLLOWER, "if was_silent or self._rival", "if source != self.master or self._rival"),
    Mutant("one advert is a contest", FOLLOWER, "<= CONTESTED_AFTER * self._master_interval", "< 0"),
    Mutant("a contest never ends", FOLLOWER, "quiet_at = self._heard_at + ", "quiet_at = math.inf + "),
    Mutant("an address is enough to be master at once", FOLLOWER, 'if claims and self.word != "MASTER":', "if False:"),
    Mutant("no listening after being cut off", FOLLOWER, "if self._barred and not obstacles.barred:", "if False:"),
    Mutant(
        "whoever listens does not hear",
        FOLLOWER,
        "if now < self._listen_until:\n            self._l",
        "if False:\n            self._l",
    ),
    Mutant("a cut-off follower stays master", FOLLOWER, "if self._barred:", "if False:"),
    Mutant(
        "masters that were heard are not counted",
        FOLLOWER,
        "if (was_silent or source != self.master) and",
        "if False and",
    ),
)


def main() -> int:
    options = argparse.ArgumentParser(description="planted bugs")
    options.add_argument("--storms", type=int, default=300)
    storms = options.parse_args().storms
    if complaint := hunt(None, storms):
        print(f"the core as it is does not pass, so nothing can be shown: {complaint}")
        return 1
    survivors = 0
    for mutant in MUTANTS:
        finder = hunt(mutant, storms)
        survivors += not finder
        print(f"{mutant.bug:<44} {finder or 'SURVIVES'}", flush=True)
    print(f"{len(MUTANTS) - survivors} of {len(MUTANTS)} found")
    return bool(survivors)


def hunt(mutant: Mutant | None, storms: int) -> str:
    """What found the bug, or empty."""
    with tempfile.TemporaryDirectory() as directory:
        package = Path(directory) / "floatip"
        shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
        if mutant is not None:
            plant(mutant, package)
        path = f"pythonpath={directory} ."  # rather than the one in pyproject.toml
        stories = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-o", path, *STORIES)
        if found := _complaint(directory, *stories, mark="FAILED "):
            return found.partition("::")[2].partition(" ")[0]
        return _complaint(directory, "-m", "tests.sim.storm", "--storms", str(storms), mark="SEED=")


def plant(mutant: Mutant, package: Path) -> None:
    file = package / mutant.file
    source = file.read_text()
    assert source.count(mutant.old) == 1, f"{mutant.file} has not exactly one {mutant.old!r}: mend the list"
    file.write_text(source.replace(mutant.old, mutant.new))


def _complaint(directory: str, *arguments: str, mark: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((directory, str(Path.cwd())))}
    ended = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    if not ended.returncode:
        return ""
    return next((line for line in ended.stdout.splitlines() if line.startswith(mark)), mark + ended.stderr[-200:])


if __name__ == "__main__":
    sys.exit(main())
