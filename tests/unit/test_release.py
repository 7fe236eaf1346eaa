"""The distributions: names, versions, extras, contents, the manual page. `make release-check` builds and uses them."""

import ast
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from deploy.release import contents
from deploy.release.build import Built, members
from deploy.release.man import manual_page
from inflight.cli import app
from machine_learning_engineering.core import extras
from machine_learning_engineering.core.version import __version__

ROOT = Path(__file__).parents[2]
SDK = ROOT / "mle_package"
PRODUCT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ALONE = tomllib.loads((SDK / "pyproject.toml").read_text())["project"]
CODE = ("inflight", "model", "monitoring", "producers", "stream_app", "mle_package/machine_learning_engineering")


def test_every_place_has_the_same_version() -> None:
    assert {PRODUCT["version"], ALONE["version"]} == {__version__}
    said = CliRunner().invoke(app, ["--version"])
    assert (said.exit_code, said.output) == (0, f"inflight {__version__}\n")
    for file in ("deploy/docker/Dockerfile", "deploy/docker/image.py", "docker-compose.yml", "ds/docker/Dockerfile"):
        assert __version__ in (ROOT / file).read_text(), file


def test_the_product_has_what_the_sdk_in_it_needs() -> None:
    """And each extra of the SDK, with the same packages; the extra `kafka` is a part of the product."""
    assert set(ALONE["dependencies"]) <= set(PRODUCT["dependencies"])
    alone, product = ALONE["optional-dependencies"], PRODUCT["optional-dependencies"]
    assert set(alone.pop("kafka")) <= set(PRODUCT["dependencies"])
    for extra, packages in alone.items():
        assert set(packages) <= set(product[extra]), extra


def named_extras(folder: str) -> Iterator[tuple[Path, str]]:
    """The extras that messages tell a user to install."""
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "require",
                "check_installed",
                "install_command",
            ):
                found = node.args[-1]
                if isinstance(found, ast.Constant):
                    yield path, found.value


def test_messages_name_extras_that_exist() -> None:
    found = {extra for folder in CODE for _, extra in named_extras(folder)}
    assert found >= {"archive", "training", "parquet"}
    assert found <= PRODUCT["optional-dependencies"].keys()
    assert {extra for _, extra in named_extras(CODE[-1])} <= ALONE["optional-dependencies"].keys() | {"avro"}


class Installed:
    """A distribution as an installer leaves it."""

    def __init__(self, origin: str | None) -> None:
        self._origin = origin

    def read_text(self, name: str) -> str | None:
        return self._origin if name == "direct_url.json" else None


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (None, "pip install 'inflight-streaming[archive]'"),
        ('{"url": "file:///home/me/inflight", "dir_info": {}}', "pip install '.[archive]' in the repository"),
        (
            '{"url": "file:///wheels/a.whl", "archive_info": {}}',
            "pip install 'inflight-streaming[archive] @ file:///wheels/a.whl'",
        ),
    ],
)
def test_an_extra_is_installed_from_where_the_product_came(
    origin: str | None, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name only if this copy came by name: otherwise nobody has said that the name on the index is ours."""
    monkeypatch.setattr(extras.Distribution, "from_name", lambda _: Installed(origin))
    assert extras.install_command("archive") == command


def test_the_sdk_alone_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def from_name(name: str) -> Installed:
        if name != "inflight-streaming-sdk":
            raise PackageNotFoundError(name)
        return Installed(None)

    monkeypatch.setattr(extras.Distribution, "from_name", from_name)
    assert extras.install_command("pandas") == "pip install 'inflight-streaming-sdk[pandas]'"


def test_a_wheels_rooms_are_seen_by_our_processes_alone(tmp_path: Path) -> None:
    """Before a package of the same name, and only after `inflight` was imported."""
    rooms = tmp_path / "inflight" / "rooms" / "model"
    rooms.mkdir(parents=True)
    for name in ("__init__.py", "search_path.py"):
        shutil.copy(ROOT / "inflight" / name, tmp_path / "inflight")
    (rooms / "__init__.py").write_text("whose = 'ours'")
    (tmp_path / "model.py").write_text("whose = 'theirs'")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {{}}import model; print(model.whose)"

    def said(first: str) -> str:
        command = [sys.executable, "-S", "-I", "-c", code.format(first)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert said("") == "theirs"
    assert said("import inflight; ") == "ours"


def wheel(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


METADATA = """Metadata-Version: 2.4
Name: inflight-streaming
Version: 0.1.0
Summary: a summary
License-Expression: Apache-2.0
Requires-Python: >=3.11
Requires-Dist: numpy>=2

A description.
"""


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"model/__init__.py": ""}, "has model/__init__.py, which is not tracked"),
        ({"inflight/cli.py": None}, "lacks inflight/cli.py"),
        ({"x.dist-info/METADATA": METADATA.replace("numpy>=2", "machine-learning-engineering")}, "could be anybody's"),
        ({"x.dist-info/METADATA": METADATA.replace("License-Expression: Apache-2.0\n", "")}, "license"),
        ({"x.dist-info/METADATA": METADATA.replace("Version: 0.1.0", "Version: newest")}, "version"),
        ({"inflight/cli.py": f"HOME = '{ROOT}/x'"}, "names a folder of this machine"),
        ({"x.data/data/share/man/man1/inflight.1": None}, "has no manual page"),
    ],
)
def test_a_distribution_that_is_not_as_it_should_be_is_refused(
    files: dict[str, str | None], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracked = ["inflight/cli.py", "model/titanic/model.py", f"{contents.SDK}__init__.py", "tests/test_it.py"]
    monkeypatch.setattr(contents, "tracked", lambda: tracked)
    sdk = {"machine_learning_engineering/__init__.py": ""}
    good = sdk | {
        "inflight/cli.py": "",
        "inflight/rooms/model/titanic/model.py": "",
        "x.dist-info/METADATA": METADATA,
        "x.data/data/share/man/man1/inflight.1": ".TH",
    }
    alone = wheel(tmp_path / "sdk.whl", sdk)

    def found(files: dict[str, Any]) -> list[str]:
        product = wheel(tmp_path / "product.whl", {name: text for name, text in files.items() if text is not None})
        return list(contents.problems(Built(alone, product, alone, alone, alone)))

    assert found(good) == []
    assert problem.lower() in "\n".join(found(good | files)).lower()
    assert "inflight/cli.py" in members(tmp_path / "product.whl") or files.get("inflight/cli.py", "") is None


def test_the_manual_page_has_every_command_and_option() -> None:
    command: Any = typer.main.get_command(app)
    page = manual_page(command, __version__, 1_700_000_000)
    assert page.startswith('.TH INFLIGHT 1 "2023-11-14" "Inflight 0.1.0" "User Commands"\n')
    for name, found in command.commands.items():
        assert (f'.SS "inflight {name}' in page) is not found.hidden, name
    for option in ("\\-\\-version", "\\-\\-stack", "\\-\\-json"):
        assert f"\\fB{option}\\fR" in page
    known = {".TH", ".SH", ".SS", ".PP", ".TP", ".B"}
    assert {line.split()[0] for line in page.splitlines() if line.startswith(".") and line != "."} <= known
    assert "[bold]" not in page
