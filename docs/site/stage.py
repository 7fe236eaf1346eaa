"""The pages of the site as one folder: docs/, and the pages of the root, with links that hold within it."""

import os
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
    "CHANGELOG.md": "changelog.md",
    "mle_package/README.md": "sdk.md",
}
"""Pages from outside of docs/, by the name that they have on the site."""
FOLDERS = {"decisions": "Decisions", "model_cards": "Model cards", "data_specs": "Data specifications"}
"""Folders that get a page with a list of theirs."""
_KEPT = {".md", ".png", ".svg", ".json"}
_OF_FOLDER = {"docs/schemas": "reference/events.md"}
_LINK = re.compile(r"(`+[^`]*`+)|(!?\[(?:[^\[\]]|\[[^\]]*\])*\])\(([^)\s]+)\)")


def sources() -> dict[str, str]:
    """The files of the site: path in the repository by path on the site."""
    found = {site: source for source, site in OUTSIDE.items()}
    for path in sorted((ROOT / "docs").rglob("*")):
        inside = path.relative_to(ROOT / "docs")
        if path.is_file() and path.suffix in _KEPT and inside.parts[0] != "site":
            found[inside.as_posix()] = path.relative_to(ROOT).as_posix()
    return found


def write(folder: Path) -> None:
    """Write the pages to `folder`, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    files = sources()
    for site, source in files.items():
        target = folder / site
        target.parent.mkdir(parents=True, exist_ok=True)
        if site.endswith(".md"):
            target.write_text(with_links((ROOT / source).read_text(encoding="utf-8"), source, site, files))
        else:
            shutil.copyfile(ROOT / source, target)
    for name, title in FOLDERS.items():
        pages = sorted(page for page in files if page.startswith(f"{name}/") and page.endswith(".md"))
        lines = [f"- [{heading(ROOT / files[page])}]({PurePosixPath(page).name})" for page in pages]
        (folder / name / "index.md").write_text("\n".join([f"# {title}", "", *lines, ""]), encoding="utf-8")
    shutil.copyfile(HERE / "worker.js", folder / "iframe-worker.js")
    shutil.copyfile(HERE / "tables.css", folder / "tables.css")


def with_links(text: str, source: str, site: str, files: dict[str, str]) -> str:
    """A page with links to other pages of the site; what the site does not hold, such as code, has no link."""
    by_source = {origin: place for place, origin in files.items()}
    by_source |= {f"docs/{name}": f"{name}/index.md" for name in FOLDERS} | _OF_FOLDER

    def link(found: re.Match[str]) -> str:
        code, label, target = found.groups()
        if code or re.match(r"[a-z]+:|#", target):
            return found[0]
        path, hash_, anchor = target.partition("#")
        origin = os.path.normpath(PurePosixPath(source).parent / path)
        place = by_source.get(origin)
        if place is None:
            return str(label).removeprefix("!")[1:-1]
        return f"{label}({os.path.relpath(place, PurePosixPath(site).parent)}{hash_}{anchor})"

    lines, fenced = [], False
    for line in text.split("\n"):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        lines.append(line if fenced else _LINK.sub(link, line))
    return "\n".join(lines)


def heading(path: Path) -> str:
    """The title of a page: its first heading, as text."""
    found = re.search(r"^# (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return re.sub(r"[`*]", "", found[1]) if found else path.stem


def nav(files: dict[str, str]) -> list[dict[str, Any]]:
    """The sections, with each page once; pages that nav.toml does not name are how-to guides."""
    sections = tomllib.loads((HERE / "nav.toml").read_text(encoding="utf-8"))["section"]
    named = {page for section in sections for page in section["pages"]}
    others = [page for page in files if page.endswith(".md") and "/" not in page and page not in named]
    found = []
    for section in sections:
        pages = [*section["pages"], *(others if section["title"] == "How-to guides" else ())]
        found.append({section["title"]: [entry for page in pages for entry in _entries(page, files)]})
    return found


def _entries(page: str, files: dict[str, str]) -> Iterator[dict[str, Any]]:
    if page.endswith("/"):
        name = page.rstrip("/")
        inside = [one for one in files if one.startswith(page) and one.endswith(".md")]
        pages: list[Any] = [{heading(ROOT / files[one]): one} for one in inside]
        yield {FOLDERS[name]: [f"{page}index.md", *pages]}
    elif page in files:
        yield {"Inflight" if page == "index.md" else heading(ROOT / files[page]): page}
