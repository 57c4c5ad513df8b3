"""The documentation as a site: it builds without a warning, its links lead somewhere, and it asks no other host."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import cache, partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, Page

from tests.web.browser import DESK, PHONE, Window, chromium, window

ROOT = Path(__file__).parents[2]
SOURCES = ("src", "href", "srcset", "action", "data", "poster")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(directory)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, f"make docs fails:\n{built.stdout}{built.stderr}"
    return directory


class Links(HTMLParser):
    """What a page refers to, and what others can refer to in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.loads: list[str] = []
        """What a browser fetches without a click."""
        self.leads: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.ids |= {attributes[name] for name in ("id", "name") if name in attributes and tag != "meta"}
        found = [attributes[name] for name in SOURCES if name in attributes]
        (self.leads if tag == "a" else self.loads).extend(found)


@cache
def links(page: Path) -> Links:
    return Links(page.read_text())


def pages(site: Path) -> list[Path]:
    return [page for page in sorted(site.rglob("*.html")) if page.name != "404.html"]


def broken(site: Path, page: Path, link: str) -> str:
    """Why the link leads nowhere; empty if it does not."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return ""
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if target.is_dir():
        target /= "index.html"
    if not target.is_relative_to(site) or not target.is_file():
        return "there is no such page"
    fragment = unquote(parts.fragment)
    if fragment and target.suffix == ".html" and fragment not in links(target).ids:
        return "the page has no such anchor"
    return ""


def test_every_link_leads_to_a_page_and_every_fragment_to_an_anchor(site: Path) -> None:
    found = [
        f"{page.relative_to(site)}: {link}: {why}"
        for page in pages(site)
        for link in (*links(page).leads, *links(page).loads)
        if (why := broken(site, page, link))
    ]
    assert len(pages(site)) > 50
    assert found == []


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    foreign = {link for page in pages(site) for link in links(page).loads if urlsplit(link).netloc}
    assert foreign == set()


# In a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium"), []) as started:
        yield started


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def record(page: Page) -> list[str]:
    """Every address that the page asks for from now on."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    return asked


def search(page: Page, words: str) -> list[str]:
    # Keys, as a person presses them: the page listens to nothing else.
    page.locator("[data-md-component=search-query]").press_sequentially(words)
    page.locator(".md-search-result__item").first.wait_for()
    found: list[str] = page.locator(".md-search-result__link").evaluate_all("links => links.map(link => link.href)")
    return found


@pytest.mark.parametrize("served", [True, False], ids=["by a server", "from the disk"])
def test_a_reader_finds_a_problem_by_its_code_and_no_other_host_is_asked(
    browser: Browser, site: Path, address: str, served: bool
) -> None:
    begin = address if served else f"file://{site}"
    with window(browser) as opened:
        asked = record(opened.page)
        opened.page.goto(f"{begin}/index.html")
        found = search(opened.page, "adverts-dropped")
        assert any("operate/troubleshooting.html" in link for link in found), found
        opened.page.goto(f"{begin}/reference/configuration.html", wait_until="networkidle")
        assert asked
        assert [link for link in asked if not link.startswith((begin, "data:", "blob:", "about:"))] == []


LOOKED_AT = ("index", "operate/index", "operate/troubleshooting", "reference/configuration")


@pytest.mark.parametrize("width", [DESK, PHONE])
@pytest.mark.parametrize("name", LOOKED_AT)
def test_a_page_is_not_wider_than_the_screen(browser: Browser, address: str, name: str, width: int) -> None:
    for scheme in ("light", "dark"):
        opened = Window(browser, width, scheme)
        opened.page.goto(f"{address}/{name}.html")
        opened.shoot(f"docs-{name.replace('/', '-')}-{width}-{scheme}", whole=False)
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
        opened.close()
