"""Training pipeline of every model: data layers, comparison of candidates, registry, promotion, log.

The champion changes in the last step only, so a failure leaves it as it is.
"""

import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from machine_learning_engineering.core.example import Example
from machine_learning_engineering.core.extras import check_installed
from machine_learning_engineering.core.model import Model
from machine_learning_engineering.core.threads import cap_numeric_threads
from machine_learning_engineering.drift.binning import reference_profile
from machine_learning_engineering.evaluation.estimates import FitFailed, bootstrap_estimate, finite_metrics
from machine_learning_engineering.registry.manifest import Lineage, RegistryError
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.uri import CHAMPION
from machine_learning_engineering.settings import KernelSettings
from machine_learning_engineering.training import run_log
from machine_learning_engineering.training.data import TrainTestSplit, prepare
from machine_learning_engineering.training.evaluator import CandidateEvaluator
from machine_learning_engineering.training.promotion import promote_if_better
from machine_learning_engineering.training.run_log import (
    FailedCandidate,
    TrainedModel,
    TrainingEntry,
    Trial,
    plain_params,
)
from machine_learning_engineering.training.search import Plan, best, choose, plan
from machine_learning_engineering.training.similar import index_of

if TYPE_CHECKING:
    import pandas

    from machine_learning_engineering.prediction_log.store import PredictionLog

__all__ = ["ProgressCallback", "run_training"]

ProgressCallback = Callable[[str, int, int], None]
"""Called with each step when it begins, the number of fits done and their total (0 and 0 while it is unknown)."""


def run_training(
    model_class: type[Model],
    settings: KernelSettings,
    *,
    sources: Sequence[str] = (),
    examples: "Iterable[Example] | pandas.DataFrame | None" = None,
    logs: "Mapping[str, PredictionLog] | None" = None,
    on_progress: ProgressCallback = lambda step, done, total: None,
) -> TrainingEntry:
    """Compare a model's candidates, save each in the history and the chosen one in the registry, and log the training.

    A candidate that can't be fitted, measured or saved is left out and reported in the entry.
    The same data, settings and library versions give the same models and the same metrics; only speeds differ.

    Args:
        sources: See `training.sources.collect`; those of the settings by default.
        examples: Labelled rows to use instead of `sources`, or a data frame of them (`core.frames.examples_of`).
        logs: Further prediction logs by name, which `sources` may contain.

    Returns:
        The entry in the training log. A failed training is logged too, if the log can be written.

    Raises:
        SourceUnreadable: The data can't be read.
        DatasetUnavailable: The model's dataset is unavailable.
        BadData: Records do not fit the model's schema.
        ValueError: There are too few rows, or two candidates have the same name.
        FitFailed: No candidate can be fitted and measured.
        RegistryError: A model can't be saved.
        OSError: A file can't be written.
        ImportError: The extra `training` is not installed.
    """
    for package in ("pyarrow", "optuna"):
        check_installed(package, "training")
    started_at, started = datetime.now(UTC), time.monotonic()
    entry = TrainingEntry(
        run_id=f"training-{started_at:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}",
        outcome="completed",
        model=model_class.name,
        started_at=started_at,
        seconds=0.0,
        seed=settings.seed,
        libraries=run_log.libraries(),
    )
    training = _Training(model_class, settings, entry, started, on_progress)
    try:
        with cap_numeric_threads(settings.train_threads):
            training.parts = prepare(
                model_class,
                settings,
                sources or [settings.train_data_source],
                examples,
                logs=logs,
                on_progress=training.on_step,
                record=training.update,
            )
            training.compare()
            training.publish()
    except BaseException as error:
        try:
            training.fail(error)
        except (OSError, ValueError, TypeError) as unlogged:
            error.add_note(f"The training log could not be written either: {unlogged}")
        raise
    return training.entry


class _Training:
    """One training of the rows in `parts`; each step updates `entry`."""

    parts: TrainTestSplit

    def __init__(
        self,
        model_class: type[Model],
        settings: KernelSettings,
        entry: TrainingEntry,
        started: float,
        on_progress: ProgressCallback,
    ) -> None:
        self.entry = entry
        self._model_class = model_class
        self._settings = settings
        self._started = started
        self._on_progress = on_progress
        self._evaluator: CandidateEvaluator | None = None
        self._fitted: list[Model] = []

    # --- candidates --------------------------------------------------------------------------------------------------

    def compare(self) -> None:
        """Search, cross-validate and fit each candidate, save it in the history, and choose one.

        Raises:
            FitFailed: All candidates failed.
            RegistryError: The only candidate can't be saved.
        """
        plans = plan(self._model_class().candidates(), self._settings.train_n_models)
        self._evaluator = evaluator = CandidateEvaluator(self._model_class, self.parts, plans, self.on_step)
        errors: list[Exception] = []
        for planned in plans:
            done = evaluator.done + evaluator.fits(planned)
            try:
                self.update(models=[*self.entry.models, self._candidate(planned, evaluator)])
            except (FitFailed, RegistryError) as error:
                errors.append(error)
                failed = FailedCandidate(planned.candidate.name, run_log.safe_text(str(error)))
                self.update(failed_candidates=[*self.entry.failed_candidates, failed])
                evaluator.done = done
        if not self.entry.models:
            if len(errors) == 1:
                raise errors[0]
            raise FitFailed("no candidate could be trained:\n" + "\n".join(map(str, errors))) from errors[0]
        metric = self._model_class.primary_metric
        estimates = [(model.candidate, model.cross_validation[metric]) for model in self.entry.models]
        chosen, why = choose(metric, estimates)
        self._chosen = self._fitted[chosen]
        self.update(chosen=self.entry.models[chosen].id, selection=why)

    def _candidate(self, planned: Plan, evaluator: CandidateEvaluator) -> TrainedModel:
        candidate, started = planned.candidate, time.monotonic()
        trials = evaluator.search(planned)
        params = best(trials).params if trials else {}
        estimates = evaluator.cross_validate(planned, params)
        model, speed = evaluator.fit(planned, params)
        model_id = f"{model.name}-{self.entry.run_id.removeprefix('training-')}-{candidate.name}"
        used = plain_params({**candidate.defaults, **params})
        version = self._save(
            Registry(self._settings.history_dir),
            model,
            {metric: estimate.mean for metric, estimate in estimates.items()},
            {"model_id": model_id, "candidate": candidate.name, "params": used, "metrics_of": "cross-validation"},
        )
        self._fitted.append(model)
        return TrainedModel(
            id=model_id,
            candidate=candidate.name,
            params=used,
            history_version=version,
            cross_validation=estimates,
            rows_per_second=speed,
            seconds=round(time.monotonic() - started, 3),
            trials=[Trial(plain_params(trial.params), trial.score) for trial in trials],
        )

    # --- the registry and the log ------------------------------------------------------------------------------------

    def publish(self) -> None:
        """Measure the chosen model on the held-out rows, save it, and promote it if the rule says so."""
        model, parts = self._chosen, self.parts
        rows, labels, groups, seed = parts.held_out
        self.on_step(f"measuring on {len(rows)} rows")
        predictions = model.predict(rows)
        metrics = finite_metrics(model, model.evaluate(predictions, labels))
        held_out = bootstrap_estimate(model, predictions, labels, seed, groups=groups)
        self.on_step("saving")
        registry = Registry(self._settings.sota_dir)
        [trained] = [one for one in self.entry.models if one.id == self.entry.chosen]
        version = self._save(
            registry,
            model,
            metrics,
            {
                "model_id": trained.id,
                "candidate": trained.candidate,
                "params": trained.params,
                "metrics_of": "held-out rows",
                "rows_trained": self.entry.rows_trained,
                "rows_held_out": self.entry.rows_held_out,
                "train_min_hash": parts.train_min_hash,
                "dataset_sha256": model.dataset_sha256,
            },
            profile=reference_profile(model, parts.rows, predictions, labels, held_out=rows, groups=groups),
            similar=index_of(model, self._settings, parts.rows, parts.labels),
        )
        self.update(metrics=metrics, held_out=held_out, version=version)
        # The log is written first, so that there is no champion without an entry.
        promote_if_better(
            registry,
            model,
            parts.held_out,
            decided=lambda promoted, reason: self.finish(promoted=promoted, reason=reason),
        )

    def _save(
        self, registry: Registry, model: Model, metrics: Mapping[str, float], params: dict[str, Any], **more: Any
    ) -> str:
        return registry.save(
            model,
            metrics=metrics,
            training_data_sha256=self.entry.training_data_sha256,
            seed=self._settings.seed,
            params=params,
            lineage=Lineage(
                training_run=self.entry.run_id,
                datasets={layer.id: layer.sha256 for layer in self.entry.layers.values()},
            ),
            **more,
        )

    def finish(self, **changes: Any) -> None:
        """Append the entry to the training log.

        Raises:
            OSError: It can't be written.
            ValueError, TypeError: It has no JSON form.
        """
        self.update(seconds=round(time.monotonic() - self._started, 3), **changes)
        run_log.append(self._settings.training_log, self.entry)

    def fail(self, error: BaseException) -> None:
        """Append a failure to the training log. The entry is promoted if the alias was already written.

        Raises:
            OSError: It can't be written.
        """
        promoted = self.entry.promoted and self._is_champion()
        try:
            message = run_log.safe_text(f"{type(error).__name__}: {error}")
            self.finish(outcome="failed", promoted=promoted, error=message)
        except (ValueError, TypeError):
            # A value that can't be written may be the very failure: an entry without results is better than none.
            self.finish(models=[], metrics={}, held_out={})

    def _is_champion(self) -> bool:
        try:
            return Registry(self._settings.sota_dir).aliases(self.entry.model).get(CHAMPION) == self.entry.version
        except (RegistryError, OSError):
            return False

    def update(self, **changes: Any) -> None:
        self.entry = msgspec.structs.replace(self.entry, **changes)

    def on_step(self, step: str) -> None:
        done, total = (self._evaluator.done, self._evaluator.total) if self._evaluator else (0, 0)
        self._on_progress(f"{self._model_class.name}: {step}", done, total)
