"""What contract suites need: every model trained once, on its whole dataset; search nodes by their kind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inflight.stack.maven import missing_tools
from machine_learning_engineering.registry import Registry
from machine_learning_engineering.settings import Settings
from machine_learning_engineering.training import TrainingRun, train
from model import available


@pytest.fixture(scope="session")
def training_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a home that lasts for the session; wheels come from the user's cache."""
    home: Path = tmp_path_factory.mktemp("models")
    return Settings(home=home, _env_file=None)


@pytest.fixture(scope="session")
def training_runs(training_settings: Settings) -> dict[str, TrainingRun]:
    """The first training of each model."""
    return {name: train(model_class, training_settings) for name, model_class in available().items()}


@pytest.fixture(scope="session")
def trained_registry(training_settings: Settings, training_runs: dict[str, TrainingRun]) -> Registry:
    """A registry that holds a champion of each model."""
    return Registry(training_settings.registry_dir)


@pytest.fixture
def search_url(nodes: Callable[[str, str], Any]) -> Callable[[str], str]:
    """`search_url("embedded" | "real")`: the session's search node of this kind; skips without Java and Maven."""

    def url(kind: str) -> str:
        if kind == "real" and (tools := missing_tools()):
            pytest.skip(f"no real node without {' and '.join(tools)}")
        found: str = nodes("search", kind).url
        return found

    return url
