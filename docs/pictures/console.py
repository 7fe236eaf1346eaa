"""Take the pictures of the console: a page full of an invented afternoon, in Debian's Chromium.

python -m docs.pictures.console             # the pictures of docs/console.md
python -m docs.pictures.console --all DIR   # every view in both themes and two widths: full, empty, without a broker
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from docs.pictures.make import PICTURES, shrink
from producers.gateway.console.watch import LagReading
from tests.support.browser import THEMES, WIDTHS, chromium, page_of
from tests.support.console import EMPTY, VIEWS, Console, console, fill

DOCS = {
    "console-overview": ("overview", "light"),
    "console-models": ("models/diamonds", "light"),
    "console-try": ("try/diamonds", "light"),
    "console-dead-letters-dark": ("dead-letters", "dark"),
}


def main() -> None:
    """Take them."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--all", type=Path, metavar="DIR", help="every view, to look at")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as home, chromium() as browser:
        if options.all:
            take_all(browser, Path(home), options.all)
        else:
            take_for_docs(browser, Path(home))
            shrink(PICTURES, "console-*.png")


def take_for_docs(browser: Browser, home: Path) -> None:
    """Those of docs/console.md."""
    with console(home) as running:
        fill(running.watch, 10_000, 290)
        for name, (view, theme) in DOCS.items():
            with opened(browser, running, view, VIEWS[view][1], 1_280, theme) as page:
                page.screenshot(path=PICTURES / f"{name}.png")


def take_all(browser: Browser, home: Path, out: Path) -> None:
    """Every view."""
    out.mkdir(parents=True, exist_ok=True)
    for state in ("full", "empty", "away"):
        with console(home / state, models=state == "full") as running:
            if state == "full":
                fill(running.watch, 10_000, 290)
            if state == "away":
                take_away(running)
            for view, (_, wanted) in VIEWS.items():
                for theme in THEMES:
                    for kind, width in WIDTHS.items():
                        found = wanted if state == "full" else EMPTY
                        with opened(browser, running, view, found, width, theme) as page:
                            name = f"{view.replace('/', '-')}-{state}-{kind}-{theme}.png"
                            page.screenshot(path=out / name, full_page=kind == "narrow")


def take_away(running: Console) -> None:
    """The broker does not respond."""
    problem = "the broker does not respond (_TRANSPORT): is it running?"
    running.watch.problem = running.stream.problem = problem
    running.watch.complete = False
    running.watch.lag = LagReading([], "the lag can't be read (_TRANSPORT)")


@contextmanager
def opened(browser: Browser, running: Console, view: str, wanted: str, width: int, theme: str) -> Iterator[Page]:
    """A view that shows what is wanted; the form is filled and has been sent."""
    with page_of(browser, width=width, theme=theme, expected=("404",)) as page:
        page.goto(f"{running.url}/#/{view}")
        expect(page.locator(wanted).first).to_be_visible()
        if view.startswith("try/") and page.locator(".field").count():
            page.get_by_role("button", name="Fill with the example").click()
            page.get_by_role("button", name="Predict").click()
            expect(page.get_by_text("Accepted by the broker")).to_be_visible()
        yield page


if __name__ == "__main__":
    main()
