"""`floatip plan`, by the file alone."""

import json
import re
from pathlib import Path

import pytest

from tests.command_line import floatip
from tests.host.test_command_line import on_a_terminal

NAMES = ("www.example.com", "www.example.org", "mail", "imap", "dns", "api", "shop", "static")


def node(number: int, keys: str = "") -> str:
    """At an address for documentation, which this machine does not have."""
    return f'[[node]]\nname = "haproxy{number}"\naddress = "198.51.100.{number}"\n{keys}\n'


def instance(number: int, name: str, keys: str = "") -> str:
    return f'[[instance]]\nname = "{name}"\naddresses = ["192.0.2.{number}/32"]\n{keys}\n'


OLD = instance(3, "old", 'static = "primary"') + "[linode]\ndcid = 6\n"
FLEET = "".join([*(map(node, (1, 2, 3))), *(instance(number, name) for number, name in enumerate(NAMES, 1))])
PAIR = (
    node(1)
    + node(2)
    + instance(1, "a", 'prefer = ["haproxy1"]')
    + instance(2, "b", 'prefer = ["haproxy2"]\npreempt = true')
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "floatip.toml"


def test_it_shows_who_carries_what_and_who_takes_over_if_each_node_in_turn_were_gone(file: Path) -> None:
    file.write_text(PAIR)
    assert floatip("plan", str(file)) == (
        0,
        f"""\
Which node carries which instance, by {file} alone.

all nodes ready
  haproxy1  1  a
  haproxy2  1  b

without haproxy1
  haproxy2  2  b, +a

without haproxy2
  haproxy1  2  a, +b

+ taken over from a node that is gone. When that node comes back, an instance moves back only with preempt = true.
What the nodes do now: floatip nodes
""",
    )


def test_three_nodes_and_eight_instances_fit_into_80_columns(file: Path) -> None:
    file.write_text(FLEET)
    whole = floatip("plan", str(file))[1]
    lines = on_a_terminal(80, "plan", str(file))
    cases = [line for line in lines if line.startswith(("all", "without"))]
    assert cases == ["all nodes ready", "without haproxy1", "without haproxy2", "without haproxy3"]
    assert all(len(line) <= 80 for line in lines[2:]), lines
    assert " ".join(" ".join(lines).split()) == " ".join(whole.split())
    narrow = on_a_terminal(50, "plan", str(file))
    folded = [line for line in narrow if line.startswith(" " * 15)]
    assert folded, "lists are folded under themselves"


@pytest.mark.parametrize("gone", [[], ["haproxy1"], ["haproxy3", "haproxy1"]])
def test_json_has_the_same_plan(gone: list[str], file: Path) -> None:
    file.write_text(FLEET)
    arguments = [word for name in gone for word in ("--without", name)]
    data = json.loads(floatip("plan", str(file), *arguments, "--json")[1])
    assert data["nodes"][2] == {"name": "haproxy3", "address": "198.51.100.3", "weight": 1.0}
    every = [[], ["haproxy1"], ["haproxy2"], ["haproxy3"]]
    assert [case["without"] for case in data["cases"]] == ([gone] if gone else every)
    text = floatip("plan", str(file), *arguments)[1]
    for case in data["cases"]:
        assert set(case["carried_by"]) == set(NAMES)
        assert not set(case["carried_by"].values()) & set(case["without"])
        title = f"without {', '.join(case['without'])}" if case["without"] else "all nodes ready"
        shown = text.partition(f"\n{title}\n")[2].partition("\n\n")[0]
        carried_by = {name.lstrip(","): line.split()[0] for line in shown.splitlines() for name in _names(line)}
        assert {name.removeprefix("+"): node for name, node in carried_by.items()} == case["carried_by"]
        assert {name[1:] for name in carried_by if name.startswith("+")} == set(case["moved"])


def _names(line: str) -> list[str]:
    return line.split(maxsplit=2)[2].split(", ")


def test_where_every_node_is_gone_nobody_carries_anything(file: Path) -> None:
    file.write_text(PAIR)
    arguments = ["plan", str(file), "--without", "haproxy1", "--without", "haproxy2"]
    assert "without haproxy1, haproxy2\n  nobody  2  a, b\n" in floatip(*arguments)[1]
    (case,) = json.loads(floatip(*arguments, "--json")[1])["cases"]
    assert (case["carried_by"], case["moved"]) == ({"a": None, "b": None}, ["a", "b"])


def test_weights_and_idle_nodes_are_shown(file: Path) -> None:
    file.write_text(node(1, "weight = 2") + node(2) + node(3, "weight = 0") + instance(1, "a") + instance(2, "b"))
    shown = floatip("plan", str(file))[1]
    assert "  haproxy1 (weight 2)  " in shown
    assert "  haproxy3 (weight 0)  0  nothing\n" in shown


def test_instances_that_the_nodes_do_not_elect_for_are_named(file: Path) -> None:
    file.write_text(PAIR + OLD)
    shown = floatip("plan", str(file))[1]
    assert "\nnot in this plan, because the nodes do not elect for them: old\n" in shown
    assert shown.count("old") == 1


PAGE = (Path(__file__).parents[2] / "docs/operate/nodes.md").read_text()


@pytest.mark.parametrize(("text", "shown"), re.findall(r"```toml\n(.*?)```\n\n```\n(.*?)```", PAGE, re.DOTALL))
def test_the_examples_of_the_manual_have_the_plans_that_stand_below_them(text: str, shown: str, file: Path) -> None:
    file.write_text(text)
    assert floatip("plan", str(file))[1].partition("\n\n")[2].partition("\n\n+")[0] == shown.rstrip()


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        (
            PAIR,
            ["--without", "haproxi1"],
            "error: there is no node haproxi1 [unknown-name]\n"
            "hint: did you mean haproxy1? {file} has haproxy1 and haproxy2\n",
        ),
        (
            PAIR,
            ["--without", "x"],
            "error: there is no node x [unknown-name]\nhint: {file} has haproxy1 and haproxy2\n",
        ),
        (
            OLD,
            [],
            "error: {file} has no [[node]], so the nodes do not share out the instances [no-nodes]\n"
            "hint: add a [[node]] with name and address for each node. What this node does now: floatip status\n",
        ),
        (
            node(1) + node(2) + OLD,
            [],
            "error: {file} has no instance that the nodes elect for [no-nodes]\n"
            "hint: remove vrrp, keepalived or static from each instance that the nodes are to elect for\n",
        ),
        (
            PAIR.replace('["haproxy2"]', '["hap1"]'),
            [],
            '{file}:16: instance "b" prefer: there is no node "hap1"\n  hint: did you mean "haproxy1"?\n'
            "1 error, no warnings [configuration]\n",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused_with_the_next_step(
    text: str, arguments: list[str], said: str, file: Path
) -> None:
    file.write_text(text)
    assert floatip("plan", str(file), *arguments) == (2, said.format(file=file))


def test_a_name_is_no_command_to_the_terminal(file: Path) -> None:
    file.write_text(PAIR.replace('"a"', '"\\u001b[31ma"'))
    status, shown = floatip("plan", str(file))
    assert "\x1b" not in shown
    assert status == 2 or "\\x1b[31ma" in shown
