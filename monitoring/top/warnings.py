"""Warnings: conditions that somebody should look at."""

from monitoring.top.overview import Overview

SLOW_SECONDS = 1.0
"""The objective in `docs/metrics.md`: 99 % of the predictions within this time."""
FAILED_RATIO = 0.01
STALLED_SECONDS = 30.0
SILENT_SECONDS = 15.0
"""The exporter queries the broker every 3 s."""
BEHIND_RECORDS = 10_000


def find_warnings(found: Overview) -> list[str]:
    """The warnings of an overview, as sentences, most severe first."""
    warnings = [f"{alert.name} is firing: {alert.summary}" for alert in found.alerts if alert.state == "firing"]
    if not any(one.kind == "worker" and not one.problem for one in found.processes):
        warnings.append("no worker is running: requests are not processed")
    warnings += [
        f"{one.kind} at {one.url}: {one.problem}"
        for one in found.processes
        if one.problem and one.problem != "not running"
    ]
    if (found.lag_age_seconds or 0.0) > SILENT_SECONDS:
        warnings.append(f"the broker has not responded for {found.lag_age_seconds:.0f} s: is it reachable?")
    if (worker := found.worker) is not None:
        if worker.oldest_batch_seconds > STALLED_SECONDS:
            warnings.append(f"the next batch of a worker has been waiting for {worker.oldest_batch_seconds:.0f} s")
        if worker.models_refused:
            warnings.append("a promoted model could not be opened; the previous version keeps serving")
        rate = worker.completed_per_second + worker.failed_per_second + worker.dead_letters_per_second
        if worker.dead_letters_per_second > FAILED_RATIO * rate:
            warnings.append(f"{worker.dead_letters_per_second:,.1f} dead letters per second: see `inflight dlq list`")
    for model in found.models:
        rate = model.completed_per_second + model.failed_per_second
        if model.failed_per_second > FAILED_RATIO * rate:
            warnings.append(f"{model.failed_per_second / rate:.0%} of the requests for {model.name} fail")
        if model.total.p99 is not None and model.total.p99 > SLOW_SECONDS:
            warnings.append(f"{model.name} is slow: the p99 is {model.total.p99:.1f} s")
    for lag in found.lags:
        if lag.records > BEHIND_RECORDS and (lag.change_per_second or 0.0) > 0:
            warnings.append(f"{lag.group} is {lag.records:,.0f} records behind on {lag.topic} and growing")
    if found.indexer is not None and found.indexer.retries_per_second:
        warnings.append("the indexer is retrying: is Elasticsearch healthy?")
    warnings += [
        f"{one.model} {one.version} has drifted in {', '.join(one.drifted[:3])}"
        + (f" and {len(one.drifted) - 3} more" if len(one.drifted) > 3 else "")
        for one in found.drift
        if one.drifted
    ]
    warnings += [
        f"{one.metric} of {one.model} {one.version} is {one.value:.3g}; in training it was {one.reference:.3g}"
        for one in found.quality
        if one.reference is not None
        and one.lower is not None
        and one.upper is not None
        # Whether greater is better depends on the metric; outside the interval is all that can be said here.
        and not one.lower <= one.reference <= one.upper
    ]
    return warnings
