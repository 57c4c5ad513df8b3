"""Every keyword of keepalived.conf (2.2.7, and what 2.4.3 added), and what floatip does with it.

A line: keyword, what floatip does, which value it takes, and what it means here. `docs/reference/keepalived-conf.md` is
made of it (`python -m tests.config.keyword_docs`).

What floatip does: `done`; `accepted`, which has no effect; `warning`, which floatip goes on without, and says so;
`error`, because another node would serve than the file says.

Values: `word`; a range; words with | between them; `flag`, none; `switch`, none or on, true, yes, off, false, no;
`block`; `named`, a block with a name; `-`, not looked at. Without its value keepalived does not start,
unless ? is behind.
"""

TABLE = r"""
[preprocessor]
$NAME= | done | - | a definition, used as $NAME or ${NAME}; of several lines where each but the last ends in \
@ID | done | - | the line counts only where the host name up to the first dot is ID; @^ID: only elsewhere
include | done | word | reads files, relative to the one that names them, sorted; a missing one is no error
includer | done | word | as include; a file that is found must be readable
includem | done | word | as includer; a name without wildcards must be found
includew | done | word | as includem; a pattern must be found too
includeb | done | word | as includer; each alternative in braces must be found
includea | done | word | all of these checks
${_PWD} | done | - | the directory of the file that is read
${_INSTANCE} | done | - | what @ID is compared with
${_HASH} ${_BANG} | done | - | # and !, which begin a comment unless they stand in double quotes
${_ENV NAME} | done | - | a variable of the daemon's environment
~SEQ() | done | - | repeats the line with each number
~LST() | done | - | repeats the line with each word of a list
${_RANDOM a b} | error | - | a configuration that differs at each start cannot be checked

[top]
vrrp_instance | done | block | a virtual router
vrrp_sync_group | done | block | instances that change state together
vrrp_script | done | named | a check that runs a program; must stand above its use
vrrp_track_process | done | named | a check of a process; must stand above its use
track_file | done | named | a check of a file with a number; must stand above its use
vrrp_track_file | done | named | an old name of track_file
global_defs | done | block | what holds for all; several blocks add up
interface_up_down_delays | warning | - | how long an interface may be down: floatip acts at once
virtual_server | warning | named | IPVS stays keepalived's: run keepalived -C beside floatip
virtual_server_group | warning | named | IPVS stays keepalived's: run keepalived -C beside floatip
SSL | warning | - | IPVS stays keepalived's: run keepalived -C beside floatip
net_namespace | error | word? | NetworkNamespacePath= in floatip's unit does this
net_namespace_ipvs | warning | word? | IPVS stays keepalived's
static_ipaddress | error | - | addresses that do not move belong to the network configuration of the system
static_routes | error | - | routes that do not move belong to the network configuration of the system
static_rules | error | - | rules that do not move belong to the network configuration of the system
track_group | error | - | floatip has no static addresses, routes and rules
bfd_instance | warning | - | floatip speaks no BFD; BGP and the adverts notice that a node is gone
garp_group | warning | - | GARPs are spaced by vrrp_garp_interval and vrrp_gna_interval on all interfaces alike
linkbeat_interfaces | accepted | - | floatip is told by the kernel
linkbeat_use_polling | accepted | - | floatip is told by the kernel
instance | accepted | word? | a name in keepalived's files
child_wait_time | accepted | - | systemd's TimeoutStopSec= counts
namespace_with_ipsets | accepted | - | floatip makes no ipsets
use_pid_dir | accepted | - | floatip has no pid file

[global_defs]
enable_script_security | done | flag | script_user defaults to keepalived_script; scripts are judged in any case
script_user | done | word? | who runs scripts that name nobody
vrrp_version | done | 2..3 | of instances that name none; IPv6 is version 3
vrrp_strict | done | flag | as strict_mode, for all instances
vrrp_mcast_group4 | done | word | where IPv4 adverts are sent without unicast_peer
vrrp_mcast_group6 | done | word | where IPv6 adverts are sent without unicast_peer
vrrp_startup_delay | done | 0.001..1000 | seconds after the start in which nothing is claimed
vrrp_down_timer_adverts | done | 1..100 | so many adverts are missed before a master is gone; 3
vrrp_check_unicast_src | done | switch | adverts from unicast peers only
vrrp_higher_prio_send_advert | done | switch | one advert more before yielding to a higher priority
vrrp_lower_prio_no_advert | done | switch | no advert in answer to a lower priority
vrrp_owner_ignore_adverts | done | switch | priority 255 ignores adverts
v3_checksum_as_v2 | done | switch | version 3 over IPv4 without a pseudo-header (RFC 9568)
vrrp_garp_master_delay | done | 0..4294 | seconds until GARPs are sent once more after a takeover; 5
vrrp_garp_master_repeat | done | 0..1000000 | GARPs at a takeover; 5
vrrp_garp_lower_prio_delay | done | 0..4294 | the same after an advert of a lower priority
vrrp_garp_lower_prio_repeat | done | 0..1000000 | the same after an advert of a lower priority
vrrp_garp_master_refresh | done | 0..4294 | seconds between GARPs while master; 0: none
vrrp_garp_master_refresh_repeat | done | 0..1000000 | GARPs each time; 1
vrrp_garp_interval | done | 0.000001..4294.0 | seconds between two GARPs
vrrp_gna_interval | done | 0.000001..4294.0 | seconds between two unsolicited neighbour advertisements of IPv6
vrrp_min_garp | done | switch | one GARP, and none later
vrrp_notify_priority_changes | done | switch | FIFOs and notify commands learn of priorities
notify_fifo | done | word? | each change is written there
notify_fifo_script | done | word? | started with the FIFO as its last argument
vrrp_notify_fifo | done | word? | as notify_fifo
vrrp_notify_fifo_script | done | word? | as notify_fifo_script
fifo_write_vrrp_states_on_reload | done | switch | all states are written after a reload
include_check | done | - | how strict include is
default_interface | done | word? | of addresses of an instance without interface
dynamic_interfaces | accepted | - | floatip always waits for an interface that is not there
router_id | accepted | word? | a name in mail and SNMP
log_unknown_vrids | accepted | - | floatip always says which adverts nobody expects
vrrp_skip_check_adv_addr | accepted | - | floatip only compares lists of addresses, and never refuses an advert for them
vrrp_delay_after_boot | warning | - | use vrrp_startup_delay
umask | warning | word | of what commands write: floatip's unit decides, UMask=
startup_script | error | word? | ExecStartPre= in floatip's unit does this
startup_script_timeout | warning | - | see startup_script
shutdown_script | error | word? | ExecStopPost= in floatip's unit does this
shutdown_script_timeout | warning | - | see shutdown_script
reload_time_file | warning | - | floatip reloads at once: systemctl reload floatip
reload_repeat | warning | - | see reload_time_file
reload_check_config | accepted | - | floatip always checks before it reloads
reload_file | accepted | - | floatip reads the files once
notification_email | accepted | block | floatip sends no mail
notification_email_from | accepted | - | floatip sends no mail
smtp_server | accepted | word | floatip sends no mail
smtp_connect_timeout | accepted | word | floatip sends no mail
smtp_helo_name | accepted | - | floatip sends no mail
smtp_alert | accepted | - | floatip sends no mail
smtp_alert_checker | accepted | - | floatip sends no mail
smtp_alert_vrrp | accepted | - | floatip sends no mail
no_checker_emails | accepted | - | floatip sends no mail
no_email_faults | accepted | - | floatip sends no mail
enable_snmp_vrrp | accepted | - | floatip has no SNMP; see monitoring.md
enable_snmp_checker | accepted | - | floatip has no SNMP; see monitoring.md
enable_snmp_keepalived | accepted | - | floatip has no SNMP; see monitoring.md
enable_snmp_rfc | accepted | - | floatip has no SNMP; see monitoring.md
enable_snmp_rfcv2 | accepted | - | floatip has no SNMP; see monitoring.md
enable_snmp_rfcv3 | accepted | - | floatip has no SNMP; see monitoring.md
enable_traps | accepted | - | floatip has no SNMP; see monitoring.md
snmp_socket | accepted | - | floatip has no SNMP; see monitoring.md
snmp_rs_stats_update_interval | accepted | - | floatip has no SNMP; see monitoring.md
snmp_vs_stats_update_interval | accepted | - | floatip has no SNMP; see monitoring.md
enable_dbus | accepted | - | floatip is not on D-Bus; see floatip status --json
dbus_service_name | accepted | - | floatip is not on D-Bus; see floatip status --json
dbus_no_interface_name | accepted | - | floatip is not on D-Bus; see floatip status --json
lvs_sync_daemon | warning | - | IPVS stays keepalived's
lvs_timeouts | warning | - | IPVS stays keepalived's
lvs_flush | warning | - | IPVS stays keepalived's
lvs_flush_on_stop | warning | - | IPVS stays keepalived's
lvs_flush_onstop | warning | - | IPVS stays keepalived's
lvs_notify_fifo | warning | - | IPVS stays keepalived's
lvs_notify_fifo_script | warning | - | IPVS stays keepalived's
lvs_netlink_cmd_rcv_bufs | accepted | - | IPVS stays keepalived's
lvs_netlink_cmd_rcv_bufs_force | accepted | - | IPVS stays keepalived's
lvs_netlink_monitor_rcv_bufs | accepted | - | IPVS stays keepalived's
lvs_netlink_monitor_rcv_bufs_force | accepted | - | IPVS stays keepalived's
lvs_process_name | accepted | word | IPVS stays keepalived's
nftables_ipvs | warning | - | IPVS stays keepalived's
nftables_ipvs_priority | warning | word | IPVS stays keepalived's
nftables_ipvs_start_fwmark | warning | word | IPVS stays keepalived's
rs_init_notifies | warning | - | IPVS stays keepalived's
checker_cpu_affinity | accepted | - | IPVS stays keepalived's
checker_log_all_failures | accepted | - | IPVS stays keepalived's
checker_no_swap | accepted | - | IPVS stays keepalived's
checker_priority | accepted | - | IPVS stays keepalived's
checker_process_name | accepted | word | IPVS stays keepalived's
checker_rlimit_rtime | accepted | word | IPVS stays keepalived's
checker_rlimit_rttime | accepted | word | IPVS stays keepalived's
checker_rt_priority | accepted | - | IPVS stays keepalived's
bfd_cpu_affinity | accepted | - | floatip speaks no BFD
bfd_no_swap | accepted | - | floatip speaks no BFD
bfd_priority | accepted | - | floatip speaks no BFD
bfd_process_name | accepted | word | floatip speaks no BFD
bfd_rlimit_rtime | accepted | word | floatip speaks no BFD
bfd_rlimit_rttime | accepted | word | floatip speaks no BFD
bfd_rt_priority | accepted | - | floatip speaks no BFD
vrrp_iptables | accepted | - | floatip needs no packet filter: it has neither no_accept nor VMACs
vrrp_ipsets | accepted | - | floatip needs no packet filter: it has neither no_accept nor VMACs
nftables | accepted | - | floatip needs no packet filter: it has neither no_accept nor VMACs
nftables_counters | accepted | - | floatip needs no packet filter: it has neither no_accept nor VMACs
nftables_ifindex | accepted | - | floatip needs no packet filter: it has neither no_accept nor VMACs
nftables_priority | accepted | word | floatip needs no packet filter: it has neither no_accept nor VMACs
vmac_prefix | accepted | word | floatip makes no VMACs
vmac_addr_prefix | accepted | word | floatip makes no VMACs
vrrp_vmac_garp_intvl | accepted | - | floatip makes no VMACs
vrrp_garp_extra_if | accepted | - | floatip makes no VMACs
vrrp_priority | accepted | - | floatip's unit decides: Nice=
vrrp_rt_priority | accepted | - | floatip's unit decides: CPUSchedulingPriority=
vrrp_rlimit_rtime | accepted | word | floatip's unit decides: LimitRTTIME=
vrrp_rlimit_rttime | accepted | word | floatip's unit decides: LimitRTTIME=
vrrp_cpu_affinity | accepted | - | floatip's unit decides: CPUAffinity=
vrrp_no_swap | accepted | - | floatip's unit decides: MemorySwapMax=
max_auto_priority | accepted | - | floatip's unit decides: CPUSchedulingPolicy=
min_auto_priority_delay | accepted | - | floatip's unit decides: CPUSchedulingPolicy=
vrrp_rx_bufs_policy | accepted | - | floatip chooses the size of its buffers
vrrp_rx_bufs_multiplier | accepted | - | floatip chooses the size of its buffers
vrrp_netlink_cmd_rcv_bufs | accepted | - | floatip chooses the size of its buffers
vrrp_netlink_cmd_rcv_bufs_force | accepted | - | floatip chooses the size of its buffers
vrrp_netlink_monitor_rcv_bufs | accepted | - | floatip chooses the size of its buffers
vrrp_netlink_monitor_rcv_bufs_force | accepted | - | floatip chooses the size of its buffers
process_monitor_rcv_bufs | accepted | - | floatip chooses the size of its buffers
process_monitor_rcv_bufs_force | accepted | - | floatip chooses the size of its buffers
process_name | accepted | word | floatip has one process, floatip
process_names | accepted | - | floatip has one process, floatip
vrrp_process_name | accepted | word | floatip has one process, floatip
disable_local_igmp | accepted | - | a setting of the kernel: sysctl net.ipv4.igmp_link_local_mcast_reports
use_symlink_paths | accepted | - | floatip runs the path that is given
data_use_instance | accepted | - | keepalived's dumps; see floatip status --json
config_save_dir | accepted | word | keepalived's dumps; see floatip history
json_dump_file | accepted | - | keepalived's dumps; see floatip status --json
json_version | accepted | - | keepalived's dumps; see floatip status --json
state_dump_file | accepted | - | keepalived's dumps; see floatip status --json
stats_dump_file | accepted | - | keepalived's dumps; see floatip status --json
tmp_config_directory | accepted | - | floatip makes no copy of the file
iproute_etc_dir | accepted | - | names of route tables are read in /etc/iproute2
iproute_usr_dir | accepted | - | names of route tables are read in /etc/iproute2
random_seed | accepted | word | floatip has no ${_RANDOM}

[vrrp_script]
script | done | word? | the command; no shell runs it. </PATH: passes while there is such a file
interval | done | 1..1000000 | seconds between two runs; 1
timeout | done | 1..1000000 | seconds, then the run has failed; as interval
weight | done | -253..253 | what a failure takes off the priority, or success adds; 0, a failure is a fault
rise | done | 1..1000000 | so many runs pass in a row before it is up; 1
fall | done | 1..1000000 | so many runs fail in a row before it is down; 1
init_fail | done | flag | it is down until it is up
user | done | word | who runs it

[vrrp_track_process]
process | done | word | the name that the kernel has of it; with arguments its command line
param_match | done | word? | how arguments are compared: initial or partial; without a value exactly
full_command | done | - | the command line is compared, not the name
weight | done | -254..254? | as that of a vrrp_script
quorum | done | 1..65535 | so many processes at least; 1
quorum_max | done | 0..65535 | so many processes at most; 0: none may run
delay | done | 0.000001..3600.0 | as fork_delay and terminate_delay
fork_delay | done | 0.000001..3600.0 | seconds for which enough must run before it is up
terminate_delay | done | 0.000001..3600.0 | seconds for which too few must run before it is down

[track_file]
file | done | word | a file that holds a number, which counts as soon as it changes
weight | done | -2147483647..2147483647 | what the number is multiplied with; 1. 0: any number but 0 is a fault
init_file | done | - | written at the start where there is no such file; with overwrite at each start

[vrrp_track_file]
file | done | word | as in track_file
weight | done | -2147483647..2147483647 | as in track_file
init_file | done | - | as in track_file

[vrrp_instance]
interface | done | word | of adverts, and of addresses without dev. Without it that of unicast_src_ip
virtual_router_id | done | 1..255 | the same on all nodes of the instance
priority | done | 1..255 | 100, or 255 with state MASTER and none given
state | done | word | MASTER shortens the first wait, and clears nopreempt
version | done | 2..3 | the first line counts; as vrrp_version
advert_int | done | 0.01..255.0 | seconds, 1. Version 2 rounds to whole ones, version 3 to 0.01, at most 40.95
authentication | done | block | with version 2 only
auth_hmac | done | block | keepalived 2.4's signed adverts
unicast_src_ip | done | word | the source of adverts; the interface's first address
unicast_peer | done | block | the other nodes; without it adverts are multicast
mcast_src_ip | done | word | as unicast_src_ip
mcast_dst_ip | done | word | where adverts are sent without unicast_peer
virtual_ipaddress | done | block | addresses of the master, one a line
virtual_ipaddress_excluded | done | block | the same, and in no advert
no_virtual_ipaddress | done | flag | no address is meant: floatip elects and notifies
virtual_routes | done | block | routes of the master
virtual_rules | done | block | rules of the master
promote_secondaries | accepted | - | floatip does this in any case
nopreempt | done | flag | a node that comes back leaves the master alone
preempt | done | flag | takes nopreempt back
preempt_delay | done | 0.0..1000.0 | seconds before a lower master is replaced
track_script | done | block | one vrrp_script a line, with weight and reverse
track_process | done | block | one vrrp_track_process a line, with weight and reverse
track_file | done | block | one track_file a line, with weight and reverse
track_interface | done | block | one interface a line, with weight and reverse
track_bfd | error | block | floatip speaks no BFD
track_src_ip | accepted | - | floatip always waits for its source address
dont_track_primary | done | flag | the state of the interface does not count
notify | done | word | run at each change, with kind, name, state and priority
notify_master | done | word | run when it becomes master
notify_backup | done | word | run when it becomes backup
notify_fault | done | word | run when it becomes fault
notify_stop | done | word | run when floatip stops
notify_deleted | done | word? | run when a reload removes the instance
notify_master_rx_lower_pri | done | word | run when a master hears a lower one
notify_priority_changes | done | switch | FIFOs and notify learn of priorities
garp_master_delay | done | 0..4294 | as vrrp_garp_master_delay
garp_master_repeat | done | 0..1000000 | as vrrp_garp_master_repeat
garp_lower_prio_delay | done | 0..4294 | as vrrp_garp_lower_prio_delay
garp_lower_prio_repeat | done | 0..1000000 | as vrrp_garp_lower_prio_repeat
garp_master_refresh | done | 0..4294 | as vrrp_garp_master_refresh
garp_master_refresh_repeat | done | 0..1000000 | as vrrp_garp_master_refresh_repeat
down_timer_adverts | done | 1..100 | as vrrp_down_timer_adverts
check_unicast_src | done | switch | adverts from unicast peers only
unicast_ttl | done | 1..255 | the TTL of unicast adverts; 255
unicast_fault_no_peer | accepted | - | an address that is no peer is an error, so no instance falls back to multicast
higher_prio_send_advert | done | switch | as vrrp_higher_prio_send_advert
lower_prio_no_advert | done | switch | as vrrp_lower_prio_no_advert
owner_ignore_adverts | done | switch | as vrrp_owner_ignore_adverts
v3_checksum_as_v2 | done | switch | as the one of global_defs
strict_mode | done | switch | the RFC and nothing more: no password, no preempt_delay, MASTER only with 255
native_ipv6 | done | flag | IPv6
skip_check_adv_addr | accepted | - | floatip only compares lists of addresses, and never refuses an advert for them
accept | accepted | - | floatip always accepts packets to the addresses
no_accept | error | - | the master would not answer on its own addresses
use_vmac | error | - | floatip makes no VMACs; with unicast peers a warning, and the addresses are on the interface
use_vmac_addr | warning | - | floatip makes no VMACs
vmac_xmit_base | accepted | - | what floatip does in any case
vmac_garp_intvl | accepted | - | floatip makes no VMACs
use_ipvlan | error | - | floatip makes no ipvlans
vrf | error | word | floatip has no VRFs
garp_extra_if | accepted | - | floatip makes no VMACs
old_unicast_checksum | warning | - | of keepalived 1.3.6; floatip drops such adverts
lvs_sync_daemon_interface | warning | word | IPVS stays keepalived's
smtp_alert | accepted | - | floatip sends no mail
debug | accepted | word | not even keepalived does anything with it
kernel_rx_buf_size | accepted | - | floatip chooses the size of its buffers
linkbeat_use_polling | accepted | - | floatip is told by the kernel
thread_timer_expired | accepted | - | floatip always elects again after it was suspended
timer_expired_backup | accepted | - | floatip always elects again after it was suspended

[vrrp_instance/authentication]
auth_type | done | word | PASS. AH is an error, any other word means no password
auth_pass | done | word | the first 8 octets, in clear on the wire

[vrrp_instance/auth_hmac]
key | done | word | an id, 1 to 255, and 32 to 64 octets: as text, hex:DIGITS or file:PATH
active_key | done | 1..255 | the key that signs; the first one
mode | done | receive-only|permissive|enforce | verify only; sign, and accept the unsigned; accept nothing unsigned
time_window | done | 1..300 | seconds that clocks may differ; three advert intervals, at least 5
anti_replay | done | time|monotonic | what keeps an old advert from counting

[virtual_ipaddress option]
dev | done | word | the interface of the address, without which the instance is in FAULT. What BGP announces is on lo
label | done | word | up to 15 octets
scope | done | word | global, link, host, site, nowhere or a number; of IPv4
no_track | done | flag | that others remove it ends no mastership, and its interface (dev) does not count
preferred_lft | done | word | of IPv6, seconds or forever; a /128 has 0, so it is no source of connections
brd | accepted | word | floatip sets no broadcast address
broadcast | accepted | word | floatip sets no broadcast address
-nodad | accepted | flag | floatip always sets it
home | accepted | flag | a flag of Mobile IPv6
mngtmpaddr | accepted | flag | of temporary addresses, which no floating address is
noprefixroute | accepted | flag | a /32 or /128 has no route
autojoin | accepted | flag | of multicast addresses
peer | error | word | floatip holds no point-to-point addresses
track_group | accepted | word | of static addresses
use_vmac | error | flag | floatip makes no VMACs; with unicast peers a warning

[unicast_peer option]
min_ttl | done | 0..255 | the TTL of its adverts at least; turns check_unicast_src on
max_ttl | done | 0..255 | the TTL of its adverts at most

[tracking option]
weight | done | - | in place of the weight of the definition
reverse | done | flag | up counts as down, and down as up
noreverse | done | flag | takes back reverse of the definition

[virtual_routes option]
(all of ip route) | done | - | what ip-route(8) knows; floatip check names what it cannot do

[virtual_rules option]
(all of ip rule) | done | - | what ip-rule(8) knows; floatip check names what it cannot do

[vrrp_sync_group]
group | done | block | the instances, one a line
track_script | done | block | of all members
track_process | done | block | of all members
track_file | done | block | of all members
track_interface | done | block | of all members
track_bfd | error | block | floatip speaks no BFD
notify | done | word | run when all members have changed, with kind, name, state and priority 0
notify_master | done | word | run when all members are master
notify_backup | done | word | run when all members are backup
notify_fault | done | word | run when all members are fault
notify_stop | done | word | run when floatip stops
notify_priority_changes | accepted | - | a group has no priority
sync_group_tracking_weight | done | flag | weights of members count for each of them alone
global_tracking | done | flag | an old name of sync_group_tracking_weight
smtp_alert | accepted | - | floatip sends no mail

[garp_group]
garp_interval | accepted | - | see garp_group
gna_interval | accepted | - | see garp_group
interface | accepted | - | see garp_group
interfaces | accepted | - | see garp_group

[track_group]
group | accepted | - | see track_group
"""
