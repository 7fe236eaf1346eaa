"""The rows that a due retraining is trained on, and what speaks against them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from machine_learning_engineering.core.example import Example
from machine_learning_engineering.core.model import Model
from machine_learning_engineering.core.table_file import json_objects
from machine_learning_engineering.prediction_log.store import PredictionLog, PredictionRecord
from machine_learning_engineering.rollout.record import Rollouts
from machine_learning_engineering.settings import KernelSettings
from machine_learning_engineering.training.log_source import unusable
from machine_learning_engineering.training.records import decode_label, limit_sources
from machine_learning_engineering.training.sources import collect, stream_examples

MAX_AHEAD = timedelta(minutes=5)
"""How far the clock that observed a label may be ahead."""
_MIN_OF_ARM = 100
"""Requests of an arm, from which on its share of labels says something."""
_EXAMPLES_FILE = "examples.jsonl"


class DataRefused(ValueError):
    """The rows can't be trained on. The message says why."""


class FreshRows(NamedTuple):
    """Rows for a training, oldest first. `flags` says what is odd about them, `counts` what was left out and why."""

    examples: list[Example]
    flags: tuple[str, ...]
    counts: dict[str, int]


def rows_of_stream(
    model_class: type[Model],
    settings: KernelSettings,
    log: PredictionLog,
    rollouts: Rollouts,
    *,
    since: datetime,
    now: datetime,
) -> FreshRows:
    """The labelled requests of a log, and the examples that the stream has made of those that the log no longer has.

    Args:
        rollouts: Of the model, for which requests were divided between two versions.
        since: Time of the oldest request, or of the observation of the oldest label of an example.
        now: Nothing later is used.

    Raises:
        PredictionLogError: The log can't be read.
        OSError: The file of examples can't be read.
    """
    counts: Counter[str] = Counter()
    arms = _Arms(rollouts)
    found = list(_of_log(model_class(), arms.watch(log.read(model_class.name, since=since, until=now)), counts))
    chosen = limit_sources([source for _, source, _ in found], settings.train_max_source_share)
    if len(chosen) < len(found):
        counts["above the share of a source"] = len(found) - len(chosen)
    known = {request_id for request_id, _, _ in found}
    path = stream_examples(model_class.name, settings) / _EXAMPLES_FILE
    older = list(_of_stream(model_class(), path, known, since, now + MAX_AHEAD, counts))
    examples = older + [found[index][2] for index in chosen]
    counts["of the log"], counts["of the stream's examples"] = len(chosen), len(older)
    flags = [f"{counts[_FUTURE]} labels are from the future and were left out"] if counts[_FUTURE] else []
    return FreshRows(examples, (*flags, *arms.flags()), dict(counts))


def rows_of_sources(
    model_class: type[Model], settings: KernelSettings, sources: Sequence[str], logs: Mapping[str, PredictionLog]
) -> FreshRows:
    """The rows of the sources that a policy names. Raises as `training.sources.collect`."""
    found = collect(model_class, settings, sources, logs=logs)
    decode = msgspec.json.decode
    examples = [Example(decode(one.features), decode(one.label), one.group) for one in found.records]
    skipped = sum((Counter(source.skipped) for source in found.sources), Counter())
    return FreshRows(examples, (), {**skipped, **{source.name: source.rows for source in found.sources}})


def check(rows: FreshRows, minimum: int) -> None:
    """Refuse rows from which no model can come.

    Raises:
        DataRefused: They are too few, or all labels are the same.
    """
    if len(rows.examples) < minimum:
        raise DataRefused(
            f"{len(rows.examples)} labelled rows are too few to train on, at least {minimum} are needed: report more "
            "labels, or set `window` or `data` of the retraining policy"
        )
    first = rows.examples[0].label
    if all(one.label == first for one in rows.examples):
        raise DataRefused(f"all {len(rows.examples)} labels are the same: there is nothing to learn from a constant")


_FUTURE = "label from the future"


def _of_log(
    model: Model, records: Iterable[PredictionRecord], counts: Counter[str]
) -> Iterator[tuple[str, str, Example]]:
    """Request id, source of the label, and example."""
    for record in records:
        if not isinstance(record.label, Raw):
            counts["without a label"] += 1
        elif record.redacted:
            counts["redacted"] += 1
        elif (problem := unusable(model, record, record.label)) is not None:
            counts[problem[0]] += 1
        else:
            label = decode_label(type(model).Label, record.label)
            source = record.label_source if isinstance(record.label_source, str) else ""
            yield record.request_id, source, Example(msgspec.json.decode(record.features), label)


class _Line(msgspec.Struct):
    features: dict[str, Any]
    label: Any
    observed_at: datetime
    request_id: str


def _of_stream(
    model: Model, path: Path, known: set[str], since: datetime, until: datetime, counts: Counter[str]
) -> Iterator[Example]:
    if not path.is_file():
        return
    with path.open("rb") as file:
        for _, found in json_objects(file):
            try:
                line = msgspec.convert(found, _Line)
                label = decode_label(type(model).Label, line.label)
                model.decode(msgspec.json.encode(line.features))
                at = line.observed_at.timestamp()
            except (ValueError, RecursionError, OverflowError):
                counts["unreadable"] += 1
                continue
            if at > until.timestamp():
                counts[_FUTURE] += 1
            elif at >= since.timestamp() and line.request_id not in known:
                yield Example(line.features, label)


class _Arms:
    """How many requests of each arm have a label, while rollouts divided them."""

    def __init__(self, rollouts: Rollouts) -> None:
        last = (*rollouts.past, rollouts.current)[-3:]
        self._rollouts = [one for one in last if one is not None and any(step.percent for step in one.steps)]
        self._counts: dict[tuple[str, str], list[int]] = {}

    def watch(self, records: Iterable[PredictionRecord]) -> Iterator[PredictionRecord]:
        for record in records:
            for rollout in self._rollouts:
                version = record.model_version
                first = next(step.at for step in rollout.steps if step.percent)
                if record.created_at >= first and version in (rollout.champion, rollout.challenger):
                    count = self._counts.setdefault((rollout.rollout_id, version), [0, 0])
                    count[0] += 1
                    count[1] += isinstance(record.label, Raw)
            yield record

    def flags(self) -> list[str]:
        found = []
        for rollout in self._rollouts:
            champion = self._counts.get((rollout.rollout_id, rollout.champion), [0, 0])
            challenger = self._counts.get((rollout.rollout_id, rollout.challenger), [0, 0])
            if min(champion[0], challenger[0]) < _MIN_OF_ARM:
                continue
            shares = champion[1] / champion[0], challenger[1] / challenger[0]
            if abs(shares[0] - shares[1]) > rollout.policy.max_coverage_gap:
                found.append(
                    f"{shares[0]:.0%} of the requests that {rollout.champion} answered have a label, and "
                    f"{shares[1]:.0%} of those of {rollout.challenger}: the rows favour one of the two"
                )
        return found
