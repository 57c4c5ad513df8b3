"""What `global_defs` says for all."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from floatip.core.addresses import Address
from floatip.core.settings import Garps
from floatip.model import DAEMON, RunAs
from floatip.reading.keepalived import KeepalivedConf
from floatip.reading.keepalived.front_end.sheet import Sheet
from floatip.reading.keepalived.front_end.values import Values
from floatip.reading.keepalived.lint.commands import SCRIPT_USER
from floatip.reading.keepalived.syntax import Statement
from floatip.reading.rights import user_id


@dataclass(frozen=True, slots=True)
class Settings:
    """Defaults of the instances."""

    run_as: RunAs
    """Whose rights a command has that names nobody."""
    garps: Garps
    startup_delay: float
    down_timer_adverts: int
    strict: bool
    checks_source: bool
    sends_before_yielding: bool
    answers_lower: bool
    owner_ignores_adverts: bool
    checksum_as_v2: bool
    tells_priorities: bool
    default_interface: str
    groups: tuple[Address, ...] = field(default=())
    """Where multicast adverts go, at most one of each family."""


def settings(conf: KeepalivedConf, sheet: Sheet) -> Settings:
    values = Values(conf.global_defs, "global_defs", sheet)
    interface = values.last("default_interface")
    return Settings(
        run_as=_run_as(conf, values),
        garps=_garps(values),
        startup_delay=values.number("vrrp_startup_delay", 0),
        down_timer_adverts=values.whole("vrrp_down_timer_adverts", 3),
        strict=values.flag("vrrp_strict"),
        checks_source=values.switch("vrrp_check_unicast_src", default=False),
        sends_before_yielding=values.switch("vrrp_higher_prio_send_advert", default=False),
        answers_lower=not values.switch("vrrp_lower_prio_no_advert", default=False),
        owner_ignores_adverts=values.switch("vrrp_owner_ignore_adverts", default=False),
        checksum_as_v2=values.switch("v3_checksum_as_v2", default=False),
        tells_priorities=values.switch("vrrp_notify_priority_changes", default=False),
        default_interface=interface.argument() if interface else "",
        groups=tuple(_groups(values, sheet)),
    )


def _run_as(conf: KeepalivedConf, values: Values) -> RunAs:
    if named := values.last("script_user"):
        return run_as(named, 1, DAEMON)
    is_needed = values.flag("enable_script_security") or user_id(SCRIPT_USER) is not None
    return RunAs(SCRIPT_USER) if is_needed else DAEMON


def run_as(statement: Statement, number: int, default: RunAs) -> RunAs:
    """A user and a group that stand behind a command."""
    user = statement.argument(number)
    return RunAs(user, statement.argument(number + 1)) if user else default


def _garps(values: Values) -> Garps:
    repeat = values.whole("vrrp_garp_master_repeat", 5)
    delay = values.number("vrrp_garp_master_delay", 5)
    if values.switch("vrrp_min_garp", default=False):
        repeat, delay = 1, 0
    return Garps(
        repeat=repeat,
        delay=delay,
        lower_repeat=values.whole("vrrp_garp_lower_prio_repeat", repeat),
        lower_delay=values.number("vrrp_garp_lower_prio_delay", delay),
        refresh=values.number("vrrp_garp_master_refresh", 0),
        refresh_repeat=values.whole("vrrp_garp_master_refresh_repeat", 1),
        interval=values.number("vrrp_garp_interval", 0),
        gna_interval=values.number("vrrp_gna_interval", 0),
    )


def _groups(values: Values, sheet: Sheet) -> Iterable[Address]:
    for name, kind in (("vrrp_mcast_group4", IPv4Address), ("vrrp_mcast_group6", IPv6Address)):
        if (statement := values.last(name)) and (group := multicast_group(statement, kind, sheet)):
            yield group


def multicast_group(statement: Statement, kind: type[Address], sheet: Sheet) -> Address | None:
    try:
        group = ip_address(statement.argument())
    except ValueError:
        group = None
    if group and isinstance(group, kind) and group.is_multicast:
        return group
    example = "224.0.0.18" if kind is IPv4Address else "ff02::12"
    sheet.warning(statement, f"{statement}: no such multicast address, so {example} counts", f"write {example}")
    return None
