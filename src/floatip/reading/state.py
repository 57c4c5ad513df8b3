"""The daemon's state directory, as who reads a configuration finds it."""

import os
from pathlib import Path

PLACES = (Path("/var/lib/floatip/daemon"), Path("/var/lib/floatip"))
"""Where the environment names none: the packaged unit's, or the default."""


def places() -> tuple[Path, ...]:
    given = os.environ.get("STATE_DIRECTORY")
    return (Path(given.split(":")[0]),) if given else PLACES
