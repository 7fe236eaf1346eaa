"""The callable of batch scoring: data frames in and out, one version for good, and what a process of an engine gets."""

import pickle

import numpy as np
import pytest

from machine_learning_engineering.core.column_map import InvalidTable
from machine_learning_engineering.registry.manifest import ModelNotFound
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.scoring import scorer as module
from machine_learning_engineering.scoring.scorer import Scorer, _opened

pd = pytest.importorskip("pandas")


@pytest.fixture
def registry(doubler, tmp_path):
    found = Registry(tmp_path / "registry")
    for seed in (1, 2):
        found.save(doubler, metrics={}, training_data_sha256="", seed=seed)
    found.promote("doubler", "v1")
    yield found
    module._opened.cache_clear()


@pytest.fixture
def new(registry, doubler):
    return lambda model="doubler", **options: Scorer(
        model, registry=registry.path, model_class=type(doubler), **options
    )


FRAME = pd.DataFrame(
    {7: ["x", "y", "z"], "number": [1.0, np.nan, 3.0], "order": [10, 20, 30]},
    index=pd.Index(["a", "a", "c"], name="key"),
)


def test_a_frame_comes_back_with_its_other_columns_and_its_index(new):
    found = new()(FRAME)
    assert list(found.columns) == ["7", "order", "prediction.double", "error_type", "error_message"]
    pd.testing.assert_index_equal(found.index, FRAME.index)
    assert found["order"].tolist() == [10, 20, 30]
    assert found["prediction.double"].tolist() == pytest.approx([2.0, np.nan, 6.0], nan_ok=True)
    assert found["error_type"].isna().tolist() == [True, False, True]
    assert (
        found["error_message"].iloc[1]
        == "feature `number` is missing: it must be a number of at least 0 and at most 100"
    )


def test_columns_to_keep_are_chosen_and_have_to_be_there(new):
    assert list(new(keep=["number", "order"])(FRAME).columns)[:3] == ["number", "order", "prediction.double"]
    assert new(keep=[])(FRAME).columns[0] == "prediction.double"
    with pytest.raises(InvalidTable, match="no column `nothing` to keep: there are number, 7, order"):
        new(keep=["nothing"])(FRAME)
    with pytest.raises(InvalidTable, match="no column `number`, which the model `doubler` needs"):
        new()(FRAME.drop(columns="number"))


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_an_empty_frame_has_the_types_of_any_other(new, rows):
    scorer = new(batch_rows=2)
    assert scorer(FRAME.iloc[:rows]).dtypes.equals(scorer(FRAME).dtypes)


def test_batches_are_of_no_account(new):
    frame = pd.DataFrame({"number": np.arange(50.0)})
    pd.testing.assert_frame_equal(new(batch_rows=7)(frame), new()(frame))


def test_the_version_is_that_of_the_moment_at_which_it_was_made(new, registry):
    scorer = new("doubler@champion")
    registry.promote("doubler", "v2")
    assert (scorer.version, scorer.model.version) == ("v1", "v1")
    assert new("doubler@champion").version == "v2"
    with pytest.raises(ModelNotFound, match="no version or alias 'v9'"):
        new("doubler:v9")


def test_a_copy_in_another_process_opens_the_version_once(new, registry, doubler, monkeypatch, tmp_path):
    scorer = new()
    # As in a process that has opened none.
    _opened.cache_clear()
    opened = []
    real = Registry.open
    monkeypatch.setattr(Registry, "open", lambda *given, **options: opened.append(given) or real(*given, **options))
    # By reference, as engines do: the class itself is imported there.
    copies = []
    for _ in range(3):
        copy = Scorer.__new__(Scorer)
        copy.__dict__ |= pickle.loads(pickle.dumps({k: v for k, v in scorer.__dict__.items() if k != "_opener"}))
        copy._opener = type(doubler)
        copies.append(copy)
    monkeypatch.chdir(tmp_path)
    answers = [copy(FRAME)["prediction.double"].tolist() for copy in copies]
    assert answers[0][0] == pytest.approx(2.0)
    assert len(opened) == 1
