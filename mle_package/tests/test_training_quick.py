"""Training: repeatable, honest about what it measured on, and promoting only what is better."""

import msgspec
import pytest

from machine_learning_engineering.core.example import Example
from machine_learning_engineering.core.validation import InvalidFeatures
from machine_learning_engineering.evaluation.splits import split
from machine_learning_engineering.registry.manifest import CorruptModel
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.training.quick import train


def test_the_same_data_and_seed_give_the_same_run_twice(doubler_class, settings):
    one, two = train(doubler_class, settings), train(doubler_class, settings)
    assert (one.metrics, one.training_data_sha256) == (two.metrics, two.training_data_sha256)
    registry = Registry(settings.registry_dir)
    first, second = (registry.open("doubler", v, model_class=doubler_class) for v in (one.version, two.version))
    rows = [first.decode(msgspec.json.encode(features)) for features in first.example_requests()]
    assert first.predict(rows) == second.predict(rows)


def test_the_first_version_is_promoted_and_an_equal_one_is_not(doubler_class, settings):
    one, two = train(doubler_class, settings), train(doubler_class, settings)
    assert (one.version, one.promoted, two.version, two.promoted) == ("v1", True, "v2", False)
    assert "not significantly better than" in two.reason
    assert Registry(settings.registry_dir).champions() == {"doubler": "v1"}


def test_a_better_version_is_promoted_and_a_worse_one_is_not(doubler_class, settings):
    good = list(doubler_class.examples())
    noisy = [Example(example.features, example.label + (-1) ** row * 30) for row, example in enumerate(good)]
    runs = [train(doubler_class, settings, examples=data) for data in (noisy, good, noisy)]
    assert [run.promoted for run in runs] == [True, True, False]
    assert "is better than" in runs[1].reason


def test_a_champion_that_cannot_be_opened_is_replaced(doubler_class, settings):
    train(doubler_class, settings)
    (settings.registry_dir / "doubler" / "v1" / "model.skops").write_bytes(b"damaged")
    run = train(doubler_class, settings)
    assert run.promoted
    assert "v1 can't be opened" in run.reason


def test_with_damaged_aliases_nothing_is_promoted(doubler_class, settings):
    """A champion may be named in them that is better."""
    train(doubler_class, settings)
    aliases = settings.registry_dir / "doubler" / "aliases.json"
    aliases.write_bytes(b"{")
    with pytest.raises(CorruptModel, match="promote a version, such as doubler:v1, with inflight models promote"):
        train(doubler_class, settings)
    assert aliases.read_bytes() == b"{"
    assert Registry(settings.registry_dir).versions("doubler") == ["v1", "v2"]


def test_a_metric_that_is_no_finite_number_is_an_error_and_saves_nothing(doubler_class, settings, monkeypatch):
    monkeypatch.setattr(doubler_class, "evaluate", lambda *arguments: {"r2": float("nan")})
    with pytest.raises(ValueError, match=r"the primary metric r2 is not finite \(nan\)"):
        train(doubler_class, settings)
    assert Registry(settings.registry_dir).models() == []


def test_the_held_out_rows_are_not_trained_on(doubler_class, settings):
    seen = {}

    class Spy(doubler_class):
        def fit(self, rows, labels, *, seed):
            seen["fitted"] = {row.number for row in rows}
            super().fit(rows, labels, seed=seed)

        def evaluate(self, predictions, labels):
            seen["measured"] = {label / 2 for label in labels}
            return super().evaluate(predictions, labels)

    run = train(Spy, settings)
    assert (run.rows_trained, run.rows_held_out) == (len(seen["fitted"]), len(seen["measured"]))
    assert run.rows_trained + run.rows_held_out == 50
    assert not seen["fitted"] & seen["measured"]


def test_a_bad_row_stops_training_and_saves_nothing(doubler_class, settings):
    with pytest.raises(InvalidFeatures, match="`number`"):
        train(doubler_class, settings, examples=[Example({"number": -5}, 1.0)] * 10)
    assert Registry(settings.registry_dir).models() == []


def test_steps_are_reported(doubler_class, settings):
    steps: list[str] = []
    run = train(doubler_class, settings, on_progress=steps.append)
    assert steps == [
        "doubler: reading the dataset",
        f"doubler: fitting {run.rows_trained} rows",
        f"doubler: measuring on {run.rows_held_out} rows",
        "doubler: saving",
    ]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_rows_are_an_error(count):
    with pytest.raises(ValueError, match="too few"):
        split(count, seed=1)


def test_another_seed_gives_another_split():
    assert split(100, seed=1) == split(100, seed=1) != split(100, seed=2)
