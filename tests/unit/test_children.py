"""Programs that are started and packages that are named: none comes from the current folder or from a stranger."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("inflight", "model", "monitoring", "producers", "stream_app", "mle_package/machine_learning_engineering")
OURS = {"inflight", "inflight-streaming", "inflight-streaming-sdk", "machine-learning-engineering", "ds-package"}
"""Two of them are published by us, the first is another project's, the others anybody's."""
PUBLISHED = {"inflight-streaming", "inflight-streaming-sdk"}
INSTALL = re.compile(r"pip install((?:[^\S\n]+[^\s`),;|&]+)+)")


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.splitlines() if Path(name).suffix not in (".png", ".lock")]


def test_no_child_python_finds_modules_in_the_current_folder() -> None:
    """Option -P, or -I: with -m or -c the current folder comes first, and a `pip.py` there would run."""
    unsafe, found = [], 0
    for path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.List | ast.Tuple) and node.elts and ast.unparse(node.elts[0]) == "sys.executable":
                found += 1
                flag = node.elts[1] if len(node.elts) > 1 else None
                if not (isinstance(flag, ast.Constant) and flag.value in ("-P", "-I")):
                    unsafe.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert unsafe == []
    assert found >= 4


def test_python_is_started_in_no_other_way() -> None:
    """Or the test before would not see it."""
    for path, tree in sources():
        listed = {
            id(node.elts[0])
            for node in ast.walk(tree)
            if isinstance(node, ast.List | ast.Tuple) and node.elts and ast.unparse(node.elts[0]) == "sys.executable"
        }
        others = [
            node.lineno
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.executable" and id(node) not in listed
        ]
        assert others == [], path


def test_what_is_to_be_installed_by_name_is_not_anybodys() -> None:
    """A name that we use but do not publish is somebody else's on the package index."""
    lines = 0
    for path in tracked():
        for named in INSTALL.findall(path.read_text(encoding="utf-8", errors="ignore")):
            lines += 1
            names = {
                re.split(r"[\[=<>~!]", word.strip("'\"`.,)"))[0].lower().replace("_", "-") for word in named.split()
            }
            assert not names & (OURS - PUBLISHED), f"{path}: pip install{named} would look for it on the package index"
    assert lines >= 8


def test_no_package_of_ours_is_looked_for_on_the_index() -> None:
    """Neither by the product nor by a data scientist's package: the SDK is installed by its path."""
    page = (ROOT / "docs" / "your_own_model.md").read_text()
    texts = [(ROOT / name).read_text() for name in ("pyproject.toml", "ds/ds_package/pyproject.toml")]
    texts += re.findall(r"^`pyproject.toml`\n\n```toml\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert len(texts) == 3
    for text in texts:
        project = tomllib.loads(text)["project"]
        wanted = [*project["dependencies"], *chain(*project.get("optional-dependencies", {}).values())]
        names = {re.split(r"[\[=<>~!; ]", requirement)[0].lower().replace("_", "-") for requirement in wanted}
        assert not names & OURS
