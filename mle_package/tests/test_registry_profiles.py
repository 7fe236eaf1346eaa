"""Reference profiles by model and version: read once, and looked for again where there was none."""

import msgspec
import pytest
from sklearn.linear_model import LinearRegression

from machine_learning_engineering.drift.binning import reference_profile
from machine_learning_engineering.registry.profiles import RETRY_SECONDS, ProfileCache
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.sdk import MLEModel


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    number: float


class Answer(msgspec.Struct, frozen=True):
    value: float


class Line(MLEModel):
    name = "line"
    Features = Row
    Prediction = Answer
    primary_metric = "r2"


def saved(registry, *, with_profile=True):
    model = Line()
    model.estimator = LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])
    answers = [Answer(float(n)) for n in range(100)]
    profile = reference_profile(Line, [Row(float(n)) for n in range(100)], answers, [float(n) for n in range(100)])
    return registry.save(
        model, metrics={}, training_data_sha256="0" * 64, seed=1, profile=profile if with_profile else None
    )


@pytest.fixture
def registry(tmp_path):
    return Registry(tmp_path)


def test_a_reference_has_the_bins_and_no_answers(registry):
    version = saved(registry)
    found = ProfileCache(registry.path).get("line", version)
    assert list(found.profile.features) == ["number"]
    assert found.profile.held_out == []
    assert registry.profile("line", version).held_out != []


def test_it_is_read_once(registry):
    version = saved(registry)
    references = ProfileCache(registry.path)
    first = references.get("line", version)
    for file in (registry.path / "line" / version).iterdir():
        file.unlink()
    assert references.get("line", version) is first


@pytest.mark.parametrize(("model", "version"), [("line", "v9"), ("none", "v1"), ("../line", "v1"), ("line", "../v1")])
def test_what_is_not_in_the_registry_has_none(registry, model, version):
    saved(registry)
    references = ProfileCache(registry.path)
    assert references.get(model, version) is None
    assert references.missing == [(model, version)]


def test_a_version_that_comes_later_is_found_after_a_while(registry):
    now = [0.0]
    references = ProfileCache(registry.path, lambda: now[0])
    assert references.get("line", "v1") is None
    saved(registry)
    assert references.get("line", "v1") is None
    now[0] += RETRY_SECONDS
    assert references.get("line", "v1") is not None
    assert references.missing == []


def test_a_version_without_a_profile_and_a_damaged_one_have_none(registry):
    bare, damaged = saved(registry, with_profile=False), saved(registry)
    (registry.path / "line" / damaged / "profile.json").write_text("{}")
    references = ProfileCache(registry.path)
    assert references.get("line", bare) is None
    assert references.get("line", damaged) is None


def test_what_nobody_asks_for_any_more_is_not_missing(registry):
    now = [0.0]
    references = ProfileCache(registry.path, lambda: now[0])
    references.get("line", "v1")
    now[0] += 2 * RETRY_SECONDS
    assert references.missing == []


def test_any_number_of_names_takes_no_memory(registry):
    references = ProfileCache(registry.path)
    for number in range(2_500):
        references.get("line", f"v{number}")
    assert len(references.missing) <= 1_000


def test_another_profile_of_the_same_name_has_another_digest(tmp_path):
    one, other = Registry(tmp_path / "one"), Registry(tmp_path / "other")
    version = saved(one)
    assert saved(other) == version
    same = ProfileCache(one.path).get("line", version).digest
    assert same == ProfileCache(other.path).get("line", version).digest
    different = Registry(tmp_path / "different")
    model = Line()
    model.estimator = LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])
    profile = reference_profile(Line, [Row(float(n)) for n in range(50)], [])
    different.save(model, metrics={}, training_data_sha256="0" * 64, seed=1, profile=profile)
    assert ProfileCache(different.path).get("line", version).digest != same
