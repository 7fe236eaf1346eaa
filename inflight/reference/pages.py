"""The generated pages, and whether the files are up to date."""

from collections.abc import Callable
from pathlib import Path

from inflight.reference import alerts, commands, documents, events, settings

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
PAGES: dict[str, Callable[[], str]] = {
    "alerts.md": alerts.page,
    "commands.md": commands.page,
    "documents.md": documents.page,
    "events.md": events.page,
    "settings.md": settings.page,
}


def write(folder: Path = FOLDER) -> list[Path]:
    """Write all pages to `folder`; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")
    return [folder / name for name in PAGES]


def stale(folder: Path = FOLDER) -> list[str]:
    """Return the names of pages in `folder` that are missing, outdated or not generated."""
    differing = [
        name
        for name, page in PAGES.items()
        if not (path := folder / name).is_file() or path.read_text(encoding="utf-8") != page()
    ]
    return sorted(differing + [path.name for path in folder.glob("*.md") if path.name not in PAGES])
