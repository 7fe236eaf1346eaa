"""What a built site lacks: pages, files and anchors that links name; and what it would load from elsewhere."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser loads by itself, by tag. A link is followed by a reader, who may be online.
_LOADED = {"script": "src", "img": "src", "source": "src", "iframe": "src", "link": "href", "object": "data"}
_URL = re.compile(r"url\(\s*['\"]?([^'\")]+)")


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := found.get(name))}
        if tag == "a" and (target := found.get("href")):
            self.links.append(target)
        if (name := _LOADED.get(tag)) and (target := found.get(name)) and found.get("rel") != "canonical":
            self.loaded.append(target)


def problems(folder: Path) -> list[str]:
    """Return each problem of the site in `folder`, with its page; none if the site is whole without a network."""
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        # The error page has links from a root that a folder does not have.
        if path.name == "404.html":
            continue
        here = path.relative_to(folder)
        found += [f"{here}: loads {one}" for one in page.loaded if urlsplit(one).netloc]
        found += [f"{here}: {problem}" for target in page.links + page.loaded for problem in _lost(path, target, pages)]
    for path in sorted(folder.rglob("*.css")):
        urls = _URL.findall(path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(folder)}: loads {one}" for one in urls if urlsplit(one).netloc]
    return found


def _lost(path: Path, target: str, pages: dict[Path, _Page]) -> Iterator[str]:
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return
    file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    file = file / "index.html" if file.is_dir() else file
    if not file.is_file():
        yield f"{target} leads nowhere"
    elif parts.fragment and file in pages and unquote(parts.fragment) not in pages[file].anchors | {"__skip"}:
        yield f"{target} has no such anchor"
