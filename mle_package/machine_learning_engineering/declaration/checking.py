"""Whether the fields of a declaration fit together: what the schema of a single field can't tell."""

import keyword
import math
import operator
import re
from collections.abc import Callable
from typing import Any

from msgspec import UNSET

from machine_learning_engineering.declaration.problem import DeclarationProblem
from machine_learning_engineering.declaration.schema import Declaration, FeatureDeclaration, SourceDeclaration

__all__ = ["UNDECIDED", "check"]

UNDECIDED = "???"
"""In place of a path that a person has to write."""

_MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,127}")
_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TYPES: dict[str, tuple[type, ...]] = {"float": (int, float), "int": (int,), "bool": (bool,), "text": (str,)}
_WORDS = {"float": "a number", "int": "an integer", "bool": "true or false", "text": "a text"}
_LOWER, _UPPER = ("ge", "gt"), ("le", "lt")
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "ge": operator.ge,
    "gt": operator.gt,
    "le": operator.le,
    "lt": operator.lt,
}
_MAX_INTEGER = 2**63


def check(declaration: Declaration) -> None:
    """Check a declaration.

    Raises:
        DeclarationProblem: Two fields contradict each other, or a value can't be used.
    """
    _check_model(declaration)
    if not declaration.features:
        raise DeclarationProblem(("features",), 'there are no features: add one, such as amount = { type = "float" }')
    for name, feature in declaration.features.items():
        if not name or len(name) > 200 or any(not one.isprintable() for one in name):
            raise DeclarationProblem(
                ("features", name[:40]), "is no name of a feature: use 1 to 200 printable characters"
            )
        _check_feature(("features", name), feature)
    if declaration.source is not None:
        _check_source(declaration.source)
    for number, path in enumerate(declaration.result.include):
        if declaration.result.include.index(path) < number:
            raise DeclarationProblem(("result", "include"), f"names {path[:60]} twice: leave one out")
        _check_path(("result", "include"), path)


def _check_model(declaration: Declaration) -> None:
    model = declaration.model
    if not _MODEL_NAME.fullmatch(model.name):
        raise DeclarationProblem(
            ("model", "name"), "must be 1 to 128 of a-z, 0-9, - and _, beginning with a letter or digit"
        )
    if not model.answer:
        raise DeclarationProblem(("model", "answer"), 'is empty: write { prediction = "predict" }')
    for name in model.answer:
        if not _FIELD_NAME.fullmatch(name) or keyword.iskeyword(name) or len(name) > 100:
            raise DeclarationProblem(
                ("model", "answer", name[:40]), "is no name of a field: use letters, digits and _, not first a digit"
            )
    if model.label in declaration.features:
        raise DeclarationProblem(("model", "label"), f"`{model.label}` is a feature as well: rename one of the two")
    if not _MODEL_NAME.fullmatch(model.prediction_name):
        raise DeclarationProblem(("model", "prediction_name"), "must be of a-z, 0-9, - and _: it is a part of a URL")
    kinds = {type(one) for one in model.classes}
    if len(kinds) > 1 or len(set(model.classes)) < len(model.classes):
        raise DeclarationProblem(("model", "classes"), "must be different values of one type")
    if len(model.classes) == 1:
        raise DeclarationProblem(("model", "classes"), "must be at least two: leave it out if a number is predicted")
    for name in model.redact:
        if name != "*" and name not in declaration.features:
            raise DeclarationProblem(("model", "redact", name), "there is no such feature")
    if model.inputs == "column" and len(declaration.features) != 1:
        raise DeclarationProblem(
            ("model", "inputs"), f'"column" takes one feature, and there are {len(declaration.features)}'
        )


def _check_feature(path: tuple[str, ...], feature: FeatureDeclaration) -> None:
    if feature.from_ == UNDECIDED:
        raise DeclarationProblem(
            (*path, "from"), "is not decided yet: write the path of its field in the event, or replace it by `constant`"
        )
    if feature.from_:
        _check_path((*path, "from"), feature.from_)
    given = [name for name in (*_LOWER, *_UPPER, "range") if getattr(feature, name) is not UNSET]
    if given and feature.type not in ("float", "int"):
        raise DeclarationProblem((*path, given[0]), f"is a limit for numbers, and the feature is {feature.type}")
    if feature.numbers_as_text and feature.type not in ("float", "int"):
        raise DeclarationProblem((*path, "numbers_as_text"), f"is for numbers, and the feature is {feature.type}")
    _check_limits(path, feature)
    if feature.others == "refuse" and not feature.known:
        raise DeclarationProblem((*path, "others"), '"refuse" needs `known`: list the values that are accepted')
    for name, values in (
        ("known", feature.known),
        ("default", (feature.default,)),
        ("constant", (feature.constant,)),
        ("example", (feature.example,)),
    ):
        for value in values:
            if value is not UNSET:
                _check_value((*path, name), value, feature, limited=name != "example")
    if feature.constant is not UNSET:
        for other, stated in (("from", bool(feature.from_)), ("default", feature.default is not UNSET)):
            if stated:
                raise DeclarationProblem(
                    (*path, "constant"),
                    f"every request has this value, so `{other}` says nothing: leave one of them out",
                )


def _check_limits(path: tuple[str, ...], feature: FeatureDeclaration) -> None:
    for pair in (_LOWER, _UPPER):
        if all(getattr(feature, name) is not UNSET for name in pair):
            raise DeclarationProblem((*path, pair[1]), f"`{pair[0]}` is there as well: leave one of them out")
    for name in (*_LOWER, *_UPPER):
        if (value := getattr(feature, name)) is not UNSET and not math.isfinite(value):
            raise DeclarationProblem((*path, name), "must be a finite number: leave it out for no limit")
        if value is not UNSET and feature.type == "int" and not float(value).is_integer():
            raise DeclarationProblem((*path, name), "must be a whole number, because the feature is an integer")
    low = next((name for name in _LOWER if getattr(feature, name) is not UNSET), None)
    high = next((name for name in _UPPER if getattr(feature, name) is not UNSET), None)
    if low and high:
        least, most = getattr(feature, low), getattr(feature, high)
        if least > most or (least == most and (low, high) != ("ge", "le")):
            raise DeclarationProblem(
                (*path, high), f"no number is {_sign(low)} {least:g} and {_sign(high)} {most:g}: correct one of them"
            )
    if feature.range is not UNSET:
        least, most = feature.range
        if not (math.isfinite(least) and math.isfinite(most)) or least > most:
            raise DeclarationProblem((*path, "range"), "must be the least and the greatest value, two finite numbers")


def _check_value(path: tuple[str, ...], value: Any, feature: FeatureDeclaration, *, limited: bool) -> None:
    kinds = _TYPES[feature.type]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise DeclarationProblem(path, f"must be {_WORDS[feature.type]}, as the feature is")
    if isinstance(value, float) and not math.isfinite(value):
        raise DeclarationProblem(path, "must be a finite number")
    if isinstance(value, int) and abs(value) >= _MAX_INTEGER:
        raise DeclarationProblem(path, "must be less than 2**63")
    if limited and feature.type in ("float", "int"):
        for name, holds in _COMPARISONS.items():
            limit = getattr(feature, name)
            if limit is not UNSET and not holds(value, limit):
                raise DeclarationProblem(path, f"must be {_sign(name)} {limit:g}, as `{name}` says")
    if limited and path[-1] != "known" and feature.others == "refuse" and value not in feature.known:
        raise DeclarationProblem(path, "must be one of `known`")


def _sign(name: str) -> str:
    return {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}[name]


def _check_path(where: tuple[str, ...], path: str) -> None:
    if not path or len(path) > 500 or (not path.startswith("/") and any(not step for step in path.split("."))):
        raise DeclarationProblem(where, "is no path: write names joined by dots, such as order.amount")


def _check_source(source: SourceDeclaration) -> None:
    if not source.topic:
        raise DeclarationProblem(("source", "topic"), "is empty: write the full name of the topic")
    if source.format == "json" and source.registry:
        raise DeclarationProblem(
            ("source", "registry"), 'is for framed formats: set format = "avro", "protobuf" or "json-schema"'
        )
    if source.requested_at:
        _check_path(("source", "requested_at"), source.requested_at)
