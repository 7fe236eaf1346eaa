"""The registry: whole versions only, nothing opened that was not saved, safe under several savers."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from machine_learning_engineering import durable
from machine_learning_engineering.profile import reference_profile
from machine_learning_engineering.registry import (
    CorruptModel,
    IncompatibleModel,
    Lineage,
    ModelNotFound,
    Registry,
    RegistryError,
    version_files,
)


@pytest.fixture
def registry(tmp_path) -> Registry:
    return Registry(tmp_path / "registry")


def save(registry: Registry, model, r2: float = 0.9) -> str:
    return registry.save(model, metrics={"r2": r2}, training_data_sha256="ab" * 32, seed=1, params={"rows_trained": 40})


def never_open(*arguments, **options):
    raise AssertionError("the file was opened")


@pytest.fixture
def skops_never_reads(monkeypatch):
    import skops.io

    monkeypatch.setattr(skops.io, "loads", never_open)
    monkeypatch.setattr(skops.io, "get_untrusted_types", never_open)


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


@pytest.mark.parametrize("position", [0, 100, -1])
def test_one_changed_byte_is_found_before_the_file_is_opened(
    registry, doubler, doubler_class, skops_never_reads_later, position
):
    save(registry, doubler)
    path = registry.path / "doubler" / "v1" / "model.skops"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    skops_never_reads_later()
    with pytest.raises(CorruptModel, match=r"model\.skops of model `doubler` v1 has sha256"):
        registry.open("doubler", "v1", model_class=doubler_class)


@pytest.fixture
def skops_never_reads_later(request):
    return lambda: request.getfixturevalue("skops_never_reads")


def test_a_file_of_another_version_is_not_opened(registry, doubler, doubler_class, skops_never_reads_later):
    save(registry, doubler)
    doubler.estimator.coef_ = doubler.estimator.coef_ * 2
    save(registry, doubler)
    folder = registry.path / "doubler"
    shutil.copy(folder / "v2" / "model.skops", folder / "v1" / "model.skops")
    skops_never_reads_later()
    with pytest.raises(CorruptModel, match=r"it was not opened"):
        registry.open("doubler", "v1", model_class=doubler_class)


def test_a_folder_of_another_version_is_not_opened(registry, doubler, doubler_class, skops_never_reads_later):
    save(registry, doubler)
    folder = registry.path / "doubler"
    shutil.copytree(folder / "v1", folder / "v2")
    skops_never_reads_later()
    with pytest.raises(CorruptModel, match=r"belongs to model `doubler` v1"):
        registry.open("doubler", "v2", model_class=doubler_class)


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff", b'{"name": 1}'])
def test_a_damaged_manifest_is_an_error_that_names_it(registry, doubler, doubler_class, damage):
    save(registry, doubler)
    (registry.path / "doubler" / "v1" / "manifest.json").write_bytes(damage)
    with pytest.raises(CorruptModel, match=r"manifest of model `doubler` v1"):
        registry.open("doubler", "v1", model_class=doubler_class)


def test_a_missing_file_is_an_error_that_names_it(registry, doubler, doubler_class):
    save(registry, doubler)
    (registry.path / "doubler" / "v1" / "model.skops").unlink()
    with pytest.raises(CorruptModel, match=r"model\.skops of model `doubler` v1"):
        registry.open("doubler", "v1", model_class=doubler_class)


class Stranger:
    """A type that nobody trusts."""


def replace_estimator(registry: Registry, content: bytes) -> None:
    """Put other bytes into v1 with a manifest that vouches for them, as an attacker with access would."""
    import hashlib

    folder = registry.path / "doubler" / "v1"
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"]["model.skops"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "model.skops").write_bytes(content)


def test_an_unknown_type_is_never_built(registry, doubler, doubler_class, monkeypatch):
    import skops.io

    save(registry, doubler)
    replace_estimator(registry, skops.io.dumps({"estimator": doubler.estimator, "surprise": Stranger()}))
    monkeypatch.setattr(skops.io, "loads", never_open)
    with pytest.raises(CorruptModel, match=r"types that are not trusted: .*Stranger"):
        registry.open("doubler", "v1", model_class=doubler_class)


def test_a_pickle_is_never_opened(registry, doubler, doubler_class):
    import pickle

    save(registry, doubler)
    replace_estimator(registry, pickle.dumps(doubler.estimator))
    with pytest.raises(CorruptModel, match=r"not a skops file"):
        registry.open("doubler", "v1", model_class=doubler_class)


def test_a_version_that_could_not_be_opened_is_not_saved(registry, doubler):
    doubler.estimator.surprise = Stranger()
    with pytest.raises(CorruptModel, match=r"not trusted: .*Stranger.*Doubler\.trusted_types"):
        save(registry, doubler)
    assert registry.versions("doubler") == []


def test_a_model_of_another_schema_is_not_opened(registry, doubler, doubler_class):
    save(registry, doubler)
    other = type("Other", (doubler_class,), {"Features": msgspec.defstruct("NumberFeatures", [("number", float)])})
    with pytest.raises(IncompatibleModel, match=r"inflight train doubler"):
        registry.open("doubler", "v1", model_class=other)


def test_a_reworded_description_does_not_matter(registry, doubler, doubler_class):
    save(registry, doubler)
    path = registry.path / "doubler" / "v1" / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["features_schema"]["$defs"]["NumberFeatures"]["properties"]["number"]["description"] = "A number."
    path.write_text(json.dumps(manifest))
    assert registry.open("doubler", "v1", model_class=doubler_class).version == "v1"


def test_a_model_of_another_scikit_learn_is_not_opened(registry, doubler, doubler_class):
    save(registry, doubler)
    path = registry.path / "doubler" / "v1" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"scikit_learn_version": "0.24.2"}))
    with pytest.raises(IncompatibleModel, match=r"0\.24\.2"):
        registry.open("doubler", "v1", model_class=doubler_class)


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


@pytest.mark.parametrize("step", ["write", "sync_folder"])
def test_a_crash_before_the_rename_leaves_nothing_visible(registry, doubler, monkeypatch, step):
    class Crash(BaseException):
        pass

    def crash(*arguments):
        raise Crash

    monkeypatch.setattr(durable, step, crash)
    # As after kill -9: nothing is tidied up.
    monkeypatch.setattr(version_files.shutil, "rmtree", lambda *arguments, **options: None)
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
from machine_learning_engineering.registry import Registry
for _ in range(20):
    with Registry(Path(sys.argv[1])).promoting("doubler") as aliases:
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
