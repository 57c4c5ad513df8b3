"""Each code that a message shows has its section in the documents, each section a code, and each refusal a code."""

import ast
import importlib
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import floatip as product
from floatip import help_command
from floatip.commands import Misused, Refusal
from floatip.core.problems import Code
from floatip.core.refusals import Why
from tests.command_line import floatip

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src" / "floatip"
REFUSALS, PROBLEMS = ROOT / "docs/operate/refusals.md", ROOT / "docs/operate/troubleshooting.md"
TODO = "add a member to floatip.core.refusals.Why, give it to the refusal, and write its section in " + str(
    REFUSALS.relative_to(ROOT)
)


def sections(page: Path) -> list[str]:
    return re.findall(r"^### (.*)$", page.read_text(), re.MULTILINE)


def test_each_code_of_a_refusal_has_one_section_and_each_section_a_code() -> None:
    assert sorted(sections(REFUSALS)) == sorted(Why), TODO


def test_each_code_of_a_problem_has_one_section_and_each_section_a_code() -> None:
    assert sorted(sections(PROBLEMS)) == sorted(Code), f"write its section in {PROBLEMS.relative_to(ROOT)}"


def test_no_code_means_two_things() -> None:
    assert set(Why) & set(Code) == set()


def test_each_code_of_a_refusal_is_given_somewhere() -> None:
    text = "\n".join(path.read_text() for path in SOURCES.rglob("*.py") if path.name != "refusals.py")
    assert [code for code in Why if f"Why.{code.name}" not in text] == [], "remove it, and its section"


def refusals() -> dict[str, type[Refusal]]:
    """All classes of the product that are refusals, by name."""
    for module in pkgutil.walk_packages(product.__path__, "floatip."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: dict[str, type[Refusal]] = {}
    rest: list[type[Refusal]] = [Refusal]
    while rest:
        kind = rest.pop()
        if kind.__module__.startswith("floatip."):
            found[kind.__name__] = kind
            rest += kind.__subclasses__()
    return found


def made_without_code(source: str, kinds: dict[str, Any]) -> Iterator[int]:
    """Lines that make a refusal of a class that has no code, and give none. `kinds`: what a name is there."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        kind = kinds.get(ast.unparse(node.func).rpartition(".")[2])
        if not isinstance(kind, type) or not issubclass(kind, Refusal) or kind.code is not None:
            continue
        has_its_own = "__init__" in vars(kind) and kind is not Refusal
        if has_its_own or len(node.args) > 2 or any(keyword.arg == "code" for keyword in node.keywords):
            continue
        yield node.lineno


def test_each_refusal_has_a_code() -> None:
    kinds = refusals()
    assert {"Refusal", "Misused", "AdoptError", "NobodyAnswers", "Declined"} <= kinds.keys()
    found = [
        f"{Path(str(module.__file__)).relative_to(ROOT)}:{line}"
        for name, module in sorted(sys.modules.items())
        if name.startswith("floatip.") and module.__file__
        for line in made_without_code(Path(module.__file__).read_text(), kinds | vars(module))
    ]
    assert found == [], TODO


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("raise Refusal('a', 'b')", [1]),
        ("raise commands.Refusal('a', hint='b')", [1]),
        ("raise Refusal('a', 'b', Why.USAGE)", []),
        ("raise Refusal('a', 'b', code=Why.USAGE)", []),
        ("raise Misused('a', 'b')", []),
        ("raise Other('a', 'b')", []),
    ],
)
def test_a_refusal_without_a_code_is_found(source: str, lines: list[int]) -> None:
    assert list(made_without_code(source, {"Refusal": Refusal, "Misused": Misused})) == lines


def test_a_message_ends_its_first_line_with_the_code() -> None:
    assert str(Refusal("a\nb", "c", Why.NO_LAB)) == "a [no-lab]\nb\nhint: c"
    assert str(Misused("a", "")) == "a [usage]"


# floatip help


@pytest.mark.parametrize("code", [*Why, *Code])
def test_help_explains_each_code(code: str) -> None:
    page = REFUSALS if code in list(Why) else PROBLEMS
    status, shown = floatip("help", code)
    assert status == 0
    begin = page.read_text().partition(f"\n### {code}\n**")[2].split()[:4]
    assert begin
    section = shown.partition(f"{code}  (operate/{page.name})\n\n")[2]
    assert section.split()[:4] == [word.strip("*") for word in begin]
    assert "](" not in shown
    assert all(len(line) <= 80 for line in shown.splitlines() if " " in line.strip() and not line.startswith("    "))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("hold_time", "`[bgp]`  (reference/configuration.md)"),
        ("vrid", "`vrrp`  (reference/configuration.md)"),
        ("link", "`[link]`  (reference/configuration.md)"),
        ("virtual_router_id", "(reference/keepalived-conf.md)"),
        ("takeover-again", "Ranks  (operate/README.md)"),
        ("drain", "Hand over all that this node carries"),
        ("lelastic", "-dcid int"),
    ],
)
def test_help_explains_keys_keywords_ranks_and_commands(word: str, said: str) -> None:
    status, shown = floatip("help", word)
    assert status == 0
    assert said in shown


def test_help_on_an_unknown_word_names_the_closest() -> None:
    assert floatip("help", "no-sesion") == (
        1,
        "error: there is no help on 'no-sesion' [no-help]\nhint: did you mean no-session?\n",
    )
    assert floatip("help")[1] == floatip("--help")[1]


def test_help_without_the_documents_says_where_they_would_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(help_command, "PLACES", (tmp_path,))
    status, shown = floatip("help", "no-session")
    assert status == 1
    assert "the documents are missing: minimal systems leave out /usr/share/doc [no-help]\n" in shown
