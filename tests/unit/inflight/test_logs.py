"""The log that a command reads, by its name."""

from pathlib import Path

import pytest

from inflight.adapters.logs import DEPLOYMENT, open_log
from inflight.settings import Settings
from machine_learning_engineering.prediction_log.store import PredictionLogError
from machine_learning_engineering.testing.log_store_examples import example
from monitoring.archive.prediction_log import ArchivePredictionLog


def settings(home: Path, **given: str) -> Settings:
    return Settings(_env_file=None, home=home, **given)  # type: ignore[call-arg, arg-type]


def test_the_archive_is_a_log_by_its_name(tmp_path: Path) -> None:
    """That of the home, or the one that is set."""
    for given in (settings(tmp_path), settings(tmp_path, archive_url=f"sqlite:///{tmp_path}/other.sqlite")):
        with ArchivePredictionLog(given.archive_address) as archive:
            archive.append([example("r-1", "diamonds")])
        with open_log("archive", given) as log:
            assert [one.request_id for one in log.read("diamonds")] == ["r-1"]
    assert {path.name for path in tmp_path.glob("*.sqlite")} == {"archive.sqlite", "other.sqlite"}


def test_without_an_archive_it_says_how_to_get_one(tmp_path: Path) -> None:
    """And makes none."""
    with pytest.raises(PredictionLogError, match="run inflight archive"):
        open_log("archive", settings(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_none_names_the_logs(tmp_path: Path) -> None:
    with pytest.raises(PredictionLogError) as refused:
        open_log(str(tmp_path / "none"), settings(tmp_path))
    assert all(f"`{name}`" in str(refused.value) for name in DEPLOYMENT)
