"""The console's page in Chromium: views empty and full, themes, widths, errors, keyboard, 10,000 events."""

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from producers.gateway.console.watch import LagReading
from producers.gateway.keys import KeyFile
from tests.support.browser import THEMES, WIDTHS, check_access, check_fits, chromium, page_of
from tests.support.console import EMPTY, VIEWS, Console, FilledWatch, console, fill, log
from tests.support.http_clients import call
from tests.support.waiting import until

EVENTS = 10_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    with console(tmp_path_factory.mktemp("full")) as found:
        fill(found.watch, EVENTS, 280)
        yield found


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    with console(tmp_path_factory.mktemp("empty"), models=False) as found:
        yield found


def go(page: Page, running: Console, view: str = "overview") -> None:
    """Open a view, and wait for what it shows."""
    page.goto(f"{running.url}/#/{view}")
    expect(page.locator("h1")).to_be_visible()
    expect(page.locator(".view > *").nth(1)).to_be_attached()


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS.keys())
@pytest.mark.parametrize("state", ["full", "empty"])
def test_every_view(browser: Browser, full: Console, empty: Console, theme: str, width: int, state: str) -> None:
    """No serious finding of axe, no error, nothing wider than the window."""
    running = full if state == "full" else empty
    with page_of(browser, width=width, theme=theme, expected=("404",)) as page:
        for view, (title, wanted) in VIEWS.items():
            go(page, running, view)
            expect(page.locator("h1")).to_have_text(title)
            expect(page.locator(wanted if state == "full" else EMPTY).first).to_be_visible()
            check_access(page)
            check_fits(page)


def test_theme_switch(browser: Browser, full: Console) -> None:
    """It follows the system until one is chosen, which stays."""
    back = (
        "getComputedStyle(document.body).backgroundColor && getComputedStyle(document.documentElement).backgroundColor"
    )
    with page_of(browser, theme="dark") as page:
        go(page, full)
        dark = page.evaluate(back)
        button = page.locator("#theme")
        expect(button).to_have_text("Theme: system")
        button.click()
        expect(button).to_have_text("Theme: light")
        assert page.evaluate(back) != dark
        page.reload()
        expect(page.locator("#theme")).to_have_text("Theme: light")
        button.click()
        assert page.evaluate(back) == dark


def test_ten_thousand_events(browser: Browser, full: Console) -> None:
    """The list is short whatever is behind it, follows new ones, keeps the focus, and can be filtered and paused."""
    with page_of(browser) as page:
        started = time.monotonic()
        go(page, full, "predictions")
        rows = page.locator("tbody tr")
        expect(rows).to_have_count(200)
        assert time.monotonic() - started < 20
        expect(page.get_by_text("The last 200 of")).to_be_visible()
        link = rows.nth(3).locator("a")
        link.focus()
        kept = link.inner_text()
        add(full.watch, "newest-1")
        expect(rows.first).to_contain_text("newest-1")
        assert page.evaluate("document.activeElement.textContent") == kept
        page.keyboard.press("ArrowDown")
        assert page.evaluate("document.activeElement.textContent") != kept
        page.get_by_role("button", name="Pause").click()
        add(full.watch, "newest-2")
        page.wait_for_timeout(2_500)
        assert page.get_by_text("newest-2").count() == 0
        page.get_by_role("button", name="Go on").click()
        expect(rows.first).to_contain_text("newest-2")
        page.get_by_label("Outcome").select_option("failed")
        expect(rows.first).to_contain_text("invalid_features")
        page.get_by_label("Request id").fill("titanic-0")
        expect(rows.filter(has_not_text="titanic-0")).to_have_count(0)


def test_the_charts_show_all_of_it(browser: Browser, full: Console) -> None:
    """Counts are those of the memory, and a chart is read by arrow keys."""
    with page_of(browser) as page:
        go(page, full)
        page.get_by_text("1 h", exact=True).click()
        expect(page.locator(".tile").first).to_contain_text(re.compile(r"10,0\d\d in 1 h"))
        chart = page.locator(".plot").first
        chart.focus()
        before = chart.get_attribute("aria-label")
        for _ in range(5):
            page.keyboard.press("ArrowLeft")
        assert chart.get_attribute("aria-label") != before
        heights = page.evaluate("[...document.querySelectorAll('section')].map((one) => one.offsetTop)")
        page.wait_for_timeout(4_500)
        assert page.evaluate("[...document.querySelectorAll('section')].map((one) => one.offsetTop)") == heights


def test_a_prediction_and_its_trace(browser: Browser, full: Console) -> None:
    """From the schema to a form, with ranges, units and examples; errors at their field; then the whole story."""
    with page_of(browser, expected=("422",)) as page:
        go(page, full, "try/diamonds")
        carat = page.get_by_label("carat")
        expect(page.locator("#field-carat-hint")).to_have_text("Weight in carats of 0.2 g. More than 0, at most 50.")
        assert page.get_by_label("cut").locator("option").all_inner_texts()[1:] == [
            "Fair", "Good", "Ideal", "Premium", "Very Good",
        ]  # fmt: skip
        page.get_by_role("button", name="Predict").click()
        expect(page.locator("#field-carat-error")).to_have_text("This field is needed.")
        expect(carat).to_be_focused()
        page.get_by_role("button", name="Fill with the example").click()
        expect(carat).to_have_value("0.23")
        carat.fill("60")
        page.get_by_role("button", name="Predict").click()
        expect(page.locator("#field-carat-error")).to_contain_text("at most 50")
        check_access(page)
        carat.fill("0.23")
        page.keyboard.press("Enter")
        expect(page.locator(".answer")).to_contain_text("541.5")
        expect(page.get_by_text("Accepted by the broker")).to_be_visible()
        expect(page.locator(".bar")).to_be_visible()
        check_access(page)
        page.locator(".result a.mono").click()
        expect(page.locator("h1")).to_have_text(re.compile("[0-9a-f-]{36}"))
        expect(page.get_by_text("completed", exact=True)).to_be_visible()
        page.get_by_label("True outcome").fill("552")
        page.get_by_role("button", name="Report label").click()
        expect(page.get_by_text("Accepted. It will be in this story")).to_be_visible()
        assert b'"label":552' in full.topics.labels[-1]


def test_no_worker_runs(browser: Browser, full: Console) -> None:
    """A form says that the request is accepted, and goes on when a worker comes."""
    full.topics.working = False
    try:
        with page_of(browser, expected=("504", "404")) as page:
            page.route(
                "**/v1/titanic/survival",
                lambda route: route.continue_(headers={**route.request.headers, "prefer": "wait=0.2"}),
            )
            go(page, full, "try/titanic")
            page.get_by_role("button", name="Fill with the example").click()
            page.get_by_role("button", name="Predict").click()
            expect(page.get_by_text("is a worker running?")).to_be_visible()
            expect(page.get_by_text("waits for a worker")).to_be_visible()
            full.topics.working = True
            full.topics.work(full.topics.requests[-1])
            expect(page.get_by_text("completed", exact=True)).to_be_visible()
    finally:
        full.topics.working = True


def test_dead_letters_are_read_chosen_and_replayed(browser: Browser, full: Console) -> None:
    """Only what is in sight is chosen, nothing is published without a yes, and each letter tells what became of it."""
    asked: list[list[str]] = []

    def replay(route: Route) -> None:
        asked.append((route.request.post_data_json or {})["addresses"])
        results = [{"address": one, "outcome": "accepted" if n else "gone"} for n, one in enumerate(asked[-1])]
        route.fulfill(json={"accepted": len(results) - 1, "results": results})

    def show(route: Route) -> None:
        letter = {"key": "k", "value": "{<b>1", "bytes": 5, "shown_bytes": 5, "headers": [["origin", "shop"]]}
        route.fulfill(json=letter)

    with page_of(browser) as page:
        page.route("**/v1/console/dead-letters/0:*", show)
        page.route("**/v1/console/dead-letters/replay", replay)
        go(page, full, "dead-letters")
        page.get_by_role("button", name="Show record").first.click()
        expect(page.get_by_role("dialog")).to_contain_text("{<b>1")
        check_access(page)
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        button = page.get_by_role("button", name="Replay", exact=False)
        expect(button).to_be_disabled()
        every = page.get_by_label("Choose all")
        every.check()
        expect(button).to_have_text("Replay 24")
        page.get_by_label("Reason").select_option("missing_field")
        expect(page.locator("tbody tr")).to_have_count(6)
        expect(button).to_be_disabled()
        every.check()
        page.locator("tbody input").first.uncheck()
        expect(button).to_have_text("Replay 5")
        button.click()
        check_access(page)
        page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        assert asked == []
        button.click()
        page.get_by_role("dialog").get_by_role("button", name="Replay").click()
        expect(page.get_by_role("status").filter(has_text="4 of 5 published again.")).to_be_visible()
        expect(page.get_by_text("deleted by retention")).to_have_count(1)
        expect(page.get_by_text("published again", exact=True)).to_have_count(4)
        assert [len(one) for one in asked] == [5]


def test_text_of_others_stays_text(browser: Browser, full: Console) -> None:
    """Markup in an id, a model, a feature: shown, and no element."""
    evil = '"><img src=x onerror=alert(1)><script>alert(1)</script>'
    event = log(evil, "titanic", now(), features={evil: evil})
    full.watch.memory.log(event, time.time() + 1, 500)
    with page_of(browser) as page:
        page.on("dialog", lambda dialog: pytest.fail("a script of a record ran"))
        go(page, full, "predictions")
        page.get_by_text("<img src=x").first.click()
        expect(page.locator("h1")).to_have_text(evil)
        expect(page.get_by_role("rowheader", name=evil)).to_be_visible()
        assert page.locator("main img, main script").count() == 0


def test_keyboard(browser: Browser, full: Console) -> None:
    """Every view, the search, the heat map and the help without a pointer; and the keys can be switched off."""
    with page_of(browser) as page:
        go(page, full)
        page.keyboard.press("Tab")
        expect(page.get_by_text("Skip to content")).to_be_focused()
        for number, title in enumerate(("Overview", "Models", "Predictions", "Dead letters", "Try it"), start=1):
            page.keyboard.press(str(number))
            expect(page.locator("h1")).to_have_text(title)
        page.keyboard.press("2")
        first = page.locator(".heat tbody td").first
        first.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
        assert page.evaluate("document.activeElement.cellIndex") == 2
        expect(page.locator(".detail")).to_contain_text("PSI")
        page.keyboard.press("/")
        expect(page.get_by_label("Request id")).to_be_focused()
        page.keyboard.type("diamonds-00001")
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text("diamonds-00001")
        page.keyboard.press("?")
        expect(page.get_by_role("dialog")).to_be_visible()
        check_access(page)
        page.get_by_label("Shortcuts of one key").uncheck()
        page.keyboard.press("Escape")
        page.keyboard.press("1")
        expect(page.locator("h1")).to_have_text("diamonds-00001")


def test_kafka_is_away(browser: Browser, tmp_path: Path) -> None:
    """Each view says what is wrong, and goes on by itself."""
    with console(tmp_path) as running, page_of(browser, expected=("503",)) as page:
        running.watch.problem = "the broker does not respond (_TRANSPORT): is it running?"
        running.watch.complete = False
        running.watch.lag = LagReading([], "the lag can't be read (_TRANSPORT)")
        running.stream.problem = "the broker does not respond (_TRANSPORT)"
        go(page, running)
        expect(page.get_by_text("The stream can't be read:")).to_be_visible()
        expect(page.locator("#live")).to_have_text("Stream away")
        check_access(page)
        for view in ("predictions", "dead-letters"):
            go(page, running, view)
            expect(page.get_by_text("The stream can't be read.")).to_be_visible()
        go(page, running, "try/diamonds")
        page.get_by_role("button", name="Fill with the example").click()
        page.get_by_role("button", name="Predict").click()
        expect(page.get_by_text("The gateway is not ready")).to_be_visible()
        running.watch.problem = running.stream.problem = ""
        running.watch.complete = True
        go(page, running, "predictions")
        expect(page.get_by_text("No prediction in the last hour.")).to_be_visible()


def test_the_gateway_goes_away_and_comes_back(browser: Browser, full: Console) -> None:
    with page_of(browser, expected=("ERR_",)) as page:
        go(page, full)
        expect(page.locator("#live")).to_have_text("Live")
        page.context.set_offline(True)
        expect(page.get_by_role("alert")).to_contain_text("The gateway does not respond")
        expect(page.locator("#live")).to_have_text("Gateway away")
        check_access(page)
        page.context.set_offline(False)
        expect(page.locator("#live")).to_have_text("Live")
        expect(page.get_by_role("alert")).to_have_count(0)


def test_keys(browser: Browser, tmp_path: Path) -> None:
    """Asked for, kept in this tab alone, refused if wrong or revoked; and what a key does not allow is not shown."""
    with console(tmp_path) as running, page_of(browser, expected=("401", "403")) as page:
        fill(running.watch, 50, 60)
        keys = {scope: running.add_key(scope, name=f"key-{scope}") for scope in ("read", "admin")}
        port = int(running.url.rpartition(":")[2])
        last = {"X-API-Key": keys["admin"]}
        until(
            lambda: call(port, "GET", "/v1/console/session", None, last).status == 200, 30, "the gateway knows all keys"
        )
        page.goto(f"{running.url}/#/overview")
        field = page.get_by_label("This gateway needs a key")
        expect(field).to_be_focused()
        check_access(page)
        assert page.locator("#nav a").count() == 0
        field.fill("inflight_nonsense")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("This key is not valid")
        field.fill(keys["read"])
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text("Overview")
        assert page.locator("#nav a").all_inner_texts() == ["Overview", "Models", "Predictions"]
        assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 1, ""]
        page.goto(f"{running.url}/#/dead-letters")
        expect(page.get_by_text("This key does not allow it.")).to_be_visible()
        check_access(page)
        go(page, running, "predictions/diamonds-00001")
        expect(page.get_by_text("shown to keys with the scope admin")).to_be_visible()
        page.locator("#key").click()
        field.fill(keys["admin"])
        page.keyboard.press("Enter")
        expect(page.locator("#nav a")).to_have_count(5)
        go(page, running, "overview")
        KeyFile(running.home / "gateway-keys.json").revoke("key-admin")
        expect(page.get_by_text("The key is not valid any more.")).to_be_visible()
        assert page.evaluate("sessionStorage.length") == 0


def test_a_scope_is_taken_while_the_page_is_open(browser: Browser, full: Console) -> None:
    """403 is told in the gateway's words."""
    with page_of(browser, expected=("403",)) as page:
        problem = '{"title": "The API key does not allow this", "detail": "the key named me lacks the scope admin"}'
        page.route(
            "**/v1/console/dead-letters*",
            lambda route: route.fulfill(status=403, body=problem, content_type="application/problem+json"),
        )
        page.goto(f"{full.url}/#/dead-letters")
        expect(page.get_by_role("alert")).to_contain_text("lacks the scope admin")
        check_access(page)


def add(watch: FilledWatch, request_id: str) -> None:
    watch.memory.log(log(request_id, "diamonds", now()), time.time(), 500)


def now() -> datetime:
    return datetime.now(UTC)
