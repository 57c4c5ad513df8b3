"""How long a takeover took, from the last sign of life of the old master to the last acknowledgement."""

from dataclasses import replace

import pytest

from floatip.core.addresses import Placed
from floatip.core.events import (
    Became,
    Effect,
    Event,
    Held,
    KeepalivedFound,
    KeepalivedSaid,
    Phases,
    StopRequested,
    TookOver,
    Writable,
)
from floatip.core.settings import Keepalived, Settings, Static
from tests.core.host import CONFIG, DOWN, PEER, RS, RS2, US, A, Host, advert, config, held


class Watched(Host):
    """Keeps what is said of takeovers."""

    def __init__(self, config: Settings = CONFIG, **options: bool) -> None:
        self.took: list[tuple[float, Phases]] = []
        self.said: list[Became] = []
        super().__init__(config, **options)

    def run(self, until: float) -> "Watched":
        super().run(until)
        return self

    def perform(self, effects: list[Effect]) -> None:
        self.took += [(self.now, effect.phases) for effect in effects if isinstance(effect, TookOver)]
        self.said += [effect for effect in effects if isinstance(effect, Became) and effect.what == "takeover"]
        super().perform(effects)


def following(config: Settings = CONFIG) -> Watched:
    """A backup whose master sends its last advert at 10 s."""
    host = Watched(config)
    host.adverts_from_peer = 100
    host.run(10.0)
    host.adverts_from_peer = None
    return host


def test_a_silent_master_is_detected_and_the_steps_add_up() -> None:
    host = following().run(20.0)
    ((at, phases),) = host.took
    assert phases.detected == pytest.approx(DOWN)
    assert (phases.decided, phases.wire) == (0.0, 0.0)
    assert phases.acknowledged is not None
    assert 0 < phases.acknowledged < 0.05
    assert at == pytest.approx(10.0 + sum(each for each in (phases.detected, phases.acknowledged) if each))
    (news,) = host.said
    assert (news.name, news.value) == ("VI_1", "complete")
    expected = f"detected in {DOWN:.2f} s, decided in 0.00 s, on the wire in 0.00 s, acknowledged in 0.02 s"
    assert news.reason == expected


def test_a_master_that_hands_over_is_not_detected_and_the_wait_counts_as_the_decision() -> None:
    host = following()
    host.tell(advert(0))
    host.run(20.0)
    ((_, phases),) = host.took
    assert phases.detected is None
    assert phases.decided == pytest.approx((256 - 50) / 256)
    assert host.said[0].reason.startswith("decided in 0.80 s, on the wire in 0.00 s, ")


def test_it_is_complete_when_the_last_route_server_has_it() -> None:
    host = following(config({"peers": (RS, RS2)}))
    host.silent_peers = {RS2}
    host.run(12.0)
    assert host.took == []
    host.run(15.5)
    host.silent_peers = set()
    host.run(17.0)
    ((at, phases),) = host.took
    assert 15.5 <= at <= 16.5
    assert phases.acknowledged == pytest.approx(at - 10.0 - DOWN)


def test_it_is_on_the_wire_when_the_kernel_has_the_bytes_and_not_before() -> None:
    class Slow(Watched):
        may_write = True

        def _answers(self, effect: Effect) -> list[Event]:
            return [one for one in super()._answers(effect) if self.may_write or not isinstance(one, Writable)]

    host = Slow()
    host.adverts_from_peer = 100
    host.run(10.0)
    host.adverts_from_peer, host.may_write = None, False
    host.run(10.0 + DOWN + 0.25)
    assert host.took == []
    host.may_write = True
    host.tell(Writable(RS))
    host.run(20.0)
    ((_, phases),) = host.took
    assert phases.wire == pytest.approx(0.25)


def test_a_mastership_that_ends_before_is_given_up_and_says_how_far_it_came() -> None:
    host = following()
    host.run(10.0 + DOWN - 0.1)
    host.acknowledging = False
    host.run(10.0 + DOWN + 0.5)
    host.tell(advert(100))
    assert host.node.instances["VI_1"].role.value == "backup"
    ((_, phases),) = host.took
    assert (phases.wire, phases.acknowledged) == (0.0, None)
    (news,) = host.said
    assert news.value == "given-up"
    assert news.reason.startswith(f"not master any more: following {PEER}, priority 100; until then: detected in ")


def test_without_bgp_the_address_and_the_arp_complete_it() -> None:
    settings = replace(config(placement="master", interface="eth0"), speaker=None)
    host = Watched(settings, kernel_answers=False)
    host.adverts_from_peer = 100
    host.run(10.0)
    host.adverts_from_peer = None
    host.run(10.0 + DOWN + 0.3)
    assert host.took == []
    host.tell(held(A, interface="eth0"))
    ((_, phases),) = host.took
    assert (phases.wire, phases.acknowledged) == (None, pytest.approx(0.3))
    assert host.said[0].reason.endswith("decided in 0.00 s, held and told by ARP in 0.30 s")


def test_what_keepalived_decides_is_timed_from_the_role_on() -> None:
    followed = Keepalived("VI_1", "eth0", 51, 50, US, (PEER,))
    host = Watched(config(election=followed))
    host.tell(KeepalivedFound(True, "it runs"), KeepalivedSaid("INSTANCE", "VI_1", "MASTER"))
    host.tell(Held(frozenset({Placed("lo", A), Placed("eth0", A)})))
    host.run(10.0)
    ((_, phases),) = host.took
    assert (phases.detected, phases.decided) == (None, None)
    assert phases.acknowledged is not None


def test_where_nobody_elects_nobody_takes_over() -> None:
    host = Watched(config(election=Static("primary")))
    host.run(10.0)
    assert (host.took, host.said) == ([], [])
    host.tell(StopRequested())
    assert host.took == []


def test_a_reload_that_removes_the_instance_forgets_its_takeover() -> None:
    host = following()
    host.run(10.0 + DOWN - 0.1)
    host.acknowledging = False
    host.run(10.0 + DOWN + 0.5)
    host.reload(replace(CONFIG, instances=()))
    host.acknowledging = True
    host.run(20.0)
    assert (host.took, host.said) == ([], [])
