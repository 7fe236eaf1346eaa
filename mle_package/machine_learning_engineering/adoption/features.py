"""The schema of an adopted model's requests and labels, made from the declaration of its features."""

import keyword
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct

from machine_learning_engineering.declaration.schema import Declaration, FeatureDeclaration

__all__ = ["features_struct", "label_type"]

_TYPES: Mapping[str, type] = {"float": float, "int": int, "bool": bool, "text": str}
_LIMITS = ("ge", "gt", "le", "lt")


def features_struct(name: str, features: Mapping[str, FeatureDeclaration]) -> type[Struct]:
    """Make the struct of a request, with a field for each feature, in order.

    A field may have any name in JSON; in Python one that is no identifier is called ``feature_3``.
    """
    fields: list[Any] = []
    names: dict[str, str] = {}
    for number, (feature, declared) in enumerate(features.items()):
        attribute = feature if _is_attribute(feature) else f"feature_{number}"
        while attribute in names:
            attribute += "_"
        names[attribute] = feature
        kind = _annotated(declared)
        default = _default(declared)
        fields.append((attribute, kind) if default is UNSET else (attribute, kind, default))
    return msgspec.defstruct(name, fields, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=names)


def _is_attribute(name: str) -> bool:
    return name.isidentifier() and name.isascii() and not keyword.iskeyword(name) and not name.startswith("__")


def _default(declared: FeatureDeclaration) -> Any:
    if declared.constant is not UNSET:
        return _number(declared, declared.constant)
    if declared.default is not UNSET:
        return _number(declared, declared.default)
    return None if declared.missing == "ok" else UNSET


def _number(declared: FeatureDeclaration, value: Any) -> Any:
    return float(value) if declared.type == "float" else value


def _annotated(declared: FeatureDeclaration) -> Any:
    kind = _kind(declared)
    about: dict[str, Any] = {"description": _description(declared), "examples": _examples(declared)}
    if told := {name: value for name, value in about.items() if value}:
        kind = Annotated[kind, Meta(**told)]
    optional = declared.missing == "ok" or declared.default is not UNSET
    return kind | None if optional and declared.constant is UNSET else kind


def _kind(declared: FeatureDeclaration) -> Any:
    if declared.constant is not UNSET:
        if declared.type in ("text", "int"):
            return Literal[declared.constant]
        if declared.type == "float":
            only = float(declared.constant)
            return Annotated[float, Meta(ge=only, le=only)]
        return bool
    if declared.known and declared.others == "refuse" and declared.type in ("text", "int"):
        return Literal[declared.known]
    kind: Any = _TYPES[declared.type]
    limits = {name: getattr(declared, name) for name in _LIMITS if getattr(declared, name) is not UNSET}
    if declared.type == "int":
        limits = {name: int(value) for name, value in limits.items()}
    return Annotated[kind, Meta(**limits)] if limits else kind


def _examples(declared: FeatureDeclaration) -> list[Any]:
    if declared.example is not UNSET:
        return [_number(declared, declared.example)]
    return list(declared.known[:3])


def _description(declared: FeatureDeclaration) -> str:
    told = []
    if declared.range is not UNSET:
        told.append(f"In the sample from {declared.range[0]:g} to {declared.range[1]:g}.")
    if declared.known and declared.others == "count":
        known = ", ".join(map(str, declared.known[:20]))
        told.append(f"Known values: {known}{' and more' if len(declared.known) > 20 else ''}.")
    if declared.missing == "ok":
        told.append("May be missing.")
    return " ".join(told)


def label_type(declaration: Declaration) -> Any:
    """The type of a label: one of the declared classes, or a number."""
    classes = declaration.model.classes
    if not classes:
        return float
    kind: Any = type(classes[0])
    return kind if kind in (bool, float) else Literal[classes]
