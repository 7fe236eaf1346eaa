"""Each candidate of the models: repeatable, kept by the registry, and refused if its file was changed."""

import io
import zipfile
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import pytest

from machine_learning_engineering.core.candidate import Candidate
from machine_learning_engineering.registry.manifest import CorruptModel
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.sdk import MLEModel
from model.diamonds.model import Diamonds
from model.titanic.model import Titanic

MODELS: list[type[MLEModel]] = [Diamonds, Titanic]
CASES = [pytest.param(cls, one, id=f"{cls.name}-{one.name}") for cls in MODELS for one in cls().candidates()]


@pytest.fixture(scope="module")
def data():
    """Some hundred rows and labels of a model."""
    found = {}

    def data(cls: type[MLEModel]):
        if cls not in found:
            examples = list(islice(cls.examples(), 0, 800, 2))
            rows = [cls().decode(msgspec.json.encode(example.features)) for example in examples]
            found[cls] = rows, [example.label for example in examples]
        return found[cls]

    return data


@pytest.fixture
def fitted(data):
    def fitted(cls: type[MLEModel], candidate: Candidate, seed: int = 7) -> MLEModel:
        model = cls()
        model.fit(*data(cls), seed=seed, candidate=candidate)
        return model

    return fitted


def without(cls: type[MLEModel], row):
    """The row without what may be missing."""
    if cls is Titanic:
        return msgspec.structs.replace(row, age=None, embarked=None, name=None, ticket=None, cabin=None)
    return msgspec.structs.replace(row, x=0.0, y=0.0, z=0.0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("known", [0, 1, 5])
@pytest.mark.parametrize(("cls", "candidate"), CASES)
def test_what_may_be_missing_may_be_missing_in_all_rows(cls, candidate, known, data, tmp_path):
    """Or in all but a few. Rows that have it are answered all the same, by the version that is opened too."""
    rows, labels = data(cls)
    model = cls()
    model.fit([*rows[:known], *(without(cls, row) for row in rows[known:])], labels, seed=7, candidate=candidate)
    expected = list(model.predict(rows))
    assert all(np.isfinite(leaf) for answer in expected for leaf in msgspec.structs.astuple(answer))
    registry = Registry(tmp_path)
    version = registry.save(model, metrics={}, training_data_sha256="", seed=7)
    assert list(registry.open(cls.name, version, model_class=cls).predict(rows)) == expected


@pytest.mark.parametrize(("cls", "candidate"), CASES)
def test_a_candidate_answers_the_same_when_it_is_fitted_again_and_when_it_is_opened(
    cls, candidate, data, fitted, tmp_path
):
    rows = data(cls)[0]
    model = fitted(cls, candidate)
    expected = list(model.predict(rows))
    assert list(fitted(cls, candidate).predict(rows)) == expected
    registry = Registry(tmp_path)
    version = registry.save(model, metrics={}, training_data_sha256="", seed=7)
    assert list(registry.open(cls.name, version, model_class=cls).predict(rows)) == expected
    assert [model.predict([row])[0] for row in rows[:50]] == expected[:50]


@pytest.mark.parametrize(("cls", "candidate"), CASES)
def test_a_candidate_uses_one_thread(cls, candidate):
    params = candidate.make(candidate.defaults, 1).get_params()
    assert params.get("n_jobs", 1) in (1, None)


def test_each_model_without_a_choice_is_one_of_its_candidates(data):
    for cls in MODELS:
        types = {type(one.make(one.defaults, 1)) for one in cls().candidates()}
        assert type(cls().new_estimator(1)) in types


def test_the_search_suggests_what_xgboost_takes(data):
    optuna = pytest.importorskip("optuna")
    [candidate] = [one for one in Diamonds().candidates() if one.search]
    for trial in (optuna.trial.FixedTrial(low_or_high) for low_or_high in bounds(candidate)):
        model = Diamonds()
        rows, labels = data(Diamonds)
        model.fit(rows, labels, seed=1, candidate=candidate, params=candidate.search(trial))
        assert np.isfinite([answer.price for answer in model.predict(rows)]).all()


def bounds(candidate: Candidate) -> list[dict[str, float]]:
    """All params at their lowest, and all at their highest."""
    import optuna

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    trial = study.ask()
    candidate.search(trial)
    return [
        {name: getattr(distribution, end) for name, distribution in trial.distributions.items()}
        for end in ("low", "high")
    ]


@pytest.fixture
def saved(fitted, tmp_path) -> Path:
    """The file of an XGBoost model in a registry."""
    [candidate] = [one for one in Diamonds().candidates() if one.name == "xgboost"]
    Registry(tmp_path).save(fitted(Diamonds, candidate), metrics={}, training_data_sha256="", seed=7)
    return tmp_path / "diamonds" / "v1" / "model.skops"


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_changed_file_of_xgboost_is_refused_before_its_parser_sees_it(saved, tmp_path, place):
    content = bytearray(saved.read_bytes())
    content[int(len(content) * place)] ^= 1
    saved.write_bytes(content)
    with pytest.raises(CorruptModel, match="sha256"):
        Registry(tmp_path).open("diamonds", model_class=Diamonds, alias_or_version="v1")


def test_a_model_that_does_not_trust_xgboost_refuses_its_file(saved, tmp_path):
    class Careful(Diamonds):
        trusted_types = frozenset()

    with pytest.raises(CorruptModel, match=r"not trusted: xgboost.core.Booster, xgboost.sklearn.XGBRegressor"):
        Registry(tmp_path).open("diamonds", "v1", model_class=Careful)


def test_the_file_of_xgboost_holds_no_pickle(saved):
    with zipfile.ZipFile(io.BytesIO(saved.read_bytes())) as archive:
        names = archive.namelist()
        assert "schema.json" in names
        assert all(not archive.read(name).startswith(b"\x80") for name in names)
