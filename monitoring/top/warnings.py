"""What a person should look at."""

from monitoring.top.overview import Overview

SLOW_SECONDS = 1.0
"""The objective of `docs/metrics.md`: 99 % of the predictions within this."""
FAILED_RATIO = 0.01
STUCK_SECONDS = 30.0
SILENT_SECONDS = 15.0
"""The exporter asks the broker every 3 s."""
BEHIND_RECORDS = 10_000


def problems(found: Overview) -> list[str]:
    """What a person should look at, in sentences, the worst first."""
    told = [f"{alert.name} fires: {alert.summary}" for alert in found.alerts if alert.state == "firing"]
    down = [one for one in found.processes if one.problem]
    if not any(one.kind == "worker" and not one.problem for one in found.processes):
        told.append("no worker runs: nothing is answered")
    told += [f"{one.kind} at {one.url}: {one.problem}" for one in down if one.problem != "not running"]
    if (found.lag_age_seconds or 0.0) > SILENT_SECONDS:
        told.append(f"the broker did not answer for {found.lag_age_seconds:.0f} s: is it away?")
    if found.worker is not None:
        if found.worker.oldest_slice_seconds > STUCK_SECONDS:
            told.append(f"the requests next in turn in a worker wait for {found.worker.oldest_slice_seconds:.0f} s")
        if found.worker.models_refused:
            told.append("a promoted model could not be opened; the version before goes on")
        rates = found.worker.completed_per_second + found.worker.failed_per_second
        if found.worker.dead_letters_per_second > FAILED_RATIO * (rates + found.worker.dead_letters_per_second):
            told.append(
                f"{found.worker.dead_letters_per_second:,.1f} records a second are set aside: `inflight dlq list`"
            )
    for model in found.models:
        asked = model.completed_per_second + model.failed_per_second
        if model.failed_per_second > FAILED_RATIO * asked:
            told.append(f"{model.failed_per_second / asked:.0%} of the requests for {model.name} fail")
        if model.total.p99 is not None and model.total.p99 > SLOW_SECONDS:
            told.append(f"{model.name} is slow: the p99 is {model.total.p99:.1f} s")
    for lag in found.lags:
        if lag.records > BEHIND_RECORDS and (lag.change_per_second or 0.0) > 0:
            told.append(f"{lag.group} is {lag.records:,.0f} records behind on {lag.topic}, and falls back")
    if found.indexer is not None and found.indexer.retries_per_second:
        told.append("the indexer has to try again: is the search node well?")
    told += [
        f"{one.model} {one.version} has drifted in {', '.join(one.drifted[:3])}"
        + (f" and {len(one.drifted) - 3} more" if len(one.drifted) > 3 else "")
        for one in found.drift
        if one.drifted
    ]
    told += [
        f"{one.metric} of {one.model} {one.version} is {one.value:.3g}, in training it was {one.reference:.3g}"
        for one in found.quality
        if one.reference is not None
        and one.lower is not None
        and one.upper is not None
        # Better or worse is for the model to say; outside of the interval is what can be said here.
        and not one.lower <= one.reference <= one.upper
    ]
    return told
