"""The page of a report in Chromium: on a desk, on a phone, in the dark, on paper, and for who cannot see it."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from floatip.drill.html import to_html
from floatip.drill.report import Report
from tests.drill.samples import SAMPLES, many_nodes, one_lost
from tests.web.axe import script, violations
from tests.web.browser import DESK, PHONE, SHOTS, Window, chromium, window

WIDTH_OF_PAGE = "[document.documentElement.scrollWidth, window.innerWidth]"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    script()
    with chromium(tmp_path_factory.mktemp("chromium"), []) as started:
        yield started


def shown(opened: Window, report: Report) -> Window:
    asked: list[str] = []
    opened.page.on("request", lambda request: asked.append(request.url))
    opened.page.set_content(to_html(report))
    assert asked == []
    return opened


@pytest.mark.parametrize("name", [name for name in SAMPLES if name != "sample"])  # "one lost" is like it
def test_no_page_is_wider_than_its_window(browser: Browser, name: str) -> None:
    for width in (PHONE, DESK):
        with window(browser, width=width) as opened:
            scroll, inner = shown(opened, SAMPLES[name]()).page.evaluate(WIDTH_OF_PAGE)
            assert scroll <= inner == width
            if name != "hostile":  # it is very long
                opened.shoot(f"report-{name.replace(' ', '-')}-{width}")


def test_on_a_phone_the_letters_of_the_picture_can_be_read(browser: Browser) -> None:
    with window(browser, width=PHONE) as opened:
        box = shown(opened, one_lost()).page.locator("#whole").bounding_box()
        assert box
        assert 11 * box["width"] / 1000 >= 8
        frame = opened.page.locator("#picture .scroll").first
        assert frame.evaluate("each => each.scrollWidth > each.clientWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_one_lost_probe_of_20_000_is_red_pixels_over_the_whole_strip(browser: Browser, scheme: str) -> None:
    with window(browser, scheme=scheme) as opened:
        page = shown(opened, one_lost()).page
        bar = page.locator("#whole .lost rect:not(.ground)")
        assert bar.count() == 1
        box, strip = bar.bounding_box(), page.locator("#whole .bed").first.bounding_box()
        assert box
        assert strip
        assert box["width"] >= 2.5
        assert box["height"] > strip["height"]
        colour = bar.evaluate("each => getComputedStyle(each).fill")
        red, green, blue = map(int, re.findall(r"\d+", colour)[:3])
        assert red > 1.5 * max(green, blue)
        assert page.locator("#whole .count").text_content() == "1 lost"
        opened.shoot(f"report-one-lost-{scheme}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["crash", "hostile", "empty"])
def test_axe_finds_nothing(browser: Browser, scheme: str, name: str) -> None:
    with window(browser, scheme=scheme) as opened:
        assert violations(shown(opened, SAMPLES[name]()).page) == []


def test_the_texts_of_the_picture_do_not_overlap(browser: Browser) -> None:
    """Those of one line: the labels of the steps, and the words in a lane."""
    for name in ("one lost", "crash", "a day", "many nodes"):
        with window(browser) as opened:
            page = shown(opened, SAMPLES[name]()).page
            for figure in page.locator(".drill").all():
                boxes = figure.evaluate(
                    """each => [...each.querySelectorAll('text')].map(one => one.getBoundingClientRect())
                       .map(box => [Math.round(box.y), box.x, box.right])"""
                )
                edge = figure.evaluate("each => each.getBoundingClientRect().right")
                for (line, _, right), (other, left, _) in zip(sorted(boxes), sorted(boxes)[1:], strict=False):
                    assert line != other or right <= left + 0.5
                    assert right <= edge


def test_a_report_prints_on_few_pages_of_a4(browser: Browser) -> None:
    for report, most in ((one_lost(), 3), (many_nodes(), 5)):
        with window(browser, scheme="dark") as opened:
            page = shown(opened, report).page
            SHOTS.mkdir(parents=True, exist_ok=True)
            pdf: bytes = page.pdf(prefer_css_page_size=True, path=SHOTS / "report.pdf")
            sizes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf)
            assert 1 <= len(sizes) <= most
            assert {(round(float(width)), round(float(height))) for width, height in sizes} == {(595, 842)}


def test_paper_is_white_whatever_the_screen_is(browser: Browser) -> None:
    with window(browser, scheme="dark", width=718) as opened:
        page = shown(opened, one_lost()).page
        page.emulate_media(media="print")
        ground, ink = page.evaluate(
            "[getComputedStyle(document.documentElement).backgroundColor, getComputedStyle(document.body).color]"
        )
        assert ground == "rgb(255, 255, 255)"
        assert max(map(int, re.findall(r"\d+", ink))) < 60
        scroll, inner = page.evaluate(WIDTH_OF_PAGE)
        assert scroll <= inner
        box = page.locator("#whole").bounding_box()
        assert box
        assert box["width"] <= 718
        opened.shoot("report-one-lost-print")
