"""The console in a browser: Chromium, the program, Valkey and SQLite."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.real.conftest import MakeSite
from tests.support.obtain import give_up
from tests.support.program import Site, wait_until
from tests.support.receiver import Script, Step
from tests.support.servers import ReceiverServer
from tests.support.servers.process import free_port

CHROMIUM = Path("/usr/bin/chromium")
TOKEN = "correct-horse-battery"
HOSTILE = (
    "</title></td><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> \u202egnp.exe"
)
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Give the distribution's Chromium."""
    if not CHROMIUM.exists():
        give_up("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        # Without its own sandbox, which containers and root cannot have; it opens nothing but our pages.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def console(site: Site, *options: str, **settings: str) -> Iterator[str]:
    """Serve the console of a site; yield where."""
    base = f"http://127.0.0.1:{free_port()}"
    with site.serving("console", "--bind", base.removeprefix("http://"), *options, **settings):
        wait_until(lambda: _answers(base), "the console answers", site)
        yield base


def _answers(base: str) -> bool:
    try:
        return httpx.get(base).status_code in (200, 401)
    except httpx.TransportError:
        return False


@contextmanager
def page_in(browser: Browser, look: str = "light", **options: Any) -> Iterator[Page]:
    """Open a page; at its end nothing in it may have been refused by the policy or failed."""
    said: list[str] = []
    context = browser.new_context(**LOOKS[look] | options)
    context.set_default_timeout(30_000)
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    context.close()
    assert [] == [one for one in said if "status of 401" not in one]  # the sign-in form, where it is meant


@pytest.fixture
def busy_site(make_site: MakeSite, receiver: ReceiverServer) -> Iterator[Site]:
    """Give a site at work: what its receiver refuses has failed, and there is a dead letter and a silence."""
    receiver.set_scripts({"*": Script([Step(400)])})
    site = make_site(Site)
    with site.running():
        for number in range(3):
            site.emit(title=f"Oracle stale {number}", fingerprint="f", links=["https://scan.example/tx/1"])
        site.emit(
            title=HOSTILE,
            description=HOSTILE,
            labels={HOSTILE[:200]: HOSTILE},
            links=["javascript:document.title='owned'"],
            severity="critical",
        )
        site.add({b"event": HOSTILE.encode()})
        assert 0 == site.ask("silence", "add", "view = Elsewhere", "--for", "2h", "--why", HOSTILE).exit_code
        wait_until(lambda: bool(site.dead()) and site.pending() == 0, "all is done", site)
        yield site


def test_an_operator_finds_a_failed_alert_and_sends_it_again(
    chromium: Browser, busy_site: Site, receiver: ReceiverServer
) -> None:
    """From the count of what failed, through the filters, to the record, to a preview, to the receiver."""
    receiver.set_scripts({})
    with console(busy_site) as base, page_in(chromium) as page:
        page.goto(base)
        page.get_by_role("link", name="4 failed").click()
        page.get_by_label("title").fill("STALE 1")
        page.get_by_role("button", name="Find").click()
        expect(page.get_by_role("status")).to_contain_text("1 record matches")
        page.get_by_role("link", name="Oracle stale 1").click()
        expect(page.get_by_role("main")).to_contain_text("refused for good")
        record_id = page.url.rpartition("/")[2]
        page.get_by_role("link", name="Redeliver…").click()
        expect(page.get_by_role("main")).to_contain_text("would be due now, through webhook")
        assert "failed" == busy_site.records()[record_id]["delivery"]["state"]
        page.get_by_role("button", name="Redeliver").click()
        expect(page.get_by_role("status")).to_contain_text("It is due now")
        wait_until(lambda: busy_site.records()[record_id]["delivered"], "it is delivered", busy_site)
        page.reload()
        expect(page.get_by_role("main")).to_contain_text("accepted")
        expect(page.get_by_role("heading", name="Same fingerprint")).to_be_visible()


def test_counters_are_live(chromium: Browser, busy_site: Site) -> None:
    """What happens while the page is open is seen without a reload."""
    with console(busy_site) as base, page_in(chromium) as page:
        page.goto(base)
        expect(page.get_by_role("link", name="4 failed")).to_be_visible()
        busy_site.emit(title="One more")
        expect(page.get_by_role("link", name="5 failed")).to_be_visible(timeout=20_000)


def test_a_visitor_signs_in_and_out(chromium: Browser, busy_site: Site) -> None:
    """The form leads back to the page that was asked for; after signing out, it is there again."""
    with console(busy_site, console_token=TOKEN) as base, page_in(chromium) as page:
        answer = page.goto(f"{base}/?state=failed")
        assert answer is not None
        assert 401 == answer.status
        page.get_by_label("Console token").fill(TOKEN)
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_contain_text("4 records match")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Console token")).to_be_visible()
        page.goto(base)
        expect(page.get_by_label("Console token")).to_be_visible()


def test_all_but_the_live_part_works_without_scripts(chromium: Browser, busy_site: Site) -> None:
    """A silence is previewed, set and ended by forms and links alone."""
    with console(busy_site) as base, page_in(chromium, java_script_enabled=False) as page:
        page.goto(f"{base}/?severity=critical")
        page.get_by_role("table").get_by_role("link").first.click()
        page.get_by_role("link", name="Silence…").click()
        expect(page.get_by_label("Matchers")).to_have_value('rule_id = "r-1"\nview = "Lending"\nscope = "aave v3"')
        page.get_by_label("Why").fill("a planned change")
        page.get_by_role("button", name="Preview").click()
        expect(page.get_by_role("heading", name="Preview")).to_be_visible()
        page.get_by_role("button", name="Set the silence").click()
        expect(page.get_by_role("status")).to_contain_text("The silence is set")
        row = page.get_by_role("row").filter(has_text="a planned change")
        row.get_by_role("link", name="End…").click()
        page.get_by_role("button", name="End it").click()
        expect(page.get_by_role("status")).to_contain_text("has ended")
        expect(page.get_by_text("a planned change")).to_have_count(0)


def test_the_keyboard_is_enough(chromium: Browser, busy_site: Site) -> None:
    """The first stop leads to the content; "/" leads to the search, and is a letter where one types."""
    with console(busy_site) as base, page_in(chromium) as page:
        page.goto(base)
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("/")
        page.keyboard.type("a/b")
        expect(page.locator(":focus")).to_have_value("a/b")


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_is_for_everybody(chromium: Browser, busy_site: Site, look: str) -> None:
    """No violation that axe-core knows, no sideways scrolling, and hostile text is text: light, dark, on a phone."""
    record_id = next(one for one, record in busy_site.records().items() if record.get("severity") == "critical")
    dead_id = busy_site.ask("dead", "list").out.splitlines()[1].split("\t")[0]
    silence_id = busy_site.ask("silence", "list").out.splitlines()[1].split("\t")[0]
    record, dead = f"/records/{record_id}", f"/quarantine/{dead_id}"
    draft = f"matchers={quote('view = Lending')}&lasts=2h&why={quote(HOSTILE)}"
    paths = [
        *(
            "/",
            "/?state=failed",
            "/?title=nothing",
            "/?label=a%3Db&view=x",
            record,
            f"{record}/redeliver",
            f"{record}/redeliver?through=webhook",
        ),
        *("/silences", "/silences?all", "/silences/new", f"/silences/new?record={record_id}"),
        *(f"/silences/new?{draft}&preview=1", f"/silences/{silence_id}/end", f"/silences/{silence_id}/send"),
        *("/quarantine", dead, f"{dead}/replay", f"{dead}/drop", "/channels", "/sign-in"),
    ]
    with console(busy_site) as base, page_in(chromium, look) as page:
        for path in paths:
            answer = page.goto(base + path)
            assert answer is not None
            assert 200 == answer.status, path
            found = Axe().run(page)
            assert 0 == found.violations_count, f"{path}: {found.generate_report()}"
            sideways = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert 0 == sideways, path
            assert "owned" != page.title()
            if folder := os.environ.get("TRIO_ALERTS_TEST_SCREENSHOTS"):
                name = "".join(one if one.isalnum() else "-" for one in path)[:60]
                page.screenshot(path=f"{folder}/{name}-{look}.png", full_page=True)
