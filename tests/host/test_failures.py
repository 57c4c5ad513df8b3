"""What a part of the host cannot do: a few failures are shown one by one, and none is forgotten by what decides."""

from ipaddress import ip_interface

from floatip.core.addresses import Placed
from floatip.core.events import Failing, Failure
from floatip.core.problems import Code
from floatip.host.failures import MOST, Failures
from tests.host.reports import Clock, Reports

PLACED = [Placed("lo", ip_interface(f"192.0.2.{number}/32")) for number in range(1, MOST + 6)]
REMOVED = [
    Failure(str(one.address), "something removes it", "look", Code.ADDRESS_REMOVED, frozenset({one})) for one in PLACED
]


def test_what_is_too_much_to_be_shown_is_one_failure_with_all_of_its_addresses() -> None:
    reports = Reports()
    failures = Failures("removals", reports)
    for failure in REMOVED:
        failures.put(failure)
    known = reports.failing("removals")
    assert len(known) == MOST + 1
    assert frozenset().union(*(one.unkept for one in known)) == set(PLACED)
    [rest] = [one for one in known if one.what == "removals: others"]
    assert rest.reason == "5 more, such as 192.0.2.21/32: something removes it"
    assert (rest.hint, rest.code) == ("look", Code.ADDRESS_REMOVED)


def test_what_is_not_set_again_is_forgotten_in_one_step() -> None:
    reports, clock = Reports(), Clock()
    failures = Failures("removals", reports, clock)
    for failure in REMOVED:
        failures.put(failure, lasts=10)
    clock.run(5)
    failures.put(REMOVED[0], lasts=10)
    told = len(reports.of(Failing))
    clock.run(10)
    assert reports.failing("removals") == {REMOVED[0]}
    assert len(reports.of(Failing)) == told + 1
    clock.run(15)
    assert reports.failing("removals") == set()


def test_what_is_set_without_an_end_stays() -> None:
    reports, clock = Reports(), Clock()
    failures = Failures("removals", reports, clock)
    failures.put(REMOVED[0], lasts=10)
    failures.put(REMOVED[0])
    failures.put(REMOVED[1], lasts=10)
    failures.clear(REMOVED[1].what)
    failures.put(REMOVED[1])
    clock.run(20)
    assert reports.failing("removals") == {REMOVED[0], REMOVED[1]}
