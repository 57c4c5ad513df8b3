"""Plays the scenes that mostly wait while other tests run."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

Play = subprocess.CompletedProcess[str]
Begun = dict[tuple[str, ...], Future[Play]]


def play(arguments: tuple[str, ...]) -> Play:
    command = [sys.executable, "-m", "floatip", "lab", *arguments, "--json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture(scope="session", autouse=True)
def begun(request: pytest.FixtureRequest) -> Iterator[Begun]:
    """The plays of the tests marked `patient`, begun one after the other with the first test of this directory."""
    chosen = [item for item in request.session.items if item.get_closest_marker("patient")]
    with ThreadPoolExecutor(max_workers=1) as stage:
        yield {
            (arguments := item.callspec.params["arguments"]): stage.submit(play, arguments)  # type: ignore[attr-defined]
            for item in chosen
        }
        stage.shutdown(cancel_futures=True)
