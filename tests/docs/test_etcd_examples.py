"""The examples of docs/examples/etcd are files that floatip reads, and the commands of the page are of one fleet."""

import re
from pathlib import Path

import pytest

from floatip.reading.toml import document, reader

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs/examples/etcd"
PAGE = (ROOT / "docs/operate/etcd.md").read_text()


@pytest.mark.parametrize("name", ["floatip.toml", "member.toml"])
def test_an_example_is_read_without_a_problem(name: str) -> None:
    model, _, problems = reader.model_of(document.parse(name, (EXAMPLES / name).read_bytes()))
    assert not problems
    assert model.etcd
    assert bool(model.nodes) is (name == "floatip.toml")


def test_the_page_and_the_example_have_one_table() -> None:
    (shown,) = re.findall(r"```toml\n# added .*\n(\[etcd\]\n.*?)```", PAGE, re.DOTALL)
    assert shown in (EXAMPLES / "floatip.toml").read_text()
    assert shown.rstrip() in (EXAMPLES / "member.toml").read_text()
