"""The laws about what a model declares and which requests it takes; see `laws`."""

from contextlib import suppress

import msgspec
from msgspec import inspect

from machine_learning_engineering.core.json_values import is_finite
from machine_learning_engineering.core.types import kinds
from machine_learning_engineering.core.validation import InvalidFeatures
from machine_learning_engineering.registry.uri import NAME
from machine_learning_engineering.testing.case import CheckCase, first_difference, is_unwritten, short

METHODS = ("examples", "new_estimator", "build_inputs", "predict", "evaluate")


def methods_are_written(subject: CheckCase) -> str | None:
    """The five methods of the author are there."""
    cls = type(subject.model)
    missing = [name for name in METHODS if is_unwritten(cls, name)]
    return f"not written yet: {', '.join(f'{cls.__name__}.{name}()' for name in missing)}" if missing else None


def name_is_well_formed(subject: CheckCase) -> str | None:
    """The name can be a folder, a key and a part of a URL."""
    name = subject.model.name
    return None if NAME.fullmatch(name) else f"the name {name!r} does not match {NAME.pattern}"


def features_and_prediction_are_frozen(subject: CheckCase) -> str | None:
    """A row that several threads share can't be changed."""
    structs = {"Features": subject.model.Features, "Prediction": subject.model.Prediction}
    thawed = [name for name, struct in structs.items() if not struct.__struct_config__.frozen]
    return f"{' and '.join(thawed)} must be declared with frozen=True" if thawed else None


def the_schema_accepts_the_examples(subject: CheckCase) -> str | None:
    """Every example is a request that the model takes, and `schema` tells of each of its fields."""
    if subject.refused:
        return f"{len(subject.refused)} of the examples are refused, such as: {subject.refused[0]}"
    schema = subject.model.schema()
    definition = schema.get("$defs", {}).get(schema.get("$ref", "").rpartition("/")[2], schema)
    for example in subject.examples:
        if unknown := set(example.features) - set(definition.get("properties", {})):
            return f"schema() does not tell of {sorted(unknown)}, which the examples have"
        if missing := set(definition.get("required", ())) - set(example.features):
            return f"schema() requires {sorted(missing)}, which an example lacks: {short(example.features)}"
    return None


def an_unknown_field_is_refused(subject: CheckCase) -> str | None:
    """A misspelt optional field must not pass in silence."""
    return _refusal(subject, "surprise", msgspec.json.encode({**subject.examples[0].features, "surprise": 1}))


def missing_values_follow_the_policy(subject: CheckCase) -> str | None:
    """A field with a default may be left out, one of a type with None may be null; else it is refused by name.

    Without it a row is answered like any other: once, and with finite numbers.
    """
    complete = subject.examples[0].features
    usual = subject.answers(subject.rows[:1])
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
                answers = subject.answers([subject.model.decode(raw)])
            except Exception as error:
                return f"`{name}` may be {what}, but {type(error).__name__} was raised: {error}"
            # Where the usual answer is wrong as well, another law says so.
            if len(answers) != len(usual):
                return f"`{name}` may be {what}, but the row then gets {len(answers)} predictions"
            if not is_finite(answers) and is_finite(usual):
                return f"`{name}` may be {what}, but the answer is then not finite: {short(answers[0])}"
    return None


def a_wrong_type_is_refused_by_name(subject: CheckCase) -> str | None:
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


def what_is_not_finite_is_refused_by_name(subject: CheckCase) -> str | None:
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


def decode_depends_on_nothing_but_its_bytes(subject: CheckCase) -> str | None:
    """The same bytes are the same row: later, in another order, after a refusal, and in an unfitted model."""
    requests = subject.requests
    first = [subject.model.decode(raw) for raw in requests]
    with suppress(InvalidFeatures):
        subject.model.decode(b"{")
    other = type(subject.model)()
    for decoded in ([other.decode(raw) for raw in requests[::-1]][::-1], [other.decode(raw) for raw in requests]):
        if seen := first_difference(first, decoded, "the same request, decoded twice, is"):
            return seen
    return None


def _refusal(subject: CheckCase, field: str, raw: bytes) -> str | None:
    """What is wrong with how `raw` is refused for `field`; None if it is as it must be."""
    try:
        subject.model.decode(raw)
    except InvalidFeatures as error:
        return None if f"`{field}" in str(error) else f"the message does not name `{field}`: {error}"
    except Exception as error:
        return f"{short(raw)} raised {type(error).__name__} instead of InvalidFeatures: {error}"
    return f"accepted, though `{field}` must be refused: {short(raw)}"
