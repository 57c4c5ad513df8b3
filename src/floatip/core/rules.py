"""The rules that decide which node carries an instance, as codes. docs/reference/explain.md has a line for each."""

from enum import StrEnum


class Rule(StrEnum):
    # Who carries it keeps it, or gets it
    STICKY = "sticky"
    ONLY_READY_NODE = "only-ready-node"
    FIRST_CHOICE = "first-choice"
    NEXT_IN_TURN = "next-in-turn"
    PREFERRED = "preferred"
    PREEMPT = "preempt"
    PREEMPT_DELAY = "preempt-delay"
    HANDED_OVER = "handed-over"
    STANDBY_ROUTE = "standby-route"
    PRIORITY = "priority"
    TIE_BY_ADDRESS = "tie-by-address"
    SILENT = "silent"
    KEEPALIVED = "keepalived"
    CONFIGURED = "configured"
    # What keeps a node from it
    UNHEALTHY = "unhealthy"
    NO_RESULT_YET = "no-result-yet"
    SYNC_GROUP = "sync-group"
    LINK_DOWN = "link-down"
    NO_ADDRESS = "no-address"
    NOT_HELD = "not-held"
    NO_ROUTE_SERVER = "no-route-server"
    CRASH_LOOP = "crash-loop"
    DAMPED = "damped"
    DRAINED = "drained"
    HANDS_OVER = "hands-over"
    PAUSED = "paused"
    STOPPING = "stopping"
    KEEPALIVED_DOWN = "keepalived-down"
    CONTESTED = "contested"
    # What is not over yet, or has no end
    STARTING = "starting"
    LISTENS = "listens"
    WAITS_ITS_TURN = "waits-its-turn"
    TWO_MASTERS = "two-masters"
    NO_SUCCESSOR = "no-successor"
    NOBODY_READY = "nobody-ready"
