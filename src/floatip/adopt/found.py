"""What is there before anything is changed: keepalived as it runs, its file, lelastic's units, what surrounds them."""

from dataclasses import dataclass, replace
from pathlib import Path

from floatip import keepalived_conf
from floatip.adopt.findings import default_user
from floatip.adopt.host import AdoptError, Host, UnitState
from floatip.adopt.surroundings import Surroundings, look_around
from floatip.adopt.units import Announcer, KeepalivedCall, announcers, keepalived_call
from floatip.core.events import Placed
from floatip.keepalived_conf import Instance, KeepalivedConf, VirtualAddress


@dataclass(frozen=True, slots=True)
class Found:
    call: KeepalivedCall
    keepalived: UnitState
    conf: KeepalivedConf
    announcers: tuple[Announcer, ...]
    surroundings: Surroundings
    script_user: str
    script_ids: tuple[int, int]
    """uid and gid of that user."""

    @property
    def placed(self) -> tuple[Placed, ...]:
        return self.surroundings.addresses

    @property
    def dcid(self) -> int | None:
        return next((announcer.flags.dcid for announcer in self.announcers if announcer.flags.dcid), None)

    def is_master(self, instances: tuple[Instance, ...]) -> bool:
        addresses = {virtual.address for instance in instances for virtual in floating(instance)}
        return any(placed.address in addresses for placed in self.placed if placed.interface != "lo")


def look(host: Host, config: str | None) -> Found:
    """`config`: in place of the file that keepalived uses by itself."""
    unit = host.unit("keepalived.service")
    if unit is None:
        raise AdoptError("there is no keepalived.service", "without keepalived: floatip init")
    call = keepalived_call(host, unit.pid)
    if config:
        call = replace(call, config=config)
    pid = host.text(call.pid_file).strip()
    if not unit.active and pid.isdigit() and host.text(f"/proc/{pid}/comm") == "keepalived\n":
        hint = "end it, and: systemctl start keepalived"
        raise AdoptError(f"keepalived runs as process {pid}, and not by keepalived.service", hint)
    conf = keepalived_conf.read(Path(call.config), host.root, call.config_id)
    surroundings = look_around(conf, host.root, host.addresses())
    user = default_user(conf, surroundings)
    known = (line.split(":") for line in host.text("/etc/passwd").splitlines())
    ids = next(((int(uid), int(gid)) for name, _, uid, gid, *_ in known if name == user), (0, 0))
    return Found(call, unit, conf, tuple(announcers(host)), surroundings, user, ids)


def floating(instance: Instance) -> tuple[VirtualAddress, ...]:
    """All addresses that keepalived moves, whether or not its adverts name them."""
    return (*instance.addresses, *instance.excluded)
