"""Read, modify, write: nothing is lost that nobody asked to remove."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floatip.linode import api
from floatip.linode.merge import Change, Things, in_order, wanted
from tests.command_line import floatip
from tests.linode_fake.clients import TOKEN, fake

ADDRESSES = st.integers(1, 12).map(lambda n: IPv4Address(0xC0000200 + n))
RANGES = st.integers(1, 6).map(lambda n: IPv6Network((int(IPv6Address("2001:db8::")) + (n << 72), 56)))
THING = ADDRESSES | RANGES
THINGS = st.frozensets(THING, max_size=12)


@st.composite
def changes(draw: st.DrawFn) -> Change:
    add = draw(THINGS)
    return Change(add, draw(THINGS) - add)


@given(THINGS, changes())
def test_an_entry_is_lost_only_if_its_removal_was_asked_for(has: Things, change: Change) -> None:
    assert has - change.applied(has) == has & change.remove


@given(THINGS, changes())
def test_an_entry_is_gained_only_if_it_was_asked_for(has: Things, change: Change) -> None:
    assert change.applied(has) - has == change.add - has


@given(THINGS, changes())
def test_the_second_time_there_is_nothing_to_do(has: Things, change: Change) -> None:
    assert not change.of(change.applied(has))
    assert change.applied(change.applied(has)) == change.applied(has)


@given(THINGS, changes())
def test_what_is_left_to_do_does_the_same_as_the_whole(has: Things, change: Change) -> None:
    left = change.of(has)
    assert left.applied(has) == change.applied(has)
    assert bool(left) == (change.applied(has) != has)


@given(THINGS, changes(), changes())
def test_changes_that_do_not_contradict_each_other_come_in_any_order(has: Things, one: Change, other: Change) -> None:
    if one.add & other.remove or other.add & one.remove:
        return
    assert other.applied(one.applied(has)) == one.applied(other.applied(has))


@given(THINGS, THINGS, changes())
def test_what_another_writer_added_before_our_reading_stays(has: Things, theirs: Things, change: Change) -> None:
    assert theirs - change.remove <= change.applied(has | theirs)


@given(st.lists(st.tuples(THING, st.integers(1, 3))), st.integers(1, 3))
def test_an_address_is_never_shared_to_its_owner_and_a_range_is_shared_to_all(
    owners: list[tuple[IPv4Address | IPv6Network, int]], number: int
) -> None:
    found = wanted(number, owners)
    for thing, owner in owners:
        if isinstance(thing, IPv6Network):
            assert thing in found
        elif (thing, owner) in owners and all(each == owner for one, each in owners if one == thing):
            assert (thing in found) == (owner != number)


OWNED = ("192.0.2.11", "192.0.2.100", "192.168.223.158", "2001:db8:3c4d:15::")
TEXTS = st.frozensets(st.sampled_from(OWNED), max_size=4)


@settings(max_examples=25, deadline=None)
@given(TEXTS, TEXTS, TEXTS)
def test_over_http_too_only_what_is_named_changes(
    has: frozenset[str], add: frozenset[str], remove: frozenset[str]
) -> None:
    add -= remove
    with fake() as (account, server, _), pytest.MonkeyPatch.context() as patch:
        patch.setenv(api.VARIABLE, server.url)
        patch.setenv("LINODE_TOKEN", TOKEN)
        account.share({"linode_id": 1002, "ips": sorted(has)})
        words = [*sorted(add), *(word for one in sorted(remove) for word in ("--remove", one))]
        if not words:
            return
        for _ in range(2):
            status, text = floatip("share", *words, "--with", "1002", "--yes")
            assert status == 0, text
            assert set(account.linodes[1002].shared) == (has | add) - remove
        assert text == "nothing to do: it is shared as you want it\n"


@given(THINGS)
def test_the_order_of_a_list_does_not_depend_on_how_it_came(things: Things) -> None:
    once = in_order(things)
    assert in_order(reversed(once)) == once
    assert frozenset(once) == things
    assert len(once) == len(things)
