"""What the prediction log tells of a version, where features are not there as they were sent, or labels are none."""

from datetime import timedelta
from typing import Any

import msgspec
import numpy as np
import pytest

from machine_learning_engineering.core.example import Example
from machine_learning_engineering.prediction_log.sqlite import SqlitePredictionLog
from machine_learning_engineering.retraining import live_rows
from machine_learning_engineering.testing.log_store_examples import START, example
from machine_learning_engineering.training.quick import train

HASHED = msgspec.Raw(b'{"number": 5, "note": "hash-%s"}' % (b"0a" * 16))
DROPPED = msgspec.Raw(b'{"number": 5}')


@pytest.fixture
def read(doubler, tmp_path):
    def read(*records, labels=None):
        with SqlitePredictionLog(tmp_path / "log.sqlite") as log:
            log.append(records)
            return live_rows.read(doubler, log, labels, version="v1", max_rows=10)

    return read


def logged(request_id, minute, **more):
    return example(request_id, "doubler", at=START + timedelta(minutes=minute), label=msgspec.Raw(b"2.0"), **more)


@pytest.mark.parametrize(
    ("features", "redacted"),
    [(HASHED, ["note"]), (DROPPED, ["note"]), (HASHED, msgspec.UNSET)],
    ids=["hashed by rule", "dropped by rule", "a forged hash"],
)
def test_of_redacted_rows_answer_and_label_are_used_and_nothing_else(read, features, redacted):
    """They tell how good the answers are. Compared with a profile or learned from they would tell of the redaction."""
    found = read(logged("a", 0), logged("b", 1, features=features, redacted=redacted))
    assert found.skipped == {"redacted": 1}
    assert len(found.rows) == len(found.predictions) == 1
    whole, hidden = found.labelled
    assert (whole.example.features, whole.label) == ({"number": 1.0}, 2.0)
    assert (hidden.example, hidden.prediction.double, hidden.label) == (None, 2.0, 2.0)


@pytest.mark.parametrize("kind", [float, Any])
@pytest.mark.parametrize("label", [float("nan"), float("inf"), np.float64("nan"), None])
def test_a_given_label_that_is_no_finite_number_is_skipped_and_counted(read, doubler_class, monkeypatch, kind, label):
    """One of them would make every metric of all rows a NaN, or an error."""
    monkeypatch.setattr(doubler_class, "Label", kind)
    found = read(logged("a", 0), logged("b", 1), labels={"a": label, "b": 2.5})
    assert found.skipped == {"bad label": 1}
    assert ([one.label for one in found.labelled], len(found.rows)) == ([2.5], 2)


def test_a_redacted_log_shows_that_retraining_is_due_but_is_not_trained_on(doubler_class, settings, monkeypatch):
    """The answers are worse than they were. There is nothing to learn from but what `examples` would give."""

    def evaluate(self, predictions, labels):
        return {
            "r2": -float(np.mean([abs(one.double - label) for one, label in zip(predictions, labels, strict=True)]))
        }

    monkeypatch.setattr(doubler_class, "evaluate", evaluate)
    train(doubler_class, settings, examples=[Example({"number": n / 10}, n / 5 + n % 3) for n in range(1_000)])
    hidden = {"features": HASHED, "redacted": ["note"], "label": msgspec.Raw(b"30.0")}
    with SqlitePredictionLog(settings.prediction_log) as log:
        log.append([example(f"r{n}", "doubler", at=START + timedelta(minutes=n), **hidden) for n in range(300)])
        decision = doubler_class.trigger_retraining(log, settings=settings)
    assert (decision.outcome, decision.challenger, decision.error) == ("retraining_due", None, "")
    assert (decision.evidence.rows, decision.evidence.labelled) == (0, 300)
    assert decision.evidence.skipped == {"redacted": 300}
    assert "0 fresh labelled rows are too few to train on" in decision.reason
