"""The declaration that a fitted model, a sample and the events of a topic suggest."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct

from machine_learning_engineering.adoption.inspection import Inspection
from machine_learning_engineering.adoption.matching import EventFields, Match, match_features
from machine_learning_engineering.adoption.writing import write_declaration
from machine_learning_engineering.declaration.checking import UNDECIDED
from machine_learning_engineering.declaration.schema import (
    Declaration,
    FeatureDeclaration,
    ModelDeclaration,
    ResultDeclaration,
    SourceDeclaration,
)

__all__ = ["Proposal", "model_name", "propose"]

_NO_NAME = re.compile(r"[^a-z0-9_-]+")


class Proposal(NamedTuple):
    """A declaration with what is not decided: `matches` by feature, empty without a topic."""

    declaration: Declaration
    text: str
    matches: Mapping[str, Match]

    @property
    def undecided(self) -> list[str]:
        """Features whose field in the events a person has to choose."""
        return [name for name, match in self.matches.items() if match.path is None]


class Facts(Struct, frozen=True):
    """What is known besides the inspection. `file` and `sample` are written as they were named."""

    name: str
    label: str
    file: str
    sample: str
    origin: str
    """A line that tells where the model comes from."""


def model_name(source: str) -> str:
    """A model's name from that of its file or URI: ``fraud.joblib`` and ``mlflow:models:/fraud/1`` are ``fraud``."""
    last = source.rstrip("/").rpartition("/")[2]
    if source.startswith(("mlflow:", "models:")) and (last.isdigit() or "/" in source):
        last = re.sub(r"^models:", "", source.removeprefix("mlflow:")).strip("/").split("/")[0].partition("@")[0]
    stem = last.partition(".")[0].lower()
    return _NO_NAME.sub("-", stem).strip("-_") or "model"


def propose(
    facts: Facts, estimator: Any, inspection: Inspection, topic: str = "", fields: EventFields | None = None
) -> Proposal:
    """Propose a declaration.

    Args:
        facts: Names and origin.
        estimator: The fitted estimator.
        inspection: What it takes and answers.
        topic: The topic whose events are requests; empty for none.
        fields: Fields of its newest events.
    """
    features, matches, notes = dict(inspection.features), dict[str, Match](), dict[str, str]()
    source, result = None, ResultDeclaration()
    if topic:
        fields = fields or EventFields(0, {}, "", "", "")
        matches = match_features(features, fields)
        for name, match in matches.items():
            features[name], notes[name] = _mapped(name, features[name], match)
        source = SourceDeclaration(topic=topic, requested_at=fields.requested_at)
        if fields.request_id:
            source = msgspec.structs.replace(source, request_id=fields.request_id)
        include = dict.fromkeys(path for path in (fields.request_id, fields.key) if path)
        result = ResultDeclaration(include=tuple(include))
    model = ModelDeclaration(
        name=facts.name,
        answer=inspection.answer,
        label=facts.label,
        classes=classes_of(estimator),
        inputs=inputs_of(estimator, len(features)),
        file=facts.file,
        sample=facts.sample,
    )
    declaration = Declaration(model=model, features=features, source=source, result=result)
    head = [facts.origin, "Edit it, look again with inflight adopt FILE, and save it with inflight adopt FILE --write."]
    return Proposal(declaration, write_declaration(declaration, notes, head), matches)


def classes_of(estimator: Any) -> tuple[Any, ...]:
    """The labels of a classifier, in its order; none of an estimator that predicts numbers, or of several outputs."""
    classes = getattr(estimator, "classes_", None)
    clusters = getattr(estimator, "labels_", None)
    if classes is None and clusters is not None:
        # Of a clustering.
        classes = np.unique(clusters)
    if classes is None or not hasattr(classes, "tolist") or len(classes) < 2:
        return ()
    found = classes.tolist()
    return tuple(found) if all(isinstance(one, bool | int | float | str) for one in found) else ()


def inputs_of(estimator: Any, features: int) -> Any:
    """What an estimator was fitted on: a frame, an array, or one column."""
    if hasattr(estimator, "feature_names_in_"):
        return "frame"
    return "column" if features == 1 and not hasattr(estimator, "n_features_in_") else "array"


def _mapped(name: str, feature: FeatureDeclaration, match: Match) -> tuple[FeatureDeclaration, str]:
    if match.path is not None:
        return msgspec.structs.replace(feature, from_="" if match.path == name else match.path), ""
    note = f"AMBIGUOUS: {' or '.join(match.paths)}" if match.paths else "no field of the newest events has this name"
    return msgspec.structs.replace(feature, from_=UNDECIDED), note
