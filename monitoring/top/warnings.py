"""Warnings: conditions that somebody should look at. Thresholds are those of the alerts for Prometheus."""

from collections.abc import Iterator

from monitoring.top.overview import Lag, Overview, Worker

SLOW_SECONDS = 1.0
"""The objective in `docs/metrics.md`: 99 % of the predictions within this time."""
FAILED_RATIO = 0.01
ERROR_RATIO = 14.4 * 0.001
MIN_RECORDS = 10
"""Fewer requests at fault raise no warning: a share of few says little."""
BATCH_SECONDS = 30.0
STALLED_SECONDS = {"inflight-worker": 120.0}
OTHERS_STALLED_SECONDS = 600.0
BEHIND_SECONDS = 900.0
SILENT_SECONDS = 15.0
"""The exporter queries the broker every 3 s."""
BEHIND_RECORDS = 10_000


def find_warnings(found: Overview) -> list[str]:
    """The warnings of an overview, as sentences, most severe first."""
    warnings = [f"{alert.name} is firing: {alert.summary}" for alert in found.alerts if alert.state == "firing"]
    warnings += _processes(found)
    if (found.lag_age_seconds or 0.0) > SILENT_SECONDS:
        warnings.append(f"the broker has not responded for {found.lag_age_seconds:.0f} s: is it reachable?")
    if found.worker is not None:
        warnings += _worker(found.worker)
    for model in found.models:
        if model.prediction_errors >= MIN_RECORDS and model.prediction_errors > ERROR_RATIO * model.requests:
            warnings.append(f"{model.name} raises for {model.prediction_errors / model.requests:.0%} of the requests")
        if model.total.p99 is not None and model.total.p99 > SLOW_SECONDS and model.slow >= MIN_RECORDS:
            warnings.append(f"{model.name} is slow: the p99 is {model.total.p99:.1f} s")
    for lag in found.lags:
        if lag.in_use:
            warnings += _lag(lag)
    if found.indexer is not None and found.indexer.retries_per_second:
        warnings.append("the indexer is retrying: is Elasticsearch healthy?")
    warnings += [
        f"{one.model} {one.version} has drifted in {', '.join(one.consecutive[:3])}"
        + (f" and {len(one.consecutive) - 3} more" if len(one.consecutive) > 3 else "")
        for one in found.drift
        if one.consecutive
    ]
    warnings += [
        f"{one.metric} of {one.model} {one.version} is {one.value:.3g}; in training it was {one.reference:.3g}"
        for one in found.quality
        # Better than in training is no reason to worry, and neither is a version that is not served any more.
        if one.served and one.reference is not None and one.upper is not None and one.upper < one.reference
    ]
    return warnings


def _processes(found: Overview) -> Iterator[str]:
    """What is missing, and what hangs. Of a kind that is not in use, nothing is missing."""
    running = {one.kind for one in found.processes if not one.problem}
    for kind in dict.fromkeys(one.kind for one in found.processes):
        if kind in running:
            continue
        lags = [lag for lag in found.lags if lag.group == f"inflight-{kind}" and (lag.in_use or kind == "label-joiner")]
        waiting = sum(lag.records for lag in lags)
        wait = f", and {waiting:,.0f} records wait for it" if waiting else ""
        if kind == "worker":
            address = next(one.url for one in found.processes if one.kind == kind)
            yield f"no worker is running at {address}{wait}: if one runs elsewhere, give --worker ADDRESS"
        elif kind == "exporter":
            yield "no exporter is running: predictions, dead letters and lag are unknown"
        # Without labels no label joiner is needed.
        elif waiting or (lags and kind != "label-joiner"):
            yield f"{kind} is not running{wait}"
    for one in found.processes:
        if one.problem and (one.problem != "not running" or one.kind in running):
            yield f"{one.kind} at {one.url}: {one.problem}"


def _worker(worker: Worker) -> Iterator[str]:
    if worker.oldest_batch_seconds > BATCH_SECONDS:
        yield f"the next batch of a worker has been waiting for {worker.oldest_batch_seconds:.0f} s"
    if worker.models_refused:
        names = ", ".join(worker.models_refused)
        yield f"the promoted version of {names} could not be opened; the previous one keeps serving"
    rate = worker.completed_per_second + worker.failed_per_second + worker.dead_letters_per_second
    if worker.dead_letters >= MIN_RECORDS and worker.dead_letters_per_second > FAILED_RATIO * rate:
        yield f"{worker.dead_letters_per_second:,.1f} dead letters per second: see `inflight dlq list`"


def _lag(lag: Lag) -> Iterator[str]:
    if lag.stalled_seconds > STALLED_SECONDS.get(lag.group, OTHERS_STALLED_SECONDS):
        yield f"{lag.group} has processed nothing on {lag.topic} for {lag.stalled_seconds:,.0f} s, and records wait"
    elif lag.age_seconds > BEHIND_SECONDS:
        yield f"{lag.group} is {lag.age_seconds / 60:,.0f} minutes behind on {lag.topic}"
    elif lag.records > BEHIND_RECORDS and (lag.change_per_second or 0.0) > 0:
        yield f"{lag.group} is {lag.records:,.0f} records behind on {lag.topic} and growing"
