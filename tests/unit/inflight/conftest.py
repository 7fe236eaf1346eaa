"""A home of its own with versions of `Line`, for tests of the commands."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import inflight.adapters.promotions
from inflight.settings import Settings, load_settings
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.training.quick import train
from model import catalog
from tests.support.line_model import Line, some


@pytest.fixture
def line_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INFLIGHT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(catalog, "discover", lambda: catalog.Catalog({"line": Line}, {}))
    load_settings.cache_clear()
    yield load_settings()
    load_settings.cache_clear()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str | None]]:
    """What workers were told: model, version, previous version."""
    calls: list[tuple[str, str, str | None]] = []
    monkeypatch.setattr(
        inflight.adapters.promotions,
        "announce_champion",
        lambda settings, model, version, *, reason, previous: calls.append((model, version, previous)),
    )
    return calls


@pytest.fixture
def line_registry(line_settings: Settings, told: list[tuple[str, str, str | None]]) -> Registry:
    """v1 was champion, v2 is; v3 is the challenger."""
    found = Registry(line_settings.registry_dir)
    for factor in (1.0, 2.0, 3.0):
        train(Line, line_settings, examples=some(factor), promote=False)
    found.promote("line", "v1", reason="the first")
    found.promote("line", "v2")
    found.promote("line", "v3", alias="challenger")
    return found


@pytest.fixture(autouse=True)
def logging_of_its_own() -> Iterator[None]:
    """A command that is called in the process of the tests sets up its log, on a stream that ends with the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in [one for one in root.handlers if one not in handlers]:
        root.removeHandler(handler)
    for handler in [one for one in handlers if one not in root.handlers]:
        root.addHandler(handler)
    root.setLevel(level)
