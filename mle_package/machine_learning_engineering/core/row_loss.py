"""How wrong one prediction is, where a model does not say so itself: by the type of its label."""

from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Struct

THRESHOLD = 0.5
"""A probability above it predicts that a truth value is true."""


def row_loss(prediction: Struct, label: Any, kind: Any, name: str) -> float:
    """The distance of numbers; for classes, texts and truth values 0 if the prediction is right and 1 if not.

    What is compared with the label is the field of its name, or else the first field of its type.

    Args:
        prediction: A prediction.
        label: Its true value.
        kind: Type of labels, as a model declares it.
        name: Name of labels.

    Raises:
        TypeError: No field of the prediction can be compared with such a label.
    """
    value = _value(prediction, label, name)
    if _is_number(label) and get_origin(_plain(kind)) is not Literal:
        return abs(float(value) - float(label))
    if isinstance(label, bool) and not isinstance(value, bool):
        value = value > THRESHOLD
    return float(value != label)


def _value(prediction: Struct, label: Any, name: str) -> Any:
    fields = {field.encode_name: getattr(prediction, field.name) for field in msgspec.structs.fields(prediction)}
    if name in fields and _comparable(fields[name], label):
        return fields[name]
    # Of a truth value, a flag tells more than a probability.
    comparable = [value for value in fields.values() if _comparable(value, label)]
    for value in sorted(comparable, key=lambda value: type(value) is not type(label)):
        return value
    raise TypeError(
        f"no field of {type(prediction).__name__} can be compared with a label of type {type(label).__name__}: "
        "the model must define row_loss()"
    )


def _comparable(value: Any, label: Any) -> bool:
    if isinstance(label, bool):
        return isinstance(value, bool | float)
    return _is_number(value) if _is_number(label) else isinstance(label, str) and isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind
