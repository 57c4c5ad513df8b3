"""The second chance on hosts with a real systemd, the packaged unit, and HAProxy: what a stop, a restart, an upgrade, a
reboot and crashes do to connections that are open.

TLS with keep-alive, idle connections as a WebSocket's, messages each 50 ms, an upload, a download and short connections
all last over the move.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from floatip.host.privileges import CAP_NET_ADMIN, CAP_NET_RAW
from floatip.lab.connections import CLOSED, RESET, Long
from tests.systemd.chance import (
    TLS,
    Chanced,
    Load,
    is_usable,
    kept_here,
    kept_there,
    left_in_kernel,
    loaded,
    no_probe_lost,
    none_failed,
)
from tests.systemd.machines import Machine, Rack, on_each, wait_for
from tests.systemd.nodes import season
from tests.systemd.pair import ADDRESS, Pair
from tests.systemd.stacks import NEXT_VERSION, SETTLE_TIMEOUT, begin_to_build, claims, next_package, settle, status, use

CHANCED = Chanced()
TIMEOUT_STOP = 15.0
"""Seconds: TimeoutStopSec of the unit."""
MOVED_WITHIN = 60.0
"""Seconds: an upgrade unpacks and compiles before it stops the daemon."""
STOPS_WITHIN = 8.0
"""Seconds from the end of the last connection to the end of a stop."""
LIVES = 2.0
"""Seconds for which the connections go on after all else, so that one that was harmed shows it."""
RESET_WITHIN = 4.0
"""Seconds after which the connections of a node that crashed for good are reset, in all."""
TRIES = 3
SILENT = "has said nothing through the tunnel"
CAPABILITIES = f"{CAP_NET_ADMIN | CAP_NET_RAW:016x}"
DROP_INS = "/etc/systemd/system/floatip.service.d"
CGROUP = "/sys/fs/cgroup$(systemctl show --value --property=ControlGroup floatip)"
STATE = "systemctl show --value --property=ActiveState floatip"
STATUS = "systemctl show --value --property=StatusText floatip"


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    begin_to_build()
    with ExitStack() as exits:
        rack = Rack()
        exits.callback(rack.close)
        yield Pair(rack, exits)


@pytest.fixture
def master(pair: Pair) -> Machine:
    """Ready to be moved away from."""
    return begin(pair, CHANCED)


def begin(pair: Pair, stack: Chanced) -> Machine:
    """The master. Sockets that the test before left behind, whose clients were reset, would count as open."""
    use(pair, stack)
    on_each(pair.nodes, lambda node: node.run(f"ss --kill --tcp --no-header src {ADDRESS}", quiet=True))
    return settle(pair, stack)


def test_a_stop_waits_until_the_clients_have_closed_and_leaves_nothing_behind(pair: Pair, master: Machine) -> None:
    other = pair.other(master)
    with pair.observed() as observation, loaded(pair) as load:
        at = time.monotonic()
        master.run("systemctl stop --no-block floatip")
        moved(pair, other, master)
        wait_for(lambda: "open connections go on by" in said(master), "the status to say what is left", MOVED_WITHIN)
        print(said(master))
        assert kept_here(master) > 0
        time.sleep(max(0.0, at + TIMEOUT_STOP + 3 - time.monotonic()))
        assert state(master) == "deactivating", "it waits longer than TimeoutStopSec"
        master.run("systemctl status floatip; floatip status", check=False)
        load.end()
        stopped = wait_for(lambda: state(master) == "inactive", "the stop to end", 60) - load.ended_at
        print(f"it stopped {stopped:.2f} s after the last connection")
    none_failed(load)
    no_probe_lost(observation)
    assert stopped < STOPS_WITHIN
    assert left_in_kernel(pair, master) == []
    assert not master.succeeds("pgrep --full 'floatip[.]second_chance'")


def test_a_restart_resets_nothing(pair: Pair, master: Machine) -> None:
    _waits_for_its_clients(pair, master, lambda: master.run("systemctl restart floatip"))


def test_an_upgrade_of_the_package_resets_nothing(pair: Pair, master: Machine) -> None:
    package = next_package(pair.directory)
    _waits_for_its_clients(pair, master, lambda: master.install(package))
    assert master.run("dpkg-query --show --showformat='${Version}' floatip") == NEXT_VERSION


def _waits_for_its_clients(pair: Pair, master: Machine, restart: Callable[[], object]) -> None:
    """What stops the daemon and starts it again, as an administrator does it: the command waits for the clients."""
    before, other = status(master)["pid"], pair.other(master)
    with pair.observed() as observation, loaded(pair) as load, ThreadPoolExecutor() as pool:
        command = pool.submit(restart)
        moved(pair, other, master)
        time.sleep(LIVES)
        assert not command.done(), "it waits for the clients"
        load.end()
        command.result(60)
        took = time.monotonic() - load.ended_at
        wait_for(lambda: is_usable(master), f"{master.name} to be ready again", SETTLE_TIMEOUT)
        print(f"the command ended {took:.2f} s after the last connection")
    none_failed(load)
    no_probe_lost(observation)
    assert status(master)["pid"] != before
    assert claims(status(other)), "it stays there"


def test_a_stop_that_is_asked_for_again_waits_for_no_connection_and_leaves_nothing_behind(
    pair: Pair, master: Machine
) -> None:
    other = pair.other(master)
    with pair.observed() as observation, loaded(pair) as load:
        master.run("systemctl stop --no-block floatip")
        moved(pair, other, master)
        wait_for(lambda: "open connections go on by" in said(master), "the stop to wait", MOVED_WITHIN)
        asked_at = time.monotonic()
        master.run("systemctl kill floatip")
        took = wait_for(lambda: state(master) == "inactive", "the stop to end", STOPS_WITHIN) - asked_at
        time.sleep(RESET_WITHIN)
        load.end()
    print(load.report())
    latest = max(one.ended_at for one in busy(load, master)) - asked_at
    print(f"the stop took {took:.2f} s from then, and all that were busy were reset after {latest:.2f} s")
    assert {one.end for one in busy(load, master)} == {RESET}
    assert latest < RESET_WITHIN + took
    assert left_in_kernel(pair, master) == []
    no_probe_lost(observation)


def test_the_process_has_the_two_capabilities_that_it_needs_and_its_user_is_floatip(
    pair: Pair, master: Machine
) -> None:
    for node in pair.nodes:
        told = node.run(f"cat /proc/{helper(node)}/status", quiet=True)
        found = dict(line.split(":\t", 1) for line in told.splitlines() if ":\t" in line)
        assert {found[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} <= {CAPABILITIES, "0" * 16}, told
        assert found["CapEff"] == CAPABILITIES
        assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
        assert node.run(f"stat --format=%U /proc/{helper(node)}", quiet=True) == "floatip\n"
        assert "connections  ready" in node.run("floatip status", check=False)


def test_a_drain_and_a_reboot_reset_nothing(pair: Pair, master: Machine) -> None:
    """The host's own order of stops: floatip before HAProxy. A reboot waits as a stop does."""
    season(pair)
    other = pair.other(master)
    with pair.observed() as observation, loaded(pair) as load, ThreadPoolExecutor() as pool:
        master.run("floatip drain --reason 'a new kernel'")
        moved(pair, other, master)
        rebooted = pool.submit(master.reboot)
        wait_for(lambda: "open connections go on by" in said(master), "the reboot to wait", MOVED_WITHIN)
        time.sleep(LIVES)
        assert not rebooted.done()
        load.end()
        rebooted.result(SETTLE_TIMEOUT)
        wait_for(lambda: is_usable(master), f"{master.name} to be ready again", SETTLE_TIMEOUT)
        master.run("floatip undrain")
    none_failed(load)
    no_probe_lost(observation)


def test_the_way_back_while_connections_of_both_nodes_are_open_resets_nothing(pair: Pair, master: Machine) -> None:
    """The carrier restarts: the node that was left takes over again, and the carrier waits for its own."""
    season(pair)
    other = pair.other(master)
    with pair.observed() as observation, loaded(pair) as load, ThreadPoolExecutor() as pool:
        master.run("floatip handover")
        moved(pair, other, master)
        with loaded(pair, "later") as later:
            command = pool.submit(other.run, "systemctl restart floatip")
            moved(pair, master, other)
            time.sleep(LIVES)
            assert not command.done(), "it waits for the clients"
            later.end()
        load.end()
        command.result(60)
    assert {one.who for one in load.found.long} == {master.name}
    assert {one.who for one in later.found.long} == {other.name}
    for one in (load, later):
        none_failed(one)
    no_probe_lost(observation)


def test_the_node_that_took_over_may_crash_and_resets_no_connection_of_the_other(pair: Pair, master: Machine) -> None:
    """Its own are reset, as in each crash."""
    season(pair)
    other, before = pair.other(master), history(master)
    with pair.observed(), loaded(pair) as load:
        master.run("floatip handover")
        moved(pair, other, master)
        other.run("systemctl kill --signal=KILL floatip")
        time.sleep(LIVES + RESET_WITHIN)
        load.end()
    print(load.report())
    assert load.failures(of=master.name) == []
    assert history(master).count("of this node are reset") == before.count("of this node are reset")


@pytest.fixture
def soon_started(pair: Pair, master: Machine) -> Iterator[None]:
    """The tests that run beside this one do not hold up a start, which takes them half a second alone, and 4 s so."""
    del master  # its daemon runs by now
    settings = r"[Service]\nCPUSchedulingPolicy=rr\nCPUSchedulingPriority=9\n"
    _scheduled(pair, f"mkdir --parents {DROP_INS} && printf '{settings}' >{DROP_INS}/soon.conf", "--rr --pid 9")
    yield
    _scheduled(pair, f"rm {DROP_INS}/soon.conf", "--other --pid 0")


def _scheduled(pair: Pair, set_unit: str, policy: str) -> None:
    """The unit, and what runs of it now: what it starts is scheduled alike."""
    set_processes = f"for each in $(cat {CGROUP}/cgroup.procs); do chrt --all-tasks {policy} $each; done"
    on_each(pair.nodes, lambda node: node.run(f"{set_unit} && systemctl daemon-reload && {set_processes}"))


def _the_daemon_that_was_left(pair: Pair, carrier: Machine, keeper: Machine) -> None:
    keeper.run("systemctl kill --signal=KILL floatip")
    assert claims(status(carrier)), "it stays there"


def _the_process_on_either_side(pair: Pair, carrier: Machine, keeper: Machine) -> None:
    before = _silences(pair)
    for node in (keeper, carrier):
        pid = helper(node)
        node.run(f"kill -KILL {pid}")
        wait_for(lambda pid=pid, node=node: helper(node) not in ("", pid), "another process", MOVED_WITHIN)  # type: ignore[misc]
        wait_for(lambda: kept_there(carrier) > 0 or _silences(pair) > before, "them to go on, or not", MOVED_WITHIN)
        time.sleep(LIVES)


@pytest.mark.usefixtures("soon_started")
@pytest.mark.parametrize("crash", [_the_daemon_that_was_left, _the_process_on_either_side])
def test_what_crashes_and_is_started_again_resets_nothing(
    pair: Pair, master: Machine, crash: Callable[[Pair, Machine, Machine], None]
) -> None:
    """Within the other node's patience, which a busy machine may need for the start alone: then it is tried again."""
    for _ in range(TRIES):
        season(pair)
        other = pair.other(master)
        before = _silences(pair)
        with pair.observed() as observation, loaded(pair) as load:
            master.run("floatip handover")
            moved(pair, other, master)
            crash(pair, other, master)
            time.sleep(LIVES + RESET_WITHIN)
            load.end()
        no_probe_lost(observation)
        if _silences(pair) == before:
            none_failed(load)
            return
        print("the start took longer than the other node waits")
        master = begin(pair, CHANCED)
    pytest.fail(f"a start took longer than the other node waits, {TRIES} times: this machine is too busy")


def _silences(pair: Pair) -> int:
    return sum(history(node).count(SILENT) for node in pair.nodes)


def test_a_node_that_was_left_and_crashes_for_good_has_its_connections_reset_soon(pair: Pair, master: Machine) -> None:
    season(pair)
    other = pair.other(master)
    with pair.observed() as observation, loaded(pair) as load:
        master.run("floatip handover")
        moved(pair, other, master)
        # As a machine that is lost: nothing starts it again, and what it has in the kernel stays.
        master.run("systemctl mask --runtime floatip && systemctl kill --signal=KILL floatip")
        at = time.monotonic()
        time.sleep(LIVES + RESET_WITHIN)
        load.end()
        master.run("systemctl unmask --runtime floatip; systemctl reset-failed floatip; systemctl start floatip")
    print(load.report())
    latest = max(one.ended_at for one in busy(load, master)) - at
    print(f"all that were busy were reset {latest:.2f} s after the crash")
    assert {one.end for one in busy(load, master)} == {RESET}
    assert latest < RESET_WITHIN
    assert SILENT in history(other)
    no_probe_lost(observation)


def test_a_reload_of_haproxy_after_the_move_ends_idle_connections_as_it_does_without_floatip(
    pair: Pair, master: Machine
) -> None:
    """A soft stop: its old process ends each connection when it is idle, and floatip sees the last one go."""
    season(pair)
    other = pair.other(master)
    with pair.observed() as observation, loaded(pair) as load:
        master.run("floatip handover")
        moved(pair, other, master)
        before = kept_here(master)
        master.run("systemctl reload haproxy")
        wait_for(lambda: kept_here(master) <= before - TLS, "the idle TLS connections to be closed", MOVED_WITHIN)
        load.end()
        wait_for(lambda: not kept_there(other), "the last connection to go", MOVED_WITHIN)
    print(load.report())
    assert load.called["tls"]["ends"] == {CLOSED: TLS}, "closed, not reset"
    assert [failure for failure in load.failures() if "tls" not in failure] == []
    wait_for(lambda: f"no connection of {master.name} is left" in history(other), "the history to say so", MOVED_WITHIN)
    no_probe_lost(observation)


def test_after_the_limit_what_is_left_is_reset_and_the_stop_ends(pair: Pair) -> None:
    limited = Chanced(limit=5.0)
    master = begin(pair, limited)
    other = pair.other(master)
    with pair.observed() as observation, loaded(pair) as load:
        at = time.monotonic()
        master.run("systemctl stop floatip")
        took = time.monotonic() - at
        load.end()
    print(load.report())
    assert limited.limit < took < limited.limit + STOPS_WITHIN
    ended = [one.ended_at - at for one in load.found.long]
    print(f"the stop took {took:.2f} s; connections ended {min(ended):.2f} to {max(ended):.2f} s after it began")
    assert {one.end for one in load.found.long} == {RESET}
    assert min(ended) > limited.limit
    for node in (master, other):
        assert "the limit of 5 s" in history(node)
    no_probe_lost(observation)


def busy(load: Load, node: Machine) -> list[Long]:
    """Long ones of the node that say something all the while: others learn of a reset when they say something."""
    return [one for one in load.found.long if one.who == node.name and one.messages > 1]


def helper(node: Machine) -> str:
    """The process of the second chance; empty: none."""
    return node.run("pgrep --full 'floatip[.]second_chance'", check=False, quiet=True).strip()


def history(node: Machine) -> str:
    return node.run("floatip history", check=False, quiet=True)


def said(node: Machine) -> str:
    return node.run(STATUS, check=False, quiet=True)


def state(node: Machine) -> str:
    return node.run(STATE, quiet=True).strip()


def moved(pair: Pair, carrier: Machine, keeper: Machine) -> None:
    wait_for(lambda: claims(status(carrier)), f"{carrier.name} to take over", MOVED_WITHIN)
    wait_for(lambda: kept_there(carrier) > 0, f"connections of {keeper.name} to go on by it", MOVED_WITHIN)
