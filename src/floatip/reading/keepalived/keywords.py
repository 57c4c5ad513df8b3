"""Which blocks and values keepalived 2.2.7 expects where.

At the `}` of a block that it does not expect, keepalived ends the block around it too, and ignores what follows. For a
block that does not begin it takes the lines up to the next `}`. Without a value that it needs it does not start. Such a
file means something else than it seems to, and is refused.
"""

from collections.abc import Iterator

from floatip.reading.keepalived.syntax import Place, Statement

TRACKING = {"track_interface", "track_script", "track_process", "track_file", "track_bfd"}
ADDRESSES = {"unicast_peer", "virtual_ipaddress", "virtual_ipaddress_excluded"}
BLOCKS: dict[str, set[str]] = {
    "global_defs": {"notification_email"},
    "vrrp_script": set(),
    "vrrp_track_process": set(),
    "vrrp_sync_group": {"group", *TRACKING},
    "vrrp_instance": {"authentication", "virtual_routes", "virtual_rules", *ADDRESSES, *TRACKING},
    **{block: set() for block in ("authentication", "group", *ADDRESSES, *TRACKING)},
}
"""By block, the blocks in it. Of other blocks nothing is known."""
NOTIFY = "notify notify_backup notify_fault notify_master notify_stop"
GARP = "garp_lower_prio_delay garp_lower_prio_repeat garp_master_delay garp_master_refresh garp_master_repeat"
VALUES = {
    "": "track_file virtual_server virtual_server_group vrrp_script vrrp_track_file vrrp_track_process",
    "global_defs": "bfd_process_name bfd_rlimit_rtime bfd_rlimit_rttime checker_process_name checker_rlimit_rtime"
    " checker_rlimit_rttime config_save_dir lvs_process_name nftables_ipvs_priority nftables_ipvs_start_fwmark"
    " nftables_priority process_name random_seed smtp_connect_timeout smtp_server umask vmac_addr_prefix vmac_prefix"
    " vrrp_down_timer_adverts vrrp_garp_interval vrrp_garp_lower_prio_delay vrrp_garp_lower_prio_repeat"
    " vrrp_garp_master_delay vrrp_garp_master_refresh vrrp_garp_master_refresh_repeat vrrp_garp_master_repeat"
    " vrrp_gna_interval vrrp_mcast_group4 vrrp_mcast_group6 vrrp_process_name vrrp_rlimit_rtime vrrp_rlimit_rttime"
    " vrrp_startup_delay vrrp_version",
    "vrrp_script": "fall interval rise timeout user weight",
    "vrrp_track_process": "delay fork_delay process quorum quorum_max terminate_delay",
    "vrrp_sync_group": NOTIFY,
    "vrrp_instance": f"{NOTIFY} notify_master_rx_lower_pri {GARP} garp_master_refresh_repeat advert_int debug"
    " down_timer_adverts interface lvs_sync_daemon_interface mcast_dst_ip mcast_src_ip preempt_delay priority state"
    " unicast_src_ip unicast_ttl version virtual_router_id vrf",
    "authentication": "auth_pass auth_type",
}
NEEDS_VALUE = {block: keywords.split() for block, keywords in VALUES.items()}
FLAGS = {
    "global_defs": {"enable_script_security", "vrrp_strict"},
    "vrrp_script": {"init_fail"},
    "vrrp_instance": {"nopreempt", "preempt", "dont_track_primary", "native_ipv6"},
}
"""They take no value."""


def check(statements: tuple[Statement, ...], outer: Statement | None = None) -> Iterator[tuple[Place, str, str]]:
    block = outer.keyword if outer else ""
    inner = BLOCKS.get(block) if outer else None
    for statement in statements:
        place, keyword = statement.place, statement.keyword
        if keyword in NEEDS_VALUE.get(block, ()) and len(statement.words) == 1:
            what = f"{keyword} has no value, and keepalived does not start"
            yield place, what, f"give {keyword} its value, or remove the line"
        elif inner is not None and keyword not in inner and statement.block is not None:
            what = f"{statement} {{: keepalived 2.2 expects no block here, and ends {outer} at its }}"
            yield place, what, f"remove the block: keepalived ignores what follows it in {outer}"
        elif inner and keyword in inner and statement.block is None:
            what = f"{statement}: no {{, and keepalived ignores all up to the next }}"
            yield place, what, f"{keyword} {{, one entry a line, and }}"
        elif keyword in BLOCKS:
            yield from check(statement.block or (), statement)
