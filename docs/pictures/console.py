"""Take the pictures of the console: a page full of an invented afternoon, in Debian's Chromium.

python -m docs.pictures.console             # the pictures of docs/console.md
python -m docs.pictures.console --all DIR   # every view in both themes and two widths: full, empty, without a broker
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect

from docs.pictures.make import PICTURES
from producers.gateway.console.watch import LagReading
from tests.support.browser import THEMES, WIDTHS, chromium, page_of
from tests.support.console import EMPTY, VIEWS, Console, console, fill

DOCS = {
    "console-overview": ("overview", "light", 1_280, 900),
    "console-models": ("models/diamonds", "light", 1_280, 1_030),
    "console-story": ("predictions/diamonds-00001", "light", 1_280, 780),
    "console-try": ("try/diamonds", "light", 1_280, 860),
    "console-dead-letters-dark": ("dead-letters", "dark", 1_280, 720),
    "console-phone": ("overview", "dark", 360, 720),
}
"""View, theme, width and height."""


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


def take_for_docs(browser: Browser, home: Path) -> None:
    """Those of docs/console.md."""
    with console(home) as running:
        fill(running.watch, 10_000, 290)
        for name, (view, theme, width, height) in DOCS.items():
            with opened(browser, running, view, VIEWS[view][1], width, theme, height) as page:
                path = PICTURES / f"{name}.png"
                page.screenshot(path=path)
                # This method keeps the colors of large areas as they are.
                few = Image.open(path).convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
                few.save(path, optimize=True)


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
def opened(
    browser: Browser, running: Console, view: str, wanted: str, width: int, theme: str, height: int = 900
) -> Iterator[Page]:
    """A view that shows what is wanted; the form is filled and has been sent, and a field of the heat map is read."""
    with page_of(browser, width=width, height=height, theme=theme, expected=("404",)) as page:
        page.goto(f"{running.url}/#/{view}")
        expect(page.locator(wanted).first).to_be_visible()
        if view.startswith("try/") and page.locator(".field").count():
            page.get_by_role("button", name="Fill with the example").click()
            page.get_by_role("button", name="Predict").click()
            expect(page.get_by_text("Accepted by the broker")).to_be_visible()
        for cell in page.locator(".heat tbody tr:first-child td:last-child").all():
            cell.hover()
        yield page


if __name__ == "__main__":
    main()
