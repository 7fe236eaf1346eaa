"""Contract checks of predictions, before and after saving, in batches and threads; see `testing.checks`."""

import math
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from machine_learning_engineering.core.json_values import is_finite
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.testing import fresh_process
from machine_learning_engineering.testing.case import (
    SEED,
    CheckCase,
    contract_check,
    first_difference,
    is_inherited,
    short,
)
from machine_learning_engineering.testing.request_checks import check_name

_THREADS = 4
_TOLERANCE = 1e-9


@contract_check
def check_prediction_types(case: CheckCase) -> str | None:
    """There is one `Prediction` per row, with fields of the declared types."""
    predictions = case.predict(case.rows)
    if len(predictions) != len(case.rows):
        return f"{len(predictions)} predictions for {len(case.rows)} rows"
    expected = case.model.Prediction
    wrong = next((prediction for prediction in predictions if not isinstance(prediction, expected)), None)
    if wrong is not None:
        return f"a {type(wrong).__name__} instead of a {expected.__name__}: {short(wrong)}"
    for prediction in filter(is_finite, predictions):  # check_predictions_finite reports the others.
        try:
            # Creating a Struct checks no types.
            msgspec.json.decode(msgspec.json.encode(prediction), type=expected)
        except msgspec.ValidationError as error:
            return f"{short(prediction)} can't be read as a {expected.__name__}: {error}"
    return None


@contract_check
def check_empty_batch(case: CheckCase) -> str | None:
    """An empty batch gets no predictions and raises no error."""
    predictions = case.predict([])
    return f"{len(predictions)} predictions for an empty batch" if predictions else None


@contract_check
def check_batch_invariance(case: CheckCase) -> str | None:
    """A row gets the same prediction alone and in a batch. Floats may differ by 1e-9, because sums do."""
    batch = case.predict(case.rows)
    alone = []
    for row in case.rows:
        predictions = case.predict([row])
        if len(predictions) != 1 and len(batch) == len(case.rows):
            return f"alone, a row gets {len(predictions)} predictions: {short(row)}"
        alone += predictions[:1]
    return first_difference(batch, alone, "in a batch and alone, a row gets", _TOLERANCE)


@contract_check
def check_order_invariance(case: CheckCase) -> str | None:
    """The order of rows does not change their predictions."""
    straight = case.predict(case.rows)
    backwards = case.predict(case.rows[::-1])[::-1]
    return first_difference(straight, backwards, "in two orders of the batch, a row gets", _TOLERANCE)


@contract_check
def check_rows_unchanged(case: CheckCase) -> str | None:
    """`predict` changes neither the list nor a row in it."""
    given = list(case.rows)
    before = [msgspec.json.encode(row) for row in given]
    case.model.predict(given)
    if len(given) != len(case.rows) or any(a is not b for a, b in zip(given, case.rows, strict=True)):
        return "the list of rows was changed"
    after = [msgspec.json.encode(row) for row in given]
    return next((f"{a.decode()} became {b.decode()}" for a, b in zip(before, after, strict=True) if a != b), None)


@contract_check
def check_thread_safety(case: CheckCase) -> str | None:
    """Threads that call `predict` at the same time get the same predictions as one."""
    size = max(1, len(case.rows) // _THREADS)
    batches = [case.rows[start : start + size] for start in range(0, len(case.rows), size)][:_THREADS]
    expected = [case.predict(batch) for batch in batches]
    barrier = threading.Barrier(len(batches))

    def ask(batch: Sequence[Any]) -> list[list[Any]]:
        barrier.wait(60)
        return [case.predict(batch) for _ in range(5)]

    with ThreadPoolExecutor(len(batches)) as executor:
        for once, often in zip(expected, executor.map(ask, batches), strict=True):
            for predictions in often:
                if problem := first_difference(once, predictions, "alone and beside other threads, a row gets"):
                    return problem
    return None


@contract_check
def check_predictions_finite(case: CheckCase) -> str | None:
    """Predictions are finite: the encoder would write NaN as null."""
    for prediction in case.predict(case.rows):
        msgspec.json.encode(prediction)
        if not is_finite(prediction):
            return f"a prediction holds a number that is not finite: {short(prediction)}"
    return None


@contract_check
def check_fit_deterministic(case: CheckCase) -> str | None:
    """Two fits with the same seed give the same model."""
    models = type(case.model)(), type(case.model)()
    for model in models:
        model.fit(list(case.rows), list(case.labels), seed=SEED)
    one, other = (list(model.predict(list(case.rows))) for model in models)
    return first_difference(one, other, f"fitted twice with seed {SEED}, the model predicts for a row")


@contract_check
def check_save_and_open(case: CheckCase) -> str | None:
    """`estimator`, which the registry saves, is all the state of a model, even in a fresh process."""
    model = case.model
    if check_name(case):
        return None  # It can't be saved; check_name reports it.
    version = model.version
    before = case.predict(case.rows)
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry(Path(folder))
        try:
            saved = registry.save(model, metrics={}, training_data_sha256="", seed=SEED)
        finally:
            model.version = version
        opened = registry.open(model.name, saved, model_class=type(model))
        after = list(opened.predict(list(case.rows)))
        if problem := first_difference(before, after, "before and after saving, a row gets"):
            return problem
        elsewhere = fresh_process.predict(type(model), registry.path, saved, case.requests)
    if elsewhere is not None:
        here = msgspec.json.decode(msgspec.json.encode(before))
        return first_difference(here, elsewhere, "before saving and in a fresh process, a row gets", _TOLERANCE)
    # The next best: a fit on other data overwrites what fitting leaves in a class or a module.
    more = slice(len(case.rows) // 2)
    rows, labels = [*case.rows, *case.rows[more]], [*case.labels, *case.labels[more]]
    type(model)().fit(rows, labels, seed=SEED)
    after = list(opened.predict(list(case.rows)))
    return first_difference(before, after, "before and after another model is fitted, a row gets")


@contract_check
def check_primary_metric(case: CheckCase) -> str | None:
    """`evaluate` returns a finite primary metric."""
    model = case.model
    if is_inherited(type(model), "evaluate"):
        return None  # check_methods_implemented reports it.
    metrics: Mapping[str, float] = model.evaluate(case.predict(case.rows), list(case.labels))
    if model.primary_metric not in metrics:
        return f"primary_metric is {model.primary_metric!r}, but evaluate() gives {sorted(metrics)}"
    value = metrics[model.primary_metric]
    return None if math.isfinite(value) else f"{model.primary_metric} is {value}"
