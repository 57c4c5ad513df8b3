"""The status on a terminal: it fits, and says what is wrong last, where the eye is."""

import pytest

from floatip.core.bgp.trouble import Trouble
from floatip.core.events import CheckDone, Disconnected, Failing, Failure, LinkChanged
from floatip.core.snapshot import describe
from floatip.text import aligned, folded
from floatip.view import draw_status
from tests.core.host import RS, RS2, SICK, Host, config, master

TWO = config(speaker={"peers": (RS, RS2)})


def drawn(host: Host, width: int = 80) -> list[str]:
    return draw_status(describe(host.node, host.now), width).splitlines()


@pytest.mark.parametrize("width", [60, 80, 132])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    host = master(TWO)
    host.dialling_works = False
    host.tell(SICK, Disconnected(RS, "connection refused", Trouble.REFUSED), LinkChanged("eth0", False, "eth0 is down"))
    lines = drawn(host, width)
    assert max(map(len, lines)) <= width
    assert any("192.0.2.10/32 on lo" in line for line in lines)


def test_route_servers_that_are_well_take_one_line_and_others_one_each() -> None:
    host = master(TWO)
    assert [line for line in drawn(host) if "2001:db8" in line] == []
    assert any(line.startswith("route servers  up") and "2 of 2 connected" in line for line in drawn(host))
    host.dialling_works = False
    host.tell(Disconnected(RS, "connection refused", Trouble.REFUSED))
    assert any(line.startswith("route servers  PART") for line in drawn(host))
    assert any(f"{RS}: connection refused" in line for line in drawn(host) if line.startswith("  "))


def test_problems_stand_at_the_end_and_none_is_said() -> None:
    host = master(TWO)
    assert drawn(host)[-4:] == [
        "no problems",
        "note: VI_1: no other node has been heard (a backup is silent) [peer-unheard]",
        "  hint: run floatip status on the other node; if it is MASTER too, let IP",
        "        protocol 112 pass",
    ]
    host.tell(SICK)
    assert drawn(host)[-2:] == [
        "! VI_1 is not healthy: check web: exit status 1 [unhealthy]",
        "  hint: repair the service, or run the check by hand",
    ]


def test_nothing_in_an_answer_is_a_command_to_the_terminal() -> None:
    host = master(TWO)
    evil = "\x1b[2K\nno problems"
    host.tell(CheckDone("web", 0, False, evil), Failing("adverts", frozenset({Failure(evil, evil, evil)})))
    lines = drawn(host)
    assert "no problems" not in lines
    assert all(line.isprintable() for line in lines)
    assert any("\\x1b[2K\\nno problems" in line for line in lines)


def test_a_check_that_is_down_shows_its_last_result_too() -> None:
    host = master(TWO)
    host.tell(SICK, CheckDone("web", 0, False, "no route to host"))
    (line,) = [line for line in drawn(host, 132) if line.startswith("check web")]
    assert line.endswith("no route to host; down because: exit status 1")


def test_a_long_line_is_folded_under_its_column() -> None:
    assert folded("key  some words that are too long", 27, 5) == ["key  some words that are", "     too long"]
    assert folded("key  some words", 12, 5) == ["key  some words"], "there is no room for a column"
    assert folded("short", 12, 5) == ["short"]
    assert aligned([("a", "b " * 20)], 30)[1].startswith("   b")
