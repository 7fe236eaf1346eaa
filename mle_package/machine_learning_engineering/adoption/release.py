"""A version of an adopted model: checked against the original object and the contract, measured, and saved."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from machine_learning_engineering.adoption.model import AdoptedModel, Origin, adopted_class
from machine_learning_engineering.adoption.opening import OpenedModel
from machine_learning_engineering.adoption.parity import ParityReport, check_parity
from machine_learning_engineering.adoption.sample import Sample
from machine_learning_engineering.core.example import Example
from machine_learning_engineering.core.validation import InvalidFeatures
from machine_learning_engineering.declaration.schema import Declaration
from machine_learning_engineering.drift.binning import reference_profile
from machine_learning_engineering.drift.profile import Profile
from machine_learning_engineering.evaluation.estimates import finite_metrics
from machine_learning_engineering.evaluation.splits import HeldOut, split_key
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.testing.check_model import CheckFailed, prepare, run_check
from machine_learning_engineering.testing.checks import CHECKS
from machine_learning_engineering.training.records import decode_label

__all__ = ["AdoptionRefused", "Candidate", "check_contract", "measure", "save"]

_NEED_LABELS = ("check_fit_deterministic", "check_primary_metric")


class AdoptionRefused(ValueError):
    """A model can't be adopted as it is declared. The message says why, and the fix."""


class Candidate(NamedTuple):
    """A declared model with its estimator, and what the sample tells of it."""

    model: AdoptedModel
    examples: Sequence[Example]
    rows: Sequence[Any]
    labels: Sequence[Any]
    """True values of the rows; empty if the sample has none."""
    predictions: Sequence[Any]
    metrics: dict[str, float]
    parity: ParityReport | None
    """None without a sample."""
    seed: int

    @property
    def profile(self) -> Profile | None:
        """The reference profile; None without a sample."""
        if not self.rows:
            return None
        groups = [split_key(None, row) for row in self.rows]
        held_out = self.rows if self.labels else ()
        return reference_profile(
            self.model,
            self.rows,
            self.predictions,
            self.labels,
            held_out=held_out,
            groups=groups if self.labels else (),
        )

    @property
    def held_out(self) -> HeldOut:
        """The labelled rows, as the promotion rule takes them."""
        groups = [split_key(None, row) for row in self.rows]
        return HeldOut.select(self.rows, self.labels, groups, range(len(self.labels)), self.seed)


def measure(
    declaration: Declaration, content: bytes, opened: OpenedModel, sample: Sample | None, seed: int
) -> Candidate:
    """Put a declared model together and ask it about the sample.

    Args:
        declaration: The declaration.
        content: Its TOML text.
        opened: The fitted estimator.
        sample: Rows as the pipeline was fitted on.
        seed: For what is drawn at random later.

    Raises:
        DeclarationProblem: An expression can't be used.
        AdoptionRefused: The declaration refuses rows of the sample, lacks a column, or the answers can't be computed.
    """
    examples: list[Example] = []
    made = adopted_class(declaration, content, origin=Origin(lambda: opened.estimator, lambda: examples))
    model = made()
    model.estimator = opened.estimator
    # Parity is that of the route which workers take.
    model.opened()
    if sample is None:
        return Candidate(model, (), (), (), (), {}, None, seed)
    if lacking := [name for name in declaration.features if name not in sample.frame.columns]:
        raise AdoptionRefused(f"the sample lacks the column `{lacking[0]}`, which is a feature: correct one of the two")
    examples += sample.examples(declaration.features)
    rows, labels = _decoded(model, sample, examples)
    predictions = _predictions(model, rows)
    metrics = dict(finite_metrics(model, model.evaluate(predictions, labels))) if labels else {}
    return Candidate(model, examples, rows, labels, predictions, metrics, _parity(model, opened, sample), seed)


def _decoded(model: AdoptedModel, sample: Sample, examples: Sequence[Example]) -> tuple[list[Any], list[Any]]:
    if sample.labels is None:
        return [_row(model, one.features, number) for number, one in enumerate(_unlabelled(model, sample), 1)], []
    rows, labels = [], []
    for number, example in enumerate(examples, 1):
        rows.append(_row(model, example.features, number))
        try:
            labels.append(decode_label(model.Label, example.label))
        except msgspec.ValidationError as error:
            raise AdoptionRefused(
                f"row {number} of the sample: the label in `{model.label_name}` does not fit `classes`: {error}"
            ) from error
    return rows, labels


def _unlabelled(model: AdoptedModel, sample: Sample) -> list[Example]:
    return sample._replace(labels=[True] * len(sample.frame)).examples(model.declared.features)


def _row(model: AdoptedModel, features: dict[str, Any], number: int) -> Any:
    try:
        return model.decode(msgspec.json.encode(features))
    except InvalidFeatures as error:
        raise AdoptionRefused(f"row {number} of the sample is refused: {error}; correct the declaration") from error


def _predictions(model: AdoptedModel, rows: Sequence[Any]) -> list[Any]:
    try:
        return list(model.predict(rows))
    except Exception as error:  # The pipeline is the user's own.
        raise AdoptionRefused(
            f"the pipeline can't answer the sample: {type(error).__name__}: {error!s:.500}"
        ) from error


def _parity(model: AdoptedModel, opened: OpenedModel, sample: Sample) -> ParityReport:
    """Compare with the object as it was opened, which is asked with the sample's own frame."""
    features = model.declared.features
    frame = sample.frame[list(features)]
    original = opened.answers or opened.estimator

    def ask(rows: Any) -> Sequence[Any]:
        # What was recorded is known by the frame's index.
        inputs = model.inputs_of(rows) if opened.answers is None else rows
        return list(map(model.Prediction, *model.answers.compute(original, inputs, len(rows))))

    def answer(rows: list[dict[str, Any]]) -> Sequence[Any]:
        return model.predict([_row(model, _present(row), number) for number, row in enumerate(rows, 1)])

    return check_parity(ask, answer, frame, features)


def _present(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def check_contract(candidate: Candidate, on_check: Callable[[str, int, int], None] = lambda *_: None) -> list[str]:
    """Run the contract checks; returns what each broken one found. Without labels, those that need them are left out.

    Args:
        candidate: The model with a sample.
        on_check: Called before each check with its name, its number from 0, and their number.
    """
    checks = [one for one in CHECKS if candidate.labels or one.__name__ not in _NEED_LABELS]
    examples = candidate.examples or [Example(features, None) for features in _plain(candidate)]
    try:
        case = prepare(candidate.model, examples=examples)
    except CheckFailed as error:
        return [error.problem]
    broken = []
    for number, check in enumerate(checks):
        on_check(check.__name__, number, len(checks))
        try:
            run_check(check, case)
        except CheckFailed as error:
            broken.append(f"{error.check.removeprefix('check_')}: {error.problem}")
    return broken


def _plain(candidate: Candidate) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in msgspec.to_builtins(row).items() if value is not None} for row in candidate.rows
    ]


def save(candidate: Candidate, registry: Registry, opened: OpenedModel, sample_sha256: str = "") -> str:
    """Save a version; it is not promoted.

    Args:
        candidate: The measured model.
        registry: Where to.
        opened: Where it comes from.
        sample_sha256: Digest of the sample's file.

    Returns:
        The new version.

    Raises:
        RegistryError: It can't be saved.
    """
    return registry.save(
        candidate.model,
        metrics=candidate.metrics,
        training_data_sha256=sample_sha256,
        seed=candidate.seed,
        params={
            "adopted_from": opened.format,
            "adopted_sha256": opened.sha256,
            "adopted_scikit_learn": opened.scikit_learn_version,
            "metrics_of": f"{len(candidate.labels)} rows of the sample" if candidate.labels else "no sample",
        },
        profile=candidate.profile,
    )
