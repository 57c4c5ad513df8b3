"""Prometheus's own tool, which judges what we write for it."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
ALERTS, DASHBOARD = EXAMPLES / "alerts.yml", EXAMPLES / "grafana-dashboard.json"


def promtool(*words: str, given: str = "") -> str:
    """Its complaint; empty: there is none."""
    if not shutil.which("promtool"):
        pytest.fail("promtool is missing: make test installs it (Debian package prometheus)")
    done = subprocess.run(["promtool", *words], input=given.encode(), capture_output=True, check=False, timeout=60)
    said = (done.stdout + done.stderr).decode()
    return "" if done.returncode == 0 else said or f"exit status {done.returncode}"


def check_metrics(text: str) -> str:
    """It says of a doubtful name what it thinks, and exits with 3."""
    return promtool("check", "metrics", given=text)


def expressions() -> dict[str, str]:
    """Of the dashboard, by the title of the panel, with its variables filled in."""
    found: dict[str, str] = {}

    def look(thing: Any, title: str) -> None:
        if isinstance(thing, dict):
            title = thing.get("title") or thing.get("name") or title
            if expression := thing.get("expr"):
                found[f"{title} {len(found)}"] = expression
            for each in thing.values():
                look(each, title)
        elif isinstance(thing, list):
            for each in thing:
                look(each, title)

    look(json.loads(DASHBOARD.read_text()), "")
    filled = {"$__rate_interval": "1m", "$__interval": "1m", "$__range": "6h", "$job": "floatip", "$iname": ".+"}
    for variable, value in filled.items():
        found = {title: expression.replace(variable, value) for title, expression in found.items()}
    return found


def firing(series: Mapping[str, str], expected: Mapping[str, Mapping[str, int]], directory: Path) -> str:
    """What is wrong with these alerts, counted by name, at these times; `series` have a value each 15 s."""
    tests = [
        {
            "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
            "eval_time": at,
            "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": count} for name, count in alerts.items()],
        }
        for at, alerts in expected.items()
    ]
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    test = {
        "rule_files": [str(ALERTS)],
        "evaluation_interval": "15s",
        "tests": [{"interval": "15s", "input_series": inputs, "promql_expr_test": tests}],
    }
    file = directory / "test.yml"
    file.write_text(json.dumps(test))
    return promtool("test", "rules", str(file))
