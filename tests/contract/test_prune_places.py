"""`inflight models prune` over layers, history and registry in folders and behind URLs: the same goes and stays."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from inflight.settings import Settings
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.storage.location import parse_place
from machine_learning_engineering.storage.opening import open_store
from machine_learning_engineering.training import prune as pruning
from machine_learning_engineering.training.prune import prune
from tests.contract.test_registry_places import save
from tests.support.object_store import S3Server


@pytest.fixture(params=["folder", "s3"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    base = str(tmp_path / "targets")
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3")
        base = server.new_bucket()
    return Settings(
        _env_file=None,  # type: ignore[call-arg]
        home=tmp_path / "home",
        registry=parse_place(f"{base}/registry"),
        train_data_target=parse_place(f"{base}/layers"),
        train_models_target=parse_place(f"{base}/history"),
    )


def test_what_is_old_goes_and_what_has_an_alias_stays(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = open_store(settings.layers_dir)
    layers.write_if_absent("line/gold/1.parquet", b"123")
    layers.write_if_absent("raw/abc/data.csv", b"12345")
    history, registry = Registry(settings.history_dir), Registry(settings.registry_dir)
    for one in (history, registry):
        save(one)
        save(one)
        one.promote("line", "v1")
    assert prune(settings, datetime.now(UTC) - timedelta(hours=1)).bytes == 0
    later = datetime.now(UTC) + timedelta(hours=1)
    dry = prune(settings, later, dry_run=True)
    assert (dry.layers, dry.raw_files, dry.history_versions, dry.leftovers) == (1, 1, 1, 0)
    assert dry.bytes > 8
    assert prune(settings, later) == dry
    assert list(layers.files("")) == []
    assert (history.versions("line"), registry.versions("line")) == (["v1"], ["v1", "v2"])
    assert prune(settings, later).bytes == 0
    # What a killed process left, once it is old enough.
    if not isinstance(settings.registry_dir, Path):
        registry.files.store.write_if_absent("line/v7/model.skops", b"123")
        assert prune(settings, later).leftovers == 0
        assert registry.versions("line") == ["v1", "v2"]
        monkeypatch.setattr(pruning, "LEFTOVER_SECONDS", -60.0)
        assert prune(settings, later).leftovers == 1
        assert save(registry) == "v3"


def test_a_history_that_is_the_registry_stays(settings: Settings) -> None:
    same = settings.model_copy(update={"train_models_target": settings.registry})
    registry = Registry(same.registry_dir)
    save(registry)
    assert prune(same, datetime.now(UTC) + timedelta(hours=1)).history_versions == 0
    assert registry.versions("line") == ["v1"]
