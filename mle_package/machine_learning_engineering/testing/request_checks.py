"""Contract checks of what a model declares and which requests it accepts; see `testing.checks`."""

from contextlib import suppress

import msgspec
from msgspec import Raw, inspect

from machine_learning_engineering.core.json_values import is_finite
from machine_learning_engineering.core.types import json_kinds
from machine_learning_engineering.core.validation import InvalidFeatures
from machine_learning_engineering.registry.uri import NAME
from machine_learning_engineering.testing.case import CheckCase, contract_check, first_difference, is_inherited, short

METHODS = ("examples", "new_estimator", "build_inputs", "predict", "evaluate")


@contract_check
def check_methods_implemented(case: CheckCase) -> str | None:
    """The five abstract methods are implemented."""
    cls = type(case.model)
    missing = [name for name in METHODS if is_inherited(cls, name)]
    return f"not implemented: {', '.join(f'{cls.__name__}.{name}()' for name in missing)}" if missing else None


@contract_check
def check_name(case: CheckCase) -> str | None:
    """The name is valid in a path, a Kafka key and a URL."""
    name = case.model.name
    return None if NAME.fullmatch(name) else f"the name {name!r} does not match {NAME.pattern}"


@contract_check
def check_structs_frozen(case: CheckCase) -> str | None:
    """Structs are frozen, because threads share rows."""
    structs = {"Features": case.model.Features, "Prediction": case.model.Prediction}
    mutable = [name for name, struct in structs.items() if not struct.__struct_config__.frozen]
    return f"{' and '.join(mutable)} must be declared with frozen=True" if mutable else None


@contract_check
def check_schema_accepts_examples(case: CheckCase) -> str | None:
    """Every example is a valid request, and `schema` describes its fields."""
    if case.rejected:
        return f"{len(case.rejected)} of the examples are rejected, such as: {case.rejected[0]}"
    schema = case.model.schema()
    definition = schema.get("$defs", {}).get(schema.get("$ref", "").rpartition("/")[2], schema)
    for example in case.examples:
        if unknown := set(example.features) - set(definition.get("properties", {})):
            return f"schema() lacks {sorted(unknown)}, which the examples have"
        if missing := set(definition.get("required", ())) - set(example.features):
            return f"schema() requires {sorted(missing)}, which an example lacks: {short(example.features)}"
    return None


@contract_check
def check_rejects_unknown_field(case: CheckCase) -> str | None:
    """An unknown field is rejected: it may be a misspelt optional one. A model may declare that it ignores them."""
    raw = msgspec.json.encode({**case.examples[0].features, "surprise": 1})
    if not case.model.ignores_unknown_fields:
        return _check_rejected(case, "surprise", raw)
    return first_difference([case.model.decode(raw)], case.rows, "with and without an unknown field, a request is")


@contract_check
def check_missing_values(case: CheckCase) -> str | None:
    """A field may be omitted if it has a default, and null if its type allows None; otherwise it is rejected by name.

    A row without the field gets one finite prediction.
    """
    complete = case.examples[0].features
    usual = case.predict(case.rows[:1])
    for field in msgspec.structs.fields(case.model.Features):
        name = field.encode_name
        absent = {key: value for key, value in complete.items() if key != name}
        nullable = "null" in json_kinds(inspect.type_info(field.type))
        for what, features, accepted in (
            ("omitted", absent, not field.required),
            ("null", complete | {name: None}, nullable),
        ):
            raw = msgspec.json.encode(features)
            if not accepted:
                if problem := _check_rejected(case, name, raw):
                    return problem
                continue
            try:
                predictions = case.predict([case.model.decode(raw)])
            except Exception as error:
                return f"`{name}` may be {what}, but {type(error).__name__} was raised: {error}"
            # If the complete row fails as well, another check reports it.
            if len(predictions) != len(usual):
                return f"`{name}` may be {what}, but the row then gets {len(predictions)} predictions"
            if not is_finite(predictions) and is_finite(usual):
                return f"`{name}` may be {what}, but its prediction is then not finite: {short(predictions[0])}"
    return None


@contract_check
def check_rejects_wrong_type(case: CheckCase) -> str | None:
    """A value of another JSON type is rejected by name, not converted."""
    complete = case.examples[0].features
    values = {"string": "1", "number": 1, "bool": True, "array": [[]], "object": {"a": 1}}
    for field in msgspec.structs.fields(case.model.Features):
        accepted = json_kinds(inspect.type_info(field.type))
        for kind, value in values.items():
            if kind in accepted or "any" in accepted:
                continue
            if kind == "string" and field.encode_name in case.model.numbers_as_text:
                continue
            raw = msgspec.json.encode({**complete, field.encode_name: value})
            if problem := _check_rejected(case, field.encode_name, raw):
                return problem
    return None


@contract_check
def check_rejects_non_finite(case: CheckCase) -> str | None:
    """NaN and infinities, which some JSON encoders write, are rejected by name."""
    complete = case.examples[0].features
    for field in msgspec.structs.fields(case.model.Features):
        for text in (b"NaN", b"Infinity", b"-Infinity", b"1e999"):
            raw = msgspec.json.encode({**complete, field.encode_name: Raw(text)})
            if problem := _check_rejected(case, field.encode_name, raw):
                return problem
    return None


@contract_check
def check_decode_deterministic(case: CheckCase) -> str | None:
    """Equal bytes decode to equal rows: repeatedly, in any order, after an error, and in an unfitted model."""
    requests = case.requests
    first = [case.model.decode(raw) for raw in requests]
    with suppress(InvalidFeatures):
        case.model.decode(b"{")
    other = type(case.model)()
    for decoded in ([other.decode(raw) for raw in requests[::-1]][::-1], [other.decode(raw) for raw in requests]):
        if problem := first_difference(first, decoded, "the same request, decoded twice, is"):
            return problem
    return None


def _check_rejected(case: CheckCase, field: str, raw: bytes) -> str | None:
    """Describe what is wrong unless decoding `raw` raises InvalidFeatures that names `field`."""
    try:
        case.model.decode(raw)
    except InvalidFeatures as error:
        return None if f"`{field}" in str(error) else f"the message does not name `{field}`: {error}"
    except Exception as error:
        return f"{short(raw)} raised {type(error).__name__} instead of InvalidFeatures: {error}"
    return f"accepted, but `{field}` must be rejected: {short(raw)}"
