"""`dcid = "auto"`: in which region this machine is, as Linode's metadata service says.

The region of a machine that runs does not change, so this process asks until the service has answered once. The daemon
keeps the answer in its state directory, so that a node also starts where the service does not answer later.
"""

import json
import math
import os
import re
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic
from typing import NamedTuple

from floatip.commands import Refusal
from floatip.linode import metadata
from floatip.providers import LINODE_REGIONS, Region
from floatip.reading import regular, state
from floatip.reading.patience import note_path

NAME = "region.json"
LARGEST = 1 << 12
WHEN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class Unknown(Refusal):
    def __init__(self, what: str, hint: str, *, may_mend: bool) -> None:
        super().__init__(what, hint)
        self.may_mend = may_mend
        """Without a change of the file."""


class Known(NamedTuple):
    region: Region
    when: str
    """In UTC."""
    why: str = ""
    """The service does not answer now, for this reason, and it is what it said at that time; empty: it says it now."""


RECENT = 10.0
"""Seconds for which the service is not asked again: one reading asks more than once."""

_said: Known | None = None
"""What the service told this process."""
_failed: tuple[float, Known | Unknown] = (-math.inf, Unknown("", "", may_mend=True))
"""When it did not answer, and what holds then."""


def find() -> Known:
    """Raises `Unknown`, after `metadata.TIMEOUT` at the latest."""
    global _said, _failed
    if _said:
        return _said
    when, found = _failed
    if monotonic() - when > RECENT:
        note_path("Linode's metadata service")
        try:
            slug = metadata.region()
        except metadata.Unavailable as error:
            found = _without(error.what)
            _failed = monotonic(), found
        else:
            _said = Known(_region(slug), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
            return _said
    if isinstance(found, Unknown):
        raise found
    return found


def _without(why: str) -> Known | Unknown:
    if kept := _kept():
        return kept._replace(why=why)
    hint = 'write the number or the region, as dcid = 6 or dcid = "us-east"; floatip providers lists them'
    return Unknown(f'"auto" is not known: {why}', hint, may_mend=True)


def _region(slug: str) -> Region:
    """Raises `Unknown`."""
    for region in LINODE_REGIONS:
        if region.slug == slug:
            return region
    hint = (
        f"write its number, as dcid = 6: the table of Linode's failover guide has it, or ask Linode for that of {slug}"
    )
    raise Unknown(f'"auto" is region {slug}, whose number floatip does not know', hint, may_mend=False)


def _kept() -> Known | None:
    for place in state.places():
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError, Unknown):
            with regular.looked_at(place / NAME) as descriptor:
                data = json.loads(regular.read_from(descriptor, LARGEST))
            if WHEN.fullmatch(data["when"]):
                return Known(_region(data["region"]), data["when"])
    return None


def keep() -> None:
    """For the next start; only the daemon calls this. Raises OSError."""
    kept = _kept()
    if not _said or (kept and kept.region == _said.region):
        return
    place = state.places()[0] if os.environ.get("STATE_DIRECTORY") else state.PLACES[-1]
    place.mkdir(parents=True, exist_ok=True)
    new = place / f"{NAME}.new"
    new.write_text(json.dumps({"region": _said.region.slug, "when": _said.when}))
    new.replace(place / NAME)


def forget() -> None:
    """What this process knows."""
    global _said, _failed
    _said, _failed = None, (-math.inf, Unknown("", "", may_mend=True))
