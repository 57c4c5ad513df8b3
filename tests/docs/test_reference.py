"""The pages that are made of the code are as the code is, and the man page is well-formed."""

import re
import subprocess
from pathlib import Path

import pytest

from floatip.commands import COMMANDS
from floatip.web.metrics import render, render_as_keepalived
from tests.docs.reference import DOCS, PAGES, families


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_as_the_code_is(page: Path) -> None:
    assert page.read_text() == PAGES[page](page), "run: python -m tests.docs.reference"


def test_each_command_and_option_is_on_the_page_and_in_the_man_page() -> None:
    page = (DOCS / "reference/commands.md").read_text()
    manual = (DOCS / "man/floatip.8").read_text().replace("\\-", "-")
    for name, command in COMMANDS.items():
        assert f"### `floatip {name}`\n" in page
        assert f"\n.B {name}\\fR" in manual
        for option in command.options:
            assert all(f"`{form}" in page or f", {form}" in page for form in option.names)
            assert all(form in manual for form in option.names)


@pytest.mark.parametrize(("module", "as_text"), [("floatip", render), ("keepalived", render_as_keepalived)])
def test_each_metric_that_the_code_names_is_listed(module: str, as_text: object) -> None:
    source = (DOCS.parent / "src/floatip/web/metrics.py").read_text()
    listed = {one.name for one in families(as_text)}  # type: ignore[arg-type]
    named = set(re.findall(rf'"({module}_[a-z_]+)"', source))
    assert named
    assert named - listed == set()
    assert all(one.kind and one.about for one in families(as_text))  # type: ignore[arg-type]


def test_the_man_page_has_no_fault_that_groff_knows() -> None:
    command = ["groff", "-man", "-Tutf8", "-ww", "-z", str(DOCS / "man/floatip.8")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
