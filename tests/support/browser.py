"""Debian's Chromium for tests of pages, and what any page has to be: without errors, and for everybody."""

import contextlib
import os
import shutil
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

SECONDS = 60.0
"""Like all limits of tests this one ends a hang."""
WIDTHS = {"wide": 1_280, "narrow": 360}
THEMES = ("light", "dark")


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; skips where there is none, unless REQUIRE_REAL=1."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        if os.environ.get("REQUIRE_REAL") == "1":
            pytest.fail("REQUIRE_REAL=1, but there is no chromium on PATH: apt-get install chromium")
        pytest.skip("no chromium on PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def page_of(
    browser: Browser, *, width: int = 1_280, height: int = 900, theme: str = "light", expected: tuple[str, ...] = ()
) -> Iterator[Page]:
    """A page in a context of its own. At its end it must have written no error to its console.

    Args:
        expected: parts of messages that are no error of the page, such as an answer with the status 401.
    """
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=theme,  # type: ignore[arg-type]
        locale="en-GB",
        timezone_id="UTC",
        reduced_motion="reduce",
    )
    context.set_default_timeout(SECONDS * 1_000)
    page = context.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    try:
        yield page
        unexpected = [one for one in errors if not any(part in one for part in expected)]
        assert unexpected == [], "\n".join(unexpected)
    finally:
        context.close()


def check_access(page: Page) -> None:
    """No finding of axe that is serious or critical, in the page as it is now."""
    found = Axe().run(page).response["violations"]
    told = [
        f"{one['id']} ({one['impact']}): {one['help']}: {[node['html'][:160] for node in one['nodes'][:3]]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert told == [], "\n".join(told)


def check_fits(page: Page) -> None:
    """Nothing is wider than the window: only tables scroll, in a frame of their own."""
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"the page is {wide} px wider than its window"
