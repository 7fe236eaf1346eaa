"""The registry: whole versions only, nothing but what is named, safe under several savers."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from machine_learning_engineering.core import files as durable
from machine_learning_engineering.drift.binning import reference_profile
from machine_learning_engineering.registry.manifest import CorruptModel, Lineage, ModelNotFound, RegistryError
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.storage import local


@pytest.fixture
def registry(tmp_path) -> Registry:
    return Registry(tmp_path / "registry")


def save(registry: Registry, model, r2: float = 0.9) -> str:
    return registry.save(model, metrics={"r2": r2}, training_data_sha256="ab" * 32, seed=1, params={"rows_trained": 40})


def test_a_saved_model_answers_as_before(registry, doubler, doubler_class):
    version = save(registry, doubler)
    registry.promote("doubler", version)
    opened = registry.open("doubler", model_class=doubler_class)
    rows = [opened.decode(b'{"number": 3}')]
    assert opened.predict(rows) == doubler.predict(rows)
    assert opened.version == doubler.version == version == "v1"


def test_the_manifest_tells_where_a_version_comes_from(registry, doubler):
    manifest = registry.manifest("doubler", save(registry, doubler))
    path = registry.path / "doubler" / "v1" / "model.skops"
    assert manifest.files["model.skops"].size == path.stat().st_size
    assert manifest.metrics == {"r2": 0.9}
    assert manifest.training_data_sha256 == "ab" * 32
    assert manifest.features_schema == doubler.schema()
    assert manifest.params == {"rows_trained": 40}


def test_versions_and_champions_are_listed(registry, doubler):
    assert (registry.models(), registry.versions("doubler"), registry.champions()) == ([], [], {})
    for _ in range(11):
        save(registry, doubler)
    assert registry.versions("doubler") == [f"v{number}" for number in range(1, 12)]
    assert (registry.models(), registry.champions()) == (["doubler"], {})
    registry.promote("doubler", "v10")
    assert registry.champions() == {"doubler": "v10"}
    registry.promote("doubler", "v2")
    assert registry.resolve("doubler") == "v2"


def test_a_model_that_is_not_fitted_is_not_saved(registry, doubler_class):
    with pytest.raises(RegistryError, match=r"`doubler` is not fitted"):
        save(registry, doubler_class())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_metric_that_is_no_finite_number_is_refused_and_nothing_is_saved(registry, doubler, value):
    """JSON would hold a null in its place, and nobody could read the manifest again."""
    with pytest.raises(RegistryError, match=r"was not saved, a metric is not finite: r2 \(-?(nan|inf)\); see"):
        save(registry, doubler, r2=value)
    assert registry.versions("doubler") == []


def test_metrics_of_numpy_are_kept_as_numbers(registry, doubler):
    version = save(registry, doubler, r2=np.float32(0.5))
    assert registry.manifest("doubler", version).metrics == {"r2": 0.5}


@pytest.mark.parametrize("name", ["../doubler", "/etc", "", ".", "a/b", "A", "a\0b", "x" * 200, "doubler\n"])
def test_a_name_that_leaves_the_folder_is_refused(registry, doubler_class, name):
    with pytest.raises(RegistryError, match="is not the name of a model"):
        registry.open(name, model_class=doubler_class)


@pytest.mark.parametrize("version", ["v2", "../doubler/v1", "v01", "", "v1/../v1", "v1\n"])
def test_a_version_that_does_not_exist_is_refused(registry, doubler, doubler_class, version):
    save(registry, doubler)
    with pytest.raises(ModelNotFound, match=r"there are: v1\): see inflight models list"):
        registry.open("doubler", version, model_class=doubler_class)
    with pytest.raises(ModelNotFound):
        registry.promote("doubler", version)


def test_an_alias_that_points_outside_is_refused(registry, doubler, doubler_class):
    save(registry, doubler)
    (registry.path / "doubler" / "aliases.json").write_text('{"champion": "../other/v1"}')
    with pytest.raises(ModelNotFound):
        registry.open("doubler", model_class=doubler_class)


@pytest.mark.parametrize("step", ["write", "sync"])
def test_a_crash_before_the_rename_leaves_nothing_visible(registry, doubler, monkeypatch, step):
    class Crash(BaseException):
        pass

    def crash(*arguments):
        raise Crash

    monkeypatch.setattr(durable, step, crash)
    # As after kill -9: nothing is tidied up.
    monkeypatch.setattr(local.shutil, "rmtree", lambda *arguments, **options: None)
    with pytest.raises(Crash):
        save(registry, doubler)
    monkeypatch.undo()
    assert (registry.models(), registry.versions("doubler")) == ([], [])
    assert save(registry, doubler) == "v1"


def test_a_full_disk_while_promoting_leaves_the_champion(registry, doubler, monkeypatch):
    save(registry, doubler)
    save(registry, doubler)
    registry.promote("doubler", "v1")

    def full(path: Path, content: bytes) -> None:
        path.write_bytes(content[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "write", full)
    with pytest.raises(OSError, match="No space left"):
        registry.promote("doubler", "v2")
    assert registry.champions() == {"doubler": "v1"}
    assert not list((registry.path / "doubler").glob(".partial*"))


def test_savers_in_threads_get_a_version_each(registry, doubler_class, doubler):
    def save_one(_: int) -> str:
        model = doubler_class()
        model.estimator = doubler.estimator
        return save(registry, model)

    with ThreadPoolExecutor(8) as executor:
        versions = list(executor.map(save_one, range(24)))
    assert sorted(versions) == sorted(f"v{number}" for number in range(1, 25))
    for version in versions:
        assert registry.open("doubler", version, model_class=doubler_class).version == version


PROMOTE_OFTEN = """
import sys
from pathlib import Path
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.storage import local
for _ in range(20):
    with Registry(Path(sys.argv[1])).edit_aliases("doubler") as aliases:
        aliases[sys.argv[2]] = "v1"
        aliases["count"] = str(int(aliases.get("count", "0")) + 1)
"""


def test_changes_of_aliases_by_several_processes_are_all_kept(registry, doubler):
    save(registry, doubler)
    names = ["alias-0", "alias-1", "alias-2"]
    processes = [subprocess.Popen([sys.executable, "-c", PROMOTE_OFTEN, registry.path, name]) for name in names]
    assert [process.wait(300) for process in processes] == [0, 0, 0]
    assert registry.aliases("doubler") == dict.fromkeys(names, "v1") | {"count": "60"}


# --- what is known of a version --------------------------------------------------------------------------------------


def test_a_profile_is_kept_with_the_version_and_verified(registry, doubler):
    rows = [doubler.decode(b'{"number": %d}' % number) for number in range(20)]
    profile = reference_profile(doubler, rows, doubler.predict(rows), [2.0 * number for number in range(20)])
    version = registry.save(doubler, metrics={"r2": 1.0}, training_data_sha256="", seed=1, profile=profile)
    assert registry.profile("doubler", version) == profile
    assert set(registry.verify("doubler", version).files) == {"model.skops", "profile.json"}
    path = registry.path / "doubler" / version / "profile.json"
    path.write_bytes(path.read_bytes().replace(b"20", b"21", 1))
    with pytest.raises(CorruptModel, match=r"profile\.json of model `doubler` v1 has sha256"):
        registry.profile("doubler", version)
    with pytest.raises(CorruptModel, match=r"profile\.json"):
        registry.promote("doubler", version)


def test_a_version_without_a_profile_has_none(registry, doubler):
    assert registry.profile("doubler", save(registry, doubler)) is None


def test_lineage_is_kept_and_the_parent_is_the_champion_of_the_moment(registry, doubler):
    lineage = Lineage("run-1", {"silver-2026": "ab" * 32})
    options = {"metrics": {"r2": 1.0}, "training_data_sha256": "", "seed": 1, "lineage": lineage}
    registry.promote("doubler", registry.save(doubler, **options))
    registry.save(doubler, **options)
    assert registry.manifest("doubler", "v1").lineage == lineage
    assert registry.manifest("doubler", "v2").lineage == Lineage("run-1", {"silver-2026": "ab" * 32}, "v1")


def test_a_manifest_from_before_there_was_lineage_is_read(registry, doubler, doubler_class):
    save(registry, doubler)
    path = registry.path / "doubler" / "v1" / "manifest.json"
    manifest = json.loads(path.read_bytes())
    del manifest["lineage"]
    path.write_text(json.dumps(manifest))
    assert registry.open("doubler", "v1", model_class=doubler_class).version == "v1"
    assert registry.manifest("doubler", "v1").lineage == Lineage()
