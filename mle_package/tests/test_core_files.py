"""Files that hold requests and labels: for their owner alone, and never through a link."""

import os
import stat
from datetime import UTC, datetime

import pytest

from machine_learning_engineering.core import files, sqlite
from machine_learning_engineering.feature_store.examples import build, examples_folder
from machine_learning_engineering.feature_store.store import FeatureStore
from machine_learning_engineering.prediction_log.predict import predict_with_logging, replay_spool
from machine_learning_engineering.prediction_log.sqlite import SqlitePredictionLog
from machine_learning_engineering.registry.registry import Registry


@pytest.fixture(autouse=True)
def open_umask():
    """The most careless umask."""
    before = os.umask(0)
    yield
    os.umask(before)


def assert_private(folder):
    found = list(folder.rglob("*"))
    assert found
    open_ones = {str(path): oct(path.stat().st_mode) for path in found if stat.S_IMODE(path.stat().st_mode) & 0o077}
    assert not open_ones


def test_what_is_written_is_private_with_its_folders(tmp_path):
    home = tmp_path / "home"
    files.make_folder(home / "a" / "b")
    files.write(home / "a" / "b" / "written", b"x")
    files.replace(home / "a" / "replaced", b"x")
    files.append(home / "c" / "d" / "appended", b"x\n")
    with files.replacing(home / "a" / "streamed") as partial:
        partial.write_bytes(b"x")
    with files.lock(home / "locked"):
        pass
    connection = sqlite.connect(home / "db" / "x.sqlite")
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    assert_private(home)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_the_stores_are_private(tmp_path, doubler, doubler_class):
    pytest.importorskip("pyarrow")
    home = tmp_path / "home"
    registry = Registry(home / "registry")
    registry.save(doubler, metrics={"r2": 1.0}, training_data_sha256="", seed=1)
    registry.promote("doubler", "v1")
    with SqlitePredictionLog(home / "predictions.sqlite") as log, FeatureStore(home / "features") as store:
        predict_with_logging(doubler, [b'{"number":1}'], log, spool_dir=home / "spool", request_ids=["r1"])
        log.label("r1", 2.0)
        build(store, doubler_class, log.read("doubler"), [], examples_folder(store, "doubler"))
    assert_private(home)


def test_a_training_and_a_retraining_are_private(settings, doubler_class):
    for extra in ("pyarrow", "optuna"):
        pytest.importorskip(extra)
    from machine_learning_engineering.retraining.decision import Decision, write
    from machine_learning_engineering.training.pipeline import run_training

    run_training(doubler_class, settings)
    decision = Decision(
        decision_id="d" * 32,
        model="doubler",
        decided_at=datetime(2026, 1, 1, tzinfo=UTC),
        significance=0.1,
        min_labelled=2,
        min_rows=1,
    )
    write(decision, settings.home / "retraining" / "doubler")
    assert_private(settings.home)


@pytest.mark.parametrize("exists", [True, False])
def test_no_file_is_written_or_emptied_through_a_link(tmp_path, doubler, exists):
    target = tmp_path / "target"
    if exists:
        target.write_text("mine\n")
    folder = tmp_path / "shared"
    folder.mkdir()
    for name in ("log.jsonl", ".lock", "new"):
        (folder / name).symlink_to(target)

    def lock():
        with files.lock(folder):
            pass

    for attempt in (
        lambda: files.append(folder / "log.jsonl", b"line\n"),
        lambda: files.write(folder / "new", b"x"),
        lock,
    ):
        with pytest.raises(OSError, match="a symbolic link is not followed: remove it"):
            attempt()
    if exists:
        with SqlitePredictionLog(tmp_path / "log.sqlite") as log, pytest.raises(OSError, match="a symbolic link"):
            replay_spool(log, folder)
        assert target.read_text() == "mine\n"
    else:
        assert not target.exists()
    files.replace(folder / "new", b"x")  # The link itself is replaced.
    assert not (folder / "new").is_symlink()
