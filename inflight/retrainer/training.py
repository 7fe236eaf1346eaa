"""The training of one run, in the process that it has for itself."""

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta

import msgspec

from inflight.adapters.logs import DEPLOYMENT, open_log
from inflight.adapters.models import known_models
from inflight.retrainer.job import Answer, Job, Result, Step
from inflight.settings import Settings, load_settings
from machine_learning_engineering.core.threads import cap_numeric_threads
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.trial import Trials
from machine_learning_engineering.retraining.challenger import Trained, confirm, saved_by, train_challenger
from machine_learning_engineering.retraining.fresh_rows import DataRefused, FreshRows, rows_of_sources, rows_of_stream
from machine_learning_engineering.sdk import MLEModel


def main() -> None:
    """Do the job on standard input, and write each step and the result to standard output."""
    # What a model prints is not for the reader of our answers.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)

    def write(answer: Answer) -> None:
        answers.write(msgspec.json.encode(answer) + b"\n")

    settings = load_settings()
    with cap_numeric_threads(settings.train_threads):
        found = do(job, settings, lambda step: write(Step(step)))
    write(Result(**msgspec.structs.asdict(found)))


def do(job: Job, settings: Settings, on_progress: Callable[[str], None]) -> Trained:
    """Train a challenger, unless the evidence is not confirmed or the data are refused. Errors are a result."""
    registry = Registry(settings.registry_dir)
    try:
        model_class = known_models([job.model])[job.model]
        if (version := saved_by(registry, job.model, job.run_id)) is not None:
            return Trained(outcome="challenger", version=version, reason="it was saved before its process was killed")
        found = _train(job, settings, registry, model_class, on_progress)
        if found.version:
            # This process has predicted with it: no worker needs to try it first.
            Trials(registry, settings.trials_dir).pass_(job.model, found.version)
        return found
    except DataRefused as error:
        return Trained(outcome="refused", reason=str(error))
    except Exception as error:  # Whatever it is, the champion stays.
        return Trained(outcome="failed", reason=f"{type(error).__name__}: {error!s:.2000}")


def _train(
    job: Job,
    settings: Settings,
    registry: Registry,
    model_class: type[MLEModel],
    on_progress: Callable[[str], None],
) -> Trained:
    on_progress(f"{job.model}: reading the labelled rows")
    with ExitStack() as stack:
        logs = {name: stack.enter_context(open_log(name, settings)) for name in _named(job)}
        if job.trigger.significance or not job.policy.data:
            log = stack.enter_context(open_log(settings.retrain_log, settings))
            not_confirmed = confirm(model_class, settings, job.policy, job.trigger, log, job.now)
            if not_confirmed is not None:
                return not_confirmed
        if job.policy.data:
            rows: FreshRows = rows_of_sources(model_class, settings, job.policy.data, logs)
        else:
            rows = rows_of_stream(
                model_class,
                settings,
                log,
                registry.rollouts(job.model),
                since=job.now - timedelta(seconds=job.policy.window),
                now=job.now,
            )
    return train_challenger(
        model_class,
        settings,
        rows,
        job.trigger,
        champion=job.champion,
        run_id=job.run_id,
        on_progress=on_progress,
    )


def _named(job: Job) -> list[str]:
    """The deployment's logs that the policy names."""
    wanted = {source.partition(":")[0] for source in job.policy.data}
    return [name for name in DEPLOYMENT if name in wanted]
