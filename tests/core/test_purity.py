"""The core decides and does nothing else, so that the simulation can run it as it is."""

import ast
from pathlib import Path

import pytest

import floatip.core

CORE = Path(floatip.core.__file__).parent
PURE = {
    "bisect",
    "collections",
    "contextlib",
    "copy",
    "dataclasses",
    "enum",
    "functools",
    "ipaddress",
    "itertools",
    "math",
}
PURE |= {"base64", "hashlib", "heapq", "hmac", "json", "re", "struct", "types", "typing"}


def imports(path: Path) -> set[str]:
    """Whole names of modules, also of imports inside functions."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    assert not any(node.level for node in froms), "relative imports are not understood here"
    return names | {f"{node.module}.{alias.name}" for node in froms for alias in node.names}


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=lambda path: str(path.relative_to(CORE)))
def test_a_module_of_the_core_imports_only_the_core_and_what_does_no_io(path: Path) -> None:
    impure = {name for name in imports(path) if name.split(".")[0] not in PURE}
    assert {name for name in impure if not name.startswith("floatip.core")} == set()


def test_the_core_was_found() -> None:
    assert {"node.py", "router.py", "session.py"} <= {path.name for path in CORE.rglob("*.py")}


def test_the_core_calls_nothing_that_reads_or_writes() -> None:
    doing = {"open", "print", "input", "exec", "eval", "__import__"}
    for path in CORE.rglob("*.py"):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert not {call.id for call in calls if isinstance(call, ast.Name)} & doing, path
