"""axe-core, the checker of accessibility, from npm: fetched once, and used only if it is what was chosen.

https://www.npmjs.com/package/axe-core (MPL-2.0). It is no part of floatip.
"""

import base64
import hashlib
import subprocess
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

VERSION = "4.14.1"
INTEGRITY = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
"""SHA-512 of the package, as npm has it in a lock file."""
CACHE = Path(__file__).parents[2] / ".cache"
PACKAGE = CACHE / f"axe-core-{VERSION}.tgz"


def violations(page: Page) -> list[str]:
    """What is wrong, and where."""
    page.evaluate(script())
    found: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']} ({one['impact']}): {one['help']}: {node['html']}"
        for one in found["violations"]
        for node in one["nodes"]
    ]


@cache
def script() -> str:
    """Call it where there is a network: the namespaces of the tests have none."""
    if not PACKAGE.exists():
        CACHE.mkdir(exist_ok=True)
        fetch = ["npm", "pack", f"axe-core@{VERSION}", "--silent", "--pack-destination", str(CACHE)]
        done = subprocess.run(fetch, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            pytest.fail(f"cannot fetch axe-core {VERSION}: {' '.join(fetch)}: {done.stderr.strip()}")
    content = PACKAGE.read_bytes()
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != INTEGRITY:
        pytest.fail(f"{PACKAGE} is not the axe-core {VERSION} that was chosen; remove it, and find out why")
    with tarfile.open(PACKAGE) as package:
        file = package.extractfile("package/axe.min.js")
        assert file
        return file.read().decode()
