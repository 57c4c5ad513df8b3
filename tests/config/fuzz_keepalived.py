"""Mutated keepalived.confs: floatip reads or refuses each, with named errors, and in time.

`python -m tests.config.fuzz_keepalived --cases 1000000 [--seed N]` plays many, and says how far it is.
"""

import argparse
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from floatip.reading.keepalived.front_end import model_of
from floatip.reading.keepalived.keywords import KEYWORDS
from floatip.reading.place import ConfigErrors
from floatip.reading.rules import judge
from tests.config.compare_keepalived import MACHINE, corpus

PATIENCE = 30
"""Seconds for one file; they are all small."""
PROGRESS = 10.0
WORD = re.compile(r"\S+")
TEXT = r"""
0 -1 1 255 256 99999999999999999999 1.5 0x10 NaN inf 1e9 MASTER BACKUP eth0 lo nosuch on off reverse weight -254 ::1
192.0.2.1 192.0.2.1/24 192.0.2.1-9 2001:db8::1 fe80::1 224.0.0.18 256.1.1.1 /etc/passwd </etc/passwd root nobody ''
\ # ! { } $A $A=b\ ${A} ${_PWD} ${_HASH} "" "a' " @haproxy1 @^x ~SEQ(A,1,3) ~LST(A,1,2)
hex:00 file:/etc/hostname PASS AH enforce include
"""
VALUES = tuple(TEXT.split())


class Slow(Exception):
    """It takes too long."""


def mutated(text: str, texts: Sequence[str], dice: random.Random) -> str:
    lines = text.split("\n")
    words = [name for block in KEYWORDS.values() for name in block]
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(len(lines)) if lines else 0
        line = lines[at] if lines else ""
        match dice.randrange(9):
            case 0:
                del lines[at : at + dice.randint(1, 3)]
            case 1:
                lines.insert(dice.randint(0, len(lines)), line)
            case 2:
                lines.insert(at, f"{dice.choice(words)} {dice.choice(VALUES)}")
            case 3:
                lines.insert(at, f"{dice.choice(words)} {{\n{dice.choice(VALUES)} {dice.choice(VALUES)}\n}}")
            case 4 if found := list(WORD.finditer(line)):
                word = dice.choice(found)
                lines[at] = line[: word.start()] + dice.choice([*VALUES, *words]) + line[word.end() :]
            case 5:
                lines[at : at + 1] = [f"{line} {dice.choice(VALUES)}"]
            case 6:
                other = dice.choice(texts).split("\n")
                begin = dice.randrange(len(other))
                lines[at:at] = other[begin : begin + dice.randint(1, 12)]
            case 7 if line:
                cut = dice.randrange(len(line))
                lines[at] = line[:cut] + chr(dice.randrange(256)) + line[cut + dice.randint(0, 1) :]
            case 8:
                lines[at:] = lines[at : at + dice.randint(0, 5)]
        lines = lines or [""]
    return "\n".join(lines)


def play(cases: int, seed: int, folder: Path, *, quiet: bool = True) -> int:
    """How many were accepted. Raises whatever the reading raises besides `ConfigErrors`."""
    texts = [path.read_text(errors="replace") for path in corpus()]
    dice, path, accepted = random.Random(seed), folder / "keepalived.conf", 0

    def give_up(number: int, frame: object) -> None:
        raise Slow(f"more than {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, give_up)
    said = time.monotonic()
    try:
        for case in range(cases):
            path.write_text(mutated(dice.choice(texts), texts, dice), errors="replace")
            signal.alarm(PATIENCE)
            try:
                with suppress(ConfigErrors):
                    model, places, _ = model_of(path, MACHINE, dice.choice((None, 6)), "haproxy1")
                    for problem in judge(model, places, MACHINE):
                        str(problem)
                    assert model.digest
                    accepted += 1
            except BaseException:
                print(f"case {case} of seed {seed}:\n{path.read_text(errors='replace')}", file=sys.stderr)
                raise
            finally:
                signal.alarm(0)
            if not quiet and time.monotonic() - said > PROGRESS:
                said = time.monotonic()
                print(f"{case + 1} of {cases}, {accepted} accepted", flush=True)
    finally:
        signal.signal(signal.SIGALRM, before)
    return accepted


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        accepted = play(options.cases, options.seed, Path(folder), quiet=False)
    print(f"seed {options.seed}: {options.cases} files, {accepted} accepted, the others refused with named errors")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
