"""The site: each page is in one place of it, links hold, and a broken site is refused."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from docs.site import check, stage

ROOT = Path(__file__).parents[3]


def test_every_page_is_in_the_navigation_once() -> None:
    files = stage.sources()

    def pages(entries: list) -> list[str]:
        found = []
        for entry in entries:
            for one in [entry] if isinstance(entry, str) else entry.values():
                found += [one] if isinstance(one, str) else pages(one)
        return found

    named = pages(stage.nav(files))
    assert len(named) == len(set(named))
    assert set(named) == {page for page in files if page.endswith(".md")} | {
        f"{name}/index.md" for name in stage.FOLDERS
    }


def test_links_lead_to_pages_of_the_site_or_become_text() -> None:
    files = stage.sources()
    text = "[a](docs/drift.md#x) `[b](docs/drift.md)` [c](docs/decisions) [d](model/catalog.py) [e](#f) [g](https://h.org)\n"
    fenced = "```\n[a](docs/drift.md)\n```"
    expected = "[a](drift.md#x) `[b](docs/drift.md)` [c](decisions/index.md) d [e](#f) [g](https://h.org)\n"
    assert stage.with_links(text + fenced, "README.md", "index.md", files) == expected + fenced
    assert (
        stage.with_links("[a](../glossary.md)", "docs/decisions/x.md", "decisions/x.md", files) == "[a](../glossary.md)"
    )
    assert stage.with_links("![a](docs/pictures/x.gif)", "README.md", "index.md", files) == "a"


def test_a_page_that_nav_does_not_name_is_a_guide() -> None:
    files = {**stage.sources(), "new.md": "docs/topics.md"}
    (guides,) = [one["How-to guides"] for one in stage.nav(files) if "How-to guides" in one]
    assert {"Topics": "new.md"} in guides


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ('<a href="b.html#there">x</a><img src="data:image/png;base64,AA"><a href="https://x.org/a">y</a>', None),
        ('<a href="c.html">x</a>', "a.html: c.html leads nowhere"),
        ('<a href="b.html#gone">x</a>', "a.html: b.html#gone has no such anchor"),
        ('<img src="p.png">', "a.html: p.png leads nowhere"),
        ('<script src="https://cdn.example/x.js"></script>', "a.html: loads https://cdn.example/x.js"),
        ('<link rel="stylesheet" href="//fonts.example/x.css">', "a.html: loads //fonts.example/x.css"),
    ],
)
def test_a_site_is_refused_if_a_link_or_a_file_is_missing(page: str, problem: str | None, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(page)
    (tmp_path / "b.html").write_text('<h1 id="there">x</h1>')
    assert check.problems(tmp_path) == ([problem] if problem else [])


def test_a_style_that_loads_from_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("a { background: url(https://x.org/p.png) } b { background: url(data:x) }")
    assert check.problems(tmp_path) == ["a.css: loads https://x.org/p.png"]


def test_the_pages_are_staged_whole(tmp_path: Path) -> None:
    """With the lists of folders, the script of the search and no page that only the repository has."""
    stage.write(tmp_path)
    assert (tmp_path / "index.md").read_text().startswith("# Inflight")
    assert (tmp_path / "iframe-worker.js").is_file()
    assert "](0001-house.md)" in (tmp_path / "decisions" / "index.md").read_text()
    assert not (tmp_path / "site").exists()
    assert json.loads((tmp_path / "schemas" / "asyncapi.json").read_text())


def test_the_environment_of_the_site_is_locked_with_digests() -> None:
    pinned = [line for line in (ROOT / "docs.lock").read_text().splitlines() if "==" in line and line[0] != "#"]
    assert all(line.endswith("\\") for line in pinned)
    assert any(line.startswith("mkdocs-material==") for line in pinned)


def test_the_script_of_the_search_is_javascript() -> None:
    if shutil.which("node") is None:
        pytest.skip("no node")
    subprocess.run(["node", "--check", ROOT / "docs" / "site" / "worker.js"], check=True, timeout=120)
