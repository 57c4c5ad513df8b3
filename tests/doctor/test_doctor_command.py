"""`floatip doctor` as a command: what it prints on 80 columns, its JSON, its exit status, and its page."""

import json
import os
from dataclasses import fields
from pathlib import Path

import pytest

from floatip.doctor.command import as_data, draw, exit_status
from floatip.doctor.examination import examine, lookers
from floatip.doctor.finding import Code, Finding, Grade, note, problem, unseen, warning, well
from floatip.screen import plain
from tests.command_line import floatip
from tests.doctor.contexts import context

ROOT = Path(__file__).parents[2]
SOME = [
    well(Code.CLOCK, "clock", "the clock is synchronised", "timedatectl show: NTPSynchronized=yes"),
    warning(Code.UNIT, "floatip.service", "it is disabled", "systemctl show", "systemctl enable floatip"),
    problem(
        Code.FIREWALL_LINK,
        "haproxy2",
        "the firewall drops the link from haproxy2 (192.168.143.241): UDP port 9112 from 192.168.143.241 in by eth0",
        ("iptables-nft-save: ip filter ufw-skip-to-policy-input: -A ufw-skip-to-policy-input -j DROP", "and more"),
        "ufw allow proto udp from 192.168.143.241 to any port 9112",
    ),
    note(Code.CLOUD_FIREWALL, "Linode", "a Linode Cloud Firewall cannot be seen from here"),
    unseen(Code.FIREWALL, "x", "not \x1b[31m seen", "\x1b]0;title\x07"),
]


def test_problems_come_first_and_what_is_well_is_counted() -> None:
    drawn = plain(draw(SOME, 80))
    first, *rest = drawn.split("\n")
    assert first.endswith("1 problem, 1 warning, 1 thing not seen, 1 note")
    grades = [line.split()[0] for line in rest if line and not line.startswith(" ")]
    assert grades == ["problem", "warning", "not", "note", "1"]
    assert "[firewall-link]" in drawn
    assert "          hint: ufw allow proto udp from 192.168.143.241 to any port 9112" in drawn
    assert all(len(line) <= 80 for line in drawn.split("\n"))
    assert "\x1b" not in drawn
    assert "the clock is synchronised" not in drawn
    assert "the clock is synchronised [clock]" in plain(draw(SOME, 80, everything=True))


@pytest.mark.parametrize(
    ("grades", "status"),
    [
        (["well", "note", "warning"], 0),
        (["well", "unseen"], 2),
        (["unseen", "problem"], 1),
        ([], 0),
    ],
)
def test_the_exit_status_says_the_worst(grades: list[str], status: int) -> None:
    assert exit_status([Finding(Grade(grade), Code.CLOCK, "", "") for grade in grades]) == status


def test_the_json_is_as_the_page_says() -> None:
    report = json.loads(json.dumps(as_data(SOME)))
    page = (ROOT / "docs/reference/doctor.md").read_text()
    for key in (*report, *(field.name for field in fields(Finding)), *report["counts"]):
        assert f"`{key}`" in page, key
    assert [one["grade"] for one in report["findings"]] == ["problem", "warning", "unseen", "note", "well"]
    assert report["counts"] == dict.fromkeys(Grade, 1)


def test_each_code_has_its_section() -> None:
    sections = {line[4:] for line in (ROOT / "docs/operate/doctor.md").read_text().splitlines() if line[:4] == "### "}
    assert sections == set(Code)


def test_each_finding_says_a_sentence_and_problems_say_what_to_do() -> None:
    found = examine(context(), lookers())
    assert len(found) > 10
    for one in found:
        assert one.what
        assert one.hint or one.grade not in (Grade.PROBLEM, Grade.WARNING), one


def test_it_works_without_a_daemon_and_without_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    status, shown = floatip("doctor", str(tmp_path / "none.toml"))
    assert status == 1
    assert "this node is not configured" in shown
    assert "floatip init" in shown
    assert "a bug in floatip" not in shown


def test_an_unusable_configuration_is_a_problem_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    file = tmp_path / "floatip.toml"
    file.write_text('[linode]\ndcid = "x"\n')
    status, shown = floatip("doctor", "--json", str(file))
    report = json.loads(shown)
    wrong = [one for one in report["findings"] if one["code"] == "config-check" and one["grade"] == "problem"]
    assert status == 1
    assert any(one["what"].startswith(f"{file}:2: ") and one["hint"] for one in wrong)


def test_an_observer_must_be_an_address() -> None:
    status, shown = floatip("doctor", "--observer", "nobody")
    assert status == 2
    assert "is not an IP address" in shown


def test_a_file_that_is_there_is_refused_before_anything_is_looked_at(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("mine")
    status, shown = floatip("doctor", "--support", str(there))
    assert (status, there.read_text()) == (2, "mine")
    assert "is there already" in shown
    assert os.listdir(tmp_path) == ["there"]
