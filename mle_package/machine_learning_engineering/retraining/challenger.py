"""Trains a challenger that a trigger asked for. It is saved, and nothing else: a rollout decides what is served."""

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from machine_learning_engineering.core.model import Model
from machine_learning_engineering.prediction_log.store import PredictionLog
from machine_learning_engineering.registry.manifest import RegistryError
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.retraining.fresh_rows import DataRefused, FreshRows, check
from machine_learning_engineering.retraining.trigger import champion_recipe, trigger_retraining
from machine_learning_engineering.retraining.triggers import MIN_LABELLED
from machine_learning_engineering.rollout.policy import RetrainingPolicy
from machine_learning_engineering.rollout.retraining import Trigger
from machine_learning_engineering.settings import KernelSettings
from machine_learning_engineering.training.quick import train

ProgressCallback = Callable[[str], None]


class Trained(Struct, frozen=True, kw_only=True):
    """What came of a run: a version, or why there is none. `outcome` is one of `rollout.retraining.Outcome`."""

    outcome: str
    reason: str = ""
    version: str = ""
    rows: int = 0
    flags: tuple[str, ...] = ()


def confirm(
    model_class: type[Model],
    settings: KernelSettings,
    policy: RetrainingPolicy,
    trigger: Trigger,
    log: PredictionLog,
    now: datetime,
) -> Trained | None:
    """Test evidence of the stream on the rows of the log, at the trigger's level; None if it holds."""
    if not trigger.significance:
        return None
    decision = trigger_retraining(
        model_class,
        log,
        settings=settings,
        significance=trigger.significance,
        since=now - timedelta(seconds=policy.window),
        dry_run=True,
        promote=False,
    )
    if decision.outcome == "retraining_due":
        return None
    if decision.outcome == "failed":
        return Trained(outcome="failed", reason=decision.error)
    return Trained(outcome="kept", reason=decision.reason)


def train_challenger(
    model_class: type[Model],
    settings: KernelSettings,
    rows: FreshRows,
    trigger: Trigger,
    *,
    champion: str,
    run_id: str,
    on_progress: ProgressCallback = lambda step: None,
) -> Trained:
    """Fit the champion's candidate, with its params, on fresh rows and save it as a version.

    Args:
        run_id: In the version's lineage: a version that a killed process has saved is found by it.

    Raises:
        DataRefused: The rows can't be trained on, or a version that is barred was.
        RegistryError: It can't be saved.
        ValueError: The model can't be fitted on the rows.
    """
    check(rows, MIN_LABELLED)
    registry = Registry(settings.registry_dir)
    model = model_class()
    refuse_barred(registry, model_class.name, rows)
    run = train(
        model_class,
        settings,
        examples=rows.examples,
        on_progress=on_progress,
        promote=False,
        training_run=run_id,
        notes={
            "retraining": {
                "trigger": msgspec.to_builtins(trigger),
                "rows": len(rows.examples),
                "rows_sha256": digest(rows),
                "counts": rows.counts,
                "flags": list(rows.flags),
            }
        },
        **champion_recipe(registry, model, champion),
    )
    return Trained(
        outcome="challenger", reason=run.reason, version=run.version, rows=len(rows.examples), flags=rows.flags
    )


def saved_by(registry: Registry, name: str, run_id: str) -> str | None:
    """The version that a run has saved before its process was killed; None if it has saved none."""
    for version in reversed(registry.versions(name)):
        try:
            if registry.manifest(name, version).lineage.training_run == run_id:
                return version
        except RegistryError:
            continue
    return None


def refuse_barred(registry: Registry, name: str, rows: FreshRows) -> None:
    """Refuse the rows of a version that was rolled back: they would give the same model again.

    Raises:
        DataRefused: They are its rows.
    """
    barred = registry.rollouts(name).barred
    found = digest(rows) if barred else ""
    for version in barred:
        try:
            notes: Any = registry.manifest(name, version).params.get("retraining")
        except RegistryError:
            continue
        if isinstance(notes, dict) and notes.get("rows_sha256") == found:
            raise DataRefused(
                f"these are the rows of {version}, which is barred: wait for others, or run inflight rollout unbar "
                f"{name}:{version}"
            )


def digest(rows: FreshRows) -> str:
    """SHA-256 of rows, whatever their order."""
    lines = sorted(msgspec.json.encode((one.features, one.label), order="sorted") for one in rows.examples)
    return hashlib.sha256(b"\n".join(lines)).hexdigest()
