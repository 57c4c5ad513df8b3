"""Which addresses lelastic would announce, and the node that announces what is found and holds nothing."""

from dataclasses import replace
from ipaddress import ip_interface

import pytest

from floatip.core.addresses import InterfaceAddress, Placed
from floatip.core.events import Held, Started, StopRequested
from floatip.core.settings import Instance, Settings, Static
from floatip.core.snapshot import describe
from floatip.core.state import as_data
from floatip.lelastic import choose
from tests.core.host import CONFIG, A, B, Host

ON_LO = [
    ("192.168.223.158/32", "192.168.223.158/32"),
    ("192.168.223.158/17", None),
    ("2001:db8:e001:1b8c::1/64", "2001:db8:e001:1b8c::/64"),
    ("2001:db8:e001:1b8c::1/56", "2001:db8:e001:1b00::/56"),
    ("2001:db8:e001:1b8c::1/128", "2001:db8:e001:1b8c::/64"),
    ("2001:db8:e001:1b8c::1/48", "2001:db8:e001:1b8c::/64"),
    ("127.0.0.1/8", None),
    ("127.0.0.53/32", None),
    ("::1/128", None),
    ("169.254.1.1/32", None),
    ("fe80::1/64", None),
    ("224.0.0.18/32", None),
    ("ff02::12/128", None),
]


def announced(*found: tuple[str, str], all_interfaces: bool = False, ipv6_length: int = 64) -> list[str]:
    placed = [Placed(interface, ip_interface(address)) for interface, address in found]
    return [str(a.network) for a in choose(placed, all_interfaces=all_interfaces, ipv6_length=ipv6_length)]


@pytest.mark.parametrize(("address", "prefix"), ON_LO)
def test_an_address_on_lo_stands_for_its_prefix_or_for_none(address: str, prefix: str | None) -> None:
    assert announced(("lo", address)) == ([prefix] if prefix else [])


@pytest.mark.parametrize(
    ("address", "prefix"),
    [
        ("2001:db8:e001:1b8c::1/128", "2001:db8:e001:1b00::/56"),
        ("2001:db8:e001:1b8c::1/64", "2001:db8:e001:1b8c::/64"),
        ("2001:db8:e001:1b8c::1/56", "2001:db8:e001:1b00::/56"),
        ("192.168.223.158/32", "192.168.223.158/32"),
    ],
)
def test_with_send56_a_range_of_another_length_becomes_a_56_and_a_64_stays(address: str, prefix: str) -> None:
    assert announced(("lo", address), ipv6_length=56) == [prefix]


def test_other_interfaces_count_only_with_allifs() -> None:
    found = ("eth0", "192.0.2.1/32"), ("lo", "192.0.2.2/32"), ("eth0", "192.0.2.3/24")
    assert announced(*found) == ["192.0.2.2/32"]
    assert announced(*found, all_interfaces=True) == ["192.0.2.1/32", "192.0.2.2/32"]


def test_the_choice_does_not_depend_on_the_order_in_which_the_kernel_lists_them() -> None:
    found = ("lo", "2001:db8::1/64"), ("lo", "192.0.2.2/32"), ("eth0", "192.0.2.2/32"), ("lo", "192.0.2.1/32")
    assert announced(*found, all_interfaces=True) == announced(*reversed(found), all_interfaces=True)
    assert len(announced(*found, all_interfaces=True)) == 3


class Announcer(Host):
    """The kernel has what it is told to have; the settings follow, as the daemon has them do."""

    def __init__(self, role: str = "primary") -> None:
        self.instance = Instance("lelastic", (), Static(role), placement="found")  # type: ignore[arg-type]
        super().__init__(self.settings(), start=False)

    def settings(self) -> Settings:
        return replace(CONFIG, checks=(), instances=(self.instance,), release_delay=0.2)

    def found(self, *addresses: InterfaceAddress) -> list[str]:
        self.instance = replace(self.instance, addresses=addresses)
        placed = frozenset(Placed("lo", address) for address in (*addresses, ip_interface("127.0.0.1/8")))
        return self.tell(Held(placed)) + self.reload(self.settings())

    def start(self) -> None:
        self.tell(Started())

    @property
    def ever_held(self) -> list[str]:
        return [word for _, word in self.log if word.startswith("hold ")]


@pytest.fixture(params=["primary", "secondary"])
def announcer(request: pytest.FixtureRequest) -> Announcer:
    it = Announcer(request.param)
    it.found()
    it.start()
    return it


def test_an_address_that_appears_is_announced_and_one_that_goes_is_withdrawn(announcer: Announcer) -> None:
    rank = "active" if announcer.node.instances["lelastic"].role.value == "master" else "standby"
    assert announcer.found(A) == ["address found", f"rank {rank}", f"{rank} 192.0.2.10"]
    assert announcer.found(A, B) == ["address found", f"{rank} 192.0.2.11"]
    assert announcer.found(B) == ["address gone", "withdraw 192.0.2.10"]
    assert announcer.ever_held == []


def test_who_has_no_address_yet_announces_nothing_and_says_so(announcer: Announcer) -> None:
    [instance] = as_data(describe(announcer.node, 0))["instances"]
    assert (instance["rank"]["value"], instance["rank"]["reason"]) == ("none", "waiting for an address on lo")
    [problem] = as_data(describe(announcer.node, 0))["problems"]
    assert (problem["code"], problem["what"]) == (
        "not-held",
        "lelastic announces nothing: waiting for an address on lo",
    )
    assert announcer.when("address waiting") == [0]


def test_addresses_that_come_and_go_are_never_taken_for_a_flap() -> None:
    announcer = Announcer()
    announcer.found()
    announcer.start()
    for _ in range(10):
        assert "active 192.0.2.10" in announcer.found(A)
        assert "withdraw 192.0.2.10" in announcer.found()


def test_two_addresses_of_a_range_are_one_prefix_until_the_last_has_gone() -> None:
    announcer = Announcer()
    announcer.start()
    one, two = ip_interface("2001:db8::1/64"), ip_interface("2001:db8::2/64")
    assert "active 2001:db8::" in announcer.found(one, two)
    assert announcer.found(two) == ["address gone"]
    assert "withdraw 2001:db8::" in announcer.found()


def test_a_stop_withdraws_and_ceases_and_releases_nothing(announcer: Announcer) -> None:
    announcer.found(A)
    assert announcer.tell(StopRequested()) == [
        "rank none",
        "withdraw 192.0.2.10",
        "notification 6/2",
        "close",
        "session down",
    ]
    assert "exit" in announcer.tick(0.2)
    assert announcer.ever_held == []
