"""The laws about what a model answers, fitted, saved, and asked by many; see `laws`."""

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
from machine_learning_engineering.testing import fresh_process as new_process
from machine_learning_engineering.testing.case import SEED, CheckCase, first_difference, is_unwritten, short
from machine_learning_engineering.testing.request_checks import name_is_well_formed

_THREADS = 4
_TOLERANCE = 1e-9


def one_prediction_a_row_of_its_type(subject: CheckCase) -> str | None:
    """As many answers as rows, each a `Prediction`, which it still is when somebody reads it."""
    answers = subject.answers(subject.rows)
    if len(answers) != len(subject.rows):
        return f"{len(answers)} predictions for {len(subject.rows)} rows"
    expected = subject.model.Prediction
    wrong = next((answer for answer in answers if not isinstance(answer, expected)), None)
    if wrong is not None:
        return f"a {type(wrong).__name__} instead of a {expected.__name__}: {short(wrong)}"
    for answer in filter(is_finite, answers):  # What is not finite has its own law.
        try:
            # Making a Struct checks no types.
            msgspec.json.decode(msgspec.json.encode(answer), type=expected)
        except msgspec.ValidationError as error:
            return f"{short(answer)} can't be read as a {expected.__name__}: {error}"
    return None


def no_rows_get_no_predictions(subject: CheckCase) -> str | None:
    """An empty batch is a batch."""
    answers = subject.answers([])
    return f"{len(answers)} predictions for an empty batch" if answers else None


def a_row_alone_is_answered_as_in_a_batch(subject: CheckCase) -> str | None:
    """Whom a request shares its batch with is chance; floats may differ by a billionth, as sums do."""
    batch = subject.answers(subject.rows)
    alone = []
    for row in subject.rows:
        answers = subject.answers([row])
        if len(answers) != 1 and len(batch) == len(subject.rows):
            return f"alone, a row gets {len(answers)} predictions: {short(row)}"
        alone += answers[:1]
    return first_difference(batch, alone, "in a batch and alone, a row gets", _TOLERANCE)


def the_order_of_rows_does_not_matter(subject: CheckCase) -> str | None:
    """The first answer belongs to the first row, whichever that is."""
    straight = subject.answers(subject.rows)
    backwards = subject.answers(subject.rows[::-1])[::-1]
    return first_difference(straight, backwards, "in two orders of the batch, a row gets", _TOLERANCE)


def predict_does_not_change_its_rows(subject: CheckCase) -> str | None:
    """Neither the list nor a row in it."""
    given = list(subject.rows)
    before = [msgspec.json.encode(row) for row in given]
    subject.model.predict(given)
    if len(given) != len(subject.rows) or any(a is not b for a, b in zip(given, subject.rows, strict=True)):
        return "the list of rows was changed"
    after = [msgspec.json.encode(row) for row in given]
    return next((f"{a.decode()} became {b.decode()}" for a, b in zip(before, after, strict=True) if a != b), None)


def threads_get_what_one_gets(subject: CheckCase) -> str | None:
    """`predict` is called by several threads at once, each with rows of its own."""
    size = max(1, len(subject.rows) // _THREADS)
    batches = [subject.rows[start : start + size] for start in range(0, len(subject.rows), size)][:_THREADS]
    expected = [subject.answers(batch) for batch in batches]
    barrier = threading.Barrier(len(batches))

    def ask(batch: Sequence[Any]) -> list[list[Any]]:
        barrier.wait(60)
        return [subject.answers(batch) for _ in range(5)]

    with ThreadPoolExecutor(len(batches)) as executor:
        for once, often in zip(expected, executor.map(ask, batches), strict=True):
            for answers in often:
                if seen := first_difference(once, answers, "alone and beside other threads, a row gets"):
                    return seen
    return None


def predictions_are_finite_json(subject: CheckCase) -> str | None:
    """JSON has no NaN: it would be written as null."""
    for answer in subject.answers(subject.rows):
        msgspec.json.encode(answer)
        if not is_finite(answer):
            return f"a prediction holds a number that is not finite: {short(answer)}"
    return None


def fitting_twice_gives_the_same_model(subject: CheckCase) -> str | None:
    """The seed decides all that is random."""
    answers = []
    for _ in range(2):
        model = type(subject.model)()
        model.fit(list(subject.rows), list(subject.labels), seed=SEED)
        answers.append(list(model.predict(list(subject.rows))))
    return first_difference(answers[0], answers[1], f"fitted twice with seed {SEED}, the model answers a row with")


def a_saved_model_answers_the_same(subject: CheckCase) -> str | None:
    """What the registry keeps of a model, which is `estimator`, is all that it needs, also in a new process."""
    model = subject.model
    if name_is_well_formed(subject):
        return None  # It can't be saved, and its own law says so.
    version = model.version
    before = subject.answers(subject.rows)
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry(Path(folder))
        try:
            saved = registry.save(model, metrics={}, training_data_sha256="", seed=SEED)
        finally:
            model.version = version
        opened = registry.open(model.name, saved, model_class=type(model))
        after = list(opened.predict(list(subject.rows)))
        if seen := first_difference(before, after, "before and after saving, a row gets"):
            return seen
        elsewhere = new_process.answers(type(model), registry.path, saved, subject.requests)
    if elsewhere is not None:
        here = msgspec.json.decode(msgspec.json.encode(before))
        return first_difference(here, elsewhere, "before saving and in a new process, a row gets", _TOLERANCE)
    # Nearly as good: what fitting leaves in a class or a module is overwritten by a fit on other data.
    more = slice(len(subject.rows) // 2)
    rows, labels = [*subject.rows, *subject.rows[more]], [*subject.labels, *subject.labels[more]]
    type(model)().fit(rows, labels, seed=SEED)
    after = list(opened.predict(list(subject.rows)))
    return first_difference(before, after, "before and after another model is fitted, a row gets")


def evaluate_has_the_primary_metric(subject: CheckCase) -> str | None:
    """What decides between two versions is measured, as a finite number."""
    model = subject.model
    if is_unwritten(type(model), "evaluate"):
        return None  # That is for the law of written methods.
    metrics: Mapping[str, float] = model.evaluate(subject.answers(subject.rows), list(subject.labels))
    if model.primary_metric not in metrics:
        return f"primary_metric is {model.primary_metric!r}, but evaluate() gives {sorted(metrics)}"
    value = metrics[model.primary_metric]
    return None if math.isfinite(value) else f"{model.primary_metric} is {value}"
