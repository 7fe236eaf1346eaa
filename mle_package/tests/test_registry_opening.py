"""What the registry opens, and what it refuses before a byte of it is read: damage, strangers, other code."""

import json
import shutil
import sys
from types import ModuleType

import msgspec
import pytest
from sklearn.linear_model import LinearRegression

from machine_learning_engineering.registry.manifest import CorruptModel, IncompatibleModel
from machine_learning_engineering.registry.registry import Registry


@pytest.fixture
def registry(tmp_path) -> Registry:
    return Registry(tmp_path / "registry")


def save(registry: Registry, model) -> str:
    return registry.save(model, metrics={"r2": 0.9}, training_data_sha256="ab" * 32, seed=1)


def never_open(*arguments, **options):
    raise AssertionError("the file was opened")


@pytest.fixture
def skops_never_reads(monkeypatch):
    import skops.io

    monkeypatch.setattr(skops.io, "loads", never_open)
    monkeypatch.setattr(skops.io, "get_untrusted_types", never_open)


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


def test_an_estimator_whose_class_is_gone_is_an_error_that_names_the_fix(registry, doubler_class, monkeypatch):
    """Also under a digest that is right: it is the code that is another one."""
    steps = ModuleType("steps_that_change")
    steps.Line = type("Line", (LinearRegression,), {"__module__": steps.__name__})
    monkeypatch.setitem(sys.modules, steps.__name__, steps)
    monkeypatch.setattr(doubler_class, "trusted_types", frozenset({"steps_that_change.Line"}))
    model = doubler_class()
    model.estimator = steps.Line().fit([[1.0], [2.0]], [2.0, 4.0])
    save(registry, model)
    assert registry.open("doubler", "v1", model_class=doubler_class).estimator.coef_ == pytest.approx(2.0)
    del steps.Line
    with pytest.raises(CorruptModel, match=r"`doubler` v1 can't be opened \(AttributeError: .*Line") as raised:
        registry.open("doubler", "v1", model_class=doubler_class)
    assert "installed versions of the libraries may differ" in str(raised.value)
    assert str(raised.value).endswith("run inflight train doubler")


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


# --- what the installed libraries must be, what a file may do, and where it may be -----------------------------------


def change_manifest(registry: Registry, **changes) -> None:
    path = registry.path / "doubler" / "v1" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))


def test_the_libraries_that_a_file_needs_are_in_its_manifest(registry, doubler):
    import numpy as np

    save(registry, doubler)
    assert registry.manifest("doubler", "v1").libraries == {"numpy": np.__version__}


@pytest.mark.parametrize("libraries", [{"numpy": "1.26.4"}, {"xgboost": "1.0.0"}, {"no_such_library": "1.0"}])
def test_a_model_of_another_library_is_not_opened(registry, doubler, doubler_class, libraries):
    save(registry, doubler)
    change_manifest(registry, libraries=libraries)
    [(name, number)] = libraries.items()
    with pytest.raises(IncompatibleModel, match=rf"was trained with {name} {number}, installed is .*: install that"):
        registry.open("doubler", "v1", model_class=doubler_class)


def test_a_model_of_another_prediction_is_not_opened(registry, doubler, doubler_class):
    save(registry, doubler)
    other = type("Other", (doubler_class,), {"Prediction": msgspec.defstruct("Other", [("twice", float)])})
    with pytest.raises(IncompatibleModel, match="another `Prediction`"):
        registry.open("doubler", "v1", model_class=other)


def test_a_manifest_from_before_libraries_were_recorded_is_opened(registry, doubler, doubler_class):
    save(registry, doubler)
    path = registry.path / "doubler" / "v1" / "manifest.json"
    manifest = json.loads(path.read_bytes())
    del manifest["libraries"], manifest["prediction_schema"]
    path.write_text(json.dumps(manifest))
    assert registry.open("doubler", "v1", model_class=doubler_class).version == "v1"


def test_a_pipeline_of_common_steps_is_saved_and_opened(registry, doubler, doubler_class):
    import numpy as np
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

    inputs = np.array([[number, number % 3] for number in range(30)], dtype=float)
    steps = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), [1]), (OrdinalEncoder(), [1]), (StandardScaler(), [0])
    )
    doubler.estimator = make_pipeline(steps, RandomForestRegressor(n_estimators=3, n_jobs=2, random_state=1))
    doubler_class.trusted_types, before = frozenset({"sklearn.tree._tree.Tree"}), doubler_class.trusted_types
    try:
        doubler.estimator.fit(inputs, inputs[:, 0])
        save(registry, doubler)
        opened = registry.open("doubler", "v1", model_class=doubler_class).estimator
    finally:
        doubler_class.trusted_types = before
    assert opened.predict(inputs).tolist() == doubler.estimator.predict(inputs).tolist()
    # A worker predicts in one thread; the model that was saved stays as it was.
    assert (opened[-1].n_jobs, doubler.estimator[-1].n_jobs) == (1, 2)


def readers_of_files():
    from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import FeatureUnion, make_pipeline

    fitted = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    words = CountVectorizer().fit(["a word"])
    words.input = "filename"
    yield "CountVectorizer(input='filename')", words
    yield "TfidfVectorizer(input='file')", make_pipeline(TfidfVectorizer(input="file"), fitted)
    yield "HashingVectorizer(input='filename')", FeatureUnion([("x", HashingVectorizer(input="filename"))])
    yield "Pipeline(memory=...)", make_pipeline(fitted, memory="/tmp/cache")
    hidden = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    hidden.extra_ = {"deep": [words]}
    yield "CountVectorizer(input='filename')", hidden


@pytest.mark.parametrize(("named", "estimator"), list(readers_of_files()))
def test_a_file_whose_types_are_trusted_but_read_files_is_refused(registry, doubler, doubler_class, named, estimator):
    """A request's text would be the name of a file to open."""
    import skops.io

    save(registry, doubler)
    replace_estimator(registry, skops.io.dumps(estimator))
    with pytest.raises(CorruptModel) as raised:
        registry.open("doubler", "v1", model_class=doubler_class)
    assert named in str(raised.value)
    doubler.estimator = estimator
    with pytest.raises(CorruptModel, match="it was refused"):
        save(registry, doubler)


def test_a_file_that_unpacks_to_more_than_the_limit_is_not_opened(registry, doubler, doubler_class, monkeypatch):
    import zipfile

    import numpy as np
    import skops.io

    save(registry, doubler)
    doubler.estimator.coef_ = np.zeros((1, 200_000_000))
    content = skops.io.dumps(doubler.estimator, compression=zipfile.ZIP_DEFLATED, compresslevel=9)
    assert len(content) < 10_000_000
    replace_estimator(registry, content)
    monkeypatch.setattr(skops.io, "loads", never_open)
    with pytest.raises(CorruptModel, match=r"unpacks to 1,600,\d+,\d+ bytes, more than"):
        registry.open("doubler", "v1", model_class=doubler_class)


@pytest.mark.parametrize("linked", ["v1", "v1/model.skops", "v1/manifest.json"])
def test_links_out_of_the_registry_are_not_followed(registry, doubler, doubler_class, tmp_path, linked):
    save(registry, doubler)
    path = registry.path / "doubler" / linked
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CorruptModel, match="a symbolic link"):
        registry.open("doubler", "v1", model_class=doubler_class)


def test_a_lock_that_is_a_link_harms_no_other_file(registry, doubler, tmp_path):
    save(registry, doubler)
    keys = tmp_path / "authorized_keys"
    keys.write_text("ssh-ed25519 AAAA")
    (registry.path / "doubler" / ".lock").symlink_to(keys)
    with pytest.raises(OSError, match="a symbolic link is not followed"):
        registry.promote("doubler", "v1")
    assert keys.read_text() == "ssh-ed25519 AAAA"
