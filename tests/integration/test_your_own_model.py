"""docs/your_own_model.md, followed word for word: its files make a package that Inflight checks, finds and trains."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "your_own_model.md").read_text()
FILES = re.findall(r"^`([\w./]+)`\n\n```(?:python|toml)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def run(*command: str | Path, **environment: str) -> str:
    """What a program prints; it has to succeed."""
    done = subprocess.run(
        [str(part) for part in command],
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3_000:]}\n{done.stderr[-3_000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the page."""
    folder = tmp_path_factory.mktemp("iris-model")
    for name, content in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


@pytest.fixture(scope="module")
def beside(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, installed into a folder beside the product's environment."""
    folder = tmp_path_factory.mktemp("beside")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    run(*pip, "--root-user-action=ignore", "--target", folder, project)
    return folder


def test_the_page_has_the_files_of_a_package() -> None:
    assert [name for name, _ in FILES] == ["iris_model/__init__.py", "pyproject.toml", "tests/test_iris.py"]


def test_its_model_keeps_the_contract(project: Path, beside: Path) -> None:
    plain = ["-q", "-p", "no:cacheprovider", "--rootdir", project, "-c", project / "pyproject.toml"]
    said = run(sys.executable, "-m", "pytest", *plain, project / "tests", PYTHONPATH=str(beside))
    assert re.search(r"\b1\d passed", said) or re.search(r"\b[2-9]\d passed", said), said
    assert "skipped" not in said


def test_its_model_is_found_and_trained(beside: Path, tmp_path: Path) -> None:
    home = {"PYTHONPATH": str(beside), "INFLIGHT_HOME": str(tmp_path / "home")}
    [trained] = json.loads(run(sys.executable, "-m", "inflight.cli", "train", "iris", "--json", **home))
    assert (trained["model"], trained["version"], trained["promoted"]) == ("iris", "v1", True)
    assert trained["metrics"]["accuracy"] >= 0.9


def test_the_commands_of_the_page_exist() -> None:
    """Each `inflight` command, with its options."""
    used = [line.split() for line in PAGE.splitlines() if line.startswith("inflight ")]
    assert len(used) >= 6
    for _, *words in used:
        name = words[:2] if words[0] == "features" else words[:1]
        help_text = run(sys.executable, "-m", "inflight.cli", *name, "--help", COLUMNS="200", NO_COLOR="1")
        for option in (word for word in words if word.startswith("-")):
            assert option in help_text, (words, option)
