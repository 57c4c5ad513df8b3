"""What can happen in a storm, by kind."""

NODE_KINDS = ("crash", "kill", "freeze", "hang", "sick", "hanging", "cut", "stop", "delete")
ELECTION_KINDS = ("split", "loss")
SERVER_KINDS = ("rs-down", "rs-cut")
LAN_KINDS = ("link-down", "arp-loss")
KEEPALIVED_KINDS = ("kp-stop", "kp-kill", "kp-hang", "kp-fault", "kp-fifo", "kp-strip", "kp-add", "helper", "reload")
LINK_KINDS = ("one-way", "jitter", "double", "replay", "forge", "pause", "drain", "hold", "handover")
ETCD_KINDS = (
    "etcd-cut",
    "etcd-gone",
    "etcd-leader",
    "etcd-slow",
    "etcd-lost",
    "etcd-late",
    "etcd-full",
    "etcd-stale",
    "etcd-lag",
    "etcd-gap",
    "etcd-compact",
    "row",
    "restore",
)
MACHINE_KINDS = ("clock", "stand", "delete-exclusive", "handover-exclusive")
ALL_KINDS = (
    *NODE_KINDS,
    *ELECTION_KINDS,
    *SERVER_KINDS,
    *LAN_KINDS,
    *KEEPALIVED_KINDS,
    *LINK_KINDS,
    *ETCD_KINDS,
    *MACHINE_KINDS,
)
