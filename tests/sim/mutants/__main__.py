"""Plants bugs in a copy of the package, one at a time, and shows that a test, a story or some hundred storms find each.

    python -m tests.sim.mutants [--storms 300] [WORD ...]

A word selects the mutants that have it in their bug, file or test. A text that is not there exactly once fails, so that
the lists cannot rot in silence.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import floatip
from tests.sim.mutants import (
    Mutant,
    chance_shown,
    core,
    election,
    etcd,
    explain,
    figures,
    host,
    http,
    link,
    network,
    reading,
    second_chance,
    vrrp,
)

PACKAGE = Path(floatip.__file__).parent
STORIES = tuple(f"tests/sim/test_stories{each}.py" for each in ("", "_beside", "_lan", "_linked"))
MUTANTS = (
    *election.MUTANTS,
    *vrrp.MUTANTS,
    *link.MUTANTS,
    *etcd.MUTANTS,
    *core.MUTANTS,
    *chance_shown.MUTANTS,
    *explain.MUTANTS,
    *figures.MUTANTS,
    *network.MUTANTS,
    *host.MUTANTS,
    *http.MUTANTS,
    *reading.MUTANTS,
    *second_chance.MUTANTS,
)
LONGEST = 120
"""Of what is printed of a test."""
TIMEOUT = 600
FOUND = 1
"""The exit status of pytest and of the storms; another one means that the mutant did not run at all."""


def main() -> int:
    options = argparse.ArgumentParser(description="planted bugs")
    options.add_argument("--storms", type=int, default=300)
    options.add_argument("words", nargs="*")
    given = options.parse_args()
    mutants = [one for one in MUTANTS if all(word in f"{one.bug} {one.file} {one.test}" for word in given.words)]
    if complaint := hunt(None, [one.test for one in mutants], given.storms):
        print(f"the product as it is does not pass, so nothing can be shown: {complaint}")
        return 1
    survivors = 0
    for mutant in mutants:
        finder = hunt(mutant, [mutant.test], given.storms)
        survivors += not finder
        print(f"{mutant.bug:<60} {finder[:LONGEST] or 'SURVIVES'}", flush=True)
    print(f"{len(mutants) - survivors} of {len(mutants)} found")
    return bool(survivors) or not mutants


def hunt(mutant: Mutant | None, tests: list[str], storms: int) -> str:
    """What found the bug, or empty."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)  # some tests run the daemon as another user
        package = Path(directory) / "floatip"
        shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
        if mutant is not None:
            plant(mutant, package)
        path = f"pythonpath={directory} ."  # rather than the one in pyproject.toml
        named = sorted({f"tests/{test}" for test in tests if test})
        files = [*named, *(STORIES if "" in tests else ())]
        pytest = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-o", path, *files)
        if found := _complaint(directory, *pytest, mark="FAILED "):
            return found.partition("::")[2].partition(" ")[0]
        return (
            _complaint(directory, "-m", "tests.sim.storm", "--storms", str(storms), mark="SEED=") if "" in tests else ""
        )


def plant(mutant: Mutant, package: Path) -> None:
    file = package / mutant.file
    source = file.read_text()
    assert source.count(mutant.old) == 1, f"{mutant.file} has not exactly one {mutant.old!r}: mend the list"
    file.write_text(source.replace(mutant.old, mutant.new))


def _complaint(directory: str, *arguments: str, mark: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((directory, str(Path.cwd())))}
    command = [sys.executable, *arguments]
    try:
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return f"{mark}::still-running after {TIMEOUT} s"
    if not ended.returncode:
        return ""
    assert ended.returncode == FOUND, f"{arguments}: exit status {ended.returncode}\n{ended.stdout}{ended.stderr}"
    return next((line for line in ended.stdout.splitlines() if line.startswith(mark)), mark + ended.stderr[-200:])


if __name__ == "__main__":
    sys.exit(main())
