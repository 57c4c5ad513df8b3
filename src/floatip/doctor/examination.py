"""Runs all parts of the doctor side by side. None takes longer than `LIMIT`, and the failure of one ends no other."""

import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Thread

from floatip.doctor.context import Context
from floatip.doctor.finding import Code, Finding, unseen

LIMIT = 15.0
"""Seconds: a program that hangs is given up after 5, and a part may run two."""
Looker = Callable[[Context], Iterator[Finding]]


def lookers() -> dict[str, Looker]:
    from floatip.doctor import addresses, configuration, daemon, etcd, network, others, second_chance, system  # noqa: PLC0415
    from floatip.doctor.firewall import looker  # noqa: PLC0415

    return {  # causes before what follows from them
        "configuration": configuration.configuration,
        "rights of files": configuration.rights,
        "other announcers and electors": others.others,
        "addresses": addresses.placed,
        "the firewall": looker.firewall,
        "routes": network.routes,
        "Linode's metadata service": network.metadata,
        "the IP share": network.share,
        "route servers": network.route_servers,
        "etcd": etcd.etcd,
        "the other nodes": daemon.nodes,
        "the second chance": second_chance.second_chance,
        "the daemon": daemon.daemon,
        "the process of the daemon": daemon.process,
        "what the checks look at": configuration.watched,
        "settings of the kernel": addresses.settings,
        "the unit": system.unit,
        "the journal": system.journal,
        "the clock": system.clock,
        "Linode's Cloud Firewall": looker.cloud_firewall,
    }


def examine(context: Context, parts: Mapping[str, Looker], limit: float = LIMIT) -> list[Finding]:
    """In the order of the parts."""
    found: dict[str, list[Finding]] = {}
    ended: set[str] = set()

    def look(name: str, looker: Looker) -> None:
        mine = found.setdefault(name, [])
        try:
            for finding in looker(context):
                mine.append(finding)
        except Exception as error:  # a bug of one part is a finding, and the others go on
            mine.append(_crashed(name, error))
        ended.add(name)

    threads = [Thread(target=look, args=part, daemon=True) for part in parts.items()]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + limit
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    for name in parts:
        if name not in ended:
            what = f"could not look at {name} within {limit:g} s"
            found.setdefault(name, []).append(unseen(Code.LOOKER, name, what, (), "floatip doctor once more"))
    return [finding for name in parts for finding in tuple(found.get(name, ()))]


def _crashed(name: str, error: Exception) -> Finding:
    place = traceback.extract_tb(error.__traceback__)[-1]
    evidence = f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
    return unseen(Code.LOOKER, name, f"could not look at {name}: a bug in floatip", evidence, "please report it")
