"""Debian's Chromium, driven by Playwright, and the pages that it shows."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
"""What the pages looked like, for people to look at."""
PHONE, DESK = 360, 1200


@contextmanager
def chromium(directory: Path, inside: list[str]) -> Iterator[Browser]:
    """`inside`: words before its command, which enter a namespace."""
    program = shutil.which("chromium")
    if not program:
        pytest.fail("chromium is missing: make test installs it")
    wrapper = directory / "chromium"
    wrapper.write_text(f'#!/bin/sh\nexec {" ".join(inside)} {program} "$@"\n')
    wrapper.chmod(0o755)
    with sync_playwright() as playwright:
        # Root may use no sandbox, and the pages are ours.
        options = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=wrapper, args=options, timeout=120_000)
        yield browser
        browser.close()


class Window:
    """A page, and all that its scripts complained about."""

    def __init__(self, browser: Browser, width: int = DESK, scheme: Any = "light", **options: Any) -> None:
        size = {"width": width, "height": 800}
        self.context: BrowserContext = browser.new_context(viewport=size, color_scheme=scheme, **options)  # type: ignore[arg-type]
        self.context.set_default_timeout(60_000)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))

    def shoot(self, name: str, *, whole: bool = True) -> None:
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png", full_page=whole)

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def close(self) -> None:
        self.context.close()


@contextmanager
def window(browser: Browser, **options: Any) -> Iterator[Window]:
    """At its end nothing may have been complained about."""
    opened = Window(browser, **options)
    try:
        yield opened
        assert opened.complaints == []
    finally:
        opened.close()
