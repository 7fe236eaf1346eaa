"""What trainings left on disk goes by age, and nothing else goes."""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.training.prune import PruneReport, prune

pytest.importorskip("pyarrow")
pytest.importorskip("optuna")

OLD = time.time() - 40 * 86_400


def age(path: Path) -> None:
    os.utime(path, (OLD, OLD))


@pytest.fixture
def home(settings, doubler_class, tmp_path):
    """An old training and a new one; and what a kill left of two files, one of them a moment ago."""
    from machine_learning_engineering.training.pipeline import run_training

    source = tmp_path / "old.csv"
    source.write_text("number,label\n" + "".join(f"{n},{2 * n}\n" for n in range(50)))
    run_training(doubler_class, settings, sources=[str(source)])
    records = settings.home / "retraining" / "doubler"
    records.mkdir(parents=True)
    (records / "old.json").write_text("{}")
    for path in settings.home.rglob("*"):
        age(path)
    run_training(doubler_class, settings)
    (records / "new.json").write_text("{}")
    saving = settings.registry_dir / "doubler" / ".saving-old"
    saving.mkdir()
    partial = settings.layers_dir / "doubler" / "gold" / ".partial-old"
    partial.write_bytes(b"x")
    for path in (saving, partial):
        age(path)
    (settings.home / "retraining" / "doubler" / ".partial-new").write_bytes(b"x")
    return settings.home


def files_of(home: Path) -> set[str]:
    return {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}


def run(settings, **options) -> PruneReport:
    return prune(settings, datetime.now(UTC) - timedelta(days=30), **options)


def test_what_is_old_goes_and_what_is_new_stays(settings, home):
    before = files_of(home)
    counted = run(settings, dry_run=True)
    assert files_of(home) == before
    assert run(settings) == counted
    assert counts(counted) == {"layers": 3, "raw": 1, "history": 1, "retraining": 1, "leftovers": 2}
    assert counted.bytes > 0
    left = files_of(home)
    assert {"retraining/doubler/new.json", "retraining/doubler/.partial-new"} <= left
    assert not any("raw/" in name or ".saving" in name or name.endswith((".partial-old", "old.json")) for name in left)
    assert sorted(Registry(settings.history_dir).versions("doubler")) == ["v2"]
    assert Registry(settings.registry_dir).versions("doubler") == ["v1", "v2"]
    assert {name for name in before if name.startswith("registry/") or "training-log" in name} <= left
    assert counts(run(settings)) == {"layers": 0, "raw": 0, "history": 0, "retraining": 0, "leftovers": 0}


def counts(report: PruneReport) -> dict[str, int]:
    return {
        "layers": report.layers,
        "raw": report.raw_files,
        "history": report.history_versions,
        "retraining": report.retraining_records,
        "leftovers": report.leftovers,
    }


def test_a_raw_file_that_was_used_again_stays(settings, home, doubler_class, tmp_path):
    from machine_learning_engineering.training.sources import collect

    collect(doubler_class, settings, [str(tmp_path / "old.csv")])
    assert run(settings).raw_files == 0


def test_a_version_of_the_history_with_an_alias_stays(settings, home):
    history = Registry(settings.history_dir)
    history.promote("doubler", "v1")
    assert run(settings).history_versions == 0


def test_a_history_that_is_the_registry_is_left_alone(settings, home):
    same = settings.model_copy(update={"train_models_target": settings.registry_dir})
    for path in settings.registry_dir.rglob("*"):
        age(path)
    run(same)
    assert Registry(settings.registry_dir).versions("doubler") == ["v1", "v2"]


def test_a_link_is_removed_and_not_what_it_leads_to(settings, home, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine").write_text("mine")
    link = settings.history_dir / "doubler" / ".saving-link"
    link.symlink_to(other)
    os.utime(link, (OLD, OLD), follow_symlinks=False)
    run(settings)
    assert not link.is_symlink()
    assert (other / "mine").read_text() == "mine"


def test_nothing_at_all_is_no_error(settings):
    assert run(settings).bytes == 0
