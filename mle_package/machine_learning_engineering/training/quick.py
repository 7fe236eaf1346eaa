"""Quick training of one estimator, the model's `new_estimator` by default, without layers and candidates.

`training.pipeline` compares candidates and stores the data layers.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from machine_learning_engineering.core.candidate import Candidate
from machine_learning_engineering.core.example import Example
from machine_learning_engineering.core.frames import examples_of
from machine_learning_engineering.core.model import Model
from machine_learning_engineering.drift.binning import reference_profile
from machine_learning_engineering.evaluation.estimates import finite_metrics
from machine_learning_engineering.evaluation.splits import HeldOut, hash_fraction, split, split_key
from machine_learning_engineering.registry.manifest import Lineage
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.settings import KernelSettings
from machine_learning_engineering.training.promotion import Verdict, promote_if_better
from machine_learning_engineering.training.run_log import plain_params
from machine_learning_engineering.training.similar import index_of
from machine_learning_engineering.training.sources import digest_of

if TYPE_CHECKING:
    import pandas

__all__ = ["TrainingRun", "train"]

ProgressCallback = Callable[[str], None]


class TrainingRun(msgspec.Struct, frozen=True):
    """Result of a training. `seconds` is its duration, `reason` says why the version was promoted or not."""

    model: str
    version: str
    promoted: bool
    reason: str
    metrics: dict[str, float]
    rows_trained: int
    rows_held_out: int
    training_data_sha256: str
    seed: int
    seconds: float


def train(
    model_class: type[Model],
    settings: KernelSettings,
    *,
    examples: "Iterable[Example] | pandas.DataFrame | None" = None,
    on_progress: ProgressCallback = lambda step: None,
    promote: bool = True,
    candidate: Candidate | None = None,
    params: Mapping[str, Any] | None = None,
    training_run: str = "",
    notes: Mapping[str, Any] | None = None,
) -> TrainingRun:
    """Fit a model on about four fifths of its dataset, measure it on the rest, save it, and perhaps promote it.

    The rule is that of `training.promotion`.

    The same data, settings and library versions give the same model and the same metrics.

    Args:
        examples: Labelled rows, or a frame of them (`core.frames.examples_of`); the model's own dataset by default.
        on_progress: Called with each step when it begins.
        promote: False if the caller decides on the promotion.
        candidate: The estimator to fit, with `params` over its defaults; `new_estimator` by default.
        training_run: Id of this training in the version's lineage.
        notes: Further facts for the version's `params`, as JSON values.

    Raises:
        DatasetUnavailable: The dataset is unavailable.
        InvalidFeatures: A row does not fit the model's schema.
        ValueError: There are too few rows to hold some out, or the primary metric is missing or not finite.
        RegistryError: The version can't be saved; or the aliases are unreadable, and the version is saved but not
            promoted.
    """
    started = time.monotonic()
    model = model_class()
    on_progress(f"{model.name}: reading the dataset")
    found = model.examples(settings.data_dir) if examples is None else examples_of(model_class, examples)
    examples = list(found)
    # Rows are encoded and decoded like requests, so that training and serving see the same values.
    encoded = [msgspec.json.encode(example.features) for example in examples]
    rows = [model.decode(raw) for raw in encoded]
    labels = [example.label for example in examples]
    digest = digest_of((raw, msgspec.json.encode(label)) for raw, label in zip(encoded, labels, strict=True))
    groups = [split_key(example.group, row) for example, row in zip(examples, rows, strict=True)]
    fitting, testing = split(len(rows), settings.seed, groups)
    held_out = HeldOut.select(rows, labels, groups, testing, settings.seed)
    fitted = [rows[i] for i in fitting]
    on_progress(f"{model.name}: fitting {len(fitting)} rows")
    # By default none, so that a model's own `fit` need not accept them.
    choice: dict[str, Any] = {} if candidate is None else {"candidate": candidate, "params": params}
    fitted_labels = [labels[i] for i in fitting]
    model.fit(fitted, fitted_labels, seed=settings.seed, **choice)
    on_progress(f"{model.name}: measuring on {len(testing)} rows")
    predictions = model.predict(held_out.rows)
    metrics = finite_metrics(model, model.evaluate(predictions, held_out.labels))
    on_progress(f"{model.name}: saving")
    registry = Registry(settings.registry_dir)
    version = registry.save(
        model,
        metrics=metrics,
        training_data_sha256=digest,
        seed=settings.seed,
        params={
            **(notes or {}),
            **({} if candidate is None else {"candidate": candidate.name, "params": plain_params(params or {})}),
            "rows_trained": len(fitting),
            "rows_held_out": len(testing),
            "train_min_hash": hash_fraction(groups[fitting[0]], settings.seed),
            "dataset_sha256": model.dataset_sha256,
        },
        profile=reference_profile(
            model, fitted, predictions, held_out.labels, held_out=held_out.rows, groups=held_out.groups
        ),
        lineage=Lineage(training_run),
        similar=index_of(model, settings, fitted, fitted_labels),
    )
    verdict = promote_if_better(registry, model, held_out) if promote else Verdict(False, "not asked to promote")
    return TrainingRun(
        model=model.name,
        version=version,
        promoted=verdict.promote,
        reason=verdict.reason,
        metrics=metrics,
        rows_trained=len(fitting),
        rows_held_out=len(testing),
        training_data_sha256=digest,
        seed=settings.seed,
        seconds=round(time.monotonic() - started, 3),
    )
