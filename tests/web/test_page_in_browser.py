"""The page in a browser, and two daemons, each in a network namespace: what is seen when something happens."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Route, expect

from floatip.web import page, site_page
from floatip.web.server import HEADERS
from tests.host.conftest import CLONE_NEWNET, entered
from tests.host.test_two_daemons import CONFIG, MAIL, WEB, Lan, run, wait
from tests.web.axe import script, violations
from tests.web.browser import DESK, PHONE, Window, chromium, window
from tests.web.views import DAY, EVIL_DAY, NOW, fleet, hostile, troubled

TOKEN = "correct-horse-battery-staple"
HTTP = '\n[http]\nlisten = ["127.0.0.1:9113", "10.0.0.{number}:9113"]\ntoken = "{token}"\n'
PAGE = "http://127.0.0.1:9113/"
expect.set_options(timeout=60_000)


class Refusing(Window):
    """What is refused is an error on the console of the browser, whatever the script makes of it."""

    def __enter__(self) -> "Refusing":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        assert [one for one in self.complaints if "Failed to load resource" not in one] == []


@dataclass(slots=True)
class Scene:
    lan: Lan
    browser: Browser

    def make_whole(self) -> None:
        """Web is carried by haproxy1, mail by haproxy2, whatever the test before has left."""
        for host in self.lan.hosts:
            if not host.runs():
                shutil.rmtree(host.orders.parent, ignore_errors=True)  # it would remember how often it was killed
                host.start()
        lan = self.lan
        wait(lambda: all(set(host.sees().values()) == {"this node", "alive"} for host in lan.hosts))
        for host in lan.hosts:
            host.ask("undrain")
            host.ask("resume")
        wait(lambda: lan.settled() and sorted([*lan.one.held(), *lan.two.held()]) == [WEB, MAIL])
        for host, instance, other in ((lan.one, "mail", lan.two), (lan.two, "web", lan.one)):
            if host.is_master(instance):
                done, said = host.command("handover", instance, "--to", other.name)
                assert done == 0, said
        wait(lambda: (lan.one.held(), lan.two.held()) == ({WEB}, {MAIL}))
        wait(lan.settled)


@pytest.fixture(scope="module")
def stage() -> Iterator[Scene]:
    script()
    with tempfile.TemporaryDirectory() as name, entered("net", CLONE_NEWNET):
        directory = Path(name)
        directory.chmod(0o755)
        for words in ("link set lo up", "link add bridge type bridge", "link set bridge up"):
            run("ip", *words.split())
        lan = Lan(directory)
        token = directory / "token"
        token.write_text(TOKEN + "\n")
        for number, host in enumerate(lan.hosts, 1):
            host.file.write_text(HTTP.format(number=number, token=token) + CONFIG)
            host.key.write_text(lan.key)
            host.key.chmod(0o640)
        with chromium(directory, lan.one.inside) as browser:
            yield Scene(lan, browser)
        for host in lan.hosts:
            host.kill()
            os.close(host.namespace)
            host.notified.close()


@pytest.fixture
def scene(stage: Scene) -> Iterator[Scene]:
    stage.make_whole()
    yield stage
    for host in stage.lan.hosts:
        print(host.name, *host.news(""), sep="\n")


def opened(at: Window) -> None:
    at.page.goto(PAGE)
    expect(at.page.locator("#live")).to_have_class("live")
    at.page.evaluate("window.isTheSame = true")


def is_the_same(at: Window) -> bool:
    """Not loaded again."""
    return bool(at.page.evaluate("window.isTheSame === true"))


def cells(at: Window, instance: str) -> list[str]:
    """What each node is to it."""
    return at.page.locator(f"tr[data-name={instance}] td.rank").all_inner_texts()


def test_a_failover_is_seen_as_it_happens(scene: Scene) -> None:
    with window(scene.browser) as at:
        opened(at)
        wait(lambda: cells(at, "mail") == ["○ standby", "● carries"])
        expect(at.page.locator("#verdict")).to_contain_text("OK")
        assert at.page.locator("tr.look").count() == 0
        at.shoot("well")
        scene.lan.two.kill()
        wait(lambda: cells(at, "mail") == ["● carries", "● was: carries"])
        expect(at.page.locator("#n1 .badge").first).to_have_text("silent")
        expect(at.page.locator("#problems")).to_contain_text("haproxy2")
        expect(at.page.locator("#changes")).to_contain_text("role mail")
        expect(at.page.locator("#verdict")).to_contain_text("problem")
        assert "problem" in at.page.title()
        assert is_the_same(at)
        at.shoot("failover")
        scene.lan.two.start()
        expect(at.page.locator("#n1 .badge").first).to_have_text("alive")
        assert is_the_same(at)


# Views that no two daemons give


@pytest.mark.parametrize("name", ["troubled", "fleet", "hostile"])
@pytest.mark.parametrize(("width", "scheme"), [(PHONE, "dark"), (DESK, "light")])
def test_what_is_rare_is_accessible_fits_and_runs_nothing(name: str, width: int, scheme: str, stage: Scene) -> None:
    status, changes = {"troubled": (troubled(), DAY), "fleet": (fleet(), DAY), "hostile": (hostile(), EVIL_DAY)}[name]
    html = page.render(status, changes, NOW, can_order=True)
    with window(stage.browser, width=width, scheme=scheme) as at:
        served(at, html)
        at.page.goto(PAGE)
        expect(at.page.locator("html")).to_have_class("scripted")
        assert violations(at.page) == []
        assert at.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        at.shoot(f"{name}-{width}-{scheme}")


def test_an_instance_among_many_is_found_by_a_part_of_its_name(stage: Scene) -> None:
    with window(stage.browser) as at:
        served(at, page.render(fleet(), DAY, NOW))
        at.page.goto(PAGE)
        assert not at.page.locator("tr[data-name=site-101]").is_visible()
        at.page.get_by_label("Find an instance").fill("E-10")
        expect(at.page.locator("tr[data-name=site-101]")).to_be_visible()
        expect(at.page.locator("#found")).to_have_text("10 found")
        assert at.page.locator("tr[data-name]:visible").count() == 10
        at.shoot("found")
        at.page.get_by_label("Find an instance").fill("")
        expect(at.page.locator("tr[data-name=site-101]")).to_be_hidden()


def served(at: Window, html: str) -> None:
    """As the server would, with its headers; and nothing happens."""

    def answer(route: Route) -> None:
        path = urlsplit(route.request.url).path
        if path == "/events":
            route.fulfill(status=200, content_type="text/event-stream", body="event: alive\ndata: {}\n\n")
        elif path == "/":
            route.fulfill(status=200, headers=dict(HEADERS), content_type="text/html; charset=utf-8", body=html)
        else:
            static = site_page.static(path)
            route.fulfill(status=200, headers=dict(HEADERS), content_type=static.kind, body=static.body)

    at.context.route("**/*", answer)


# Whether it lives

KEEP_WHAT_IS_SAID = """() => {
  window.words = [];
  const line = document.getElementById("said"), all = {childList: true, characterData: true, subtree: true};
  new MutationObserver(() => words.push(line.textContent)).observe(line, all);
}"""


def test_a_daemon_that_is_killed_is_gone_within_3_seconds_and_lives_again_without_a_reload(scene: Scene) -> None:
    with Refusing(scene.browser) as at:
        opened(at)
        scene.lan.one.kill()
        expect(at.page.locator("#live")).to_have_class("gone")
        assert silence(at) < 3000
        assert at.text("#live").startswith("Gone: floatip on haproxy1 does not answer. This is what it said at ")
        assert at.page.title() == "✗ gone: haproxy1"
        expect(at.page.locator("#said")).to_contain_text("Gone")
        assert violations(at.page) == []
        at.shoot("gone")
        at.page.evaluate(KEEP_WHAT_IS_SAID)  # the next word may follow at once
        scene.lan.one.start()
        expect(at.page.locator("#live")).to_have_class("live")
        wait(lambda: "floatip on haproxy1 answers again" in at.page.evaluate("words"))
        expect(at.page.locator("#day svg.cut").first).to_be_attached()  # the history outlives the daemon
        assert is_the_same(at)


def test_a_daemon_that_hangs_is_gone_too(scene: Scene) -> None:
    with Refusing(scene.browser) as at:
        opened(at)
        scene.lan.one.signal(signal.SIGSTOP)
        expect(at.page.locator("#live")).to_have_class("gone")
        assert silence(at) < 3000
        scene.lan.one.signal(signal.SIGCONT)
        expect(at.page.locator("#live")).to_have_class("live")


def test_a_picture_that_is_not_made_any_more_is_not_called_live(scene: Scene) -> None:
    """The events go on, but the page itself cannot be had."""
    with Refusing(scene.browser) as at:
        opened(at)
        at.context.route(PAGE, lambda route: route.fulfill(status=500, body="a bug"))
        expect(at.page.locator("#live")).to_have_class("gone")
        assert at.page.evaluate("events.readyState") == 1
        at.context.unroute(PAGE)
        expect(at.page.locator("#live")).to_have_class("live")


def silence(at: Window) -> float:
    """Milliseconds from the last sign of life to the moment at which the page said that it is gone."""
    return float(at.page.evaluate("goneAt - heard"))


def test_what_the_page_shows_while_a_daemon_is_up_is_never_taken_for_a_silence(scene: Scene) -> None:
    with window(scene.browser) as at:
        opened(at)
        at.page.evaluate(
            "window.states = new Set(); new MutationObserver(() => states.add(find('live').className))"
            ".observe(find('live'), {attributes: true, attributeFilter: ['class']})"
        )
        before = at.text("#live")
        wait(lambda: at.text("#live") != before)
        for verb in ("drain", "undrain"):
            assert scene.lan.one.command(verb)[0] == 0
            expect(at.page.locator("#n0")).to_contain_text("drained") if verb == "drain" else None
        expect(at.page.locator("#n0")).not_to_contain_text("drained")
        assert at.page.evaluate("[...states].includes('gone')") is False


# Orders


def unlocked(at: Window, token: str = TOKEN) -> None:
    at.page.get_by_label("Token").fill(token)
    at.page.get_by_role("button", name="Show the orders").click()


def test_a_node_is_drained_by_a_click_with_what_will_happen_and_a_confirmation(scene: Scene) -> None:
    with window(scene.browser) as at:
        opened(at)
        assert not at.page.get_by_role("button", name="Drain haproxy1").is_visible()
        unlocked(at)
        at.page.get_by_role("button", name="Drain haproxy1").click()
        dialog = at.page.get_by_role("dialog", name="Drain haproxy1")
        expect(dialog).to_contain_text("haproxy1 hands over web, and carries nothing until you undrain it")
        expect(dialog).to_contain_text("Now: haproxy2 takes over web")
        dialog.get_by_label("Reason").fill("kernel <b>update</b>")
        dialog.get_by_label("For").select_option("2 hours")
        assert violations(at.page) == []
        at.shoot("drain", whole=False)
        assert not scene.lan.one.view("haproxy1")["drained"]
        dialog.get_by_role("button", name="Do it").click()
        expect(at.page.locator("#n0")).to_contain_text("min more: kernel <b>update</b>")
        wait(lambda: cells(at, "web") == ["○ standby", "● carries"])
        expect(at.page.locator("#answer")).to_contain_text("drain: ")
        assert scene.lan.one.view("haproxy1")["drained"]
        assert scene.lan.two.held() == {WEB, MAIL}
        at.shoot("drained")
        at.page.get_by_role("button", name="Undrain haproxy1").click()
        at.page.get_by_role("button", name="Do it").click()
        expect(at.page.locator("#n0")).not_to_contain_text("drained")
        assert not scene.lan.one.view("haproxy1")["drained"]
        assert is_the_same(at)


def test_an_instance_is_handed_over_to_the_node_that_is_chosen(scene: Scene) -> None:
    with window(scene.browser) as at:
        opened(at)
        unlocked(at)
        at.page.get_by_label("Instance", exact=True).select_option("web")
        at.page.get_by_label("To", exact=True).select_option("haproxy2")
        at.page.get_by_role("button", name="Hand over").click()
        expect(at.page.locator("#ask-now")).to_contain_text("haproxy2 takes over web")
        at.page.get_by_role("button", name="Do it").click()
        wait(lambda: cells(at, "web") == ["○ standby", "● carries"])


def test_who_types_a_reason_at_once_presses_nothing(scene: Scene) -> None:
    """The answer to what would happen comes while somebody types."""
    with window(scene.browser) as at:
        opened(at)
        unlocked(at)
        at.page.get_by_role("button", name="Drain haproxy1").click()
        at.page.keyboard.type("a new")
        expect(at.page.locator("#yes")).to_be_enabled()
        at.page.keyboard.type(" kernel and more")
        assert at.page.get_by_label("Reason").input_value() == "a new kernel and more"
        expect(at.page.get_by_role("dialog")).to_be_visible()
        at.page.keyboard.press("Escape")
        # A key that is held down is no confirmation either.
        at.page.get_by_role("button", name="Pause").focus()
        at.page.keyboard.down("Enter")
        expect(at.page.locator("#yes")).to_be_enabled()
        for _ in range(3):
            at.page.keyboard.down("Enter")
        at.page.keyboard.up("Enter")
        at.page.keyboard.press("Escape")
    assert not scene.lan.one.view("haproxy1")["drained"]
    assert not scene.lan.one.view("haproxy1")["paused"]


def test_an_order_whose_answer_is_lost_is_not_called_refused(scene: Scene) -> None:
    with Refusing(scene.browser) as at:
        opened(at)
        unlocked(at)
        at.context.route(f"{PAGE}pause", lambda route: route.abort())
        at.page.get_by_role("button", name="Pause").click()
        at.page.get_by_role("button", name="Do it").click()
        expect(at.page.locator("#answer")).to_have_text("pause: no result: no answer came; it may have been done")


def test_who_cancels_changes_nothing(scene: Scene) -> None:
    with window(scene.browser) as at:
        opened(at)
        unlocked(at)
        for verb in ("Drain haproxy1", "Pause", "Hand over"):
            at.page.get_by_role("button", name=verb).click()
            expect(at.page.locator("#yes")).to_be_enabled()
            at.page.get_by_role("button", name="Cancel").click() if verb != "Pause" else at.page.keyboard.press(
                "Escape"
            )
            expect(at.page.get_by_role("dialog")).to_be_hidden()
    assert scene.lan.one.held() == {WEB}
    assert scene.lan.settled()


def test_an_order_that_would_be_refused_says_why_and_cannot_be_confirmed(scene: Scene) -> None:
    assert scene.lan.two.command("drain")[0] == 0
    assert scene.lan.two.command("undrain")[0] == 0
    scene.lan.two.kill()
    wait(lambda: scene.lan.one.sees()["haproxy2"] == "silent")
    with Refusing(scene.browser) as at:
        opened(at)
        unlocked(at)
        at.page.get_by_role("button", name="Drain haproxy1").click()
        expect(at.page.locator("#ask-now")).to_contain_text("no other node could take over web: haproxy2 is silent")
        expect(at.page.get_by_role("button", name="Do it")).to_be_disabled()
        at.shoot("refused", whole=False)


def test_a_wrong_token_does_nothing_and_is_asked_for_again(scene: Scene) -> None:
    with Refusing(scene.browser) as at:
        opened(at)
        unlocked(at, "wrong")
        at.page.get_by_role("button", name="Drain haproxy1").click()
        expect(at.page.locator("#ask-now")).to_contain_text("the token is wrong")
        at.page.get_by_role("button", name="Cancel").click()
        expect(at.page.get_by_label("Token")).to_be_visible()
        expect(at.page.get_by_role("button", name="Drain haproxy1")).to_be_hidden()
    assert scene.lan.settled()


def test_the_token_is_kept_nowhere(scene: Scene) -> None:
    with window(scene.browser) as at:
        opened(at)
        unlocked(at)
        assert at.page.get_by_label("Token").input_value() == ""
        kept = at.page.evaluate(
            "JSON.stringify([document.cookie, {...localStorage}, {...sessionStorage}, location.href])"
        )
        assert TOKEN not in kept
        at.page.reload()
        expect(at.page.get_by_label("Token")).to_be_visible()


# From elsewhere


def test_from_another_host_the_page_needs_the_token_as_a_password_and_lives_too(scene: Scene) -> None:
    there = "http://10.0.0.1:9113/"
    with Refusing(scene.browser, http_credentials={"username": "", "password": "wrong"}) as at:
        answer = at.page.goto(there)
        assert answer
        assert answer.status == 401
    with window(scene.browser, http_credentials={"username": "me", "password": TOKEN}) as at:
        at.page.goto(there)
        expect(at.page.locator("#live")).to_have_class("live")
        wait(lambda: cells(at, "web") == ["● carries", "○ standby"])
        before = at.text("#live")
        wait(lambda: at.text("#live") != before)
        assert at.page.evaluate("events.readyState") == 1
        unlocked(at)
        at.page.get_by_role("button", name="Pause").click()
        expect(at.page.locator("#ask-now")).to_contain_text("no node that hears this one takes over or yields")


# Each reader


def test_without_javascript_it_is_a_still_picture_that_says_so(scene: Scene) -> None:
    with window(scene.browser, java_script_enabled=False) as at:
        at.page.goto(PAGE)
        assert at.text("#live").startswith("Still picture of ")
        assert cells(at, "web") == ["● carries", "○ standby"]
        assert "Orders on this page need JavaScript." in at.text("#orders")
        assert not at.page.get_by_label("Token").is_visible()
        at.page.locator("#w0 summary").click()
        assert "192.0.2.10/32" in at.text("#w0 dl")
        at.shoot("no-javascript")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_it_is_accessible_and_fits(scheme: str, width: int, scene: Scene) -> None:
    with window(scene.browser, width=width, scheme=scheme) as at:
        opened(at)
        unlocked(at)
        assert violations(at.page) == []
        assert at.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        at.shoot(f"live-{width}-{scheme}")


def test_a_keyboard_reaches_everything_and_what_is_open_or_focused_stays_so(scene: Scene) -> None:
    with window(scene.browser) as at:
        opened(at)
        at.page.keyboard.press("Tab")
        assert at.page.evaluate("document.activeElement.className") == "skip"
        at.page.keyboard.press("Enter")
        for _ in range(20):
            at.page.keyboard.press("Tab")
            if at.page.evaluate("document.activeElement.parentNode.id") == "w0":
                break
        at.page.keyboard.press("Enter")
        assert at.page.locator("#w0").get_attribute("open") is not None
        before = at.text("#live")
        assert scene.lan.one.command("drain")[0] == 0
        expect(at.page.locator("#n0")).to_contain_text("drained")
        wait(lambda: at.text("#live") != before)
        assert at.page.locator("#w0").get_attribute("open") is not None
        assert at.page.evaluate("document.activeElement.parentNode.id") == "w0"
