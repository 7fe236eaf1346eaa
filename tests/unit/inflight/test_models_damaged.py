"""`inflight models` on a registry with a damaged file: what is well is shown, and the fix that is named works."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import Result
from sklearn.linear_model import LinearRegression
from typer.testing import CliRunner

import inflight.adapters.promotions
from inflight.cli import app
from inflight.settings import load_settings
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.sdk import MLEModel
from model import catalog


class Number(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    number: float


class Line(MLEModel):
    name = "line"
    Features = Number
    Prediction = Number
    primary_metric = "r2"

    def new_estimator(self, seed: int) -> Any:
        return LinearRegression()

    def build_inputs(self, rows: Any) -> Any:
        return np.array([[row.number] for row in rows])


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """With v1, the champion, and v2."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INFLIGHT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(catalog, "discover", lambda: catalog.Catalog({"line": Line}, {}))
    monkeypatch.setattr(inflight.adapters.promotions, "announce_champion", lambda *_, **__: None)
    load_settings.cache_clear()
    found = Registry(load_settings().registry_dir)
    line = Line()
    line.fit([Number(1.0), Number(2.0)], [2.0, 4.0], seed=1)
    for _ in range(2):
        found.save(line, metrics={"r2": 0.9}, training_data_sha256="ab" * 32, seed=1)
    found.promote("line", "v1")
    yield found
    load_settings.cache_clear()


@pytest.fixture
def run(registry: Registry) -> Callable[..., Result]:
    return lambda *arguments: CliRunner().invoke(app, ["models", *arguments])


def test_a_damaged_version_is_named_and_the_others_are_listed(registry: Registry, run: Callable[..., Result]) -> None:
    manifest = registry.path / "line" / "v2" / "manifest.json"
    manifest.write_text("{bad")
    done = run("list", "--json")
    assert done.exit_code == 1
    assert [(one["version"], one["champion"]) for one in json.loads(done.stdout)] == [("v1", True)]
    assert f"restore {manifest}, or move its folder away" in done.stderr


@pytest.mark.parametrize("damage", [b"bad", b'{"aliases": {"champion": "v\xff1"}, "history": []}'])
def test_damaged_aliases_are_named_and_a_promotion_makes_them_anew(
    registry: Registry, run: Callable[..., Result], damage: bytes
) -> None:
    (registry.path / "line" / "aliases.json").write_bytes(damage)
    listed = run("list", "--json")
    assert (listed.exit_code, len(json.loads(listed.stdout))) == (1, 2)
    refused = run("promote", "line")
    assert refused.exit_code == 1
    assert "promote a version, such as line:v1, with inflight models promote" in refused.stderr
    promoted = run("promote", "line:v2", "--json")
    assert promoted.exit_code == 0
    assert json.loads(promoted.stdout)["version"] == "v2"
    assert registry.champions() == {"line": "v2"}
    assert run("list").exit_code == 0
