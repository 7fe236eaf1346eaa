"""The laws that every model keeps, one function each: it answers None, or what it saw that breaks the law.

They call nothing but the model's public methods, so that they apply to any subclass of `MLEModel`. Each looks for one
fault and leaves the others to their own laws, so that one fault is reported once.
"""

import math
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from machine_learning_engineering.json_values import kinds, leaves, same
from machine_learning_engineering.model import Example, InvalidFeatures, MLEModel
from machine_learning_engineering.registry import NAME, Registry

METHODS = ("examples", "new_estimator", "columns", "predict", "evaluate")
SEED = 7
_THREADS = 4
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Subject:
    """A fitted model, and the examples that it is judged on, in four forms of the same order.

    `refused` holds a reason for each example that the model's own schema refuses; those are left out of the others.
    """

    model: MLEModel
    examples: Sequence[Example]
    requests: Sequence[bytes]
    rows: Sequence[Any]
    labels: Sequence[Any]
    refused: Sequence[str]

    def answers(self, rows: Sequence[Any]) -> list[Any]:
        """What the model predicts; it is given a list of its own."""
        return list(self.model.predict(list(rows)))


Law = Callable[[Subject], str | None]


def methods_are_written(subject: Subject) -> str | None:
    """The five methods of the author are there."""
    cls = type(subject.model)
    missing = [name for name in METHODS if _unwritten(cls, name)]
    return f"not written yet: {', '.join(f'{cls.__name__}.{name}()' for name in missing)}" if missing else None


def name_is_well_formed(subject: Subject) -> str | None:
    """The name can be a folder, a key and a part of a URL."""
    name = subject.model.name
    return None if NAME.fullmatch(name) else f"the name {name!r} does not match {NAME.pattern}"


def features_and_prediction_are_frozen(subject: Subject) -> str | None:
    """A row that several threads share can't be changed."""
    structs = {"Features": subject.model.Features, "Prediction": subject.model.Prediction}
    thawed = [name for name, struct in structs.items() if not struct.__struct_config__.frozen]
    return f"{' and '.join(thawed)} must be declared with frozen=True" if thawed else None


def the_schema_accepts_the_examples(subject: Subject) -> str | None:
    """Every example is a request that the model takes, and `schema` tells of each of its fields."""
    if subject.refused:
        return f"{len(subject.refused)} of the examples are refused, such as: {subject.refused[0]}"
    schema = subject.model.schema()
    definition = schema.get("$defs", {}).get(schema.get("$ref", "").rpartition("/")[2], schema)
    for example in subject.examples:
        if unknown := set(example.features) - set(definition.get("properties", {})):
            return f"schema() does not tell of {sorted(unknown)}, which the examples have"
        if missing := set(definition.get("required", ())) - set(example.features):
            return f"schema() requires {sorted(missing)}, which an example lacks: {_short(example.features)}"
    return None


def an_unknown_field_is_refused(subject: Subject) -> str | None:
    """A misspelt optional field must not pass in silence."""
    return _refusal(subject, "surprise", msgspec.json.encode({**subject.examples[0].features, "surprise": 1}))


def missing_values_follow_the_policy(subject: Subject) -> str | None:
    """A field with a default may be left out, one of a type with None may be null; else it is refused by name."""
    complete = subject.examples[0].features
    for field in msgspec.structs.fields(subject.model.Features):
        name = field.encode_name
        absent = {key: value for key, value in complete.items() if key != name}
        nullable = "null" in kinds(inspect.type_info(field.type))
        for what, features, accepted in (
            ("left out", absent, not field.required),
            ("null", complete | {name: None}, nullable),
        ):
            raw = msgspec.json.encode(features)
            if not accepted:
                if seen := _refusal(subject, name, raw):
                    return seen
                continue
            try:
                subject.answers([subject.model.decode(raw)])
            except Exception as error:
                return f"`{name}` may be {what}, but {type(error).__name__} was raised: {error}"
    return None


def a_wrong_type_is_refused_by_name(subject: Subject) -> str | None:
    """A number as a text, a list for a number and so on; nothing is converted."""
    complete = subject.examples[0].features
    values = {"text": "1", "number": 1, "bool": True, "array": [[]], "object": {"a": 1}}
    for field in msgspec.structs.fields(subject.model.Features):
        accepted = kinds(inspect.type_info(field.type))
        for kind, value in values.items():
            if kind in accepted or "any" in accepted:
                continue
            if seen := _refusal(
                subject, field.encode_name, msgspec.json.encode({**complete, field.encode_name: value})
            ):
                return seen
    return None


def what_is_not_finite_is_refused_by_name(subject: Subject) -> str | None:
    """NaN and infinities are no JSON, however common they are in what calls itself JSON."""
    complete = subject.examples[0].features
    for field in msgspec.structs.fields(subject.model.Features):
        name = field.encode_name
        rest = {key: value for key, value in complete.items() if key != name}
        for text in (b"NaN", b"Infinity", b"-Infinity", b"1e999"):
            raw = b"{" + b"".join(
                b"%s:%s," % (msgspec.json.encode(key), msgspec.json.encode(value)) for key, value in rest.items()
            )
            if seen := _refusal(subject, name, raw + b"%s:%s}" % (msgspec.json.encode(name), text)):
                return seen
    return None


def decode_depends_on_nothing_but_its_bytes(subject: Subject) -> str | None:
    """The same bytes are the same row: later, in another order, after a refusal, and in an unfitted model."""
    requests = subject.requests
    first = [subject.model.decode(raw) for raw in requests]
    with suppress(InvalidFeatures):
        subject.model.decode(b"{")
    other = type(subject.model)()
    for decoded in ([other.decode(raw) for raw in requests[::-1]][::-1], [other.decode(raw) for raw in requests]):
        if seen := _first_difference(first, decoded, "the same request, decoded twice, is"):
            return seen
    return None


def one_prediction_a_row_of_its_type(subject: Subject) -> str | None:
    """As many answers as rows, each a `Prediction`."""
    answers = subject.answers(subject.rows)
    if len(answers) != len(subject.rows):
        return f"{len(answers)} predictions for {len(subject.rows)} rows"
    expected = subject.model.Prediction
    wrong = next((answer for answer in answers if not isinstance(answer, expected)), None)
    return None if wrong is None else f"a {type(wrong).__name__} instead of a {expected.__name__}: {_short(wrong)}"


def no_rows_get_no_predictions(subject: Subject) -> str | None:
    """An empty batch is a batch."""
    answers = subject.answers([])
    return f"{len(answers)} predictions for an empty batch" if answers else None


def a_row_alone_is_answered_as_in_a_batch(subject: Subject) -> str | None:
    """Whom a request shares its batch with is chance; floats may differ by a billionth, as sums do."""
    batch = subject.answers(subject.rows)
    alone = [answer for row in subject.rows for answer in subject.answers([row])[:1]]
    return _first_difference(batch, alone, "in a batch and alone, a row gets", _TOLERANCE)


def the_order_of_rows_does_not_matter(subject: Subject) -> str | None:
    """The first answer belongs to the first row, whichever that is."""
    straight = subject.answers(subject.rows)
    backwards = subject.answers(subject.rows[::-1])[::-1]
    return _first_difference(straight, backwards, "in two orders of the batch, a row gets", _TOLERANCE)


def predict_does_not_change_its_rows(subject: Subject) -> str | None:
    """Neither the list nor a row in it."""
    given = list(subject.rows)
    before = [msgspec.json.encode(row) for row in given]
    subject.model.predict(given)
    if len(given) != len(subject.rows) or any(a is not b for a, b in zip(given, subject.rows, strict=True)):
        return "the list of rows was changed"
    after = [msgspec.json.encode(row) for row in given]
    return next((f"{a.decode()} became {b.decode()}" for a, b in zip(before, after, strict=True) if a != b), None)


def threads_get_what_one_gets(subject: Subject) -> str | None:
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
                if seen := _first_difference(once, answers, "alone and beside other threads, a row gets"):
                    return seen
    return None


def predictions_are_finite_json(subject: Subject) -> str | None:
    """JSON has no NaN: it would be written as null."""
    for answer in subject.answers(subject.rows):
        msgspec.json.encode(answer)
        if any(isinstance(leaf, float) and not math.isfinite(leaf) for leaf in leaves(msgspec.to_builtins(answer))):
            return f"a prediction holds a number that is not finite: {_short(answer)}"
    return None


def fitting_twice_gives_the_same_model(subject: Subject) -> str | None:
    """The seed decides all that is random."""
    answers = []
    for _ in range(2):
        model = type(subject.model)()
        model.fit(list(subject.rows), list(subject.labels), seed=SEED)
        answers.append(list(model.predict(list(subject.rows))))
    return _first_difference(answers[0], answers[1], f"fitted twice with seed {SEED}, the model answers a row with")


def a_saved_model_answers_the_same(subject: Subject) -> str | None:
    """What the registry keeps of a model, which is `estimator`, is all that it needs."""
    model = subject.model
    if name_is_well_formed(subject):
        return None  # It can't be saved, and its own law says so.
    version = model.version
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry(Path(folder))
        try:
            saved = registry.save(model, metrics={}, training_data_sha256="", seed=SEED)
        finally:
            model.version = version
        opened = registry.open(model.name, saved, model_class=type(model))
    return _first_difference(
        subject.answers(subject.rows), list(opened.predict(list(subject.rows))), "before and after saving, a row gets"
    )


def evaluate_has_the_primary_metric(subject: Subject) -> str | None:
    """What decides between two versions is measured, as a finite number."""
    model = subject.model
    if _unwritten(type(model), "evaluate"):
        return None  # That is for the law of written methods.
    metrics: Mapping[str, float] = model.evaluate(subject.answers(subject.rows), list(subject.labels))
    if model.primary_metric not in metrics:
        return f"primary_metric is {model.primary_metric!r}, but evaluate() gives {sorted(metrics)}"
    value = metrics[model.primary_metric]
    return None if math.isfinite(value) else f"{model.primary_metric} is {value}"


LAWS: tuple[Law, ...] = (
    methods_are_written,
    name_is_well_formed,
    features_and_prediction_are_frozen,
    the_schema_accepts_the_examples,
    an_unknown_field_is_refused,
    missing_values_follow_the_policy,
    a_wrong_type_is_refused_by_name,
    what_is_not_finite_is_refused_by_name,
    decode_depends_on_nothing_but_its_bytes,
    one_prediction_a_row_of_its_type,
    no_rows_get_no_predictions,
    a_row_alone_is_answered_as_in_a_batch,
    the_order_of_rows_does_not_matter,
    predict_does_not_change_its_rows,
    threads_get_what_one_gets,
    predictions_are_finite_json,
    fitting_twice_gives_the_same_model,
    a_saved_model_answers_the_same,
    evaluate_has_the_primary_metric,
)


def _unwritten(cls: type[MLEModel], method: str) -> bool:
    written, declared = getattr(cls, method), getattr(MLEModel, method)
    return getattr(written, "__func__", written) is getattr(declared, "__func__", declared)


def _refusal(subject: Subject, field: str, raw: bytes) -> str | None:
    """What is wrong with how `raw` is refused for `field`; None if it is as it must be."""
    try:
        subject.model.decode(raw)
    except InvalidFeatures as error:
        return None if f"`{field}" in str(error) else f"the message does not name `{field}`: {error}"
    except Exception as error:
        return f"{_short(raw)} raised {type(error).__name__} instead of InvalidFeatures: {error}"
    return f"accepted, though `{field}` must be refused: {_short(raw)}"


def _first_difference(ones: Sequence[Any], others: Sequence[Any], what: str, tolerance: float = 0.0) -> str | None:
    """The first pair that differs. That there are as many of both is the matter of another law."""
    for one, other in zip(ones, others, strict=False):
        if not same(msgspec.to_builtins(one), msgspec.to_builtins(other), tolerance):
            return f"{what} {_short(one)} and {_short(other)}"
    return None


def _short(value: Any) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else repr(value)
    return text if len(text) <= 200 else text[:200] + "..."
