"""Whole deployments, of a model that is trained once, over each test's own topics; and a shell to train in."""

import gc
import logging
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from inflight.settings import Settings
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.trial import Trials
from machine_learning_engineering.sdk import MLEModel
from machine_learning_engineering.training.quick import train
from model.catalog import available
from tests.support.deployment import Deployment
from tests.support.train_shell import Shell


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a home whose registry holds the diamonds champion, trained once in a session."""
    home = Settings(home=tmp_path_factory.mktemp("home"), _env_file=None)
    version = train(available()["diamonds"], home).version
    # It was predicted with just now: no worker needs to try it first.
    Trials(Registry(home.registry_dir), home.trials_dir).pass_("diamonds", version)
    return home


@pytest.fixture(scope="session")
def diamonds(models: Settings) -> MLEModel:
    """The champion as the workers open it."""
    return Registry(models.registry_dir).open("diamonds", model_class=available()["diamonds"])


@pytest.fixture(scope="session")
def all_models(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a home whose registry holds a champion of each model."""
    home = Settings(home=tmp_path_factory.mktemp("models"), _env_file=None, train_n_models=1)
    for model_class in available().values():
        train(model_class, home)
    return home


@pytest.fixture
def deployment(settings: Settings, models: Settings, diamonds: MLEModel) -> Iterator[Deployment]:
    """A deployment without any process yet, on topics of its own; what a test starts is ended after it."""
    with _deployed(settings, models, diamonds) as found:
        yield found


@pytest.fixture(scope="module")
def module_deployment(module_settings: Settings, models: Settings, diamonds: MLEModel) -> Iterator[Deployment]:
    """As `deployment`, for all tests of a file."""
    with _deployed(module_settings, models, diamonds) as found:
        yield found


@contextmanager
def _deployed(settings: Settings, models: Settings, diamonds: MLEModel) -> Iterator[Deployment]:
    _keep_only_models(models)
    log = logging.getLogger("kafka")
    level = log.level
    # Its records about a broker that is away on purpose hold tracebacks, and so the sockets of failed connections.
    log.setLevel(logging.CRITICAL + 1)
    try:
        with Deployment(settings, models, diamonds) as found:
            yield found
    finally:
        log.setLevel(level)
        # kafka-python drops those sockets without closing them: let them be found here.
        gc.collect()


def _keep_only_models(models: Settings) -> None:
    """Remove what an earlier test left in the home of the session: its feature store, its journals."""
    kept = (models.registry_dir, models.trials_dir, models.data_dir)
    for path in set(models.home.iterdir()) - set(kept):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@pytest.fixture
def chance() -> random.Random:
    """Random numbers from a seed that is printed; INFLIGHT_TEST_SEED repeats a run."""
    seed = int(os.environ.get("INFLIGHT_TEST_SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"seed: INFLIGHT_TEST_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """To run `inflight train` in, with a home of its own."""
    return Shell(tmp_path)


@pytest.fixture(scope="session")
def trained_home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A home with a champion of the Titanic, and its version."""
    shell = Shell(tmp_path_factory.mktemp("trained"))
    [entry] = shell.entries("titanic", "-n", 1)
    assert entry["promoted"]
    return shell.home, entry["version"]


@pytest.fixture
def champion(shell: Shell, trained_home: tuple[Path, str]) -> str:
    """The version of a champion in the shell's home that a fault must not touch."""
    home, version = trained_home
    shutil.copytree(home, shell.home)
    return version
