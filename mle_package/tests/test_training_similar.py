"""Training publishes an index of the rows that it fitted, if the model declares which of them are similar."""

import logging

import msgspec
import pytest

from machine_learning_engineering.core.example import Example
from machine_learning_engineering.registry import similar
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.similar import SimilarIndex
from machine_learning_engineering.training.quick import train


@pytest.fixture
def similar_class(doubler_class):
    """The basic model, whose rows are similar if they have the same unit and the nearest numbers."""

    class Similar(doubler_class):
        similar_by = ("unit",)
        nearest = "number"

        @classmethod
        def examples(cls, data_dir=None):
            return (
                Example({"number": float(n), "unit": "m" if n % 2 else "km", "note": f"n{n}"}, 2.0 * n)
                for n in range(50)
            )

    return Similar


def trained(model_class, settings) -> SimilarIndex | None:
    version = train(model_class, settings).version
    registry = Registry(settings.registry_dir)
    return similar.read(registry.files, registry.verify("doubler", version))


def test_it_has_the_rows_that_were_fitted(similar_class, settings):
    seen = []

    class Spy(similar_class):
        def fit(self, rows, labels, **options):
            seen.extend(zip(rows, labels, strict=True))
            super().fit(rows, labels, **options)

    index = trained(Spy, settings)
    assert index is not None
    assert len(index) == len(seen) < 50
    found = [row for unit in ("m", "km") for row in index.search((unit,), 0.0, 100).rows]
    rows = sorted(((msgspec.to_builtins(row), label) for row, label in seen), key=str)
    decoded = [(msgspec.json.decode(row.features), msgspec.json.decode(row.label)) for row in found]
    assert sorted(decoded, key=str) == rows


def test_every_training_publishes_it(similar_class, settings):
    pytest.importorskip("pyarrow")
    pytest.importorskip("optuna")
    from machine_learning_engineering.training.pipeline import run_training

    entry = run_training(similar_class, settings)
    registry = Registry(settings.registry_dir)
    index = similar.read(registry.files, registry.manifest("doubler", entry.version))
    assert index is not None
    assert len(index) == entry.rows_trained
    # Candidates that were not chosen are no versions that anybody asks.
    assert similar.SIMILAR_FILE not in Registry(settings.history_dir).manifest("doubler", "v1").files


def test_the_same_data_give_the_same_file(similar_class, settings, tmp_path):
    other = settings.model_copy(update={"home": tmp_path / "other"})
    files = []
    for one in (settings, other):
        train(similar_class, one)
        files.append((one.registry_dir / "doubler" / "v1" / "similar.jsonl").read_bytes())
    assert files[0] == files[1]


def test_without_a_declaration_the_rows_stay_private(doubler_class, settings):
    assert trained(doubler_class, settings) is None


@pytest.mark.parametrize(
    ("rules", "declared"),
    [({"doubler": {"note": "drop"}}, {}), ({}, {"note": "hash"}), ({"*": {"*": "keep"}}, {"note": "drop"})],
)
def test_redacted_features_are_not_in_it(similar_class, settings, rules, declared):
    class Redacting(similar_class):
        redacted_features = declared

    index = trained(Redacting, settings.model_copy(update={"log_redact": rules}))
    assert index is not None
    [row] = index.search(("m",), 7.0, 1).rows
    assert set(msgspec.json.decode(row.features)) == {"number", "unit", "count"}


@pytest.mark.parametrize("name", ["unit", "number"])
def test_there_is_none_if_a_feature_that_it_needs_is_redacted(similar_class, settings, caplog, name):
    """Its order would tell what the rule hides."""
    with caplog.at_level(logging.WARNING):
        assert trained(similar_class, settings.model_copy(update={"log_redact": {"doubler": {name: "drop"}}})) is None
    assert f"its feature {name} is redacted" in caplog.text


def test_too_many_rows_are_named(similar_class, settings, caplog, monkeypatch):
    monkeypatch.setattr(similar, "MAX_BYTES", 500)
    with caplog.at_level(logging.WARNING):
        assert trained(similar_class, settings) is None
    assert "more than 500 bytes" in caplog.text


@pytest.mark.parametrize(
    ("by", "nearest", "complaint"),
    [
        ("unit", "number", "must declare both"),
        (("unit",), "", "must declare both"),
        ((), "number", "must declare both"),
        (("colour",), "number", r"similar_by names `colour`, and the features are number, unit, count, note"),
        (("unit",), "size", r"nearest names `size`"),
        (("number",), "count", r"similar_by names `number`: it takes features that are strings, integers or booleans"),
        (("unit",), "note", r"nearest names `note`: it takes features that are numbers"),
        (("unit", "unit"), "number", "name a feature twice"),
        (("count",), "count", "name a feature twice"),
    ],
)
def test_a_wrong_declaration_is_named_before_anything_is_trained(doubler_class, by, nearest, complaint):
    with pytest.raises(ValueError, match=complaint):
        type("Wrong", (doubler_class,), {"similar_by": by, "nearest": nearest})()


def test_a_feature_named_like_the_number_of_rows_is_refused(doubler_class):
    features = msgspec.defstruct("Features", [("n", int), ("size", float)], frozen=True)
    with pytest.raises(ValueError, match="not named n"):
        type("Named", (doubler_class,), {"Features": features, "similar_by": ("n",), "nearest": "size"})()
