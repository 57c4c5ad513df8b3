"""The one configuration file: TOML in, `core.settings` and the host's own figures out.

It refuses a file with anything wrong in it, and says everything that is wrong at once, each with its line and a hint.
Two passes make that possible. The model judges each value by itself. What it refuses is taken out of the document, and
the rules judge the values that are left together (names that repeat, a check that does not exist, a script that anyone
may rewrite), so that one mistake hides no other.

What only may be wrong, because the machine can change later, is a warning.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from floatip.config.document import ConfigError, ConfigErrors, ConfigWarning, Problem, read
from floatip.config.machine import look_around
from floatip.config.model import Config, refusals
from floatip.config.rules import judge

__all__ = ["Config", "ConfigError", "ConfigErrors", "ConfigWarning", "load", "render"]


def load(path: str | Path) -> Config:
    """Raises `ConfigErrors`, and nothing else for anything that a file can hold."""
    document = read(str(path))
    refused = list(refusals(document.data))
    problems: list[Problem] = [document.error(*refusal) for refusal in refused]
    problems += judge(document.without(location for location, _, _ in refused), look_around())
    problems.sort(key=lambda problem: problem.line)
    warnings = [problem for problem in problems if isinstance(problem, ConfigWarning)]
    if errors := [problem for problem in problems if isinstance(problem, ConfigError)]:
        raise ConfigErrors(errors, warnings)
    config = Config.model_validate(document.data)
    config._warnings = tuple(warnings)
    return config


def render(errors: Iterable[ConfigError], warnings: Iterable[ConfigWarning]) -> str:
    errors, warnings = list(errors), list(warnings)
    if not errors and not warnings:
        return "ok"
    problems = sorted([*errors, *warnings], key=lambda problem: problem.line)
    return "\n".join([*map(str, problems), f"{_count(errors, 'error')}, {_count(warnings, 'warning')}"])


def _count(things: list[Any], name: str) -> str:
    return f"{len(things) or 'no'} {name}{'' if len(things) == 1 else 's'}"
