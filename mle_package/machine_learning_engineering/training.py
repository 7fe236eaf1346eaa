"""Training: a dataset in, a version in the registry out, promoted if it is better than the champion."""

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from machine_learning_engineering.model import Example, MLEModel
from machine_learning_engineering.registry import CHAMPION, Registry, RegistryError
from machine_learning_engineering.settings import Settings

HELD_OUT = 0.2
"""The share of the rows that metrics are measured on and that the model never sees."""

Report = Callable[[str], None]


class TrainingRun(msgspec.Struct, frozen=True):
    """What one training did. `seconds` is its duration, `reason` says why the version was promoted or not."""

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
    model_class: type[MLEModel],
    settings: Settings,
    *,
    examples: Sequence[Example] | None = None,
    report: Report = lambda step: None,
) -> TrainingRun:
    """Fit a model on four fifths of its dataset, measure it on the rest, save it, promote it if it is better.

    The same data, settings and versions of the libraries give the same model and the same metrics.

    Args:
        examples: the labelled rows; the model's own dataset by default.
        report: told the name of each step as it begins.

    Raises:
        DatasetUnavailable: the dataset can't be had.
        InvalidFeatures: a row does not fit the model's schema.
        ValueError: there are too few rows to hold some out.
    """
    started = time.monotonic()
    model = model_class()
    report(f"{model.name}: reading the dataset")
    if examples is None:
        examples = list(model.examples(settings.data_dir))
    # The rows go through the bytes and the decoder that requests go through, so that both see the same values.
    encoded = [msgspec.json.encode(example.features) for example in examples]
    rows = [model.decode(raw) for raw in encoded]
    labels = [example.label for example in examples]
    digest = _digest(encoded, labels)
    fitting, held_out = split(len(rows), settings.seed)
    report(f"{model.name}: fitting {len(fitting)} rows")
    model.fit([rows[i] for i in fitting], [labels[i] for i in fitting], seed=settings.seed)
    report(f"{model.name}: measuring on {len(held_out)} rows")
    metrics = dict(model.evaluate(model.predict([rows[i] for i in held_out]), [labels[i] for i in held_out]))
    report(f"{model.name}: saving")
    registry = Registry(settings.registry_dir)
    version = registry.save(
        model,
        metrics=metrics,
        training_data_sha256=digest,
        seed=settings.seed,
        params={"rows_trained": len(fitting), "rows_held_out": len(held_out), "dataset_sha256": model.dataset_sha256},
    )
    promoted, reason = promote_if_better(registry, model_class, version)
    return TrainingRun(
        model=model.name,
        version=version,
        promoted=promoted,
        reason=reason,
        metrics=metrics,
        rows_trained=len(fitting),
        rows_held_out=len(held_out),
        training_data_sha256=digest,
        seed=settings.seed,
        seconds=round(time.monotonic() - started, 3),
    )


def split(count: int, seed: int) -> tuple[list[int], list[int]]:
    """The indices of the rows to fit on and of those held out, shuffled by `seed`.

    Raises:
        ValueError: there are too few rows.
    """
    order = np.random.default_rng(seed).permutation(count).tolist()
    held_out = round(count * HELD_OUT)
    if not 0 < held_out < count:
        raise ValueError(f"{count} rows are too few to train on: at least 3 are needed")
    return order[held_out:], order[:held_out]


def promote_if_better(registry: Registry, model_class: type[MLEModel], version: str) -> tuple[bool, str]:
    """Make a version the champion if there is none, if it can't be opened, or if its recorded metric is lower.

    Returns:
        Whether it was promoted, and why.
    """
    with registry.promoting(model_class.name) as aliases:
        champion = aliases.get(CHAMPION)
        promoted, reason = _is_better(registry, model_class, version, champion)
        if promoted:
            aliases[CHAMPION] = version
    return promoted, reason


def _is_better(registry: Registry, model_class: type[MLEModel], version: str, champion: str | None) -> tuple[bool, str]:
    name, metric = model_class.name, model_class.primary_metric
    if champion is None:
        return True, "the first version"
    try:
        registry.open(name, champion, model_class=model_class)
        best = registry.manifest(name, champion).metrics[metric]
    except (RegistryError, KeyError) as error:
        return True, f"the champion {champion} can't be opened or compared: {error}"
    reached = registry.manifest(name, version).metrics[metric]
    if reached > best:
        return True, f"{metric} {reached:.5g} is better than {best:.5g} of {champion}"
    return False, f"{metric} {reached:.5g} is not better than {best:.5g} of {champion}"


def _digest(encoded: Sequence[bytes], labels: Sequence[Any]) -> str:
    digest = hashlib.sha256()
    for features, label in zip(encoded, labels, strict=True):
        digest.update(features + b"\t" + msgspec.json.encode(label) + b"\n")
    return digest.hexdigest()
